"""Frames out of EDF files (the ESRF data format): text headers, each followed by the numbers of its frames.

fabio is not used: it fills missing data with zeros, and some headers make it loop without end.
"""

from __future__ import annotations

import gzip
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, Final, cast

import numpy as np
from numpy.typing import NDArray

from xmist.core.errors import ErrorRecord, InputError, raise_errors
from xmist.io.frames.sources import Source, frame_errors, listed, native, reading

# No header of a detector is as long; a file without an end of header is not read through.
_LONGEST_HEADER: Final = 2**20
_BLOCK: Final = 4096
_END: Final = re.compile(rb"\}\r?\n")
_BEGIN: Final = re.compile(rb"[\0\s]*\{\s*[A-Za-z_][^=;{}]*=")
_MOST_FRAMES: Final = 2**24

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
    """A header, and the place of the pixels of its frames, in bytes."""

    text: dict[str, str]
    starts: tuple[int, ...]
    shape: tuple[int, int]
    dtype: np.dtype[Any]

    def __str__(self) -> str:
        return f"{self.shape[0]} × {self.shape[1]} pixels, {self.dtype.newbyteorder('=')}"


@dataclass(frozen=True, kw_only=True)
class EdfSource(Source):
    """Frames of an EDF file, by their offsets in bytes, stored dtypes and headers."""

    starts: tuple[int, ...]
    stored: tuple[np.dtype[Any], ...]
    texts: tuple[dict[str, str], ...] = field(repr=False)

    def frames(self, indices: Sequence[int]) -> Iterator[NDArray[Any]]:
        """Read several frames; see `Source.frames`."""
        count = math.prod(self.shape)
        for index in indices:
            with reading(self.label), _opened(self.path) as file:
                file.seek(self.starts[index])
                raw = file.read(count * self.stored[index].itemsize)
                frame = native(np.frombuffer(raw, self.stored[index], count).reshape(self.shape))
            yield frame

    def header(self, index: int) -> Mapping[str, str]:
        """Return the header of a frame; see `Source.header`."""
        return MappingProxyType(self.texts[index])


def open_edf(path: Path, *, frames: bool = True) -> EdfSource:
    """Read the headers of an EDF file, gzipped or not, and check that it holds the frames that they state.

    A header may state several frames (`Num_Images`, `Dim_3`). What it lists in pairs (`motor_mne` and
    `motor_pos`) is also given under the single names. Without `frames` images may have any shape.
    """
    with reading(str(path)), _opened(path) as file:
        size = _size(path)
        blocks: list[_Block] = []
        general: dict[str, str] = {}
        position = count = 0
        while (header := _read_header(file, position, size, path, count + 1)) is not None:
            text, start = header
            if "EDF_DataFormatVersion" in text:  # a general block: defaults of all that follow
                general = {key: value for key, value in text.items() if not key.startswith("EDF_")}
                length = _whole(text.get("EDF_BinarySize", "0")) or 0
            else:
                where = f"{path}, frame {count + 1},"
                form = _read_form(general | text, where, frames)
                block, length = _read_block(file, general | text, text, start, size, where, form, count)
                blocks.append(block)
                count += len(block.starts)
            position = start + length  # never backwards: no length is negative
    if not blocks:
        raise InputError(
            f"{path} holds no frame; expected an EDF header with Dim_1 and Dim_2", "frames-unsupported"
        )
    unlike = [
        f"frame {number} ({block})" for number, block in enumerate(blocks, 1) if str(block) != str(blocks[0])
    ]
    if unlike:
        raise InputError(
            f"{path} holds frames of different kinds: frame 1 ({blocks[0]}), {listed(unlike)}; expected one "
            "shape and type",
            "shape-mismatch",
        )
    return EdfSource(
        label=str(path),
        path=path,
        files=(path,),
        count=count,
        shape=blocks[0].shape,
        dtype=blocks[0].dtype.newbyteorder("="),
        starts=tuple(start for block in blocks for start in block.starts),
        stored=tuple(block.dtype for block in blocks for _ in block.starts),
        texts=tuple(block.text for block in blocks for _ in block.starts),
    )


def _opened(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path)) if path.suffix.lower() == ".gz" else path.open("rb")


def _size(path: Path) -> int:
    """Return the size of a file in bytes; of a gzipped one as it states at its end (modulo 2³²)."""
    if path.suffix.lower() != ".gz":
        return path.stat().st_size
    with path.open("rb") as file:
        file.seek(-4, 2)
        return int.from_bytes(file.read(4), "little")


def _read_header(
    file: BinaryIO, position: int, size: int, path: Path, number: int
) -> tuple[dict[str, str], int] | None:
    """Return the header that begins at a position, and where it ends; None at the end of the file."""
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
            f"at byte {position} of {size}",
            "file-damaged",
        )
    text: dict[str, str] = {}
    body = raw[: end.start()].lstrip()[1:]
    for line in body.decode("utf-8", errors="replace").split(";"):
        key, mark, value = line.partition("=")
        if mark and key.strip("\0 \r\n\t"):
            text[key.strip("\0 \r\n\t")] = value.strip("\0 \r\n\t")
    return text, position + end.end()


def _read_block(
    file: BinaryIO,
    text: dict[str, str],
    own: dict[str, str],
    start: int,
    size: int,
    where: str,
    form: tuple[tuple[int, ...], np.dtype[Any]],
    before: int,
) -> tuple[_Block, int]:
    """Return the frames that a header states, and the number of bytes to their end."""
    keys = {key.upper(): value for key, value in text.items()}
    shape, dtype = form
    needed = math.prod(shape[-2:]) * dtype.itemsize
    stacked = shape[0] if len(shape) == 3 else 1
    said = own.get("EDF_BinarySize", keys.get("SIZE", str(needed)))
    stated = _whole(said)
    if stated is None or stated < needed:
        raise InputError(
            f"{where} states a size of {said} bytes; {shape[-2]} × {shape[-1]} pixels need {needed}",
            "file-damaged",
        )
    count = max(stacked, _whole(keys.get("NUM_IMAGES", "1")) or 1)
    if stacked == 1 and (before or (count > 1 and _has_header(file, start + max(stated, needed)))):
        count = 1  # each frame has its own header, which states how many there are
    if count > _MOST_FRAMES or start + count * needed > size:
        found = max(size - start, 0)
        raise InputError(
            f"{where} is truncated: expected {count * needed} bytes of pixels"
            f"{f' ({count} frames)' if count > 1 else ''}, found {found}; copy or record it again",
            "file-damaged",
        )
    # Several frames follow each other without gaps; the stated size is that of one or of all.
    starts = tuple(start + frame * needed for frame in range(count))
    length = max(stated, needed) if count == 1 else max(stated, count * needed)
    return _Block(_with_lists(text), starts, (shape[-2], shape[-1]), dtype), length


def _read_form(text: Mapping[str, str], where: str, frames: bool) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return the shape, (y, x) or (frame, y, x), and dtype that a header states."""
    keys = {key.upper(): value for key, value in text.items()}
    dims = sorted(key for key in keys if re.fullmatch(r"DIM_[0-9]+", key))
    sizes = [_whole(keys[key]) for key in dims]
    errors = []
    if dims[:2] != ["DIM_1", "DIM_2"] or any(length is None or length < 1 for length in sizes):
        found = ", ".join(f"{key.title()} = {keys[key]}" for key in dims) or "neither"
        errors.append(f"{where} states {found}; expected Dim_1 and Dim_2, two whole numbers of pixels")
    kind = _TYPES.get(keys.get("DATATYPE", "").upper())
    if kind is None:
        errors.append(
            f"{where} states DataType = {keys.get('DATATYPE', 'nothing')}; expected one such as "
            "UnsignedShort, SignedInteger or FloatValue"
        )
    order = keys.get("BYTEORDER", "")
    if order not in ("LowByteFirst", "HighByteFirst") and kind not in ("i1", "u1"):
        errors.append(
            f"{where} states ByteOrder = {order or 'nothing'}; expected LowByteFirst or HighByteFirst"
        )
    if not keys.get("COMPRESSION", "NONE").upper().startswith("NO"):
        errors.append(f"{where} is compressed ({keys['COMPRESSION']}); save it uncompressed")
    if "EDF_BINARYFILENAME" in keys:
        errors.append(f"{where} keeps its numbers in another file ({keys['EDF_BINARYFILENAME']}); join them")
    raise_errors([ErrorRecord("frames-unsupported", text) for text in errors])
    shape = tuple(length for length in reversed(sizes) if length is not None)
    while len(shape) > 2 and shape[0] == 1:
        shape = shape[1:]
    dtype = np.dtype(f"{'>' if order == 'HighByteFirst' else '<'}{kind}")
    raise_errors(frame_errors(where, shape, dtype) if frames else [])
    return shape, dtype


def _has_header(file: BinaryIO, position: int) -> bool:
    file.seek(position)
    return _BEGIN.match(file.read(_BLOCK)) is not None


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
