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

from xmist.numerics.compiled import fixed, jit
from xmist.numerics.images.blocks import binned
from xmist.numerics.operators.derivatives import DX, DXX, DXY, DY, DYY, LAPLACIAN, derivative, folded
from xmist.numerics.operators.transport import D_XX, D_XY, D_YY, D
from xmist.numerics.parallel import for_blocks
from xmist.numerics.solvers.poisson import frequencies

Real = NDArray[Any]

_RUN: Final = 64  # points that are sampled together
_ROOM: Final = _RUN + 8  # for the coefficients of a row around them
_FILTERED: Final = 32  # lines that are filtered together
# Of the quintic B-spline: roots of z² + 26 z + 66 + 26/z + 1/z² inside the unit circle.
_POLES: Final = (-0.43057534709997379, -0.043096288203264654)
_MEMORY: Final = 40  # pixels after which the filter has forgotten, to 1e-15
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
def _spread_across(part, shares):  # type: ignore[no-untyped-def]
    """Store the splines of each point, one kind after the other."""
    for k in range(len(part)):
        a, b, c, d, e, f = _splines(part[k], part.dtype.type)
        shares[k], shares[_RUN + k], shares[2 * _RUN + k] = a, b, c
        shares[3 * _RUN + k], shares[4 * _RUN + k], shares[5 * _RUN + k] = d, e, f


@jit
def _spread_down(part, later, shares):  # type: ignore[no-untyped-def]
    """Store the splines of each point for seven rows: 0 in the last, or where it is later in the first."""
    zero = part.dtype.type(0.0)
    for k in range(len(part)):
        a, b, c, d, e, f = _splines(part[k], part.dtype.type)
        one = later[k] > 0
        shares[k] = zero if one else a
        shares[_RUN + k] = a if one else b
        shares[2 * _RUN + k] = b if one else c
        shares[3 * _RUN + k] = c if one else d
        shares[4 * _RUN + k] = d if one else e
        shares[5 * _RUN + k] = e if one else f
        shares[6 * _RUN + k] = f if one else zero


@jit
def _along(across, rows, k, j, later):  # type: ignore[no-untyped-def]
    one = later[k] > 0
    r_0, r_1, r_2, r_3 = rows[j], rows[j + 1], rows[j + 2], rows[j + 3]
    r_4, r_5, r_6 = rows[j + 4], rows[j + 5], rows[j + 6]
    return (
        (across[k] * (r_1 if one else r_0) + across[5 * _RUN + k] * (r_6 if one else r_5))
        + (across[_RUN + k] * (r_2 if one else r_1) + across[4 * _RUN + k] * (r_5 if one else r_4))
        + (across[2 * _RUN + k] * (r_3 if one else r_2) + across[3 * _RUN + k] * (r_4 if one else r_3))
    )


@jit
def _mix(rows, across, down, later, line):  # type: ignore[no-untyped-def]
    """Values of points that lie a pixel apart, but for a part of one, from seven rows of coefficients.

    Constant distances within few arrays, and no inner loop, so that the compiler vectorises.
    """
    for k in range(len(line)):
        value = down[k] * _along(across, rows, k, k, later)
        value += down[_RUN + k] * _along(across, rows, k, _ROOM + k, later)
        value += down[2 * _RUN + k] * _along(across, rows, k, 2 * _ROOM + k, later)
        value += down[3 * _RUN + k] * _along(across, rows, k, 3 * _ROOM + k, later)
        value += down[4 * _RUN + k] * _along(across, rows, k, 4 * _ROOM + k, later)
        value += down[5 * _RUN + k] * _along(across, rows, k, 5 * _ROOM + k, later)
        value += down[6 * _RUN + k] * _along(across, rows, k, 6 * _ROOM + k, later)
        line[k] = value


@jit
def _place(y, back, part, whole):  # type: ignore[no-untyped-def]
    for x in range(len(back)):
        place = y - np.float64(back[x])
        floor = math.floor(place)
        part[x], whole[x] = place - floor, floor


@jit
def _place_across(back, part, whole):  # type: ignore[no-untyped-def]
    for x in range(len(back)):
        place = x - np.float64(back[x])
        floor = math.floor(place)
        part[x], whole[x] = place - floor, floor - x


@jit
def _copy_rows(coefficients, top, left, number, rows):  # type: ignore[no-untyped-def]
    """Copy seven rows of coefficients, with the even mirror."""
    height, width = coefficients.shape
    for i in range(7):
        row, copy = coefficients[folded(top + i, height)], rows[i * _ROOM : i * _ROOM + number]
        if left >= 0 and left + number <= width:
            inner = row[left : left + number]
            for k in range(number):
                copy[k] = inner[k]
        else:
            for k in range(number):
                copy[k] = row[folded(left + k, width)]


@jit
def _least_and_most(values):  # type: ignore[no-untyped-def]
    least = most = values[0]
    for k in range(len(values)):
        least, most = min(least, values[k]), max(most, values[k])
    return least, most


@jit
def _end_of_run(whole_y, whole_x, begin):  # type: ignore[no-untyped-def]
    """Return the end of a run of points whose whole parts differ by at most 1, and the least of them."""
    end = min(begin + _RUN, len(whole_y))
    top, low = _least_and_most(whole_y[begin:end])
    left, right = _least_and_most(whole_x[begin:end])
    if low <= top + 1 and right <= left + 1:
        return end, top, left
    top, left, most, end = whole_y[begin], whole_x[begin], end, begin + 1
    low, right = top, left
    while end < most:
        low, right = max(low, whole_y[end]), max(right, whole_x[end])
        new_top, new_left = min(top, whole_y[end]), min(left, whole_x[end])
        if low > new_top + 1 or right > new_left + 1:
            break
        top, left, end = new_top, new_left, end + 1
    return end, top, left


@jit
def _sample_rows(coefficients, v, factor, out, start, stop):  # type: ignore[no-untyped-def]
    """Values of quintic splines (number, y, x) at r − v, that of the first times a factor.

    Where v is smooth, the coefficients of many pixels of a row stand one after the other: no gathering.
    """
    images, _, width = out.shape
    number = out.dtype.type
    part_y, part_x = np.empty(width, out.dtype), np.empty(width, out.dtype)  # unpacked, they count as strided
    first_y, first_x = np.empty(width, np.int64), np.empty(width, np.int64)
    across, down = np.empty(6 * _RUN, out.dtype), np.empty(7 * _RUN, out.dtype)
    later_y, later_x = np.empty(_RUN, out.dtype), np.empty(_RUN, out.dtype)
    rows = np.empty(7 * _ROOM, out.dtype)
    scale = number(1.0 / 14400.0)
    for y in range(start, stop):
        _place(y, v[1][y], part_y, first_y)
        _place_across(v[0][y], part_x, first_x)
        begin = 0
        while begin < width:
            end, top, left = _end_of_run(first_y, first_x, begin)
            for k in range(end - begin):
                later_y[k], later_x[k] = first_y[begin + k] - top, first_x[begin + k] - left
            _spread_across(part_x[begin:end], across)
            _spread_down(part_y[begin:end], later_y, down)
            for n in range(images):
                _copy_rows(coefficients[n], top - 2, begin + left - 2, end - begin + 6, rows)
                _mix(rows, across, down, later_x, out[n][y][begin:end])
            begin = end
        for n in range(images):
            line = out[n][y]
            if n == 0:
                for x in range(width):
                    line[x] *= scale * factor[y, x]
            else:
                for x in range(width):
                    line[x] *= scale


@jit
def _invert_rows(u, v, accuracy, start, stop):  # type: ignore[no-untyped-def]
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
                    y0, y1 = folded(y0, height), folded(y1, height)
                    x0, x1 = folded(x0, width), folded(x1, width)
                a, b = (1.0 - t) * (1.0 - s), (1.0 - t) * s
                c, d = t * (1.0 - s), t * s
                new_x = a * u[0, y0, x0] + b * u[0, y0, x1] + c * u[0, y1, x0] + d * u[0, y1, x1]
                new_y = a * u[1, y0, x0] + b * u[1, y0, x1] + c * u[1, y1, x0] + d * u[1, y1, x1]
                change = abs(new_x - v_x) + abs(new_y - v_y)
                v_x, v_y = new_x, new_y
                if change < accuracy:
                    break
            v[0, y, x], v[1, y, x] = v_x, v_y


@jit
def _filter_lines(lines, number):  # type: ignore[no-untyped-def]
    """Turn samples (place, line) into coefficients of quintic splines along the first axis, in place.

    Recursive filters forwards and backwards for both poles, with the even mirror.
    """
    size, width = lines.shape
    for k in range(2):
        pole = _POLES[k]
        z = number(pole)
        first = lines[0]
        sums = np.zeros(width, lines.dtype)
        for y in range(_MEMORY):
            row, factor = lines[folded(y, size)], number(pole ** (y + 1))
            for x in range(width):
                sums[x] += factor * row[x]
        for x in range(width):
            first[x] += sums[x]
        for y in range(1, size):
            row, before = lines[y], lines[y - 1]
            for x in range(width):
                row[x] += z * before[x]
        last, factor = lines[size - 1], number(pole / (pole - 1.0))
        for x in range(width):
            last[x] *= factor
        for y in range(size - 2, -1, -1):
            row, after = lines[y], lines[y + 1]
            for x in range(width):
                row[x] = z * (after[x] - row[x])
    gain = number((1.0 - _POLES[0]) ** 2 * (1.0 - _POLES[1]) ** 2 / (_POLES[0] * _POLES[1]))
    for y in range(size):
        row = lines[y]
        for x in range(width):
            row[x] *= gain


@jit
def _filter_columns(image, out, start, stop):  # type: ignore[no-untyped-def]
    lines = np.empty((image.shape[0], stop - start), image.dtype)
    for y in range(len(lines)):
        line, row = lines[y], image[y][start:stop]
        for x in range(len(line)):
            line[x] = row[x]
    _filter_lines(lines, image.dtype.type)
    for y in range(len(lines)):
        line, row = lines[y], out[y][start:stop]
        for x in range(len(line)):
            row[x] = line[x]


@jit
def _filter_rows(out, start, stop):  # type: ignore[no-untyped-def]
    lines = np.empty((out.shape[1], stop - start), out.dtype)
    for y in range(stop - start):
        row = out[start + y]
        for x in range(len(row)):
            lines[x, y] = row[x]
    _filter_lines(lines, out.dtype.type)
    for y in range(stop - start):
        row = out[start + y]
        for x in range(len(row)):
            row[x] = lines[x, y]


def spline_coefficients(image: Real, *, threads: int | None = None) -> Real:
    """Return the coefficients (y, x) of the quintic spline through an image, with the even mirror."""
    given, out = fixed(image), np.empty_like(image)
    for_blocks(lambda a, b: _filter_columns(given, out, a, b), out.shape[1], threads=threads, block=_FILTERED)
    for_blocks(lambda a, b: _filter_rows(out, a, b), len(out), threads=threads, block=_FILTERED)
    return out


def spline_gains(shape: tuple[int, ...]) -> list[Real]:
    """Return the gains along y and x from the cosine coefficients of an image to those of its spline."""
    return [60.0 / (33.0 + 26.0 * np.cos(k) + np.cos(2 * k)) for k in frequencies(shape)]


def sampled(
    coefficients: Real,
    back: Real,
    *,
    factor: Real | None = None,
    out: Real | None = None,
    threads: int | None = None,
) -> Real:
    """Return the values of quintic splines at r − v, those of the only or first one times a factor (y, x).

    `coefficients` of `spline_coefficients`, (y, x) or (number, y, x); `back` (2, y, x): v along x and y in
    pixels.
    """
    result: Real = np.empty_like(coefficients) if out is None else out
    scale = (
        np.ones_like(back[0], result.dtype) if factor is None else factor
    )  # another layout, another kernel
    splines, values = (images.reshape(-1, *images.shape[-2:]) for images in (coefficients, result))
    for_blocks(
        lambda a, b: _sample_rows(splines, back, scale, values, a, b), values.shape[1], threads=threads
    )
    return result


@jit
def _root_rows(image, out, start, stop):  # type: ignore[no-untyped-def]
    for y in range(start, stop):
        row, line = image[y], out[y]
        for x in range(len(line)):
            root = math.sqrt(abs(row[x]))
            line[x] = root if row[x] >= 0 else -root


@jit
def _square_rows(factor, out, start, stop):  # type: ignore[no-untyped-def]
    for y in range(start, stop):
        row, line = factor[y], out[y]
        for x in range(len(line)):
            line[x] *= abs(line[x]) * row[x]


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
    def of(cls, displacement: Real, *, accuracy: float = _INVERTED, threads: int | None = None) -> Warp:
        """Prepare the warp by a displacement u (2, y, x) along x and y in pixels, smooth over a pixel.

        `accuracy`: last step in pixels of the iteration for v.
        """
        u: Real = np.ascontiguousarray(displacement)
        back: Real = np.empty_like(u)
        for_blocks(lambda a, b: _invert_rows(u, back, accuracy, a, b), u.shape[1], threads=threads)
        xx, xy = (derivative(back[0], kind, threads=threads) for kind in (DX, DY))
        yx, yy = (derivative(back[1], kind, threads=threads) for kind in (DX, DY))

        def determinant(a: int, b: int) -> None:
            xx[a:b] = (1.0 - xx[a:b]) * (1.0 - yy[a:b]) - xy[a:b] * yx[a:b]

        for_blocks(determinant, len(xx), threads=threads)
        return cls(back, xx, threads)

    def binned(self, size: int) -> Warp:
        """Return the warp of images of squares of `size` pixels, which divides the shape."""
        back, jacobian = (binned(images, size, threads=self.threads) for images in (self.back, self.jacobian))
        back /= size
        return Warp(back, jacobian, self.threads)

    def __call__(self, image: Real) -> Real:
        """Return the warped image (y, x), by quintic splines."""
        coefficients = spline_coefficients(image, threads=self.threads)
        return sampled(coefficients, self.back, factor=self.jacobian, threads=self.threads)

    def intensity(self, frame: Real, *, factor: Real | None = None, out: Real | None = None) -> Real:
        """Return the warped frame (y, x), by the square of the quintic spline through its root with its sign.

        Times `factor` instead of `jacobian`. Pixels hardly resolve fine bright speckles. Their root is
        smoother, and the values between the pixels are closer to the truth.
        """
        given, result = fixed(frame), np.empty_like(frame) if out is None else out
        scale = fixed(self.jacobian if factor is None else factor)
        for_blocks(lambda a, b: _root_rows(given, result, a, b), len(result), threads=self.threads)
        coefficients = spline_coefficients(result, threads=self.threads)
        sampled(coefficients, self.back, out=result, threads=self.threads)
        for_blocks(lambda a, b: _square_rows(scale, result, a, b), len(result), threads=self.threads)
        return result


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
        with np.errstate(over="ignore", invalid="ignore"):  # a step that goes too far is taken back
            np.multiply(field[start:stop], out[start:stop], out=product[start:stop])

    def add(start: int, stop: int) -> None:
        with np.errstate(over="ignore", invalid="ignore"):
            for kind, change in changes.items():
                out[start:stop] += number(_DERIVATIVES[kind][1] / steps) * change[start:stop]

    for _ in range(steps if largest > 0.0 else 0):
        for kind, field in fields.items():
            for_blocks(partial(multiply, field), len(out), threads=threads)
            derivative(product, _DERIVATIVES[kind][0], out=changes[kind], threads=threads)
        for_blocks(add, len(out), threads=threads)
    return out
