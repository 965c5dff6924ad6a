"""Symmetric tensors in the plane, one at a pixel: eigenvalues, direction, anisotropy, nearest positive one.

A tensor image is (3, y, x): components xx, xy, yy, x to the right and y downwards. With mean m = (xx + yy)/2
and deviator (a, b) = ((xx − yy)/2, xy) its eigenvalues are m ± r, r = √(a² + b²), and its major axis stands
at ½ atan2(b, a).
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
            f"tensor is {array.dtype} of shape {array.shape}; expected numbers of shape (3, y, x): xx, xy, yy"
        )
    xx, xy, yy = array if array.dtype.kind == "f" else array.astype(np.float64)
    return xx / 2 + yy / 2, xx / 2 - yy / 2, xy


def eigenvalues(tensor: ArrayLike) -> tuple[Real, Real]:
    """Give the eigenvalues, the larger first.

    Parameters
    ----------
    tensor : (3, y, x) array_like
        Components xx, xy, yy.

    Returns
    -------
    larger, smaller : (y, x) array
        λ1 ≥ λ2 in the tensor's unit; NaN where the tensor is.

    Raises
    ------
    InputError
        If it is no tensor image.

    Examples
    --------
    >>> [float(value) for value in eigenvalues([2.0, 1.0, 2.0])]
    [3.0, 1.0]
    """
    mean, a, b = _parts(tensor)
    radius = np.hypot(a, b)
    return mean + radius, mean - radius


def direction(tensor: ArrayLike) -> Real:
    """Give the direction of the major axis in degrees, from +x towards +y, in [0, 180).

    Parameters
    ----------
    tensor : (3, y, x) array_like
        Components xx, xy, yy. Of a dark-field the major axis is the direction of the scatter; fibres run
        across it.

    Returns
    -------
    (y, x) array
        Angle in degrees; 0 where both eigenvalues are equal, NaN where the tensor is.

    Raises
    ------
    InputError
        If it is no tensor image.

    Examples
    --------
    >>> [float(direction(tensor)) for tensor in ([1.0, 0.0, 0.0], [1.0, 1.0, 1.0], [1.0, -1.0, 1.0])]
    [0.0, 45.0, 135.0]
    """
    _, a, b = _parts(tensor)
    angle = np.degrees(np.arctan2(b, a)) / 2
    angle = np.where(angle < 0, angle + 180, angle)
    # A hair below 0 becomes 180 by rounding; it is 0.
    return np.where(angle >= 180, np.zeros_like(angle), angle)


def anisotropy(tensor: ArrayLike) -> Real:
    """Give (λ1 − λ2)/(λ1 + λ2) of the nearest positive semi-definite tensor, from 0 (round) to 1 (a line).

    Parameters
    ----------
    tensor : (3, y, x) array_like
        Components xx, xy, yy.

    Returns
    -------
    (y, x) array
        Anisotropy; 0 where no eigenvalue is positive, NaN where the tensor is.

    Raises
    ------
    InputError
        If it is no tensor image.

    Examples
    --------
    >>> [float(anisotropy(tensor)) for tensor in ([3.0, 0.0, 1.0], [2.0, 0.0, -1.0], [-1.0, 0.0, -2.0])]
    [0.5, 1.0, 0.0]
    """
    larger, smaller = (np.maximum(value, 0) for value in eigenvalues(tensor))
    total = larger + smaller
    # Not "> 0": NaN has to stay.
    return (larger - smaller) / np.where(total == 0, np.ones_like(total), total)


def nearest_positive(tensor: ArrayLike) -> Real:
    """Give the nearest positive semi-definite tensor: its negative eigenvalues become 0.

    Parameters
    ----------
    tensor : (3, y, x) array_like
        Components xx, xy, yy.

    Returns
    -------
    (3, y, x) array
        The tensor itself where it has no negative eigenvalue.

    Raises
    ------
    InputError
        If it is no tensor image.

    Examples
    --------
    >>> nearest_positive([2.0, 0.0, -1.0])
    array([2., 0., 0.])
    """
    mean, a, b = _parts(tensor)
    radius = np.hypot(a, b)
    larger, smaller = np.maximum(mean + radius, 0), np.maximum(mean - radius, 0)
    new_mean, new_radius = (larger + smaller) / 2, (larger - smaller) / 2
    ratio = new_radius / np.where(radius == 0, np.ones_like(radius), radius)
    projected = np.stack([new_mean + ratio * a, ratio * b, new_mean - ratio * a])
    return np.where(mean - radius >= 0, np.asarray(tensor, projected.dtype), projected)
