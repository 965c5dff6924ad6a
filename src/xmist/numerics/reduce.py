"""Sums over images in a fixed order, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmist.numerics.compiled import jit
from xmist.numerics.parallel import for_blocks

Real = NDArray[Any]


@jit
def _dot_rows(left, right, sums, start, stop):  # type: ignore[no-untyped-def]
    for y in range(start, stop):
        a, b = left[y], right[y]
        # Four sums, since each addition would wait for the one before.
        one = two = three = four = 0.0
        whole = len(a) - len(a) % 4
        for x in range(0, whole, 4):
            one += np.float64(a[x]) * np.float64(b[x])
            two += np.float64(a[x + 1]) * np.float64(b[x + 1])
            three += np.float64(a[x + 2]) * np.float64(b[x + 2])
            four += np.float64(a[x + 3]) * np.float64(b[x + 3])
        for x in range(whole, len(a)):
            one += np.float64(a[x]) * np.float64(b[x])
        sums[y] = (one + two) + (three + four)


def dot(left: Real, right: Real, *, threads: int | None = None) -> float:
    """Return Σ left · right of two stacks (…, y, x) of equal shape, C-contiguous, summed in float64.

    The result does not depend on the threads, bit for bit.
    """
    width = left.shape[-1]
    a, b = left.reshape(-1, width), right.reshape(-1, width)
    sums = np.empty(len(a))
    for_blocks(lambda start, stop: _dot_rows(a, b, sums, start, stop), len(a), threads=threads, block=256)
    return float(sums.sum())
