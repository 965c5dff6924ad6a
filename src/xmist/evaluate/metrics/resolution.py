"""Resolution of pictures."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xmist.core.errors import InputError, as_number, raise_errors, shown
from xmist.evaluate.metrics.checks import Real, check_image, check_mask

_FEWEST: Final = 10.0  # independent coefficients of a ring that says something


@dataclass(frozen=True, eq=False)
class FRC:
    """Fourier ring correlation of two images.

    Parameters
    ----------
    frequencies : (ring,) array
        Spatial frequency in cycles per metre.
    values : (ring,) array
        Correlation on each ring.
    threshold : (ring,) array
        Half-bit threshold.
    resolution : float
        1/frequency in metres where the correlation first falls below the threshold and stays there on the
        next ring; NaN if it does so nowhere, for then the pixel and not the image limits the resolution.
        Rings of fewer than ten independent coefficients say nothing.
    """

    frequencies: Real
    values: Real
    threshold: Real
    resolution: float


def fourier_ring_correlation(
    a: ArrayLike, b: ArrayLike, *, pixel_size: float, mask: ArrayLike | None = None
) -> FRC:
    """Compare two independent pictures of the same thing ring by ring in Fourier space.

    Parameters
    ----------
    a, b : (y, x) array_like
        Pictures from independent data, such as the even and the odd exposures. Pixels that are NaN in either
        become the mean of the rest.
    pixel_size : float
        Pixel in metres.
    mask : (y, x) bool array_like, optional
        Pixels that count; None takes all.

    Returns
    -------
    FRC
        Rings as wide as the coarser axis resolves, up to Nyquist; without the ring of the mean.

    Raises
    ------
    InputError
        If shapes differ or are below 16 pixels, if a picture is constant, or for a faulty pixel size.

    Notes
    -----
    van Heel & Schatz 2005, J. Struct. Biol. 151 250, doi:10.1016/j.jsb.2005.05.009: a ring of n pixels of
    Fourier space crosses the half-bit threshold at
    (0.2071 + 1.9102/√n)/(1.2071 + 0.9102/√n). A Hann window along either axis keeps the borders from
    correlating; it leaves about a quarter of the coefficients independent, by which n is reduced.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> noise = rng.normal(size=(3, 64, 64))
    >>> same = fourier_ring_correlation(noise[0], noise[0], pixel_size=1e-6)
    >>> bool((same.values > 0.999).all()), same.resolution
    (True, nan)
    """
    faults: list[str] = []
    first, second = check_image("a", a, faults), check_image("b", b, faults)
    if first is not None and second is not None and first.shape != second.shape:
        faults.append(f"a has shape {first.shape} and b {second.shape}; expected equal shapes")
    if first is not None and min(first.shape) < 16:
        faults.append(f"a has shape {first.shape}; expected at least 16 × 16 pixels")
    size = as_number(pixel_size)
    if size is None or not (math.isfinite(size) and size > 0):
        faults.append(f"pixel_size is {shown(pixel_size)}; expected a positive number of metres")
    used = None if first is None else check_mask("mask", mask, first.shape, faults)
    raise_errors(faults)
    assert first is not None  # there were no faults
    assert second is not None
    assert used is not None
    assert size is not None
    used = used & ~np.isnan(first) & ~np.isnan(second)
    window = np.outer(*(np.hanning(n + 2)[1:-1] for n in first.shape)) * used
    if not window.any():
        raise InputError("no pixel is a number in both images; nothing to compare")
    spectra = [np.fft.rfft2(_without_mean(image, window)) for image in (first, second)]
    ring, edges, count = _rings(first.shape)
    power = [np.bincount(ring.ravel(), (np.abs(f) ** 2 * count).ravel(), len(edges)) for f in spectra]
    cross = np.bincount(ring.ravel(), ((spectra[0] * np.conj(spectra[1])).real * count).ravel(), len(edges))
    number = np.bincount(ring.ravel(), count.ravel(), len(edges))
    inside = slice(1, len(edges) - 1)
    size2 = np.sqrt(power[0][inside] * power[1][inside])
    if not (size2 > 0).any():
        raise InputError("an image is constant; its Fourier ring correlation is not defined")
    values = cross[inside] / np.where(size2 > 0, size2, np.inf)
    root = np.sqrt(number[inside] * _independent(window))
    threshold = (0.2071 + 1.9102 / root) / (1.2071 + 0.9102 / root)
    frequencies = edges[inside] / size
    excess = np.where(root**2 >= _FEWEST, values - threshold, np.inf)
    return FRC(frequencies, values, threshold, _crossing(frequencies, excess))


def _without_mean(image: Real, window: Real) -> Real:
    """Take off the windowed mean, so that the window's own spectrum does not correlate."""
    filled = np.where(window > 0, image, 0.0)
    return window * (filled - float((window * filled).sum() / window.sum()))


def _independent(window: Real) -> float:
    """Share of the Fourier coefficients that a window leaves independent."""
    return float(np.mean(window**2) ** 2 / np.mean(window**4))


def _rings(shape: tuple[int, ...]) -> tuple[NDArray[np.int64], Real, Real]:
    """Ring of each coefficient of rfft2, centres of the rings in cycles a pixel, and multiplicities."""
    height, width = shape
    ky, kx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    rings = min(shape) // 2
    ring = np.rint(np.hypot(ky, kx) * 2.0 * rings).astype(np.int64)
    ring = np.minimum(ring, rings + 1)
    count = np.full(ring.shape, 2.0)  # the other half of Fourier space
    count[:, 0] = 1.0
    if width % 2 == 0:
        count[:, -1] = 1.0
    return ring, np.arange(rings + 2) / (2.0 * rings), count


def _crossing(frequencies: Real, excess: Real) -> float:
    low = excess < 0
    below = np.flatnonzero(low & np.append(low[1:], True))
    if below.size == 0:
        return math.nan
    first = int(below[0])
    if first == 0 or not math.isfinite(excess[first - 1]):
        return float(1.0 / frequencies[first])
    before, after = excess[first - 1], excess[first]
    share = before / (before - after)
    return float(1.0 / (frequencies[first - 1] + share * (frequencies[first] - frequencies[first - 1])))
