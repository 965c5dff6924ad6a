"""A preconditioner for the transport operator: one small block per frequency of the cosine transform.

For model images that are random and isotropic, the normal operator is diagonal in frequency on average. With
e, (p, q) and m₀ the symbols that multiply M, ∇M and stand alone in the operator of one unknown (module
`xmist.numerics.operators.transport`), the expected block is

    ⟨A_f* A_g⟩ = ⟨M²⟩ e_f e_g + ½⟨|∇M|²⟩ (p_f p_g + q_f q_g) + ⟨m₀_f m₀_g⟩ + e_f ⟨M m₀_g⟩ + e_g ⟨M m₀_f⟩

with ⟨M∇²M⟩ = −⟨|∇M|²⟩ and, for isotropic images, ⟨(∂xx M)²⟩ = 3/8 ⟨(∇²M)²⟩, ⟨∂xx M ∂yy M⟩ = ⟨(∂xy M)²⟩ = 1/8
of it. For ψ and d these are ⟨M²⟩κ⁴ + ½⟨|∇M|²⟩κ², ⟨M²⟩κ⁴ + 4⟨|∇M|²⟩κ² + ⟨(∇²M)²⟩ and −⟨M²⟩κ⁴ − 2⟨|∇M|²⟩κ².
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.numerics.compiled import fixed, jit
from xmist.numerics.images.margin import Margined
from xmist.numerics.operators.derivatives import DX, DXX, DY, DYY, LAPLACIAN, RADIUS, VALUE, row_derivative
from xmist.numerics.operators.transport import D_XX, D_XY, D_YY, LOG_T, PSI, D, NormalOperator
from xmist.numerics.parallel import for_blocks
from xmist.numerics.weights import Images

Real = NDArray[Any]

_ROWS: Final = 16  # a block's temporaries stay in the cache


@dataclass(frozen=True)
class Moments:
    """Mean squares of model images M over positions and weights.

    `value`: Σ_n ⟨w M²⟩; `slope`: Σ_n ⟨w |∇M|²⟩ per pixel²; `curvature`: Σ_n ⟨w (∇²M)²⟩ per pixel⁴.
    """

    value: float
    slope: float
    curvature: float


# In an array, not as constants, so that the derivative is compiled once.
_KINDS: Final = np.array([DX, DY, LAPLACIAN])


@jit
def _moment_rows(frame, weights, sums, start, stop):  # type: ignore[no-untyped-def]
    width = frame.shape[1]
    padded = np.empty(width + 2 * RADIUS, frame.dtype)
    lines = np.empty((3, width), frame.dtype)
    dx, dy, lap = lines[0], lines[1], lines[2]
    first = np.int64(0)  # a literal would be compiled as a kernel of its own
    for y in range(start, stop):
        for j in range(3):
            row_derivative(_KINDS[j], frame, y, first, width, lines[j], padded)
        value = slope = curvature = 0.0
        for x in range(width):
            w = np.float64(weights[y, x])
            value += w * np.float64(frame[y, x]) ** 2
            slope += w * (np.float64(dx[x]) ** 2 + np.float64(dy[x]) ** 2)
            curvature += w * np.float64(lap[x]) ** 2
        sums[y, 0], sums[y, 1], sums[y, 2] = value, slope, curvature


def moments(frames: Real | Margined, weights: Images | None = None, *, threads: int | None = None) -> Moments:
    """Return the moments of model images with weights (position, y, x)."""
    total = np.zeros(3)
    one = np.ones(frames.shape[1:], np.float32) if weights is None else None  # None is another kernel
    for n, image in enumerate(frames):
        frame, sums = fixed(image), np.empty((len(image), 3))
        w = one if weights is None else weights[n]
        for_blocks(
            lambda a, b, frame=frame, w=w, sums=sums: _moment_rows(frame, w, sums, a, b),  # type: ignore[misc]
            frame.shape[0],
            threads=threads,
        )
        total += sums.sum(axis=0) / frame.size
    return Moments(*(float(value) for value in total))


def moments_of(operator: NormalOperator) -> Moments:
    """Return the moments from sums over positions; the curvature is 0 where no unknown depends on it."""

    def mean(one: int, other: int) -> float:
        low, high = sorted((operator.derivatives.index(one), operator.derivatives.index(other)))
        return float(operator.products[high * (high + 1) // 2 + low].mean(dtype=np.float64))

    curvature = 0.0
    if LAPLACIAN in operator.derivatives:
        curvature = mean(LAPLACIAN, LAPLACIAN)
    elif DXX in operator.derivatives:
        curvature = mean(DXX, DXX) + mean(DYY, DYY) + 2.0 * mean(DXX, DYY)
    return Moments(mean(VALUE, VALUE), mean(DX, DX) + mean(DY, DY), curvature)


def _symbols(kind: int, s_y: Real, s_x: Real, g_y: Real, g_x: Real) -> tuple[Real, Real, Real]:
    """Return e, p and q of an unknown, broadcastable; s are second and g first differences along y and x."""
    none = np.zeros((1, 1))
    return {
        PSI: (s_y + s_x, -g_x, -g_y),
        D: (-(s_y + s_x), 2 * g_x, 2 * g_y),
        D_XX: (-s_x, 2 * g_x, none),
        D_YY: (-s_y, none, 2 * g_y),
        # Odd in both axes where the others are even: uncorrelated with them, only its own square counts.
        D_XY: (2 * g_x * g_y, 2 * g_y, 2 * g_x),
        LOG_T: (none + 1.0, none, none),
    }[kind]


# ⟨M m₀⟩ in units of ⟨|∇M|²⟩ and ⟨m₀_f m₀_g⟩ in units of ⟨(∇²M)²⟩.
_FIRST = {PSI: 0.0, D: -1.0, D_XX: -0.5, D_XY: 0.0, D_YY: -0.5, LOG_T: 0.0}
_SECOND = {
    (D, D): 1.0,
    (D_XX, D_XX): 3 / 8,
    (D_YY, D_YY): 3 / 8,
    (D_XX, D_YY): 1 / 8,
    (D_XY, D_XY): 4 / 8,
    (D, D_XX): 1 / 2,
    (D, D_YY): 1 / 2,
}


def _triangle(
    kinds: tuple[int, ...], moment: Moments, shape: tuple[int, int], rows: slice
) -> dict[tuple[int, int], Real]:
    """Return the elements (i, j ≤ i) of the expected blocks, images of frequencies along y and x."""
    k_y, k_x = (np.pi * np.arange(size) / size for size in shape)
    s_y, s_x = (4 * np.sin(k / 2) ** 2 for k in (k_y[rows, None], k_x[None]))
    g_y, g_x = np.sin(k_y[rows, None]), np.sin(k_x[None])
    symbols = {kind: _symbols(kind, s_y, s_x, g_y, g_x) for kind in kinds}
    size = np.broadcast_shapes(s_y.shape, s_x.shape)
    out = {}
    for i, f in enumerate(kinds):
        for j, g in enumerate(kinds[: i + 1]):
            element = out[i, j] = np.zeros(size)
            if (f == D_XY) != (g == D_XY):
                continue
            e_f, p_f, q_f = symbols[f]
            e_g, p_g, q_g = symbols[g]
            pair = _SECOND.get((f, g), _SECOND.get((g, f), 0.0))
            element += moment.value * (e_f * e_g)
            element += 0.5 * moment.slope * (p_f * p_g)
            element += 0.5 * moment.slope * (q_f * q_g)
            element += moment.slope * (_FIRST[f] * e_g + _FIRST[g] * e_f)
            element += moment.curvature * pair
    return out


def _mixed(triangle: dict[tuple[int, int], Real], mix: Real) -> dict[tuple[int, int], Real]:
    """Return the triangle of Bᵀ H B, for kinds that are the linear combinations B of fewer unknowns."""
    out = {}
    for i, one in enumerate(mix.T.tolist()):
        for j, other in enumerate(mix.T[: i + 1].tolist()):
            element = out[i, j] = np.zeros_like(triangle[0, 0])
            for (high, low), part in triangle.items():
                factor = one[high] * other[low]
                if high != low:
                    factor += one[low] * other[high]
                if factor:
                    element += factor * part
    return out


def expected_block(
    kinds: tuple[int, ...],
    moment: Moments,
    shape: tuple[int, int],
    rows: slice = slice(None),
    *,
    mix: Real | None = None,
) -> Real:
    """Return the expected symbol of the normal operator, (y, x, unknowns, unknowns).

    For an image of `shape` (y, x), or `rows` of its frequencies along y; `mix` (kinds, unknowns): B of kinds
    that are B times fewer unknowns.
    """
    triangle = _triangle(kinds, moment, shape, rows)
    unknowns = len(kinds)
    if mix is not None:
        triangle, unknowns = _mixed(triangle, mix), mix.shape[1]
    out = np.empty((*triangle[0, 0].shape, unknowns, unknowns))
    for (i, j), element in triangle.items():
        out[..., i, j] = out[..., j, i] = element
    return out


@dataclass(frozen=True, kw_only=True)
class Prior:
    """A quadratic prior on an unknown, diagonal in the cosine basis, of the precision α s^order + ρ.

    s is the symbol of the 5-point Laplacian (κ² for small κ), α the `strength`, ρ the `floor`. Order 1 is H1,
    α‖∇u‖²; 3/2 suits images with edges, whose power falls like κ⁻³; 2 is H2, α‖∇²u‖².

    A `natural` one is α times the roughness of `xmist.numerics.operators.roughness` instead, of order 3 and
    without a floor: nothing is mirrored at the border, and polynomials of degree 2 cost nothing. At pixels
    that have no weight in any position its strength is `empty` where that is larger.
    """

    strength: float = 0.0
    order: float = 1.0
    floor: float = 0.0
    natural: bool = False
    empty: float = 0.0

    def of_order(self, order: float, frequency: float) -> Prior:
        """Return a prior of another order with the same precision at a frequency ≪ π in rad per pixel."""
        return replace(self, order=order, strength=self.strength * frequency ** (2.0 * (self.order - order)))

    def precision(self, shape: tuple[int, int], rows: slice = slice(None)) -> Real:
        """Return α s^order + ρ (y, x) at the frequencies of an image, or at `rows` of them along y."""
        k_y, k_x = (np.pi * np.arange(size) / size for size in shape)
        s = 4 * np.sin(k_y[rows, None] / 2) ** 2 + 4 * np.sin(k_x[None] / 2) ** 2
        # A power is slow; numpy knows those of 1 and 2.
        whole = int(self.order)
        precision: Real = s**whole * np.sqrt(s) if self.order == whole + 0.5 else s**self.order
        precision *= self.strength
        precision += self.floor
        return precision


def _invert(triangle: dict[tuple[int, int], Real], unknowns: int) -> None:
    """Replace the lower triangles of positive blocks by those of their inverses (sweeps of Beaton 1964)."""
    for k in range(unknowns):
        pivot = triangle[k, k]
        determined = pivot > 0.0
        np.divide(1.0, pivot, out=pivot, where=determined)
        pivot[~determined] = 0.0  # what neither data nor priors determine stays where it is
        others = [i for i in range(unknowns) if i != k]
        column = {i: triangle[max(i, k), min(i, k)] for i in others}
        for i in others:
            scaled = column[i] * pivot
            for j in others:
                if j <= i:
                    triangle[i, j] -= scaled * column[j]
        for i in others:
            column[i] *= pivot
        np.negative(pivot, out=pivot)
    for element in triangle.values():
        np.negative(element, out=element)


@jit
def _multiply_rows(inverse, coefficients, out, start, stop):  # type: ignore[no-untyped-def]
    number = len(coefficients)
    for y in range(start, stop):
        for i in range(number):
            line = out[i, y]
            for j in range(number):
                low, high = min(i, j), max(i, j)
                part, other = inverse[high * (high + 1) // 2 + low, y], coefficients[j, y]
                if j == 0:
                    for x in range(len(line)):
                        line[x] = part[x] * other[x]
                else:
                    for x in range(len(line)):
                        line[x] += part[x] * other[x]


@dataclass(frozen=True, eq=False)
class BlockPreconditioner:
    """Inverse blocks, applied in the cosine basis.

    `inverse` (unknowns (unknowns + 1)/2, y, x): lower triangles, row by row.
    """

    inverse: Real
    threads: int | None = None

    def __call__(self, coefficients: Real) -> Real:
        """Return the approximate inverse applied to coefficients (unknown, y, x)."""
        return self.apply(coefficients, np.empty_like(coefficients))

    def apply(self, coefficients: Real, out: Real) -> Real:
        """Write the result into `out`."""
        for_blocks(
            lambda a, b: _multiply_rows(self.inverse, coefficients, out, a, b),
            out.shape[1],
            threads=self.threads,
            block=_ROWS,
        )
        return out


def block_preconditioner(
    kinds: tuple[int, ...],
    moment: Moments,
    shape: tuple[int, int],
    *,
    priors: tuple[Prior, ...],
    mix: Real | None = None,
    threads: int | None = None,
) -> BlockPreconditioner:
    """Invert the expected blocks plus the priors (one per kind) for an image of `shape` (y, x).

    `mix` as in `expected_block`, ψ determined by other unknowns; without it the mean of ψ, which nothing
    determines, is projected out.
    """
    unknowns = len(kinds) if mix is None else mix.shape[1]
    inverse = np.empty((unknowns * (unknowns + 1) // 2, *shape), np.float32)

    def task(start: int, stop: int) -> None:
        rows = slice(start, stop)
        triangle = _triangle(kinds, moment, shape, rows)
        for i, prior in enumerate(priors):
            triangle[i, i] += prior.precision(shape, rows)
            # The blocks are sums of squares: a little of their own diagonal keeps them invertible.
            triangle[i, i] *= 1.0 + 1e-6
        if mix is not None:
            triangle = _mixed(triangle, mix)
        free = kinds.index(PSI) if start == 0 and PSI in kinds and mix is None else None
        if free is not None:
            for (i, j), element in triangle.items():
                if free in (i, j):
                    element[0, 0] = float(i == j)
        _invert(triangle, unknowns)
        if free is not None:
            triangle[free, free][0, 0] = 0.0
        for image, element in zip(inverse, triangle.values(), strict=True):
            image[rows] = element

    for_blocks(task, shape[0], threads=threads, block=_ROWS)
    return BlockPreconditioner(inverse, threads)
