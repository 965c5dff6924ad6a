"""Retrieve projections and write their blocks; the same for one projection and for thousands.

While a projection is retrieved, one thread reads the next and another writes the previous ones. The results
do not depend on this.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final, Generic, Protocol, TypeVar

from xmist.core.data import Retrieval
from xmist.core.errors import OutputError
from xmist.io.results.stacks import FAILED
from xmist.workflow.processor import ProjectionProcessor
from xmist.workflow.quality import Row
from xmist.workflow.storage import Block, BlockSchema, KeptResult, write_block

T = TypeVar("T")

# Number of processes that die at a projection before it is left out.
_DEATHS: Final = 2
# Results that wait until those before them are written.
WAITING: Final = 1


class Work(Protocol):
    """Work for executors: blocks, in order, each with a report."""

    def process(self, blocks: Iterable[Block], cautious: bool = False) -> Generator[Report]:
        """Process blocks; `cautious` if a process died at one of them."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """Data that all blocks of a series share; each worker receives it once.

    With `strict` a block is given up at the first projection that needs attention.
    """

    processor: ProjectionProcessor
    schema: BlockSchema
    folder: Path
    strict: bool = False

    def process(self, blocks: Iterable[Block], cautious: bool = False) -> Generator[Report]:
        """Process blocks; see `process_blocks`."""
        return process_blocks(self, blocks, cautious)


@dataclass(frozen=True, kw_only=True)
class Report:
    """Report about a block: its rows, bytes of its file, why it was not written, seconds of work."""

    block: Block
    rows: tuple[Row, ...]
    written: int = 0
    problem: str = ""
    solving: float = 0.0
    writing: float = 0.0


def process_blocks(job: Job, blocks: Iterable[Block], cautious: bool = False) -> Generator[Report]:
    """Retrieve the projections of blocks and write their files; reports come in order.

    The next block is asked for when the last projection of one is begun. `cautious`: a process died at these
    blocks. Notes in their folder then show which projection killed it, and this one is left out.
    """
    processor, coming = job.processor, _Lookahead(blocks)
    with (
        processor.open() as reader,
        Prefetcher(lambda number: processor.prepare(processor.index(number), reader)) as prefetcher,
        BlockWriter(job.folder, job.schema) as writer,
    ):
        while (block := coming.take()) is not None:
            notes = _DeathNotes(job.folder, block) if cautious else None
            writer.begin(block)
            for number, following in zip_longest(block.numbers, block.numbers[1:]):
                begin = time.perf_counter()
                if notes is not None:
                    row, result = _solve_noted(processor, number, reader, notes)
                else:
                    ahead = coming.start() if following is None else following
                    row, result = processor.finish(prefetcher.get(number, ahead))
                if job.strict and row.needs_attention:
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


class _Lookahead:
    """Blocks, of which the first projection of the next can be asked for."""

    def __init__(self, blocks: Iterable[Block]) -> None:
        self._blocks = iter(blocks)
        self._next: list[Block | None] = []

    def start(self) -> int | None:
        if not self._next:
            self._next.append(next(self._blocks, None))
        block = self._next[0]
        return None if block is None else block.numbers[0]

    def take(self) -> Block | None:
        return self._next.pop() if self._next else next(self._blocks, None)


def _kept(job: Job, row: Row, result: Retrieval | None) -> KeptResult:
    if result is None:
        return KeptResult(row=row, channels={}, flags=None)
    return KeptResult(row=row, channels=job.processor.chosen(result), flags=result.flags)


def _solve_noted(
    processor: ProjectionProcessor, number: int, reader: Any, notes: _DeathNotes
) -> tuple[Row, Retrieval | None]:
    """Retrieve a projection, with a note that it was begun; one at which processes died is left out."""
    if notes.deaths(number) >= _DEATHS:
        return Row(projection=number, status=FAILED, note=f"{_DEATHS} processes died at it"), None
    notes.write(f"{number}\n")
    found = processor.solve(processor.index(number), reader)
    notes.write(f"-{number}\n")
    return found


class _DeathNotes:
    """A file that records at which projections of a block processes died."""

    def __init__(self, folder: Path, block: Block) -> None:
        self._path = folder / f".{block.name}.deaths"

    def deaths(self, number: int) -> int:
        """Return how often a projection was begun and not completed."""
        try:
            lines = self._path.read_text().split()
        except OSError:
            return 0
        return lines.count(str(number)) - lines.count(f"-{number}")

    def write(self, text: str) -> None:
        with suppress(OSError), self._path.open("a") as file:
            file.write(text)

    def forget(self) -> None:
        with suppress(OSError):
            self._path.unlink()


class AbandonedError(Exception):
    """The queue has ended, and its items are discarded."""


class BoundedQueue(Generic[T]):
    """Queue from one thread to another of limited length: the first thread waits if the second is slow.

    Examples
    --------
    >>> queue = BoundedQueue(2)
    >>> queue.put("a"), queue.put("b"), queue.end()
    (True, True, None)
    >>> list(queue)
    ['a', 'b']
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._ended = self._abandoned = False
        self.waited = 0.0

    def put(self, item: T) -> bool:
        """Add an item; return False if the queue has ended."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or len(self._items) < self._most)
            if self._ended:
                return False
            self._items.append(item)
            self._changed.notify_all()
            return True

    def end(self, *, abandon: bool = False) -> None:
        """End the queue, from either side; with `abandon` taking an item raises `AbandonedError`."""
        with self._changed:
            self._ended = True
            self._abandoned |= abandon
            self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        """Yield items until the queue ends; `waited` sums the seconds of waiting."""
        while True:
            begin = time.perf_counter()
            with self._changed:
                self._changed.wait_for(lambda: self._ended or self._items)
                self.waited += time.perf_counter() - begin
                if self._abandoned:
                    raise AbandonedError
                if not self._items:
                    return
                item = self._items.popleft()
                self._changed.notify_all()
            yield item
            del item  # it shall not be kept while the next is waited for


class Prefetcher(Generic[T]):
    """Run the next task in a thread while the caller works on the previous one.

    Examples
    --------
    >>> with Prefetcher(lambda number: number**2) as prefetcher:
    ...     [prefetcher.get(number, number + 1) for number in (2, 3, 5)]
    [4, 9, 25]
    """

    def __init__(self, task: Callable[[int], T]) -> None:
        self._task = task
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="xmist-reading")
        self._begun: dict[int, Future[T]] = {}

    def __enter__(self) -> Prefetcher[T]:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def get(self, number: int, following: int | None = None) -> T:
        """Return the result of the task for a number, and begin with another number."""
        future = self._begun.pop(number, None) or self._pool.submit(self._task, number)
        self._begun.clear()  # what was begun in vain
        found = future.result()
        if following is not None:
            self._begun[following] = self._pool.submit(self._task, following)
        return found


class BlockWriter:
    """Writes blocks one after the other in a thread while their projections come; a context manager."""

    def __init__(self, folder: Path, schema: BlockSchema) -> None:
        self._folder, self._schema = folder, schema
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="xmist-writing")
        self._current: _OpenBlock | None = None
        self._complete: deque[_OpenBlock] = deque()

    def __enter__(self) -> BlockWriter:
        return self

    def __exit__(self, *_: object) -> None:
        # A block whose projections have all come is still written; of another one nothing stays behind.
        self.abandon()
        self._pool.shutdown(wait=True)

    def begin(self, block: Block) -> None:
        """Begin a block."""
        self._current = _OpenBlock(block, self._folder, self._schema)
        self._current.future = self._pool.submit(self._current.write)

    def put(self, result: KeptResult, seconds: float) -> bool:
        """Pass on the next projection of the block; return False if the block cannot be written."""
        assert self._current is not None
        self._current.solving += seconds
        return self._current.queue.put(result)

    def end(self) -> None:
        """Mark the block as complete."""
        assert self._current is not None
        self._current.queue.end()
        self._complete.append(self._current)
        self._current = None

    def abandon(self) -> tuple[Row, ...]:
        """Abandon the open block, if there is one; return its rows."""
        if self._current is None:
            return ()
        left, self._current = self._current, None
        left.queue.end(abandon=True)
        wait([left.future])
        return tuple(left.rows)

    def reports(self, leave: int) -> Iterator[Report]:
        """Return reports of the blocks that are written, in order; up to `leave` may still be in work."""
        while self._complete and (len(self._complete) > leave or self._complete[0].future.done()):
            yield self._complete.popleft().report()


class _OpenBlock:
    """A block that is being written."""

    future: Future[tuple[int, str]]

    def __init__(self, block: Block, folder: Path, schema: BlockSchema) -> None:
        self.block, self._folder, self._schema = block, folder, schema
        self.queue: BoundedQueue[KeptResult] = BoundedQueue(WAITING)
        self.rows: list[Row] = []
        self.solving = self._writing = 0.0

    def write(self) -> tuple[int, str]:
        """Write the block; return the bytes of its file, or why it was not written."""
        begin = time.perf_counter()
        try:
            _require_space(self._folder, len(self.block), self._schema)
            return write_block(self._folder, self.block, self._schema, self._results()), ""
        except OutputError as error:
            return 0, str(error)
        except AbandonedError:
            return 0, "it was left off"
        finally:
            self.queue.end()
            self._writing = time.perf_counter() - begin - self.queue.waited

    def _results(self) -> Iterator[KeptResult]:
        for result in self.queue:
            self.rows.append(result.row)
            yield result
            del result

    def report(self) -> Report:
        written, problem = self.future.result()
        return Report(
            block=self.block,
            rows=() if problem else tuple(self.rows),
            written=written,
            problem=problem,
            solving=self.solving,
            writing=self._writing,
        )


def _require_space(folder: Path, count: int, schema: BlockSchema) -> None:
    """Raise an error if the disk has no room for a block."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        text = f"{folder} cannot be reached ({error.strerror or error}); nothing was written"
        raise OutputError(text) from error
    # The flags shrink, the rest does not.
    need = count * (schema.bytes_each - 2 * schema.shape[0] * schema.shape[1])
    if free < need:
        raise OutputError(
            f"no space left on the disk of {folder}: a block needs {need / 1e6:.3g} MB and "
            f"{free / 1e6:.3g} MB are free; nothing was written"
        )
