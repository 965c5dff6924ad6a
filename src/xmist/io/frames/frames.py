"""Frames of a detector: opened by their headers, paired, described and read into memory.

The public names of reading; the parts stand beside this file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from xmist.core.errors import InputError
from xmist.io.frames.addresses import Address, Spec, natural_key, natural_sort
from xmist.io.frames.geometry import Offer, offer_geometry
from xmist.io.frames.loading import LoadedFrames, group_exposures, load_frames
from xmist.io.frames.pairing import Pairing, pair_frames
from xmist.io.frames.positions import Position
from xmist.io.frames.series import FRAME_ENDINGS, FrameSeries, open_frames
from xmist.io.frames.sources import Progress, Source, check_file, reading

__all__ = [
    "FRAME_ENDINGS",
    "Address",
    "FrameSeries",
    "LoadedFrames",
    "Offer",
    "Pairing",
    "Position",
    "Progress",
    "Source",
    "Spec",
    "describe_frames",
    "digest",
    "group_exposures",
    "load_frames",
    "natural_key",
    "natural_sort",
    "offer_geometry",
    "open_frames",
    "pair_frames",
]

_PIECE = 2**20


def digest(files: Iterable[str | Path], progress: Progress | None = None) -> list[dict[str, Any]]:
    """Give name, size and SHA-256 of files, read in pieces.

    Parameters
    ----------
    files : iterable of path
        The files, such as `FrameSeries.files`.
    progress : callable, optional
        Called with (bytes read, bytes in all) as it goes.

    Returns
    -------
    list of dict
        For each file "name" (without its folder), "bytes" and "sha256" (hexadecimal).

    Raises
    ------
    InputError
        If a file cannot be read.

    Examples
    --------
    >>> _ = Path("a.bin").write_bytes(b"abc")
    >>> digest(["a.bin"])[0]["sha256"][:16]
    'ba7816bf8f01cfea'
    """
    paths = [Path(file) for file in files]
    for path in paths:
        check_file(path)
    total = sum(path.stat().st_size for path in paths)
    done = 0
    found = []
    for path in paths:
        total_hash = hashlib.sha256()
        size = 0
        with reading(str(path)), path.open("rb") as file:
            while piece := file.read(_PIECE):
                total_hash.update(piece)
                size += len(piece)
                done += len(piece)
                if progress is not None:
                    progress(done, max(done, total))
        found.append({"name": path.name, "bytes": size, "sha256": total_hash.hexdigest()})
    return found


def describe_frames(path: str | Path) -> dict[str, Any]:
    """Say what frames a file holds; reads its headers and its first frame.

    Parameters
    ----------
    path : str or Path
        A file of frames, or "file.h5::/path/of/a/dataset".

    Returns
    -------
    dict
        Plain data: `kind` "frames", `path`, `bytes`, `frames` (how many), `shape` [y, x], `dtype`,
        `dataset` (None but for HDF5), `first_frame` (`minimum`, `median`, `maximum` of its finite pixels and
        `nan`, the number of the others), `geometry` (what the headers offer: `name`, `value`, `unit`,
        `source`, `note`) and `header` (of the first frame); where an image key tells several kinds of frames
        apart, `image_key` (the number of each). For an HDF5 file in which several datasets can
        be meant: `kind` "datasets", `path`, `bytes` and `datasets` (`dataset`, `shape` and `dtype` of each).

    Raises
    ------
    InputError
        If the file is missing, damaged, or holds no frames.

    Examples
    --------
    >>> np.save("ref.npy", np.ones((10, 32, 48), np.uint16))
    >>> found = describe_frames("ref.npy")
    >>> found["frames"], found["shape"], found["first_frame"]["median"]
    (10, [32, 48], 1.0)
    """
    file = Path(str(path).partition("::")[0])
    datasets = _datasets_to_choose(path, file)
    if datasets is not None:
        return {"kind": "datasets", "path": str(path), "bytes": file.stat().st_size, "datasets": datasets}
    try:
        series = open_frames(str(path), name="")
        first = series.read(0)
    except InputError as error:
        raise InputError([fault.removeprefix(": ") for fault in error.faults]) from error
    finite = first[np.isfinite(first)]
    numbers: dict[str, float | None] = dict.fromkeys(("minimum", "median", "maximum"))
    if finite.size:
        numbers = {
            "minimum": float(finite.min()),
            "median": float(np.median(finite)),
            "maximum": float(finite.max()),
        }
    source = series.sources[0]
    kinds = getattr(source, "kinds", {})
    return {
        "kind": "frames",
        "path": str(path),
        "bytes": file.stat().st_size,
        "frames": len(series),
        "shape": list(series.shape),
        "dtype": str(series.dtype),
        "dataset": getattr(source, "dataset", None),
        **({"image_key": dict(kinds)} if len(kinds) > 1 else {}),
        "first_frame": numbers | {"nan": int(first.size - finite.size)},
        "geometry": [vars(offer) for offer in offer_geometry(series)],
        "header": dict(series.header(0)),
    }


def _datasets_to_choose(path: str | Path, file: Path) -> list[dict[str, Any]] | None:
    """Give the datasets of an HDF5 file if it takes a choice between them."""
    check_file(file)
    if "::" in str(path):
        return None
    import h5py

    if not h5py.is_hdf5(file):
        return None
    from xmist.io.frames.hdf5_reader import list_datasets, open_hdf5

    found = list_datasets(file)
    if len(found) < 2:
        return None
    try:
        open_hdf5(file)
    except InputError:
        return [{"dataset": name, "shape": list(shape), "dtype": dtype} for name, shape, dtype in found]
    return None
