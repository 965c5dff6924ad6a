"""The steps by name, as a configuration file lists them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from xmist.core.arrays import Image
from xmist.core.errors import (
    ErrorRecord,
    InputError,
    collect_errors,
    prefix_errors,
    raise_errors,
    suggest,
)
from xmist.core.findings import Finding
from xmist.core.options import Options, read_options
from xmist.preprocess.bad_pixels import BadPixelsOptions, apply_bad_pixels, is_raw, mask_saturated
from xmist.preprocess.bin import BinOptions, apply_bin
from xmist.preprocess.crop import CropOptions, apply_crop, crop, crop_entry
from xmist.preprocess.dark import DarkOptions, apply_dark, dark_entry, subtract_dark, usable_darks
from xmist.preprocess.drift import DriftOptions, apply_drift
from xmist.preprocess.flat import FlatOptions, apply_flat, divide_flat, flat_entry, usable_flats
from xmist.preprocess.flux import FluxOptions, apply_flux
from xmist.preprocess.frames import Frames, still_image
from xmist.preprocess.unlit import UnlitOptions, apply_unlit

Steps = Sequence[tuple[str, Mapping[str, Any]]]


@dataclass(frozen=True)
class Step:
    """A preprocessing step.

    Parameters
    ----------
    name : str
        Name in a configuration file.
    options : type
        Class of its options.
    function : callable
        Takes `Frames` and options, returns `Frames` with one more entry in the history.
    summary : str
        One sentence for people.
    """

    name: str
    options: type[Options]
    function: Callable[[Frames, Any], Frames]
    summary: str


_TABLE = (
    Step("dark", DarkOptions, apply_dark, "subtract the signal that the detector has without beam"),
    Step("flat", FlatOptions, apply_flat, "divide by the response of the detector"),
    Step("bad-pixels", BadPixelsOptions, apply_bad_pixels, "mask hot, dead, stuck and saturated pixels"),
    Step("unlit", UnlitOptions, apply_unlit, "mask large regions that the beam does not reach"),
    Step("flux", FluxOptions, apply_flux, "scale all frames to one flux of the bare beam"),
    Step(
        "drift",
        DriftOptions,
        apply_drift,
        "register the reference frames to the sample frames, and move them",
    ),
    Step("crop", CropOptions, apply_crop, "keep a box of the frames"),
    Step("bin", BinOptions, apply_bin, "join pixels into larger ones"),
)

STEPS: Final[Mapping[str, Step]] = MappingProxyType({step.name: step for step in _TABLE})


def make_step_options(name: str, options: Mapping[str, Any]) -> Any:
    """Return the frozen options of a step, checked.

    Parameters
    ----------
    name : str
        Name of a step, see `STEPS`.
    options : mapping
        Options by name; the others keep their defaults.

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
        raise InputError(f"unknown step '{name}'; {suggest(str(name), STEPS)}", "step-unknown")
    made, errors = read_options(STEPS[name].options, options, owner=f"step '{name}'")
    raise_errors(errors)
    return made


def apply_steps(frames: Frames, steps: Steps) -> Frames:
    """Preprocess frames by a list of steps, in order.

    Parameters
    ----------
    frames : Frames
        Frames; not modified.
    steps : sequence of (name, options)
        Names of `STEPS` with their options.

    Returns
    -------
    Frames
        Preprocessed frames, with an entry in the history for every step.

    Raises
    ------
    InputError
        Lists every invalid name and option of all steps before any step runs; or names the step that failed,
        and why.

    Examples
    --------
    >>> counts = np.random.default_rng(1).uniform(90, 110, (2, 32, 40))
    >>> done = apply_steps(Frames(counts, 0.9 * counts), [("flux", {}), ("bin", {"size": 2})])
    >>> done.shape, done.history[1]
    ((16, 20), 'bin: joined 2 × 2 pixels; the pixel is 2 times as large')
    """
    errors: list[ErrorRecord] = []
    made = []
    for number, (name, options) in enumerate(steps, 1):
        with collect_errors(errors, f"step {number} ({name}): "):
            made.append((number, STEPS.get(name), make_step_options(name, options)))
    raise_errors(errors)
    for number, step, settings in made:
        if step is not None and step.name == "bad-pixels" and number > 1 and is_raw(frames):
            # Dark and flat give each saturated pixel another value.
            frames = mask_saturated(frames, settings.saturation)
    for number, step, settings in made:
        assert step is not None  # make_step_options raised otherwise
        with prefix_errors(f"step {number} ({step.name}): "):
            frames = step.function(frames, settings)
    return frames


@dataclass(frozen=True, kw_only=True, eq=False)
class FrameSteps:
    """The first steps of a list that treat each frame alone, prepared once.

    Call it with frames (position, y, x). `rest` are the other steps, `dark` and `flat` the frames (frame, y,
    x) that these need, `history` and `findings` those of the prepared steps. It can be pickled.
    """

    functions: tuple[Callable[[Image], Image], ...]
    rest: Steps
    boxes: tuple[Callable[[Image], Image], ...] = ()
    dark: Image | None = None
    flat: Image | None = None
    history: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()

    def __call__(self, frames: Image) -> Image:
        """Return the frames after these steps."""
        for function in self.functions:
            frames = function(frames)
        return frames

    def crop(self, weights: Image) -> Image:
        """Return weights (position, y, x) after the step crop, if it is among the prepared ones."""
        for function in self.boxes:
            weights = function(weights)
        return weights


def prepare_frame_steps(
    steps: Steps, dark: Image | None, flat: Image | None, level: float | None = None
) -> FrameSteps:
    """Prepare the steps dark, flat and crop that come first; equal to `apply_steps` bit for bit.

    Dark and flat are (frame, y, x) frames, `level` is the median of the reference frames. The steps must be
    valid, and the frames that they need present.
    """
    functions: list[Callable[[Image], Image]] = []
    boxes: list[Callable[[Image], Image]] = []
    history: list[str] = []
    findings: list[Finding] = []
    for name, given in steps:
        if name == "dark" and dark is not None:
            darks, found = usable_darks(dark, level)
            still = still_image("dark", darks, darks.shape[1:])
            functions.append(partial(subtract_dark, dark=still))
            history.append(dark_entry(darks))
            dark, flat = None, None if flat is None else subtract_dark(flat, still)
        elif name == "flat" and flat is not None and dark is None:
            flats, found = usable_flats(flat)
            still = still_image("flat", flats, flats.shape[1:])
            functions.append(partial(divide_flat, flat=still))
            lost = int(np.count_nonzero(~(np.isfinite(still) & (still > 0))))
            history.append(flat_entry(flats, lost))
            flat = None
        elif name == "crop":
            options, found = make_step_options(name, given), ()
            box = partial(crop, rows=options.rows, columns=options.columns)
            functions.append(box)
            boxes.append(box)
            history.append(crop_entry(options))
            dark, flat = (None if images is None else box(images) for images in (dark, flat))
        else:
            break
        findings += found
    return FrameSteps(
        functions=tuple(functions),
        rest=tuple(steps[len(functions) :]),
        boxes=tuple(boxes),
        dark=dark,
        flat=flat,
        history=tuple(history),
        findings=tuple(findings),
    )
