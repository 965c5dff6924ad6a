"""Threads over fixed blocks of rows.

Numba's own parallel layer aborts the process when two threads enter it, and xmist is called from threads and
from Dask. Kernels are therefore serial and release the GIL, and blocks have a fixed size, so that the number
of threads never changes a bit of a result.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from xmist.errors import InputError

ROWS: Final = 64


def count_threads(threads: int | None = None) -> int:
    """Give the number of threads to use: as asked, or one for each core that the process may use.

    Raises
    ------
    InputError
        If `threads` is not a positive integer.

    Examples
    --------
    >>> count_threads(3)
    3
    """
    if threads is None:
        if hasattr(os, "sched_getaffinity"):
            return len(os.sched_getaffinity(0))
        return os.cpu_count() or 1
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise InputError(f"threads is {threads!r}; expected a whole number of at least 1, or None")
    return threads


def for_blocks(
    task: Callable[[int, int], Any], size: int, *, threads: int | None = None, block: int = ROWS
) -> None:
    """Call `task(start, stop)` for every block of `size` rows (or columns).

    Parameters
    ----------
    task : callable
        Works on rows start to stop and writes nowhere else; should release the GIL.
    size : int
        Number of rows.
    threads : int, optional
        Threads; None takes one for each core.
    block : int
        Rows a block; part of the algorithm, so never derived from `threads`.

    Examples
    --------
    >>> done = []
    >>> for_blocks(lambda start, stop: done.append((start, stop)), 100, threads=1)
    >>> done
    [(0, 64), (64, 100)]
    """
    starts = range(0, size, block)
    workers = min(count_threads(threads), len(starts))
    if workers <= 1:
        for start in starts:
            task(start, min(start + block, size))
        return
    with ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(task, start, min(start + block, size)) for start in starts]
        for future in futures:
            future.result()
