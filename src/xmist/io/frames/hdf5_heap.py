"""Damage of HDF5 files at which the HDF5 library loops for ever, found before it reads them."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from xmist.core.errors import InputError

if TYPE_CHECKING:
    import h5py

_HEAP: Final = b"GCOL\x01\0\0\0"
# Of larger files that hold frames only both ends are searched: between are pixels.
_END: Final = 2**24


def check_heaps(path: Path, *, whole: bool = True) -> None:
    """Raise an `InputError` where a global heap, which holds texts and virtual mappings, has no end.

    libhdf5 (2.0.0 too) walks a heap from object to object by their sizes, and a size of 0 stops it there.
    Without `whole` only both ends of a large file are searched.
    """
    size = path.stat().st_size
    if not size:
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        parts = [(0, size)] if whole or size <= 2 * _END else [(0, _END), (size - _END, size)]
        endless = any(_is_endless(content, start, stop) for start, stop in parts)
    if endless:
        raise InputError(
            f"{path} is damaged (an object in its heap has no size); copy or make it again", "file-damaged"
        )


@contextmanager
def open_checked(path: Path) -> Iterator[h5py.File]:
    """Open a file of results to read, without a lock, if its heaps have an end."""
    import h5py

    check_heaps(path)
    with h5py.File(path, "r", locking=False) as file:
        yield file


def read_fixed(node: h5py.Group | h5py.Dataset, attribute: str | None = None) -> str:
    """Return a dataset or an attribute of bytes as text; no heap is read, as for texts of other types."""
    item = node.id if attribute is None else node.attrs.get_id(attribute)
    if item.dtype.kind != "S" or item.shape != ():
        raise ValueError(f"{attribute or node.name} is not a text of fixed length")
    value: bytes = (node[()] if attribute is None else node.attrs[attribute]).item()
    return value.decode()


def _is_endless(content: mmap.mmap, start: int, stop: int) -> bool:
    """Return whether a heap that begins in a part of a file has an object without a size."""
    start = content.find(_HEAP, start, stop)
    while start >= 0:
        end = min(start + _number(content, start + 8), len(content))
        place = start + 16
        while place + 16 <= end:
            index, length = int.from_bytes(content[place : place + 2], "little"), _number(content, place + 8)
            # The rest of the heap is object 0, whose size includes its header; all are padded to 8 bytes.
            step = length if index == 0 else (16 + (length + 7) // 8 * 8) % 2**64
            if step == 0:
                return True
            place += step
        start = content.find(_HEAP, start + 8, stop)
    return False


def _number(content: mmap.mmap, place: int) -> int:
    return int.from_bytes(content[place : place + 8], "little")
