"""Configurations: what they state, what is wrong with it, and what is proposed for a folder."""

import re
import tomllib

import fabio
import h5py
import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given
from hypothesis import strategies as st

import xmist
from tests.cli.scenes import GEOMETRY, sections, write_config
from tests.coded import coded
from xmist.core.errors import InputError
from xmist.preprocess import STEPS
from xmist.workflow.configuration import (
    Configuration,
    ParsedConfiguration,
    parse_configuration,
    parse_mapping,
    read_configuration,
)
from xmist.workflow.proposal import propose_configuration, toml_text
from xmist.workflow.schema import check_sections


def parsed(**changes):
    return parse_mapping(sections(**changes), folder="somewhere", source="")


def test_a_configuration_is_read(tmp_path):
    path = write_config(
        tmp_path,
        input={"sample": ["a.tif", "b.tif"], "repeats": 2, "position_key": "mask_x"},
        preprocess=[{"step": "bad-pixels", "size": 7}, {"step": "crop", "rows": [5, 20]}],
        retrieve={"threads": 3},
        output={"files": ["a.h5", "b.png"], "overwrite": True},
    )
    scan = read_configuration(path)
    assert isinstance(scan, Configuration)
    assert scan.experiment == xmist.Experiment(**GEOMETRY)
    assert scan.input.reference == ("ref_*.tif",)
    assert scan.input.sample == ("a.tif", "b.tif")
    assert scan.input.repeats == 2
    assert scan.input.position_key == ("mask_x",)
    assert scan.preprocess == (("bad-pixels", {"size": 7}), ("crop", {"rows": (5, 20)}))
    assert (scan.method, scan.options, scan.threads) == ("mist", {"smoothing": 1.0}, 3)
    assert scan.files == (tmp_path / "a.h5", tmp_path / "b.png")
    assert scan.overwrite


def test_what_is_left_out_is_no_physical_value():
    scan = parsed(experiment={"source_to_sample": None}, options={"smoothing": None}).finish()
    assert scan.experiment.source_to_sample is None
    assert scan.options == {}
    assert (scan.input.repeats, scan.threads, scan.overwrite) == (1, None, False)
    assert parsed(experiment={"energy_kev": None}).experiment is None


def test_a_mark_of_windows_editors_is_no_error(tmp_path):
    path = write_config(tmp_path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_configuration(path).method == "mist"


def test_a_large_file_is_not_read(tmp_path):
    path = tmp_path / "config.toml"
    path.write_bytes(b"#" * 2_000_000)
    with pytest.raises(InputError, check=coded("configuration-unreadable", names=["1 MiB"])):
        read_configuration(path)


def test_deep_nesting_is_no_crash(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text("a = " + "[" * 100_000)
    with pytest.raises(InputError, check=coded("configuration-unreadable")):
        read_configuration(path)


def test_errors_name_the_file_and_the_key(tmp_path):
    path = write_config(tmp_path, experiment={"energy_kev": 17000}, output={"file": "a.h5"})
    with pytest.raises(InputError) as caught:
        read_configuration(path)
    assert all(fault.startswith(f"{path}: ") for fault in caught.value.messages)
    assert [fault.split(": ", 1)[1].split(" ")[0] for fault in caught.value.messages] == [
        "output.file",
        "experiment.energy_kev",
    ]


def test_an_error_hides_no_other():
    found = parsed(
        input={"repeats": -1, "refernce": "x"},
        experiment={"energy_kev": "17", "pixel_size": -1.0, "sample_to_detector": None},
        preprocess=[{"step": "bni"}, {"step": "bin", "size": 0, "sise": 2}, 3],
        retrieve={"method": "mist", "threads": "all"},
        options={"smoothing": "much", "rigde": 1.0, "positive": 1},
        output={"files": ["a.h5", "b.jpg", "../c.h5"], "overwrite": 1},
    )
    paths = {path for path, *_ in found.problems}
    assert paths == {
        "input.repeats", "input.refernce", "experiment.energy_kev", "experiment.pixel_size",
        "experiment.sample_to_detector", "preprocess[1].step", "preprocess[2].size", "preprocess[2].sise",
        "preprocess[3]", "retrieve.threads", "options.smoothing", "options.rigde", "options.positive",
        "output.files", "output.overwrite",
    }  # fmt: skip
    assert len(found.messages) == len(paths) + 1  # two of the files
    assert found.input.reference == ("ref_*.tif",)  # the rest is there to be looked at
    assert found.method == "mist"
    assert [path.name for path in found.files] == ["a.h5"]


def test_names_of_another_place_are_used():
    called = {"experiment.energy_kev": "--energy-kev"}
    found = parse_mapping(sections(experiment={"energy_kev": None}), folder="", source="", called=called)
    (message,) = found.messages
    assert message.startswith("--energy-kev is missing;")
    assert found.errors({"experiment.energy_kev": "the header offers 17 keV"})[0].message.endswith(
        "(17 keV is 17.0); the header offers 17 keV"
    )


def test_changes_take_the_place_of_keys(tmp_path):
    path = write_config(tmp_path, preprocess=[{"step": "unlit"}])
    found = parse_configuration(
        path,
        {"options": {"ridge": 0.1}, "preprocess": [{"step": "flux"}], "output": {"files": ["/x/y.h5"]}},
    )
    assert found.options == {"smoothing": 1.0, "ridge": 0.1}
    assert found.preprocess == (("flux", {}),)
    assert [str(file) for file in found.files] == ["/x/y.h5"]  # whoever types a name means it


@pytest.mark.parametrize(
    ("steps", "frames", "fault"),
    [
        (["flat", "dark"], {"dark": "d.tif", "flat": "f.tif"}, "preprocess has flat before dark"),
        (["dark", "dark"], {"dark": "d.tif"}, "preprocess has the step 'dark' more than once"),
        (["dark"], {}, "input.dark is missing; the step 'dark' needs these frames"),
        ([], {"flat": "f.tif"}, "input.flat is given, but no step of the preprocessing uses it"),
    ],
)
def test_steps_have_the_frames_that_they_need(steps, frames, fault):
    found = parsed(input=frames, preprocess=[{"step": step} for step in steps])
    assert [text for text in found.messages if text.startswith(fault)]


def test_every_step_is_known_to_the_configuration():
    extra = {"dark": "d.tif", "flat": "f.tif"}
    steps = [{"step": step} | ({"rows": [0, 20]} if step == "crop" else {}) for step in STEPS]
    assert parsed(input=extra, preprocess=steps).messages == ()


scalars = st.one_of(
    st.booleans(), st.integers(-(2**62), 2**62), st.floats(allow_nan=False), st.text(max_size=20)
)


@given(st.one_of(scalars, st.lists(st.integers(), max_size=4), st.lists(st.text(max_size=9), max_size=4)))
def test_what_is_written_as_toml_is_read_back(value):
    text = toml_text(value)
    try:
        text.encode()
    except UnicodeEncodeError:
        return  # half a surrogate is no text
    assert tomllib.loads(f"a = {text}")["a"] == value


anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
)
keys = st.sampled_from(
    ["reference", "sample", "energy_kev", "method", "threads", "files", "overwrite", "step"]
)
tables = st.dictionaries(st.one_of(keys, st.text(max_size=8)), anything, max_size=4)
names = st.sampled_from(["input", "experiment", "preprocess", "retrieve", "options", "output", "other"])


@given(st.dictionaries(names, st.one_of(anything, tables, st.lists(tables, max_size=2)), max_size=5))
def test_whatever_stands_in_a_file_gives_errors_and_no_crash(data):
    found = parse_mapping(data, folder="somewhere", source="")
    assert isinstance(found, ParsedConfiguration)
    assert all(isinstance(fault, str) and fault for fault in found.messages)
    assert found.messages  # no file of these is complete
    check_sections(data)


# Proposals.


def test_nothing_to_propose(tmp_path):
    with pytest.raises(InputError, check=coded("file-missing")):
        propose_configuration(tmp_path / "none")
    (tmp_path / "notes.txt").write_text("ref")
    with pytest.raises(InputError, check=coded("file-missing")):
        propose_configuration(tmp_path / "notes.txt")
    with pytest.raises(InputError, check=coded("file-missing")):
        propose_configuration(tmp_path)


def _save(folder, *names, count=None):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shape = (16, 20) if count is None else (count, 16, 20)
        np.save(folder / name, np.ones(shape, np.float32))


def _input(folder, **options):
    return tomllib.loads(propose_configuration(folder, **options))["input"]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            ["ref_1.npy", "ref_2.npy", "ref_10.npy", "sample_1.npy", "sample_2.npy"],
            {"reference": "ref_*.npy", "sample": "sample_*.npy"},
        ),
        (
            ["Speckle/0001.npy", "Speckle/0002.npy", "Proj/0001.npy", "Proj/0002.npy", "Dark/0001.npy"],
            {"reference": "Speckle/*.npy", "sample": "Proj/*.npy", "dark": "Dark/0001.npy"},
        ),
        (
            [
                "berry_no_sample_1.npy",
                "berry_no_sample_2.npy",
                "berry_with_sample_1.npy",
                "berry_with_sample_2.npy",
            ],
            {"reference": "berry_no_sample_*.npy", "sample": "berry_with_sample_*.npy"},
        ),
        # Without any other reference, the flats are it.
        (["flat_1.npy", "img_1.npy"], {"reference": "flat_1.npy", "sample": "img_1.npy"}),
        (
            ["flat_1.npy", "ref_1.npy", "img_1.npy"],
            {"reference": "ref_1.npy", "sample": "img_1.npy", "flat": "flat_1.npy"},
        ),
        # No pattern finds the references alone.
        (
            ["a_ref_1.npy", "a_ref_2.npy", "a_ref_dark_3.npy", "sample.npy"],
            {"reference": ["a_ref_1.npy", "a_ref_2.npy"], "sample": "sample.npy", "dark": "a_ref_dark_3.npy"},
        ),
        (
            ["ref[1].npy", "ref[2].npy", "sample[1].npy"],
            {"reference": "ref[[]*].npy", "sample": "sample[[]1].npy"},
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_roles_are_guessed_from_names(tmp_path, files, expected):
    _save(tmp_path, *files)
    found = _input(tmp_path)
    assert {name: found[name] for name in found if name != "repeats"} == expected
    # What is proposed is what the frames' reader understands.
    for name, spec in expected.items():
        assert "Cannot be used" not in propose_configuration(tmp_path), name
        xmist.io.frames.frames.open_frames(spec, name="input", folder=tmp_path)


def test_names_without_a_part_are_told_and_not_used(tmp_path):
    _save(tmp_path, "a_1.npy", "a_2.npy", "sample_1.npy")
    text = propose_configuration(tmp_path)
    assert "# Not used, for their names do not tell their part: a_*.npy" in text
    assert "# FILL IN: the reference: a file, a pattern" in text
    assert "\n# reference =\n" in text


def test_hidden_files_results_and_deep_folders_are_left_out(tmp_path):
    _save(tmp_path, "ref_1.npy", "sample_1.npy", ".ref_2.npy", ".trash/ref_3.npy", "a/b/c/d/ref_4.npy")
    flags = np.zeros((16, 20), np.uint16)
    result = xmist.Retrieval(
        method="mist", experiment=xmist.Experiment(**GEOMETRY), flags=flags, phase=np.zeros((16, 20))
    )
    result.save(tmp_path / "sample_result.h5")
    assert _input(tmp_path) == {"reference": "ref_1.npy", "sample": "sample_1.npy", "repeats": 1}


def test_datasets_of_one_file(tmp_path):
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        for name in ("reference", "sample"):
            file[f"entry/{name}/data"] = np.ones((4, 16, 20), np.uint16)
        file["entry/temperature"] = np.ones(4)
        file["lost"] = h5py.SoftLink("/nowhere")
        detector = file["entry"].create_group("detector")
        detector.attrs["NX_class"] = "NXdetector"
        detector["x_pixel_size"] = 5.8
        detector["x_pixel_size"].attrs["units"] = "um"
    text = propose_configuration(tmp_path)
    data = tomllib.loads(text)
    assert data["input"]["reference"] == "scan.h5::/entry/reference/data"
    assert data["experiment"] == {"pixel_size": 5.8e-6}
    assert "x_pixel_size = 5.8 um" in " ".join(text.replace("#", "").split())  # where it comes from
    assert "# 4 frames of 16 × 20 pixels" in text


def test_a_magnified_pixel_is_asked_for(tmp_path):
    header = {"PSize_1": "3.0e-05", "SampleDistance": "0.8", "Magnification": "2.5", "Wavelength": "1.54e-10"}
    for name in ("mask_a_reference", "mask_b_reference", "mask_a_sample", "mask_b_sample"):
        image = fabio.edfimage.EdfImage(np.ones((16, 20), np.float32), header=dict(header))
        image.write(str(tmp_path / f"{name}.edf"))
    text = propose_configuration(tmp_path)
    data = tomllib.loads(text)
    assert data["input"]["reference"] == "mask_*_reference.edf"
    assert "pixel_size" not in data["experiment"]
    assert "\n# pixel_size = 7.5e-05\n" in text
    assert "\n# pixel_size = 3e-05\n" in text
    assert "# FILL IN: take one of these for pixel_size" in text
    assert data["experiment"]["sample_to_detector"] == 0.8
    assert data["experiment"]["source_to_sample"] == pytest.approx(0.8 / 1.5)
    assert text.count("# FILL IN") == 1


def test_frames_that_cannot_be_used_are_told(tmp_path):
    _save(tmp_path, "ref_1.npy", "sample_1.npy")
    (tmp_path / "ref_2.npy").write_bytes(b"no numbers")
    text = " ".join(propose_configuration(tmp_path).replace("#", "").split())
    assert "Cannot be used as it is: input.reference:" in text
    assert "ref_2.npy is not npy" in text


def test_a_configuration_in_another_folder(tmp_path):
    _save(tmp_path / "raw", "ref_1.npy", "sample_1.npy")
    (tmp_path / "done").mkdir()
    found = _input(tmp_path / "raw", base=tmp_path / "done")
    assert found["reference"] == "../raw/ref_1.npy"


def test_no_physical_value_is_made_up(tmp_path):
    _save(tmp_path, "ref.npy", "sample.npy", count=2)
    data = tomllib.loads(propose_configuration(tmp_path))
    assert data["experiment"] == {}
    assert data["options"] == {}
    faults = parse_mapping(data, folder=tmp_path, source="").problems
    assert {problem.path for problem in faults} == {
        f"experiment.{name}" for name in ("energy_kev", "pixel_size", "sample_to_detector")
    }


def test_a_material_stands_for_its_delta_over_beta():
    energy = GEOMETRY["energy_kev"]
    for table in ({"material": "polystyrene"}, {"material": "C8H8", "density": 1050.0}):
        found = parsed(
            retrieve={"method": "single-material"}, options={"smoothing": None, "delta_over_beta": table}
        )
        assert found.options == {"delta_over_beta": xmist.Material.of("polystyrene").delta_over_beta(energy)}
        other = parsed(options={"single-exposure": {"delta_over_beta": table}})
        assert other.options_of("single-exposure") == found.options


def test_options_of_methods():
    tables = {"smoothing": 1.0, "window": 5, "umpa": {"window": 7}, "mist": {"smoothing": 3.0}}
    found = parsed(options=tables)
    assert found.messages == ()
    assert found.options == {"smoothing": 3.0}
    assert [record.code for record in found.findings] == ["option-ignored"]  # window, of mist
    assert found.options_of("umpa") == {"window": 7}
    assert found.options_of("lcs") == {"smoothing": 1.0, "window": 5}
    assert found.options_of("mist-rapid") == {"smoothing": 1.0}
    # Whatever is not chosen is checked too, but may lack what it needs.
    wrong = parsed(options={"windw": 5, "umpa": {"window": -1}, "umpaa": {}, "single-exposure": {}})
    found = {(problem.path, problem.code) for problem in wrong.problems}
    assert found == {
        ("options.windw", "option-unknown"),
        ("options.umpaa", "option-unknown"),
        ("options.umpa.window", "option-invalid"),
    }


def test_an_override_comes_before_the_table_of_the_method(tmp_path):
    path = write_config(tmp_path, options={"smoothing": 1.0})
    with path.open("a") as file:
        file.write("[options.mist]\nsmoothing = 2.0\nridge = 0.1\n")
    assert parse_configuration(path).options == {"smoothing": 2.0, "ridge": 0.1}
    found = parse_configuration(path, {"options": {"smoothing": 3.0}})
    assert found.options == {"smoothing": 3.0, "ridge": 0.1}
    assert parse_configuration(path, {"retrieve": {"method": "lcs"}}).options == {"smoothing": 1.0}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            {"material": "C8H8"},
            r"options.delta_over_beta: material 'C8H8' is a formula without its density; give .*polystyrene",
        ),
        ({"material": "C8H8", "density": 1.05}, r"options.delta_over_beta: density is 1.05 kg/m³"),
        ({"material": "polystirene"}, r"neither a known name nor .*polystyrene \(C8H8, 1050 kg"),
        ({"material": "__import__('os')", "density": 1000.0}, r"is neither a known name nor a formula"),
        (
            {"density": 1000.0},
            r"options.delta_over_beta is {'density': 1000.0}; expected a number, or a table",
        ),
        (
            {"material": "water", "densty": 1.0},
            r"delta_over_beta.densty is not a known key; did you mean 'density'",
        ),
    ],
)
def test_a_material_with_an_error(table, message):
    found = parsed(
        retrieve={"method": "single-material"}, options={"smoothing": None, "delta_over_beta": table}
    )
    assert len(found.messages) == 1
    assert re.search(message, found.messages[0])


def test_init_proposes_drift_where_bare_beam_moved(tmp_path):
    random = np.random.default_rng(1)
    whole = scipy.ndimage.gaussian_filter(random.normal(size=(1, 128, 140)), (0, 1.7, 1.7))
    reference = 5000 * np.exp(0.25 * whole / whole.std())
    dim = np.ones((128, 140))
    dim[40:90, 40:90] = 0.7
    for name, shift in (("moved", 0.1), ("still", 0.0)):
        sample = dim * scipy.ndimage.shift(reference, (0, 0, shift), order=5, mode="nearest")
        folder = tmp_path / name
        folder.mkdir()
        for role, frames in (("ref", reference), ("sample", sample)):
            np.save(folder / f"{role}.npy", random.poisson(frames).astype(np.float32))
    steps = {
        name: [step["step"] for step in tomllib.loads(propose_configuration(tmp_path / name))["preprocess"]]
        for name in ("moved", "still")
    }
    assert steps["moved"] == [*steps["still"], "drift"]
    assert "drift" not in steps["still"]
