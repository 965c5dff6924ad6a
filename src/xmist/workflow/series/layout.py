"""Where the frames of every projection are: files by their names or their order, opened by few headers.

A scan has more files than can be opened before it starts, and some of them are missing or cut short. What is
not there is noted for its projection; the others stand where they belong.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.core.errors import InputError, raise_errors
from xmist.io.frames.addresses import Address, find_addresses, split_address
from xmist.io.frames.series import open_source
from xmist.io.frames.sources import Source, check_file, listed
from xmist.workflow.series.placing import FoundFile, gap_faults, place_by_names, place_by_order, place_by_runs

# So many files are opened to see how much each holds; of more, the first one speaks for all.
_MOST_OPENED: Final = 64
# So many files may be tried to find one that can be opened.
_MOST_TRIED: Final = 8
_HDF5: Final = (".h5", ".hdf5", ".hdf", ".nxs", ".nx", ".cxi")

_PLACE: Final = re.compile(r"\{([a-z]+)\}")


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Which frame of which file each exposure is.

    Parameters
    ----------
    name : str
        How messages call the frames, such as "input.sample".
    addresses : tuple of Address
        The files or datasets.
    shape : (y, x)
        Of each frame.
    dtype : numpy dtype
        Of the numbers in the first file.
    depth : int
        Frames that must be decompressed together.
    places : (outer, position, exposure, 2) int array
        The file's number and the frame's number in it; −1 where there is none. The outer index counts
        projections, or sets of references. What is not missing has a frame at every position, if not every
        exposure.
    missing : mapping of int to str
        For each outer index without all its frames what is missing.
    files : tuple of Path
        All files that hold the frames, those behind virtual datasets too, as far as they are known.
    remark : str
        What a person should look at; empty if nothing.
    """

    name: str
    addresses: tuple[Address, ...] = field(repr=False)
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    depth: int
    places: NDArray[np.int64] = field(repr=False)
    missing: Mapping[int, str] = field(repr=False)
    files: tuple[Path, ...] = field(default=(), repr=False)
    remark: str = ""

    @property
    def count(self) -> int:
        """Number of projections, or of sets of references."""
        return int(self.places.shape[0])

    @property
    def positions(self) -> int:
        """Number N of positions of the mask."""
        return int(self.places.shape[1])

    def part(self, start: int, stop: int) -> Layout:
        """Give the layout of some of the projections.

        Parameters
        ----------
        start, stop : int
            From which on, and before which.
        """
        missing = {index - start: text for index, text in self.missing.items() if start <= index < stop}
        return replace(self, places=self.places[start:stop], missing=missing)


def lay_out(
    spec: Sequence[str],
    *,
    name: str,
    outer: str,
    folder: Path,
    order: str | None,
    exposures: int,
    count: int | None = None,
    positions: int | None = None,
) -> Layout:
    """Find the files of many projections (or sets of references) and say what each holds.

    Parameters
    ----------
    spec : sequence of str
        Files, patterns, datasets and frames by their key as everywhere, or names with the places {projection}
        (or {set}) and {position}, which stand for digits: "proj_{projection}/pos_{position}.tif".
    name : str
        How messages call the frames.
    outer : str
        "projection" or "set".
    folder : Path
        What relative names start from.
    order : str or None
        "position" or "projection": what stays the same for the longest time; not needed where the names say
        it.
    exposures : int
        Frames of each position that follow each other.
    count : int, optional
        Number of projections or sets, if it is known; found from the frames otherwise.
    positions : int, optional
        Number N of positions, if it is known.

    Returns
    -------
    Layout
        With a note for each projection that lacks frames.

    Raises
    ------
    InputError
        If no file can be opened, the number of frames fits no number of positions and projections, or frames
        that are marked as invalid leave it open where the others belong.

    Examples
    --------
    >>> for number in (0, 1, 3):
    ...     np.save(f"p_{number}.npy", np.zeros((2, 8, 9)))
    >>> found = lay_out(
    ...     ["p_{projection}.npy"], name="input.sample", outer="projection", folder=Path("."), order=None,
    ...     exposures=1,
    ... )
    >>> found.count, found.positions, dict(found.missing)
    (4, 2, {2: 'there is no file p_{projection}.npy for it'})
    """
    files, places = _find_files(spec, name, outer, folder)
    first = _open_files(files, name)
    depth = int(getattr(first, "depth", 1))
    missing: dict[int, str] = {}
    uneven = place_by_runs(files, places, order, exposures, count) if outer == "set" else None
    if uneven is not None:
        table = uneven
    elif places:
        table, missing = place_by_names(files, places, spec, name, outer, exposures, count, positions)
    else:
        table, missing = place_by_order(files, name, outer, order, exposures, count, positions)
    if uneven is None:
        raise_errors(gap_faults(files, table, name))
        for index in np.unique(np.argwhere((table < 0).any(axis=(1, 2, 3)))):
            missing.setdefault(int(index), "frames are missing")
    for number, file in enumerate(files):
        if not file.fault and not file.holes:
            continue
        for index, position, exposure in np.argwhere(table[..., 0] == number):
            frame = int(table[index, position, exposure, 1])
            text = file.fault or file.holes.get(frame, "")
            if text:
                missing.setdefault(int(index), text)
    return Layout(
        name=name,
        addresses=tuple(file.address for file in files),
        shape=first.shape,
        dtype=first.dtype,
        depth=depth,
        places=table,
        missing=dict(sorted(missing.items())),
        files=tuple(dict.fromkeys(path for file in files for path in file.paths or (file.address.path,))),
        remark=getattr(first, "remark", "") or _runs_remark(first, places, outer, order, table),
    )


def _runs_remark(
    first: Source, places: Sequence[str], outer: str, order: str | None, table: NDArray[np.int64]
) -> str:
    """Say so if a stack holds references before and after projections, and not in as many sets."""
    runs, sets = len(getattr(first, "runs", ())), len(table)
    # Positions one after the other in one stack may have references each.
    apart = order == "position" and not places and np.unique(table[..., 0]).size == 1
    if outer != "set" or "set" in places or apart or runs in (0, sets):
        return ""
    return (
        f"by its image_key, {first.label} holds references in {runs} part{'s' * (runs > 1)} with projections "
        f"between, and scan.reference_at makes {sets} set{'s' * (sets > 1)} of them"
    )


def is_hdf5(spec: Sequence[str]) -> bool:
    """Say whether any of the names can lead to HDF5, whose library a damaged file can crash.

    Parameters
    ----------
    spec : sequence of str
        Names of files.

    Examples
    --------
    >>> is_hdf5(["scan.h5::/entry/data"]), is_hdf5(["ref_*.tif"])
    (True, False)
    """
    names = [item.partition("::")[0].lower() for item in spec]
    return any(name.endswith((*_HDF5, "*", "?", "]")) for name in names)


def _find_files(
    spec: Sequence[str], name: str, outer: str, folder: Path
) -> tuple[list[FoundFile], tuple[str, ...]]:
    """Find the files and the numbers that stand in their names."""
    places = [tuple(_PLACE.findall(item)) for item in spec]
    known = {outer, "position"}
    faults = [
        f"{name}: {item!r} has the place {{{place}}}; expected {{{outer}}} or {{position}}, each once"
        for item, found in zip(spec, places, strict=True)
        for place in found
        if place not in known or found.count(place) > 1
    ]
    if len({frozenset(found) for found in places}) > 1:
        faults.append(f"{name}: {listed(spec)} have different places in braces; expected the same in all")
    raise_errors(list(dict.fromkeys(faults)))
    if not places[0]:
        told: list[str] = []
        addresses = find_addresses(tuple(spec), folder, told)
        raise_errors([f"{name}: {fault}" for fault in told])
        return [FoundFile(address, {}) for address in addresses], ()
    try:
        files = [file for item in spec for file in _match(item, folder)]
    except InputError as error:
        raise InputError([f"{name}: {fault}" for fault in error.faults]) from error
    if not files:
        raise InputError(
            f"{name}: no file is called {listed(spec)} in {folder}; expected digits in the place of "
            f"{{{outer}}} and {{position}}"
        )
    files.sort(key=lambda file: sorted(file.numbers.items()))
    seen = [tuple(sorted(file.numbers.items())) for file in files]
    if len(set(seen)) < len(seen):
        twice = next(file for file, key in zip(files, seen, strict=True) if seen.count(key) > 1)
        raise InputError(f"{name}: several files have the numbers {twice.numbers}; expected one file each")
    return files, places[0]


def _match(item: str, folder: Path) -> list[FoundFile]:
    """Find the files whose names have digits in the place of the braces."""
    text, dataset, key = split_address(item)
    parts = _PLACE.split(text)  # text and names of places alternate
    pattern = "".join("*" if k % 2 else glob.escape(part) for k, part in enumerate(parts))
    form = "".join(f"(?P<{part}>[0-9]+)" if k % 2 else re.escape(part) for k, part in enumerate(parts))
    found = []
    base = Path(folder).expanduser()
    for match in glob.glob(pattern, root_dir=base):  # noqa: PTH207  # Path.glob cannot escape
        numbers = re.fullmatch(form, match)
        if numbers is not None:
            address = Address(base / match, dataset, key)
            found.append(
                FoundFile(address, {place: int(text) for place, text in numbers.groupdict().items()})
            )
    return found


def _open_files(files: list[FoundFile], name: str) -> Source:
    """Open files by their headers to see what they hold; give one of them."""
    first: Source | None = None
    faults: list[str] = []
    single = False
    for number, file in enumerate(files):
        # A key can take another number of frames of each file.
        if file.address.key is None and first is not None and (single or number >= _MOST_OPENED):
            file.count = first.count
            continue
        try:
            source = open_for_scan(file.address)
        except InputError as error:
            file.fault = error.faults[0]
            faults += error.faults
            if first is None and number + 1 >= _MOST_TRIED:
                break
            continue
        file.count = source.count
        file.paths = source.files
        file.gaps = tuple(getattr(source, "gaps", ()))
        file.runs = tuple(getattr(source, "runs", ()))
        file.holes = dict(getattr(source, "holes", {}))
        if first is None:
            first = source
            # Many files of a frame each: every one is looked at when its turn comes.
            single = len(files) > _MOST_OPENED and source.count == 1
        elif source.shape != first.shape:
            file.fault = (
                f"{source.label} has frames of {source.shape[0]} × {source.shape[1]} pixels; expected "
                f"{first.shape[0]} × {first.shape[1]}, as {first.label} has"
            )
    if first is None:
        raise InputError([f"{name}: {fault}" for fault in faults])
    for file in files:
        # Of a file that cannot be opened it is not known how much it should hold.
        file.count = file.count or first.count
    return first


def open_for_scan(address: Address) -> Source:
    """Open a file or dataset by its headers; holes in an HDF5 dataset are noted, not refused.

    Parameters
    ----------
    address : Address
        Where it is.

    Raises
    ------
    InputError
        Says why it cannot be read.
    """
    if address.path.suffix.lower() in _HDF5:
        check_file(address.path)
        from xmist.io.frames.hdf5_reader import open_hdf5

        return open_hdf5(address.path, address.dataset, address.key, holes=True)
    return open_source(address)
