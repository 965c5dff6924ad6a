"""Read volumes that were reconstructed from a series."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from xmist.core.errors import InputError
from xmist.core.experiment import Experiment
from xmist.core.findings import Finding
from xmist.io.frames.hdf5_heap import open_checked
from xmist.io.frames.sources import check_file, reading
from xmist.io.results.atomic import OutputFile, write_files
from xmist.io.results.nexus_reader import check_schema, read_experiment
from xmist.io.results.plain import from_text
from xmist.io.results.stacks import StackArray, has_mark

# Incremented whenever an older xmist would misread a newer file.
VOLUMES_SCHEMA: Final = 1


@dataclass(frozen=True)
class Quantity:
    """Quantity of a volume, and the image channel that it is reconstructed from."""

    channel: str
    unit: str
    symbol: str
    title: str


QUANTITIES: Final[Mapping[str, Quantity]] = MappingProxyType(
    {
        "delta": Quantity("phase", "1", "δ", "refractive index decrement"),
        "mu": Quantity("transmission", "1/m", "μ", "attenuation coefficient"),
        "scattering": Quantity(
            "dark_field", "rad2/m", "ε", "mean square of the refraction angle per axis and length"
        ),
    }
)


@dataclass(frozen=True, kw_only=True)
class Volumes:
    """Volumes in a file.

    Parameters
    ----------
    path : Path
        The file.
    arrays : mapping of str to StackArray
        "delta", "mu" in 1/m, "scattering" in rad²/m: (y, z, x), read when sliced. y is the rotation axis, and
        z runs along the beam at angle 0.
    pixel : float
        Side of a cube in m.
    experiment : Experiment
        Of the projections.
    centre, tilt : float
        Column of the rotation axis in the projections, and its angle against their columns in degrees.
    options : mapping
        Options of the reconstruction.
    projections : (projection,) int array
        Numbers of the projections that were used.
    findings : tuple of Finding
        What was noticed.
    """

    path: Path
    arrays: Mapping[str, StackArray]
    pixel: float
    experiment: Experiment
    centre: float
    tilt: float
    options: Mapping[str, Any]
    projections: NDArray[np.int64]
    findings: tuple[Finding, ...]

    def write_tiff(self, path: str | Path, *, overwrite: bool = False) -> list[Path]:
        """Write each volume as a TIFF stack for ImageJ, slice by slice.

        Parameters
        ----------
        path : str or Path
            "berry.tif" gives "berry_delta.tif" and so on: float32 slices along the rotation axis, with the
            side of a cube in µm.
        overwrite : bool
            Replace existing files.

        Returns
        -------
        list of Path
            The files: all appear, each complete, or none does.

        Raises
        ------
        OutputError
            When writing failed.

        Examples
        --------
        >>> xmist.open_volumes("volumes.h5").write_tiff("volumes.tif")  # doctest: +SKIP
        [PosixPath('volumes_delta.tif'), PosixPath('volumes_mu.tif'), PosixPath('volumes_scattering.tif')]
        """
        path = Path(path)
        jobs = []
        for name, array in self.arrays.items():
            file = path.with_name(f"{path.stem}_{name}{path.suffix}")
            jobs.append(OutputFile(file, partial(self._write_stack, name, array)))
        return write_files(jobs, overwrite=overwrite)

    def _write_stack(self, name: str, array: StackArray, file: BinaryIO) -> None:
        import tifffile

        micrometres, quantity = self.pixel * 1e6, QUANTITIES[name]
        text = f"{quantity.title} {quantity.symbol}\nunit: {quantity.unit}\ncube: {self.pixel:.9g} m"
        with tifffile.TiffWriter(file, imagej=True) as writer:
            writer.write(
                (array[row] for row in range(array.shape[0])),
                shape=array.shape,
                dtype=np.float32,
                resolution=(1.0 / micrometres, 1.0 / micrometres),
                resolutionunit="NONE",
                metadata={"axes": "ZYX", "unit": "um", "spacing": micrometres, "Info": text},
            )


def is_volumes(path: str | Path) -> bool:
    """Return whether a file shows volumes."""
    return has_mark(path, "xmist_volumes")


def is_finished(path: str | Path) -> bool:
    """Return whether a file shows volumes that are complete."""
    if not is_volumes(path):
        return False
    with reading(str(path)), open_checked(Path(path)) as file:
        return bool(file["entry"].attrs.get("complete", False))


def open_volumes(path: str | Path) -> Volumes:
    """Open volumes that were reconstructed; no slice is read.

    Parameters
    ----------
    path : str or Path
        The file that `xmist tomography` wrote.

    Returns
    -------
    Volumes
        Arrays that are read when they are sliced, and what the file states.

    Raises
    ------
    InputError
        If the file is missing or holds no volumes.

    Examples
    --------
    >>> open_volumes("volumes.h5").arrays["delta"][100].shape  # doctest: +SKIP
    (2048, 2048)
    """
    path = Path(path)
    check_file(path)
    if not is_volumes(path):
        raise InputError(f"{path} holds no volumes; xmist tomography writes such a file", "result-invalid")
    with reading(str(path)), open_checked(path) as file:
        entry = file["entry"]
        check_schema(path, int(entry.attrs["xmist_volumes"]), VOLUMES_SCHEMA)
        where = os.path.abspath(path)  # noqa: PTH100  # a link to the file keeps its own folder
        arrays = {
            name: StackArray(where, f"entry/{name}/data", data.shape, data.dtype)
            for name in str(entry.attrs["quantities"]).split()
            if (data := entry[f"{name}/data"]) is not None
        }
        process = entry["process"]
        experiment = read_experiment(entry["experiment"])
        places = json.loads(process["options_tuples"].asstr()[()])
        return Volumes(
            path=path,
            arrays=arrays,
            pixel=experiment.effective_pixel,
            experiment=experiment,
            centre=float(process["centre"][()]),
            tilt=float(process["tilt"][()]),
            options=from_text(process["options"].asstr()[()], places),
            projections=np.asarray(process["projections"][()]),
            findings=tuple(map(Finding.from_dict, json.loads(process["findings"].asstr()[()]))),
        )


def describe_volumes(path: str | Path) -> dict[str, Any]:
    """Return what a file of volumes holds; `xmist.io.describe` lists the keys."""
    found = open_volumes(path)
    shape = next(iter(found.arrays.values())).shape
    return {
        "kind": "volumes",
        "path": str(path),
        "complete": is_finished(path),
        "shape": list(shape),
        "pixel": found.pixel,
        "volumes": {name: QUANTITIES[name].unit for name in found.arrays},
        "centre": found.centre,
        "tilt": found.tilt,
        "projections": len(found.projections),
        "options": dict(found.options),
        "findings": [record.to_dict() for record in found.findings],
    }
