"""Checks of numbers that the parts of a simulation share."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np

from xmist.core.errors import as_number, shown


def check_number(
    name: str,
    value: Any,
    faults: list[str],
    *,
    unit: str = "",
    low: float = -math.inf,
    high: float = math.inf,
    strict: bool = False,
    advice: str = "",
) -> float:
    """Return a number as a float, or NaN with a fault that says what would be right."""
    unit = f" {unit}" if unit else ""
    bounds = []
    if math.isfinite(low):
        bounds.append(f"{'above' if strict else 'of at least'} {low:g}")
    if math.isfinite(high):
        bounds.append(f"at most {high:g}")
    if bounds:
        expected = f"a number {' and '.join(bounds)}{unit}"
    else:
        expected = f"a finite number{' in' if unit else ''}{unit}"
    if advice:
        expected += f": {advice}"
    number = as_number(value)
    if number is None:
        faults.append(f"{name} is {shown(value)}; expected {expected}")
        return math.nan
    if not (math.isfinite(number) and low <= number <= high) or (strict and number == low):
        faults.append(f"{name} is {number:g}{unit}; expected {expected}")
        return math.nan
    return number


def check_count(name: str, value: Any, faults: list[str], *, low: int = 1) -> int:
    """Return a whole number of at least `low`, or `low` with a fault."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < low:
        faults.append(f"{name} is {shown(value)}; expected a whole number of at least {low}")
        return low
    return int(value)


def check_shape(shape: Any, faults: list[str], *, low: int = 1) -> tuple[int, int]:
    """Return a size (y, x), or `low` along an axis with a fault."""
    if not isinstance(shape, Sequence | np.ndarray) or isinstance(shape, str) or len(shape) != 2:
        faults.append(f"shape is {shown(shape)}; expected two whole numbers, along y and x")
        return low, low
    y, x = (
        check_count(f"shape along {axis}", n, faults, low=low) for axis, n in zip("yx", shape, strict=True)
    )
    return y, x
