"""Read results from NeXus HDF5; every error names the file."""

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
from xmist.core.errors import ErrorRecord, InputError, prefixed, raise_errors
from xmist.core.experiment import Experiment
from xmist.core.findings import Finding
from xmist.io.frames.hdf5_heap import check_heaps
from xmist.io.frames.sources import check_file, is_being_written
from xmist.io.results.plain import from_text

if TYPE_CHECKING:
    import h5py

# Incremented whenever an older xmist would misread a newer file.
SCHEMA: Final = 1

# A file may make us allocate no more than images of 32768 × 32768 pixels, ...
_MOST_PIXELS: Final = 2**30
# ... and no more than its stored bytes can hold: deflate shrinks by 1032 at most.
_MOST_SHRUNK: Final = 1032

GIVEN: Final[Mapping[str, tuple[str, str]]] = {
    "energy_kev": ("keV", "photon energy"),
    "pixel_size": ("m", "pixel of the detector"),
    "sample_to_detector": ("m", "distance from the sample to the detector"),
    "source_to_sample": ("m", "distance from the source to the sample; absent for a parallel beam"),
}
TEXTS: Final = ("options", "findings", "provenance")


def read_nexus(path: str | Path) -> Retrieval:
    """Return a result that `write_nexus` wrote, bit for bit; every error names the file and what is wrong."""
    with _opened(Path(path)) as file:
        return _read_entry(_find_entry(file))


def read_version(path: str | Path) -> tuple[str, int] | None:
    """Return the version of xmist that wrote a file, and its schema; None if it holds no result of xmist."""
    import h5py

    path = Path(path)
    check_file(path)
    if not h5py.is_hdf5(path) or is_being_written(path):  # results appear complete
        return None
    with _opened(path) as file:
        if _entry_or_none(file) is None:
            return None
        entry = _find_entry(file)
        return str(entry["program_name"].attrs["version"]), int(entry.attrs["xmist_schema"])


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    """Open a file to read; any exception becomes an `InputError` that names it."""
    import h5py

    check_file(path)
    if not h5py.is_hdf5(path):
        raise InputError(
            f"{path} is not an HDF5 file; expected a result that xmist saved (.h5, .hdf5, .nxs)",
            "result-invalid",
        )
    check_heaps(path)
    try:
        with h5py.File(path, "r", locking=False) as file:
            yield file
    except InputError as error:
        raise InputError(prefixed(f"{path}: ", error.records)) from error
    # HDF5 reports damage by any of these.
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
            raise InputError(f"{path} is truncated; copy or retrieve it again", "file-damaged") from error
        raise InputError(f"{path} is damaged ({error})", "file-damaged") from error


def _entry_or_none(file: h5py.File) -> h5py.Group | None:
    for name in file:
        group = _member(file, name)
        if group is not None and "xmist_schema" in group.attrs:
            return group
    return None


def _find_entry(file: h5py.File) -> h5py.Group:
    """Return the entry of a result, if its schema is known."""
    entry = _entry_or_none(file)
    if entry is None:
        raise InputError(
            "holds no result of xmist; expected an entry with the attribute xmist_schema", "result-invalid"
        )
    schema = entry.attrs["xmist_schema"]
    if not isinstance(schema, np.integer) or schema < 1:
        raise InputError(
            f"attribute xmist_schema is {schema!r}; expected a whole number from 1", "result-invalid"
        )
    check_schema("", int(schema), SCHEMA)
    return entry


def check_schema(path: str | Path, schema: int, known: int) -> None:
    """Raise an error if a newer xmist wrote a file, whose name may be added later."""
    if schema > known:
        raise InputError(
            f"{path}{': ' if path else ''}written by a newer xmist (schema {schema}); this one reads up to "
            f"{known}: update xmist",
            "result-invalid",
        )


def read_experiment(group: h5py.Group) -> Experiment:
    """Read the experiment that `write_experiment` wrote."""
    return Experiment(**{name: float(group[name][()]) for name in GIVEN if name in group})


def _read_entry(entry: h5py.Group) -> Retrieval:
    errors: list[str] = []
    names = str(entry.attrs.get("channels", "")).split()
    unknown = [name for name in names if name not in CHANNELS]
    errors += [f"channel '{name}' is not known to this xmist" for name in unknown]
    found = _member(entry, "flags/data")
    if found is None or getattr(found, "ndim", None) != 2:
        raise InputError([*errors, "dataset flags/data of shape (y, x) is missing"], "result-invalid")
    shape = found.shape
    if math.prod(shape) > _MOST_PIXELS:
        raise InputError(
            [*errors, f"flags/data states {shape[0]} × {shape[1]} pixels; expected {_MOST_PIXELS} at most"],
            "result-invalid",
        )
    parts: dict[str, Any] = {"flags": _read_array(entry, "flags", np.dtype(np.uint16), shape, errors)}
    for name in names:
        if name not in unknown:
            components = CHANNELS[name].components
            full = (len(components), *shape) if components else shape
            parts[name] = _read_array(entry, name, np.dtype(np.float32), full, errors)
    maps = _member(entry, "diagnostics")
    parts["diagnostics"] = {
        name: _read_array(entry, f"diagnostics/{name}", np.dtype(np.float32), shape, errors)
        for name in (str(maps.attrs.get("maps", "")).split() if maps is not None else ())
    }
    parts["method"] = _read_text(entry, "process/method", errors)
    for name in TEXTS:
        parts[name] = _read_plain(entry, name, errors)
    given: dict[str, Any] = {name: _read_number(entry, f"experiment/{name}", errors) for name in GIVEN}
    raise_errors([ErrorRecord("result-invalid", error) for error in errors])
    return Retrieval(experiment=Experiment(**given), **parts)


def _member(group: h5py.Group, path: str) -> Any:
    """Return the object at a path, or None; never one of another file."""
    import h5py

    for name in path.split("/"):
        if not isinstance(group, h5py.Group) or not isinstance(group.get(name, getlink=True), h5py.HardLink):
            return None
        group = group[name]
    return group


def _read_array(
    entry: h5py.Group, name: str, dtype: np.dtype[Any], shape: tuple[int, ...], errors: list[str]
) -> NDArray[Any] | None:
    """Return an image of known shape, or None and an error if the file does not hold all of it."""
    import h5py

    path = f"{name}/data"
    data = _member(entry, path)
    if not isinstance(data, h5py.Dataset):
        errors.append(f"dataset {path} is missing")
    elif (data.dtype.kind, data.dtype.itemsize) != (dtype.kind, dtype.itemsize) or data.shape != shape:
        errors.append(f"{path} is {data.dtype} of shape {data.shape}; expected {dtype} of shape {shape}")
    elif data.is_virtual or data.external:
        errors.append(f"{path} takes its data from another file; expected it inside")
    elif not _is_complete(data):
        errors.append(f"{path} is incomplete; expected {dtype} of shape {shape}")
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


def _read_text(entry: h5py.Group, path: str, errors: list[str]) -> str:
    import h5py

    data = _member(entry, path)
    if isinstance(data, h5py.Dataset) and data.shape == ():
        kind = h5py.check_string_dtype(data.dtype)
        if kind is not None and kind.length is None:
            return str(data.asstr()[()])
    errors.append(f"text {path} is missing")
    return ""


def _read_plain(entry: h5py.Group, name: str, errors: list[str]) -> Any:
    path = f"process/{name}"
    text = _read_text(entry, path, errors)
    if not text:
        return None
    try:
        tuples = _read_text(entry, f"{path}_tuples", errors) if f"{path}_tuples" in entry else "[]"
        data = from_text(text, json.loads(tuples))
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        errors.append(f"{path} is damaged ({error})")
        return None
    if name == "findings":
        try:
            return [Finding.from_dict(item) for item in data]
        except (LookupError, TypeError):
            errors.append(f"{path} is not a list of findings")
    elif not isinstance(data, dict):
        errors.append(f"{path} is not a mapping")
    return data


def _read_number(entry: h5py.Group, path: str, errors: list[str]) -> float | None:
    import h5py

    data = _member(entry, path)
    if data is None and path.endswith("source_to_sample"):
        return None
    if isinstance(data, h5py.Dataset) and data.shape == () and data.dtype.kind in "fiu":
        return float(data[()])
    errors.append(f"number {path} is missing")
    return None
