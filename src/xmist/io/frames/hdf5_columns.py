"""Datasets of HDF5 files with a number for each frame: image keys and angles."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from xmist.core.errors import InputError, raise_errors
from xmist.io.frames.addresses import KEY_NAMES, Address, FrameKey
from xmist.io.frames.hdf5_links import Hdf5, Place
from xmist.io.frames.sources import listed, reading

# What a key may be, as NXtomo has it; −1 is what ESRF writes for images that are there to align others.
MEANINGS: Final = {"0": "projections", "1": "flats", "2": "darks", "3": "invalid"}
_KNOWN: Final = (0, 1, 2, 3)
_ALIGNMENT: Final = -1
INVALID: Final = 3


def choose_frames(
    file: Hdf5, place: Place, count: int, key: FrameKey
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Give the frames of a stack that have a key.

    The key is the dataset of that name beside the stack, or else the only one of that name in its entry.

    Parameters
    ----------
    file : Hdf5
        The open file.
    place : Place
        The stack, or another dataset with a value for each frame.
    count : int
        Number of frames.
    key : FrameKey
        Name and value of the key.

    Returns
    -------
    frames : tuple of int
        Their numbers in the stack, rising.
    gaps : tuple of int
        For each invalid frame next to one of them (with none but invalid ones between) how many of them come
        before it: it may have been meant as one of them.
    runs : tuple of int
        How many of them follow each other without a projection between; empty for projections.

    Raises
    ------
    InputError
        If the key is missing or damaged, or no frame has it.
    """
    label = f"{file.path}::{place.path}"
    found = find_column(file, place, key.name)
    keys = _read_key(file, found, count, label)
    frames = np.flatnonzero(keys == key.value)
    if not frames.size:
        there = ", ".join(f"{value}: {number}" for value, number in sorted(Counter(keys.tolist()).items()))
        raise InputError(
            f"{label} has no frames with {key.name} = {key.value} ({MEANINGS[str(key.value)]}); {found.path} "
            f"gives frames of {there}"
        )
    valid = np.flatnonzero(keys != INVALID)
    gaps = []
    for frame in np.flatnonzero(keys == INVALID):
        after = int(np.searchsorted(valid, frame))
        if (keys[valid[max(after - 1, 0) : after + 1]] == key.value).any():
            gaps.append(int(np.searchsorted(frames, frame)))
    # What has as many projections before it belongs together.
    before = np.cumsum(keys == 0)[frames]
    runs = () if key.value == 0 else tuple(np.unique(before, return_counts=True)[1].tolist())
    return tuple(frames.tolist()), tuple(gaps), runs


def read_column(address: Address, most: int) -> tuple[NDArray[np.float64], str]:
    """Read a dataset of finite numbers in one dimension.

    Parameters
    ----------
    address : Address
        File, dataset, and the key of the frames whose numbers are wanted.
    most : int
        So many numbers are allowed.

    Returns
    -------
    (number,) float64 array
        The numbers.
    str
        Their unit; empty if the file states none.

    Raises
    ------
    InputError
        If the dataset is missing, damaged, incomplete or of another kind.
    """
    import h5py

    with reading(str(address)), Hdf5(address.path) as file:
        place = file.find("/" + (address.dataset or ""))
        if (
            place is None
            or not isinstance(place.node, h5py.Dataset)
            or len(place.node.shape or ()) != 1
            or place.node.dtype.kind not in "iuf"
        ):
            raise InputError(f"{address} is no dataset of numbers in one dimension")
        data = place.node
        if not 0 < data.size <= most:
            raise InputError(f"{address} holds {data.size} numbers; expected 1 to {most}")
        raise_errors([f"{address} {fault}" for fault in file.dataset_faults(place)])
        values = np.asarray(data[()], np.float64)
        if address.key is not None:
            frames, _, _ = choose_frames(file, place, values.size, address.key)
            values = values[list(frames)]
        unit = data.attrs.get("units", "")
    if not np.isfinite(values).all():
        raise InputError(f"{address} holds numbers that are not finite")
    return values, unit.decode(errors="replace") if isinstance(unit, bytes) else str(unit)


def find_column(file: Hdf5, place: Place, name: str) -> Place:
    """Give a dataset of values for the frames of a stack: the one beside it, or the only one in its entry.

    Parameters
    ----------
    file : Hdf5
        The open file.
    place : Place
        The stack.
    name : str
        Name of the dataset, or a path.

    Raises
    ------
    InputError
        If there is none, or several can be meant.
    """
    import h5py

    around, _, _ = place.path.rpartition("/")
    named = file.find(name if name.startswith("/") else f"{around}/{name}")
    if named is not None and isinstance(named.node, h5py.Dataset):
        return named
    top = "/" + place.path.strip("/").partition("/")[0]
    entry = file.find(top)
    start = entry if entry is not None and isinstance(entry.node, h5py.Group) else file.root
    alike = [
        found
        for found in ([] if name.startswith("/") else file.walk(start))
        if found.path.endswith(f"/{name}") and isinstance(found.node, h5py.Dataset)
    ]
    if len(alike) == 1:
        return alike[0]
    if alike:
        raise InputError(
            f"{file.path}::{place.path} has {len(alike)} datasets {name} in its entry "
            f"({listed([found.path for found in alike])}); expected the path of the one that is meant in the "
            f"place of {name}"
        )
    raise InputError(
        f"{file.path}::{place.path} has no dataset {name} beside it or in its entry; expected one that "
        "says of each frame what it is (0 projection, 1 flat, 2 dark, 3 invalid)"
    )


def describe_key(
    path: Path, dataset: str
) -> tuple[NDArray[np.int64], tuple[str, NDArray[np.float64]] | None] | None:
    """Give what an NXtomo file states of the frames of a stack.

    Parameters
    ----------
    path : Path
        The file.
    dataset : str
        Path of the stack.

    Returns
    -------
    tuple or None
        The image key of each frame, and path and values of their rotation angles, or None where there are
        none; None where there is no key, or one that cannot be used.
    """
    with suppress(InputError), reading(str(path)), Hdf5(path) as file:
        place = file.find(dataset)
        if place is None or len(place.node.shape or ()) != 3:
            return None
        count = place.node.shape[0]
        keys = _read_key(file, find_column(file, place, KEY_NAMES[0]), count, dataset)
        angles = None
        with suppress(InputError):
            found = find_column(file, place, "rotation_angle")
            values, _ = read_column(Address(path, found.path), count)
            if values.size == count:
                angles = found.path, values
        return keys, angles
    return None


def _read_key(file: Hdf5, found: Place, count: int, label: str) -> NDArray[np.int64]:
    """Read a key, and refuse one that is damaged."""
    name = f"{file.path}::{found.path}"
    data = found.node
    expected = "expected 0 (projection), 1 (flat), 2 (dark) or 3 (invalid) for each frame"
    if data.shape is None or data.dtype.kind not in "iuf" or data.ndim < 1:
        raise InputError(f"{name} holds no list of numbers; {expected}")
    if data.size != count or data.shape[0] != count:
        raise InputError(
            f"{name} has shape {data.shape}, and {label} has {count} frames; {expected}: copy or record the "
            "file again"
        )
    # HDF5 would read what is not there as zeros: as projections.
    raise_errors([f"{name} {fault}" for fault in file.dataset_faults(found)])
    values = np.asarray(data[()], np.float64).reshape(-1)
    known = (*_KNOWN, _ALIGNMENT) if found.path.endswith("_control") else _KNOWN
    wrong = np.flatnonzero(~np.isin(values, known))
    if wrong.size:
        first = int(wrong[0])
        raise InputError(
            f"{name} gives {values[first]:g} for frame {first + 1} ({wrong.size} such frame"
            f"{'s' * (wrong.size > 1)}); {expected}"
        )
    return values.astype(np.int64)
