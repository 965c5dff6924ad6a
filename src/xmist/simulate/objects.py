"""Bodies with known projected thickness.

A body gives the length of its chord along the beam, z, at any point (x, y) of the sample's plane, exactly.
`thickness` averages it over the pixels: by midpoints of 8 × 8 parts in every pixel that an edge passes through
or comes near (good to about 0.5 % of the thickness there), by the value at the centre plus its Laplacian/24
elsewhere, to fourth order. The averages of a long straight cylinder and of a slab are exact.
"""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass, field, fields
from typing import Any, Final

import numpy as np
import scipy.ndimage as ndi
from numpy.typing import ArrayLike, NDArray

from xmist.errors import InputError, raise_faults
from xmist.simulate.grid import Grid

Real = NDArray[Any]
Box = tuple[float, float, float, float]

_PARTS: Final = 8  # a side, in pixels at an edge: a straight edge is placed to 1/16 pixel at worst
_CHUNK: Final = 1 << 15  # edge pixels at once, to bound the memory

_POSITIVE: Final = "a positive length in metres"
_LENGTH: Final = "a length in metres"
_DEGREES: Final = "degrees"


def _length(expected: str = _LENGTH, **options: Any) -> Any:
    return field(metadata={"expected": expected}, **options)


class Body:
    """What has a thickness along the beam; subclasses give `chord` and `box`."""

    def __post_init__(self) -> None:
        faults: list[str] = []
        for item in fields(self):  # type: ignore[arg-type]
            expected, value = item.metadata.get("expected"), getattr(self, item.name)
            if expected is None or (value is None and item.default is None):
                continue
            if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
                faults.append(f"{item.name} of the {self._name()} is {value!r}; expected {expected}")
            elif expected == _POSITIVE and not value > 0.0:
                faults.append(f"{item.name} of the {self._name()} is {value:g}; expected {expected}")
        raise_faults(faults or self._faults())

    def _faults(self) -> list[str]:
        return []

    def _name(self) -> str:
        return type(self).__name__

    @property
    def box(self) -> Box:
        """Least and greatest y, least and greatest x in metres, outside of which there is nothing."""
        raise NotImplementedError

    def chord(self, y: Real, x: Real) -> Real:
        """Give the length along the beam at points.

        Parameters
        ----------
        y, x : array
            Coordinates in metres, broadcast against each other.

        Returns
        -------
        array
            Length in metres, 0 outside.
        """
        raise NotImplementedError

    def thickness(self, grid: Grid) -> Real:
        """Give the thickness along the beam, averaged over pixels.

        Parameters
        ----------
        grid : Grid
            Pixels in the sample's plane.

        Returns
        -------
        (y, x) float64 array
            Thickness in metres.
        """
        out = np.zeros(grid.shape)
        rows, columns = grid.window(self.box, 1)
        if rows.start < rows.stop and columns.start < columns.stop:
            out[rows, columns] = self._average(grid, grid.y(rows)[:, None], grid.x(columns)[None, :])
        return out

    def _average(self, grid: Grid, y: Real, x: Real) -> Real:
        image = np.array(np.broadcast_to(self.chord(y, x), (y.size, x.size)))
        edges = self._edges(grid, y, x)
        image += np.where(edges, 0.0, ndi.laplace(image, mode="nearest") / 24.0)
        at_y, at_x = np.nonzero(edges)
        parts = ((np.arange(_PARTS) + 0.5) / _PARTS - 0.5) * grid.pixel
        for start in range(0, len(at_y), _CHUNK):
            i, j = at_y[start : start + _CHUNK], at_x[start : start + _CHUNK]
            samples = self.chord(
                y[i, 0][:, None, None] + parts[None, :, None], x[0, j][:, None, None] + parts[None, None, :]
            )
            image[i, j] = samples.mean(axis=(1, 2))
        return image

    def _edges(self, grid: Grid, y: Real, x: Real) -> Real:
        """Mark the pixels with corners on both sides of the outline, and their neighbours."""
        half = 0.5 * grid.pixel
        corner_y = np.concatenate([y - half, y[-1:] + half])
        corner_x = np.concatenate([x - half, x[:, -1:] + half], axis=1)
        inside = self._inside(corner_y, corner_x)
        lowest = inside[:-1, :-1] & inside[1:, :-1] & inside[:-1, 1:] & inside[1:, 1:]
        highest = inside[:-1, :-1] | inside[1:, :-1] | inside[:-1, 1:] | inside[1:, 1:]
        mixed = lowest != highest
        if not highest.any():
            mixed = np.ones_like(mixed)  # smaller than a pixel: nothing shows at corners
        grown: Real = ndi.binary_dilation(mixed, np.ones((3, 3), bool))
        return grown

    def _inside(self, y: Real, x: Real) -> Real:
        inside: Real = np.broadcast_to(self.chord(y, x) > 0.0, (y.size, x.size))
        return inside


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
    x: float = _length(default=0.0)
    y: float = _length(default=0.0)
    z: float = _length(default=0.0)
    orientation: tuple[tuple[float, float, float], ...] | None = None

    def _faults(self) -> list[str]:
        axes = np.asarray(self.semi_axes, dtype=float)
        faults = []
        if axes.shape != (3,) or not np.all(np.isfinite(axes) & (axes > 0)):
            faults.append(f"semi_axes are {self.semi_axes!r}; expected three positive lengths in metres")
        if self.orientation is not None:
            turn = np.asarray(self.orientation, dtype=float)
            if turn.shape != (3, 3) or not np.allclose(turn @ turn.T, np.eye(3), atol=1e-9):
                faults.append("orientation is no rotation; expected a 3 × 3 matrix Q with Q Qᵀ = 1")
        return faults

    def _matrix(self) -> Real:
        """The matrix A of rᵀ A r = 1, in (x, y, z)."""
        turn = np.eye(3) if self.orientation is None else np.asarray(self.orientation, dtype=float)
        matrix: Real = turn @ np.diag(1.0 / np.asarray(self.semi_axes, dtype=float) ** 2) @ turn.T
        return matrix

    @property
    def box(self) -> Box:
        spread = np.sqrt(np.diag(np.linalg.inv(self._matrix())))
        return self.y - spread[1], self.y + spread[1], self.x - spread[0], self.x + spread[0]

    def chord(self, y: Real, x: Real) -> Real:
        a = self._matrix()
        x, y = x - self.x, y - self.y
        # A_zz z² + 2 (A_xz x + A_yz y) z + q − 1 = 0 has roots that differ by the chord.
        linear = a[0, 2] * x + a[1, 2] * y
        rest = 1.0 - (a[0, 0] * x**2 + 2.0 * a[0, 1] * x * y + a[1, 1] * y**2)
        chord: Real = 2.0 / a[2, 2] * np.sqrt(np.maximum(linear**2 + a[2, 2] * rest, 0.0))
        return chord

    def contains(self, z: Real, y: Real, x: Real) -> Real:
        """Say which points lie inside.

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

    def turned(self, angle: float) -> Ellipsoid:
        """Give the body after the sample was turned about the y axis.

        Parameters
        ----------
        angle : float
            Degrees, from +x towards +z.

        Returns
        -------
        Ellipsoid
            The turned body.
        """
        c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        turn = np.array([[c, 0.0, -s], [0.0, 1.0, 0.0], [s, 0.0, c]])
        before = np.eye(3) if self.orientation is None else np.asarray(self.orientation, dtype=float)
        x, y, z = (float(value) for value in turn @ np.array([self.x, self.y, self.z]))
        orientation = tuple((float(row[0]), float(row[1]), float(row[2])) for row in turn @ before)
        return Ellipsoid(semi_axes=tuple(self.semi_axes), x=x, y=y, z=z, orientation=orientation)


def sphere(*, radius: float, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Ellipsoid:
    """Give a sphere.

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

    radius: float = _length(_POSITIVE)
    angle: float = _length(_DEGREES)
    x: float = _length(default=0.0)
    y: float = _length(default=0.0)
    length: float | None = _length(_POSITIVE, default=None)
    tilt: float = _length(_DEGREES, default=0.0)
    z: float = _length(default=0.0)

    def _faults(self) -> list[str]:
        if not -89.0 <= self.tilt <= 89.0:
            return [f"tilt of the Cylinder is {self.tilt:g}; expected −89 to 89 degrees"]
        return []

    def _axes(self) -> tuple[float, float, float, float]:
        a, t = math.radians(self.angle), math.radians(self.tilt)
        return math.cos(a), math.sin(a), math.cos(t), math.sin(t)

    @property
    def box(self) -> Box:
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
        # A pixel seen along the axis is the convolution of two boxes, of half-widths a and b, so that its mean
        # is a second difference of the chord's second antiderivative.
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

    depth: float = _length(_POSITIVE)
    width: float | None = _length(_POSITIVE, default=None)
    height: float | None = _length(_POSITIVE, default=None)
    x: float = _length(default=0.0)
    y: float = _length(default=0.0)

    @property
    def box(self) -> Box:
        half_x = math.inf if self.width is None else 0.5 * self.width
        half_y = math.inf if self.height is None else 0.5 * self.height
        return self.y - half_y, self.y + half_y, self.x - half_x, self.x + half_x

    def chord(self, y: Real, x: Real) -> Real:
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

    thin: float = _length()
    thick: float = _length(_POSITIVE)
    length: float = _length(_POSITIVE)
    width: float = _length(_POSITIVE)
    angle: float = _length(_DEGREES)
    x: float = _length(default=0.0)
    y: float = _length(default=0.0)

    def _faults(self) -> list[str]:
        if not 0.0 <= self.thin <= self.thick:
            return [f"thin of the Wedge is {self.thin:g}; expected 0 to thick, {self.thick:g} m"]
        return []

    @property
    def box(self) -> Box:
        c, s = abs(math.cos(math.radians(self.angle))), abs(math.sin(math.radians(self.angle)))
        x, y = 0.5 * (self.length * c + self.width * s), 0.5 * (self.length * s + self.width * c)
        return self.y - y, self.y + y, self.x - x, self.x + x

    def _place(self, y: Real, x: Real) -> tuple[Real, Real]:
        c, s = math.cos(math.radians(self.angle)), math.sin(math.radians(self.angle))
        x, y = x - self.x, y - self.y
        inside = (np.abs(c * x + s * y) <= 0.5 * self.length) & (np.abs(c * y - s * x) <= 0.5 * self.width)
        return inside, c * x + s * y

    def chord(self, y: Real, x: Real) -> Real:
        inside, along = self._place(y, x)
        slope = (self.thick - self.thin) / self.length
        return np.where(inside, 0.5 * (self.thin + self.thick) + slope * along, 0.0)

    def _inside(self, y: Real, x: Real) -> Real:
        return self._place(y, x)[0]


@dataclass(frozen=True, kw_only=True, eq=False)
class ThicknessMap(Body):
    """A thickness map of the user's, between whose pixels is interpolated linearly; 0 outside.

    Parameters
    ----------
    values : (y, x) array_like
        Thickness in metres at the centres of its pixels, ≥ 0.
    pixel : float
        Its pixel in the sample's plane in metres; a map finer than the simulation should be averaged before.
    x, y : float
        Where its middle lies in metres.

    Examples
    --------
    >>> flake = ThicknessMap(values=np.ones((3, 3)) * 1e-6, pixel=5e-6)
    >>> float(flake.chord(np.array(0.0), np.array(2e-6)))
    1e-06
    """

    values: ArrayLike
    pixel: float = _length(_POSITIVE)
    x: float = _length(default=0.0)
    y: float = _length(default=0.0)

    def _faults(self) -> list[str]:
        values = np.array(self.values, dtype=np.float64)
        if values.ndim != 2 or values.size == 0:
            return [f"the thickness map has shape {values.shape}; expected (y, x)"]
        wrong = int(np.count_nonzero(~(np.isfinite(values) & (values >= 0.0))))
        if wrong:
            return [
                f"the thickness map has {wrong} entries that are negative or not finite; expected metres ≥ 0"
            ]
        values.flags.writeable = False
        object.__setattr__(self, "values", values)
        return []

    @property
    def box(self) -> Box:
        shape = np.shape(self.values)
        y, x = (0.5 * (size + 1) * self.pixel for size in shape)
        return self.y - y, self.y + y, self.x - x, self.x + x

    def chord(self, y: Real, x: Real) -> Real:
        values = np.asarray(self.values)
        y, x = np.broadcast_arrays(y, x)
        at = np.stack(
            [
                (y - self.y) / self.pixel + 0.5 * (values.shape[0] - 1),
                (x - self.x) / self.pixel + 0.5 * (values.shape[1] - 1),
            ]
        )
        chord: Real = ndi.map_coordinates(values, at, order=1, mode="constant", cval=0.0)
        return chord

    def _average(self, grid: Grid, y: Real, x: Real) -> Real:
        return self.chord(y, x)  # the user's values are averages already


def check_bodies(bodies: list[Body], grid: Grid) -> list[str]:
    """Say which bodies lie outside the field.

    Parameters
    ----------
    bodies : list of Body
        Bodies.
    grid : Grid
        The detector's field.

    Returns
    -------
    list of str
        One fault each.
    """
    half_y, half_x = 0.5 * grid.shape[0] * grid.pixel, 0.5 * grid.shape[1] * grid.pixel
    faults = []
    for number, body in enumerate(bodies):
        low_y, high_y, low_x, high_x = body.box
        if high_y <= -half_y or low_y >= half_y or high_x <= -half_x or low_x >= half_x:
            faults.append(
                f"part {number} of the sample ({type(body).__name__}) covers y {low_y:.3g} to {high_y:.3g} m and x "
                f"{low_x:.3g} to {high_x:.3g} m, outside the field of ±{half_y:.3g} × ±{half_x:.3g} m (y × x)"
            )
    return faults


__all__ = [
    "Body",
    "Cylinder",
    "Ellipsoid",
    "InputError",
    "Slab",
    "ThicknessMap",
    "Wedge",
    "check_bodies",
    "sphere",
]
