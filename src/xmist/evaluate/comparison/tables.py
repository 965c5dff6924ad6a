"""What a comparison says to people: Markdown, and text for a terminal."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from xmist.core.data import CHANNELS
from xmist.core.version import __version__
from xmist.evaluate.comparison.records import plain_options
from xmist.evaluate.comparison.runs import CHANNELS_COMPARED, Quality, Run
from xmist.io.results.plain import to_text

if TYPE_CHECKING:
    from xmist.evaluate.comparison.result import Comparison

_NONE: Final = "–"
_LONGEST_LABEL: Final = 60


@dataclass(frozen=True)
class _Grid:
    """One number a run, as a table with a row a method and a column a number of exposures."""

    title: str
    cell: Callable[[Run], str]
    short: bool = False  # whether a terminal shows it too


def text(found: Comparison) -> str:
    """Return the tables for a terminal."""
    blocks = []
    for grid in _grids(found):
        if grid.short:
            table = _table(found, grid)
            widths = [max(map(len, column)) for column in zip(*table, strict=True)]
            lines = [
                "  "
                + "  ".join(
                    value.ljust(width) if number == 0 else value.rjust(width)
                    for number, (value, width) in enumerate(zip(line, widths, strict=True))
                )
                for line in table
            ]
            blocks.append("\n".join([grid.title, *lines]))
    blocks.append("\n".join(_region_lines(found)))
    impossible = _impossible(found)
    if impossible:
        blocks.append("\n".join(["Not possible:", *(f"  {line}" for line in impossible)]))
    return "\n\n".join(blocks)


def markdown(found: Comparison, figures: Sequence[str]) -> str:
    """Return everything for people, as Markdown."""
    experiment = found.experiment
    lines = [
        "# Methods compared on the same frames",
        "",
        f"{experiment.energy_kev:g} keV, effective distance {experiment.effective_distance:.4g} m, pixel "
        f"{experiment.effective_pixel * 1e6:.4g} µm in the sample's plane, {found.shape[0]} × "
        f"{found.shape[1]} pixels (y × x). N is the number of exposures, the first N of the frames. "
        f"xmist {__version__}.",
        "",
        *(f"- Step {note}" for note in found.notes),
    ]
    for grid in _grids(found):
        lines += ["", f"## {grid.title}", "", *_markdown_table(_table(found, grid))]
    lines += ["", *_agreement_lines(found)]
    lines += ["## Regions", "", *(f"- {line}" for line in _region_lines(found))]
    options = {run.method: to_text("options", plain_options(run))[0] for run in found.runs if run.options}
    lines += ["", "## Options", ""]
    lines += [f"- {name}: {value}" for name, value in options.items()] or ["All as they are by default."]
    impossible = _impossible(found)
    if impossible:
        lines += ["", "## Not possible", "", *(f"- {line}" for line in impossible)]
    remarks: dict[str, list[str]] = {}
    for run in found.done:
        for remark in (*map(str, run.result.findings), *run.remarks) if run.result else ():
            remarks.setdefault(remark, []).append(run.label)
    if remarks:
        lines += ["", "## Findings", ""]
        lines += [f"- {', '.join(labels)}: {remark}" for remark, labels in remarks.items()]
    lines += ["", "## How to read this", "", *_READING, ""]
    for name in figures:
        lines += [f"![{name}]({name})", ""]
    return "\n".join(lines)


_READING: Final = (
    "- CNR is (μ_outside − μ_inside)/σ_outside, eq. (8) of Pavlov et al. 2020, doi:10.1088/2040-8986/abc313, "
    "of D with both its signs; its size is shown. It grows with every smoothing of the noise and with every "
    "bias of the inside, and a few wild pixels can rule it: compare it with the one by medians.",
    "- Angular sensitivity is the standard deviation of the refraction angle in bare beam.",
    "- Resolution is by Fourier ring correlation of the results of every other exposure, at the half-bit "
    "threshold, two pixels at best. It tells down to which size the data and not the noise speak; it is "
    "blind to smoothing and to errors that both halves share.",
    "- Correlation and NRMSE, where the truth is known, are against the truth; NRMSE is the error over the "
    "root mean square of the truth, of a phase without the means.",
    "- Time is that of one projection after the reference was prepared, without compiling; memory is the "
    "peak of numpy's arrays above the frames.",
)


def caption(run: Run, channel: str) -> str:
    """Return what stands below a picture."""
    quality = run.quality.get(channel, Quality())
    parts = []
    if quality.cnr is not None:
        parts.append(f"CNR {_digits(abs(quality.cnr))}")
    r = quality.correlation if quality.correlation_inside is None else quality.correlation_inside
    if r is not None:
        parts.append(f"r = {r:.3f}")
    return ", ".join(parts)


def _grids(found: Comparison) -> Iterator[_Grid]:
    """Return the tables that say something."""

    def said(name: str, channel: str) -> bool:
        return any(getattr(run.quality.get(channel, Quality()), name) is not None for run in found.done)

    def value(name: str, channel: str, form: Callable[[float], str]) -> Callable[[Run], str]:
        def cell(run: Run) -> str:
            number = getattr(run.quality.get(channel, Quality()), name)
            return _NONE if number is None else form(number)

        return cell

    def size(number: float) -> str:
        return _digits(abs(number))

    for channel in CHANNELS_COMPARED:
        title = CHANNELS[channel].title
        if said("cnr", channel):
            short = channel == "dark_field"
            yield _Grid(f"Contrast-to-noise ratio, {title}", value("cnr", channel, size), short)
            yield _Grid(
                f"Contrast-to-noise ratio by medians, {title}", value("cnr_median", channel, size), short
            )
    if any(run.sensitivity is not None for run in found.done):
        yield _Grid("Angular sensitivity along x / y (nrad)", _sensitivity, True)
    for channel in CHANNELS_COMPARED:
        if said("resolution", channel):
            yield _Grid(
                f"Resolution (µm), {CHANNELS[channel].title}",
                value("resolution", channel, lambda number: _digits(number * 1e6)),
                channel == "dark_field",
            )
    for channel in CHANNELS_COMPARED:
        title = CHANNELS[channel].title
        for region, where in (("", "whole frame"), ("_inside", "inside")):
            if said(f"correlation{region}", channel) or said(f"nrmse{region}", channel):
                yield _Grid(
                    f"Against the truth, {title}, {where}: correlation / NRMSE",
                    _truth_cell(channel, region),
                    channel != "transmission" and (channel == "dark_field" or not region),
                )
    yield _Grid("Time of a projection (s)", lambda run: _seconds(run.seconds), True)
    yield _Grid("Time to prepare the reference (s)", lambda run: _seconds(run.prepare_seconds))
    yield _Grid(
        "Peak memory (MB)", lambda run: _NONE if run.memory is None else _digits(run.memory / 1e6), True
    )


def _truth_cell(channel: str, region: str) -> Callable[[Run], str]:
    def cell(run: Run) -> str:
        quality = run.quality.get(channel, Quality())
        one, two = (getattr(quality, f"{name}{region}") for name in ("correlation", "nrmse"))
        if one is None and two is None:
            return _NONE
        error = _NONE if two is None else f"{two:.3g}" if two < 1 else _digits(two)
        return f"{_NONE if one is None else f'{one:.3f}'} / {error}"

    return cell


def _sensitivity(run: Run) -> str:
    if run.sensitivity is None:
        return _NONE
    return " / ".join(_digits(part * 1e9) for part in run.sensitivity)


def _seconds(seconds: float | None) -> str:
    return _NONE if seconds is None else f"{seconds:.2g}" if seconds < 10 else f"{seconds:.0f}"


def _digits(number: float) -> str:
    """Three digits without powers of ten, for a size."""
    return f"{number:.0f}" if number >= 100 else f"{number:.1f}" if number >= 10 else f"{number:.2f}"


def _table(found: Comparison, grid: _Grid) -> list[list[str]]:
    """Return a table as text, without methods and numbers at which nothing was possible."""
    names = tuple(dict.fromkeys(run.method for run in found.done))
    columns = [n for n in found.exposures if any(run.exposures == n for run in found.done)]
    return [
        ["method", *(f"N = {n}" for n in columns)],
        *([name, *(grid.cell(found.run(name, n)) for n in columns)] for name in names),
    ]


def _impossible(found: Comparison) -> list[str]:
    """Return what was not possible and why, each reason once."""
    by_reason: dict[str, dict[int, list[str]]] = {}
    for run in found.runs:
        if run.reason:
            by_reason.setdefault(run.reason, {}).setdefault(run.exposures, []).append(run.method)
    lines = []
    for reason, by_number in by_reason.items():
        together: dict[tuple[str, ...], list[int]] = {}
        for n, methods in by_number.items():
            together.setdefault(tuple(methods), []).append(n)
        for who, numbers in together.items():
            names = "every method" if who == found.methods else ", ".join(who)
            lines.append(f"{names}, N = {', '.join(map(str, numbers))}: {reason}")
    return lines


def _markdown_table(table: Sequence[Sequence[str]]) -> list[str]:
    head, *body = table
    return [
        f"| {' | '.join(head)} |",
        f"|---|{'---:|' * (len(head) - 1)}",
        *(f"| {' | '.join(line)} |" for line in body),
    ]


def _agreement_lines(found: Comparison) -> Iterator[str]:
    """Return the correlations between methods at the largest N that several have."""
    shared = [n for n in found.exposures if sum(run.exposures == n for run in found.done) > 1]
    if not shared:
        return
    n = max(shared)
    places = [place for place, run in enumerate(found.done) if run.exposures == n]
    names = [found.done[place].method for place in places]
    for channel in found.channels:
        matrix = found.agreement[channel][np.ix_(places, places)]
        table = [["", *names]]
        table += [
            [name, *(_NONE if math.isnan(value) else f"{value:.3f}" for value in line)]
            for name, line in zip(names, matrix.tolist(), strict=True)
        ]
        yield f"## Agreement of the methods, {CHANNELS[channel].title}, N = {n}: correlation"
        yield ""
        yield from _markdown_table(table)
        yield ""


def _region_lines(found: Comparison) -> list[str]:
    names = {"outside": "Bare beam (outside)", "inside": "Sample (inside)"}
    return [
        f"{names[name]}: {about}{_boxes(found.regions.boxes[name])}"
        for name, about in found.regions.about.items()
    ]


def _boxes(boxes: Sequence[tuple[int, ...]]) -> str:
    return f": {', '.join(str(list(box)) for box in boxes)} (y0, y1, x0, x1)" if boxes else ""


def row_label(run: Run) -> str:
    """Return the method with the options that were given, for a figure."""
    told = [
        f"{name} = {value:g}" if isinstance(value, float) else f"{name} = {value}"
        for name, value in plain_options(run).items()
    ]
    label = ", ".join([run.method, *told])
    return label if len(label) <= _LONGEST_LABEL else f"{run.method}, …"
