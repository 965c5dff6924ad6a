"""Files that cannot be frames: one clear message each, that names the file and says what would be right."""

import io
import os
import random
import subprocess
import sys
import tracemalloc
from importlib.util import find_spec
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.coded import coded
from tests.io.frames_files import (
    WRITERS,
    hdf5_bitshuffle,
    hdf5_shared_chunks,
    make_frames,
    tiff_pages,
    tiff_strips,
    write_edf,
)
from tests.io.results import make_result
from tests.workflow.series_scenes import run_path, write_config
from xmist import InputError
from xmist.io.frames.frames import describe_frames, load_frames, open_frames

FRAMES = make_frames(3)


def opened(spec, folder):
    return open_frames(spec, name="input.reference", folder=folder)


def tiff(path, frames=FRAMES, **options):
    tifffile.imwrite(path, frames, **({"photometric": "minisblack", "metadata": None} | options))


def edf(path, old=None, new=None):
    write_edf(path, [FRAMES[0].astype(np.float32)])
    if old is not None:
        replace(path, old, new)


def replace(path, old, new):
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))


def cut(path, count):
    path.write_bytes(path.read_bytes()[:-count])


def picture(path, mode="L", **options):
    Image.fromarray(FRAMES[0].astype(np.uint8)).convert(mode).save(path, **options)


def hdf5(path, **datasets):
    with h5py.File(path, "w") as file:
        for name, value in datasets.items():
            file[name.replace("__", "/")] = value


def in_turn(*steps):
    """Do one after the other."""
    return lambda path: [step(path) for step in steps]


def unwritten(path, chunks):
    with h5py.File(path, "w") as file:
        data = file.create_dataset("d", FRAMES.shape, FRAMES.dtype, chunks=chunks)
        if chunks:
            data[0] = FRAMES[0]


def linked(path, target, inside="/d"):
    with h5py.File(path, "w") as file:
        file["d"] = h5py.ExternalLink(target, inside)


def virtual(path, source, rows=slice(None), inside="d"):
    hdf5(path.with_name("source.h5"), d=FRAMES)
    with h5py.File(path, "w") as file:
        layout = h5py.VirtualLayout(FRAMES.shape, FRAMES.dtype)
        layout[rows] = h5py.VirtualSource(source, inside, FRAMES.shape)[rows]
        file.create_virtual_dataset("d", layout)


def raw_storage(path):
    path.with_name("raw.bin").write_bytes(FRAMES.tobytes()[:-1])
    with h5py.File(path, "w") as file:
        file.create_dataset("d", FRAMES.shape, FRAMES.dtype, external=[("raw.bin", 0, FRAMES.nbytes)])


def circle(path):
    """Let the second page of a TIFF name the first as the next."""
    tiff(path, FRAMES[:2])
    with tifffile.TiffFile(path) as file:
        first, second = file.pages[0].offset, file.pages[1].offset
        end = second + 2 + 12 * len(file.pages[1].tags)
    content = path.read_bytes()
    path.write_bytes(content[:end] + first.to_bytes(4, "little") + content[end + 4 :])


def npy_header(path, shape, dtype="<f4", content=b""):
    with path.open("wb") as file:
        header = {"descr": dtype, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        file.write(content)


def result(path):
    with h5py.File(path, "w") as file:
        file["entry/phase"] = FRAMES[0]
        file["entry"].attrs["xmist_schema"] = 1


def wrong_filter_size(path):
    hdf5_bitshuffle(path.parent, FRAMES)
    path.with_name("scan.hdf5").rename(path)
    with h5py.File(path) as file:
        settings = file["frames"].id.get_create_plist().get_filter(0)[2]
    raw = b"".join(number.to_bytes(4, "little") for number in settings)
    replace(path, raw, raw[:8] + bytes(4) + raw[12:])


def empty_chunk(path):
    """Let the index say that a chunk with a checksum is stored in 0 bytes."""
    hdf5_shared_chunks(path.parent, FRAMES)
    path.with_name("scan.nxs").rename(path)
    with h5py.File(path) as file:
        length = file["frames"].id.get_chunk_info(0).size
    # The index gives a chunk its length, no filter left out, and where in the frames it stands.
    replace(path, length.to_bytes(4, "little") + bytes(4 + 4 * 8), bytes(8 + 4 * 8))


CAUSES = [
    # what stands there
    ("gone.tif", lambda path: None, "file-missing"),
    ("f/gone.tif", lambda path: None, "file-missing"),
    ("ref_O1.tif", lambda path: tiff(path.with_name("ref_01.tif")), "file-missing"),
    ("folder.tif", Path.mkdir, "file-unreadable"),
    ("empty.tif", Path.touch, "file-damaged"),
    (
        "none_*.tif",
        lambda path: tiff(path.with_name("a.tif")),
        "file-missing",
    ),
    ("gone/*.tif", lambda path: None, "file-missing"),
    ("note.txt", lambda path: path.write_text("hello"), "format-unknown"),
    ("frames", lambda path: path.write_text("hello"), "format-unknown"),
    ("a.jpg", picture, "format-unknown"),
    ("a.png", picture, "format-unknown"),
    ("a.mat", lambda path: path.write_bytes(b"MATLAB"), "format-unknown"),
    ("a.npz", lambda path: np.savez(path, FRAMES), "format-unknown"),
    ("a.edf.gz", lambda path: path.write_bytes(b"\x1f\x8b"), "file-unreadable"),
    ("text.tif", lambda path: path.write_text("hello"), "file-damaged"),
    ("a.tif", lambda path: hdf5(path, d=FRAMES), "format-unknown"),
    # TIFF
    ("cut.tif", in_turn(lambda p: tiff(p, FRAMES[0]), lambda p: cut(p, 90)), "file-damaged"),
    (
        "cut.tif",
        in_turn(tiff, lambda p: cut(p, 30 * 17)),
        "file-damaged",
    ),
    (
        "cut.tif",
        in_turn(lambda p: tiff(p, compression="zlib"), lambda p: cut(p, 200)),
        "file-damaged",
    ),
    ("head.tif", in_turn(tiff, lambda p: p.write_bytes(p.read_bytes()[:20])), "file-damaged"),
    (
        "stack.tif",
        in_turn(
            lambda p: tiff(p, FRAMES[:1], imagej=True, metadata={}),
            lambda p: replace(p, b"images=1", b"images=9999999999"),
        ),
        "file-damaged",
    ),
    ("rgb.tif", lambda p: picture(p, "RGB"), "frames-unsupported"),
    ("palette.tif", lambda p: picture(p, "P"), "frames-unsupported"),
    ("alpha.tif", lambda p: picture(p, "LA"), "frames-unsupported"),
    ("bits.tif", lambda p: picture(p, "1"), "frames-unsupported"),
    ("jpeg.tif", lambda p: picture(p, compression="jpeg"), "frames-unsupported"),
    ("complex.tif", lambda p: tiff(p, FRAMES.astype(np.complex64)), "frames-unsupported"),
    ("small.tif", lambda p: tiff(p, FRAMES[:, :5, :6]), "frames-unsupported"),
    ("circle.tif", circle, "file-damaged"),
    # EDF
    ("cut.edf", in_turn(edf, lambda p: cut(p, 100)), "file-damaged"),
    (
        "head.edf",
        in_turn(edf, lambda p: p.write_bytes(p.read_bytes()[:99])),
        "file-damaged",
    ),
    ("tail.edf", in_turn(edf, lambda p: p.write_bytes(p.read_bytes() + b"x")), "file-damaged"),
    ("dims.edf", lambda p: edf(p, b"Dim_1 = 17", b"Dim_1 = 1x"), "frames-unsupported"),
    ("rank.edf", lambda p: edf(p, b"Image = 0", b"Dim_3 = 2"), "file-damaged"),
    ("type.edf", lambda p: edf(p, b"FloatValue", b"FloatValux"), "frames-unsupported"),
    ("order.edf", lambda p: edf(p, b"LowByteFirst", b"LowBiteFirst"), "frames-unsupported"),
    (
        "size.edf",
        lambda p: edf(p, b"BinarySize = 816", b"BinarySize = -16"),
        "file-damaged",
    ),
    ("vast.edf", lambda p: edf(p, b"Dim_1 = 17 ;", b"Dim_1 = 9999999;"), "file-damaged"),
    ("packed.edf", lambda p: edf(p, b"Image = 0", b"Compression = GZIP"), "frames-unsupported"),
    # npy
    ("objects.npy", lambda p: np.save(p, np.array([{}, 1], object)), "frames-unsupported"),
    ("text.npy", lambda p: np.save(p, np.array(["a", "b"])), "frames-unsupported"),
    ("complex.npy", lambda p: np.save(p, FRAMES.astype(complex)), "frames-unsupported"),
    ("four.npy", lambda p: np.save(p, np.stack([FRAMES, FRAMES])), "axes-missing"),
    ("colour.npy", lambda p: np.save(p, np.zeros((12, 17, 3))), "frames-unsupported"),
    ("cut.npy", in_turn(lambda p: np.save(p, FRAMES), lambda p: cut(p, 9)), "file-damaged"),
    (
        "vast.npy",
        lambda p: npy_header(p, (10**9, 2000, 2000)),
        "file-damaged",
    ),
    ("wide.npy", lambda p: npy_header(p, (10**7, 10**7)), "frames-unsupported"),
    ("none.npy", lambda p: npy_header(p, (0, 2000, 2000)), "frames-unsupported"),
    ("bad.npy", lambda p: p.write_bytes(b"\x93NUMPY\x01\x00\x10\x00" + b"{" * 16), "file-damaged"),
    # HDF5
    ("junk.h5", lambda p: p.write_bytes(b"x" * 3000), "file-damaged"),
    (
        "cut.h5",
        in_turn(lambda p: hdf5(p, d=FRAMES), lambda p: cut(p, 50)),
        "file-damaged",
    ),
    ("a.h5::/e", lambda p: hdf5(p, d=FRAMES), "dataset-missing"),
    ("a.h5::/d/x", lambda p: hdf5(p, d=FRAMES), "dataset-missing"),
    (
        "a.h5",
        lambda p: hdf5(p, d=FRAMES, b__e=FRAMES[0]),
        "dataset-ambiguous",
    ),
    ("a.h5", lambda p: hdf5(p, d=np.arange(9)), "dataset-missing"),
    ("a.h5::d", lambda p: hdf5(p, d=np.stack([FRAMES, FRAMES])), "axes-missing"),
    ("a.h5::d", lambda p: hdf5(p, d="hello"), "frames-unsupported"),
    ("a.h5::d", lambda p: hdf5(p, d=FRAMES > 0), "frames-unsupported"),
    ("a.h5::d", lambda p: hdf5(p, d=h5py.Empty("f4")), "frames-unsupported"),
    ("a.h5", result, "frames-unsupported"),
    ("a.h5", lambda p: unwritten(p, (1, 12, 17)), "dataset-incomplete"),
    ("a.h5", lambda p: unwritten(p, None), "dataset-incomplete"),
    ("a.h5::d", lambda p: linked(p, "../../out.h5"), "link-broken"),
    (
        "a.h5::d",
        lambda p: linked(p, "/etc/hostname"),
        "link-broken",
    ),
    ("a.h5::d", lambda p: linked(p, "gone.h5"), "link-broken"),
    ("a.h5::d", lambda p: linked(p, "a.h5"), "link-broken"),
    ("a.h5", lambda p: virtual(p, "gone.h5"), "link-broken"),
    (
        "a.h5",
        lambda p: virtual(p, "source.h5", slice(0, 2)),
        "dataset-incomplete",
    ),
    ("a.h5", lambda p: virtual(p, "source.h5", inside="e"), "dataset-incomplete"),
    ("a.h5", raw_storage, "dataset-incomplete"),
    ("a.h5", wrong_filter_size, "dataset-incomplete"),
    ("a.h5", empty_chunk, "dataset-incomplete"),
    ("a.npy::/d", lambda p: np.save(p, FRAMES), "dataset-missing"),
]


@pytest.mark.parametrize(("spec", "make", "code"), CAUSES, ids=[cause[0] for cause in CAUSES])
def test_each_cause_has_one_error(tmp_path, monkeypatch, spec, make, code):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / spec.partition("::")[0]
    make(path)
    before = {item.name for item in tmp_path.iterdir()}
    with pytest.raises(InputError) as caught:
        load_frames(opened(spec, tmp_path))
    (record,) = caught.value.records
    assert record.code == code
    assert record.message.startswith("input.reference: ")
    assert path.name.split("*")[0] in record.message  # the file is named
    assert "\n" not in record.message
    assert {item.name for item in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("spec", "codes"),
    [
        ([], ["value-invalid"]),
        ("", ["value-invalid"]),
        (3, ["value-invalid"]),
        (b"a.tif", ["value-invalid"]),
        (["a.tif", None], ["value-invalid", "file-missing"]),
        ("a\0.tif", ["value-invalid"]),
        ("x" * 300 + ".tif", ["file-unreadable"]),
        (["ref.npy", "*.npy"], ["frames-shared"]),
    ],
    ids=str,
)
def test_what_is_no_name_of_a_file(tmp_path, spec, codes):
    np.save(tmp_path / "ref.npy", FRAMES)
    with pytest.raises(InputError, check=coded(*codes)):
        opened(spec, tmp_path)


def test_all_errors_at_once(tmp_path):
    tiff(tmp_path / "a.tif", FRAMES[0])
    tiff(tmp_path / "b.tif", FRAMES[0])
    tiff(tmp_path / "c.tif", FRAMES[0, :9])
    tiff(tmp_path / "d.tif", FRAMES[0].astype(np.float32))
    edf(tmp_path / "e.edf")
    cut(tmp_path / "e.edf", 5)
    with pytest.raises(InputError) as caught:
        opened(["gone.tif", "e.edf", "a.tif", "b.tif", "c.tif", "d.tif"], tmp_path)
    assert caught.value.codes == ("file-missing", "file-damaged", "shape-mismatch", "shape-mismatch")
    for name, record in zip(["gone.tif", "e.edf", "c.tif", "d.tif"], caught.value.records, strict=True):
        assert name in record.message


def test_pages_and_frames_of_different_kinds(tmp_path):
    with tifffile.TiffWriter(tmp_path / "mixed.tif") as file:
        for frame in (FRAMES[0], FRAMES[0, :9], FRAMES[0].astype(np.float32)):
            file.write(frame, photometric="minisblack", metadata=None)
    write_edf(tmp_path / "mixed.edf", [FRAMES[0], FRAMES[0, :9]])
    for name in ("mixed.tif", "mixed.edf"):
        with pytest.raises(InputError) as caught:
            opened(name, tmp_path)
        assert caught.value.codes == ("shape-mismatch",)


def test_thumbnails_are_no_frames(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(FRAMES[0], photometric="minisblack")
        file.write(FRAMES[0, ::2, ::2], photometric="minisblack", subfiletype=1)
    assert len(opened("a.tif", tmp_path)) == 1


@pytest.mark.skipif(find_spec("imagecodecs") is not None, reason="imagecodecs is there and reads it")
def test_a_compression_that_needs_another_package(tmp_path):
    picture(tmp_path / "a.tif", compression="tiff_lzw")
    with pytest.raises(InputError, check=coded("frames-unsupported", names=["LZW", "imagecodecs"])) as caught:
        opened("a.tif", tmp_path)
    assert caught.value.codes == ("frames-unsupported",)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.tif")
    with pytest.raises(InputError, check=coded("file-unreadable", names=["pipe.tif"])):
        opened("pipe.tif", tmp_path)


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
def test_no_permission(tmp_path, monkeypatch, write):
    spec = write(tmp_path, FRAMES)

    def refuse(self, *args, **options):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(InputError) as caught:
        opened(spec, tmp_path)
    assert set(caught.value.codes) == {"file-unreadable"}
    assert "Permission denied" in str(caught.value)


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
def test_a_file_that_shrinks_after_it_was_opened(tmp_path, write):
    series = opened(write(tmp_path, FRAMES), tmp_path)
    for path in series.files:
        cut(path, path.stat().st_size // 2)
    with pytest.raises(InputError, check=coded("file-damaged", names=["input.reference"])):
        load_frames(series)


def test_a_heap_that_hdf5_never_leaves(tmp_path):
    """In a process of its own: libhdf5 would not come back, nor hear an interrupt."""
    virtual(tmp_path / "frames.h5", "source.h5")
    make_result((5, 7)).save(tmp_path / "result.h5")
    run_path(write_config(tmp_path / "series", 2, (8, 9))).replace(tmp_path / "series.h5")
    for name in ("frames.h5", "result.h5", "series.h5"):
        content = (tmp_path / name).read_bytes()
        place = content.index(b"GCOL") + 16
        (tmp_path / name).write_bytes(content[:place] + bytes(16) + content[place + 16 :])
    code = """if True:
        from xmist.io import open_result
        from xmist.io.frames.frames import open_frames
        for task in (
            lambda: open_frames("frames.h5", name="input.sample"),
            lambda: open_result("result.h5"),
            lambda: open_result("series.h5", projection=0),
        ):
            try:
                task()
            except Exception as error:
                print(*error.codes)
    """
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.split() == ["file-damaged"] * 3, done.stderr


def tiff_claim(path):
    """Claim 40 000 × 20 000 pixels of deflated numbers in a file of some hundred bytes."""
    content = io.BytesIO()
    tifffile.imwrite(content, FRAMES[0], compression="zlib", metadata=None)
    raw = content.getvalue()
    for tag, value in ((256, 20_000), (257, 40_000), (278, 40_000)):  # width, length, rows in a strip
        place = raw.index(tag.to_bytes(2, "little"), 8)
        entry = tag.to_bytes(2, "little") + b"\4\0\1\0\0\0" + value.to_bytes(4, "little")
        raw = raw[:place] + entry + raw[place + 12 :]
    path.write_bytes(raw)


def hdf5_claim(path):
    """Claim 30 000 × 30 000 pixels in one chunk of some bytes."""
    with h5py.File(path, "w") as file:
        data = file.create_dataset("d", (30_000, 30_000), "u2", chunks=(30_000, 30_000), compression="gzip")
        data.id.write_direct_chunk((0, 0), b"x" * 500)


@pytest.mark.parametrize(
    ("name", "make", "code"),
    [
        ("a.tif", tiff_claim, "file-damaged"),
        ("a.edf", lambda path: edf(path, b"Dim_1 = 17 ;", b"Dim_1 = 9999999;"), "file-damaged"),
        ("a.npy", lambda path: npy_header(path, (30_000, 30_000)), "file-damaged"),
        ("a.h5", hdf5_claim, "dataset-incomplete"),
    ],
)
def test_a_header_cannot_make_us_allocate(tmp_path, name, make, code):
    make(tmp_path / name)
    open_frames(write_edf(tmp_path / "warm.edf", [FRAMES[0]]), name="")
    tracemalloc.start()
    try:
        with pytest.raises(InputError, check=coded(code, names=[name])):
            load_frames(opened(name, tmp_path))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2**24  # the imports of the libraries; the claims are of a gigabyte and more


def _mutated(content, seed):
    """Change, cut or repeat a few bytes, mostly of the header."""
    chance = random.Random(seed)
    raw = bytearray(content)
    if seed % 5 == 0:
        return bytes(raw[: chance.randrange(len(raw))])
    for _ in range(chance.choice([1, 2, 8])):
        place = chance.randrange(min(len(raw), 1500))
        raw[place : place + chance.choice([0, 1, 4])] = chance.choice(
            [bytes([chance.randrange(256)]), b"\xff\xff\xff\xff", bytes(4), b"-999", raw[place : place + 9]]
        )
    return bytes(raw)


@pytest.mark.parametrize(
    "write",
    [tiff_pages, tiff_strips, lambda folder, frames: write_edf(folder / "a.edf", list(frames)).name,
     lambda folder, frames: np.save(folder / "a.npy", frames) or "a.npy"],
    ids=["pages", "strips", "edf", "npy"],
)  # fmt: skip
def test_damaged_files_give_frames_or_a_message(tmp_path, write):
    path = tmp_path / write(tmp_path, FRAMES)
    content = path.read_bytes()
    refused = 0
    for seed in range(150):
        path.write_bytes(_mutated(content, seed))
        try:
            load_frames(opened(path.name, tmp_path))
            describe_frames(path)
        except InputError as error:
            refused += 1
            assert path.name in str(error)  # noqa: PT017
    assert refused > 20
