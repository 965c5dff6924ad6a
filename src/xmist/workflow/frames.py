"""The table of the frames of each projection, and a reader that keeps files open."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.core.errors import ErrorRecord, InputError
from xmist.io.frames.addresses import Address, check_link
from xmist.io.frames.loading import LoadedFrames, frame_digest, load_frames
from xmist.io.frames.series import HDF5_ENDINGS, FrameSeries, open_source
from xmist.io.frames.sources import Source, check_file
from xmist.workflow.numbering import Numbering

# File of a frame, its number there, size and time of change (ns) of the file.
State = tuple[str, int, int, int]

# Headers that are kept: as many as there can be stacks of a position.
_KEPT: Final = 64


@dataclass(frozen=True, kw_only=True)
class FrameTable:
    """File and frame number of each repeat.

    `places` of shape (outer, position, repeat, 2) hold the number of the address and of the frame in it, −1
    where there is none; the outer index counts projections, or sets of references. `numbering` gives
    projections their numbers; `position_numbers` are those of positions in the names of files, if there are.
    `missing` says for each outer index without all its frames why. `sources` are the opened addresses where
    they are known; `folder` is the one that names of files are relative to.
    """

    name: str
    addresses: tuple[Address, ...] = field(repr=False)
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    places: NDArray[np.int64] = field(repr=False)
    missing: Mapping[int, str] = field(default_factory=dict, repr=False)
    files: tuple[Path, ...] = field(default=(), repr=False)
    sources: tuple[Source, ...] = field(default=(), repr=False)
    finding_text: str = ""
    numbering: Numbering = field(default_factory=Numbering)
    position_numbers: tuple[int, ...] = ()
    folder: Path = Path()

    @property
    def numbers(self) -> NDArray[np.int64]:
        """Number of each projection: that in the names of its files, or its place in a stack."""
        return self.numbering.first + self.numbering.step * np.arange(self.count)

    @property
    def count(self) -> int:
        """Number of projections, or of sets of references."""
        return int(self.places.shape[0])

    @property
    def positions(self) -> int:
        """Number N of positions of the diffuser."""
        return int(self.places.shape[1])

    @property
    def missing_errors(self) -> list[ErrorRecord]:
        """An error for each outer index that lacks frames."""
        return [ErrorRecord("frames-missing", f"{self.name}: {text}") for text in self.missing.values()]

    @property
    def frames(self) -> int:
        """Number of frames that are there."""
        return int(np.count_nonzero(self.places[..., 0] >= 0))

    @classmethod
    def of_groups(cls, series: FrameSeries, groups: Sequence[Sequence[int]]) -> FrameTable:
        """Return the table of a single projection, from which frames of a series are at which position."""
        places = np.full((1, len(groups), max(map(len, groups)), 2), -1, np.int64)
        where = [
            (number, frame) for number, source in enumerate(series.sources) for frame in range(source.count)
        ]
        for position, group in enumerate(groups):
            places[0, position, : len(group)] = [where[index] for index in group]
        return cls(
            name=series.name,
            addresses=tuple(Address(source.path) for source in series.sources),
            shape=series.shape,
            dtype=series.dtype,
            places=places,
            files=series.files,
            sources=series.sources,
        )


@dataclass(frozen=True, kw_only=True)
class _Stream(Source):
    """A source that stays open, so that files are opened and chunks unpacked once."""

    inner: Source
    state: dict[str, Any]

    @property
    def _streams(self) -> bool:
        """Whether the file should stay open: HDF5 checks a file for damage each time it is opened."""
        return hasattr(self.inner, "depth") and self.inner.count > 1

    def read(self, index: int) -> NDArray[Any]:
        """Read one frame; see `Source.read`."""
        if not self._streams:
            return self.inner.read(index)
        if self.state.get("next") != index:
            self.close()
            self.state["frames"] = self.inner.frames(range(index, self.inner.count))
        try:
            frame: NDArray[Any] = next(self.state["frames"])
        except BaseException:
            self.close()
            raise
        self.state["next"] = index + 1
        return frame

    def frames(self, indices: Sequence[int]) -> Iterator[NDArray[Any]]:
        """Read several frames; see `Source.frames`."""
        return map(self.read, indices) if self._streams else self.inner.frames(indices)

    def close(self) -> None:
        """Close what is open."""
        if "frames" in self.state:
            self.state.pop("frames").close()
        self.state.pop("next", None)


class FrameReader:
    """Reads the projections of a table; a context manager that closes what is open."""

    def __init__(self, table: FrameTable, saturation: float | None = None) -> None:
        self.table = table
        self._saturation = saturation
        self._streams: OrderedDict[int, _Stream] = OrderedDict()

    def __enter__(self) -> FrameReader:
        return self

    def __exit__(self, *_: object) -> None:
        for stream in self._streams.values():
            stream.close()
        self._streams.clear()

    def read(self, index: int, progress: Any = None) -> LoadedFrames:
        """Read a projection, (position, y, x) float32; repeats are averaged."""
        table = self.table
        if index in table.missing:
            raise InputError(f"{table.name}: {table.missing[index]}", code="frames-missing")
        places = table.places[index]
        numbers = [number for number in dict.fromkeys(places[..., 0].reshape(-1).tolist()) if number >= 0]
        streams = [self._open(number) for number in numbers]
        starts = dict(
            zip(numbers, np.cumsum([0, *(stream.count for stream in streams)]).tolist(), strict=False)
        )
        groups = [
            [starts[number] + frame for number, frame in position.tolist() if number >= 0]
            for position in places
        ]
        series = FrameSeries(table.name, tuple(streams))
        return load_frames(series, groups=groups, saturation=self._saturation, progress=progress)

    def raw(self, index: int, repeat: int) -> NDArray[Any]:
        """Read a frame of the first position of a projection, as it is stored."""
        number, frame = self.table.places[index, 0, repeat].tolist()
        return self._open(number).read(frame)

    def names(self, index: int) -> list[str]:
        """Return for each frame of a projection, in the order of reading, its file and its number there."""
        found = []
        for number, frame in self.table.places[index].reshape(-1, 2).tolist():
            if number >= 0:
                stream = self._open(number)
                name = stream.label.replace(str(stream.path), stream.path.name)
                found.append(name if stream.count == 1 else f"{name} frame {frame + 1}")
        return found

    def states(self, index: int) -> list[State]:
        """Return size and modification time of each frame of a projection, without loading it."""
        seen: dict[tuple[Path, ...], tuple[int, int]] = {}
        found = []
        for number, frame in self.table.places[index].reshape(-1, 2).tolist():
            if number < 0:
                continue
            path = self.table.addresses[number].path
            # Only of HDF5 it takes the headers to know which files and which frames are meant.
            source: Any = None if path.suffix.lower() not in HDF5_ENDINGS else self._open(number).inner
            pieces = getattr(source, "pieces", ())
            inside = source.chosen[frame] if getattr(source, "chosen", None) is not None else frame
            files = (path,) if source is None else source.files
            if pieces:  # of a virtual dataset
                files = (path, *(each.path for each in pieces if inside in each.frames))
            if files not in seen:
                facts = [path.stat() for path in files if path.exists()]
                time = max((each.st_mtime_ns for each in facts), default=0)
                seen[files] = sum(each.st_size for each in facts), time
            found.append((self._name(path), inside, *seen[files]))
        return found

    def digests(self, index: int) -> tuple[str, ...]:
        """Load the frames of a projection, and return the SHA-256 of each."""
        found: list[str] = []
        for number, frame in self.table.places[index].reshape(-1, 2).tolist():
            if number >= 0:
                found.append(frame_digest(self._open(number).read(frame)))
        return tuple(found)

    def _name(self, path: Path) -> str:
        folder = self.table.folder
        return os.path.relpath(path, folder) if path.is_relative_to(folder) else str(path)

    def header(self, number: int, frame: int) -> Mapping[str, str]:
        """Return the header of a frame, as text."""
        return self._open(number).inner.header(frame)

    def _open(self, number: int) -> _Stream:
        if number in self._streams:
            self._streams.move_to_end(number)
            return self._streams[number]
        table = self.table
        source = table.sources[number] if table.sources else open_tolerant(table.addresses[number])
        if source.shape != table.shape:
            text = (
                f"{source.label} has frames of {source.shape[0]} × {source.shape[1]} pixels; expected "
                f"{table.shape[0]} × {table.shape[1]}"
            )
            raise InputError(f"{table.name}: {text}", code="shape-mismatch")
        base = {name: getattr(source, name) for name in ("label", "path", "files", "count", "shape", "dtype")}
        stream = _Stream(inner=source, state={}, **base)
        self._streams[number] = stream
        # A projection may need more files than are kept: the oldest of earlier projections goes.
        while len(self._streams) > max(_KEPT, 2 * table.places[0].size):
            self._streams.popitem(last=False)[1].close()
        return stream


def open_tolerant(address: Address) -> Source:
    """Open a file or dataset by its headers; holes in an HDF5 dataset are noted, not refused."""
    if address.path.suffix.lower() in HDF5_ENDINGS:
        check_file(address.path)
        check_link(address)
        from xmist.io.frames.hdf5_reader import open_hdf5

        return open_hdf5(
            address.path,
            address.dataset,
            address.key,
            axes=address.axes,
            holes=True,
            links=address.links,
        )
    return open_source(address)


def read_still(series: FrameSeries, progress: Any = None) -> LoadedFrames:
    """Read dark or flat frames; they are not averaged, because their median rejects outliers."""
    return load_frames(series, progress=progress)
