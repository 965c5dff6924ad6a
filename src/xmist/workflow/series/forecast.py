"""What a scan would take: time, memory and disk, after one projection was tried."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from xmist.core.errors import InputError
from xmist.io.results.atomic import target_errors
from xmist.numerics.parallel import count_threads
from xmist.workflow.configuration import Draft
from xmist.workflow.projection.survey import amount
from xmist.workflow.series.blocks import Form, split
from xmist.workflow.series.inputs import section_faults
from xmist.workflow.series.memory import disk_space, fit_workers, leading_memory, parse_memory, process_memory
from xmist.workflow.series.request import blocks_folder, outputs
from xmist.workflow.series.trial import Beginning, begin, block_size, reads_hdf5

_WRITING: Final = 200e6  # bytes a second, synced, to a disk that is no snail and no rocket


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What `xmist scan` would do.

    Parameters
    ----------
    faults : tuple of str
        Everything that keeps it from running; what follows is empty then.
    remarks : tuple of str
        What a person should look at.
    projections : int
        How many there are.
    missing : int
        How many of them lack frames.
    positions : int
        Number N of positions of the mask.
    sets : int
        Sets of references.
    angles : tuple of float, or None
        First and last, in degrees.
    method : str
        Name of the method.
    options : mapping
        All its options.
    channels : tuple of str
        What is kept.
    shape : (y, x)
        Of the results.
    block, blocks : int
        Projections a block, and number of blocks.
    outputs : tuple of str
        What is written.
    workers : int
        Projections that are retrieved at a time.
    seconds_each, seconds : float
        Time of a projection, and of the scan.
    memory : float or None
        Bytes of all processes; None where the system does not say.
    disk : float
        Bytes of all files.
    """

    faults: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    projections: int = 0
    missing: int = 0
    positions: int = 0
    sets: int = 0
    angles: tuple[float, float] | None = None
    method: str = ""
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    channels: tuple[str, ...] = ()
    shape: tuple[int, int] = (0, 0)
    block: int = 0
    blocks: int = 0
    outputs: tuple[str, ...] = ()
    workers: int = 0
    seconds_each: float = 0.0
    seconds: float = 0.0
    memory: float | None = None
    disk: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Give all of it as plain data."""
        return dataclasses.asdict(self)


def forecast(draft: Draft, *, workers: int | None = None, memory: str | float | None = None) -> Forecast:
    """Say what a scan would do and take; one projection is retrieved twice, in a child process.

    Parameters
    ----------
    draft : Draft
        What the scan file states.
    workers : int, optional
        Processes; None for one.
    memory : str or float, optional
        What all of them may hold.

    Returns
    -------
    Forecast
        Faults are listed, not raised.
    """
    faults = list(draft.named(section_faults(draft)))
    limit = None
    try:
        master, plots = outputs(draft) if draft.files else (Path(), ())
        limit = None if memory is None else parse_memory(memory)
    except InputError as error:
        faults += error.faults
    if faults:
        return Forecast(faults=tuple(faults))
    faults += draft.named(error.message for error in target_errors(master, overwrite=True))
    if workers is None and reads_hdf5(draft):
        workers = 1  # as the command does it
    threads = draft.threads or (max(1, count_threads() // workers) if workers else None)
    try:
        begun = begin(dataclasses.replace(draft, threads=threads), full=False, trial=2, child=True)
        return _told(draft, begun, faults, master, plots, workers, limit)
    except InputError as error:
        return Forecast(faults=(*faults, *error.faults))


def _told(
    draft: Draft,
    begun: Beginning,
    faults: list[str],
    master: Path,
    plots: tuple[Path, ...],
    workers: int | None,
    limit: float | None,
) -> Forecast:
    number = workers or 1
    inputs, trial, section = begun.inputs, begun.trial, draft.scan
    assert trial is not None
    assert section is not None
    form: Form = trial.form(inputs, begun.identity.hash)
    count = inputs.layout.count
    block = block_size(form, section.block, count, number, section.warm_start)
    parent = leading_memory(workers)
    need = None
    if trial.memory is not None:
        each = process_memory(trial.memory, inputs, form, warm=section.warm_start is not None)
        number = fit_workers(limit, number, each, parent)
        need = number * each + parent
    disk = disk_space(form, count, block)
    folder = blocks_folder(master)
    with suppress(OSError):
        free = shutil.disk_usage(master.parent).free
        there = sum(path.stat().st_size for path in folder.iterdir()) if folder.is_dir() else 0
        if free + there < disk:
            faults.append(
                f"no space on the disk of {master.parent}: the scan needs {amount(disk)}, and {amount(free)} "
                "are free; make room, write elsewhere, or keep fewer channels (scan.channels)"
            )
    angles = inputs.angles
    return Forecast(
        faults=tuple(faults),
        remarks=inputs.remarks,
        projections=count,
        missing=len(inputs.layout.missing),
        positions=inputs.layout.positions,
        sets=len(inputs.references.times),
        angles=None if angles is None else (float(angles[0]), float(angles[-1])),
        method=str(draft.method),
        options=trial.options,
        channels=form.channels,
        shape=form.shape,
        block=block,
        blocks=len(split(count, block)),
        outputs=(str(master), f"{folder}/", *map(str, plots), str(master.with_suffix(".log"))),
        workers=number,
        seconds_each=trial.seconds,
        seconds=count * trial.seconds / number + disk / _WRITING,
        memory=need,
        disk=disk,
    )
