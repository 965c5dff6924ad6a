"""Speckle frames with known grain, visibility and shift, by Fourier synthesis."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Real = NDArray[np.float64]

# Noise smoothed by a Gaussian of σ has an autocorrelation of full width 4 √(ln 2) σ at half maximum.
WIDTH = 4.0 * np.sqrt(np.log(2.0))


def speckle(
    rng: np.random.Generator,
    shape: tuple[int, int],
    *,
    grain: float,
    visibility: float = 0.3,
    shifts: tuple[tuple[float, float], ...] = ((0.0, 0.0),),
) -> list[Real]:
    """One Gaussian random field of mean 1, cut out of a larger periodic one, at each shift (x, y)."""
    size = [n + 32 for n in shape]
    ky, kx = 2 * np.pi * np.fft.fftfreq(size[0])[:, None], 2 * np.pi * np.fft.fftfreq(size[1])[None]
    sigma = grain / WIDTH
    spectrum = np.fft.fft2(rng.normal(size=size)) * np.exp(-0.5 * sigma**2 * (kx**2 + ky**2))
    scale = visibility / np.fft.ifft2(spectrum).real.std()
    fields = [np.fft.ifft2(spectrum * np.exp(-1j * (kx * x + ky * y))).real for x, y in shifts]
    return [1.0 + scale * field[16:-16, 16:-16] for field in fields]


def log_normal(rng: np.random.Generator, shape: tuple[int, int], grain: float, visibility: float) -> Real:
    """Positive speckle with a tail towards bright values."""
    field = speckle(rng, shape, grain=grain, visibility=1.0)[0] - 1.0
    spread = np.sqrt(np.log1p(visibility**2))
    return np.exp(spread * field - 0.5 * spread**2)


def fully_developed(rng: np.random.Generator, shape: tuple[int, int], grain: float) -> Real:
    """|Circular Gaussian field|²: intensity falls off exponentially, visibility 1."""
    real, imaginary = (speckle(rng, shape, grain=grain, visibility=1.0)[0] - 1.0 for _ in range(2))
    return 0.5 * (real**2 + imaginary**2)
