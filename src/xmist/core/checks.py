"""Checks of arguments, whose errors are collected and raised together."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmist.core.arrays import as_array
from xmist.core.errors import ErrorRecord, as_number, raise_errors, shown, wrong_value


class Checks:
    """Collect the errors of arguments; `done` raises them.

    >>> check = Checks()
    >>> check.number("photons", 0, low=0, strict=True)
    nan
    >>> check.errors[0].message
    'photons is 0; expected a number above 0'
    """

    def __init__(self) -> None:
        self.errors: list[ErrorRecord] = []

    def add(self, message: str, code: str = "value-invalid") -> None:
        """Add an error."""
        self.errors.append(ErrorRecord(code, message))

    def done(self) -> None:
        """Raise one `InputError` with all errors; do nothing when there are none."""
        raise_errors(self.errors)

    def array(self, name: str, given: Any, expected: str) -> NDArray[Any] | None:
        """Return an array, or None with an error; what it holds is not checked."""
        wrong: list[Any] = []
        found = as_array(name, given, expected, wrong)
        for message in wrong:
            self.add(str(message))
        return found

    def number(
        self,
        name: str,
        value: Any,
        *,
        unit: str = "",
        low: float = -math.inf,
        high: float = math.inf,
        strict: bool = False,
        advice: str = "",
    ) -> float:
        """Return a number as a float, or NaN with an error; `strict` excludes `low` itself."""
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
            self.add(f"{name} {wrong_value(value, expected)}")
            return math.nan
        if not (math.isfinite(number) and low <= number <= high) or (strict and number == low):
            self.add(f"{name} is {number:g}{unit}; expected {expected}")
            return math.nan
        return number

    def count(self, name: str, value: Any, *, low: int = 1, high: int | None = None) -> int:
        """Return a whole number within limits, or `low` with an error."""
        whole = not isinstance(value, bool) and isinstance(value, numbers.Integral)
        if not whole or value < low or (high is not None and value > high):
            limits = f"of at least {low}" if high is None else f"from {low} to {high}"
            self.add(f"{name} is {shown(value)}; expected a whole number {limits}")
            return low
        return int(value)

    def shape(self, shape: Any, *, low: int = 1) -> tuple[int, int]:
        """Return a size (y, x), or `low` along an axis with an error."""
        if not isinstance(shape, Sequence | np.ndarray) or isinstance(shape, str) or len(shape) != 2:
            self.add(f"shape is {shown(shape)}; expected two whole numbers, along y and x")
            return low, low
        y, x = (self.count(f"shape along {axis}", n, low=low) for axis, n in zip("yx", shape, strict=True))
        return y, x
