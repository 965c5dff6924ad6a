import numpy as np
import pytest
import scipy.ndimage as ndi

from xmist.numerics.operators import derivatives
from xmist.numerics.operators.derivatives import DX, DXX, DXY, DY, DYY, LAPLACIAN, VALUE, derivative

FIRST = np.array([-1, 9, -45, 0, 45, -9, 1]) / 60.0
SECOND = np.array([2, -27, 270, -490, 270, -27, 2]) / 180.0


def _filtered(frame, kind):
    def along(image, weights, axis):
        return ndi.correlate1d(image, weights, axis=axis, mode="reflect")

    return {
        VALUE: lambda: frame,
        DX: lambda: along(frame, FIRST, 1),
        DY: lambda: along(frame, FIRST, 0),
        DXX: lambda: along(frame, SECOND, 1),
        DYY: lambda: along(frame, SECOND, 0),
        DXY: lambda: along(along(frame, FIRST, 0), FIRST, 1),
        LAPLACIAN: lambda: along(frame, SECOND, 1) + along(frame, SECOND, 0),
    }[kind]()


@pytest.mark.parametrize("kind", range(7))
@pytest.mark.parametrize("shape", [(7, 7), (70, 31), (9, 130)])
def test_equals_a_mirrored_filter(kind, shape):
    frame = np.random.default_rng(1).normal(size=shape)
    # Round-off: coefficients of order 1, values of order 1, some twenty terms.
    assert np.abs(derivative(frame, kind) - _filtered(frame, kind)).max() <= 1e-13
    single = derivative(frame.astype(np.float32), kind)
    assert single.dtype == np.float32
    assert np.abs(single - _filtered(frame, kind)).max() <= 2e-5


@pytest.mark.parametrize("kind", [DX, DY, DXX, DYY, DXY, LAPLACIAN])
def test_sixth_order_convergence(kind):
    errors = []
    for size in (24, 48):
        y, x = ((np.arange(n) + 0.5) / size for n in (size, 2 * size))
        y, x = y[:, None], x[None, :]
        a, b = 3 * np.pi, 2 * np.pi  # zero normal derivative at y, x = 0 and y = 1, x = 2
        u = np.cos(a * y) * np.cos(b * x)
        exact = {
            DX: -b * np.cos(a * y) * np.sin(b * x),
            DY: -a * np.sin(a * y) * np.cos(b * x),
            DXX: -(b**2) * u,
            DYY: -(a**2) * u,
            DXY: a * b * np.sin(a * y) * np.sin(b * x),
            LAPLACIAN: -(a**2 + b**2) * u,
        }[kind]
        order = 1 if kind in (DX, DY) else 2
        errors.append(np.abs(derivative(u, kind) * size**order - exact).max())
    assert np.log2(errors[0] / errors[1]) >= 5.8


def test_constant_frame_gives_exactly_zero():
    frame = np.full((20, 30), 1.2345, np.float32)
    for kind in (DX, DY, DXX, DYY, DXY, LAPLACIAN):
        assert not derivative(frame, kind).any()


def test_tiles_of_a_row_join_without_a_seam():
    frame = np.random.default_rng(2).normal(size=(9, 100))
    for kind in range(7):
        whole = derivative(frame, kind)[4]
        padded = np.empty(40 + 2 * derivatives.RADIUS)
        out = np.empty(40)
        for x0, width in ((0, 40), (40, 40), (80, 20)):
            derivatives.row_derivative(kind, frame, 4, x0, width, out, padded)
            assert np.array_equal(out[:width], whole[x0 : x0 + width])


def test_bits_do_not_depend_on_threads():
    frame = np.random.default_rng(3).normal(size=(200, 50)).astype(np.float32)
    for kind in range(7):
        assert np.array_equal(derivative(frame, kind, threads=1), derivative(frame, kind, threads=8))
