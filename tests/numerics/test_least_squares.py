import numpy as np
import pytest
import scipy.ndimage as ndi

from tests.manufactured import laplacian6, phase_object, speckle
from xmist.numerics.operators.derivatives import DX, DXX, DXY, DY, DYY, LAPLACIAN, SAMPLE, VALUE, derivative
from xmist.numerics.solvers.least_squares import (
    ILL,
    LOST_SAMPLE,
    REFERENCE_FRAME,
    TOO_FEW,
    System,
    normal_equations,
    solve,
    solve_normal_equations,
)

SYSTEMS = [
    System((VALUE, LAPLACIAN)),
    System((SAMPLE, DX, DY), target=REFERENCE_FRAME),
    System((VALUE, DXX, DYY, DXY)),
    System((SAMPLE, DX, DY, DXX, DXY, DYY), target=REFERENCE_FRAME),
]


def _frames(positions, shape=(24, 31), seed=0):
    rng = np.random.default_rng(seed)
    reference = speckle(rng, positions, shape)
    return reference, reference * rng.uniform(0.7, 1.0, shape) + 0.01 * rng.normal(size=reference.shape)


def _columns(reference, sample, system):
    def column(n, kind):
        return sample[n] if kind == SAMPLE else derivative(reference[n], kind)

    matrix = np.array([[column(n, kind) for kind in system.kinds] for n in range(len(reference))])
    target = reference if system.target == REFERENCE_FRAME else reference - sample
    return matrix, target


def _by_numpy(reference, sample, weights, system):
    matrix, target = _columns(reference, sample, system)
    solution = np.empty((system.unknowns, *reference.shape[1:]))
    for y, x in np.ndindex(reference.shape[1:]):
        root = np.sqrt(weights[:, y, x])
        solution[:, y, x] = np.linalg.lstsq(root[:, None] * matrix[:, :, y, x], root * target[:, y, x])[0]
    return solution


@pytest.mark.parametrize("system", SYSTEMS)
def test_equals_numpy(system):
    reference, sample = _frames(9)
    weights = np.random.default_rng(1).uniform(0.2, 3.0, reference.shape)
    expected = _by_numpy(reference, sample, weights, system)
    found, status = solve(reference, sample, system, weights=weights)
    assert not status.any()
    # Normal equations square the condition number, up to 1e4 here: 1e-16 · 1e8.
    scale = np.abs(expected).max(axis=(1, 2), keepdims=True)
    assert (np.abs(found - expected) / scale).max() <= 1e-8
    plain, _ = solve(reference, sample, system)
    assert np.allclose(
        plain, solve(reference, sample, system, weights=np.ones_like(reference))[0], rtol=1e-12
    )


def test_two_positions_equal_the_closed_form():
    # Eq. (7) of Pavlov et al. 2020: D = (I_R2 I_S1 − I_R1 I_S2)/(I_R2 ∇²I_R1 − I_R1 ∇²I_R2), ∆ = 1.
    (r1, r2), (s1, s2) = _frames(2, (40, 50))
    l1, l2 = laplacian6(r1), laplacian6(r2)
    determinant = r2 * l1 - r1 * l2
    closed = (r2 * s1 - r1 * s2) / determinant
    found, _ = solve(np.stack([r1, r2]), np.stack([s1, s2]), System((VALUE, LAPLACIAN)))
    well = np.abs(determinant) > 0.05 * np.abs(determinant).max()
    assert well.mean() > 0.5
    assert np.abs(-found[1] - closed)[well].max() <= 1e-10 * np.abs(closed[well]).max()
    curvature = (r1 - s1 + closed * l1) / r1
    assert np.abs(found[0] - curvature)[well].max() <= 1e-10 * np.abs(curvature[well]).max()


@pytest.mark.parametrize(("dtype", "bound"), [(np.float32, 2e-5), (np.float64, 1e-10)])
def test_medians_of_two_positions(dtype, bound):
    case = phase_object(2, (160, 130))
    p2 = case.experiment.effective_pixel**2
    exact_d = case.dark_field * case.experiment.effective_distance / p2
    found, _ = solve(case.reference.astype(dtype), case.sample.astype(dtype), System((VALUE, LAPLACIAN)))
    assert np.median(np.abs(-found[1] - exact_d)) <= bound * exact_d.std()
    psi = case.phase * case.experiment.effective_distance / (case.experiment.wavenumber * p2)
    curvature = ndi.laplace(psi, mode="reflect")
    assert np.median(np.abs(found[0] - curvature)) <= bound * curvature.std()


def test_lost_and_missing_equations():
    system = System((VALUE, LAPLACIAN))
    reference, sample = _frames(3)
    expected, _ = solve(reference[1:], sample[1:], system)
    sample = sample.copy()
    sample[0, 5, 6], sample[0, 7, 8] = np.nan, -np.inf
    weights = np.ones_like(reference)
    weights[0, 9, 10] = 0.0
    sample[0, 9, 10] = 1e30
    sample[:2, 20, 20] = np.nan
    found, status = solve(reference, sample, system, weights=weights)
    for y, x in ((5, 6), (7, 8), (9, 10)):
        assert np.allclose(found[:, y, x], expected[:, y, x], rtol=1e-12)
    assert status[5, 6] == status[7, 8] == LOST_SAMPLE
    assert status[9, 10] == 0
    assert status[20, 20] & TOO_FEW
    assert np.count_nonzero(status) == 3


def test_proportional_references_are_ill_determined():
    reference, sample = _frames(2)
    reference[1, :10] = 2.0 * reference[0, :10]
    _, status = solve(reference, sample, System((VALUE, LAPLACIAN)), floors=[1e-4, 1e-4])
    # Rows whose whole stencil lies in the proportional part.
    assert np.all(status[:7] & ILL)
    assert np.mean(status[14:] & ILL > 0) < 0.1


def test_ridge_is_the_tikhonov_term():
    system = System((VALUE, LAPLACIAN))
    reference, sample = _frames(4)
    matrix, target = _columns(reference, sample, system)
    normal = np.einsum("nkyx,nlyx->yxkl", matrix, matrix) + 0.3 * np.eye(2)
    expected = np.linalg.solve(normal, np.einsum("nkyx,nyx->yxk", matrix, target)[..., None])[..., 0]
    found, _ = solve(reference, sample, system, ridge=0.3)
    assert np.allclose(np.moveaxis(found, 0, -1), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("system", SYSTEMS)
def test_split_path_equals_the_fused_one(system):
    reference, sample = _frames(7)
    fused, status = solve(reference, sample, system)
    matrix, rhs, split = normal_equations(reference, sample, system)
    solve_normal_equations(matrix, rhs, split)
    assert np.array_equal(fused, rhs)
    assert np.array_equal(status, split)
    empty, again, _ = normal_equations(reference, sample, system, want_matrix=False)
    assert empty.size == 0
    assert np.array_equal(again, normal_equations(reference, sample, system)[1])


def test_bits_do_not_depend_on_threads():
    reference, sample = (frames.astype(np.float32) for frames in _frames(3, (200, 33)))
    system = SYSTEMS[0]
    one = solve(reference, sample, system, threads=1)
    for threads in (2, 8):
        many = solve(reference, sample, system, threads=threads)
        assert all(np.array_equal(a, b) for a, b in zip(one, many, strict=True))
