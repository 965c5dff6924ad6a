"""`single-material`: transmission and phase of a sample of one material, from one position or more.

Pavlov et al. 2020, "Single-shot x-ray speckle-based imaging of a single-material object", Phys. Rev.
Applied 13 054023, doi:10.1103/PhysRevApplied.13.054023; derived here from the Fokker–Planck equation of an
attenuating sample with D = 0. A single material ties the phase to the transmission, φ = (γ/2) ln T with
γ = δ/β, so that (∆/k) T∇φ = (γ∆/2k) ∇T and

    T I_R − (γ∆/2k) ∇·(I_R ∇T) = I_S                                                                    (1)

Without ∇I_R·∇T, which changes sign from speckle to speckle, it is a screened Poisson equation,

    (1 − (γ∆/2k) ∇²) T = I_S/I_R                                                                        (2)

solved at once by the cosine transform; several positions enter as Σ I_R I_S/Σ I_R², the least squares of
I_R times (2). `exact=True` solves (1) itself, for all positions in least squares over the whole image, by
preconditioned conjugate gradients that start from (2). Both are xmist's own.
"""

from __future__ import annotations

from functools import partial
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from xmist.core.experiment import Experiment
from xmist.core.findings import finding
from xmist.core.options import Options
from xmist.methods.common.options import DeltaOverBeta
from xmist.methods.common.phase import above_zero, phase_of_transmission, screening_length2, single_material
from xmist.methods.implicit.direct import prepare_ratio
from xmist.methods.implicit.plan import Channels, ImplicitPlan, Solution
from xmist.methods.implicit.single_material_exact import WholeMaterial, prepare_whole, refine


class SingleMaterialOptions(Options):
    """Options of `single-material`.

    Parameters
    ----------
    delta_over_beta : float
        γ = δ/β of the sample's material.
    exact : bool
        Solve the exact equation (1) instead of its approximation (2).

    Examples
    --------
    >>> SingleMaterialOptions(delta_over_beta=1000).exact
    False
    """

    delta_over_beta: DeltaOverBeta
    exact: bool = False


OPTIONS: Final = SingleMaterialOptions


def prepare(
    reference: ArrayLike,
    experiment: Experiment,
    options: SingleMaterialOptions,
    *,
    weights: ArrayLike | None = None,
    threads: int | None = None,
) -> ImplicitPlan:
    """Prepare the method for (position, y, x) reference frames; see `xmist.prepare`."""
    equations = prepare_ratio(reference, weights, method="single-material", threads=threads)
    whole = None
    if options.exact:
        length2 = screening_length2(experiment, options.delta_over_beta)
        whole = prepare_whole(equations.reference, length2=length2, threads=equations.threads)
    return ImplicitPlan(
        method="single-material",
        experiment=experiment,
        options=options,
        equations=equations,
        channels=partial(_channels, whole=whole),
    )


def _channels(found: Solution, *, whole: WholeMaterial | None) -> Channels:
    lost, threads = found.lost, found.threads
    transmission = single_material(found.unknowns[0], lost, length2=found.length2, threads=threads)
    if whole is not None:
        transmission[lost] = 1.0
        transmission, convergence = refine(
            transmission, whole, found.reference, found.sample, found.weights, threads=threads
        )
        transmission[lost] = np.nan
        found.provenance["iterations"] = convergence.iterations
        if not convergence.converged:
            message = (
                f"the solution did not converge in {convergence.iterations} iterations; transmission and "
                "phase are approximate: check delta_over_beta and that the frames belong together"
            )
            found.findings.append(finding("not-converged", message))
    phase = phase_of_transmission(above_zero(transmission, lost, found.flags), found.options.delta_over_beta)
    return {"phase": phase, "transmission": transmission}
