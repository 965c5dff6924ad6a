"""Options that `umpa` and `xsvt` share, and what their start values may be."""

from __future__ import annotations

import numbers
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.core.data import Retrieval
from xmist.core.errors import InputError, raise_errors, shown, suggest
from xmist.core.experiment import Experiment
from xmist.methods.common.background import plain_background
from xmist.methods.full_field.options import background_faults
from xmist.numerics.operators.stencils import gradient
from xmist.numerics.solvers.integrate import INTEGRATORS

Real = NDArray[Any]

WEIGHTINGS: Final = ("flat", "hamming")
DARK_FIELDS: Final = ("scalar", "none")
_RANGE: Final = 4  # pixels, when nothing is known
_NEAR: Final = 1  # pixels, about start values


@dataclass(frozen=True, kw_only=True)
class MatchingOptions:
    """Options of the methods that match windows.

    Parameters
    ----------
    window : int
        Pixels a side of the window, odd.
    max_shift : int, optional
        Shifts up to so many pixels along either axis are searched, about 0 or the start values. None: 4, or 1
        about start values.
    dark_field : str
        "scalar", or "none": no visibility is fitted.
    weighting : str
        "flat" or "hamming": weights in the window. Flat averages more and gives the better dark-field.
    initial : str, Retrieval or (2, y, x) array, optional
        Start values of the search: a method that is run first with its own default options, its result, or
        shifts along x and y in pixels.
    integrator : str
        "dct" (Frankot–Chellappa with the even mirror) or "southwell", for the phase.
    background : (y, x) bool array or (int, int, int, int), optional
        Bare beam, where the shift and φ are set to 0, T and V to 1 in the mean: a mask, or a box
        y0, y1, x0, x1 in pixels, ends excluded.

    Raises
    ------
    InputError
        Lists every value that is out of range.
    """

    window: int = 5
    max_shift: int | None = None
    dark_field: str = "scalar"
    weighting: str = "flat"
    initial: Any = None
    integrator: str = "dct"
    background: Any = None

    def __post_init__(self) -> None:
        faults = self._faults()
        raise_errors(faults)
        for name in ("window", "max_shift"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, int(value))

    def _faults(self) -> list[str]:
        faults = []
        least = self.smallest_window()
        if not _whole(self.window) or self.window < least or self.window % 2 == 0:
            faults.append(
                f"option window is {shown(self.window)}; expected an odd number of pixels, at least {least}"
            )
        if self.max_shift is not None and not (_whole(self.max_shift) and self.max_shift >= 0):
            faults.append(
                f"option max_shift is {shown(self.max_shift)}; expected a whole number of pixels, at least "
                "0, or None"
            )
        for name, known in (
            ("dark_field", DARK_FIELDS),
            ("weighting", WEIGHTINGS),
            ("integrator", INTEGRATORS),
        ):
            value = getattr(self, name)
            if not isinstance(value, str) or value not in known:
                faults.append(f"option {name} is {shown(value)}; expected {' or '.join(map(repr, known))}")
        if isinstance(self.initial, str):
            from xmist.methods import METHODS

            if self.initial not in METHODS:
                faults.append(
                    f"option initial names no method '{self.initial}'; {suggest(self.initial, METHODS)}"
                )
        return faults + background_faults(self.background)

    @staticmethod
    def smallest_window() -> int:
        """Least pixels a side of a window."""
        return 1

    @property
    def reach(self) -> int:
        """Pixels that are searched."""
        if self.max_shift is not None:
            return self.max_shift
        return _RANGE if self.initial is None else _NEAR

    def plain(self) -> dict[str, Any]:
        """Give all options as plain data, for the result."""
        given = {name: value for name, value in vars(self).items() if name not in ("initial", "background")}
        initial = self.initial
        if isinstance(initial, Retrieval):
            initial = f"a result of {initial.method}"
        elif initial is not None and not isinstance(initial, str):
            initial = "given shifts"
        return given | {"initial": initial, "background": plain_background(self.background)}


def _whole(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def shift_of(initial: Any, experiment: Experiment, shape: tuple[int, ...]) -> Real:
    """Give the shifts in pixels that a result or an array holds.

    Parameters
    ----------
    initial : Retrieval or (2, y, x) array_like
        A result with a shift, a refraction angle or a phase; or shifts along x and y in pixels.
    experiment : Experiment
        Geometry.
    shape : tuple of int
        Size (y, x) of the frames.

    Returns
    -------
    (2, y, x) array
        Shifts along x and y in pixels.

    Raises
    ------
    InputError
        If the shape does not fit or there is nothing to start from.

    Examples
    --------
    >>> experiment = Experiment(energy_kev=17.0, pixel_size=5e-6, sample_to_detector=1.0)
    >>> shift_of(np.zeros((2, 8, 9)), experiment, (8, 9)).shape
    (2, 8, 9)
    """
    values: Real
    if isinstance(initial, Retrieval):
        p, distance = experiment.effective_pixel, experiment.effective_distance
        if initial.shift is not None:
            values = initial.shift
        elif initial.refraction_angle is not None:
            values = initial.refraction_angle * (distance / p)
        elif initial.phase is not None:
            values = gradient(initial.phase, scale=distance / (experiment.wavenumber * p**2))
        else:
            raise InputError(
                f"initial is a result of {initial.method} without shift, refraction angle and phase; "
                "expected one of them"
            )
    else:
        try:
            values = np.asarray(initial, np.float64)
        except (TypeError, ValueError):
            raise InputError(
                "initial is no array; expected the name of a method, its result, or shifts (2, y, x) in "
                "pixels"
            ) from None
    if values.shape != (2, *shape):
        raise InputError(
            f"initial has shape {values.shape}; expected {(2, *shape)}: shifts x and y in pixels"
        )
    return values
