"""A comparison as text for a terminal, Markdown, rows, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

import numpy as np

from xmist.core.data import CHANNELS
from xmist.core.findings import Finding
from xmist.core.version import __version__
from xmist.evaluate.runs import ComparedRuns
from xmist.evaluate.scoring import CHANNELS_COMPARED, MethodRun, Quality
from xmist.io.results.plain import to_text

_NONE: Final = "–"


@dataclass(frozen=True)
class _Grid:
    """One number per run, as a table with a row per method and a column per number of positions."""

    title: str
    cell: Callable[[MethodRun], str]
    short: bool = False  # whether a terminal shows it too
    scored: bool = True  # whether it depends on the pixels that are scored


def text(found: ComparedRuns) -> str:
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
    blocks.append("\n".join([*_pixel_lines(found), *_region_lines(found)]))
    impossible = _impossible(found)
    if impossible:
        blocks.append("\n".join(["Not possible:", *(f"  {line}" for line in impossible)]))
    return "\n\n".join(blocks)


def markdown(found: ComparedRuns, figures: Sequence[str]) -> str:
    """Return all tables with explanations, as Markdown."""
    experiment = found.experiment
    lines = [
        "# Methods compared on the same frames",
        "",
        f"{experiment.energy_kev:g} keV, effective distance {experiment.effective_distance:.4g} m, pixel "
        f"{experiment.effective_pixel * 1e6:.4g} µm in the sample's plane, {found.shape[0]} × "
        f"{found.shape[1]} pixels (y × x). N is the number of positions, the first N of the frames. "
        f"xmist {__version__}.",
        "",
        *(f"- Step {step}" for step in found.steps),
        *(f"- {line}" for line in _pixel_lines(found)),
    ]
    for grid in _grids(found):
        lines += ["", f"## {grid.title}", "", *_markdown_table(_table(found, grid))]
    lines += ["", *_agreement_lines(found)]
    lines += ["## Regions", "", *(f"- {line}" for line in _region_lines(found))]
    options = {run.method: to_text("options", plain_options(run))[0] for run in found.runs if run.options}
    lines += ["", "## Options", ""]
    lines += [f"- {name}: {value}" for name, value in options.items()] or ["All defaults."]
    impossible = _impossible(found)
    if impossible:
        lines += ["", "## Not possible", "", *(f"- {line}" for line in impossible)]
    findings: dict[Finding, list[str]] = {record: [] for record in found.findings}
    for run in found.done:
        for record in (*run.result.findings, *run.findings) if run.result else ():
            findings.setdefault(record, []).append(run.label)
    if findings:
        lines += ["", "## Findings", ""]
    for severity in ("warning", "note"):
        for record, labels in findings.items():
            if record.severity == severity:
                where = f" ({'; '.join(labels)})" if labels else ""
                lines.append(f"- {severity.capitalize()}{where}: {record.message}")
    lines += ["", "## How to read this", "", *_READING, ""]
    for name in figures:
        lines += [f"![{name}]({name})", ""]
    return "\n".join(lines)


_READING: Final = (
    "- CNR is (μ_outside − μ_inside)/σ_outside, eq. (8) of Pavlov et al. 2020, doi:10.1088/2040-8986/abc313; "
    "its absolute value is shown. Smoothing and a bias inside the sample increase it, and outliers dominate "
    "it: compare it with the CNR by medians.",
    "- Angular sensitivity is the standard deviation of the refraction angle in bare beam. By medians, it is "
    "1.4826 times the median absolute deviation.",
    "- Resolution is by Fourier ring correlation of the results of every other position, at the half-bit "
    "threshold, two pixels at best. It is the size down to which data exceed noise; it does not notice "
    "smoothing or errors that both halves share.",
    "- Correlation and NRMSE are against the truth, where it is known; NRMSE is the error over the root mean "
    "square of the truth, for a phase without the means. By medians, 1.4826 times the median of the absolute "
    "error takes the place of its root mean square, and median absolute deviations of sum and difference "
    "that of the correlation's.",
    "- Time is that of one projection after the reference was prepared, without compilation; memory is the "
    "peak of NumPy arrays, without the frames.",
)


def _grids(found: ComparedRuns) -> Iterator[_Grid]:
    """Yield the tables that have a value."""

    def known(name: str, channel: str) -> bool:
        return any(getattr(run.quality.get(channel, Quality()), name) is not None for run in found.done)

    def value(name: str, channel: str, form: Callable[[float], str]) -> Callable[[MethodRun], str]:
        def cell(run: MethodRun) -> str:
            number = getattr(run.quality.get(channel, Quality()), name)
            return _NONE if number is None else form(number)

        return cell

    def size(number: float) -> str:
        return digits(abs(number))

    for channel in CHANNELS_COMPARED:
        title = CHANNELS[channel].title
        if known("cnr", channel):
            short = channel == "dark_field"
            yield _Grid(f"Contrast-to-noise ratio, {title}", value("cnr", channel, size), short)
            yield _Grid(
                f"Contrast-to-noise ratio by medians, {title}", value("cnr_median", channel, size), short
            )
    if any(run.sensitivity is not None for run in found.done):
        title = "Angular sensitivity along x / y (nrad)"
        yield _Grid(title, lambda run: _sensitivity(run.sensitivity), True)
        yield _Grid(f"{title}, by medians", lambda run: _sensitivity(run.sensitivity_median), True)
    for channel in CHANNELS_COMPARED:
        if known("resolution", channel):
            yield _Grid(
                f"Resolution (µm), {CHANNELS[channel].title}",
                value("resolution", channel, lambda number: digits(number * 1e6)),
                channel == "dark_field",
            )
    for channel in CHANNELS_COMPARED:
        title = CHANNELS[channel].title
        for region, where in (("", "whole frame"), ("_inside", "inside")):
            if known(f"correlation{region}", channel) or known(f"nrmse{region}", channel):
                yield _Grid(
                    f"Against the truth, {title}, {where}: correlation (by medians) / NRMSE (by medians)",
                    _truth_cell(channel, region),
                    channel != "transmission" and (channel == "dark_field" or not region),
                )
    yield _Grid("Flagged, of the sample or of bare beam (%)", _flagged, scored=False)
    yield _Grid("Time of a projection (s)", lambda run: _seconds(run.seconds), True, scored=False)
    yield _Grid("Time to prepare the reference (s)", lambda run: _seconds(run.prepare_seconds), scored=False)
    yield _Grid("Peak memory (MB)", _memory, True, scored=False)


def _flagged(run: MethodRun) -> str:
    return _NONE if run.result is None else digits(100 * run.flagged)


def _memory(run: MethodRun) -> str:
    return _NONE if run.memory is None else digits(run.memory / 1e6)


def _truth_cell(channel: str, region: str) -> Callable[[MethodRun], str]:
    def cell(run: MethodRun) -> str:
        quality = run.quality.get(channel, Quality())

        def value(name: str) -> float | None:
            number: float | None = getattr(quality, f"{name}{region}")
            return number

        if value("correlation") is None and value("nrmse") is None:
            return _NONE
        alike = [_correlation(value(name)) for name in ("correlation", "correlation_median")]
        errors = [
            _NONE if error is None else f"{error:.3g}" if error < 1 else digits(error)
            for error in (value("nrmse"), value("nrmse_median"))
        ]
        return " / ".join(f"{plain} ({robust})" for plain, robust in (alike, errors))

    return cell


def _correlation(value: float | None) -> str:
    return _NONE if value is None or math.isnan(value) else f"{value:.3f}"


def _sensitivity(parts: tuple[float, float] | None) -> str:
    return _NONE if parts is None else " / ".join(digits(part * 1e9) for part in parts)


def _seconds(seconds: float | None) -> str:
    return _NONE if seconds is None else f"{seconds:.2g}" if seconds < 10 else f"{seconds:.0f}"


def digits(number: float) -> str:
    """Return a size with three digits, without powers of ten."""
    return f"{number:.0f}" if number >= 100 else f"{number:.1f}" if number >= 10 else f"{number:.2f}"


def _table(found: ComparedRuns, grid: _Grid) -> list[list[str]]:
    """Return a table as text, without methods and numbers that have no result."""
    names = tuple(dict.fromkeys(run.method for run in found.done))
    columns = [n for n in found.positions if any(run.positions == n for run in found.done)]
    return [
        ["method", *(f"N = {n}" for n in columns)],
        *([name, *(_marked(grid, found.run(name, n)) for n in columns)] for name in names),
    ]


def _marked(grid: _Grid, run: MethodRun) -> str:
    cell = grid.cell(run)
    return f"{cell} *" if run.apart and grid.scored and cell != _NONE else cell


def _pixel_lines(found: ComparedRuns) -> list[str]:
    """Return which pixels are scored."""
    shared = [run for run in found.done if not run.apart]
    lines = []
    if shared:
        number, total = int(found.pixels.sum()), found.pixels.size
        who = "none of the results flags" if len(shared) > 1 else f"{shared[0].label} does not flag"
        if len(shared) > 1 and len(shared) < len(found.done):
            who = "none of the other results flags"
        lines.append(f"Scored: {number} of {total} pixels ({100 * number / total:.3g} %), which {who}")
    lines += [
        f"* Scored apart: {run.label} flags {100 * run.flagged:.0f} % of the sample or of bare beam, and is "
        f"scored on the {run.pixels} pixels that it does not flag itself; do not compare it with the others"
        for run in found.done
        if run.apart
    ]
    return lines


def _impossible(found: ComparedRuns) -> list[str]:
    """Return the runs without result and the reasons, each reason once."""
    by_reason: dict[str, dict[int, list[str]]] = {}
    for run in found.runs:
        if run.reason:
            by_reason.setdefault(run.reason, {}).setdefault(run.positions, []).append(run.method)
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


def _agreement_lines(found: ComparedRuns) -> Iterator[str]:
    """Return the correlations between methods at the largest N that several have."""
    shared = [n for n in found.positions if sum(run.positions == n for run in found.done) > 1]
    if not shared:
        return
    n = max(shared)
    places = [place for place, run in enumerate(found.done) if run.positions == n]
    names = [found.done[place].method for place in places]
    for channel in found.channels:
        pair = (found.agreement[channel], found.agreement_median[channel])
        plain, robust = (matrix[np.ix_(places, places)].tolist() for matrix in pair)
        table = [["", *names]]
        table += [
            [
                name,
                *(f"{_correlation(one)} ({_correlation(other)})" for one, other in zip(*lines, strict=True)),
            ]
            for name, *lines in zip(names, plain, robust, strict=True)
        ]
        yield (f"## Agreement of the methods, {CHANNELS[channel].title}, N = {n}: correlation (by medians)")
        yield ""
        yield from _markdown_table(table)
        yield ""


def _region_lines(found: ComparedRuns) -> list[str]:
    names = {"outside": "Bare beam (outside)", "inside": "Sample (inside)"}
    lines = []
    for name, about in found.regions.about.items():
        mask = getattr(found.regions, name)
        scored = f", {int((mask & found.pixels).sum())} of them scored" if mask is not None else ""
        lines.append(f"{names[name]}: {about}{scored}{_boxes(found.regions.boxes[name])}")
    return lines


def _boxes(boxes: Sequence[tuple[int, ...]]) -> str:
    return f": {', '.join(str(list(box)) for box in boxes)} (y0, y1, x0, x1)" if boxes else ""


def rows(found: ComparedRuns) -> list[dict[str, Any]]:
    """Return one row per run, with the same keys in each; None where a value is not known."""
    table = []
    for run in found.runs:
        row: dict[str, Any] = {
            "method": run.method,
            "positions": run.positions,
            "reason": run.reason,
            "options": to_text("options", plain_options(run))[0],
            "prepare_seconds": run.prepare_seconds,
            "seconds": run.seconds,
            "memory_bytes": run.memory,
            "pixels_scored": run.pixels,
            "flagged": run.flagged,
            "scored_apart": run.apart,
        }
        for key, parts in (("", run.sensitivity), ("median_", run.sensitivity_median)):
            for axis, part in zip("xy", parts or (None, None), strict=True):
                row[f"sensitivity_{key}{axis}_rad"] = part
        for channel in CHANNELS_COMPARED:
            quality = run.quality.get(channel, Quality())
            for item in fields(Quality):
                unit = "_m" if item.name == "resolution" else ""
                row[f"{channel}_{item.name}{unit}"] = getattr(quality, item.name)
        table.append(row)
    return table


def csv_text(found: ComparedRuns) -> str:
    """Return the rows as CSV."""
    table = rows(found)
    file = io.StringIO()
    writer = csv.DictWriter(file, list(table[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return file.getvalue()


def json_text(found: ComparedRuns) -> str:
    """Return everything but the images as JSON."""
    regions = found.regions
    data = {
        "xmist_version": __version__,
        "experiment": found.experiment.to_dict(),
        "shape": list(found.shape),
        "about": json.loads(to_text("about", dict(found.about))[0]),
        "steps": list(found.steps),
        "findings": [record.to_dict() for record in found.findings],
        "regions": {
            name: {"about": regions.about[name], "boxes": regions.boxes[name]} for name in regions.about
        },
        "pixels_scored": int(found.pixels.sum()),
        "truth": sorted(found.truth),
        "runs": [
            {
                "method": run.method,
                "positions": run.positions,
                "options": json.loads(to_text("options", plain_options(run))[0]),
                "reason": run.reason,
                "prepare_seconds": run.prepare_seconds,
                "seconds": run.seconds,
                "memory_bytes": run.memory,
                "sensitivity_rad": run.sensitivity,
                "sensitivity_median_rad": run.sensitivity_median,
                "pixels_scored": run.pixels,
                "flagged": run.flagged,
                "scored_apart": run.apart,
                "quality": {name: asdict(quality) for name, quality in run.quality.items()},
                "findings": [
                    record.to_dict()
                    for record in (*(run.result.findings if run.result else ()), *run.findings)
                ],
            }
            for run in found.runs
        ],
        **{
            name: {
                "labels": [run.label for run in found.done],
                **{
                    channel: [
                        [None if math.isnan(value) else value for value in line] for line in matrix.tolist()
                    ]
                    for channel, matrix in matrices.items()
                },
            }
            for name, matrices in (
                ("agreement", found.agreement),
                ("agreement_median", found.agreement_median),
            )
        },
    }
    return json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def plain_options(run: MethodRun) -> dict[str, Any]:
    """Return the given options as plain data, with the values of the result if there is one."""
    used = {} if run.result is None else run.result.options
    plain = (bool, int, float, str, list, tuple, dict)
    return {
        name: used.get(name, value if value is None or isinstance(value, plain) else type(value).__name__)
        for name, value in run.options.items()
    }
