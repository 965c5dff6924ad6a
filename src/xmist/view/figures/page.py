"""Layout of a figure: a grid of images with titles, warnings, notes, colour bars and scale bars."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from xmist.view.figures.panels import PREFIXES, Image, Panel, Scale, si

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.ft2font import FT2Font

SMALL: Final = 8.0  # points
NORMAL: Final = 9.5
LARGE: Final = 11.5

# Inches.
_EDGE: Final = 0.15
_LINE: Final = 0.165
_TITLE_LINE: Final = 0.19
NARROWEST: Final = 4.8

# Beyond this ratio of its sides an image is stretched, to be seen at all.
_LONGEST: Final = 40.0

_TIED: Final = "\N{NO-BREAK SPACE}"

_WARNING: Final = "#a4141c"

NO_VALUE: Final = "#5fa08f"  # apart from every grey, and from every colour of the maps


class Page:
    """A figure with a grid of equal images, a header and notes at its foot; lengths are in inches.

    `shape` is (y, x) in pixels. Warnings stand below the header, notes at the foot.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        rows: int,
        columns: int,
        *,
        side: float,
        titles: Sequence[str],
        header: tuple[str, str],
        notes: Sequence[str],
        warnings: Sequence[str] = (),
        no_value: str,
        left: float = 0.0,
        right: float = 0.0,
        above: float = 0.0,
        below: float = 0.0,
        last: float = 0.0,
        lowest: float = 0.0,
        titled_once: bool = False,
        narrowest: float = NARROWEST,
    ) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        ratio = min(max(shape[1] / shape[0], 1 / _LONGEST), _LONGEST)
        longer = side * min(2.0, max(ratio, 1 / ratio) ** 0.5)
        self.width, self.height = (longer, longer / ratio) if ratio >= 1 else (longer * ratio, longer)
        self._shape = shape
        self._room = self.width + right - 0.05
        page_width = max(narrowest, 2 * _EDGE + left + columns * (self.width + right))
        inside = page_width - 2 * _EDGE
        large = wrap(header[0], inside, 2, size=LARGE, bold=True)
        small = wrap(header[1], inside, 3)
        warned = [line for text in warnings for line in wrap(f"Warning: {text}", inside, 3, bold=True)]
        foot = [line for note in notes for line in wrap(note, inside, 2)]
        top = 0.22 * len(large) + _LINE * (len(small) + len(warned)) + 0.06
        lines = max(len(self.wrap(title).splitlines()) for title in titles)
        head = _TITLE_LINE * lines + 0.04
        cell = max(self.height, lowest)
        pitch = cell + above + below + (0.0 if titled_once else head)
        bottom = _LINE * (len(foot) + bool(no_value)) + last
        page_height = 2 * _EDGE + top + rows * pitch + bottom + (head if titled_once else 0.0)
        self.figure = Figure(figsize=(page_width, page_height))
        FigureCanvasAgg(self.figure)
        self._size = (page_width, page_height)
        self._origin = (_EDGE + left, page_height - _EDGE - top - head - above - cell)
        self._pitch = (self.width + right, pitch)
        y = page_height - _EDGE
        for number, line in enumerate([*large, *small]):
            big = number < len(large)
            self._write(
                _EDGE, y, line, size=LARGE if big else SMALL, va="top", weight="bold" if big else None
            )
            y -= 0.22 if big else _LINE
        for line in warned:
            self._write(_EDGE, y, line, va="top", weight="bold", color=_WARNING)
            y -= _LINE
        y = _EDGE + _LINE * (len(foot) + bool(no_value) - 1)
        if no_value:
            self._fill(_EDGE, y, 0.12, 0.1, facecolor=NO_VALUE, edgecolor="black", linewidth=0.5)
            self._write(_EDGE + 0.2, y, no_value)
            y -= _LINE
        for line in foot:
            self._write(_EDGE, y, line)
            y -= _LINE

    def wrap(self, title: str) -> str:
        """Break the title of an image into lines that fit above it."""
        return "\n".join(wrap(title, self._room, size=NORMAL))

    def axes(
        self,
        row: int,
        column: int,
        x: float = 0.0,
        y: float = 0.0,
        width: float | None = None,
        height: float | None = None,
    ) -> Axes:
        """Add axes at a place relative to the lower left corner of an image; by default on the image."""
        x, y = self._place(row, column, x, y)
        size = (self.width if width is None else width, self.height if height is None else height)
        box = (x / self._size[0], y / self._size[1], size[0] / self._size[0], size[1] / self._size[1])
        return self.figure.add_axes(box)

    def text(self, row: int, column: int, x: float, y: float, text: str, **style: Any) -> None:
        """Write at a place relative to the lower left corner of an image."""
        self._write(*self._place(row, column, x, y), text, **style)

    def scale_bar(self, row: int, column: int, pixel: float, *, y: float = -0.15) -> None:
        """Draw a scale bar below an image, `y` above its lower edge; `pixel` is a pixel's size in metres."""
        metre = self.width / (self._shape[1] * pixel)
        length = bar_length(self._shape[1] * pixel)
        x, y = self._place(row, column, 0.0, y)
        self._fill(x, y, length * metre, 0.035, facecolor="black")
        self._write(x + length * metre + 0.07, y + 0.02, si(length, "m"), va="center")

    def _place(self, row: int, column: int, x: float, y: float) -> tuple[float, float]:
        return self._origin[0] + column * self._pitch[0] + x, self._origin[1] - row * self._pitch[1] + y

    def _write(self, x: float, y: float, text: str, *, size: float = SMALL, **style: Any) -> None:
        # A dollar sign in a file name must not begin a formula.
        place = (x / self._size[0], y / self._size[1])
        self.figure.text(*place, text, fontsize=size, parse_math=False, **style)

    def _fill(self, x: float, y: float, width: float, height: float, **style: Any) -> None:
        from matplotlib.patches import Rectangle

        place = (x / self._size[0], y / self._size[1])
        size = (width / self._size[0], height / self._size[1])
        self.figure.add_artist(Rectangle(place, *size, transform=self.figure.transFigure, **style))


def bar_length(width: float) -> float:
    """Return a round length, 1, 2 or 5 times a power of ten, of at most a third of a width; in its unit.

    Examples
    --------
    >>> bar_length(1.0), bar_length(7.0)
    (0.2, 2.0)
    """
    third = width / 3
    power = 10.0 ** np.floor(np.log10(third))
    return float(power * max(step for step in (1, 2, 5) if step * power <= third * (1 + 1e-9)))


def draw(axes: Axes, image: Image, panel: Panel, scale: Scale) -> None:
    """Draw an image into its axes, without ticks; nothing but a frame where there is no image."""
    import matplotlib as mpl

    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_linewidth(0.5)
    if image.blocks is None:
        axes.set_facecolor("0.93")
        return
    rows, columns = (size * image.factor for size in image.blocks.shape)
    axes.imshow(
        np.ma.masked_invalid(image.blocks * scale.factor),
        cmap=mpl.colormaps[panel.colours].with_extremes(bad=NO_VALUE),
        vmin=scale.low,
        vmax=scale.high,
        extent=(-0.5, columns - 0.5, rows - 0.5, -0.5),
        aspect="auto",
    )
    # The last blocks can reach beyond the image.
    axes.set(xlim=(-0.5, image.shape[1] - 0.5), ylim=(image.shape[0] - 0.5, -0.5))


def colour_bar(axes: Axes, panel: Panel, scale: Scale, *, horizontal: bool = False) -> None:
    """Draw a colour bar into its axes, labelled with symbol and unit."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.ticker import MaxNLocator, ScalarFormatter

    room = axes.get_window_extent().width / axes.figure.dpi  # inches
    colours = ScalarMappable(Normalize(scale.low, scale.high), panel.colours)
    bar = axes.figure.colorbar(
        colours,
        cax=axes,
        orientation="horizontal" if horizontal else "vertical",
        ticks=MaxNLocator(4 if not horizontal or room > 2 else 2),
        format=ScalarFormatter(useOffset=False),
    )
    unit = "" if panel.unit == "1" else f" ({PREFIXES[scale.exponent]}{panel.unit})"
    bar.set_label(panel.symbol + unit, fontsize=SMALL)
    bar.ax.tick_params(labelsize=SMALL, width=0.5, length=2.5)
    bar.outline.set_linewidth(0.5)


def columns_for(number: int, shape: tuple[int, int]) -> int:
    """Return the number of columns that brings a page of images nearest to 3 : 2.

    `shape` in pixels.
    """

    def badness(columns: int) -> float:
        rows = -(-number // columns)
        ratio = columns * (shape[1] + 0.3 * max(shape)) / (rows * (shape[0] + 0.2 * max(shape)))
        return abs(math.log(ratio / 1.5)) + rows * columns - number

    return min(range(1, number + 1), key=badness)


def no_value_legend(images: Sequence[Image], *, shares: bool = True) -> str:
    """Return the legend of the pixels without a value, with their share; empty if there are none."""
    found = [image.holes / (image.shape[0] * image.shape[1]) for image in images if image.holes]
    if not found:
        return ""
    if not shares:
        return "no value"
    low, high = (f"{100 * share:.{'0f' if share > 0.1 else '2g'}}" for share in (min(found), max(found)))
    return f"no value ({low if low == high else f'{low} to {high}'} % of the pixels)"


def block_notes(images: Sequence[Image]) -> list[str]:
    """Return the note that images are shown as means of blocks; empty if they are not."""
    factor = max((image.factor for image in images), default=1)
    return [f"Shown as means of {factor} × {factor} pixels."] if factor > 1 else []


def wrap(
    text: str, width: float, most: int | None = None, *, size: float = SMALL, bold: bool = False
) -> list[str]:
    """Break a text into lines; a value stays with its name.

    `width` in inches.
    """
    text = "".join(
        letter if letter.isspace() or _font(bold).get_char_index(ord(letter)) else "?" for letter in text
    )
    text = text.replace(" = ", f"{_TIED}={_TIED}")
    whole = text_width(text, size=size, bold=bold)
    # Some lines have narrow letters; few have a quarter more of them than the average.
    letters = min(len(text), int(1.25 * len(text) * width / whole)) if whole > width else len(text)
    while letters > 4:
        lines = textwrap.wrap(text, letters, max_lines=most, placeholder=" …", break_on_hyphens=False)
        widest = max((text_width(line, size=size, bold=bold) for line in lines), default=0.0)
        if widest <= width:
            return [line.replace(_TIED, " ") for line in lines]
        letters = min(letters - 1, int(letters * width / widest) + 1)
    return [text.replace(_TIED, " ")] if text else []


def text_width(text: str, *, size: float = SMALL, bold: bool = False) -> float:
    """Return the width of a line in inches."""
    font = _font(bold)
    font.set_size(size, 72)
    font.set_text(text)
    return float(font.get_width_height()[0]) / 64 / 72  # in 64ths of a point


def _font(bold: bool) -> FT2Font:
    from matplotlib.font_manager import FontProperties, findfont, get_font

    return get_font(findfont(FontProperties(weight="bold" if bold else "normal")))
