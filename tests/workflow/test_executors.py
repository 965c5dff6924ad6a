"""Processes and clusters whose workers die; memory; children that crash."""

import os
import signal
import threading
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import xmist
from tests.coded import coded
from tests.workflow.series_scenes import SHAPE, assert_same, open_setup, run_path, volumes, write_config
from xmist.core.data import Retrieval
from xmist.core.errors import InputError
from xmist.core.experiment import Experiment
from xmist.io.results.stacks import FAILED, GOOD
from xmist.workflow import guard
from xmist.workflow.configuration import parse_configuration
from xmist.workflow.driver import Job
from xmist.workflow.estimates import disk_space, fit_workers, parse_memory
from xmist.workflow.executors import Processes, connect
from xmist.workflow.quality import Row
from xmist.workflow.series import make_processor
from xmist.workflow.storage import BlockSchema, split


@dataclass(frozen=True)
class Poison:
    """A processor whose process dies at one projection."""

    at: int

    def index(self, number):
        return number

    def open(self):
        return nullcontext()

    def solve(self, index, reader):
        return self.finish(self.prepare(index, reader))

    def prepare(self, index, reader):
        return index

    def finish(self, index):
        if index == self.at:
            os.kill(os.getpid(), signal.SIGKILL)
        experiment = Experiment(energy_kev=17.0, pixel_size=1e-6, sample_to_detector=1.0)
        flags = np.zeros(SHAPE, np.uint16)
        result = Retrieval(method="mist", experiment=experiment, flags=flags, phase=np.full(SHAPE, index))
        return Row(projection=index, status=GOOD), result

    def chosen(self, result):
        return dict(result.channels())


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL")
def test_a_projection_that_kills_its_process_is_found_and_left_out(tmp_path):
    schema = BlockSchema(identity="x", channels=("phase",), shape=SHAPE)
    job = Job(processor=Poison(1), schema=schema, folder=tmp_path)
    reports = list(Processes(2).run(job, split(range(6), 3)))
    rows = {row.projection: row for report in reports for row in report.rows}
    assert [rows[number].status for number in range(6)] == [GOOD, FAILED] + [GOOD] * 4
    assert "processes died at it" in rows[1].note
    assert sorted(path.name for path in tmp_path.glob("block_*")) == [
        block.name for block in split(range(6), 3)
    ]


def test_a_dask_cluster_whose_workers_die_gives_the_same(tmp_path):
    from distributed import Client, LocalCluster

    whole = volumes(run_path(write_config(tmp_path / "whole", 12, series={"block": 1})))
    scan = write_config(tmp_path / "dask", 12, series={"block": 1})
    killed = []

    def kill(what, done, total):
        if what == "projections" and done == 4:
            killed.append(done)
            os.kill(next(iter(client.run(os.getpid).values())), signal.SIGTERM if os.name == "nt" else 9)

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        run_path(scan, client=client, progress=kill)
    assert killed == [4]
    assert_same(whole, volumes(tmp_path / "dask" / "scan.h5"))


def test_a_cluster_that_is_not_there_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("xmist.workflow.executors._PATIENCE", 0.2)
    with pytest.raises(InputError, check=coded("cluster-unavailable")):
        connect("tcp://127.0.0.1:1")
    scan = write_config(tmp_path, 2)
    with pytest.raises(InputError, check=coded(*["value-invalid"] * 3)) as caught:
        run_path(scan, workers=0, client="tcp://127.0.0.1:1", memory="much")
    assert len(caught.value.records) == 3
    assert not (tmp_path / "scan_blocks").exists()


def test_amounts_of_memory():
    assert parse_memory("4GB") == parse_memory("4000 mb") == parse_memory(4e9) == 4e9
    assert parse_memory("2GiB") == 2**31
    for wrong in ("", "GB", "-1GB", "4XB", 0, True, None):
        with pytest.raises(InputError, check=coded("value-invalid")):
            parse_memory(wrong)


def test_workers_fit_into_the_memory():
    assert fit_workers(None, 8, 1e9, 1e9) == 8
    assert fit_workers(9e9, 8, 1e9, 1e9) == 8
    assert fit_workers(5.9e9, 8, 1e9, 1e9) == 4
    with pytest.raises(InputError, check=coded("memory-insufficient", names=["2 GB"])):
        fit_workers(1.5e9, 8, 1e9, 1e9)
    form = BlockSchema(identity="", channels=("phase", "refraction_angle"), shape=(100, 100))
    assert form.bytes_each == (3 * 4 + 2) * 10_000
    assert disk_space(form, 1000, 10) == pytest.approx(1000 * 120_000, rel=0.05)


def test_a_child_that_crashes_or_hangs_is_told():
    with pytest.raises(InputError, check=coded("file-damaged")):
        guard.call(os.kill, 0, 0, what="reading") if os.name == "nt" else guard.call(os.abort, what="reading")
    with pytest.raises(InputError, check=coded("file-damaged", names=["1 s"])):
        guard.call(time.sleep, 3600, what="reading", timeout=1.0)
    with pytest.raises(InputError, check=coded("file-missing")):
        guard.call(xmist.open_result, "no-such-file.h5", what="opening")


def test_threads_share_a_workshop(tmp_path):
    # Dask gives one processor to all threads of a worker.
    parsed = parse_configuration(write_config(tmp_path, 4))
    processor = make_processor(parsed, open_setup(parsed), threads=1)
    found = {}

    def solve(index):
        with processor.open() as reader:
            found[index] = processor.solve(index, reader)[1].phase

    threads = [threading.Thread(target=solve, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    master = run_path(Path(tmp_path / "config.toml"))
    for index in range(4):
        assert np.array_equal(found[index], xmist.open_result(master, projection=index).phase)
