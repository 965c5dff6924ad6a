"""Blocks: files with the results of a few projections, which appear complete or not at all, and never change.

A block states which series it belongs to and which projections it holds, so that a folder of blocks shows
what is finished. A projection that is retrieved again goes to a new block, which replaces the earlier result.

HDF5 crashes the process when the disk fills up under it (github.com/h5py/h5py/issues/914), so plain Python
writes to the disk. HDF5 makes the structure of the file in memory, without the images, and gives their
offsets. The images are written there, one projection after the other; a block is never in memory as a whole.
"""

from __future__ import annotations

import io
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from xmist.core.data import CHANNELS
from xmist.core.errors import InputError, OutputError
from xmist.core.flags import BAD_SAMPLE, UNDETERMINED
from xmist.io.frames.hdf5_heap import read_fixed
from xmist.io.results.atomic import leftovers, settle, write_file
from xmist.workflow.numbering import Numbering
from xmist.workflow.quality import COLUMNS, Row, to_columns, to_rows

if TYPE_CHECKING:
    import h5py

# Flag of the pixels of a projection without a result, or of a missing block.
NOTHING: Final = UNDETERMINED | BAD_SAMPLE

_LEVEL: Final = 1  # of the compression of flags
# After so many bytes the disk is made to take them, so that little is left to wait for at the end.
_UNSETTLED: Final = 2**24

_NAME: Final = re.compile(r"block_[0-9]{6,}_[0-9]{6,}(?:_([0-9]+))?\.h5")


@dataclass(frozen=True)
class Block:
    """Rising numbers of projections, or slices, that share a file; `run` counts the runs of a series."""

    numbers: tuple[int, ...]
    run: int = 0

    @property
    def name(self) -> str:
        """Name of its file."""
        run = f"_{self.run}" if self.run else ""
        return f"block_{self.start:06d}_{self.stop:06d}{run}.h5"

    @property
    def start(self) -> int:
        """The first number."""
        return self.numbers[0]

    @property
    def stop(self) -> int:
        """The last number, plus 1."""
        return self.numbers[-1] + 1

    def __len__(self) -> int:
        return len(self.numbers)


@dataclass(frozen=True, kw_only=True)
class BlockSchema:
    """The content of every block of a series."""

    identity: str
    channels: tuple[str, ...]
    shape: tuple[int, int]

    def image_shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a channel of one projection."""
        components = CHANNELS[name].components if name in CHANNELS else ()
        return (*((len(components),) if components else ()), *self.shape)

    @property
    def bytes_each(self) -> int:
        """Bytes of one projection."""
        images = sum(len(CHANNELS[name].components) or 1 for name in self.channels)
        return (4 * images + 2) * self.shape[0] * self.shape[1]


def split(numbers: Iterable[int], size: int, numbering: Numbering | None = None, run: int = 0) -> list[Block]:
    """Split rising numbers of projections into blocks of neighbours in the series."""
    index = (numbering or Numbering()).index
    groups = groupby(numbers, key=lambda number: index(number) // size)
    return [Block(tuple(group), run) for _, group in groups]


def read_rows(path: Path, schema: BlockSchema) -> list[Row]:
    """Read the quality numbers of a block; check that it is complete and belongs to the series."""
    import h5py

    try:
        with h5py.File(path, "r", locking=False) as file:
            if read_fixed(file, "identity") != schema.identity:
                raise InputError(f"{path} belongs to another series", code="series-changed")
            columns = {name: np.asarray(file["table"][name][()]) for name in COLUMNS}
            rows = to_rows(columns, json.loads(read_fixed(file["table/texts"])))
            for name in (*schema.channels, "flags"):
                _check_images(path, file, name, (len(rows), *schema.image_shape(name)))
            return rows
    except InputError:
        raise
    except (OSError, RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(f"{path} cannot be read ({error})", code="file-damaged") from error


def _check_images(path: Path, file: h5py.File, name: str, shape: tuple[int, ...]) -> None:
    data = file.get(name)
    kind = np.dtype(np.uint16 if name == "flags" else np.float32)
    if getattr(data, "shape", None) != shape or data.dtype != kind:
        raise InputError(f"{path}: dataset {name} is not {kind} of shape {shape}", "dataset-invalid")
    if data.chunks is None and data.id.get_storage_size() != data.nbytes:
        raise InputError(f"{path}: dataset {name} is incomplete", "dataset-incomplete")


@dataclass(frozen=True)
class Kept:
    """Place of the result of a projection: a block, the index in it, and its row."""

    block: Block
    place: int
    row: Row


def find_kept(folder: Path, schema: BlockSchema) -> dict[int, Kept]:
    """Find the result of each projection, by its number; damaged and foreign blocks count as missing."""
    kept: dict[int, Kept] = {}
    for run, path in sorted(_blocks(folder)):
        try:
            rows = read_rows(path, schema)
        except InputError:
            continue
        block = Block(tuple(row.projection for row in rows), run)
        if block.name == path.name:
            kept |= {row.projection: Kept(block, place, row) for place, row in enumerate(rows)}
    return kept


def clear(folder: Path, keep: Iterable[Block] | None = None) -> None:
    """Delete incomplete files of killed processes; with `keep`, also all blocks except these."""
    names = None if keep is None else {block.name for block in keep}
    try:
        others = [path for _, path in _blocks(folder) if names is not None and path.name not in names]
        for path in [*leftovers(folder), *others]:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be tidied ({error.strerror or error})") from error


def _blocks(folder: Path) -> Iterator[tuple[int, Path]]:
    """Return the files of blocks, each with the number of the run that wrote it."""
    found = ((_NAME.fullmatch(path.name), path) for path in folder.iterdir() if folder.is_dir())
    return ((int(match[1] or 0), path) for match, path in found if match)


@dataclass(frozen=True, kw_only=True, eq=False)
class KeptResult:
    """The data of a projection in a block."""

    row: Row
    channels: Mapping[str, NDArray[Any]]
    flags: NDArray[np.uint16] | None


def write_block(folder: Path, block: Block, schema: BlockSchema, results: Iterable[KeptResult]) -> int:
    """Write the file of a block; an earlier file is replaced when the new one is complete."""
    size = 0

    def fill(file: BinaryIO) -> None:
        nonlocal size
        size = _fill(file, block, schema, results)

    try:
        write_file(folder / block.name, fill, overwrite=True, cached=False)
    except InputError as error:  # the folder has gone, or the right to write
        raise OutputError(str(error)) from error
    return size


def _fill(file: BinaryIO, block: Block, schema: BlockSchema, results: Iterable[KeptResult]) -> int:
    with _Skeleton(block, schema) as skeleton:
        rows = []
        unsettled = 0
        for place, result in enumerate(results):
            if unsettled > _UNSETTLED:
                settle(file)
                unsettled = 0
            for name in schema.channels:
                image = _image(result.channels.get(name), name, schema)
                file.seek(skeleton.offset(name, place))
                file.write(image.data)
                unsettled += image.nbytes
            skeleton.put_flags(place, result.flags)
            rows.append(result.row)
            del result
        skeleton.put_table(rows)
    return skeleton.write(file)


def _image(given: NDArray[Any] | None, name: str, schema: BlockSchema) -> NDArray[np.float32]:
    shape = schema.image_shape(name)
    if given is None:
        return np.full(shape, np.nan, np.float32)
    image = np.ascontiguousarray(given, np.float32)
    if image.shape != shape:
        raise ValueError(f"{name} has shape {image.shape}; expected {shape}")
    return image


class _Skeleton:
    """The file of a block in memory without the images of its channels; a context manager."""

    def __init__(self, block: Block, schema: BlockSchema) -> None:
        import h5py

        self._schema = schema
        self._pieces = _Pieces()
        self._file = h5py.File(self._pieces, "w")
        self._file.attrs.update(xmist_block=2, identity=np.bytes_(schema.identity))
        # Room for the images is set aside at once and left as it is: others fill it.
        made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        made.set_fill_value(np.array(np.nan, np.float32))
        made.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        made.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        kind = h5py.h5t.py_create(np.dtype(np.float32))
        self._offsets = {}
        for name in schema.channels:
            space = h5py.h5s.create_simple((len(block), *schema.image_shape(name)))
            data = h5py.h5d.create(self._file.id, name.encode(), kind, space, made)
            self._offsets[name] = data.get_offset()
        # Each projection by itself: a reader of one image need not unpack its neighbours.
        self._flags = self._file.create_dataset(
            "flags",
            (len(block), *schema.shape),
            np.uint16,
            chunks=(1, *schema.shape),
            compression=_LEVEL,
            shuffle=True,
        )
        self._last: tuple[NDArray[np.uint16], bytes] | None = None

    def __enter__(self) -> _Skeleton:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def offset(self, name: str, place: int) -> int:
        """Return where a channel of a projection begins."""
        return int(self._offsets[name]) + 4 * place * int(np.prod(self._schema.image_shape(name)))

    def put_flags(self, place: int, flags: NDArray[np.uint16] | None) -> None:
        """Keep the flags of a projection, as HDF5 would pack them, but without its lock."""
        image = np.full(self._schema.shape, NOTHING, np.uint16) if flags is None else flags
        # Flags of neighbours are mostly the same.
        if self._last is None or not np.array_equal(self._last[0], image):
            self._last = image, _packed(image)
        self._flags.id.write_direct_chunk((place, 0, 0), self._last[1])

    def put_table(self, rows: Sequence[Row]) -> None:
        """Keep the quality numbers."""
        table = self._file.create_group("table")
        for name, column in to_columns(rows).items():
            table[name] = column
        table["texts"] = np.bytes_(json.dumps([row.texts() for row in rows]))

    def write(self, file: BinaryIO) -> int:
        """Write everything except the images, after closing; return the bytes of the file."""
        for place, piece in self._pieces.written:
            file.seek(place)
            file.write(piece)
        file.truncate(self._pieces.size)
        return self._pieces.size


def _packed(image: NDArray[np.uint16]) -> bytes:
    """Pack an image like the filters "shuffle" and "gzip" of HDF5."""
    return zlib.compress(np.ascontiguousarray(image).view(np.uint8).reshape(-1, 2).T.tobytes(), _LEVEL)


class _Pieces(io.RawIOBase):
    """A sparse file in memory: only written parts take memory."""

    def __init__(self) -> None:
        self.written: list[tuple[int, bytes]] = []
        self.size = self._place = 0

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = offset + (0, self._place, self.size)[whence]
        return self._place

    def write(self, data: Any) -> int:
        piece = bytes(data)
        self.written.append((self._place, piece))
        self._place += len(piece)
        self.size = max(self.size, self._place)
        return len(piece)

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        start, stop = self._place, min(self._place + len(view), self.size)
        view[: stop - start] = bytes(stop - start)
        for place, piece in self.written:
            low, high = max(place, start), min(place + len(piece), stop)
            if low < high:
                view[low - start : high - start] = piece[low - place : high - place]
        self._place = stop
        return stop - start

    def truncate(self, size: int | None = None) -> int:
        self.size = self._place if size is None else size
        return self.size
