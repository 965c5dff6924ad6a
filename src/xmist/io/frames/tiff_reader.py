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

from xmist.core.errors import InputError, raise_errors
from xmist.io.frames.sources import MOST_SHRUNK, Source, frame_faults, listed, native, reading, silence

if TYPE_CHECKING:
    import tifffile

_COLOURS: Final = {2: "RGB", 3: "a colour palette", 5: "CMYK", 6: "YCbCr", 8: "Lab", 32803: "a Bayer mosaic"}
_ADVICE: Final = "save it as grey values, uncompressed, of 8, 16 or 32 bits"


@dataclass(frozen=True, kw_only=True)
class TiffSource(Source):
    """Pages of a TIFF file.

    Parameters
    ----------
    pages : tuple of int
        Where each page's directory stands in the file, in bytes.
    data : tuple of int
        Where each frame's plain numbers stand in the file; empty if they are in pieces or compressed.
    stored : numpy dtype
        Of the numbers in the file, with its byte order.
    texts : tuple of mapping
        What each page states, as text.
    """

    pages: tuple[int, ...]
    data: tuple[int, ...]
    stored: np.dtype[Any]
    texts: tuple[dict[str, str], ...] = field(repr=False)

    def read(self, index: int) -> NDArray[Any]:
        """Read one frame; see `Source.read`."""
        with reading(f"{self.label}, page {index + 1} of {self.count}"):
            if self.data:
                count = math.prod(self.shape)
                plain = np.fromfile(self.path, self.stored, count, offset=self.data[index])
                return native(plain.reshape(self.shape))
            with _opened(self.path) as file:
                array = native(_page_at(file, self.pages[index]).asarray(maxworkers=1))
            if array.shape != self.shape or array.dtype != self.dtype:
                raise ValueError(f"page of shape {array.shape} and type {array.dtype}")
            return array

    def header(self, index: int) -> Mapping[str, str]:
        """Give what a page states; see `Source.header`."""
        return MappingProxyType(self.texts[min(index, len(self.texts) - 1)])


def open_tiff(path: Path) -> TiffSource:
    """Read the directories of a TIFF file and make sure that the file holds the pixels that they claim.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    TiffSource
        Its pages in order, thumbnails left out.

    Raises
    ------
    InputError
        If the file is damaged or truncated, or holds colour, a compression that cannot be read, or pages
        of different shapes.

    Examples
    --------
    >>> open_tiff(Path("ref_0001.tif")).shape  # doctest: +SKIP
    (2048, 2048)
    """
    with reading(str(path)), _opened(path) as file:
        pages = [page for page in _all_pages(file) if not page.is_reduced]
        if not pages:
            raise InputError(f"{path} holds no image; expected at least one page")
        _check_alike(path, pages)
        first = pages[0]
        faults = list(dict.fromkeys(fault for page in pages for fault in _page_faults(page)))
        size = file.filehandle.size
        if not faults:
            faults = [
                f"page {number} {fault}"
                for number, page in enumerate(pages, 1)
                for fault in _storage_faults(page, size)
            ]
        raise_errors([f"{path} {fault}" for fault in faults[:5]])
        stored = np.dtype(first.dtype).newbyteorder(file.byteorder)
        data = tuple(page.dataoffsets[0] for page in pages) if all(p.is_final for p in pages) else ()
        count = len(pages)
        if count == 1 and data and (stack := _imagej_frames(file)) > 1:
            # ImageJ writes one directory for a stack; the other frames follow the first.
            if data[0] + first.nbytes * stack > size:
                raise InputError(f"{path} is truncated: ImageJ's note claims {stack} frames; copy it again")
            count = stack
            data = tuple(data[0] + first.nbytes * number for number in range(count))
        return TiffSource(
            label=str(path),
            path=path,
            files=(path,),
            count=count,
            shape=(first.shape[0], first.shape[1]),
            dtype=stored.newbyteorder("="),
            pages=tuple(page.offset for page in pages),
            data=data,
            stored=stored,
            texts=tuple(_texts(page) for page in pages),
        )


def _opened(path: Path) -> tifffile.TiffFile:
    import tifffile

    silence("tifffile")
    # The variants of microscopes rewrite pages when opened; a frame is a plain page.
    return tifffile.TiffFile(path, is_lsm=False, is_ndpi=False, is_scanimage=False, is_nih=False)


def _all_pages(file: tifffile.TiffFile) -> Iterator[tifffile.TiffPage]:
    seen = set()
    index = 0
    while True:
        try:
            page = cast("tifffile.TiffPage", file.pages.get(index, aspage=True))
        except IndexError:
            break
        if page.offset in seen:
            raise InputError(f"{file.filehandle.path} is damaged: its pages form a circle")
        seen.add(page.offset)
        yield page
        index += 1
    # The library ends the chain at whatever it cannot read; frames would be missed in silence.
    file.filehandle.seek(file.pages.next_page_offset or 0)
    if any(file.filehandle.read(file.tiff.offsetsize)):
        raise InputError(
            f"{file.filehandle.path} is truncated or damaged: a page follows number {index} that cannot be "
            "read; copy or record it again"
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
        if (page.shape, page.dtype) != (first.shape, first.dtype)
    ]
    if unlike:
        raise InputError(
            f"{path} holds pages of different kinds: page 1 ({_form(first)}), {listed(unlike)}; expected "
            "frames of one shape and type"
        )


def _form(page: tifffile.TiffPage) -> str:
    return f"{' × '.join(str(size) for size in page.shape) or 'no'} pixels, {page.dtype}"


def _page_faults(page: tifffile.TiffPage) -> list[str]:
    """Say why the kind of a page cannot be read."""
    import tifffile

    if page.samplesperpixel != 1 or page.photometric in _COLOURS:
        colour = _COLOURS.get(page.photometric, f"{page.samplesperpixel} values a pixel")
        return [f"holds colour ({colour}); expected grey values: save one channel as grey"]
    if page.compression in tifffile.TIFF.IMAGE_COMPRESSIONS:
        name = tifffile.COMPRESSION(page.compression).name
        return [f"is compressed as pictures are ({name}), which alters intensities; {_ADVICE}"]
    if page.dtype is None or page.bitspersample not in (8, 16, 32, 64):
        return [f"stores {page.bitspersample} bits a pixel, packed; {_ADVICE}"]
    faults = frame_faults(page.shape, np.dtype(page.dtype))
    if len(page.shape) == 3:
        faults = [f"has pages of shape {page.shape}; expected (y, x) a page"]
    for table, key in (
        (tifffile.TIFF.DECOMPRESSORS, page.compression),
        (tifffile.TIFF.UNPREDICTORS, page.predictor),
    ):
        try:
            table[key]
        except KeyError:
            method = getattr(key, "name", str(key))
            faults.append(f"is compressed with {method}, which needs the package imagecodecs; {_ADVICE}")
    return faults


def _storage_faults(page: tifffile.TiffPage, size: int) -> list[str]:
    """Say why a file of a size cannot hold the pixels that a page claims."""
    pieces = list(zip(page.dataoffsets, page.databytecounts, strict=False))
    height, width = page.shape
    if page.is_tiled:
        expected = -(-height // max(page.tilelength, 1)) * -(-width // max(page.tilewidth, 1))
        claimed = expected * page.tilelength * page.tilewidth * page.bitspersample // 8
    else:
        expected = -(-height // max(min(page.rowsperstrip, height), 1))
        claimed = page.nbytes
    if page.is_final:  # one run of plain numbers
        if page.dataoffsets[0] <= 0 or page.dataoffsets[0] + page.nbytes > size:
            return ["is truncated: the file ends before its last pixel; copy or record it again"]
        return []
    if not len(page.dataoffsets) == len(page.databytecounts) == expected:
        return [f"is damaged: it has {len(pieces)} pieces of the {expected} that its shape needs"]
    if any(start <= 0 or length <= 0 or start + length > size for start, length in pieces):
        return ["is truncated or incomplete: some of its pixels are not in the file; copy or record it again"]
    stored = sum(length for _, length in pieces)
    shrunk = 1 if page.compression == 1 else MOST_SHRUNK
    if claimed > stored * shrunk:
        return [f"is damaged: it claims {page.nbytes} bytes of pixels, and the file holds {stored} for them"]
    return []


def _imagej_frames(file: tifffile.TiffFile) -> int:
    note = file.imagej_metadata if file.is_imagej else None
    images = (note or {}).get("images", 1)
    return images if isinstance(images, int) else 1


def _texts(page: tifffile.TiffPage) -> dict[str, str]:
    """Give a page's text tags, and what its description holds: JSON, or `key = value` or `key: value`."""
    texts = {}
    for name in ("ImageDescription", "Software", "DateTime", "Make", "Model", "Artist"):
        value = page.tags.valueof(name)
        if isinstance(value, str) and value.strip():
            texts[name] = value.strip()
    description = texts.get("ImageDescription", "")
    if description.startswith("{"):
        with suppress(ValueError, RecursionError):  # no JSON after all
            for key, value in json.loads(description).items():
                if isinstance(value, (str, int, float)):
                    texts.setdefault(key, str(value))
            return texts
    for line in description.splitlines()[:1000]:
        for mark in ("=", ":"):
            key, found, value = line.partition(mark)
            if found and key.strip() and value.strip():
                texts.setdefault(key.strip(), value.strip())
                break
    return texts
