"""Straight fibres, rods and tubes in any direction."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmist.core.checks import Checks
from xmist.simulate.grid import Grid
from xmist.simulate.objects.base import DEGREES, POSITIVE, Body, Box, given

Real = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Cylinder(Body):
    """A straight fibre or rod in any direction.

    Parameters
    ----------
    radius : float
        Radius in metres.
    angle : float
        Direction of the axis in the image, in degrees from +x towards +y.
    x, y : float
        A point of the axis; its middle if it has a length. Metres.
    length : float, optional
        Length along the axis in metres, with flat ends; None: it leaves the field at both ends.
    tilt : float
        Angle of the axis out of the image plane in degrees, −90 < tilt < 90.
    z : float
        Depth of that point in metres; matters only when the sample is turned.

    Examples
    --------
    >>> fibre = Cylinder(radius=5e-6, angle=0.0, tilt=60.0)
    >>> float(fibre.chord(np.array(0.0), np.array(0.0)).round(12))
    2e-05
    """

    radius: float = given(POSITIVE)
    angle: float = given(DEGREES)
    x: float = given(default=0.0)
    y: float = given(default=0.0)
    length: float | None = given(POSITIVE, default=None)
    tilt: float = given(DEGREES, default=0.0)
    z: float = given(default=0.0)

    def _check(self, check: Checks) -> None:
        if not -89.0 <= self.tilt <= 89.0:
            check.add(f"tilt of the Cylinder is {self.tilt:g}; expected −89 to 89 degrees")

    def _axes(self) -> tuple[float, float, float, float]:
        a, t = math.radians(self.angle), math.radians(self.tilt)
        return math.cos(a), math.sin(a), math.cos(t), math.sin(t)

    @property
    def box(self) -> Box:
        """Least and greatest y, least and greatest x in metres."""
        c, s, ct, st = self._axes()
        if self.length is None:
            along_x = math.inf if abs(c) > 1e-12 else 0.0
            along_y = math.inf if abs(s) > 1e-12 else 0.0
        else:
            reach = 0.5 * self.length * ct + self.radius * abs(st)
            along_x, along_y = reach * abs(c), reach * abs(s)
        y, x = along_y + self.radius * abs(c), along_x + self.radius * abs(s)
        return self.y - y, self.y + y, self.x - x, self.x + x

    def chord(self, y: Real, x: Real) -> Real:
        """Return the length along the beam at points; see `Body.chord`."""
        c, s, ct, st = self._axes()
        x, y = x - self.x, y - self.y
        across, along = c * y - s * x, c * x + s * y
        half = np.sqrt(np.maximum(self.radius**2 - across**2, 0.0)) / ct
        if self.length is None:
            return 2.0 * half
        # The ray (along, z) is inside the barrel where |z ct − along st| ≤ half ct, and between the ends
        # where |along ct + z st| ≤ length/2.
        middle = along * st / ct
        low, high = middle - half, middle + half
        if abs(st) < 1e-9:
            return np.where(np.abs(along) * ct <= 0.5 * self.length, 2.0 * half, 0.0)
        ends = np.sort(
            np.stack(
                np.broadcast_arrays(
                    (-0.5 * self.length - along * ct) / st, (0.5 * self.length - along * ct) / st
                )
            ),
            axis=0,
        )
        chord: Real = np.maximum(np.minimum(high, ends[1]) - np.maximum(low, ends[0]), 0.0)
        return chord

    def _average(self, grid: Grid, y: Real, x: Real) -> Real:
        if self.length is not None:
            return super()._average(grid, y, x)
        # A pixel seen along the axis is the convolution of two boxes, of half-widths a and b, so that its
        # mean is a second difference of the chord's second antiderivative.
        c, s, ct, _ = self._axes()
        across = c * (y - self.y) - s * (x - self.x)
        a = 0.5 * grid.pixel * max(abs(c), 1e-3)
        b = 0.5 * grid.pixel * max(abs(s), 1e-3)
        near = np.abs(across) <= self.radius + a + b
        u = across[near] / self.radius
        a, b = a / self.radius, b / self.radius
        total = _chord2(u + a + b) - _chord2(u + a - b) - _chord2(u - a + b) + _chord2(u - a - b)
        image = np.zeros(across.shape)
        image[near] = np.maximum(total * (2.0 * self.radius / ct) / (4.0 * a * b), 0.0)
        return image


def _chord2(u: Real) -> Real:
    """Second antiderivative of √(1 − u²), continued by its tangents outside."""
    v = np.clip(u, -1.0, 1.0)
    root = np.sqrt(1.0 - v**2)
    value = 0.5 * (v * np.arcsin(v) + root) - root**3 / 6.0
    result: Real = value + 0.25 * math.pi * np.sign(v) * (u - v)
    return result


@dataclass(frozen=True, kw_only=True)
class Tube(Body):
    """A straight hollow fibre: the wall of a cylinder.

    Parameters
    ----------
    radius : float
        Outer radius in metres.
    wall : float
        Thickness of the wall in metres, less than the radius.
    angle : float
        Direction of the axis in the image, in degrees from +x towards +y.
    x, y : float
        A point of the axis; its middle if it has a length. Metres.
    length : float, optional
        Length along the axis in metres, with open ends; None: it leaves the field at both ends.
    tilt : float
        Angle of the axis out of the image plane in degrees.

    Examples
    --------
    >>> straw = Tube(radius=5e-6, wall=1e-6, angle=0.0)
    >>> float(straw.chord(np.array(0.0), np.array(0.0)).round(12))
    2e-06
    """

    radius: float = given(POSITIVE)
    wall: float = given(POSITIVE)
    angle: float = given(DEGREES)
    x: float = given(default=0.0)
    y: float = given(default=0.0)
    length: float | None = given(POSITIVE, default=None)
    tilt: float = given(DEGREES, default=0.0)

    def _check(self, check: Checks) -> None:
        if not self.wall < self.radius:
            check.add(f"wall of the Tube is {self.wall:g}; expected less than its radius, {self.radius:g} m")
        else:
            self._cylinder(self.radius)

    def _cylinder(self, radius: float) -> Cylinder:
        return Cylinder(
            radius=radius, angle=self.angle, x=self.x, y=self.y, length=self.length, tilt=self.tilt
        )

    @property
    def box(self) -> Box:
        """Least and greatest y, least and greatest x in metres."""
        return self._cylinder(self.radius).box

    def chord(self, y: Real, x: Real) -> Real:
        """Return the length along the beam at points; see `Body.chord`."""
        outer = self._cylinder(self.radius).chord(y, x)
        inner: Real = self._cylinder(self.radius - self.wall).chord(y, x)
        return outer - inner

    def thickness(self, grid: Grid) -> Real:
        """Return the thickness along the beam, averaged over pixels; see `Body.thickness`."""
        outer = self._cylinder(self.radius).thickness(grid)
        outer -= self._cylinder(self.radius - self.wall).thickness(grid)
        return outer
