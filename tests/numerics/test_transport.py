import numpy as np
import pytest
import scipy.ndimage as ndi

from xmist.numerics.operators import plain_transport
from xmist.numerics.operators.transport import D_XX, D_XY, D_YY, LOG_T, PSI, D, Transport
from xmist.numerics.solvers.preconditioner import moments, moments_of

SETS = [(PSI,), (PSI, D), (PSI, D, LOG_T), (PSI, D_XX, D_XY, D_YY), (PSI, D_XX, D_XY, D_YY, LOG_T)]


def _random(shape, seed):
    return np.random.default_rng(seed).normal(size=shape)


@pytest.mark.parametrize("kinds", SETS)
@pytest.mark.parametrize("shape", [(7, 9), (70, 41)])
@pytest.mark.parametrize("weighted", [False, True])
def test_adjoint_and_normal_operator(kinds, shape, weighted):
    frames = 2 + 0.3 * _random((3, *shape), 1)
    weights = np.random.default_rng(2).uniform(size=frames.shape) if weighted else None
    transport = Transport(frames=frames, kinds=kinds, weights=weights)
    fields, images = _random((len(kinds), *shape), 3), _random(frames.shape, 4)
    forward, w = transport.forward(fields), 1.0 if weights is None else weights
    left, right = (w * forward * images).sum(), (fields * transport.adjoint(images)).sum()
    assert abs(left - right) <= 1e-12 * np.abs(forward * images).sum()
    assert np.allclose(transport.normal(fields), transport.adjoint(forward), rtol=0, atol=1e-10)
    operator = transport.normal_operator()
    assert np.allclose(operator(fields), transport.normal(fields), rtol=0, atol=1e-10)
    found, expected = moments_of(operator), moments(frames, weights)
    assert np.isclose(found.value, expected.value, rtol=1e-12)
    assert np.isclose(found.slope, expected.slope, rtol=1e-12)
    if set(kinds) & {D, D_XX}:
        assert np.isclose(found.curvature, expected.curvature, rtol=1e-12)


@pytest.mark.parametrize("kinds", SETS)
@pytest.mark.parametrize("shape", [(7, 9), (70, 41)])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_kernel_is_the_plain_operator(kinds, shape, weighted):
    frames = 2 + 0.3 * _random((3, *shape), 1)
    weights = np.random.default_rng(2).uniform(size=frames.shape) if weighted else None
    transport = Transport(frames=frames, kinds=kinds, weights=weights)
    fields, images = _random((len(kinds), *shape), 3), _random(frames.shape, 4)
    w = 1.0 if weights is None else weights
    forward = plain_transport.forward(frames, kinds, fields)
    # Sums of some 50 products of size 10, each rounded by 1e-16 of it.
    assert np.allclose(transport.forward(fields), forward, rtol=0, atol=1e-12)
    assert np.allclose(
        transport.adjoint(images), plain_transport.adjoint(frames, kinds, w * images), rtol=0, atol=1e-12
    )
    assert np.allclose(
        transport.normal(fields), plain_transport.adjoint(frames, kinds, w * forward), rtol=0, atol=1e-10
    )


def _smooth(size):
    """A frame and unknowns of zero normal derivative, with the exact derivatives by their cosines."""
    y, x = ((np.arange(n) + 0.5) / size for n in (size, 2 * size))
    y, x = y[:, None], x[None, :]

    def cosines(a, b):
        ky, kx = np.pi * a, np.pi * b / 2
        value = np.cos(ky * y) * np.cos(kx * x)
        return {
            "0": value,
            "x": -kx * np.cos(ky * y) * np.sin(kx * x),
            "y": -ky * np.sin(ky * y) * np.cos(kx * x),
            "xx": -(kx**2) * value,
            "yy": -(ky**2) * value,
            "xy": kx * ky * np.sin(ky * y) * np.sin(kx * x),
        }

    m, u = cosines(4, 6), cosines(2, 3)
    m = {key: 0.3 * value + (key == "0") for key, value in m.items()}
    return m, u


def _exact(kind, m, u):
    if kind == LOG_T:
        return m["0"] * u["0"]
    if kind == PSI:
        return -(m["0"] * (u["xx"] + u["yy"]) + m["x"] * u["x"] + m["y"] * u["y"])
    second = {
        "xx": m["0"] * u["xx"] + 2 * m["x"] * u["x"] + m["xx"] * u["0"],
        "yy": m["0"] * u["yy"] + 2 * m["y"] * u["y"] + m["yy"] * u["0"],
        "xy": m["0"] * u["xy"] + m["x"] * u["y"] + m["y"] * u["x"] + m["xy"] * u["0"],
    }
    return {
        D: second["xx"] + second["yy"],
        D_XX: second["xx"],
        D_YY: second["yy"],
        D_XY: 2 * second["xy"],
    }[kind]


@pytest.mark.parametrize("kind", [PSI, D, D_XX, D_XY, D_YY])
def test_second_order_convergence_to_the_equation(kind):
    errors = []
    for size in (32, 64, 128):
        m, u = _smooth(size)
        found = Transport(frames=m["0"][None], kinds=(kind,)).forward(u["0"][None])[0] * size**2
        exact = _exact(kind, m, u)
        errors.append(np.abs(found - exact).max() / np.abs(exact).max())
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert np.all(np.abs(orders - 2.0) <= 0.1)


def test_isotropic_tensor_is_the_scalar():
    frames = 2 + 0.3 * _random((2, 30, 40), 5)
    d = ndi.gaussian_filter(_random((30, 40), 6), 2)
    scalar = Transport(frames=frames, kinds=(D,)).forward(d[None])
    tensor = Transport(frames=frames, kinds=(D_XX, D_XY, D_YY)).forward(np.stack([d, 0 * d, d]))
    assert np.allclose(scalar, tensor, rtol=0, atol=1e-12 * np.abs(scalar).max() * 100)


def test_log_transmission_is_the_identity_on_the_frames():
    frames = 2 + 0.3 * _random((2, 12, 13), 7)
    assert np.allclose(Transport(frames=frames, kinds=(LOG_T,)).forward(np.ones((1, 12, 13))), frames)


def test_bits_do_not_depend_on_threads():
    frames = (2 + 0.3 * _random((3, 150, 40), 8)).astype(np.float32)
    fields = _random((3, 150, 40), 9).astype(np.float32)

    def run(threads):
        transport = Transport(frames=frames, kinds=(PSI, D, LOG_T), threads=threads)
        images = transport.normal(fields), transport.forward(fields), transport.adjoint(frames)
        return *images, transport.normal_operator()(fields)

    one = run(1)
    for threads in (2, 8):
        assert all(np.array_equal(a, b) for a, b in zip(one, run(threads), strict=True))
