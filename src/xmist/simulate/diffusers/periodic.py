"""Periodic diffusers: a grid of holes, and a checkerboard."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmist.core.checks import Checks
from xmist.numerics.parallel import for_blocks
from xmist.simulate.diffusers.base import Diffuser

Real = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class HoleGrid(Diffuser):
    """A plate with round holes on a square grid; a pixel that an edge crosses holds the mean of both sides.

    Parameters
    ----------
    wavelength : float
        Wavelength λ₀ in metres at which phase and γ are stated.
    delta_over_beta : float, optional
        γ = δ/β there; None does not absorb.
    period : float
        Distance of neighbouring holes in metres. One is centred on the origin.
    diameter : float
        Their diameter in metres.
    phase : float
        Phase of the plate in rad, at most 0.

    Examples
    --------
    >>> from xmist.simulate.diffusers import transmission_functions
    >>> plate = HoleGrid(
    ...     wavelength=7.3e-11, period=40e-6, diameter=20e-6, phase=-50.0, delta_over_beta=10.0
    ... )
    >>> (t,) = transmission_functions(plate, (1, 3), 20e-6, 7.3e-11, [(0.0, 0.0)])
    >>> np.round(abs(t), 2)
    array([[0.01, 1.  , 0.01]], dtype=float32)
    """

    period: float
    diameter: float
    phase: float

    def _check(self, check: Checks) -> None:
        if self.diameter > self.period:
            check.add(
                f"diameter is {self.diameter:g} m; expected at most the period of {self.period:g} m, so that "
                "holes do not meet"
            )

    def _sample(self, y: Real, x: Real, wavelength: float, dtype: Any, workers: int | None) -> Real:
        pixel = float(y[1] - y[0]) if len(y) > 1 else float(x[1] - x[0]) if len(x) > 1 else self.diameter
        away_y, away_x = (r - self.period * np.rint(r / self.period) for r in (y, x))

        def open_part(start: int, stop: int) -> Real:
            distance = np.hypot(away_y[start:stop, None], away_x)
            return np.clip(0.5 + (0.5 * self.diameter - distance) / pixel, 0.0, 1.0)

        return _two_phases(open_part, self, wavelength, (len(y), len(x)), dtype, workers)


@dataclass(frozen=True, kw_only=True)
class Checkerboard(Diffuser):
    """Squares with and without matter; a pixel that an edge crosses holds the mean of both sides.

    Parameters
    ----------
    wavelength : float
        Wavelength λ₀ in metres at which phase and γ are stated.
    delta_over_beta : float, optional
        γ = δ/β there; None does not absorb.
    period : float
        Period in metres along y and x, two squares.
    phase : float
        Phase of the matter in rad, at most 0.

    Examples
    --------
    >>> from xmist.simulate.diffusers import transmission_functions
    >>> board = Checkerboard(wavelength=7.3e-11, period=4e-6, phase=-np.pi)
    >>> (t,) = transmission_functions(board, (4, 4), 1e-6, 7.3e-11, [(0.0, 0.0)])
    >>> t.real.astype(int)
    array([[ 1,  1, -1, -1],
           [ 1,  1, -1, -1],
           [-1, -1,  1,  1],
           [-1, -1,  1,  1]])
    """

    period: float
    phase: float

    def _sample(self, y: Real, x: Real, wavelength: float, dtype: Any, workers: int | None) -> Real:
        wave_y, wave_x = (self._pixel_means(r) for r in (y, x))

        def open_part(start: int, stop: int) -> Real:
            return 0.5 * (1.0 + wave_y[start:stop, None] * wave_x)

        return _two_phases(open_part, self, wavelength, (len(y), len(x)), dtype, workers)

    def _pixel_means(self, r: Real) -> Real:
        """Means over pixels of the square wave that is 1 in the first half of its period and −1 after."""
        half = 0.5 * (float(r[1] - r[0]) if len(r) > 1 else 0.5 * self.period)

        def integral(at: Real) -> Real:
            return np.abs(np.mod(at + 0.5 * self.period, self.period) - 0.5 * self.period)

        return (integral(r + half) - integral(r - half)) / (2.0 * half)


def _two_phases(
    open_part: Callable[[int, int], Real],
    diffuser: HoleGrid | Checkerboard,
    wavelength: float,
    shape: tuple[int, int],
    dtype: Any,
    workers: int | None,
) -> Real:
    """Return 1 where the diffuser is open and its plate's transmission elsewhere."""
    turn, loss = diffuser._exponents(wavelength)
    plate = complex(np.exp((1j * turn + loss) * diffuser.phase))
    out = np.empty(tuple(shape), dtype)

    def task(start: int, stop: int) -> None:
        out[start:stop] = plate + (1.0 - plate) * open_part(start, stop)

    for_blocks(task, shape[0], threads=workers)
    return out
