"""Operators and frames for the methods that solve eq. (M) pixel by pixel, by code of their own."""

from __future__ import annotations

import numpy as np
import scipy.ndimage as ndi
from numpy.typing import NDArray

from tests.manufactured import EXPERIMENT, blob, speckle

Real = NDArray[np.float64]

K, P, DISTANCE = EXPERIMENT.wavenumber, EXPERIMENT.effective_pixel, EXPERIMENT.effective_distance
PHASE = K * P**2 / DISTANCE  # φ = PHASE ψ
SCATTER = P**2 / DISTANCE  # D = SCATTER d
SHAPE = (60, 84)

_FIRST = np.array([-1, 9, -45, 0, 45, -9, 1]) / 60.0
_SECOND = np.array([2, -27, 270, -490, 270, -27, 2]) / 180.0


def dx(frame: Real) -> Real:
    """Sixth-order ∂_x, even mirror."""
    return ndi.correlate1d(frame, _FIRST, axis=-1, mode="reflect")


def dy(frame: Real) -> Real:
    """Sixth-order ∂_y, even mirror."""
    return ndi.correlate1d(frame, _FIRST, axis=-2, mode="reflect")


def dxx(frame: Real) -> Real:
    """Sixth-order ∂_xx, even mirror."""
    return ndi.correlate1d(frame, _SECOND, axis=-1, mode="reflect")


def dyy(frame: Real) -> Real:
    """Sixth-order ∂_yy, even mirror."""
    return ndi.correlate1d(frame, _SECOND, axis=-2, mode="reflect")


def dxy(frame: Real) -> Real:
    """Sixth-order ∂_x∂_y, even mirror."""
    return dx(dy(frame))


def _along(size: int) -> Real:
    """Matrix of the derivative of a sum of cosines along an axis."""
    kappa, place = np.pi * np.arange(size) / size, np.arange(size) + 0.5
    cosines, sines = np.cos(place[:, None] * kappa), np.sin(place[:, None] * kappa)
    return np.linalg.solve(cosines.T, (-kappa * sines).T).T


def cosine_gradient(image: Real) -> tuple[Real, Real]:
    """∂_x and ∂_y of the sum of cosines that an image is, by dense matrices."""
    return image @ _along(image.shape[1]).T, _along(image.shape[0]) @ image


def psi(shape: tuple[int, int] = SHAPE) -> Real:
    """A ψ in pixels² that shifts by up to a sixth of a pixel; mean 0."""
    image = -(4.0 * blob(shape, 0.45, 0.4, 0.2) + 2.5 * blob(shape, 0.6, 0.65, 0.12))
    return image - image.mean()


def scatter(shape: tuple[int, int] = SHAPE) -> Real:
    """A d in pixels²."""
    return 0.25 * blob(shape, 0.4, 0.55, 0.15) + 0.02


def scatter_tensor(shape: tuple[int, int] = SHAPE) -> Real:
    """A positive d_ij (xx, xy, yy) in pixels², of all directions."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    angle, mean = 0.03 * x + 0.05 * y, scatter(shape)
    return mean * np.stack(
        [1 + 0.6 * np.cos(2 * angle), 0.6 * np.sin(2 * angle), 1 - 0.6 * np.cos(2 * angle)]
    )


def transmission(shape: tuple[int, int] = SHAPE) -> Real:
    """A T of a sample that attenuates by up to 30 %."""
    return 1 - 0.3 * blob(shape, 0.45, 0.4, 0.2) - 0.2 * blob(shape, 0.6, 0.65, 0.12)


def references(positions: int, shape: tuple[int, int] = SHAPE, seed: int = 0) -> Real:
    """Reference frames."""
    return speckle(np.random.default_rng(seed), positions, shape)


def relative(found: Real, exact: Real) -> float:
    """Root mean square error over the rms of what is right."""
    return float(np.sqrt(np.mean((found - exact) ** 2, dtype=np.float64) / np.mean(exact**2)))
