"""Holes in HDF5 datasets: frames whose chunks were never written, or whose files are missing.

HDF5 reads them as zeros. A single projection refuses such a dataset; a scan goes on without those frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from xmist.core.errors import InputError
from xmist.io.frames.hdf5_links import Hdf5, Place
from xmist.io.frames.sources import listed

_DEEPEST: Final = 3


@dataclass(frozen=True)
class Piece:
    """Frames of a virtual dataset that come from one file.

    Parameters
    ----------
    start, stop : int
        Frames of the virtual dataset.
    path : Path
        The file.
    """

    start: int
    stop: int
    path: Path


def find_holes(file: Hdf5, place: Place) -> tuple[dict[int, str], tuple[Piece, ...]]:
    """Say which frames of a dataset cannot be read.

    Parameters
    ----------
    file : Hdf5
        The open file.
    place : Place
        A dataset of shape (frame, y, x).

    Returns
    -------
    dict of int to str
        For each frame that is missing why; the text goes on after the dataset's name.
    tuple of Piece
        The files of a virtual dataset, which must still be there when a frame is read.

    Raises
    ------
    InputError
        If nothing of the dataset can be read, or if it is damaged in another way.
    """
    data = place.node
    if data.is_virtual:
        return _virtual_holes(file, place)
    if data.chunks is None:
        return {}, ()
    holes = _chunk_holes(place)
    if not holes:
        return {}, ()
    if len(holes) == data.shape[0]:
        raise InputError(f"{file.path}::{place.path} was never written")
    return dict.fromkeys(holes, "was never written"), ()


def _chunk_holes(place: Place) -> list[int]:
    """Give the frames that a chunk is missing of."""
    data = place.node
    depth, y, x = data.chunks
    layers = -(-data.shape[0] // depth)
    full = -(-data.shape[1] // y) * -(-data.shape[2] // x)
    counts = np.zeros(layers, np.int64)

    def note(chunk: object) -> None:
        counts[chunk.chunk_offset[0] // depth] += 1  # type: ignore[attr-defined]

    data.id.chunk_iter(note)
    short = np.flatnonzero(counts < full)
    return [
        frame
        for layer in short
        for frame in range(layer * depth, min((int(layer) + 1) * depth, data.shape[0]))
    ]


def _virtual_holes(file: Hdf5, place: Place) -> tuple[dict[int, str], tuple[Piece, ...]]:
    data = place.node
    count = data.shape[0]
    holes: dict[int, str] = {}
    pieces: list[Piece] = []
    covered = np.zeros(count, np.int64)
    checked: dict[tuple[str, str], tuple[str, Path]] = {}
    for piece in data.virtual_sources():
        if "%" in piece.file_name or "%" in piece.dset_name:
            raise InputError(
                f"{file.path}::{place.path} is a virtual dataset with numbered sources; name the sources "
                "themselves"
            )
        (low, *_), (high, *_) = piece.vspace.get_select_bounds()
        frames = range(low, high + 1)
        covered[low : high + 1] += piece.vspace.get_select_npoints() // len(frames)
        key = (piece.file_name, piece.dset_name)
        if key not in checked:
            checked[key] = _source_fault(file, place, *key)
        fault, path = checked[key]
        pieces.append(Piece(low, high + 1, path))
        if fault:
            holes |= dict.fromkeys(frames, fault)
    for frame in np.flatnonzero(covered < data.shape[1] * data.shape[2]):
        holes.setdefault(int(frame), "has no source")
    if len(holes) == count:
        raise InputError(
            f"{file.path}::{place.path}: no frame can be read ({listed(sorted(set(holes.values())), 1)})"
        )
    return holes, tuple(pieces)


def _source_fault(file: Hdf5, place: Place, name: str, dataset: str) -> tuple[str, Path]:
    """Say why a source of a virtual dataset cannot be read; its own holes count as a fault."""
    import h5py

    path = place.home if name == "." else place.home.parent / name
    try:
        found = file.source_of(name, dataset, place)
    except InputError as error:
        return error.faults[0], path
    if found is None or not isinstance(found.node, h5py.Dataset):
        return f"{path}::{dataset} does not exist", path
    faults = file.dataset_faults(found, _DEEPEST)
    return (f"{path}::{dataset} {faults[0]}" if faults else ""), found.home
