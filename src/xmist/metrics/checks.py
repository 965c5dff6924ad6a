"""Checks that the metrics share."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Real = NDArray[np.float64]
Mask = NDArray[np.bool_]


def check_image(
    name: str, image: ArrayLike, faults: list[str], dimensions: tuple[int, ...] = (2,)
) -> Real | None:
    """Give an image in float64; None, with a fault, if it is none.

    Parameters
    ----------
    name : str
        What it is called in a fault.
    image : array_like
        Numbers; NaN is one without a value.
    faults : list of str
        Receives a sentence for each fault.
    dimensions : tuple of int
        How many axes it may have.
    """
    array = np.asarray(image)
    if array.dtype.kind not in "iuf":
        faults.append(f"{name} has dtype {array.dtype}; expected numbers")
        return None
    if array.ndim not in dimensions or array.size == 0:
        shapes = {2: "(y, x)", 3: "(frame, y, x)"}
        expected = " or ".join(shapes[dimension] for dimension in dimensions)
        faults.append(f"{name} has shape {array.shape}; expected {expected}")
        return None
    if array.dtype.kind == "f" and np.isinf(array).any():
        faults.append(f"{name} has {int(np.isinf(array).sum())} infinite pixels; expected numbers, or NaN")
        return None
    return array.astype(np.float64)


def check_mask(name: str, mask: ArrayLike | None, shape: tuple[int, ...], faults: list[str]) -> Mask | None:
    """Give a mask; all pixels for None.

    Parameters
    ----------
    name : str
        What it is called in a fault.
    mask : bool array_like or None
        Mask.
    shape : tuple of int
        Shape that it must have.
    faults : list of str
        Receives a sentence for each fault.
    """
    if mask is None:
        return np.ones(shape, bool)
    array = np.asarray(mask)
    if array.dtype != bool:
        faults.append(f"{name} has dtype {array.dtype}; expected a mask of booleans")
    elif array.shape != shape:
        faults.append(f"{name} has shape {array.shape}; expected the image's {shape}")
    else:
        return array
    return None
