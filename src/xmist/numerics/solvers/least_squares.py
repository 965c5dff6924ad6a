"""Weighted least squares at every pixel, for a few unknowns and N positions, in one pass over the frames.

The equation of position n at a pixel is Σ_j c_jn x_j = t_n; its columns c are derivatives of the reference
frame (or the sample's value) and its target t is the difference of the frames or one of them. Nothing of size
(N, unknowns, y, x) is stored: tiles of a row pass through the cache. Sums are in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.numerics.compiled import jit
from xmist.numerics.operators.derivatives import RADIUS, SAMPLE, copy_row, row_derivative
from xmist.numerics.parallel import for_blocks

Real = NDArray[Any]

DIFFERENCE: Final = 0  # target I_R − I_S
REFERENCE_FRAME: Final = 1  # target I_R

LOST_SAMPLE: Final = 1
TOO_FEW: Final = 2
ILL: Final = 4

# A pixel whose normal matrix has a pivot below this part of the image's mean diagonal would amplify noise a
# hundred times more than an average pixel (the square root of the ratio).
ILL_LIMIT: Final = 1e-4
_TILE = 1024


@dataclass(frozen=True)
class System:
    """Columns and target of a pixel's equations.

    `kinds`: one of `derivatives.VALUE`, `LAPLACIAN`, … or `SAMPLE` for each unknown, in pixel units and
    without a sign; `target`: `DIFFERENCE` or `REFERENCE_FRAME`.
    """

    kinds: tuple[int, ...]
    target: int = DIFFERENCE

    @property
    def unknowns(self) -> int:
        """Number of unknowns at a pixel."""
        return len(self.kinds)

    @property
    def uses_sample(self) -> bool:
        """Whether the normal matrix depends on the sample."""
        return SAMPLE in self.kinds


# Short loops over few arrays each, on slices that start at 0: the compiler then vectorises them.


@jit
def _add_product(left, right, total, width):  # type: ignore[no-untyped-def]
    for i in range(width):
        total[i] += np.float64(left[i]) * np.float64(right[i])


@jit
def _count_lost(row):  # type: ignore[no-untyped-def]
    count = 0
    for i in range(len(row)):
        s = row[i]
        count += s - s != 0.0  # NaN for a NaN or an infinity
    return count


@jit
def _weigh(sample_row, weight, valid, lost):  # type: ignore[no-untyped-def]
    for i in range(len(sample_row)):
        s = sample_row[i]
        if s - s != 0.0:
            weight[i] = 0.0
            lost[i] = 1
        valid[i] += weight[i] > 0.0


@jit
def _accumulate(  # type: ignore[no-untyped-def]
    reference, sample, weights, kinds, target, y, x0, width, columns, padded, weight, right, valid, lost,
    matrix, rhs,
):  # fmt: skip
    """Sum the normal equations of one row of one tile over the positions."""
    unknowns = len(kinds)
    x1 = x0 + width
    matrix[:] = 0.0
    rhs[:] = 0.0
    valid[:] = 0
    lost[:] = 0
    everywhere = 0  # positions that are usable along the whole row of the tile
    for n in range(reference.shape[0]):
        r, s = reference[n, y][x0:x1], sample[n, y][x0:x1]
        weighted = _count_lost(s) > 0
        if weights is not None:
            copy_row(weights[n, y][x0:x1], weight)
            weighted = True
        elif weighted:
            weight[:width] = 1.0
        if weighted:
            _weigh(s, weight, valid, lost)
        else:
            everywhere += 1
        if target == DIFFERENCE:
            for i in range(width):
                right[i] = r[i] - s[i]
        else:
            copy_row(r, right)
        for j in range(unknowns):
            if kinds[j] == SAMPLE:
                copy_row(s, columns[j])
            else:
                row_derivative(kinds[j], reference[n], y, x0, width, columns[j], padded)
        if weighted:
            for i in range(width):
                # Set, not multiplied: 0 times a NaN would not be 0.
                if weight[i] == 0.0:
                    right[i] = 0.0
                    for j in range(unknowns):
                        columns[j, i] = 0.0
        k = 0
        for j in range(unknowns):
            left = columns[j]
            if weighted:
                left = padded
                for i in range(width):
                    left[i] = weight[i] * columns[j, i]
            _add_product(left, right, rhs[j], width)
            for m in range(j + 1):
                _add_product(left, columns[m], matrix[k], width)
                k += 1
    for i in range(width):
        valid[i] += everywhere


@jit
def _subtract_product(left, right, factor, total, width):  # type: ignore[no-untyped-def]
    for i in range(width):
        total[i] -= left[i] * right[i] * factor[i]


@jit
def _factor_and_solve(matrix, rhs, floors, ridge, width, ill):  # type: ignore[no-untyped-def]
    """Solve by LDLᵀ in place, all pixels of a tile at once; the solution replaces `rhs`."""
    unknowns = rhs.shape[0]
    ill[:] = 0.0
    for j in range(unknowns):
        first = j * (j + 1) // 2
        pivot = matrix[first + j]
        for i in range(width):
            pivot[i] += ridge
        for m in range(j):
            diagonal = matrix[m * (m + 1) // 2 + m]
            _subtract_product(matrix[first + m], matrix[first + m], diagonal, pivot, width)
        limit = floors[j] + ridge
        for i in range(width):
            ill[i] += 0.0 if pivot[i] >= limit else 1.0
        rescue = 1.0 if ridge == 0.0 else ridge
        for i in range(width):
            pivot[i] = pivot[i] if pivot[i] >= limit or pivot[i] > ridge > 0.0 else rescue
        for row in range(j + 1, unknowns):
            base = row * (row + 1) // 2
            below = matrix[base + j]
            for m in range(j):
                diagonal = matrix[m * (m + 1) // 2 + m]
                _subtract_product(matrix[base + m], matrix[first + m], diagonal, below, width)
            for i in range(width):
                below[i] /= pivot[i]
            solved, remaining = rhs[j], rhs[row]
            for i in range(width):
                remaining[i] -= below[i] * solved[i]
    for j in range(unknowns - 1, -1, -1):
        pivot, solved = matrix[j * (j + 1) // 2 + j], rhs[j]
        for i in range(width):
            solved[i] /= pivot[i]
        for row in range(j + 1, unknowns):
            below, known = matrix[row * (row + 1) // 2 + j], rhs[row]
            for i in range(width):
                solved[i] -= below[i] * known[i]


@jit
def _equation_rows(  # type: ignore[no-untyped-def]
    reference, sample, weights, kinds, target, needed, solves, floors, ridge, all_matrix, all_rhs, status,
    start, stop,
):  # fmt: skip
    """Fill the right sides, or the solutions, and the matrices where there is room for them."""
    size, unknowns, dtype = reference.shape[2], len(kinds), reference.dtype
    columns, padded = np.empty((unknowns, _TILE), dtype), np.empty(_TILE + 2 * RADIUS, dtype)
    weight, right = np.empty(_TILE, dtype), np.empty(_TILE, dtype)
    valid, lost = np.empty(_TILE, np.int64), np.empty(_TILE, np.int64)
    matrix, rhs = np.empty((unknowns * (unknowns + 1) // 2, _TILE)), np.empty((unknowns, _TILE))
    ill = np.zeros(_TILE)
    for x0 in range(0, size, _TILE):
        width = min(_TILE, size - x0)
        for y in range(start, stop):
            _accumulate(
                reference, sample, weights, kinds, target, y, x0, width,
                columns, padded, weight, right, valid, lost, matrix, rhs,
            )  # fmt: skip
            for k in range(len(all_matrix)):
                copy_row(matrix[k, :width], all_matrix[k, y, x0 : x0 + width])
            if solves:
                _factor_and_solve(matrix, rhs, floors, ridge, width, ill)
            for j in range(unknowns):
                copy_row(rhs[j, :width], all_rhs[j, y, x0 : x0 + width])
            line = status[y, x0 : x0 + width]
            for i in range(width):
                line[i] = (lost[i] > 0) * LOST_SAMPLE + (valid[i] < needed) * TOO_FEW + (ill[i] > 0.0) * ILL


@jit
def _solve_sums(all_matrix, all_rhs, floors, ridge, status, start, stop):  # type: ignore[no-untyped-def]
    unknowns, _, size = all_rhs.shape
    matrix, rhs = np.empty((len(all_matrix), _TILE)), np.empty((unknowns, _TILE))
    ill = np.empty(_TILE)
    for y in range(start, stop):
        for x0 in range(0, size, _TILE):
            width = min(_TILE, size - x0)
            for k in range(len(all_matrix)):
                copy_row(all_matrix[k, y, x0 : x0 + width], matrix[k])
            for j in range(unknowns):
                copy_row(all_rhs[j, y, x0 : x0 + width], rhs[j])
            _factor_and_solve(matrix, rhs, floors, ridge, width, ill)
            for j in range(unknowns):
                copy_row(rhs[j, :width], all_rhs[j, y, x0 : x0 + width])
            line = status[y, x0 : x0 + width]
            for i in range(width):
                line[i] |= (ill[i] > 0.0) * ILL


def solve(
    reference: Real,
    sample: Real,
    system: System,
    *,
    weights: Real | None = None,
    floors: Sequence[float] | Real | None = None,
    ridge: float = 0.0,
    threads: int | None = None,
) -> tuple[Real, NDArray[np.uint8]]:
    """Return the solution (unknowns, y, x) of every pixel's equations, and its status (y, x).

    Frames (position, y, x), the reference finite; what is not finite in the sample gets weight 0. `weights`
    (position, y, x): of each equation; `floors` (unknowns,): least pivots of the normal matrix, below which a
    pixel is ill-determined; `ridge`: added to its diagonal. Status bits `LOST_SAMPLE`, `TOO_FEW` and `ILL`;
    without a ridge a solution has no meaning where one of the last two is set.
    """
    low = _floors(floors, system.unknowns)
    _, solution, status = _equations(
        reference, sample, system, weights, system.unknowns, False, (True, low, float(ridge)), threads
    )
    return solution, status


def normal_equations(
    reference: Real,
    sample: Real,
    system: System,
    *,
    weights: Real | None = None,
    needed: int | None = None,
    want_matrix: bool = True,
    threads: int | None = None,
) -> tuple[Real, Real, NDArray[np.uint8]]:
    """Return matrix (lower triangle, row by row), right side (unknowns, y, x) and status of every pixel.

    Arguments as in `solve`; `needed`: positions below which a pixel has `TOO_FEW`, the number of unknowns by
    default; without `want_matrix` the matrix is empty.
    """
    least = system.unknowns if needed is None else needed
    nothing = (False, np.zeros(0), 0.0)
    return _equations(reference, sample, system, weights, least, want_matrix, nothing, threads)


def _equations(
    reference: Real,
    sample: Real,
    system: System,
    weights: Real | None,
    needed: int,
    want_matrix: bool,
    solving: tuple[bool, Real, float],
    threads: int | None,
) -> tuple[Real, Real, NDArray[np.uint8]]:
    """Return matrices, right sides and status; `solving`: whether solutions replace the right sides."""
    shape, unknowns = reference.shape[1:], system.unknowns
    matrix = np.empty((unknowns * (unknowns + 1) // 2 if want_matrix else 0, *shape), reference.dtype)
    rhs, status = np.empty((unknowns, *shape), reference.dtype), np.empty(shape, np.uint8)
    kinds, given = np.array(system.kinds, np.int64), (reference, sample, weights)
    for_blocks(
        lambda a, b: _equation_rows(
            *given, kinds, system.target, needed, *solving, matrix, rhs, status, a, b
        ),
        shape[0],
        threads=threads,
    )
    return matrix, rhs, status


def solve_normal_equations(
    matrix: Real,
    rhs: Real,
    status: NDArray[np.uint8],
    *,
    floors: Sequence[float] | Real | None = None,
    ridge: float = 0.0,
    threads: int | None = None,
) -> None:
    """Replace right sides (unknowns, y, x) by the solutions; `status` (y, x) gets the bit `ILL`.

    `matrix`: lower triangle, row by row, not modified; floors and ridge as in `solve`.
    """
    low = _floors(floors, rhs.shape[0])
    for_blocks(lambda a, b: _solve_sums(matrix, rhs, low, ridge, status, a, b), rhs.shape[1], threads=threads)


def _floors(floors: Sequence[float] | Real | None, unknowns: int) -> Real:
    low = np.zeros(unknowns) if floors is None else np.asarray(floors, np.float64)
    return np.maximum(low, np.finfo(np.float64).tiny)  # a pivot of 0 is never usable
