"""Figures of results, with colour bars in SI units and a scale bar; they need no display."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Literal

from numpy.typing import ArrayLike

from xmist.core.data import Retrieval
from xmist.core.errors import ErrorRecord, InputError, raise_errors, suggest
from xmist.core.findings import warnings_of
from xmist.core.version import __version__
from xmist.io import FIGURE_ENDINGS, PREVIEW_MARK
from xmist.io.results.atomic import OutputFile, target_errors, write_files
from xmist.view.figures.directions import TITLE, Directions, direction_colours, wheel_colours
from xmist.view.figures.page import (
    NARROWEST,
    NORMAL,
    Page,
    block_notes,
    colour_bar,
    columns_for,
    draw,
    no_value_legend,
    text_width,
    wrap,
)
from xmist.view.figures.panels import Image, Panel, common_scales, panels, si
from xmist.view.figures.style import DIRECTION, Cropped, Limits, read_style, valid_box

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "comparison",
    "direction_colours",
    "figure",
    "panels",
    "save_figure",
    "save_result_figure",
    "wheel_colours",
]

# Drawn only when asked for, or when there is nothing else.
_SECONDARY: Final = (
    "dark_field_tensor",
    "refraction_angle",
    "shift",
    "phase_std",
    "transmission_std",
    "dark_field_std",
)
_DPI: Final = 150
_VECTOR_DPI: Final = 300  # of the images in PDF and SVG
_SHORTEST_BAR: Final = 0.75  # inches
_WHEEL: Final = 0.75
_SMALL_WHEEL: Final = 0.6
_LEGEND: Final = 1.5  # the wheel with its words


def figure(
    result: Retrieval,
    *,
    channels: Sequence[str] | None = None,
    annotations: bool = False,
    limits: Limits | Mapping[str, Limits] | None = None,
    cmap: str | Mapping[str, str] | None = None,
    crop: Literal["valid", "whole"] | Sequence[int] = "valid",
    units: Mapping[str, str] | None = None,
    title: str | None = None,
) -> Figure:
    """Draw a result for a paper, one panel per channel, with scale bar and colour bars.

    Parameters
    ----------
    result : Retrieval
        What to draw.
    channels : sequence of str
        Channels to draw, in this order; also derived ones and "direction", which shows the directions of a
        tensor. None takes the directions, then all but tensor components, gradients, shifts and standard
        deviations.
    annotations : bool
        Also write the method, geometry, options and findings.
    limits : pair of float, or mapping of str to pair, optional
        Limits of the colours in SI units, for all channels or by channel. None: they contain the middle 99 %
        of the unflagged pixels.
    cmap : str, or mapping of str to str, optional
        Colour maps of matplotlib, for all channels or by channel.
    crop : {"valid", "whole"} or (y0, y1, x0, x1)
        "valid" leaves out borders where no frame determines the image; numbers are pixels.
    units : mapping of str to str, optional
        Units by channel, such as `{"dark_field": "pm"}`. None: angles in µrad, others with the prefix that
        suits the values.
    title : str, optional
        First line; with `annotations` the method and the number of positions by default.

    Returns
    -------
    matplotlib.figure.Figure
        It has its own Agg canvas: it needs no display and does not use pyplot. Pixels without a value
        have a colour of their own. Images beyond 1024 pixels are shown as means of blocks.

    Raises
    ------
    InputError
        Lists channels, limits, colour maps, units and crops that are not possible.

    Examples
    --------
    >>> import numpy as np, xmist
    >>> experiment = xmist.Experiment(energy_kev=17.0, pixel_size=5.8e-6, sample_to_detector=1.0)
    >>> flags = np.zeros((64, 80), np.uint16)
    >>> phase = -np.hypot(*np.mgrid[-32:32, -40:40])
    >>> result = Retrieval(method="mist", experiment=experiment, flags=flags, phase=phase)
    >>> page = figure(result, limits=(-40, 0), crop=(0, 32, 0, 80))
    >>> page.axes[0].get_title(loc="left"), page.axes[0].images[0].get_clim()
    ('phase', (-40.0, 0.0))
    """
    chosen = _choose(result, channels)
    style = read_style(chosen, result, limits=limits, cmap=cmap, crop=crop, units=units)
    shown = [style.panel(panel) for panel in panels(name for name in chosen if name != DIRECTION)]
    box = style.box or (valid_box(result) if crop == "valid" else (slice(None), slice(None)))
    flags = result.flags[box]
    images = []
    for panel in shown:
        array = panel.pick(result)
        assert array is not None  # it was chosen among those of the result
        images.append(Image.of(array[box], flags))
    scales = common_scales(shown, [[image] for image in images]) | style.scales(shown)
    directions = None
    if DIRECTION in chosen:
        assert result.dark_field_tensor is not None
        directions = Directions(Cropped(result.dark_field_tensor[(slice(None), *box)], flags))
        if DIRECTION in style.limits:
            directions.brightest = style.limits[DIRECTION][1]
    drawn = images if directions is None else [*images, *directions.images]
    titles = ([TITLE] if directions is not None else []) + [panel.title for panel in shown]
    columns = columns_for(len(titles), flags.shape)
    lowest = _SHORTEST_BAR if directions is None else _LEGEND
    warned = [record.message for record in warnings_of(result.findings)]
    notes = [f"Note: {record}" for record in result.findings if record.severity == "note"]
    page = Page(
        flags.shape,
        -(-len(titles) // columns),
        columns,
        side=3.6,
        titles=titles,
        header=(title or _headline(result), _conditions(result)) if annotations else (title or "", ""),
        warnings=warned if annotations else (),
        notes=[*block_notes(drawn), *notes] if annotations else (),
        no_value=no_value_legend(drawn, shares=annotations),
        right=0.95,
        below=0.34,
        lowest=lowest,
        narrowest=0.0 if not annotations and title is None else NARROWEST,
    )
    if directions is not None:
        axes = page.axes(0, 0)
        directions.draw(axes)
        axes.set_title(page.wrap(TITLE), fontsize=NORMAL, loc="left", pad=4)
        page.scale_bar(0, 0, result.experiment.effective_pixel)
        top = max(page.height, lowest) - 0.2
        wheel = page.axes(0, 0, page.width + 0.1, top - _WHEEL, _WHEEL, _WHEEL)
        directions.draw_wheel(wheel)
    for number, (panel, image) in enumerate(zip(shown, images, strict=True), directions is not None):
        place = divmod(number, columns)
        axes = page.axes(*place)
        draw(axes, image, panel, scales[panel.scale])
        axes.set_title(page.wrap(panel.title), fontsize=NORMAL, loc="left", pad=4)
        page.scale_bar(*place, result.experiment.effective_pixel)
        bar = page.axes(*place, page.width + 0.08, 0.0, 0.12, max(page.height, _SHORTEST_BAR))
        colour_bar(bar, panel, scales[panel.scale])
    return page.figure


def comparison(
    rows: Mapping[str, Retrieval],
    channels: Sequence[str],
    truth: Retrieval | Mapping[str, ArrayLike] | object | None = None,
    *,
    title: str | None = None,
) -> Figure:
    """Draw results side by side: a row per result, a column per channel, one colour scale per column.

    Parameters
    ----------
    rows : mapping of str to Retrieval
        Results by their label, from top to bottom.
    channels : sequence of str
        Channels, from left to right; a vector or tensor takes a column a component, and a tensor one more for
        the image of its directions.
    truth : optional
        True images, as a first row: a result, or a mapping or object with the channels' names. It
        then sets the colour limits.
    title : str, optional
        First line.

    Returns
    -------
    matplotlib.figure.Figure
        As from `figure`. The phase is drawn without its mean, unless all results know where it is 0.

    Raises
    ------
    InputError
        If there is no row, or a channel is unknown.

    Examples
    --------
    >>> import numpy as np, xmist
    >>> experiment = xmist.Experiment(energy_kev=17.0, pixel_size=5.8e-6, sample_to_detector=1.0)
    >>> flags = np.zeros((64, 80), np.uint16)
    >>> phase = -np.hypot(*np.mgrid[-32:32, -40:40])
    >>> result = Retrieval(method="mist", experiment=experiment, flags=flags, phase=phase)
    >>> page = comparison({"mist": result}, ["phase"], truth={"phase": phase})
    >>> [text.get_text() for text in page.texts]
    ['Phase without its mean.', 'truth', 'mist', '100 µm']
    """
    shown = panels(channels)
    if not rows or not shown:
        raise InputError(
            f"{len(rows)} results and {len(shown)} channels to compare; expected one at least",
            code="value-invalid",
        )
    first = next(iter(rows.values()))
    sources: dict[str, Any] = {} if truth is None else {"truth": truth}
    sources |= rows
    zero = all(result.phase_zero_known for result in rows.values() if result.phase is not None)
    table = [
        [
            Image.of(
                panel.pick(source), getattr(source, "flags", None), centred=panel.name == "phase" and not zero
            )
            for panel in shown
        ]
        for source in sources.values()
    ]
    images = [image for row in table for image in row]
    # The truth judges all rows, unless it is the same everywhere.
    judged = [
        [row[column] for row in (table[:1] if truth is not None and table[0][column].varies else table)]
        for column in range(len(shown))
    ]
    scales = common_scales(shown, judged)
    directions = _directions(sources) if "dark_field_tensor" in channels else {}
    labels = {label: wrap(label, 1.4) for label in sources}
    notes = [] if zero or all(panel.name != "phase" for panel in shown) else ["Phase without its mean."]
    page = Page(
        first.shape,
        len(table),
        len(shown) + bool(directions),
        side=2.3,
        titles=[panel.title for panel in shown] + ([TITLE] if directions else []),
        header=(title or "", ""),
        notes=[*block_notes(images), *notes],
        no_value=no_value_legend(images),
        left=0.15 + max(text_width(line) for lines in labels.values() for line in lines),
        right=0.14,
        above=0.12,
        last=0.85,
        titled_once=True,
    )
    for row, (label, lines) in enumerate(labels.items()):
        page.text(row, 0, -0.12, page.height / 2, "\n".join(lines), ha="right", va="center")
        for column, panel in enumerate(shown):
            axes = page.axes(row, column)
            draw(axes, table[row][column], panel, scales[panel.scale])
            if table[row][column].blocks is None:
                page.text(row, column, page.width / 2, page.height / 2, "not given", ha="center")
            if row == 0:
                axes.set_title(page.wrap(panel.title), fontsize=NORMAL, pad=4)
            if row == len(table) - 1:
                bar = page.axes(row, column, 0.0, -0.4, page.width, 0.1)
                colour_bar(bar, panel, scales[panel.scale], horizontal=True)
        if directions:
            axes = page.axes(row, len(shown))
            if label in directions:
                directions[label].draw(axes)
            else:
                axes.set(xticks=[], yticks=[], frame_on=False)
                page.text(row, len(shown), page.width / 2, page.height / 2, "not given", ha="center")
            if row == 0:
                axes.set_title(page.wrap(TITLE), fontsize=NORMAL, pad=4)
    if directions:
        wheel = page.axes(len(table) - 1, len(shown), 0.0, -0.1 - _SMALL_WHEEL, _SMALL_WHEEL, _SMALL_WHEEL)
        next(iter(directions.values())).draw_wheel(wheel, beside=True)
    page.scale_bar(len(table) - 1, 0, first.experiment.effective_pixel)
    return page.figure


def _directions(sources: Mapping[str, Any]) -> dict[str, Directions]:
    """Return the images of directions of all sources with a tensor, at one brightness."""
    panel = Panel("dark_field_tensor", "xx")
    found = {label: Directions(source) for label, source in sources.items() if panel.pick(source) is not None}
    judges = [found["truth"]] if "truth" in found else found.values()
    brightest = max((judge.brightest for judge in judges), default=0.0)
    for image in found.values():
        image.brightest = brightest
    return found


def save_figure(page: Figure, path: str | Path, *, overwrite: bool = False, about: str = "") -> Path:
    """Write a figure as PNG, PDF or SVG.

    Parameters
    ----------
    page : matplotlib.figure.Figure
        What to write.
    path : str or Path
        The file (`.png`, `.pdf` or `.svg`), which appears whole or not at all.
    overwrite : bool
        Replace an existing file.
    about : str
        Description that the file carries.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    InputError
        For another ending, or if the file cannot be written there.
    OutputError
        When writing failed; the message names what was kept.

    Examples
    --------
    >>> save_figure(figure(result), "result.pdf")  # doctest: +SKIP
    PosixPath('result.pdf')
    """
    return write_files([figure_job(page, path, about=about)], overwrite=overwrite)[0]


def figure_job(page: Figure, path: str | Path, *, about: str = "", keywords: str = "") -> OutputFile:
    """Return the writing of a figure, for `xmist.io.results.atomic.write_files`."""
    import matplotlib as mpl
    from matplotlib.image import imread

    kind = Path(path).suffix.lower().removeprefix(".")
    if f".{kind}" not in FIGURE_ENDINGS:
        raise InputError(
            f"{path}: expected the name of a figure, which ends in {', '.join(FIGURE_ENDINGS)}",
            code="ending-unknown",
        )
    maker = f"xmist {__version__}"
    kinds: dict[str, dict[str, Any]] = {
        "png": {"Software": maker, "Description": about},
        "pdf": {"Creator": maker, "Producer": maker, "Subject": about, "CreationDate": None},
        "svg": {"Creator": maker, "Description": about, "Date": None},
    }

    if keywords:
        kinds[kind]["Keywords"] = keywords

    def write(file: BinaryIO) -> None:
        # Journals take no Type 3 fonts; identifiers in SVG are random otherwise.
        with mpl.rc_context({"pdf.fonttype": 42, "svg.hashsalt": "xmist"}):
            page.savefig(file, format=kind, dpi=_DPI if kind == "png" else _VECTOR_DPI, metadata=kinds[kind])

    def verify(written: Path) -> None:
        content = written.read_bytes()
        if kind == "png":
            try:
                imread(written, format="png")
            except SyntaxError as error:  # Pillow's word for a broken PNG
                raise ValueError(str(error)) from error
        elif not content.rstrip().endswith({"pdf": b"%%EOF", "svg": b"</svg>"}[kind]):
            raise ValueError("the file does not end as it should")

    return OutputFile(Path(path), write, verify)


def save_result_figure(result: Retrieval, path: str | Path, *, overwrite: bool = False) -> Path:
    """Draw a result and write the figure: `save_figure(figure(result), path)`.

    Parameters
    ----------
    result : Retrieval
        What to draw.
    path : str or Path
        The file (`.png`, `.pdf` or `.svg`).
    overwrite : bool
        Replace an existing file.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    InputError
        If the file cannot be written there, or the result has no channel.
    OutputError
        When writing failed; the message names what was kept.

    Examples
    --------
    >>> save_result_figure(result, "result.png")  # doctest: +SKIP
    PosixPath('result.png')
    """
    raise_errors(target_errors(path, overwrite=overwrite))  # before the work of drawing
    keywords = PREVIEW_MARK if "preview" in result.provenance else ""
    job = figure_job(figure(result), path, about=about_result(result), keywords=keywords)
    return write_files([job], overwrite=overwrite)[0]


def about_result(result: Retrieval) -> str:
    """Return method, geometry and options in a sentence, for the file of a figure."""
    return f"{_headline(result)}; {_conditions(result)}"


def _choose(result: Retrieval, channels: Sequence[str] | None) -> list[str]:
    """Return the channels to draw; raise an error for those that the result does not have."""
    given = [name for name, _ in result.channels()]
    if not given or not result.flags.size:
        raise InputError("channels: the result has none to draw", code="channel-missing")
    tensor = [DIRECTION] if "dark_field_tensor" in given else []
    if channels is None:
        main = [name for name in given if name not in _SECONDARY]
        return [*tensor, *main] or given
    given += [*tensor, *(name for name, _ in result.derived())]
    if not channels:
        raise InputError(f"channels is empty; expected some of {', '.join(given)}", code="value-invalid")
    raise_errors(
        [
            ErrorRecord("channel-missing", f"channels: the result has no '{name}'; {suggest(name, given)}")
            for name in channels
            if name not in given
        ]
    )
    named = list(dict.fromkeys(channels))
    return [*tensor, *named] if "dark_field_tensor" in named and DIRECTION not in named else named


def _headline(result: Retrieval) -> str:
    positions = result.provenance.get("positions")
    return result.method + (f", N = {positions}" if isinstance(positions, int) else "")


def _conditions(result: Retrieval) -> str:
    """Return geometry and options in a sentence."""
    experiment = result.experiment
    geometry = (
        f"{experiment.energy_kev:g} keV, effective distance {si(experiment.effective_distance, 'm')}, "
        f"pixel {si(experiment.effective_pixel, 'm')} in the sample's plane"
    )
    options = [
        f"{name} = {value:g}" if isinstance(value, float) else f"{name} = {value}"
        for name, value in result.options.items()
        if value is not None
    ]
    return "; ".join([geometry, ", ".join(options)] if options else [geometry])
