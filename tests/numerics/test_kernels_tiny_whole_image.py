"""The kernels of whole-image solves on tiny arrays, so that a run with NUMBA_DISABLE_JIT can measure them."""

import numpy as np
import pytest

from tests.manufactured import speckle
from xmist.numerics.operators.finite_transport import Warp, diffuse
from xmist.numerics.operators.transport import D_XX, D_XY, D_YY, LOG_T, PSI, D, Transport
from xmist.numerics.reduce import dot
from xmist.numerics.solvers.preconditioner import Prior, moments
from xmist.numerics.solvers.whole_image import Solver

SHAPE = (11, 13)
FRAMES = speckle(np.random.default_rng(1), 2, SHAPE)


@pytest.mark.parametrize("kinds", [(PSI, D, LOG_T), (PSI, D_XX, D_XY, D_YY)])
@pytest.mark.parametrize("weighted", [False, True])
def test_operator_adjoint_and_solve(kinds, weighted):
    weights = np.random.default_rng(2).uniform(size=FRAMES.shape) if weighted else None
    transport = Transport(frames=FRAMES, kinds=kinds, weights=weights, threads=1)
    fields, images = (
        np.random.default_rng(seed).normal(size=(number, *SHAPE))
        for seed, number in ((3, len(kinds)), (4, 2))
    )
    forward = transport.forward(fields)
    weighed = images if weights is None else images * weights
    assert np.isclose(dot(forward, weighed), dot(fields, transport.adjoint(images)), rtol=1e-12)
    assert np.allclose(transport.normal(fields), transport.adjoint(forward), rtol=1e-10, atol=1e-12)
    assert moments(FRAMES, weights, threads=1).value > 0
    solver = Solver(transport, (Prior(strength=0.1, floor=1.0),) * len(kinds))
    _, how = solver(images, negligible=lambda objective: 0.0, limit=4)
    assert np.all(np.diff(how.objective) < 0)


def test_warp_and_blur():
    u = np.zeros((2, *SHAPE))
    u[0] = 1.0
    found = Warp.of(u, threads=1)(FRAMES[0])
    assert np.allclose(found[:, 5:9], FRAMES[0][:, 4:8], atol=1e-12)
    blurred = diffuse(FRAMES[0], {D: np.full(SHAPE, 0.1)}, threads=1)
    assert blurred.sum() == pytest.approx(FRAMES[0].sum())
