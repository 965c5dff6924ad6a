"""Angles of the projections in degrees: as listed, from a dataset, or from the headers of the frames."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.core.errors import InputError
from xmist.io.frames.addresses import Address, split_address
from xmist.io.frames.positions import find_value
from xmist.workflow.series.layout import Layout
from xmist.workflow.series.reader import Reader

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
        known = known[_first_frames(layout)]
    if known.size != count:
        raise InputError(f"scan.angles gives {known.size} angles for {count} projections; expected one each")
    return known


def _first_frames(layout: Layout) -> NDArray[np.int64]:
    """Give for each projection which of all frames, file after file, is its first."""
    places = layout.places
    if (places < 0).any():  # the files cannot say how many frames stood before
        return np.arange(layout.count) * places[0, ..., 0].size
    sizes = np.zeros(len(layout.addresses), np.int64)
    np.maximum.at(sizes, places[..., 0].reshape(-1), places[..., 1].reshape(-1) + 1)
    number, frame = places[:, 0, 0, 0], places[:, 0, 0, 1]
    first: NDArray[np.int64] = (np.cumsum(sizes) - sizes)[number] + frame
    return first


def _dataset(given: str, folder: Path) -> Angles:
    from xmist.io.frames.hdf5_columns import read_column

    try:
        name, dataset, key = split_address(given)
        values, unit = read_column(Address(Path(folder) / Path(name).expanduser(), dataset, key), _MOST)
    except InputError as error:
        raise InputError([f"scan.angles: {fault}" for fault in error.faults]) from error
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
            unit = find_value(header, f"{key}@units") or ""
            try:
                angle = float(text or "")
                angles[index] = math.degrees(angle) if unit.strip().lower() in _RADIANS else angle
            except ValueError:
                label = layout.addresses[int(layout.places[index, 0, 0, 0])]
                raise InputError(
                    f"scan.angles: the header of {label} gives {text!r} for '{key}'; expected a number of "
                    "degrees (xmist info lists what a header holds)"
                ) from None
    return angles
