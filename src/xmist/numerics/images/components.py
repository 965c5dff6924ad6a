"""Connected parts of a mask."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmist.numerics.compiled import jit


@jit
def _root(parents, part):  # type: ignore[no-untyped-def]
    while parents[part] != part:
        parents[part] = parents[parents[part]]
        part = parents[part]
    return part


@jit
def _join(packed, width, parents, sizes, reach):  # type: ignore[no-untyped-def]
    """Join the runs of rows of bits (y, byte) that come as near as `reach`; return the number of runs."""
    most = width // 2 + 1
    of_runs = np.empty((3, 2, most), np.int64)  # of this row and of the one before
    starts, stops, parts = of_runs[0], of_runs[1], of_runs[2]
    before, number = 0, 0
    for y in range(len(packed)):
        now, old, runs, start = y % 2, 1 - y % 2, 0, -1
        for k in range(packed.shape[1]):
            byte = packed[y, k]
            if byte == (255 if start >= 0 else 0):
                continue
            for x in range(8 * k, 8 * k + 8):
                inside = (byte >> (7 - x % 8)) & 1 > 0
                if inside and start < 0:
                    start = x
                elif start >= 0 and not inside:
                    starts[now, runs], stops[now, runs], start = start, x, -1
                    runs += 1
        if start >= 0:
            starts[now, runs], stops[now, runs] = start, width
            runs += 1
        first = 0
        for i in range(runs):
            parents[number], part = number, number
            while first < before and stops[old, first] + reach <= starts[now, i]:
                first += 1
            j = first
            while j < before and starts[old, j] < stops[now, i] + reach:
                one, other = _root(parents, parts[old, j]), _root(parents, part)
                parents[max(one, other)] = min(one, other)
                j += 1
            parts[now, i] = part
            sizes[number] = stops[now, i] - starts[now, i]
            number += 1
        before = runs
    return number


@jit
def _sum_sizes(parents, sizes):  # type: ignore[no-untyped-def]
    for part in range(len(parents) - 1, -1, -1):
        if parents[part] != part:
            sizes[parents[part]] += sizes[part]
            sizes[part] = 0


def part_sizes(mask: NDArray[np.bool_], *, diagonal: bool = False) -> NDArray[np.int64]:
    """Return the pixels of each part of a mask (y, x), whose pixels share edges, or corners if `diagonal`."""
    height, width = mask.shape
    parents = np.empty(height * (width // 2 + 1), np.int32)  # memory that is not used is not taken
    sizes: NDArray[Any] = np.empty(len(parents), np.int64)
    number = _join(np.packbits(mask, axis=1), width, parents, sizes, int(diagonal))
    _sum_sizes(parents[:number], sizes[:number])
    out: NDArray[np.int64] = sizes[:number][sizes[:number] > 0]
    return out
