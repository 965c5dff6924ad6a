"""Symmetric 2 × 2 tensors at each pixel: eigenvalues, direction, anisotropy, nearest positive tensor.

A tensor image is (3, y, x): components xx, xy, yy, x to the right and y downwards. With mean m = (xx + yy)/2
and deviator (a, b) = ((xx − yy)/2, xy) the eigenvalues are m ± r, r = √(a² + b²), and the major axis has the
direction ½ atan2(b, a).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xmist.core.errors import InputError

Real = NDArray[Any]


def _parts(tensor: ArrayLike) -> tuple[Real, Real, Real]:
    """Mean and both components of the deviator."""
    array = np.asarray(tensor)
    if array.ndim < 1 or array.shape[0] != 3 or array.dtype.kind not in "iuf":
        raise InputError(
            f"tensor is {array.dtype} of shape {array.shape}; expected numbers (3, y, x): xx, xy, yy",
            "array-invalid",
        )
    xx, xy, yy = array if array.dtype.kind == "f" else array.astype(np.float64)
    return xx / 2 + yy / 2, xx / 2 - yy / 2, xy


def eigenvalues(tensor: ArrayLike) -> tuple[Real, Real]:
    """Return the eigenvalues λ1 ≥ λ2 (y, x) of a tensor (3, y, x) = xx, xy, yy; NaN where the tensor is."""
    mean, a, b = _parts(tensor)
    radius = np.hypot(a, b)
    return mean + radius, mean - radius


def direction(tensor: ArrayLike) -> Real:
    """Return the direction of the major axis (y, x) in degrees, from +x towards +y, in [0, 180).

    Of a dark-field tensor (3, y, x) it is the direction of the scatter; fibres run across it. 0 where both
    eigenvalues are equal, NaN where the tensor is.
    """
    _, a, b = _parts(tensor)
    angle = np.degrees(np.arctan2(b, a)) / 2
    angle = np.where(angle < 0, angle + 180, angle)
    # An angle just below 0 is rounded to 180; it is 0.
    return np.where(angle >= 180, np.zeros_like(angle), angle)


def anisotropy(tensor: ArrayLike) -> Real:
    """Return (λ1 − λ2)/(λ1 + λ2) (y, x) of the nearest positive semi-definite tensor, 0 to 1.

    0 where no eigenvalue of the tensor (3, y, x) is positive, NaN where the tensor is.
    """
    larger, smaller = (np.maximum(value, 0) for value in eigenvalues(tensor))
    total = larger + smaller
    # Not "> 0": NaN has to stay.
    return (larger - smaller) / np.where(total == 0, np.ones_like(total), total)


def nearest_positive(tensor: ArrayLike) -> Real:
    """Return the nearest positive semi-definite tensor (3, y, x): negative eigenvalues become 0."""
    mean, a, b = _parts(tensor)
    radius = np.hypot(a, b)
    larger, smaller = np.maximum(mean + radius, 0), np.maximum(mean - radius, 0)
    new_mean, new_radius = (larger + smaller) / 2, (larger - smaller) / 2
    ratio = new_radius / np.where(radius == 0, np.ones_like(radius), radius)
    projected = np.stack([new_mean + ratio * a, ratio * b, new_mean - ratio * a])
    return np.where(mean - radius >= 0, np.asarray(tensor, projected.dtype), projected)
