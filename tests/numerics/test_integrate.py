"""Integration of gradients: exact where a gradient is one, and least squares where it is not."""

import hypothesis.strategies as st
import numpy as np
import pytest
import scipy.ndimage as ndi
from hypothesis import given, settings

from xmist.numerics.solvers.integrate import INTEGRATORS, integrate, spectral_gradient


def smooth(shape, seed=0, sigma=3.0):
    u = ndi.gaussian_filter(np.random.default_rng(seed).normal(size=shape), sigma)
    u -= u.mean()
    return u / u.std()


@settings(max_examples=30)
@given(st.integers(7, 24), st.integers(7, 24), st.integers(0, 2**31))
def test_spectral_gradient_of_any_field_is_exact(height, width, seed):
    u = np.random.default_rng(seed).normal(size=(height, width))
    found = integrate(spectral_gradient(u))
    assert np.abs(found - (u - u.mean())).max() <= 1e-12 * height * width


def test_southwell_is_exact_on_quadratics():
    """The slope of a quadratic half-way between pixels is the average of theirs."""
    y, x = np.mgrid[:20, :31].astype(float)
    u = 0.3 * x**2 - 0.2 * x * y + 0.1 * y**2 - 2 * x
    slopes = np.stack([0.6 * x - 0.2 * y - 2, -0.2 * x + 0.2 * y])
    assert np.abs(integrate(slopes, kind="southwell") - (u - u.mean())).max() <= 1e-10


@pytest.mark.parametrize("kind", INTEGRATORS)
def test_axes_are_not_swapped(kind):
    u = smooth((40, 56))
    found = integrate(spectral_gradient(u), kind=kind)
    assert np.abs(found - u).std() <= 0.02  # Southwell's error is of second order, (κ²/12 of it at κ = 1/3)
    assert np.abs(integrate(spectral_gradient(u)[::-1], kind=kind) - u).std() > 0.5


def test_both_agree_under_noise():
    """White noise of 0.1 in the slopes, no vortex in the truth: both least squares, of nearly equal error."""
    u, rng = smooth((64, 64)), np.random.default_rng(1)
    noisy = spectral_gradient(u) + rng.normal(0, 0.1, (2, 64, 64))
    errors = [np.std(integrate(noisy, kind=kind) - u) for kind in INTEGRATORS]
    # Variance σ² mean(1/κ²): the sum over modes is near log(N)/2π of σ².
    kappa2 = sum(np.meshgrid(*[(np.pi * np.arange(64) / 64) ** 2] * 2))
    kappa2[0, 0] = np.inf
    expected = 0.1 * np.sqrt(np.mean(1 / kappa2))
    for error in errors:
        assert abs(error / expected - 1) <= 0.3
    assert abs(errors[0] / errors[1] - 1) <= 0.15


@pytest.mark.parametrize("kind", INTEGRATORS)
def test_weights_take_a_hole_out(kind):
    u = smooth((40, 44))
    slopes = spectral_gradient(u)
    weights = np.ones(u.shape)
    weights[12:18, 20:27] = 0
    spoiled = slopes.copy()
    spoiled[:, weights == 0] = np.nan
    found = integrate(spoiled, kind=kind, weights=weights)
    error = (found - u)[weights > 0]
    assert np.std(error) <= 0.02
    assert abs(found[weights > 0].mean()) <= 1e-12
    # Without weights a hole of zeros would be a wound.
    wound = integrate(np.nan_to_num(spoiled), kind=kind) - u
    assert np.std(wound[weights > 0]) >= 2 * np.std(error)


@pytest.mark.parametrize("kind", INTEGRATORS)
def test_equal_weights_change_nothing(kind):
    slopes = spectral_gradient(smooth((20, 24)))
    assert np.array_equal(
        integrate(slopes, kind=kind), integrate(slopes, kind=kind, weights=np.full((20, 24), 3.0))
    )


@pytest.mark.parametrize("kind", INTEGRATORS)
def test_threads_do_not_change_a_bit(kind):
    slopes = np.random.default_rng(2).normal(size=(2, 130, 150)).astype(np.float32)
    found = [integrate(slopes, kind=kind, threads=t) for t in (1, 2, 5)]
    assert found[0].dtype == np.float32
    assert found[0].tobytes() == found[1].tobytes() == found[2].tobytes()
