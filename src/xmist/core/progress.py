"""Progress bars for long work, in a terminal and in a notebook."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = ["Progress", "progress_bars"]

# Called as progress(label, done, total).
Progress = Callable[[str, int, int], object]

_COUNTED: Final = "{desc}: {percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}]"
_WHOLE: Final = "{desc}: {elapsed}"  # unknown before the end
_TICK: Final = 1.0  # seconds


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
    part: tuple[str, int] | None = None
    lock, over = threading.Lock(), threading.Event()

    def show(what: str, done: int, total: int) -> None:
        nonlocal bar, part
        with lock:
            if bar is None or part != (what, total):
                if bar is not None:
                    bar.close()
                part = (what, total)
                bar = make(
                    desc=what,
                    total=total,
                    leave=False,
                    dynamic_ncols=True,
                    bar_format=_COUNTED if total > 1 else _WHOLE,
                )
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
