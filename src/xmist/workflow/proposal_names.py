"""Find projections and positions by the numbers in the names of files, to propose a series."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from xmist.io.frames.positions import find_value
from xmist.io.frames.series import FrameSeries
from xmist.workflow.placement import match_files

# Header values that are angles of the rotation stage.
_ANGLES: Final = ("rotation_angle", "omega", "theta", "rot", "angle")
# The numbers in names make a series if at least this part of their combinations is there.
_FULL: Final = 0.5
# So many numbers after that of a position may be repeats.
_MOST_REPEATS: Final = 10


@dataclass(frozen=True, kw_only=True)
class NamedSeries:
    """Names with braces; `reference` is empty if it needs none, `angles` if no header states them."""

    reference: str
    sample: str
    positions: int
    projections: int
    angles: str


@dataclass(frozen=True)
class _Template:
    """Names that differ only in digits: text and digits alternate; the columns of digits that differ."""

    parts: tuple[str, ...]
    columns: dict[int, tuple[int, ...]]

    def named(self, places: dict[int, str]) -> str:
        """Return the name with braces in the place of columns."""
        return "".join(f"{{{places[n]}}}" if n in places else part for n, part in enumerate(self.parts))


def name_series(reference: FrameSeries, sample: FrameSeries, base: Path) -> NamedSeries | None:
    """Return the names of a series whose files are numbered; None where they leave it open."""
    ours, theirs = _template(reference, base), _template(sample, base)
    if theirs is None or not theirs.columns:
        return None
    counts = {source.count for source in sample.sources}
    if len(counts) > 1:
        return None
    each = counts.pop()
    stacks = each > 1
    found = _stacks(reference, sample, theirs, each) if stacks else _frames(reference, sample, ours, theirs)
    if found is None:
        return None
    names, positions, projections = found
    one = ours.named(names[0]) if ours is not None and names[0] else None
    for name, series in ((one, reference), (theirs.named(names[1]), sample)):
        if name is not None and len(match_files(name, base)) != len(series.sources):
            return None
    return NamedSeries(
        reference=one or "",
        sample=theirs.named(names[1]),
        positions=positions,
        projections=projections,
        angles=_angle_key(sample),
    )


Names = tuple[dict[int, str], dict[int, str]]


def _frames(
    reference: FrameSeries, sample: FrameSeries, ours: _Template | None, theirs: _Template
) -> tuple[Names, int, int] | None:
    """Place a frame for each file: a column counts projections, one positions as those of the references."""
    if ours is None or len(theirs.columns) != 2 or len(ours.columns) not in (1, 2):
        return None
    if any(source.count > 1 for source in reference.sources) or len(reference) == len(sample):
        return None
    columns = {n: {*numbers} for n, numbers in theirs.columns.items()}
    last = max(columns)
    mine = next(iter(ours.columns))
    positions = {*ours.columns[mine]}
    place = next((n for n in sorted(columns, reverse=True) if columns[n] == positions), None)
    if place is None or len(positions) < 2 or (len(ours.columns) == 2 and place != last):
        return None
    other = next(n for n in columns if n != place)
    projections = len(columns[other])
    if len(sample.sources) < _FULL * projections * len(positions) or projections < 2:
        return None
    if place != last and projections <= _MOST_REPEATS:
        return None
    repeats = {n: "repeat" for n in ours.columns if n != mine}
    return (
        ({mine: "position", **repeats}, {other: "projection", place: "position"}),
        len(positions),
        projections,
    )


def _stacks(
    reference: FrameSeries, sample: FrameSeries, theirs: _Template, each: int
) -> tuple[Names, int, int] | None:
    """Place stacks: one for each projection, with as many frames as there are references, or a position."""
    if len(theirs.columns) != 1:
        return None
    column = next(iter(theirs.columns))
    files, positions = len(sample.sources), len(reference)
    if positions < 2 or (each == positions) == (files == positions):
        return None
    if each == positions:
        return ({}, {column: "projection"}), positions, files
    return ({}, {column: "position"}), positions, each


def _template(series: FrameSeries, base: Path) -> _Template | None:
    """Return what the names of files have in common; None if they differ in more than digits."""
    names = []
    for source in series.sources:
        name = Path(os.path.relpath(source.path, base)).as_posix()
        names.append(re.split("([0-9]+)", name + source.label.removeprefix(str(source.path))))
    texts = {tuple(parts[::2]) for parts in names}
    if len(texts) > 1 or any("{" in part or "[" in part for part in names[0]):
        return None
    numbers = {n: tuple(int(parts[n]) for parts in names) for n in range(1, len(names[0]), 2)}
    return _Template(tuple(names[0]), {n: found for n, found in numbers.items() if len({*found}) > 1})


def _angle_key(sample: FrameSeries) -> str:
    """Return the key of the headers that states the angle of each projection; empty if there is none."""
    headers = [sample.header(0), sample.header(len(sample) - 1)]
    for key in _ANGLES:
        values = [find_value(header, key) for header in headers]
        if None not in values and values[0] != values[1] and all(map(_is_number, values)):
            return key
    return ""


def _is_number(text: str | None) -> bool:
    try:
        float(text or "")
    except ValueError:
        return False
    return True


def series_lines(named: NamedSeries) -> Sequence[str]:
    """Return the table [series] of a proposed configuration."""
    if named.angles:
        return ["[series]", f'angles = "{named.angles}"  # a value of the headers', ""]
    return [
        "[series]",
        "# Angles in degrees, if the sample was rotated: a list, a dataset, or a file with one on each line:",
        "# angles = {start = 0.0, step = 0.5}",
        "",
    ]
