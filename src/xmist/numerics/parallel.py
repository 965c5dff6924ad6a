"""Threads over fixed blocks of rows.

Numba's own parallel layer aborts the process when two threads enter it, and xmist is called from threads and
from Dask. Kernels are therefore serial and release the GIL, and blocks have a fixed size, so that the number
of threads never changes a bit of a result. Threads are kept between calls, because starting them takes longer
than many a kernel.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from typing import Any, Final

from xmist.core.errors import InputError

ROWS: Final = 64
_MOST_HELPERS: Final = 256  # threads besides the callers'; started when there is work for them


def count_threads(threads: int | None = None) -> int:
    """Return the number of threads to use: the given one, or one for each core that the process may use."""
    if threads is None:
        if hasattr(os, "sched_getaffinity"):
            return len(os.sched_getaffinity(0))
        return os.cpu_count() or 1
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise InputError(
            f"threads is {threads!r}; expected a whole number of at least 1, or None", "value-invalid"
        )
    return threads


def for_blocks(
    task: Callable[[int, int], Any], size: int, *, threads: int | None = None, block: int = ROWS
) -> None:
    """Call `task(start, stop)` for every block of `size` rows (or columns), on threads.

    The task writes nowhere else and should release the GIL. The rows of a block are part of the algorithm, so
    never derived from `threads`.
    """
    left = deque(range(0, size, block))
    tasks = [task]  # cancelled work stays queued and must not keep arrays alive

    def work() -> None:
        while True:
            try:
                start = left.popleft()
            except IndexError:
                return
            try:
                tasks[0](start, min(start + block, size))
            except BaseException:
                left.clear()
                raise

    helpers = [_helpers().submit(work) for _ in range(min(count_threads(threads), len(left)) - 1)]
    try:
        work()
    finally:
        # The caller works too, so that nested calls finish although all helpers are busy.
        begun = [helper for helper in helpers if not helper.cancel()]
        wait(begun)
        tasks.clear()
    for helper in begun:
        helper.result()


@cache
def _helpers() -> ThreadPoolExecutor:
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_helpers.cache_clear)  # a forked process has none of the threads
    return ThreadPoolExecutor(_MOST_HELPERS, thread_name_prefix="xmist")
