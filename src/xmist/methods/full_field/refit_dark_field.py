"""The dark-field once more, with ψ and T as they were found, and less weight where the model is in doubt.

ψ and T need the data at a rim: without them there, one makes up for the other. The dark-field does not: what
rough ψ does to second order would be taken for scatter.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from xmist.methods.full_field.gauss_newton import SMOOTH, linearise
from xmist.methods.full_field.model_error import doubt
from xmist.methods.full_field.problem import Fit, Frames, Problem
from xmist.numerics.operators.transport import D_XX, D_XY, D_YY, PSI, D
from xmist.numerics.solvers.preconditioner import moments
from xmist.numerics.solvers.whole_image import Right, energy
from xmist.numerics.weights import Weights

DARK: Final = (D, D_XX, D_XY, D_YY)
_FAITHFUL: Final = 1e-5  # of the speckles' variance: no smooth ψ makes the model wrong by more
_TRUSTED: Final = 0.9  # factor above which a weight need not change


def reconsider(frames: Frames, problem: Problem, found: Fit) -> Fit:
    """Solve for the dark-field alone, about the model that a fit ended with.

    Parameters
    ----------
    frames : Frames
        Data.
    problem : Problem
        What was fitted.
    found : Fit
        The fit; its operator is overwritten.

    Returns
    -------
    Fit
        The fit with its new dark-field; the same where nothing is in doubt.
    """
    kinds, threads = problem.kinds, frames.threads
    dark = [i for i, kind in enumerate(kinds) if kind in DARK]
    if not dark or frames.noise <= 0.0:
        return found
    factors = doubt(
        found.fields[kinds.index(PSI)],
        smoothing=SMOOTH,
        curvature=moments(frames.reference, threads=threads).curvature / len(frames.reference),
        noise=max(frames.noise, _FAITHFUL * float(frames.reference[0].var(dtype=np.float64))),
        threads=threads,
    )
    if float(factors.min()) > _TRUSTED:
        return found
    weights = found.weights
    part = replace(
        found.transport,
        kinds=tuple(kinds[i] for i in dark),
        weights=Weights.made(weights.shape, lambda n: weights[n] * factors),
    )
    right = Right.about(part, found.residual, found.fields[dark])
    found.residual.forget()
    alone = replace(problem, kinds=part.kinds, length2=None)
    solver = alone.solver(part, tuple(found.priors[i] for i in dark))
    new, how = alone.run(solver, right, found.fields[dark])
    del solver, right, part
    fields = found.fields.copy()
    fields[dark] = new
    models = found.transport.frames
    if np.may_share_memory(models, frames.reference):
        models = np.empty_like(models)
    models, residual = linearise(frames, kinds, fields, out=models)
    return replace(
        found,
        fields=fields,
        transport=replace(found.transport, frames=models),
        residual=residual,
        solves=(*found.solves, how),
        misfit=(*found.misfit, energy(residual, weights, threads=threads)),
        converged=found.converged and how.converged,
    )
