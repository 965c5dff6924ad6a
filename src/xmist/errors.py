"""Errors that name what was found and what would be right."""

from __future__ import annotations

import difflib
import math
import numbers
from collections.abc import Iterable, Sequence
from typing import Any, Final

_SHOWN_CHARACTERS: Final = 60


class XmistError(Exception):
    """Anything that xmist itself reports as having gone wrong."""


class InputError(XmistError, ValueError):
    """The input cannot be used; every fault that was found is listed.

    Parameters
    ----------
    faults : sequence of str
        One sentence a fault: where it is, what was found, what would be right.

    Examples
    --------
    >>> raise InputError(["energy_kev is -17.0; expected a positive energy in keV"])
    Traceback (most recent call last):
    ...
    xmist.errors.InputError: energy_kev is -17.0; expected a positive energy in keV
    """

    def __init__(self, faults: Sequence[str] | str) -> None:
        self.faults: tuple[str, ...] = (faults,) if isinstance(faults, str) else tuple(faults)
        lines = self.faults
        text = lines[0] if len(lines) == 1 else "\n".join(f"- {line}" for line in lines)
        super().__init__(text)


class OutputError(XmistError, OSError):
    """The result could not be written; the message says what was kept and where."""


def raise_faults(faults: Sequence[str]) -> None:
    """Raise one `InputError` that lists `faults`; do nothing when there are none."""
    if faults:
        raise InputError(faults)


def suggest(name: str, known: Iterable[str]) -> str:
    """Give the sentence part that helps with an unknown name.

    Parameters
    ----------
    name : str
        What was found.
    known : iterable of str
        What would be right.

    Examples
    --------
    >>> suggest("smoothin", ["smoothing", "ridge"])
    "did you mean 'smoothing'? Known: ridge, smoothing"
    >>> suggest("MIST", ["mist", "umpa"])
    "did you mean 'mist'? Known: mist, umpa"
    """
    known = sorted(known)
    by_letters = {item.lower(): item for item in known}
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    near = near or [by_letters[item] for item in difflib.get_close_matches(name.lower(), by_letters, n=1)]
    hint = f"did you mean '{near[0]}'? " if near else ""
    return f"{hint}Known: {', '.join(known) or 'none'}"


def shown(value: Any) -> str:
    """Give a value as a message shows it: on one line, cut if it is long.

    Parameters
    ----------
    value : object
        What was found.

    Examples
    --------
    >>> shown("17 keV")
    "'17 keV'"
    """
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # Python writes no whole number of more than some thousand digits
        text = f"{type(value).__name__} too long to be shown"
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 1]}…"


def as_number(value: Any) -> float | None:
    """Give a real number as a float, infinite if it is beyond every float; None if it is no number.

    Parameters
    ----------
    value : object
        What was given; true and false are no numbers.

    Examples
    --------
    >>> as_number(2), as_number(10**400), as_number("2"), as_number(True)
    (2.0, inf, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return None
    try:
        return float(value)
    except OverflowError:
        return -math.inf if value < 0 else math.inf
