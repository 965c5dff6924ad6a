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


def block_mean(image: Real) -> Real:
    """Return the means of an image (y, x) over blocks of `BLOCK` pixels; the last row or column repeats."""
    height, width = (-(-size // BLOCK) * BLOCK for size in image.shape)
    even = np.pad(image, ((0, height - image.shape[0]), (0, width - image.shape[1])), mode="edge")
    blocks = even.reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK)
    out: Real = blocks.mean(axis=(1, 3), dtype=np.float64)
    return out


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
