"""The task of a worker, wherever it runs: blocks from their frames to their files.

While a projection is retrieved, one thread reads the next and another writes those before. The results do not
depend on that, only the time does.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from xmist.core.data import Retrieval
from xmist.io.results.stacks import FAILED, GOOD
from xmist.workflow.series.block_file import Result
from xmist.workflow.series.blocks import Block, Form
from xmist.workflow.series.reader import Reader
from xmist.workflow.series.table import Row
from xmist.workflow.series.threads import Ahead
from xmist.workflow.series.workshop import Workshop
from xmist.workflow.series.writing import Report, Writer

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


def do_block(job: Job, block: Block, cautious: bool = False) -> Report:
    """Retrieve the projections of one block and write its file.

    Parameters
    ----------
    job : Job
        What the blocks share.
    block : Block
        Which.
    cautious : bool
        As for `do_blocks`.
    """
    return next(do_blocks(job, [block], cautious))


def do_blocks(job: Job, blocks: Iterable[Block], cautious: bool = False) -> Generator[Report]:
    """Retrieve the projections of blocks and write their files.

    Parameters
    ----------
    job : Job
        What the blocks share.
    blocks : iterable of Block
        Which; the next is asked for when the last projection of one is begun.
    cautious : bool
        A process died at these blocks: leave notes in their folder, by which a projection that is to blame
        is found and left out, and read nothing ahead.

    Yields
    ------
    Report
        What became of each, in order; a file that could not be written is reported, not raised.
    """
    workshop, coming = job.workshop, _Coming(blocks)
    with (
        Reader(workshop.inputs.layout) as reader,
        Ahead(lambda index: workshop.prepare(index, reader)) as ahead,
        Writer(job.folder, job.form) as writer,
    ):
        while (block := coming.take()) is not None:
            notes = _Notes(job.folder, block) if cautious else None
            writer.begin(block)
            for index in range(block.start, block.stop):
                begin = time.perf_counter()
                if notes is not None:
                    row, result = _noted(job, index, reader, notes)
                else:
                    following = index + 1 if index + 1 < block.stop else coming.start()
                    row, result = workshop.finish(ahead.get(index, following))
                if job.strict and row.status != GOOD:
                    rows = writer.abandon()
                    yield from writer.reports(leave=0)
                    yield Report(block=block, rows=(*rows, row))
                    return
                if not writer.put(_kept(job, row, result), time.perf_counter() - begin):
                    break
                del result  # it shall not wait for the next
                yield from writer.reports(leave=1)
            writer.end()
            # The last of its results are written while the next block is begun.
            for report in writer.reports(leave=1 if notes is None else 0):
                if notes is not None and report.written:
                    notes.forget()
                yield report
        yield from writer.reports(leave=0)


class _Coming:
    """Blocks, of which the next can be looked at.

    Parameters
    ----------
    blocks : iterable of Block
        The blocks.
    """

    def __init__(self, blocks: Iterable[Block]) -> None:
        self._blocks = iter(blocks)
        self._next: list[Block | None] = []

    def start(self) -> int | None:
        """Give the first projection of the next block; None if there is none."""
        if not self._next:
            self._next.append(next(self._blocks, None))
        block = self._next[0]
        return None if block is None else block.start

    def take(self) -> Block | None:
        """Give the next block; None if there is none."""
        return self._next.pop() if self._next else next(self._blocks, None)


def _kept(job: Job, row: Row, result: Retrieval | None) -> Result:
    if result is None:
        return Result(row=row, channels={}, flags=None)
    return Result(row=row, channels=job.workshop.chosen(result), flags=result.flags)


def _noted(job: Job, index: int, reader: Reader, notes: _Notes) -> tuple[Row, Retrieval | None]:
    """Retrieve a projection, and note that; one at which processes died is left out."""
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
