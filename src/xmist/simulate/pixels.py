"""Blur and binning, from the wave's samples to the detector's pixels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmist.numerics.compiled import jit
from xmist.numerics.operators.derivatives import folded
from xmist.numerics.parallel import for_blocks

Real = NDArray[Any]


def blur_and_bin(
    image: Real, sigma: float, binning: int, *, margin: int = 0, workers: int | None = None
) -> NDArray[np.float64]:
    """Blur by a Gaussian and average over pixels, in one pass along each axis.

    The Gaussian is the discrete one, e^{−σ²} I_n(σ²), whose variance is σ² for every σ (Lindeberg 1990, IEEE
    Trans. PAMI 12, 234).
    `image` (y, x); returns (y, x).
    """
    weights = np.convolve(discrete_gaussian(sigma), np.full(binning, 1.0 / binning))
    reach = (len(weights) - binning) // 2
    height, width = ((size - 2 * margin) // binning for size in image.shape)
    image = np.ascontiguousarray(image, None if image.dtype.kind == "f" else np.float64)
    down = np.empty((height, image.shape[1]), np.float64)
    for_blocks(
        lambda a, b: _down(image, weights, binning, margin - reach, down, a, b), height, threads=workers
    )
    out = np.empty((height, width), np.float64)
    for_blocks(
        lambda a, b: _along(down, weights, binning, margin - reach, out, a, b), height, threads=workers
    )
    return out


def discrete_gaussian(sigma: float) -> NDArray[np.float64]:
    """Weights of the discrete Gaussian, centred, of sum 1."""
    from scipy.special import ive

    reach = 0 if sigma == 0.0 else math.ceil(6.0 * sigma + 4.0)
    weights = ive(np.abs(np.arange(-reach, reach + 1)), sigma**2)
    return np.asarray(weights / weights.sum(), np.float64)


@jit
def _down(image, weights, binning, first, out, start, stop):  # type: ignore[no-untyped-def]
    for y in range(start, stop):
        line = out[y]
        line[:] = 0.0
        for t in range(len(weights)):
            row, w = image[folded(y * binning + first + t, image.shape[0])], weights[t]
            for x in range(len(line)):
                line[x] += w * row[x]


@jit
def _along(image, weights, binning, first, out, start, stop):  # type: ignore[no-untyped-def]
    width = image.shape[1]
    for y in range(start, stop):
        row = image[y]
        for x in range(out.shape[1]):
            begin = x * binning + first
            total = 0.0
            if begin >= 0 and begin + len(weights) <= width:
                for t in range(len(weights)):
                    total += weights[t] * row[begin + t]
            else:
                for t in range(len(weights)):
                    total += weights[t] * row[folded(begin + t, width)]
            out[y, x] = total
