"""The contrast of details of the dark-field that speckles lose through the detector, and its correction.

Structure blurs speckles before the detector does. A wave of D of wave number κ takes light from a speckle of
wave number p to p + κ, which the point spread passes worse than p by exp(−σ²(κ² + 2 p·κ)/2), while the fit
compares with the reference behind the detector. Least squares weighs p by |I_R(p)|² |p + κ|⁴. With Gaussian
speckles, |I_R(p)|² ~ exp(−p²/2s²), κ_s² = 2s², and a = κ (1 − σ²s²),

    contrast(κ) = exp(−σ²κ² (1 − σ²s²)/2) (8s⁴ + 8s²a² + a⁴)/(8s⁴ + 8s²κ² + κ⁴)

Directions κ ∥ p count most, so that this is far below exp(−σ²κ²/2), the contrast of an image that is blurred.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import scipy.fft
import scipy.ndimage
from numpy.typing import NDArray

from xmist.core.arrays import Image

Real = NDArray[Any]

REACH: Final = 10  # pixels that the correction reaches
_SIZE: Final = 64  # pixels a side on which its kernel is computed
_LEAST: Final = 0.3  # contrast below which noise would be amplified more than details


def detail_contrast(wave: Real, speckles: float, sigma: float) -> Real:
    """Return the contrast of waves of D; wave numbers of both in rad per pixel, point spread σ in pixels."""
    s2, k2 = 0.5 * speckles**2, np.square(np.asarray(wave, np.float64))
    left = 1.0 - sigma**2 * s2
    a2 = k2 * left**2
    seen = (8.0 * s2**2 + 8.0 * s2 * a2 + a2**2) / (8.0 * s2**2 + 8.0 * s2 * k2 + k2**2)
    return np.asarray(np.exp(-0.5 * sigma**2 * k2 * left) * seen)


def sharpen(images: Image, speckles: float, sigma: float) -> Image:
    """Return images of D (projection, y, x) with the contrast of details restored where it is above 0.3.

    A row depends on `REACH` rows at either side, and on no others; the border is continued by its values.
    """
    wave = 2.0 * np.pi * scipy.fft.fftfreq(_SIZE)
    contrast = detail_contrast(np.hypot(wave[:, None], wave), speckles, sigma)
    gain = contrast / (contrast**2 + _LEAST**2)
    kernel = scipy.fft.fftshift(scipy.fft.ifft2(gain).real)
    near = slice(_SIZE // 2 - REACH, _SIZE // 2 + REACH + 1)
    kernel = kernel[near, near] / kernel[near, near].sum()
    return np.stack([scipy.ndimage.correlate(image, kernel, mode="nearest") for image in images])
