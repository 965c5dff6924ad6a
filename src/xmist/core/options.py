"""One engine for the options of methods and preprocessing steps and for the tables of a configuration file.

A class of options is a frozen dataclass. The types of its fields state what is allowed:

    class BinOptions(Options):
        size: Annotated[int, Range(1, 1000, unit="pixels")] = 2
        method: Literal["mean", "sum"] = "mean"
        scale: Annotated[float | Literal["auto"], Range(0.0, above=True)] = "auto"
        saturation: Annotated[float, Range(0.0)] | None = None
        rows: Annotated[tuple[int, int], Parsed(as_span, "two whole numbers")] | None = None

All errors are collected at once. `describe` returns the fields for help texts and forms.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import numbers
import re
from collections.abc import Callable, Iterator, Mapping
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    ClassVar,
    Final,
    Literal,
    TypeVar,
    Union,
    dataclass_transform,
    get_origin,
    get_type_hints,
)
from typing import get_args as arguments

from xmist.core.errors import ErrorRecord, as_number, raise_errors, suggest, wrong_value

_NEEDED: Final = dataclasses.MISSING


@dataclasses.dataclass(frozen=True)
class Range:
    """Limits of a number, with its unit; `expected` replaces the sentence that is made from them."""

    low: float = -math.inf
    high: float = math.inf
    above: bool = False  # low itself is excluded
    odd: bool = False
    unit: str = ""
    expected: str = ""

    def __contains__(self, number: float) -> bool:
        inside = math.isfinite(number) and self.low <= number <= self.high
        return inside and not (self.above and number == self.low) and not (self.odd and number % 2 == 0)

    def words(self, whole: bool) -> str:
        """Return what is expected, such as "a number above 0 m"."""
        if self.expected:
            return self.expected
        kind = ("an odd whole number" if self.odd else "a whole number") if whole else "a number"
        low, high = math.isfinite(self.low), math.isfinite(self.high)
        if low and high and not self.above:
            kind += f" from {self.low:g} to {self.high:g}"
        elif low:
            kind += f" {'above' if self.above else 'of at least'} {self.low:g}"
            kind += f" and at most {self.high:g}" if high else ""
        return f"{kind} {self.unit}" if self.unit else kind


@dataclasses.dataclass(frozen=True)
class Parsed:
    """A value of any other kind: `parse` returns the value to keep, or raises ValueError.

    The text of the ValueError, if it has one, is the message; otherwise it is made from `expected`. `plain`
    returns the value as plain data for files.
    """

    parse: Callable[[Any], Any]
    expected: str
    plain: Callable[[Any], Any] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Option:
    """One field of a class of options, for checks, help texts and forms."""

    name: str
    kinds: tuple[type, ...]  # of bool, int, float, str
    words: tuple[str, ...]  # of a Literal
    optional: bool  # None is allowed
    range: Range
    parsed: Parsed | None
    default: Any
    about: str

    @property
    def required(self) -> bool:
        """Whether the option has no default."""
        return self.default is _NEEDED

    @property
    def expected(self) -> str:
        """What a value must be."""
        if self.parsed is not None:
            return self.parsed.expected
        parts = ["true or false"] if bool in self.kinds else []
        if int in self.kinds or float in self.kinds:
            parts.append(self.range.words(whole=float not in self.kinds))
        if str in self.kinds:
            parts.append(self.range.expected or "text")
        return " or ".join([*parts, *(f'"{word}"' for word in self.words)])

    def read(self, value: Any) -> Any:
        """Return the value to keep; raise ValueError, with or without a text, if it is not allowed."""
        if value is None and self.optional:
            return None
        if self.parsed is not None:
            return self.parsed.parse(value)
        if isinstance(value, bool) and bool in self.kinds:
            return value
        if isinstance(value, str) and (value in self.words or (str in self.kinds and value.strip())):
            return value
        number = as_number(value)
        if number is not None and number in self.range:
            if float in self.kinds:
                return number
            if int in self.kinds and isinstance(value, numbers.Integral):
                return int(value)
        raise ValueError


def _option_name(name: str) -> str:
    return f"option {name}"


@dataclass_transform(kw_only_default=True, frozen_default=True)
class Options:
    """Base of every class of options: makes it a frozen, keyword-only dataclass that checks its values."""

    _fields: ClassVar[tuple[Option, ...]]
    aliases: ClassVar[Mapping[str, str]] = {}  # names of options by other common ones, for suggestions

    def __init_subclass__(cls) -> None:
        dataclasses.dataclass(frozen=True, kw_only=True)(cls)

    def __post_init__(self) -> None:
        raise_errors(self._settle(_option_name))

    def _settle(self, called: Callable[[str], str], owner: str = "") -> list[ErrorRecord]:
        """Convert all values to the form in which they are kept, and return the errors."""
        errors, wrong = [], set()
        for option in describe(type(self)):
            kept = value = getattr(self, option.name)
            try:
                kept = None if value is _NEEDED else option.read(value)
            except ValueError as error:
                text = str(error) or wrong_value(value, option.expected)
                errors.append(ErrorRecord("option-invalid", f"{called(option.name)} {text}"))
                wrong.add(option.name)
                kept = None if option.required else option.default
            if value is _NEEDED:
                text = f"is missing; {owner} needs {option.expected}"
                errors.append(ErrorRecord("option-missing", f"{called(option.name)} {text}"))
                wrong.add(option.name)
            object.__setattr__(self, option.name, kept)
        errors += [
            ErrorRecord("option-conflict", f"{called(names[0])} {text}")
            for names, text in self.conflicts()
            if wrong.isdisjoint(names)
        ]
        return errors

    def conflicts(self) -> Iterator[tuple[tuple[str, ...], str]]:
        """Yield options that contradict each other, the wrong one first, and what is wrong with it."""
        yield from ()

    def plain(self) -> dict[str, Any]:
        """Return all options as plain data, for files."""
        values = {option.name: (option, getattr(self, option.name)) for option in describe(type(self))}
        return {
            name: option.parsed.plain(value)
            if option.parsed is not None and option.parsed.plain is not None and value is not None
            else value
            for name, (option, value) in values.items()
        }


Kind = TypeVar("Kind", bound=Options)


def read_options(
    kind: type[Kind],
    values: Mapping[str, Any],
    *,
    owner: str,
    called: Callable[[str], str] = _option_name,
) -> tuple[Kind, list[ErrorRecord]]:
    """Return options made from a mapping, and all errors: unknown, missing and invalid ones and conflicts.

    `owner` is what has the options ("mist", "step 'bin'", "table [input]"); `called` returns what a message
    calls an option ("option size", "preprocess[1].size", "--size"). With errors, an invalid option has its
    default, and a missing one is None.
    """
    options = {option.name: option for option in describe(kind)}
    errors = [
        ErrorRecord(
            "option-unknown",
            f"{called(name)} is not known to {owner}; {suggest(str(name), options, kind.aliases)}",
        )
        for name in values
        if name not in options
    ]
    made = object.__new__(kind)
    for name, option in options.items():
        object.__setattr__(made, name, values.get(name, option.default))
    return made, errors + made._settle(called, owner)


def describe(kind: type[Options]) -> tuple[Option, ...]:
    """Return the fields of a class of options, with texts from its docstring and those of its bases."""
    found = kind.__dict__.get("_fields")
    if found is None:
        hints = get_type_hints(kind, include_extras=True)
        texts: dict[str, str] = {}
        for base in reversed(kind.__mro__[:-1]):
            texts |= parameter_texts(inspect.cleandoc(base.__doc__ or ""))
        found = kind._fields = tuple(
            _option(item.name, hints[item.name], item.default, texts.get(item.name, ""))
            for item in dataclasses.fields(kind)  # type: ignore[arg-type]
        )
    return found


def _option(name: str, hint: Any, default: Any, about: str) -> Option:
    kinds: list[type] = []
    words: list[str] = []
    details: list[Any] = []

    def take(part: Any) -> None:
        origin = get_origin(part)
        if origin is Annotated:
            first, *rest = arguments(part)
            details.extend(rest)
            take(first)
        elif origin in (Union, UnionType):
            for member in arguments(part):
                take(member)
        elif origin is Literal:
            words.extend(arguments(part))
        else:
            kinds.append(part)

    take(hint)
    return Option(
        name=name,
        kinds=tuple(kind for kind in kinds if kind in (bool, int, float, str)),
        words=tuple(words),
        optional=NoneType in kinds,
        range=next((item for item in details if isinstance(item, Range)), Range()),
        parsed=next((item for item in details if isinstance(item, Parsed)), None),
        default=default,
        about=about,
    )


def parameter_texts(text: str) -> dict[str, str]:
    """Return the text about each parameter in the section "Parameters" of a docstring, on one line."""
    _, _, section = text.partition("Parameters\n----------\n")
    section = re.split(r"\n\w[^\n]*\n-{3,}\n", section)[0]
    found = re.findall(r"^(\w[\w, ]*) :[^\n]*\n((?:[ ]{4}[^\n]*\n?|\n)*)", section, re.MULTILINE)
    return {name: " ".join(body.split()) for names, body in found for name in re.split(r",\s*", names)}
