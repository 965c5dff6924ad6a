"""Frames out of files: the same numbers in every format, one frame at a time, averaged without loss."""

import hashlib
import json
import pickle
import random
import subprocess
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.coded import coded
from tests.io.frames_files import WRITERS, hdf5_shared_chunks, make_frames, tiff_series, write_edf
from tests.real_frames import needs_real_frames, real_frames
from xmist import InputError
from xmist.io import describe
from xmist.io.frames.frames import (
    describe_frames,
    group_repeats,
    load_frames,
    natural_sort,
    open_frames,
)

DTYPES = [np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.float32, np.float64]


def opened(spec, folder, **options):
    return open_frames(spec, name="input.reference", folder=folder, **options)


# Every format gives the numbers that were written


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
def test_every_frame_comes_back_bit_for_bit(tmp_path, write, dtype):
    frames = make_frames(dtype=dtype)
    series = opened(write(tmp_path, frames), tmp_path)
    assert (len(series), series.shape, series.dtype) == (len(frames), frames.shape[1:], frames.dtype)
    assert series.dtype.isnative
    for index in [2, 0, -1]:
        frame = series.read(index)
        assert frame.dtype == frames.dtype
        assert frame.flags.owndata
        assert frame.flags.c_contiguous
        assert frame.tobytes() == frames[index].tobytes()
    order = [3, 0, 1, 1, 2]
    for frame, index in zip(series.frames(order), order, strict=True):
        np.testing.assert_array_equal(frame, frames[index])
    loaded = load_frames(series, dtype=np.float64)
    np.testing.assert_array_equal(loaded.frames, frames)
    assert loaded.variance is None
    assert pickle.loads(pickle.dumps(series)) == series  # a scheduler sends it to other processes


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
def test_a_single_frame(tmp_path, write):
    frames = make_frames(count=1)
    series = opened(write(tmp_path, frames), tmp_path)
    assert len(series) == 1
    np.testing.assert_array_equal(series.read(0), frames[0])


@pytest.mark.parametrize("save", [np.save, lambda path, frame: write_edf(path, [frame])])
def test_an_image_without_a_frame_axis(tmp_path, save):
    frame = make_frames(count=1)[0]
    path = tmp_path / ("frame.npy" if save is np.save else "frame.edf")
    save(path, frame)
    np.testing.assert_array_equal(opened(str(path), None).read(0), frame)


def test_imagej_stack_has_one_directory(tmp_path):
    frames = make_frames()
    tifffile.imwrite(tmp_path / "stack.tif", frames, imagej=True)
    data = (tmp_path / "stack.tif").read_bytes()
    with tifffile.TiffFile(tmp_path / "stack.tif") as file:
        first = file.pages[0]
        # Beyond 4 GB ImageJ writes the first directory alone; cut the chain here to have the same.
        end = first.offset + 2 + 12 * len(first.tags)
    (tmp_path / "stack.tif").write_bytes(data[:end] + bytes(4) + data[end + 4 :])
    series = opened("stack.tif", tmp_path)
    np.testing.assert_array_equal(load_frames(series, dtype=float).frames, frames)


def test_high_byte_first_edf_with_general_header_and_motors(tmp_path):
    frames = make_frames(count=2, dtype=np.int32)
    general = "{\nEDF_DataFormatVersion = 2.4 ;\nEDF_BinarySize = 0 ;\nWavelength = 1e-10 ;\n}\n"
    text = (
        "{{\r\nEDF_DataBlockID = {}.Image.Psd ;\r\nByteOrder = HighByteFirst ;\r\n"
        "DataType = SignedInteger ;\r\nDim_1 = 17 ;\r\nDim_2 = 12 ;\r\n"
        "motor_mne = mask_x om ;\r\nmotor_pos = {} 7 ;\r\n}}\r\n"
    )
    content = general.encode()
    for number, frame in enumerate(frames, 1):
        content += text.format(number, 0.5 * number).encode() + frame.astype(">i4").tobytes()
    (tmp_path / "high.edf").write_bytes(content)
    series = opened("high.edf", tmp_path)
    np.testing.assert_array_equal(load_frames(series, dtype=float).frames, frames)
    assert series.header(1)["Wavelength"] == "1e-10"
    assert series.header(1)["om"] == "7"
    assert series.positions == ((0.5,), (1.0,))


@needs_real_frames
def test_measured_frames():
    series = open_frames("random_*.edf", name="input.frames", folder=real_frames())
    assert [path.name for path in series.files] == ["random_reference.edf", "random_sample.edf"]
    assert (series.shape, series.dtype) == ((520, 512), np.float32)
    assert series.read(0).min() == -8  # the detector's mark for a dead pixel
    assert series.positions is None  # x and z are the sample's motors, not the mask's


# Names


@given(numbers=st.lists(st.integers(0, 10**12), unique=True), seed=st.integers(0, 9))
def test_natural_order_is_that_of_the_numbers(numbers, seed):
    paths = [Path(f"scan3/ref_{number}_b.tif") for number in numbers]
    random.Random(seed).shuffle(paths)
    assert natural_sort(paths) == [Path(f"scan3/ref_{number}_b.tif") for number in sorted(numbers)]


@given(st.lists(st.text(max_size=8).map(lambda text: Path(f"a{text}")), max_size=6))
def test_natural_order_is_total(paths):
    paths = list(dict.fromkeys(paths))
    assert natural_sort(paths) == natural_sort(paths[::-1])


def test_patterns_lists_and_brackets(tmp_path):
    folder = tmp_path / "day [1]"
    folder.mkdir()
    frames = make_frames(count=3)
    tiff_series(folder, frames)
    np.save(folder / "extra[2].npy", frames[0])
    (folder / "ref_folder.tif").mkdir()
    series = opened(["extra[2].npy", "ref_1*.tif", "ref_9.tif"], folder)
    assert [path.name for path in series.files] == ["extra[2].npy", "ref_10.tif", "ref_11.tif", "ref_9.tif"]
    assert len(opened(str(folder / "ref_[0-9]*.tif"), None)) == 3
    assert len(opened("day*/ref_?.tif", tmp_path)) == 1


def test_index_beyond_the_end(tmp_path):
    series = opened(tiff_series(tmp_path, make_frames()), tmp_path)
    with pytest.raises(IndexError, match=r"input\.reference has 4 frames; there is no frame 4"):
        series.read(4)


# HDF5: which dataset is meant


def nexus(path, **datasets):
    """Write datasets by path (__ for /), and the attributes of one NXdata around the first."""
    with h5py.File(path, "w") as file:
        for name, value in datasets.items():
            file[name.replace("__", "/")] = value
        first = next(iter(datasets)).split("__")
        group = file["/".join(first[:-1]) or "/"]
        group.attrs["NX_class"] = "NXdata"
        group.attrs["signal"] = first[-1]
    return path.name


def test_the_only_plausible_dataset_is_taken(tmp_path):
    frames = make_frames()
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["entry/instrument/detector/data"] = frames
        file["entry/data/link"] = file["entry/instrument/detector/data"]
        file["entry/soft"] = h5py.SoftLink("/entry/data/link")
        file["entry/self"] = file["entry"]
        file["entry/mask"] = frames[0] > 0
        file["entry/motor"] = np.arange(4.0)
        file["entry/table"] = np.zeros((4, 3))
    series = opened("scan.h5", tmp_path)
    np.testing.assert_array_equal(series.read(1), frames[1])
    assert len(opened("scan.h5::/entry/soft", tmp_path)) == 4
    assert len(opened("scan.h5::entry/instrument", tmp_path)) == 4


def test_the_signal_is_taken_among_several(tmp_path):
    frames = make_frames()
    name = nexus(tmp_path / "scan.h5", entry__data__signal=frames, entry__data__errors=frames, other=frames)
    series = opened(name, tmp_path)
    assert series.sources[0].dataset == "/entry/data/signal"
    with h5py.File(tmp_path / "scan.h5", "r+") as file:
        del file["entry/data"].attrs["signal"]
        file["entry/data/errors"].attrs["signal"] = 1  # as it was marked before 2014
    assert opened(name, tmp_path).sources[0].dataset == "/entry/data/errors"


def test_links_within_the_folder_are_followed(tmp_path):
    frames = make_frames()
    (tmp_path / "raw").mkdir()
    hdf5_shared_chunks(tmp_path / "raw", frames)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["mask_x"] = 1.0
    with h5py.File(tmp_path / "master.h5", "w") as file:
        file["linked"] = h5py.ExternalLink("raw/scan.nxs", "/frames")
        file["other"] = h5py.ExternalLink("other.h5", "/")
        file["title"] = "x" * 5000
        layout = h5py.VirtualLayout(frames.shape, frames.dtype)
        layout[:2] = h5py.VirtualSource("raw/scan.nxs", "frames", frames.shape)[2:]
        layout[2:] = h5py.VirtualSource("raw/scan.nxs", "frames", frames.shape)[:2]
        file.create_virtual_dataset("virtual", layout)
    series = opened("master.h5::linked", tmp_path)
    np.testing.assert_array_equal(load_frames(series, dtype=float).frames, frames)
    assert [path.name for path in series.files] == ["master.h5", "scan.nxs"]
    assert series.positions is None  # what stands in other files is not of these frames
    series = opened("master.h5::virtual", tmp_path)
    np.testing.assert_array_equal(load_frames(series, dtype=float).frames, np.roll(frames, 2, axis=0))
    assert [path.name for path in series.files] == ["master.h5", "scan.nxs"]


# Reading: one frame at a time, averaged without loss


def test_opening_reads_no_frame_and_reading_only_one(tmp_path):
    path = tmp_path / "huge.npy"
    count, side = 64, 2048
    with path.open("wb") as file:  # 1 GB that the disk does not store
        header = {"descr": "<f4", "fortran_order": False, "shape": (count, side, side)}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + 4 * count * side**2)
    tracemalloc.start()
    try:
        series = opened("huge.npy", tmp_path)
        series.read(count - 1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.5 * 4 * side**2  # one frame, and half of one for everything else


@settings(max_examples=25)
@given(
    repeats=st.integers(1, 4),
    positions=st.integers(1, 3),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 99),
)
def test_mean_and_variance_of_the_mean(tmp_path_factory, repeats, positions, dtype, seed):
    folder = tmp_path_factory.mktemp("repeats")
    frames = make_frames(repeats * positions, (7, 9), dtype, seed)
    np.save(folder / "frames.npy", frames)
    loaded = load_frames(opened("frames.npy", folder), repeats=repeats, dtype=np.float64)
    grouped = frames.reshape(positions, repeats, 7, 9).astype(np.longdouble)
    # Sums of four numbers below 2^32 in float64: 4 roundings of 2^-53 of the largest.
    scale = float(np.abs(grouped).max()) + 1.0
    np.testing.assert_allclose(loaded.frames, grouped.mean(axis=1).astype(float), rtol=0, atol=1e-15 * scale)
    if repeats == 1:
        assert loaded.variance is None
    else:
        expected = grouped.var(axis=1, ddof=1).astype(float) / repeats
        np.testing.assert_allclose(loaded.variance, expected, rtol=1e-12, atol=4e-15 * scale**2)


def test_equal_repeats_have_no_variance(tmp_path):
    np.save(tmp_path / "frames.npy", np.repeat(make_frames(2, dtype=np.float32), 3, axis=0))
    loaded = load_frames(opened("frames.npy", tmp_path), repeats=3)
    assert not loaded.variance.any()
    np.testing.assert_array_equal(loaded.frames, make_frames(2, dtype=np.float32))
    assert loaded.frames.dtype == loaded.variance.dtype == np.float32


def test_bad_pixels_stay_where_they_are(tmp_path):
    frames = make_frames(4, dtype=np.float64)
    clean = frames.copy()
    frames[0, 3, 4], frames[1, 5, 6], frames[3, 7, 8] = np.nan, np.inf, 1e300
    np.save(tmp_path / "frames.npy", frames)
    np.save(tmp_path / "clean.npy", clean)
    loaded = load_frames(opened("frames.npy", tmp_path), repeats=2)
    expected = load_frames(opened("clean.npy", tmp_path), repeats=2)
    bad = ~np.isfinite(loaded.frames)
    assert sorted(map(tuple, np.argwhere(bad))) == [(0, 3, 4), (0, 5, 6), (1, 7, 8)]
    np.testing.assert_array_equal(loaded.frames[~bad], expected.frames[~bad])
    np.testing.assert_array_equal(loaded.variance[~bad], expected.variance[~bad])


def test_all_repeats_in_one_mean_and_groups_of_any_order(tmp_path):
    frames = make_frames(4)
    np.save(tmp_path / "dark.npy", frames)
    series = opened("dark.npy", tmp_path)
    mean = load_frames(series, repeats="all", dtype=np.float64).frames
    np.testing.assert_allclose(mean[0], frames.mean(axis=0), rtol=1e-15)
    chosen = load_frames(series, groups=[(3,), (0, 2)], dtype=np.float64)
    np.testing.assert_array_equal(chosen.frames[0], frames[3])
    assert np.isnan(chosen.variance[0]).all()  # one exposure has no scatter
    assert np.isfinite(chosen.variance[1]).all()


def test_progress_counts_every_frame(tmp_path):
    np.save(tmp_path / "frames.npy", make_frames(4))
    seen = []
    load_frames(opened("frames.npy", tmp_path), repeats=2, progress=lambda *step: seen.append(step))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize("repeats", [0, -1, 1.5, True, "2"])
def test_repeats_must_be_a_count(tmp_path, repeats):
    np.save(tmp_path / "frames.npy", make_frames(4))
    with pytest.raises(InputError, check=coded("value-invalid", names=["repeats"])):
        group_repeats(opened("frames.npy", tmp_path), repeats)


def test_frames_that_do_not_fit_their_repeats(tmp_path):
    np.save(tmp_path / "frames.npy", make_frames(4))
    with pytest.raises(InputError, check=coded("frames-unequal-numbers", names=["4 frames"])):
        load_frames(opened("frames.npy", tmp_path), repeats=3)


def test_memory_that_does_not_suffice_is_told(tmp_path, monkeypatch):
    np.save(tmp_path / "frames.npy", make_frames(4))
    series = opened("frames.npy", tmp_path)

    def refuse(*args, **options):
        raise MemoryError

    monkeypatch.setattr(np, "empty", refuse)
    with pytest.raises(InputError, check=coded("memory-insufficient", names=["4 frames", "12 × 17"])):
        load_frames(series)


def test_threads_read_the_same(tmp_path):
    frames = make_frames(8)
    series = opened(hdf5_shared_chunks(tmp_path, frames), tmp_path)
    with ThreadPoolExecutor(4) as pool:
        for index, frame in enumerate(pool.map(series.read, range(8))):
            np.testing.assert_array_equal(frame, frames[index])


# What files are: digests and descriptions


def test_every_frame_has_the_hash_of_its_bytes_as_loaded(tmp_path):
    frames = np.arange(6 * 20 * 24, dtype=np.uint16).reshape(6, 20, 24)
    np.save(tmp_path / "frames.npy", frames)
    loaded = load_frames(opened("frames.npy", tmp_path), groups=[[1], [0, 5]])
    assert loaded.digests == tuple(hashlib.sha256(frames[n].tobytes()).hexdigest() for n in (1, 0, 5))


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
def test_description_is_plain_and_right(tmp_path, write):
    frames = make_frames()
    path = opened(write(tmp_path, frames), tmp_path).files[0]
    found = json.loads(json.dumps(describe(path)))
    assert (found["kind"], found["shape"], found["dtype"]) == ("frames", [12, 17], "uint16")
    assert found["bytes"] == path.stat().st_size
    assert found["first_frame"]["maximum"] == frames[0].max()
    assert found["first_frame"]["nan"] == 0


def test_description_lists_the_datasets_to_choose_from(tmp_path):
    frames = make_frames()
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["a"], file["b/c"] = frames, frames[0]
    found = describe_frames(tmp_path / "scan.h5")
    assert found["kind"] == "datasets"
    assert found["datasets"] == [
        {"dataset": "/a", "shape": [4, 12, 17], "dtype": "uint16"},
        {"dataset": "/b/c", "shape": [12, 17], "dtype": "uint16"},
    ]
    assert describe(f"{tmp_path / 'scan.h5'}::/b/c")["frames"] == 1


def test_description_of_what_is_no_frame(tmp_path):
    (tmp_path / "note.txt").write_text("hello")
    with pytest.raises(InputError, check=coded("format-unknown", names=["note.txt"])):
        describe(tmp_path / "note.txt")


def test_libraries_stay_silent(tmp_path):
    """Nothing of what tifffile logs about a damaged file reaches stderr; others still see its log."""
    tifffile.imwrite(tmp_path / "pages.tif", make_frames(), photometric="minisblack")
    data = (tmp_path / "pages.tif").read_bytes()
    (tmp_path / "short.tif").write_bytes(data[:-900])
    code = (
        "import sys, logging, tifffile\n"
        "from xmist.io.frames.frames import open_frames\n"
        "try:\n    open_frames(sys.argv[1], name='x')\nexcept ValueError:\n    print('refused')\n"
        "assert not logging.getLogger().handlers\n"
        "logging.getLogger('tifffile').error('of another')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "short.tif")], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("refused\n", "of another\n")


@pytest.mark.parametrize(
    "text", ['{"mask_y": 1.5, "note": "a = b", "list": [1]}', '{"mask_y": 1.5', "{mask_y = 1.5}"]
)
def test_a_description_in_json_is_read_as_such(tmp_path, text):
    tifffile.imwrite(tmp_path / "a.tif", np.ones((8, 9), np.float32), description=text, metadata=None)
    header = describe_frames(tmp_path / "a.tif")["header"]
    if text.endswith("1]}"):
        assert {key: header[key] for key in header if key in ("mask_y", "note", "list", "a")} == {
            "mask_y": "1.5",
            "note": "a = b",
        }
    assert header["ImageDescription"] == text
