"""What a command refuses before any work, and how it calls what is wrong."""

import subprocess
import sys

import numpy as np
import pytest

import xmist.__main__
from tests.cli.scenes import call, snapshot, write_config, write_frames
from tests.workflow.series_scenes import frames, sections, write_hdf5, write_toml
from xmist.workflow.configuration import parse_mapping
from xmist.workflow.outputs import overlap_errors


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "arguments",
    [
        ("currant", "--positions", "1000000000"),
        ("currant", "--shape", "1000000", "1000000"),
        ("ct", "--angles", "1000000000"),
        ("fibres", "--plan", "--positions", "1000000000"),
    ],
    ids=" ".join,
)
def test_what_no_machine_can_hold_is_refused(arguments, folder, capsys):
    done = call(capsys, "simulate", *arguments)
    assert done.code == 2
    assert "of memory are needed, and this machine has" in done.err
    assert snapshot(folder) == {}


def test_where_a_machine_tells_no_memory_there_is_a_bound_all_the_same(folder, capsys, monkeypatch):
    monkeypatch.setattr("xmist.workflow.estimates.machine_memory", lambda: None)
    done = call(capsys, "simulate", "currant", "--positions", "1000000000")
    assert (done.code, "more than a machine has" in done.err) == (2, True)
    assert snapshot(folder) == {}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("currant", "--positions", "1e9"), "'--positions': '1e9' given, expected a whole number from 1,"),
        (("currant", "--positions", "0"), "'--positions': '0' given, expected a whole number from 1,"),
        (("currant", "--seed", "x"), "'--seed': 'x' given, expected a whole number, such as 4"),
        (("fibres", "--plan", "--distance", "1 m"), "'--distance': '1 m' given, expected a number, such as"),
        (
            ("fibres", "--plan", "--speckle", "1e-12"),
            "--speckle is 1e-12 m; expected at least the effective pixel",
        ),
    ],
    ids=str,
)
def test_a_number_that_is_none_is_told_with_what_would_be_right(arguments, expected, folder, capsys):
    done = call(capsys, "simulate", *arguments, "-o", "new")
    assert done.code == 2
    assert expected in done.err
    assert snapshot(folder) == {}


@pytest.mark.parametrize("command", ["simulate", "report", "benchmark"])
def test_help_tells_no_bound_where_there_is_none(command, capsys):
    assert "None" not in call(capsys, command, "--help").out


def test_a_plan_calls_its_errors_by_their_options_and_leaves_no_folder(folder, capsys):
    done = call(capsys, "simulate", "fibres", "--plan", "--distance", "-1", "--photons", "0", "-o", "new")
    assert done.code == 2
    assert "- --distance is -1 m; expected" in done.err
    assert "- --photons is 0 photons; expected" in done.err
    assert snapshot(folder) == {}


@pytest.mark.parametrize(
    ("pattern", "output", "read"),
    [
        ("*.h5", "new.h5", True),
        ("*.h5::/entry/data", "new.h5", True),
        ("*/*.h5", "new.h5", False),
        ("*/*.h5", "new_blocks/block_000000_000001.h5", True),
        ("**/*.h5", "a/b/new.h5", True),
        ("raw_{projection}.h5", "raw_7.h5", True),
        ("raw_{projection}.h5", "raw_all.h5", False),
        ("new.h5", "new.h5", False),  # does not stand there, so that nothing is replaced
        ("ref_*.tif", "../ref_1.tif", False),
    ],
)
def test_what_a_pattern_would_read_the_next_time(pattern, output, read, folder):
    parsed = parse_mapping({"input": {"sample": pattern}}, folder=folder, source="")
    found = overlap_errors(parsed, (), [folder / output])
    assert list(found) == [folder / output] * read


def test_a_series_writes_over_nothing_that_it_reads(folder, capsys):
    reference, samples = frames(2)
    write_hdf5(folder / "raw.h5", samples.reshape(-1, *samples.shape[2:]))
    write_hdf5(folder / "angles.h5", [0.0, 90.0])
    np.save(folder / "ref.npy", reference)
    for output in ("raw.h5", "angles.h5"):
        write_toml(
            folder,
            sections(
                input={
                    "reference": "ref.npy",
                    "sample": "raw.h5::/entry/data",
                    "sample_axes": "projection,position,y,x",
                },
                series={"angles": "angles.h5::/entry/data"},
                output={"files": [output]},
            ),
        )
        before = snapshot(folder)
        done = call(capsys, "retrieve", "config.toml", "--overwrite")
        assert done.code == 2
        assert done.err.startswith(f"Error: config.toml: {output} would replace a file that is read; ")
        assert snapshot(folder) == before


def test_a_comparison_writes_nothing_that_would_be_read_the_next_time(folder, capsys):
    for kind, stack in zip(("ref", "sample"), frames(), strict=True):
        write_hdf5(folder / f"a-{kind}.h5", stack if kind == "ref" else stack[0], "s")
    write_config(folder, input={"reference": "a-ref.h5::/s", "sample": "*-[s2]*.h5::/s"})
    before = snapshot(folder)
    done = call(
        capsys, "compare", "config.toml", "-o", ".", "--results", "--methods", "mist", "--positions", "2"
    )
    assert done.code == 2
    assert "mist-2.h5 would be read as a frame the next time" in done.err
    assert snapshot(folder) == before


def test_check_names_the_configuration_with_every_error(folder, capsys):
    write_frames(folder)
    write_config(folder, retrieve={"method": "mst"})
    done = call(capsys, "check", "config.toml")
    assert done.code == 2
    assert done.err.startswith("Error: config.toml: retrieve.method is 'mst'")


def test_ctrl_c_before_anything_is_loaded():
    """The interrupt comes while the command line is being imported."""
    code = (
        "import runpy, sys\n"
        "class Impatient:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'click':\n"
        "            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Impatient())\n"
        "runpy.run_module('xmist', run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 130
    assert done.stderr == "Interrupted; no incomplete file was left.\n"


def test_the_entry_point_gives_the_exit_code(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["xmist", "methods", "mst"])
    assert xmist.__main__.main() == 2

    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr("xmist.cli.main", interrupted)
    assert xmist.__main__.main() == 130
    assert "Interrupted" in capsys.readouterr().err
