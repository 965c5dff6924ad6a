"""One projection before all others: which channels the method gives, and what a projection costs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from xmist.core.errors import InputError, raise_errors
from xmist.workflow.configuration import Draft
from xmist.workflow.series import guard
from xmist.workflow.series.blocks import Form
from xmist.workflow.series.inputs import Inputs, open_inputs
from xmist.workflow.series.journal import Identity, identify
from xmist.workflow.series.layout import is_hdf5
from xmist.workflow.series.reader import Reader
from xmist.workflow.series.request import written_faults
from xmist.workflow.series.workshop import Workshop

# So many projections are tried before it is said that none can be retrieved.
_MOST: Final = 8
# Bytes that a block may have if there is no wish: killed, it is what is lost.
_BLOCK: Final = 64 * 2**20
_MOST_IN_BLOCK: Final = 64


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What a projection gave and took.

    Parameters
    ----------
    channels : tuple of str
        What is kept.
    options : mapping
        All options of the method.
    seconds : float
        For a projection, reading included.
    memory : int or None
        Most bytes that the process held; None where the system does not say.
    """

    channels: tuple[str, ...]
    options: Mapping[str, Any]
    seconds: float
    memory: int | None

    def form(self, inputs: Inputs, key: str) -> Form:
        """Give the form of the blocks.

        Parameters
        ----------
        inputs : Inputs
            What is read.
        key : str
            Hash that the blocks carry.
        """
        return Form(identity=key, channels=self.channels, shape=inputs.shape)


@dataclass(frozen=True, kw_only=True, eq=False)
class Beginning:
    """What is known before the first block.

    Parameters
    ----------
    inputs : Inputs
        Frames and references.
    identity : Identity
        What the results depend on.
    trial : Trial or None
        If one was made.
    """

    inputs: Inputs
    identity: Identity
    trial: Trial | None


def begin(draft: Draft, *, full: bool, trial: int, child: bool | None = None) -> Beginning:
    """Open what a scan reads and try a projection; where HDF5 is read, in a child process.

    Parameters
    ----------
    draft : Draft
        What the scan file states.
    full : bool
        Hash the whole content of the input.
    trial : int
        How often to retrieve the projection that is tried: 0 for none, 1 to see what it gives, 2 to time it
        without what only the first call takes.
    child : bool, optional
        Whether to use a child process; None where a library can crash.

    Raises
    ------
    InputError
        Lists everything that is wrong.
    """
    if reads_hdf5(draft) if child is None else child:
        begun: Beginning = guard.call(_begin, draft, full, trial, what="opening the frames")
        return begun
    return _begin(draft, full, trial)


def reads_hdf5(draft: Draft) -> bool:
    """Say whether a scan may read HDF5, whose library a damaged file can crash.

    Parameters
    ----------
    draft : Draft
        What the scan file states.
    """
    frames = draft.input
    names = [*(frames.reference or ()), *(frames.sample or ()), *(frames.dark or ()), *(frames.flat or ())]
    angles = None if draft.scan is None else draft.scan.angles
    return is_hdf5([*names, angles if isinstance(angles, str) and "::" in angles else ""])


def _begin(draft: Draft, full: bool, trial: int) -> Beginning:
    inputs = open_inputs(draft)
    scan = draft.finish()
    raise_errors(scan.named(written_faults(scan, inputs.files)))
    identity = identify(scan, [Path(file) for file in inputs.files], full=full)
    found = None
    if trial:
        section = scan.scan
        assert section is not None
        workshop = Workshop(
            inputs=inputs,
            method=scan.method,
            options=scan.options,
            threads=scan.threads,
            channels=section.channels or (),
        )
        try:
            found = try_projection(workshop, times=trial)
        except InputError as error:
            raise InputError(scan.named(error.faults)) from error
    return Beginning(inputs=inputs, identity=identity, trial=found)


def try_projection(workshop: Workshop, *, times: int = 1) -> Trial:
    """Retrieve the first projection that can be, of a few all over the scan.

    Parameters
    ----------
    workshop : Workshop
        Retrieves it.
    times : int
        How often; the last counts.

    Raises
    ------
    InputError
        If none can be retrieved, or it lacks a channel that shall be kept.
    """
    count = workshop.inputs.layout.count
    numbers = dict.fromkeys(
        int(part * (count - 1)) for part in (0.0, 0.5, 1.0, 0.25, 0.75, 0.125, 0.375, 0.625)[:_MOST]
    )
    notes: dict[str, int] = {}
    with Reader(workshop.inputs.layout) as reader:
        for index in numbers:
            begin = time.perf_counter()
            row, result = workshop.solve(index, reader)
            if result is None:
                notes.setdefault(row.note, row.projection)
                continue
            for _ in range(times - 1):
                begin = time.perf_counter()
                workshop.solve(index, reader)
            names = tuple(workshop.chosen(result))
            absent = [name for name in workshop.channels if name not in names]
            if absent:
                raise InputError(
                    f"scan.channels holds {', '.join(absent)}, which {workshop.method} does not give with "
                    f"these options; it gives {', '.join(name for name, _ in result.channels())}"
                )
            seconds = time.perf_counter() - begin
            return Trial(
                channels=names,
                options=dict(result.options),
                seconds=seconds,
                memory=guard.peak_memory(),
            )
    told = [f"projection {number}: {note}" for note, number in notes.items()]
    raise InputError(
        [f"none of {len(numbers)} projections that were tried can be retrieved", *told]
        if len(told) > 1
        else f"none of {len(numbers)} projections that were tried can be retrieved: {told[0]}"
    )


def block_size(
    form: Form, wished: int | None, count: int, workers: int = 1, warm_start: int | None = None
) -> int:
    """Give the projections a block.

    Parameters
    ----------
    form : Form
        What a block holds.
    wished : int or None
        As the scan file states.
    count : int
        Number of projections.
    workers : int
        Projections that are retrieved at a time: all shall have work until the end.
    warm_start : int, optional
        Projections that share a start: a block holds whole such groups, for whoever does it makes the start.
    """
    size = wished or max(1, min(_MOST_IN_BLOCK, _BLOCK // form.bytes_each, count // (4 * workers)))
    if wished is None and warm_start is not None:
        size = max(1, round(size / warm_start)) * warm_start
    return min(size, count)
