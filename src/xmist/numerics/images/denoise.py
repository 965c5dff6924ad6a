"""White noise in an image: its variance, and the image without it.

The square root makes photon noise white: var(I) = g I gives var(√I) = g/4 at every brightness (Anscombe 1948,
Biometrika 35 246). Noise in the columns biases a least-squares fit (errors in variables); columns from a
Wiener filter, the expected value of the true image, do not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.numerics.solvers.poisson import dct2, frequencies

Real = NDArray[Any]

# Beyond this part of the highest frequency along both axes an image that a detector has blurred is noise.
_CORNER: Final = 0.8
MEDIAN_OF_SQUARE: Final = 0.4549364  # of a standard normal variable
_BINS: Final = 60


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageSpectrum:
    """Power (ring,) of an image without noise over frequencies in rad per pixel, and its noise's variance."""

    frequencies: Real
    power: Real
    noise: float

    def at(self, frequencies: Real) -> Real:
        """Return the power of the image without noise at frequencies in rad per pixel."""
        return np.interp(frequencies, self.frequencies, self.power)

    def draw_error(
        self, shape: tuple[int, int], random: np.random.Generator, threads: int | None = None
    ) -> Real:
        """Return a random error (y, x) of the `wiener` estimate of an image of this spectrum.

        It is Gaussian with mean 0 and power p n/(p + n) for signal p and noise n, and independent of the
        estimate.
        """
        coefficients = np.zeros(shape, np.float32)
        for row, k, k_x in _rows(coefficients):
            signal = self.at(np.hypot(k, k_x))
            drawn = random.standard_normal(len(row))
            row[:] = drawn * np.sqrt(signal * self.noise / (signal + self.noise)) if self.noise else 0.0
        coefficients[0, 0] = 0.0
        error: Real = dct2(coefficients, inverse=True, threads=threads)
        return error


@dataclass(frozen=True, eq=False)
class Cosines:
    """Cosine coefficients (y, x) in float64 of an image without its mean."""

    coefficients: NDArray[np.float64]
    mean: float
    threads: int | None = None

    @classmethod
    def of(cls, image: Real, *, threads: int | None = None) -> Cosines:
        """Transform a finite image (y, x)."""
        values = np.array(image, np.float64)
        mean = values.mean()
        values -= mean
        return cls(dct2(values, threads=threads), float(mean), threads)

    def noise_variance(self) -> float:
        """Return the variance of white noise, see the function of this name."""
        y, x = (int(_CORNER * size) for size in self.coefficients.shape)
        return float(np.median(self.coefficients[y:, x:] ** 2) / MEDIAN_OF_SQUARE)

    def spectrum(self, variance: float) -> ImageSpectrum:
        """Return the spectrum, see `spectrum_of`."""
        return _spectrum(self.coefficients, variance)

    def filtered(self, spectrum: ImageSpectrum) -> Real:
        """Return the estimate without white noise, see `wiener`; the memory of the coefficients is used."""
        if spectrum.noise > 0.0:
            for row, k, k_x in _rows(self.coefficients):
                signal = spectrum.at(np.hypot(k, k_x))
                row *= signal / (signal + spectrum.noise)
        out = dct2(self.coefficients, inverse=True, threads=self.threads)
        out += self.mean
        return out


def noise_variance(image: Real, *, threads: int | None = None) -> float:
    """Return the variance of white noise, from the highest frequencies of a finite image (y, x).

    The median of the squared cosine coefficients in that corner, over the median of a standard normal
    variable squared. Below 0.01 of it is rounding of float32.
    """
    return Cosines.of(image, threads=threads).noise_variance()


def spectrum_of(image: Real, variance: float, *, threads: int | None = None) -> ImageSpectrum:
    """Return the spectrum of a finite image (y, x) of isotropic statistics with white noise of a variance.

    The power is the mean over a ring of frequencies less the variance, and 0 beyond the last ring that is
    above the noise by three standard deviations.
    """
    return Cosines.of(image, threads=threads).spectrum(variance)


def wiener(image: Real, variance: float, *, threads: int | None = None) -> Real:
    """Return the best linear estimate (y, x) of an image without its white noise, in float64.

    Every cosine coefficient is multiplied by P/(P + variance), P as of `spectrum_of`.
    """
    if variance == 0.0:
        return np.array(image, np.float64)
    cosines = Cosines.of(image, threads=threads)
    return cosines.filtered(cosines.spectrum(variance))


def _rows(coefficients: Real) -> Iterator[tuple[Real, float, Real]]:
    """Yield each row of cosine coefficients with its frequencies along y and x in rad per pixel."""
    k_y, k_x = frequencies(coefficients.shape)
    for row, k in zip(coefficients, k_y, strict=True):
        yield row, float(k), k_x


def _spectrum(coefficients: Real, variance: float) -> ImageSpectrum:
    """Return the power of the signal over rings of frequencies."""
    edges = np.linspace(0.0, np.hypot(np.pi, np.pi), _BINS + 1)
    counts, powers, sums = np.zeros(_BINS), np.zeros(_BINS), np.zeros(_BINS)
    for row, k, k_x in _rows(coefficients):
        radius = np.hypot(k, k_x)
        ring = np.minimum(np.searchsorted(edges, radius, side="right") - 1, _BINS - 1)
        counts += np.bincount(ring, minlength=_BINS)
        powers += np.bincount(ring, row**2, minlength=_BINS)
        sums += np.bincount(ring, radius, minlength=_BINS)
    used = counts > 0
    counts, powers, centres = counts[used], powers[used] / counts[used], sums[used] / counts[used]
    signal = powers - variance
    standing = np.flatnonzero(signal > 3.0 * variance * np.sqrt(2.0 / counts))
    signal[standing[-1] + 1 if len(standing) else 0 :] = 0.0
    return ImageSpectrum(frequencies=centres, power=np.maximum(signal, 0.0), noise=variance)
