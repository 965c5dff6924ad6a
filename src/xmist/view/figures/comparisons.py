"""The figures of a comparison of methods: each channel, the regions, and the agreement."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.core.data import CHANNELS
from xmist.core.errors import InputError, suggest
from xmist.evaluate.comparison import FIGURES
from xmist.evaluate.runs import ComparedRuns
from xmist.evaluate.scoring import MethodRun, Quality, ordinary
from xmist.evaluate.tables import digits, plain_options
from xmist.view.figures.grids import Cell, agreement_figure, image_grid, regions_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LONGEST_LABEL: Final = 60


def channel_figure(
    found: ComparedRuns, channel: str, *, positive: bool = True, title: str | None = None
) -> Figure:
    """Draw a channel of all results: a row per method, a column per number of positions."""
    if channel not in found.channels:
        raise InputError(
            f"no result has the channel '{channel}'; {suggest(channel, found.channels)}",
            code="channel-missing",
        )
    with_channel = [run.method for run in found.done if getattr(run.result, channel) is not None]
    rows = [name for name in found.methods if name in with_channel]
    columns = [n for n in found.positions if any(run.positions == n for run in found.done)]
    cells = [[_cell(found, channel, found.run(method, n)) for n in columns] for method in rows]
    truth = found.truth.get(channel)
    return image_grid(
        channel,
        cells,
        rows=[_row_label(found.run(name, columns[0])) for name in rows],
        columns=[f"N = {n}" for n in columns],
        pixel=found.experiment.effective_pixel,
        truth=None if truth is None else _drawn(found, channel, truth, found.pixels),
        positive=channel == "dark_field" and positive,
        title=title
        if title is not None
        else f"{CHANNELS[channel].title.capitalize()} by method and positions",
        notes=_notes(found, channel, rows, positive),
    )


def comparison_figures(found: ComparedRuns) -> dict[str, Figure]:
    """Draw all figures of a comparison, by the stem of the file's name."""
    pages = {FIGURES[channel]: channel_figure(found, channel) for channel in found.channels}
    pages["regions"] = regions_figure(
        found.frames,
        {
            "bare beam (outside)": _scored(found, found.regions.outside),
            "sample (inside)": _scored(found, found.regions.inside),
        },
        pixel=found.experiment.effective_pixel,
    )
    if len(found.done) > 1:
        pages["agreement"] = agreement_figure(
            {
                name: np.tril(found.agreement[name]) + np.triu(found.agreement_median[name], 1)
                for name in found.channels
            },
            [f"{run.label} *" if run.apart else run.label for run in found.done],
            note=_agreement_note(found),
        )
    return pages


def _scored(found: ComparedRuns, region: NDArray[np.bool_] | None) -> NDArray[np.bool_] | None:
    """Return the pixels of a region that are scored; all of it if every result is scored apart."""
    return region if region is None or not found.pixels.any() else region & found.pixels


def _pixels_note(found: ComparedRuns) -> str:
    apart = any(run.apart for run in found.done)
    text = f"Scores count {found.pixels.sum()} pixels, which no result flags"
    return f"{text}, but for those marked *, which count their own." if apart else f"{text}."


def _agreement_note(found: ComparedRuns) -> str:
    missing = any(getattr(run.result, name) is None for run in found.done for name in found.channels)
    halves = "Below the diagonal Pearson's correlation, above it by medians, not influenced by outliers."
    grey = " Grey: a method does not retrieve this channel." if missing else ""
    return f"{halves} {_pixels_note(found)}{grey}"


def _cell(found: ComparedRuns, channel: str, run: MethodRun) -> Cell:
    image = None if run.result is None else getattr(run.result, channel)
    if run.result is None or image is None:
        return Cell(None, run.reason or "no such channel")
    drawn = _drawn(found, channel, image, ordinary(run.result))
    return Cell(drawn, _caption(run, channel), run.result.flags)


def _notes(found: ComparedRuns, channel: str, rows: list[str], positive: bool) -> list[str]:
    notes = []
    without = [name for name in dict.fromkeys(run.method for run in found.done) if name not in rows]
    if without:
        notes.append(f"Not retrieved by {', '.join(without)}.")
    if channel == "dark_field" and positive:
        notes.append("Negative values of D are drawn as 0.")
    if channel == "dark_field" and channel not in found.truth:
        notes.append("Colour limits come from the least noisy image.")
    if channel == "phase":
        where = "in bare beam" if found.regions.outside is not None else "on average"
        notes.append(f"Phase, 0 {where}.")
    if found.regions.complete:
        notes.append(
            "CNR: contrast between inside and bare beam over the noise in bare beam (regions.png); in "
            "brackets by medians."
        )
    if channel in found.truth:
        where = " inside the sample" if found.regions.inside is not None else ""
        notes.append(f"r: correlation with the truth{where}; in brackets by medians.")
    if found.regions.complete or channel in found.truth:
        notes.append(_pixels_note(found))
    return notes


def _drawn(found: ComparedRuns, channel: str, image: NDArray[Any], pixels: NDArray[np.bool_]) -> NDArray[Any]:
    """Return an image as it is drawn: a phase is 0 in bare beam or on average, over some pixels (y, x)."""
    if channel != "phase":
        return image
    finite = np.isfinite(image) & pixels
    where = finite if found.regions.outside is None else finite & found.regions.outside
    return image - float(np.mean(image[where], dtype=np.float64)) if where.any() else image


def _caption(run: MethodRun, channel: str) -> str:
    quality = run.quality.get(channel, Quality())
    parts = []
    if quality.cnr is not None:
        robust = "" if quality.cnr_median is None else f" ({digits(abs(quality.cnr_median))})"
        parts.append(f"CNR {digits(abs(quality.cnr))}{robust}")
    where = "" if quality.correlation_inside is None else "_inside"
    r, robust_r = (getattr(quality, f"{name}{where}") for name in ("correlation", "correlation_median"))
    if r is not None:
        parts.append(f"r = {r:.3f}" + ("" if robust_r is None else f" ({robust_r:.3f})"))
    return ", ".join(parts) + " *" * (run.apart and bool(parts))


def _row_label(run: MethodRun) -> str:
    """Return the method with its options, unless that is too long."""
    options = [
        f"{name} = {value:g}" if isinstance(value, float) else f"{name} = {value}"
        for name, value in plain_options(run).items()
    ]
    label = ", ".join([run.method, *options])
    return label if len(label) <= _LONGEST_LABEL else f"{run.method}, …"
