import itertools

import numpy as np
import pytest

from tests.manufactured import blob, speckle
from xmist.numerics.operators.transport import D_XX, D_XY, D_YY, LOG_T, PSI, D, Transport
from xmist.numerics.reduce import dot
from xmist.numerics.solvers.preconditioner import (
    Moments,
    Prior,
    block_preconditioner,
    expected_block,
    moments,
)
from xmist.numerics.solvers.whole_image import Solver


def test_dot_is_summed_in_float64_and_independent_of_threads():
    a, b = (np.random.default_rng(seed).normal(size=(3, 130, 41)).astype(np.float32) for seed in (1, 2))
    exact = (a.astype(np.longdouble) * b).sum()
    assert abs(dot(a, b) - exact) <= 1e-12 * np.abs(a * b).sum()
    assert dot(a, b, threads=1) == dot(a, b, threads=8)


def test_moments():
    frames = speckle(np.random.default_rng(3), 2, (60, 70))
    weights = np.random.default_rng(4).uniform(size=frames.shape)
    found = moments(frames, weights)
    assert np.isclose(found.value, (weights * frames**2).mean(axis=(1, 2)).sum())
    plain, one = moments(frames), moments(frames, np.ones_like(frames))
    assert plain == one
    # ⟨M ∇²M⟩ = −⟨|∇M|²⟩ by Green's identity, to the stencils' order and the border.
    assert found.curvature > 0
    assert moments(frames, threads=1) == moments(frames, threads=8)


def test_blocks_are_the_symbols_of_the_method():
    moment = Moments(1.3, 0.2, 0.4)
    shape = (64, 64)
    block = expected_block((PSI, D), moment, shape)
    for ky, kx in itertools.product((1, 3), (0, 2)):
        k2 = (np.pi / 64) ** 2 * (ky**2 + kx**2)
        # METHODS' symbols for small κ; stencils differ from κ² by κ²/12 relative.
        expected = [
            moment.value * k2**2 + 0.5 * moment.slope * k2,
            -moment.value * k2**2 - 2 * moment.slope * k2,
            moment.value * k2**2 + 4 * moment.slope * k2 + moment.curvature,
        ]
        found = block[ky, kx][[0, 1, 1], [0, 0, 1]]
        assert np.allclose(found, expected, rtol=k2)


@pytest.mark.parametrize("kinds", [(PSI,), (PSI, D), (PSI, D, LOG_T), (PSI, D_XX, D_XY, D_YY, LOG_T)])
def test_blocks_predict_the_operator(kinds):
    """The mean of ⟨c, AᵀA c⟩ over cosines in random frames is the block's diagonal."""
    shape = (96, 96)
    frames = speckle(np.random.default_rng(5), 12, shape)
    block = expected_block(kinds, moments(frames), shape)
    y, x = (np.arange(n) + 0.5 for n in shape)
    transport = Transport(frames=frames, kinds=kinds)
    for ky, kx in ((9, 14), (40, 31)):
        cosine = np.cos(np.pi * ky * y / 96)[:, None] * np.cos(np.pi * kx * x / 96)
        cosine /= np.sqrt((cosine**2).sum())
        for i in range(len(kinds)):
            fields = np.zeros((len(kinds), *shape))
            fields[i] = cosine
            energy = (transport.forward(fields) ** 2).sum()
            # Twelve frames of some hundred speckles each: a few per cent; isotropic speckle is assumed.
            assert abs(energy / block[ky, kx, i, i] - 1) < 0.15


@pytest.mark.parametrize("kinds", [(PSI, D), (PSI, D_XX, D_XY, D_YY, LOG_T)])
def test_preconditioner_is_symmetric_and_inverts_its_blocks(kinds):
    shape = (20, 33)
    apply = block_preconditioner(
        kinds,
        Moments(2.0, 0.1, 0.05),
        shape,
        priors=(Prior(), *[Prior(strength=1.0, floor=1e-3)] * (len(kinds) - 1)),
        threads=2,
    )
    a, b = (np.random.default_rng(seed).normal(size=(len(kinds), *shape)) for seed in (6, 7))
    assert np.isclose(dot(a, apply(b)), dot(apply(a), b), rtol=1e-10)
    assert dot(a, apply(a)) > 0
    assert apply(a)[0, 0, 0] == 0.0


def _solve(frames, data, kinds, alpha=0.0, dtype=np.float64, **options):
    frames, data = frames.astype(dtype), data.astype(dtype)
    transport = Transport(frames=frames, kinds=kinds)
    priors = tuple(Prior(strength=alpha if kind == D else 0.0) for kind in kinds)
    return Solver(transport, priors)(data, negligible=lambda objective: 0.0, **options)


@pytest.mark.parametrize(("dtype", "bound"), [(np.float64, 1e-5), (np.float32, 1e-4)])
def test_model_consistent_images_come_back(dtype, bound):
    shape = (96, 128)
    frames = speckle(np.random.default_rng(8), 8, shape)
    psi, d = -6 * blob(shape, 0.45, 0.4, 0.2), 0.25 * blob(shape, 0.4, 0.55, 0.15)
    psi -= psi.mean()
    data = Transport(frames=frames, kinds=(PSI, D)).forward(np.stack([psi, d]))
    found, how = _solve(frames, data, (PSI, D), dtype=dtype, relative=1e-12)
    assert how.converged
    assert how.iterations <= 100
    assert np.abs(found[0] - psi).max() <= bound * np.abs(psi).max()
    assert np.abs(found[1] - d).max() <= 10 * bound * np.abs(d).max()


def test_objective_is_the_residual_and_falls():
    shape = (48, 50)
    frames = speckle(np.random.default_rng(9), 4, shape)
    data = 0.01 * np.random.default_rng(10).normal(size=frames.shape)
    found, how = _solve(frames, data, (PSI, D), limit=12, relative=0.0)
    residual = data - Transport(frames=frames, kinds=(PSI, D)).forward(found)
    assert np.isclose(how.objective[-1], (residual**2).sum(), rtol=1e-10)
    assert np.all(np.diff(how.objective) < 0)
    assert how.iterations == 12
    assert not how.converged


def test_warm_start_continues():
    shape = (48, 50)
    frames = speckle(np.random.default_rng(11), 6, shape)
    data = 0.01 * np.random.default_rng(12).normal(size=frames.shape)
    cold, how = _solve(frames, data, (PSI, D), relative=1e-12)
    warm, again = _solve(frames, data, (PSI, D), relative=1e-12, start=cold.copy())
    assert again.iterations <= 8 < how.iterations
    assert np.allclose(warm, cold, rtol=0, atol=1e-5 * np.abs(cold).max())


def test_nothing_to_solve():
    frames = speckle(np.random.default_rng(13), 2, (16, 17))
    found, how = _solve(frames, np.zeros_like(frames), (PSI, D))
    assert not found.any()
    assert how.converged
    assert how.iterations == 0


def test_what_nothing_determines_stays_at_0():
    """Constant references say nothing about d: no division by 0, and no value."""
    apply = block_preconditioner((PSI, D), Moments(2.0, 0.0, 0.0), (12, 13), priors=(Prior(), Prior()))
    assert np.isfinite(apply.inverse).all()
    assert apply(np.ones((2, 12, 13)))[1, 0, 0] == 0.0


def test_a_solver_is_used_again():
    shape = (40, 50)
    frames = speckle(np.random.default_rng(14), 3, shape)
    data = 0.01 * np.random.default_rng(15).normal(size=(2, *frames.shape))
    priors = (Prior(), Prior(strength=1.0))
    transport = Transport(frames=frames, kinds=(PSI, D))
    solver = Solver(transport, priors)
    options = {"negligible": lambda objective: 0.0, "limit": 10, "relative": 0.0}
    first = [solver(images, **options)[0] for images in data]
    for images, found in zip(data, first, strict=True):
        assert np.array_equal(Solver(transport, priors)(images, **options)[0], found)
