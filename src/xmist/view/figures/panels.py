"""Content of a panel: channel, pixels, colours and limits."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xmist.core.data import CHANNELS, DERIVED, Retrieval, channel_of
from xmist.core.errors import InputError, suggest

Values = NDArray[np.float64]

# An image with more pixels than this along a side is averaged in blocks, for display only.
_SHOWN_PIXELS: Final = 1024
PREFIXES: Final = {0: "", -3: "m", -6: "µ", -9: "n", -12: "p", -15: "f", -18: "a"}


@dataclass(frozen=True)
class Panel:
    """One image of a figure: a channel, or a component of one."""

    name: str  # channel
    component: str = ""  # component along the channel's first axis, "mean" of a tensor's diagonal, or empty
    cmap: str = ""  # colour map; empty for the usual one
    power: int | None = None  # power of ten of the unit; None for the usual one

    @property
    def unit(self) -> str:
        """SI unit of the channel."""
        return channel_of(self.name).unit

    @property
    def exponent(self) -> int | None:
        """Power of ten of the usual unit; None: chosen to suit the values."""
        if self.power is not None:
            return self.power
        shown = channel_of(self.name).shown
        return (
            next(power for power, prefix in PREFIXES.items() if shown == prefix + self.unit)
            if shown
            else None
        )

    @property
    def title(self) -> str:
        """Title and component for people."""
        return f"{channel_of(self.name).title} {self.component}".strip()

    @property
    def symbol(self) -> str:
        """Symbol for the colour bar."""
        symbol = channel_of(self.name).symbol
        if self.name == "dark_field_tensor":
            return "D" if self.component == "mean" else f"$D_{{{self.component}}}$"
        if symbol.startswith("σ_"):
            return f"$σ_{{{symbol[2:]}}}$"
        return f"${symbol}_{{{self.component}}}$" if self.component else symbol

    @property
    def signed(self) -> bool:
        """Whether the colours are symmetric about 0."""
        return self.component == "xy"

    @property
    def scale(self) -> str:
        """Key of the colour scale; the panels of a figure that share it share their limits."""
        if self.name in ("dark_field", "dark_field_tensor") and not self.signed:
            return "scatter"
        return self.name + (self.component if self.signed else "")

    @property
    def colours(self) -> str:
        """Colour map: perceptual for scatter and spread, grey for the rest."""
        if self.cmap:
            return self.cmap
        if self.signed:
            return "RdBu_r"
        scatter = self.name.startswith("dark_field") or self.name.endswith("_std") or self.name in DERIVED
        return "inferno" if scatter else "gray"

    def pick(self, source: Retrieval | Mapping[str, ArrayLike] | object) -> NDArray[Any] | None:
        """Return the (y, x) image of a result, a mapping, or an object with the channel's name."""
        given = source.get(self.name) if isinstance(source, Mapping) else getattr(source, self.name, None)
        if given is None:
            return None
        array = np.asarray(given)
        if not self.component:
            return array
        if self.component == "mean":
            mean: NDArray[Any] = (array[0] + array[2]) / 2
            return mean
        image: NDArray[Any] = array[channel_of(self.name).components.index(self.component)]
        return image


def panels(names: Iterable[str]) -> list[Panel]:
    """Return the panels of channels: one for an image, one per component of a vector or tensor.

    Parameters
    ----------
    names : iterable of str
        Channels. A tensor also shows its mean, unless `dark_field`, which is the same, is among them.

    Raises
    ------
    InputError
        Lists every unknown channel.

    Examples
    --------
    >>> [panel.title for panel in panels(["phase", "refraction_angle"])]
    ['phase', 'refraction angle x', 'refraction angle y']
    """
    names = list(names)
    unknown = [
        f"'{name}' is not a channel; {suggest(name, [*CHANNELS, *DERIVED])}"
        for name in names
        if name not in CHANNELS and name not in DERIVED
    ]
    if unknown:
        raise InputError(unknown, code="channel-missing")
    found = []
    for name in names:
        parts = channel_of(name).components or ("",)
        if name == "dark_field_tensor" and "dark_field" not in names:
            parts = ("mean", *parts)
        found += [Panel(name, part) for part in parts]
    return found


@dataclass(frozen=True, eq=False)
class Image:
    """An image as it is drawn: means over blocks of its finite pixels, NaN where a block has none."""

    blocks: Values | None = None
    unflagged: Values | None = None
    factor: int = 1
    shape: tuple[int, int] = (1, 1)
    holes: int = 0

    @staticmethod
    def of(
        array: NDArray[Any] | None,
        flags: NDArray[Any] | None,
        *,
        centred: bool = False,
        most: int = _SHOWN_PIXELS,
    ) -> Image:
        """Return an image as it is drawn.

        `array` (y, x), `flags` (y, x).
        """
        if array is None:
            return Image()
        factor = -(-max(array.shape) // most)
        finite = np.isfinite(array)
        if centred and finite.any():
            array = array - np.mean(array[finite], dtype=np.float64)
        blocks = block_means(array, finite, factor)
        good = finite if flags is None else finite & (flags == 0)
        unflagged = blocks if good is finite else block_means(array, good, factor)
        shape = (int(array.shape[0]), int(array.shape[1]))
        return Image(blocks, unflagged, factor, shape, int(array.size - np.count_nonzero(finite)))

    @property
    def values(self) -> Values:
        """The finite values that decide the limits: unflagged ones where there are any."""
        for blocks in (self.unflagged, self.blocks):
            if blocks is not None and np.isfinite(blocks).any():
                return blocks[np.isfinite(blocks)]
        return np.empty(0)

    @property
    def varies(self) -> bool:
        """Whether the values are not all the same."""
        values = self.values
        return bool(values.size and values.min() < values.max())


def block_means(array: NDArray[Any], usable: NDArray[np.bool_], factor: int) -> Values:
    """Return the means over square blocks; those at the end of a row or column may be narrower.

    `array` (y, x), `usable` (y, x).
    """
    if factor == 1:
        return np.where(usable, array, np.nan).astype(np.float64)
    rows, columns = (np.arange(0, size, factor) for size in array.shape)

    def total(values: NDArray[Any]) -> Any:
        return np.add.reduceat(np.add.reduceat(values, rows, axis=0, dtype=np.float64), columns, axis=1)

    count = total(usable)
    sums = total(np.where(usable, array, 0))
    means: Values = np.divide(sums, count, out=np.full(count.shape, np.nan), where=count > 0)
    return means


@dataclass(frozen=True)
class Scale:
    """Limits of the colours, in units of 10^exponent."""

    low: float
    high: float
    exponent: int

    @property
    def factor(self) -> float:
        """What a value in SI is multiplied with."""
        return 10.0 ** (-self.exponent)


def common_scales(shown: Sequence[Panel], images: Sequence[Sequence[Image]]) -> dict[str, Scale]:
    """Return each colour scale from the images of all panels that share it."""
    scales = {}
    for panel in shown:
        pool = [
            image.values
            for other, column in zip(shown, images, strict=True)
            for image in column
            if other.scale == panel.scale
        ]
        scales[panel.scale] = _scale(np.concatenate(pool), panel)
    return scales


def typical_scale(panel: Panel, images: Sequence[Image]) -> Scale:
    """Return the colour scale of a typical image; noisy images do not extend it."""
    limits = [_limits(image.values) for image in images if image.varies]
    if not limits:
        return _scale(np.concatenate([image.values for image in images] or [np.empty(0)]), panel)
    if panel.scale == "scatter":
        return scale_of(*min(limits, key=lambda ends: ends[1] - ends[0]), panel)
    low, high = (float(limit) for limit in np.median(limits, axis=0))
    return scale_of(low, high, panel)


def _scale(values: Values, panel: Panel) -> Scale:
    return scale_of(*_limits(values), panel)


def _limits(values: Values) -> tuple[float, float]:
    """Return the limits that hold the middle 99 % of the values."""
    if not values.size:
        return 0.0, 0.0
    low, high = (float(limit) for limit in np.percentile(values, (0.5, 99.5)))
    return (float(values.min()), float(values.max())) if low == high else (low, high)


def scale_of(low: float, high: float, panel: Panel) -> Scale:
    """Return the colour scale of a panel between two limits in SI units; symmetric where it is signed."""
    if panel.signed:
        high = max(abs(low), abs(high))
        low = -high
    if low == high:
        margin = abs(low) / 2 or 1.0
        low, high = low - margin, high + margin
    exponent = panel.exponent
    if exponent is None:
        exponent = prefix_exponent(max(abs(low), abs(high))) if panel.unit in ("m", "rad") else 0
    return Scale(low * 10.0**-exponent, high * 10.0**-exponent, exponent)


def prefix_exponent(size: float) -> int:
    """Return the power of ten of the SI prefix that suits a size; none above 1."""
    return min(0, max(min(PREFIXES), 3 * math.floor(math.log10(size) / 3))) if size > 0 else 0


def si(value: float, unit: str) -> str:
    """Return a value with the SI prefix that suits it."""
    # Slightly above, so that 1e-6 is not written as 1000 n.
    exponent = prefix_exponent(abs(value) * (1 + 1e-9))
    return f"{value * 10.0**-exponent:.4g} {PREFIXES[exponent]}{unit}"
