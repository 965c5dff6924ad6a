"""The frames that the steps pass on, and what the steps share."""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xmist.core.arrays import Image, as_array, as_frames, as_weights
from xmist.core.data import SpeckleStack
from xmist.core.errors import raise_errors

Span = tuple[int, int]

_MEDIAN: Final = 1 << 17  # pixels, enough for a median to 0.3 % of the scatter
_LIT: Final = 0.1  # of the lit level: what is darker does not count towards it


@dataclass(frozen=True, eq=False)
class Frames:
    """Frames on their way from the detector to a method.

    Parameters
    ----------
    reference : (position, y, x) array_like
        Frames without the sample, in detector counts or any unit that is the same in both.
    sample : (position, y, x) array_like
        Frames with the sample, in the order of the reference.
    weights : (position, y, x) array_like, optional
        Weight of each pixel of a pair; None means 1 everywhere.
    dark, flat : (y, x) or (frame, y, x) array_like, optional
        Frames without beam, and frames with beam but without diffuser and sample. The step that uses them
        takes them away.
    notes : tuple of str
        What each step did, in words.
    measured : mapping of str to array
        What steps measured, by the step's name.

    Raises
    ------
    InputError
        Lists all faults of shape, dtype and weights at once.

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
    notes: tuple[str, ...] = ()
    measured: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def __init__(
        self,
        reference: ArrayLike,
        sample: ArrayLike,
        weights: ArrayLike | None = None,
        dark: ArrayLike | None = None,
        flat: ArrayLike | None = None,
        notes: tuple[str, ...] = (),
        measured: Mapping[str, NDArray[Any]] | None = None,
    ) -> None:
        faults: list[str] = []
        given = {
            "reference": as_frames("reference", reference, faults),
            "sample": as_frames("sample", sample, faults),
            "dark": _still("dark", dark, faults),
            "flat": _still("flat", flat, faults),
        }
        first = given["reference"] if given["reference"] is not None else given["sample"]
        if first is not None:
            if given["sample"] is not None and given["sample"].shape != first.shape:
                faults.append(
                    f"reference has shape {first.shape} and sample {given['sample'].shape}; expected one "
                    "frame of each for every position of the diffuser, of equal size"
                )
            for name in ("dark", "flat"):
                image = given[name]
                if image is not None and image.shape[1:] != first.shape[1:]:
                    faults.append(
                        f"{name} has {image.shape[1:]} pixels (y, x); expected the frames' {first.shape[1:]}"
                    )
            if weights is None:
                given["weights"] = np.broadcast_to(np.float32(1.0), first.shape)
            else:
                given["weights"] = as_weights("weights", weights, first.shape, faults)
        raise_errors(faults)
        for name, array in given.items():
            object.__setattr__(self, name, array)
        object.__setattr__(self, "notes", tuple(notes))
        object.__setattr__(self, "measured", dict(measured or {}))

    @property
    def positions(self) -> int:
        """Number N of positions of the diffuser."""
        return int(self.reference.shape[0])

    @property
    def shape(self) -> tuple[int, int]:
        """Size (y, x) of a frame in pixels."""
        return (int(self.reference.shape[1]), int(self.reference.shape[2]))

    def stack(self) -> SpeckleStack:
        """Give the frames as the methods take them."""
        return SpeckleStack(self.reference, self.sample, self.weights)

    def replace(self, note: str, **changes: Any) -> Frames:
        """Give frames with some arrays changed and a note added.

        Parameters
        ----------
        note : str
            What was done, in words.
        **changes
            Arrays by name; `measured` as a whole.
        """
        names = ("reference", "sample", "weights", "dark", "flat", "measured")
        arrays = {name: changes.get(name, getattr(self, name)) for name in names}
        return Frames(**arrays, notes=(*self.notes, note))


def _still(name: str, frames: ArrayLike | None, faults: list[str]) -> Image | None:
    """Check frames of a still scene, one or several of them."""
    if frames is None:
        return None
    array = as_array(name, frames, "numbers of shape (y, x) or (frame, y, x)", faults)
    if array is None:
        return None
    return as_frames(name, array[None] if array.ndim == 2 else array, faults)


def check_frames(name: str, frames: ArrayLike, weights: ArrayLike | None) -> tuple[Image, Image | None]:
    """Give frames and weights as `xmist.SpeckleStack` would, or raise all their faults.

    Parameters
    ----------
    name : str
        What the frames are called in a fault.
    frames : (position, y, x) array_like
        Frames.
    weights : (position, y, x) array_like or None
        Weights.
    """
    faults: list[str] = []
    series = as_frames(name, frames, faults)
    given = None
    if series is not None and weights is not None:
        given = as_weights("weights", weights, series.shape, faults)
    raise_errors(faults)
    assert series is not None  # as_frames gave a fault otherwise
    return series, given


def check_pair(
    reference: ArrayLike, sample: ArrayLike, weights: ArrayLike | None
) -> tuple[Image, Image, Image | None]:
    """Give reference, sample and weights as `Frames` would, or raise all their faults.

    Parameters
    ----------
    reference, sample : (position, y, x) array_like
        Frames.
    weights : (position, y, x) array_like or None
        Weights.
    """
    frames = Frames(reference, sample, weights)
    return frames.reference, frames.sample, None if weights is None else frames.weights


def still_image(name: str, frames: ArrayLike, shape: tuple[int, ...]) -> Image:
    """Average frames of a still scene: the median of three or more, the mean of two.

    Parameters
    ----------
    name : str
        What the frames are called in a fault.
    frames : (y, x) or (frame, y, x) array_like
        Frames.
    shape : tuple of int
        Shape (y, x) that they must have.
    """
    faults: list[str] = []
    series = _still(name, frames, faults)
    if series is not None and series.shape[1:] != shape:
        faults.append(f"{name} has {series.shape[1:]} pixels (y, x); expected {shape}, as the frames")
    raise_errors(faults)
    assert series is not None  # as_frames gave a fault otherwise
    if len(series) < 3:
        return np.asarray(series.mean(axis=0, dtype=np.float64), dtype=np.float32)
    out = np.empty(shape, np.float32)
    for start in range(0, shape[0], 64):  # by rows: a median copies what it looks at
        out[start : start + 64] = np.median(series[:, start : start + 64], axis=0)
    return out


def lit_level(values: NDArray[Any]) -> float:
    """Give the median of the pixels that see the beam; 0 if none does.

    Pixels darker than a tenth of it do not count, so that frames of which as little as 5 % is lit have the
    level of that part.

    Parameters
    ----------
    values : (number,) array
        Finite values of good pixels.

    Examples
    --------
    >>> lit_level(np.r_[np.zeros(800), np.full(200, 7.0)])
    7.0
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


def check_span(name: str, span: Any, size: int | None = None) -> str | None:
    """Say what is wrong with a range of rows or columns; None if nothing.

    Parameters
    ----------
    name : str
        What the range is called.
    span : object
        Should be (start, stop), counted from 0, stop excluded.
    size : int, optional
        Number of rows or columns that there are.
    """
    expected = "expected [start, stop], whole numbers counted from 0 with start < stop"
    if isinstance(span, (str, bytes)) or not hasattr(span, "__len__") or len(span) != 2:
        return f"{name} is {span!r}; {expected}"
    if any(isinstance(item, bool) or not isinstance(item, numbers.Integral) for item in span):
        return f"{name} is {span!r}; {expected}"
    if not 0 <= span[0] < span[1]:
        return f"{name} is [{span[0]}, {span[1]}]; {expected}"
    if size is not None and span[1] > size:
        return f"{name} is [{span[0]}, {span[1]}]; there are only {size} of them in the frames"
    return None


def box_slices(rows: Span | None, columns: Span | None, shape: tuple[int, int]) -> tuple[slice, slice]:
    """Give the slices of a box; None takes all rows or columns.

    Parameters
    ----------
    rows, columns : (start, stop) or None
        Ranges counted from 0, stop excluded.
    shape : (y, x)
        Size of a frame.

    Raises
    ------
    InputError
        If a range is not one, or lies outside.
    """
    faults = []
    slices = []
    for name, span, size in (("rows", rows, shape[0]), ("columns", columns, shape[1])):
        if span is None:
            slices.append(slice(0, size))
            continue
        fault = check_span(name, span, size)
        if fault:
            faults.append(fault)
        else:
            slices.append(slice(int(span[0]), int(span[1])))
    raise_errors(faults)
    return slices[0], slices[1]
