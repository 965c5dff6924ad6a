"""Results out of NeXus HDF5; every fault of a file is told with its name."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.core.data import CHANNELS, Retrieval
from xmist.core.errors import InputError, raise_errors
from xmist.core.experiment import Experiment
from xmist.core.findings import Finding
from xmist.io.frames.sources import check_file
from xmist.io.results.plain import from_text

if TYPE_CHECKING:
    import h5py

# Raised whenever an older xmist would misread a newer file.
SCHEMA: Final = 1

# A file may make us allocate no more than images of 32768 × 32768 pixels, ...
_MOST_PIXELS: Final = 2**30
# ... and no more than its stored bytes can hold: deflate shrinks 1032 : 1 at most.
_MOST_SHRUNK: Final = 1032

GIVEN: Final[Mapping[str, tuple[str, str]]] = {
    "energy_kev": ("keV", "photon energy"),
    "pixel_size": ("m", "pixel of the detector"),
    "sample_to_detector": ("m", "distance from the sample to the detector"),
    "source_to_sample": ("m", "distance from the source to the sample; absent for a parallel beam"),
}
TEXTS: Final = ("options", "findings", "provenance")


def read_nexus(path: str | Path) -> Retrieval:
    """Read a result that `write_nexus` wrote.

    Parameters
    ----------
    path : str or Path
        The file.

    Returns
    -------
    Retrieval
        Equal to what was written, bit for bit.

    Raises
    ------
    InputError
        If the file is missing, is not HDF5, holds no result of xmist, comes from a newer schema, or is
        damaged; names the file and what is wrong.

    Examples
    --------
    >>> read_nexus("result.h5").method  # doctest: +SKIP
    'mist'
    """
    with _opened(Path(path)) as file:
        return _read_entry(_find_entry(file))


def read_version(path: str | Path) -> tuple[str, int] | None:
    """Give the version of xmist that wrote a file, and the file's schema.

    Parameters
    ----------
    path : str or Path
        Any file.

    Returns
    -------
    tuple of str and int, or None
        None if the file is not HDF5 or holds no result of xmist.

    Raises
    ------
    InputError
        If the file is missing, damaged, or from a newer schema.

    Examples
    --------
    >>> read_version("result.h5")  # doctest: +SKIP
    ('0.1.0', 1)
    """
    import h5py

    path = Path(path)
    check_file(path)
    if not h5py.is_hdf5(path):
        return None
    with _opened(path) as file:
        if _entry_or_none(file) is None:
            return None
        entry = _find_entry(file)
        return str(entry["program_name"].attrs["version"]), int(entry.attrs["xmist_schema"])


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    """Open a file to read; whatever goes wrong with it becomes an `InputError` that names it."""
    import h5py

    _check_file(path)
    try:
        with h5py.File(path, "r") as file:
            yield file
    except InputError as error:
        raise InputError([f"{path}: {fault}" for fault in error.faults]) from error
    # HDF5 reports damage by whichever of these comes to hand.
    except (
        OSError,
        RuntimeError,
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        ArithmeticError,
    ) as error:
        if "truncated" in str(error):
            raise InputError(f"{path} is truncated; copy or retrieve it again") from error
        raise InputError(f"{path} is damaged ({error})") from error


def _check_file(path: Path) -> None:
    import h5py

    if path.is_dir():
        raise InputError(f"{path} is a folder; expected a file of a result (.h5, .hdf5, .nxs)")
    if not path.is_file():
        raise InputError(f"{path} {'is not a regular file' if path.exists() else 'does not exist'}")
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})") from error
    if not h5py.is_hdf5(path):
        raise InputError(f"{path} is not an HDF5 file; expected a result that xmist saved (.h5, .hdf5, .nxs)")


def _entry_or_none(file: h5py.File) -> h5py.Group | None:
    for name in file:
        group = _member(file, name)
        if group is not None and "xmist_schema" in group.attrs:
            return group
    return None


def _find_entry(file: h5py.File) -> h5py.Group:
    """Give the entry of a result, if its schema is known."""
    entry = _entry_or_none(file)
    if entry is None:
        raise InputError("holds no result of xmist; expected an entry with the attribute xmist_schema")
    schema = entry.attrs["xmist_schema"]
    if not isinstance(schema, np.integer) or schema < 1:
        raise InputError(f"attribute xmist_schema is {schema!r}; expected a whole number from 1")
    if schema > SCHEMA:
        raise InputError(
            f"written by a newer xmist (schema {schema}); this one knows up to {SCHEMA}: update xmist"
        )
    return entry


def _read_entry(entry: h5py.Group) -> Retrieval:
    faults: list[str] = []
    names = str(entry.attrs.get("channels", "")).split()
    unknown = [name for name in names if name not in CHANNELS]
    faults += [f"channel '{name}' is not known to this xmist" for name in unknown]
    found = _member(entry, "flags/data")
    if found is None or getattr(found, "ndim", None) != 2:
        raise InputError([*faults, "dataset flags/data of shape (y, x) is missing"])
    shape = found.shape
    if math.prod(shape) > _MOST_PIXELS:
        raise InputError(
            [*faults, f"flags/data claims {shape[0]} × {shape[1]} pixels; expected {_MOST_PIXELS} at most"]
        )
    parts: dict[str, Any] = {"flags": _read_array(entry, "flags", np.dtype(np.uint16), shape, faults)}
    for name in names:
        if name not in unknown:
            components = CHANNELS[name].components
            full = (len(components), *shape) if components else shape
            parts[name] = _read_array(entry, name, np.dtype(np.float32), full, faults)
    maps = _member(entry, "diagnostics")
    parts["diagnostics"] = {
        name: _read_array(entry, f"diagnostics/{name}", np.dtype(np.float32), shape, faults)
        for name in (str(maps.attrs.get("maps", "")).split() if maps is not None else ())
    }
    parts["method"] = _read_text(entry, "process/method", faults)
    for name in TEXTS:
        parts[name] = _read_plain(entry, name, faults)
    given: dict[str, Any] = {name: _read_number(entry, f"experiment/{name}", faults) for name in GIVEN}
    raise_errors(faults)
    return Retrieval(experiment=Experiment(**given), **parts)


def _member(group: h5py.Group, path: str) -> Any:
    """Give the object at a path, or None; never one of another file."""
    import h5py

    for name in path.split("/"):
        if not isinstance(group, h5py.Group) or not isinstance(group.get(name, getlink=True), h5py.HardLink):
            return None
        group = group[name]
    return group


def _read_array(
    entry: h5py.Group, name: str, dtype: np.dtype[Any], shape: tuple[int, ...], faults: list[str]
) -> NDArray[Any] | None:
    """Read an image whose shape is known, once it is sure that the file holds all of it."""
    import h5py

    path = f"{name}/data"
    data = _member(entry, path)
    if not isinstance(data, h5py.Dataset):
        faults.append(f"dataset {path} is missing")
    elif (data.dtype.kind, data.dtype.itemsize) != (dtype.kind, dtype.itemsize) or data.shape != shape:
        faults.append(f"{path} is {data.dtype} of shape {data.shape}; expected {dtype} of shape {shape}")
    elif data.is_virtual or data.external:
        faults.append(f"{path} takes its data from another file; expected it inside")
    elif not _is_complete(data):
        faults.append(f"{path} is incomplete; expected {dtype} of shape {shape}")
    else:
        array: NDArray[Any] = data[()].astype(dtype, copy=False)
        return array
    return None


def _is_complete(data: h5py.Dataset) -> bool:
    stored = data.id.get_storage_size()
    if data.chunks is None:
        return bool(stored == data.nbytes)
    expected = math.prod(-(-size // chunk) for size, chunk in zip(data.shape, data.chunks, strict=True))
    return bool(data.id.get_num_chunks() == expected and data.nbytes <= stored * _MOST_SHRUNK)


def _read_text(entry: h5py.Group, path: str, faults: list[str]) -> str:
    import h5py

    data = _member(entry, path)
    if isinstance(data, h5py.Dataset) and data.shape == ():
        kind = h5py.check_string_dtype(data.dtype)
        if kind is not None and kind.length is None:
            return str(data.asstr()[()])
    faults.append(f"text {path} is missing")
    return ""


def _read_plain(entry: h5py.Group, name: str, faults: list[str]) -> Any:
    path = f"process/{name}"
    text = _read_text(entry, path, faults)
    if not text:
        return None
    try:
        tuples = _read_text(entry, f"{path}_tuples", faults) if f"{path}_tuples" in entry else "[]"
        data = from_text(text, json.loads(tuples))
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        faults.append(f"{path} is damaged ({error})")
        return None
    if name == "findings":
        try:
            return [Finding.from_dict(item) for item in data]
        except (LookupError, TypeError):
            faults.append(f"{path} is not a list of findings")
    elif not isinstance(data, dict):
        faults.append(f"{path} is not a mapping")
    return data


def _read_number(entry: h5py.Group, path: str, faults: list[str]) -> float | None:
    import h5py

    data = _member(entry, path)
    if data is None and path.endswith("source_to_sample"):
        return None
    if isinstance(data, h5py.Dataset) and data.shape == () and data.dtype.kind in "fiu":
        return float(data[()])
    faults.append(f"number {path} is missing")
    return None
