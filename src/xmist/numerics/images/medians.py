"""Medians of few pixels around each: what an image has that its surroundings do not."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Real = NDArray[Any]

# Pairs to put in order, one after the other, until the fifth of nine is their median.
_ORDER: Final = (
    *((1, 2), (4, 5), (7, 8), (0, 1), (3, 4), (6, 7), (1, 2), (4, 5), (7, 8), (0, 3)),
    *((5, 8), (4, 7), (3, 6), (1, 4), (2, 5), (4, 7), (4, 2), (6, 4), (4, 2)),
)
_ROWS: Final = 16  # at a time, so that they stay in the cache


def median_of_nine(image: Real, step: int) -> Real:
    """Return the median (y, x) of each pixel and its eight neighbours `step` pixels away.

    The edge is repeated; NaN where one of the nine is NaN.
    """
    height, width = image.shape
    padded, out = np.pad(image, step, mode="edge"), np.empty_like(image)
    for top in range(0, height, _ROWS):
        low = min(top + _ROWS, height)
        parts = [
            padded[top + i : low + i, j : j + width]
            for i in range(0, 3 * step, step)
            for j in range(0, 3 * step, step)
        ]
        for a, b in _ORDER:
            parts[a], parts[b] = np.minimum(parts[a], parts[b]), np.maximum(parts[a], parts[b])
        out[top:low] = parts[4]
    return out


def distance_from_median(images: Real, step: int) -> float:
    """Return the rms distance of images (number, y, x) from medians over `step` pixels; NaN is left out."""
    total, number = 0.0, 0
    for image in images:
        rest = image - median_of_nine(image, step)
        known = rest[np.isfinite(rest)].astype(np.float64)
        total, number = total + float(known @ known), number + known.size
    return float(np.sqrt(total / number)) if number else 0.0
