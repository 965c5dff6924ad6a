"""The steps by name, as a scan file lists them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from xmist.core.arrays import Image
from xmist.core.errors import InputError, raise_errors, suggest
from xmist.preprocess.bad_pixels import survey
from xmist.preprocess.detector import divide_flat, subtract_dark
from xmist.preprocess.drift import correct_drift, measure_drift
from xmist.preprocess.flux import flux_factors, scale_frames
from xmist.preprocess.frames import Frames
from xmist.preprocess.options import (
    BadPixelsOptions,
    BinOptions,
    CropOptions,
    DarkOptions,
    DriftOptions,
    FlatOptions,
    FluxOptions,
    UnlitOptions,
)
from xmist.preprocess.regions import bin_frames, crop
from xmist.preprocess.unlit import unlit_region


def _dark(frames: Frames, options: DarkOptions) -> Frames:
    if frames.dark is None:
        raise InputError("there are no dark frames (or an earlier step took them); give input.dark")
    flat = None if frames.flat is None else subtract_dark(frames.flat, frames.dark)
    number = len(frames.dark)
    return frames.replace(
        f"dark: subtracted {_by(number)}, of mean {_mean(frames.dark):.4g}",
        reference=subtract_dark(frames.reference, frames.dark),
        sample=subtract_dark(frames.sample, frames.dark),
        flat=flat,
        dark=None,
    )


def _flat(frames: Frames, options: FlatOptions) -> Frames:
    faults = []
    if frames.flat is None:
        faults.append("there are no flat frames (or an earlier step took them); give input.flat")
    if frames.dark is not None:
        faults.append("there are dark frames that were not subtracted; put the step dark before flat")
    raise_errors(faults)
    assert frames.flat is not None
    reference = divide_flat(frames.reference, frames.flat)
    lost = int(np.count_nonzero(np.isnan(reference[0]) & ~np.isnan(frames.reference[0])))
    return frames.replace(
        f"flat: divided by {_by(len(frames.flat))}, scaled to mean 1; {_pixels(lost)} without response",
        reference=reference,
        sample=divide_flat(frames.sample, frames.flat),
        flat=None,
    )


def _bad_pixels(frames: Frames, options: BadPixelsOptions) -> Frames:
    found = survey(
        {"reference": frames.reference, "sample": frames.sample},
        frames.weights,
        options,
        threads=None,
    )
    weights = frames.weights.copy()
    before = np.count_nonzero(weights == 0)
    weights[found.bad] = 0.0
    new = (np.count_nonzero(weights == 0) - before) / frames.positions
    kinds = [f"{kind} {_spread(list(counts.values()))}" for kind, counts in found.counts.items()]
    return frames.replace(
        f"bad-pixels: weight 0 for {new:.6g} more pixels of a pair, {_pixels(found.lasting)} at all "
        f"positions ({'; '.join(kinds) or 'none found'})",
        weights=weights,
    )


def _unlit(frames: Frames, options: UnlitOptions) -> Frames:
    region = unlit_region(frames.reference, frames.weights, options)
    region |= unlit_region(frames.sample, frames.weights, options)
    weights = frames.weights.copy()
    weights[:, region] = 0.0
    return frames.replace(
        f"unlit: weight 0 for {100 * region.mean():.3g} % of the frame, which the beam does not reach",
        weights=weights,
    )


def _flux(frames: Frames, options: FluxOptions) -> Frames:
    factors, share = flux_factors(
        frames.reference, frames.sample, frames.weights, rows=options.rows, columns=options.columns
    )
    how = "as given" if options.rows or options.columns else "found by itself"
    return frames.replace(
        f"flux: reference frames times {_range(factors[0])}, sample frames times {_range(factors[1])}, by "
        f"{100 * share:.3g} % of the frame as bare beam, {how}",
        reference=scale_frames(frames.reference, factors[0]),
        sample=scale_frames(frames.sample, factors[1]),
    )


def _drift(frames: Frames, options: DriftOptions) -> Frames:
    shift = measure_drift(
        frames.reference,
        frames.sample,
        frames.weights,
        rows=options.rows,
        columns=options.columns,
        max_shift=options.max_shift,
    )
    reference, weights = correct_drift(frames.reference, shift, frames.weights)
    lost = int(np.count_nonzero((weights == 0) & (frames.weights > 0)))
    listed = ", ".join(f"({x:+.3f}, {y:+.3f})" for x, y in shift)
    return frames.replace(
        f"drift: references moved by (x, y) {listed} pixels onto the samples; weight 0 for {_pixels(lost)} "
        "that bad pixels or the border touch",
        reference=reference,
        weights=weights,
        measured={**frames.measured, "drift": shift},
    )


def _crop(frames: Frames, options: CropOptions) -> Frames:
    def part(image: Image | None) -> Image | None:
        return None if image is None else crop(image, rows=options.rows, columns=options.columns)

    arrays = {
        name: part(getattr(frames, name)) for name in ("reference", "sample", "weights", "dark", "flat")
    }
    rows = options.rows or (0, frames.shape[0])
    columns = options.columns or (0, frames.shape[1])
    return frames.replace(
        f"crop: kept rows {rows[0]} to {rows[1] - 1} and columns {columns[0]} to {columns[1] - 1}", **arrays
    )


def _bin(frames: Frames, options: BinOptions) -> Frames:
    # One set of weights: a pixel that either frame lacks is left out of both means.
    good = np.isfinite(frames.reference) & np.isfinite(frames.sample) & (frames.reference > 0)
    weights = np.where(good, frames.weights, np.float32(0.0))
    reference, joined = bin_frames(frames.reference, weights, size=options.size, least=options.least)
    sample, _ = bin_frames(frames.sample, weights, size=options.size, least=options.least)
    still = {
        name: None if image is None else bin_frames(image, size=options.size)[0]
        for name, image in (("dark", frames.dark), ("flat", frames.flat))
    }
    return frames.replace(
        f"bin: joined {options.size} × {options.size} pixels; the pixel is {options.size} times as large",
        reference=reference,
        sample=sample,
        weights=joined,
        **still,
    )


def _by(number: int) -> str:
    return "one frame" if number == 1 else f"the {'mean' if number == 2 else 'median'} of {number} frames"


def _mean(frames: Image) -> float:
    return float(frames.mean(dtype=np.float64, where=np.isfinite(frames)))


def _pixels(number: int) -> str:
    return f"{number} pixel" if number == 1 else f"{number} pixels"


def _spread(counts: list[int]) -> str:
    return str(counts[0]) if min(counts) == max(counts) else f"{min(counts)} to {max(counts)} a frame"


def _range(values: Any) -> str:
    low, high = float(values.min()), float(values.max())
    return f"{low:.4f}" if high - low < 5e-5 else f"{low:.4f} to {high:.4f}"


@dataclass(frozen=True)
class Step:
    """A step of the preparation.

    Parameters
    ----------
    name : str
        Name in a scan file.
    options : type
        Frozen dataclass of its options.
    function : callable
        Takes `Frames` and options, gives `Frames` with one note more.
    summary : str
        One sentence for people.
    """

    name: str
    options: type
    function: Callable[[Frames, Any], Frames]
    summary: str


_TABLE = (
    Step("dark", DarkOptions, _dark, "subtract the signal that the detector has without beam"),
    Step("flat", FlatOptions, _flat, "divide by the uneven response of the detector"),
    Step("bad-pixels", BadPixelsOptions, _bad_pixels, "weight 0 for hot, dead, stuck and saturated pixels"),
    Step("unlit", UnlitOptions, _unlit, "weight 0 for large regions that the beam does not reach"),
    Step("flux", FluxOptions, _flux, "scale all frames to one flux of the bare beam"),
    Step("drift", DriftOptions, _drift, "move the references to where the sample frames' speckles are"),
    Step("crop", CropOptions, _crop, "keep a box of the frames"),
    Step("bin", BinOptions, _bin, "join pixels into larger ones"),
)

STEPS: Final[Mapping[str, Step]] = MappingProxyType({step.name: step for step in _TABLE})


def make_step_options(name: str, options: Mapping[str, Any]) -> Any:
    """Check a step's name and options and give its frozen options.

    Parameters
    ----------
    name : str
        Name of a step, see `STEPS`.
    options : mapping
        Options by name; what is left out keeps its default.

    Raises
    ------
    InputError
        For an unknown name, every unknown option, with the nearest known one, and every value out of range.

    Examples
    --------
    >>> make_step_options("bin", {"size": 4}).size
    4
    """
    if name not in STEPS:
        raise InputError(f"unknown step '{name}'; {suggest(str(name), STEPS)}")
    kind = STEPS[name].options
    known = [item.name for item in dataclasses.fields(kind)]
    faults = [
        f"'{key}' is not an option of {name}; {suggest(key, known)}" for key in options if key not in known
    ]
    made = None
    try:
        made = kind(**{key: value for key, value in options.items() if key in known})
    except InputError as error:
        faults.extend(error.faults)
    raise_errors(faults)
    return made


def apply_steps(frames: Frames, steps: Sequence[tuple[str, Mapping[str, Any]]]) -> Frames:
    """Prepare frames by a list of steps, in order.

    Parameters
    ----------
    frames : Frames
        Frames; not modified.
    steps : sequence of (name, options)
        Names of `STEPS` with their options.

    Returns
    -------
    Frames
        Prepared frames, with a note for every step.

    Raises
    ------
    InputError
        Lists what is wrong with names and options of all steps before anything is done; or says which step
        could not be done, and why.

    Examples
    --------
    >>> counts = np.random.default_rng(1).uniform(90, 110, (2, 32, 40))
    >>> done = apply_steps(Frames(counts, 0.9 * counts), [("flux", {}), ("bin", {"size": 2})])
    >>> done.shape, done.notes[1]
    ((16, 20), 'bin: joined 2 × 2 pixels; the pixel is 2 times as large')
    """
    faults: list[str] = []
    made = []
    for number, (name, options) in enumerate(steps, 1):
        try:
            made.append((number, STEPS.get(name), make_step_options(name, options)))
        except InputError as error:
            faults.extend(f"step {number} ({name}): {fault}" for fault in error.faults)
    raise_errors(faults)
    for number, step, settings in made:
        assert step is not None  # make_step_options raised otherwise
        try:
            frames = step.function(frames, settings)
        except InputError as error:
            raise InputError([f"step {number} ({step.name}): {fault}" for fault in error.faults]) from None
    return frames
