"""Arrays as they are given: checked, and told by one sentence each where they are not what they must be."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

Image = NDArray[np.float32]

# The widest stencil on a reference frame spans seven pixels.
SMALLEST_FRAME: Final = 7

_FRAMES: Final = "numbers of shape (position, y, x)"


def as_array(name: str, given: Any, expected: str, faults: list[str]) -> NDArray[Any] | None:
    """Give what NumPy makes of an array_like; masked entries stay masked.

    Parameters
    ----------
    name : str
        What it is called in a fault.
    given : array_like
        What was given.
    expected : str
        What would be right.
    faults : list of str
        Receives a sentence if it is no array, such as rows of unequal length.

    Returns
    -------
    array or None
        None if there was a fault.
    """
    try:
        array: NDArray[Any] = given if np.ma.isMaskedArray(given) else np.asarray(given)
    except (ValueError, TypeError) as error:
        faults.append(f"{name} is not an array ({error}); expected {expected}")
        return None
    return array


def as_frames(name: str, frames: ArrayLike, faults: list[str]) -> Image | None:
    """Give frames as a read-only, C-contiguous float32 view or copy.

    Parameters
    ----------
    name : str
        What the frames are called in a fault.
    frames : (position, y, x) array_like
        Integers or floats of any byte order and layout; masked entries become NaN. Never modified.
    faults : list of str
        Receives a sentence for each fault.

    Returns
    -------
    (position, y, x) float32 array or None
        None if there was a fault.
    """
    array = as_array(name, frames, _FRAMES, faults)
    if array is None:
        return None
    if array.dtype.kind not in "iuf":
        faults.append(f"{name} has dtype {array.dtype}; expected integers or floats")
        return None
    if array.ndim != 3:
        advice = f": give {name}[None] for a single frame" if array.ndim == 2 else ""
        faults.append(f"{name} has shape {array.shape}; expected (position, y, x){advice}")
        return None
    if array.shape[0] < 1 or min(array.shape[1:]) < SMALLEST_FRAME:
        faults.append(
            f"{name} has shape {array.shape}; expected at least one position and "
            f"{SMALLEST_FRAME} × {SMALLEST_FRAME} pixels"
        )
        return None
    if isinstance(array, np.ma.MaskedArray):
        array = np.ma.filled(array.astype(np.float32), np.float32(np.nan))
    with np.errstate(over="ignore"):  # beyond float32 becomes inf, which is a bad pixel
        converted = np.ascontiguousarray(array, dtype=np.float32)
    view = converted.view()
    view.flags.writeable = False
    return view


def as_weights(name: str, weights: ArrayLike, shape: tuple[int, ...], faults: list[str]) -> Image | None:
    """Give weights as `as_frames` does, and require a shape and finite numbers ≥ 0.

    Parameters
    ----------
    name : str
        What the weights are called in a fault.
    weights : (position, y, x) array_like
        Weights; booleans count as 0 and 1, masked entries as 0.
    shape : tuple of int
        Shape that they must have.
    faults : list of str
        Receives a sentence for each fault.
    """
    array = as_array(name, weights, _FRAMES, faults)
    if array is None:
        return None
    if isinstance(array, np.ma.MaskedArray):
        array = array.filled(0)
    given = as_frames(name, array.astype(np.float32) if array.dtype == bool else array, faults)
    if given is None:
        return None
    if given.shape != shape:
        faults.append(
            f"{name} has shape {given.shape}; expected the frames' {shape} "
            "(numpy.broadcast_to repeats one image for all positions)"
        )
        return None
    lowest = float(given.min())  # min and max propagate NaN
    if not (lowest >= 0.0 and np.isfinite(float(given.max()))):
        wrong = int(np.count_nonzero(~(np.isfinite(given) & (given >= 0))))
        faults.append(
            f"{name} has {wrong} entries that are negative, NaN or infinite; expected 0 (ignore) or a "
            "positive number"
        )
        return None
    return given


def as_image(name: str, given: Any, faults: list[str]) -> Image | None:
    """Give real numbers of any shape as float32.

    Parameters
    ----------
    name : str
        What they are called in a fault.
    given : array_like
        Numbers or booleans; masked entries become NaN.
    faults : list of str
        Receives a sentence if they are something else.

    Returns
    -------
    float32 array or None
        None if there was a fault.
    """
    array = as_array(name, given, "real numbers", faults)
    if array is None:
        return None
    if array.dtype.kind not in "biuf":
        faults.append(f"{name} holds {array.dtype}; expected real numbers")
        return None
    if isinstance(array, np.ma.MaskedArray):
        array = np.ma.filled(array.astype(np.float32), np.float32(np.nan))
    return np.asarray(array, np.float32)


def frozen(array: NDArray[Any]) -> NDArray[Any]:
    """Give a view that cannot be written to.

    Parameters
    ----------
    array : array
        Any array; it stays as it is.
    """
    view = array.view()
    view.flags.writeable = False
    return view
