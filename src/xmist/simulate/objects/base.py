"""Base class of bodies, and the average of their thickness over pixels."""

from __future__ import annotations

import math
from dataclasses import field, fields
from typing import Any, Final

import numpy as np
import scipy.ndimage as ndi
from numpy.typing import NDArray

from xmist.core.checks import Checks
from xmist.core.errors import ErrorRecord
from xmist.simulate.grid import Grid

Real = NDArray[Any]
Box = tuple[float, float, float, float]

_PARTS: Final = 8  # a side, in pixels at an edge: a straight edge is placed to 1/16 pixel at worst
_CHUNK: Final = 1 << 15  # edge pixels at once, to bound the memory

POSITIVE: Final = "a positive length in metres"
LENGTH: Final = "a length in metres"
DEGREES: Final = "degrees"


def given(expected: str = LENGTH, **options: Any) -> Any:
    """Declare a field of a body whose number is checked."""
    return field(metadata={"expected": expected}, **options)


class Body:
    """Base class of bodies; subclasses define `chord` and `box`."""

    def __post_init__(self) -> None:
        check = Checks()
        for item in fields(self):  # type: ignore[arg-type]
            expected, value = item.metadata.get("expected"), getattr(self, item.name)
            if expected is None or (value is None and item.default is None):
                continue
            name = f"{item.name} of the {type(self).__name__}"
            low = 0.0 if expected == POSITIVE else -math.inf
            unit = "degrees" if expected == DEGREES else "m"
            check.number(name, value, unit=unit, low=low, strict=expected == POSITIVE)
        if not check.errors:
            self._check(check)
        check.done()

    def _check(self, check: Checks) -> None:
        """Check conditions on several numbers."""

    @property
    def box(self) -> Box:
        """Least and greatest y, least and greatest x in metres, outside of which there is nothing."""
        raise NotImplementedError

    def chord(self, y: Real, x: Real) -> Real:
        """Return the length along the beam at points.

        `y`, `x` in metres; returns in metres.
        """
        raise NotImplementedError

    def thickness(self, grid: Grid) -> Real:
        """Return the thickness along the beam, averaged over pixels.

        Returns (y, x) in metres.
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


def check_bodies(bodies: list[Body], grid: Grid) -> list[ErrorRecord]:
    """Return which bodies lie outside the field."""
    half_y, half_x = 0.5 * grid.shape[0] * grid.pixel, 0.5 * grid.shape[1] * grid.pixel
    check = Checks()
    for number, body in enumerate(bodies):
        low_y, high_y, low_x, high_x = body.box
        if high_y <= -half_y or low_y >= half_y or high_x <= -half_x or low_x >= half_x:
            check.add(
                f"part {number} of the sample ({type(body).__name__}) covers y {low_y:.3g} to {high_y:.3g} m "
                f"and x {low_x:.3g} to {high_x:.3g} m, outside the field of ±{half_y:.3g} × ±{half_x:.3g} m "
                "(y × x)",
                "field-small",
            )
    return check.errors
