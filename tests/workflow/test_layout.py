"""Frames found by their names and their order, in every form that beamlines write; angles; references."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.ndimage as ndi
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.coded import coded
from tests.manufactured import speckle
from tests.workflow.series_scenes import (
    SHAPE,
    frames,
    open_setup,
    read_all,
    sections,
    write_config,
    write_hdf5,
    write_toml,
)
from xmist.core.arrays import Image
from xmist.core.errors import InputError
from xmist.workflow.configuration import parse_configuration
from xmist.workflow.discovery import discover
from xmist.workflow.frames import FrameReader
from xmist.workflow.placement import FrameRequest, place_frames
from xmist.workflow.rotation import fit_angles, known_angles
from xmist.workflow.setup import References, measure_shifts


def numbered(count, positions, repeats=1):
    """Frames (projection, position, exposure, y, x) that hold their own numbers."""
    number = 100 * np.arange(count)[:, None, None] + 10 * np.arange(positions)[:, None] + np.arange(repeats)
    return np.broadcast_to(number[..., None, None], (count, positions, repeats, 8, 9)).astype(np.float32)


def place(folder, **changes):
    """Return the arguments of `place_frames` for projections."""
    return {
        "name": "input.sample",
        "outer": "projection",
        "folder": Path(folder),
        "axes": None,
        "repeats": 1,
    } | changes


AXES = {
    None: None,
    "projection": ("projection", "position", "y", "x"),
    "position": ("position", "projection", "y", "x"),
}


@pytest.mark.parametrize("order", ["projection", "position"])
@pytest.mark.parametrize("chunk", [None, 4])
def test_one_stack_in_either_order(tmp_path, order, chunk):
    array = numbered(5, 3, 2)
    flat = (array if order == "projection" else array.swapaxes(0, 1)).reshape(-1, 8, 9)
    options = {"chunks": (chunk, 8, 9), "compression": 1} if chunk else {}
    write_hdf5(tmp_path / "all.h5", flat, **options)
    found = place_frames(
        FrameRequest(spec=["all.h5"], **place(tmp_path, axes=AXES[order], repeats=2, positions=3))
    )
    assert (found.count, found.positions) == (5, 3)
    assert np.array_equal(read_all(found), array.mean(axis=2)[..., 0, 0])


@settings(max_examples=15)  # files take the time that the disk takes
@given(count=st.integers(1, 4), positions=st.integers(1, 3), repeats=st.integers(1, 2))
def test_every_layout_puts_frames_where_they_belong(tmp_path_factory, count, positions, repeats):
    folder = tmp_path_factory.mktemp("layout")
    array = numbered(count, positions, repeats)
    for p in range(count):
        np.save(folder / f"proj_{p + 1:03d}.npy", array[p].reshape(-1, 8, 9))
        for n in range(positions):
            np.save(folder / f"both_{p}_{10 * n}.npy", array[p, n])
    for n in range(positions):
        np.save(folder / f"pos_{n}.npy", array[:, n].reshape(-1, 8, 9))
    known = {"repeats": repeats, "positions": positions}
    for spec, more in (
        (["proj_{projection}.npy"], {}),
        (["both_{projection}_{position}.npy"], {}),
        (["pos_{position}.npy"], {}),
        (["pos_*.npy"], {"axes": AXES["position"]}),
        (["proj_*.npy"], {"axes": AXES["projection"]}),
    ):
        found = place_frames(FrameRequest(spec=spec, **place(folder, **known, **more)))
        assert not found.missing
        assert np.array_equal(read_all(found), array.mean(axis=2)[..., 0, 0])


def test_a_stack_that_ends_early_lacks_its_last_projections(tmp_path):
    array = numbered(6, 2)
    np.save(tmp_path / "pos_0.npy", array[:, 0, 0])
    np.save(tmp_path / "pos_1.npy", array[:4, 1, 0])
    for spec, order in ((["pos_*.npy"], "position"), (["pos_{position}.npy"], None)):
        found = place_frames(FrameRequest(spec=spec, **place(tmp_path, axes=AXES[order], positions=2)))
        assert sorted(found.missing) == [4, 5]
        assert np.array_equal(read_all(found, range(4)), array[:4, :, 0, 0, 0])
        with FrameReader(found) as reader, pytest.raises(InputError, check=coded("frames-missing")):
            reader.read(4)


def test_files_that_are_missing_or_unlike_are_noted(tmp_path):
    for number in (0, 1, 3, 5):
        np.save(tmp_path / f"p_{number}.npy", np.full((2, 8, 9), number, np.float32))
    np.save(tmp_path / "p_1.npy", np.zeros((2, 9, 9), np.float32))
    (tmp_path / "p_3.npy").write_bytes(b"\x93NUMPY rubbish")
    found = place_frames(FrameRequest(spec=["p_{projection}.npy"], **place(tmp_path)))
    assert sorted(found.missing) == [1, 2, 3, 4]
    assert "9 × 9 pixels; expected 8 × 9" in found.missing[1]
    assert "p_3.npy" in found.missing[3]
    assert read_all(found, [5])[0, 0] == 5


def test_hdf5_that_was_not_written_to_the_end(tmp_path):
    with h5py.File(tmp_path / "all.h5", "w") as file:
        data = file.create_dataset("data", (6, 8, 9), np.float32, chunks=(2, 8, 9))
        data[:4] = numbered(4, 1)[:, 0, 0]
    found = place_frames(FrameRequest(spec=["all.h5"], **place(tmp_path, positions=1)))
    assert sorted(found.missing) == [4, 5]
    assert "never written" in found.missing[4]
    assert read_all(found, range(4))[:, 0].tolist() == [0, 100, 200, 300]


def test_a_virtual_dataset_with_a_file_missing(tmp_path):
    layout = h5py.VirtualLayout((6, 8, 9), np.float32)
    for part in range(3):
        array = numbered(6, 1)[2 * part : 2 * part + 2, 0, 0]
        write_hdf5(tmp_path / f"part_{part}.h5", array)
        layout[2 * part : 2 * part + 2] = h5py.VirtualSource(f"part_{part}.h5", "entry/data", array.shape)
    with h5py.File(tmp_path / "all.h5", "w") as file:
        file.create_virtual_dataset("data", layout)
    (tmp_path / "part_1.h5").rename(tmp_path / "away.h5")
    found = place_frames(FrameRequest(spec=["all.h5"], **place(tmp_path, positions=1)))
    assert sorted(found.missing) == [2, 3]
    assert "part_1.h5" in found.missing[2]
    # A file that goes away later is noticed when its frames are read: HDF5 would read zeros.
    with FrameReader(found) as reader:
        assert reader.read(4).frames[0, 0, 0] == 400
        (tmp_path / "part_2.h5").unlink()
        with pytest.raises(InputError, check=coded("file-missing", names=["part_2.h5"])):
            reader.read(5)


def test_many_files_are_not_all_opened(tmp_path, monkeypatch):
    from xmist.workflow import placement

    for number in range(100):
        np.save(tmp_path / f"p_{number}.npy", np.full((8, 9), number, np.float32))
    opened = []
    opening = placement.open_tolerant
    monkeypatch.setattr(
        placement, "open_tolerant", lambda address: opened.append(address) or opening(address)
    )
    found = place_frames(FrameRequest(spec=["p_{projection}.npy"], **place(tmp_path, positions=1)))
    assert len(opened) == 1
    assert read_all(found)[:, 0].tolist() == list(range(100))


def test_what_cannot_be_laid_out_is_told(tmp_path):
    np.save(tmp_path / "seven.npy", np.zeros((7, 8, 9)))
    for spec, changes, code in (
        (["seven.npy"], {"axes": AXES["projection"], "positions": 2}, "axes-mismatch"),
        (["seven.npy"], {"positions": 7 // 2}, "axes-missing"),
        (["a_{projektion}.npy"], {}, "value-invalid"),
        (["a_{position}.npy", "seven.npy"], {}, "value-invalid"),
        (["a_{position}.npy"], {}, "frames-missing"),
        (["nothing_*.npy"], {"axes": AXES["position"]}, "file-missing"),
    ):
        with pytest.raises(InputError) as caught:
            place_frames(FrameRequest(spec=spec, **place(tmp_path, **changes)))
        assert caught.value.codes == (code,)


def test_angles_in_every_form(tmp_path):
    for number in range(3):
        tifffile.imwrite(tmp_path / f"p_{number}.tif", np.ones((8, 9)), description=f"omega = {30 * number}")
    layout = place_frames(FrameRequest(spec=["p_{projection}.tif"], **place(tmp_path, positions=1)))
    with h5py.File(tmp_path / "angles.h5", "w") as file:
        file["deg"] = [0.0, 30.0, 60.0]
        file["rad"] = np.deg2rad([0.0, 30.0, 60.0])
        file["rad"].attrs["units"] = "rad"
        file["text"] = "none"
        file["nan"] = [0.0, np.nan, 1.0]
    for form in (
        (0.0, 30.0, 60.0),
        {"start": 0.0, "step": 30.0},
        "omega",
        "angles.h5::deg",
        "angles.h5::rad",
    ):
        found, _ = fit_angles(form, known_angles(form, tmp_path), layout, tmp_path)
        assert np.allclose(found, [0, 30, 60], rtol=1e-15)
    for form, told in (
        ((0.0, 1.0), "gives 2 angles for 3 projections"),
        ("phi", "'phi'; expected a number of degrees"),
        ("angles.h5::text", "not a dataset of numbers"),
        ("angles.h5::nan", "not finite"),
        ("none.h5::deg", "does not exist"),
    ):
        with pytest.raises(InputError) as caught:
            fit_angles(form, known_angles(form, tmp_path), layout, tmp_path)
        assert told in str(caught.value)


def test_more_angles_than_projections_tell_of_missing_ones(tmp_path):
    scan = write_config(tmp_path, 3, series={"angles": [0.0, 1.0, 2.0, 3.0]})
    found = open_setup(scan)
    assert found.table.count == 4
    assert sorted(found.table.missing) == [3]
    assert "1 of 4 projections lack frames" in str(found.findings[0])


def test_all_errors_of_a_configuration_come_at_once(tmp_path):
    reference, samples = frames(2)
    np.save(tmp_path / "ref.npy", reference)
    np.save(tmp_path / "sample.npy", samples.reshape(-1, *SHAPE)[:, 1:])
    data = sections(
        input={
            "reference": "ref.npy",
            "sample": "sample.npy",
            "dark": "dark.npy",
            "sample_axes": "projection,position,y,x",
        },
        preprocess=[{"step": "dark"}],
        series={"angles": "none.h5::a", "projections": [0, 9]},
    )
    with pytest.raises(InputError) as caught:
        open_setup(write_toml(tmp_path, data))
    text = str(caught.value)
    for told in (
        "none.h5 does not exist",
        "dark.npy does not exist",
        "23 × 28 pixels",
        "projections is [0, 9]",
    ):
        assert told in text
    parsed = parse_configuration(write_toml(tmp_path, sections(series={"channels": ["visibility"]})))
    assert [problem.path for problem in parsed.problems] == ["series.channels"]


def test_a_series_is_told_by_its_names_or_by_its_table(tmp_path):
    write_config(tmp_path, 3)
    data = sections()
    del data["series"]
    found = discover(parse_configuration(write_toml(tmp_path, data)))
    assert (found.parsed.is_series, found.last - found.first, found.errors) == (True, 3, ())
    data["input"]["sample"] = "p_0001_*.tif"
    found = discover(parse_configuration(write_toml(tmp_path, data)))
    assert (found.parsed.is_series, found.last - found.first, found.errors) == (False, 1, ())


def test_an_expected_number_tells_of_projections_that_are_missing(tmp_path):
    found = open_setup(write_config(tmp_path, 3, series={"expected": 5}))
    assert (found.table.count, sorted(found.table.missing)) == (5, [3, 4])


def moving(times, shift, shape=(96, 96)) -> Image:
    """Smooth speckle that drifts evenly, by `shift` pixels (x, y) from time 0 to 1, at some times."""
    # Grain of σ = 3 pixels: what the windowed sinc and this spline lose of it is far below 1e-3.
    frame = speckle(np.random.default_rng(2), 1, shape, grain=3.0)[0]
    moved = [ndi.shift(frame, (shift[1] * t, shift[0] * t), order=5, mode="mirror") for t in times]
    return np.array(moved, np.float32)[:, None]


def test_references_are_interpolated_along_their_drift():
    shift = (1.3, -0.8)
    sets = moving((0.0, 1.0), shift)
    found = measure_shifts(sets, np.ones_like(sets))
    assert np.abs(found[0, 0] - shift).max() < 0.01
    references = References(
        sets=sets, weights=np.ones_like(sets), times=(0.0, 10.0), between="linear", shifts=found
    )
    inner = (0, slice(16, -16), slice(16, -16))
    for projection in (0, 4, 9):
        frame, weights = references.at(projection)
        true = moving([(projection + 0.5) / 10], shift)[0]
        # Without registration the error would be |shift| × the gradient, 0.1 and more.
        assert np.abs(frame - true)[inner].max() < 3e-3
        assert (weights[inner] == 1).all()
    plain = 0.5 * (sets[0] + sets[1])
    assert np.abs(plain - moving([0.5], shift)[0])[inner].max() > 0.03
    assert references.at(40)[0] is references.at(41)[0]
    assert np.array_equal(references.at(40)[0], sets[1])


def test_flux_of_the_references_is_interpolated_too():
    frame = moving([0.0], (0, 0))[0]
    sets = np.stack([frame, np.float32(1.1) * frame])
    shifts = np.zeros((1, 1, 2))
    references = References(
        sets=sets, weights=np.ones_like(sets), times=(0.0, 10.0), between="linear", shifts=shifts
    )
    for projection in range(10):
        expected = (1 + 0.01 * (projection + 0.5)) * frame
        # Two products and a sum in float32.
        assert np.abs(references.at(projection)[0] / expected - 1).max() < 4e-7


def test_sets_of_references_in_a_series(tmp_path):
    scan = write_config(tmp_path, 4)
    reference, _ = frames(4)
    for number, scale in enumerate((1.0, 1.1)):
        for position, frame in enumerate(reference):
            tifffile.imwrite(tmp_path / f"set_{number}_{position}.tif", np.float32(scale) * frame)
    for between in ("linear", "nearest"):
        data = sections(
            input={"reference": "set_{set}_{position}.tif"},
            series={"reference_at": [0, 4], "between": between},
        )
        found = open_setup(write_toml(tmp_path, data)).references
        assert np.array_equal(found.sets[0], reference)
        scales = [float(np.median(found.at(number)[0] / reference)) for number in range(4)]
        expected = [1.0125, 1.0375, 1.0625, 1.0875] if between == "linear" else [1.0, 1.0, 1.1, 1.1]
        assert np.allclose(scales, expected, atol=1e-4)
    assert scan.exists()
    data["series"]["reference_at"] = [0, 2, 4]
    with pytest.raises(InputError, check=coded("frames-missing", names=["input.reference"])):
        open_setup(write_toml(tmp_path, data))
