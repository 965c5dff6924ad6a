"""What crosses the border of the frames, and one position."""

import numpy as np
import pytest

import xmist
from tests.manufactured import EXPERIMENT
from tests.moving import SHAPE, astigmatism, cut_object, defocus, inner_object, moving, tilt
from xmist.core import flags as flag

PER_PIXEL = EXPERIMENT.effective_distance / EXPERIMENT.effective_pixel


def _retrieve(frames, method="full-field", weights=None, sample=None, **options):
    stack = xmist.SpeckleStack(frames.reference, frames.sample if sample is None else sample, weights)
    return xmist.retrieve(stack, EXPERIMENT, method=method, **options)


def _shift(result):
    return result.refraction_angle * PER_PIXEL


def _codes(result):
    return {finding.code for finding in result.findings}


@pytest.mark.parametrize("positions", [1, 2])
@pytest.mark.parametrize("shift", [tilt, defocus, astigmatism, cut_object])
def test_motion_through_the_border_is_found(shift, positions):
    frames = moving(shift, positions)
    result = _retrieve(frames)
    slope, error = frames.error(_shift(result))
    # What the issue of borders asks for; noise alone leaves some thousandths of a pixel.
    assert slope == pytest.approx(1.0, abs=0.01)
    assert error <= 0.03
    assert result.provenance["convergence"]["margin"] > 0
    assert result.shape == SHAPE
    assert not _codes(result) & {"border-motion-missing", "sample-attenuates"}


@pytest.mark.parametrize("positions", [1, 2])
def test_for_an_object_inside_the_border_stays_closed(positions):
    frames = moving(inner_object, positions)
    result = _retrieve(frames)
    slope, error = frames.error(_shift(result))
    assert slope == pytest.approx(1.0, abs=0.01)
    assert error <= 0.015
    assert result.provenance["convergence"]["margin"] == 0
    # The object does not scatter: that the prior determines D, which is 0, is no loss.
    assert _codes(result) <= {"phase-zero-bare-beam"}


def test_images_of_an_open_border_have_the_size_of_the_frames():
    frames = moving(tilt, 2)
    first = _retrieve(frames)
    result = _retrieve(frames, uncertainty=True, draws=2, initial=first)
    for _, image in (*result.channels(), *result.diagnostics.items()):
        assert image.shape[-2:] == SHAPE
    # Where ψ is not known beyond the border, it is less well known at it.
    assert result.phase_std[:3].mean() > result.phase_std[40:50, 40:60].mean()
    _, error = frames.error(_shift(result))
    assert error <= 0.03


def test_pixels_without_weight_change_nothing_at_an_open_border():
    frames = moving(tilt, 1)
    weights = np.ones(frames.sample.shape)
    weights[0, 30:46, 50:66] = 0.0
    weights[0, :5, 20:60] = 0.0
    one, other = (
        _retrieve(frames, weights=weights, sample=np.where(weights == 0.0, value, frames.sample), gain=1e-4)
        for value in (np.nan, 1e9)
    )
    assert np.array_equal(one.phase, other.phase)
    slope, error = frames.error(_shift(one))
    assert slope == pytest.approx(1.0, abs=0.01)
    assert error <= 0.03


def test_holes_in_one_frame_stay_where_they_are():
    frames = moving(inner_object, 1)
    whole = _shift(_retrieve(frames))
    for hole, value in ((np.s_[0, 40, 60], np.nan), (np.s_[0, 60:76, 20:36], 0.0)):
        sample = frames.sample.copy()
        sample[hole] = value
        result = _retrieve(frames, sample=sample)
        outside = np.ones(SHAPE, bool)
        outside[hole[1:]] = False
        assert np.abs(_shift(result) - whole)[:, outside].max() <= 0.05
        assert (result.flags[~outside] & flag.BAD_SAMPLE).all()


def test_one_frame_of_an_attenuating_sample_gives_its_transmission_too():
    frames = moving(inner_object, 1)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    transmission = 1 - 0.3 * np.exp(-((x - 58) ** 2 + (y - 46) ** 2) / 2 / 18**2)
    result = _retrieve(frames, sample=frames.sample * transmission)
    assert result.transmission is not None
    # What is smooth of T is known but for what a defocus of some thousandths makes.
    assert np.sqrt(np.mean((result.transmission - transmission) ** 2)) <= 0.015
    _, error = frames.error(_shift(result))
    assert error <= 0.03
    assert "sample-attenuates" not in _codes(result)


@pytest.mark.parametrize(
    ("method", "positions", "options"),
    [
        ("mist", 2, {}),
        ("optical-flow", 1, {}),
        ("single-material", 1, {"delta_over_beta": 300.0}),
        ("mist-rapid", 4, {}),
    ],
)
def test_methods_that_cannot_know_a_tilt_say_so(method, positions, options):
    moved, inside = (_retrieve(moving(shift, positions), method, **options) for shift in (tilt, inner_object))
    assert "border-motion-missing" in _codes(moved)
    assert "border-motion-missing" not in _codes(inside)
