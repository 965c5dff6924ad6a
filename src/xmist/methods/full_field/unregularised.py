"""Fits without prior, or with one far weaker than the noise requires.

Without priors each outer step solves for the remaining residual, with weak priors on the step alone (iterated
Tikhonov, or Levenberg–Marquardt). The next step adds what these priors suppress, so that the result depends
on the data alone. Undamped steps would diverge: the linear operator is not exactly the derivative of the
finite model, and directions that the data hardly determine amplify the difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import numpy as np

from xmist.methods.full_field.fit import continue_fit, fit
from xmist.methods.full_field.problem import Fit, FitData, Problem, Start
from xmist.numerics.solvers.preconditioner import Prior
from xmist.numerics.solvers.whole_image import Right, energy

_DAMPING: Final = 0.03  # of the weakest priors, on a step
_FAINT: Final = 0.05  # of the weakest priors: steps from an empty field of view with less than that diverge
_STEPS: Final = 30
_HALVINGS: Final = 4
_SETTLED: Final = 0.005  # relative decrease of the misfit that counts as none
_ROUNDING: Final = 1e-14  # of the frames' mean square
_FAITHFUL: Final = 1e-6  # of the speckles' variance: frames that leave less are explained without noise


def explains_all(data: FitData, found: Fit) -> bool:
    """Return whether the residual of a fit is so small that noise is not its limit."""
    number = max(found.weights.count(), 1)
    speckle = float(np.mean([frame.var(dtype=np.float64) for frame in data.reference]))
    return len(found.residual) > 1 and found.misfit[-1] / number < _FAITHFUL * speckle


def fit_without_priors(data: FitData, problem: Problem, start: Start | None = None) -> Fit:
    """Fit with no prior at all; the first weak priors serve to begin with."""
    first = fit(data, _with_fixed(problem, dict.fromkeys(problem.kinds, None)), start)
    return remove_priors(data, problem, first)


def fit_with_given_priors(data: FitData, problem: Problem, start: Start | None = None) -> Fit:
    """Fit with priors some of which may be given.

    Where one is so faint that the first outer steps would not find their way, those are made with the first
    weak priors.
    """
    kinds, fixed = problem.kinds, problem.strengths.fixed
    given = [fixed.get(kind) for kind in kinds]
    if not any(given):
        return fit(data, problem, start)
    first = problem.strengths.weak(data.operator(kinds, np.asarray(data.reference)))
    if not any(
        strength is not None and strength < _FAINT * prior.strength
        for strength, prior in zip(given, first, strict=True)
    ):
        return fit(data, problem, start)
    found = fit(data, _with_fixed(problem, dict.fromkeys(fixed, None)), start)
    priors = tuple(
        prior if strength is None else replace(prior, strength=strength)
        for strength, prior in zip(given, found.priors, strict=True)
    )
    return continue_fit(data, problem, replace(found, priors=priors))


def remove_priors(data: FitData, problem: Problem, found: Fit) -> Fit:
    """Continue a fit without its priors, until the data alone determine it."""
    kinds = problem.kinds
    data = replace(data, weights=found.weights)
    tight = replace(problem, relative=1e-14)
    fields, residual, transport = found.fields, found.residual, found.transport
    damping = tuple(
        replace(prior, strength=_DAMPING * prior.strength, floor=_DAMPING * prior.floor)
        for prior in problem.strengths.weak(transport)
    )
    rounding = _ROUNDING * energy(data.sample, data.weights, threads=data.threads) / data.unit**2
    solves, misfits = list(found.solves), [found.misfit[-1]]
    settled = False
    for _ in range(_STEPS):
        step, how = tight.run(tight.solver(transport, damping), Right.of(transport, residual), None)
        residual.forget()
        solves.append(how)
        for _ in range(_HALVINGS + 1):
            models, trial = data.linearise(kinds, fields + step)
            misfit = data.misfit(trial)
            if misfit < misfits[-1]:
                break
            step *= np.float32(0.5)
        settled = misfit >= (1.0 - _SETTLED) * misfits[-1] or misfit < rounding
        if misfit < misfits[-1]:
            fields, residual = fields + step, trial
            transport = data.operator(kinds, models)
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


def _with_fixed(problem: Problem, fixed: Mapping[int, float | None]) -> Problem:
    return replace(problem, strengths=replace(problem.strengths, fixed=fixed))
