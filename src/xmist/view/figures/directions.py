"""The image of a directional dark-field: hue is direction, saturation anisotropy, brightness strength."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xmist.core.data import Retrieval
from xmist.numerics.images.tensors import anisotropy, direction, nearest_positive
from xmist.view.figures.page import NO_VALUE, SMALL
from xmist.view.figures.panels import Image, Panel, si

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Values = NDArray[np.float64]

TITLE: Final = "direction of scatter"
_BRIGHTEST: Final = 99.5  # percentile of the strength that gets full brightness
_WHEEL: Final = 181  # pixels across


def direction_colours(tensor: ArrayLike, *, brightest: float) -> Values:
    """Return the colours of a tensor image.

    Parameters
    ----------
    tensor : (3, y, x) array_like
        D_xx, D_xy, D_yy. One with a negative eigenvalue is shown as the nearest positive semi-definite one.
    brightest : float
        D = trace/2 that gets full brightness, in the tensor's unit.

    Returns
    -------
    (y, x, 3) array
        Red, green and blue from 0 to 1: hue the direction of the major axis, from red at +x over 180 degrees
        towards +y; saturation the anisotropy (λ1 − λ2)/(λ1 + λ2); value √(D/brightest). NaN where the
        tensor is.

    Examples
    --------
    >>> along_x = direction_colours([[[2.0]], [[0.0]], [[0.0]]], brightest=1.0)
    >>> along_x.tolist(), direction_colours([[[1.0]], [[0.0]], [[1.0]]], brightest=4.0).tolist()
    ([[[1.0, 0.0, 0.0]]], [[[0.5, 0.5, 0.5]]])
    """
    from matplotlib.colors import hsv_to_rgb

    shown = nearest_positive(np.asarray(tensor, np.float64))
    strength = (shown[0] + shown[2]) / 2
    value = np.sqrt(np.clip(strength / brightest if brightest > 0 else 0.0 * strength, 0.0, 1.0))
    known = np.isfinite(strength)
    hsv = np.stack([direction(shown) / 180.0, anisotropy(shown), value], axis=-1)
    colours: Values = np.asarray(hsv_to_rgb(np.where(known[..., None], hsv, 0.0)), np.float64)
    colours[~known] = np.nan
    return colours


def wheel_colours(size: int = _WHEEL) -> Values:
    """Return the wheel that explains the colours: direction around, anisotropy outwards, full brightness.

    Parameters
    ----------
    size : int
        Pixels across.

    Returns
    -------
    (size, size, 4) array
        Red, green, blue and opacity, y downwards; a direction has the colour of its opposite.

    Examples
    --------
    >>> wheel_colours(5)[2, 4].tolist()
    [1.0, 0.0, 0.0, 1.0]
    """
    from matplotlib.colors import hsv_to_rgb

    y, x = (np.mgrid[:size, :size] - (size - 1) / 2) / ((size - 1) / 2)
    radius = np.hypot(x, y)
    hue = (np.arctan2(y, x) / np.pi) % 1.0
    colours = hsv_to_rgb(np.stack([hue, np.minimum(radius, 1.0), np.ones_like(hue)], axis=-1))
    return np.concatenate([colours, (radius <= 1.0 + 1e-9)[..., None]], axis=-1)


class Directions:
    """The directional dark-field of a result, as it is drawn."""

    def __init__(self, source: Retrieval | Mapping[str, ArrayLike] | object) -> None:
        components = [Panel("dark_field_tensor", name).pick(source) for name in ("xx", "xy", "yy")]
        self.images = [Image.of(component, getattr(source, "flags", None)) for component in components]
        strengths = (self._strength(which) for which in ("unflagged", "blocks"))
        known = next((values for values in strengths if values.size), np.zeros(1))
        self.brightest = float(np.percentile(known, _BRIGHTEST))

    def _strength(self, which: str) -> Values:
        """Finite values of trace/2 as they are shown, of the unflagged pixels or of all."""
        xx, xy, yy = (getattr(image, which) for image in self.images)
        shown: Values = nearest_positive(np.stack([xx, xy, yy]))
        strength: Values = (shown[0] + shown[2]) / 2
        return strength[np.isfinite(strength)]

    @property
    def legend(self) -> str:
        """Text that explains full brightness."""
        return f"full brightness:\nD = {si(float(f'{self.brightest:.2g}'), 'm')}"

    def draw(self, axes: Axes) -> None:
        """Draw the image into its axes, without ticks."""
        from matplotlib.colors import to_rgb

        axes.set(xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set_linewidth(0.5)
        blocks = np.stack([np.asarray(image.blocks) for image in self.images])
        colours = direction_colours(blocks, brightest=self.brightest)
        colours = np.where(np.isnan(colours), to_rgb(NO_VALUE), colours)
        factor, shape = self.images[0].factor, self.images[0].shape
        rows, columns = (size * factor for size in colours.shape[:2])
        axes.imshow(colours, extent=(-0.5, columns - 0.5, rows - 0.5, -0.5), aspect="auto")
        # The last blocks can reach beyond the image.
        axes.set(xlim=(-0.5, shape[1] - 0.5), ylim=(shape[0] - 0.5, -0.5))

    def draw_wheel(self, axes: Axes, *, beside: bool = False) -> None:
        """Draw the wheel into square axes, with its explanation below or beside it."""
        axes.imshow(wheel_colours(), extent=(-1, 1, 1, -1), interpolation="bilinear")
        axes.set(xlim=(-1.02, 1.02), ylim=(1.02, -1.02), aspect="equal")
        axes.axis("off")
        axes.set_label("legend")
        if beside:
            words = f"scatter along;\ngrey: isotropic\n{self.legend}"
            axes.text(1.25, 0.0, words, fontsize=SMALL, ha="left", va="center", parse_math=False)
            return
        axes.set_title("scatter along", fontsize=SMALL, pad=3)
        style: dict[str, Any] = {"fontsize": SMALL, "ha": "center", "va": "top", "parse_math": False}
        axes.text(0.0, 1.12, f"grey: isotropic\n{self.legend}", linespacing=1.3, **style)
