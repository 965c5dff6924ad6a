"""Sums over images in a fixed order, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmist.numerics.operators.derivatives import jit
from xmist.numerics.parallel import for_blocks

Real = NDArray[Any]


@jit
def _dot_rows(left, right, sums, start, stop):  # type: ignore[no-untyped-def]
    for y in range(start, stop):
        a, b = left[y], right[y]
        total = 0.0
        for x in range(len(a)):
            total += np.float64(a[x]) * np.float64(b[x])
        sums[y] = total


def dot(left: Real, right: Real, *, threads: int | None = None) -> float:
    """Return Σ left · right of two stacks (…, y, x) of equal shape, C-contiguous, summed in float64.

    The result does not depend on the threads, bit for bit.
    """
    width = left.shape[-1]
    a, b = left.reshape(-1, width), right.reshape(-1, width)
    sums = np.empty(len(a))
    for_blocks(lambda start, stop: _dot_rows(a, b, sums, start, stop), len(a), threads=threads, block=256)
    return float(sums.sum())
