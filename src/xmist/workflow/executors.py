"""Run blocks in this process, in several processes, or on a Dask cluster.

If a worker is killed, its blocks are repeated. Notes show which projection kills its process; this one is
left out.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol

from xmist.core.errors import InputError
from xmist.workflow.driver import Report, Work
from xmist.workflow.storage import Block

_PATIENCE: Final = 60.0  # seconds that a cluster has to show its first worker
_TRIES: Final = 12  # of a block whose workers die


class Executor(Protocol):
    """Runs blocks, in any order."""

    workers: int

    def run(self, job: Work, blocks: Sequence[Block]) -> Generator[Report]:
        """Return a report for every block as it is done."""
        ...


class Inline:
    """Runs one block after the other in this process."""

    workers: int = 1

    def run(self, job: Work, blocks: Sequence[Block]) -> Generator[Report]:
        """Return a report for every block; see `Executor.run`."""
        return job.process(blocks)


class Processes:
    """Runs blocks in processes on this machine.

    A process that dies closes its pipe. The blocks in work are then repeated one by one, each in one process,
    with notes of the projection that is begun (`driver.process_blocks`). A projection at which several
    processes died is left out; a block whose processes keep dying otherwise becomes a report with a problem.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def run(self, job: Work, blocks: Sequence[Block]) -> Generator[Report]:
        """Return a report for every block; see `Executor.run`."""
        waiting = deque(blocks)
        idle = 0
        while waiting:
            left = len(waiting)
            suspects = yield from _round(job, waiting, self.workers, cautious=False)
            # One of the blocks in work may have killed its process; run each alone to find it.
            for block in suspects:
                for _ in range(_TRIES):
                    if not (yield from _round(job, deque([block]), 1, cautious=True)):
                        break
                else:
                    yield Report(block=block, rows=(), problem=f"{_TRIES} processes died at {block.name}")
            idle = idle + 1 if len(waiting) == left else 0
            if idle == _TRIES:
                raise RuntimeError(f"{idle} processes in a row ended before their first block")


def _round(
    job: Work, waiting: deque[Block], workers: int, *, cautious: bool
) -> Generator[Report, None, list[Block]]:
    """Run blocks until all are done or a process dies; return the block of that process."""
    from multiprocessing.connection import wait

    context = _context()
    stop = context.Event()
    busy: dict[Any, tuple[Any, list[Block]]] = {}
    suspects: list[Block] = []
    try:
        for _ in range(min(workers, len(waiting))):
            pipe, theirs = context.Pipe()
            process = context.Process(target=_work, args=(job, cautious, stop, theirs))
            process.start()
            theirs.close()
            busy[pipe] = process, []
        while busy:
            ready: list[Any] = wait(list(busy))
            for pipe in ready:
                process, given = busy[pipe]
                try:
                    message = pipe.recv()
                    if message is None:  # it asks for a block; once one has died, there are none
                        block = waiting.popleft() if waiting and not suspects else None
                        given += [] if block is None else [block]
                        pipe.send(block)
                        continue
                except (EOFError, OSError):
                    suspects += given
                    del busy[pipe]
                    process.join()
                    continue
                if isinstance(message, BaseException):
                    raise message
                given.remove(message.block)
                yield message
    except BaseException:
        stop.set()
        raise
    finally:
        for process, _ in busy.values():
            process.join()
    return suspects


def _context() -> Any:
    """Return how processes are started: if possible, as copies of a process that has imported everything."""
    import multiprocessing

    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["xmist.workflow.driver"])
    return context


def _work(job: Work, cautious: bool, stop: Any, pipe: Any) -> None:
    """Run blocks in a process: ask for each, run it, and report."""
    # Ctrl-C reaches every process of a terminal; the parent decides.
    import signal

    with suppress(ValueError):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_watch, args=(stop,), daemon=True).start()

    def ask() -> Block | None:
        pipe.send(None)
        block: Block | None = pipe.recv()
        return block

    try:
        for report in job.process(iter(ask, None), cautious):
            pipe.send(report)
    except Exception as error:  # the parent raises it
        pipe.send(error)


def _watch(stop: Any) -> None:
    """End this process when its parent has ended for any reason, or asks for it."""
    from multiprocessing import connection, parent_process

    parent = parent_process()
    while not stop.is_set():
        if parent is not None and connection.wait([parent.sentinel], timeout=0.2):
            break
    os._exit(1)


class Cluster:
    """Runs blocks on a Dask cluster, whose workers read and write on a shared file system."""

    def __init__(self, client: Any, most: int | None = None) -> None:
        self._client = client
        try:
            client.wait_for_workers(1, timeout=_PATIENCE)
        except Exception as error:
            raise InputError(
                f"the Dask cluster {client.scheduler.address if client.scheduler else ''} has no worker "
                f"after {_PATIENCE:.0f} s ({error}); start workers first",
                code="cluster-unavailable",
            ) from error
        threads = sum(client.nthreads().values())
        self.workers = max(1, threads if most is None else min(most, threads))

    def run(self, job: Work, blocks: Sequence[Block]) -> Generator[Report]:
        """Return a report for every block; see `Executor.run`."""
        from distributed import as_completed

        client = self._client
        waiting = deque((block, 0) for block in blocks)
        running: dict[str, tuple[Block, int]] = {}
        shared = client.scatter(job, broadcast=True, hash=False)
        finished: Any = as_completed(loop=client.loop, raise_errors=False)  # type: ignore[no-untyped-call]

        def submit() -> None:
            # More than are at work, so that none waits for this process.
            while waiting and len(running) < 2 * self.workers:
                block, tries = waiting.popleft()
                key = f"xmist-{block.name}-{tries}-{id(finished)}"
                future = client.submit(_process_block, shared, block, tries > 0, key=key, pure=False)
                running[key] = block, tries
                finished.add(future)

        submit()
        while running:
            future = next(finished)
            block, tries = running.pop(future.key)
            if future.status == "finished":
                yield future.result()
            elif future.status == "error" and not _died(future.exception()):
                raise future.exception()
            elif tries + 1 < _TRIES:
                # The worker died, and what it held with it.
                shared = client.scatter(job, broadcast=True, hash=False)
                waiting.append((block, tries + 1))
            else:
                yield Report(block=block, rows=(), problem=f"{_TRIES} workers died at {block.name}")
            future.release()
            submit()


def _process_block(job: Work, block: Block, cautious: bool) -> Report:
    return next(job.process([block], cautious))


def _died(error: BaseException) -> bool:
    """Return whether an error of a task means that its worker died."""
    import asyncio

    from distributed import KilledWorker

    names = {kind.__name__ for kind in type(error).__mro__}
    return isinstance(error, (KilledWorker, asyncio.CancelledError, OSError)) or bool(
        names & {"FutureCancelledError", "CancelledError", "CommClosedError"}
    )


def connect(address: str) -> Any:
    """Connect to a Dask cluster."""
    try:
        from distributed import Client
    except ImportError:
        raise InputError(
            "a Dask cluster needs dask[distributed]; install it with: pip install xmist[dask]",
            code="package-missing",
        ) from None
    connected: Any = Client
    place = {"scheduler_file": address} if address.endswith(".json") else {"address": address}
    try:
        return connected(**place, timeout=_PATIENCE, set_as_default=False)
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        raise InputError(
            f"the Dask cluster {address} does not answer ({error or type(error).__name__}); expected the "
            'address of its scheduler, such as "tcp://node:8786"',
            code="cluster-unavailable",
        ) from error
