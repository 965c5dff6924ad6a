"""Values for pixels without one, where a derivative or a transform needs them."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.numerics.compiled import jit
from xmist.numerics.parallel import for_blocks

Real = NDArray[Any]

REACH: Final = 8  # pixels; a neighbour farther away does not count

# Sixth-order interpolation from three neighbours on either side.
_W1, _W2, _W3 = 15.0 / 20.0, -6.0 / 20.0, 1.0 / 20.0


@jit
def _line(image, good, y, x, dy, dx):  # type: ignore[no-untyped-def]
    """Interpolate along one axis; NaN if one of the six neighbours is missing."""
    height, width = good.shape
    total = 0.0
    for step in range(1, 4):
        ya, xa, yb, xb = y - step * dy, x - step * dx, y + step * dy, x + step * dx
        if ya < 0 or xa < 0 or yb >= height or xb >= width or not good[ya, xa] or not good[yb, xb]:
            return np.nan
        weight = _W1 if step == 1 else (_W2 if step == 2 else _W3)
        total += weight * (np.float64(image[ya, xa]) + np.float64(image[yb, xb]))
    return total


@jit
def _nearby(image, good, y, x):  # type: ignore[no-untyped-def]
    """Average the good pixels nearby, the nearest most; NaN if there is none within reach."""
    height, width = good.shape
    radius = 2
    while radius <= REACH:
        total = norm = 0.0
        for v in range(max(0, y - radius), min(height, y + radius + 1)):
            for u in range(max(0, x - radius), min(width, x + radius + 1)):
                if good[v, u]:
                    weight = np.exp(-2.0 * ((v - y) ** 2 + (u - x) ** 2) / radius**2)
                    total += weight * image[v, u]
                    norm += weight
        if norm > 0.0:
            return total / norm
        radius *= 2
    return np.nan


@jit
def _fill_rows(image, good, smooth, out, start, stop):  # type: ignore[no-untyped-def]
    for y in range(start, stop):
        for x in range(good.shape[1]):
            if good[y, x]:
                continue
            value = np.nan
            if smooth:
                for axis in range(2):
                    along = _line(image, good, y, x, 1 - axis, axis)
                    if along == along:
                        value = 0.5 * (along + value) if value == value else along
            out[y, x] = value if value == value else _nearby(image, good, y, x)


def fill(image: Real, good: NDArray[np.bool_], *, smooth: bool = False, threads: int | None = None) -> Real:
    """Return an image (y, x) whose pixels that are not `good` (y, x) have values from good ones nearby.

    With `smooth` (well sampled, such as a speckle frame) a bad pixel that stands alone gets the sixth-order
    interpolation along x and y; otherwise, and in clusters, a Gaussian average of the good neighbours. NaN
    where no good pixel lies within 8 pixels.
    """
    out = image.copy()
    if not good.all():
        for_blocks(lambda a, b: _fill_rows(image, good, smooth, out, a, b), image.shape[0], threads=threads)
    return out
