"""Reading ahead and writing behind: nothing changes its order, and what goes wrong in a thread is told."""

import os
import threading

import h5py
import numpy as np
import pytest

from tests.workflow.series_scenes import SHAPE, run_path, volumes, write_config
from xmist.core.errors import OutputError
from xmist.io.results.atomic import leftovers
from xmist.io.results.stacks import GOOD
from xmist.workflow import storage
from xmist.workflow.driver import WAITING, AbandonedError, BlockWriter, BoundedQueue, Prefetcher
from xmist.workflow.executors import Processes
from xmist.workflow.quality import Row
from xmist.workflow.storage import NOTHING, Block, BlockSchema, KeptResult, read_rows, split, write_block

SCHEMA = BlockSchema(identity="x", channels=("phase", "refraction_angle"), shape=SHAPE)
BLOCK = Block((3, 4, 5))


def result(number):
    """What a projection gives whose every value tells its number; the third has nothing."""
    row = Row(projection=number, status=GOOD, note="ß" * number)
    if number == 5:
        return KeptResult(row=row, channels={}, flags=None)
    rng = np.random.default_rng(number)
    channels = {
        name: rng.normal(size=SCHEMA.image_shape(name)).astype(np.float32) for name in SCHEMA.channels
    }
    return KeptResult(row=row, channels=channels, flags=rng.integers(0, 9, SHAPE).astype(np.uint16))


def test_a_block_reads_as_it_was_written(tmp_path):
    size = write_block(tmp_path, BLOCK, SCHEMA, map(result, range(3, 6)))
    assert (tmp_path / BLOCK.name).stat().st_size == size
    assert [row.note for row in read_rows(tmp_path / BLOCK.name, SCHEMA)] == ["ß" * n for n in (3, 4, 5)]
    with h5py.File(tmp_path / BLOCK.name) as file:
        for place, number in enumerate((3, 4)):
            for name, image in result(number).channels.items():
                assert np.array_equal(file[name][place], image)
            assert np.array_equal(file["flags"][place], result(number).flags)
        assert np.isnan(file["phase"][2]).all()
        assert (file["flags"][2] == NOTHING).all()
        assert np.isnan(file["phase"].fillvalue)
        assert file["flags"].compression == "gzip"


def test_images_of_another_shape_are_no_block(tmp_path):
    wrong = KeptResult(row=Row(projection=3, status=GOOD), channels={"phase": np.zeros((2, 2))}, flags=None)
    with pytest.raises(ValueError, match=r"phase has shape \(2, 2\)"):
        write_block(tmp_path, BLOCK, SCHEMA, iter([wrong]))
    assert not list(tmp_path.iterdir())


def test_a_belt_keeps_the_order_and_makes_the_faster_one_wait():
    belt, seen = BoundedQueue(1), []
    taker = threading.Thread(target=lambda: seen.extend(belt))
    taker.start()
    assert all(belt.put(number) for number in range(100))
    belt.end()
    taker.join()
    assert seen == list(range(100))
    assert not belt.put(100)
    given_up = BoundedQueue(2)
    given_up.put(1)
    given_up.end(abandon=True)
    with pytest.raises(AbandonedError):
        next(iter(given_up))


def test_what_fails_ahead_is_raised_where_it_is_asked_for():
    def task(number):
        if number == 2:
            raise MemoryError("too large")
        return number

    with Prefetcher(task) as ahead:
        assert ahead.get(1, 2) == 1
        with pytest.raises(MemoryError, match="too large"):
            ahead.get(2, 3)
        assert ahead.get(7) == 7


def test_a_writer_tells_in_order_and_leaves_nothing_of_what_was_left_off(tmp_path):
    with BlockWriter(tmp_path, SCHEMA) as writer:
        for block in split(range(4), 2):
            writer.begin(block)
            for number in block.numbers:
                assert writer.put(result(number), 0.5)
            writer.end()
        reports = list(writer.reports(leave=0))
        writer.begin(Block((4, 6, 7, 8)))
        writer.put(result(4), 0.5)
        writer.put(result(6), 0.5)
        writer.put(result(7), 0.5)  # two wait or are written now, so that one has been
        assert [row.projection for row in writer.abandon()][:1] == [4]
    assert [report.block for report in reports] == split(range(4), 2)
    assert [report.solving for report in reports] == [1.0, 1.0]
    assert WAITING == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [block.name for block in split(range(4), 2)]


def test_a_disk_that_fills_up_within_a_block_is_told_at_once(tmp_path, monkeypatch):
    scan = write_config(tmp_path, series={"block": 6})
    image, count = storage._image, 0

    def fill(*arguments):
        nonlocal count
        count += 1
        if count > 4:  # within the second projection
            raise OSError(28, "No space left on device")
        return image(*arguments)

    monkeypatch.setattr(storage, "_image", fill)
    with pytest.raises(OutputError, match=r"no space left.*0 of 6 projections are done"):
        run_path(scan)
    assert not leftovers(tmp_path / "scan_blocks")
    monkeypatch.undo()
    assert volumes(run_path(scan))["table/status"].tolist() == [GOOD] * 6


def test_an_interrupt_leaves_whole_blocks_and_no_thread(tmp_path):
    scan = write_config(tmp_path, series={"block": 1})

    def interrupt(what, done, total):
        if what == "projections" and done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_path(scan, progress=interrupt)
    assert not leftovers(tmp_path / "scan_blocks")
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("xmist-r", "xmist-w"))]
    assert volumes(run_path(scan))["table/status"].tolist() == [GOOD] * 6


class Deadly:
    """A job at which every process dies that receives it."""

    def __reduce__(self):
        return os._exit, (1,)


def test_processes_that_never_begin_are_told(monkeypatch):
    monkeypatch.setattr("xmist.workflow.executors._TRIES", 2)
    with pytest.raises(RuntimeError, match="processes in a row"):
        list(Processes(1).run(Deadly(), split(range(2), 1)))
