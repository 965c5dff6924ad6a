"""What a benchmark is asked for, and what may be asked."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Final

from xmist.core.errors import shown, suggest
from xmist.evaluate.comparison.request import method_faults
from xmist.methods import METHODS
from xmist.simulate.phantoms import CASES

EXPOSURES: Final = (2, 10)
SIZE: Final = 256
SPEED_SIZES: Final = (512, 1024)
SEED: Final = 11  # methods were tuned on others

# Pixels, where a method has the option: unsmoothed, the equations of a pixel are nearly singular.
SMOOTHING: Final = 2.0


def request_faults(
    methods: Sequence[str],
    cases: Sequence[str],
    exposures: Sequence[int],
    size: int,
    speed_sizes: Sequence[int],
    repeats: int = 1,
) -> list[str]:
    """Return the errors of what `run_benchmark` is asked for."""
    faults = method_faults(methods)
    faults += [f"there is no phantom '{name}'; {suggest(name, CASES)}" for name in cases if name not in CASES]
    ranges: tuple[tuple[str, Sequence[Any], int, int], ...] = (
        ("exposures", exposures, 1, 100),
        ("size", (size,), 32, 8192),
        ("speed_sizes", speed_sizes, 32, 8192),
        ("repeats", (repeats,), 1, 100),
    )
    for name, given, low, high in ranges:
        faults += [
            f"{name} is {shown(n)}; expected a whole number from {low} to {high}"
            for n in given
            if isinstance(n, bool) or not isinstance(n, numbers.Integral) or not low <= int(n) <= high
        ]
    several: dict[str, Sequence[Any]] = {
        "cases": cases,
        "exposures": exposures,
        "speed_sizes": speed_sizes,
    }
    for name, given in several.items():
        faults += [
            f"{name} names {item} more than once; expected it once"
            for item in dict.fromkeys(given)
            if list(given).count(item) > 1
        ]
    if not exposures:
        faults.append("exposures is empty; expected one number at least")
    return faults


def method_options(method: str) -> dict[str, Any]:
    """Return the smoothing, where a method has it; window methods smooth by their window."""
    known = import_module(METHODS[method].module).OPTIONS.__dataclass_fields__
    return {"smoothing": SMOOTHING} if "smoothing" in known else {}
