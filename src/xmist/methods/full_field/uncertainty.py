"""Standard deviations of a fit: the spread of solutions for perturbed data.

A solution of (AᵀWA + P) δ = AᵀW e + P^½ z, with e of the residual's local variance (module `noise`) and z
white, has the covariance of the posterior. A residual that is the same at every position, such as granular
contrast of the sample, counts as noise.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from xmist.core.arrays import Image
from xmist.methods.full_field.noise import right_of_noise
from xmist.methods.full_field.problem import SMOOTH, Fit, FitData, Problem
from xmist.numerics.operators.roughness import random_force
from xmist.numerics.operators.transport import D_XX, D_YY, LOG_T, PSI, D
from xmist.numerics.solvers.preconditioner import Prior
from xmist.numerics.solvers.whole_image import empty_pixels, to_cosines

Real = NDArray[Any]

_SMOOTHED_DRAWS: Final = 64  # with fewer draws the variance is smoothed
_LOCAL: Final = 4.0  # σ in pixels over which the noise level is taken
_ROWS: Final = 64


def standard_deviations(
    found: Fit, problem: Problem, data: FitData, *, draws: int, seed: int, lost: NDArray[np.bool_]
) -> dict[str, Image]:
    """Return standard deviations (y, x) in pixel units from a number of perturbed solves.

    Of ψ (without its mean where nothing fixes it) as "phase", of d (trace/2 of a tensor) as "dark_field" and
    of ln T as "transmission", where they were fitted. `lost` (y, x): pixels that nothing determined.
    """
    transport, kinds, weights = found.transport, found.transport.kinds, found.weights
    positions = len(found.residual)
    # The unknown ψ takes up about one position's worth of noise.
    correction = positions / max(positions - 1.0, 0.5)
    shape = (int(weights.shape[1]), int(weights.shape[2]))
    square, total = (np.zeros(shape, np.float32) for _ in range(2))
    for image, weight in zip(found.residual, weights, strict=True):
        square += np.square(image) * weight
        total += weight
    sigma = gaussian_filter(square, _LOCAL, mode="reflect")
    sigma /= np.maximum(gaussian_filter(total, _LOCAL, mode="reflect"), np.float32(1e-9))
    sigma *= np.float32(correction)
    np.sqrt(sigma, out=sigma)
    level = float(np.sqrt(correction * square.sum(dtype=np.float64) / total.sum(dtype=np.float64)))
    del square, total
    present = {
        "phase": PSI in kinds,
        "dark_field": D in kinds or D_XX in kinds,
        "transmission": LOG_T in kinds,
    }
    sums = {name: np.zeros(shape, np.float32) for name, there in present.items() if there}
    solver = problem.solver(transport, found.priors)
    transmission = np.exp(found.fields[kinds.index(LOG_T)]) if LOG_T in kinds else None
    for draw in range(draws):
        random = np.random.default_rng([seed, draw])
        right = right_of_noise(
            random, data.reference, sigma, data.spectra, transport, transmission=transmission
        )
        for image, prior in zip(right.coefficients, found.priors, strict=True):
            if prior.natural:
                force = random_force(
                    random,
                    empty_pixels(weights, shape),
                    inside=prior.strength,
                    empty=max(prior.strength, prior.empty),
                )
                image += np.float32(level) * to_cosines(force[None], threads=transport.threads)[0]
            else:
                _pull(random, image, prior, level)
        delta, _ = solver(
            right,
            negligible=lambda objective: 1e-3 * objective / positions,
            relative=1e-9,
        )
        fields = dict(zip(kinds, delta, strict=True))
        if not problem.zero_is_known:  # else its spread counts
            fields[PSI] -= np.float32(fields[PSI].mean(dtype=np.float64, where=~lost))
        sums["phase"] += np.square(fields[PSI])
        if "dark_field" in sums:
            d = fields[D] if D in fields else np.float32(0.5) * (fields[D_XX] + fields[D_YY])
            sums["dark_field"] += np.square(d)
        if "transmission" in sums:
            sums["transmission"] += np.square(fields[LOG_T])
        del right, delta, fields  # the next draw needs the memory
    smooth = SMOOTH if draws < _SMOOTHED_DRAWS else 0.0
    return {
        name: np.sqrt(gaussian_filter(total / np.float32(draws), smooth, mode="reflect"))
        for name, total in sums.items()
    }


def _pull(random: np.random.Generator, image: Real, prior: Prior, level: float) -> None:
    """Add P^½ z to cosine coefficients, some rows at a time."""
    height, width = image.shape
    for start in range(0, height, _ROWS):
        rows = slice(start, min(start + _ROWS, height))
        drawn = random.standard_normal((rows.stop - start, width))
        image[rows] += level * np.sqrt(prior.precision((height, width), rows)) * drawn
