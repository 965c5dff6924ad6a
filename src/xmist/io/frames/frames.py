"""Frames of a detector: opened by their headers, paired, described and read into memory.

The public names of reading; the parts stand beside this file.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from xmist.core.arrays import statistics
from xmist.core.errors import InputError
from xmist.io.frames.addresses import Address, Spec, natural_key, natural_sort
from xmist.io.frames.geometry import Offer, offer_geometry
from xmist.io.frames.loading import LoadedFrames, group_repeats, load_frames
from xmist.io.frames.pairing import Pairing, pair_frames
from xmist.io.frames.positions import Position
from xmist.io.frames.series import FRAME_ENDINGS, FrameSeries, open_frames
from xmist.io.frames.sources import Progress, Source, check_file, is_being_written

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
    "group_repeats",
    "load_frames",
    "natural_key",
    "natural_sort",
    "offer_geometry",
    "open_frames",
    "pair_frames",
]


def describe_frames(path: str | Path) -> dict[str, Any]:
    """Return what frames a file holds; reads its headers and its first frame."""
    file = Path(str(path).partition("::")[0])
    datasets = _datasets_to_choose(path, file)
    if datasets is not None:
        return {"kind": "datasets", "path": str(path), "bytes": file.stat().st_size, "datasets": datasets}
    try:
        series = open_frames(str(path), name="")
        first = series.read(0)
    except InputError as error:
        raise InputError(
            [replace(record, message=record.message.removeprefix(": ")) for record in error.records]
        ) from error
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
        **({"being_written": True} if is_being_written(file) else {}),
        "first_frame": statistics(first) | {"nan": int(np.count_nonzero(~np.isfinite(first)))},
        "geometry": [vars(offer) for offer in offer_geometry(source)],
        "header": dict(series.header(0)),
    }


def _datasets_to_choose(path: str | Path, file: Path) -> list[dict[str, Any]] | None:
    """Return the datasets of an HDF5 file if it takes a choice between them."""
    check_file(file)
    if "::" in str(path):
        return None
    import h5py

    if not h5py.is_hdf5(file):
        return None
    from xmist.io.frames.hdf5_reader import list_datasets, open_hdf5

    found, _ = list_datasets(file)
    if len(found) < 2:
        return None
    try:
        open_hdf5(file)
    except InputError:
        return [{"dataset": each.path, "shape": list(each.shape), "dtype": each.dtype} for each in found]
    return None
