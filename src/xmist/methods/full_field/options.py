"""Options of `full-field`, and what its start and its background may be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.core.data import Retrieval
from xmist.core.errors import InputError, raise_errors, shown, suggest
from xmist.methods.common.options import Range, check_options
from xmist.numerics.operators.transport import D_XX, D_XY, D_YY, LOG_T, PSI, D

FIELDS: Final = {
    "phase": (PSI,),
    "dark_field": (D,),
    "dark_field_tensor": (D_XX, D_XY, D_YY),
    "transmission": (LOG_T,),
}
# From images with edges, whose power falls like κ⁻³, to those of round grains (κ⁻⁴) and of what has no rim.
_ORDERS: Final = (1.5, 2.0, 2.5)
# Powers of the frequency squared that are chosen from, and what the dark-field has to be besides.
PRIORS: Final[Mapping[str, tuple[tuple[float, ...], str]]] = MappingProxyType(
    {
        "auto": (_ORDERS, ""),
        "h1": ((1.0,), ""),
        "h3/2": ((1.5,), ""),
        "h2": ((2.0,), ""),
        "h5/2": ((2.5,), ""),
        "non-negative": (_ORDERS, "non-negative"),
        "huber": ((1.0,), "huber"),
        "tv": ((1.0,), "tv"),
    }
)


@dataclass(frozen=True, kw_only=True)
class FullFieldOptions:
    """Options of `full-field`.

    Parameters
    ----------
    unknowns : tuple of str, optional
        What is solved for: "phase", and any of "dark_field" or "dark_field_tensor", and "transmission". None
        takes ("phase",) for one exposure, and ("phase", "dark_field", "transmission") for more or with
        `delta_over_beta`.
    regularisation : "auto" or float
        Strength α of the prior on the dark-field, in pixel units, next to the data term summed over the
        exposures with weights of mean 1 and references of mean 1. "auto" reads it from the spectrum of a
        weakly regularised estimate (module
        `xmist.methods.full_field.prior_strengths`). The strength of the prior on ln T is
        read from the data, unless this is 0: then there is none.
    prior : {"auto", "h1", "h3/2", "h2", "h5/2", "non-negative", "huber", "tv"}
        "h1" is α‖∇d‖², "h2" α‖∇²d‖²; "h3/2" and "h5/2" weigh a frequency κ by κ³ and κ⁵. "auto" is
        "h3/2", or "h2" or "h5/2" where the spectrum of the estimate speaks for it by far (for ln T likewise);
        "h3/2" where α is given. "non-negative" is "auto" with d ≥ 0; "huber" is "h1" with large slopes
        counted to the first power, and "tv" counts all slopes so (module
        `xmist.methods.full_field.edge_preserving`).
    delta_over_beta : float, optional
        γ = δ/β of a sample of one material: then φ = (γ/2) ln T.
    initial : Retrieval, optional
        Result to begin with, such as that of the projection before; another than `full-field`'s will do.
    background : (y, x) bool array or (int, int, int, int), optional
        Bare beam, where φ = 0, D = 0 and T = 1: a mask, or a box y0, y1, x0, x1 in pixels, ends excluded.
    uncertainty : bool
        Give standard deviations too, from solves of perturbed data.
    draws : int
        Number of perturbed solves; with few, the variances are smoothed.
    seed : int
        Seed of the perturbations.
    gain : float, optional
        Variance of a pixel over its value, in the frames' unit; None estimates it from the references.
    read_noise : float, optional
        Standard deviation of a dark pixel, in the frames' unit; None takes it as 0.

    Raises
    ------
    InputError
        Lists every value that is out of range.

    Examples
    --------
    >>> FullFieldOptions(regularisation=3).regularisation
    3.0
    """

    unknowns: tuple[str, ...] | None = None
    regularisation: float | str = "auto"
    prior: str = "auto"
    delta_over_beta: float | None = None
    initial: Any = None
    background: Any = None
    uncertainty: bool = False
    draws: int = 8
    seed: int = 0
    gain: float | None = None
    read_noise: float | None = None

    def __post_init__(self) -> None:
        ranges = [
            Range("gain", high=1e15, optional=True),
            Range("read_noise", high=1e15, optional=True),
            Range("delta_over_beta", high=1e9, strict=True, optional=True),
        ]
        if not isinstance(self.regularisation, str):
            ranges.append(Range("regularisation"))
        faults: list[str] = []
        try:
            check_options(self, ranges, ["uncertainty"])
        except InputError as error:
            faults += error.faults
        if isinstance(self.regularisation, str) and self.regularisation != "auto":
            faults.append(
                f"option regularisation is {shown(self.regularisation)}; expected 'auto' or a number of at "
                "least 0"
            )
        if not isinstance(self.prior, str) or self.prior not in PRIORS:
            faults.append(f"option prior is {shown(self.prior)}; {suggest(shown(self.prior), PRIORS)}")
        for name, least in (("draws", 2), ("seed", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                faults.append(f"option {name} is {shown(value)}; expected a whole number of at least {least}")
        if self.initial is not None and not isinstance(self.initial, Retrieval):
            faults.append(
                f"option initial is a {type(self.initial).__name__}; expected a Retrieval, which only Python "
                "can give"
            )
        faults += self._check_unknowns() + background_faults(self.background)
        raise_errors(faults)

    def _check_unknowns(self) -> list[str]:
        if self.unknowns is None:
            return []
        given: Any = self.unknowns
        listed = isinstance(given, (list, tuple))
        if not listed or not all(isinstance(name, str) for name in given):
            return [f"option unknowns is {shown(self.unknowns)}; expected a list of names such as ['phase']"]
        names = tuple(self.unknowns)
        object.__setattr__(self, "unknowns", names)
        faults = [
            f"unknown '{name}' in option unknowns; {suggest(name, FIELDS)}"
            for name in names
            if name not in FIELDS
        ]
        if "phase" not in names:
            faults.append("option unknowns lacks 'phase', which every sample changes")
        if self.delta_over_beta is not None and "transmission" not in names:
            faults.append("option unknowns lacks 'transmission', which delta_over_beta ties to the phase")
        if len(set(names)) < len(names) or {"dark_field", "dark_field_tensor"} <= set(names):
            faults.append("option unknowns names the dark-field or another unknown twice")
        return faults

    def kinds(self, exposures: int) -> tuple[int, ...]:
        """Give the fields to solve for, see `xmist.numerics.operators.transport`."""
        alone = exposures == 1 and self.delta_over_beta is None
        names = self.unknowns or (("phase",) if alone else ("phase", "dark_field", "transmission"))
        return tuple(kind for name in FIELDS if name in names for kind in FIELDS[name])

    @property
    def least_exposures(self) -> int:
        """Least number N of exposures: one image tells φ from D where a material ties T to φ."""
        scatters = {"dark_field", "dark_field_tensor"} & set(self.unknowns or ())
        return 2 if scatters and self.delta_over_beta is None else 1

    def plain(self, initial: Retrieval | None) -> dict[str, Any]:
        """Give all options as plain data, for the result, with what was begun with in place of the option."""
        given = dict(vars(self))
        given["initial"] = None if initial is None else f"a result of {initial.method}"
        given["background"] = plain_background(self.background)
        return given


def background_faults(background: Any) -> list[str]:
    """Say what is wrong with the option `background` of any method, without the frames.

    Parameters
    ----------
    background : object
        What was given.

    Examples
    --------
    >>> background_faults((0, 4, 0, 9))
    []
    """
    if background is None:
        return []
    expected = "expected a (y, x) bool mask, or a box of four whole numbers y0 < y1, x0 < x1 from 0"
    if isinstance(background, np.ndarray) and background.dtype == bool and background.ndim == 2:
        return [] if background.any() else [f"option background holds no pixel; {expected}"]
    box = background.tolist() if isinstance(background, np.ndarray) else background
    whole = (
        isinstance(box, Sequence)
        and len(box) == 4
        and all(isinstance(number, (int, np.integer)) and not isinstance(number, bool) for number in box)
    )
    if not whole or not (0 <= box[0] < box[1] and 0 <= box[2] < box[3]):
        found = (
            f"{background.dtype} of shape {background.shape}" if hasattr(background, "shape") else shown(box)
        )
        return [f"option background is {found}; {expected}"]
    return []


def plain_background(background: Any) -> Any:
    """Give the option `background` as plain data, for the result.

    Parameters
    ----------
    background : (y, x) bool array, (int, int, int, int) or None
        Option of that name.

    Examples
    --------
    >>> plain_background(np.ones((2, 3), bool)), plain_background([0, 4, 0, 9])
    ('a mask of 6 pixels', (0, 4, 0, 9))
    """
    if isinstance(background, np.ndarray) and background.dtype == bool:
        return f"a mask of {int(background.sum())} pixels"
    return None if background is None else tuple(int(number) for number in background)


def background_mask(background: Any, shape: tuple[int, ...]) -> NDArray[np.bool_] | None:
    """Give the mask of the bare beam.

    Parameters
    ----------
    background : (y, x) bool array, (int, int, int, int) or None
        Option of that name.
    shape : tuple of int
        Size (y, x) of the frames.

    Returns
    -------
    (y, x) bool array or None
        None where none was given.

    Raises
    ------
    InputError
        If it does not fit the frames.

    Examples
    --------
    >>> int(background_mask((0, 4, 0, 9), (8, 9)).sum())
    36
    """
    if background is None:
        return None
    if isinstance(background, np.ndarray) and background.dtype == bool:
        if background.shape != shape:
            raise InputError(
                f"option background has shape {background.shape}; expected that of the frames, {shape}"
            )
        mask: NDArray[np.bool_] = background
    else:
        top, bottom, left, right = (int(number) for number in background)
        if bottom > shape[0] or right > shape[1]:
            raise InputError(
                f"option background is the box {[top, bottom, left, right]}; expected one inside the frames "
                f"of {shape} (y, x)"
            )
        mask = np.zeros(shape, bool)
        mask[top:bottom, left:right] = True
    if mask.all():
        raise InputError("option background holds every pixel; expected bare beam beside the sample")
    return mask
