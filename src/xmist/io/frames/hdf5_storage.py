"""Whether HDF5 datasets are complete: chunks that were never written, and virtual sources that are missing.

HDF5 reads both as zeros. A dataset with holes is refused, or, in a series, the frames with holes are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from xmist.core.errors import InputError
from xmist.io.frames.axes import ArrayLayout
from xmist.io.frames.hdf5_file import Hdf5, Place
from xmist.io.frames.sources import MOST_SHRUNK, listed, written_flags

if TYPE_CHECKING:
    import h5py

_DEEPEST: Final = 3
# Where the settings of shuffle, blosc and bitshuffle hold the bytes of a number, which the last divides by.
_SIZE_AT: Final = {2: 0, 32001: 2, 32008: 2}
# The filter that ends a chunk with a checksum, whose bytes it subtracts unchecked.
_FLETCHER: Final = 3
_CHECKSUM: Final = 4


@dataclass(frozen=True)
class VirtualFile:
    """Frames of a virtual dataset, which come from one file."""

    frames: range | frozenset[int]
    path: Path


def check_dataset(file: Hdf5, place: Place) -> None:
    """Raise an error if a dataset cannot be read in full."""
    error = _dataset_error(file, place)
    if error:
        raise InputError(f"{file.path}::{place.path} {error}", "dataset-incomplete")


def find_holes(
    file: Hdf5, place: Place, layout: ArrayLayout
) -> tuple[dict[int, str], tuple[VirtualFile, ...]]:
    """Return which frames of a dataset cannot be read, and why; and the files of a virtual dataset.

    These files must still be there when a frame is read. A dataset without any readable frame is an error.
    """
    data = place.node
    if data.is_virtual:
        return _virtual_holes(file, place, layout)
    holes = [] if data.chunks is None else _chunk_holes(data, layout)
    if len(holes) == layout.count:
        raise InputError(f"{file.path}::{place.path} was never written", "dataset-incomplete")
    return dict.fromkeys(holes, "was never written"), ()


def _dataset_error(file: Hdf5, place: Place, depth: int = 0) -> str:
    """Return why a dataset cannot be read in full, empty if it can; `depth` virtual datasets led to it."""
    data = place.node
    file.use(place.home)
    if data.external:
        return _raw_error(file, place)
    if data.is_virtual:
        return _virtual_error(file, place, depth)
    stored = data.id.get_storage_size()
    if data.chunks is None:
        complete = stored == data.nbytes
        return "" if complete else f"is incomplete: {stored} of its {data.nbytes} bytes were written"
    filters = _filters(data)
    unknown = [
        f"filter {code} ({name.decode(errors='replace')})"
        for code, _, name in filters
        if not _is_available(code)
    ]
    if unknown:
        return f"is compressed with {listed(unknown)}, which this HDF5 cannot decompress; repack it"
    if any(
        code in _SIZE_AT and values[_SIZE_AT[code] :][:1] != (data.dtype.itemsize,)
        for code, values, _ in filters
    ):
        return "is damaged: its compression was set for numbers of another size"
    chunks: list[tuple[int, int]] = []
    data.id.chunk_iter(lambda chunk: chunks.append((chunk.byte_offset, chunk.size)))
    expected = math.prod(-(-size // chunk) for size, chunk in zip(data.shape, data.chunks, strict=True))
    if len(chunks) != expected:
        return (
            f"is incomplete: {len(chunks)} of its {expected} chunks were written; record it again, or cut it "
            "to the frames that were"
        )
    chunk_bytes = math.prod(data.chunks) * data.dtype.itemsize
    size = place.home.stat().st_size
    codes = [code for code, *_ in filters]
    least = (_CHECKSUM + 1 if _FLETCHER in codes else 1) if codes else chunk_bytes
    wrong = sum(length < least or start + length > size for start, length in chunks)
    if wrong:
        return f"is damaged: {wrong} of its {expected} chunks are not in the file in full"
    if max(data.nbytes, chunk_bytes) > stored * MOST_SHRUNK:
        return f"is damaged: it states {data.nbytes} bytes, and the file holds {stored} for them"
    return ""


def _raw_error(file: Hdf5, place: Place) -> str:
    """Check the external raw files of a dataset; HDF5 reads missing parts as zeros."""
    data = place.node
    found = 0
    for name, offset, size in data.external:
        path = file.raw_file(place, name)
        if not path.is_file():
            return f"keeps its numbers in {path}, which does not exist; copy it there"
        found += min(max(path.stat().st_size - offset, 0), size)
    return "" if found >= data.nbytes else f"is incomplete: its raw files hold {found} of {data.nbytes} bytes"


def _virtual_error(file: Hdf5, place: Place, depth: int) -> str:
    """Check every piece of a virtual dataset."""
    if depth > _DEEPEST:
        return "is made of virtual datasets in virtual datasets in circles"
    mapped = 0
    for piece in place.node.virtual_sources():
        if "%" in piece.file_name or "%" in piece.dset_name:
            return "is a virtual dataset with numbered sources; name the sources themselves"
        error, _ = _source_error(file, place, piece.file_name, piece.dset_name, depth)
        if error:
            return f"takes frames from {error}"
        mapped += piece.vspace.get_select_npoints()
    if mapped < place.node.size:
        return f"is incomplete: {mapped} of its {place.node.size} pixels have a source"
    return ""


def _source_error(file: Hdf5, place: Place, name: str, dataset: str, depth: int) -> tuple[str, Path]:
    """Return why a source of a virtual dataset cannot be read, empty if it can, and its file."""
    import h5py

    source, home = file.source(place, name, dataset)
    if source is None or not isinstance(source.node, h5py.Dataset):
        return f"{home}::{dataset}, which does not exist", home
    if home != place.home and written_flags(home):  # HDF5 opens it itself, as no file that is written
        raise InputError(
            f"{file.path}::{place.path} takes frames from {home}, which another program is writing; wait "
            "until it is closed, or use xmist retrieve --follow",
            "file-being-written",
        )
    error = _dataset_error(file, source, depth + 1)
    return (f"{source.home}::{dataset}, which {error}" if error else ""), source.home


def _virtual_holes(
    file: Hdf5, place: Place, layout: ArrayLayout
) -> tuple[dict[int, str], tuple[VirtualFile, ...]]:
    data = place.node
    count = layout.count
    label = f"{file.path}::{place.path}"
    holes: dict[int, str] = {}
    pieces: list[VirtualFile] = []
    covered = np.zeros(count, np.int64)
    checked: dict[tuple[str, str], tuple[str, Path]] = {}
    code = "dataset-incomplete"
    for piece in data.virtual_sources():
        if "%" in piece.file_name or "%" in piece.dset_name:
            raise InputError(
                f"{label} is a virtual dataset with numbered sources; name the sources themselves",
                "frames-unsupported",
            )
        low, high = piece.vspace.get_select_bounds()
        frames = _frames_between(layout, low, high)
        covered[list(frames)] += piece.vspace.get_select_npoints() // len(frames)
        key = (piece.file_name, piece.dset_name)
        if key not in checked:
            try:
                error, home = _source_error(file, place, *key, _DEEPEST - 1)
                checked[key] = (f"comes from {error}" if error else ""), home
            except InputError as error:
                home = place.home.parent / piece.file_name
                code = error.codes[0] if "file-being-written" in error.codes else code
                checked[key] = error.records[0].message, home
        text, home = checked[key]
        pieces.append(VirtualFile(frames, home))
        if text:
            holes |= dict.fromkeys(frames, text)
    for frame in np.flatnonzero(covered < math.prod(layout.frame)):
        holes.setdefault(int(frame), "has no source")
    if len(holes) == count:
        raise InputError(f"{label}: no frame can be read ({listed(sorted(set(holes.values())), 1)})", code)
    return holes, tuple(pieces)


def _frames_between(layout: ArrayLayout, low: Sequence[int], high: Sequence[int]) -> range | frozenset[int]:
    """Return the frames between two corners of an array, the second included."""
    spans = [range(low[place], high[place] + 1) for place in layout.others]
    if len(spans) == 1:
        return spans[0]
    numbers = np.ravel_multi_index(np.ix_(*spans), layout.sizes)
    return frozenset(numbers.reshape(-1).tolist())


def _chunk_holes(data: h5py.Dataset, layout: ArrayLayout) -> list[int]:
    """Return the frames that lack a chunk."""
    chunks, others = data.chunks, layout.others
    sizes = tuple(-(-data.shape[place] // chunks[place]) for place in others)
    full = math.prod(-(-data.shape[place] // chunks[place]) for place in (layout.y, layout.x))
    counts = np.zeros(sizes, np.int64)

    def note(chunk: Any) -> None:
        counts[tuple(chunk.chunk_offset[place] // chunks[place] for place in others)] += 1

    data.id.chunk_iter(note)
    for axis, place in enumerate(others):
        counts = counts.repeat(chunks[place], axis).take(range(data.shape[place]), axis)
    return np.flatnonzero(counts < full).tolist()


def _filters(data: h5py.Dataset) -> list[tuple[int, tuple[int, ...], bytes]]:
    """Return code, settings and name of each filter of a dataset."""
    made = data.id.get_create_plist()
    found = [made.get_filter(index) for index in range(made.get_nfilters())]
    return [(code, tuple(values), name) for code, _, values, name in found]


def _is_available(code: int) -> bool:
    import h5py

    return bool(h5py.h5z.filter_avail(code))
