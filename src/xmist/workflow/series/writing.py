"""Blocks written in a thread while their projections come."""

from __future__ import annotations

import shutil
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from xmist.core.errors import OutputError
from xmist.workflow.series.block_file import Result, write_block
from xmist.workflow.series.blocks import Block, Form
from xmist.workflow.series.table import Row
from xmist.workflow.series.threads import AbandonedError, Belt

# Results that wait until those before them are written.
WAITING: Final = 1


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
        Seconds; they overlap.
    """

    block: Block
    rows: tuple[Row, ...]
    written: int = 0
    problem: str = ""
    solving: float = 0.0
    writing: float = 0.0


class Writer:
    """Writes blocks one after the other in a thread; a context manager.

    Parameters
    ----------
    folder : Path
        Of the blocks.
    form : Form
        What they hold.
    """

    def __init__(self, folder: Path, form: Form) -> None:
        self._folder, self._form = folder, form
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="xmist-writing")
        self._current: _Writing | None = None
        self._complete: deque[_Writing] = deque()

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        # A block whose projections have all come is still written; of another one nothing stays behind.
        self.abandon()
        self._pool.shutdown(wait=True)

    def begin(self, block: Block) -> None:
        """Begin a block.

        Parameters
        ----------
        block : Block
            Which.
        """
        self._current = _Writing(block, self._folder, self._form)
        self._current.future = self._pool.submit(self._current.write)

    def put(self, result: Result, seconds: float) -> bool:
        """Hand over the next projection of the block; False if the block cannot be written.

        Parameters
        ----------
        result : Result
            What to write.
        seconds : float
            How long it took to retrieve.
        """
        assert self._current is not None
        self._current.solving += seconds
        return self._current.belt.put(result)

    def end(self) -> None:
        """Say that all projections of the block have come."""
        assert self._current is not None
        self._current.belt.end()
        self._complete.append(self._current)
        self._current = None

    def abandon(self) -> tuple[Row, ...]:
        """Leave off the block that was begun, if there is one; give the rows that it had."""
        if self._current is None:
            return ()
        left, self._current = self._current, None
        left.belt.end(abandon=True)
        wait([left.future])
        return tuple(left.rows)

    def reports(self, leave: int) -> Iterator[Report]:
        """Give reports of the blocks that are written, in order.

        Parameters
        ----------
        leave : int
            Wait until so many at most are still being written.
        """
        while self._complete and (len(self._complete) > leave or self._complete[0].future.done()):
            yield self._complete.popleft().report()


class _Writing:
    """A block that is being written.

    Parameters
    ----------
    block : Block
        Which.
    folder : Path
        Of the blocks.
    form : Form
        What it holds.
    """

    future: Future[tuple[int, str]]

    def __init__(self, block: Block, folder: Path, form: Form) -> None:
        self.block, self._folder, self._form = block, folder, form
        self.belt: Belt[Result] = Belt(WAITING)
        self.rows: list[Row] = []
        self.solving = self._writing = 0.0

    def write(self) -> tuple[int, str]:
        """Write it; give the bytes of its file, and why there are none."""
        begin = time.perf_counter()
        try:
            _require_space(self._folder, len(self.block), self._form)
            return write_block(self._folder, self.block, self._form, self._results()), ""
        except OutputError as error:
            return 0, str(error)
        except AbandonedError:
            return 0, "it was left off"
        finally:
            self.belt.end()
            self._writing = time.perf_counter() - begin - self.belt.waited

    def _results(self) -> Iterator[Result]:
        for result in self.belt:
            self.rows.append(result.row)
            yield result
            del result

    def report(self) -> Report:
        """Tell what became of it, once it has."""
        written, problem = self.future.result()
        return Report(
            block=self.block,
            rows=() if problem else tuple(self.rows),
            written=written,
            problem=problem,
            solving=self.solving,
            writing=self._writing,
        )


def _require_space(folder: Path, count: int, form: Form) -> None:
    """Do not work for a file that the disk has no room for."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be reached ({error.strerror or error}); nothing was written"
        ) from error
    # The flags shrink, the rest does not.
    need = count * (form.bytes_each - 2 * form.shape[0] * form.shape[1])
    if free < need:
        raise OutputError(
            f"no space left on the disk of {folder}: a block needs {need / 1e6:.3g} MB and "
            f"{free / 1e6:.3g} MB are free; nothing was written"
        )
