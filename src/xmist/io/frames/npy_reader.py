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

from xmist.core.errors import InputError
from xmist.io.frames.axes import ArrayLayout, Axes
from xmist.io.frames.sources import Source, checked_layout, native, reading


@dataclass(frozen=True, kw_only=True)
class NpySource(Source):
    """An array of frames in a .npy file: where its numbers begin, and how they are stored."""

    layout: ArrayLayout
    offset: int
    stored: np.dtype[Any]
    fortran: bool

    def read(self, index: int) -> NDArray[Any]:
        """Return one frame; see `Source.read`."""
        with reading(self.label):
            mapped = np.memmap(
                self.path,
                self.stored,
                mode="r",
                offset=self.offset,
                shape=self.layout.shape,
                order="F" if self.fortran else "C",
            )
            part = mapped[self.layout.index(self.layout.numbers(index))]
            return native(self.layout.image(part))

    def header(self, index: int) -> Mapping[str, str]:
        """Return an empty mapping: the format states nothing about frames."""
        return {}


def open_npy(path: Path, axes: Axes | None = None) -> NpySource:
    """Read the header of a .npy file and check that the file holds the numbers that it states.

    `axes` state what the axes of the array are, where they are not (y, x) or (frame, y, x).
    """
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
        layout = checked_layout(str(path), shape, dtype, axes)
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
        count=layout.count,
        shape=layout.frame,
        dtype=dtype.newbyteorder("="),
        offset=offset,
        stored=dtype,
        fortran=fortran,
        layout=layout,
    )
