"""Frames out of HDF5 and NeXus files: one dataset, named or the only one that can be frames."""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.core.errors import InputError
from xmist.io.frames.addresses import FrameKey, Links
from xmist.io.frames.axes import ArrayLayout, Axes, known_axes
from xmist.io.frames.hdf5_columns import MEANINGS, choose_frames
from xmist.io.frames.hdf5_file import Hdf5, Place, is_plausible, with_raw_files
from xmist.io.frames.hdf5_storage import VirtualFile, check_dataset, find_holes
from xmist.io.frames.sources import MOST_AXES, Source, checked_layout, listed, native, reading

if TYPE_CHECKING:
    import h5py

# Frames that share compressed chunks are read together, up to this many bytes at a time.
_SLAB: Final = 2**28
# Attributes of a result, of the results of a series, of a block of them, and of a simulation.
_RESULTS: Final = frozenset({"xmist_schema", "xmist_stack", "xmist_block", "xmist_truth"})
# Images in the masters of detectors (Eiger, Pilatus) that are not frames.
_AUXILIARY: Final = re.compile(
    r"(virtual_)?(pixel_?mask|flat_?field|trim_?bits?|mask|efficiency|dead_?time|saturation(_value)?"
    r"|[xyz]_pixel_offset|errors?|uncertaint(y|ies)|variance|weights)(_applied|_[0-9]+)?|.*_(errors|mask)",
    re.IGNORECASE,
)
# The same with an image for each module, threshold or frame.
_STACKED: Final = re.compile(
    r"(virtual_)?pixel_?mask(_applied|_[0-9]+)?|errors?|uncertaint(y|ies)|variance|.*_(errors|mask)",
    re.IGNORECASE,
)
# Of a value in a header; longer ones are cut.
_LONGEST_TEXT: Final = 1000


@dataclass(frozen=True, kw_only=True)
class Hdf5Source(Source):
    """A dataset of frames.

    Parameters
    ----------
    dataset : str
        Its path in the file.
    depth : int
        How many frames a chunk spans along the last axis that counts frames.
    texts : mapping
        What the file states near the dataset, by path; a tuple where it differs between frames.
    holes : mapping of int to str
        Frames that cannot be read, and why; empty unless holes were allowed.
    pieces : tuple of VirtualFile
        The files of a virtual dataset, where holes were allowed.
    chosen : tuple of int or None
        The frames of the dataset that are used, to which `count`, `texts` and `holes` refer; None for all.
    gaps : tuple of int
        For each frame that was left out as invalid how many of the frames come before it.
    runs : tuple of int
        How many of the frames follow each other without a projection between; empty for projections, and
        where no key chooses.
    """

    layout: ArrayLayout
    dataset: str
    depth: int
    texts: dict[str, str | tuple[str, ...]] = field(repr=False)
    holes: Mapping[int, str] = field(default_factory=dict, repr=False)
    pieces: tuple[VirtualFile, ...] = field(default=(), repr=False)
    chosen: tuple[int, ...] | None = field(default=None, repr=False)
    gaps: tuple[int, ...] = field(default=(), repr=False)
    runs: tuple[int, ...] = field(default=(), repr=False)

    @property
    def kinds(self) -> Mapping[str, int]:
        """Number of frames of each kind, by the image key near the dataset, if all frames are used."""
        # Some files keep a copy beside NXdata.
        found = {text for path, text in self.texts.items() if path.endswith("/image_key")}
        keys = found.pop() if len(found) == 1 else ()
        if self.chosen is not None or isinstance(keys, str):
            return {}
        counts = Counter(keys)
        return {MEANINGS.get(text.removesuffix(".0"), text): number for text, number in counts.items()}

    @property
    def finding_text(self) -> str:
        """Text of a finding if all frames are used, though they are of several kinds; else empty."""
        if len(self.kinds) < 2:
            return ""
        found = ", ".join(f"{number} {kind}" for kind, number in self.kinds.items())
        return (
            f"{self.label} holds {found} according to its image_key, and all are used; give "
            f"{self.label}[image_key=0] to select the projections (1: without the sample, 2: darks)"
        )

    def frames(self, indices: Sequence[int]) -> Iterator[NDArray[Any]]:
        """Read several frames; those that share chunks are decompressed once; see `Source.frames`."""
        frame_bytes = math.prod(self.shape) * self.dtype.itemsize
        most = max(1, min(self.depth, _SLAB // frame_bytes))
        with ExitStack() as stack:
            with reading(self.label):
                place = stack.enter_context(_opened(self.path)).find(self.dataset)
                if place is None or not self._fits(place.node.shape):
                    raise InputError(f"{self.label} has changed since it was opened", "file-changed")
                data = with_raw_files(place.node)
            layout = self.layout
            read: tuple[int, ...] | None = None  # where the slab begins
            slab: Any = None
            for index in indices:
                with reading(self.label):
                    inside = index if self.chosen is None else self.chosen[index]
                    self._check_hole(index, inside)
                    if not layout.sizes:
                        frame = native(layout.image(data[()]))
                    else:
                        *before, last = layout.numbers(inside)
                        start = (*before, last - last % most)
                        if start != read:
                            ahead = slice(start[-1], min(start[-1] + most, layout.sizes[-1]))
                            slab, read = data[layout.index((*before, ahead))], start
                        # Where the axis of the slab is among those that are left: y and x and itself.
                        at = layout.others[-1] - len(before)
                        part = slab[(slice(None),) * at + (last - start[-1],)]
                        frame = native(layout.image(part))
                yield frame

    def _fits(self, shape: tuple[int, ...]) -> bool:
        """Return whether a dataset still has the shape that was found; there may be more frames."""
        layout = self.layout
        return len(shape) == len(layout.shape) and all(
            new >= old if place in layout.others else new == old
            for place, (new, old) in enumerate(zip(shape, layout.shape, strict=True))
        )

    def _check_hole(self, index: int, inside: int) -> None:
        """Raise an error for a frame that HDF5 would read as zeros; its number, and that in the dataset."""
        if index in self.holes:
            raise InputError(f"{self.label} frame {index + 1}: {self.holes[index]}", "dataset-incomplete")
        for piece in self.pieces:
            if inside in piece.frames and not piece.path.is_file():
                raise InputError(
                    f"{self.label} frame {index + 1} comes from {piece.path}, which is missing",
                    "file-missing",
                )

    def header(self, index: int) -> Mapping[str, str]:
        """Return what the file states near the dataset, by path; see `Source.header`."""
        return MappingProxyType(
            {key: text if isinstance(text, str) else text[index] for key, text in self.texts.items()}
        )


def open_hdf5(
    path: Path,
    dataset: str | None = None,
    key: FrameKey | None = None,
    *,
    axes: Axes | None = None,
    holes: bool = False,
    links: Links = "all",
) -> Hdf5Source:
    """Find the frames in an HDF5 file and check that they are complete.

    `dataset` is the path of a dataset, or of a group with only one dataset that can be frames; None searches
    the whole file. `axes` state what the axes of the dataset are; None: what the file states. `holes` records
    frames that are missing, which raise an error when they are read, instead of refusing the dataset.
    """
    import h5py

    with reading(str(path)), _opened(path, links) as file:
        place = _chosen(file, dataset)
        file.use(place.home)
        data = place.node
        label = f"{path}::{place.path}{key or ''}"
        if data.shape is None:
            raise InputError(
                f"{label} is an empty dataset; expected (y, x) or (frame, y, x)", "frames-unsupported"
            )
        text = h5py.check_string_dtype(data.dtype) is not None
        kind = np.dtype(str) if text else data.dtype
        layout = checked_layout(label, data.shape, kind, axes or _stated_axes(file, place))
        missing: dict[int, str] = {}
        pieces: tuple[VirtualFile, ...] = ()
        if holes and data.ndim > 2:
            missing, pieces = find_holes(file, place, layout)
        if not missing:
            check_dataset(file, place)
        count = layout.count
        texts = _texts(file, place, count)
        chosen: tuple[int, ...] | None = None
        gaps: tuple[int, ...] = ()
        runs: tuple[int, ...] = ()
        if key is not None:
            chosen, gaps, runs = choose_frames(file, place, count, key)
            texts = {
                name: text if isinstance(text, str) else tuple(text[frame] for frame in chosen)
                for name, text in texts.items()
            }
            missing = {number: missing[frame] for number, frame in enumerate(chosen) if frame in missing}
        return Hdf5Source(
            label=label,
            path=path,
            files=file.files,
            count=count if chosen is None else len(chosen),
            shape=layout.frame,
            dtype=data.dtype.newbyteorder("="),
            layout=layout,
            dataset=place.path,
            depth=_depth(data, layout),
            texts=texts,
            holes=missing,
            pieces=pieces,
            chosen=chosen,
            gaps=gaps,
            runs=runs,
        )


def _depth(data: h5py.Dataset, layout: ArrayLayout) -> int:
    """Return how many frames along the last axis that counts them are best read together."""
    if not layout.sizes:
        return 1
    last = layout.others[-1]
    if data.chunks:
        return int(data.chunks[last])
    return int(data.shape[last]) if last > min(layout.y, layout.x) else 1


def _stated_axes(file: Hdf5, place: Place) -> Axes | None:
    """Return what a file states of the axes of a dataset, where they are not (y, x) or (frame, y, x).

    Labels and scales of its dimensions are read, and `axes` of the NXdata group that it is the signal of.
    """
    data = place.node
    if not 3 <= data.ndim <= MOST_AXES:
        return None
    stated: list[list[str]] = [[], []]
    for dimension in data.dims:
        stated[0].append(dimension.label)
        with suppress(RuntimeError, KeyError, IndexError):  # scales that are gone
            stated[1].append(str(dimension[0].name).rpartition("/")[2] if len(dimension) else "")
    group = file.find(place.path.rpartition("/")[0] or "/")
    signal = None if group is None else _signal(file, group)
    if group is not None and signal is not None and signal.identity == place.identity:
        names = group.node.attrs.get("axes", "")
        names = [names] if isinstance(names, (str, bytes)) else list(np.atleast_1d(names))
        texts = [_text(name) or "" for name in names]
        stated.append(re.split("[:,]", texts[0]) if len(texts) == 1 else texts)
    for labels in stated:
        axes = known_axes(labels) if len(labels) == data.ndim else None
        if axes is not None and (data.ndim > 3 or axes[-2:] != ("y", "x")):
            return axes
    return None


@dataclass(frozen=True, kw_only=True)
class ListedDataset:
    """A dataset that could be frames; `sources` are the datasets of other files that hold its numbers."""

    path: str
    shape: tuple[int, ...]
    dtype: str
    sources: tuple[tuple[Path, str], ...] = ()


def list_datasets(path: Path) -> tuple[list[ListedDataset], list[str]]:
    """Return the datasets that could be frames, and which links are broken.

    A file that xmist wrote has none.
    """
    broken: list[InputError] = []
    with reading(str(path)), _opened(path) as file:
        found = [file.root, *file.walk(file.root, broken=broken)]
        if any(place.path.count("/") < 2 and not _RESULTS.isdisjoint(place.node.attrs) for place in found):
            return [], []
        for colour in (False, True):
            places = [
                place for place in found if is_plausible(place, colour=colour) and not _is_auxiliary(place)
            ]
            if places:
                break
        datasets = [
            ListedDataset(
                path=place.path,
                shape=tuple(place.node.shape),
                dtype=str(place.node.dtype),
                sources=tuple(_sources(file, place)),
            )
            for place in places
        ]
    return datasets, [error.messages[0] for error in broken]


def _sources(file: Hdf5, place: Place) -> Iterator[tuple[Path, str]]:
    """Yield file and path of the datasets in other files that a dataset is, or is made of."""
    own = Path(os.path.realpath(file.path))
    if Path(os.path.realpath(place.home)) != own:
        yield Path(os.path.realpath(place.home)), place.node.name
    if place.node.is_virtual:
        for piece in place.node.virtual_sources():
            home = Path(os.path.realpath(place.home.parent / piece.file_name))
            if piece.file_name != "." and home != own:
                yield home, "/" + piece.dset_name.lstrip("/")


def _opened(path: Path, links: Links = "all") -> Hdf5:
    import hdf5plugin  # noqa: F401  # registers the compressions that beamlines write

    return Hdf5(path, links)


def _chosen(file: Hdf5, dataset: str | None) -> Place:
    """Return the dataset that is meant, or raise an error that lists those that could be."""
    import h5py

    start = file.root
    if dataset is not None:
        found = file.find("/" + dataset)
        if found is None:
            known = [place.path for place in file.walk(start) if is_plausible(place)]
            raise InputError(
                f"{file.path} has no dataset {dataset}; it holds {listed(known) if known else 'no frames'}",
                "dataset-missing",
            )
        if isinstance(found.node, h5py.Dataset):
            return found
        start = found
    broken: list[InputError] = []
    places = [start, *file.walk(start, broken=broken)]
    plausible = {place.identity: place for place in places if is_plausible(place)}
    if not plausible:
        plausible = {place.identity: place for place in places if is_plausible(place, colour=True)}
    candidates = {key: place for key, place in plausible.items() if not _is_auxiliary(place)} or plausible
    if {"xmist_schema", "xmist_stack"} & {name for place in places for name in place.node.attrs}:
        raise InputError(
            f"{file.path} holds a result of xmist, not frames; xmist.open_result reads it",
            "frames-unsupported",
        )
    if len(candidates) == 1:
        return next(iter(candidates.values()))
    if not candidates:
        raise InputError(
            f"{file.path} holds no dataset that can be frames; expected one of shape (y, x) or (frame, y, x)"
            + "".join(f"; {error}" for error in broken[:1]),
            "dataset-missing",
        )
    signals = {
        signal.identity: signal
        for place in places
        if (signal := _signal(file, place)) is not None and signal.identity in plausible
    }
    if len(signals) == 1:
        return next(iter(signals.values()))
    several = [f"{place.path} {place.node.shape}" for place in (signals or candidates).values()]
    first = next(iter((signals or candidates).values()))
    raise InputError(
        f"{file.path} holds {len(several)} datasets that can be frames: {listed(several, most=8)}; name one, "
        f'as in "{file.path}::{first.path}"',
        "dataset-ambiguous",
    )


def _is_auxiliary(place: Place) -> bool:
    """Return whether a dataset describes the detector or the errors of frames, by its name."""
    name, shape = place.path.rpartition("/")[2], place.node.shape
    flat = len(shape) == 2 or set(shape[:-2]) == {1}
    return (_AUXILIARY if flat else _STACKED).fullmatch(name) is not None


def _signal(file: Hdf5, place: Place) -> Place | None:
    """Return the signal of an NXdata group; None if it has none."""
    import h5py

    if not isinstance(place.node, h5py.Group) or _text(place.node.attrs.get("NX_class")) != "NXdata":
        return None
    name = _text(place.node.attrs.get("signal"))
    names = [name] if name else [key for key in place.node if _is_old_signal(file, place, key)]
    try:
        return file.find(names[0], place) if names else None
    except InputError:
        return None


def _is_old_signal(file: Hdf5, group: Place, name: str) -> bool:
    """Return whether a dataset has the attribute signal=1, as in NeXus before 2014."""
    try:
        place = file.find(name, group)
    except InputError:
        return False
    return place is not None and _text(place.node.attrs.get("signal")) == "1"


def _texts(file: Hdf5, place: Place, count: int) -> dict[str, str | tuple[str, ...]]:
    """Return the short values around a dataset: the scalars of its entry, and what has a value per frame."""
    import h5py

    start = file.entry_of(place)
    texts: dict[str, str | tuple[str, ...]] = {}
    for found in [start, *file.walk(start, inside=True)]:
        for name in ("NX_class", "units"):
            if attribute := _text(found.node.attrs.get(name)):
                texts[f"{found.path}@{name}"] = attribute
        if isinstance(found.node, h5py.Dataset):
            values = _values(file, found, count)
            if values is not None:
                texts[found.path] = values
    return texts


def _values(file: Hdf5, place: Place, count: int) -> str | tuple[str, ...] | None:
    """Return the text of a scalar, or of a value per frame; None for anything else."""
    import h5py

    data = place.node
    if data.shape is None or data.size not in (1, count) or data.ndim > 2 or data.dtype.kind not in "iufSO":
        return None
    if data.dtype.kind == "O" and h5py.check_string_dtype(data.dtype) is None:
        return None
    if data.external or (data.size > 1 and data.shape[0] != count):
        return None
    if data.is_virtual:
        try:
            check_dataset(file, place)  # HDF5 reads what is missing as zeros
        except InputError:
            return None
    values = [_text(value) for value in np.asarray(data[()]).reshape(-1)]
    if any(value is None for value in values):
        return None
    texts = tuple(value[:_LONGEST_TEXT] for value in values if value is not None)
    return texts[0] if len(texts) == 1 else texts


def _text(value: object) -> str | None:
    """Return an attribute or a value as text; None if it is neither text nor a number."""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(-1)[0]
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace").strip()
    if isinstance(value, (str, int, float, np.number)):
        return str(value).strip()
    return None
