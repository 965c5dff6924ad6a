"""Solve for the dark-field once more, with ψ and T fixed, and less weight where the model is in error.

Rough ψ, such as the rim of a strongly refracting object, enters the model to first order. Its second order, ½
Σ ∂_i∂_j (u_i u_j M) with u its gradient, blurs speckles like a dark-field of |u|²/4 and would be taken for
one. An uncertainty d₀ of the dark-field is an uncertainty d₀ ∇²M of every frame, so that data of variance σ²
are weighted by 1/(σ² + d₀² ⟨(∇²M)²⟩). Only the dark-field is solved for with these weights: without the data
at a rim, ψ and T would compensate each other.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

from xmist.core.arrays import Image
from xmist.methods.full_field.problem import DARK, SMOOTH, Fit, FitData, Problem
from xmist.numerics.operators.derivatives import DX, DY, derivative
from xmist.numerics.operators.transport import PSI
from xmist.numerics.solvers.poisson import smoothed
from xmist.numerics.solvers.preconditioner import moments
from xmist.numerics.solvers.whole_image import Right
from xmist.numerics.weights import Weights

Real = NDArray[Any]

# d₀ over the local mean of |u|². The second order alone is ¼; at a rim rays cross and waves diffract, and the
# estimate of u is smoother than u. Chosen on a simulated currant and tubes with sharp walls.
_MODEL_ERROR: Final = 4.0
_LOCAL: Final = 2.0  # σ in pixels
_FAITHFUL: Final = 1e-5  # of the speckles' variance: no smooth ψ makes the model wrong by more
_TRUSTED: Final = 0.9  # factor above which a weight need not change


def model_error_weights(
    psi: Real, *, smoothing: float, curvature: float, noise: float, threads: int | None = None
) -> Real:
    """Return factors σ²/(σ² + d₀² ⟨(∇²M)²⟩) for the weights of the data (y, x).

    `psi` (y, x) in pixels² is rough beyond a Gaussian of σ `smoothing`; `curvature` is ⟨(∇²M)²⟩ of a model
    image per pixel⁴, `noise` > 0 the variance σ² of a datum of weight 1.
    """
    rough = psi - smoothed(psi, smoothing, threads=threads)
    square = sum(np.square(derivative(rough, kind, threads=threads)) for kind in (DX, DY))
    spread = _MODEL_ERROR * scipy.ndimage.gaussian_filter(square, _LOCAL, mode="reflect")
    factors: Real = 1.0 / (1.0 + np.square(spread) * np.float32(curvature / noise))
    return factors


def trust(data: FitData, psi: Image) -> Image | None:
    """Return the factors for the weights (y, x) of the last solve for the dark-field, None without noise."""
    if data.noise <= 0.0:
        return None
    return model_error_weights(
        psi,
        smoothing=SMOOTH,
        curvature=moments(data.reference, threads=data.threads).curvature / len(data.reference),
        noise=max(data.noise, _FAITHFUL * float(data.reference[0].var(dtype=np.float64))),
        threads=data.threads,
    )


def refit_dark_field(data: FitData, problem: Problem, found: Fit) -> Fit:
    """Return the fit with a new dark-field, solved for alone about the final model.

    The same fit if the model is nowhere in error; otherwise the operator of `found` is overwritten.
    """
    kinds = problem.kinds
    dark = [i for i, kind in enumerate(kinds) if kind in DARK]
    factors = trust(data, found.fields[kinds.index(PSI)]) if dark else None
    if factors is None or float(factors.min()) > _TRUSTED:
        return found
    weights = found.weights
    part = replace(
        found.transport,
        kinds=tuple(kinds[i] for i in dark),
        weights=Weights.made(weights.shape, lambda n: weights[n] * factors),
    )
    alone = replace(problem, kinds=part.kinds, length2=None)
    solver = alone.solver(part, tuple(found.priors[i] for i in dark))
    right = Right.about(part, found.residual, found.fields[dark], solver.normal)
    found.residual.forget()
    new, how = alone.run(solver, right, found.fields[dark])
    del solver, right, part
    fields = found.fields.copy()
    fields[dark] = new
    models = found.transport.frames
    if models is data.reference:
        models = np.empty_like(models)
    models, residual = data.linearise(kinds, fields, out=models)
    return replace(
        found,
        fields=fields,
        transport=replace(found.transport, frames=models),
        residual=residual,
        solves=(*found.solves, how),
        misfit=(*found.misfit, replace(data, weights=weights).misfit(residual)),
        converged=found.converged and how.converged,
    )
