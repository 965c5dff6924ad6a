"""Means over blocks of pixels."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

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
