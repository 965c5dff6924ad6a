"""Positions of the diffuser in headers, and when two of them are the same."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Final

from xmist.core.errors import ErrorRecord, InputError, suggest
from xmist.io.frames.sources import Source, listed

# Coordinates of the diffuser, one for each key: numbers where the header gives numbers, else its text.
Position = tuple[float | str, ...]

# Positions are read from motors, and so carry noise: they are equal within this part of the range that they
# span, ...
_OF_SPAN: Final = 1e-3
# ... or this part of their size, if that is more: no encoder resolves less.
_OF_SIZE: Final = 1e-6

# A coordinate that spans less than this part of what another spans only scatters around its place.
_SCATTER: Final = 0.01

# Names under which headers state the position of the diffuser.
_DIFFUSER_KEY: Final = re.compile(
    r"(mask|membrane|diffuser|sandpaper|speckle)[ _.-]?(motor[ _.-]?)?"
    r"(x|y|z|pos|position|[xyz][ _.-]?pos(ition)?)",
    re.IGNORECASE,
)


def find_value(header: Mapping[str, str], key: str) -> str | None:
    """Look a value up in a header: by its name, or by the end of its path in an HDF5 file."""
    if key in header:
        return header[key]
    wanted = key.lower()
    same = {value for name, value in header.items() if name.lower() == wanted}
    if not same:
        ending = "/" + wanted.lstrip("/")
        same = {value for name, value in header.items() if name.lower().endswith(ending)}
    return same.pop() if len(same) == 1 else None


def position_in(header: Mapping[str, str], keys: Sequence[str], label: str) -> Position:
    """Return a frame's position by the keys that the user named."""
    values = {key: find_value(header, key) for key in keys}
    lacking = [key for key, value in values.items() if value is None]
    if lacking:
        raise InputError(
            f"position_key {listed([repr(key) for key in lacking])} is not in the header of {label}; see "
            "xmist info for what it states",
            code="positions-missing",
        )
    return tuple(_number_or_text(value or "") for value in values.values())


def asked_positions(
    sources: Sequence[Source], keys: Sequence[str], errors: list[ErrorRecord]
) -> tuple[Position, ...] | None:
    """Return every frame's position by the keys that the user named."""
    positions: list[Position] = []
    missing: dict[str, list[str]] = {}
    for source in sources:
        for index in range(source.count):
            values = [find_value(source.header(index), key) for key in keys]
            for key, value in zip(keys, values, strict=True):
                if value is None:
                    missing.setdefault(key, []).append(source.label)
            positions.append(tuple(_number_or_text(value or "") for value in values))
    for key, labels in missing.items():
        known = sources[0].header(0)
        hint = suggest(key, known) if 0 < len(known) <= 40 else "see xmist info for what they state"
        text = f"position_key '{key}' is not in the header of {listed(list(dict.fromkeys(labels)))}; {hint}"
        errors.append(ErrorRecord("positions-missing", text))
    return None if missing else tuple(positions)


def found_positions(sources: Sequence[Source]) -> tuple[list[str], tuple[Position, ...] | None]:
    """Find numbers in all headers whose names are those of a diffuser's position."""
    keys = [key for key in sources[0].header(0) if _is_diffuser_key(key)]
    positions = []
    for source in sources:
        for index in range(source.count):
            header = source.header(index)
            position = tuple(_number_or_text(header.get(key, "")) for key in keys)
            if not position or any(isinstance(value, str) for value in position):
                return [], None
            positions.append(position)
    return keys, tuple(positions)


def position_scale(positions: Sequence[Position]) -> tuple[float, ...]:
    """Return for each coordinate the largest difference of two values that count as equal.

    A coordinate that varies a little while another one moves is ignored: all its values are equal.
    """
    scales = []
    spans = []
    for values in zip(*positions, strict=True):
        numbers = [value for value in values if isinstance(value, float)]
        span = max(numbers, default=0.0) - min(numbers, default=0.0)
        size = max((abs(number) for number in numbers), default=0.0)
        scales.append(max(_OF_SPAN * span, _OF_SIZE * size))
        spans.append(span if len(numbers) == len(values) else math.inf)
    moved = max((span for span in spans if math.isfinite(span)), default=0.0)
    return tuple(
        math.inf if span < _SCATTER * moved else scale for span, scale in zip(spans, scales, strict=True)
    )


def same_position(one: Position, other: Position, scale: Sequence[float]) -> bool:
    """Return whether two positions are the same within what `position_scale` gives."""
    return all(
        abs(a - b) <= width if isinstance(a, float) and isinstance(b, float) else a == b
        for a, b, width in zip(one, other, scale, strict=True)
    )


def find_alike(position: Position, others: Sequence[Position], scale: Sequence[float]) -> list[int]:
    """Return the indices of the positions that equal one position."""
    return [place for place, other in enumerate(others) if same_position(position, other, scale)]


def group_alike(positions: Sequence[Position], scale: Sequence[float]) -> list[list[int]]:
    """Return groups of indices of equal positions, in the order of the first of each."""
    groups: list[list[int]] = []
    for place, position in enumerate(positions):
        found = find_alike(position, [positions[group[0]] for group in groups], scale)
        if found:
            groups[found[0]].append(place)
        else:
            groups.append([place])
    return groups


def format_position(keys: Sequence[str], position: Position) -> str:
    """Write a position for a message."""
    return ", ".join(
        f"{key} = {value:g}" if isinstance(value, float) else f"{key} = {value}"
        for key, value in zip(keys, position, strict=True)
    )


def _is_diffuser_key(key: str) -> bool:
    """Return whether a name (`mask_x`) or path (`/entry/mask/x/value`) is a position of the diffuser."""
    parts = key.removesuffix("/value").split("/")
    return bool(_DIFFUSER_KEY.fullmatch(parts[-1]) or _DIFFUSER_KEY.fullmatch("_".join(parts[-2:])))


def _number_or_text(text: str) -> float | str:
    try:
        number = float(text)
    except ValueError:
        return text.strip()
    return number if math.isfinite(number) else text.strip()
