"""`mist-attenuating`: transmission and dark-field of an attenuating sample, one pixel at a time.

Alloo et al. 2022, "Dark-field tomography of an attenuating object using intrinsic x-ray speckle tracking",
J. Med. Imaging 9 031502, doi:10.1117/1.JMI.9.3.031502; derived here from the evolving Fokker–Planck equation
of an attenuating sample. Where D varies slowly and the terms ∇I_R·∇ average out over the positions,

    I_S/I_R = G + ∆ T D ∇²I_R/I_R

at every pixel for every position: the columns of `mist` with 1 − G in place of ∇²ψ. For a single material,
φ = (γ/2) ln T with γ = δ/β,

    (1 − (γ∆/2k) ∇²) T = G [− ∆ ∇²(T D)]
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from xmist.core.experiment import Experiment
from xmist.core.options import Options
from xmist.methods.common.options import DeltaOverBeta, Ridge, Smoothing
from xmist.methods.common.phase import above_zero, phase_of_transmission, screening_length2, single_material
from xmist.methods.common.reference import prepare_reference
from xmist.methods.implicit.mist import COLUMNS
from xmist.methods.implicit.plan import Channels, ImplicitPlan, Solution, prepare_equations
from xmist.methods.implicit.regularisation import Agreement
from xmist.numerics.operators.stencils import laplacian

CURVATURE_ALONE: Final = (
    ("curvature", "delta_over_beta"),
    "is true without delta_over_beta; give delta_over_beta, too: the term is part of the equation for T",
)


class MistAttenuatingOptions(Options):
    """Options of `mist-attenuating`.

    Parameters
    ----------
    delta_over_beta : float, optional
        γ = δ/β of the sample's single material. None: T ≈ G, which is exact where ∇²φ is small, and no phase.
    curvature : bool
        Keep the term ∆∇²(TD) in the equation for T; with noise and many positions it makes T worse. Needs
        `delta_over_beta`.
    smoothing : float
        Gaussian σ in pixels that the normal equations are smoothed with; 0 solves every pixel alone.
    ridge : float or "auto"
        Tikhonov term on (1 − G, d), relative to the mean diagonal of the normal matrix in pixel units. "auto"
        chooses it from the frames and records it in `provenance["regularisation"]`.
    positive : bool
        Set a negative dark-field to 0 (and flag it).

    Examples
    --------
    >>> MistAttenuatingOptions(delta_over_beta=1000).delta_over_beta
    1000.0
    """

    delta_over_beta: DeltaOverBeta | None = None
    curvature: bool = False
    smoothing: Smoothing = 0.0
    ridge: Ridge = 0.0
    positive: bool = False

    def conflicts(self) -> Iterator[tuple[tuple[str, ...], str]]:
        """Yield contradictions."""
        if self.curvature and self.delta_over_beta is None:
            yield CURVATURE_ALONE


OPTIONS: Final = MistAttenuatingOptions


def prepare(
    reference: ArrayLike,
    experiment: Experiment,
    options: MistAttenuatingOptions,
    *,
    weights: ArrayLike | None = None,
    threads: int | None = None,
) -> ImplicitPlan:
    """Prepare the method for (position, y, x) reference frames; see `xmist.prepare`."""
    length2 = screening_length2(experiment, options.delta_over_beta)
    prepared = prepare_reference(
        reference, weights, method="mist-attenuating", minimum=len(COLUMNS), threads=threads, scaled=True
    )
    return ImplicitPlan(
        method="mist-attenuating",
        experiment=experiment,
        options=options,
        equations=prepare_equations(prepared, COLUMNS, options, threads=threads),
        channels=_channels,
        comparison=Agreement(curvature=False, length2=length2),
    )


def _channels(found: Solution) -> Channels:
    options, threads, lost = found.options, found.threads, found.lost
    gamma = options.delta_over_beta
    contrast, dark_field = found.unknowns
    np.negative(dark_field, out=dark_field)
    if gamma is None:
        transmission = np.subtract(1.0, contrast, out=contrast)
    else:
        if options.curvature:
            contrast += laplacian(np.where(lost, np.float32(0.0), dark_field), threads=threads)
        transmission = single_material(contrast, lost, length2=found.length2, threads=threads)
    usable = above_zero(transmission, lost, found.flags)
    dark_field /= usable
    dark_field *= np.float32(found.scatter)
    found.clip(dark_field)
    channels: Channels = {"transmission": transmission, "dark_field": dark_field}
    if gamma is not None:
        channels["phase"] = phase_of_transmission(usable, gamma)
    return channels
