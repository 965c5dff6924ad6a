"""Options that `umpa` and `xsvt` share, and their start values."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from xmist.core.data import Retrieval
from xmist.core.errors import InputError, shown, suggest
from xmist.core.experiment import Experiment
from xmist.core.options import Options, Parsed, Range
from xmist.methods.common.background import Background, read_box
from xmist.methods.common.options import Integrator
from xmist.numerics.operators.stencils import gradient

Real = NDArray[Any]

_REACH: Final = 4  # pixels, without start values
_NEAR: Final = 1  # pixels, about start values
_EXPECTED: Final = "the name of a method, its result, or shifts (2, y, x) in pixels"
_BOX: Final = "a box of four whole numbers y0 < y1, x0 < x1 from 0, in pixels of the frames"


def _read_initial(initial: Any) -> Any:
    from xmist.methods.registry import METHODS

    if isinstance(initial, str) and initial not in METHODS:
        raise ValueError(f"is '{initial}', which is no method; {suggest(initial, METHODS)}")
    return initial


def _read_region(given: Any) -> tuple[int, ...]:
    box = read_box(given)
    if box is None:
        raise ValueError(f"is {shown(given)}; expected {_BOX}")
    return box


def _plain_initial(initial: Any) -> str:
    if isinstance(initial, Retrieval):
        return f"a result of {initial.method}"
    return initial if isinstance(initial, str) else "given shifts"


class MatchingOptions(Options):
    """Options of the methods that match windows.

    Parameters
    ----------
    window : int
        Pixels a side of the window, odd.
    max_shift : int, optional
        Largest shift in pixels that is searched along each axis, about 0 or about the start values. None:
        4, or 1 about start values.
    dark_field : {"auto", "none", "scalar", "tensor"}
        Dark-field to determine, with the visibility; "auto" is "scalar".
    weighting : {"flat", "hamming"}
        Weights in the window. "flat" averages more and gives the better dark-field.
    initial : str, Retrieval or (2, y, x) array, optional
        Start values of the search: a method that is run first with its own default options, its result, or
        shifts along x and y in pixels.
    integrator : {"dct", "southwell"}
        How the shift is integrated to the phase: with the gradient of a sum of cosines (Frankot–Chellappa
        with the even mirror), or with differences of neighbours.
    background : (y, x) bool array or (int, int, int, int), optional
        Bare beam, where on average the shift and φ are set to 0, T and V to 1: a mask, or a box y0, y1, x0,
        x1 in pixels, ends excluded.
    refine_positions : bool
        Measure the shift of each sample frame against its reference frame, or the positions of a sample that
        moves (`SampleScan`), and correct it. The common shift is not changed: bare beam or the given
        positions determine it.
    region : (int, int, int, int), optional
        Box y0, y1, x0, x1 of the frames in pixels, ends excluded, to which the result is limited; None: whole
        frames. Time and memory fall with its area. `background` and `initial` refer to whole frames.
    stride : int
        Distance along both axes between the pixels of the frames that become pixels of the result; its pixel
        size grows by this factor. The shift stays in pixels of the frames.
    """

    window: Annotated[int, Range(1, odd=True, unit="pixels")] = 5
    max_shift: Annotated[int, Range(0, unit="pixels")] | None = None
    dark_field: Literal["auto", "none", "scalar", "tensor"] = "auto"
    weighting: Literal["flat", "hamming"] = "flat"
    initial: Annotated[Any, Parsed(_read_initial, _EXPECTED, plain=_plain_initial)] | None = None
    integrator: Integrator = "dct"
    background: Background | None = None
    refine_positions: bool = False
    region: Annotated[Any, Parsed(_read_region, _BOX)] | None = None
    stride: Annotated[int, Range(1, 64, unit="pixels")] = 1

    @property
    def reach(self) -> int:
        """Pixels that are searched."""
        if self.max_shift is not None:
            return self.max_shift
        return _REACH if self.initial is None else _NEAR


def shift_of(initial: Any, experiment: Experiment, shape: tuple[int, ...]) -> Real:
    """Return the (2, y, x) shifts in pixels of a result or an array; InputError if it has none."""
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
                f"option initial is a result of {initial.method} without shift, refraction angle and phase; "
                "expected one of them",
                "option-invalid",
            )
    else:
        try:
            values = np.asarray(initial, np.float64)
        except (TypeError, ValueError):
            raise InputError(f"option initial is no array; expected {_EXPECTED}", "option-invalid") from None
    if values.shape != (2, *shape):
        raise InputError(
            f"option initial has shape {values.shape}; expected {(2, *shape)}: shifts x and y in pixels",
            "option-invalid",
        )
    return values
