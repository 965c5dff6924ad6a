"""Means over blocks of pixels."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.numerics.compiled import fixed, jit
from xmist.numerics.parallel import for_blocks

Real = NDArray[Any]

BLOCK: Final = 4  # pixels a side over which statistics are summed


def halve(images: Real) -> Real:
    """Return images (number, y, x) binned by two; the last row or column of an odd number counts twice."""
    _, height, width = images.shape
    even = np.pad(images, ((0, 0), (0, height % 2), (0, width % 2)), mode="edge")
    out: Real = 0.25 * (
        (even[:, ::2, ::2] + even[:, 1::2, 1::2]) + (even[:, 1::2, ::2] + even[:, ::2, 1::2])
    ).astype(images.dtype)
    return out


@jit
def _add_pixels(image, weights, sums):  # type: ignore[no-untyped-def]
    for x in range(len(image)):
        w = np.float64(weights[x])
        value = np.float64(image[x]) if w > 0.0 else 0.0
        sums[0, x] += 1.0 if w > 0.0 else 0.0
        sums[1, x] += w
        sums[2, x] += w * value
        sums[3, x] += w * value * value


@jit
def _sum_blocks(image, weights, side, out, start, stop):  # type: ignore[no-untyped-def]
    height, width = image.shape
    sums = np.empty((4, width))
    for v in range(start, stop):
        sums[:] = 0.0
        for y in range(v * side, min((v + 1) * side, height)):
            _add_pixels(image[y], weights[y], sums)
        for k in range(4):
            line = sums[k]
            for u in range(out.shape[2]):
                total = 0.0
                for x in range(u * side, min((u + 1) * side, width)):
                    total += line[x]
                out[k, v, u] = total


def block_sums(image: Real, weights: Real, side: int, *, threads: int | None = None) -> NDArray[np.float64]:
    """Return sums over blocks of `side` × `side` pixels, (4, y, x), the last ones cut by the border.

    Those of the pixels of weight above 0, of weights w, of w I and of w I², for an image I and weights (y, x)
    or a mask. Values of weight 0 do not count.
    """
    out = np.empty((4, *(-(-size // side) for size in image.shape)))
    given = fixed(image), fixed(weights)
    for_blocks(lambda a, b: _sum_blocks(*given, side, out, a, b), out.shape[1], threads=threads, block=16)
    return out


def block_pixels(shape: tuple[int, ...], side: int) -> NDArray[np.int64]:
    """Return how many pixels the blocks (y, x) of `block_sums` have."""
    tall, wide = (np.minimum(side, size - np.arange(0, size, side)) for size in shape)
    return np.multiply.outer(tall, wide)


@jit
def _bin_rows(rows, down, across, out, start, stop):  # type: ignore[no-untyped-def]
    total = np.empty(rows.shape[1], rows.dtype)
    scale = rows.dtype.type(1.0 / (down * across))
    for y in range(start, stop):
        total[:] = rows[y * down]
        for k in range(1, down):
            row = rows[y * down + k]
            for x in range(len(total)):
                total[x] += row[x]
        for x in range(out.shape[1]):
            value = total[x * across]
            for k in range(1, across):
                value += total[x * across + k]
            out[y, x] = scale * value


def binned(images: Real, size: int, *, down: int | None = None, threads: int | None = None) -> Real:
    """Return means over squares of `size` pixels, which divides the last two axes (y, x).

    `down`: rows that are averaged, if not `size`.
    """
    *others, height, width = images.shape
    tall = size if down is None else down
    out: Real = np.empty((*others, height // tall, width // size), images.dtype)
    rows, into = fixed(np.ascontiguousarray(images).reshape(-1, width)), out.reshape(-1, width // size)
    for_blocks(lambda a, b: _bin_rows(rows, tall, size, into, a, b), len(into), threads=threads)
    return out
