"""Spheres and ellipsoids, which can be turned."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.core.checks import Checks
from xmist.core.errors import shown
from xmist.simulate.objects.base import Body, Box, given

Real = NDArray[Any]

_AXES: Final = "three positive lengths in metres"


@dataclass(frozen=True, kw_only=True)
class Ellipsoid(Body):
    """An ellipsoid in any orientation.

    Parameters
    ----------
    semi_axes : tuple of float
        Half the lengths of its three axes in metres, along x, y and z before it is turned.
    x, y, z : float
        Centre in metres; z, along the beam, matters only when the sample is turned.
    orientation : (3, 3) nested tuple of float, optional
        Rotation matrix that turns it, in (x, y, z); None leaves it as it is.

    Examples
    --------
    >>> grain = Ellipsoid(semi_axes=(30e-6, 20e-6, 10e-6))
    >>> float(grain.chord(np.array(0.0), np.array(0.0)))
    2e-05
    """

    semi_axes: tuple[float, float, float]
    x: float = given(default=0.0)
    y: float = given(default=0.0)
    z: float = given(default=0.0)
    orientation: tuple[tuple[float, float, float], ...] | None = None

    def _check(self, check: Checks) -> None:
        axes = check.array("semi_axes", self.semi_axes, _AXES)
        if axes is not None and not (
            axes.shape == (3,) and axes.dtype.kind in "iuf" and np.all(np.isfinite(axes) & (axes > 0))
        ):
            check.add(f"semi_axes are {shown(self.semi_axes)}; expected {_AXES}")
        if self.orientation is not None:
            turn = check.array("orientation", self.orientation, "a 3 × 3 matrix")
            if turn is not None and (
                turn.shape != (3, 3)
                or turn.dtype.kind not in "iuf"
                or not np.allclose(turn @ turn.T, np.eye(3), atol=1e-9)
            ):
                check.add("orientation is no rotation; expected a 3 × 3 matrix Q with Q Qᵀ = 1")

    def _matrix(self) -> Real:
        """Return the matrix A of rᵀ A r = 1, in (x, y, z)."""
        turn = np.eye(3) if self.orientation is None else np.asarray(self.orientation, dtype=float)
        matrix: Real = turn @ np.diag(1.0 / np.asarray(self.semi_axes, dtype=float) ** 2) @ turn.T
        return matrix

    @property
    def box(self) -> Box:
        """Least and greatest y, least and greatest x in metres."""
        spread = np.sqrt(np.diag(np.linalg.inv(self._matrix())))
        return self.y - spread[1], self.y + spread[1], self.x - spread[0], self.x + spread[0]

    def chord(self, y: Real, x: Real) -> Real:
        """Return the length along the beam at points; see `Body.chord`."""
        a = self._matrix()
        x, y = x - self.x, y - self.y
        # A_zz z² + 2 (A_xz x + A_yz y) z + q − 1 = 0 has roots that differ by the chord.
        linear = a[0, 2] * x + a[1, 2] * y
        rest = 1.0 - (a[0, 0] * x**2 + 2.0 * a[0, 1] * x * y + a[1, 1] * y**2)
        chord: Real = 2.0 / a[2, 2] * np.sqrt(np.maximum(linear**2 + a[2, 2] * rest, 0.0))
        return chord

    def contains(self, z: Real, y: Real, x: Real) -> Real:
        """Return which points lie inside.

        Parameters
        ----------
        z, y, x : array
            Coordinates in metres, broadcast against each other.

        Returns
        -------
        bool array
            True inside.
        """
        a = self._matrix()
        x, y, z = x - self.x, y - self.y, z - self.z
        inside: Real = (
            a[0, 0] * x**2
            + a[1, 1] * y**2
            + a[2, 2] * z**2
            + 2.0 * (a[0, 1] * x * y + a[0, 2] * x * z + a[1, 2] * y * z)
        ) <= 1.0
        return inside

    def turned(self, angle: float, tilt: float = 0.0) -> Ellipsoid:
        """Return the body after the sample was turned about the y axis, and that axis about x.

        Parameters
        ----------
        angle : float
            Degrees, from +x towards +z.
        tilt : float
            Degrees, from +y towards +z.

        Returns
        -------
        Ellipsoid
            The turned body.
        """
        turn = turning(angle, tilt)
        before = np.eye(3) if self.orientation is None else np.asarray(self.orientation, dtype=float)
        x, y, z = (float(value) for value in turn @ np.array([self.x, self.y, self.z]))
        orientation = tuple((float(row[0]), float(row[1]), float(row[2])) for row in turn @ before)
        return Ellipsoid(semi_axes=self.semi_axes, x=x, y=y, z=z, orientation=orientation)


def turning(angle: float, tilt: float = 0.0) -> Real:
    """Return the rotation matrix (x, y, z) of degrees about y, from +x to +z, then about x, from +y to +z."""
    c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    turn: Real = np.array([[c, 0.0, -s], [0.0, 1.0, 0.0], [s, 0.0, c]])
    if tilt:
        c, s = math.cos(math.radians(tilt)), math.sin(math.radians(tilt))
        turn = np.array([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]]) @ turn
    return turn


def sphere(*, radius: float, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Ellipsoid:
    """Return a sphere.

    Parameters
    ----------
    radius : float
        Radius in metres.
    x, y, z : float
        Centre in metres.

    Returns
    -------
    Ellipsoid
        With three equal axes.

    Examples
    --------
    >>> float(sphere(radius=1e-5).chord(np.array(0.0), np.array(6e-6)).round(12))
    1.6e-05
    """
    return Ellipsoid(semi_axes=(radius, radius, radius), x=x, y=y, z=z)
