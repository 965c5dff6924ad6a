import numpy as np
import pytest
import scipy.ndimage as ndi

from tests.implicit import dx, dy
from tests.methods.direct_methods import spectral_laplacian
from xmist.numerics.solvers.gradient_flow import (
    SCALAR,
    TENSOR,
    add_equations,
    noise_sums,
    smooth_equations,
    solve_equations,
    whitened,
)

SHAPE = (70, 41)  # more rows than a block of threads has


def _frames(positions, seed=0):
    rng = np.random.default_rng(seed)
    frames = 1.0 + 0.3 * ndi.gaussian_filter(rng.normal(size=(positions, *SHAPE)), (0, 1.5, 1.5)) / 0.2
    return frames, ndi.gaussian_filter(rng.normal(size=(positions, *SHAPE)), (0, 2, 2))


def _columns(frame, tensor):
    """Columns of ∇Λ = I g − d ∇I for g_x, g_y and d or d_xx, d_xy, d_yy: (2, unknowns, y, x)."""
    one, nothing, x, y = frame, 0 * frame, dx(frame), dy(frame)
    if not tensor:
        return np.array([[one, nothing, -x], [nothing, one, -y]])
    return np.array([[one, nothing, -x, -y, nothing], [nothing, one, nothing, -x, -y]])


@pytest.mark.parametrize("tensor", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_solution_is_that_of_least_squares(tensor, weighted):
    frames, potentials = _frames(4)
    weights = np.random.default_rng(1).uniform(0, 2, frames.shape) if weighted else np.ones(frames.shape)
    sums = np.zeros((TENSOR if tensor else SCALAR, *SHAPE))
    matrix, right = 0.0, 0.0
    for frame, potential, weight in zip(frames, potentials, weights, strict=True):
        add_equations(frame, potential, sums, weight=weight if weighted else None, threads=2)
        columns, target = _columns(frame, tensor), np.array([dx(potential), dy(potential)])
        matrix = matrix + weight * np.einsum("ijyx,ikyx->jkyx", columns, columns)
        right = right + weight * np.einsum("ijyx,iyx->jyx", columns, target)
    found, ill = solve_equations(sums, ridge=0.3)
    unknowns = len(found)
    matrix[2:, 2:] += 0.3 * np.eye(unknowns - 2)[..., None, None]
    expected = np.linalg.solve(np.moveaxis(matrix, (0, 1), (2, 3)), np.moveaxis(right, 0, 2)[..., None])
    assert not ill.any()
    # Normal equations in float64: their condition times 1e-16.
    assert np.abs(found - np.moveaxis(expected[..., 0], 2, 0)).max() <= 1e-8 * np.abs(expected).max()


@pytest.mark.parametrize("tensor", [False, True])
def test_one_position_is_ill_determined_at_every_pixel(tensor):
    frames, potentials = _frames(1)
    sums = np.zeros((TENSOR if tensor else SCALAR, *SHAPE))
    add_equations(frames[0], potentials[0], sums)
    found, ill = solve_equations(sums, floor=1e-4)
    assert ill.all()
    assert np.isfinite(found).all()


@pytest.mark.parametrize("sigma", [0.0, 0.7, 3.0, 30.0])
def test_smoothing_is_a_gaussian_with_the_even_mirror(sigma):
    image = np.random.default_rng(2).normal(size=(1, *SHAPE))
    expected = ndi.gaussian_filter(image[0], sigma, mode="reflect") if sigma else image[0].copy()
    for threads in (1, 3):
        found = image.copy()
        smooth_equations(found, sigma, threads=threads)
        assert np.abs(found[0] - expected).max() <= 1e-12


def test_filtered_potential_by_dense_matrices():
    image = np.random.default_rng(3).normal(size=(12, 15))
    plain = whitened(image, 0.0, potential=True)
    assert np.allclose(spectral_laplacian(plain), image - image.mean())
    # f² = κ²/(κ² + ε²) twice through the filter: (1 − ∇²/ε²) undoes it but for the Laplacian.
    fine = whitened(whitened(image, 0.8, potential=False), 0.8, potential=False)
    assert np.allclose(fine - spectral_laplacian(fine) / 0.64, -spectral_laplacian(image) / 0.64)
    both = whitened(image, 0.8, potential=True)
    assert np.allclose(spectral_laplacian(both), whitened(image, 0.8, potential=False))


@pytest.mark.parametrize("tensor", [False, True])
def test_noise_of_a_reference_adds_to_the_sums(tensor):
    noise = np.random.default_rng(3).normal(size=(2, *SHAPE))
    for frame in noise:
        potential = whitened(frame, 0.5, potential=True)
        detail = whitened(frame, 0.5, potential=False)
        sums = np.zeros((TENSOR if tensor else SCALAR, *SHAPE))
        add_equations(detail, potential, sums)
        expected = noise_sums(SHAPE, 0.5, tensor=tensor)
        # The power of 2870 independent numbers is known to √(2/2870) = 2.6 %; four times that.
        assert sums[-3:].mean(axis=(1, 2)) == pytest.approx(expected[-3:], abs=0.11 * abs(expected[-1]))
        less = np.zeros_like(sums)
        add_equations(detail, potential, less, level=2.0 + frame, noise=3.0 * expected)
        change = 3.0 * expected[:, None, None] * (2.0 + frame)
        assert np.abs(sums - less - change).max() <= 1e-12 * np.abs(sums).max()


def test_noise_that_the_mean_wave_explains_does_not_count():
    every, half = (noise_sums(SHAPE, 0.5, tensor=False, explained=share)[-1] for share in (0.0, 0.5))
    assert half == pytest.approx(0.5 * every)
