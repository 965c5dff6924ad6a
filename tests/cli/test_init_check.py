"""What init and check show of the frames, and what they take instead of asking for it."""

import json
import tomllib

import h5py
import numpy as np
import pytest
import tifffile

from tests.cli.scenes import GEOMETRY, call
from tests.workflow.nxtomo import DARK, FLAT, PROJECTION, write_nxtomo
from tests.workflow.series_scenes import frames, sections, write_config, write_toml
from xmist.workflow import guard
from xmist.workflow.configuration import parse_configuration
from xmist.workflow.proposal import describe_proposal

GIVEN = [f"--{name.replace('_', '-')}={value}" for name, value in GEOMETRY.items()]


@pytest.fixture(autouse=True)
def inline(monkeypatch):
    """Read HDF5 in this process: a child costs a second."""
    monkeypatch.setattr(guard, "call", lambda function, *arguments, **_: function(*arguments))


def keyed(folder, projections=3):
    reference, samples = frames(projections)
    for position, frame in enumerate(reference):
        parts = [(DARK, 0 * frame[None]), (FLAT, np.stack([frame] * 2)), (PROJECTION, samples[:, position])]
        write_nxtomo(folder / f"pos_{position}.nxs", parts, angles=30.0 * np.arange(projections), links=False)


def test_init_asks_for_nothing_that_was_given(tmp_path, capsys):
    keyed(tmp_path)
    done = call(capsys, "init", tmp_path, *GIVEN, "--method", "mist")
    assert done.code == 0, done.err
    assert "# FILL IN" not in (tmp_path / "config.toml").read_text()
    parsed = parse_configuration(tmp_path / "config.toml")
    assert not parsed.problems
    assert parsed.experiment.to_dict() == GEOMETRY
    assert parsed.method == "mist"
    told = done.out + done.err
    for expected in ("pos_2.nxs frame 1 to frame 2", "projection 2, position 1", "rotation_angle"):
        assert expected in told
    assert call(capsys, "retrieve", tmp_path / "config.toml").code == 0


@pytest.mark.parametrize(
    ("arguments", "point"),
    [(["--energy-kev", "17,5"], "17.5"), (["--pixel-size=-1e-6"], ""), (["--method", "misst"], "mist")],
)
def test_values_that_cannot_be(tmp_path, capsys, arguments, point):
    keyed(tmp_path)
    done = call(capsys, "init", tmp_path, *arguments)
    assert done.code == 2
    assert point in done.err
    assert not (tmp_path / "config.toml").exists()


def test_init_of_an_array_of_four_axes(tmp_path, capsys):
    reference, samples = frames(4)
    with h5py.File(tmp_path / "series.h5", "w") as file:
        file["entry/reference"] = reference
        file["entry/sample"] = samples.swapaxes(0, 1)
    assert call(capsys, "init", tmp_path, *GIVEN).code == 0
    assert parse_configuration(tmp_path / "config.toml").input.sample_axes == (
        "position",
        "projection",
        "y",
        "x",
    )
    done = call(capsys, "check", tmp_path / "config.toml", "--json", "--method=mist")
    assert done.code == 0, done.err
    assert json.loads(done.out)["projections"] == 4


FORMS = {
    "files": ("ref_{position}.tif", "sample_{projection}_{position}.tif"),
    "folders": ("pos_{position}/ref.tif", "pos_{position}/sample_{projection}.tif"),
    "repeats": ("ref_{position}_{repeat}.tif", "sample_{projection}_{position}.tif"),
    "stacks of a position": ("ref.npy", "sample_{position}.npy"),
    "stacks of a projection": ("ref.npy", "sample_{projection}.npy"),
}


@pytest.mark.parametrize("form", FORMS)
def test_init_tells_projections_and_positions_apart_by_names(tmp_path, capsys, form):
    projections = 12
    reference, samples = frames(projections)

    def save(name, array):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        (np.save if path.suffix == ".npy" else tifffile.imwrite)(path, array)

    names = FORMS[form]
    if names[0] == "ref.npy":
        save(names[0], reference)
    for position, frame in enumerate(reference):
        for repeat in range(2 if names[0] != "ref.npy" else 0):
            save(names[0].format(position=position, repeat=repeat), frame)
    for place in np.ndindex(samples.shape[:2]):
        numbers = dict(zip(("projection", "position"), place, strict=True))
        array = samples[place]
        if form == "stacks of a position":
            array = samples[:, place[1]]
        elif form == "stacks of a projection":
            array = samples[place[0]]
        save(names[1].format(**numbers), array)
    done = call(capsys, "init", tmp_path, *GIVEN, "--method", "mist")
    assert done.code == 0, done.err
    data = tomllib.loads((tmp_path / "config.toml").read_text())
    assert (data["input"]["reference"], data["input"]["sample"]) == names
    found = checked(capsys, tmp_path / "config.toml")
    assert (found["projections"], found["positions"]) == (projections, 3)
    assert found["examined"]["matches"] == [0, 1, 2]
    listed = {row["first"] for row in found["rows"]["reference"]}
    assert len(listed) == 3  # also of files of one name in several folders


def test_init_says_what_does_not_fit(tmp_path, capsys):
    reference, samples = frames(3)
    np.save(tmp_path / "reference.npy", reference)
    np.save(tmp_path / "sample.npy", samples.reshape(-1, *samples.shape[2:]))
    done = call(capsys, "init", tmp_path, *GIVEN)
    assert done.code == 0, done.err
    *_, errors = describe_proposal((tmp_path / "config.toml").read_text(), tmp_path)
    assert [error.code for error in errors] == ["frames-unequal-numbers"]
    assert str(errors[0]) in done.err


def test_init_leaves_repeats_alone(tmp_path, capsys):
    reference, samples = frames(3)
    for position, repeat in np.ndindex(3, 3):
        tifffile.imwrite(tmp_path / f"ref_{position}_{repeat}.tif", reference[position])
        tifffile.imwrite(tmp_path / f"sample_{position}_{repeat}.tif", samples[repeat, position])
    assert call(capsys, "init", tmp_path, *GIVEN).code == 0
    assert "series" not in tomllib.loads((tmp_path / "config.toml").read_text())


def checked(capsys, path, *more):
    """Return what check says, as data."""
    done = call(capsys, "check", path, "--json", *more)
    assert done.code == 0, done.err
    return json.loads(done.out)


def test_check_lists_frames_and_examines_one_projection(tmp_path, capsys):
    found = checked(capsys, write_config(tmp_path, 3))
    rows = {(row["projection"], row["position"]): row for row in found["rows"]["sample"]}
    assert rows[2, 1] == {"projection": 2, "position": 1, "repeats": 1, "first": "p_0002_1.tif"} | {
        "last": "p_0002_1.tif"
    }
    assert found["angle_source"] == "start 0, step 30"
    shown = found["examined"]
    assert shown["projection"] == 1
    assert shown["matches"] == [0, 1, 2]
    assert min(shown["correlation"]) > 0.9  # shifts of less than a pixel
    reference, samples = frames(3)
    assert shown["flux"] == pytest.approx(samples[1].mean() / reference.mean(), rel=1e-4)
    assert call(capsys, "check", tmp_path / "config.toml").code == 0


@pytest.mark.parametrize("wrong", ["order", "frames", "swapped", "bright"])
def test_check_finds_frames_that_do_not_belong_together(tmp_path, capsys, wrong):
    reference, samples = frames(1, positions=4, shape=(48, 48))
    sample = samples[0]
    if wrong == "order":
        sample = sample[[1, 0, 2, 3]]
    elif wrong == "frames":
        sample = 1e4 * np.random.default_rng(1).uniform(0.8, 1.2, sample.shape).astype(np.float32)
    elif wrong == "swapped":
        sample = reference.mean() + 1.5 * (reference - reference.mean())
    else:
        sample = 1.2 * sample
    for role, stack in (("ref", reference), ("sample", sample)):
        for number, frame in enumerate(stack):
            tifffile.imwrite(tmp_path / f"{role}_{number}.tif", frame.astype(np.float32))
    data = sections(input={"reference": "ref_*.tif", "sample": "sample_*.tif"}, output={"files": ["out.h5"]})
    del data["series"]
    codes = [finding["code"] for finding in checked(capsys, write_toml(tmp_path, data))["findings"]]
    code = {"swapped": "sample-sharper", "bright": "sample-brighter"}.get(wrong, "pairing-doubtful")
    assert code in codes


def test_check_finds_axes_that_are_stated_wrongly_and_fit_the_numbers(tmp_path, capsys):
    reference, samples = frames(4)
    np.save(tmp_path / "ref.npy", reference)
    for position in range(3):
        np.save(tmp_path / f"pos_{position}.npy", samples[:, position])
    names = {"reference": "ref.npy", "reference_axes": "position,y,x", "sample": "pos_*.npy"}
    for axes, told in (("position,projection,y,x", False), ("projection,position,y,x", True)):
        path = write_toml(tmp_path, sections(input=names | {"sample_axes": axes}))
        codes = [finding["code"] for finding in checked(capsys, path)["findings"]]
        assert ("pairing-doubtful" in codes) == told


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--step", "crop"], "crop: rows=["),
        (["--step", "crop: rows"], "crop: rows=["),
        (["--step", "bin: 2"], "bin: size=2"),
        (["--energy-kev", "17,5"], "17.5"),
        (["--pixel-size", "5,8e-6"], "5.8e-6"),
    ],
)
def test_errors_show_what_would_be_right(tmp_path, capsys, arguments, text):
    done = call(capsys, "check", write_config(tmp_path, 2), *arguments)
    assert done.code == 2
    assert text in done.err


def test_a_configuration_with_a_decimal_comma_or_a_crop_without_a_box(tmp_path, capsys):
    path = write_config(tmp_path, 2)
    text = path.read_text()
    path.write_text(text.replace("energy_kev = 17.0", "energy_kev = 17,5  # keV"))
    done = call(capsys, "check", path)
    assert done.code == 2
    assert "17.5" in done.err
    path.write_text(text)
    done = call(capsys, "check", path, "--set", "experiment.energy_kev=17,5", "--option", "smoothing=0,25")
    assert "17.5" in done.err
    assert "0.25" in done.err
    path.write_text(text + '[[preprocess]]\nstep = "crop"\n')
    codes = [record.code for record in parse_configuration(path).errors()]
    assert codes == ["option-missing"]
