"""Frames out of EDF files (the ESRF data format): text headers, each followed by plain numbers.

The file is read here and not by fabio, which fills what is missing with zeros and can be sent round in
circles by a header. Its writer is what the tests compare this reader with.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from xmist.core.errors import InputError, raise_errors
from xmist.io.frames.sources import Source, frame_faults, listed, native, reading

# No header of a detector comes near; a file without an end of header is not read through.
_LONGEST_HEADER: Final = 2**20
_BLOCK: Final = 4096
_END: Final = re.compile(rb"\}\r?\n")

_KINDS: Final = {
    "i1": ("SignedByte", "Signed8"),
    "u1": ("UnsignedByte", "Unsigned8"),
    "i2": ("SignedShort", "Signed16"),
    "u2": ("UnsignedShort", "Unsigned16", "UnsignedShortInteger"),
    "i4": ("SignedInteger", "Signed32", "SignedLong"),
    "u4": ("UnsignedInteger", "Unsigned32", "UnsignedLong"),
    "i8": ("Signed64",),
    "u8": ("Unsigned64",),
    "f4": ("FloatValue", "Float", "FloatIEEE32", "Float32"),
    "f8": ("DoubleValue", "Double", "FloatIEEE64", "DoubleIEEE64", "Float64"),
}
_TYPES: Final = {name.upper(): kind for kind, names in _KINDS.items() for name in names}


@dataclass(frozen=True)
class _Block:
    """A header, and where its numbers stand."""

    text: dict[str, str]
    start: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


@dataclass(frozen=True, kw_only=True)
class EdfSource(Source):
    """Frames of an EDF file.

    Parameters
    ----------
    starts : tuple of int
        Where each frame's numbers begin, in bytes.
    stored : tuple of numpy dtype
        Of each frame's numbers, with its byte order.
    texts : tuple of mapping
        Each frame's header.
    """

    starts: tuple[int, ...]
    stored: tuple[np.dtype[Any], ...]
    texts: tuple[dict[str, str], ...] = field(repr=False)

    def read(self, index: int) -> NDArray[Any]:
        """Read one frame; see `Source.read`."""
        with reading(self.label):
            count = math.prod(self.shape)
            numbers = np.fromfile(self.path, self.stored[index], count, offset=self.starts[index])
            return native(numbers.reshape(self.shape))

    def header(self, index: int) -> Mapping[str, str]:
        """Give the header of a frame; see `Source.header`."""
        return MappingProxyType(self.texts[index])


def open_edf(path: Path) -> EdfSource:
    """Read the headers of an EDF file and make sure that the file holds the numbers that they claim.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    EdfSource
        Its frames. What a header lists in pairs (`motor_mne` and `motor_pos`, `counter_mne` and
        `counter_pos`) stands in it under the single names too.

    Raises
    ------
    InputError
        If the file is damaged or truncated, or holds compressed numbers or frames of different shapes.

    Examples
    --------
    >>> open_edf(Path("ref_0001.edf")).header(0)["ExposureTime"]  # doctest: +SKIP
    '30'
    """
    with reading(str(path)), path.open("rb") as file:
        size = path.stat().st_size
        blocks: list[_Block] = []
        general: dict[str, str] = {}
        position = 0
        while (header := _read_header(file, position, size, path, len(blocks) + 1)) is not None:
            text, start = header
            if "EDF_DataFormatVersion" in text:  # a general block: defaults of all that follow
                general = {key: value for key, value in text.items() if not key.startswith("EDF_")}
                length = _whole(text.get("EDF_BinarySize", "0")) or 0
            else:
                block, length = _claim(general | text, text, start, size, path, len(blocks) + 1)
                blocks.append(block)
            position = start + length  # never backwards: no length is negative
    if not blocks:
        raise InputError(f"{path} holds no frame; expected an EDF header with Dim_1 and Dim_2")
    first = blocks[0]
    unlike = [
        f"frame {number} ({_form(block)})"
        for number, block in enumerate(blocks, 1)
        if _form(block) != _form(first)
    ]
    if unlike:
        raise InputError(
            f"{path} holds frames of different kinds: frame 1 ({_form(first)}), {listed(unlike)}; expected "
            "one shape and type"
        )
    return EdfSource(
        label=str(path),
        path=path,
        files=(path,),
        count=len(blocks),
        shape=(first.shape[0], first.shape[1]),
        dtype=first.dtype.newbyteorder("="),
        starts=tuple(block.start for block in blocks),
        stored=tuple(block.dtype for block in blocks),
        texts=tuple(block.text for block in blocks),
    )


def _form(block: _Block) -> str:
    return f"{block.shape[0]} × {block.shape[1]} pixels, {block.dtype.newbyteorder('=')}"


def _read_header(
    file: BinaryIO, position: int, size: int, path: Path, number: int
) -> tuple[dict[str, str], int] | None:
    """Give the header that begins at a position, and where it ends; None at the end of the file."""
    file.seek(position)
    raw = b""
    while (end := _END.search(raw)) is None:
        more = file.read(_BLOCK)
        raw += more
        if not more or len(raw) > _LONGEST_HEADER:
            break
    if end is None and not raw.strip(b"\0 \r\n\t"):  # nothing, or padding
        return None
    if end is None or not raw.lstrip().startswith(b"{"):
        raise InputError(
            f"{path} is damaged or truncated: expected the header of frame {number}, {{ key = value ; … }}, "
            f"at byte {position} of {size}"
        )
    text: dict[str, str] = {}
    body = raw[: end.start()].lstrip()[1:]
    for line in body.decode("utf-8", errors="replace").split(";"):
        key, mark, value = line.partition("=")
        if mark and key.strip("\0 \r\n\t"):
            text[key.strip("\0 \r\n\t")] = value.strip("\0 \r\n\t")
    return text, position + end.end()


def _claim(
    text: dict[str, str], own: dict[str, str], start: int, size: int, path: Path, number: int
) -> tuple[_Block, int]:
    """Give the block that a header claims, and the bytes to its end."""
    keys = {key.upper(): value for key, value in text.items()}
    where = f"{path}, frame {number},"
    dims = sorted(key for key in keys if re.fullmatch(r"DIM_[0-9]+", key))
    sizes = [_whole(keys[key]) for key in dims]
    faults = []
    if dims[:2] != ["DIM_1", "DIM_2"] or any(length is None or length < 1 for length in sizes):
        found = ", ".join(f"{key.title()} = {keys[key]}" for key in dims) or "neither"
        faults.append(f"{where} states {found}; expected Dim_1 and Dim_2, two whole numbers of pixels")
    kind = _TYPES.get(keys.get("DATATYPE", "").upper())
    if kind is None:
        faults.append(
            f"{where} states DataType = {keys.get('DATATYPE', 'nothing')}; expected one such as "
            "UnsignedShort, SignedInteger or FloatValue"
        )
    order = keys.get("BYTEORDER", "")
    if order not in ("LowByteFirst", "HighByteFirst") and kind not in ("i1", "u1"):
        faults.append(
            f"{where} states ByteOrder = {order or 'nothing'}; expected LowByteFirst or HighByteFirst"
        )
    if not keys.get("COMPRESSION", "NONE").upper().startswith("NO"):
        faults.append(f"{where} is compressed ({keys['COMPRESSION']}); save it uncompressed")
    if "EDF_BINARYFILENAME" in keys:
        faults.append(f"{where} keeps its numbers in another file ({keys['EDF_BINARYFILENAME']}); join them")
    raise_errors(faults)
    shape = tuple(length for length in reversed(sizes) if length is not None)
    while len(shape) > 2 and shape[0] == 1:
        shape = shape[1:]
    dtype = np.dtype(f"{'>' if order == 'HighByteFirst' else '<'}{kind}")
    faults = frame_faults(shape, dtype)
    if len(shape) == 3:
        faults = [f"has shape {shape}; expected (y, x) a frame"]
    raise_errors([f"{where} {fault}" for fault in faults])
    needed = math.prod(shape) * dtype.itemsize
    stated = _whole(own.get("EDF_BinarySize", keys.get("SIZE", str(needed))))
    if stated is None or stated < needed:
        raise_errors(
            [f"{where} states a size of {stated} bytes; expected {needed} for {shape[0]} × {shape[1]} pixels"]
        )
    if start + needed > size:
        raise InputError(
            f"{where} is truncated: expected {needed} bytes of pixels, found {max(size - start, 0)}; copy or "
            "record it again"
        )
    return _Block(_with_lists(text), start, shape, dtype), max(stated or 0, needed)


def _whole(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None


def _with_lists(text: dict[str, str]) -> dict[str, str]:
    """Add the single values that a header lists under paired keys."""
    single: dict[str, str] = {}
    for key, names in text.items():
        if key.lower().endswith("_mne"):
            values = text.get(key[:-3] + "pos", "").split()
            if len(values) == len(names.split()):
                single |= dict(zip(names.split(), values, strict=True))
    return single | text
