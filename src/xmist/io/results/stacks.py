"""Results of a series: one projection, a lazy dataset, or the quality table."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.core.data import CHANNELS, Retrieval
from xmist.core.errors import InputError
from xmist.core.experiment import Experiment
from xmist.core.findings import Finding
from xmist.io.frames.hdf5_heap import open_checked
from xmist.io.frames.sources import check_file, reading
from xmist.io.results.nexus_reader import check_schema, read_experiment
from xmist.io.results.plain import from_text

if TYPE_CHECKING:
    import h5py
    import xarray

# Incremented whenever an older xmist would misread a newer file.
STACK_SCHEMA: Final = 1

# Status of a projection; a block that was not written reads as MISSING.
MISSING: Final = 0
GOOD: Final = 1
VALUELESS: Final = 2
FAILED: Final = 3
UNREADABLE: Final = 4

STATUS: Final[Mapping[int, str]] = MappingProxyType(
    {
        MISSING: "not retrieved yet",
        GOOD: "good",
        VALUELESS: "some unmasked pixels have no value",
        FAILED: "could not be retrieved",
        UNREADABLE: "frames are missing or cannot be read",
    }
)


def is_stack(path: str | Path) -> bool:
    """Return whether a file is the master of a series."""
    return has_mark(path, "xmist_stack")


def has_mark(path: str | Path, mark: str) -> bool:
    """Return whether a file is HDF5 and its entry has an attribute."""
    import h5py

    path = Path(path)
    try:
        if not path.is_file() or not h5py.is_hdf5(path):
            return False
        with h5py.File(path, "r", locking=False) as file:
            return mark in file["entry"].attrs
    except (OSError, LookupError, RuntimeError, AttributeError):
        return False


@dataclass(frozen=True)
class StackArray:
    """A channel of a stack, (projection, …, y, x), read when it is sliced; it can be pickled."""

    path: str
    dataset: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Read a part."""
        with (
            reading(f"{self.path}::{self.dataset}"),
            open_checked(Path(self.path)) as file,
        ):
            part: NDArray[Any] = file[self.dataset][key]
            return part


@dataclass(frozen=True, kw_only=True)
class Stack:
    """The content of the master file of a series.

    Parameters
    ----------
    path : Path
        The master.
    method : str
        Name of the method.
    options : mapping
        Its options.
    experiment : Experiment
        With the pixel of the results.
    arrays : mapping of str to StackArray
        Channels, and "flags".
    table : mapping of str to array
        Quality, one number per projection.
    notes : tuple of str
        Findings of each projection; empty until the series is finished.
    provenance : mapping
        Version, configuration and number of positions.
    digests : tuple of list of dict
        SHA-256 of each projection's frames, as in the provenance of a single result; empty until the series
        is finished.
    angles : (projection,) float64 array or None
        In degrees.
    tilt : float or None
        Angle of the rotation axis in degrees, where it was stated.
    """

    path: Path
    method: str
    options: Mapping[str, Any]
    experiment: Experiment
    arrays: Mapping[str, StackArray]
    table: Mapping[str, NDArray[Any]]
    notes: tuple[str, ...]
    findings: tuple[tuple[Finding, ...], ...]
    provenance: Mapping[str, Any]
    digests: tuple[list[dict[str, str]], ...]
    angles: NDArray[np.float64] | None
    tilt: float | None = None

    def __len__(self) -> int:
        return self.arrays["flags"].shape[0]


def open_stack(path: str | Path) -> Stack:
    """Read the master of a series, without its images."""
    import h5py

    path = Path(path)
    check_file(path)
    with reading(str(path)), open_checked(path) as file:
        entry = file["entry"]
        check_schema(path, int(entry.attrs["xmist_stack"]), STACK_SCHEMA)
        names = [name for name in str(entry.attrs["channels"]).split() if name in CHANNELS]
        where = os.path.abspath(path)  # noqa: PTH100  # a link to the master keeps its own folder
        arrays = {
            name: StackArray(where, f"entry/{name}/data", data.shape, data.dtype)
            for name in (*names, "flags")
            if (data := entry[f"{name}/data"]) is not None
        }
        table = {
            name: np.asarray(data[()])
            for name, data in entry["table"].items()
            if isinstance(data, h5py.Dataset) and name != "notes"
        }
        table["projection"] = np.asarray(entry["axes/projection"][()])
        angle = entry.get("axes/rotation_angle")
        return Stack(
            path=path,
            method=entry["process/method"].asstr()[()],
            options=_plain(entry["process"], "options"),
            experiment=read_experiment(entry["experiment"]),
            arrays=arrays,
            table=table,
            notes=tuple(entry["table/notes"].asstr()[()]) if "notes" in entry["table"] else (),
            findings=_findings(entry["process"]),
            provenance=_provenance(entry["process"]),
            digests=_digests(entry["process"]),
            angles=None if angle is None else np.asarray(angle[()], np.float64),
            tilt=float(entry["sample/tilt"][()]) if "sample/tilt" in entry else None,
        )


def _findings(process: h5py.Group) -> tuple[tuple[Finding, ...], ...]:
    """Return the findings about each projection; empty until the series has ended."""
    if "findings" not in process:
        return ()
    return tuple(
        tuple(map(Finding.from_dict, found)) for found in json.loads(process["findings"].asstr()[()])
    )


def _provenance(process: h5py.Group) -> dict[str, Any]:
    """Return what all projections have in common."""
    positions = {"positions": int(process["positions"][()])} if "positions" in process else {}
    configuration = _plain(process, "configuration")
    return {"xmist_version": process["version"].asstr()[()], "configuration": configuration, **positions}


def _digests(process: h5py.Group) -> tuple[list[dict[str, str]], ...]:
    """Return the SHA-256 of each projection's frames; empty until the series has ended."""
    found = json.loads(process["input_digests"].asstr()[()]) if "input_digests" in process else []
    return tuple([{"sha256": digest} for digest in digests] for digests in found)


def describe_stack(path: str | Path) -> dict[str, Any]:
    """Return what the master of a series holds; `xmist.io.describe` lists the keys."""
    stack = open_stack(path)
    with reading(str(path)), open_checked(Path(path)) as file:
        status = file["entry/table/status"].attrs
        names = dict(zip(status["status_values"].tolist(), map(str, status["status_meanings"]), strict=True))
    counts = {names.get(code, str(code)): 0 for code in names}
    for code in stack.table["status"].tolist():
        counts[names.get(code, str(code))] = counts.get(names.get(code, str(code)), 0) + 1
    images = {name: array for name, array in stack.arrays.items() if name != "flags"}
    angles = stack.angles
    return {
        "kind": "stack",
        "path": str(path),
        "bytes": stack.path.stat().st_size,
        "method": stack.method,
        "projections": len(stack),
        "shape": list(stack.arrays["flags"].shape[1:]),
        "stacks": {
            name: f"{' × '.join(map(str, array.shape))} ({CHANNELS[name].unit})"
            for name, array in images.items()
        },
        "angles": None if angles is None else [float(angles[0]), float(angles[-1])],
        "status": {name: number for name, number in counts.items() if number},
        "experiment": stack.experiment.to_dict(),
        "options": dict(stack.options),
    }


def _plain(group: h5py.Group, name: str) -> Any:
    places = json.loads(group[f"{name}_tuples"].asstr()[()]) if f"{name}_tuples" in group else []
    return from_text(group[name].asstr()[()], places)


def read_projection(path: str | Path, projection: int) -> Retrieval:
    """Return one projection of a stack, by its number in the whole series, as a single result."""
    stack = open_stack(path)
    found = np.flatnonzero(stack.table["projection"] == projection)
    if isinstance(projection, bool) or found.size == 0:
        numbers = stack.table["projection"]
        raise InputError(
            f"{path} has no projection {projection!r}; it has {numbers[0]} to {numbers[-1]}",
            "projection-missing",
        )
    place = int(found[0])
    if stack.table["status"][place] == MISSING:
        raise InputError(
            f"{path}: projection {projection} has not been retrieved yet; run it again", "projection-missing"
        )
    images: dict[str, Any] = {name: array[place] for name, array in stack.arrays.items() if name != "flags"}
    row = {name: column[place].item() for name, column in stack.table.items()}
    wavenumber = row.get("speckle_wavenumber", np.nan)
    speckles = {"speckle_wavenumber": wavenumber} if np.isfinite(wavenumber) else {}
    return Retrieval(
        method=stack.method,
        experiment=stack.experiment,
        flags=stack.arrays["flags"][place],
        options=stack.options,
        findings=stack.findings[place] if stack.findings else (),
        provenance={
            **stack.provenance,
            "series": Path(path).name,
            "quality": row,
            **({"input": {"sample": stack.digests[place]}} if stack.digests else {}),
            **speckles,
        },
        **images,
    )


def lazy_dataset(path: str | Path, chunks: Any) -> xarray.Dataset:
    """Return a stack as a dataset of Dask arrays; `chunks` as in `xmist.io.open_result`."""
    try:
        import dask.array
        import xarray
    except ImportError:
        raise InputError(
            'chunks needs xarray and Dask; install them with: pip install "xmist[xarray,dask]"',
            "package-missing",
        ) from None
    stack = open_stack(path)
    pixel = stack.experiment.effective_pixel
    y, x = stack.arrays["flags"].shape[1:]
    coordinates: dict[str, Any] = {
        "projection": stack.table["projection"],
        "y": ("y", np.arange(y) * pixel, {"units": "m"}),
        "x": ("x", np.arange(x) * pixel, {"units": "m"}),
    }
    if stack.angles is not None:
        coordinates["angle"] = ("projection", stack.angles, {"units": "degrees"})
    variables: dict[str, Any] = {}
    for name, array in stack.arrays.items():
        dims = ["projection", "y", "x"]
        attributes: dict[str, Any] = {"long_name": "quality flags"}
        if name in CHANNELS:
            channel = CHANNELS[name]
            attributes = {"units": channel.unit, "long_name": channel.title, "symbol": channel.symbol}
            if channel.components:
                dims.insert(1, "tensor" if name == "dark_field_tensor" else "direction")
                coordinates[dims[1]] = list(channel.components)
        try:
            wrap: Any = dask.array.from_array
            lazy = wrap(array, chunks=_chunks(chunks, dims, array), inline_array=True)
        except (ValueError, TypeError, ArithmeticError, NotImplementedError) as error:
            raise InputError(
                f'chunks is {chunks!r} ({error}); expected such as {{"projection": 16}} or "auto"',
                "option-invalid",
            ) from error
        variables[name] = (dims, lazy, attributes)
    for name, column in stack.table.items():
        if name not in ("projection", "angle"):
            variables[name] = ("projection", column)
    return xarray.Dataset(variables, coordinates, {"method": stack.method, **stack.experiment.to_dict()})


def _chunks(chunks: Any, dims: list[str], array: StackArray) -> Any:
    """Return chunks for the axes of an array: axes that are not named are whole, projections single."""
    if isinstance(chunks, Mapping):
        unknown = [name for name in chunks if name not in ("projection", "y", "x", "tensor", "direction")]
        if unknown:
            raise ValueError(f"there is no axis {unknown[0]!r}")
        return tuple(
            chunks.get(name, 1 if name == "projection" else size)
            for name, size in zip(dims, array.shape, strict=True)
        )
    if isinstance(chunks, int):
        return (chunks, *array.shape[1:])
    return chunks
