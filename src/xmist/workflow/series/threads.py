"""Threads beside the one that retrieves: one reads what comes next, one writes what came before."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class AbandonedError(Exception):
    """Nothing more will come, and what came is not wanted."""


class Belt(Generic[T]):
    """Hands things from one thread to another, and makes the first wait when they are not taken.

    Parameters
    ----------
    most : int
        How many may lie on it.

    Examples
    --------
    >>> belt = Belt(2)
    >>> belt.put("a"), belt.put("b"), belt.end()
    (True, True, None)
    >>> list(belt)
    ['a', 'b']
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._ended = self._abandoned = False
        self.waited = 0.0

    def put(self, item: T) -> bool:
        """Hand something over; False if the belt has ended, so that nobody takes it.

        Parameters
        ----------
        item : object
            What is handed over.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._ended or len(self._items) < self._most)
            if self._ended:
                return False
            self._items.append(item)
            self._changed.notify_all()
            return True

    def end(self, *, abandon: bool = False) -> None:
        """End it: from the one side nothing more comes, from the other nothing more is taken.

        Parameters
        ----------
        abandon : bool
            Whoever takes from it gets `AbandonedError`.
        """
        with self._changed:
            self._ended = True
            self._abandoned |= abandon
            self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        """Take what is handed over until it ends; the seconds without anything add up in `waited`."""
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


class Ahead(Generic[T]):
    """Does the next piece of work in a thread while the caller is busy with the one before.

    Parameters
    ----------
    task : callable
        Does a piece, by its number; always called from one and the same thread.

    Examples
    --------
    >>> with Ahead(lambda number: number**2) as ahead:
    ...     [ahead.get(number, number + 1) for number in (2, 3, 5)]
    [4, 9, 25]
    """

    def __init__(self, task: Callable[[int], T]) -> None:
        self._task = task
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="xmist-reading")
        self._begun: dict[int, Future[T]] = {}

    def __enter__(self) -> Ahead[T]:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def get(self, number: int, following: int | None = None) -> T:
        """Give a piece, and begin with another.

        Parameters
        ----------
        number : int
            The piece.
        following : int, optional
            What will be asked for next.
        """
        future = self._begun.pop(number, None) or self._pool.submit(self._task, number)
        self._begun.clear()  # what was begun in vain
        found = future.result()
        if following is not None:
            self._begun[following] = self._pool.submit(self._task, following)
        return found
