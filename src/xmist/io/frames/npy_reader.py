"""Frames out of NumPy's .npy files, mapped, never unpickled."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from xmist.core.errors import InputError, raise_errors
from xmist.io.frames.sources import Source, frame_faults, native, reading


@dataclass(frozen=True, kw_only=True)
class NpySource(Source):
    """An array of shape (y, x) or (frame, y, x) in a .npy file.

    Parameters
    ----------
    offset : int
        Where its numbers begin, in bytes.
    stored : numpy dtype
        Of the numbers in the file, with its byte order.
    full_shape : tuple of int
        As stored.
    fortran : bool
        Whether the first axis runs fastest.
    """

    offset: int
    stored: np.dtype[Any]
    full_shape: tuple[int, ...]
    fortran: bool

    def read(self, index: int) -> NDArray[Any]:
        """Read one frame; see `Source.read`."""
        with reading(self.label):
            mapped = np.memmap(
                self.path,
                self.stored,
                mode="r",
                offset=self.offset,
                shape=self.full_shape,
                order="F" if self.fortran else "C",
            )
            return native(mapped if mapped.ndim == 2 else mapped[index])

    def header(self, index: int) -> Mapping[str, str]:
        """Give an empty mapping: the format has no header for people."""
        return {}


def open_npy(path: Path) -> NpySource:
    """Read the header of a .npy file and make sure that the file holds the numbers that it claims.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    NpySource
        Its frames.

    Raises
    ------
    InputError
        If the file is damaged or truncated, or holds objects, complex numbers or another shape.

    Examples
    --------
    >>> np.save("frames.npy", np.zeros((10, 32, 48), np.uint16))
    >>> source = open_npy(Path("frames.npy"))
    >>> source.count, source.shape
    (10, (32, 48))
    """
    with reading(str(path)), path.open("rb") as file:
        version = npy.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise InputError(f"{path} is of .npy version {version}; save plain numbers with numpy.save")
        read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = read_header(file)
        offset = file.tell()
        raise_errors([f"{path} {fault}" for fault in frame_faults(shape, dtype)])
        size = path.stat().st_size
    claimed = offset + math.prod(shape) * dtype.itemsize
    if size < claimed:
        raise InputError(
            f"{path} is truncated: its header claims {claimed} bytes, and it has {size}; copy or save it "
            "again"
        )
    return NpySource(
        label=str(path),
        path=path,
        files=(path,),
        count=shape[0] if len(shape) == 3 else 1,
        shape=(shape[-2], shape[-1]),
        dtype=dtype.newbyteorder("="),
        offset=offset,
        stored=dtype,
        full_shape=tuple(shape),
        fortran=fortran,
    )
