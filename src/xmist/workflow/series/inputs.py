"""Everything that a scan reads before its first projection: layout, references, dark, flat and angles."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from xmist.core.arrays import Image
from xmist.core.data import CHANNELS
from xmist.core.errors import InputError, raise_errors, suggest
from xmist.core.experiment import Experiment
from xmist.io.frames.frames import load_frames, open_frames
from xmist.io.frames.sources import listed
from xmist.methods import METHODS
from xmist.preprocess import find_bad_pixels
from xmist.preprocess.steps import FrameSteps, prepare_frame_steps
from xmist.workflow.configuration import Draft, ScanFile
from xmist.workflow.projection.survey import prepared_shape
from xmist.workflow.series.angles import Angles, fit_angles, known_angles
from xmist.workflow.series.layout import Layout, lay_out
from xmist.workflow.series.positions import pair_positions
from xmist.workflow.series.reader import Reader
from xmist.workflow.series.references import References, measure_shifts


@dataclass(frozen=True, kw_only=True, eq=False)
class Inputs:
    """What was found and read before the first projection.

    Parameters
    ----------
    layout : Layout
        Frames of the projections that shall be retrieved.
    first : int
        Number of the first of them in the whole scan.
    references : References
        References after the steps for single frames.
    steps : FrameSteps
        Steps for single frames, and the rest of them.
    angles : (projection,) float64 array or None
        In degrees.
    experiment : Experiment
        With the pixel of the prepared frames.
    shape : (y, x)
        Of the prepared frames.
    files : tuple of Path
        Every file that is read, those of the references first.
    remarks : tuple of str
        What a person should look at.
    """

    layout: Layout
    first: int
    references: References
    steps: FrameSteps
    angles: Angles | None
    experiment: Experiment
    shape: tuple[int, int]
    files: tuple[Any, ...]
    remarks: tuple[str, ...]


def open_inputs(draft: Draft) -> Inputs:
    """Open the frames of a scan and read its references.

    Parameters
    ----------
    draft : Draft
        What the scan file states.

    Returns
    -------
    Inputs
        For `xmist.workflow.series.workshop`.

    Raises
    ------
    InputError
        Lists everything that is wrong, with the name of the scan file.
    """
    raise_errors(draft.named(section_faults(draft)))
    scan = draft.finish()
    try:
        return _open(scan)
    except InputError as error:
        raise InputError(scan.named(error.faults)) from error


def section_faults(draft: Draft) -> list[str]:
    """Say what is wrong with what a scan file states, before any file of frames is looked at.

    Parameters
    ----------
    draft : Draft
        What the scan file states.
    """
    faults = list(draft.faults)
    if draft.scan is None:
        faults.append(
            'scan is missing; expected a table [scan] with order = "position" or "projection" and angles'
        )
        return faults
    if (
        draft.scan.warm_start is not None
        and draft.method is not None
        and not METHODS[draft.method].accepts_initial
    ):
        able = [name for name, method in METHODS.items() if method.accepts_initial]
        faults.append(
            f"scan.warm_start is given, and {draft.method} does not begin from a result; leave it out, or "
            f"take {' or '.join(able)}"
        )
    if draft.scan.channels is not None and draft.method is not None:
        gives = (*METHODS[draft.method].gives, *(name for name in CHANNELS if name.endswith("_std")))
        faults += [
            f"scan.channels holds '{name}', which {draft.method} does not give; {suggest(name, gives)}"
            for name in draft.scan.channels
            if name not in gives
        ]
    return faults


def _open(scan: ScanFile) -> Inputs:
    section, frames = scan.scan, scan.input
    assert section is not None
    faults: list[str] = []

    def attempt(task: Callable[[], Any]) -> Any:
        try:
            return task()
        except InputError as error:
            faults.extend(error.faults)
            return None

    times = section.reference_at or (0.0,)
    known = attempt(lambda: known_angles(section.angles, scan.folder))
    place: dict[str, Any] = {"folder": scan.folder, "order": section.order}
    reference: Layout | None = attempt(
        lambda: lay_out(
            frames.reference,
            name="input.reference",
            outer="set",
            exposures=section.reference_exposures or frames.exposures,
            count=len(times),
            **place,
        )
    )
    layout: Layout | None = None
    if reference is not None:
        faults += [f"{reference.name}: {text}" for text in reference.missing.values()]
        layout = attempt(partial(_lay_out_sample, scan, reference.positions, known))
        least = METHODS[scan.method].minimum_positions
        if reference.positions < least:
            faults.append(
                f"{reference.name} has {reference.positions} positions of the mask in {len(times)} sets; "
                f"{scan.method} needs at least {least}"
            )
        # A single position has nothing that it could be mistaken for.
        if layout is not None and not reference.missing and frames.position_key and reference.positions > 1:
            pair = attempt(partial(pair_positions, reference, layout, frames.position_key))
            reference, layout = pair or (reference, layout)
    still = {role: attempt(partial(_still, scan, role)) for role in ("dark", "flat") if getattr(frames, role)}
    if reference is not None and layout is not None:
        faults += _shape_faults(reference, layout, still)
    shape, binning = prepared_shape(scan, None if reference is None else reference.shape, faults)
    angles = None
    first, last = 0, 0
    if layout is not None:
        angles = attempt(lambda: fit_angles(section.angles, known, layout, frames.exposures))
        first, last = section.projections or (0, layout.count)
        if last > layout.count:
            faults.append(f"scan.projections ends at {last}; there are {layout.count} projections")
    raise_errors(faults)
    assert reference is not None
    assert layout is not None
    assert shape is not None
    references, steps = _references(scan, reference, still, times)
    return Inputs(
        layout=layout.part(first, last),
        first=first,
        references=references,
        steps=steps,
        angles=None if angles is None else angles[first:last],
        experiment=dataclasses.replace(scan.experiment, pixel_size=scan.experiment.pixel_size * binning),
        shape=shape,
        files=(*reference.files, *(path for role in still for path in still[role][1]), *layout.files),
        remarks=tuple(_remarks(reference, layout, first, last)),
    )


def _lay_out_sample(scan: ScanFile, positions: int, known: Angles | None) -> Layout:
    """Lay out the projections; more angles than projections tell that the last ones are missing."""
    section, frames = scan.scan, scan.input
    assert section is not None
    told: dict[str, Any] = {
        "name": "input.sample",
        "outer": "projection",
        "folder": scan.folder,
        "order": section.order,
        "exposures": frames.exposures,
        "positions": positions,
    }
    if isinstance(section.angles, tuple):
        assert known is not None
        return lay_out(frames.sample, **told, count=known.size)
    layout = lay_out(frames.sample, **told)
    exposed = layout.count * positions * frames.exposures
    if known is not None and known.size > layout.count and known.size != exposed:
        keyed = next((address.key for address in layout.addresses if address.key), None)
        if keyed and not str(section.angles).endswith("]"):
            raise InputError(
                f"scan.angles: {section.angles} gives {known.size} angles, and {keyed} chooses "
                f"{layout.count} projections of input.sample; expected the angles of the same frames: "
                f"{section.angles}{keyed}"
            )
        return lay_out(frames.sample, **told, count=known.size)
    return layout


def _still(scan: ScanFile, role: str) -> tuple[Image, tuple[Any, ...]]:
    series = open_frames(getattr(scan.input, role), name=f"input.{role}", folder=scan.folder)
    return load_frames(series).frames, series.files


def _shape_faults(reference: Layout, layout: Layout, still: Mapping[str, Any]) -> list[str]:
    shapes = {"input.sample": layout.shape}
    shapes |= {f"input.{role}": loaded[0].shape[1:] for role, loaded in still.items() if loaded is not None}
    y, x = reference.shape
    return [
        f"{name} has frames of {shape[0]} × {shape[1]} pixels; expected {y} × {x}, as the reference has"
        for name, shape in shapes.items()
        if shape != (y, x)
    ]


def _references(
    scan: ScanFile, layout: Layout, still: Mapping[str, tuple[Image, Any]], times: Sequence[float]
) -> tuple[References, FrameSteps]:
    """Read the references, lead them through the steps for single frames, and register them."""
    section = scan.scan
    assert section is not None
    images = {role: loaded[0] for role, loaded in still.items()}
    steps = prepare_frame_steps(scan.preprocess, images.get("dark"), images.get("flat"))
    with Reader(layout) as reader:
        sets = [steps(reader.read(number)) for number in range(layout.count)]
    joined = np.stack(sets).astype(np.float32, copy=False)
    weights = shifts = None
    if len(times) > 1 and section.between == "linear":
        chosen = [given for name, given in steps.rest if name == "bad-pixels"]
        weights = np.ones_like(joined)
        if chosen:
            weights = np.stack([find_bad_pixels(frames, **chosen[0]) for frames in joined])
        shifts = measure_shifts(joined, weights)
    kept = References(
        sets=joined, weights=weights, times=tuple(times), between=section.between, shifts=shifts
    )
    return kept, steps


def _remarks(reference: Layout, layout: Layout, first: int, last: int) -> list[str]:
    remarks = [f"{each.name}: {each.remark}" for each in (reference, layout) if each.remark]
    absent = [index for index in layout.missing if first <= index < last]
    if absent:
        remarks.append(
            f"{len(absent)} of {last - first} projections lack frames and will be flagged: "
            f"{listed(absent)} ({layout.missing[absent[0]]})"
        )
    return remarks
