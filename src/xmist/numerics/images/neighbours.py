"""Comparison of a pixel with the ranks of its neighbours, which separates defects from edges and grains."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.numerics.compiled import jit
from xmist.numerics.parallel import for_blocks

Real = NDArray[Any]

LOW: Final = 1
HIGH: Final = 2


@jit
def _rank(count, radius):  # type: ignore[no-untyped-def]
    """Rank that a line across the window reaches; in proportion where neighbours are missing."""
    full = (2 * radius + 1) ** 2 - 1
    return max(1, (2 * radius * count + full // 2) // full)


@jit
def _rank_rows(image, good, radius, step, low, high, start, stop):  # type: ignore[no-untyped-def]
    height, width = image.shape
    values = np.empty((2 * radius + 1) ** 2)
    for i in range(start, stop):
        y = i * step
        for j in range(low.shape[1]):
            x = j * step
            count = 0
            for v in range(max(0, y - radius), min(height, y + radius + 1)):
                for u in range(max(0, x - radius), min(width, x + radius + 1)):
                    if good[v, u] and not (v == y and u == x):
                        # Insertion into the sorted part: a window holds a few dozen values.
                        value, k = image[v, u], count
                        while k > 0 and values[k - 1] > value:
                            values[k] = values[k - 1]
                            k -= 1
                        values[k] = value
                        count += 1
            if count == 0:
                low[i, j] = high[i, j] = np.nan
            else:
                rank = _rank(count, radius)
                low[i, j], high[i, j] = values[rank - 1], values[count - rank]


def neighbour_ranks(
    image: Real,
    good: NDArray[np.bool_],
    *,
    radius: int = 2,
    step: int = 1,
    threads: int | None = None,
) -> tuple[Real, Real]:
    """Return the k-th lowest and highest of each pixel's neighbours (y/step, x/step), k = 2 `radius`.

    The window has 2 `radius` + 1 pixels a side; only `good` (y, x) pixels of the image (y, x) count, and k
    falls in proportion where some are missing; NaN where all are. Every `step`-th pixel along either axis is
    looked at.
    """
    shape = (-(-image.shape[0] // step), -(-image.shape[1] // step))
    low, high = np.empty(shape, image.dtype), np.empty(shape, image.dtype)
    for_blocks(lambda a, b: _rank_rows(image, good, radius, step, low, high, a, b), shape[0], threads=threads)
    return low, high


@jit
def _outlier_rows(image, good, radius, excess, deficit, floor, offset, out, start, stop):  # type: ignore[no-untyped-def]
    height, width = image.shape
    ratio = np.exp(deficit)
    for y in range(start, stop):
        for x in range(width):
            out[y, x] = 0
            if not good[y, x]:
                continue
            value = image[y, x]
            # The pixel is above h + excess · max(h, floor) where fewer than k neighbours reach `top`.
            top = value / (1.0 + excess)
            if top < floor:
                top = value - excess * floor
            bottom = (value + offset) * ratio - offset
            count = above = below = 0
            inside_y = radius <= y < height - radius
            inside = inside_y and radius <= x < width - radius
            enough = 2 * radius
            for v in range(max(0, y - radius), min(height, y + radius + 1)):
                for u in range(max(0, x - radius), min(width, x + radius + 1)):
                    if good[v, u] and not (v == y and u == x):
                        neighbour = image[v, u]
                        count += 1
                        above += neighbour >= top
                        below += neighbour <= bottom
                if inside and above >= enough and below >= enough:
                    break
            if above >= enough and below >= enough:
                continue
            if count > 0:
                rank = _rank(count, radius)
                if above < rank:
                    out[y, x] = HIGH
                elif below < rank:
                    out[y, x] = LOW


def neighbour_outliers(
    image: Real,
    good: NDArray[np.bool_],
    *,
    excess: float,
    deficit: float,
    floor: float,
    offset: float,
    radius: int = 2,
    threads: int | None = None,
) -> NDArray[np.uint8]:
    """Return `LOW`, `HIGH` or 0 for each pixel of an image (y, x), 0 where it is not `good` (y, x).

    With h and l the ranks of `neighbour_ranks`, a pixel I is HIGH where I > h + `excess` · max(h, `floor`),
    and LOW where log((l + `offset`)/(I + `offset`)) > `deficit`.
    """
    out = np.empty(image.shape, np.uint8)
    for_blocks(
        lambda a, b: _outlier_rows(image, good, radius, excess, deficit, floor, offset, out, a, b),
        image.shape[0],
        threads=threads,
    )
    return out
