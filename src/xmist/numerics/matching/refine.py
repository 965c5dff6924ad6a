"""From integer shifts to the subpixel minimum, for a strip of a tile of `match`.

The windowed sums at 5 × 5 shifts half a pixel apart are interpolated by a polynomial with its derivatives,
and Newton's method finds the minimum of the resulting cost.

The numbers of a row of pixels lie in one array at distances known at compile time, and indices are unsigned,
so that the compiler needs no check for overlap and vectorises each step.

======= ============================== ==============================================================
array   shape                          content
======= ============================== ==============================================================
table   (5, NODES², STRIP, COLUMNS)    Σ w S P, Σ w S Q, Σ w P², Σ w P Q, Σ w Q² at the nodes
basis   (2, 3, NODES, COLUMNS)         Lagrange polynomials of x and of y, and two derivatives
sums    (5, 6, COLUMNS)                the sums and ∂x, ∂y, ∂xx, ∂xy, ∂yy of a row
place   (6, COLUMNS)                   x and y in half pixels, last step, whether convex, whether wanted
======= ============================== ==============================================================
"""

from __future__ import annotations

from typing import Final

import numpy as np

from xmist.numerics.compiled import jit
from xmist.numerics.matching.constants import COLUMNS, NODES, STRIP

_W: Final = np.uint64(COLUMNS)
_2W, _3W, _4W, _5W = (np.uint64(i * COLUMNS) for i in (2, 3, 4, 5))
_0, _6W, _10W, _12W, _15W, _18W, _20W, _24W, _25W = (
    np.uint64(i * COLUMNS) for i in (0, 6, 10, 12, 15, 18, 20, 24, 25)
)
_NODE: Final = np.uint64(STRIP * COLUMNS)
_2NODE, _3NODE, _4NODE, _5NODE = (np.uint64(i * STRIP * COLUMNS) for i in (2, 3, 4, 5))
_10NODE, _15NODE, _20NODE = (np.uint64(i * STRIP * COLUMNS) for i in (10, 15, 20))
BASIS: Final = 30 * COLUMNS
SUMS: Final = 30 * COLUMNS
PLACE: Final = 6 * COLUMNS
TABLE: Final = NODES**2 * STRIP * COLUMNS

_EVALUATIONS: Final = 6
_LONGEST: Final = np.float32(1.0)  # half pixels: longest step of Newton's method
_SMALL: Final = np.float32(0.03)  # half pixels: the error is of the order of the square of the last step
FARTHEST: Final = np.float32(1.75)  # half pixels: a minimum beyond is not that of this integer shift
_RANK: Final = np.float32(1e-5)  # of Σ w Q²: what the first column must leave of it
_TINY: Final = np.float32(1e-30)
_ZERO, _HALF, _ONE, _TWO, _THREE, _FOUR, _FIVE, _SIX, _EIGHT, _TEN, _TWELVE = (
    np.float32(number) for number in (0, 0.5, 1, 2, 3, 4, 5, 6, 8, 10, 12)
)
_4TH, _6TH, _24TH = np.float32(1 / 4), np.float32(1 / 6), np.float32(1 / 24)


@jit
def _lagrange(basis, at, x, f):  # type: ignore[no-untyped-def]
    """Fill the Lagrange polynomials of the nodes −2 … 2 at f, and their two derivatives."""
    f2 = f * f
    f4 = f2 * f2
    even, odd = (f4 - f2) * _24TH, (f2 - _ONE) * f * _TWO * _24TH
    basis[at + x], basis[at + _4W + x] = even - odd, even + odd
    even, odd = (_FOUR * f2 - f4) * _6TH, (f2 - _FOUR) * f * _6TH
    basis[at + _W + x], basis[at + _3W + x] = even + odd, even - odd
    basis[at + _2W + x] = (f4 - _FIVE * f2 + _FOUR) * _4TH
    at = at + _5W
    even, odd = (_SIX * f2 - _TWO) * _24TH, (_FOUR * f2 - _TWO) * f * _24TH
    basis[at + x], basis[at + _4W + x] = odd - even, odd + even
    even, odd = (_THREE * f2 - _FOUR) * _6TH, (_EIGHT - _FOUR * f2) * f * _6TH
    basis[at + _W + x], basis[at + _3W + x] = odd + even, odd - even
    basis[at + _2W + x] = (_FOUR * f2 - _TEN) * f * _4TH
    at = at + _5W
    even, odd = (_TWELVE * f2 - _TWO) * _24TH, _HALF * f
    basis[at + x], basis[at + _4W + x] = even - odd, even + odd
    even = (_EIGHT - _TWELVE * f2) * _6TH
    basis[at + _W + x], basis[at + _3W + x] = even + f, even - f
    basis[at + _2W + x] = (_TWELVE * f2 - _TEN) * _4TH


@jit
def _lagrange_row(place, basis, n):  # type: ignore[no-untyped-def]
    for x in range(n):
        _lagrange(basis, _0, x, place[x])
        _lagrange(basis, _15W, x, place[_W + x])


@jit
def _combine(a, b, c, d, e, basis, at, x):  # type: ignore[no-untyped-def]
    """Sum five numbers with the polynomials at `at`."""
    return (
        a * basis[at + x]
        + b * basis[at + _W + x]
        + c * basis[at + _2W + x]
        + d * basis[at + _3W + x]
        + e * basis[at + _4W + x]
    )


@jit
def _along_x(table, at, basis, x):  # type: ignore[no-untyped-def]
    """Interpolate along one row of nodes: value and two derivatives."""
    a, b, c = table[at + x], table[at + _NODE + x], table[at + _2NODE + x]
    d, e = table[at + _3NODE + x], table[at + _4NODE + x]
    return (
        _combine(a, b, c, d, e, basis, _0, x),
        _combine(a, b, c, d, e, basis, _5W, x),
        _combine(a, b, c, d, e, basis, _10W, x),
    )


@jit
def _interpolate(table, basis, out, n):  # type: ignore[no-untyped-def]
    """Interpolate one sum along a row of pixels, with its derivatives."""
    for x in range(n):
        a0, a1, a2 = _along_x(table, _0, basis, x)
        b0, b1, b2 = _along_x(table, _5NODE, basis, x)
        c0, c1, c2 = _along_x(table, _10NODE, basis, x)
        d0, d1, d2 = _along_x(table, _15NODE, basis, x)
        e0, e1, e2 = _along_x(table, _20NODE, basis, x)
        out[x] = _combine(a0, b0, c0, d0, e0, basis, _15W, x)
        out[_W + x] = _combine(a1, b1, c1, d1, e1, basis, _15W, x)
        out[_2W + x] = _combine(a0, b0, c0, d0, e0, basis, _20W, x)
        out[_3W + x] = _combine(a2, b2, c2, d2, e2, basis, _15W, x)
        out[_4W + x] = _combine(a1, b1, c1, d1, e1, basis, _20W, x)
        out[_5W + x] = _combine(a0, b0, c0, d0, e0, basis, _25W, x)


@jit
def _change(sums, at, x, p, q):  # type: ignore[no-untyped-def]
    """Return 2 zᵀb′ − zᵀA′z for the derivative at `at`, at a fixed z = (p, q)."""
    b1, b2 = sums[at + x], sums[at + _6W + x]
    pp, pq, qq = sums[at + _12W + x], sums[at + _18W + x], sums[at + _24W + x]
    return p * (_TWO * (b1 - q * pq) - p * pp) + q * (_TWO * b2 - q * qq)


@jit
def _newton_row(sums, place, n):  # type: ignore[no-untyped-def]
    """Step to the nearest minimum of the cost along a row of pixels, or towards one where it is not convex.

    With z = A⁻¹b the explained part F = bᵀz has F_i = 2 zᵀb_i − zᵀA_i z and
    F_ij = 2 zᵀb_ij − zᵀA_ij z + 2 (b_i − A_i z)ᵀ A⁻¹ (b_j − A_j z).
    """
    for x in range(n):
        b1, b2, pp, pq, qq = sums[x], sums[_6W + x], sums[_12W + x], sums[_18W + x], sums[_24W + x]
        first = _ONE / pp if pp > _ZERO else _ZERO
        ratio = pq * first
        rest = qq - ratio * pq
        second = _ONE / rest if rest > _RANK * qq else _ZERO
        q = (b2 - ratio * b1) * second
        p = (b1 - pq * q) * first
        gx, gy = _change(sums, _W, x, p, q), _change(sums, _2W, x, p, q)
        at = _W + x
        ux = sums[at] - p * sums[at + _12W] - q * sums[at + _18W]
        vx = sums[at + _6W] - p * sums[at + _18W] - q * sums[at + _24W] - ratio * ux
        at = _2W + x
        uy = sums[at] - p * sums[at + _12W] - q * sums[at + _18W]
        vy = sums[at + _6W] - p * sums[at + _18W] - q * sums[at + _24W] - ratio * uy
        hxx = _change(sums, _3W, x, p, q) + _TWO * (ux * ux * first + vx * vx * second)
        hxy = _change(sums, _4W, x, p, q) + _TWO * (ux * uy * first + vx * vy * second)
        hyy = _change(sums, _5W, x, p, q) + _TWO * (uy * uy * first + vy * vy * second)
        determinant = hxx * hyy - hxy * hxy
        convex = hxx < _ZERO and determinant > _ZERO
        factor = _ONE / determinant if convex else _ONE
        # Not convex: a short step along the gradient.
        sx = (hxy * gy - hyy * gx) * factor if convex else gx
        sy = (hxy * gx - hxx * gy) * factor if convex else gy
        length = np.sqrt(sx * sx + sy * sy)
        longest = _LONGEST if convex else _HALF * _LONGEST
        shorten = longest / length if length > longest or (not convex and length > _TINY) else _ONE
        fx, fy = place[x], place[_W + x]
        nx, ny = fx + sx * shorten, fy + sy * shorten
        # The polynomial holds near its middle.
        nx = FARTHEST if nx > FARTHEST else (-FARTHEST if nx < -FARTHEST else nx)
        ny = FARTHEST if ny > FARTHEST else (-FARTHEST if ny < -FARTHEST else ny)
        place[x], place[_W + x] = nx, ny
        place[_2W + x], place[_3W + x] = nx - fx, ny - fy
        place[_4W + x] = _ONE if convex else _ZERO


@jit
def _count_moving(place, n):  # type: ignore[no-untyped-def]
    moving = 0
    for x in range(n):
        sx, sy = place[_2W + x], place[_3W + x]
        moving += 1 if (sx * sx + sy * sy) * place[_5W + x] > _SMALL * _SMALL else 0
    return moving


@jit
def _follow(sums, place, n):  # type: ignore[no-untyped-def]
    """Update the sums for the last step, which is short, by their derivatives."""
    for k in range(5):
        at = np.uint64(k) * _6W
        for x in range(n):
            sx, sy = place[_2W + x], place[_3W + x]
            sums[at + x] += (
                sx * (sums[at + _W + x] + _HALF * sx * sums[at + _3W + x] + sy * sums[at + _4W + x])
                + sy * (sums[at + _2W + x] + _HALF * sy * sums[at + _5W + x])
            )  # fmt: skip


@jit
def refine_row(table, basis, sums, place, y, columns):  # type: ignore[no-untyped-def]
    """Find the minimum near the middle node for row y of the strip, and the sums there."""
    n = np.uint64(columns)
    for x in range(n):
        place[x] = place[_W + x] = _ZERO
    for _ in range(_EVALUATIONS):
        _lagrange_row(place, basis, n)
        for k in range(5):
            _interpolate(table[k][y * COLUMNS :], basis, sums[6 * k * COLUMNS :], n)
        _newton_row(sums, place, n)
        if _count_moving(place, n) == 0:
            break
    _follow(sums, place, n)
