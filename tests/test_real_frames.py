"""Measured frames of carbon tubes behind two diffusers; regions are found in the frames alone."""

import functools

import numpy as np
import pytest
import scipy.ndimage as ndi

import xmist
from tests.real_frames import needs_real_frames, real_frames
from xmist.core import flags as flag
from xmist.evaluate.metrics import cnr
from xmist.evaluate.regions import make_regions
from xmist.io.frames.frames import open_frames
from xmist.io.frames.loading import load_frames
from xmist.preprocess import Frames, apply_steps, measure_drift

pytestmark = needs_real_frames

SMOOTHING = 2.0
# From the EDF headers: 0.8 m to the detector, Magnification 2.4545 and a pixel of 75 µm on the detector.
EXPERIMENT = xmist.Experiment(
    energy_kev=8.04, pixel_size=75e-6, sample_to_detector=0.8, source_to_sample=0.55
)


def _raw():
    """Frames as measured: position 0 the random diffuser, position 1 the hexagonal one."""

    def read(role):
        files = [str(real_frames() / f"{diffuser}_{role}.edf") for diffuser in ("random", "hexagonal")]
        return load_frames(open_frames(files, name=role, position_key=())).frames

    return Frames(read("reference"), read("sample"))


@functools.cache
def _frames():
    return apply_steps(_raw(), (("bad-pixels", {}), ("unlit", {}), ("flux", {})))


def _smoothed_ratio():
    """Sample over reference, both summed over the positions and smoothed; NaN where pixels are bad."""
    frames = _frames()
    used = (frames.weights > 0).all(axis=0)
    sample, reference = (
        ndi.gaussian_filter(np.where(used, image.sum(axis=0, dtype=np.float64), 0.0), 3.0)
        for image in (frames.sample, frames.reference)
    )
    return np.where(used, sample / np.where(reference > 0, reference, 1.0), np.nan)


@functools.cache
def _result(method, smoothing=SMOOTHING):
    return xmist.retrieve(_frames().stack(), EXPERIMENT, method=method, smoothing=smoothing)


@functools.cache
def _regions():
    """Bare beam, and each part of the sample away from its rim."""
    found = make_regions(_frames().stack())
    parts, number = ndi.label(found.inside)
    return found.outside, [parts == n for n in range(1, number + 1) if np.count_nonzero(parts == n) > 500]


@pytest.mark.parametrize("method", ["mist", "mist-attenuating"])
def test_fibres_scatter(method):
    result = _result(method)
    outside, parts = _regions()
    assert len(parts) >= 3  # the tubes, cut by the seams of the detector
    for part in parts:
        # More scatter inside.
        assert cnr(result.dark_field, outside, part, mask=result.flags == 0) < -5


def test_transmission_is_the_ratio_of_the_smoothed_frames():
    result = _result("mist-attenuating")
    outside, parts = _regions()
    good, ratio = result.flags == 0, _smoothed_ratio()
    for part in parts:
        assert abs(result.transmission[part & good].mean() - ratio[part & good].mean()) <= 0.05
    assert abs(result.transmission[outside & good].mean() - 1) <= 0.01


def test_attenuation_is_told_to_those_who_use_mist():
    assert any(finding.code == "sample-attenuates" for finding in _result("mist").findings)
    assert not any(finding.code == "sample-attenuates" for finding in _result("mist-attenuating").findings)


def test_bad_pixels_are_found_and_few():
    frames = _raw()
    found = apply_steps(frames, [("bad-pixels", {})])
    bad = found.weights == 0
    negative = (frames.reference < 0) | (frames.sample < 0)
    enormous = (frames.reference > 3e5) | (frames.sample > 3e5)
    assert bad[negative & (np.arange(frames.shape[0]) > 170)[:, None]].all()
    assert bad[enormous].all()
    # The seams of the detector: pairs of rows and columns that share what one pixel measured.
    seams = np.zeros(frames.shape, bool)
    seams[254:258], seams[512:516], seams[:, 254:258] = True, True, True
    assert bad[:, seams].all()
    assert (bad & ~seams).mean() < 5e-4


def test_unlit_regions_are_found():
    frames = _frames()
    dark = np.zeros(frames.shape, bool)
    dark[:150], dark[:, :48] = True, True
    assert not frames.weights[:, dark].any()
    lit, seams = np.zeros((2, *frames.shape), bool)
    lit[300:480, 455:505] = lit[290:335, 180:245] = lit[200:400, 410:434] = True  # bare beam and a tube
    seams[254:258], seams[:, 254:258] = True, True
    assert (frames.weights[:, lit & ~seams] > 0).mean() > 0.999
    y, x = np.mgrid[: frames.shape[0], : frames.shape[1]]
    opening = np.hypot(y - 520, x - 418) < 355  # the round holder
    assert (frames.weights[0][opening & ~seams] > 0).mean() > 0.98


def test_flux_agrees_as_it_was_measured_to():
    sample = _frames().history[2].split("sample frames × ")[1].split(";")[0].split(" to ")
    reference = _frames().history[2].split("reference frames × ")[1].split(",")[0].split(" to ")
    for a, b in zip(reference, sample, strict=True):
        assert abs(float(a) / float(b) - 1) < 0.005


def test_the_masks_have_moved_by_less_than_a_tenth_of_a_pixel():
    frames = _frames()
    by_itself = measure_drift(frames.reference, frames.sample, frames.weights)
    by_box = measure_drift(
        frames.reference, frames.sample, frames.weights, rows=(265, 505), columns=(450, 510)
    )
    assert np.abs(by_box).max() < 0.1
    assert np.abs(by_itself - by_box).max() < 0.01


@pytest.mark.parametrize("smoothing", [0.0, 1.0, SMOOTHING])
@pytest.mark.parametrize("method", ["mist", "mist-attenuating"])
def test_bad_pixels_leave_no_trace(method, smoothing):
    result = _result(method, smoothing)
    # In bare beam the picture at filled pixels, and just around them, scatters no more than elsewhere.
    near = ndi.binary_dilation((result.flags & flag.MASKED) > 0, iterations=4)
    beam = np.abs(np.nan_to_num(_smoothed_ratio()) - 1) < 0.02
    beam = ndi.binary_erosion(ndi.binary_closing(beam, iterations=4), iterations=10)
    channel = result.dark_field if method == "mist" else result.transmission
    assert np.isfinite(channel[beam]).mean() > 0.999
    seen, usual = (
        np.abs(channel[part] - np.nanmedian(channel[beam])) for part in (beam & near, beam & ~near)
    )
    assert seen.size > 2000
    assert np.nanquantile(seen, 0.95) <= 1.5 * np.nanquantile(usual, 0.95)
