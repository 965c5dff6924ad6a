"""Every way to get it wrong: one clear message, exit code 2, and the folder as it was."""

import errno
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile

from tests.cli.scenes import SHAPE, call, snapshot, write_config, write_frames
from tests.io.frames_files import write_edf

posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no such limit, link or mode")
RETRIEVE = ["retrieve", "config.toml"]


def scan(**changes):
    """A case that differs from a good one in the scan file alone."""

    def prepare(folder):
        write_config(folder, **changes)
        return RETRIEVE

    return prepare


def given(*arguments):
    """A case of the command line alone."""
    return lambda folder: list(arguments)


def with_file(name, content, **changes):
    """A case with one more, or one other, file; bytes or an array."""

    def prepare(folder):
        path = folder / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif path.suffix == ".npy":
            np.save(path, content)
        else:
            tifffile.imwrite(path, content)
        write_config(folder, **changes)
        return RETRIEVE

    return prepare


def every_frame(name, value):
    """A case in which all frames of a kind are filled with one value."""

    def prepare(folder):
        for path in folder.glob(f"{name}_*.tif"):
            tifffile.imwrite(path, np.full(SHAPE, value, np.float32))
        write_config(folder)
        return RETRIEVE

    return prepare


def cut(folder, name, size):
    path = folder / name
    path.write_bytes(path.read_bytes()[:size])


def truncated_tiff(folder):
    cut(folder, "ref_2.tif", 600)
    write_config(folder)
    return RETRIEVE


def edf(folder, **headers):
    for kind in ("reference", "sample"):
        for number in (1, 2, 3):
            frame = tifffile.imread(folder / f"{'ref' if kind == 'reference' else kind}_{number}.tif")
            values = {key: value(kind, number) for key, value in headers.items()}
            write_edf(folder / f"{kind}_{number}.edf", [frame], [values])
    write_config(folder, input={"reference": "reference_*.edf", "sample": "sample_*.edf"})
    return RETRIEVE


def short_edf(folder):
    edf(folder)
    cut(folder, "sample_2.edf", (folder / "sample_2.edf").stat().st_size - 100)
    return RETRIEVE


def other_positions(folder):
    return edf(folder, mask_x=lambda kind, number: str(number + (kind == "sample") * (number == 2) * 5))


def other_energy(folder):
    return edf(folder, Wavelength=lambda kind, _: "7.3e-11" if kind == "sample" else "1.0e-10")


def no_such_position(folder):
    edf(folder, mask_x=lambda kind, number: str(number))
    write_config(
        folder,
        input={"reference": "reference_*.edf", "sample": "sample_*.edf", "position_key": "mask_z"},
    )
    return RETRIEVE


def hdf5(folder, **changes):
    with h5py.File(folder / "scan.h5", "w") as file:
        for name, pattern in (("reference", "ref"), ("sample", "sample")):
            stack = [tifffile.imread(folder / f"{pattern}_{number}.tif") for number in (1, 2, 3)]
            file[f"entry/{name}/data"] = np.stack(stack)
    places = {name: f"scan.h5::/entry/{name}/data" for name in ("reference", "sample")}
    write_config(folder, input=places | changes)
    return RETRIEVE


def truncated_hdf5(folder):
    hdf5(folder)
    cut(folder, "scan.h5", 3000)
    return RETRIEVE


def empty_file(folder):
    (folder / "ref_3.tif").write_bytes(b"")
    write_config(folder)
    return RETRIEVE


def not_utf8(folder):
    (folder / "config.toml").write_bytes(b"[input]\nreference = '\xff\xfe'\n")
    return RETRIEVE


def text(content):
    def prepare(folder):
        (folder / "config.toml").write_text(content, encoding="utf-8")
        return RETRIEVE

    return prepare


def existing(name):
    def prepare(folder):
        (folder / name).write_bytes(b"precious")
        write_config(folder, output={"files": ["result.h5", "result.tif", "result.png"]})
        return RETRIEVE

    return prepare


def folder_as_output(folder):
    (folder / "result.h5").mkdir()
    write_config(folder, output={"overwrite": True})
    return RETRIEVE


def link_outside(folder):
    (folder / "elsewhere").symlink_to(folder.parent)
    write_config(folder, output={"files": ["elsewhere/result.h5"]})
    return RETRIEVE


def result_over_frames(folder):
    hdf5(folder)
    write_config(
        folder,
        input={name: f"scan.h5::/entry/{name}/data" for name in ("reference", "sample")},
        output={"files": ["scan.h5"], "overwrite": True},
    )
    return RETRIEVE


def result_over_scan(folder):
    write_config(folder, "scan.png", output={"files": ["scan.png"], "overwrite": True})
    return ["retrieve", "scan.png"]


def same_frames_twice(folder):
    for number in (2, 3):
        shutil.copy(folder / "ref_1.tif", folder / f"ref_{number}.tif")
    write_config(folder, options={"smoothing": 0.0})
    return RETRIEVE


def existing_scan_file(folder):
    write_config(folder)
    return ["init", "."]


def earlier_demo(folder):
    (folder / "demo").mkdir()
    (folder / "demo" / "dark-field.png").write_bytes(b"precious")
    return ["demo", "-o", "demo"]


def empty_folder(folder):
    (folder / "empty").mkdir()
    return ["init", "empty"]


OPTIONS = [
    "retrieve", "--reference", "ref_*.tif", "--sample", "sample_*.tif", "--energy-kev", "17",
    "--pixel-size", "5.8e-6", "--sample-to-detector", "1", "--method", "mist", "-o", "result.h5",
]  # fmt: skip

# name: (what prepares the folder and gives the arguments, what the message must say)
CASES = {
    # Frames.
    "missing file": (scan(input={"reference": "ref_9.tif"}), r"input.reference: ref_9.tif does not exist"),
    "folder instead of a file": (
        scan(input={"reference": "."}),
        r'input.reference: .* is a folder; give the files in it, e.g. ".*\*.tif"',
    ),
    "empty pattern": (
        scan(input={"sample": "smaple_*.tif"}),
        r"input.sample: the pattern 'smaple_\*.tif' matches no file in .*it holds config.toml, ref_1.tif",
    ),
    "folder of a pattern is missing": (
        scan(input={"sample": "raw/sample_*.tif"}),
        r"the folder raw of the pattern .* does not exist",
    ),
    "empty name": (
        scan(input={"sample": " "}),
        r"input.sample is ' '; expected the sample: a file, a pattern",
    ),
    "truncated TIFF": (truncated_tiff, r"ref_2.tif .*(truncated|damaged)"),
    "text called TIFF": (with_file("ref_2.tif", b"not a picture at all"), r"ref_2.tif is not TIFF"),
    "EDF with a short payload": (
        short_edf,
        r"input.sample: sample_2.edf.* is truncated: expected 1920 bytes of pixels, found 1820",
    ),
    "HDF5 without the dataset": (
        lambda folder: hdf5(folder, reference="scan.h5::/entry/ref/data"),
        r"input.reference: scan.h5.*/entry/ref/data.*/entry/reference/data",
    ),
    "HDF5 in which several datasets can be meant": (
        lambda folder: hdf5(folder, reference="scan.h5"),
        r"input.reference: scan.h5 .*/entry/reference/data.*/entry/sample/data",
    ),
    "truncated HDF5": (truncated_hdf5, r"scan.h5.* (truncated|damaged)"),
    "empty file": (empty_file, r"ref_3.tif is empty; copy or record it again"),
    "mixed shapes": (
        with_file("ref_2.tif", np.ones((20, 25), np.float32)),
        r"ref_2.tif \(20 × 25 pixels\) differs in shape; expected 20 × 24 pixels, as ref_1.tif has",
    ),
    "mixed types": (
        with_file("ref_2.tif", np.ones(SHAPE, np.uint16)),
        r"ref_2.tif \(uint16\) differs in type",
    ),
    "one frame too many": (
        with_file("sample_4.tif", np.ones(SHAPE, np.float32)),
        r"input.reference has 3 frames and input.sample 4; expected equal numbers: the last of "
        r"input.sample is sample_4.tif",
    ),
    "positions that contradict the pairing": (
        other_positions,
        r"not taken at the same positions .* reference_2.edf \(mask_x = 2\).* sample_2.edf \(mask_x = 7\)",
    ),
    "energies that contradict each other": (
        other_energy,
        r"energy_kev is 12.39.* keV by .* 16.98.* keV by .*; expected the same set-up",
    ),
    "position key that no header has": (
        no_such_position,
        r"position_key 'mask_z' is not in the header of reference_1.edf.*did you mean 'mask_x'",
    ),
    "colour": (
        with_file("rgb.npy", np.ones((20, 24, 3)), input={"sample": "rgb.npy"}),
        r"input.sample: rgb.npy has shape \(20, 24, 3\), which looks like colour",
    ),
    "complex numbers": (
        with_file("c.npy", np.ones((3, 20, 24), complex), input={"sample": "c.npy"}),
        r"c.npy holds complex128; expected integers or floats",
    ),
    "a mask": (
        with_file("m.npy", np.ones((3, 20, 24), bool), input={"sample": "m.npy"}),
        r"m.npy holds bool; expected integers or floats \(it looks like a mask\)",
    ),
    "objects, which hide code": (
        with_file("o.npy", np.array([{}, {}], dtype=object), input={"sample": "o.npy"}),
        r"o.npy holds .*objects.* never read",
    ),
    "JPEG": (
        with_file("ref.jpg", b"\xff\xd8\xff\xe0", input={"reference": "ref.jpg"}),
        r"ref.jpg ends in '.jpg'; expected .*JPEG alters intensities",
    ),
    "one exposure for a method of two": (
        scan(input={"reference": "ref_1.tif", "sample": "sample_1.tif"}),
        r"input.reference has 1 position of the diffuser; mist needs at least 2",
    ),
    "repeats that do not divide the frames": (
        scan(input={"repeats": 2}),
        r"input.reference: 3 frames are not a multiple of repeats = 2",
    ),
    "one file as reference and sample": (
        scan(input={"sample": "ref_*.tif"}),
        r"ref_1.tif, .* is in input.reference and in input.sample; expected different frames",
    ),
    "dark of another size": (
        with_file("dark.npy", np.zeros((20, 30)), input={"dark": "dark.npy"}, preprocess=[{"step": "dark"}]),
        r"input.dark has frames of 20 × 30 pixels; expected 20 × 24",
    ),
    "NaN everywhere": (
        every_frame("ref", np.nan),
        r"reference has no finite positive pixel; expected intensities above 0 .*input.reference: ref_1.tif",
    ),
    "zero reference": (every_frame("ref", 0.0), r"reference has no finite positive pixel"),
    "NaN sample": (
        every_frame("sample", np.nan),
        r"sample has no finite pixel; .*input.sample: sample_1.tif",
    ),
    "the same reference three times": (
        same_frames_twice,
        r"proportional to each other at every pixel; expected different positions of the diffuser",
    ),
    # The scan file.
    "no scan file": (given("retrieve", "config.toml"), r"config.toml does not exist; .*xmist init FOLDER"),
    "folder as scan file": (
        given("retrieve", "."),
        r"\. is a folder; expected a configuration file \(xmist init",
    ),
    "not TOML": (
        text("reference: ref_*.tif\n"),
        r"config.toml is not TOML .*line 1.*; expected lines such as",
    ),
    "not UTF-8": (not_utf8, r"config.toml is not text in UTF-8"),
    "empty scan file": (text(""), r"input.reference is missing.*\n.*input.sample is missing"),
    "unknown section": (
        lambda folder: text("[inputs]\n")(folder),
        r"inputs is not a table of a configuration; did you mean 'input'",
    ),
    "key without its table": (
        text('method = "mist"\nsmoothing = 2.0\n'),
        r"method belongs in the table \[retrieve\]\n.*smoothing belongs in the table \[options\]",
    ),
    "key in another table": (
        scan(experiment={"sample": "sample_*.tif"}),
        r"experiment.sample belongs in the table \[input\]",
    ),
    "distance by another name": (
        scan(experiment={"propagation_distance": 1.0}),
        r"experiment.propagation_distance is not known to .*; did you mean 'sample_to_detector'\?",
    ),
    "energy by another name": (
        scan(experiment={"Energy": 17.0}),
        r"experiment.Energy is not known to .*; did you mean 'energy_kev'\?",
    ),
    "section that is no table": (
        text("experiment = 17\n"),
        r"experiment is 17; expected a table .experiment.",
    ),
    "misspelt key": (
        scan(experiment={"pixelsize": 5.8e-6}),
        r"experiment.pixelsize is not known to .*; did you mean 'pixel_size'",
    ),
    "text as a number": (
        scan(experiment={"energy_kev": "17 keV"}),
        r"experiment.energy_kev is '17 keV'; expected a number in keV",
    ),
    "energy in eV": (
        scan(experiment={"energy_kev": 17000}),
        r"experiment.energy_kev is 17000 keV; expected 0.1 to 1000 keV: .*17 keV is 17.0",
    ),
    "pixel in micrometres": (
        scan(experiment={"pixel_size": 5.8}),
        r"experiment.pixel_size is 5.8 m; .*5.8 µm is 5.8e-6",
    ),
    "negative distance": (
        scan(experiment={"sample_to_detector": -1.0}),
        r"experiment.sample_to_detector is -1 m; expected 1e-06 to 1000 m",
    ),
    "NaN as a distance": (scan(experiment={"source_to_sample": float("nan")}), r"source_to_sample is nan m"),
    "missing geometry": (
        scan(experiment={"pixel_size": None}),
        r"experiment.pixel_size is missing; .*needs the detector's pixel in metres",
    ),
    "no repeats": (
        scan(input={"repeats": 0}),
        r"input.repeats is 0; expected the number of frames .* a whole number from 1",
    ),
    "true as a number": (scan(input={"repeats": True}), r"input.repeats is True; expected"),
    "unknown method": (
        scan(retrieve={"method": "misst"}),
        r"retrieve.method is 'misst'; did you mean 'mist'",
    ),
    "no threads": (
        scan(retrieve={"threads": 0}),
        r"retrieve.threads is 0; expected .* a whole number from 1",
    ),
    "unknown option": (
        scan(options={"smoothin": 2.0}),
        r"options.smoothin is not known to mist; did you mean 'smoothing'",
    ),
    "option out of range": (
        scan(options={"smoothing": -1.0}),
        r"options.smoothing is -1.0; expected a number from 0 to 1000 pixels",
    ),
    "option as text": (scan(options={"ridge": "small"}), r"options.ridge is 'small'; expected a number"),
    "unknown step": (
        scan(preprocess=[{"step": "badpixels"}]),
        r"preprocess\[1\].step is 'badpixels'; did you mean 'bad-pixels'",
    ),
    "unknown option of a step": (
        scan(preprocess=[{"step": "bad-pixels", "siz": 5}]),
        r"preprocess\[1\].siz is not known to the step 'bad-pixels'; did you mean 'size'",
    ),
    "step without a name": (scan(preprocess=[{"size": 5}]), r"preprocess\[1\].step is missing"),
    "crop outside the frames": (
        scan(preprocess=[{"step": "crop", "rows": [5, 30]}]),
        r"preprocess\[1\].rows is \[5, 30\]; expected numbers from 0 to 20",
    ),
    "crop that leaves too little": (
        scan(preprocess=[{"step": "crop", "rows": [5, 9]}]),
        r"preprocess\[1\] \(crop\) leaves 4 × 24 pixels; expected at least 7 × 7",
    ),
    "dark step without dark frames": (
        scan(preprocess=[{"step": "dark"}]),
        r"input.dark is missing; the step 'dark' needs these frames",
    ),
    "flat frames without a flat step": (
        with_file("flat.npy", np.ones(SHAPE), input={"flat": "flat.npy"}),
        r'input.flat is given, but no step of the preprocessing uses it; add .* = "flat" \(or --step flat\)',
    ),
    "misspelt step that uses the dark frames": (
        with_file("dark.npy", np.ones(SHAPE), input={"dark": "dark.npy"}, preprocess=[{"step": "drak"}]),
        r"^Error: config.toml: preprocess\[1\].step is 'drak'; did you mean 'dark'",
    ),
    "frames in the place of the scan file": (
        given("retrieve", "ref_1.tif"),
        r"^Error: ref_1.tif is no configuration file; expected one \(.toml\), or frames after --reference",
    ),
    "option that cannot be, beside a scan file": (
        lambda folder: [*scan()(folder), "--energy-kev", "17 keV"],
        r"^Error: --energy-kev is '17 keV'; expected a number in keV",
    ),
    "step that cannot be, beside a scan file": (
        lambda folder: [*scan()(folder), "--step", "crop: rows=[9, 2]"],
        r"^Error: --step crop: rows is \[9, 2\]; expected \[start, stop\]",
    ),
    "file beside a scan file, as it was typed": (
        lambda folder: [*scan()(folder), "--sample", "none.tif"],
        r"^Error: --sample: none.tif does not exist",
    ),
    "empty name beside a scan file": (
        lambda folder: [*scan()(folder), "-o", ""],
        r"^Error: --output is \[''\]; expected the files to write",
    ),
    "method in capitals": (scan(retrieve={"method": "MIST"}), r"is 'MIST'; did you mean 'mist'\?"),
    "home that quotes keep from the shell": (
        lambda folder: [*scan()(folder), "--sample", "~/no such folder/*.tif"],
        rf"^Error: --sample: the folder {re.escape(str(Path.home()))}.*no such folder of the pattern",
    ),
    # Output.
    "output that exists": (
        existing("result.h5"),
        r"result.h5 exists already; allow overwriting \(--overwrite\) or give",
    ),
    "output that is read the next time": (
        scan(output={"files": ["sample_result.tif"]}),
        r"sample_result_phase.tif would be read as a frame the next time, .*input.sample = 'sample_\*.tif'",
    ),
    "one image of the output exists": (existing("result_phase.tif"), r"result_phase.tif exists already"),
    "picture of the output exists": (existing("result.png"), r"result.png exists already"),
    "output that leaves the folder": (
        scan(output={"files": ["../result.h5"]}),
        r"output.files leads to ../result.h5, outside the folder of the configuration; expected a name",
    ),
    "absolute output": (scan(output={"files": ["/tmp/result.h5"]}), r"output.files leads to /tmp/result.h5"),
    "unknown ending": (scan(output={"files": ["result.jpg"]}), r"output.files: result.jpg ends in '.jpg'"),
    "no output": (scan(output={"files": []}), r"output.files is \[\]; expected the files to write"),
    "output twice": (scan(output={"files": ["a.h5", "a.h5"]}), r"output.files names a.h5 more than once"),
    "output in a missing folder": (
        scan(output={"files": ["out/result.h5"]}),
        r"the folder out of result.h5 does not exist; create it first",
    ),
    "folder in the way of the output": (
        folder_as_output,
        r"result.h5 is a folder; expected the name of a file",
    ),
    "output over the frames": (result_over_frames, r"scan.h5 would replace a file that is read"),
    "output over the scan file": (result_over_scan, r"scan.png would replace a file that is read"),
    "overwrite as text": (
        scan(output={"overwrite": "yes"}),
        r"output.overwrite is 'yes'; expected true or false",
    ),
    "name that no file system takes": (
        scan(output={"files": ["x" * 300 + ".h5"]}),
        r"x.h5 cannot be written \(File name too long\)",
    ),
    # The command line.
    "unknown command": (
        given("retreive", "config.toml"),
        r"'retreive'\.( Did you mean 'retrieve'\?)? See: xmist",
    ),
    "unknown argument": (given("retrieve", "--smoothing", "2"), r"No such option.* '?--smoothing"),
    "argument without its value": (given("retrieve", "--method"), r"'--method' requires an argument"),
    "pattern without quotes": (
        given("retrieve", "--reference", "ref_1.tif", "ref_2.tif", "ref_3.tif"),
        r"unexpected arguments ref_2.tif, ref_3.tif; .*A pattern needs quotes, --reference 'ref_\*.tif'",
    ),
    "option without a value": (
        given(*OPTIONS, "--option", "smoothing"),
        r"--option 'smoothing' cannot be read",
    ),
    "option twice": (
        given(*OPTIONS, "--option", "ridge=1", "--option", "ridge=2"),
        r"--option ridge is given twice",
    ),
    "unknown option on the command line": (
        given(*OPTIONS, "--option", "smothing=2"),
        r"--option smothing is not known to mist; did you mean 'smoothing'",
    ),
    "text as a number on the command line": (
        given(*OPTIONS, "--energy-kev", "17keV"),
        r"--energy-kev is '17keV'; expected a number in keV",
    ),
    "half an exposure": (given(*OPTIONS, "--repeats", "1.5"), r"--repeats is '1.5'; expected"),
    "step that cannot be read": (
        given(*OPTIONS, "--step", "crop: rows"),
        r"--step 'crop: rows' cannot be read",
    ),
    "unknown step on the command line": (
        given(*OPTIONS, "--step", "crop", "--step", "badpixels"),
        r"--step is 'badpixels'; did you mean 'bad-pixels'",
    ),
    "unknown option of a step on the command line": (
        given(*OPTIONS, "--step", "bin: sise=2"),
        r"--step bin: sise is not known to the step 'bin'; did you mean 'size'",
    ),
    "options without an output": (given(*OPTIONS[:-2]), r"--output is missing; .*needs the files to write"),
    "no arguments at all": (given("retrieve"), r"--reference is missing"),
    "info of a missing file": (given("info", "none.h5"), r"none.h5 does not exist"),
    "info of a folder": (given("info", "."), r"is a folder; give the files in it"),
    "info of a text": (with_file("n.txt", b"hello"), None),
    "unknown method to explain": (given("methods", "umpaa"), r"unknown method 'umpaa'; .*Known: "),
    "init of a missing folder": (
        given("init", "nowhere"),
        r"nowhere does not exist; expected a folder of frames",
    ),
    "init of an empty folder": (empty_folder, r"empty holds no frames; expected files that end in .tif"),
    "init over a scan file": (existing_scan_file, r"config.toml exists already; allow overwriting"),
    "init with another ending": (
        given("init", ".", "-o", "scan.yaml"),
        r"scan.yaml: a configuration is TOML",
    ),
    "demo over an earlier one": (earlier_demo, r"demo/dark-field.png exists already; allow overwriting"),
    "demo into no folder": (given("demo", "-o", ""), r"-o is empty; expected a folder"),
}
CASES["info of a text"] = (
    lambda folder: with_file("n.txt", b"hello")(folder) and ["info", "n.txt"],
    r"n.txt ends in '.txt'",
)
SLOW = ["missing file", "misspelt key", "unknown argument", "output that exists"]


@pytest.fixture(scope="module")
def frames_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("frames")
    write_frames(folder)
    return folder


@pytest.fixture
def folder(tmp_path, frames_folder, monkeypatch):
    inside = tmp_path / "inside"
    shutil.copytree(frames_folder, inside)
    monkeypatch.chdir(inside)
    return inside


def _check(done, message):
    assert done.code == 2, done.err
    assert re.search(message, done.err, re.DOTALL), done.err
    assert done.err.startswith("Error: ")
    assert done.err.count("Error: ") == 1
    assert "Traceback" not in done.err
    assert done.out == ""


@pytest.mark.parametrize("name", CASES)
def test_bad_input(name, folder, capsys):
    prepare, message = CASES[name]
    arguments = prepare(folder)
    before = snapshot(folder.parent)
    done = call(capsys, *arguments)
    _check(done, message)
    assert snapshot(folder.parent) == before


def test_there_are_enough_causes():
    assert len(CASES) >= 40


@pytest.mark.parametrize("name", SLOW)
def test_bad_input_in_a_process_of_its_own(name, folder):
    prepare, message = CASES[name]
    arguments = prepare(folder)
    before = snapshot(folder.parent)
    done = subprocess.run([sys.executable, "-m", "xmist", *arguments], capture_output=True, text=True)
    assert done.returncode == 2
    assert re.search(message, done.stderr, re.DOTALL)
    assert done.stdout == ""
    assert snapshot(folder.parent) == before


@pytest.mark.parametrize(
    "name", ["misspelt key", "one frame too many", "output that exists", "crop outside the frames"]
)
def test_check_tells_the_same(name, folder, capsys):
    prepare, message = CASES[name]
    prepare(folder)
    before = snapshot(folder.parent)
    done = call(capsys, "check", "config.toml")
    assert done.code == 2
    assert re.search(message, done.err)
    assert snapshot(folder.parent) == before


def test_all_errors_are_told_at_once(folder, capsys):
    write_config(
        folder,
        input={"sample": "none_*.tif", "exposure": 1},
        experiment={"energy_kev": 17000, "pixel_size": None},
        retrieve={"method": "mst"},
        preprocess=[{"step": "unlight"}],
        output={"files": ["../a.h5", "b.doc"]},
    )
    done = call(capsys, *RETRIEVE)
    assert done.code == 2
    assert done.err.startswith("Error: 8 errors\n- config.toml: ")
    assert done.err.count("\n- config.toml: ") == 8


# What the disk does, injected where root would be let through.


def _failing(number, when=lambda *_: True):
    def fail(*arguments, **_):
        if when(*arguments):
            raise OSError(number, os.strerror(number))

    return fail


def test_rights_that_do_not_suffice(folder, capsys, monkeypatch):
    write_config(folder)
    before = snapshot(folder)
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    _check(call(capsys, *RETRIEVE), r"no permission to write in the folder .*; choose another for result.h5")
    assert snapshot(folder) == before


def test_a_disk_that_is_full(folder, capsys, monkeypatch):
    write_config(folder)
    before = snapshot(folder)
    monkeypatch.setattr(os, "fsync", _failing(errno.ENOSPC))
    done = call(capsys, *RETRIEVE)
    assert done.code == 1
    assert "no space left on the disk" in done.err
    assert snapshot(folder) == before


def test_a_disk_without_room_for_the_result(folder, capsys, monkeypatch):
    write_config(folder)
    usage = shutil.disk_usage(folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=5000))
    # Phase, dark-field and two angles of 4 bytes and 2 bytes of flags for 480 pixels.
    _check(call(capsys, *RETRIEVE), r"no space on the disk .* need up to [0-9.]+ kB, and 5 kB are free")


@posix
def test_a_limit_on_the_size_of_files(folder):
    write_config(folder)
    before = snapshot(folder)
    code = (
        "import resource, sys; from xmist.cli import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000)); sys.exit(main(['retrieve', 'config.toml']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert re.search(
        r"limits a file to 5 kB and a result needs up to [0-9.]+ kB; raise the limit", done.stderr
    )
    assert snapshot(folder) == before


@pytest.mark.parametrize("old", [False, True])
def test_a_disk_that_fills_up_while_writing_is_a_failure(folder, capsys, monkeypatch, old):
    if old:
        (folder / "result.h5").write_bytes(b"precious")
    write_config(folder, output={"overwrite": True})
    before = snapshot(folder)
    opened = type(folder).open

    def fill(path, mode="r", *more, **named):
        if "x" in mode:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return opened(path, mode, *more, **named)

    monkeypatch.setattr(type(folder), "open", fill)
    done = call(capsys, *RETRIEVE)
    monkeypatch.undo()
    assert done.code == 1
    assert re.match(r"Error: result.h5: no space left on the disk .*; nothing was written", done.err)
    assert ("the existing file is unchanged" in done.err) == old
    assert snapshot(folder) == before


def test_a_failure_after_the_first_file_says_what_was_written(folder, capsys, monkeypatch):
    write_config(folder, output={"files": ["result.h5", "result.png"]})
    monkeypatch.setattr("xmist.view.figures.figure", _failing(errno.EIO))
    done = call(capsys, *RETRIEVE)
    assert done.code == 1
    assert done.err.startswith("Error: ")
