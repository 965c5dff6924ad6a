"""A series of frames: files opened by their headers, read one frame at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.core.errors import ErrorRecord, InputError, collect_errors, prefix_errors, prefixed, raise_errors
from xmist.io.frames.addresses import Address, Links, Spec, check_link, find_addresses
from xmist.io.frames.axes import Axes
from xmist.io.frames.page_axes import with_axes
from xmist.io.frames.positions import Position, asked_positions, found_positions
from xmist.io.frames.sources import Source, check_file, listed, reading

_FORMATS: Final[Mapping[str, str]] = {
    ending: kind
    for kind, endings in {
        "TIFF": ".tif .tiff .btf",
        "EDF": ".edf",
        "HDF5": ".h5 .hdf5 .hdf .nxs .nx .cxi",
        "npy": ".npy",
    }.items()
    for ending in endings.split()
}
HDF5_ENDINGS: Final = tuple(ending for ending, kind in _FORMATS.items() if kind == "HDF5")
FRAME_ENDINGS: Final = (*_FORMATS, ".edf.gz")
_ADVICE: Final = {
    ".jpg": "JPEG alters intensities: use the frames as recorded",
    ".jpeg": "JPEG alters intensities: use the frames as recorded",
    ".png": "save them as TIFF of 16 or 32 bits",
    ".mat": "save the array as HDF5 or .npy",
    ".npz": "save one array with numpy.save",
    ".raw": "raw numbers have no shape: save them as TIFF, EDF, HDF5 or .npy",
    ".gz": "unpack it first",
    ".bz2": "unpack it first",
    ".zip": "unpack it first",
}
_SIGNATURES: Final = (
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"\x89HDF\r\n\x1a\n", "HDF5"),
    (b"\x93NUMPY", "npy"),
)


@dataclass(frozen=True)
class FrameSeries:
    """Frames of one shape and type, from one or many files; headers only, until a frame is read."""

    name: str
    sources: tuple[Source, ...] = field(repr=False)
    positions: tuple[Position, ...] | None = field(default=None, repr=False)
    position_keys: tuple[str, ...] = ()
    position_asked: bool = False

    def __len__(self) -> int:
        return sum(source.count for source in self.sources)

    @property
    def shape(self) -> tuple[int, int]:
        """(y, x) of each frame."""
        return self.sources[0].shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the numbers."""
        return self.sources[0].dtype

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that hold the frames, each once."""
        return tuple(dict.fromkeys(path for source in self.sources for path in source.files))

    def locate(self, index: int) -> tuple[Source, int]:
        """Return the file of a frame and its number in it."""
        count = len(self)
        if not -count <= index < count:
            raise IndexError(f"{self.name} has {count} frames; there is no frame {index}")
        index %= count
        for source in self.sources:
            if index < source.count:
                return source, index
            index -= source.count
        raise AssertionError("the counts changed")

    def label(self, index: int) -> str:
        """Name a frame for a message: its file, and its number where the file holds several."""
        source, inside = self.locate(index)
        return source.label if source.count == 1 else f"{source.label} frame {inside + 1}"

    def read(self, index: int) -> NDArray[Any]:
        """Read one frame."""
        source, inside = self.locate(index)
        with prefix_errors(f"{self.name}: "):
            return source.read(inside)

    def frames(self, indices: Sequence[int]) -> Iterator[NDArray[Any]]:
        """Read several frames one at a time; runs within one file are read the fastest way."""
        places = [self.locate(index) for index in indices]
        start = 0
        while start < len(places):
            source = places[start][0]
            end = start
            while end < len(places) and places[end][0] is source:
                end += 1
            with prefix_errors(f"{self.name}: "):
                yield from source.frames([inside for _, inside in places[start:end]])
            start = end

    def header(self, index: int) -> Mapping[str, str]:
        """Return what the file states about a frame, as text."""
        source, inside = self.locate(index)
        return source.header(inside)


def open_frames(
    spec: Spec,
    *,
    name: str,
    folder: str | Path | None = None,
    position_key: str | Sequence[str] | None = None,
    axes: Axes | None = None,
    links: Links = "all",
) -> FrameSeries:
    """Open frames by their headers; no frame is read. `axes` state what the axes of stored arrays are."""
    errors: list[ErrorRecord] = []
    addresses = [replace(address, axes=axes, links=links) for address in find_addresses(spec, folder, errors)]
    sources = []
    for address in addresses:
        with collect_errors(errors):
            sources.append(open_source(address))
    errors += _unlike_errors(sources)
    keys = [position_key] if isinstance(position_key, str) else list(position_key or ())
    positions = None
    if keys:
        positions = asked_positions(sources, keys, errors)
    elif position_key is None and not errors:
        keys, positions = found_positions(sources)
    raise_errors(prefixed(f"{name}: ", errors))
    return FrameSeries(name, tuple(sources), positions, tuple(keys), bool(position_key))


def open_source(address: Address) -> Source:
    """Open one file or dataset by its headers."""
    path = address.path
    check_file(path)
    check_link(address)
    kind = _format(path)
    inside = str(address).removeprefix(str(path))
    if inside and kind != "HDF5":
        raise InputError(f"{path} is {kind} and has no datasets; leave out {inside}", "dataset-missing")
    # Pages with another axis need not look like frames.
    frames = address.axes is None or address.axes[-2:] == ("y", "x")
    # A reader costs what its library costs to import.
    if kind == "TIFF":
        from xmist.io.frames.tiff_reader import open_tiff

        return with_axes(open_tiff(path, frames=frames), address.axes)
    if kind == "HDF5":
        from xmist.io.frames.hdf5_reader import open_hdf5

        return open_hdf5(path, address.dataset, address.key, axes=address.axes, links=address.links)
    if kind == "EDF":
        from xmist.io.frames.edf_reader import open_edf

        return with_axes(open_edf(path, frames=frames), address.axes)
    from xmist.io.frames.npy_reader import open_npy

    return open_npy(path, address.axes)


def _format(path: Path) -> str:
    """Return the format of a file, by its ending and its first bytes, which must agree."""
    ending = path.suffix.lower()
    if ending == ".gz" and path.stem.lower().endswith(".edf"):
        return "EDF"
    if ending not in _FORMATS:
        found = f"ends in '{path.suffix}'" if ending else "has no ending"
        advice = _ADVICE.get(ending)
        raise InputError(
            f"{path} {found}; expected frames as {', '.join(_FORMATS)}{f' ({advice})' if advice else ''}",
            "format-unknown",
        )
    with reading(str(path)), path.open("rb") as file:
        head = file.read(512)
    found = next((kind for signature, kind in _SIGNATURES if head.startswith(signature)), "")
    if not found and head.lstrip().startswith(b"{"):
        found = "EDF"
    kind = _FORMATS[ending]
    if found and found != kind:
        raise InputError(
            f"{path} holds {found}, though it ends in '{path.suffix}'; rename it", "format-unknown"
        )
    if not found and kind != "HDF5":  # HDF5 may begin with a block of the user's
        raise InputError(
            f"{path} is not {kind}, or its beginning is damaged; copy or record it again", "file-damaged"
        )
    return kind


def _unlike_errors(sources: Sequence[Source]) -> list[ErrorRecord]:
    """Return errors for files that differ from most others in shape or type."""
    errors = []
    for what, form in _FORMS.items():
        counts = Counter(form(source) for source in sources)
        if len(counts) > 1:
            usual = counts.most_common(1)[0][0]
            unlike = [f"{source.label} ({form(source)})" for source in sources if form(source) != usual]
            like = next(source.label for source in sources if form(source) == usual)
            text = (
                f"{listed(unlike)} differ{'s' if len(unlike) == 1 else ''} in {what}; expected {usual}, as "
                f"{like} has"
            )
            errors.append(ErrorRecord("shape-mismatch", text))
    return errors


_FORMS: Final[Mapping[str, Callable[[Source], str]]] = MappingProxyType(
    {
        "shape": lambda source: f"{source.shape[0]} × {source.shape[1]} pixels",
        "type": lambda source: str(source.dtype),
    }
)
