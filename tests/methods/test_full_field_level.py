"""What a fit leaves, beside the noise that was expected, and how far one exposure is believed."""

import numpy as np
import pytest
import scipy.ndimage as ndi

import xmist
from tests.manufactured import EXPERIMENT
from tests.methods.test_full_field import D_TRUE, LOG_T_TRUE, PSI_TRUE, K, P, Z, _made, _retrieve
from xmist.numerics.operators.transport import LOG_T, PSI, D

NOISE = 0.005


@pytest.fixture(scope="module")
def frames():
    return _made(3, {PSI: PSI_TRUE, D: D_TRUE}, noise=NOISE)


def _about_noise(result):
    return [finding for finding in result.findings if "times the variance of the frames' noise" in finding]


@pytest.mark.parametrize("scale", [1.0, 400.0])
def test_frames_of_the_model_are_not_remarked_upon(frames, scale):
    result = _retrieve(scale * frames[0], scale * frames[1], unknowns=("phase", "dark_field"))
    # The noise is white and not that of photons, by which the gain is read: within a fifth on this speckle.
    assert 0.8 <= result.provenance["convergence"]["reduced_chi_squared"] <= 1.25
    assert not _about_noise(result)


@pytest.mark.parametrize(("factor", "words"), [(20.0, "too large"), (0.05, "too small")])
def test_a_gain_that_is_wrong_is_remarked_upon(frames, factor, words):
    result = _retrieve(*frames, unknowns=("phase", "dark_field"), gain=factor * NOISE**2)
    (finding,) = _about_noise(result)
    assert words in finding


def test_frames_that_moved_are_remarked_upon(frames):
    reference, sample = frames
    moved = sample.copy()
    moved[0] = np.roll(moved[0], 1, axis=1)
    (finding,) = _about_noise(_retrieve(reference, moved, unknowns=("phase", "dark_field")))
    assert "motion or drift" in finding


def test_the_dark_field_of_one_exposure_is_not_believed():
    """Its deviation covers it wherever the truth is, for a size that the fit may have got wrong by half."""
    length2 = 30.0
    reference, sample = _made(1, {PSI: length2 * LOG_T_TRUE, D: D_TRUE, LOG_T: LOG_T_TRUE}, noise=NOISE)
    result = xmist.retrieve(
        xmist.SpeckleStack(reference, sample),
        EXPERIMENT,
        method="full-field",
        delta_over_beta=2.0 * length2 * K * P**2 / Z,
        uncertainty=True,
        draws=2,
    )
    assert result.dark_field_std.min() >= np.sqrt(np.mean(result.dark_field**2))
    assert any("no measurement" in finding and "sign" in finding for finding in result.findings)


@pytest.mark.parametrize("moved", [0.0, 0.3])
def test_speckles_that_moved_over_the_background_ask_for_the_step_drift(frames, moved):
    reference, sample = frames
    # By quintic splines, which move speckles of this size right to a hundredth of their contrast.
    shifted = np.stack([ndi.shift(frame, (0.0, moved), order=5, mode="reflect") for frame in sample])
    box = (0, 96, 0, 9)
    result = _retrieve(reference, shifted, unknowns=("phase", "dark_field"), background=box)
    said = [finding for finding in result.findings if "'drift'" in finding]
    assert len(said) == (moved > 0)
    if moved:
        # To first order, on slopes of frames that are blurred: a few per cent too small.
        assert 0.25 <= float(said[0].message.split("up to ")[1].split()[0]) <= 0.32
