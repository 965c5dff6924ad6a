"""Datasets of an HDF5 file and of the files that it links to, as long as they stay in its folder."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from xmist.core.errors import InputError
from xmist.io.frames.sources import MOST_SHRUNK, check_file, frame_faults, listed

if TYPE_CHECKING:
    import h5py

# A file of a beamline holds some hundred objects; these bounds end what goes round in circles.
_MOST_OBJECTS: Final = 20_000
_MOST_LINKS: Final = 32
_DEEPEST: Final = 12
# Where the settings of shuffle, blosc and bitshuffle give the bytes of a number: the last divides by it.
_SIZE_AT: Final = {2: 0, 32001: 2, 32008: 2}
# The filter that ends a chunk with a checksum, whose bytes it subtracts without looking.
_FLETCHER: Final = 3
_CHECKSUM: Final = 4
# Files that are looked through for damage that HDF5 itself never returns from; larger ones hold pixels.
_MOST_SCANNED: Final = 2**24
_HEAP: Final = b"GCOL\x01\0\0\0"


@dataclass(frozen=True)
class Place:
    """An object, and how it was found.

    Parameters
    ----------
    node : h5py Group or Dataset
        The object.
    path : str
        Its path from the file that was opened.
    home : Path
        The file that it stands in.
    """

    node: Any
    path: str
    home: Path

    @property
    def identity(self) -> tuple[Path, int]:
        """The same for all paths to one object."""
        import h5py

        return self.home, h5py.h5o.get_info(self.node.id).addr


class Hdf5:
    """An HDF5 file opened to read, with the files that its links lead to.

    Parameters
    ----------
    path : Path
        The file; links may lead to files in its folder and below.

    Raises
    ------
    InputError
        If it is no HDF5 file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._folder = Path(os.path.realpath(path)).parent
        self._opened: dict[Path, h5py.File] = {}
        self._used: list[Path] = []
        self._stack = ExitStack()

    def __enter__(self) -> Hdf5:
        self._open(self.path)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    @property
    def files(self) -> tuple[Path, ...]:
        """The file that was given, and those of the datasets that `dataset_faults` looked at."""
        return tuple(dict.fromkeys([self.path, *self._used]))

    @property
    def root(self) -> Place:
        """The root group."""
        return Place(self._opened[self.path]["/"], "/", self.path)

    def find(self, path: str, start: Place | None = None) -> Place | None:
        """Follow a path, links and all.

        Parameters
        ----------
        path : str
            From the root, or from `start`.
        start : Place, optional
            Where a relative path begins.

        Returns
        -------
        Place or None
            None if there is nothing.

        Raises
        ------
        InputError
            For a link to a file that is missing or that lies outside the folder.
        """
        import h5py

        place = self.root if start is None or path.startswith("/") else start
        node, home = place.node, place.home
        shown = "/" if path.startswith("/") else place.path
        shown = "/".join([shown.rstrip("/"), *[part for part in path.split("/") if part not in ("", ".")]])
        parts = path.split("/")[::-1]
        links = 0
        while parts:
            part = parts.pop()
            if part in ("", "."):
                continue
            if not isinstance(node, h5py.Group):
                return None
            link = node.get(part, getlink=True)
            if isinstance(link, h5py.HardLink):
                node = node[part]
                continue
            links += 1
            if link is None or links > _MOST_LINKS:
                return None
            if isinstance(link, h5py.ExternalLink):
                home = self._neighbour(link.filename, home, shown)
                node = self._open(home)["/"]
            elif link.path.startswith("/"):
                node = self._opened[home]["/"]
            parts += link.path.split("/")[::-1]
        return Place(node, shown or "/", home)

    def walk(self, start: Place, *, inside: bool = False) -> Iterator[Place]:
        """Give everything under a group once, what stands higher first; broken links are passed over.

        Parameters
        ----------
        start : Place
            A group.
        inside : bool
            Do not follow links into other files.
        """
        import h5py

        seen = {start.identity}
        level = [start]
        for _ in range(_DEEPEST):
            groups = []
            for group in level:
                for name in group.node:
                    if inside and isinstance(group.node.get(name, getlink=True), h5py.ExternalLink):
                        continue
                    try:
                        place = self.find(name, group)
                    except InputError:
                        continue
                    if place is None or place.identity in seen:
                        continue
                    if len(seen) > _MOST_OBJECTS:
                        return
                    seen.add(place.identity)
                    yield place
                    if isinstance(place.node, h5py.Group):
                        groups.append(place)
            level = groups

    def dataset_faults(self, place: Place, depth: int = 0) -> list[str]:
        """Say why a dataset cannot be read in full; messages go on after its name.

        Parameters
        ----------
        place : Place
            A dataset.
        depth : int
            How many virtual datasets led here.
        """
        data = place.node
        self._used.append(place.home)
        if data.external:
            return ["keeps its numbers in raw files beside it; repack it into one file"]
        if data.is_virtual:
            return self._virtual_faults(place, depth)
        stored = data.id.get_storage_size()
        if data.chunks is None:
            if stored != data.nbytes:
                return [f"is incomplete: {stored} of its {data.nbytes} bytes were written"]
            return []
        unknown = _unknown_filters(data)
        if unknown:
            return [f"is compressed with {listed(unknown)}, which this machine's HDF5 cannot undo; repack it"]
        if not _filters_fit(data):
            return ["is damaged: its compression was set for numbers of another size"]
        chunks = _stored_chunks(data)
        written = len(chunks)
        expected = math.prod(-(-size // chunk) for size, chunk in zip(data.shape, data.chunks, strict=True))
        if written != expected:
            return [
                f"is incomplete: {written} of its {expected} chunks were written; record it again, or cut "
                "it to the frames that were"
            ]
        chunk_bytes = math.prod(data.chunks) * data.dtype.itemsize
        size = place.home.stat().st_size
        codes = [code for code, *_ in _filters(data)]
        least = (_CHECKSUM + 1 if _FLETCHER in codes else 1) if codes else chunk_bytes
        wrong = sum(length < least or start + length > size for start, length in chunks)
        if wrong:
            return [f"is damaged: {wrong} of its {expected} chunks are not in the file in full"]
        if max(data.nbytes, chunk_bytes) > stored * MOST_SHRUNK:
            return [f"is damaged: it claims {data.nbytes} bytes, and the file holds {stored} for them"]
        return []

    def _virtual_faults(self, place: Place, depth: int) -> list[str]:
        """Check every piece of a virtual dataset; HDF5 would fill with zeros what it does not find."""
        import h5py

        if depth > 3:
            return ["is made of virtual datasets in virtual datasets in circles"]
        mapped = 0
        for piece in place.node.virtual_sources():
            if "%" in piece.file_name or "%" in piece.dset_name:
                return ["is a virtual dataset with numbered sources; name the sources themselves"]
            source = self.source_of(piece.file_name, piece.dset_name, place)
            if source is None or not isinstance(source.node, h5py.Dataset):
                return [f"takes frames from {piece.file_name}::{piece.dset_name}, which does not exist"]
            faults = self.dataset_faults(source, depth + 1)
            if faults:
                return [f"takes frames from {source.home}::{piece.dset_name}, which {faults[0]}"]
            mapped += piece.vspace.get_select_npoints()
        if mapped < place.node.size:
            return [f"is incomplete: {mapped} of its {place.node.size} pixels have a source"]
        return []

    def source_of(self, name: str, dataset: str, place: Place) -> Place | None:
        """Follow a virtual dataset to one of its sources.

        Parameters
        ----------
        name : str
            The source's file as the virtual dataset names it; "." for its own.
        dataset : str
            Path in that file.
        place : Place
            The virtual dataset.

        Returns
        -------
        Place or None
            None if the file has no such dataset.

        Raises
        ------
        InputError
            For a file that is missing or that lies outside the folder.
        """
        home = place.home if name == "." else self._neighbour(name, place.home, place.path)
        return self.find(dataset.lstrip("/"), Place(self._open(home)["/"], "/", home))

    def _neighbour(self, name: str, home: Path, shown: str) -> Path:
        """Give the file that a link names, if it stands in the folder or below."""
        path = home.parent / name
        if Path(name).is_absolute() and not path.exists():
            path = home.parent / Path(name).name  # copied together with the file that links to it
        if not Path(os.path.realpath(path)).is_relative_to(self._folder):
            raise InputError(
                f"{self.path}::{shown} leads to {name}, outside its folder; give that file itself, or copy "
                "it beside this one"
            )
        if not path.is_file():
            raise InputError(f"{self.path}::{shown} leads to {path}, which does not exist; copy it there")
        return path

    def _open(self, path: Path) -> h5py.File:
        import h5py

        if path not in self._opened:
            check_file(path)
            if not h5py.is_hdf5(path):
                raise InputError(f"{path} is not an HDF5 file, or its beginning is damaged")
            if _has_endless_heap(path):
                raise InputError(f"{path} is damaged (an object in its heap has no size); copy it again")
            self._opened[path] = self._stack.enter_context(h5py.File(path, "r", locking="best-effort"))
        return self._opened[path]


def is_plausible(place: Place) -> bool:
    """Say whether an object could be frames, by its shape and type.

    Parameters
    ----------
    place : Place
        Any object.
    """
    import h5py

    data = place.node
    if not isinstance(data, h5py.Dataset) or data.shape is None:
        return False
    return not frame_faults(data.shape, data.dtype)


def _unknown_filters(data: h5py.Dataset) -> list[str]:
    import h5py

    return [
        f"filter {code} ({name.decode(errors='replace')})"
        for code, _, _, name in _filters(data)
        if not h5py.h5z.filter_avail(code)
    ]


def _filters_fit(data: h5py.Dataset) -> bool:
    """Say whether the filters that part numbers into bytes were set for numbers of this size."""
    for code, _, values, _ in _filters(data):
        place = _SIZE_AT.get(code)
        if place is not None and tuple(values[place : place + 1]) != (data.dtype.itemsize,):
            return False
    return True


def _stored_chunks(data: h5py.Dataset) -> list[tuple[int, int]]:
    """Give where the chunks that were written stand in the file, and how long they are."""
    chunks: list[tuple[int, int]] = []

    def note(chunk: Any) -> None:
        chunks.append((chunk.byte_offset, chunk.size))

    data.id.chunk_iter(note)
    return chunks


def _filters(data: h5py.Dataset) -> list[tuple[int, int, tuple[int, ...], bytes]]:
    made = data.id.get_create_plist()
    return [made.get_filter(index) for index in range(made.get_nfilters())]


def _has_endless_heap(path: Path) -> bool:
    """Say whether a global heap, where virtual datasets and texts are, would send HDF5 round for ever.

    libhdf5 walks such a heap from object to object by their sizes, and one of size 0 keeps it where it is.
    """
    if path.stat().st_size > _MOST_SCANNED:
        return False
    content = path.read_bytes()
    start = content.find(_HEAP)
    while start >= 0:
        end = start + int.from_bytes(content[start + 8 : start + 16], "little")
        place = start + 16
        while place + 16 <= min(end, len(content)):
            index = int.from_bytes(content[place : place + 2], "little")
            length = int.from_bytes(content[place + 8 : place + 16], "little")
            # The rest of the heap is object 0, whose size counts its own header; all are padded to 8 bytes.
            step = length if index == 0 else (16 + (length + 7) // 8 * 8) % 2**64
            if step == 0:
                return True
            place += step
        start = content.find(_HEAP, start + 8)
    return False
