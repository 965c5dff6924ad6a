"""The log file: start, version, configuration, findings, errors with traceback, progress, end."""

import re

import numpy as np
import pytest

import xmist
from tests.cli.scenes import call, write_config, write_frames
from tests.coded import coded
from tests.workflow import series_scenes
from xmist import InputError

STAMPED = re.compile(r"\d{4}-\d\d-\d\dT\S+ (.*)")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def lines(path):
    """Return the lines with a time, without it, and all text."""
    text = path.read_text(encoding="utf-8")
    return [found[1] for line in text.splitlines() if (found := STAMPED.match(line))], text


def test_a_single_retrieval_is_told_from_start_to_end(folder, capsys):
    frames = np.array(write_frames(folder))
    config = write_config(folder, "my config.toml")
    assert call(capsys, "retrieve", config.name, "--log", "run.log").code == 0
    told, text = lines(folder / "run.log")
    assert told[0] == f"xmist {xmist.__version__}: xmist retrieve 'my config.toml' --log run.log"
    assert told[-1] == "ended with exit code 0"
    stages = [line for line in told if line in ("reading sample", "retrieving by mist", "writing")]
    assert stages == ["reading sample", "retrieving by mist", "writing"]
    result = xmist.open_result("result.h5")
    for record in result.findings:
        assert told.count(f"{record.severity} [{record.code}] {record.message}") == 1
    for words in ('method = "mist"', "energy_kev = 17.0", f"wrote {folder / 'result.h5'}"):
        assert words in text.replace("wrote result.h5", f"wrote {folder / 'result.h5'}")
    # What happens later is added, an error of the input with its code and traceback.
    np.save(folder / "other.npy", frames[1, :2])
    again = call(capsys, "retrieve", config.name, "--sample", "other.npy", "--log", "run.log")
    assert again.code == 2
    more, text = lines(folder / "run.log")
    assert more[: len(told)] == told
    assert more[-2:] == ["error: InputError", "ended with exit code 2"]
    assert "    [frames-unequal-numbers]" in text
    assert "    Traceback (most recent call last):" in text


def test_a_series_has_its_log_beside_its_file_unless_another_is_named(tmp_path):
    config = series_scenes.write_config(tmp_path, 2)
    done = xmist.run(config)
    told, text = lines(tmp_path / "scan.log")
    assert told[0] == f"xmist {xmist.__version__}: run {config}"
    assert told[-1] == "done"
    assert f"{len(done.rows)} of {len(done.rows)}" in text
    assert f"wrote {done.path}" in text
    before = (tmp_path / "scan.log").read_bytes()
    xmist.run(config, log=tmp_path / "mine.log", overwrite=True)
    assert (tmp_path / "scan.log").read_bytes() == before
    assert f"{len(done.rows)} of {len(done.rows)}" in (tmp_path / "mine.log").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "code"),
    [("data.txt", "output-exists"), ("none/run.log", "output-invalid"), (".", "output-invalid")],
)
def test_nothing_is_added_to_what_is_no_log(folder, name, code):
    write_frames(folder)
    (folder / "data.txt").write_text("0 1 2\n")
    with pytest.raises(InputError, check=coded(code)):
        xmist.run(write_config(folder), log=name)
    assert (folder / "data.txt").read_text() == "0 1 2\n"
    assert not (folder / "result.h5").exists()
