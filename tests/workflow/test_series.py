"""A scan gives what `xmist.retrieve` gives of each projection, however it is cut, stored and run."""

import json

import h5py
import numpy as np
import pytest
import tifffile

import xmist
from tests.cli.scenes import call
from tests.coded import coded
from tests.workflow.series_scenes import (
    EXPERIMENT,
    OPTIONS,
    POSITIONS,
    SHAPE,
    assert_same,
    assert_same_content,
    frames,
    run_path,
    sections,
    volumes,
    write_config,
    write_hdf5,
    write_toml,
)
from xmist.core.errors import InputError
from xmist.io import describe
from xmist.io.results.stacks import FAILED, GOOD, UNREADABLE, VALUELESS
from xmist.workflow.storage import split


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A scan of TIFF files in blocks of two, its volumes and its folder."""
    folder = tmp_path_factory.mktemp("whole")
    master = run_path(write_config(folder, output={"files": ["scan.h5", "quality.png"]}))
    return master, volumes(master)


def test_every_projection_is_what_retrieve_gives(whole):
    master, _ = whole
    reference, samples = frames()
    for number in (0, 5):
        stack = xmist.SpeckleStack(reference, samples[number])
        alone = xmist.retrieve(stack, EXPERIMENT, method="mist", **OPTIONS)
        found = xmist.open_result(master, projection=number)
        assert found.method == "mist"
        assert dict(found.options) == dict(alone.options)
        assert found.experiment == alone.experiment
        assert np.array_equal(found.flags, alone.flags)
        for name, array in alone.channels():
            assert np.array_equal(getattr(found, name), array), name


def test_steps_are_those_of_retrieve(tmp_path):
    # Offsets and responses that the steps take away, a hot pixel, and a border that is cut off.
    rng = np.random.default_rng(3)
    reference, samples = frames(2)
    response = rng.uniform(0.9, 1.1, SHAPE).astype(np.float32)
    dark = rng.uniform(90, 110, (3, *SHAPE)).astype(np.float32)
    raw = [np.rint(stack * response + 100).astype(np.float32) for stack in (reference, samples)]
    raw[1][1, :, 11, 13] = 60000
    flat = np.stack([1e4 * response + 100] * 4).astype(np.float32)
    arrays = {"ref": raw[0], "sample": raw[1].reshape(-1, *SHAPE), "dark": dark, "flat": flat}
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    inputs = {
        role: f"{name}.npy"
        for role, name in zip(("reference", "sample", "dark", "flat"), arrays, strict=True)
    }
    steps = [
        {"step": "dark"},
        {"step": "flat"},
        {"step": "crop", "rows": [1, 23]},
        {"step": "bad-pixels"},
        {"step": "flux", "rows": [0, 22]},
        {"step": "bin", "size": 2},
    ]
    data = sections(
        input=inputs | {"sample_axes": "projection,position,y,x"},
        preprocess=steps,
        options={"smoothing": 0.5},
    )
    master = run_path(write_toml(tmp_path, data))
    for number in range(2):
        np.save(tmp_path / f"one_{number}.npy", raw[1][number])
        data.pop("series", None)
        data["input"].pop("sample_axes", None)
        data["input"]["sample"] = f"one_{number}.npy"
        data["output"]["files"] = [f"one_{number}.h5"]
        alone = xmist.run(write_toml(tmp_path, data, "one.toml")).open()
        found = xmist.open_result(master, projection=number)
        assert found.experiment == alone.experiment
        for name, array in alone.channels():
            assert np.array_equal(getattr(found, name), array, equal_nan=True), name


@pytest.mark.parametrize("block", [1, 3, 16])
def test_blocks_change_nothing(tmp_path, whole, block):
    assert_same(whole[1], volumes(run_path(write_config(tmp_path, series={"block": block}))))


def test_workers_change_nothing(tmp_path, whole):
    scan = write_config(tmp_path, output={"files": ["scan.h5", "quality.png"]})
    master = run_path(scan, workers=4)
    assert_same(whole[1], volumes(master))
    assert_same_content(whole[0], master)


def test_hdf5_stacks_and_order(tmp_path, whole):
    reference, samples = frames()
    write_hdf5(tmp_path / "ref.h5", reference)
    for position in range(POSITIONS):
        write_hdf5(tmp_path / f"pos_{position}.h5", samples[:, position])
    write_hdf5(tmp_path / "pos_0.h5", np.arange(6) * np.pi / 6, "entry/angle")
    with h5py.File(tmp_path / "pos_0.h5", "a") as file:
        file["entry/angle"].attrs["units"] = "rad"
    stacks = sections(
        input={
            "reference": "ref.h5",
            "sample": [f"pos_{n}.h5::/entry/data" for n in range(POSITIONS)],
            "sample_axes": "position,projection,y,x",
        },
        series={"angles": "pos_0.h5::entry/angle"},
    )
    found = volumes(run_path(write_toml(tmp_path, stacks)))
    assert np.allclose(found["table/angle"], 30 * np.arange(6), rtol=1e-15)
    found["table/angle"] = whole[1]["table/angle"]
    assert_same(whole[1], found)


def test_the_stack_is_one_lazy_dataset(whole):
    master, arrays = whole
    lazy = xmist.open_result(master, chunks={"projection": 2})
    assert lazy["phase"].dims == ("projection", "y", "x")
    assert lazy["phase"].data.chunks == ((2, 2, 2), (SHAPE[0],), (SHAPE[1],))
    assert lazy["refraction_angle"].dims == ("projection", "direction", "y", "x")
    assert np.array_equal(lazy["phase"].compute(scheduler="sync"), arrays["phase"])
    assert lazy["angle"].values.tolist() == [0, 30, 60, 90, 120, 150]
    assert np.array_equal(lazy["flux"], arrays["table/flux"])
    for wrong in ({"projection": 2, "z": 1}, {"projection": "many"}):
        with pytest.raises(InputError, check=coded("option-invalid", names=["chunks"])):
            xmist.open_result(master, chunks=wrong)
    with pytest.raises(InputError, check=coded("option-missing")):
        xmist.open_result(master)
    with pytest.raises(InputError, check=coded("projection-missing", names=["0 to 5"])):
        xmist.open_result(master, projection=6)


def test_a_single_result_comes_in_chunks_too(tmp_path, whole):
    xmist.open_result(whole[0], projection=2).save(tmp_path / "one.h5")
    assert xmist.open_result(tmp_path / "one.h5", chunks={"y": 12})["phase"].data.chunks[0] == (12, 12)
    for wrong in (0, "many", {"z": 1}):
        with pytest.raises(InputError, check=coded("option-invalid", names=["chunks"])):
            xmist.open_result(tmp_path / "one.h5", chunks=wrong)


def test_the_master_is_nexus_with_relative_sources(whole, tmp_path):
    master, arrays = whole
    with h5py.File(master) as file:
        entry = file[file.attrs["default"]]
        group = entry[entry.attrs["default"]]
        signal = group[group.attrs["signal"]]
        assert signal.shape == (6, *SHAPE)
        assert signal.attrs["units"] == "rad"
        assert group.attrs["axes"].tolist() == ["rotation_angle", "y", "x"]
        assert [group[axis].size for axis in group.attrs["axes"]] == list(signal.shape)
        assert all(piece.file_name.startswith("scan_blocks/") for piece in signal.virtual_sources())
        assert np.isnan(signal.fillvalue)
    # Moved together with its blocks it still reads; without them it reads NaN, never zeros.
    moved = tmp_path / "moved"
    moved.mkdir()
    (moved / "scan.h5").write_bytes(master.read_bytes())
    assert np.isnan(volumes(moved / "scan.h5")["phase"]).all()
    assert (volumes(moved / "scan.h5")["flags"] > 0).all()
    (moved / "scan_blocks").symlink_to(master.parent / "scan_blocks")
    assert np.array_equal(volumes(moved / "scan.h5")["phase"], arrays["phase"])


def test_info_and_table(whole, capsys):
    master, arrays = whole
    found = describe(master)
    assert found["kind"] == "stack"
    assert found["status"] == {"good": 6}
    assert found["angles"] == [0.0, 150.0]
    done = call(capsys, "info", master)
    assert done.code == 0
    assert "projections" in done.out
    # The objects of `frames` neither absorb nor lose light: the mean changes by what crosses the border.
    assert np.abs(arrays["table/flux"] - 1).max() < 0.01
    assert arrays["table/projection"].tolist() == list(range(6))
    assert (master.parent / "quality.png").read_bytes()[:4] == b"\x89PNG"
    assert "6 of 6" in (master.parent / "scan.log").read_text()


def test_line_integrals_for_tomography(tmp_path, whole):
    master, arrays = whole
    found = xmist.open_result(master, projection=1)
    k, distance = found.experiment.wavenumber, found.experiment.effective_distance
    for channel, expected in (
        ("phase", -arrays["phase"] / k),
        ("dark_field", 2 * arrays["dark_field"] / distance),
    ):
        path = xmist.export_tomography(master, tmp_path / f"{channel}.nx", channel=channel)
        with h5py.File(path) as file:
            entry = file["entry"]
            # A product in float32.
            assert np.allclose(entry["instrument/detector/data"][()], expected, rtol=3e-7, atol=0)
            assert entry["sample/rotation_angle"][()].tolist() == [0, 30, 60, 90, 120, 150]
            assert entry["instrument/detector/x_pixel_size"][()] == found.experiment.effective_pixel
            assert entry["instrument/detector/image_key"][()].tolist() == [0] * 6
    path = xmist.export_tomography(master, tmp_path / "air.nx", air=(0, 24, 0, 3))
    with h5py.File(path) as file:
        stack = file["entry/data/data"][()]
    assert np.abs(np.median(stack[:, :, :3], axis=(1, 2))).max() < 1e-6 * np.abs(stack).max()
    with pytest.raises(InputError, check=coded("box-outside", names=["air"])):
        xmist.export_tomography(master, tmp_path / "no.nx", air=(0, 25, 0, 3))
    with pytest.raises(InputError, check=coded("channel-missing")):
        xmist.export_tomography(master, tmp_path / "no.nx", channel="transmission")
    with pytest.raises(InputError, check=coded("output-exists")):
        xmist.export_tomography(master, path)


def test_part_of_the_projections_and_channels(tmp_path, whole):
    scan = write_config(tmp_path, series={"projections": [2, 5], "channels": ["dark_field"]})
    found = volumes(run_path(scan))
    assert {name for name in found if "/" not in name} == {"dark_field", "flags"}
    assert np.array_equal(found["dark_field"], whole[1]["dark_field"][2:5])
    assert found["table/projection"].tolist() == [2, 3, 4]
    assert found["table/angle"].tolist() == [60, 90, 120]
    assert xmist.open_result(tmp_path / "scan.h5", projection=4).phase is None


def test_what_cannot_be_retrieved_is_flagged_and_the_rest_goes_on(tmp_path, whole, capsys):
    scan = write_config(tmp_path)
    (tmp_path / "p_0001_2.tif").unlink()
    (tmp_path / "p_0002_0.tif").write_bytes((tmp_path / "p_0002_0.tif").read_bytes()[:700])
    for position in range(POSITIONS):
        tifffile.imwrite(tmp_path / f"p_0003_{position}.tif", np.full(SHAPE, np.nan, np.float32))
    hole = np.ones(SHAPE, np.float32)
    hole[:, 8:] = np.nan
    for position in range(POSITIONS):
        path = tmp_path / f"p_0004_{position}.tif"
        tifffile.imwrite(path, tifffile.imread(path) * hole)
    done = call(capsys, "retrieve", scan)
    assert done.code == 3
    found = volumes(tmp_path / "scan.h5")
    assert found["table/status"].tolist() == [GOOD, UNREADABLE, UNREADABLE, FAILED, VALUELESS, GOOD]
    assert np.isnan(found["phase"][1:4]).all()
    assert (found["flags"][1:4] == 32 | 2).all()
    for number in (0, 5):
        assert np.array_equal(found["phase"][number], whole[1]["phase"][number])
    assert "4 of 6 projections are flagged" in done.err
    assert "no frame at position 2" in done.err
    notes = xmist.open_result(tmp_path / "scan.h5", projection=2).findings
    assert "p_0002_0.tif" in notes[0].message
    # --strict stops at the first of them and keeps what was done.
    strict = call(capsys, "retrieve", scan, "--strict", "--quiet")
    assert strict.code == 3
    assert "stopped at projection 1" in strict.err
    assert xmist.run(scan, strict=True).stopped.startswith("projection 1: ")


def test_check_tells_what_a_series_takes(tmp_path, capsys):
    scan = write_config(tmp_path)
    done = call(capsys, "check", scan, "--json")
    assert done.code == 0
    found = json.loads(done.out)
    assert found["projections"] == 6
    assert found["blocks"] == 3
    assert found["channels"] == ["phase", "dark_field", "refraction_angle"]
    assert found["shape"] == list(SHAPE)
    run_path(scan)
    taken = sum(path.stat().st_size for path in [tmp_path / "scan.h5", *(tmp_path / "scan_blocks").iterdir()])
    # Such small files are mostly what HDF5 puts around the images.
    assert found["disk"] < taken < 3 * found["disk"]
    assert not list(tmp_path.glob("*.partial"))
    wrong = call(capsys, "check", scan, "--memory", "1MB")
    assert wrong.code == 2
    assert "a projection takes" in wrong.err
    lacking = write_toml(tmp_path, sections(experiment={"energy_kev": None}), "lacking.toml")
    assert call(capsys, "check", lacking).err.count("lacking.toml") == 1


def test_blocks_cover_everything_once():
    for count in range(1, 40):
        for size in range(1, 9):
            covered = [number for block in split(range(count), size) for number in block.numbers]
            assert covered == list(range(count))


def test_a_quick_look_is_of_one_projection(tmp_path):
    with pytest.raises(InputError) as caught:
        run_path(write_config(tmp_path, retrieve={"method": "umpa"}, options={"region": [0, 20, 0, 20]}))
    assert caught.value.codes == ("option-conflict",)
