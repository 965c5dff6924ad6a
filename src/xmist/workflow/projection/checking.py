"""What a run would do, need and write, and everything that is wrong, before a frame is read."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from xmist.core.progress import Progress
from xmist.io.frames.frames import FrameSeries
from xmist.preprocess import STEPS
from xmist.workflow.configuration import Draft
from xmist.workflow.projection.estimate import estimate, machine_memory
from xmist.workflow.projection.survey import Survey, amount, survey


@dataclass(frozen=True, kw_only=True)
class Check:
    """What a run would do.

    Parameters
    ----------
    faults : tuple of str
        Everything that keeps it from running.
    remarks : tuple of str
        What a person should look at.
    frames : mapping
        For each role that could be opened: number of frames, shape, dtype and number of files.
    geometry : mapping
        The experiment, and what follows from it; empty if it has a fault.
    positions : int or None
        Number N of positions of the mask.
    steps : tuple of str
        The preprocessing in words.
    method : str or None
        The method.
    options : mapping
        Its options that were given.
    shape : (y, x) or None
        Size of the results in pixels.
    outputs : tuple of str
        Files that would be written.
    memory : float or None
        Peak memory in bytes; None if there is a fault.
    seconds : float or None
        Rough time; None if there is a fault, or where the method cannot be tried.
    """

    faults: tuple[str, ...]
    remarks: tuple[str, ...]
    frames: Mapping[str, Mapping[str, Any]]
    geometry: Mapping[str, Any]
    positions: int | None
    steps: tuple[str, ...]
    method: str | None
    options: Mapping[str, Any]
    shape: tuple[int, int] | None
    outputs: tuple[str, ...]
    memory: float | None
    seconds: float | None

    def to_dict(self) -> dict[str, Any]:
        """Give all of it as plain data."""
        return dataclasses.asdict(self)


def check(draft: Draft, *, progress: Progress | None = None) -> Check:
    """Say what a run would do, what it would need, and everything that is wrong; no frame is read.

    Parameters
    ----------
    draft : Draft
        What the scan file states, from `xmist.workflow.configuration.draft_scan`.
    progress : callable, optional
        Called with what is done, and how much of how much of it: the method is tried on made-up frames.

    Returns
    -------
    Check
        Faults are listed, not raised.

    Examples
    --------
    >>> from xmist.workflow.configuration import make_draft
    >>> draft = make_draft({"retrieve": {"method": "mist"}}, folder=".", source="")
    >>> check(draft).faults[0][:42]
    'input.reference is missing; expected the r'
    """
    found = survey(draft)
    steps = draft.preprocess or ()
    memory = seconds = None
    remarks = list(found.remarks)
    if not found.faults:
        memory, seconds = _estimate(found, progress)
        have = machine_memory()
        if have is not None and memory > have:
            remarks.append(
                f"this machine has {amount(have)} of memory and about {amount(memory)} are needed; crop, "
                "bin, or use a larger machine"
            )
    geometry: dict[str, Any] = {}
    if draft.experiment is not None:
        experiment = dataclasses.replace(
            draft.experiment, pixel_size=draft.experiment.pixel_size * found.binning
        )
        derived = ("wavelength", "magnification", "effective_pixel", "effective_distance")
        geometry = experiment.to_dict() | {name: getattr(experiment, name) for name in derived}
    return Check(
        faults=found.faults,
        remarks=tuple(remarks),
        frames={
            role: {
                "frames": len(series),
                "shape": series.shape,
                "dtype": str(series.dtype),
                "files": len(series.files),
            }
            for role, series in found.series.items()
        },
        geometry=geometry,
        positions=None if found.pairing is None else len(found.pairing),
        steps=tuple(_step_text(name, options) for name, options in steps),
        method=draft.method,
        options=dict(draft.options or {}),
        shape=found.shape,
        outputs=tuple(map(str, found.outputs)),
        memory=memory,
        seconds=seconds,
    )


def _step_text(name: str, options: Mapping[str, Any]) -> str:
    given = ", ".join(f"{key} = {value}" for key, value in options.items())
    return f"{name}: {STEPS[name].summary}{f' ({given})' if given else ''}"


def _estimate(found: Survey, progress: Progress | None) -> tuple[float, float | None]:
    scan = found.draft.finish()
    assert found.pairing is not None  # there is no fault
    assert found.shape is not None
    reference = found.series["reference"]
    return estimate(
        method=scan.method,
        options=scan.options,
        experiment=found.experiment,
        threads=scan.threads,
        exposures=len(found.pairing),
        raw_pixels=math.prod(reference.shape),
        pixels=math.prod(found.shape),
        stored=sum(_stored(series) for series in found.series.values()),
        steps=len(scan.preprocess),
        repeated=len(found.pairing) < len(reference),
        progress=progress,
    )


def _stored(series: FrameSeries) -> int:
    return len(series) * math.prod(series.shape) * series.dtype.itemsize
