"""The task of a worker, wherever it runs: a block from its frames to its file."""

from __future__ import annotations

import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from xmist.data import Retrieval
from xmist.errors import OutputError
from xmist.scanning.blocks import Block, BlockFile, Form
from xmist.scanning.reader import Reader
from xmist.scanning.table import FAILED, GOOD, Row
from xmist.scanning.workshop import Workshop

# A projection at which so many processes died is left out.
_DEATHS: Final = 2


@dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """What all blocks of a scan share; it travels once to every worker.

    Parameters
    ----------
    workshop : Workshop
        Retrieves projections.
    form : Form
        What a block holds.
    folder : Path
        Of the blocks.
    strict : bool
        Give up a block at the first projection that is not good.
    """

    workshop: Workshop
    form: Form
    folder: Path
    strict: bool = False


@dataclass(frozen=True, kw_only=True)
class Report:
    """What became of a block.

    Parameters
    ----------
    block : Block
        Which.
    rows : tuple of Row
        Quality numbers of its projections; with `strict` up to the first that is not good.
    written : int
        Bytes of its file; 0 if it was not written.
    problem : str
        Why it was not written.
    solving, writing : float
        Seconds.
    """

    block: Block
    rows: tuple[Row, ...]
    written: int = 0
    problem: str = ""
    solving: float = 0.0
    writing: float = 0.0


def do_block(job: Job, block: Block, cautious: bool = False) -> Report:
    """Retrieve the projections of a block and write its file.

    Parameters
    ----------
    job : Job
        What the blocks share.
    block : Block
        Which.
    cautious : bool
        A process died at this block: leave notes in its folder, by which a projection that is to blame is
        found and left out.

    Returns
    -------
    Report
        What became of it; a file that could not be written is reported, not raised.
    """
    begin = time.perf_counter()
    try:
        _require_space(job, block)
    except OutputError as error:
        return Report(block=block, rows=(), problem=str(error))
    notes = _Notes(job.folder, block) if cautious else None
    with Reader(job.workshop.inputs.layout) as reader, BlockFile(block, job.form) as file:
        for index in range(block.start, block.stop):
            row, result = _solve(job, index, reader, notes)
            if job.strict and row.status != GOOD:
                return Report(block=block, rows=(*file.rows, row))
            channels = {} if result is None else job.workshop.chosen(result)
            file.put(row, channels, None if result is None else result.flags)
        solved = time.perf_counter()
        try:
            written = file.save(job.folder)
        except OutputError as error:
            return Report(block=block, rows=(), problem=str(error), solving=solved - begin)
        if notes is not None:
            notes.forget()
        return Report(
            block=block,
            rows=tuple(file.rows),
            written=written,
            solving=solved - begin,
            writing=time.perf_counter() - solved,
        )


def _solve(job: Job, index: int, reader: Reader, notes: _Notes | None) -> tuple[Row, Retrieval | None]:
    if notes is None:
        return job.workshop.solve(index, reader)
    if notes.deaths(index) >= _DEATHS:
        number = job.workshop.inputs.first + index
        return Row(projection=number, status=FAILED, note=f"{_DEATHS} processes died at it"), None
    notes.write(f"{index}\n")
    found = job.workshop.solve(index, reader)
    notes.write(f"-{index}\n")
    return found


class _Notes:
    """A file that tells at which projections of a block processes died."""

    def __init__(self, folder: Path, block: Block) -> None:
        self._path = folder / f".{block.name}.deaths"

    def deaths(self, index: int) -> int:
        """Count how often a projection was begun and not ended."""
        try:
            lines = self._path.read_text().split()
        except OSError:
            return 0
        return lines.count(str(index)) - lines.count(f"-{index}")

    def write(self, text: str) -> None:
        with suppress(OSError), self._path.open("a") as file:
            file.write(text)

    def forget(self) -> None:
        with suppress(OSError):
            self._path.unlink()


def _require_space(job: Job, block: Block) -> None:
    """Do not work for a file that the disk has no room for."""
    try:
        free = shutil.disk_usage(job.folder).free
    except OSError as error:
        raise OutputError(
            f"{job.folder} cannot be reached ({error.strerror or error}); nothing was written"
        ) from error
    # The flags shrink, the rest does not.
    need = len(block) * (job.form.bytes_each - 2 * job.form.shape[0] * job.form.shape[1])
    if free < need:
        raise OutputError(
            f"no space left on the disk of {job.folder}: a block needs {need / 1e6:.3g} MB and "
            f"{free / 1e6:.3g} MB are free; nothing was written"
        )
