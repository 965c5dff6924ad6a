"""Smoothing with the even mirror, and means over a Gaussian neighbourhood."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

from xmist.numerics.compiled import jit
from xmist.numerics.operators.derivatives import folded
from xmist.numerics.parallel import for_blocks

Real = NDArray[Any]


@jit
def _convolve_down(image, taps, out, start, stop):  # type: ignore[no-untyped-def]
    height, width = image.shape
    for y in range(start, stop):
        line, centre = out[y], image[y]
        for x in range(width):
            line[x] = taps[0] * centre[x]
        for k in range(1, len(taps)):
            above, below, tap = image[folded(y - k, height)], image[folded(y + k, height)], taps[k]
            for x in range(width):
                line[x] += tap * (above[x] + below[x])


@jit
def _convolve_across(image, taps, out, start, stop):  # type: ignore[no-untyped-def]
    width, reach = image.shape[1], len(taps) - 1
    padded = np.empty(width + 2 * reach, image.dtype)
    for y in range(start, stop):
        line = out[y]
        for i in range(len(padded)):
            padded[i] = image[y, folded(i - reach, width)]
        centre = padded[reach:]
        for x in range(width):
            line[x] = taps[0] * centre[x]
        for k in range(1, len(taps)):
            left, right, tap = padded[reach - k :], padded[reach + k :], taps[k]
            for x in range(width):
                line[x] += tap * (left[x] + right[x])


def convolve(images: Real, taps: Real, *, threads: int | None = None) -> None:
    """Convolve images (number, y, x) along both axes in place; `taps`: from the middle, in any unit."""
    taps = (taps / (2.0 * taps.sum() - taps[0])).astype(images.dtype)
    spare = np.empty_like(images[0])
    for image in images:
        for_blocks(partial(_convolve_down, image, taps, spare), len(image), threads=threads)
        for_blocks(partial(_convolve_across, spare, taps, image), len(image), threads=threads)


def gaussian(images: Real, sigma: float, *, threads: int | None = None) -> None:
    """Smooth images (number, y, x) in place by a Gaussian of σ pixels; 0 leaves them as they are."""
    if sigma > 0.0:

        def task(start: int, stop: int) -> None:
            for image in images[start:stop]:
                scipy.ndimage.gaussian_filter(image, sigma, mode="reflect", output=image)

        for_blocks(task, len(images), threads=threads, block=1)


def average(images: Real, sigma: float, window: int, *, threads: int | None = None) -> None:
    """Replace images (number, y, x) in place by means over `window` × `window` pixels, then by `gaussian`."""
    if window > 1:
        convolve(images, np.ones(window // 2 + 1), threads=threads)
    gaussian(images, sigma, threads=threads)


def local_mean(image: Real, used: NDArray[np.bool_], sigma: float, *, threads: int | None = None) -> Real:
    """Return the mean of the used pixels around each pixel (y, x), weighted by a Gaussian of σ ≥ 2 pixels.

    On bins of about σ/2: the mean is the same within a bin; infinite where nothing is used.
    """
    size = int(sigma / 2)
    height, width = image.shape
    bins = np.empty((2, -(-height // size), -(-width // size)))
    columns = np.arange(0, width, size)

    def add(start: int, stop: int) -> None:
        rows = slice(start * size, min(stop * size, height))
        for out, values in zip(bins, (np.where(used[rows], image[rows], 0.0), used[rows]), strict=True):
            lines = np.add.reduceat(values, np.arange(0, len(values), size), axis=0, dtype=np.float64)
            out[start:stop] = np.add.reduceat(lines, columns, axis=1)

    for_blocks(add, bins.shape[1], threads=threads, block=16)
    for sums in bins:
        scipy.ndimage.gaussian_filter(sums, sigma / size, mode="reflect", output=sums)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = (bins[0] / bins[1]).astype(np.float32)
    mean[bins[1] <= 0.0] = np.inf
    return np.repeat(np.repeat(mean, size, axis=0)[:height], size, axis=1)[:, :width]
