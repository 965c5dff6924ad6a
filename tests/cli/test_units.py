"""Angles and lengths in units that are not those expected: warnings through the command line."""

import h5py
import numpy as np
import pytest
import tifffile

from tests.cli.scenes import GEOMETRY, SHAPE, call, frames, write_config
from tests.io.frames_files import write_edf
from tests.workflow.nxtomo import write_nxtomo
from xmist.workflow.configuration import read_configuration
from xmist.workflow.discovery import discover

COUNT = 8
RADIANS = np.arange(COUNT) * np.pi / COUNT


def series(folder, angles, **experiment):
    """Write a series of two positions with its configuration; return it as discovered."""
    reference, sample = frames(2)
    with h5py.File(folder / "frames.h5", "a") as file:
        for name, stack in (("reference", reference), ("sample", np.repeat(sample[None], COUNT, 0))):
            file.require_group("entry").pop(name, None)
            file[f"entry/{name}"] = stack.reshape(-1, *SHAPE)
    path = write_config(
        folder,
        input={
            "reference": "frames.h5::/entry/reference",
            "sample": "frames.h5::/entry/sample",
            "sample_axes": "projection,position,y,x",
        },
        experiment=experiment,
        series={"angles": "table" if isinstance(angles, dict) else angles},
    )
    if isinstance(angles, dict):
        table = ", ".join(f"{key} = {value}" for key, value in angles.items())
        path.write_text(path.read_text().replace('"table"', f"{{{table}}}"))
    return discover(read_configuration(path))


def dataset(folder, values, unit=None):
    with h5py.File(folder / "frames.h5", "a") as file:
        file["entry/angles"] = values
        if unit is not None:
            file["entry/angles"].attrs["units"] = unit
    return "frames.h5::/entry/angles"


def codes(discovery):
    assert not discovery.errors, discovery.errors
    return [finding.code for finding in discovery.findings]


@pytest.mark.parametrize(
    "values", [RADIANS, 2 * RADIANS, np.linspace(0, np.pi, COUNT), RADIANS - 1.5], ids=str
)
def test_angles_without_a_unit_that_may_be_radians(tmp_path, capsys, values):
    found = series(tmp_path, dataset(tmp_path, values))
    assert codes(found) == ["angles-unit"]
    np.testing.assert_array_equal(found.angles, values)  # taken as degrees
    done = call(capsys, "check", str(tmp_path / "config.toml"))
    assert "radians" in done.out + done.err


@pytest.mark.parametrize("unit", ["rad", "radian", "Radians"])
def test_radians_that_are_stated(tmp_path, unit):
    found = series(tmp_path, dataset(tmp_path, RADIANS, unit))
    assert codes(found) == []
    np.testing.assert_allclose(found.angles, np.degrees(RADIANS))


@pytest.mark.parametrize("unit", ["deg", "degree", "degrees", "Degrees", "°"])
def test_degrees_that_are_stated_are_not_questioned(tmp_path, unit):
    assert codes(series(tmp_path, dataset(tmp_path, RADIANS, unit))) == []


@pytest.mark.parametrize("unit", ["radains", "mrad", "steps"])
def test_units_that_are_not_known(tmp_path, unit):
    assert codes(series(tmp_path, dataset(tmp_path, np.degrees(RADIANS), unit))) == ["angles-unit"]


def test_degrees_without_a_unit(tmp_path):
    assert codes(series(tmp_path, dataset(tmp_path, np.degrees(RADIANS)))) == []
    assert codes(series(tmp_path, {"start": 0.0, "step": 22.5})) == []
    assert codes(series(tmp_path, {"start": 0.0, "step": 0.1})) == []


def test_radians_in_a_list_or_as_a_step(tmp_path):
    assert codes(series(tmp_path, RADIANS.tolist())) == ["angles-unit"]
    assert codes(series(tmp_path, {"start": 0.0, "step": float(np.pi / COUNT)})) == ["angles-unit"]


DEGREES = np.degrees(RADIANS)


@pytest.mark.parametrize(
    ("head", "values", "found"),
    [
        ("", DEGREES, []),
        ("", RADIANS, ["angles-unit"]),
        ("# angle (deg)\n", RADIANS, []),
        ("angle [rad],\n", RADIANS, []),
    ],
)
def test_angles_in_a_text_table(tmp_path, head, values, found):
    (tmp_path / "angles.txt").write_text(head + "".join(f"{value!r}\n" for value in values.tolist()))
    discovery = series(tmp_path, "angles.txt")
    assert codes(discovery) == found
    np.testing.assert_allclose(discovery.angles, np.degrees(values) if "rad" in head else values)


@pytest.mark.parametrize("text", ["", "0 1\n1 2\n", "angle\n0\nnan\n"])
def test_tables_that_hold_other_than_angles(tmp_path, text):
    (tmp_path / "angles.txt").write_text(text)
    found = series(tmp_path, "angles.txt")
    assert [record.code for record in found.errors] == ["file-damaged" if not text else "value-invalid"]


def test_init_warns_of_units(tmp_path, capsys):
    reference, sample = frames(2)
    for n in range(2):
        parts = [(1, reference[[n]]), (0, np.repeat(sample[[n]], COUNT, 0))]
        write_nxtomo(tmp_path / f"pos_{n}.nxs", parts, angles=RADIANS)
    given = ["--energy-kev=17", "--pixel-size=5.8e-6", "--sample-to-detector=100"]
    done = call(capsys, "init", tmp_path, *given)
    assert done.code == 0, done.err
    found = discover(read_configuration(tmp_path / "config.toml"))
    assert codes(found) == ["angles-unit", "length-unusual"]
    assert done.err.count("Warning: ") == 2


def test_radians_in_headers(tmp_path):
    reference, sample = frames(2)
    for n in range(2):
        tifffile.imwrite(tmp_path / f"ref_{n}.tif", reference[n])
    for projection, angle in enumerate(RADIANS):
        for n in range(2):
            write_edf(tmp_path / f"p{projection}_{n}.edf", [sample[n]], [{"omega": str(angle)}])
    path = write_config(
        tmp_path,
        input={"reference": "ref_{position}.tif", "sample": "p{projection}_{position}.edf"},
        series={"angles": "omega"},
    )
    assert codes(discover(read_configuration(path))) == ["angles-unit"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sample_to_detector", 100.0 * GEOMETRY["sample_to_detector"]),  # centimetres
        ("sample_to_detector", 1000.0 * GEOMETRY["sample_to_detector"]),  # millimetres
        ("sample_to_detector", 50.0),
        ("sample_to_detector", 5e-4),
        ("source_to_sample", 1000.0 * GEOMETRY["source_to_sample"]),
        ("pixel_size", 5.8e-4),
        ("pixel_size", 5.8e-9),
    ],
)
def test_lengths_that_are_not_metres(tmp_path, key, value):
    assert codes(series(tmp_path, {"start": 0.0, "step": 22.5}, **{key: value})) == ["length-unusual"]


@pytest.mark.parametrize(
    ("key", "value"), [("sample_to_detector", 12.0), ("source_to_sample", 220.0), ("pixel_size", 5e-8)]
)
def test_lengths_of_long_beamlines_and_fine_pixels(tmp_path, key, value):
    assert codes(series(tmp_path, {"start": 0.0, "step": 22.5}, **{key: value})) == []


def test_a_length_that_the_header_confirms(tmp_path):
    header = [{"SampleDistance": "38", "PSize_1": "5.8e-6", "PSize_2": "5.8e-6"}]
    for name, stack in zip(("ref", "sample"), frames(3), strict=True):
        for n, frame in enumerate(stack):
            write_edf(tmp_path / f"{name}_{n}.edf", [frame], header)
    path = write_config(
        tmp_path,
        input={"reference": "ref_*.edf", "sample": "sample_*.edf"},
        experiment={"sample_to_detector": 38.0, "source_to_sample": None},
    )
    assert codes(discover(read_configuration(path))) == []
