"""Strengths of the priors, read from an estimate of a whole-image fit and from what noise alone gives."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

from xmist.core.arrays import Image
from xmist.methods.full_field.noise import right_of_noise
from xmist.methods.full_field.problem import Frames, Problem
from xmist.numerics.operators.finite_model import Residual
from xmist.numerics.operators.transport import D_XX, D_XY, D_YY, LOG_T, D, Transport
from xmist.numerics.solvers.preconditioner import Prior, moments
from xmist.numerics.solvers.prior_strength import estimate_strength, power_over_rings
from xmist.numerics.solvers.whole_image import Solver, to_cosines

Real = NDArray[Any]

_LOCAL: Final = 4.0  # σ in pixels over which the noise level is taken
# Least strength that may be read for ln T, relative to the first: where ψ can make up for ln T, even a prior
# that is weak next to the data decides between the two.
_WEAKER: Final = 0.01
_SEED: Final = 0
# Deviance by which another order has to be likelier than the first, a likelihood e¹⁰ times as great: no
# spectrum is a power of κ from end to end, and where it is not may decide between orders that are near.
_DECISIVE: Final = 20.0
_EVEN: Final = (D, D_XX, D_YY)  # share an order, and D_xy with them


def power_of_noise(
    frames: Frames,
    problem: Problem,
    solver: Solver,
    fields: Image,
    residual: Residual,
    transport: Transport,
    weakest: tuple[Prior, ...],
) -> dict[int, Real]:
    """Give what noise alone makes of each unknown, see `estimate_strength`.

    Parameters
    ----------
    frames : Frames
        Data.
    problem : Problem
        What is fitted.
    solver : Solver
        Of the linear problem that gives the estimate.
    fields : (unknown, y, x) float32 array
        The unknowns that it is linearised at.
    residual : Residual
        What the model leaves, whose local level the noise has.
    transport : Transport
        Operator of the linear problem.
    weakest : tuple of Prior
        Priors that none shall be weaker than.

    Returns
    -------
    dict of int to (ring,) array
        `power_over_rings` by the number of the unknown, for those whose strengths are to be read.
    """
    kinds, threads = transport.kinds, transport.threads
    readable = [
        i
        for i, (kind, prior) in enumerate(zip(kinds, weakest, strict=True))
        if prior.strength > 0.0 and kind not in (*problem.fixed, D_XY)
    ]
    if not readable:
        return {}
    level = _mean_square(residual)
    residual.forget()
    scale = 1.0 / (level.mean(dtype=np.float64) or 1.0) ** 0.5
    level = scipy.ndimage.gaussian_filter(level, _LOCAL, mode="reflect")
    np.sqrt(level, out=level)
    right = right_of_noise(
        np.random.default_rng(_SEED),
        frames.reference,
        level,
        frames.spectra,
        transport,
        transmission=np.exp(fields[kinds.index(LOG_T)]) if LOG_T in kinds else None,
    ).scaled(scale)
    del level
    noise, _ = problem.run(solver, right, None, rough=True)
    return {
        i: power_over_rings(to_cosines(noise[i : i + 1], threads=threads)[0], threads=threads)
        for i in readable
    }


def read_strengths(
    problem: Problem,
    fields: Image,
    noise: dict[int, Real],
    transport: Transport,
    priors: tuple[Prior, ...],
    weakest: tuple[Prior, ...],
) -> tuple[Prior, ...]:
    """Give priors whose strengths and orders are read from an estimate and from noise alone.

    The first of the problem's orders is taken, or the likeliest where that is likelier by far, see
    `xmist.numerics.solvers.prior_strength`.

    Parameters
    ----------
    problem : Problem
        What is fitted.
    fields : (unknown, y, x) float32 array
        The estimate.
    noise : dict of int to (ring,) array
        As `power_of_noise` gives it; the strengths of the other unknowns stay.
    transport : Transport
        Operator that the estimate was made with.
    priors : tuple of Prior
        Priors that it was made with.
    weakest : tuple of Prior
        Priors that none shall be weaker than (that of ln T may be, a hundred times), nor a million times as
        strong.
    """
    kinds, threads = transport.kinds, transport.threads
    if not noise:
        return priors
    moment = moments(transport.frames, transport.weights, threads=threads)
    estimates = {
        i: estimate_strength(
            to_cosines(fields[i : i + 1].copy(), threads=threads)[0],
            kinds,
            moment,
            priors,
            i,
            noise=power,
            orders=problem.orders,
            mix=problem.mix,
            threads=threads,
        )
        for i, power in noise.items()
    }
    out = list(priors)
    for group in (_EVEN, (LOG_T,)):
        members = [i for i in estimates if kinds[i] in group]
        deviances = np.full(len(problem.orders), _DECISIVE)
        deviances[0] = 0.0
        for i in members:
            deviances += [estimate.deviance for estimate in estimates[i]]
        likeliest = int(np.argmin(deviances))
        for i in members:
            found = estimates[i][likeliest]
            weak = weakest[i].of_order(found.order, problem.crossing).strength
            least = weak * (_WEAKER if kinds[i] == LOG_T else 1.0)
            strength = min(max(found.strength, least), 1e6 * weak)
            out[i] = replace(priors[i], order=found.order, strength=strength)
    if D_XY in kinds and D_XY not in problem.fixed:
        # One strength for all components: ‖D_xx‖² + 2‖D_xy‖² + ‖D_yy‖² is the same in any frame of axes.
        i, j, k = (kinds.index(kind) for kind in (D_XX, D_XY, D_YY))
        strength = float(np.sqrt(out[i].strength * out[k].strength))
        for place, weight in ((i, 1.0), (j, 2.0), (k, 1.0)):
            out[place] = replace(out[place], order=out[i].order, strength=weight * strength)
    return tuple(out)


def _mean_square(residual: Residual) -> Image:
    """Give the mean square over exposures."""
    out = np.zeros(residual.shape[1:], np.float32)
    for image in residual:
        image *= image
        out += image
    out /= np.float32(len(residual))
    return out
