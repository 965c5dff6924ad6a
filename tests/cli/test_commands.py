"""What the commands do when all is well, and what they say."""

import errno
import importlib.metadata
import io
import json
import os
import re
import subprocess
import sys
import tomllib
from contextlib import contextmanager

import numpy as np
import pytest

import xmist
from tests.cli.scenes import GEOMETRY, SHAPE, call, frames, snapshot, write_config, write_frames
from tests.io.frames_files import write_edf
from xmist.__main__ import main as first
from xmist.cli import console, main
from xmist.cli.options import _KEYS
from xmist.core import flags as flag
from xmist.core.errors import OutputError
from xmist.workflow.schema import check_sections

OPTIONS = [
    "--reference", "ref_*.tif", "--sample", "sample_*.tif", "--energy-kev", "17", "--pixel-size", "5.8e-6",
    "--sample-to-detector", "1", "--source-to-sample", "30", "--method", "mist", "--option", "smoothing=1",
    "-o", "result.h5",
]  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_frames(tmp_path)
    write_config(tmp_path)
    return tmp_path


def same(one, other):
    return all(np.array_equal(getattr(one, name), array, equal_nan=True) for name, array in other.channels())


def test_a_configuration_gives_what_python_gives(folder, capsys):
    done = call(capsys, "retrieve", "config.toml")
    assert (done.code, done.out) == (0, "Wrote result.h5\n")
    result = xmist.open_result("result.h5")
    experiment = xmist.Experiment(**GEOMETRY)
    expected = xmist.retrieve(xmist.SpeckleStack(*frames()), experiment, method="mist", smoothing=1.0)
    assert same(result, expected)
    assert result.experiment == experiment
    names = [entry["name"] for entry in result.provenance["input"]["sample"]]
    assert names == ["sample_1.tif", "sample_2.tif", "sample_3.tif"]
    assert all(len(entry["sha256"]) == 64 for entry in result.provenance["input"]["reference"])
    scan = result.provenance["configuration"]
    assert scan["retrieve"] == {"method": "mist"}
    assert check_sections(json.loads(json.dumps(scan)) | {"output": {"files": "again.h5"}})[1] == []


def test_options_alone_give_the_same(folder, capsys):
    assert call(capsys, "retrieve", *OPTIONS).code == 0
    by_options = xmist.open_result("result.h5")
    assert call(capsys, "retrieve", "config.toml", "--overwrite").code == 0
    assert same(by_options, xmist.open_result("result.h5"))


def test_options_take_the_place_of_the_file(folder, capsys, monkeypatch):
    (folder / "below").mkdir()
    monkeypatch.chdir(folder / "below")
    arguments = ["../config.toml", "--option", "smoothing=2", "-o", "mine.h5", "--threads", "1"]
    assert call(capsys, "retrieve", *arguments).code == 0
    result = xmist.open_result("mine.h5")
    assert result.options["smoothing"] == 2.0
    assert result.provenance["configuration"]["input"]["reference"] == ("ref_*.tif",)
    assert not (folder / "result.h5").exists()


def test_every_option_of_the_command_line_is_a_key_of_the_configuration():
    data = {}
    for section, key in _KEYS.values():
        data.setdefault(section, {})[key] = None
    assert not [problem for problem in check_sections(data)[1] if problem.code == "option-unknown"]


def test_steps_are_done_in_order_and_noted(folder, capsys):
    steps = ["--step", "crop: rows=[2, 18], columns=[0, 20]", "--step", "bin: size=2"]
    done = call(capsys, "retrieve", *OPTIONS, *steps)
    assert done.code == 0
    assert "Step crop: kept rows 2 to 17 and columns 0 to 19\nStep bin: joined 2 × 2 pixels" in done.err
    result = xmist.open_result("result.h5")
    assert result.shape == (8, 10)
    # The scan file states the detector's pixel; that of the result is as large as what was joined.
    assert result.experiment.pixel_size == pytest.approx(2 * GEOMETRY["pixel_size"])
    assert result.provenance["configuration"]["experiment"]["pixel_size"] == GEOMETRY["pixel_size"]
    assert result.provenance["binning"] == 2
    assert len(result.provenance["preprocessing"]) == 2


def test_dark_flat_and_repeated_repeats(folder, capsys):
    reference, sample = frames()
    rng = np.random.default_rng(3)
    gain = rng.uniform(0.8, 1.2, SHAPE)
    for name, stack in (("r", reference), ("s", sample)):
        raw = np.repeat(100 + gain * stack, 2, axis=0)
        raw[0::2] += 5
        raw[1::2] -= 5
        np.save(f"{name}.npy", raw.astype(np.float32))
    np.save("dark.npy", np.full((3, *SHAPE), 100, np.float32))
    np.save("flat.npy", (100 + 1e4 * gain).astype(np.float32))
    write_config(
        folder,
        input={
            "reference": "r.npy",
            "sample": "s.npy",
            "dark": "dark.npy",
            "flat": "flat.npy",
            "repeats": 2,
        },
        preprocess=[{"step": "dark"}, {"step": "flat"}],
    )
    assert call(capsys, "retrieve", "config.toml").code == 0
    result = xmist.open_result("result.h5")
    stack = xmist.SpeckleStack(reference, sample)
    expected = xmist.retrieve(stack, xmist.Experiment(**GEOMETRY), method="mist", smoothing=1.0)
    # float32 frames of 1e4 counts have 1e-7 of rounding; the flat division and the mean a few times that,
    # which the second derivatives of D and the integration of φ amplify by less than 1e3.
    for name in ("phase", "dark_field"):
        truth = getattr(expected, name)
        assert np.abs(getattr(result, name) - truth).max() < 1e-3 * np.abs(truth).max()
    # ±5 around a level of about 1e4: the mean of two has a standard deviation of 5.
    assert result.provenance["noise"]["reference"] == pytest.approx(5e-4, rel=0.2)
    assert set(result.provenance["input"]) == {"reference", "sample", "dark", "flat"}


def test_a_pair_is_found_by_the_position_of_the_mask(folder, capsys):
    for name, stack in zip(("reference", "sample"), frames(), strict=True):
        for number in (0, 1, 2):
            place = number if name == "reference" else (number + 1) % 3
            write_edf(folder / f"{name}_{number}.edf", [stack[place]], [{"mask_x": str(place)}])
    write_config(folder, input={"reference": "reference_*.edf", "sample": "sample_*.edf"})
    assert call(capsys, "retrieve", "config.toml").code == 0
    shuffled = xmist.open_result("result.h5")
    write_config(folder)
    assert call(capsys, "retrieve", "config.toml", "--overwrite").code == 0
    assert same(shuffled, xmist.open_result("result.h5"))


def test_every_kind_of_output(folder, capsys):
    write_config(folder, output={"files": ["a.nxs", "b.tif", "c.png"]})
    done = call(capsys, "retrieve", "config.toml")
    assert done.code == 0
    assert done.out == "Wrote a.nxs\nWrote b.tif\nWrote c.png\n"
    assert {path.name for path in folder.iterdir() if path.name[:2] in ("a.", "b_", "c.")} == {
        "a.nxs", "b_phase.tif", "b_dark_field.tif", "b_refraction_angle.tif", "b_flags.tif",
        "b_scattering_angle.tif", "b_visibility_reduction.tif", "c.png",
    }  # fmt: skip


def test_pixels_without_a_value_give_exit_code_3(folder, capsys):
    shape = (20, 80)
    reference, sample = frames(shape=shape)
    reference[:, :, :60] = 0  # farther from any lit pixel than values are carried
    np.save("r.npy", reference)
    np.save("s.npy", sample)
    arguments = ["--reference", "r.npy", "--sample", "s.npy", *OPTIONS[4:]]
    done = call(capsys, "retrieve", *arguments)
    assert done.code == 3
    lost = int(re.search(r"(\d+) unmasked pixels have no value", done.err)[1])
    result = xmist.open_result("result.h5")
    assert lost == np.count_nonzero(np.isnan(result.phase)) > 0
    # Masked by a step, they are as they should be.
    done = call(capsys, "retrieve", *arguments, "--step", "unlit", "--overwrite")
    assert done.code == 0
    result = xmist.open_result("result.h5")
    assert np.isnan(result.phase).any()
    assert (result.flags[np.isnan(result.phase)] & flag.MASKED).all()


def test_findings_are_told(folder, capsys):
    done = call(capsys, "retrieve", *OPTIONS[:2], "--sample", "again_*.tif", *OPTIONS[4:])
    assert done.code == 2
    for number in (1, 2, 3):
        (folder / f"again_{number}.tif").write_bytes((folder / f"ref_{number}.tif").read_bytes())
    done = call(capsys, "retrieve", *OPTIONS[:2], "--sample", "again_*.tif", *OPTIONS[4:])
    assert done.code == 0
    assert "sample and reference frames of positions 0, 1 and 2 are identical" in done.err
    assert call(capsys, "retrieve", "config.toml", "--overwrite", "--quiet").err == ""


def test_check_says_what_would_be_done_and_writes_nothing(folder, capsys):
    write_config(folder, preprocess=[{"step": "bin", "size": 2}], output={"files": ["result.h5", "i.tif"]})
    before = snapshot(folder)
    done = call(capsys, "check", "config.toml")
    assert done.code == 0
    for line in (
        r"reference +3 frames of 20 × 24 pixels \(y × x\), float32, in 3 files",
        r"positions +3",
        r"experiment +17 keV, source at 30 m, detector at 1 m",
        r"pixel 1.16e-05 m, in the sample's plane 1.123e-05 m; effective distance 0.9677 m",
        r"step 1 +bin: join pixels into larger ones \(size = 2\)",
        r"method +mist, smoothing = 1.0",
        r"result +10 × 12 pixels",
        r"writes +result.h5",
        r"writes +i_phase.tif",
        r"memory +about [\d.]+ MB",
        r"time +about \d+ s on this machine",
    ):
        assert re.search(line, done.out), line
    assert snapshot(folder) == before
    data = json.loads(call(capsys, "check", "config.toml", "--json").out)
    assert data["errors"] == []
    assert data["positions"] == 3
    assert data["shape"] == [10, 12]
    assert data["memory"] > 0
    assert data["frames"]["sample"] == {"frames": 3, "shape": [20, 24], "dtype": "float32", "files": 3}


def test_check_tells_that_it_tries_the_method(folder, capsys, monkeypatch):
    told = []

    @contextmanager
    def record(_settings):
        yield lambda *what: told.append(what)

    monkeypatch.setattr(sys.modules["xmist.cli.check"], "progress_bars", record)
    write_config(folder)
    assert call(capsys, "check", "config.toml").code == 0
    assert told == [
        ("compiling mist", 0, 1),
        *(("trying mist on small random frames", number, 2) for number in (0, 1)),
    ]


def test_check_in_json_holds_the_errors(folder, capsys):
    write_config(folder, retrieve={"method": "misst"})
    done = call(capsys, "check", "config.toml", "--json")
    assert done.code == 2
    data = json.loads(done.out)
    assert data["errors"][0]["code"] == "method-unknown"
    assert data["memory"] is None


def test_headers_that_contradict_the_configuration_are_noted(folder, capsys):
    header = {"PSize_1": "5.8e-06", "SampleDistance": "1.5"}
    for name, stack in zip(("reference", "sample"), frames(), strict=True):
        write_edf(folder / f"{name}.edf", list(stack), [header] * 3)
    spec = {"reference": "reference.edf", "sample": "sample.edf"}
    write_config(folder, input=spec)
    done = call(capsys, "check", "config.toml")
    assert done.code == 0
    assert "Warning: experiment.sample_to_detector is 1 m; the header offers 1.5 m (reference.edf" in done.err
    assert "pixel_size" not in done.err
    write_config(folder, input=spec, experiment={"sample_to_detector": None})
    done = call(capsys, "check", "config.toml")
    assert done.code == 2
    assert "sample_to_detector is missing;" in done.err
    assert "the header offers 1.5 m" in done.err


def test_retrieve_notes_what_check_does(folder, capsys):
    write_config(folder, experiment={"sample_to_detector": 500.0})
    for command in ("check", "retrieve"):
        done = call(capsys, command, "config.toml")
        assert done.code in (0, 3)
        assert "Warning: experiment.sample_to_detector is 500 m, more than is usual; metres are" in done.err
    found = xmist.open_result("result.h5").findings
    assert found[0].code == "length-unusual"


def test_init_leads_to_a_retrieval(folder, capsys):
    (folder / "config.toml").unlink()
    done = call(capsys, "init", ".")
    assert done.code == 0
    assert done.out == "Wrote config.toml\n"
    assert "3 values must be filled in" in done.err
    proposed = (folder / "config.toml").read_text()
    assert proposed.count("# FILL IN") == 3
    done = call(capsys, "check", "config.toml")
    assert done.code == 2
    assert done.err.count(" is missing; ") == 3
    for name, value in GEOMETRY.items():
        proposed = proposed.replace(f"# {name} =", f"{name} = {value}")
    (folder / "config.toml").write_text(proposed)
    assert call(capsys, "check", "config.toml").code == 0
    assert call(capsys, "retrieve", "config.toml").code in (0, 3)
    assert (folder / "result.png").exists()


def test_init_elsewhere(folder, capsys):
    (folder / "processed").mkdir()
    done = call(capsys, "init", ".", "-o", "processed/mine.toml")
    assert done.code == 0
    data = tomllib.loads((folder / "processed" / "mine.toml").read_text())
    assert data["input"]["reference"] == "../ref_*.tif"


def test_info(folder, capsys):
    call(capsys, "retrieve", "config.toml")
    done = call(capsys, "info", "result.h5")
    assert done.code == 0
    assert re.search(r"phase +rad +-?[\d.e-]+ +-?[\d.e-]+ +[\d.e-]+ +0", done.out)
    assert json.loads(call(capsys, "info", "--json", "result.h5").out)["method"] == "mist"
    done = call(capsys, "info", "result.h5", "--channels", "phase,scattering-angle")
    assert [line.split()[0] for line in done.out.splitlines()[2:]] == ["phase", "scattering_angle"]
    assert call(capsys, "info", "result.h5", "--channels", "phse").code == 2
    assert "did you mean --channels?" in call(capsys, "info", "result.h5", "--channel", "phase").err
    done = call(capsys, "info", "ref_1.tif")
    assert re.search(r"shape +20 × 24", done.out)
    assert call(capsys, "info", "ref_1.tif", "--channels", "phase").code == 2


def test_info_joins_by_a_cross_what_is_a_shape_and_nothing_else(capsys, monkeypatch):
    found = {"shape": (20, 24), "iterations": [300, 12], "geometry": [{"name": "a", "note": ""}]}
    monkeypatch.setattr("xmist.io.describe", lambda _: found)
    done = call(capsys, "info", "result.h5")
    assert done.out.split() == [
        "shape",
        "20",
        "×",
        "24",
        "iterations",
        "300,",
        "12",
        "geometry",
        "-",
        "name",
        "a",
    ]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such mode")
def test_info_of_a_file_that_may_not_be_read(folder, capsys, monkeypatch):
    def closed(path, *arguments, **options):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr("pathlib.Path.open", closed)
    monkeypatch.setattr("h5py.is_hdf5", closed)  # which fails likewise, in words of its own
    done = call(capsys, "info", "ref_1.tif")
    assert done.code == 2
    assert "ref_1.tif cannot be read (Permission denied)" in done.err


def test_methods(capsys):
    done = call(capsys, "methods")
    for name, entry in xmist.METHODS.items():
        assert f"\n{name}\n" in "\n" + done.out
        assert entry.doi in done.out
    table = json.loads(call(capsys, "methods", "--json").out)
    assert [row["name"] for row in table] == list(xmist.METHODS)


@pytest.mark.parametrize("name", xmist.METHODS)
def test_every_option_of_a_method_is_explained(name, capsys):
    (row,) = json.loads(call(capsys, "methods", name, "--json").out)
    assert [option["name"] for option in row["options"] if len(option["about"]) < 10] == []
    done = call(capsys, "methods", name)
    for option in row["options"]:
        assert re.search(rf"^    {option['name']} ", done.out, re.MULTILINE)


def test_help_has_examples(capsys):
    for command in ("demo", "simulate", "retrieve", "compare", "check", "init", "info", "methods"):
        done = call(capsys, command, "--help")
        assert done.code == 0
        assert f"Examples:\n    xmist {command}" in done.out
    assert "Exit codes:" in call(capsys, "--help").out


def test_a_newcomer_who_types_the_name_alone_is_helped(capsys):
    done = call(capsys)
    assert done.code == 2
    assert "xmist demo" in done.err


def test_python_m_xmist():
    done = subprocess.run([sys.executable, "-m", "xmist", "--version"], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout == f"xmist {xmist.__version__}\n"
    assert done.stderr == ""


def test_the_command_is_installed():
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="xmist")
    assert script.load() is first


def test_help_is_light():
    code = (
        "import sys, xmist.cli\nxmist.cli.main(['--help'])\n"
        "heavy = ['numpy', 'scipy', 'numba', 'pydantic', 'h5py', 'matplotlib']\n"
        "sys.stderr.write(str([name for name in heavy if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr == "[]"


def _raising(error):
    def fail(*_arguments, **_named):
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (OutputError("result.h5: the disk is on fire"), 1, "Error: result.h5: the disk is on fire\n"),
        (MemoryError(), 1, "this machine has not enough memory; xmist check shows how much"),
        (OSError(5, "Input/output error", "ref_1.tif"), 1, "Input/output error"),
        (KeyError("speckle"), 1, "unexpected KeyError: 'speckle'. This is an error in xmist"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_failures(folder, capsys, monkeypatch, error, code, message):
    before = snapshot(folder)
    monkeypatch.setattr("xmist.workflow.run.run_parsed", _raising(error))
    done = call(capsys, "retrieve", "config.toml")
    assert done.code == code
    assert message in done.err
    assert "Traceback" not in done.err
    done = call(capsys, "retrieve", "config.toml", "--debug")
    assert done.code == code
    assert "Traceback" in done.err
    assert message in done.err
    assert snapshot(folder) == before


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_bars_show_on_a_terminal_and_leave_nothing(folder, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert main(["retrieve", "config.toml"]) == 0
    shown = terminal.getvalue()
    for part in ("reading reference", "retrieving by mist", "writing"):
        assert part in shown
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert main(["retrieve", "config.toml", "--overwrite", "--quiet"]) == 0
    assert terminal.getvalue() == ""


def test_a_console_of_few_letters_is_tolerated(folder):
    done = subprocess.run(
        [sys.executable, "-m", "xmist", "methods", "mist-attenuating"],
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
    )
    assert done.returncode == 0
    assert b"delta_over_beta" in done.stdout


def test_a_reader_that_leaves_is_no_crash(monkeypatch):
    class Closed(io.StringIO):
        def write(self, _text):
            raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(sys, "stdout", Closed())
    assert main(["methods"]) == console.FAILED
