"""A scan that was killed, filled its disk or lost its files goes on, and ends as if nothing had happened."""

import errno
import os
import random
import signal

import numpy as np
import pytest
import tifffile

import xmist
from tests.cli.scenes import call
from tests.coded import coded
from tests.workflow.series_scenes import (
    assert_intermediate,
    assert_same,
    assert_same_content,
    count_calls,
    killed_scan,
    run_path,
    sections,
    volumes,
    write_config,
    write_toml,
)
from xmist.core.errors import InputError, OutputError
from xmist.io.results import atomic
from xmist.io.results.atomic import leftovers
from xmist.io.results.stacks import GOOD, UNREADABLE
from xmist.workflow import storage
from xmist.workflow.journal import locked

KILLS = 6


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and signals")
def test_killed_at_any_moment_it_goes_on(tmp_path):
    clean = write_config(tmp_path / "clean", series={"block": 1})
    whole = volumes(run_path(clean))
    few = write_config(tmp_path / "few", 2, series={"block": 1})
    run_path(write_config(tmp_path / "warm", 2))
    count, writing = count_calls(few)
    victim = write_config(tmp_path / "victim", series={"block": 1})
    rng = random.Random(5)
    done = killed = 0
    for turn in range(KILLS):
        inside = turn % 2 == 1
        code = killed_scan(victim, rng.randrange(1, writing if inside else count), inside=inside)
        killed += code == -signal.SIGKILL
        now = assert_intermediate(tmp_path / "victim" / "scan.h5", whole)
        assert now >= done  # what was written is never lost
        done = now
    assert killed >= KILLS / 2
    run_path(victim)
    assert_same(whole, volumes(tmp_path / "victim" / "scan.h5"))
    assert_same_content(tmp_path / "clean" / "scan.h5", tmp_path / "victim" / "scan.h5")
    assert not leftovers(tmp_path / "victim" / "scan_blocks")


def test_a_finished_series_is_left_alone(tmp_path):
    scan = write_config(tmp_path)
    master = run_path(scan)
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.rglob("*.h5")}
    run_path(scan)
    assert before == {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.rglob("*.h5")}
    assert xmist.run(scan).done_before == 6
    assert xmist.run(scan, overwrite=True).done_before == 0
    assert master.exists()


def test_damaged_and_foreign_blocks_are_done_again(tmp_path):
    scan = write_config(tmp_path)
    master = run_path(scan)
    whole = volumes(master)
    first, second, third = sorted((tmp_path / "scan_blocks").glob("block_*"))
    first.write_bytes(first.read_bytes()[:3000])
    second.write_bytes(third.read_bytes().replace(b"identity", b"identitx"))
    (tmp_path / "scan_blocks" / ".block_000004_000006.h5.0123456789abcdef.partial").write_bytes(b"half")
    run_path(scan)
    assert_same(whole, volumes(master))
    assert not leftovers(tmp_path / "scan_blocks")


def test_another_configuration_or_input_is_refused_and_told(tmp_path, capsys):
    scan = write_config(tmp_path)
    whole = volumes(run_path(scan))
    write_toml(tmp_path, sections(options={"smoothing": 2.0}))
    done = call(capsys, "retrieve", scan)
    assert done.code == 2
    assert "options.smoothing was 1.0 and is 2.0" in done.err
    write_toml(tmp_path, sections())
    path = tmp_path / "p_0003_1.tif"
    frame = tifffile.imread(path)
    tifffile.imwrite(path, frame[::-1])
    with pytest.raises(InputError, check=coded("series-changed", names=["p_0003_1.tif"])) as caught:
        run_path(scan)
    assert caught.value.codes == ("series-changed",)
    assert_same(whole, volumes(tmp_path / "scan.h5"))
    # Another size of the blocks changes no result, and the one that was begun with stays.
    write_toml(tmp_path, sections(options={"smoothing": 2.0}, series={"block": 3}))
    assert call(capsys, "retrieve", scan, "--overwrite", "--quiet").code == 0
    assert len(list((tmp_path / "scan_blocks").glob("block_*"))) == 2
    write_toml(tmp_path, sections(options={"smoothing": 2.0}, series={"block": 1}))
    run_path(scan)
    assert len(list((tmp_path / "scan_blocks").glob("block_*"))) == 2
    assert not np.array_equal(volumes(tmp_path / "scan.h5")["dark_field"], whole["dark_field"])


def test_files_that_come_back_are_read_then(tmp_path):
    whole = volumes(run_path(write_config(tmp_path / "whole")))
    scan = write_config(tmp_path / "holes")
    master = tmp_path / "holes" / "scan.h5"
    away = tmp_path / "holes" / "p_0003_1.tif"
    away.rename(tmp_path / "away.tif")
    run_path(scan)
    assert volumes(master)["table/status"].tolist() == [GOOD] * 3 + [UNREADABLE] + [GOOD] * 2
    (tmp_path / "away.tif").rename(away)
    run_path(scan)
    assert_same(whole, volumes(master))


def test_other_files_are_not_overwritten(tmp_path):
    scan = write_config(tmp_path)
    (tmp_path / "scan.h5").write_bytes(b"something else")
    with pytest.raises(InputError, check=coded("output-exists")):
        run_path(scan)
    assert not (tmp_path / "scan_blocks").exists()
    run_path(scan, overwrite=True)
    assert volumes(tmp_path / "scan.h5")["table/status"].tolist() == [GOOD] * 6


def test_two_runs_do_not_share_a_folder(tmp_path):
    scan = write_config(tmp_path)
    (tmp_path / "scan_blocks").mkdir()
    with locked(tmp_path / "scan_blocks"), pytest.raises(InputError, check=coded("series-locked")):
        run_path(scan)


def test_a_full_disk_is_told_and_the_series_goes_on_later(tmp_path, monkeypatch):
    whole = volumes(run_path(write_config(tmp_path / "whole", series={"block": 1})))
    scan = write_config(tmp_path / "full", series={"block": 1})
    sync, count = atomic._sync, 0

    def fill(descriptor):
        nonlocal count
        count += 1
        if count > 4:  # the journal, the master and two blocks fit
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    monkeypatch.setattr(atomic, "_sync", fill)
    with pytest.raises(OutputError, match=r"no space left.*2 of 6 projections are done"):
        run_path(scan)
    assert assert_intermediate(tmp_path / "full" / "scan.h5", whole) == 2
    monkeypatch.setattr(atomic, "_sync", sync)
    run_path(scan)
    assert_same(whole, volumes(tmp_path / "full" / "scan.h5"))


def test_a_block_that_is_not_written_once_is_listed(tmp_path, monkeypatch, capsys):
    scan = write_config(tmp_path, series={"block": 1})
    write = storage.write_file

    def fail(path, *arguments, **options):
        if path.name == "block_000002_000003.h5":
            raise OutputError("a cable was pulled")
        return write(path, *arguments, **options)

    monkeypatch.setattr(storage, "write_file", fail)
    done = call(capsys, "retrieve", scan)
    assert done.code == 3
    assert "2: not retrieved yet" in done.err
    assert "a cable was pulled; run the same command" in done.err
    found = volumes(tmp_path / "scan.h5")
    assert np.isnan(found["phase"][2]).all()
    assert np.isfinite(found["phase"][3]).all()
    monkeypatch.undo()
    assert call(capsys, "retrieve", scan, "--quiet").code == 0
    assert volumes(tmp_path / "scan.h5")["table/status"].tolist() == [GOOD] * 6
