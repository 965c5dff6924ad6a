"""The linear transport operator over whole images, its adjoint and its normal operator.

In pixel units, about model images M_n (the references after transport), a small change of the phase ψ = ∆φ/(k
p²), of the diffusion d = ∆D/p² (or its tensor) and of ln T changes frame n by

    A_n (ψ, d, …, t) = −∇·(M_n ∇ψ) + Σ_ij ∂_i∂_j (d_ij M_n) + M_n t

(model (M) of Pavlov et al. 2020, J. Opt. 22 125604, eq. 1, for T = 1 and d_ij = d δ_ij). Products are
expanded; M_n is differentiated to sixth order, the unknown by three-point stencils with the even mirror, and
the adjoint is the exact transpose. Derivatives of M_n are computed row by row, so that every frame is read
once. `plain_transport` is the same operator in plain NumPy.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.numerics.compiled import fixed, jit
from xmist.numerics.operators.derivatives import (
    DX,
    DXX,
    DXY,
    DY,
    DYY,
    LAPLACIAN,
    RADIUS,
    VALUE,
    copy_row,
    row_derivative,
)
from xmist.numerics.parallel import for_blocks
from xmist.numerics.weights import Weights

Real = NDArray[Any]

PSI: Final = 0
D: Final = 1
D_XX: Final = 2
D_XY: Final = 3
D_YY: Final = 4
LOG_T: Final = 5

# A row of A u is E M + X ∂x M + Y ∂y M + Σ Z_k M_k, with M_k = ∇²M, ∂xx M, ∂xy M or ∂yy M. E, X, Y and Z are
# the same for every position, and so are the stencils of Aᵀ: they act on sums over positions of a M, a ∂x M …
_E: Final = 0
_X: Final = 1
_Y: Final = 2
_FIRST_Z: Final = 3
_FORWARD: Final = 0
_ADJOINT: Final = 1
_NORMAL: Final = 2
_GATHER: Final = 3  # the adjoint, added to what is there
_PRODUCTS: Final = 4
_ZEROTH: Final = {D: LAPLACIAN, D_XX: DXX, D_XY: DXY, D_YY: DYY}
_ROWS: Final = 32
_COLUMNS: Final = 1024  # lines of this length stay in the cache


def _terms(kinds: tuple[int, ...]) -> tuple[Real, Real, Real]:
    """Return the fields, which Z each has (0 for none), and the derivatives of M that E, X, Y, Z multiply."""
    second = [kind for kind in kinds if kind in _ZEROTH]
    places = [_FIRST_Z + second.index(kind) if kind in second else 0 for kind in kinds]
    derivatives = [VALUE, DX, DY, *(_ZEROTH[kind] for kind in second)]
    return np.array(kinds, np.int64), np.array(places, np.int64), np.array(derivatives, np.int64)


@jit
def _load(field, y, x0, width, line):  # type: ignore[no-untyped-def]
    """Copy a part of a row (mirrored if it lies outside) with one more pixel on either side."""
    row = field[min(max(y, 0), field.shape[0] - 1)]
    line[0] = row[max(x0 - 1, 0)]
    line[width + 1] = row[min(x0 + width, len(row) - 1)]
    inner, part = line[1:], row[x0 : x0 + width]
    for i in range(width):
        inner[i] = part[i]


@jit
def _fold(line, x0, width, row):  # type: ignore[no-untyped-def]
    """Add a padded line to a part of a row, the transpose of `_load`."""
    inner, part = line[1:], row[x0 : x0 + width]
    for i in range(width):
        part[i] += inner[i]
    row[max(x0 - 1, 0)] += line[0]
    row[min(x0 + width, len(row) - 1)] += line[width + 1]


@jit
def _add_terms(kind, above, centre, below, e, x, y, z):  # type: ignore[no-untyped-def]
    """Add to E, X and Y, and set Z, of a line of a field; its three lines carry one more pixel on a side."""
    width = len(e)
    half = e.dtype.type(0.5)
    if kind == LOG_T:
        for i in range(width):
            e[i] += centre[i + 1]
    elif kind == PSI:
        for i in range(width):
            c = centre[i + 1]
            e[i] -= ((centre[i] - c) + (centre[i + 2] - c)) + ((above[i + 1] - c) + (below[i + 1] - c))
        for i in range(width):
            x[i] -= half * (centre[i + 2] - centre[i])
        for i in range(width):
            y[i] -= half * (below[i + 1] - above[i + 1])
    elif kind == D_XY:  # with D_YX
        for i in range(width):
            e[i] += half * ((below[i + 2] - below[i]) - (above[i + 2] - above[i]))
        for i in range(width):
            x[i] += below[i + 1] - above[i + 1]
        for i in range(width):
            y[i] += centre[i + 2] - centre[i]
        for i in range(width):
            z[i] = centre[i + 1] + centre[i + 1]
    else:
        for i in range(width):
            z[i] = centre[i + 1]
        if kind != D_YY:
            for i in range(width):
                e[i] += (centre[i] - centre[i + 1]) + (centre[i + 2] - centre[i + 1])
            for i in range(width):
                x[i] += centre[i + 2] - centre[i]
        if kind != D_XX:
            for i in range(width):
                e[i] += (above[i + 1] - centre[i + 1]) + (below[i + 1] - centre[i + 1])
            for i in range(width):
                y[i] += below[i + 1] - above[i + 1]


@jit
def _spread_terms(kind, e, x, y, z, above, centre, below):  # type: ignore[no-untyped-def]
    """Add sums over positions to three padded lines; line by line the transpose of `_add_terms`."""
    width = len(e)
    half = e.dtype.type(0.5)
    two = e.dtype.type(2.0)
    if kind == LOG_T:
        for i in range(width):
            centre[i + 1] += e[i]
    elif kind == PSI:
        for i in range(width):
            centre[i] -= e[i] - half * x[i]
        for i in range(width):
            centre[i + 2] -= e[i] + half * x[i]
        for i in range(width):
            above[i + 1] -= e[i] - half * y[i]
        for i in range(width):
            below[i + 1] -= e[i] + half * y[i]
        for i in range(width):
            centre[i + 1] += two * two * e[i]
    elif kind == D_XY:
        for i in range(width):
            below[i + 2] += half * e[i]
            below[i] -= half * e[i]
        for i in range(width):
            above[i] += half * e[i]
            above[i + 2] -= half * e[i]
        for i in range(width):
            below[i + 1] += x[i]
            above[i + 1] -= x[i]
        for i in range(width):
            centre[i + 2] += y[i]
            centre[i] -= y[i]
        for i in range(width):
            centre[i + 1] += two * z[i]
    else:
        for i in range(width):
            centre[i + 1] += z[i]
        if kind != D_YY:
            for i in range(width):
                centre[i] += e[i] - x[i]
            for i in range(width):
                centre[i + 2] += e[i] + x[i]
            for i in range(width):
                centre[i + 1] -= two * e[i]
        if kind != D_XX:
            for i in range(width):
                above[i + 1] += e[i] - y[i]
            for i in range(width):
                below[i + 1] += e[i] + y[i]
            for i in range(width):
                centre[i + 1] -= two * e[i]


@jit
def _field_terms(kinds, places, fields, y, x0, width, rows, terms):  # type: ignore[no-untyped-def]
    """Fill E, X, Y and Z of a line."""
    for j in range(len(terms)):
        line = terms[j]
        for i in range(width):
            line[i] = 0
    for f in range(len(kinds)):
        for j in range(3):
            _load(fields[f], y - 1 + j, x0, width, rows[j])
        _add_terms(
            kinds[f], rows[0], rows[1], rows[2],
            terms[_E, :width], terms[_X, :width], terms[_Y, :width], terms[places[f], :width],
        )  # fmt: skip


@jit
def _forward_line(terms, lines, width, a):  # type: ignore[no-untyped-def]
    """Return A u along a line from E, X, Y, Z and the derivatives of M that they multiply."""
    e, x, y = terms[_E], terms[_X], terms[_Y]
    m, mx, my = lines[_E], lines[_X], lines[_Y]
    for i in range(width):
        a[i] = m[i] * e[i] + mx[i] * x[i] + my[i] * y[i]
    for j in range(_FIRST_Z, len(terms)):
        z, mz = terms[j], lines[j]
        for i in range(width):
            a[i] += mz[i] * z[i]


@jit
def _weigh(given, first, step, bits, values, line):  # type: ignore[no-untyped-def]
    """Multiply a line by weights, or by what codes stand for; `bits` and `values` are the same memory."""
    if step == 0:
        for i in range(len(given)):
            line[i] *= given[i]
        return
    before, between = np.uint32(first - step), np.uint32(step)
    for i in range(len(given)):
        code = np.uint32(given[i])
        bits[i] = before + code * between if code else np.uint32(0)
    for i in range(len(given)):
        line[i] *= values[i]


@jit
def _add_products(weights, lines, y, x0, width, out):  # type: ignore[no-untyped-def]
    """Add w a b to part of a row of images (pair, y, x) for pairs of lines a and b, a lower triangle."""
    for j in range(len(lines)):
        for k in range(j + 1):
            total, a, b = out[j * (j + 1) // 2 + k, y][x0 : x0 + width], lines[j], lines[k]
            for i in range(width):
                total[i] += weights[i] * a[i] * b[i]


@jit
def _clear(out, start, stop):  # type: ignore[no-untyped-def]
    """Set these rows of images (number, y, x) to 0."""
    for f in range(len(out)):
        for y in range(start, stop):
            line = out[f, y]
            for x in range(len(line)):
                line[x] = 0


@jit
def _spread_sums(kinds, places, sums, rows, y, x0, width, out, start, stop):  # type: ignore[no-untyped-def]
    """Add the transpose of the stencils, applied to a line of sums, to the rows that are computed."""
    height = out.shape[1]
    for f in range(len(kinds)):
        rows[:] = 0.0
        _spread_terms(
            kinds[f], sums[_E, :width], sums[_X, :width], sums[_Y, :width], sums[places[f], :width],
            rows[0], rows[1], rows[2],
        )  # fmt: skip
        for j in range(3):
            target = min(max(y - 1 + j, 0), height - 1)
            if start <= target < stop:
                _fold(rows[j], x0, width, out[f, target])


@jit
def _apply_rows(  # type: ignore[no-untyped-def]
    kinds, places, derivatives, frames, weights, first, step, fields, residuals, what, out, start, stop
):
    """Set these rows to A u, Aᵀ W r, Aᵀ W A u or products; transposes compute a row of halo on either side.

    One kernel for all of them, since each would compile the derivatives once more.
    """
    positions, height, columns = frames.shape
    dtype = frames.dtype
    terms = np.empty((len(derivatives), _COLUMNS), dtype)
    lines, sums = np.empty_like(terms), np.empty_like(terms)
    padded, rows = np.empty(_COLUMNS + 2 * RADIUS, dtype), np.empty((3, _COLUMNS + 2), dtype)
    a, bits = np.empty(_COLUMNS, dtype), np.empty(_COLUMNS, np.uint32)
    values = bits.view(np.float32)
    halo = 0 if what in (_FORWARD, _PRODUCTS) else 1
    if what in (_ADJOINT, _NORMAL, _PRODUCTS):
        _clear(out, start, stop)
    for x0 in range(0, columns, _COLUMNS):
        width = min(_COLUMNS, columns - x0)
        for y in range(max(start - halo, 0), min(stop + halo, height)):
            sums[:] = 0.0
            if what in (_FORWARD, _NORMAL):
                _field_terms(kinds, places, fields, y, x0, width, rows, terms)
            for n in range(positions):
                for j in range(len(derivatives)):
                    row_derivative(derivatives[j], frames[n], y, x0, width, lines[j], padded)
                if what == _FORWARD:
                    _forward_line(terms, lines, width, out[n, y, x0 : x0 + width])
                    continue
                if what == _NORMAL:
                    _forward_line(terms, lines, width, a)
                elif what == _PRODUCTS:
                    for i in range(width):
                        a[i] = 1
                else:
                    copy_row(residuals[n, y, x0 : x0 + width], a)
                if weights is not None:
                    _weigh(weights[n, y, x0 : x0 + width], first, step, bits, values, a)
                if what == _PRODUCTS:
                    _add_products(a, lines, y, x0, width, out)
                    continue
                for j in range(len(derivatives)):
                    line, total = lines[j], sums[j]
                    for i in range(width):
                        total[i] += a[i] * line[i]
            if what in (_FORWARD, _PRODUCTS):
                continue
            _spread_sums(kinds, places, sums, rows, y, x0, width, out, start, stop)


@jit
def _normal_rows(kinds, places, products, fields, out, start, stop):  # type: ignore[no-untyped-def]
    """Set these rows to Aᵀ W A u from the products of `_add_products`."""
    _, height, columns = products.shape
    dtype, number = products.dtype, int(np.sqrt(2 * len(products)))
    terms = np.empty((number, _COLUMNS), dtype)
    sums, rows = np.empty_like(terms), np.empty((3, _COLUMNS + 2), dtype)
    _clear(out, start, stop)
    for x0 in range(0, columns, _COLUMNS):
        width = min(_COLUMNS, columns - x0)
        for y in range(max(start - 1, 0), min(stop + 1, height)):
            _field_terms(kinds, places, fields, y, x0, width, rows, terms)
            sums[:] = 0.0
            for j in range(number):
                for k in range(number):
                    low, high = min(j, k), max(j, k)
                    part = products[high * (high + 1) // 2 + low, y][x0 : x0 + width]
                    term, total = terms[k], sums[j]
                    for i in range(width):
                        total[i] += part[i] * term[i]
            _spread_sums(kinds, places, sums, rows, y, x0, width, out, start, stop)


@dataclass(frozen=True, kw_only=True, eq=False)
class NormalOperator:
    """Aᵀ W A from sums over positions at each pixel, which cost as much as two positions.

    `derivatives`: those of M_n that are multiplied; `products` (pair, y, x): Σ_n w a b for pairs of them, the
    lower triangle row by row.
    """

    kinds: tuple[int, ...]
    derivatives: tuple[int, ...]
    products: Real
    threads: int | None = None

    def __call__(self, fields: Real, *, out: Real | None = None) -> Real:
        """Return Aᵀ W A u (unknown, y, x); `out` is not `fields`."""
        result: Real = np.empty_like(fields) if out is None else out
        kinds, places, _ = _terms(self.kinds)
        given = fixed(self.products)
        for_blocks(
            lambda a, b: _normal_rows(kinds, places, given, fields, result, a, b),
            result.shape[1],
            threads=self.threads,
            block=_ROWS,
        )
        return result


@dataclass(frozen=True, kw_only=True, eq=False)
class Transport:
    """The operator A about given model images M_n (position, y, x), finite.

    `kinds`: unknown fields, of `PSI`, `D`, `D_XX`, `D_XY`, `D_YY` and `LOG_T`; `weights` W (position, y, x),
    of the frames' dtype if an array; None means 1. No result depends on `threads`.
    """

    frames: Real
    kinds: tuple[int, ...]
    weights: Real | Weights | None = None
    threads: int | None = None

    def forward(self, fields: Real) -> Real:
        """Return A u (position, y, x), the change of the frames, for u (unknown, y, x)."""
        return self._apply(_FORWARD, fields, self.frames, np.empty_like(self.frames))

    def adjoint(self, images: Real) -> Real:
        """Return Aᵀ W r (unknown, y, x) for residuals r (position, y, x): the gradient of ½ Σ w r²."""
        return self._apply(_ADJOINT, self._nothing(), images, self._unknowns())

    def gather(self, n: int, image: Real, out: Real) -> None:
        """Add Aᵀ W r of position `n`, whose residual is `image` (y, x), to `out` (unknown, y, x)."""
        self._position(n)._apply(_GATHER, self._nothing(), image[None], out)

    def normal(self, fields: Real, *, out: Real | None = None) -> Real:
        """Return Aᵀ W A u (unknown, y, x), reading every frame once; `out` is not `fields`."""
        return self._apply(_NORMAL, fields, self.frames, self._unknowns() if out is None else out)

    def normal_operator(self) -> NormalOperator:
        """Return Aᵀ W A with the present weights; needs memory for 6 images, 10 with d, 21 with a tensor."""
        derivatives = tuple(_terms(self.kinds)[2].tolist())
        pairs = len(derivatives) * (len(derivatives) + 1) // 2
        products = np.empty((pairs, *self.frames.shape[1:]), self.frames.dtype)
        return NormalOperator(
            kinds=self.kinds,
            derivatives=derivatives,
            products=self._apply(_PRODUCTS, self._nothing(), self.frames, products),
            threads=self.threads,
        )

    def _position(self, n: int) -> Transport:
        """Return the operator of one position, a part of this one's memory."""
        weights = self.weights
        if weights is not None:
            weights = weights.part(n) if isinstance(weights, Weights) else weights[n : n + 1]
        return replace(self, frames=self.frames[n : n + 1], weights=weights)

    def _nothing(self) -> Real:
        return np.empty((len(self.kinds), 0, 0), self.frames.dtype)

    def _unknowns(self) -> Real:
        return np.empty((len(self.kinds), *self.frames.shape[1:]), self.frames.dtype)

    def _apply(self, what: int, fields: Real, residuals: Real, out: Real) -> Real:
        terms, w = _terms(self.kinds), self.weights
        weights = (w.codes, w.first, w.step) if isinstance(w, Weights) else (w, 0, 0)
        frames = fixed(self.frames)
        for_blocks(
            lambda a, b: _apply_rows(*terms, frames, *weights, fields, residuals, what, out, a, b),
            out.shape[1],
            threads=self.threads,
            block=_ROWS,
        )
        return out
