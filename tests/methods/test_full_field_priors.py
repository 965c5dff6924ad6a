"""Priors of a given strength, from far below what noise asks for."""

import numpy as np
import pytest

from tests.methods.full_field_frames import (
    D_TRUE,
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
)
from xmist.numerics.operators.transport import PSI, D
from xmist.numerics.solvers.preconditioner import Prior
from xmist.numerics.solvers.whole_image import to_cosines


@pytest.mark.parametrize("strength", [0.001, 0.01])
def test_a_faint_prior_settles_on_frames_without_noise(strength):
    """Steps from no sample with so faint a prior went astray: D was wrong by a quarter."""
    reference, sample = made(3, {PSI: PSI_TRUE, D: D_TRUE})
    result = retrieve(reference, sample, **SCATTER, regularisation=strength)
    assert result.provenance["convergence"]["converged"]
    assert "not-converged" not in codes(result)
    # As in `test_with_a_faint_prior_the_answer_is_the_models_own`.
    assert relative(result.phase, PSI_TRUE * K * P**2 / Z) <= 1e-4
    assert relative(result.dark_field, D_TRUE * P**2 / Z) <= 2e-3
    assert result.provenance["convergence"]["prior_strengths"] == [0.0, strength]


def test_with_no_prior_rounding_is_what_limits_the_dark_field():
    """ψ of some 10 pixels² is stored to 1e-6 of them, and D read from second differences of its traces."""
    reference, sample = made(3, {PSI: PSI_TRUE, D: D_TRUE})
    result = retrieve(reference, sample, **SCATTER, regularisation=0.0)
    assert relative(result.phase, PSI_TRUE * K * P**2 / Z) <= 1e-5
    # Rounding leaves 2e-6 of the mean; divided by the rms of ∇²I of some 0.2 and D's own 0.06.
    assert relative(result.dark_field, D_TRUE * P**2 / Z) <= 2e-4
    left = np.asarray(result.provenance["convergence"]["residual_by_frame"])
    assert np.all(left <= 4e-6)


@pytest.mark.parametrize("order", [1.5, 2.5])
def test_how_rough_the_dark_field_is_is_read_too(order):
    """Dark-fields drawn from priors of either order; a given strength stays one of the first order."""
    prior = Prior(strength=1.0, order=order).precision(SHAPE)
    prior[0, 0] = np.inf
    white = np.random.default_rng(4).normal(size=(1, *SHAPE))
    d = to_cosines(white / np.sqrt(prior), inverse=True)[0]
    reference, sample = made(6, {PSI: PSI_TRUE, D: 0.08 * d / d.std()}, noise=0.002)
    for options, expected in (({}, order), ({"regularisation": 1.0}, 1.5), ({"prior": "h2"}, 2.0)):
        result = retrieve(reference, sample, **SCATTER, **options)
        assert result.provenance["convergence"]["prior_orders"][1] == expected
