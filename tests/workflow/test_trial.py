"""The time of a retrieval is told beforehand, and trying it changes nothing."""

import numpy as np

import xmist
from tests.cli.scenes import write_config, write_frames
from xmist.workflow import trial


def test_a_single_retrieval_tells_its_time(tmp_path, monkeypatch):
    monkeypatch.setattr(trial, "_SIDES", (16, 16, 18))
    monkeypatch.setattr(trial, "_SHARE", 1.0)
    write_frames(tmp_path)
    config = write_config(tmp_path)
    silent = xmist.run(config)
    told = []
    done = xmist.run(config, overwrite=True, progress=lambda *given: told.append(given))
    timed = [(spent, total) for what, spent, total in told if what == "retrieving by mist" and total != 1]
    assert timed
    assert all(0 <= spent <= total for spent, total in timed)
    for (name, one), (_, other) in zip(done.result.channels(), silent.result.channels(), strict=True):
        np.testing.assert_array_equal(one, other, err_msg=name)
    # Small frames, and a part that a method refuses, have no time.
    told.clear()
    monkeypatch.setattr(trial, "_SIDES", (2, 2, 2))
    xmist.run(config, overwrite=True, progress=lambda *given: told.append(given))
    monkeypatch.setattr(trial, "_SHARE", 1e-3)
    xmist.run(config, overwrite=True, progress=lambda *given: told.append(given))
    assert [total for what, _, total in told if what == "retrieving by mist"] == [1, 1, 1, 1]
