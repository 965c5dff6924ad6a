"""Bars: one a part, gone when the next begins, and told what is done."""

import sys
import threading
from contextlib import suppress

import pytest
import tqdm.auto

from xmist import progress_bars


@pytest.fixture
def bars(monkeypatch):
    made = []

    class Bar:
        def __init__(self, *, desc, total, **_):
            self.desc, self.total, self.n, self.closed = desc, total, 0, False
            assert all(bar.closed for bar in made)
            made.append(self)

        def update(self, number):
            self.n += number

        def close(self):
            self.closed = True

    monkeypatch.setattr(tqdm.auto, "tqdm", Bar)
    return made


def test_one_bar_a_part(bars):
    with progress_bars() as progress:
        for done in range(4):
            progress("reading", done, 3)
        progress("solving", 0, 1)
        assert [(bar.desc, bar.n, bar.total, bar.closed) for bar in bars] == [
            ("reading", 3, 3, True),
            ("solving", 0, 1, False),
        ]
    assert bars[-1].closed


def test_the_bar_goes_when_the_work_fails(bars):
    with suppress(ZeroDivisionError), progress_bars() as progress:
        progress("reading", 1, 3)
        progress("reading", 1 // 0, 3)
    assert [bar.closed for bar in bars] == [True]


def test_no_bar_without_work(bars):
    with progress_bars():
        pass
    assert not bars


def test_the_time_goes_on_while_nothing_is_told(bars, monkeypatch):
    ticked = threading.Event()
    monkeypatch.setattr("xmist.core.progress._TICK", 1e-3)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(tqdm.auto.tqdm, "refresh", lambda bar: ticked.set(), raising=False)
    with progress_bars() as progress:
        progress("solving", 0, 1)
        assert ticked.wait(60.0)
    assert not any(thread.name == "xmist-progress" for thread in threading.enumerate())
