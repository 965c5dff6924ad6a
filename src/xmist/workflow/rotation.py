"""Angles of projections, and the frames of one angle where the stage turned forwards and backwards.

A stage that turns forwards at one position and backwards at the next gives stacks in opposite order. Where
the angle of each frame is known, it decides which frames belong together.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.core.errors import ErrorRecord, InputError, prefixed, raise_errors
from xmist.core.findings import Finding, finding
from xmist.io.frames.addresses import (
    TABLES,
    Address,
    Links,
    check_link,
    find_addresses,
    names_file,
    split_address,
)
from xmist.io.frames.positions import find_value
from xmist.io.frames.sources import check_file, listed, reading
from xmist.workflow.frames import FrameReader, FrameTable

Angles = NDArray[np.float64]

# Angles of two frames are the same within this part of the mean step between projections.
_OF_STEP: Final = 0.1
RADIANS: Final = frozenset({"rad", "radian", "radians"})
_DEGREES: Final = frozenset({"deg", "degree", "degrees", "°"})
_MOST: Final = 10_000_000
_LARGEST: Final = 2**26  # bytes of a table
_NUMBER: Final = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
# A range of so many degrees, within this part, may be half a turn or a turn in radians.
_TURNS: Final = (math.pi, 2.0 * math.pi)
_NEAR: Final = 0.03


def angle_files(given: Any) -> tuple[str, ...]:
    """Return the datasets and text tables in series.angles; none if it is a list, a mapping or a key."""
    names = (given,) if isinstance(given, str) else given if isinstance(given, tuple) else ()
    return tuple(name for name in names if isinstance(name, str) and names_file(name))


def known_angles(given: Any, folder: Path, links: Links = "all") -> Angles | None:
    """Return the angles in degrees that are known without the frames."""
    names = angle_files(given)
    if not names:
        return np.array(given) if isinstance(given, tuple) else None
    found = []
    errors: list[ErrorRecord] = []
    for address in find_addresses(names, folder, errors):
        try:
            values, unit = _read_angles(replace(address, links=links))
        except InputError as error:
            errors += error.records
            continue
        found.append(np.rad2deg(values) if unit.strip().lower() in RADIANS else values)
    raise_errors(prefixed("series.angles: ", errors))
    return np.concatenate(found)


def _read_angles(address: Address) -> tuple[Angles, str]:
    """Return the numbers of a dataset or a text table, and their unit or ""."""
    if not address.path.name.lower().endswith(TABLES):
        from xmist.io.frames.hdf5_columns import read_column

        return read_column(address, _MOST)
    check_file(address.path)
    check_link(address)
    with reading(str(address.path)):
        if address.path.stat().st_size > _LARGEST:
            raise InputError(f"{address.path} is larger than {_LARGEST} bytes", "value-invalid")
        text = address.path.read_text(encoding="utf-8", errors="replace")
    lines = [line.strip().rstrip(",;").strip() for line in text.splitlines()]
    numbers = [line for line in lines if line and not line.startswith(("#", "%"))]
    words = [line for line in lines if line.startswith(("#", "%"))]
    if numbers and re.search("[A-Za-z°]", numbers[0]) and not _NUMBER.fullmatch(numbers[0]):
        words.append(numbers.pop(0))  # the name of the column
    wrong = next((line for line in numbers if not _NUMBER.fullmatch(line)), None)
    if wrong is not None or not numbers:
        found = "no number" if wrong is None else f"the line {wrong[:40]!r}"
        raise InputError(f"{address.path} holds {found}; expected an angle on each line", "value-invalid")
    units = {word.lower() for line in words for word in re.findall(r"[\[(]\s*([^\s\])]+)\s*[\])]", line)}
    return np.array([float(line) for line in numbers]), next(iter(sorted(units & (RADIANS | _DEGREES))), "")


def padded_angles(known: Angles, table: FrameTable) -> Angles:
    """Return angles with NaN for the projections, or frames, whose angle has not been written yet."""
    total = table.places[..., 0].size
    whole = table.count if known.size <= table.count else total
    return np.pad(known, (0, max(0, whole - known.size)), constant_values=math.nan)


def fit_angles(
    given: Any, known: Angles | None, table: FrameTable, folder: Path
) -> tuple[Angles | None, FrameTable]:
    """Return an angle in degrees for each projection, and the table with the frames of each angle together.

    There are no angles for a series without them.
    """
    count, frames = table.count, table.places[..., 0].size
    if given is None or (known is None and angle_files(given)):  # the error is reported where they are read
        return None, table
    if isinstance(given, Mapping):
        return np.asarray(given["start"] + given["step"] * np.arange(count)), table
    if known is None:
        angles = header_angles(given, table)
    elif known.size == frames != count and not (table.places < 0).any():
        # A stack that holds every frame has an angle for every frame.
        angles = stack_angles(known, table)[..., 0]
    elif known.size == frames != count:  # where frames stood cannot be known
        return known[np.arange(count) * table.places[0, ..., 0].size], table
    elif known.size != count:
        text = f"series.angles gives {known.size} angles for {count} projections; expected one each"
        raise InputError(text, code="angles-unequal-number")
    else:
        own = neighbour_angles(given, table, folder) if isinstance(given, str) else None
        return known, table if own is None else order_by_angle(table, own)
    return angles[:, 0], order_by_angle(table, angles)


def order_by_angle(table: FrameTable, angles: Angles) -> FrameTable:
    """Return a table whose projections hold frames of one angle.

    `angles` (projection, position) are NaN where they are not known. The order of the projections is that of
    the first position of the diffuser.
    """
    first = angles[:, 0]
    known = np.unique(first[np.isfinite(first)])
    if known.size < 2 or table.positions < 2:
        return table
    near = max(_OF_STEP * float(np.ptp(known)) / (known.size - 1), 1e-9)
    places = table.places.copy()
    missing = dict(table.missing)
    for position in range(1, table.positions):
        there = angles[:, position]
        both = np.isfinite(first) & np.isfinite(there)
        if not both.any() or (np.abs(there - first)[both] <= near).all():
            continue
        if known.size < np.isfinite(first).sum():
            raise InputError(_unlike(table, position, first, there), code="angles-mismatch")
        alike = np.abs(first[:, None] - there[None, :]) <= near  # False where one is not known
        if (alike.sum(axis=1) > 1).any() or alike.sum() * 2 < np.isfinite(there).sum():
            raise InputError(_unlike(table, position, first, there), code="angles-mismatch")
        places[:, position] = -1
        for index, other in np.argwhere(alike):
            places[index, position] = table.places[other, position]
    if (places == table.places).all():
        return table
    for index in range(table.count):
        absent = np.flatnonzero((places[index, ..., 0] < 0).any(axis=1))
        if absent.size:
            missing.setdefault(index, f"there is no frame of its angle at position {absent[0]}")
        elif (table.places[index, ..., 0] < 0).any():
            missing.pop(index, None)
    return replace(table, places=places, missing=dict(sorted(missing.items())))


def _unlike(table: FrameTable, position: int, first: Angles, there: Angles) -> str:
    shown = [listed([f"{angle:.6g}" for angle in values], 3) for values in (first, there)]
    return (
        f"{table.name}: the frames at position {position} of the diffuser were taken at other angles "
        f"({shown[1]}) than those at position 0 ({shown[0]}); expected one frame of each angle at each"
    )


def stack_angles(values: Angles, table: FrameTable) -> Angles:
    """Return angles (projection, position, repeat) from one for every frame, file after file."""
    places = table.places
    sizes = np.zeros(len(table.addresses), np.int64)
    np.maximum.at(sizes, table.places[..., 0].reshape(-1), table.places[..., 1].reshape(-1) + 1)
    frames = (np.cumsum(sizes) - sizes)[places[..., 0]] + places[..., 1]
    there = places[..., 0] >= 0
    return np.where(there, values[np.where(there, frames, 0)], np.nan)


def neighbour_angles(given: str, table: FrameTable, folder: Path) -> Angles | None:
    """Return the angles (projection, position) where the stack of each position has its own beside it.

    `given` names those of one position, such as "pos_0.nxs::/entry/sample/rotation_angle"; None where the
    frames are stored in another way.
    """
    from xmist.io.frames.hdf5_columns import read_column

    name, dataset, key = split_address(given)
    path = Path(folder) / Path(name).expanduser()
    paths = [address.path for address in table.addresses]
    if len(set(paths)) < 2 or path.resolve() not in {other.resolve() for other in paths}:
        return None
    angles = np.full(table.places.shape[:2], math.nan)
    repeats = table.places.shape[2]
    for number, address in enumerate(table.addresses):
        mine = table.places[:, :, 0, 0] == number
        frames = table.places[:, :, 0, 1][mine]
        try:
            values, unit = read_column(replace(address, dataset=dataset, key=key), _MOST)
        except InputError:
            continue
        values = np.rad2deg(values) if unit.strip().lower() in RADIANS else values
        last = int(frames.max(initial=-1))
        if values.size * repeats > last >= values.size:  # one for each projection
            frames = frames // repeats
        elif values.size <= last:
            continue
        angles[mine] = values[frames]
    return angles


def header_angles(key: str, table: FrameTable) -> Angles:
    """Read the angle (projection, position) from the headers of frames; NaN where it cannot be read."""
    angles = np.full(table.places.shape[:2], math.nan)
    with FrameReader(table) as reader:
        for index, position in np.ndindex(*angles.shape):
            number, frame = table.places[index, position, 0].tolist()
            if number < 0:
                continue
            try:
                header = reader.header(number, frame)
            except InputError:
                continue  # the projection will be flagged
            angle = _number(key, find_value(header, key), table.addresses[number])
            unit = find_value(header, f"{key}@units") or ""
            angles[index, position] = math.degrees(angle) if unit.strip().lower() in RADIANS else angle
    return angles


def _number(key: str, text: Any, address: Address) -> float:
    try:
        return float(text or "")
    except ValueError:
        raise InputError(
            f"series.angles: the header of {address} gives {text!r} for '{key}'; expected a number of "
            "degrees (xmist info lists what a header holds)",
            code="angle-missing",
        ) from None


def angle_findings(
    given: Any, folder: Path, table: FrameTable, angles: Angles, known: Angles | None
) -> list[Finding]:
    """Return what is odd about angles: their unit, and repeats of different angles."""
    return [*_unit_findings(given, folder, table, angles), *_repeat_findings(given, table, angles, known)]


def _repeat_findings(given: Any, table: FrameTable, angles: Angles, known: Angles | None) -> list[Finding]:
    """Return whether frames that are averaged were taken at different angles, as far as these are stated."""
    there = [index for index in range(table.count) if index not in table.missing][:1]
    if table.places.shape[2] == 1 or isinstance(given, Mapping) or not there:
        return []
    first = replace(table, places=table.places[there, :1].swapaxes(1, 2))  # repeats in the place of positions
    if known is None:
        found = header_angles(given, first)
    elif known.size == table.places[..., 0].size != table.count:
        found = stack_angles(known, table)[there, 0]
    else:
        return []
    values, spread = angles[np.isfinite(angles)], float(np.ptp(found))
    step = float(np.ptp(values)) / max(values.size - 1, 1) if values.size else 0.0
    if not spread > max(_OF_STEP * step, 1e-9):  # NaN where a header states none
        return []
    text = (
        f"{table.name}: the {found.size} frames that are averaged at a position were taken at angles from "
        f"{found.min():.6g} to {found.max():.6g} degrees; expected one angle: check repeats and the axes"
    )
    return [finding("repeats-differ", text)]


def _unit_findings(given: Any, folder: Path, table: FrameTable, angles: Angles) -> list[Finding]:
    """Return a finding if angles may be radians, because their unit is not stated or not known."""
    unit = _stated_unit(given, folder, table)
    if unit in RADIANS | _DEGREES:
        return []
    called = f"series.angles: the unit '{unit}' is not known" if unit else "series.angles has no unit"
    values = angles[np.isfinite(angles)]
    span = float(np.ptp(values)) if values.size > 2 else 0.0
    # A range that ends one step before the turn, or at the turn.
    spans = (span, span * values.size / (values.size - 1)) if span else ()
    turns = any(abs(each / turn - 1.0) < _NEAR for each in spans for turn in _TURNS)
    if not turns and not unit:
        return []
    may = ", as half a turn or a turn in radians would be" if turns else ""
    text = (
        f"{called}, and the angles are taken as degrees: {values.min():.6g} to {values.max():.6g}{may}; "
        "expected degrees"
    )
    return [finding("angles-unit", text)]


def _stated_unit(given: Any, folder: Path, table: FrameTable) -> str:
    """Return the unit of angles that a dataset or a header states, in lower case; empty if there is none."""
    given = next(iter(angle_files(given)), given)
    if not isinstance(given, str):
        return ""
    try:
        if names_file(given):
            name, dataset, key = split_address(given)
            path = Path(folder) / Path(name).expanduser()
            _, unit = _read_angles(Address(path, dataset, key, links=table.addresses[0].links))
        else:
            number, frame = next(place for place in table.places.reshape(-1, 2).tolist() if place[0] >= 0)
            with FrameReader(table) as reader:
                unit = find_value(reader.header(number, frame), f"{given}@units") or ""
    except (InputError, StopIteration):
        return ""
    return unit.strip().lower()
