"""Roughness of an image: third differences with a natural boundary.

The sum of k (∂xxx u)² + 3k (∂xxy u)² + 3k (∂xyy u)² + k (∂yyy u)² over all stencils inside the image. Away
from the border its symbol is k s³, s that of the five-point Laplacian, as a prior of order 3 in the cosine
basis has; but polynomials of the second degree cost nothing, and nothing is mirrored at the border.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmist.numerics.compiled import jit
from xmist.numerics.parallel import for_blocks

Real = NDArray[Any]
Mask = NDArray[np.bool_]

_WORTH = 64  # columns without empty pixels that are worth leaving out
_TIMES = (1.0, 1.0, 3.0, 3.0)  # xxx, yyy, xxy, xyy


@jit
def _weigh(line, first, last, here, there, offset, inside, empty, times):  # type: ignore[no-untyped-def]
    """Multiply differences by their strengths, that of empty pixels where one of two is; return the sum."""
    total = 0.0
    for x in range(first, last):
        k = empty if here[x] or there[x + offset] else inside
        total += np.float64(k) * np.float64(line[x]) ** 2
        line[x] *= k * times
    return np.float64(times) * total


@jit
def _add(row, line, first, last, shift, factor):  # type: ignore[no-untyped-def]
    for x in range(first, last):
        row[x + shift] += factor * line[x]


@jit
def _ends(here, below):  # type: ignore[no-untyped-def]
    """Return the ends (number, 2) of the parts of two rows around their longest run without empty pixels."""
    width = len(here)
    best, length, x = 0, 0, 0
    while x < width:
        run = x
        while run < width and not (here[run] or below[run]):
            run += 1
        if run - x > length:
            best, length = x, run - x
        x = run + 1
    if length < _WORTH:
        return np.array([[0, width], [0, 0]])
    # Differences reach two pixels further.
    return np.array([[0, best + 2 if best else 0], [best + length - 2, width]])


@jit
def _roughness_rows(field, mask, inside, empty, out, sums, start, stop):  # type: ignore[no-untyped-def]
    height, columns = field.shape
    buffer = np.empty(columns, field.dtype)
    number = field.dtype.type
    one, two, three = number(1.0), number(2.0), number(3.0)
    whole = np.array([[0, columns], [0, 0]])
    for y in range(max(start - 2, 0), min(stop + 1, height)):
        total = 0.0
        after = min(y + 1, height - 1)
        # Where only empty pixels count, most of a row does not.
        parts = whole if inside > 0.0 else _ends(mask[y], mask[after])
        for part in range(2):
            left, right = parts[part]
            width = right - left
            if width == 0:
                continue
            line = buffer[:width]
            row, below, bad, next_bad = (
                field[y, left:right], field[after, left:right], mask[y, left:right], mask[after, left:right]
            )  # fmt: skip
            if start <= y < stop and width > 3:
                for x in range(1, width - 2):
                    line[x] = (row[x + 2] - row[x - 1]) - three * (row[x + 1] - row[x])
                total += _weigh(line, 1, width - 2, bad, bad, 1, inside, empty, one)
                for shift, factor in ((-1, -one), (0, three), (1, -three), (2, one)):
                    _add(out[y, left:right], line, 1, width - 2, shift, factor)
            if 1 <= y < height - 2:
                above, last = field[y - 1, left:right], field[y + 2, left:right]
                for x in range(width):
                    line[x] = (last[x] - above[x]) - three * (below[x] - row[x])
                total += _weigh(line, 0, width, bad, next_bad, 0, inside, empty, one)
                for shift, factor in ((-1, -one), (0, three), (1, -three), (2, one)):
                    if start <= y + shift < stop:
                        _add(out[y + shift, left:right], line, 0, width, 0, factor)
            if y < height - 1 and width > 2:
                for x in range(1, width - 1):
                    line[x] = ((below[x - 1] - below[x]) + (below[x + 1] - below[x])) - (
                        (row[x - 1] - row[x]) + (row[x + 1] - row[x])
                    )
                total += _weigh(line, 1, width - 1, bad, next_bad, 0, inside, empty, three)
                for shift, factor in ((0, -one), (1, one)):
                    if start <= y + shift < stop:
                        target = out[y + shift, left:right]
                        _add(target, line, 1, width - 1, -1, factor)
                        _add(target, line, 1, width - 1, 0, -two * factor)
                        _add(target, line, 1, width - 1, 1, factor)
            if 1 <= y < height - 1:
                above = field[y - 1, left:right]
                for x in range(width - 1):
                    line[x] = ((above[x + 1] - row[x + 1]) + (below[x + 1] - row[x + 1])) - (
                        (above[x] - row[x]) + (below[x] - row[x])
                    )
                total += _weigh(line, 0, width - 1, bad, bad, 1, inside, empty, three)
                for shift, factor in ((-1, one), (0, -two), (1, one)):
                    if start <= y + shift < stop:
                        _add(out[y + shift, left:right], line, 0, width - 1, 0, -factor)
                        _add(out[y + shift, left:right], line, 0, width - 1, 1, factor)
        if start <= y < stop:
            sums[y] = total


def add_roughness(
    field: Real, mask: Mask, out: Real, *, inside: float, empty: float, threads: int | None = None
) -> float:
    """Add half the gradient of the roughness of a field (y, x) to `out`; return the roughness.

    The strength k is `empty` for stencils one of whose two middle pixels is in the mask (y, x), else
    `inside`.
    """
    sums = np.empty(len(field))
    number = field.dtype.type
    for_blocks(
        lambda a, b: _roughness_rows(field, mask, number(inside), number(empty), out, sums, a, b),
        len(field),
        threads=threads,
    )
    return float(sums.sum())


def random_force(random: np.random.Generator, mask: Mask, *, inside: float, empty: float) -> Real:
    """Return an image (y, x) of noise whose covariance is the matrix of the roughness."""
    height, width = mask.shape
    out = np.zeros((height, width), np.float32)
    pairs = (
        mask[:, 1:-2] | mask[:, 2:-1],
        mask[1:-2] | mask[2:-1],
        mask[:-1, 1:-1] | mask[1:, 1:-1],
        mask[1:-1, :-1] | mask[1:-1, 1:],
    )
    axes = ((1, 1, 1), (0, 0, 0), (1, 1, 0), (0, 0, 1))
    for pair, times, order in zip(pairs, _TIMES, axes, strict=True):
        drawn = random.standard_normal(pair.shape, np.float32)
        drawn *= np.sqrt(np.where(pair, np.float32(times * empty), np.float32(times * inside)))
        for axis in order:
            widths = [(1, 1) if axis == i else (0, 0) for i in (0, 1)]
            drawn = np.diff(np.pad(drawn, widths), axis=axis)
        out -= drawn
    return out
