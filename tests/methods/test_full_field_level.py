"""What a fit leaves, beside the noise that was expected, and how far one position is trusted."""

import numpy as np
import pytest
import scipy.ndimage as ndi

import xmist
from tests.manufactured import EXPERIMENT, blob
from tests.methods.full_field_frames import (
    D_TRUE,
    LOG_T_TRUE,
    PSI_TRUE,
    SCATTER,
    SHAPE,
    K,
    P,
    Z,
    codes,
    made,
    retrieve,
)
from xmist.numerics.operators.transport import LOG_T, PSI, D

NOISE = 0.005


@pytest.fixture(scope="module")
def frames():
    return made(3, {PSI: PSI_TRUE, D: D_TRUE}, noise=NOISE)


def _about_noise(result):
    return codes(result) & {"residual-below-noise", "residual-above-noise"}


@pytest.mark.parametrize("scale", [1.0, 400.0])
def test_frames_of_the_model_have_no_finding(frames, scale):
    result = retrieve(scale * frames[0], scale * frames[1], **SCATTER)
    # The noise is white and not that of photons, by which the gain is read: within a fifth on this speckle.
    assert 0.8 <= result.provenance["convergence"]["reduced_chi_squared"] <= 1.25
    assert not _about_noise(result)


@pytest.mark.parametrize(("factor", "side"), [(20.0, "below"), (0.05, "above")])
def test_a_gain_that_is_wrong_is_found(frames, factor, side):
    result = retrieve(*frames, **SCATTER, gain=factor * NOISE**2)
    assert _about_noise(result) == {f"residual-{side}-noise"}


def test_frames_that_moved_are_found(frames):
    reference, sample = frames
    moved = sample.copy()
    moved[0] = np.roll(moved[0], 1, axis=1)
    assert _about_noise(retrieve(reference, moved, **SCATTER)) == {"residual-above-noise"}


def test_the_dark_field_of_one_position_is_not_believed():
    """Its deviation covers it wherever the truth is, for a size that the fit may have got wrong by half."""
    length2 = 30.0
    reference, sample = made(1, {PSI: length2 * LOG_T_TRUE, D: D_TRUE, LOG_T: LOG_T_TRUE}, noise=NOISE)
    result = xmist.retrieve(
        xmist.SpeckleStack(reference, sample),
        EXPERIMENT,
        method="full-field",
        delta_over_beta=2.0 * length2 * K * P**2 / Z,
        uncertainty=True,
        draws=2,
    )
    assert result.dark_field_std.min() >= np.sqrt(np.mean(result.dark_field**2))
    assert "dark-field-one-position" in codes(result)


@pytest.mark.parametrize("moved", [0.0, 0.3])
def test_speckles_that_moved_over_the_background_ask_for_the_step_drift(moved):
    # In the box the sample itself refracts by less than a thousandth of a pixel.
    reference, sample = made(2, {PSI: -10 * blob(SHAPE, 0.5, 0.55, 0.12), D: D_TRUE}, noise=NOISE)
    # By quintic splines, which move speckles of this size right to a hundredth of their contrast.
    shifted = np.stack([ndi.shift(frame, (0.0, moved), order=5, mode="reflect") for frame in sample])
    box = (0, 96, 0, 9)
    result = retrieve(reference, shifted, **SCATTER, background=box)
    said = [finding for finding in result.findings if finding.code == "background-moved"]
    assert len(said) == (moved > 0)
    if moved:
        # Noise of 0.005 on slopes of 0.06 leaves some thousandths of a pixel.
        assert 0.28 <= float(said[0].message.split("up to ")[1].split()[0]) <= 0.32


def test_a_fit_ends_when_further_steps_would_change_less_than_the_noise_did(frames):
    ended = retrieve(*frames, **SCATTER)
    further = retrieve(*frames, **SCATTER, tolerance=1e-6)
    steps = [len(result.provenance["convergence"]["misfit"]) for result in (ended, further)]
    assert steps[0] < steps[1]
    truth = PSI_TRUE * (K * P**2 / Z)
    error = (further.phase - truth).std()
    # What is left adds in squares: a fifth makes an error larger by 2 %.
    assert (ended.phase - further.phase).std() < 0.2 * error
