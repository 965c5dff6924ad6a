"""Write line integrals with their angles as NXtomo, for programs for tomography."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from xmist.core.arrays import Image
from xmist.core.errors import ErrorRecord, InputError, OutputError, raise_errors, suggest
from xmist.core.experiment import Experiment
from xmist.io.results.atomic import target_errors, write_file
from xmist.io.results.stacks import FAILED, MISSING, UNREADABLE, Stack, open_stack
from xmist.numerics.images.fill import fill

if TYPE_CHECKING:
    import h5py

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Integral:
    """A line integral through the sample, and what its reconstruction gives.

    `unit` is that of the integral; the reconstruction has this unit per metre. `of` computes the integral
    from a channel and the experiment.
    """

    name: str
    unit: str
    formula: str
    of: Callable[[Image, Experiment], Image]


def _delta(phase: Image, experiment: Experiment) -> Image:
    return phase * np.float32(-1.0 / experiment.wavenumber)


def _attenuation(transmission: Image, experiment: Experiment) -> Image:
    # A T at or below 0 is noise on almost no light; values below 10⁻⁶ are set to that.
    return np.asarray(-np.log(np.maximum(transmission, np.float32(1e-6))))


def _scatter(dark_field: Image, experiment: Experiment) -> Image:
    return dark_field * np.float32(2.0 / experiment.effective_distance)


INTEGRALS: Final[Mapping[str, Integral]] = MappingProxyType(
    {
        "phase": Integral("delta", "m", "−φ/k", _delta),
        "transmission": Integral("attenuation coefficient", "1", "−ln T", _attenuation),
        "dark_field": Integral("mean square of the refraction angle per length", "rad2", "2 D/∆", _scatter),
    }
)


def export_tomography(
    master: str | Path,
    path: str | Path,
    *,
    channel: str = "phase",
    air: Box | None = None,
    overwrite: bool = False,
) -> Path:
    """Write the line integrals of a stack with their angles, for a program for tomography.

    Parameters
    ----------
    master : str or Path
        Results of a series.
    path : str or Path
        The file, .h5 or .nx: an NXtomo entry with `/entry/instrument/detector/data` (projection, y, x),
        `/entry/sample/rotation_angle` in degrees, and the pixel in metres. The logarithm has been taken.
    channel : str
        "phase" (gives δ), "transmission" (gives the attenuation coefficient µ in 1/m), or "dark_field" (gives
        the mean square of the refraction angle per length in rad²/m).
    air : (y0, y1, x0, x1), optional
        Box in pixels, half-open, that the sample never enters: its median is subtracted from every
        projection. The phase, which is known up to a constant, needs it.
    overwrite : bool
        Replace an existing file.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    InputError
        If the series has no angles or lacks the channel, or the box is not in the images.
    OutputError
        When writing failed.

    Notes
    -----
    Projections that were not retrieved are left out with their angles. Pixels without a value are filled from
    their neighbours, because a single NaN spreads over its whole slice.

    Examples
    --------
    >>> from xmist.io.results.nxtomo import export_tomography
    >>> export_tomography("series.h5", "delta.nx", air=(0, 2048, 0, 50))  # doctest: +SKIP
    PosixPath('delta.nx')
    """
    stack = open_stack(master)
    _check(stack, channel, air)
    raise_errors(target_errors(path, overwrite=overwrite))
    status = stack.table["status"]
    kept = np.flatnonzero(~np.isin(status, (MISSING, FAILED, UNREADABLE)) & np.isfinite(_angles(stack)))
    if not kept.size:
        raise InputError(f"{master} holds no projection that was retrieved", "projection-missing")
    _, y, x = stack.arrays["flags"].shape
    need = 4.0 * kept.size * y * x
    free = shutil.disk_usage(Path(path).absolute().parent).free
    if free < 1.01 * need + 1e6:  # HDF5 crashes the process when the disk is full
        raise OutputError(f"{path}: no space left for {need / 1e6:.3g} MB; nothing was written")

    def write(file: BinaryIO) -> None:
        import h5py

        with h5py.File(file, "w") as opened:
            _write(opened, stack, channel, air, kept)

    return write_file(path, write, overwrite=overwrite)


def _check(stack: Stack, channel: str, air: Any) -> None:
    errors = []
    if stack.angles is None:
        errors.append(
            ErrorRecord("angles-missing", f"{stack.path} has no angles; state them and retrieve it again")
        )
    if channel not in INTEGRALS:
        errors.append(
            ErrorRecord("option-invalid", f"channel is {channel!r}; {suggest(str(channel), INTEGRALS)}")
        )
    elif channel not in stack.arrays:
        errors.append(
            ErrorRecord(
                "channel-missing", f"{stack.path} holds no {channel}; it holds {', '.join(stack.arrays)}"
            )
        )
    _, y, x = stack.arrays["flags"].shape
    if air is not None:
        numbers = len(air) == 4 and all(isinstance(item, (int, np.integer)) for item in air)
        if not numbers or not (0 <= air[0] < air[1] <= y and 0 <= air[2] < air[3] <= x):
            errors.append(
                ErrorRecord(
                    "box-outside", f"air is {air!r}; expected (y0, y1, x0, x1) inside {y} × {x} pixels"
                )
            )
    raise_errors(errors)


def _angles(stack: Stack) -> NDArray[np.float64]:
    assert stack.angles is not None
    return stack.angles


def _write(file: h5py.File, stack: Stack, channel: str, air: Box | None, kept: NDArray[np.intp]) -> None:
    integral = INTEGRALS[channel]
    pixel = stack.experiment.effective_pixel
    file.attrs["default"] = "entry"
    entry = _group(file, "entry", "NXentry")
    entry.attrs["default"] = "data"
    entry["definition"] = "NXtomo"
    entry["title"] = f"{integral.formula} of {stack.path.name}; a reconstruction gives the {integral.name}"
    detector = _group(_group(entry, "instrument", "NXinstrument"), "detector", "NXdetector")
    array = stack.arrays[channel]
    data = detector.create_dataset("data", (kept.size, *array.shape[1:]), np.float32)
    data.attrs["units"] = integral.unit
    for place, index in enumerate(kept):
        data[place] = _line_integral(array[index], integral, stack.experiment, air)
    detector["image_key"] = np.zeros(kept.size, np.int32)
    for axis in ("x", "y"):
        detector[f"{axis}_pixel_size"] = pixel
        detector[f"{axis}_pixel_size"].attrs["units"] = "m"
    detector["distance"] = stack.experiment.sample_to_detector
    detector["distance"].attrs["units"] = "m"
    sample = _group(entry, "sample", "NXsample")
    sample["rotation_angle"] = _angles(stack)[kept]
    sample["rotation_angle"].attrs["units"] = "degrees"
    beam = _group(entry, "beam", "NXbeam")
    beam["incident_energy"] = stack.experiment.energy_kev
    beam["incident_energy"].attrs["units"] = "keV"
    group = _group(entry, "data", "NXdata")
    group.attrs["signal"] = "data"
    group.attrs["axes"] = ["rotation_angle", ".", "."]
    group["data"] = data
    group["rotation_angle"] = sample["rotation_angle"]
    group["image_key"] = detector["image_key"]


def _line_integral(image: Image, integral: Integral, experiment: Experiment, air: Box | None) -> Image:
    known = np.isfinite(image)
    if not known.all():
        image = np.where(known, image, np.float32(0.0))
        filled = fill(image, known, smooth=True, threads=1)
        image = np.where(
            np.isfinite(filled), filled, np.float32(np.median(image[known]) if known.any() else 0.0)
        )
    values = integral.of(image, experiment)
    if air is not None:
        values = values - np.float32(np.median(values[air[0] : air[1], air[2] : air[3]]))
    return values


def _group(parent: h5py.Group, name: str, kind: str) -> h5py.Group:
    group = parent.create_group(name)
    group.attrs["NX_class"] = kind
    return group
