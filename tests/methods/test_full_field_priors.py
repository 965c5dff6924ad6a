"""Priors of a given strength, from far below what noise asks for."""

import numpy as np
import pytest
import scipy.ndimage as ndi

import xmist
from tests.methods.full_field_frames import (
    D_TRUE,
    LOG_T_TRUE,
    PSI_AT_SAMPLE,
    PSI_TRUE,
    SCATTER,
    SHAPE,
    K,
    P,
    Z,
    codes,
    made,
    relative,
    retrieve,
    sample_of,
)
from xmist.methods.full_field.prior_strengths import PriorStrengths
from xmist.numerics.operators.transport import LOG_T, PSI, D
from xmist.numerics.solvers.preconditioner import Prior

KINDS = (PSI, D, LOG_T)


@pytest.mark.parametrize("strength", [0.001, 0.01])
def test_a_faint_prior_settles_on_frames_without_noise(strength):
    """Steps from no sample with so faint a prior went astray: D was wrong by a quarter."""
    reference, sample = made(3, {PSI: PSI_TRUE, D: D_TRUE})
    result = retrieve(reference, sample, **SCATTER, regularisation=strength)
    assert result.provenance["convergence"]["converged"]
    assert "not-converged" not in codes(result)
    # As in `test_with_a_faint_prior_the_answer_is_the_models_own`.
    assert relative(result.phase, PSI_AT_SAMPLE * K * P**2 / Z) <= 1e-4
    assert relative(result.dark_field, D_TRUE * P**2 / Z) <= 2e-3
    assert result.provenance["convergence"]["prior_strengths"] == [0.0, strength]


def test_with_no_prior_rounding_is_what_limits_the_dark_field():
    """ψ of some 10 pixels² is stored to 1e-6 of them, and D read from second differences of its traces."""
    reference, sample = made(3, {PSI: PSI_TRUE, D: D_TRUE})
    result = retrieve(reference, sample, **SCATTER, regularisation=0.0)
    assert relative(result.phase, PSI_AT_SAMPLE * K * P**2 / Z) <= 1e-5
    # Rounding leaves 2e-6 of the mean; divided by the rms of ∇²I of some 0.2 and D's own 0.06.
    assert relative(result.dark_field, D_TRUE * P**2 / Z) <= 2e-4
    left = np.asarray(result.provenance["convergence"]["residual_by_frame"])
    assert np.all(left <= 4e-6)


def test_the_prior_on_the_transmission_may_be_given():
    reference, sample = made(3, {PSI: PSI_TRUE, D: D_TRUE, LOG_T: LOG_T_TRUE}, noise=0.002)
    rough = []
    for strength in (0.1, 100.0):
        result = retrieve(reference, sample, regularisation=1.0, transmission_regularisation=strength)
        assert result.provenance["convergence"]["prior_strengths"] == [0.0, 1.0, strength]
        fine = np.log(result.transmission) - LOG_T_TRUE
        rough.append(np.square(ndi.laplace(fine)).mean())
    # Noise of all waves above 2 rad per pixel, where 100 κ³ outweighs the 3 of the data.
    assert rough[1] < 0.1 * rough[0]


def test_outer_iterations_go_on_to_a_smaller_tolerance():
    """Where the model is in error, 1 % of the objective is much next to what fine structure changes."""
    frames, experiment, _ = xmist.simulate.spheres(shape=(36, 48), positions=3, workers=1)
    usual, close = (
        xmist.retrieve(frames, experiment, method="full-field", regularisation=0.1, **options).provenance
        for options in ({}, {"tolerance": 1e-4})
    )
    usual, close = (each["convergence"]["misfit"] for each in (usual, close))
    assert len(close) > len(usual)
    # The last is that of the solve for D with other weights.
    assert close[-2] < usual[-2]


@pytest.mark.parametrize(
    ("options", "order"), [({}, 1.5), ({"regularisation": 1.0}, 1.5), ({"prior": "h2"}, 2.0)]
)
def test_order_of_the_prior(options, order):
    reference, sample = made(3, {PSI: PSI_TRUE, D: D_TRUE}, noise=0.002)
    result = retrieve(reference, sample, **SCATTER, **options)
    assert result.provenance["convergence"]["prior_orders"][1] == order


def _grains(grain, contrast, *, noise, positions=2):
    """Frames of a dark-field of smooth grains, in pixel units, with speckles of a size and a contrast."""
    random = np.random.default_rng(4)
    d = ndi.gaussian_filter(random.normal(size=SHAPE), 8.0)
    d = 0.05 * np.maximum(d / d.std(), 0.0)
    reference = made(positions, {PSI: PSI_TRUE}, grain=grain)[0]
    reference = 1.0 + contrast / reference.std() * (reference - 1.0)
    sample = sample_of(reference, {PSI: PSI_TRUE, D: d})
    reference, sample = (frames + noise * random.normal(size=frames.shape) for frames in (reference, sample))
    return reference, sample, d


@pytest.mark.parametrize(
    ("grain", "contrast", "noise"),
    [(1.6, 0.3, 0.005), (3.0, 0.18, 0.005), (3.5, 0.1, 0.01), (1.6, 0.3, 0.03)],
)
def test_the_strength_that_is_chosen_is_near_the_best(grain, contrast, noise):
    """Fine, coarse and faint speckles, and few photons, at two positions: D is neither flat nor noise."""
    reference, sample, d = _grains(grain, contrast, noise=noise)
    chosen, *fixed = (
        retrieve(reference, sample, **SCATTER, regularisation=strength).dark_field * Z / P**2
        for strength in ("auto", 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
    )
    errors = [float(np.sqrt(np.mean((found - d) ** 2)) / d.std()) for found in (chosen, *fixed)]
    # The bound of issue and benchmark for any experiment.
    assert errors[0] <= 1.4 * min(errors[1:])


def test_the_strength_does_not_depend_on_the_unit_of_the_frames():
    reference, sample = made(2, {PSI: PSI_TRUE, D: D_TRUE}, noise=0.005)
    strengths = [
        retrieve(unit * reference, unit * sample, **SCATTER).provenance["convergence"]["prior_strengths"][1]
        for unit in (1.0, 1000.0)
    ]
    # The same numbers but for rounding of float32, after some ten outer and inner steps.
    assert strengths[1] == pytest.approx(strengths[0], rel=1e-2)


def test_a_dark_field_that_the_prior_determines_is_warned_about():
    for contrast, expected in ((0.25, False), (0.02, True)):
        reference, sample, _ = _grains(3.0, contrast, noise=0.01)
        assert ("dark-field-from-prior" in codes(retrieve(reference, sample, **SCATTER))) == expected


def test_a_transmission_that_the_prior_determines_is_warned_about():
    reference, sample = made(2, {PSI: PSI_TRUE}, noise=0.005)
    # Light that is lost alike everywhere has no contrast to measure.
    for transmission, expected in ((1.0, False), (0.9, True), (np.exp(LOG_T_TRUE), False)):
        result = retrieve(reference, transmission * sample)
        assert ("transmission-from-prior" in codes(result)) == expected


def _priors(strength):
    """Priors of ψ, D and ln T."""
    return tuple(Prior(strength=one, order=1.5) for one in (0.0, strength, 7.0))


@pytest.mark.parametrize(
    ("fixed", "negative", "expected"),
    [
        ({}, 0.0, 0.5),
        ({}, 0.2, 0.5),  # 0.2²/(1 + 0.2²) of the squares is negative, less than 0.05
        ({}, 0.5, 40.0),  # 0.5²/(1 + 0.5²) = 0.2 = 4 times 0.05: twice the least strength, 20
        ({}, 0.25, 25.0),  # more than 0.05, but the first choice was stronger still
        ({D: None}, 0.5, 0.5),
    ],
)
def test_a_dark_field_of_both_signs_gets_a_strong_prior(fixed, negative, expected):
    fields = np.ones((3, 8, 8))
    fields[1, :, ::2] = -negative
    used = np.ones((8, 8), bool)
    chosen = PriorStrengths(orders=(1.5,), fixed=fixed).credible(
        _priors(0.5), _priors(25.0), kinds=KINDS, fields=fields, used=used
    )
    assert [one.strength for one in chosen] == pytest.approx([0.0, expected, 7.0])


def test_pixels_that_do_not_count_say_nothing_of_the_sign():
    fields = np.ones((3, 8, 8))
    fields[1, :, 4:] = -5.0
    used = np.arange(8) < 4
    strengths = PriorStrengths(orders=(1.5,), fixed={})
    priors = _priors(0.5)
    assert (
        strengths.credible(priors, priors, kinds=KINDS, fields=fields, used=np.broadcast_to(used, (8, 8)))
        == priors
    )


@pytest.mark.parametrize(("fixed", "expected"), [({}, [0.4, 0.3]), ({D: 0.8}, [0.8, 0.35])])
def test_a_chosen_strength_falls_with_the_noise_but_not_below_the_least(fixed, expected):
    strengths = PriorStrengths(orders=(1.5,), fixed=fixed)
    found = [strengths.weaker(_priors(one), KINDS, 0.5)[1].strength for one in (0.8, 0.35)]
    assert found == pytest.approx(expected)
