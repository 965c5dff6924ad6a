"""Options of `full-field`, and the images that they let it solve for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal

from xmist.core.data import Retrieval
from xmist.core.options import Options, Parsed, Range
from xmist.methods.common.background import Background
from xmist.methods.common.options import DeltaOverBeta
from xmist.numerics.operators.transport import D_XX, D_XY, D_YY, LOG_T, PSI, D

TOLERANCE: Final = 0.01  # relative change of the objective between outer iterations that counts as none
# From images with edges, whose power falls like κ⁻³, to those of round grains (κ⁻⁴) and of what has no rim.
# The dark-field has the first, ln T the likeliest.
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


def _read_initial(initial: Any) -> Retrieval:
    if not isinstance(initial, Retrieval):
        raise ValueError(f"is a {type(initial).__name__}; expected a Retrieval, which only Python can give")
    return initial


def plain_initial(initial: Retrieval | None) -> str | None:
    """Return the option `initial` as plain data, for the result."""
    return None if initial is None else f"a result of {initial.method}"


class FullFieldOptions(Options):
    """Options of `full-field`.

    Parameters
    ----------
    dark_field : {"auto", "none", "scalar", "tensor"}
        Dark-field to solve for. "auto" is "scalar" for two positions or more or with `delta_over_beta`, else
        "none".
    transmission : {"auto", True, False}
        Whether to solve for the transmission. "auto" does for two positions or more, with `delta_over_beta`,
        or where the flux of the sample frame shows that the sample attenuates.
    regularisation : "auto" or float
        Strength α of the prior on the dark-field in pixel units, relative to the data term, which is summed
        over the positions with weights and references of mean 1. "auto" chooses it from the data. With 0
        there is no prior at all.
    transmission_regularisation : "auto" or float
        The same of the prior on ln T.
    tolerance : float
        Relative change of the objective below which the outer iterations end. They may leave fine structure
        of D too weak; 1e-4 takes twice as long.
    prior : {"auto", "h1", "h3/2", "h2", "h5/2", "non-negative", "huber", "tv"}
        Prior on the dark-field. "h1" is α‖∇d‖², "h2" α‖∇²d‖²; "h3/2" and "h5/2" weigh a frequency κ by κ³ and
        κ⁵. "auto" is "h3/2"; for ln T it is "h2" or "h5/2" where the spectrum of the estimate is much more
        likely with it. "non-negative" is "auto" with d ≥ 0; "huber" is "h1", but linear in large slopes; "tv"
        is linear in all slopes.
    delta_over_beta : float, optional
        γ = δ/β of a sample of one material: then φ = (γ/2) ln T.
    initial : Retrieval, optional
        Result to begin with, such as that of the previous projection, of any method with a phase.
    background : (y, x) bool array or (int, int, int, int), optional
        Bare beam, where φ = 0, D = 0 and T = 1: a mask, or a box y0, y1, x0, x1 in pixels, ends excluded.
    uncertainty : bool
        Also compute standard deviations, from solves of perturbed data and an estimate of the model's error.
    draws : int
        Number of perturbed solves; with few, the variances are smoothed.
    seed : int
        Seed of the perturbations.
    gain : float, optional
        Variance of a pixel over its value, in the frames' unit; None estimates it from the references.
    read_noise : float, optional
        Standard deviation of a dark pixel, in the frames' unit; None means 0.

    Raises
    ------
    InputError
        Lists every value that is not allowed.

    Examples
    --------
    >>> FullFieldOptions(regularisation=3).regularisation
    3.0
    """

    dark_field: Literal["auto", "none", "scalar", "tensor"] = "auto"
    transmission: Literal["auto"] | bool = "auto"
    regularisation: Annotated[float | Literal["auto"], Range(0.0)] = "auto"
    transmission_regularisation: Annotated[float | Literal["auto"], Range(0.0, above=True)] = "auto"
    tolerance: Annotated[float, Range(1e-6, TOLERANCE)] = TOLERANCE
    prior: Literal["auto", "h1", "h3/2", "h2", "h5/2", "non-negative", "huber", "tv"] = "auto"
    delta_over_beta: DeltaOverBeta | None = None
    initial: Annotated[Any, Parsed(_read_initial, "a Retrieval", plain=plain_initial)] | None = None
    background: Background | None = None
    uncertainty: bool = False
    draws: Annotated[int, Range(2)] = 8
    seed: Annotated[int, Range(0)] = 0
    gain: Annotated[float, Range(0.0, 1e15)] | None = None
    read_noise: Annotated[float, Range(0.0, 1e15)] | None = None

    def conflicts(self) -> Iterator[tuple[tuple[str, ...], str]]:
        """Yield options that contradict each other."""
        if self.delta_over_beta is not None and self.transmission is False:
            text = 'is false with delta_over_beta; expected true or "auto", because then φ = (γ/2) ln T'
            yield ("transmission", "delta_over_beta"), text
        if self.transmission_regularisation != "auto":
            if self.delta_over_beta is not None:
                text = 'is given with delta_over_beta; expected "auto", because then ln T has no prior'
                yield ("transmission_regularisation", "delta_over_beta"), text
            if self.transmission is False:
                text = 'is given with transmission = false; expected "auto"'
                yield ("transmission_regularisation", "transmission"), text

    def kinds(self, positions: int, *, attenuates: bool = False) -> tuple[int, ...]:
        """Return the fields to solve for, see `xmist.numerics.operators.transport`.

        `attenuates`: whether the sample is seen to.
        """
        both = positions > 1 or self.delta_over_beta is not None
        scalar: tuple[int, ...] = (D,)
        dark = {"none": (), "scalar": scalar, "tensor": (D_XX, D_XY, D_YY), "auto": scalar if both else ()}
        transmits = both or attenuates if self.transmission == "auto" else self.transmission
        return (PSI, *dark[self.dark_field], *((LOG_T,) if transmits else ()))

    @property
    def minimum_positions(self) -> int:
        """Least number of positions: one image separates φ from D only where a material ties T to φ."""
        scatters = self.dark_field in ("scalar", "tensor")
        return 2 if scatters and self.delta_over_beta is None else 1
