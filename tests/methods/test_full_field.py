import numpy as np
import pytest
import scipy.ndimage as ndi

import xmist
from tests.coded import coded
from tests.manufactured import EXPERIMENT, speckle
from tests.methods.full_field_frames import (
    D_TRUE,
    LOG_T_TRUE,
    PSI_AT_SAMPLE,
    PSI_TRUE,
    SCATTER,
    SHAPE,
    TENSOR,
    K,
    P,
    Z,
    codes,
    made,
    noisy,
    relative,
    retrieve,
)
from xmist.core import flags as flag
from xmist.numerics.operators.transport import D_XX, D_XY, D_YY, LOG_T, PSI, D


def test_frames_of_the_model_come_back():
    reference, sample = made(3, {PSI: PSI_TRUE, D: D_TRUE, LOG_T: LOG_T_TRUE})
    result = retrieve(reference, sample)
    # Without noise the strengths stay at the weakest priors: ln T's costs φ a per cent.
    assert relative(result.phase, PSI_TRUE * K * P**2 / Z) <= 2e-2
    assert relative(result.dark_field, D_TRUE * P**2 / Z) <= 0.1
    assert np.abs(result.transmission - np.exp(LOG_T_TRUE)).max() <= 0.01
    assert result.provenance["convergence"]["converged"]
    # Speckles move along the border, which is then open: pixels whose speckles come from outside are filled.
    assert not result.flags[3:-3, 3:-3].any()


def test_with_a_faint_prior_the_answer_is_the_models_own():
    reference, sample = made(3, {PSI: PSI_TRUE, D: D_TRUE})
    result = retrieve(reference, sample, **SCATTER, regularisation=0.01, gain=0.0)
    # The prior damps D by α κ³ over the curvature ⟨(∇²I_R)²⟩ of some 0.1 a pixel⁴, at κ of some 0.1.
    assert relative(result.phase, PSI_AT_SAMPLE * K * P**2 / Z) <= 1e-4
    assert relative(result.dark_field, D_TRUE * P**2 / Z) <= 2e-3
    assert result.transmission is None


def test_tensor():
    fields = {PSI: PSI_TRUE, D_XX: D_TRUE, D_XY: 0.4 * D_TRUE, D_YY: 0.3 * D_TRUE}
    reference, sample = made(6, fields)
    result = retrieve(reference, sample, **TENSOR, regularisation=0.1)
    for found, kind in zip(result.dark_field_tensor, (D_XX, D_XY, D_YY), strict=True):
        assert np.abs(found * Z / P**2 - fields[kind]).max() <= 0.1 * D_TRUE.max()
    trace = result.dark_field_tensor[0] + result.dark_field_tensor[2]
    assert np.allclose(result.dark_field, trace / 2, rtol=1e-6, atol=0)


def test_one_position_gives_the_phase_alone():
    reference, sample = made(1, {PSI: PSI_TRUE})
    result = retrieve(reference, sample)
    assert relative(result.phase, PSI_TRUE * K * P**2 / Z) <= 5e-3
    assert result.dark_field is None
    assert result.transmission is None


def test_identical_frames_give_nothing():
    frames = speckle(np.random.default_rng(3), 2, SHAPE).astype(np.float32)
    result = retrieve(frames, frames, gain=0.0)
    # A flat objective of rounding: what is found is below what a millionth of the flux would make.
    assert np.abs(result.phase).max() <= 1e-4 * np.abs(PSI_TRUE).max() * K * P**2 / Z
    assert np.abs(result.transmission - 1).max() <= 1e-4
    assert "identical-frames" in codes(result)


def test_threads_and_the_two_ways_to_call_do_not_change_a_bit():
    one = retrieve(*noisy(), threads=1)
    plan = xmist.prepare(noisy()[0], EXPERIMENT, method="full-field", threads=8)
    for other in (plan(noisy()[1]), plan(noisy()[1])):
        for (name, image), (_, again) in zip(one.channels(), other.channels(), strict=True):
            assert np.array_equal(image, again), name


def test_noisy_reference_does_not_bias_the_dark_field():
    """Columns with noise would make it positive everywhere, by about a tenth of a pixel² here."""
    rng = np.random.default_rng(5)
    clean = speckle(rng, 4, (160, 160), grain=2.0)
    clean /= clean.mean()
    photons = 1500
    frames = [rng.poisson(clean * photons) / photons for _ in range(2)]
    result = retrieve(*frames, **SCATTER, regularisation=10.0)
    assert abs(np.mean(result.dark_field) * Z / P**2) <= 0.004


def test_dead_pixels_are_left_out():
    rng = np.random.default_rng(6)
    plain = retrieve(*noisy())
    weights = (rng.random(noisy()[0].shape) > 0.01).astype(np.float32)
    reference, sample = noisy()[0].copy(), noisy()[1].copy()
    dead = weights == 0
    reference[dead] = rng.choice([0.0, -8.0, np.nan, np.inf, 1e9], size=dead.sum())
    sample[dead] = rng.choice([0.0, -8.0, np.nan, np.inf, 1e9], size=dead.sum())
    result = retrieve(reference, sample, weights)
    assert np.isfinite(result.phase).all()
    exact = PSI_TRUE * K * P**2 / Z
    assert relative(result.phase, exact) <= 1.1 * relative(plain.phase, exact)
    assert relative(result.phase, plain.phase) <= 0.03
    # One per cent of the data less moves D by about a tenth of its noise.
    error = relative(plain.dark_field, D_TRUE * P**2 / Z)
    assert relative(result.dark_field, plain.dark_field) <= error


def test_hot_pixel_that_no_mask_caught():
    plain = retrieve(*noisy())
    sample = noisy()[1].copy()
    sample[2, 50, 60] = 1e6
    result = retrieve(noisy()[0], sample)
    far = np.hypot(*np.ogrid[-50 : SHAPE[0] - 50, -60 : SHAPE[1] - 60]) > 5
    for name in ("phase", "dark_field", "transmission"):
        a, b = getattr(result, name)[far], getattr(plain, name)[far]
        assert np.sqrt(np.mean((a - b) ** 2)) <= 0.02 * np.sqrt(np.mean(b**2)), name
    assert result.flags[50, 60] & flag.BAD_SAMPLE
    assert "outliers-rejected" in codes(result)


def test_uncertainty_is_the_scatter_of_noise():
    """With unknowns well inside the prior, truth minus result over the deviation is about one."""
    result = retrieve(*noisy(), **SCATTER, uncertainty=True, draws=6)
    error = ndi.gaussian_filter(result.dark_field, 0) * Z / P**2 - D_TRUE
    # The frames are those of the model: noise is all that is wrong.
    z = error / (result.diagnostics["dark_field_std_noise"] * Z / P**2)
    # Six draws know a deviation to 30 %, D has some tens of independent patches.
    assert 0.5 < np.sqrt(np.mean(z**2)) < 2.0
    again = retrieve(*noisy(), **SCATTER, uncertainty=True, draws=6)
    assert np.array_equal(result.phase_std, again.phase_std)
    assert result.transmission_std is None


def test_uncertainty_holds_noise_and_the_error_of_the_model():
    reference, sample = noisy()
    # Granular contrast of the sample, alike at every position: the prior on d takes it for noise.
    grains = 1.0 + 0.04 * np.random.default_rng(5).normal(size=SHAPE)
    shares = []
    for frames in (sample, grains * sample):
        result = retrieve(reference, frames, uncertainty=True, draws=4)
        for name in ("phase", "dark_field", "transmission"):
            parts = [result.diagnostics[f"{name}_std_{part}"] for part in ("noise", "model")]
            assert np.allclose(np.hypot(*parts), getattr(result, f"{name}_std"), rtol=1e-4, atol=0.0)
        # A corner without scatter: elsewhere a part of D² is most of the model's error.
        noise, model = (result.diagnostics[f"dark_field_std_{part}"][:16, :16] for part in ("noise", "model"))
        shares.append(np.mean(model**2) / np.mean(noise**2))
    # Without grains the model's part is that of the prior, about as large as that of noise. Grains add
    # (v − 1)/2 of both (1.44 times as much measured).
    assert shares[1] > 1.25 * shares[0]


def test_frames_that_do_not_belong_together_are_not_said_to_converge():
    rng = np.random.default_rng(8)
    one, other = speckle(rng, 2, (64, 64)), speckle(rng, 2, (64, 64))
    result = retrieve(one, other)
    record = result.provenance["convergence"]
    assert not record["converged"]
    assert {"speckles-lost", "not-converged"} <= codes(result)


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ({"regularisation": "strong"}, "option-invalid", 'at least 0 or "auto"'),
        ({"regularisation": -1.0}, "option-invalid", "at least 0"),
        ({"prior": "h3"}, "option-invalid", '"h3/2"'),
        ({"dark_field": "vector"}, "option-invalid", '"tensor"'),
        ({"dark_field": True}, "option-invalid", '"scalar"'),
        ({"transmission": "yes"}, "option-invalid", "true or false"),
        ({"transmission": 1}, "option-invalid", "true or false"),
        ({"draws": 1}, "option-invalid", "whole number of at least 2"),
        ({"gain": "high"}, "option-invalid", "a number"),
        ({"initial": "mist"}, "option-invalid", "is a str; expected a Retrieval"),
        ({"transmission": False, "delta_over_beta": 100.0}, "option-conflict", "delta_over_beta"),
        ({"transmission_regularisation": 0.0}, "option-invalid", "above 0"),
        ({"transmission_regularisation": 1, "delta_over_beta": 99.0}, "option-conflict", "delta_over_beta"),
        ({"transmission_regularisation": 1, "transmission": False}, "option-conflict", "transmission"),
    ],
)
def test_wrong_options(options, code, words):
    with pytest.raises(xmist.InputError) as caught:
        xmist.prepare(noisy()[0], EXPERIMENT, method="full-field", **options)
    (record,) = caught.value.records
    assert record.code == code
    assert words in record.message


@pytest.mark.parametrize(
    ("positions", "options", "channels"),
    [
        (1, {}, {"phase"}),
        (1, {"delta_over_beta": 400.0}, {"phase", "transmission", "dark_field"}),
        (2, {}, {"phase", "transmission", "dark_field"}),
        (2, {"transmission": False}, {"phase", "dark_field"}),
        (2, {"dark_field": "none"}, {"phase", "transmission"}),
        (2, {"dark_field": "tensor"}, {"phase", "transmission", "dark_field", "dark_field_tensor"}),
    ],
)
def test_what_is_solved_for(positions, options, channels):
    result = retrieve(noisy()[0][:positions, :48, :48], noisy()[1][:positions, :48, :48], **options)
    assert {name for name, _ in result.channels()} - {"refraction_angle"} == channels


def test_too_few_positions_for_a_dark_field():
    with pytest.raises(xmist.InputError, check=coded("positions-too-few")):
        xmist.prepare(noisy()[0][:1], EXPERIMENT, method="full-field", **SCATTER)


def test_one_per_cent_of_dead_pixels_costs_little():
    reference, sample = made(2, {PSI: PSI_TRUE, D: D_TRUE}, noise=0.004)
    weights = (np.random.default_rng(2).random(reference.shape) > 0.01).astype(np.float32)
    exact = PSI_TRUE * K * P**2 / Z
    # With the four neighbours of each left out too, as pixelwise methods must, it is a fifth.
    whole, holed = (relative(retrieve(reference, sample, w).phase, exact) for w in (None, weights))
    assert holed <= 1.1 * whole
