"""Arrays of any axes, one file or entry a position, unequal repeats: through the command line."""

import json

import h5py
import numpy as np
import pytest
import tifffile

import xmist
from tests.cli.scenes import call
from tests.workflow.nxtomo import DARK, FLAT, PROJECTION, write_nxtomo
from tests.workflow.series_scenes import POSITIONS, frames, sections, volumes, write_config, write_toml
from xmist.workflow import guard

PROJECTIONS = 4
ANGLES = [30.0 * number for number in range(PROJECTIONS)]
DATA = "/entry/instrument/detector/data"


@pytest.fixture(autouse=True)
def inline(monkeypatch):
    """Read HDF5 in this process: a child costs a second."""
    monkeypatch.setattr(guard, "call", lambda function, *arguments, **_: function(*arguments))


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """What the series gives that is stored as a file for each frame."""
    folder = tmp_path_factory.mktemp("plain")
    return volumes(xmist.run(write_config(folder, PROJECTIONS)).path)


def retrieved(capsys, folder, **changes):
    """Retrieve a configuration over the command line; give the arrays of the series."""
    done = call(capsys, "retrieve", write_toml(folder, sections(**changes)), "--overwrite")
    assert done.code == 0, done.err
    return volumes(folder / "scan.h5"), done


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        if array.dtype.kind in "fiu" and name != "table/digest":
            assert np.array_equal(found[name], array, equal_nan=array.dtype.kind == "f"), name


def assert_close(found, expected):
    """The mean of three and more float32 numbers near 1e4 is exact to 1e-3 of them."""
    np.testing.assert_allclose(found["phase"], expected["phase"], atol=1e-2 * np.ptp(expected["phase"]))


def codes(folder):
    """Return the codes of errors and findings that check finds."""
    from xmist.workflow.configuration import parse_configuration
    from xmist.workflow.discovery import discover

    found = discover(parse_configuration(folder / "config.toml"))
    return [record.code for record in (*found.errors, *found.findings)]


def stored(order, array):
    """Return an array (projection, position, y, x) in another order of its axes."""
    names = ["projection", "position", "y", "x"]
    return np.ascontiguousarray(array.transpose([names.index(axis) for axis in order.split(",")]))


ORDERS = [
    "projection,position,y,x",
    "position,projection,y,x",
    "y,x,position,projection",
    "x,y,projection,position",
    "projection,y,x,position",
]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("ending", ["npy", "h5"])
def test_four_axes_in_any_order(tmp_path, capsys, expected, order, ending):
    reference, samples = frames(PROJECTIONS)
    array = stored(order, samples)
    np.save(tmp_path / "ref.npy", reference)
    if ending == "npy":
        np.save(tmp_path / "all.npy", array)
    else:
        with h5py.File(tmp_path / "all.h5", "w") as file:
            chunks = tuple(max(1, size // 2) for size in array.shape)
            file.create_dataset("entry/data", data=array, chunks=chunks, compression=1)
    names = {"reference": "ref.npy", "sample": f"all.{ending}", "reference_axes": "position,y,x"}
    found, _ = retrieved(capsys, tmp_path, input=names | {"sample_axes": order})
    assert_equal(found, expected)
    # An order that the array does not have is one error, which states its shape.
    write_toml(tmp_path, sections(input=names | {"sample_axes": "position,repeat,projection,y,x"}))
    (code,) = set(codes(tmp_path))
    assert code in ("axes-mismatch", "frames-unsupported")  # as frames of 3 × 4 pixels


@pytest.mark.parametrize("stated", ["labels", "scales", "nexus"])
def test_axes_that_the_file_states(tmp_path, capsys, expected, stated):
    reference, samples = frames(PROJECTIONS)
    np.save(tmp_path / "ref.npy", reference)
    names = ["position", "rotation_angle", "y", "x"]
    array = stored("position,projection,y,x", samples)
    with h5py.File(tmp_path / "all.h5", "w") as file:
        group = file.create_group("entry")
        data = group.create_dataset("data", data=array)
        if stated == "labels":
            for number, name in enumerate(names):
                data.dims[number].label = name
        elif stated == "scales":
            for number, name in enumerate(names):
                scale = file.create_dataset(name, data=np.arange(float(array.shape[number])))
                scale.make_scale(name)
                data.dims[number].attach_scale(scale)
        else:
            group.attrs.update({"NX_class": "NXdata", "signal": "data", "axes": [*names[:2], ".", "."]})
    found, _ = retrieved(capsys, tmp_path, input={"reference": "ref.npy", "sample": "all.h5::/entry/data"})
    assert_equal(found, expected)


def test_axes_that_nothing_states(tmp_path, capsys):
    reference, samples = frames(PROJECTIONS)
    np.save(tmp_path / "ref.npy", reference)
    np.save(tmp_path / "all.npy", samples)
    path = write_toml(tmp_path, sections(input={"reference": "ref.npy", "sample": "all.npy"}))
    assert codes(tmp_path) == ["axes-missing"]
    done = call(capsys, "retrieve", path)
    assert done.code == 2
    assert f"{samples.shape}" in done.err
    for axes, code in (
        ("position,projection,y,x", "axes-mismatch"),  # 4 positions of 3
        ("projection,y,x", "axes-mismatch"),
        ("projection,position,y", "option-invalid"),
        ("projection,position,y,x,z", "option-invalid"),
    ):
        write_toml(
            tmp_path,
            sections(input={"reference": "ref.npy", "sample": "all.npy", "sample_axes": axes}),
        )
        assert code in codes(tmp_path)


def test_an_axis_of_length_1(tmp_path, capsys, expected):
    reference, samples = frames(PROJECTIONS)
    np.save(tmp_path / "ref.npy", reference[:, None])
    for projection, stack in enumerate(samples):
        np.save(tmp_path / f"p_{projection}.npy", stack[None])
    found, _ = retrieved(capsys, tmp_path, input={"reference": "ref.npy", "sample": "p_{projection}.npy"})
    assert_equal(found, expected)


def test_frames_along_the_last_axis(tmp_path, capsys):
    """16 frames of 32 × 32 pixels stored as (y, x, position), as Matlab does."""
    reference, samples = frames(1, 16, (32, 32))
    for name, stack in (("ref", reference), ("sample", samples[0])):
        np.save(tmp_path / f"{name}.npy", stack)
        np.save(tmp_path / f"{name}_last.npy", np.moveaxis(stack, 0, -1))
        with h5py.File(tmp_path / f"{name}_last.h5", "w") as file:
            file["data"] = np.moveaxis(stack, 0, -1)

    def options(ending, *more):
        roles = (f"--reference=ref{ending}", f"--sample=sample{ending}")
        geometry = ("--energy-kev=17", "--pixel-size=5e-6", "--sample-to-detector=1", "--method=mist")
        return (*roles, *geometry, "--option=smoothing=1", "-o", "out.h5", "--overwrite", *more)

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        results = []
        for ending, more in (
            (".npy", ()),
            ("_last.npy", ("--sample-axes=y,x,position",)),
            ("_last.h5", ("--sample-axes=y,x,position", "--reference-axes=y,x,position")),
        ):
            done = call(capsys, "retrieve", *options(ending, *more))
            assert done.code == 0, done.err
            results.append(xmist.open_result("out.h5").phase)
        for result in results[1:]:
            assert np.array_equal(results[0], result)
        done = call(capsys, "check", *options("_last.npy", "--json"))
        found = [finding["code"] for finding in json.loads(done.out)["findings"]]
        assert found.count("frames-last") == 2
        done = call(capsys, "check", *options("_last.npy", "--json", "--sample-axes=position,y,x"))
        assert "frames-last" not in [finding["code"] for finding in json.loads(done.out)["findings"]]


@pytest.mark.parametrize("ending", ["npy", "h5", "tif"])
def test_init_of_three_frames_along_the_last_axis(tmp_path, capsys, ending):
    reference, samples = frames(1, 3, (32, 32))
    for name, stack in (("reference", reference), ("sample", samples[0])):
        last = np.moveaxis(stack, 0, -1)
        if ending == "npy":
            np.save(tmp_path / f"{name}.npy", last)
        elif ending == "tif":
            tifffile.imwrite(tmp_path / f"{name}.tif", last, photometric="minisblack", metadata=None)
        else:
            with h5py.File(tmp_path / f"{name}.h5", "w") as file:
                file["data"] = last
    done = call(capsys, "init", tmp_path)
    assert done.code == 0, done.err
    given = ("--energy-kev=17", "--pixel-size=5e-6", "--sample-to-detector=1", "--method=mist")
    done = call(capsys, "retrieve", tmp_path / "config.toml", *given)
    assert done.code == 0, done.err
    found = xmist.open_result(tmp_path / "result.h5")
    stack = xmist.SpeckleStack(reference, samples[0])
    alone = xmist.retrieve(stack, found.experiment, method="mist")
    assert np.corrcoef(found.phase.ravel(), alone.phase.ravel())[0, 1] > 0.99  # but for pixels at the border


def test_axes_of_x_and_y_swapped_between_reference_and_sample(tmp_path):
    reference, samples = frames(1)
    np.save(tmp_path / "ref.npy", reference)
    np.save(tmp_path / "sample.npy", samples[0].swapaxes(1, 2))
    names = {"reference": "ref.npy", "sample": "sample.npy"}
    data = sections(input=names)
    del data["series"]
    write_toml(tmp_path, data)
    assert "shape-mismatch" in codes(tmp_path)
    data["input"] |= {"sample_axes": "position,x,y", "reference_axes": "position,y,x"}
    write_toml(tmp_path, data)
    assert codes(tmp_path) == []


def test_repeats_on_an_axis_or_in_the_names(tmp_path, capsys, expected):
    reference, samples = frames(PROJECTIONS)
    offsets = np.array([-8.0, 0.0, 8.0], np.float32)
    np.save(tmp_path / "ref.npy", reference[None] + offsets[:, None, None, None])
    np.save(tmp_path / "all.npy", samples[:, None] + offsets[:, None, None, None])
    names = {"reference": "ref.npy", "reference_axes": "repeat,position,y,x"}
    names |= {"sample": "all.npy", "sample_axes": "projection,repeat,position,y,x"}
    found, _ = retrieved(capsys, tmp_path, input=names)
    for position, frame in enumerate(reference):
        for repeat, offset in enumerate(offsets):
            tifffile.imwrite(tmp_path / f"r_{position}_{repeat}.tif", frame + offset)
    for projection, position in np.ndindex(*samples.shape[:2]):
        for repeat, offset in enumerate(offsets):
            frame = samples[projection, position] + offset
            tifffile.imwrite(tmp_path / f"p_{projection}_{position}_{repeat}.tif", frame)
    names = {"reference": "r_{position}_{repeat}.tif", "sample": "p_{projection}_{position}_{repeat}.tif"}
    also, _ = retrieved(capsys, tmp_path, input=names)
    for each in (found, also):
        assert_close(each, expected)
    assert np.array_equal(found["phase"], also["phase"])
    # A reference frame that was lost leaves the mean of the others.
    (tmp_path / "r_1_2.tif").unlink()
    retrieved(capsys, tmp_path, input=names)
    (tmp_path / "p_2_1_0.tif").unlink()  # a projection is not averaged over fewer
    assert "projections-incomplete" in codes(tmp_path)


@pytest.mark.parametrize("form", ["npy", "tiff", "nxtomo", "entries"])
def test_another_number_of_reference_frames_at_each_position(tmp_path, capsys, expected, form):
    reference, samples = frames(PROJECTIONS)
    for position in range(POSITIONS):
        number = 2 + position
        offsets = np.linspace(-4, 4, number, dtype=np.float32)[:, None, None]
        stack = reference[position] + offsets
        if form in ("nxtomo", "entries"):
            path = tmp_path / f"pos_{position}.nxs"
            dark = np.zeros_like(stack[:1])
            parts = [(DARK, dark), (FLAT, stack), (PROJECTION, samples[:, position])]
            write_nxtomo(path, parts, angles=ANGLES, links=False)
            with h5py.File(path) as one, h5py.File(tmp_path / "all.nxs", "a") as file:
                one.copy("entry", file, f"entry_{position}")
        elif form == "tiff":
            tifffile.imwrite(tmp_path / f"ref_{position}.tif", stack, photometric="minisblack")
        else:
            np.save(tmp_path / f"ref_{position}.npy", stack)
        for projection, frame in enumerate(samples[:, position]):
            tifffile.imwrite(tmp_path / f"p_{projection}_{position}.tif", frame)
    if form == "entries":
        for position in range(POSITIONS):
            (tmp_path / f"pos_{position}.nxs").unlink()
    if form in ("npy", "tiff"):
        ending = {"npy": "npy", "tiff": "tif"}[form]
        for more in ({"reference": f"ref_{{position}}.{ending}"}, {"reference_axes": "position,repeat,y,x"}):
            found, _ = retrieved(capsys, tmp_path, input={"reference": f"ref_*.{ending}"} | more)
            np.testing.assert_allclose(
                found["phase"], expected["phase"], atol=1e-2 * np.ptp(expected["phase"])
            )
        return
    for path in tmp_path.glob("p_*.tif"):
        path.unlink()
    # What init proposes needs no more than the geometry.
    done = call(capsys, "init", tmp_path, "--overwrite")
    assert done.code == 0, done.err
    from xmist.workflow.configuration import parse_configuration

    parsed = parse_configuration(tmp_path / "config.toml")
    assert parsed.input.sample_axes == ("position", "projection", "y", "x")
    series = {"angles": parsed.series_section.angles, "reference_at": [0]}
    names = {key: getattr(parsed.input, key) for key in ("reference", "sample", "dark")}
    names |= {"sample_axes": parsed.input.sample_axes, "reference_axes": parsed.input.reference_axes}
    found, _ = retrieved(capsys, tmp_path, input=names, preprocess=[{"step": "dark"}], series=series)
    assert found["table/angle"].tolist() == ANGLES
    assert_close(found, expected)


def proposed(capsys, folder):
    """Return what init proposes for a folder, with the geometry."""
    from xmist.workflow.configuration import parse_configuration

    done = call(capsys, "init", folder, "--overwrite")
    assert done.code == 0, done.err
    return parse_configuration(folder / "config.toml", {"experiment": sections()["experiment"]})


@pytest.mark.parametrize("references", ["each", "before", "interleaved"])
def test_one_stack_whose_angles_come_again(tmp_path, capsys, references):
    """Position after position, with references at each of them or all before; or references between."""
    from tests.workflow.series_scenes import open_setup

    reference, samples = frames(PROJECTIONS)
    flats = [(FLAT, frame[None]) for frame in reference]
    dark = (DARK, np.zeros_like(reference[:1]))
    rows = [(PROJECTION, samples[:, position]) for position in range(POSITIONS)]
    angles = np.tile(ANGLES, POSITIONS)
    if references == "each":
        parts = [dark, *(part for pair in zip(flats, rows, strict=True) for part in pair)]
    elif references == "before":
        parts = [dark, *flats, *rows]
    else:
        parts = [dark]
        for projection in samples:
            for flat, frame in zip(flats, projection, strict=True):
                parts += [flat, (PROJECTION, frame[None])]
        angles = np.repeat(ANGLES, POSITIONS)
    write_nxtomo(tmp_path / "scan.nxs", parts, angles=angles, links=False)
    setup = open_setup(proposed(capsys, tmp_path))
    assert (setup.table.count, setup.table.positions) == (PROJECTIONS, POSITIONS)
    assert setup.angles.tolist() == ANGLES
    for found in setup.references.sets:
        assert np.array_equal(found, reference)
    assert len(setup.references.sets) == (PROJECTIONS if references == "interleaved" else 1)
    from xmist.workflow.frames import FrameReader

    with FrameReader(setup.table) as reader:
        for projection in range(PROJECTIONS):
            assert np.array_equal(reader.read(projection).frames, samples[projection])


def test_a_series_in_several_files(tmp_path, capsys):
    from tests.workflow.series_scenes import open_setup
    from xmist.workflow.frames import FrameReader

    reference, samples = frames(PROJECTIONS)
    for part in range(2):
        folder = tmp_path / f"part_{part}"
        folder.mkdir()
        some = slice(2 * part, 2 * part + 2)
        parts = [(FLAT, reference), *((PROJECTION, projection) for projection in samples[some])]
        write_nxtomo(folder / "scan.nxs", parts, angles=np.repeat(ANGLES[some], POSITIONS), links=False)
    setup = open_setup(proposed(capsys, tmp_path))
    assert setup.angles.tolist() == ANGLES
    assert setup.references.times == (0, 2)
    with FrameReader(setup.table) as reader:
        for projection in range(PROJECTIONS):
            assert np.array_equal(reader.read(projection).frames, samples[projection])


def test_a_folder_a_projection(tmp_path, capsys, expected):
    reference, samples = frames(PROJECTIONS)
    np.save(tmp_path / "ref.npy", reference)
    for projection, position in np.ndindex(*samples.shape[:2]):
        folder = tmp_path / f"angle_{projection:03d}"
        folder.mkdir(exist_ok=True)
        tifffile.imwrite(folder / f"pos_{position}.TIF", samples[projection, position])
    names = {"reference": "ref.npy", "sample": "angle_{projection}/pos_{position}.tif"}
    found, _ = retrieved(capsys, tmp_path, input=names)
    assert_equal(found, expected)
