"""Sums and extreme values of every few rows of frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.numerics.compiled import jit

Real = NDArray[Any]

_LINES: Final = 32  # rows that are used, if there are as many: flux needs no more
_SEGMENT: Final = 32  # pixels of a row that are summed


@jit
def _add_value(value, extreme):  # type: ignore[no-untyped-def]
    extreme[4] += 1.0
    extreme[5] += value
    if value >= extreme[0]:
        extreme[1] = extreme[1] + 1.0 if value == extreme[0] else 1.0
        extreme[0] = value
    if value <= extreme[2]:
        extreme[3] = extreme[3] + 1.0 if value == extreme[2] else 1.0
        extreme[2] = value


@jit
def _add_values(values, total, highest, lowest, extreme):  # type: ignore[no-untyped-def]
    """As `_add_value` for all of some values, whose sum and extremes are known."""
    extreme[4] += len(values)
    extreme[5] += total
    for k, value, beyond in ((0, highest, highest >= extreme[0]), (2, lowest, lowest <= extreme[2])):
        if beyond:
            count = 0
            for x in range(len(values)):
                count += values[x] == value
            extreme[k + 1] = count + (extreme[k + 1] if value == extreme[k] else 0.0)
            extreme[k] = value


@jit
def _sum_rows(reference, sample, weights, rows, sums, extremes):  # type: ignore[no-untyped-def]
    """Fill `sums` (image, position, row, segment) and `extremes` (frame, position, value), see `RowSums`."""
    number, _, width = reference.shape
    last = sums.shape[3] - 1
    for n in range(number):
        for k in range(2):
            extremes[k, n, 0], extremes[k, n, 2] = -np.inf, np.inf
        for i in range(len(rows)):
            one, other = reference[n, rows[i]], sample[n, rows[i]]
            for u in range(last + 1):
                first, end = _SEGMENT * u, width if u == last else _SEGMENT * (u + 1)
                light, seen, pixels = 0.0, 0.0, 1.0 * (end - first)
                high, low = np.float64(one[first]), np.float64(one[first])
                top, least = np.float64(other[first]), np.float64(other[first])
                for x in range(first, end):
                    r, s = np.float64(one[x]), np.float64(other[x])
                    light += r
                    seen += s
                    high, low, top, least = max(high, r), min(low, r), max(top, s), min(least, s)
                if weights.size == 0 and np.isfinite(light) and np.isfinite(seen):
                    _add_values(one[first:end], light, high, low, extremes[0, n])
                    _add_values(other[first:end], seen, top, least, extremes[1, n])
                else:
                    light, seen, pixels = 0.0, 0.0, 0.0
                    for x in range(first, end):
                        if weights.size > 0 and not weights[n, rows[i], x] > 0:
                            continue
                        r, s = np.float64(one[x]), np.float64(other[x])
                        if np.isfinite(r):
                            _add_value(r, extremes[0, n])
                        if np.isfinite(s):
                            _add_value(s, extremes[1, n])
                            light += r
                            seen += s
                            pixels += 1.0
                sums[0, n, i, u], sums[1, n, i, u], sums[2, n, i, u] = light, seen, pixels


def some_rows(height: int) -> slice:
    """Return every few rows of a frame."""
    every = max(height // _LINES, 1)
    return slice(every // 2, None, every)


@dataclass(frozen=True, eq=False)
class RowSums:
    """Sums of reference and sample frames, and pixels (position, row, segment), over parts of every few rows.

    `extremes` (frame, position, 6), of reference and sample: the highest value and how often it comes, the
    lowest, the number of pixels and the sum.
    """

    reference: Real
    sample: Real
    pixels: Real
    extremes: Real

    @classmethod
    def of(cls, reference: Real, sample: Real, weights: Real | None) -> RowSums:
        """Sum frames (position, y, x) over the pixels that both have."""
        number, height, width = reference.shape
        rows = np.arange(height)[some_rows(height)]
        segments = len(range(0, max(width - _SEGMENT // 2, 1), _SEGMENT))
        sums, extremes = np.zeros((3, number, len(rows), segments)), np.zeros((2, number, 6))
        given = np.zeros((1, 0, 0), np.uint8) if weights is None else weights
        _sum_rows(reference, sample, given, rows, sums, extremes)
        return cls(sums[0], sums[1], sums[2], extremes)

    def means(self) -> tuple[Real, Real]:
        """Return the means of the reference and of the sample frames (position,); NaN without pixels."""
        number = self.pixels.sum(axis=(1, 2))
        number = np.where(number > 0, number, np.nan)
        return self.reference.sum(axis=(1, 2)) / number, self.sample.sum(axis=(1, 2)) / number
