"""Bare beam and the inside of the sample: boxes that were given, or found in the frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xmist.core.data import SpeckleStack
from xmist.core.errors import ErrorRecord, raise_errors, shown, suggest

Mask = NDArray[np.bool_]
Real = NDArray[np.float64]
Boxes = Sequence[int] | Sequence[Sequence[int]]

NAMES: Final = ("outside", "inside")

_SMOOTH: Final = 2.5  # pixels (σ) over which the change of the frames is averaged
_BORDER: Final = 4  # pixels at the border of the frames, where methods differ most
_MARGIN: Final = 0.03  # of the shorter side, between bare beam and sample
_RIM: Final = 0.3  # of the depth of a part of the sample: walls and rims refract most
_THINNEST: Final = 3.0  # pixels of depth that an inside needs
_SMALLEST: Final = 50  # pixels of a region that says something
_KEPT: Final = 0.1  # of the pixels, those whose speckles keep their form best
_APART: Final = 4.0  # standard deviations of the bare beam that the sample must stand out


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
        *found, reason = find_regions(stack)
        for name, mask in zip(NAMES, found, strict=True):
            if name in masks:
                continue
            for other in masks.values():  # what was given is right
                mask = None if mask is None or other is None else mask & ~other
            if mask is not None and np.count_nonzero(mask) < _SMALLEST:
                mask, reason = None, "the given region leaves too few pixels"
            masks[name] = mask
            about[name] = "found in the frames" if mask is not None else f"not found: {reason}"
    for name in NAMES:
        mask = masks[name]
        if mask is not None:
            number = int(mask.sum())
            about[name] += f", {number} pixel{'s' * (number != 1)} ({100 * mask.mean():.2g} %)"
    return Regions(outside=masks["outside"], inside=masks["inside"], about=about, boxes=boxes)


def region_errors(given: Mapping[str, Boxes | ArrayLike | None], shape: tuple[int, int]) -> list[ErrorRecord]:
    """Return the errors of regions, without the frames."""
    errors: list[ErrorRecord] = []
    _read(given, shape, errors)
    return errors


def find_regions(stack: SpeckleStack) -> tuple[Mask | None, Mask | None, str]:
    """Find bare beam and the sample's inside by how much the sample changed the frames.

    Returns masks (y, x) of bare beam and of the inside, None where there are too few pixels, and the reason.
    The change is c = G Σ_n (I_S − a I_R)² / G Σ_n I_R², with a Gaussian G of 2.5 pixels and the relative flux
    a of the sample frames in bare beam. Otsu's threshold on log c (doi:10.1109/TSMC.1979.4310076) counts only
    if it stands four standard deviations above the bare beam. No result of any method is used.
    """
    from scipy import ndimage

    change, used = _change(stack)
    if np.count_nonzero(used) < 4 * _SMALLEST:
        return None, None, "too few usable pixels"
    threshold = _threshold(change[used])
    if threshold is None:
        return None, None, "no sample differs from the noise of the frames"
    sample = (change > threshold) & used
    sample = ndimage.binary_opening(sample, iterations=2)
    sample = ndimage.binary_closing(np.pad(sample, 4, mode="edge"), iterations=3)[4:-4, 4:-4]
    margin = max(_BORDER, round(_MARGIN * min(stack.shape)))
    frame = np.zeros(stack.shape, bool)
    frame[_BORDER:-_BORDER, _BORDER:-_BORDER] = True
    outside = frame & used & ~ndimage.binary_dilation(sample, iterations=margin)
    inside = _inside(sample) & frame & used
    lacking = [
        text
        for mask, text in ((outside, "bare beam"), (inside, "sample away from its rim"))
        if np.count_nonzero(mask) < _SMALLEST
    ]
    return (
        None if "bare beam" in lacking else outside,
        None if "sample away from its rim" in lacking else inside,
        f"the frames show too little {lacking[0]}" if lacking else "",
    )


def _change(stack: SpeckleStack) -> tuple[Real, Mask]:
    """Logarithm of the change that the sample made, and the pixels where it is known."""
    from scipy import ndimage

    reference, sample = stack.reference, stack.sample
    used: Mask = np.ones(stack.shape, bool)
    for r, s in zip(reference, sample, strict=True):
        used &= np.isfinite(r) & (r > 0) & np.isfinite(s)
    for weights in () if stack.weights is None else stack.weights:
        used &= weights > 0
    if not used.any():
        return np.zeros(stack.shape), used

    def smooth(image: NDArray[Any]) -> Real:
        blurred: Real = ndimage.gaussian_filter(
            np.where(used, image, 0.0).astype(np.float64), _SMOOTH, mode="nearest"
        )
        return blurred

    # Sums over positions, one at a time: no second copy of the frames.
    products = np.zeros((3, *stack.shape))
    for r, s in zip(reference, sample, strict=True):
        r, s = (np.where(used, frame, 0.0).astype(np.float64) for frame in (r, s))
        products += np.stack([r * r, r * s, s * s])
    rr, rs, ss = (smooth(image) for image in products)
    log = np.zeros(stack.shape)
    flux = _first_flux(rr, rs, ss, used)
    for _ in range(2):
        with np.errstate(divide="ignore", invalid="ignore"):
            log = np.log((ss - 2.0 * flux * rs + flux**2 * rr) / rr)
        finite = used & np.isfinite(log)
        low = float(np.log(1e-12))
        log = np.where(finite, np.maximum(log, low), low)
        threshold = _threshold(log[used])
        bare = used if threshold is None else used & (log < threshold)
        weight = float(rr[bare].sum())
        flux = float(rs[bare].sum()) / weight if weight > 0 else flux
    return log, used


def _first_flux(rr: Real, rs: Real, ss: Real, used: Mask) -> float:
    """Flux of the sample frames over that of the reference frames, where speckles keep their form best."""
    with np.errstate(divide="ignore", invalid="ignore"):
        changed = np.where(used, 1.0 - rs**2 / (rr * ss), np.inf)
        ratio = rs / rr
    finite = np.isfinite(changed) & np.isfinite(ratio)
    if not finite.any():
        return 1.0
    kept = finite & (changed <= np.percentile(changed[finite], 100 * _KEPT))
    return float(np.median(ratio[kept]))


def _threshold(values: Real) -> float | None:
    """Otsu's threshold, if there are two kinds of pixels at all."""
    low, high = np.percentile(values, (0.1, 99.9))
    if not high > low:
        return None
    counts, edges = np.histogram(np.clip(values, low, high), 256)
    centres = 0.5 * (edges[1:] + edges[:-1])
    below = np.cumsum(counts)
    above = below[-1] - below
    moment = np.cumsum(counts * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (moment / below - (moment[-1] - moment) / above) ** 2
    threshold = float(edges[1 + int(np.nanargmax(between[:-1]))])
    bare = values[values < threshold]
    middle = float(np.median(bare))
    spread = 1.4826 * float(np.median(np.abs(bare - middle)))
    return threshold if threshold > middle + _APART * spread else None


def _inside(sample: Mask) -> Mask:
    """Take the rim off each part of the sample; beyond the border of the frames it goes on."""
    from scipy import ndimage

    wide = max(sample.shape)
    depth = ndimage.distance_transform_edt(np.pad(sample, wide, mode="edge"))[wide:-wide, wide:-wide]
    labels, number = ndimage.label(sample)
    if not number:
        return np.zeros(sample.shape, bool)
    deepest = np.append(0.0, ndimage.maximum(depth, labels, np.arange(1, number + 1)))
    kept: Mask = sample & (depth >= np.maximum(_THINNEST, _RIM * deepest[labels]))
    return kept


def _read(
    given: Any, shape: tuple[int, int], errors: list[ErrorRecord]
) -> tuple[dict[str, Mask | None], dict[str, tuple[tuple[int, int, int, int], ...]], dict[str, str]]:
    """Return what is given as masks, its boxes, and in words where it comes from."""
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
            return wrong("is a mask without a pixel; expected some")
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
