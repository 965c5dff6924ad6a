"""Slabs, wedges, and thickness maps of the user."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.ndimage as ndi
from numpy.typing import ArrayLike, NDArray

from xmist.core.checks import Checks
from xmist.simulate.grid import Grid
from xmist.simulate.objects.base import DEGREES, POSITIVE, Body, Box, given

Real = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Slab(Body):
    """A plate of even thickness across the beam.

    Parameters
    ----------
    depth : float
        Thickness along the beam in metres.
    width, height : float, optional
        Extent in x and in y in metres; None: beyond the field.
    x, y : float
        Centre in metres.

    Examples
    --------
    >>> plate = Slab(depth=1e-4, width=3e-6)
    >>> plate.thickness(Grid(shape=(1, 4), pixel=2e-6))
    array([[0.0e+00, 7.5e-05, 7.5e-05, 0.0e+00]])
    """

    depth: float = given(POSITIVE)
    width: float | None = given(POSITIVE, default=None)
    height: float | None = given(POSITIVE, default=None)
    x: float = given(default=0.0)
    y: float = given(default=0.0)

    @property
    def box(self) -> Box:
        """Least and greatest y, least and greatest x in metres."""
        half_x = math.inf if self.width is None else 0.5 * self.width
        half_y = math.inf if self.height is None else 0.5 * self.height
        return self.y - half_y, self.y + half_y, self.x - half_x, self.x + half_x

    def chord(self, y: Real, x: Real) -> Real:
        """Return the length along the beam at points; see `Body.chord`."""
        low_y, high_y, low_x, high_x = self.box
        inside = (y >= low_y) & (y <= high_y) & (x >= low_x) & (x <= high_x)
        return np.where(inside, self.depth, 0.0)

    def _average(self, grid: Grid, y: Real, x: Real) -> Real:
        low_y, high_y, low_x, high_x = self.box
        image: Real = (
            self.depth * _covered(y, low_y, high_y, grid.pixel) * _covered(x, low_x, high_x, grid.pixel)
        )
        return image


def _covered(centre: Real, low: float, high: float, pixel: float) -> Real:
    """Share of each pixel that lies between low and high."""
    covered = np.minimum(high, centre + 0.5 * pixel) - np.maximum(low, centre - 0.5 * pixel)
    share: Real = np.clip(covered / pixel, 0.0, 1.0)
    return share


@dataclass(frozen=True, kw_only=True)
class Wedge(Body):
    """A rectangle in the image whose thickness grows evenly from one side to the other.

    Parameters
    ----------
    thin, thick : float
        Thickness at its two ends in metres, `thin` may be 0.
    length, width : float
        Extent along the slope and across it in metres.
    angle : float
        Direction in which it grows thicker, in degrees from +x towards +y.
    x, y : float
        Centre in metres.

    Examples
    --------
    >>> wedge = Wedge(thin=0.0, thick=1e-4, length=2e-4, width=2e-4, angle=90.0)
    >>> float(wedge.chord(np.array(5e-5), np.array(0.0)).round(9))
    7.5e-05
    """

    thin: float = given()
    thick: float = given(POSITIVE)
    length: float = given(POSITIVE)
    width: float = given(POSITIVE)
    angle: float = given(DEGREES)
    x: float = given(default=0.0)
    y: float = given(default=0.0)

    def _check(self, check: Checks) -> None:
        if not 0.0 <= self.thin <= self.thick:
            check.add(f"thin of the Wedge is {self.thin:g}; expected 0 to thick, {self.thick:g} m")

    @property
    def box(self) -> Box:
        """Least and greatest y, least and greatest x in metres."""
        c, s = abs(math.cos(math.radians(self.angle))), abs(math.sin(math.radians(self.angle)))
        x, y = 0.5 * (self.length * c + self.width * s), 0.5 * (self.length * s + self.width * c)
        return self.y - y, self.y + y, self.x - x, self.x + x

    def _place(self, y: Real, x: Real) -> tuple[Real, Real]:
        c, s = math.cos(math.radians(self.angle)), math.sin(math.radians(self.angle))
        x, y = x - self.x, y - self.y
        inside = (np.abs(c * x + s * y) <= 0.5 * self.length) & (np.abs(c * y - s * x) <= 0.5 * self.width)
        return inside, c * x + s * y

    def chord(self, y: Real, x: Real) -> Real:
        """Return the length along the beam at points; see `Body.chord`."""
        inside, along = self._place(y, x)
        slope = (self.thick - self.thin) / self.length
        return np.where(inside, 0.5 * (self.thin + self.thick) + slope * along, 0.0)

    def _inside(self, y: Real, x: Real) -> Real:
        return self._place(y, x)[0]


@dataclass(frozen=True, kw_only=True, eq=False)
class ThicknessMap(Body):
    """A thickness map of the user, interpolated linearly between its pixels.

    Parameters
    ----------
    values : (y, x) array_like
        Thickness in metres at the centres of its pixels, ≥ 0.
    pixel : float
        Its pixel in the sample's plane in metres; a map finer than the simulation should be averaged before.
    x, y : float
        Where its middle lies in metres.
    continued : bool
        Whether the values at its border continue outside, as for a sample that is larger than the field;
        else they fall to 0 over one pixel.

    Examples
    --------
    >>> flake = ThicknessMap(values=np.ones((3, 3)) * 1e-6, pixel=5e-6)
    >>> float(flake.chord(np.array(0.0), np.array(2e-6)))
    1e-06
    """

    values: ArrayLike
    pixel: float = given(POSITIVE)
    x: float = given(default=0.0)
    y: float = given(default=0.0)
    continued: bool = False

    def _check(self, check: Checks) -> None:
        given = check.array("the thickness map", self.values, "numbers of shape (y, x)")
        if given is None:
            return
        if given.dtype.kind not in "biuf" or given.ndim != 2 or given.size == 0:
            check.add(f"the thickness map is {given.dtype} of shape {given.shape}; expected numbers (y, x)")
            return
        values = np.array(given, dtype=np.float64)
        wrong = int(np.count_nonzero(~(np.isfinite(values) & (values >= 0.0))))
        if wrong:
            check.add(
                f"the thickness map has {wrong} entries that are negative or not finite; expected metres ≥ 0"
            )
        values.flags.writeable = False
        object.__setattr__(self, "values", values)

    @property
    def box(self) -> Box:
        """Least and greatest y, least and greatest x in metres."""
        if self.continued:
            return -math.inf, math.inf, -math.inf, math.inf
        shape = np.shape(self.values)
        y, x = (0.5 * (size + 1) * self.pixel for size in shape)
        return self.y - y, self.y + y, self.x - x, self.x + x

    def chord(self, y: Real, x: Real) -> Real:
        """Return the length along the beam at points; see `Body.chord`."""
        values = np.asarray(self.values)
        rows = (y - self.y) / self.pixel + 0.5 * (values.shape[0] - 1)
        columns = (x - self.x) / self.pixel + 0.5 * (values.shape[1] - 1)
        at = np.stack([np.ravel(part) for part in np.broadcast_arrays(rows, columns)])
        chord: Real
        if self.continued:
            chord = ndi.map_coordinates(values, at, order=1, mode="nearest")
        else:
            chord = ndi.map_coordinates(values, at, order=1, mode="grid-constant", cval=0.0)
        return chord.reshape(np.broadcast_shapes(rows.shape, columns.shape))

    def _average(self, grid: Grid, y: Real, x: Real) -> Real:
        return self.chord(y, x)  # the user's values are averages already
