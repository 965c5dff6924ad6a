"""Files of frames in every format, written by the libraries that others use."""

import fabio
import h5py
import hdf5plugin
import numpy as np
import tifffile


def make_frames(count=4, shape=(12, 17), dtype=np.uint16, seed=0):
    """Return frames of random numbers over much of their type's range."""
    random = np.random.default_rng(seed)
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return random.normal(1e3, 1e2, (count, *shape)).astype(dtype)
    limits = np.iinfo(dtype)
    return random.integers(limits.min, limits.max, (count, *shape), dtype, endpoint=True)


def write_edf(path, frames, headers=None):
    """Write one EDF file by fabio; a frame each, with its header."""
    headers = headers or [{}] * len(frames)
    image = fabio.edfimage.EdfImage(frames[0], header=dict(headers[0]))
    for frame, header in zip(frames[1:], headers[1:], strict=True):
        image.append_frame(data=frame, header=dict(header))
    image.write(str(path))
    return path


def tiff_series(folder, frames):
    for number, frame in enumerate(frames, 9):  # 9, 10, …: the order of people is not that of text
        tifffile.imwrite(folder / f"ref_{number}.tif", frame)
    return "ref_*.tif"


def tiff_pages(folder, frames):
    tifffile.imwrite(folder / "pages.tif", frames, photometric="minisblack", metadata=None)
    return "pages.tif"


def tiff_tiles(folder, frames):
    options = {"tile": (16, 16), "compression": "zlib", "bigtiff": True, "byteorder": ">"}
    tifffile.imwrite(folder / "tiles.tif", frames, photometric="minisblack", **options)
    return "tiles.tif"


def tiff_strips(folder, frames):
    options = {"compression": "zlib", "predictor": frames.dtype.kind != "f", "rowsperstrip": 5}
    tifffile.imwrite(folder / "strips.TIFF", frames, photometric="minisblack", **options)
    return "strips.TIFF"


def edf_series(folder, frames):
    for number, frame in enumerate(frames, 9):
        write_edf(folder / f"ref_{number}.edf", [frame])
    return [f"ref_{number}.edf" for number in range(9, 9 + len(frames))]


def edf_frames(folder, frames):
    write_edf(folder / "frames.edf", frames)
    return "frames.edf"


def hdf5_plain(folder, frames):
    with h5py.File(folder / "scan.h5", "w") as file:
        file["entry/data/data"] = frames
        file["entry/start"] = "2025-07-11"
    return "scan.h5::/entry/data/data"


def hdf5_shared_chunks(folder, frames):
    with h5py.File(folder / "scan.nxs", "w") as file:
        chunks = (min(3, len(frames)), 5, 8)
        file.create_dataset(
            "frames", data=frames, chunks=chunks, compression="gzip", shuffle=True, fletcher32=True
        )
    return "scan.nxs"


def hdf5_bitshuffle(folder, frames):
    with h5py.File(folder / "scan.hdf5", "w") as file:
        data = frames.astype(frames.dtype.newbyteorder(">"))
        file.create_dataset("frames", data=data, chunks=(1, *frames.shape[1:]), **hdf5plugin.Bitshuffle())
    return "scan.hdf5::frames"


def npy_plain(folder, frames):
    np.save(folder / "frames.npy", frames.astype(frames.dtype.newbyteorder(">")))
    return "frames.npy"


def npy_fortran(folder, frames):
    np.save(folder / "frames.npy", np.asfortranarray(frames))
    return folder / "frames.npy"


WRITERS = [
    tiff_series,
    tiff_pages,
    tiff_tiles,
    tiff_strips,
    edf_series,
    edf_frames,
    hdf5_plain,
    hdf5_shared_chunks,
    hdf5_bitshuffle,
    npy_plain,
    npy_fortran,
]
