"""Frames during preprocessing, and the checks and reductions that steps share."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xmist.core.arrays import Image, as_array, as_frames, as_weights
from xmist.core.data import SpeckleStack
from xmist.core.errors import ErrorRecord, InputError, raise_errors, shown
from xmist.core.findings import Finding
from xmist.core.options import Parsed

Span = tuple[int, int]

_SPAN: Final = "[start, stop], whole numbers counted from 0 with start < stop"
_MEDIAN: Final = 1 << 17  # pixels, enough for a median to 0.3 % of the scatter
_LIT: Final = 0.1  # of the lit level: darker pixels do not count towards it


@dataclass(frozen=True, eq=False)
class Frames:
    """Frames between the detector and a method.

    Parameters
    ----------
    reference : (position, y, x) array_like
        Frames without the sample, in detector counts or any unit that is the same in both.
    sample : (position, y, x) array_like
        Frames with the sample, in the order of the reference.
    weights : (position, y, x) array_like, optional
        Weight of each pixel of a pair; None means 1 everywhere.
    dark, flat : (y, x) or (frame, y, x) array_like, optional
        Frames without beam, and frames with beam but without diffuser and sample; None after the step that
        uses them.
    beam : (2, position) array_like, optional
        Flux of the reference and of the sample frames in any one unit, from a monitor; None if there
        is none, and after the step flux.
    history : tuple of str
        What each step did, one sentence each.
    measured : mapping of str to array
        What steps measured, by the step's name.
    findings : tuple of Finding
        What steps noticed about the frames.

    Raises
    ------
    InputError
        Lists everything that is wrong with shapes, dtypes and weights.

    Examples
    --------
    >>> counts = np.random.default_rng(1).uniform(90, 110, (2, 16, 20))
    >>> Frames(counts, counts).weights.shape
    (2, 16, 20)
    """

    reference: Image
    sample: Image
    weights: Image
    dark: Image | None = None
    flat: Image | None = None
    history: tuple[str, ...] = ()
    measured: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    beam: NDArray[np.float64] | None = None

    def __init__(
        self,
        reference: ArrayLike,
        sample: ArrayLike,
        weights: ArrayLike | None = None,
        dark: ArrayLike | None = None,
        flat: ArrayLike | None = None,
        history: tuple[str, ...] = (),
        measured: Mapping[str, NDArray[Any]] | None = None,
        findings: tuple[Finding, ...] = (),
        beam: ArrayLike | None = None,
    ) -> None:
        errors: list[ErrorRecord] = []
        flux: NDArray[np.float64] | None = None
        given = {
            "reference": as_frames("reference", reference, errors),
            "sample": as_frames("sample", sample, errors),
            "dark": _still("dark", dark, errors),
            "flat": _still("flat", flat, errors),
        }
        first = given["reference"] if given["reference"] is not None else given["sample"]
        if first is not None:
            if given["sample"] is not None and given["sample"].shape != first.shape:
                text = (
                    f"reference has shape {first.shape} and sample {given['sample'].shape}; expected one "
                    "frame of each for every position of the diffuser, of equal size"
                )
                errors.append(ErrorRecord("shape-mismatch", text))
            for name in ("dark", "flat"):
                image = given[name]
                if image is not None and image.shape[1:] != first.shape[1:]:
                    text = (
                        f"{name} has {image.shape[1:]} pixels (y, x); expected the frames' {first.shape[1:]}"
                    )
                    errors.append(ErrorRecord("shape-mismatch", text))
            if weights is None:
                given["weights"] = np.broadcast_to(np.float32(1.0), first.shape)
            else:
                given["weights"] = as_weights("weights", weights, first.shape, errors)
            flux = None if beam is None else np.asarray(beam, np.float64)
            if flux is not None and flux.shape != (2, len(first)):
                text = f"beam has shape {flux.shape}; expected {(2, len(first))}, one number per frame"
                errors.append(ErrorRecord("shape-mismatch", text))
        raise_errors(errors)
        for name, array in given.items():
            object.__setattr__(self, name, array)
        object.__setattr__(self, "beam", flux)
        object.__setattr__(self, "history", tuple(history))
        object.__setattr__(self, "measured", dict(measured or {}))
        object.__setattr__(self, "findings", tuple(findings))

    @property
    def positions(self) -> int:
        """Number N of positions of the diffuser."""
        return int(self.reference.shape[0])

    @property
    def shape(self) -> tuple[int, int]:
        """Size (y, x) of a frame in pixels."""
        return (int(self.reference.shape[1]), int(self.reference.shape[2]))

    def stack(self) -> SpeckleStack:
        """Return the frames as the methods take them."""
        return SpeckleStack(self.reference, self.sample, self.weights)

    def replace(self, entry: str, **changes: Any) -> Frames:
        """Return frames with some arrays changed and an entry added to the history.

        Parameters
        ----------
        entry : str
            What was done.
        **changes
            Arrays by name; `measured` and `findings` as a whole.
        """
        names = ("reference", "sample", "weights", "dark", "flat", "measured", "findings", "beam")
        arrays = {name: changes.get(name, getattr(self, name)) for name in names}
        return Frames(**arrays, history=(*self.history, entry))


def _still(name: str, frames: ArrayLike | None, errors: list[ErrorRecord]) -> Image | None:
    """Return dark or flat frames as (frame, y, x) float32, or None if there are none or they are wrong."""
    if frames is None:
        return None
    array = as_array(name, frames, "numbers of shape (y, x) or (frame, y, x)", errors)
    if array is None:
        return None
    return as_frames(name, array[None] if array.ndim == 2 else array, errors)


def check_frames(name: str, frames: ArrayLike, weights: ArrayLike | None) -> tuple[Image, Image | None]:
    """Return frames and weights (position, y, x) as float32; InputError lists everything that is wrong."""
    errors: list[ErrorRecord] = []
    series = as_frames(name, frames, errors)
    given = None
    if series is not None and weights is not None:
        given = as_weights("weights", weights, series.shape, errors)
    raise_errors(errors)
    assert series is not None  # as_frames appended an error otherwise
    return series, given


def check_pair(
    reference: ArrayLike, sample: ArrayLike, weights: ArrayLike | None
) -> tuple[Image, Image, Image | None]:
    """Return reference, sample and weights (position, y, x) as float32, checked as by `Frames`."""
    frames = Frames(reference, sample, weights)
    return frames.reference, frames.sample, None if weights is None else frames.weights


def still_image(name: str, frames: ArrayLike, shape: tuple[int, ...]) -> Image:
    """Reduce dark or flat frames of the given (y, x) shape: the median of three or more, the mean of two."""
    errors: list[ErrorRecord] = []
    series = _still(name, frames, errors)
    raise_errors(errors)
    assert series is not None  # as_frames appended an error otherwise
    if series.shape[1:] != shape:
        raise InputError(
            f"{name} has {series.shape[1:]} pixels (y, x); expected {shape}, as the frames", "shape-mismatch"
        )
    if len(series) < 3:
        return np.asarray(series.mean(axis=0, dtype=np.float64), dtype=np.float32)
    out = np.empty(shape, np.float32)
    for start in range(0, shape[0], 64):  # by rows: a median copies what it looks at
        out[start : start + 64] = np.median(series[:, start : start + 64], axis=0)
    return out


def without_hidden(images: Image, weights: Image) -> Image:
    """Return images (number, y, x) with their mean where no position has a weight (position, y, x)."""
    hidden = (weights == 0.0).all(axis=0)
    if not hidden.any():
        return images
    out = images.copy()
    for image in out:
        others = image[~hidden & np.isfinite(image)]
        if others.size:
            image[hidden] = others.mean(dtype=np.float64)
    return out


def lit_level(values: NDArray[Any]) -> float:
    """Return the median of the lit pixels among finite values; 0 if none is lit.

    Pixels below a tenth of it are dark, so that 5 % of a frame suffice.
    """
    if values.size == 0:
        return 0.0
    if values.size > _MEDIAN:
        values = values[:: (values.size // _MEDIAN) | 1]  # odd, so as not to follow the columns
    level = float(np.quantile(values, 0.95))
    for _ in range(3):
        if not level > 0.0:
            return 0.0
        level = float(np.median(values[values > _LIT * level]))
    return level


def as_span(span: Any) -> Span:
    """Return a range as (start, stop), or raise ValueError."""
    values = list(span) if isinstance(span, list | tuple | np.ndarray) else []
    whole = all(isinstance(item, numbers.Integral) and not isinstance(item, bool) for item in values)
    if len(values) != 2 or not whole or not 0 <= values[0] < values[1]:
        raise ValueError(f"is {shown(values or span)}; expected {_SPAN}")
    return int(values[0]), int(values[1])


SpanOption = Annotated[Span, Parsed(as_span, _SPAN, plain=list)] | None


def box_slices(rows: Span | None, columns: Span | None, shape: tuple[int, int]) -> tuple[slice, slice]:
    """Return the slices of a box in frames of shape (y, x); None takes all rows or columns."""
    errors = []
    slices = []
    for name, span, size in (("rows", rows, shape[0]), ("columns", columns, shape[1])):
        try:
            start, stop = (0, size) if span is None else as_span(span)
        except ValueError as error:
            errors.append(ErrorRecord("option-invalid", f"{name} {error}"))
            continue
        if stop > size:
            errors.append(
                ErrorRecord(
                    "box-outside",
                    f"{name} is [{start}, {stop}]; expected numbers from 0 to {size}, the size of the frames",
                )
            )
        slices.append(slice(start, stop))
    raise_errors(errors)
    return slices[0], slices[1]


def median_level(frames: Image) -> float:
    """Return the median of the finite pixels of frames, by a part of them; NaN if there are none."""
    values = frames.reshape(-1)[:: max(1, frames.size // _MEDIAN) | 1]
    values = values[np.isfinite(values)]
    return float(np.median(values)) if values.size else math.nan


def describe_reduction(number: int) -> str:
    """Return how `still_image` reduces a number of frames, for the history."""
    return "one frame" if number == 1 else f"the {'mean' if number == 2 else 'median'} of {number} frames"


def count_pixels(number: int) -> str:
    """Return "1 pixel" or "n pixels"."""
    return f"{number} pixel" if number == 1 else f"{number} pixels"
