"""The beam during a frame, as headers state it: a monitor or the ring current, and the exposure time."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from xmist.io.frames.positions import find_value

# Names of a value in proportion to the beam, the best first; `data` is that of a NeXus monitor.
_MONITORS: Final = (
    re.compile(r"ring_?current|sr_?cur(rent)?|machine_?current|beam_?current", re.IGNORECASE),
    re.compile(r"i_?0|i0_?(counts|monitor)|monitor|ic_?0", re.IGNORECASE),
    re.compile(r"current", re.IGNORECASE),
)
# Names of exposure times, the best first; `sec` is a counter of SPEC.
_TIMES: Final = (
    re.compile(r"count_?time|(exp(osure)?|acquire|acq_?expo)_?time", re.IGNORECASE),
    re.compile(r"integration_?time|sec", re.IGNORECASE),
)
_CONTROL: Final = re.compile(r".*/control/(data|integral)", re.IGNORECASE)
_SECONDS: Final[Mapping[str, float]] = {
    "": 1.0,
    "s": 1.0,
    "sec": 1.0,
    "second": 1.0,
    "seconds": 1.0,
    "ms": 1e-3,
    "msec": 1e-3,
    "millisecond": 1e-3,
    "milliseconds": 1e-3,
    "us": 1e-6,
    "µs": 1e-6,
    "min": 60.0,
    "minutes": 60.0,
}
_MILLI: Final[Mapping[str, float]] = {"a": 1e3, "ma": 1.0, "ampere": 1e3, "milliampere": 1.0}
_NUMBER: Final = re.compile(
    r"\s*([-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?)\s*_?\s*([^\s\d]*)\s*"
)


@dataclass(frozen=True)
class Beam:
    """The beam during a frame: value and key of a monitor, and exposure time in s; NaN if not stated.

    A `rate` such as the ring current does not count the exposure time, an integrating monitor does.
    """

    monitor: float = math.nan
    key: str = ""
    seconds: float = math.nan
    rate: bool = False


def beam_in(header: Mapping[str, str], monitor: str | None = None) -> Beam:
    """Return the beam that a header states; `monitor` is the key of the monitor, if it is given."""
    key = _monitor_key(header) if monitor is None else monitor
    value, rate = math.nan, False
    if key:
        unit = find_value(header, f"{key}@units") or ""
        value = _number(find_value(header, key), unit, _MILLI)
        named = any(names.fullmatch(_last(key)) for names in (_MONITORS[0], _MONITORS[2]))
        rate = named or unit.strip().lower() in _MILLI
    seconds = math.nan
    for name in _times(header):
        seconds = _number(header[name], header.get(f"{name}@units"), _SECONDS)
        if math.isfinite(seconds):
            break
    return Beam(value, key or "", seconds, rate)


def _last(name: str) -> str:
    return name.removesuffix("/value").rpartition("/")[2].replace(" ", "_").replace("-", "_")


def _monitor_key(header: Mapping[str, str]) -> str:
    """Return the key of the value that is most likely in proportion to the beam; empty if there is none."""
    return next(_monitor_keys(header), "")


def _monitor_keys(header: Mapping[str, str]) -> Iterator[str]:
    groups = [
        name.removesuffix("@NX_class")
        for name, kind in header.items()
        if kind == "NXmonitor" and name.endswith("@NX_class")
    ]
    # NXtomo calls it control.
    for group in sorted(groups, key=lambda name: not name.endswith("/control")):
        yield from (f"{group}/{name}" for name in ("data", "integral") if f"{group}/{name}" in header)
    yield from filter(_CONTROL.fullmatch, header)  # its class is not always stated
    for names in _MONITORS:
        for name in header:
            if "@" not in name and names.fullmatch(_last(name)):
                yield name


def _times(header: Mapping[str, str]) -> Iterator[str]:
    for names in _TIMES:
        yield from (name for name in header if "@" not in name and names.fullmatch(_last(name)))


def _number(text: str | None, unit: str | None, units: Mapping[str, float]) -> float:
    """Return a number, in the unit whose factor is 1 where units are known; NaN if it is none."""
    match = _NUMBER.fullmatch(text or "")
    if match is None:
        return math.nan
    value = float(match.group(1)) * units.get((match.group(2) or unit or "").strip().lower(), 1.0)
    return value if math.isfinite(value) else math.nan
