"""Bare beam and the inside of the sample: boxes that were given, or found in the frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xmist.core.data import SpeckleStack
from xmist.core.errors import ErrorRecord, raise_errors, shown, suggest
from xmist.core.findings import percent
from xmist.numerics.images.bare_beam import SMALLEST, changed_regions

Mask = NDArray[np.bool_]
Real = NDArray[np.float64]
Boxes = Sequence[int] | Sequence[Sequence[int]]

NAMES: Final = ("outside", "inside")


@dataclass(frozen=True, kw_only=True, eq=False)
class Regions:
    """Bare beam and inside of the sample."""

    outside: Mask | None  # (y, x); None where there is none
    inside: Mask | None
    about: Mapping[str, str]  # by name, where the region comes from, or why it is missing
    # By name, the boxes [y0, y1, x0, x1] that were given, ends excluded; empty for masks and found regions.
    boxes: Mapping[str, tuple[tuple[int, int, int, int], ...]]

    @property
    def complete(self) -> bool:
        """Whether both regions are known."""
        return self.outside is not None and self.inside is not None


NO_REGIONS: Final = Regions(outside=None, inside=None, about={}, boxes={})


def make_regions(
    stack: SpeckleStack, given: Mapping[str, Boxes | ArrayLike | None] | Regions | None = None
) -> Regions:
    """Take the regions that are given, and find the others in the frames.

    `given` in pixels.
    """
    errors: list[ErrorRecord] = []
    if isinstance(given, Regions):
        _given_as_masks(given, stack.shape, errors)
        raise_errors(errors)
        return given
    masks, boxes, about = _read(given or {}, stack.shape, errors)
    raise_errors(errors)
    if len(masks) < len(NAMES):
        *found, reason = changed_regions(stack.reference, stack.sample, stack.weights)
        for name, mask in zip(NAMES, found, strict=True):
            if name in masks:
                continue
            for other in masks.values():  # the given regions are valid
                mask = None if mask is None or other is None else mask & ~other
            if mask is not None and np.count_nonzero(mask) < SMALLEST:
                mask, reason = None, "the given region leaves too few pixels"
            masks[name] = mask
            about[name] = "found in the frames" if mask is not None else f"not found: {reason}"
    for name in NAMES:
        mask = masks[name]
        if mask is not None:
            number = int(mask.sum())
            about[name] += f", {number} pixel{'s' * (number != 1)} ({percent(mask.mean())})"
    return Regions(outside=masks["outside"], inside=masks["inside"], about=about, boxes=boxes)


def region_errors(given: Mapping[str, Boxes | ArrayLike | None], shape: tuple[int, int]) -> list[ErrorRecord]:
    """Return the errors of regions, without the frames."""
    errors: list[ErrorRecord] = []
    _read(given, shape, errors)
    return errors


def _read(
    given: Any, shape: tuple[int, int], errors: list[ErrorRecord]
) -> tuple[dict[str, Mask | None], dict[str, tuple[tuple[int, int, int, int], ...]], dict[str, str]]:
    """Return the given regions as masks and boxes, and their origin in words."""
    masks: dict[str, Mask | None] = {}
    about: dict[str, str] = {}
    boxes: dict[str, tuple[tuple[int, int, int, int], ...]] = dict.fromkeys(NAMES, ())
    if not isinstance(given, Mapping):
        errors.append(
            ErrorRecord(
                "region-invalid",
                f"regions are {shown(given)}; expected a mapping from outside and inside to boxes or masks",
            )
        )
        return masks, boxes, about
    for name, value in given.items():
        if name not in NAMES:
            message = f"regions.{name} is not a region; {suggest(str(name), NAMES)}"
            errors.append(ErrorRecord("region-invalid", message))
        elif value is not None:
            masks[name], boxes[name] = _given(name, value, shape, errors)
            count = len(boxes[name])
            about[name] = f"as given, {count} box{'es' * (count > 1)}" if count else "as given, a mask"
    _check_apart(masks, errors)
    return masks, boxes, about


def _check_apart(masks: Mapping[str, Mask | None], errors: list[ErrorRecord]) -> None:
    outside, inside = (masks.get(name) for name in NAMES)
    if outside is not None and inside is not None and (shared := int(np.count_nonzero(outside & inside))):
        message = (
            f"regions.outside and regions.inside share {shared} pixel{'s' * (shared > 1)}; expected bare "
            "beam beside the sample"
        )
        errors.append(ErrorRecord("region-invalid", message))


def _given_as_masks(given: Regions, shape: tuple[int, int], errors: list[ErrorRecord]) -> None:
    for name in NAMES:
        mask = getattr(given, name)
        if mask is not None:
            _given(name, np.asarray(mask), shape, errors)


def _given(
    name: str, value: Any, shape: tuple[int, int], errors: list[ErrorRecord]
) -> tuple[Mask | None, tuple[tuple[int, int, int, int], ...]]:
    """Return a region as a mask, and its boxes."""

    def wrong(text: str) -> tuple[None, tuple[()]]:
        errors.append(ErrorRecord("region-invalid", f"regions.{name} {text}"))
        return None, ()

    expected = f"expected boxes [y0, y1, x0, x1] inside the frames of {shape[0]} × {shape[1]} pixels"
    try:
        array = np.asarray(value)
    except ValueError:
        array = np.empty(0, object)
    if array.dtype == bool:
        if array.shape != shape:
            return wrong(f"is a mask of shape {array.shape}; expected the frames' {shape}")
        if not array.any():
            return wrong("is a mask without pixels; expected at least one")
        return array, ()
    boxes = array[None] if array.ndim == 1 else array
    if array.dtype.kind not in "iu" or boxes.ndim != 2 or boxes.shape[1:] != (4,) or not len(boxes):
        return wrong(f"is {shown(value)}; {expected}")
    mask = np.zeros(shape, bool)
    found: list[tuple[int, int, int, int]] = []
    for top, bottom, left, right in boxes.tolist():
        if not (0 <= top < bottom <= shape[0] and 0 <= left < right <= shape[1]):
            wrong(f"has the box {[top, bottom, left, right]}; {expected}")
            continue
        mask[top:bottom, left:right] = True
        found.append((top, bottom, left, right))
    return mask, tuple(found)
