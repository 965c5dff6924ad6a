"""Match a region of the frames only, or every few pixels of it (options `region` and `stride`).

The frames are cut to the region and the margin that its windows need, and the result to the region.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike

from xmist.core.arrays import as_frames, as_weights
from xmist.core.data import CHANNELS, Retrieval
from xmist.core.errors import ErrorRecord, InputError, collect_errors, raise_errors
from xmist.core.experiment import Experiment
from xmist.methods.common.background import background_mask
from xmist.methods.matching.options import MatchingOptions, shift_of

_INTERPOLATED: Final = 16  # pixels about a window that splines and half pixels are interpolated from
_UNKNOWN: Final = 32  # pixels: shifts of a method that gives the start values
_LEAST: Final = 2  # pixels of the result along an axis


@dataclass(frozen=True, kw_only=True, eq=False)
class RegionPlan:
    """A matching plan for the part of the frames that a region needs; call it with whole sample frames."""

    plan: Callable[..., Retrieval]
    options: MatchingOptions
    frames: tuple[int, ...]  # (position, y, x) of whole frames
    outer: tuple[slice, slice]  # of the frames that the plan sees
    box: tuple[int, ...]  # y0, y1, x0, x1 of the region in pixels of the frames

    def __call__(self, sample: ArrayLike, *, weights: ArrayLike | None = None) -> Retrieval:
        """Retrieve the region from (position, y, x) sample frames; weights multiply the reference's."""
        errors: list[ErrorRecord] = []
        given = as_frames("sample", sample, errors)
        if given is not None and given.shape != self.frames:
            text = f"sample has shape {given.shape}; expected that of the reference, {self.frames}"
            errors.append(ErrorRecord("shape-mismatch", text))
        counted = None if weights is None else as_weights("weights", weights, self.frames, errors)
        raise_errors(errors)
        assert given is not None  # as_frames added an error otherwise
        part = (slice(None), *self.outer)
        result = self.plan(given[part], weights=None if counted is None else counted[part])
        y, x = (side.start for side in self.outer)
        inner = (self.box[0] - y, self.box[1] - y, self.box[2] - x, self.box[3] - x)
        return cut(result, inner, self.options, origin=(y, x))


def prepare_region(
    reference: ArrayLike,
    experiment: Experiment,
    options: MatchingOptions,
    *,
    weights: ArrayLike | None,
    make: Callable[..., Callable[..., Retrieval]],
) -> RegionPlan:
    """Prepare the region of whole (position, y, x) reference frames; `make` prepares what it is given."""
    errors: list[ErrorRecord] = []
    frames = as_frames("reference", reference, errors)
    raise_errors(errors)
    assert frames is not None  # as_frames added an error otherwise
    shape = frames.shape[1:]
    counted = None if weights is None else as_weights("weights", weights, frames.shape, errors)
    box: tuple[int, ...] = (0, shape[0], 0, shape[1])
    bare, initial = None, options.initial
    with collect_errors(errors):
        box = region_box(options, shape, experiment)
    with collect_errors(errors):
        bare = background_mask(options.background, shape)
    reach = 0
    if isinstance(initial, str):
        reach = _UNKNOWN
    elif initial is not None:
        with collect_errors(errors):
            initial = np.nan_to_num(shift_of(initial, experiment, shape))
            reach = int(np.ceil(np.abs(initial).max()))
    # Windows, medians of what they give, and windows of these (`blur_of_shift`).
    margin = 4 * (options.window // 2) + 1 + options.reach + _INTERPOLATED + reach
    y, x = (
        slice(max(0, first - margin), min(size, last + margin))
        for first, last, size in zip(box[::2], box[1::2], shape, strict=True)
    )
    if bare is not None and not (bare := bare[y, x]).any():
        text = "option background has no pixel near the region; expected bare beam inside it"
        errors.append(ErrorRecord("option-conflict", text))
    raise_errors(errors)
    if initial is not None and not isinstance(initial, str):
        initial = initial[:, y, x]
    if bare is not None and bare.all():
        bare = None
    inside = replace(options, region=None, stride=1, background=bare, initial=initial)
    return RegionPlan(
        plan=make(frames[:, y, x], options=inside, weights=None if counted is None else counted[:, y, x]),
        options=options,
        frames=frames.shape,
        outer=(y, x),
        box=box,
    )


def region_box(options: Any, shape: tuple[int, ...], experiment: Experiment) -> tuple[int, ...]:
    """Return the region y0, y1, x0, x1 of images (y, x); InputError if it does not fit them."""
    box: tuple[int, ...] = options.region or (0, shape[0], 0, shape[1])
    errors = []
    if box[1] > shape[0] or box[3] > shape[1]:
        inside = f"the {shape[0]} × {shape[1]} pixels (y, x)"
        text = f"option region is {list(box)}; expected a box inside {inside}"
        errors.append(ErrorRecord("option-invalid", text))
    elif min(box[1] - box[0], box[3] - box[2]) < _LEAST * options.stride:
        name = "stride" if options.stride > 1 else "region"
        text = (
            f"option {name} leaves less than {_LEAST} pixels along an axis of a region of "
            f"{box[1] - box[0]} × {box[3] - box[2]} pixels; expected a larger region or a smaller stride"
        )
        errors.append(ErrorRecord("option-invalid", text))
    try:
        _coarser(experiment, options.stride)
    except InputError:
        text = (
            f"option stride is {options.stride}, so that a pixel of the result would have "
            f"{1e3 * options.stride * experiment.pixel_size:.3g} mm; expected at most 1 mm"
        )
        errors.append(ErrorRecord("option-invalid", text))
    raise_errors(errors)
    return box


def _coarser(experiment: Experiment, stride: int) -> Experiment:
    return replace(experiment, pixel_size=experiment.pixel_size * stride)


def cut(
    result: Retrieval, box: tuple[int, ...], options: MatchingOptions, *, origin: tuple[int, int] = (0, 0)
) -> Retrieval:
    """Return the box y0, y1, x0, x1 of a result, of each axis every `stride` pixels.

    `origin`: where the result begins in pixels (y, x) of the frames.
    """
    step = options.stride
    part = (..., slice(box[0], box[1], step), slice(box[2], box[3], step))
    channels: dict[str, Any] = {
        name: np.ascontiguousarray(getattr(result, name)[part])
        for name in CHANNELS
        if getattr(result, name) is not None
    }
    phase = channels.get("phase") if options.region is not None else None
    if phase is not None and not result.phase_zero_known and options.background is None:
        known = np.isfinite(phase)
        if known.any():
            channels["phase"] = phase - np.float32(phase.mean(where=known, dtype=np.float64))
    begin = [int(first + start) for first, start in zip(origin, (box[0], box[2]), strict=True)]
    return replace(
        result,
        **channels,
        experiment=_coarser(result.experiment, step),
        flags=np.ascontiguousarray(result.flags[part]),
        options=options.plain(),
        diagnostics={name: np.ascontiguousarray(image[part]) for name, image in result.diagnostics.items()},
        provenance={**result.provenance, "grid_origin": begin, "stride": step},
    )
