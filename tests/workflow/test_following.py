"""A writer records a series while it is followed: the writer is never refused, and nothing is lost."""

import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
import tifffile

import xmist
from tests.cli.scenes import call
from tests.coded import coded
from tests.workflow.series_scenes import WRITER, assert_same, frames, sections, volumes, write_toml
from xmist.core.errors import InputError
from xmist.io import describe
from xmist.io.frames.frames import open_frames
from xmist.io.frames.sources import is_being_written
from xmist.io.results.stacks import GOOD, UNREADABLE
from xmist.workflow import following

SHAPE, POSITIONS = (16, 18), 2
AXES = "projection,position,y,x"


def write_reference(folder, projections, **series):
    """Write references and a configuration; return the samples (projection, position, y, x)."""
    reference, samples = frames(projections, POSITIONS, SHAPE)
    for position, frame in enumerate(reference):
        tifffile.imwrite(folder / f"ref_{position}.tif", frame)
    inputs = {"reference": "ref_*.tif", "sample": "s.h5::/data", "sample_axes": AXES}
    data = sections(input=inputs, options={"smoothing": 1.0})
    data["series"] = {"expected": projections, "angles": {"start": 0.0, "step": 1.0}} | series
    return write_toml(folder, data), samples


def writer(mode, folder, samples):
    """Start a process that records the samples."""
    np.save(folder / "samples.npy", samples.reshape(-1, *SHAPE))
    command = [sys.executable, "-c", WRITER, mode, str(folder / "s.h5"), str(folder / "samples.npy")]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.skipif(sys.platform != "linux", reason="files that are open to write cannot be read elsewhere")
@pytest.mark.parametrize("mode", ["swmr", "reopened"])
def test_a_writer_and_a_reader_at_once(tmp_path, mode):
    config, samples = write_reference(tmp_path, 40)
    with writer(mode, tmp_path, samples) as process:
        xmist.run(config, follow=True, idle_timeout=60.0)
        out, err = process.communicate()
    assert process.returncode == 0, err  # it was never refused
    assert out.strip() == "0"
    followed = volumes(tmp_path / "scan.h5")
    assert followed["table/status"].tolist() == [GOOD] * 40
    assert_same(followed, volumes(xmist.run(config, overwrite=True).path))


class Acquisition:
    """Something that happens between two looks at the files, in the place of waiting."""

    def __init__(self, *steps):
        self.steps = list(steps)

    def __call__(self, _seconds):
        if self.steps:
            self.steps.pop(0)()


def follow(config, monkeypatch, *steps, idle=0.05, **options):
    """Follow a series, with steps of an acquisition while it waits."""
    monkeypatch.setattr(following.follow_series, "__defaults__", (Acquisition(*steps),))
    return xmist.run(config, follow=True, idle_timeout=idle, **options)


def tiffs(folder, samples, *numbers):
    """Write the files of projections."""
    for number in numbers:
        for position, frame in enumerate(samples[number]):
            tifffile.imwrite(folder / f"s_{number:03d}_{position}.tif", frame)


@pytest.fixture
def by_files(tmp_path):
    """Return a configuration over one file for each frame, and its samples."""
    _, samples = write_reference(tmp_path, 6)
    inputs = {"reference": "ref_*.tif", "sample": "s_{projection}_{position}.tif"}
    data = sections(input=inputs, series={"expected": 6, "block": 1})
    return write_toml(tmp_path, data), samples


def test_files_are_retrieved_as_they_arrive(tmp_path, by_files, monkeypatch):
    config, samples = by_files
    seen = []

    def look():
        seen.append(int((volumes(tmp_path / "scan.h5")["table/status"] == GOOD).sum()))

    def arrive(*numbers):
        look()
        tiffs(tmp_path, samples, *numbers)

    steps = [lambda: tiffs(tmp_path, samples, 1), lambda: arrive(0, 3), lambda: arrive(2, 4, 5)]
    done = follow(config, monkeypatch, *steps, idle=60.0)
    assert seen == [1, 3]  # viewers see the newest in the file of the series
    assert [row.status for row in done.rows] == [GOOD] * 6
    whole = volumes(tmp_path / "scan.h5")
    assert_same(whole, volumes(xmist.run(config, overwrite=True).path))


def test_it_ends_where_nothing_comes_any_more(tmp_path, by_files, capsys):
    config, samples = by_files
    tiffs(tmp_path, samples, 0, 1, 2)
    done = call(capsys, "retrieve", config, "--follow", "--idle-timeout", "0.05")
    assert done.code == 3
    assert "3 of 6 projections" in done.err
    assert [row.status for row in xmist.run(config).rows] == [GOOD] * 3 + [UNREADABLE] * 3


@pytest.mark.parametrize("sample", ["s_{projection}_{position}.tif", "s_*.tif", "s.h5::/data"])
def test_it_ends_where_nothing_ever_comes(tmp_path, by_files, capsys, sample):
    inputs = {"reference": "ref_*.tif", "sample": sample, "sample_axes": "projection,position,y,x"}
    config = write_toml(tmp_path, sections(input=inputs, series={"expected": 6}))
    done = call(capsys, "retrieve", config, "--follow", "--idle-timeout", "0.05")
    assert done.code == 3
    assert "6 of 6 projections" in done.err
    assert "Wrote" not in done.out
    assert call(capsys, "retrieve", config).code == 2


def test_files_that_changed_meanwhile_are_done_again(tmp_path, by_files, monkeypatch):
    config, samples = by_files
    tiffs(tmp_path, samples, *range(5))
    steps = [
        lambda: tiffs(tmp_path, samples[::-1], 1),  # what was there was not complete
        lambda: tiffs(tmp_path, samples, 5),
    ]
    follow(config, monkeypatch, *steps, idle=60.0)
    found = xmist.open_result(tmp_path / "scan.h5", projection=1)
    other = xmist.open_result(tmp_path / "scan.h5", projection=4)
    assert np.array_equal(found.phase, other.phase)


def test_an_interrupt_and_a_kill_are_gone_on_from(tmp_path, by_files, monkeypatch, capsys):
    config, samples = by_files
    tiffs(tmp_path, samples, 0, 1)

    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr(following.follow_series, "__defaults__", (Acquisition(interrupt),))
    assert call(capsys, "retrieve", config, "--follow").code == 130
    tiffs(tmp_path, samples, *range(2, 6))
    monkeypatch.setattr(following.follow_series, "__defaults__", (lambda _: None,))
    done = call(capsys, "retrieve", config, "--follow")
    assert done.code == 0, done.err
    assert volumes(tmp_path / "scan.h5")["table/status"].tolist() == [GOOD] * 6


def test_only_a_series_can_be_followed(tmp_path, by_files):
    config, samples = by_files
    tiffs(tmp_path, samples, 0)
    with pytest.raises(InputError) as caught:
        xmist.run(config, overrides={"input": {"sample": "s_000_*.tif"}, "series": None}, follow=True)
    assert "value-invalid" in caught.value.codes
    with pytest.raises(InputError, check=coded("value-invalid", names=["idle_timeout"])):
        xmist.run(config, follow=True, idle_timeout=0)


@pytest.mark.skipif(sys.platform != "linux", reason="needs what the system knows of locks")
@pytest.mark.parametrize("mode", ["swmr", "old", "latest"])
def test_a_file_that_is_open_to_write_is_told_as_such(tmp_path, capsys, mode):
    path = tmp_path / "s.h5"
    samples = frames(2, POSITIONS, SHAPE)[1].reshape(-1, *SHAPE)
    code = WRITER.replace("time.sleep(0.02)", "number == 2 and sys.stdin.readline()")
    np.save(tmp_path / "samples.npy", samples)
    command = [sys.executable, "-c", code, mode, str(path), str(tmp_path / "samples.npy")]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        for _ in range(3000):  # five minutes at least, so that a fault ends the test
            if path.exists() and path.stat().st_size and is_being_written(path):
                try:
                    if describe(path).get("frames") == 3:
                        break
                except InputError as error:
                    assert not set(error.codes) & {"file-damaged"}, error  # noqa: PT017  # while it begins
            time.sleep(0.1)
        found = call(capsys, "info", path)
        with h5py.File(tmp_path / "master.h5", "w") as file:
            file["linked"] = h5py.ExternalLink("s.h5", "/data")
            file["soft"] = h5py.SoftLink("/linked")
            layout = h5py.VirtualLayout((3, *SHAPE), samples.dtype)
            layout[:] = h5py.VirtualSource("s.h5", "data", layout.shape)
            file.create_virtual_dataset("virtual", layout)
        for name in ("linked", "soft"):
            linked = open_frames(f"master.h5::{name}", name="", folder=tmp_path)
            assert np.array_equal(linked.read(1), samples[1])
        if mode != "old":  # HDF5 itself opens the parts of a virtual dataset
            with pytest.raises(InputError, check=coded("file-being-written", names=["s.h5"])):
                open_frames("master.h5::virtual", name="", folder=tmp_path)
        process.kill()
    assert found.code == 0, found.err
    assert "being_written" in found.out
    assert "h5clear" not in found.out + found.err
    # A writer that died leaves the frames that it had written.
    assert describe(path)["frames"] == 3
