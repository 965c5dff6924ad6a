"""Check arrays from users; collect an error record for each that is wrong. Describe arrays."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xmist.core.errors import ErrorRecord

Image = NDArray[np.float32]

# The widest stencil on a reference frame spans seven pixels.
SMALLEST_FRAME: Final = 7

_FRAMES: Final = "numbers of shape (position, y, x)"


def as_array(name: str, given: Any, expected: str, errors: list[Any]) -> NDArray[Any] | None:
    """Return an array_like as an array, masked entries kept; None with an error if it is not an array."""
    try:
        array: NDArray[Any] = given if np.ma.isMaskedArray(given) else np.asarray(given)
    except (ValueError, TypeError) as error:
        errors.append(ErrorRecord("array-invalid", f"{name} is not an array ({error}); expected {expected}"))
        return None
    return array


def as_frames(name: str, frames: ArrayLike, errors: list[Any]) -> Image | None:
    """Return (position, y, x) frames as a read-only, C-contiguous float32 view or copy; None with an error.

    Integers or floats of any byte order and layout; masked entries become NaN.
    """
    array = as_array(name, frames, _FRAMES, errors)
    if array is None:
        return None
    if array.dtype.kind not in "iuf":
        errors.append(
            ErrorRecord("array-invalid", f"{name} has dtype {array.dtype}; expected integers or floats")
        )
        return None
    if array.ndim != 3:
        advice = f"; use {name}[None] for a single frame" if array.ndim == 2 else ""
        text = f"{name} has shape {array.shape}; expected (position, y, x){advice}"
        errors.append(ErrorRecord("array-invalid", text))
        return None
    if array.shape[0] < 1 or min(array.shape[1:]) < SMALLEST_FRAME:
        text = (
            f"{name} has shape {array.shape}; expected at least one position and "
            f"{SMALLEST_FRAME} × {SMALLEST_FRAME} pixels"
        )
        errors.append(ErrorRecord("frames-too-small", text))
        return None
    with np.errstate(over="ignore"):  # beyond float32 becomes inf, which is a bad pixel
        return frozen(np.ascontiguousarray(_without_mask(array), dtype=np.float32))


def as_weights(name: str, weights: ArrayLike, shape: tuple[int, ...], errors: list[Any]) -> Image | None:
    """Return weights as `as_frames` does; None with an error for another shape, NaN or below 0.

    Booleans count as 0 and 1, masked entries as 0.
    """
    array = as_array(name, weights, _FRAMES, errors)
    if array is None:
        return None
    if isinstance(array, np.ma.MaskedArray):
        array = array.filled(0)
    given = as_frames(name, array.astype(np.float32) if array.dtype == bool else array, errors)
    if given is None:
        return None
    if given.shape != shape:
        text = (
            f"{name} has shape {given.shape}; expected the frames' {shape} "
            "(numpy.broadcast_to repeats one image for all positions)"
        )
        errors.append(ErrorRecord("shape-mismatch", text))
        return None
    lowest = float(given.min())  # min and max propagate NaN
    if not (lowest >= 0.0 and np.isfinite(float(given.max()))):
        wrong = int(np.count_nonzero(~(np.isfinite(given) & (given >= 0))))
        text = (
            f"{name} has {wrong} entries that are negative, NaN or infinite; expected 0 (ignore) or a "
            "positive number"
        )
        errors.append(ErrorRecord("weights-invalid", text))
        return None
    return given


def without_masked(frames: Image, weights: Image | None) -> Image:
    """Return (position, y, x) frames with NaN where the weight is 0."""
    if weights is None or weights.all():
        return frames
    return np.where(weights > 0, frames, np.float32(np.nan))


def as_image(name: str, given: Any, errors: list[Any]) -> Image | None:
    """Return real numbers or booleans of any shape as float32, masked entries as NaN; None with an error."""
    array = as_array(name, given, "real numbers", errors)
    if array is None:
        return None
    if array.dtype.kind not in "biuf":
        errors.append(ErrorRecord("array-invalid", f"{name} has dtype {array.dtype}; expected real numbers"))
        return None
    return np.asarray(_without_mask(array), np.float32)


def _without_mask(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array with NaN for masked entries."""
    if isinstance(array, np.ma.MaskedArray):
        return np.asarray(np.ma.filled(array.astype(np.float32), np.float32(np.nan)))
    return array


def frozen(array: NDArray[Any]) -> NDArray[Any]:
    """Return a view that cannot be written to."""
    view = array.view()
    view.flags.writeable = False
    return view


def statistics(array: NDArray[Any]) -> dict[str, float | None]:
    """Return the minimum, the median and the maximum of the finite values; None without any."""
    values = array[np.isfinite(array)]
    return {
        name: float(function(values)) if values.size else None
        for name, function in (("minimum", np.min), ("median", np.median), ("maximum", np.max))
    }
