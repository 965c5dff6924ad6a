"""Figures of a comparison: images by method and number of positions, regions, and agreement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.core.data import CHANNELS
from xmist.view.figures.page import (
    NORMAL,
    SMALL,
    Page,
    block_notes,
    colour_bar,
    columns_for,
    draw,
    no_value_legend,
    text_width,
    wrap,
)
from xmist.view.figures.panels import Image, Panel, Scale, common_scales, typical_scale

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Values = NDArray[Any]

_SIDE: Final = 2.0  # inches
_CAPTION: Final = 0.2
_FOOT: Final = 0.85  # scale bar and colour bar below the last row
_WIDEST_BAR: Final = 4.0
_OUTLINES: Final = ("#1f77b4", "#d95f02")
_CELL: Final = 0.5  # inches of a correlation
_WIDEST_MATRIX: Final = 8.0
_TELLING: Final = 0.36  # inches that a written number needs


@dataclass(frozen=True, eq=False)
class Cell:
    """An image with its caption, or the reason why there is none."""

    image: Values | None  # (y, x) in SI units
    caption: str = ""  # what stands below it; of a missing one, in its place
    # (y, x), quality flags; only pixels without any decide the limits of the colours
    flags: Values | None = None


def image_grid(
    channel: str,
    cells: Sequence[Sequence[Cell]],
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    pixel: float,
    truth: Values | None = None,
    positive: bool = False,
    title: str = "",
    notes: Sequence[str] = (),
) -> Figure:
    """Draw one channel of many results with one colour scale.

    `pixel` in metres, `truth` (y, x).
    """
    panel = Panel(channel)

    def image(cell: Cell) -> Image:
        clipped = cell.image if cell.image is None or not positive else np.maximum(cell.image, 0)
        return Image.of(clipped, cell.flags)

    placed = [
        (row, column, cell, columns[column] if row == 0 else "")
        for row, line in enumerate(cells)
        for column, cell in enumerate(line)
    ]
    drawn = [image(cell) for _, _, cell, _ in placed]
    known = [item for item in drawn if item.blocks is not None]
    right = image(Cell(truth))
    scale = common_scales([panel], [[right]])[panel.scale] if right.varies else typical_scale(panel, known)
    if positive:
        scale = Scale(0.0, scale.high, scale.exponent)
    if truth is not None:
        placed.append((0, len(columns), Cell(truth), "truth"))
        drawn.append(right)
    shape = known[0].shape if known else right.shape
    labels, subtitle = [wrap(label, 1.9) for label in rows], ""
    folded = len(columns) == 1 and len(rows) > 1
    if folded:
        across = columns_for(len(placed), shape)
        names = [*rows, "truth"]
        placed = [(*divmod(n, across), cell, names[n]) for n, (_, _, cell, _) in enumerate(placed)]
        labels, subtitle = [], columns[0]
    last = max(row for row, _, _, _ in placed)
    width = 1 + max(column for _, column, _, _ in placed)
    captions = any(cell.caption for _, _, cell, _ in placed)
    page = Page(
        shape,
        last + 1,
        width,
        side=_SIDE,
        titles=[name for _, _, _, name in placed],
        header=(title, subtitle),
        notes=[*block_notes(known), *notes],
        no_value=no_value_legend(known),
        left=0.15 + max((text_width(line) for label in labels for line in label), default=-0.15),
        right=0.14,
        above=0.08,
        below=_CAPTION if captions else 0.0,
        last=_FOOT,
        titled_once=not folded,
    )
    for row, label in enumerate(labels):
        page.text(row, 0, -0.12, page.height / 2, "\n".join(label), ha="right", va="center")
    for (row, column, cell, name), item in zip(placed, drawn, strict=True):
        axes = page.axes(row, column)
        draw(axes, item, panel, scale)
        axes.set_title(page.wrap(name), fontsize=NORMAL, pad=4)
        if item.blocks is None:
            words = "\n".join(wrap(cell.caption or "not given", page.width - 0.2, 6))
            page.text(row, column, page.width / 2, page.height / 2, words, ha="center", va="center")
        elif cell.caption:
            words = (wrap(cell.caption, page.width + 0.1, 1) or [""])[0]
            page.text(row, column, page.width / 2, -0.05, words, ha="center", va="top")
    low = -(_CAPTION if captions else 0.0)
    page.scale_bar(last, 0, pixel, y=low - 0.14)
    whole = width * (page.width + 0.14) - 0.14
    wide = min(whole, _WIDEST_BAR)
    bar = page.axes(last, 0, (whole - wide) / 2, low - 0.4, wide, 0.1)
    colour_bar(bar, panel, scale, horizontal=True)
    return page.figure


def regions_figure(
    frames: Values, regions: Mapping[str, NDArray[np.bool_] | None], *, pixel: float
) -> Figure:
    """Draw where regions lie, over the sample frames divided by the reference frames.

    `frames` (y, x), `regions` (y, x), `pixel` in metres.
    """
    panel = Panel("transmission")
    image = Image.of(frames, None)
    known = {name: mask for name, mask in regions.items() if mask is not None}
    missing = [f"{name}: not known." for name, mask in regions.items() if mask is None]
    page = Page(
        image.shape,
        1,
        1,
        side=4.2,
        titles=["sample frames over reference frames"],
        header=("Regions of the comparison", ""),
        notes=missing,
        no_value=no_value_legend([image]),
        right=0.95,
        last=0.5,
    )
    scale = typical_scale(panel, [image])
    axes = page.axes(0, 0)
    draw(axes, image, panel, scale)
    axes.set_title("sample frames over reference frames", fontsize=NORMAL, loc="left", pad=4)
    x = 0.0
    for colour, (name, mask) in zip(_OUTLINES, known.items(), strict=False):
        padded = np.pad(mask, 1).astype(float)
        places = (np.arange(size) - 1.0 for size in padded.shape[::-1])
        axes.contour(*places, padded, levels=[0.5], colors=colour, linewidths=1.2)
        page.text(0, 0, x, -0.3, name, va="top", color=colour, weight="bold")
        x += text_width(name, bold=True) + 0.25
    page.scale_bar(0, 0, pixel)
    bar = page.axes(0, 0, page.width + 0.08, 0.0, 0.12, page.height)
    colour_bar(bar, panel, scale)
    bar.set_ylabel("I_S / I_R", fontsize=SMALL, parse_math=False)
    return page.figure


def agreement_figure(matrices: Mapping[str, Values], labels: Sequence[str], *, note: str) -> Figure:
    """Draw the correlations of all pairs of results, a panel per channel.

    `matrices` (result, result), which need not be symmetric.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    size = min(max(2.4, _CELL * len(labels)), _WIDEST_MATRIX)
    written = size / len(labels) >= _TELLING
    left = 0.3 + max(text_width(label) for label in labels)
    width = left + len(matrices) * (size + 0.25) + 0.15
    lines = wrap(note, width - 0.3)
    height = size + left + 0.75 + 0.16 * len(lines)
    page = Figure(figsize=(width, height))
    FigureCanvasAgg(page)
    page.text(
        0.15 / width, 1 - 0.12 / height, "Correlation between results", fontsize=11.5, weight="bold", va="top"
    )
    page.text(0.15 / width, 1 - 0.36 / height, "\n".join(lines), fontsize=SMALL, va="top")
    colours = mpl.colormaps["RdBu_r"].with_extremes(bad="0.9")
    for number, (name, matrix) in enumerate(matrices.items()):
        x = left + number * (size + 0.25)
        axes = page.add_axes((x / width, (left + 0.05) / height, size / width, size / height))
        axes.imshow(np.ma.masked_invalid(matrix), cmap=colours, vmin=-1, vmax=1, aspect="auto")
        axes.set_title(CHANNELS[name].title, fontsize=NORMAL, pad=4)
        places = range(len(labels))
        axes.set_xticks(places, labels, rotation=90, fontsize=SMALL)
        axes.set_yticks(places, labels if number == 0 else [""] * len(labels), fontsize=SMALL)
        axes.tick_params(length=0)
        for row in places:
            for column in places:
                value = float(matrix[row, column])
                if written and np.isfinite(value):
                    dark = abs(value) > 0.6
                    axes.text(
                        column, row, f"{value:.2f}", ha="center", va="center", fontsize=SMALL,
                        color="white" if dark else "black",
                    )  # fmt: skip
    return page


__all__ = ["Cell", "agreement_figure", "image_grid", "regions_figure"]
