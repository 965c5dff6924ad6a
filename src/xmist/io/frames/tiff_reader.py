"""Frames out of TIFF files: one or many pages, BigTIFF, ImageJ stacks."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from xmist.core.errors import ErrorRecord, InputError, raise_errors
from xmist.io.frames.sources import MOST_SHRUNK, Source, frame_errors, listed, native, reading, silence

if TYPE_CHECKING:
    import tifffile

_COLOURS: Final = {2: "RGB", 3: "a colour palette", 5: "CMYK", 6: "YCbCr", 8: "Lab", 32803: "a Bayer mosaic"}
_ADVICE: Final = "save it as grey values, uncompressed, of 8, 16 or 32 bits"


@dataclass(frozen=True, kw_only=True)
class TiffSource(Source):
    """Pages of a TIFF file, by the offsets of their directories in bytes.

    `data` holds the offset of each frame's plain numbers; empty if these are in pieces or compressed. A page
    with several planes holds as many frames. `signed` frames are stored with an offset of 32768.
    """

    pages: tuple[int, ...]
    data: tuple[int, ...]
    stored: np.dtype[Any]
    texts: tuple[dict[str, str], ...] = field(repr=False)
    planes: int = 1
    signed: bool = False

    def read(self, index: int) -> NDArray[Any]:
        """Return one frame; see `Source.read`."""
        with reading(f"{self.label}, frame {index + 1} of {self.count}"):
            if self.data:
                count = math.prod(self.shape)
                plain = np.fromfile(self.path, self.stored, count, offset=self.data[index])
                array = native(plain.reshape(self.shape))
            else:
                with _opened(self.path) as file:
                    page = _page_at(file, self.pages[index // self.planes]).asarray(maxworkers=1)
                array = native(page if self.planes == 1 else page[index % self.planes])
            if array.shape != self.shape or array.dtype != self.stored.newbyteorder("="):
                raise ValueError(f"page of shape {array.shape} and type {array.dtype}")
            if self.inverted:
                np.subtract(np.iinfo(array.dtype).max, array, out=array)
            return (array.astype(np.int32) - 32768).astype(np.int16) if self.signed else array

    def header(self, index: int) -> Mapping[str, str]:
        """Return what a page states; see `Source.header`."""
        return MappingProxyType(self.texts[min(index // self.planes, len(self.texts) - 1)])


def open_tiff(path: Path, *, frames: bool = True) -> TiffSource:
    """Read the directories of a TIFF file and check that the file holds the pixels that they state.

    Thumbnails are left out. Without `frames` pages may have any shape.
    """
    with reading(str(path)), _opened(path) as file:
        pages = [page for page in _all_pages(path, file) if not page.is_reduced]
        if not pages:
            raise InputError(f"{path} holds no image; expected at least one page", "frames-unsupported")
        _check_alike(path, pages)
        first = pages[0]
        raise_errors(
            list(dict.fromkeys(error for page in pages for error in _page_errors(str(path), page, frames)))[
                :5
            ]
        )
        size = file.filehandle.size
        broken = [
            ErrorRecord("file-damaged", f"{path} page {number} {error}")
            for number, page in enumerate(pages, 1)
            if (error := _storage_error(page, size))
        ]
        raise_errors(broken[:5])
        stored = np.dtype(first.dtype).newbyteorder(file.byteorder)
        planes = first.shape[0] if len(first.shape) == 3 else 1
        frame = first.nbytes // planes
        data: tuple[int, ...] = ()
        if all(page.is_final for page in pages):
            data = tuple(page.dataoffsets[0] + frame * plane for page in pages for plane in range(planes))
        count = len(pages) * planes
        imagej = (file.imagej_metadata or {}) if file.is_imagej else {}
        stack = imagej.get("images", 1)
        if count == 1 and data and isinstance(stack, int) and stack > 1:
            # ImageJ writes one directory for a stack; the other frames follow the first.
            if data[0] + frame * stack > size:
                raise InputError(
                    f"{path} is truncated: its ImageJ metadata state {stack} frames; copy it again",
                    "file-damaged",
                )
            count = stack
            data = tuple(data[0] + frame * number for number in range(count))
        # ImageJ saves signed 16-bit numbers as unsigned ones, and states the offset as a calibration.
        signed = stored.kind == "u" and (imagej.get("c0"), imagej.get("c1", 1)) == (-32768, 1)
        return TiffSource(
            label=str(path),
            path=path,
            files=(path,),
            count=count,
            shape=(first.shape[-2], first.shape[-1]),
            dtype=np.dtype(np.int16) if signed else stored.newbyteorder("="),
            pages=tuple(page.offset for page in pages),
            data=data,
            stored=stored,
            texts=tuple(_texts(page) for page in pages),
            planes=planes,
            signed=signed,
            inverted=first.photometric == 0,
        )


def _opened(path: Path) -> tifffile.TiffFile:
    import tifffile

    silence("tifffile")
    # The formats of microscopes change pages when opened; a frame is a plain page.
    return tifffile.TiffFile(path, is_lsm=False, is_ndpi=False, is_scanimage=False, is_nih=False)


def _all_pages(path: Path, file: tifffile.TiffFile) -> Iterator[tifffile.TiffPage]:
    seen = set()
    index = 0
    while True:
        try:
            page = cast("tifffile.TiffPage", file.pages.get(index, aspage=True))
        except IndexError:
            break
        if page.offset in seen:
            raise InputError(f"{path} is damaged: its pages form a circle", "file-damaged")
        seen.add(page.offset)
        yield page
        index += 1
    # tifffile ends the chain at what it cannot read; frames would be missing without an error.
    file.filehandle.seek(file.pages.next_page_offset or 0)
    if any(file.filehandle.read(file.tiff.offsetsize)):
        raise InputError(
            f"{path} is truncated or damaged: a page follows number {index} that cannot be "
            "read; copy or record it again",
            "file-damaged",
        )


def _page_at(file: tifffile.TiffFile, offset: int) -> tifffile.TiffPage:
    import tifffile

    file.filehandle.seek(offset)
    return tifffile.TiffPage(file, 0)


def _check_alike(path: Path, pages: list[tifffile.TiffPage]) -> None:
    first = pages[0]
    unlike = [
        f"page {number} ({_form(page)})"
        for number, page in enumerate(pages, 1)
        if (page.shape, page.dtype, page.photometric == 0)
        != (first.shape, first.dtype, first.photometric == 0)
    ]
    if unlike:
        raise InputError(
            f"{path} holds pages of different kinds: page 1 ({_form(first)}), {listed(unlike)}; expected "
            "frames of one shape and type",
            "shape-mismatch",
        )


def _form(page: tifffile.TiffPage) -> str:
    form = f"{' × '.join(str(size) for size in page.shape) or 'no'} pixels, {page.dtype}"
    return f"{form}, MinIsWhite" if page.photometric == 0 else form


def _page_errors(label: str, page: tifffile.TiffPage, frames: bool) -> list[ErrorRecord]:
    """Return why the kind of a page cannot be read."""
    import tifffile

    def error(text: str) -> list[ErrorRecord]:
        return [ErrorRecord("frames-unsupported", f"{label} {text}")]

    planes = _planes(page)
    if page.samplesperpixel != planes or (page.photometric in _COLOURS and planes == 1):
        colour = _COLOURS.get(page.photometric, f"{page.samplesperpixel} values per pixel")
        return error(f"holds colour ({colour}); expected grey values: save one channel as grey")
    if page.compression in tifffile.TIFF.IMAGE_COMPRESSIONS:
        name = tifffile.COMPRESSION(page.compression).name
        return error(f"has a lossy compression ({name}), which alters intensities; {_ADVICE}")
    if page.dtype is None or page.bitspersample not in (8, 16, 32, 64):
        return error(f"stores {page.bitspersample} bits per pixel, packed; {_ADVICE}")
    if page.photometric == 0 and np.dtype(page.dtype).kind != "u":
        return error(f"holds {page.dtype} as MinIsWhite (0 is white); {_ADVICE}, as MinIsBlack")
    if len(page.shape) != (2 if planes == 1 else 3):
        return error(f"has pages of shape {page.shape}; expected (y, x)")
    errors = frame_errors(label, page.shape[-2:], np.dtype(page.dtype)) if frames else []
    for table, key in (
        (tifffile.TIFF.DECOMPRESSORS, page.compression),
        (tifffile.TIFF.UNPREDICTORS, page.predictor),
    ):
        try:
            table[key]
        except KeyError:
            method = getattr(key, "name", str(key))
            errors += error(f"is compressed with {method}, which needs the package imagecodecs; {_ADVICE}")
    return errors


def _storage_error(page: tifffile.TiffPage, size: int) -> str:
    """Return why a file of `size` bytes cannot hold the pixels that a page states; empty if it can."""
    pieces = list(zip(page.dataoffsets, page.databytecounts, strict=False))
    height, width = page.shape[-2:]
    planes = _planes(page)
    if page.is_tiled:
        expected = planes * -(-height // max(page.tilelength, 1)) * -(-width // max(page.tilewidth, 1))
        claimed = expected * page.tilelength * page.tilewidth * page.bitspersample // 8
    else:
        expected = planes * -(-height // max(min(page.rowsperstrip, height), 1))
        claimed = page.nbytes
    if page.is_final:  # one run of plain numbers
        if page.dataoffsets[0] <= 0 or page.dataoffsets[0] + page.nbytes > size:
            return "is truncated: the file ends before its last pixel; copy or record it again"
        return ""
    if not len(page.dataoffsets) == len(page.databytecounts) == expected:
        return f"is damaged: it has {len(pieces)} pieces of the {expected} that its shape needs"
    if any(start <= 0 or length <= 0 or start + length > size for start, length in pieces):
        return "is truncated or incomplete: some of its pixels are not in the file; copy or record it again"
    stored = sum(length for _, length in pieces)
    shrunk = 1 if page.compression == 1 else MOST_SHRUNK
    if claimed > stored * shrunk:
        return f"is damaged: it states {page.nbytes} bytes of pixels, and the file holds {stored} for them"
    return ""


def _planes(page: tifffile.TiffPage) -> int:
    """Return how many planes of a page are frames: tifffile.imwrite marks 3 or 4 frames as colour planes."""
    separate = page.planarconfig == 2 and page.photometric in (0, 1, 2)
    return int(page.samplesperpixel) if separate else 1


def _texts(page: tifffile.TiffPage) -> dict[str, str]:
    """Return a page's text tags, exposure time, and what its description holds.

    That is JSON, or lines `key = value`, `key: value` or, as Pilatus detectors write them, `# key value`.
    """
    texts = {}
    for name in ("ImageDescription", "Software", "DateTime", "Make", "Model", "Artist"):
        value = page.tags.valueof(name)
        if isinstance(value, str) and value.strip():
            texts[name] = value.strip()
    seconds = page.tags.valueof("ExposureTime")
    if isinstance(seconds, tuple) and len(seconds) == 2 and seconds[1]:  # a fraction
        seconds = seconds[0] / seconds[1]
    if isinstance(seconds, (int, float)):
        texts["ExposureTime"] = str(seconds)
    description = texts.get("ImageDescription", "")
    if description.startswith("{"):
        with suppress(ValueError, RecursionError):  # no JSON after all
            for key, value in json.loads(description).items():
                if isinstance(value, (str, int, float)):
                    texts.setdefault(key, str(value))
            return texts
    for line in description.splitlines()[:1000]:
        for mark in ("=", ":", " "):
            noted = mark == " " and line.startswith("# ")
            key, found, value = line.removeprefix("# " * noted).partition(mark)
            if mark == " " and not noted:
                break
            if found and key.strip() and value.strip():
                texts.setdefault(key.strip(), value.strip())
                break
    return texts
