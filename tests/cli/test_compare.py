"""The command `xmist compare`: from a scan file to a folder of tables and figures."""

import json

import numpy as np
import pytest

import xmist
from tests.cli.scenes import GEOMETRY, call, snapshot, write_config
from tests.evaluate.scene import SHAPE, stack, truth

FILES = ["agreement.png", "comparison.csv", "comparison.json", "comparison.md", "dark-field.png", "phase.png", "regions.png"]  # fmt: skip # noqa: E501


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frames = stack()
    np.save("ref.npy", frames.reference)
    np.save("sample.npy", frames.sample)
    write(tmp_path)
    return tmp_path


def write(folder, tables="", **changes):
    """A scan file without retrieve and output, which a comparison does not need."""
    given = {
        "input": {"reference": "ref.npy", "sample": "sample.npy"},
        "experiment": GEOMETRY,
        "compare": {"methods": ["mist"], "positions": [2], "resolution": False},
        **changes,
    }
    path = write_config(folder, **given)
    text = path.read_text()
    start, end = text.index("[retrieve]"), text.index("[compare]")
    path.write_text(text[:start] + text[end:] + tables + "\n")


def save_truth():
    right = truth()
    result = xmist.Retrieval(
        method="truth",
        experiment=xmist.Experiment(**GEOMETRY),
        flags=np.zeros(SHAPE, np.uint16),
        **right,
    )
    result.save("truth.h5")


def test_tables_and_figures_are_written(folder, capsys):
    save_truth()
    arguments = ["compare", "config.toml", "-o", "out", "--methods", "mist,lcs", "--positions", "2,4"]
    options = ["--option", "mist.smoothing=1.5", "--outside", "0,6,0,64", "--inside", "25,35,27,37"]
    done = call(capsys, *arguments, *options)
    assert done.code == 0, done.err
    assert "lcs, N = 2: needs at least 3 positions" in done.out
    assert "Against the truth, dark-field" in done.out
    assert done.out.endswith("Wrote out/comparison.md and the figures beside it\n")
    assert sorted(path.name for path in (folder / "out").iterdir()) == sorted([*FILES, "transmission.png"])
    data = json.loads((folder / "out" / "comparison.json").read_text())
    assert data["regions"]["outside"]["boxes"] == [[0, 6, 0, 64]]
    assert data["runs"][0]["options"] == {"smoothing": 1.5}
    assert data["about"]["input"]["sample"][0]["name"] == "sample.npy frame 1"
    before = snapshot(folder)
    again = call(capsys, *arguments, *options)
    assert again.code == 2
    assert again.err.count(" already; ") == 1  # one error for all files
    assert snapshot(folder) == before


def test_numbers_of_positions_that_nobody_asked_for_are_not_missed(folder, capsys):
    write(folder, compare={"methods": ["mist"], "resolution": False})
    done = call(capsys, "compare", "config.toml", "-o", "out")
    assert done.code == 0, done.err
    runs = json.loads((folder / "out" / "comparison.json").read_text())["runs"]
    assert [run["positions"] for run in runs] == [2, 4]  # of 2, 4 and 10


def test_everything_may_stand_in_the_configuration(folder, capsys, monkeypatch):
    saved = []
    monkeypatch.setattr("xmist.Comparison.save", lambda self, *_args, **_named: saved.append(self))
    write(
        folder,
        compare={"methods": ["mist", "single-material"], "positions": [2, 4], "resolution": True},
        preprocess=[{"step": "crop", "rows": [2, 58]}],
        tables="[options.mist]\nsmoothing = 1.0\nridge = 0.1\n[regions]\noutside = [0, 4, 0, 64]",
    )
    save_truth()
    done = call(capsys, "compare", "config.toml", "-o", "out", "--option", "mist.smoothing=2")
    assert done.code == 0, done.err
    (found,) = saved
    assert found.positions == (2, 4)
    run = found.run("mist", 4)
    assert dict(run.options) == {"smoothing": 2, "ridge": 0.1}
    assert run.quality["phase"].resolution is not None
    assert found.run("single-material", 4).reason == "needs the option delta_over_beta"
    assert found.regions.outside.sum() == 4 * 64
    # The truth is cropped as the frames are.
    assert np.array_equal(found.truth["dark_field"], truth()["dark_field"][2:58].astype(np.float32))
    assert "Step crop" in done.err


def test_a_truth_that_does_not_fit_is_left_out_or_an_error(folder, capsys, monkeypatch):
    monkeypatch.setattr("xmist.Comparison.save", lambda *_args, **_named: None)
    flags = np.zeros((9, 9), np.uint16)
    small = xmist.Retrieval(method="truth", experiment=xmist.Experiment(**GEOMETRY), flags=flags, phase=flags)
    small.save("truth.h5")
    done = call(capsys, "compare", "config.toml", "-o", "out")
    assert done.code == 0
    assert "truth.h5 has 9 × 9 pixels; expected the frames' 60 × 64; not used" in done.err
    assert "Against the truth" not in done.out
    done = call(capsys, "compare", "config.toml", "-o", "out", "--truth", "truth.h5")
    assert done.code == 2
    assert "truth.h5 has 9 × 9 pixels; expected the frames' 60 × 64" in done.err
    done = call(capsys, "compare", "config.toml", "-o", "out", "--truth", "missing.h5")
    assert done.code == 2
    assert "missing.h5 does not exist" in done.err


def test_all_errors_of_the_configuration_at_once(folder, capsys):
    write(
        folder,
        compare={"methods": ["misst"], "positions": [2, 2], "truht": "x"},
        regions={"outside": [0, 4, 0], "middle": [1, 2, 3, 4]},
        tables="[options.umpa]\nwindw = 5",
    )
    before = snapshot(folder)
    done = call(capsys, "compare", "config.toml", "-o", "out")
    assert done.code == 2
    for part in (
        "compare.methods names 'misst'; did you mean 'mist'",
        "compare.positions is [2, 2]; expected a list of different numbers",
        "compare.truht is not known to the table [compare]; did you mean 'truth'",
        "regions.outside is [0, 4, 0]; expected bare beam: a box [y0, y1, x0, x1]",
        "regions.middle is not known to the table [regions]",
        "options.umpa.windw is not known to umpa; did you mean 'window'",
    ):
        assert part in done.err
    assert "retrieve" not in done.err
    assert snapshot(folder) == before


def test_errors_of_file_and_arguments_are_told_together_before_any_work(folder, capsys, monkeypatch):
    monkeypatch.setattr("xmist.evaluate.from_configuration.load_projection", None)  # no frame is read
    write(folder, experiment={**GEOMETRY, "energy_kev": -17.0})
    (folder / "file").write_bytes(b"precious")
    before = snapshot(folder)
    arguments = [
        "--methods",
        "misst",
        "--positions",
        "0",
        "--outside",
        "0,9,0,999",
        "--option",
        "umpa.window=5",
    ]
    done = call(capsys, "compare", "config.toml", "-o", "file/out", "--truth", "no.h5", *arguments)
    assert done.code == 2
    for part in (
        "7 errors",
        "experiment.energy_kev is -17",
        "unknown method 'misst'; did you mean 'mist'",
        "positions is [0]; expected different whole numbers from 1",
        "options are given for 'umpa', which is not compared",
        "regions.outside has the box [0, 9, 0, 999]",
        "no.h5 does not exist",
        "the folder file/out cannot be made: ",
    ):
        assert part in done.err
    assert snapshot(folder) == before


def test_nothing_that_is_read_is_replaced(folder, capsys):
    save_truth()
    (folder / "truth.h5").rename(folder / "mist-2.h5")
    before = snapshot(folder)
    for arguments in (["--truth", "mist-2.h5"], []):
        if not arguments:
            write(folder, input={"reference": "mist-2.h5::/entry/dark_field/data", "sample": "sample.npy"})
            before = snapshot(folder)
        done = call(capsys, "compare", "config.toml", "-o", ".", "--results", "--overwrite", *arguments)
        assert done.code == 2
        assert "mist-2.h5 would replace a file that is read" in done.err
        assert snapshot(folder) == before


def test_an_empty_list_is_no_list_of_everything(folder, capsys):
    done = call(capsys, "compare", "config.toml", "-o", "out", "--methods", ",")
    assert (done.code, "methods is empty" in done.err) == (2, True)
    write(folder, compare={"methods": ["mist", "mist"]})
    done = call(capsys, "compare", "config.toml", "-o", "")
    assert (done.code, "-o is empty" in done.err) == (2, True)
    done = call(capsys, "compare", "config.toml", "-o", "out")
    assert (done.code, "compare.methods names mist more than once" in done.err) == (2, True)


def test_bad_arguments(folder, capsys):
    done = call(capsys, "compare", "--positions", "2;4", "--outside", "1,2,3", "--option", "window=5")
    assert done.code == 2
    for part in (
        "no configuration is given",
        "-o is missing",
        "--positions is '2;4'",
        "--outside is '1,2,3'; expected Y0,Y1,X0,X1",
        "--option window names no method",
    ):
        assert part in done.err
    done = call(capsys, "compare", "config.toml", "-o", "out", "--option", "umpa.window=5")
    assert done.code == 2
    assert "options are given for 'umpa', which is not compared" in done.err
    assert not (folder / "out").exists()


def test_the_middle_projection_of_a_series_is_compared_or_a_given_one(folder, capsys):
    frames = stack(2)
    series = np.stack([frames.sample * factor for factor in (1.0, 0.9, 0.8)])
    np.save("ref.npy", frames.reference)
    np.save("sample.npy", series.reshape(-1, *SHAPE))
    names = {"reference": "ref.npy", "sample": "sample.npy"}
    write(folder, input=names | {"sample_axes": "projection,position,y,x"})
    for number, arguments in ((1, ()), (2, ("--projection", "2"))):
        done = call(capsys, "compare", "config.toml", "-o", f"out{number}", "--results", *arguments)
        assert done.code == 0, done.err
        data = json.loads((folder / f"out{number}" / "comparison.json").read_text())
        assert data["about"]["projection"] == number
        result = xmist.open_result(folder / f"out{number}" / "mist-2.h5")
        some = xmist.SpeckleStack(frames.reference, series[number])
        again = xmist.retrieve(some, xmist.Experiment(**GEOMETRY), method="mist")
        assert np.array_equal(result.phase, again.phase)
    done = call(capsys, "compare", "config.toml", "-o", "out", "--projection", "3")
    assert done.code == 2
    assert not (folder / "out").exists()
