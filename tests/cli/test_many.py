"""Several configurations, keys set on the command line, and configurations that include another."""

import pytest

from tests.cli.scenes import call, write_config, write_frames
from tests.coded import coded
from xmist import InputError, open_result
from xmist.workflow.configuration import read_toml


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_frames(tmp_path)
    return tmp_path


def test_a_failure_does_not_end_the_others(folder, capsys):
    write_config(folder, "a.toml")
    write_config(folder, "b.toml", retrieve={"method": "mits"})
    write_config(folder, "c.toml")
    done = call(capsys, "retrieve", "a.toml", "missing.toml", "b.toml", "c.toml", "--output-folder", "out")
    assert done.code == 2
    written = {str(path.relative_to(folder)) for path in (folder / "out").rglob("*.h5")}
    assert written == {"out/a/result.h5", "out/c/result.h5"}
    assert "missing.toml" in done.err
    assert "b.toml" in done.err
    again = call(capsys, "retrieve", "a.toml", "c.toml", "--output-folder", "out", "--overwrite", "--quiet")
    assert (again.code, again.err) == (0, "")


def test_configurations_of_one_name_are_told_apart(folder, capsys):
    for name in ("s1", "s2"):
        (folder / name).mkdir()
        write_frames(folder / name)
        write_config(folder / name)
    done = call(capsys, "retrieve", "s1/config.toml", "s2/config.toml", "--output-folder", "out")
    assert done.code == 0
    assert {path.name for path in (folder / "out").iterdir()} == {"s1_config", "s2_config"}
    assert call(capsys, "retrieve", "s1/config.toml", "s2/config.toml", "-o", "a.h5").code == 2


def test_keys_are_set_on_the_command_line(folder, capsys):
    write_config(folder)
    done = call(
        capsys, "retrieve", "config.toml", "--set", "input.sample=sample_[12].tif",
        "--set", "input.reference=ref_[12].tif", "--set", "options.smoothing=2.5", "--output-folder", "out",
    )  # fmt: skip
    assert done.code == 0
    result = open_result(folder / "out" / "result.h5")
    assert result.provenance["positions"] == 2
    assert result.options["smoothing"] == 2.5


@pytest.mark.parametrize("text", ["smoothing=2", "options.smoothing", "retrieve.method=mits", "a.b.c=1"])
def test_a_key_that_cannot_be_set(folder, capsys, text):
    write_config(folder)
    done = call(capsys, "retrieve", "config.toml", "--set", text)
    assert done.code == 2
    assert "--set" in done.err
    assert not (folder / "result.h5").exists()


def test_a_configuration_includes_another(folder, capsys):
    (folder / "base").mkdir()
    write_config(folder / "base", "base.toml")
    own = 'include = "base/base.toml"\n[options]\nsmoothing = 3.0\n[output]\nfiles = ["own.h5"]\n'
    (folder / "own.toml").write_text(own)
    assert call(capsys, "retrieve", "own.toml").code == 0
    result = open_result(folder / "own.h5")
    assert (result.method, result.options["smoothing"]) == ("mist", 3.0)


def test_tables_merge_and_arrays_replace(tmp_path):
    (tmp_path / "base.toml").write_text(
        '[a]\nx = [1, 2]\ny = 1\n[a.deep]\nz = 1\n[[preprocess]]\nstep = "dark"\n'
    )
    (tmp_path / "own.toml").write_text(
        'include = "base.toml"\npreprocess = []\n[a]\nx = [3]\n[a.deep]\nw = 2\n'
    )
    assert read_toml(tmp_path / "own.toml") == {
        "a": {"x": [3], "y": 1, "deep": {"z": 1, "w": 2}}, "preprocess": [],
    }  # fmt: skip


def test_a_circle_of_includes_is_refused(tmp_path):
    (tmp_path / "a.toml").write_text('include = "b.toml"\n')
    (tmp_path / "b.toml").write_text('include = "a.toml"\n')
    with pytest.raises(InputError, check=coded("configuration-unreadable")):
        read_toml(tmp_path / "a.toml")
    (tmp_path / "c.toml").write_text("include = 3\n")
    with pytest.raises(InputError, check=coded("value-invalid")):
        read_toml(tmp_path / "c.toml")
