"""The options of the steps, by name and range."""

from __future__ import annotations

import numbers
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from xmist.core.errors import InputError, raise_errors, shown
from xmist.methods.common.options import Range, check_options
from xmist.preprocess.frames import Span, check_span


@dataclass(frozen=True)
class Whole:
    """Whole numbers that an option may be.

    Parameters
    ----------
    name : str
        Name of the option.
    low : int
        Least value.
    high : int
        Greatest value.
    odd : bool
        Whether it must be odd.
    """

    name: str
    low: int
    high: int
    odd: bool = False


def _check(options: Any, *, ranges: Iterable[Range] = (), wholes: Iterable[Whole] = ()) -> None:
    """Check numbers, whole numbers and the ranges called rows and columns of an options object."""
    faults: list[str] = []
    try:
        check_options(options, ranges)
    except InputError as error:
        faults.extend(error.faults)
    for item in wholes:
        value = getattr(options, item.name)
        right = isinstance(value, numbers.Integral) and not isinstance(value, bool)
        if not right or not item.low <= value <= item.high or (item.odd and value % 2 == 0):
            kind = "an odd whole number" if item.odd else "a whole number"
            faults.append(
                f"option {item.name} is {shown(value)}; expected {kind} from {item.low} to {item.high} "
                "(pixels)"
            )
    for name in ("rows", "columns"):
        span = getattr(options, name, None)
        if span is None:
            continue
        fault = check_span(f"option {name}", span)
        if fault:
            faults.append(fault)
        else:
            object.__setattr__(options, name, (int(span[0]), int(span[1])))
    raise_errors(faults)


@dataclass(frozen=True, kw_only=True)
class DarkOptions:
    """Options of `dark`: none.

    Examples
    --------
    >>> DarkOptions()
    DarkOptions()
    """


@dataclass(frozen=True, kw_only=True)
class FlatOptions:
    """Options of `flat`: none.

    Examples
    --------
    >>> FlatOptions()
    FlatOptions()
    """


@dataclass(frozen=True, kw_only=True)
class BadPixelsOptions:
    """Options of `bad-pixels`; see `xmist.preprocess.find_bad_pixels`.

    Parameters
    ----------
    saturation : float, optional
        Value from which a pixel is saturated; None finds a plateau by itself.
    size : int
        Side of the window of neighbours, odd.
    loss : float
        Share of the good pixels that may be lost to each test.
    grow : int
        Pixels around each bad one that lose their weight too.

    Examples
    --------
    >>> BadPixelsOptions(saturation=65535).saturation
    65535.0
    """

    saturation: float | None = None
    size: int = 5
    loss: float = 1e-4
    grow: int = 0

    def __post_init__(self) -> None:
        _check(
            self,
            ranges=[Range("saturation", strict=True, optional=True), Range("loss", high=0.01, strict=True)],
            wholes=[Whole("size", 3, 15, odd=True), Whole("grow", 0, 100)],
        )


@dataclass(frozen=True, kw_only=True)
class UnlitOptions:
    """Options of `unlit`; see `xmist.preprocess.find_unlit`.

    Parameters
    ----------
    threshold : float
        Part of the lit level below which a pixel is dark.
    size : int
        Smallest width in pixels of a dark region, odd.
    margin : int
        Pixels around a region that lose their weight too.

    Examples
    --------
    >>> UnlitOptions(margin=5).margin
    5
    """

    threshold: float = 0.05
    size: int = 11
    margin: int = 2

    def __post_init__(self) -> None:
        _check(
            self,
            ranges=[Range("threshold", high=1.0, strict=True)],
            wholes=[Whole("size", 3, 999, odd=True), Whole("margin", 0, 1000)],
        )


@dataclass(frozen=True, kw_only=True)
class FluxOptions:
    """Options of `flux`; see `xmist.preprocess.normalise_flux`.

    Parameters
    ----------
    rows, columns : (start, stop), optional
        Box of bare beam, counted from 0, stop excluded; without it bare beam is found by itself.

    Examples
    --------
    >>> FluxOptions(rows=[0, 50]).rows
    (0, 50)
    """

    rows: Span | None = None
    columns: Span | None = None

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True, kw_only=True)
class DriftOptions:
    """Options of `drift`; see `xmist.preprocess.measure_drift`.

    Parameters
    ----------
    rows, columns : (start, stop), optional
        Box of bare beam, counted from 0, stop excluded; without it the median over blocks counts.
    max_shift : float
        Largest shift in pixels that is looked for.

    Examples
    --------
    >>> DriftOptions(max_shift=3).max_shift
    3.0
    """

    rows: Span | None = None
    columns: Span | None = None
    max_shift: float = 10.0

    def __post_init__(self) -> None:
        _check(self, ranges=[Range("max_shift", "pixels", high=1000.0, strict=True)])


@dataclass(frozen=True, kw_only=True)
class CropOptions:
    """Options of `crop`; see `xmist.preprocess.crop`.

    Parameters
    ----------
    rows, columns : (start, stop), optional
        What to keep, counted from 0, stop excluded.

    Examples
    --------
    >>> CropOptions(columns=[10, 200]).columns
    (10, 200)
    """

    rows: Span | None = None
    columns: Span | None = None

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True, kw_only=True)
class BinOptions:
    """Options of `bin`; see `xmist.preprocess.bin_frames`.

    Parameters
    ----------
    size : int
        Pixels a side that are joined. The `pixel_size` of the experiment must then be that many times larger.
    least : float
        Least share of good pixels.

    Examples
    --------
    >>> BinOptions(size=2).least
    0.5
    """

    size: int = 2
    least: float = 0.5

    def __post_init__(self) -> None:
        _check(self, ranges=[Range("least", high=1.0)], wholes=[Whole("size", 1, 1000)])
