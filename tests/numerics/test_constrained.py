"""Constraints change the unknowns, not the problem: each is checked against its dense definition."""

import numpy as np
import pytest

from xmist.numerics.operators.transport import LOG_T, PSI, D, Transport
from xmist.numerics.solvers.constrained import ConstrainedSolver
from xmist.numerics.solvers.preconditioner import Prior, block_preconditioner, expected_block, moments
from xmist.numerics.solvers.whole_image import Solver, to_cosines

SHAPE = (11, 12)
KINDS = (PSI, D, LOG_T)
PRIORS = (Prior(), Prior(strength=0.3, order=1.5, floor=1e-3), Prior(strength=0.1, floor=1e-3))
MIX = np.array([[0.0, 3.0], [1.0, 0.0], [0.0, 1.0]])


@pytest.fixture(scope="module")
def problem():
    """Operator with weights, and images."""
    rng = np.random.default_rng(1)
    frames = rng.uniform(1, 2, (3, *SHAPE))
    weights = rng.uniform(0, 2, frames.shape)
    return Transport(frames=frames, kinds=KINDS, weights=weights), rng.normal(size=frames.shape)


def _dense(linear, size):
    """Columns of a linear function of a flat vector."""
    return np.stack([linear(column).ravel() for column in np.eye(size)], axis=1)


def _exact(problem, mix, free):
    """Solve the normal equations of the unknowns that are free, in float64."""
    transport, images = problem
    size = len(KINDS) * SHAPE[0] * SHAPE[1]
    stack = (len(KINDS), *SHAPE)
    a = _dense(lambda u: transport.forward(u.reshape(stack)), size)
    c = _dense(lambda u: to_cosines(u.reshape(stack).copy()), size)
    p = np.concatenate([prior.precision(SHAPE).ravel() for prior in PRIORS])
    b = np.kron(mix, np.eye(SHAPE[0] * SHAPE[1]))
    keep = np.tile(np.ones(SHAPE, bool) if free is None else free, (mix.shape[1], 1, 1)).ravel()
    b = b[:, keep]
    w = transport.weights.ravel()
    normal = b.T @ (a.T @ (w[:, None] * a) + c.T @ (p[:, None] * c)) @ b
    right = b.T @ (a.T @ (w * images.ravel()))
    return (b @ np.linalg.lstsq(normal, right, rcond=1e-13)[0]).reshape(stack)


FREE = np.ones(SHAPE, bool)
FREE[:, :4] = False
FREE[:3] = False


@pytest.mark.parametrize(("mix", "free"), [(MIX, None), (np.eye(3), FREE), (MIX, FREE)])
def test_solution_is_that_of_the_dense_equations(problem, mix, free):
    solver = ConstrainedSolver(problem[0], PRIORS, mix=None if mix is not MIX else mix, free=free)
    found, how = solver(problem[1], negligible=lambda objective: 0.0, limit=3000, relative=1e-15)
    exact = _exact(problem, mix, free)
    assert how.converged
    assert np.abs(found - exact).max() <= 1e-5 * np.abs(exact).max()
    if free is not None:
        assert not found[:, ~free].any()


def test_without_constraints_it_is_the_plain_solver(problem):
    plain, _ = Solver(problem[0], PRIORS)(problem[1], negligible=lambda objective: 0.0, relative=1e-15)
    found, _ = ConstrainedSolver(problem[0], PRIORS)(
        problem[1], negligible=lambda objective: 0.0, relative=1e-15
    )
    assert np.abs(found - plain).max() <= 1e-5 * np.abs(plain).max()


def test_a_start_at_the_solution_stays(problem):
    solver = ConstrainedSolver(problem[0], PRIORS, mix=MIX, free=FREE)
    found, _ = solver(problem[1], negligible=lambda objective: 0.0, limit=3000, relative=1e-15)
    again, how = solver(problem[1], negligible=lambda objective: 1e-9, start=found)
    assert how.iterations <= 4  # the rule looks at four steps
    assert np.allclose(again, found, atol=1e-6 * np.abs(found).max())


def test_blocks_of_combinations_are_combinations_of_blocks(problem):
    transport, _ = problem
    moment = moments(transport.frames, transport.weights)
    full = expected_block(KINDS, moment, SHAPE)
    assert np.allclose(expected_block(KINDS, moment, SHAPE, mix=MIX), MIX.T @ full @ MIX)
    inverse = block_preconditioner(KINDS, moment, SHAPE, priors=PRIORS, mix=MIX)
    total = full.copy()
    for i, prior in enumerate(PRIORS):
        total[..., i, i] = (total[..., i, i] + prior.precision(SHAPE)) * (1 + 1e-6)
    coefficients = np.random.default_rng(2).normal(size=(2, *SHAPE))
    back = np.einsum("yxij,jyx->iyx", MIX.T @ total @ MIX, inverse(coefficients))
    assert np.allclose(back, coefficients, rtol=1e-4, atol=1e-4)
