"""Finite transport of an image: a warp that conserves its sum, and a blur by diffusion.

A displacement u (x and y, in pixels) moves the point r to r + u(r): the image becomes I(r')/det(1 + ∂u), with
r' = r − v the point that arrives at r. This is model (M) for large unknowns;
`xmist.numerics.operators.transport` is its first order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.numerics.operators.derivatives import DX, DXX, DXY, DY, DYY, LAPLACIAN, derivative, jit
from xmist.numerics.operators.transport import D_XX, D_XY, D_YY, D
from xmist.numerics.parallel import for_blocks
from xmist.numerics.solvers.poisson import filtered, frequencies

Real = NDArray[Any]

_INVERSIONS: Final = 8
_INVERTED: Final = 1e-7  # pixels
# Derivative that acts on d M, how often it counts, and the largest symbol of the two together.
_DERIVATIVES: Final = {
    D: (LAPLACIAN, 1.0, 12.1),
    D_XX: (DXX, 1.0, 6.05),
    D_XY: (DXY, 2.0, 5.04),
    D_YY: (DYY, 1.0, 6.05),
}


@jit
def _fold_index(index, size):  # type: ignore[no-untyped-def]
    period = 2 * size
    index = index % period
    return index if index < size else period - 1 - index


@jit
def _splines(t, number):  # type: ignore[no-untyped-def]
    """120 times the quintic B-splines of the six knots around a point, t in [0, 1) behind the third."""
    one, two, five = number(1.0), number(2.0), number(5.0)
    s = one - t
    t2, s2 = t * t, s * s
    return (
        s2 * s2 * s,
        one + five * s * (one + s * (two + s * (two + s * (one - s)))),
        number(66.0) - (number(60.0) - (number(30.0) - five * two * t) * t2) * t2,
        number(66.0) - (number(60.0) - (number(30.0) - five * two * s) * s2) * s2,
        one + five * t * (one + t * (two + t * (two + t * (one - t)))),
        t2 * t2 * t,
    )


@jit
def _add_along(row, part, share, line):  # type: ignore[no-untyped-def]
    """Add the share of a row of coefficients to points that lie one pixel apart, but for a part of one."""
    for k in range(len(line)):
        a, b, c, d, e, f = _splines(part[k], line.dtype.type)
        line[k] += share[k] * (
            (a * row[k] + f * row[k + 5])
            + (b * row[k + 1] + e * row[k + 4])
            + (c * row[k + 2] + d * row[k + 3])
        )


@jit
def _sample_rows(coefficients, v, factor, out, start, stop):  # type: ignore[no-untyped-def]
    """Values of a quintic spline at r − v, times a factor.

    Where the whole part of the displacement is the same for many pixels of a row, as it is where v is smooth,
    the six coefficients of each of six rows stand one after the other: no gathering.
    """
    height, width = out.shape
    number = out.dtype.type
    part, folded = np.empty(width, out.dtype), np.empty(width + 5, out.dtype)
    first_y, first_x = np.empty(width, np.int64), np.empty(width, np.int64)
    share = np.empty((6, width), out.dtype)
    scale = number(1.0 / 14400.0)
    for y in range(start, stop):
        line = out[y]
        for x in range(width):
            place_y, place_x = y - np.float64(v[1, y, x]), x - np.float64(v[0, y, x])
            y0, x0 = math.floor(place_y), math.floor(place_x)
            part[x] = place_x - x0
            first_y[x], first_x[x] = y0 - 2, x0 - 2 - x
            a, b, c, d, e, f = _splines(number(place_y - y0), number)
            share[0, x], share[1, x], share[2, x], share[3, x], share[4, x], share[5, x] = a, b, c, d, e, f
            line[x] = number(0.0)
        begin = 0
        while begin < width:
            end = begin + 1
            while end < width and first_y[end] == first_y[begin] and first_x[end] == first_x[begin]:
                end += 1
            left, right = begin + first_x[begin], end + first_x[begin] + 5
            for i in range(6):
                row = coefficients[_fold_index(first_y[begin] + i, height)]
                if left < 0 or right > width:
                    for k in range(right - left):
                        folded[k] = row[_fold_index(left + k, width)]
                    _add_along(folded, part[begin:end], share[i, begin:end], line[begin:end])
                else:
                    _add_along(row[left:right], part[begin:end], share[i, begin:end], line[begin:end])
            begin = end
        for x in range(width):
            line[x] *= scale * factor[y, x]


@jit
def _invert_rows(u, v, start, stop):  # type: ignore[no-untyped-def]
    """Solve v(r) = u(r − v) by iteration, u linear between pixels; its error falls by |∇u| each time."""
    _, height, width = u.shape
    for y in range(start, stop):
        for x in range(width):
            v_x, v_y = np.float64(u[0, y, x]), np.float64(u[1, y, x])
            for _ in range(_INVERSIONS):
                place_y, place_x = y - v_y, x - v_x
                y0, x0 = math.floor(place_y), math.floor(place_x)
                t, s = place_y - y0, place_x - x0
                y1, x1 = y0 + 1, x0 + 1
                if y0 < 0 or x0 < 0 or y1 >= height or x1 >= width:
                    y0, y1 = _fold_index(y0, height), _fold_index(y1, height)
                    x0, x1 = _fold_index(x0, width), _fold_index(x1, width)
                a, b = (1.0 - t) * (1.0 - s), (1.0 - t) * s
                c, d = t * (1.0 - s), t * s
                new_x = a * u[0, y0, x0] + b * u[0, y0, x1] + c * u[0, y1, x0] + d * u[0, y1, x1]
                new_y = a * u[1, y0, x0] + b * u[1, y0, x1] + c * u[1, y1, x0] + d * u[1, y1, x1]
                change = abs(new_x - v_x) + abs(new_y - v_y)
                v_x, v_y = new_x, new_y
                if change < _INVERTED:
                    break
            v[0, y, x], v[1, y, x] = v_x, v_y


def spline_coefficients(image: Real, *, threads: int | None = None) -> Real:
    """Return the coefficients (y, x) of the quintic spline through an image, with the even mirror."""
    gains = [60.0 / (33.0 + 26.0 * np.cos(k) + np.cos(2 * k)) for k in frequencies(image.shape)]
    return filtered(image, *gains, threads=threads)


def sampled(
    coefficients: Real,
    back: Real,
    *,
    factor: Real | None = None,
    out: Real | None = None,
    threads: int | None = None,
) -> Real:
    """Return the values (y, x) of a quintic spline at r − v, times a factor (y, x).

    `coefficients` (y, x) of `spline_coefficients`; `back` (2, y, x): v along x and y in pixels.
    """
    result: Real = np.empty_like(coefficients) if out is None else out
    scale = np.ones_like(result) if factor is None else factor  # whole: another layout is another kernel
    for_blocks(
        lambda a, b: _sample_rows(coefficients, back, scale, result, a, b), result.shape[0], threads=threads
    )
    return result


@dataclass(frozen=True, eq=False)
class Warp:
    """A warp that conserves the sum of an image.

    `back` (2, y, x): v along x and y in pixels, what comes to r stood at r − v; `jacobian` (y, x): det ∂(r −
    v)/∂r.
    """

    back: Real
    jacobian: Real
    threads: int | None = None

    @classmethod
    def of(cls, displacement: Real, *, threads: int | None = None) -> Warp:
        """Prepare the warp by a displacement u (2, y, x) along x and y in pixels, smooth over a pixel."""
        u: Real = np.ascontiguousarray(displacement)
        back: Real = np.empty_like(u)
        for_blocks(lambda a, b: _invert_rows(u, back, a, b), u.shape[1], threads=threads)
        xx, xy = (derivative(back[0], kind, threads=threads) for kind in (DX, DY))
        yx, yy = (derivative(back[1], kind, threads=threads) for kind in (DX, DY))

        def determinant(a: int, b: int) -> None:
            xx[a:b] = (1.0 - xx[a:b]) * (1.0 - yy[a:b]) - xy[a:b] * yx[a:b]

        for_blocks(determinant, len(xx), threads=threads)
        return cls(back, xx, threads)

    def __call__(self, image: Real, *, factor: Real | None = None, out: Real | None = None) -> Real:
        """Return the warped image (y, x), by quintic splines, times `factor` instead of `jacobian`."""
        coefficients = spline_coefficients(image, threads=self.threads)
        scale = self.jacobian if factor is None else factor
        return sampled(coefficients, self.back, factor=scale, out=out, threads=self.threads)


def diffuse(
    image: Real, fields: dict[int, Real], *, overwrite: bool = False, threads: int | None = None
) -> Real:
    """Return an image (y, x) blurred by ∂I/∂s = Σ_ij ∂_i∂_j (d_ij I) from s = 0 to 1, in explicit steps.

    `fields`: d by `D`, or its elements by `D_XX`, `D_XY` and `D_YY` of `transport`, (y, x) in pixels².
    """
    largest = sum(_DERIVATIVES[kind][2] * float(np.abs(field).max()) for kind, field in fields.items())
    steps = max(1, math.ceil(largest))
    out, product = image if overwrite else image.copy(), np.empty_like(image)
    changes = {kind: np.empty_like(image) for kind in fields}
    number = image.dtype.type

    def multiply(field: Real, start: int, stop: int) -> None:
        np.multiply(field[start:stop], out[start:stop], out=product[start:stop])

    def add(start: int, stop: int) -> None:
        for kind, change in changes.items():
            out[start:stop] += number(_DERIVATIVES[kind][1] / steps) * change[start:stop]

    for _ in range(steps if largest > 0.0 else 0):
        for kind, field in fields.items():
            for_blocks(partial(multiply, field), len(out), threads=threads)
            derivative(product, _DERIVATIVES[kind][0], out=changes[kind], threads=threads)
        for_blocks(add, len(out), threads=threads)
    return out
