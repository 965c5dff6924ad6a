"""Measured frames of carbon tubes behind two masks; boxes were fixed on the ratio of the frames alone."""

import functools

import numpy as np
import pytest
import scipy.ndimage as ndi

import xmist
from tests.carbon_tubes import EXPERIMENT, TUBES, bare, prepared, raw, smoothed_ratio, tube
from tests.real_frames import needs_real_frames, real_frames
from xmist.core import flags as flag
from xmist.evaluate.metrics import cnr
from xmist.preprocess import apply_steps, measure_drift

pytestmark = needs_real_frames

SMOOTHING = 2.0


@functools.cache
def _frames():
    return prepared(real_frames())


@functools.cache
def _result(method, smoothing=SMOOTHING):
    return xmist.retrieve(_frames().stack(), EXPERIMENT, method=method, smoothing=smoothing)


def _boxes(name, result):
    good = result.flags == 0
    return bare(result.shape) & good, tube(name, result.shape) & good


@pytest.mark.parametrize("name", TUBES)
@pytest.mark.parametrize("method", ["mist", "mist-attenuating"])
def test_fibres_scatter(name, method):
    result = _result(method)
    outside, inside = _boxes(name, result)
    assert inside.sum() > 500
    ratio = cnr(result.dark_field, outside, inside)
    assert ratio < -5  # more scatter inside


@pytest.mark.parametrize("name", TUBES)
def test_transmission_is_the_ratio_of_the_smoothed_frames(name):
    result = _result("mist-attenuating")
    outside, inside = _boxes(name, result)
    ratio = smoothed_ratio(_frames())
    assert abs(result.transmission[inside].mean() - ratio[inside].mean()) <= 0.05
    assert abs(result.transmission[outside].mean() - 1) <= 0.01


def test_attenuation_is_told_to_those_who_use_mist():
    assert any(finding.code == "sample-attenuates" for finding in _result("mist").findings)
    assert not any(finding.code == "sample-attenuates" for finding in _result("mist-attenuating").findings)


def test_bad_pixels_are_found_and_few():
    frames = raw(real_frames())
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
    lit = bare(frames.shape) | tube("upright", frames.shape)
    seams = np.zeros_like(lit)
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
    beam = np.abs(np.nan_to_num(smoothed_ratio(_frames())) - 1) < 0.02
    beam = ndi.binary_erosion(ndi.binary_closing(beam, iterations=4), iterations=10)
    channel = result.dark_field if method == "mist" else result.transmission
    assert np.isfinite(channel[beam]).mean() > 0.999
    seen, usual = (
        np.abs(channel[part] - np.nanmedian(channel[beam])) for part in (beam & near, beam & ~near)
    )
    assert seen.size > 2000
    assert np.nanquantile(seen, 0.95) <= 1.5 * np.nanquantile(usual, 0.95)
