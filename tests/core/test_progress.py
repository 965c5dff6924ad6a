"""Bars: one a part, gone when the next begins, and told what is done."""

import sys
import threading
from contextlib import suppress

import pytest
import tqdm.auto

from xmist import progress_bars
from xmist.core.progress import expected_time


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


def test_expected_time_runs_while_work_is_done_and_never_ends_before_it(monkeypatch):
    monkeypatch.setattr("xmist.core.progress._TICK", 1e-3)
    told, enough = [], threading.Event()

    def tell(*given):
        told.append(given)
        if len(told) > 3:
            enough.set()
            raise KeyError  # what the clock meets is not its business

    with suppress(KeyError), expected_time(tell, "solving", 1e-4):
        assert enough.wait(60.0)
    assert all(what == "solving" and isinstance(total, float) for what, _, total in told)
    spent = [done for _, done, _ in told]
    assert spent == sorted(spent)
    assert all(done < total for _, done, total in told[:-1])  # longer than expected, and not over
    told.clear()
    with expected_time(lambda *given: told.append(given), "solving", None):
        pass
    assert told == [("solving", 0, 1)]


def test_a_bar_of_time_takes_on_a_new_total(bars):
    with progress_bars() as progress:
        progress("solving", 1.0, 10.0)
        progress("solving", 2.0, 12.0)
        assert [(bar.desc, bar.n, bar.total) for bar in bars] == [("solving", 2.0, 12.0)]
