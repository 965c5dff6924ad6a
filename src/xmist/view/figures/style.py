"""Check limits, colour maps, units and crop of a figure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.core.arrays import Image
from xmist.core.checks import Checks
from xmist.core.data import Retrieval, channel_of
from xmist.core.errors import raise_errors, shown, suggest
from xmist.core.flags import FILLED, MASKED, UNDETERMINED
from xmist.view.figures.panels import PREFIXES, Panel, Scale, scale_of

DIRECTION: Final = "direction"  # the image of a tensor's directions, as a channel of a figure
Limits = tuple[float, float]
Box = tuple[slice, slice]

_LEAST: Final = 0.05  # of the fullest row: with less a row or column is no part of the valid area


@dataclass(frozen=True)
class Cropped:
    """A part of a tensor image, (3, y, x), with its flags (y, x)."""

    dark_field_tensor: Image
    flags: NDArray[np.uint16]


@dataclass(frozen=True)
class Style:
    """How the panels of a figure are drawn, by channel."""

    limits: Mapping[str, Limits] = field(default_factory=dict)
    cmap: Mapping[str, str] = field(default_factory=dict)
    power: Mapping[str, int] = field(default_factory=dict)
    box: Box | None = None

    def panel(self, panel: Panel) -> Panel:
        """Return a panel with the colours and the unit that were asked for."""
        return replace(panel, cmap=self.cmap.get(panel.name, ""), power=self.power.get(panel.name))

    def scales(self, panels: Sequence[Panel]) -> dict[str, Scale]:
        """Return the scales of the panels whose limits are given."""
        return {
            panel.scale: scale_of(*self.limits[panel.name], panel)
            for panel in panels
            if panel.name in self.limits
        }


def read_style(
    channels: Sequence[str], result: Retrieval, *, limits: Any, cmap: Any, crop: Any, units: Any
) -> Style:
    """Check the arguments; InputError lists everything that is not possible."""
    check = Checks()
    style = Style(
        limits={name: _limits(pair, check) for name, pair in _by_channel("limits", limits, channels, check)},
        cmap={name: _cmap(value, check) for name, value in _by_channel("cmap", cmap, channels, check)},
        power={
            name: _power(name, unit, check) for name, unit in _by_channel("units", units, channels, check)
        },
        box=_box(crop, result.shape, check),
    )
    raise_errors(list(dict.fromkeys(check.errors)))  # one value can be meant for several channels
    return style


def valid_box(result: Retrieval) -> Box:
    """Return the rows and columns that frames determine; all where there are none."""
    first = next(array for _, array in result.channels())
    known = np.isfinite(first if first.ndim == 2 else first[0])
    known &= (result.flags & (MASKED | UNDETERMINED | FILLED)) == 0
    parts = []
    for axis in (1, 0):
        counts = known.sum(axis=axis)
        inside = np.flatnonzero(counts > _LEAST * counts.max())
        parts.append(slice(int(inside[0]), int(inside[-1]) + 1) if inside.size else slice(None))
    return parts[0], parts[1]


def _by_channel(name: str, given: Any, channels: Sequence[str], check: Checks) -> list[tuple[str, Any]]:
    """Return the given value for each channel of the figure."""
    if given is None:
        return []
    if not isinstance(given, Mapping):
        return [(channel, given) for channel in channels]
    for channel in given:
        if channel not in channels:
            check.add(f"{name} names '{channel}', which is not drawn; {suggest(str(channel), channels)}")
    return [(channel, value) for channel, value in given.items() if channel in channels]


def _limits(given: Any, check: Checks) -> Limits:
    try:
        low, high = (float(limit) for limit in given)
    except (TypeError, ValueError):
        low = high = math.nan
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        check.add(f"limits are {shown(given)}; expected two numbers, the lower one first")
        return 0.0, 1.0
    return low, high


def _cmap(given: Any, check: Checks) -> str:
    from matplotlib import colormaps

    if not isinstance(given, str) or given not in colormaps:
        near = get_close_matches(str(given), list(colormaps), 3) or ["gray", "viridis", "inferno"]
        check.add(f"cmap is {shown(given)}; expected a colour map, such as {', '.join(near)}")
        return ""
    return given


def _power(name: str, given: Any, check: Checks) -> int:
    unit = "m" if name == DIRECTION else channel_of(name).unit
    units = (
        {f"{prefix}{unit}": power for power, prefix in PREFIXES.items()}
        if unit in ("m", "rad")
        else {unit: 0}
    )
    written = str(given).replace("u", "µ", 1) if str(given).startswith("u") else given
    if written not in units:
        check.add(f"units of {name} is {shown(given)}; expected one of {', '.join(units)}")
        return 0
    return units[written]


def _box(crop: Any, shape: tuple[int, int], check: Checks) -> Box | None:
    if isinstance(crop, str) and crop in ("valid", "whole"):
        return None
    try:
        y0, y1, x0, x1 = (int(edge) for edge in crop)
    except (TypeError, ValueError):
        y0 = y1 = x0 = x1 = -1
    if not (0 <= y0 < y1 <= shape[0] and 0 <= x0 < x1 <= shape[1]):
        check.add(
            f'crop is {shown(crop)}; expected "valid", "whole" or Y0, Y1, X0, X1 within {shape[0]} rows and '
            f"{shape[1]} columns"
        )
        return None
    return slice(y0, y1), slice(x0, x1)
