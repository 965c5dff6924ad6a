"""Datasets of HDF5 files with a number for each frame: image keys and angles."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from xmist.core.errors import InputError
from xmist.io.frames.addresses import KEY_NAMES, Address, FrameKey
from xmist.io.frames.hdf5_file import Hdf5, Place
from xmist.io.frames.hdf5_storage import check_dataset
from xmist.io.frames.sources import listed, reading

# Values of the key of NXtomo; ESRF writes −1 for images that serve to align others.
MEANINGS: Final = {"0": "projections", "1": "flats", "2": "darks", "3": "invalid"}
_KNOWN: Final = (0, 1, 2, 3)
_ALIGNMENT: Final = -1
INVALID: Final = 3


def choose_frames(
    file: Hdf5, place: Place, count: int, key: FrameKey
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Return the frames of a stack of `count` frames that have a key.

    The key is the dataset of that name beside the stack, or else the only one of that name in its entry.
    Returned are the numbers of the frames in the stack; for each invalid frame next to one of them (with only
    invalid ones between) how many of them come before it, since it may have been meant as one of them; and
    how many of them follow each other without a projection between (empty for projections).
    """
    label = f"{file.path}::{place.path}"
    found = find_column(file, place, key.name)
    keys = _read_key(file, found, count, label)
    frames = np.flatnonzero(keys == key.value)
    if not frames.size:
        there = ", ".join(f"{value}: {number}" for value, number in sorted(Counter(keys.tolist()).items()))
        raise InputError(
            f"{label} has no frames with {key.name} = {key.value} ({MEANINGS[str(key.value)]}); {found.path} "
            f"has {there}",
            "image-key-invalid",
        )
    valid = np.flatnonzero(keys != INVALID)
    gaps = []
    for frame in np.flatnonzero(keys == INVALID):
        after = int(np.searchsorted(valid, frame))
        if (keys[valid[max(after - 1, 0) : after + 1]] == key.value).any():
            gaps.append(int(np.searchsorted(frames, frame)))
    # Frames with the same number of projections before them belong together.
    before = np.cumsum(keys == 0)[frames]
    runs = () if key.value == 0 else tuple(np.unique(before, return_counts=True)[1].tolist())
    return tuple(frames.tolist()), tuple(gaps), runs


def read_column(address: Address, most: int) -> tuple[NDArray[np.float64], str]:
    """Return the finite numbers of a dataset of one dimension, at most so many, and their unit or ""."""
    import h5py

    with reading(str(address)), Hdf5(address.path, address.links) as file:
        place = file.find("/" + (address.dataset or ""))
        if (
            place is None
            or not isinstance(place.node, h5py.Dataset)
            or len(place.node.shape or ()) != 1
            or place.node.dtype.kind not in "iuf"
        ):
            raise InputError(f"{address} is not a dataset of numbers in one dimension", "dataset-missing")
        data = place.node
        if not 0 < data.size <= most:
            raise InputError(f"{address} holds {data.size} numbers; expected 1 to {most}", "dataset-invalid")
        check_dataset(file, place)
        values = np.asarray(data[()], np.float64)
        if address.key is not None:
            frames, _, _ = choose_frames(file, place, values.size, address.key)
            values = values[list(frames)]
        unit = data.attrs.get("units", "")
    if not np.isfinite(values).all():
        raise InputError(f"{address} holds numbers that are not finite", "dataset-invalid")
    return values, unit.decode(errors="replace") if isinstance(unit, bytes) else str(unit)


def find_column(file: Hdf5, place: Place, name: str) -> Place:
    """Return a dataset of values for the frames of a stack: beside it, or the only one in its entry."""
    import h5py

    around, _, _ = place.path.rpartition("/")
    named = file.find(name if name.startswith("/") else f"{around}/{name}")
    if named is not None and isinstance(named.node, h5py.Dataset):
        return named
    alike = [
        found
        for found in ([] if name.startswith("/") else file.walk(file.entry_of(place)))
        if found.path.endswith(f"/{name}") and isinstance(found.node, h5py.Dataset)
    ]
    if len(alike) == 1:
        return alike[0]
    if alike:
        raise InputError(
            f"{file.path}::{place.path} has {len(alike)} datasets {name} in its entry "
            f"({listed([found.path for found in alike])}); give the path of the right one instead of {name}",
            "dataset-ambiguous",
        )
    raise InputError(
        f"{file.path}::{place.path} has no dataset {name} beside it or in its entry; expected one that "
        "states the kind of each frame (0 projection, 1 flat, 2 dark, 3 invalid)",
        "dataset-missing",
    )


def describe_key(
    path: Path, dataset: str
) -> tuple[NDArray[np.int64], tuple[str, NDArray[np.float64]] | None] | None:
    """Return the image key of each frame of a stack, and path and values of their rotation angles or None.

    None where there is no key, or one that cannot be used.
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
    """Return the key of each frame; an error if it is invalid."""
    name = f"{file.path}::{found.path}"
    data = found.node
    expected = "expected 0 (projection), 1 (flat), 2 (dark) or 3 (invalid) for each frame"
    if data.shape is None or data.dtype.kind not in "iuf" or data.ndim < 1:
        raise InputError(f"{name} is not a list of numbers; {expected}", "image-key-invalid")
    if data.size != count or data.shape[0] != count:
        raise InputError(
            f"{name} has shape {data.shape}, and {label} has {count} frames; {expected}: copy or record the "
            "file again",
            "image-key-invalid",
        )
    check_dataset(file, found)  # HDF5 reads what is missing as zeros: as projections
    values = np.asarray(data[()], np.float64).reshape(-1)
    known = (*_KNOWN, _ALIGNMENT) if found.path.endswith("_control") else _KNOWN
    wrong = np.flatnonzero(~np.isin(values, known))
    if wrong.size:
        first = int(wrong[0])
        raise InputError(
            f"{name} has {values[first]:g} for frame {first + 1} ({wrong.size} such frame"
            f"{'s' * (wrong.size > 1)}); {expected}",
            "image-key-invalid",
        )
    return values.astype(np.int64)
