"""Checks of the options of steps."""

from __future__ import annotations

import numbers
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from xmist.core.errors import InputError, raise_errors, shown
from xmist.methods.common.options import Range, check_options
from xmist.preprocess.frames import check_span


@dataclass(frozen=True)
class Whole:
    """Whole numbers that an option may be, from `low` to `high`."""

    name: str
    low: int
    high: int
    odd: bool = False


def check(options: Any, *, ranges: Iterable[Range] = (), wholes: Iterable[Whole] = ()) -> None:
    """Check numbers, whole numbers and the ranges called rows and columns of an options object."""
    errors: list[str] = []
    try:
        check_options(options, ranges)
    except InputError as error:
        errors.extend(error.faults)
    for item in wholes:
        value = getattr(options, item.name)
        right = isinstance(value, numbers.Integral) and not isinstance(value, bool)
        if not right or not item.low <= value <= item.high or (item.odd and value % 2 == 0):
            kind = "an odd whole number" if item.odd else "a whole number"
            errors.append(
                f"option {item.name} is {shown(value)}; expected {kind} from {item.low} to {item.high} "
                "(pixels)"
            )
    for name in ("rows", "columns"):
        span = getattr(options, name, None)
        if span is None:
            continue
        message = check_span(f"option {name}", span)
        if message:
            errors.append(message)
        else:
            object.__setattr__(options, name, (int(span[0]), int(span[1])))
    raise_errors(errors)
