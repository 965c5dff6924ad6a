"""Least squares at pixels with too few equations of their own, with the equations of their neighbours."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.numerics.compiled import jit
from xmist.numerics.images.fill import REACH
from xmist.numerics.parallel import for_blocks
from xmist.numerics.solvers.least_squares import ILL, solve_normal_equations

Real = NDArray[Any]

_RADII: Final = (2, 3, 4, 6, REACH)  # pixels, twice the Gaussian's σ
_ENOUGH: Final = 1.0  # sum of the Gaussian weights of informed neighbours; below, look farther


@jit
def _sum_around(matrix, rhs, informed, ys, xs, radius, sums, right, total, start, stop):  # type: ignore[no-untyped-def]
    height, width = informed.shape
    for k in range(start, stop):
        y, x = ys[k], xs[k]
        norm = 0.0
        for v in range(max(0, y - radius), min(height, y + radius + 1)):
            for u in range(max(0, x - radius), min(width, x + radius + 1)):
                if informed[v, u]:
                    weight = np.exp(-2.0 * ((v - y) ** 2 + (u - x) ** 2) / radius**2)
                    norm += weight
                    for i in range(len(matrix)):
                        sums[i, 0, k] += weight * matrix[i, v, u]
                    for j in range(len(rhs)):
                        right[j, 0, k] += weight * rhs[j, v, u]
        total[k] = norm
        if norm > 0.0:
            sums[:, 0, k] /= norm
            right[:, 0, k] /= norm


def solve_from_neighbours(
    matrix: Real,
    rhs: Real,
    informed: NDArray[np.bool_],
    wanted: NDArray[np.bool_],
    *,
    floors: Real,
    ridge: float = 0.0,
    threads: int | None = None,
) -> Real:
    """Solve at the wanted pixels (y, x) the average of the normal equations around them.

    A Gaussian average over informed pixels (y, x). A neighbour is weighted by its equations, so that one
    whose own solution is nearly undetermined adds no noise. `matrix`: lower triangle, row by row; `rhs`
    (unknowns, y, x); floors and ridge as in `least_squares.solve`. Returns (unknowns, number) in the order of
    `numpy.nonzero(wanted)`; NaN where the pixels within 8 pixels do not determine them.
    """
    ys, xs = np.nonzero(wanted)
    found = np.full((len(rhs), len(ys)), np.nan, rhs.dtype)
    left = np.arange(len(ys))
    for radius in _RADII:
        if left.size == 0:
            break
        sums, solved = np.zeros((len(matrix), 1, left.size)), np.zeros((len(rhs), 1, left.size))
        total, status = np.empty(left.size), np.zeros((1, left.size), np.uint8)
        around = partial(_sum_around, matrix, rhs, informed, ys[left], xs[left], radius, sums, solved, total)
        for_blocks(around, left.size, threads=threads, block=1024)
        solve_normal_equations(sums, solved, status, floors=floors, ridge=ridge, threads=1)
        enough = total > (_ENOUGH if radius < REACH else 0.0)
        if ridge == 0.0:
            enough &= (status[0] & ILL) == 0
        found[:, left[enough]] = solved[:, 0, enough]
        left = left[~enough]
    return found
