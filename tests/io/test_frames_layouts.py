"""Frames as programs and detectors write them: planes, offsets, one header for many frames, links."""

import gzip
import unicodedata
import warnings
from itertools import permutations

import h5py
import numpy as np
import pytest
import tifffile

from tests.cli.scenes import GEOMETRY, SHAPE, call, frames, write_config
from tests.coded import coded
from tests.io.frames_files import make_frames, write_edf
from xmist import InputError, open_result
from xmist.io.frames.frames import load_frames, open_frames
from xmist.workflow.rotation import known_angles


def opened(spec, folder, **options):
    return open_frames(spec, name="input.reference", folder=folder, **options)


def loaded(spec, folder):
    return load_frames(opened(spec, folder), dtype=np.float64).frames


def refused(spec, folder):
    with pytest.raises(InputError) as caught:
        loaded(spec, folder)
    return caught.value.codes


# TIFF


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.float32])
@pytest.mark.parametrize("count", [2, 3, 4, 5])
@pytest.mark.parametrize(
    "options",
    [{}, {"compression": "zlib"}, {"rowsperstrip": 5, "byteorder": ">"}, {"imagej": True}, {"ome": True}],
    ids=["plain", "compressed", "strips", "ImageJ", "OME"],
)
def test_stacks_of_3_or_4_frames_are_frames(tmp_path, count, dtype, options):
    if "imagej" in options and dtype == np.uint32:
        options = {"bigtiff": True}  # ImageJ has no 32-bit integers
    frames = make_frames(count, (20, 33), dtype) // 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tifffile warns that it will write pages one day
        tifffile.imwrite(tmp_path / "stack.tif", frames, **options)
    series = opened("stack.tif", tmp_path)
    assert len(series) == count
    for index in (count - 1, 0):
        np.testing.assert_array_equal(series.read(index), frames[index])


@pytest.mark.parametrize("axes", list(permutations(("position", "y", "x"))), ids=",".join)
@pytest.mark.parametrize("ending", ["tif", "edf"])
def test_pages_may_count_any_axis(tmp_path, ending, axes):
    frames = make_frames(5, (20, 33), np.uint16)
    stored = np.ascontiguousarray(frames.transpose([("position", "y", "x").index(axis) for axis in axes]))
    if ending == "tif":
        tifffile.imwrite(tmp_path / "a.tif", stored, photometric="minisblack", compression="zlib")
    else:
        write_edf(tmp_path / "a.edf", list(stored))
    series = opened(f"a.{ending}", tmp_path, axes=axes)
    assert (len(series), series.shape) == (5, (20, 33))
    assert np.array_equal(load_frames(series, dtype=np.float64).frames, frames)
    assert np.array_equal(series.read(3), frames[3])


@pytest.mark.parametrize("name", ["a.tif", "a.npy"])
def test_single_frames_may_be_transposed(tmp_path, name):
    frames = make_frames(1, (20, 33), np.float32)
    if name == "a.npy":
        np.save(tmp_path / name, frames[0].T)
    else:
        tifffile.imwrite(tmp_path / name, frames[0].T)
    assert np.array_equal(load_frames(opened(name, tmp_path, axes=("x", "y"))).frames, frames)


def test_interleaved_colour_is_refused(tmp_path):
    for count, mode in ((3, "rgb"), (4, "rgb")):
        tifffile.imwrite(tmp_path / "a.tif", np.zeros((20, 33, count), np.uint16), photometric=mode)
        assert refused("a.tif", tmp_path) == ("frames-unsupported",)


def test_signed_numbers_of_imagej(tmp_path):
    frames = make_frames(3, dtype=np.int16) // 2
    stored = (frames.astype(np.int32) + 32768).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", stored, imagej=True, metadata={"c0": -32768.0, "c1": 1.0})
    series = opened("a.tif", tmp_path)
    assert series.dtype == np.int16
    np.testing.assert_array_equal(series.read(2), frames[2])
    tifffile.imwrite(tmp_path / "b.tif", stored, imagej=True)  # without a calibration they are counts
    np.testing.assert_array_equal(opened("b.tif", tmp_path).read(2), stored[2])


def test_frames_in_which_0_is_white_are_inverted_with_a_warning(tmp_path):
    frames = make_frames(3, (20, 33), np.uint16)
    for compression in (None, "zlib"):
        name = f"a_{compression}.tif"
        tifffile.imwrite(tmp_path / name, 65535 - frames, photometric="miniswhite", compression=compression)
        loaded = load_frames(opened(name, tmp_path))
        np.testing.assert_array_equal(loaded.frames, frames)
        assert [one.code for one in loaded.findings] == ["frames-inverted"]
    tifffile.imwrite(tmp_path / "b.tif", frames.astype(np.float32), photometric="miniswhite")
    assert refused("b.tif", tmp_path) == ("frames-unsupported",)
    with tifffile.TiffWriter(tmp_path / "c.tif") as file:
        for frame, mode in zip(frames, ("minisblack", "miniswhite", "minisblack"), strict=True):
            file.write(frame, photometric=mode, metadata=None)
    assert refused("c.tif", tmp_path) == ("shape-mismatch",)


# EDF


def one_header(frames, *, general="", end="\n", order="<", keys=None):
    """Return an EDF file with one header for all frames."""
    kind = {"u2": "UnsignedShort", "i4": "SignedInteger", "f4": "FloatValue"}[frames.dtype.str[1:]]
    given = {
        "ByteOrder": "HighByteFirst" if order == ">" else "LowByteFirst",
        "DataType": kind,
        "Dim_1": frames.shape[2],
        "Dim_2": frames.shape[1],
        "Size": frames[0].nbytes,
        "Num_Images": len(frames),
        "motor_mne": "mask_x om",
        "motor_pos": "1.5 7",
    } | (keys or {})
    lines = "".join(f"{key} = {value} ;{end}" for key, value in given.items() if value is not None)
    header = f"{general}{{{end}{lines}".encode()
    padded = header.ljust(-(-(len(header) + 3) // 512) * 512 - len(end) - 1)
    return padded + f"}}{end}".encode() + frames.astype(frames.dtype.newbyteorder(order)).tobytes()


GENERAL = "{\nEDF_DataFormatVersion = 2.4 ;\nEDF_BinarySize = 0 ;\nWavelength = 1e-10 ;\n}\n"


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"end": "\r\n"},
        {"order": ">"},
        {"general": GENERAL},
        {"keys": {"Num_Images": None, "Dim_3": 5, "Size": None}},
        {"keys": {"Num_Images": None, "Dim_3": 5, "Size": None, "EDF_BinarySize": 5 * 12 * 17 * 4}},
    ],
    ids=["plain", "line ends", "big-endian", "general block", "Dim_3", "Dim_3 and its size"],
)
def test_edf_with_one_header_for_many_frames(tmp_path, dtype, options):
    frames = make_frames(5, dtype=dtype)
    if (options.get("keys") or {}).get("EDF_BinarySize") and frames.itemsize != 4:
        options = {"keys": options["keys"] | {"EDF_BinarySize": frames.nbytes}}
    (tmp_path / "a.edf").write_bytes(one_header(frames, **options))
    series = opened("a.edf", tmp_path)
    assert len(series) == 5
    np.testing.assert_array_equal(np.stack(list(series.frames(range(5)))), frames)
    assert series.header(4)["om"] == "7"


@pytest.mark.parametrize("form", ["planes", "compressed planes", "line ends", "big-endian", "general block"])
def test_stacks_of_one_header_or_of_planes_are_retrieved(tmp_path, capsys, form):
    """References, sample, dark and flat frames of one kind of file, through the command line."""
    reference, sample = (np.round(stack).astype(np.uint16) for stack in frames(3))
    more = {
        "dark": make_frames(3, SHAPE, np.uint16) % 7,
        "flat": 9000 + make_frames(4, SHAPE, np.uint16) % 99,
    }
    roles = {"reference": reference, "sample": sample, **more}
    options = {
        "line ends": {"end": "\r\n"},
        "big-endian": {"order": ">"},
        "general block": {"general": GENERAL},
    }
    for role, stack in roles.items():
        np.save(tmp_path / f"{role}.npy", stack)
        if "planes" in form:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # tifffile warns that it will write pages one day
                compression = "zlib" if "compressed" in form else None
                tifffile.imwrite(tmp_path / f"{role}.tif", stack.astype(np.float32), compression=compression)
        else:
            (tmp_path / f"{role}.edf").write_bytes(one_header(stack, **options[form]))
    ending = "tif" if "planes" in form else "edf"
    found = []
    for name in (ending, "npy"):
        inputs = {role: f"{role}.{name}" for role in roles}
        steps = [{"step": "dark"}, {"step": "flat"}]
        path = write_config(tmp_path, input=inputs, preprocess=steps, output={"files": [f"{name}.h5"]})
        assert call(capsys, "retrieve", path).code == 0
        found.append(open_result(tmp_path / f"{name}.h5"))
    for name, image in found[1].channels():
        assert np.array_equal(getattr(found[0], name), image, equal_nan=True)


def test_edf_that_holds_fewer_frames_than_its_header_states(tmp_path):
    frames = make_frames(5)
    (tmp_path / "a.edf").write_bytes(one_header(frames, keys={"Num_Images": 6}))
    assert refused("a.edf", tmp_path) == ("file-damaged",)


def test_edf_whose_frames_all_have_headers_that_state_their_number(tmp_path):
    frames = make_frames(3)
    write_edf(tmp_path / "a.edf", frames, [{"Num_Images": "3"}] * 3)
    np.testing.assert_array_equal(loaded("a.edf", tmp_path), frames)


@pytest.mark.parametrize("name", ["a.edf.gz", "A.EDF.GZ"])
def test_gzipped_edf(tmp_path, name):
    frames = make_frames(3, dtype=np.float32)
    write_edf(tmp_path / "plain.edf", frames)
    packed = gzip.compress((tmp_path / "plain.edf").read_bytes())
    (tmp_path / name).write_bytes(packed)
    np.testing.assert_array_equal(loaded(name, tmp_path), frames)
    (tmp_path / name).write_bytes(packed[:-50])
    assert refused(name, tmp_path)[0] in ("file-damaged", "file-unreadable")


def test_a_gzipped_file_that_is_no_edf(tmp_path):
    (tmp_path / "a.tif.gz").write_bytes(gzip.compress(b"II*\0"))
    assert refused("a.tif.gz", tmp_path) == ("format-unknown",)
    (tmp_path / "a.edf.gz").write_bytes(b"\x1f\x8b")
    assert set(refused("a.edf.gz", tmp_path)) <= {"file-damaged", "file-unreadable"}


# Links of HDF5


def link(path, target, inside="/d"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["d"] = h5py.ExternalLink(str(target), inside)


def virtual(path, sources, shape, dtype):
    with h5py.File(path, "w") as file:
        layout = h5py.VirtualLayout((len(sources) * shape[0], *shape[1:]), dtype)
        for number, source in enumerate(sources):
            layout[number * shape[0] : (number + 1) * shape[0]] = h5py.VirtualSource(str(source), "d", shape)
        file.create_virtual_dataset("d", layout)


@pytest.fixture
def raw(tmp_path):
    """Frames in a file of raw data, in a folder of its own."""
    frames = make_frames(4)
    (tmp_path / "raw").mkdir()
    with h5py.File(tmp_path / "raw" / "camera.h5", "w") as file:
        file["d"] = frames
    return frames


@pytest.mark.parametrize("kind", ["beside", "absolute", "link to a link", "soft link", "other disk", "moved"])
def test_links_to_raw_data_anywhere_are_followed(tmp_path, raw, kind):
    target = tmp_path / "raw" / "camera.h5"
    master = tmp_path / "visit" / "processed" / "master.h5"
    link(master, "../../raw/camera.h5" if kind in ("beside", "link to a link", "soft link") else target)
    if kind == "link to a link":
        link(tmp_path / "second.h5", master)
        master = tmp_path / "second.h5"
    if kind == "soft link":
        with h5py.File(master, "r+") as file:
            file["e"] = h5py.SoftLink("/d")
    if kind == "other disk":  # a symbolic link to the folder of the raw data
        (master.parent / "raw").symlink_to(tmp_path / "raw")
        link(master, "raw/camera.h5")
    if kind == "moved":  # copied together with its raw data
        target.rename(master.parent / "camera.h5")
    spec = f"{master}::e" if kind == "soft link" else master
    series = opened(spec, None)
    np.testing.assert_array_equal(load_frames(series, dtype=float).frames, raw)
    assert [path.name for path in series.files] == [master.name, "camera.h5"]
    assert all(path.is_file() for path in series.files)


@pytest.mark.parametrize("kind", ["relative", "absolute", "through a link"])
def test_virtual_datasets_of_raw_data_anywhere(tmp_path, raw, kind):
    (tmp_path / "visit").mkdir()
    source = "../raw/camera.h5" if kind == "relative" else tmp_path / "raw" / "camera.h5"
    if kind == "through a link":
        link(tmp_path / "raw" / "first.h5", "camera.h5")
        source = "../raw/first.h5"
    virtual(tmp_path / "visit" / "master.h5", [source, source], raw.shape, raw.dtype)
    frames = loaded("visit/master.h5", tmp_path)
    np.testing.assert_array_equal(frames, np.concatenate([raw, raw]))


def test_a_symbolic_link_to_a_master(tmp_path, raw):
    link(tmp_path / "store" / "master.h5", "../raw/camera.h5")
    (tmp_path / "visit").mkdir()
    (tmp_path / "visit" / "short.h5").symlink_to(tmp_path / "store" / "master.h5")
    np.testing.assert_array_equal(loaded("visit/short.h5", tmp_path), raw)


def test_links_that_lead_to_nothing(tmp_path, raw):
    link(tmp_path / "a.h5", "raw/gone.h5")
    assert refused("a.h5::d", tmp_path) == ("link-broken",)
    assert refused("a.h5", tmp_path) == ("dataset-missing",)
    with pytest.raises(
        InputError, check=coded("dataset-missing", names=["gone.h5"])
    ):  # the target is named, also where no path was given
        opened("a.h5", tmp_path)
    link(tmp_path / "b.h5", "raw/camera.h5", "/gone")
    assert refused("b.h5::d", tmp_path) == ("link-broken",)
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file["d"] = h5py.SoftLink("/d")  # a circle
    assert refused("c.h5::d", tmp_path) == ("link-broken",)
    virtual(tmp_path / "d.h5", ["raw/camera.h5", "raw/gone.h5"], raw.shape, raw.dtype)
    assert refused("d.h5", tmp_path) == ("link-broken",)


@pytest.mark.parametrize("kind", ["beside", "absolute", "two files"])
def test_numbers_in_raw_files(tmp_path, monkeypatch, kind):
    frames = make_frames(4)
    content = frames.tobytes()
    (tmp_path / "visit" / "raw").mkdir(parents=True)
    names = ["raw/a.bin"] if kind != "two files" else ["raw/a.bin", "raw/b.bin"]
    size = len(content) // len(names)
    for number, name in enumerate(names):
        (tmp_path / "visit" / name).write_bytes(bytes(16) + content[number * size : (number + 1) * size])
    if kind == "absolute":
        names = [str(tmp_path / "visit" / name) for name in names]
    with h5py.File(tmp_path / "visit" / "a.h5", "w") as file:
        external = [(name, 16, size) for name in names]
        file.create_dataset("d", frames.shape, frames.dtype, external=external)
    monkeypatch.chdir(tmp_path)  # HDF5 itself looks in the current folder
    series = opened("visit/a.h5", None)
    np.testing.assert_array_equal(load_frames(series, dtype=float).frames, frames)
    assert [path.name for path in series.files] == ["a.h5", *(name.rpartition("/")[2] for name in names)]
    (tmp_path / "visit" / "raw" / "a.bin").unlink()
    assert refused("visit/a.h5", None) == ("dataset-incomplete",)


@pytest.mark.parametrize("name", ["pixel_mask", "flatfield", "flat_field", "virtual_pixel_mask_applied"])
def test_images_that_describe_the_detector_are_not_frames(tmp_path, name):
    frames = make_frames(3)
    with h5py.File(tmp_path / "master.h5", "w") as file:
        file["entry/data/data_000001"] = frames
        file[f"entry/instrument/detector/detectorSpecific/{name}"] = np.zeros((12, 17), np.uint32)
        file["entry/instrument/detector/x_pixel_offset"] = np.zeros((12, 17))
    np.testing.assert_array_equal(loaded("master.h5", tmp_path), frames)
    with h5py.File(tmp_path / "master.h5", "r+") as file:
        file["entry/data/data_errors"] = np.sqrt(frames)
        file["entry/instrument/detector/pixel_mask_1"] = np.zeros((1, 12, 17), np.uint32)
    np.testing.assert_array_equal(loaded("master.h5", tmp_path), frames)
    with h5py.File(tmp_path / "master.h5", "r+") as file:
        del file["entry/data"]
    assert refused("master.h5", tmp_path) == ("dataset-ambiguous",)  # nothing else could be meant


@pytest.mark.parametrize("kind", ["below", "beside", "absolute", "virtual", "soft"])
def test_init_lists_positions_that_are_links(tmp_path, capsys, kind):
    (tmp_path / "raw").mkdir()
    (tmp_path / "visit").mkdir()
    for role in ("ref", "sample"):
        for position in range(3):
            raw = tmp_path / ("visit" if kind == "below" else "raw") / f".{role}_{position}.raw.h5"
            with h5py.File(raw, "w") as file:
                file["d"] = make_frames(1, (20, 24), seed=position)[0]
            with h5py.File(tmp_path / "visit" / f"{role}_{position}.h5", "w") as file:
                if kind == "virtual":
                    layout = h5py.VirtualLayout((20, 24), np.uint16)
                    layout[...] = h5py.VirtualSource(f"../raw/{raw.name}", "d", (20, 24))
                    file.create_virtual_dataset("entry/data", layout)
                    continue
                target = {"below": raw.name, "absolute": str(raw)}.get(kind, f"../raw/{raw.name}")
                file["entry/link"] = h5py.ExternalLink(target, "/d")
                if kind == "soft":
                    file["data"] = h5py.SoftLink("/entry/link")
    done = call(capsys, "init", str(tmp_path / "visit"))
    assert done.code == 0, done.err
    text = (tmp_path / "visit" / "config.toml").read_text()
    assert "Left out" not in text
    for role in ("ref", "sample"):
        assert f"{role}_*.h5" in text or all(f"{role}_{position}.h5" in text for position in range(3))


def _leave_the_folder(kind, raw, path):
    """Write an HDF5 file, or a symbolic link to one, that leads to data in another folder."""
    if kind == "symbolic":
        path.symlink_to(raw)
        return
    with h5py.File(path, "w") as file:
        if kind == "virtual":
            layout = h5py.VirtualLayout((20, 24), np.uint16)
            layout[...] = h5py.VirtualSource(str(raw), "d", (20, 24))
            file.create_virtual_dataset("d", layout)
        elif kind == "soft":
            file["link"] = h5py.ExternalLink(str(raw), "/")
            file["d"] = h5py.SoftLink("/link/d")
        elif kind == "raw":
            numbers = raw.with_suffix(".bin")
            with h5py.File(raw) as other:
                other["d"][()].tofile(numbers)
            file.create_dataset("d", (20, 24), np.uint16, external=[(str(numbers), 0, 20 * 24 * 2)])
        else:
            file["d"] = h5py.ExternalLink(str(raw), "/d")


@pytest.mark.parametrize(
    ("kind", "series"),
    [
        ("external", False),
        ("soft", False),
        ("virtual", True),
        ("raw", True),
        ("symbolic", False),
        ("symbolic", True),
    ],
)
def test_links_out_of_a_folder_can_be_refused(tmp_path, capsys, kind, series):
    (tmp_path / "raw").mkdir()
    (tmp_path / "run").mkdir()
    for role in ("ref", "sample"):
        for position in range(2):
            raw = tmp_path / "raw" / f"{role}_{position}.h5"
            with h5py.File(raw, "w") as file:
                file["d"] = make_frames(1, (20, 24), seed=position)[0]
            _leave_the_folder(kind, raw, tmp_path / "run" / f"{role}_{position}.h5")
    config = tmp_path / "run" / "config.toml"
    text = f"""
[input]
reference = "ref_*.h5::/d"
sample = "{"sample_{position}" if series else "sample_*"}.h5::/d"
links = "all"
[experiment]
energy_kev = 17.0
pixel_size = 5.8e-6
sample_to_detector = 1.0
[retrieve]
method = "mist"
[options]
smoothing = 2.0
[output]
files = ["result.h5"]
"""
    if series:
        text += '[series]\nangles = "../raw/angles.h5::/angle"\n'
        with h5py.File(tmp_path / "raw" / "angles.h5", "w") as file:
            file["angle"] = [0.0]
    config.write_text(text)
    assert call(capsys, "check", str(config)).code == 0
    config.write_text(text.replace('"all"', '"inside"'))
    done = call(capsys, "check", str(config))
    assert done.code == 2
    assert 'links = "inside"' in done.err


@pytest.mark.parametrize("kind", ["angles", "dark"])
def test_links_of_angles_and_darks_can_be_refused(tmp_path, kind):
    (tmp_path / "raw").mkdir()
    with h5py.File(tmp_path / "raw" / "a.h5", "w") as file:
        file["d"] = np.arange(20.0) if kind == "angles" else np.zeros((2, 20, 24))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["d"] = h5py.ExternalLink("raw/../raw/a.h5", "/d")
        file["out"] = h5py.ExternalLink(str(tmp_path.parent / f"{tmp_path.name}-out.h5"), "/d")
    (tmp_path.parent / f"{tmp_path.name}-out.h5").write_bytes((tmp_path / "raw" / "a.h5").read_bytes())
    for name, fine in (("d", True), ("out", False)):
        read = {
            "angles": lambda name=name: known_angles(f"a.h5::/{name}", tmp_path, "inside"),
            "dark": lambda name=name: open_frames(f"a.h5::/{name}", name="", folder=tmp_path, links="inside"),
        }[kind]
        if fine:
            assert len(read())
        else:
            with pytest.raises(InputError, check=coded("link-outside")):
                read()


def test_init_says_which_links_are_broken(tmp_path, capsys):
    for position in range(3):
        for role in ("ref", "sample"):
            with h5py.File(tmp_path / f"{role}_{position}.h5", "w") as file:
                if position == 1:
                    file["entry/data"] = h5py.ExternalLink("gone.h5", "/d")
                else:
                    file["entry/data"] = make_frames(1, (20, 24), seed=position)[0]
    assert call(capsys, "init", str(tmp_path)).code == 0
    left_out = [line for line in (tmp_path / "config.toml").read_text().splitlines() if "Left out" in line]
    assert len(left_out) == 2
    assert all("_1.h5" in line and "gone.h5" in line for line in left_out)


# Names


@pytest.mark.parametrize("stored", ["NFC", "NFD"])
@pytest.mark.parametrize("given", ["NFC", "NFD"])
@pytest.mark.parametrize("ending", ["tif", "TIF", "Tif"])
def test_names_with_accents_and_endings_of_any_case(tmp_path, stored, given, ending):
    frames = make_frames(3)
    for number, frame in enumerate(frames):
        name = unicodedata.normalize(stored, f"référence_{number}.{ending}")
        tifffile.imwrite(tmp_path / name, frame)
    spec = unicodedata.normalize(given, "référence_*.tif")
    np.testing.assert_array_equal(loaded(spec, tmp_path), frames)
    one = unicodedata.normalize(given, "référence_1.tif")
    np.testing.assert_array_equal(loaded(one, tmp_path), frames[1:2])


def test_names_as_they_are_written_come_first(tmp_path):
    frames = make_frames(2)
    for ending, frame in zip(("tif", "TIF"), frames, strict=True):
        tifffile.imwrite(tmp_path / f"a_1.{ending}", frame)
    np.testing.assert_array_equal(loaded("a_*.tif", tmp_path), frames[:1])
    np.testing.assert_array_equal(loaded("a_1.TIF", tmp_path), frames[1:])
    assert refused("b_*.tif", tmp_path) == ("file-missing",)


def test_a_series_with_accents(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for position in range(3):
        tifffile.imwrite(tmp_path / f"ref_{position}.tif", rng.uniform(90, 110, (20, 24)).astype(np.float32))
        for projection in range(2):
            name = unicodedata.normalize("NFD", f"échantillon_{projection}_{position}.TIF")
            tifffile.imwrite(tmp_path / name, rng.uniform(90, 110, (20, 24)).astype(np.float32))
    path = write_config(
        tmp_path,
        input={"reference": "ref_{position}.tif", "sample": "échantillon_{projection}_{position}.tif"},
        experiment=GEOMETRY,
    )
    assert call(capsys, "check", str(path)).code == 0
