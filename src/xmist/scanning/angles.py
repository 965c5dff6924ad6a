"""Angles of the projections in degrees: as listed, from a dataset, or from the headers of the frames."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.errors import InputError
from xmist.io.positions import find_value
from xmist.io.sources import check_file, reading
from xmist.scanning.layout import Layout
from xmist.scanning.reader import Reader

_MOST: Final = 10_000_000
_RADIANS: Final = {"rad", "radian", "radians"}

Angles = NDArray[np.float64]


def known_angles(given: Any, folder: Path) -> Angles | None:
    """Give the angles that are known without the frames.

    Parameters
    ----------
    given : object
        The value of scan.angles.
    folder : Path
        What relative names start from.

    Returns
    -------
    (number,) float64 array or None
        None for {start, step}, a key of the headers, and where there are none.

    Raises
    ------
    InputError
        If the dataset cannot be read.

    Examples
    --------
    >>> known_angles((0.0, 90.0), Path(".")).tolist()
    [0.0, 90.0]
    """
    if isinstance(given, tuple):
        return np.array(given)
    if isinstance(given, str) and "::" in given:
        return _dataset(given, folder)
    return None


def fit_angles(given: Any, known: Angles | None, layout: Layout, exposures: int) -> Angles | None:
    """Give an angle for each projection.

    Parameters
    ----------
    given : object
        The value of scan.angles.
    known : array or None
        What `known_angles` gave.
    layout : Layout
        The projections.
    exposures : int
        Frames of each position.

    Returns
    -------
    (projection,) float64 array or None
        In degrees; None for a series without angles.

    Raises
    ------
    InputError
        If there are too few or too many, or a header lacks the key.

    Examples
    --------
    >>> places = np.zeros((3, 1, 1, 2), int)
    >>> layout = Layout(
    ...     name="", addresses=(), shape=(8, 8), dtype=np.dtype("u2"), depth=1, places=places, missing={}
    ... )
    >>> fit_angles({"start": 0.0, "step": 60.0}, None, layout, 1).tolist()
    [0.0, 60.0, 120.0]
    """
    count = layout.count
    if given is None:
        return None
    if isinstance(given, Mapping):
        return np.asarray(given["start"] + given["step"] * np.arange(count))
    if known is None:
        return _headers(given, layout)
    # A stack that holds every frame has an angle for every frame.
    frames = count * layout.positions * exposures
    if known.size == frames != count:
        known = known[:: layout.positions * exposures]
    if known.size != count:
        raise InputError(f"scan.angles gives {known.size} angles for {count} projections; expected one each")
    return known


def _dataset(given: str, folder: Path) -> Angles:
    import h5py

    name, _, path = given.partition("::")
    file = Path(folder) / Path(name).expanduser()
    try:
        check_file(file)
    except InputError as error:
        raise InputError([f"scan.angles: {fault}" for fault in error.faults]) from error
    with reading(f"scan.angles: {given}"), h5py.File(file, "r", locking="best-effort") as opened:
        data = opened.get(path.strip())
        if not isinstance(data, h5py.Dataset) or data.ndim != 1 or data.dtype.kind not in "iuf":
            raise InputError(f"scan.angles: {given} is no dataset of numbers in one dimension")
        if not 0 < data.size <= _MOST:
            raise InputError(f"scan.angles: {given} holds {data.size} numbers; expected one a projection")
        values = np.asarray(data[()], np.float64)
        unit = data.attrs.get("units", "")
    unit = unit.decode(errors="replace") if isinstance(unit, bytes) else str(unit)
    if not np.isfinite(values).all():
        raise InputError(f"scan.angles: {given} holds numbers that are not finite")
    return np.rad2deg(values) if unit.strip().lower() in _RADIANS else values


def _headers(key: str, layout: Layout) -> Angles:
    """Read the angle from the header of each projection's first frame; NaN where the frame is missing."""
    angles = np.full(layout.count, math.nan)
    with Reader(layout) as reader:
        for index in range(layout.count):
            if index in layout.missing:
                continue
            try:
                header = reader.header(index)
            except InputError:
                continue  # the projection will be flagged
            text = find_value(header, key)
            try:
                angles[index] = float(text or "")
            except ValueError:
                label = layout.addresses[int(layout.places[index, 0, 0, 0])]
                raise InputError(
                    f"scan.angles: the header of {label} gives {text!r} for '{key}'; expected a number of "
                    "degrees (xmist info lists what a header holds)"
                ) from None
    return angles
