"""The option `background`: bare beam beside the sample, as a mask or a box."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from xmist.core.errors import InputError, shown
from xmist.core.findings import Finding, finding
from xmist.core.options import Parsed

_EXPECTED = "a (y, x) bool mask, or a box of four whole numbers y0 < y1, x0 < x1 from 0"


def read_background(background: Any) -> Any:
    """Return a mask, or a box as a tuple; without the frames, so that its size is not checked."""
    if isinstance(background, np.ndarray) and background.dtype == bool and background.ndim == 2:
        if not background.any():
            raise ValueError(f"has no pixel; expected {_EXPECTED}")
        return background
    box = read_box(background)
    if box is None:
        shape = getattr(background, "shape", None)
        found = shown(background) if shape is None else f"{background.dtype} of shape {shape}"
        raise ValueError(f"is {found}; expected {_EXPECTED}")
    return box


def read_box(given: Any) -> tuple[int, ...] | None:
    """Return the box y0, y1, x0, x1 in pixels, ends excluded; None if it is none."""
    box = given.tolist() if isinstance(given, np.ndarray) else given
    whole = (
        isinstance(box, Sequence)
        and len(box) == 4
        and all(isinstance(number, (int, np.integer)) and not isinstance(number, bool) for number in box)
    )
    if not whole or not (0 <= box[0] < box[1] and 0 <= box[2] < box[3]):
        return None
    return tuple(int(number) for number in box)


def plain_background(background: Any) -> Any:
    """Return the option as plain data, for the result."""
    if isinstance(background, np.ndarray) and background.dtype == bool:
        return f"a mask of {int(background.sum())} pixels"
    return None if background is None else tuple(int(number) for number in background)


Background = Annotated[Any, Parsed(read_background, _EXPECTED, plain=plain_background)]


def background_mask(background: Any, shape: tuple[int, ...]) -> NDArray[np.bool_] | None:
    """Return the (y, x) mask of the bare beam; None where none was given; InputError if it does not fit."""
    if background is None:
        return None
    if isinstance(background, np.ndarray) and background.dtype == bool:
        if background.shape != shape:
            raise InputError(
                f"option background has shape {background.shape}; expected that of the frames, {shape}",
                "option-invalid",
            )
        mask: NDArray[np.bool_] = background
    else:
        top, bottom, left, right = background
        if bottom > shape[0] or right > shape[1]:
            raise InputError(
                f"option background is the box {[top, bottom, left, right]}; expected one inside the frames "
                f"of {shape} (y, x)",
                "option-invalid",
            )
        mask = np.zeros(shape, bool)
        mask[top:bottom, left:right] = True
    if mask.all():
        raise InputError(
            "option background has every pixel; expected bare beam beside the sample", "option-invalid"
        )
    return mask


def determined_background(
    background: NDArray[np.bool_] | None, lost: NDArray[np.bool_], found: list[Finding]
) -> NDArray[np.bool_] | None:
    """Return the bare beam that has values; a finding is added if no pixel of it has one."""
    if background is None:
        return None
    known = background & ~lost
    if known.any():
        return known
    message = "no pixel of the background is determined; nothing was set to 0 or 1 there"
    found.append(finding("background-undetermined", message))
    return None
