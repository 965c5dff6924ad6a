"""Projections, references, darks and angles taken out of one stack by image_key, and only where asked for."""

import tomllib
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import xmist
from tests.cli.scenes import GEOMETRY, call
from tests.coded import coded
from tests.workflow.nxtomo import DARK, FLAT, INVALID, PROJECTION, replace, write_nxtomo
from tests.workflow.series_scenes import (
    SHAPE,
    assert_same,
    frames,
    open_setup,
    run_path,
    sections,
    volumes,
    write_config,
    write_toml,
)
from xmist.core.errors import InputError
from xmist.io.frames.frames import describe_frames, load_frames, open_frames, pair_frames
from xmist.workflow.configuration import parse_configuration, parse_mapping
from xmist.workflow.discovery import discover
from xmist.workflow.frames import FrameReader
from xmist.workflow.placement import FrameRequest, place_frames
from xmist.workflow.proposal import KeyedStack, plan_series, propose_configuration

DATA = "/entry/instrument/detector/data"
KEY = "/entry/instrument/detector/image_key"
ANGLE = "/entry/sample/rotation_angle"


def counted(keys):
    """Frames that hold their own numbers, as (key, frames)."""
    return [(key, np.full((1, 8, 9), number, np.float32)) for number, key in enumerate(keys)]


def opened(spec, folder):
    return open_frames(spec, name="input.sample", folder=folder)


def numbers(series):
    return [int(series.read(index)[0, 0]) for index in range(len(series))]


@settings(max_examples=20)  # files take the time that the disk takes
@given(keys=st.lists(st.sampled_from([0, 1, 2, 3]), min_size=2, max_size=12), chunk=st.integers(1, 4))
def test_the_frames_of_a_key_are_those_of_the_key(tmp_path_factory, keys, chunk):
    path = tmp_path_factory.mktemp("keys") / "scan.nxs"
    write_nxtomo(path, counted(keys))
    with h5py.File(path, "r+") as file:
        data = file[DATA][()]
        del file[DATA]
        file.create_dataset(DATA, data=data, chunks=(min(chunk, len(keys)), 8, 9), compression=1)
    for value in (0, 1, 2):
        expected = [number for number, key in enumerate(keys) if key == value]
        spec = f"scan.nxs::{DATA}[image_key={value}]"
        if not expected:
            with pytest.raises(InputError, check=coded("image-key-invalid", names=[f"image_key = {value}"])):
                opened(spec, path.parent)
            continue
        series = opened(spec, path.parent)
        assert numbers(series) == expected
        order = [-1, 0, len(series) // 2]
        assert [int(frame[0, 0]) for frame in series.frames(order)] == [expected[i] for i in order]
        assert load_frames(series).frames[:, 0, 0].tolist() == expected


def test_the_key_is_found_beside_the_stack_or_in_its_entry(tmp_path):
    path = write_nxtomo(tmp_path / "scan.nxs", counted([DARK, FLAT, PROJECTION, INVALID]))
    for spec in (
        f"scan.nxs::{DATA}[image_key=1]",
        "scan.nxs::/entry/data/data[image_key=1]",
        "scan.nxs::[image_key=1]",
        f"scan.nxs::{DATA}[{KEY}=1]",
        "scan.nxs::/entry/data/data[ detector/image_key = 1 ]",
    ):
        assert numbers(opened(spec, tmp_path)) == [1], spec
    with h5py.File(path, "r+") as file:
        file["entry/data/image_key_control"] = [1, 1, 0, -1]
        file["entry/other/image_key"] = [1, 1, 1, 1]
    assert numbers(opened("scan.nxs::/entry/data/data[image_key_control=0]", tmp_path)) == [2]
    assert numbers(opened(f"scan.nxs::{DATA}[image_key=1]", tmp_path)) == [1]
    with pytest.raises(InputError, check=coded("dataset-ambiguous", names=["2 datasets", "image_key"])):
        opened("scan.nxs::/entry/data/data[image_key=1]", tmp_path)


def damaged(path, kind):
    if kind == "short":
        replace(path, KEY, [0, 1, 2])
    elif kind == "unknown":
        replace(path, KEY, [2, 1, 7, 0])
    elif kind == "broken":
        replace(path, KEY, [2.0, 1.0, 0.5, 0.0])
    elif kind == "nan":
        replace(path, KEY, [2.0, 1.0, np.nan, 0.0])
    elif kind == "text":
        replace(path, KEY, "none")
    elif kind == "never written":
        with h5py.File(path, "r+") as file:
            del file[KEY]
            file.create_dataset(KEY, (4,), "i4", chunks=(2,))
    elif kind == "virtual":
        with h5py.File(path, "r+") as file:
            del file[KEY]
            layout = h5py.VirtualLayout((4,), "i4")
            layout[:] = h5py.VirtualSource("gone.h5", "key", (4,))
            file.create_virtual_dataset(KEY, layout)
    else:
        with h5py.File(path, "r+") as file:
            del file[KEY]


DAMAGES = {
    "short": "has shape (3,), and",
    "unknown": "has 7 for frame 3",
    "broken": "has 0.5 for frame 3",
    "nan": "has nan for frame 3",
    "text": "not a list of numbers",
    "never written": "is incomplete: 0 of its 2 chunks",
    "virtual": "gone.h5, which does not exist",
    "missing": "has no dataset image_key beside it or in its entry",
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_key_is_told(tmp_path, kind):
    path = write_nxtomo(tmp_path / "scan.nxs", counted([DARK, FLAT, PROJECTION, PROJECTION]))
    damaged(path, kind)
    with pytest.raises(InputError) as caught:
        opened(f"scan.nxs::{DATA}[image_key=0]", tmp_path)
    assert DAMAGES[kind] in str(caught.value)
    assert "scan.nxs" in str(caught.value)


def test_what_is_no_key_is_refused(tmp_path):
    write_nxtomo(tmp_path / "scan.nxs", counted([DARK, FLAT, PROJECTION]))
    np.save(tmp_path / "scan.npy", np.zeros((3, 8, 9)))
    for spec, told in (
        (f"scan.nxs::{DATA}[image_key=3]", "ends in [image_key=3]; expected [image_key=0] for projections"),
        (f"scan.nxs::{DATA}[imagekey=0]", "ends in [imagekey=0]; expected [image_key=0]"),
        ("scan.npy::[image_key=0]", "is npy and has no datasets; leave out ::[image_key=0]"),
        ([f"scan.nxs::{DATA}[image_key=0]"] * 2, "named more than once"),
    ):
        with pytest.raises(InputError) as caught:
            opened(spec, tmp_path)
        assert told in str(caught.value)
    place = {"outer": "projection", "folder": tmp_path, "axes": None, "repeats": 1}
    with pytest.raises(InputError, check=coded("image-key-invalid", names=["input.sample", "image_key"])):
        place_frames(FrameRequest(spec=["scan_{projection}.nxs::data[key=0]"], name="input.sample", **place))


def scene(projections=4, positions=3):
    """Raw counts of a scan with a dark signal: darks, references and samples."""
    reference, samples = frames(projections, positions)
    darks = np.full((2, *reference.shape[1:]), 100, np.float32)
    return darks, reference + 100, samples + 100


def keyed_sections(sample, angles, *, axes=None, **scan):
    """Return the sections of a scan that takes everything out of NXtomo files."""
    return sections(
        input={
            "reference": f"{sample}::{DATA}[image_key=1]",
            "sample": f"{sample}::{DATA}[image_key=0]",
            "dark": f"{sample.replace('{position}', '*')}::{DATA}[image_key=2]",
            "sample_axes": axes,
        },
        preprocess=[{"step": "dark"}],
        series={"angles": angles, **scan},
    )


@pytest.mark.parametrize(("form", "virtual"), [("a stack", True), ("a stack a position", False)])
def test_a_series_takes_everything_by_the_key(tmp_path, form, virtual):
    darks, reference, samples = scene()
    turned = [0.0, 30.0, 60.0, 90.0]
    for name, array in (("ref", reference), ("dark", darks), ("sample", samples.reshape(-1, *SHAPE))):
        np.save(tmp_path / f"{name}.npy", array)
    data = sections(
        input={
            "reference": "ref.npy",
            "sample": "sample.npy",
            "dark": "dark.npy",
            "sample_axes": "projection,position,y,x",
        },
        preprocess=[{"step": "dark"}],
        series={"angles": turned},
        output={"files": ["plain.h5"]},
    )
    expected = volumes(run_path(write_toml(tmp_path, data)))
    if form == "a stack":
        parts = [(DARK, darks), (FLAT, reference), *((PROJECTION, projection) for projection in samples[:2])]
        parts += [(DARK, darks), *((PROJECTION, projection) for projection in samples[2:])]
        write_nxtomo(tmp_path / "scan.nxs", parts, angles=np.repeat(turned, 3), virtual=virtual)
        data = keyed_sections("scan.nxs", f"scan.nxs::{ANGLE}[image_key=0]", axes="projection,position,y,x")
    else:
        for position in range(3):
            # Invalid frames at the same place of every stack leave out one projection, with its angle.
            parts = [(DARK, darks), (FLAT, reference[[position]]), (PROJECTION, samples[:1, position])]
            parts += [
                (INVALID, darks[:1]),
                (PROJECTION, samples[1:, position]),
                (FLAT, reference[[position]]),
            ]
            write_nxtomo(tmp_path / f"pos_{position}.nxs", parts, angles=turned, virtual=virtual)
        data = keyed_sections("pos_{position}.nxs", "rotation_angle", reference_at=[0, 4], between="nearest")
    assert_same(volumes(run_path(write_toml(tmp_path, data))), expected)


def test_angles_of_all_frames_are_asked_for_by_the_key(tmp_path):
    darks, reference, samples = scene()
    parts = [(DARK, darks), (FLAT, reference), *((PROJECTION, projection) for projection in samples)]
    write_nxtomo(tmp_path / "scan.nxs", parts, angles=np.repeat([0.0, 1.0, 2.0, 3.0], 3))
    data = keyed_sections("scan.nxs", f"scan.nxs::{ANGLE}", axes="projection,position,y,x")
    data["series"]["angles"] = "rotation_angle"
    assert open_setup(write_toml(tmp_path, data)).angles.tolist() == [0, 1, 2, 3]
    with h5py.File(tmp_path / "scan.nxs", "r+") as file:
        file[ANGLE].attrs["units"] = "rad"
    turned = np.rad2deg(np.arange(4.0))
    for key in ("rotation_angle", f"scan.nxs::{ANGLE}[image_key=0]"):
        data["series"]["angles"] = key
        assert np.allclose(open_setup(write_toml(tmp_path, data)).angles, turned, rtol=1e-15)
    data["series"]["angles"] = f"scan.nxs::{ANGLE}"
    with pytest.raises(InputError, check=coded("angles-unequal-number", names=["17 angles", "image_key=0"])):
        open_setup(write_toml(tmp_path, data))


@pytest.mark.parametrize("order", ["position", "projection"])
def test_an_angle_for_every_frame_of_one_stack(tmp_path, order):
    _, reference, samples = scene()
    np.save(tmp_path / "ref.npy", reference)
    stack = samples if order == "projection" else samples.swapaxes(0, 1)
    turned = np.arange(4.0)
    with h5py.File(tmp_path / "all.h5", "w") as file:
        file["data"] = stack.reshape(-1, *reference.shape[1:])
        file["angle"] = np.repeat(turned, 3) if order == "projection" else np.tile(turned, 3)
    data = sections(
        input={
            "reference": "ref.npy",
            "sample": "all.h5::data",
            "sample_axes": f"{order},{'position' if order == 'projection' else 'projection'},y,x",
        },
        series={"angles": "all.h5::angle"},
    )
    assert open_setup(write_toml(tmp_path, data)).angles.tolist() == turned.tolist()


def test_angles_that_were_never_written_are_no_zeros(tmp_path):
    write_config(tmp_path, 4)
    with h5py.File(tmp_path / "angles.h5", "w") as file:
        layout = h5py.VirtualLayout((4,), "f8")
        layout[:] = h5py.VirtualSource("gone.h5", "angle", (4,))
        file.create_virtual_dataset("angle", layout)
    data = sections(series={"angles": "angles.h5::angle"})
    with pytest.raises(InputError, check=coded("link-broken", names=["series.angles", "gone.h5"])):
        open_setup(write_toml(tmp_path, data))


AXES = ("projection", "position", "y", "x")


def laid_out(folder, spec, **changes):
    place = {"outer": "projection", "folder": Path(folder), "axes": None, "repeats": 1}
    return place_frames(FrameRequest(spec=[spec], name="input.sample", **place | changes))


def test_invalid_frames_are_left_out_where_no_other_moves(tmp_path):
    write_nxtomo(tmp_path / "one.nxs", counted([DARK, PROJECTION, INVALID, PROJECTION, FLAT, INVALID, FLAT]))
    found = laid_out(tmp_path, f"one.nxs::{DATA}[image_key=0]", positions=1)
    with FrameReader(found) as reader:
        assert [reader.read(index).frames[0, 0, 0] for index in range(found.count)] == [1, 3]
    for changes in ({"axes": AXES, "positions": 2}, {"positions": 1, "repeats": 2}):
        with pytest.raises(InputError, check=coded("frames-missing", names=["1 frame", "image_key"])):
            laid_out(tmp_path, f"one.nxs::{DATA}[image_key=0]", **changes)
    # An invalid frame among darks moves no projection.
    keys = [DARK, INVALID, DARK, PROJECTION, PROJECTION]
    write_nxtomo(tmp_path / "dark.nxs", counted(keys))
    assert laid_out(tmp_path, f"dark.nxs::{DATA}[image_key=0]", axes=AXES, positions=2).count == 1
    for number, keys in enumerate(([0, 3, 0, 0], [0, 0, 3, 0])):
        write_nxtomo(tmp_path / f"pos_{number}.nxs", counted(keys))
    with pytest.raises(InputError, check=coded("frames-missing", names=["2 frames"])):
        laid_out(tmp_path, f"pos_{{position}}.nxs::{DATA}[image_key=0]")
    write_nxtomo(tmp_path / "pos_1.nxs", counted([0, 3, 0, 0]))
    assert laid_out(tmp_path, f"pos_{{position}}.nxs::{DATA}[image_key=0]").count == 3


def test_a_file_without_a_frame_in_a_virtual_stack(tmp_path):
    layout = h5py.VirtualLayout((6, 8, 9), np.float32)
    for part in range(3):
        with h5py.File(tmp_path / f"part_{part}.h5", "w") as file:
            file["data"] = np.full((2, 8, 9), part, np.float32)
        layout[2 * part : 2 * part + 2] = h5py.VirtualSource(f"part_{part}.h5", "data", (2, 8, 9))
    with h5py.File(tmp_path / "scan.nxs", "w") as file:
        file.create_virtual_dataset("data", layout)
        file["image_key"] = [1, 0, 0, 0, 0, 2]
    (tmp_path / "part_1.h5").unlink()
    found = laid_out(tmp_path, "scan.nxs::data[image_key=0]", positions=1)
    assert sorted(found.missing) == [1, 2]
    with FrameReader(found) as reader:
        assert (reader.read(0).frames[0, 0, 0], reader.read(3).frames[0, 0, 0]) == (0, 2)
        (tmp_path / "part_2.h5").unlink()
        with pytest.raises(InputError, check=coded("file-missing", names=["part_2.h5"])):
            reader.read(3)


def test_one_projection_by_the_key(tmp_path, capsys):
    darks, reference, samples = scene(1)
    write_nxtomo(tmp_path / "scan.nxs", [(DARK, darks), (FLAT, reference), (PROJECTION, samples[0])])
    data = keyed_sections("scan.nxs", None)
    del data["series"]
    data["output"]["files"] = ["result.h5"]
    path = write_toml(tmp_path, data)
    result = call(capsys, "retrieve", path)
    assert result.code == 0, result.err
    np.save(tmp_path / "ref.npy", reference)
    np.save(tmp_path / "sample.npy", samples[0])
    np.save(tmp_path / "dark.npy", darks)
    data["input"] = {"reference": "ref.npy", "sample": "sample.npy", "dark": "dark.npy"}
    data["output"]["files"] = ["plain.h5"]
    assert call(capsys, "retrieve", write_toml(tmp_path, data, "plain.toml")).code == 0
    one, other = (xmist.open_result(tmp_path / name) for name in ("result.h5", "plain.h5"))
    assert one.phase.tobytes() == other.phase.tobytes()
    # The key is a choice: without it, nothing is left out, and check says so.
    data["input"]["sample"] = f"scan.nxs::{DATA}"
    remarks = discover(parse_configuration(write_toml(tmp_path, data))).findings
    assert "holds 2 darks, 3 flats, 3 projections according to its image_key" in str(remarks[0])


def test_frames_in_order_are_not_paired_past_an_invalid_one(tmp_path):
    keys = [FLAT, INVALID, FLAT, PROJECTION, PROJECTION]
    path = write_nxtomo(tmp_path / "scan.nxs", counted(keys))
    reference, sample = (opened(f"scan.nxs::{DATA}[image_key={key}]", tmp_path) for key in (1, 0))
    with pytest.raises(InputError, check=coded("frames-invalid")):
        pair_frames(reference, sample)
    with h5py.File(path, "r+") as file:
        file["entry/instrument/mask_x"] = [2.0, 0.0, 1.0, 1.0, 2.0]
    reference, sample = (opened(f"scan.nxs::{DATA}[image_key={key}]", tmp_path) for key in (1, 0))
    assert pair_frames(reference, sample).sample == ((1,), (0,))


@pytest.mark.parametrize("kind", ["series", "single"])
def test_a_damaged_key_ends_the_command_with_a_message(tmp_path, capsys, kind):
    darks, reference, samples = scene()
    parts = [(DARK, darks), (FLAT, reference), *((PROJECTION, projection) for projection in samples)]
    path = write_nxtomo(tmp_path / "scan.nxs", parts)
    data = keyed_sections("scan.nxs", None, axes="projection,position,y,x")
    if kind == "single":
        del data["series"]
    scan = write_toml(tmp_path, data)
    replace(path, KEY, np.full(17, 9))
    result = call(capsys, "retrieve", scan)
    assert result.code == 2
    assert "has 9 for frame 1 (17 such frames)" in result.err.replace("\n", " ")
    assert not (tmp_path / "scan.h5").exists()


def proposed(folder):
    """Return what is proposed for a folder, with the geometry filled in."""
    data = tomllib.loads(propose_configuration(folder))
    return parse_mapping(data | {"experiment": dict(GEOMETRY)}, folder=folder, source="config.toml")


@pytest.mark.parametrize("repeats", [1, 2])
def test_a_series_is_proposed_from_the_keys_of_one_stack(tmp_path, repeats):
    darks, reference, samples = scene()
    flats = (FLAT, np.repeat(reference, repeats, axis=0))
    parts = [(DARK, darks), flats, *((PROJECTION, projection) for projection in samples), flats]
    write_nxtomo(tmp_path / "t_1.nxs", parts, angles=np.repeat(np.arange(4.0), 3))
    parsed = proposed(tmp_path)
    assert parsed.series.reference_at == (0, 4)
    assert parsed.input.sample_axes == AXES
    assert parsed.series.reference_repeats == repeats
    found = open_setup(parsed)
    assert (found.table.count, found.table.positions) == (4, 3)
    assert found.angles.tolist() == [0, 1, 2, 3]
    assert np.array_equal(found.references.sets[1], reference - 100)
    assert "Was the diffuser in" in propose_configuration(tmp_path)


def test_a_series_is_proposed_from_the_keys_of_stacks_of_a_position(tmp_path):
    darks, reference, samples = scene()
    for position in range(3):
        parts = [(DARK, darks), (FLAT, reference[[position]]), (PROJECTION, samples[:, position])]
        write_nxtomo(tmp_path / f"pos_{position}.nxs", parts, angles=np.arange(4.0))
    found = open_setup(proposed(tmp_path))
    assert (found.table.count, found.table.positions) == (4, 3)
    assert np.array_equal(found.references.sets[0], reference - 100)
    with FrameReader(found.table) as reader:
        assert np.array_equal(reader.read(2).frames, samples[2])


@pytest.mark.parametrize("number", [4, 1800])
@pytest.mark.parametrize(
    ("form", "axes"),
    [
        ("stacks", "position,projection"),
        ("blocks", "position,projection"),
        ("together", "projection,position"),
    ],
)
def test_positions_are_told_apart_in_long_series_and_to_and_fro(number, form, axes):
    turned = np.linspace(0.0, 180.0, number, endpoint=False)
    each = [turned, turned[::-1], turned]
    together = np.repeat(turned, 3) if form == "together" else np.concatenate(each)
    stacks = [
        KeyedStack(
            Path(f"{place}.nxs"), np.array([1] * 3 + [0] * len(angles)), ("a", np.append([0.0] * 3, angles))
        )
        for place, angles in enumerate(each if form == "stacks" else [together])
    ]
    plan = plan_series(stacks)
    assert (plan.positions, plan.projections, plan.sample_axes) == (3, number, f"{axes},y,x")


def test_a_key_that_cannot_be_used_is_not_proposed(tmp_path):
    path = write_nxtomo(tmp_path / "sample.nxs", counted([FLAT, PROJECTION]))
    assert "[image_key=1]" in propose_configuration(tmp_path)
    for values in ([1], [5, 0], [0, 0]):
        replace(path, KEY, values)
        text = propose_configuration(tmp_path)
        # Both names lead to the same dataset.
        assert any(f'sample = "sample.nxs::{name}"' in text for name in (DATA, "/entry/data/data"))
        assert "image_key" not in text


def test_references_in_more_parts_than_sets_are_noted(tmp_path):
    darks, reference, samples = scene()
    flats = (FLAT, reference)
    parts = [
        (DARK, darks),
        flats,
        *((PROJECTION, projection) for projection in samples),
        (DARK, darks),
        flats,
    ]
    write_nxtomo(tmp_path / "scan.nxs", parts)
    for changes, told in (({"reference_at": [0, 4]}, 0), ({"reference_repeats": 2}, 1)):
        data = keyed_sections("scan.nxs", None, axes="projection,position,y,x", **changes)
        remarks = open_setup(write_toml(tmp_path, data)).findings
        assert len(remarks) == told
    assert "holds references in 2 parts with projections between, and series.reference_at makes 1 set" in str(
        remarks[0]
    )


def test_what_a_key_tells_is_described(tmp_path):
    write_nxtomo(tmp_path / "scan.nxs", counted([DARK, FLAT, FLAT, PROJECTION, INVALID]))
    found = describe_frames(tmp_path / "scan.nxs")
    assert found["image_key"] == {"darks": 1, "flats": 2, "projections": 1, "invalid": 1}
    assert "image_key" not in describe_frames(f"{tmp_path / 'scan.nxs'}::[image_key=1]")


@pytest.mark.parametrize("axes", [None, ("position", "set", "repeat", "y", "x")])
def test_references_are_the_mean_of_the_repeats_that_are_valid(tmp_path, axes):
    sets = [[FLAT, INVALID, FLAT], [INVALID, FLAT, FLAT], [FLAT, FLAT, FLAT], [FLAT, FLAT, INVALID]]
    for position in (0, 1):
        keys = [*sets[2 * position], PROJECTION, PROJECTION, DARK, *sets[2 * position + 1]]
        write_nxtomo(tmp_path / f"pos_{position}.nxs", counted(keys))
    spec = f"pos_{'{position}' if axes is None else '*'}.nxs::{DATA}[image_key=1]"
    place = {"outer": "set", "folder": tmp_path, "axes": axes, "repeats": 3}
    found = place_frames(FrameRequest(spec=[spec], name="input.reference", count=2, **place))
    assert not found.missing
    with FrameReader(found) as reader:
        read = [reader.read(number).frames[:, 0, 0].tolist() for number in (0, 1)]
    assert read == [[1, 1], [7.5, 6.5]]
    for wrong in ({"repeats": 2, "count": 2}, {"repeats": 3, "count": 1}):
        with pytest.raises(InputError):
            place_frames(FrameRequest(spec=[spec], name="input.reference", **place | wrong))
