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
from xmist.io.frames.sources import Source, frame_errors, native, reading


@dataclass(frozen=True, kw_only=True)
class NpySource(Source):
    """An array (y, x) or (frame, y, x) in a .npy file: where its numbers begin, and how they are stored."""

    offset: int
    stored: np.dtype[Any]
    full_shape: tuple[int, ...]
    fortran: bool

    def read(self, index: int) -> NDArray[Any]:
        """Return one frame; see `Source.read`."""
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
        """Return an empty mapping: the format states nothing about frames."""
        return {}


def open_npy(path: Path) -> NpySource:
    """Read the header of a .npy file and check that the file holds the numbers that it states."""
    with reading(str(path)), path.open("rb") as file:
        version = npy.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise InputError(
                f"{path} is of .npy version {version}; save plain numbers with numpy.save",
                "frames-unsupported",
            )
        read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = read_header(file)
        offset = file.tell()
        raise_errors(frame_errors(str(path), shape, dtype))
        size = path.stat().st_size
    claimed = offset + math.prod(shape) * dtype.itemsize
    if size < claimed:
        raise InputError(
            f"{path} is truncated: expected {claimed} bytes, found {size}; copy or save it again",
            "file-damaged",
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
