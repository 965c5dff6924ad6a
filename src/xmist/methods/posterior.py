"""How sure a whole-image fit is: the spread of solutions of perturbed data.

A solution of (AᵀWA + P) δ = AᵀW e + P^½ z, with e of the residual's local variance (module `noise`) and z
white, has the covariance of the posterior. What the model leaves unexplained in the same way in every
exposure, such as a granular contrast of the sample, is noise to it.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from xmist.data import Image
from xmist.methods.gauss_newton import SMOOTH
from xmist.methods.noise import draw_noise
from xmist.methods.whole_image_problem import Fit, Frames, Problem
from xmist.numerics.transport import D_XX, D_YY, LOG_T, PSI, D

Real = NDArray[Any]

_SMOOTHED_DRAWS: Final = 64  # with fewer draws the variance is smoothed
_LOCAL: Final = 4.0  # σ in pixels over which the noise level is taken


def standard_deviations(
    found: Fit, problem: Problem, frames: Frames, *, draws: int, seed: int, lost: NDArray[np.bool_]
) -> dict[str, Image]:
    """Give standard deviations in pixel units.

    Parameters
    ----------
    found : Fit
        The fit.
    problem : Problem
        What was fitted.
    frames : Frames
        What it was fitted to.
    draws : int
        Number of perturbed solves.
    seed : int
        Seed of the perturbations.
    lost : (y, x) bool array
        Pixels that nothing determined.

    Returns
    -------
    dict of str to (y, x) float32 array
        Of ψ (without its mean where nothing fixes it) as "phase", of d (trace/2 of a tensor) as "dark_field"
        and of ln T as "transmission", where they were fitted.
    """
    transport, kinds, weights = found.transport, found.transport.kinds, found.weights
    exposures = len(found.residual)
    # The unknown ψ takes up about one exposure's worth of noise.
    correction = exposures / max(exposures - 1.0, 0.5)
    square = np.zeros(weights.shape[1:])
    for image, weight in zip(found.residual, weights, strict=True):
        square += np.square(image, dtype=np.float64) * weight
    total = weights.sum(axis=0, dtype=np.float64)
    local = gaussian_filter(square, 4.0, mode="reflect") / np.maximum(
        gaussian_filter(total, 4.0, mode="reflect"), 1e-9
    )
    sigma = np.sqrt(correction * local)
    level = float(np.sqrt(correction * square.sum() / total.sum()))
    shape = (int(sigma.shape[0]), int(sigma.shape[1]))
    present = {
        "phase": PSI in kinds,
        "dark_field": D in kinds or D_XX in kinds,
        "transmission": LOG_T in kinds,
    }
    sums = {name: np.zeros(shape) for name, there in present.items() if there}
    solver = problem.solver(transport, found.priors)
    # With a mean that the data or the background fix, its spread counts.
    fixed = problem.length2 is not None or problem.free is not None
    transmission = np.exp(found.fields[kinds.index(LOG_T)]) if LOG_T in kinds else None
    for draw in range(draws):
        random = np.random.default_rng([seed, draw])
        data = draw_noise(
            random,
            frames.reference,
            sigma,
            frames.spectra,
            transmission=transmission,
            threads=transport.threads,
        )
        pull = np.stack(
            [
                np.sqrt(prior.precision(shape)) * level * random.standard_normal(shape)
                for prior in found.priors
            ]
        ).astype(np.float32)
        delta, _ = solver(
            data,
            pull=pull,
            negligible=lambda objective: 1e-3 * objective / exposures,
            relative=1e-9,
        )
        fields = dict(zip(kinds, delta, strict=True))
        psi = fields[PSI] if fixed else fields[PSI] - fields[PSI].mean(dtype=np.float64, where=~lost)
        sums["phase"] += psi.astype(np.float64) ** 2
        if "dark_field" in sums:
            d = fields[D] if D in fields else 0.5 * (fields[D_XX] + fields[D_YY])
            sums["dark_field"] += d.astype(np.float64) ** 2
        if "transmission" in sums:
            sums["transmission"] += fields[LOG_T].astype(np.float64) ** 2
    smooth = SMOOTH if draws < _SMOOTHED_DRAWS else 0.0
    return {
        name: np.sqrt(gaussian_filter(total / draws, smooth, mode="reflect")).astype(np.float32)
        for name, total in sums.items()
    }
