"""Progress bars for long work, in a terminal and in a notebook."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = ["Progress", "progress_bars"]

# Called as progress(label, done, total): whole numbers are counts, floats are seconds of work.
Progress = Callable[[str, float, float], object]

_COUNTED: Final = "{desc}: {percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}]"
_TIMED: Final = "{desc}: {percentage:3.0f}% |{bar}| {elapsed}, about {remaining} left"
_WHOLE: Final = "{desc}: {elapsed}"  # unknown before the end
_TICK: Final = 1.0  # seconds
# Work that takes longer than expected is shown as done to this part.
_MOST_DONE: Final = 0.97


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """Show a progress bar for each part of long work: on stderr, or as a widget in a notebook.

    In a terminal the elapsed time is refreshed every second, also for work that reports nothing before its
    end.

    Yields
    ------
    callable
        `progress(label, done, total)`, as functions of xmist take it. The bar of a part is removed when the
        next part begins.

    Examples
    --------
    >>> stack, experiment, _ = xmist.simulate.phantom("fine", shape=(48, 48), positions=2)
    >>> with progress_bars() as progress:
    ...     found = xmist.compare(
    ...         stack, experiment, methods=["mist"], positions=[2], resolution=False, progress=progress
    ...     )
    """
    from tqdm.auto import tqdm as make

    bar: tqdm[Any] | None = None
    part: tuple[str, str, float] | None = None
    lock, over = threading.Lock(), threading.Event()

    def show(what: str, done: float, total: float) -> None:
        nonlocal bar, part
        kind = _TIMED if isinstance(total, float) else _COUNTED if total > 1 else _WHOLE
        now = (what, kind, 0.0 if kind == _TIMED else total)
        with lock:
            if bar is None or part != now:
                if bar is not None:
                    bar.close()
                part = now
                bar = make(desc=what, total=total, leave=False, dynamic_ncols=True, bar_format=kind)
            bar.total = total
            bar.update(done - bar.n)

    def tick() -> None:
        while not over.wait(_TICK):
            with lock:
                if bar is not None:
                    bar.refresh()

    clock = threading.Thread(target=tick, name="xmist-progress", daemon=True)
    if sys.stderr.isatty():
        clock.start()
    try:
        yield show
    finally:
        over.set()
        if clock.ident is not None:
            clock.join()
        if bar is not None:
            bar.close()


@contextmanager
def expected_time(progress: Progress, what: str, seconds: float | None) -> Iterator[None]:
    """Report progress each second during work of about `seconds`; None: its time is not known."""
    if seconds is None:
        progress(what, 0, 1)
        yield
        return
    begin, over = time.monotonic(), threading.Event()

    def report() -> None:
        spent = time.monotonic() - begin
        progress(what, spent, max(seconds, spent / _MOST_DONE))

    def tick() -> None:
        # What reporting raises, such as a wish to stop, is for the thread that does the work.
        with suppress(Exception):
            while not over.wait(_TICK):
                report()

    report()
    clock = threading.Thread(target=tick, name="xmist-expected-time", daemon=True)
    clock.start()
    try:
        yield
    finally:
        over.set()
        clock.join()
    report()
