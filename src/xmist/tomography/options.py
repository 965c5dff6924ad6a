"""Options of a reconstruction."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

from xmist.core.errors import ErrorRecord, as_number, raise_errors, shown, suggest

ALGORITHMS: Final = ("fbp", "cgls", "sirt")
RINGS: Final = ("none", "small", "all")
PRIORS: Final = ("none", "smooth", "tv")


@dataclass(frozen=True, kw_only=True)
class TomographyOptions:
    """How slices are reconstructed.

    Parameters
    ----------
    algorithm : {"auto", "fbp", "cgls", "sirt"}
        Filtered back-projection, or an iterative algorithm with the projectors of astra-toolbox. "auto" is "cgls" where the
        projections have weights and astra-toolbox is installed, else "fbp".
    centre : float or "auto"
        Column of the rotation axis, counted from 0 at the middle of the first pixel.
    rings : {"none", "small", "all"}
        Ring suppression in sinograms.
    filter : str or None
        Window on the ramp filter of FBP: "hann", "hamming", "blackman", …; None is the plain ramp.
    iterations : int
        Iterations of "cgls" and "sirt".
    prior : {"none", "smooth", "tv"}
        Prior on the slice in "cgls": the sum of squared differences between neighbours, or of their absolute values.
    strength : float
        Strength of the prior, relative to the data: 0.01 to 10 is typical.

    Raises
    ------
    InputError
        Lists every value that is out of range.

    Examples
    --------
    >>> TomographyOptions(algorithm="fbp", centre=31.5).centre
    31.5
    """

    algorithm: Literal["auto", "fbp", "cgls", "sirt"] = "auto"
    centre: float | Literal["auto"] = "auto"
    rings: Literal["none", "small", "all"] = "none"
    filter: str | None = None
    iterations: int = 30
    prior: Literal["none", "smooth", "tv"] = "none"
    strength: float = 0.1

    def __post_init__(self) -> None:
        errors = []
        for name, values in (("algorithm", ("auto", *ALGORITHMS)), ("rings", RINGS), ("prior", PRIORS)):
            given = getattr(self, name)
            if given not in values:
                errors.append(f"{name} is {shown(given)}; {suggest(str(given), values)}")
        if self.centre != "auto" and not math.isfinite(as_number(self.centre) or math.nan):
            errors.append(f'centre is {shown(self.centre)}; expected a column or "auto"')
        if isinstance(self.iterations, bool) or not isinstance(self.iterations, int) or self.iterations < 1:
            errors.append(f"iterations is {shown(self.iterations)}; expected a whole number from 1")
        strength = as_number(self.strength)
        if strength is None or not 0 <= strength < math.inf:
            errors.append(f"strength is {shown(self.strength)}; expected a number from 0")
        raise_errors([ErrorRecord("option-invalid", text) for text in errors])
