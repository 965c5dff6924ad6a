"""Kinds of options that several methods have, so that a name means the same in all of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from xmist.core import options as engine
from xmist.core.errors import as_number, raise_errors, shown

# Gaussian σ that the normal equations are smoothed with.
Smoothing = Annotated[float, engine.Range(0.0, 1000.0, unit="pixels")]
# Tikhonov term, relative to the mean diagonal of the normal matrix in pixel units.
Ridge = Annotated[float | Literal["auto"], engine.Range(0.0)]
# Length in the sample's plane beyond which the phase is damped.
CutoffLength = Annotated[float | Literal["auto"], engine.Range(0.0, above=True, unit="m")]
# γ = δ/β of the sample's single material.
DeltaOverBeta = Annotated[
    float,
    engine.Range(0.0, 1e9, above=True, expected="the ratio δ/β of the sample's material, a number above 0"),
]
Integrator = Literal["dct", "southwell"]

# What a message says of both.
TIED_PHASE = (
    "is given with delta_over_beta; expected one of them at most, because with delta_over_beta the phase is "
    "(γ/2) ln T and no Laplacian is inverted"
)


@dataclass(frozen=True)
class Range:
    """Numbers that an option may be.

    Parameters
    ----------
    name : str
        Name of the option.
    unit : str
        Its unit; empty for a pure number.
    low : float
        Least value.
    high : float
        Greatest value.
    strict : bool
        Whether `low` itself is excluded.
    optional : bool
        Whether None is a value.
    """

    name: str
    unit: str = ""
    low: float = 0.0
    high: float = math.inf
    strict: bool = False
    optional: bool = False


def check_options(
    options: Any,
    ranges: Iterable[Range],
    switches: Iterable[str] = (),
    choices: Mapping[str, Sequence[str | None]] | None = None,
    exclusions: Iterable[tuple[bool, str]] = (),
) -> None:
    """Check the values of a frozen options object and make its numbers floats.

    Parameters
    ----------
    options : dataclass instance
        Options.
    ranges : iterable of Range
        What its numbers may be.
    switches : iterable of str
        Names of its booleans.
    choices : mapping of str to sequence of str, optional
        Names of its words, each with those that it may be, None among them if it may be left out.
    exclusions : iterable of (bool, str)
        Whether options contradict each other, and the sentence that says so.

    Raises
    ------
    InputError
        Lists every value that is out of range or of the wrong kind, and every contradiction.
    """
    faults = []
    for item in ranges:
        value = getattr(options, item.name)
        if value is None and item.optional:
            continue
        unit = f" {item.unit}" if item.unit else ""
        bound = f"{'above' if item.strict else 'at least'} {item.low:g}"
        if math.isfinite(item.high):
            bound += f" and at most {item.high:g}"
        expected = f"expected a number {bound}{unit}" + (" or None" if item.optional else "")
        number = as_number(value)
        if number is None:
            faults.append(f"option {item.name} is {shown(value)}; {expected}")
            continue
        inside = math.isfinite(number) and item.low <= number <= item.high
        if not inside or (item.strict and number == item.low):
            faults.append(f"option {item.name} is {number:g}{unit}; {expected}")
        else:
            object.__setattr__(options, item.name, number)
    for name in switches:
        value = getattr(options, name)
        if not isinstance(value, bool):
            faults.append(f"option {name} is {shown(value)}; expected true or false")
    for name, words in (choices or {}).items():
        value = getattr(options, name)
        if not isinstance(value, (str, type(None))) or value not in words:
            faults.append(f"option {name} is {shown(value)}; expected {' or '.join(map(repr, words))}")
    faults += [sentence for contradict, sentence in exclusions if contradict]
    raise_errors(faults)
