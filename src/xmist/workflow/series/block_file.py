"""The file of a block, written while its projections come.

HDF5 crashes the process when the disk fills up under it (github.com/h5py/h5py/issues/914), so the disk is
left to plain Python. HDF5 makes what stands around the images, in memory, and says where these go; they are
written there from where they are, one projection after the other: no block ever stands in memory as a whole.
"""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from xmist.core.errors import InputError, OutputError
from xmist.io.results.atomic import settle, write_file
from xmist.workflow.series.blocks import NOTHING, Block, Form
from xmist.workflow.series.table import Row, to_columns

_LONGEST_NOTE: Final = 1000
_LEVEL: Final = 1  # of the compression of flags
# After so many bytes the disk is made to take them, so that little is left to wait for at the end.
_UNSETTLED: Final = 2**24


@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """What a block keeps of a projection.

    Parameters
    ----------
    row : Row
        Its quality numbers.
    channels : mapping of str to array
        Images by name; those that are missing become NaN.
    flags : (y, x) uint16 array or None
        Quality flags; None if there is no result.
    """

    row: Row
    channels: Mapping[str, NDArray[Any]]
    flags: NDArray[np.uint16] | None


def write_block(folder: Path, block: Block, form: Form, results: Iterable[Result]) -> int:
    """Write the file of a block; what stands there under its name is replaced when all of it is on the disk.

    Parameters
    ----------
    folder : Path
        Of the blocks.
    block : Block
        Which.
    form : Form
        What it holds.
    results : iterable of Result
        One for each projection, in order; each is written as it comes.

    Returns
    -------
    int
        Bytes of the file.

    Raises
    ------
    OutputError
        When writing failed; nothing stands under the name then that did not before, as after whatever
        `results` raises.
    """
    size = 0

    def fill(file: BinaryIO) -> None:
        nonlocal size
        size = _fill(file, block, form, results)

    try:
        write_file(folder / block.name, fill, overwrite=True, cached=False)
    except InputError as error:  # the folder has gone, or the right to write
        raise OutputError(str(error)) from error
    return size


def _fill(file: BinaryIO, block: Block, form: Form, results: Iterable[Result]) -> int:
    with _Skeleton(block, form) as skeleton:
        rows = []
        unsettled = 0
        for place, result in enumerate(results):
            if unsettled > _UNSETTLED:
                settle(file)
                unsettled = 0
            for name in form.channels:
                image = _image(result.channels.get(name), name, form)
                file.seek(skeleton.offset(name, place))
                file.write(image.data)
                unsettled += image.nbytes
            skeleton.put_flags(place, result.flags)
            rows.append(result.row)
            del result
        skeleton.put_table(rows)
    return skeleton.write(file)


def _image(given: NDArray[Any] | None, name: str, form: Form) -> NDArray[np.float32]:
    shape = form.image_shape(name)
    if given is None:
        return np.full(shape, np.nan, np.float32)
    image = np.ascontiguousarray(given, np.float32)
    if image.shape != shape:
        raise ValueError(f"{name} has shape {image.shape}; expected {shape}")
    return image


class _Skeleton:
    """The file of a block in memory without the images of its channels; a context manager.

    Parameters
    ----------
    block : Block
        Which.
    form : Form
        What it holds.
    """

    def __init__(self, block: Block, form: Form) -> None:
        import h5py

        self._form = form
        self._pieces = _Pieces()
        self._file = h5py.File(self._pieces, "w")
        self._file.attrs.update(xmist_block=1, identity=form.identity, start=block.start, stop=block.stop)
        # Room for the images is set aside at once and left as it is: others fill it.
        made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        made.set_fill_value(np.array(np.nan, np.float32))
        made.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        made.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        kind = h5py.h5t.py_create(np.dtype(np.float32))
        self._offsets = {}
        for name in form.channels:
            space = h5py.h5s.create_simple((len(block), *form.image_shape(name)))
            data = h5py.h5d.create(self._file.id, name.encode(), kind, space, made)
            self._offsets[name] = data.get_offset()
        # Each projection by itself: a reader of one image need not unpack its neighbours.
        self._flags = self._file.create_dataset(
            "flags",
            (len(block), *form.shape),
            np.uint16,
            chunks=(1, *form.shape),
            compression=_LEVEL,
            shuffle=True,
        )
        self._last: tuple[NDArray[np.uint16], bytes] | None = None

    def __enter__(self) -> _Skeleton:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def offset(self, name: str, place: int) -> int:
        """Give where a channel of a projection begins.

        Parameters
        ----------
        name : str
            The channel.
        place : int
            Number of the projection in its block.
        """
        return int(self._offsets[name]) + 4 * place * int(np.prod(self._form.image_shape(name)))

    def put_flags(self, place: int, flags: NDArray[np.uint16] | None) -> None:
        """Keep the flags of a projection, as HDF5 would pack them, but without its lock.

        Parameters
        ----------
        place : int
            Number of the projection in its block.
        flags : (y, x) uint16 array or None
            None for a projection without a result.
        """
        image = np.full(self._form.shape, NOTHING, np.uint16) if flags is None else flags
        # Flags of neighbours are the same more often than not.
        if self._last is None or not np.array_equal(self._last[0], image):
            self._last = image, _packed(image)
        self._flags.id.write_direct_chunk((place, 0, 0), self._last[1])

    def put_table(self, rows: Sequence[Row]) -> None:
        """Keep the quality numbers.

        Parameters
        ----------
        rows : sequence of Row
            One a projection.
        """
        table = self._file.create_group("table")
        for name, column in to_columns(rows).items():
            table[name] = column
        table["notes"] = json.dumps([row.note[:_LONGEST_NOTE] for row in rows])

    def write(self, file: BinaryIO) -> int:
        """Write all but the images of the channels, once it is closed; give the bytes of the file.

        Parameters
        ----------
        file : binary file
            Holds the images already.
        """
        for place, piece in self._pieces.written:
            file.seek(place)
            file.write(piece)
        file.truncate(self._pieces.size)
        return self._pieces.size


def _packed(image: NDArray[np.uint16]) -> bytes:
    """Pack an image like the filters "shuffle" and "gzip" of HDF5."""
    return zlib.compress(np.ascontiguousarray(image).view(np.uint8).reshape(-1, 2).T.tobytes(), _LEVEL)


class _Pieces(io.RawIOBase):
    """A file in memory that holds nothing where nothing was written, however large it is."""

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
