import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xmist.numerics.operators import stencils

SHAPES = [(2, 2), (3, 5), (33, 50), (130, 67)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("operator", "adjoint", "inputs", "outputs"),
    [
        (stencils.gradient, lambda v: -stencils.divergence(v), (), (2,)),
        (stencils.divergence, lambda u: -stencils.gradient(u), (2,), ()),
        (stencils.laplacian, stencils.laplacian, (), ()),
    ],
)
def test_adjoint_identity(shape, operator, adjoint, inputs, outputs):
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=inputs + shape), rng.normal(size=outputs + shape)
    left, right = np.vdot(operator(x), y), np.vdot(x, adjoint(y))
    # Round-off of a sum of products, relative to its terms' sum.
    assert abs(left - right) <= 1e-12 * np.abs(operator(x) * y).sum()


def _field(size):
    """A field of zero normal derivative at the pixel edges 0 and 1, with its derivatives."""
    y, x = (np.arange(n) + 0.5 for n in (size, 2 * size))
    y, x = y[:, None] / size, x[None, :] / (2 * size)
    a, b = 2 * np.pi, 3 * np.pi
    u = np.cos(a * y) * np.cos(b * x)
    return {
        "x": -b * np.cos(a * y) * np.sin(b * x) / (2 * size),
        "y": -a * np.sin(a * y) * np.cos(b * x) / size,
        "laplacian": -u * ((a / size) ** 2 + (b / (2 * size)) ** 2),
    }, u


@pytest.mark.parametrize("name", ["x", "y", "laplacian"])
def test_second_order_convergence(name):
    errors = []
    for size in (32, 64, 128):
        exact, u = _field(size)
        found = {
            "x": lambda u: stencils.gradient(u)[0],
            "y": lambda u: stencils.gradient(u)[1],
            "laplacian": stencils.laplacian,
        }[name](u)
        errors.append(np.abs(found - exact[name]).max() / np.abs(exact[name]).max())
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert np.all(np.abs(orders - 2.0) <= 0.1)


@given(st.integers(2, 12), st.integers(2, 12), st.floats(-1e3, 1e3))
def test_constant_has_no_derivative(height, width, value):
    image = np.full((height, width), value)
    for operator in (stencils.gradient, stencils.laplacian):
        assert not operator(image).any()


def test_divergence_conserves_flux():
    # No flux through the border: the sum telescopes to round-off.
    v = np.random.default_rng(2).normal(size=(2, 40, 30))
    assert abs(stencils.divergence(v).sum()) <= 1e-12 * np.abs(v).sum()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bits_do_not_depend_on_threads(dtype):
    image = np.random.default_rng(3).normal(size=(300, 41)).astype(dtype)
    for operator in (stencils.gradient, stencils.laplacian):
        one = operator(image, threads=1)
        assert one.dtype == dtype
        for threads in (2, 8):
            assert np.array_equal(one, operator(image, threads=threads))


def test_scale_of_the_gradient():
    image = np.random.default_rng(4).normal(size=(9, 11))
    assert np.allclose(stencils.gradient(image, scale=3.0), 3.0 * stencils.gradient(image), rtol=1e-14)
