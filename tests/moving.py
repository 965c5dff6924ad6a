"""Frames of speckle that moves in a known way, borders included: the speckle is known everywhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Real = NDArray[np.float64]
Shift = Callable[[Real, Real], tuple[Real, Real]]

SHAPE = (96, 112)


@dataclass(frozen=True)
class Moving:
    """Frames (position, y, x), shift (2, y, x) in pixels, and where the reference has the speckles (y, x)."""

    reference: Real
    sample: Real
    shift: Real
    known: NDArray[np.bool_]

    def error(self, found: Real) -> tuple[float, float]:
        """Return slope and rms error (pixels a component) of a shift (2, y, x)."""
        one, other = found[:, self.known], self.shift[:, self.known]
        return float((one * other).sum() / (other**2).sum()), float(np.sqrt(np.mean((one - other) ** 2)))


def moving(shift: Shift, positions: int, *, noise: float = 0.01, seed: int = 0) -> Moving:
    """Make frames in which a shift (x, y from the middle to u_x, u_y) carries the speckle and its intensity.

    `noise` of 0.01 is that of 10 000 photons a pixel; the speckle's contrast is 0.25.
    """
    rng = np.random.default_rng(seed)
    y, x = (part - (size - 1) / 2 for part, size in zip(np.mgrid[: SHAPE[0], : SHAPE[1]], SHAPE, strict=True))

    def came_from(x: Real, y: Real) -> tuple[Real, Real]:
        back_x, back_y = x, y
        for _ in range(60):
            u_x, u_y = shift(back_x, back_y)
            back_x, back_y = x - u_x, y - u_y
        return back_x, back_y

    old_x, old_y = came_from(x, y)
    h = 1e-3
    right, left = came_from(x + h, y), came_from(x - h, y)
    below, above = came_from(x, y + h), came_from(x, y - h)
    jacobian = (
        (right[0] - left[0]) * (below[1] - above[1]) - (below[0] - above[0]) * (right[1] - left[1])
    ) / (4 * h**2)
    reference, sample = [], []
    for _ in range(positions):
        angle, length = rng.uniform(0, 2 * np.pi, 60), rng.uniform(6, 14, 60)
        phase = rng.uniform(0, 2 * np.pi, 60)

        def light(x: Real, y: Real, waves=(angle, 2 * np.pi / length, phase)) -> Real:  # type: ignore[no-untyped-def]
            total = sum(
                np.cos(k * (np.cos(a) * x + np.sin(a) * y) + b) for a, k, b in zip(*waves, strict=True)
            )
            return np.exp(0.25 * total / np.sqrt(30))

        reference.append(light(x, y) + noise * rng.normal(size=SHAPE))
        sample.append(light(old_x, old_y) * jacobian + noise * rng.normal(size=SHAPE))
    known = (np.abs(old_x) <= SHAPE[1] / 2 - 1) & (np.abs(old_y) <= SHAPE[0] / 2 - 1)
    return Moving(np.stack(reference), np.stack(sample), np.stack(shift(x, y)), known)


def tilt(x: Real, y: Real) -> tuple[Real, Real]:
    return 0.4 + 0 * x, -0.3 + 0 * y


def defocus(x: Real, y: Real) -> tuple[Real, Real]:
    return 0.02 * x, 0.02 * y


def astigmatism(x: Real, y: Real) -> tuple[Real, Real]:
    return 0.006 * x + 0.008 * y, 0.008 * x - 0.006 * y


def _bump(x: Real, y: Real, middle: tuple[float, float], sigma: float) -> tuple[Real, Real]:
    x, y = x - middle[0], y - middle[1]
    slope = 0.6 / 0.607 / sigma * np.exp(-(x**2 + y**2) / (2 * sigma**2))
    return slope * x, slope * y


def cut_object(x: Real, y: Real) -> tuple[Real, Real]:
    """A bump that the right border cuts where it is steep."""
    return _bump(x, y, (SHAPE[1] / 2 - 12.0, 5.0), 16.0)


def inner_object(x: Real, y: Real) -> tuple[Real, Real]:
    return _bump(x, y, (3.0, -2.0), 10.0)
