"""`mist`: phase and dark-field of a phase object, one pixel at a time.

Pavlov et al. 2020, "X-ray Multi-modal Intrinsic Speckle-Tracking", J. Opt. 22 125604,
doi:10.1088/2040-8986/abc313. In pixel units, with ψ = ∆φ/(k p²) and d = ∆D/p², its eq. (4) is

    I_R − I_S = I_R ∇²ψ − d ∇²I_R

at every pixel for every position. Two positions give eq. (7), which is the least-squares solution for N = 2;
more are solved by least squares.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from xmist.core.experiment import Experiment
from xmist.core.options import Options
from xmist.methods.common.options import CutoffLength, Ridge, Smoothing
from xmist.methods.common.phase import phase_of_curvature, refraction_of
from xmist.methods.common.reference import prepare_reference
from xmist.methods.implicit.plan import Channels, ImplicitPlan, Solution, prepare_equations
from xmist.methods.implicit.regularisation import Agreement
from xmist.numerics.operators.derivatives import LAPLACIAN, VALUE

# Columns of eq. (4) for the unknowns ∇²ψ and −d; `mist-attenuating` shares them.
COLUMNS: Final = (VALUE, LAPLACIAN)


class MistOptions(Options):
    """Options of `mist`.

    Parameters
    ----------
    smoothing : float
        Gaussian σ in pixels that the normal equations are smoothed with, so that a pixel whose reference
        frames are nearly proportional takes information from its neighbours; 0 solves every pixel alone.
    ridge : float or "auto"
        Tikhonov term on (∇²ψ, d), relative to the mean diagonal of the normal matrix in pixel units. "auto"
        chooses it from the frames and records it in `provenance["regularisation"]`.
    cutoff_length : float or "auto", optional
        Length L in metres in the sample's plane: longer structures of the phase are damped, by
        −κ²/(κ⁴ + (2π/L)⁴) as inverse Laplacian. "auto" chooses it from the frames where there are at least
        four positions. None inverts the five-point Laplacian exactly.
    positive : bool
        Set a negative dark-field to 0 (and flag it), as Fig. 2 of the paper does. Noise has both signs, so
        that clipping biases means.

    Examples
    --------
    >>> MistOptions(smoothing=2).smoothing
    2.0
    """

    smoothing: Smoothing = 0.0
    ridge: Ridge = 0.0
    cutoff_length: CutoffLength | None = None
    positive: bool = False


OPTIONS: Final = MistOptions


def prepare(
    reference: ArrayLike,
    experiment: Experiment,
    options: MistOptions,
    *,
    weights: ArrayLike | None = None,
    threads: int | None = None,
) -> ImplicitPlan:
    """Prepare the method for (position, y, x) reference frames; see `xmist.prepare`."""
    prepared = prepare_reference(
        reference, weights, method="mist", minimum=len(COLUMNS), threads=threads, scaled=True
    )
    return ImplicitPlan(
        method="mist",
        experiment=experiment,
        options=options,
        equations=prepare_equations(prepared, COLUMNS, options, threads=threads),
        channels=_channels,
        may_attenuate=False,
        comparison=Agreement(curvature=True),
    )


def _channels(found: Solution) -> Channels:
    curvature, dark_field = found.unknowns
    phase = phase_of_curvature(
        curvature, found.experiment, lost=found.lost, epsilon=found.epsilon, threads=found.threads
    )
    dark_field *= np.float32(-found.scatter)
    found.clip(dark_field)
    return {
        "phase": phase,
        "dark_field": dark_field,
        "refraction_angle": refraction_of(phase, found.experiment, threads=found.threads),
    }
