"""Base class of diffusers, and how they are sampled."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xmist.core.checks import Checks
from xmist.simulate.diffusers.relief import coordinates

Real = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Diffuser:
    """Base class of diffusers; use one of its subclasses."""

    wavelength: float  # wavelength λ₀ in metres at which phase and γ are stated
    delta_over_beta: float | None = None  # γ = δ/β there; None does not absorb

    # Name -> (unit, low, high, strict) of the numbers of each kind.
    _ranges: ClassVar[dict[str, tuple[str, float, float, bool]]] = {
        "wavelength": ("m", 0.0, 1e-7, True),
        "delta_over_beta": ("", 0.0, math.inf, True),
        "grain_size": ("m", 0.0, 1.0, True),
        "rms_phase": ("rad", 0.0, math.inf, False),
        "layers": ("", 0.0, math.inf, True),
        "size_spread": ("", 0.0, 0.99, False),
        "period": ("m", 0.0, 1.0, True),
        "diameter": ("m", 0.0, 1.0, True),
        "phase": ("rad", -math.inf, 0.0, False),
    }

    def __post_init__(self) -> None:
        check = Checks()
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name == "seed":
                check.count("seed", value, low=0)
            elif value is not None or item.name != "delta_over_beta":
                unit, low, high, strict = self._ranges[item.name]
                number = check.number(item.name, value, unit=unit, low=low, high=high, strict=strict)
                object.__setattr__(self, item.name, number)
        if not check.errors:
            self._check(check)
        check.done()

    def _check(self, check: Checks) -> None:
        """Check what concerns several numbers."""

    def _sample(self, y: Real, x: Real, wavelength: float, dtype: Any, workers: int | None) -> Real:
        """Sample the transmission function at coordinates on the diffuser."""
        raise NotImplementedError

    def _exponents(self, wavelength: float) -> tuple[float, float]:
        """Return (a, b): t = exp((ia + b) φ), φ the phase at λ₀."""
        ratio = wavelength / self.wavelength
        return ratio, 0.0 if self.delta_over_beta is None else ratio**3 / self.delta_over_beta


def transmission_functions(
    diffuser: Diffuser,
    shape: tuple[int, int],
    pixel_size: float,
    wavelength: float,
    positions: ArrayLike,
    *,
    dtype: Any = np.complex64,
    workers: int | None = None,
) -> Iterator[NDArray[Any]]:
    """Yield the transmission function of the diffuser at each position.

    `pixel_size` in metres, `wavelength` in metres, `positions` (position, 2) in metres; returns (y, x).
    """
    check = Checks()
    if not isinstance(diffuser, Diffuser) or type(diffuser) is Diffuser:
        check.add(f"diffuser is {diffuser!r}; expected a RandomScreen, Sandpaper, HoleGrid or Checkerboard")
    height, width = check.shape(shape)
    check.number("pixel_size", pixel_size, unit="m", low=0.0, strict=True)
    check.number("wavelength", wavelength, unit="m", low=0.0, strict=True)
    if np.dtype(dtype) not in (np.complex64, np.complex128):
        check.add(f"dtype is {np.dtype(dtype)}; expected complex64 or complex128")
    steps = _as_positions(positions, check)
    check.done()
    places = (
        (coordinates(height, pixel_size, step_y), coordinates(width, pixel_size, step_x))
        for step_y, step_x in steps
    )
    return (diffuser._sample(y, x, wavelength, dtype, workers) for y, x in places)


def _as_positions(positions: ArrayLike, check: Checks) -> NDArray[np.float64]:
    try:
        steps = np.asarray(positions, np.float64)
    except (TypeError, ValueError) as error:
        check.add(f"positions are no numbers ({error}); expected (position, 2) in metres")
        return np.zeros((1, 2))
    if steps.ndim != 2 or steps.shape[1] != 2 or len(steps) == 0:
        check.add(f"positions have shape {steps.shape}; expected (position, 2): y and x in metres")
    elif not np.isfinite(steps).all():
        check.add("positions hold NaN or infinite numbers; expected metres")
    return steps
