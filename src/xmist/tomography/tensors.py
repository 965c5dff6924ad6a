"""Tensor projections with their geometry as a file of mumott, for the reconstruction of a tensor field."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from xmist.core.arrays import Image
from xmist.core.errors import ErrorRecord, InputError, raise_errors
from xmist.core.findings import finding
from xmist.core.flags import FILLED, UNDETERMINED
from xmist.io.results.atomic import target_errors, write_file
from xmist.io.results.stacks import FAILED, MISSING, UNREADABLE, Stack, open_stack
from xmist.tomography.centre import find_centre
from xmist.tomography.sinograms import line_integrals

if TYPE_CHECKING:
    import h5py

_DIRECTIONS: Final = 8  # of the refraction angle, over 180°; a tensor has three numbers
_TILTS: Final = 3


def export_mumott(
    results: Sequence[str | Path],
    path: str | Path,
    *,
    centres: Sequence[float] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write the tensor projections of series with different tilts of the rotation axis for mumott.

    Parameters
    ----------
    results : sequence of str or Path
        Results of series with angles and dark_field_tensor, one for each tilt of the rotation axis
        (`[series] tilt`, 0 if left out).
    path : str or Path
        The file, .h5; `mumott.data_handling.DataContainer(path)` reads it.
    centres : sequence of float, optional
        Column of the rotation axis of each series; found from the transmission or the phase if left out.
    overwrite : bool
        Replace an existing file.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    InputError
        If a series has no angles or no dark_field_tensor, shapes differ, or an axis cannot be found.
    OutputError
        When writing failed.

    Warns
    -----
    UserWarning
        If there are fewer than three tilts, which leave parts of the tensor undetermined.

    Notes
    -----
    The value of a projection at the direction n across the beam is nᵀ(2 D/∆)n over the pixel, the line
    integral of nᵀ ε n in rad²/m for a pixel of 1: with spherical harmonics up to ℓ = 2 the model of mumott is
    a tensor field. Its axes are x, y (downwards) and z (the beam), its data (x, y, direction). The tilt is
    about the x axis through the middle of the frame.

    Examples
    --------
    >>> export_mumott(["flat.h5", "up.h5", "down.h5"], "tensors.h5")  # doctest: +SKIP
    PosixPath('tensors.h5')
    """
    stacks = [open_stack(result) for result in results]
    _check(stacks, centres)
    raise_errors(target_errors(path, overwrite=overwrite))
    tilts = sorted({stack.tilt or 0.0 for stack in stacks})
    if len(tilts) < _TILTS:
        record = finding(
            "tensor-undetermined",
            f"the series have the tilts {', '.join(f'{tilt:g}°' for tilt in tilts)}; expected at least "
            f"{_TILTS}. One rotation axis determines the scattering along it, and only a part of the other "
            "components of the tensor",
        )
        warnings.warn(record.message, UserWarning, stacklevel=2)
    columns = [_column(stack) for stack in stacks] if centres is None else [float(each) for each in centres]

    def write(file: BinaryIO) -> None:
        import h5py

        with h5py.File(file, "w") as opened:
            _write(opened, stacks, columns)

    return write_file(path, write, overwrite=overwrite)


def _check(stacks: Sequence[Stack], centres: Sequence[float] | None) -> None:
    errors = []
    if not stacks:
        errors.append(ErrorRecord("option-missing", "results is empty; expected results of series"))
    for stack in stacks:
        if stack.angles is None:
            text = f"{stack.path} has no angles; give them in [series] and retrieve it again"
            errors.append(ErrorRecord("angles-missing", text))
        if "dark_field_tensor" not in stack.arrays:
            text = f"{stack.path} holds no dark_field_tensor; it holds {', '.join(stack.arrays)}"
            errors.append(ErrorRecord("channel-missing", text))
        shapes = stack.arrays["flags"].shape[1:], stacks[0].arrays["flags"].shape[1:]
        if shapes[0] != shapes[1]:
            text = f"{stack.path} has projections of {shapes[0]} pixels; expected {shapes[1]}"
            errors.append(ErrorRecord("shape-mismatch", text))
    if centres is not None and len(centres) != len(stacks):
        text = f"{len(centres)} centres for {len(stacks)} series; expected one each"
        errors.append(ErrorRecord("shape-mismatch", text))
    raise_errors(errors)


def _kept(stack: Stack) -> NDArray[np.intp]:
    """Return the places of the projections that were retrieved."""
    lost = np.isin(stack.table["status"], (MISSING, FAILED, UNREADABLE)) | ~np.isfinite(_angles(stack))
    return np.flatnonzero(~lost)


def _angles(stack: Stack) -> NDArray[np.float64]:
    assert stack.angles is not None  # that was checked
    return stack.angles


def _column(stack: Stack) -> float:
    """Return the column of the rotation axis.

    From the sums of columns: rows of a tilted axis exchange what they show.
    """
    kept = _kept(stack)
    errors: list[ErrorRecord] = []
    for channel in ("transmission", "phase"):
        if channel in stack.arrays:
            array = stack.arrays[channel]
            sums = [
                np.nan_to_num(line_integrals(channel, array[place][None], stack.experiment)).mean(1)
                for place in kept
            ]
            try:
                return find_centre(np.stack(sums), _angles(stack)[kept]).column
            except InputError as error:  # a sample may hardly absorb
                errors += error.records
    raise_errors(errors[:1])
    raise InputError(
        f"{stack.path} holds no transmission and no phase to find the rotation axis from; give centres",
        code="channel-missing",
    )


def _write(file: h5py.File, stacks: Sequence[Stack], columns: Sequence[float]) -> None:
    height, width = stacks[0].arrays["flags"].shape[1:]
    file["volume_shape"] = np.array([width, height, width])
    for name, direction in {
        "p_direction_0": (0.0, 0.0, 1.0),
        "j_direction_0": (1.0, 0.0, 0.0),
        "k_direction_0": (0.0, 1.0, 0.0),
        "detector_direction_origin": (1.0, 0.0, 0.0),
        "detector_direction_positive_90": (0.0, 1.0, 0.0),
        "inner_axis": (0.0, -1.0, 0.0),  # from +x towards +z
        "outer_axis": (1.0, 0.0, 0.0),
    }.items():
        file[name] = np.array(direction)
    directions = np.arange(_DIRECTIONS) * np.pi / _DIRECTIONS
    file["detector_angles"] = directions
    group = file.create_group("projections")
    for stack, column in zip(stacks, columns, strict=True):
        array, flags = stack.arrays["dark_field_tensor"], stack.arrays["flags"]
        scale = 2.0 / stack.experiment.effective_distance / stack.experiment.effective_pixel
        for place in _kept(stack):
            tensor = array[place]
            known = np.isfinite(tensor).all(0) & (flags[place] & (FILLED | UNDETERMINED) == 0)
            each = group.create_group(str(len(group)))
            values = scale * _along(np.where(known, tensor, 0.0), directions)
            each["data"] = values.transpose(2, 1, 0).astype(np.float64)
            each["weights"] = known.T.astype(np.float64)
            shown = stack.arrays.get("transmission")
            each["diode"] = np.ones((width, height)) if shown is None else shown[place].T.astype(np.float64)
            each["inner_angle"] = np.deg2rad(_angles(stack)[place])
            each["outer_angle"] = np.deg2rad(stack.tilt or 0.0)
            each["j_offset"] = 0.5 * (width - 1) - column
            each["k_offset"] = 0.0


def _along(tensor: Image, directions: NDArray[np.float64]) -> Image:
    """Return nᵀ D n (direction, y, x) of a tensor (xx, xy, yy), the mean over each direction's sector."""
    xx, xy, yy = tensor
    sector = np.pi / directions.size
    share = np.sin(sector) / sector
    turn = 2.0 * directions[:, None, None]
    return np.asarray(0.5 * (xx + yy) + share * (0.5 * (xx - yy) * np.cos(turn) + xy * np.sin(turn)))
