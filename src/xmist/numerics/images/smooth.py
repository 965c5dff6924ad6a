"""Smoothing with the even mirror, and means over a Gaussian neighbourhood."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

from xmist.numerics.compiled import jit
from xmist.numerics.images.blocks import block_sums
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


def gaussian_taps(sigma: float) -> NDArray[np.float64]:
    """Return the taps of a Gaussian of σ pixels from its middle to 4 σ, for `convolve`."""
    taps: NDArray[np.float64] = np.exp(-0.5 * (np.arange(int(4.0 * sigma + 0.5) + 1) / sigma) ** 2)
    return taps


@jit
def _above_rows(image, used, limit, size, out, start, stop):  # type: ignore[no-untyped-def]
    width = image.shape[1]
    for y in range(start, stop):
        a, here, line, least = image[y], used[y], out[y], limit[y // size]
        for u in range(len(least)):
            for x in range(u * size, min((u + 1) * size, width)):
                line[x] = here[x] and np.float64(a[x]) ** 2 > least[u]


def outlying(
    image: Real, used: NDArray[np.bool_], sigma: float, factor: float, *, threads: int | None = None
) -> NDArray[np.bool_]:
    """Return the used pixels (y, x) whose square is above `factor` times its local mean over used pixels.

    The mean is weighted by a Gaussian of σ ≥ 2 pixels, on bins of about σ/2: it is the same within a bin.
    """
    size = int(sigma / 2)
    count, _, _, squares = block_sums(image, used, size, threads=threads)
    bins = np.stack([count, squares])
    convolve(bins, gaussian_taps(sigma / size), threads=threads)
    with np.errstate(divide="ignore", invalid="ignore"):
        limit = np.where(bins[0] > 0.0, factor * bins[1] / bins[0], np.inf)
    out = np.empty(image.shape, np.bool_)
    for_blocks(lambda a, b: _above_rows(image, used, limit, size, out, a, b), len(out), threads=threads)
    return out
