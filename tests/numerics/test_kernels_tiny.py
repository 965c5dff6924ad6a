"""Every kernel on tiny arrays: quick enough to run uncompiled too, which is how their lines are measured."""

import numpy as np
import pytest
import scipy.ndimage as ndi

import xmist
from tests.manufactured import EXPERIMENT, phase_object, speckle
from xmist.core import flags as flag
from xmist.numerics.images.fill import fill
from xmist.numerics.images.neighbours import HIGH, LOW, neighbour_outliers, neighbour_ranks
from xmist.numerics.operators import stencils
from xmist.numerics.operators.derivatives import DX, DXX, DXY, DY, DYY, LAPLACIAN, SAMPLE, VALUE, derivative
from xmist.numerics.operators.staggered_gradient import add_flow, staggered_divergence
from xmist.numerics.solvers.least_squares import REFERENCE_FRAME, System, solve
from xmist.numerics.solvers.neighbour_solve import solve_from_neighbours
from xmist.numerics.solvers.poisson import inverse_laplacian, screened

SHAPE = (9, 8)


def test_stencils():
    u = np.random.default_rng(1).normal(size=SHAPE)
    along_x = ndi.correlate1d(u, [-0.5, 0, 0.5], axis=1, mode="reflect")
    along_y = ndi.correlate1d(u, [-0.5, 0, 0.5], axis=0, mode="reflect")
    assert np.allclose(stencils.gradient(u), [along_x, along_y], atol=1e-14)
    assert np.allclose(stencils.laplacian(u), ndi.laplace(u, mode="reflect"), atol=1e-13)
    v = np.random.default_rng(2).normal(size=(2, *SHAPE))
    assert np.isclose(np.vdot(stencils.gradient(u), v), -np.vdot(u, stencils.divergence(v)))


@pytest.mark.parametrize("kind", [VALUE, LAPLACIAN, DX, DY, DXX, DYY, DXY])
def test_derivatives_of_a_polynomial(kind):
    y, x = (a.astype(float) for a in np.mgrid[:11, :12])
    u = x**3 * y + 2 * x * y**2
    exact = {
        VALUE: u,
        LAPLACIAN: 6 * x * y + 4 * x,
        DX: 3 * x**2 * y + 2 * y**2,
        DY: x**3 + 4 * x * y,
        DXX: 6 * x * y,
        DYY: 4 * x,
        DXY: 3 * x**2 + 4 * y,
    }[kind]
    inside = (slice(3, -3), slice(3, -3))  # sixth order is exact on cubics, the mirror is not
    assert np.allclose(derivative(u, kind)[inside], exact[inside], rtol=1e-11)


def test_faces():
    u = np.random.default_rng(7).normal(size=SHAPE)
    for frame, weights in ((np.ones(SHAPE), None), (np.full(SHAPE, 2.0), np.full(SHAPE, 0.25))):
        flow, total = np.zeros((2, *SHAPE)), np.zeros((2, *SHAPE))
        add_flow(u, frame, flow, total, weights=weights)
        scale = 1.0 if weights is None else 0.25
        assert np.allclose(staggered_divergence(flow), scale * stencils.laplacian(u), atol=1e-12)
        assert set(np.unique((total / frame).round(12))) == {0.0, scale}


def test_poisson():
    u = np.random.default_rng(3).normal(size=SHAPE)
    u -= u.mean()
    assert np.allclose(inverse_laplacian(stencils.laplacian(u)), u, atol=1e-12)
    assert np.allclose(screened(u - 2 * stencils.laplacian(u), 2.0), u, atol=1e-12)


def test_least_squares_with_and_without_weights():
    reference = speckle(np.random.default_rng(4), 5, SHAPE)
    sample = 0.8 * reference
    weights = np.random.default_rng(5).uniform(0.5, 2, reference.shape)
    sample[0, 4, 4] = np.nan
    weights[1, 3, 3] = 0
    for w in (None, weights):
        solution, status = solve(reference, sample, System((VALUE, LAPLACIAN)), weights=w)
        assert np.allclose(solution[0], 0.2)
        assert np.allclose(solution[1], 0, atol=1e-10)
        assert np.count_nonzero(status) == 1
    solution, _ = solve(
        reference, sample, System((SAMPLE, DX, DY), target=REFERENCE_FRAME), weights=weights, ridge=1e-12
    )
    assert np.allclose(solution[0], 1 / 0.8)


def test_fill():
    y, x = (a.astype(float) for a in np.mgrid[:10, :11])
    image = x + 2 * y
    good = np.ones(image.shape, bool)
    good[5, 5] = good[0, 0] = good[4, 0] = False
    filled = fill(np.where(good, image, np.nan), good, smooth=True)
    assert np.isclose(filled[5, 5], image[5, 5])
    assert abs(filled[0, 0] - image[0, 0]) < 3
    assert np.isfinite(filled).all()
    alone = np.zeros((20, 3), bool)
    alone[0] = True
    assert np.isnan(fill(np.ones((20, 3)), alone)[15]).all()


@pytest.mark.parametrize("smoothing", [0.0, 1.0])
@pytest.mark.parametrize("method", ["mist", "mist-attenuating"])
def test_methods(method, smoothing):
    case = phase_object(3, (12, 14), strength=0.1)
    reference = case.reference.copy()
    reference[0, 6, 7] = -1
    stack = xmist.SpeckleStack(reference, case.sample)
    result = xmist.retrieve(stack, EXPERIMENT, method=method, smoothing=smoothing)
    assert np.isfinite(result.dark_field).all()
    assert result.flags[6, 7] & flag.BAD_REFERENCE


def _neighbours(image, y, x, radius):
    window = image[max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1].ravel().tolist()
    window.remove(image[y, x])
    return sorted(window)


def test_ranks_of_neighbours():
    image = np.random.default_rng(6).permutation(72).reshape(SHAPE).astype(float)
    good = np.ones(SHAPE, bool)
    low, high = neighbour_ranks(image, good)
    for y, x in [(4, 4), (0, 0), (8, 3)]:
        values = _neighbours(image, y, x, 2)
        rank = max(1, round(4 * len(values) / 24))
        assert (low[y, x], high[y, x]) == (values[rank - 1], values[-rank])
    coarse = neighbour_ranks(image, good, step=3)
    assert np.array_equal(coarse, (low[::3, ::3], high[::3, ::3]))
    # The quick test that counts neighbours says what the ranks say.
    found = neighbour_outliers(image, good, excess=0.1, deficit=0.1, floor=20.0, offset=1.0)
    bright = image > high + 0.1 * np.maximum(high, 20.0)
    dark = np.log((low + 1.0) / (image + 1.0)) > 0.1
    assert np.array_equal(found == HIGH, bright)
    assert np.array_equal(found == LOW, dark & ~bright)
    assert bright.any()
    assert dark.any()


def test_a_lone_neighbour_does_not_decide():
    matrix, rhs = np.ones((1, 17, 17)), np.full((1, 17, 17), 2.0)
    informed = np.zeros((17, 17), bool)
    informed[[0, 1, -2, -1]] = informed[8, 10] = True
    rhs[0, 8, 10] = 100.0
    wanted = np.zeros_like(informed)
    wanted[8, 8] = True
    (found,) = solve_from_neighbours(matrix, rhs, informed, wanted, floors=np.zeros(1))[0]
    # Within two pixels nothing else does; within eight it weighs e^−⅛, beside two rows on either side.
    along = np.exp(-2 * np.arange(-8, 9) ** 2 / 64).sum()
    others = 2 * (np.exp(-2 * 7**2 / 64) + np.exp(-2)) * along
    share = np.exp(-0.125) / (np.exp(-0.125) + others)
    assert abs(found - (2.0 + 98.0 * share)) <= 1e-12 * 100


def test_borrowed_equations():
    rng = np.random.default_rng(7)
    a, b = rng.uniform(1, 2, (2, *SHAPE))
    exact = np.array([3.0, -2.0])
    matrix = np.stack([a, 0.2 * b, b])  # a system at every pixel with the same solution
    rhs = np.stack([a * exact[0] + 0.2 * b * exact[1], 0.2 * b * exact[0] + b * exact[1]])
    wanted = np.zeros(SHAPE, bool)
    wanted[2:6, 2:5] = True
    found = solve_from_neighbours(
        matrix, np.where(wanted, 1e9, rhs), ~wanted, wanted, floors=np.full(2, 1e-6)
    )
    assert np.allclose(found, exact[:, None], rtol=1e-12)
    nothing = solve_from_neighbours(matrix, rhs, np.zeros(SHAPE, bool), wanted, floors=np.full(2, 1e-6))
    assert np.isnan(nothing).all()
