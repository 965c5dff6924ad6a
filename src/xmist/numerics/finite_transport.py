"""Finite transport of an image: a warp that conserves its sum, and a blur by diffusion.

A displacement u (x and y, in pixels) carries what stands at r to r + u(r): the image becomes
I(r')/det(1 + ∂u), r' = r − v the point that comes to r. Both fields of unknowns of model (M) thus act at full
strength, where `xmist.numerics.transport` has their first order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

from xmist.numerics.derivatives import DX, DXX, DXY, DY, DYY, LAPLACIAN, derivative, jit
from xmist.numerics.parallel import for_blocks
from xmist.numerics.transport import D_XX, D_XY, D_YY, D

Real = NDArray[Any]

_DEGREE: Final = 5
_INVERSIONS: Final = 6
# Derivative that acts on d M, how often it counts, and the largest symbol of the two together.
_DERIVATIVES: Final = {
    D: (LAPLACIAN, 1.0, 12.1),
    D_XX: (DXX, 1.0, 6.05),
    D_XY: (DXY, 2.0, 5.04),
    D_YY: (DYY, 1.0, 6.05),
}


@jit
def _quintic(t, weights):  # type: ignore[no-untyped-def]
    """Values of the six quintic B-splines that reach a point, t in [0, 1) from a knot (de Boor)."""
    weights[0] = 1.0
    for degree in range(1, 6):
        saved = 0.0
        for i in range(degree):
            left, right = i + 1 - t, t + degree - 1 - i
            share = weights[i] / degree
            weights[i] = saved + left * share
            saved = right * share
        weights[degree] = saved


@jit
def _fold_index(index, size):  # type: ignore[no-untyped-def]
    period = 2 * size
    index = index % period
    return index if index < size else period - 1 - index


@jit
def _sample_rows(coefficients, v, jacobian, out, start, stop):  # type: ignore[no-untyped-def]
    height, width = out.shape
    w_y, w_x = np.empty(6), np.empty(6)
    for y in range(start, stop):
        for x in range(width):
            place_y, place_x = y - np.float64(v[1, y, x]), x - np.float64(v[0, y, x])
            y0, x0 = math.floor(place_y), math.floor(place_x)
            _quintic(place_y - y0, w_y)
            _quintic(place_x - x0, w_x)
            total = 0.0
            if y0 >= 2 and x0 >= 2 and y0 < height - 3 and x0 < width - 3:
                for i in range(6):
                    row = coefficients[y0 - 2 + i]
                    part = 0.0
                    for j in range(6):
                        part += w_x[j] * row[x0 - 2 + j]
                    total += w_y[i] * part
            else:
                for i in range(6):
                    row = coefficients[_fold_index(y0 - 2 + i, height)]
                    part = 0.0
                    for j in range(6):
                        part += w_x[j] * row[_fold_index(x0 - 2 + j, width)]
                    total += w_y[i] * part
            out[y, x] = total * jacobian[y, x]


@jit
def _bilinear(image, place_y, place_x):  # type: ignore[no-untyped-def]
    height, width = image.shape
    y0, x0 = math.floor(place_y), math.floor(place_x)
    t, s = place_y - y0, place_x - x0
    a, b = _fold_index(y0, height), _fold_index(y0 + 1, height)
    c, d = _fold_index(x0, width), _fold_index(x0 + 1, width)
    return (1.0 - t) * ((1.0 - s) * image[a, c] + s * image[a, d]) + t * (
        (1.0 - s) * image[b, c] + s * image[b, d]
    )


@jit
def _invert_rows(u, repeats, v, start, stop):  # type: ignore[no-untyped-def]
    width = u.shape[2]
    for y in range(start, stop):
        for x in range(width):
            v_x, v_y = np.float64(u[0, y, x]), np.float64(u[1, y, x])
            for _ in range(repeats):
                new_x = _bilinear(u[0], y - v_y, x - v_x)
                v_y = _bilinear(u[1], y - v_y, x - v_x)
                v_x = new_x
            v[0, y, x], v[1, y, x] = v_x, v_y


@dataclass(frozen=True, eq=False)
class Warp:
    """A warp that conserves the sum of an image.

    Parameters
    ----------
    back : (2, y, x) float64 array
        v along x and y in pixels: what comes to r stood at r − v.
    jacobian : (y, x) float64 array
        det ∂(r − v)/∂r.
    threads : int, optional
        Threads; no result depends on it.
    """

    back: Real
    jacobian: Real
    threads: int | None = None

    @classmethod
    def of(cls, displacement: Real, *, threads: int | None = None) -> Warp:
        """Prepare the warp by a displacement.

        Parameters
        ----------
        displacement : (2, y, x) float array
            u along x and y in pixels, smooth over a pixel.
        threads : int, optional
            Threads.

        Examples
        --------
        >>> warp = Warp.of(np.zeros((2, 16, 18)))
        >>> image = np.random.default_rng(1).uniform(1, 2, (16, 18))
        >>> bool(np.allclose(warp(image), image, atol=1e-12))
        True
        """
        u: Real = np.ascontiguousarray(displacement, np.float64)
        back: Real = np.empty_like(u)
        for_blocks(lambda a, b: _invert_rows(u, _INVERSIONS, back, a, b), u.shape[1], threads=threads)
        xx, xy = (derivative(back[0], kind, threads=threads) for kind in (DX, DY))
        yx, yy = (derivative(back[1], kind, threads=threads) for kind in (DX, DY))
        return cls(back, (1.0 - xx) * (1.0 - yy) - xy * yx, threads)

    def __call__(self, image: Real) -> Real:
        """Give the warped image in float64; quintic splines, even mirror. The image is not modified."""
        coefficients = scipy.ndimage.spline_filter(image, _DEGREE, output=np.float64, mode="reflect")
        out: Real = np.empty_like(self.jacobian)
        for_blocks(
            lambda a, b: _sample_rows(coefficients, self.back, self.jacobian, out, a, b),
            out.shape[0],
            threads=self.threads,
        )
        return out


def diffuse(image: Real, fields: dict[int, Real], *, threads: int | None = None) -> Real:
    """Blur an image: ∂I/∂s = Σ_ij ∂_i∂_j (d_ij I) from s = 0 to 1.

    Parameters
    ----------
    image : (y, x) float64 array
        Not modified.
    fields : dict of int to (y, x) array
        d by `D`, or its elements by `D_XX`, `D_XY` and `D_YY` of `xmist.numerics.transport`, in pixels².
    threads : int, optional
        Threads; the result does not depend on it.

    Returns
    -------
    (y, x) float64 array
        The blurred image; explicit steps, as many as stability asks for.

    Examples
    --------
    >>> image = np.random.default_rng(1).uniform(1, 2, (16, 18))
    >>> blurred = diffuse(image, {D: np.full(image.shape, 0.2)})
    >>> bool(np.isclose(blurred.sum(), image.sum())), bool(blurred.std() < image.std())
    (True, True)
    """
    largest = sum(_DERIVATIVES[kind][2] * float(np.abs(field).max()) for kind, field in fields.items())
    steps = max(1, math.ceil(largest))
    out = np.array(image, np.float64)
    for _ in range(steps if largest > 0.0 else 0):
        change = np.zeros_like(out)
        for kind, field in fields.items():
            which, factor, _ = _DERIVATIVES[kind]
            change += factor * derivative(field * out, which, threads=threads)
        out += change / steps
    return out
