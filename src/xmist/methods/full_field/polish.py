"""A whole-image fit without priors, for frames that have no noise to speak of.

Each outer step solves for what is still missing, with weak priors on the step alone (iterated Tikhonov, or
Levenberg–Marquardt): what they hold back, the next step brings, so that the end is what the data alone say.
Without them steps would diverge: the linear operator is not quite the derivative of the finite model, and
directions that the data hardly determine make much of the difference.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.methods.full_field.gauss_newton import fit, linearise, proceed
from xmist.methods.full_field.problem import Fit, Frames, Problem, Start
from xmist.numerics.solvers.preconditioner import Prior
from xmist.numerics.solvers.whole_image import energy

Real = NDArray[Any]

_DAMPING: Final = 0.03  # of the weakest priors, on a step
_FAINT: Final = 0.05  # of the weakest priors: steps from no sample with less than that go astray
_STEPS: Final = 30
_HALVINGS: Final = 4
_SETTLED: Final = 0.005  # relative decrease of the misfit that counts as none
_ROUNDING: Final = 1e-14  # of the frames' mean square
_FAITHFUL: Final = 1e-6  # of the speckles' variance: frames that leave less are explained without noise


def explains_all(frames: Frames, found: Fit) -> bool:
    """Say whether a fit leaves so little that noise cannot be what limits it.

    Parameters
    ----------
    frames : Frames
        Data.
    found : Fit
        The fit.
    """
    number = max(found.weights.count(), 1)
    speckle = float(np.mean([frame.var(dtype=np.float64) for frame in frames.reference]))
    return len(found.residual) > 1 and found.misfit[-1] / number < _FAITHFUL * speckle


def fit_without_priors(frames: Frames, problem: Problem, start: Start | None = None) -> Fit:
    """Fit the unknowns with no prior at all.

    Parameters
    ----------
    frames, problem, start
        As in `xmist.methods.full_field.gauss_newton.fit`; the problem's first priors serve to begin with.

    Returns
    -------
    Fit
        The unknowns that the data alone determine.
    """
    first = fit(frames, replace(problem, fixed=dict.fromkeys(problem.kinds, None)), start)
    return polish(frames, problem, first)


def fit_with_given_priors(frames: Frames, problem: Problem, start: Start | None = None) -> Fit:
    """Fit the unknowns with priors of a given strength, be it far below what noise asks for.

    Parameters
    ----------
    frames, problem, start
        As in `xmist.methods.full_field.gauss_newton.fit`.

    Returns
    -------
    Fit
        The unknowns. Where a prior is so faint that the first outer steps would not find their way, those are
        made with the problem's first priors.
    """
    given = [problem.fixed.get(kind) for kind in problem.kinds]
    if not any(given):
        return fit(frames, problem, start)
    first = problem.weak(frames.operator(problem.kinds, frames.reference))
    if not any(
        strength is not None and strength < _FAINT * prior.strength
        for strength, prior in zip(given, first, strict=True)
    ):
        return fit(frames, problem, start)
    found = fit(frames, replace(problem, fixed=dict.fromkeys(problem.fixed, None)), start)
    priors = tuple(
        prior if strength is None else replace(prior, strength=strength)
        for strength, prior in zip(given, found.priors, strict=True)
    )
    return proceed(frames, problem, replace(found, priors=priors))


def polish(frames: Frames, problem: Problem, found: Fit) -> Fit:
    """Go on from a fit without its priors.

    Parameters
    ----------
    frames : Frames
        Data.
    problem : Problem
        What is fitted.
    found : Fit
        The fit to go on from.

    Returns
    -------
    Fit
        The unknowns that the data alone determine; its priors are empty.
    """
    kinds = problem.kinds
    frames = replace(frames, weights=found.weights)
    tight = replace(problem, relative=1e-14)
    fields, residual, transport = found.fields, found.residual, found.transport
    damping = tuple(
        replace(prior, strength=_DAMPING * prior.strength, floor=_DAMPING * prior.floor)
        for prior in problem.weak(transport)
    )
    rounding = _ROUNDING * energy(frames.sample, frames.weights, threads=frames.threads) / frames.unit**2
    solves, misfits = list(found.solves), [found.misfit[-1]]
    settled = False
    for _ in range(_STEPS):
        step, how = tight.solve(transport, residual, damping)
        residual.forget()
        solves.append(how)
        for _ in range(_HALVINGS + 1):
            models, trial = linearise(frames, kinds, fields + step)
            misfit = energy(trial, frames.weights, threads=frames.threads)
            if misfit < misfits[-1]:
                break
            step *= np.float32(0.5)
        settled = misfit >= (1.0 - _SETTLED) * misfits[-1] or misfit < rounding
        if misfit < misfits[-1]:
            fields, residual = fields + step, trial
            transport = frames.operator(kinds, models)
            misfits.append(misfit)
        if settled:
            break
    return replace(
        found,
        fields=fields,
        priors=tuple(Prior(order=prior.order) for prior in damping),
        transport=transport,
        residual=residual,
        solves=tuple(solves),
        misfit=(*found.misfit, *misfits[1:]),
        converged=settled,
    )
