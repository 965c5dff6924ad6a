"""Checks that the metrics share."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xmist.core.arrays import as_array

Real = NDArray[np.float64]
Mask = NDArray[np.bool_]


def check_image(
    name: str,
    image: ArrayLike,
    faults: list[str],
    dimensions: tuple[int, ...] = (2,),
    *,
    infinite: bool = False,
) -> Real | None:
    """Return an image in float64; None, with a fault, if it is none."""
    array = as_array(name, image, "numbers", faults)
    if array is None:
        return None
    if array.dtype.kind not in "iuf":
        faults.append(f"{name} has dtype {array.dtype}; expected numbers")
        return None
    if array.ndim not in dimensions or array.size == 0:
        shapes = {2: "(y, x)", 3: "(frame, y, x)"}
        expected = " or ".join(shapes[dimension] for dimension in dimensions)
        faults.append(f"{name} has shape {array.shape}; expected {expected}")
        return None
    values: Real = np.ma.filled(array.astype(np.float64), np.nan)
    beyond = np.isinf(values)
    if infinite:
        values[beyond] = np.nan
    elif beyond.any():
        faults.append(f"{name} has {int(beyond.sum())} infinite pixels; expected numbers, or NaN")
        return None
    return values


def check_mask(name: str, mask: ArrayLike | None, shape: tuple[int, ...], faults: list[str]) -> Mask | None:
    """Return a mask; all pixels for None."""
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
