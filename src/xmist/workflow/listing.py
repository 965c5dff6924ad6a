"""List how each frame is used, by projection, position and repeat; and where angles come from."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from xmist.io.frames.addresses import names_file
from xmist.io.frames.sources import listed
from xmist.workflow.discovery import Discovery
from xmist.workflow.frames import FrameTable

_MOST: Final = 12  # positions that are listed one by one


def list_frames(found: Discovery) -> dict[str, list[dict[str, Any]]]:
    """Return rows of projection (or set), position, repeats, first and last frame, by role.

    Of a series the first, the second and the last projection are listed.
    """
    tables = {"reference": found.reference, "sample": found.sample}
    return {role: list(_rows(table, found)) for role, table in tables.items() if table is not None}


def _rows(table: FrameTable, found: Discovery) -> Iterator[dict[str, Any]]:
    outer = "projection" if table is found.sample else "set"
    first, last = (found.first, found.last) if outer == "projection" else (0, table.count)
    shown = sorted({first, min(first + 1, last - 1), last - 1}) if last > first else []
    for index in shown:
        for position in range(min(table.positions, _MOST)):
            places = table.places[index, position]
            places = places[places[:, 0] >= 0].tolist()
            row: dict[str, Any] = {
                outer: int(table.numbers[index]),
                "position": position,
                "repeats": len(places),
            }
            if places:
                row |= {"first": _name(table, *places[0]), "last": _name(table, *places[-1])}
            if index in table.missing:
                row["missing"] = table.missing[index]
            yield row


def _name(table: FrameTable, number: int, frame: int) -> str:
    """Name a frame by its file, and its number if the file holds several."""
    address = table.addresses[number]
    several = bool((table.places[..., 1][table.places[..., 0] == number] > 0).any())
    apart = sum(other.path == address.path for other in table.addresses) > 1
    path = address.path
    if sum(other.name == path.name for other in {each.path for each in table.addresses}) > 1:
        short = Path(os.path.relpath(path, table.folder)).as_posix()  # of several folders
    else:
        short = path.name
    name = str(address).replace(str(path), short) if apart else short
    return f"{name} frame {frame + 1}" if several else name


def angle_source(found: Discovery) -> str:
    """Return where the angles come from; empty where there are none."""
    given = found.parsed.series_section.angles
    if given is None or found.angles is None:
        return ""
    if isinstance(given, Mapping):
        return f"start {given['start']:g}, step {given['step']:g}"
    if isinstance(given, str):
        return given if names_file(given) else f"'{given}' in the headers"
    return listed(given, 2) if isinstance(given[0], str) else "listed in series.angles"


def describe_rows(rows: Mapping[str, list[dict[str, Any]]]) -> Iterator[str]:
    """Yield the table of `list_frames` as lines of text."""
    for role, found in rows.items():
        for row in found:
            outer = "projection" if "projection" in row else "set"
            frames = row.get("first", "no frame")
            if row["repeats"] > 1:
                last = row["last"].removeprefix(frames.rpartition(" frame ")[0]).strip()
                frames += f" to {last} ({row['repeats']} repeats)"
            lost = f"; left out: {row['missing']}" if "missing" in row else ""
            yield f"{role:14} {outer} {row[outer]}, position {row['position']}: {frames}{lost}"


def angle_range(found: Discovery) -> tuple[float, float] | None:
    """Return the first and the last angle that is known, in degrees."""
    angles = None if found.angles is None else found.angles[found.first : found.last]
    known = None if angles is None else angles[np.isfinite(angles)]
    return None if known is None or not known.size else (float(known[0]), float(known[-1]))
