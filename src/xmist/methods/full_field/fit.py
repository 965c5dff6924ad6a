"""Fit with prior knowledge: an initial result, bare beam, or a fit of nearly the same frames."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from xmist.methods.full_field.coarse_to_fine import coarse_to_fine
from xmist.methods.full_field.gauss_newton import solve_level
from xmist.methods.full_field.problem import Fit, FitData, Problem, Start
from xmist.numerics.operators.transport import PSI
from xmist.numerics.solvers.preconditioner import Prior


def fit(data: FitData, problem: Problem, start: Start | None = None) -> Fit:
    """Fit the unknowns, from a start where that explains the frames better than no sample.

    The weights of the fit are those of the data, in the same memory, with those of outliers set to 0.
    """
    if problem.free is not None:
        return _fit_with_bare_beam(data, problem, start)
    if start is not None and data.explained_better_by(start.fields, data.begin(problem.kinds), problem.kinds):
        found, lost = solve_level(data, problem, start, watch=True)
        if not lost:
            return replace(found, warm=True)
    return coarse_to_fine(solve_level, data, problem)


def continue_fit(data: FitData, problem: Problem, found: Fit) -> Fit:
    """Continue a fit of nearly the same frames, with its priors for d; the result holds the record of both.

    One step does not reach the estimate that another strength for d could be read from.
    """
    near = Start(fields=found.fields, priors=found.priors)
    new, _ = solve_level(data, problem, near, watch=False)
    outliers = (np.union1d(*both) for both in zip(found.outliers, new.outliers, strict=True))
    return replace(
        new,
        solves=found.solves + new.solves,
        misfit=found.misfit + new.misfit[1:],
        outliers=tuple(outliers),
        binning=found.binning,
        warm=found.warm,
    )


def fit_with_credible_priors(data: FitData, problem: Problem, found: Fit, chosen: tuple[Prior, ...]) -> Fit:
    """Continue a fit with a stronger prior on d where much of d is negative; `chosen`: priors before.

    See `PriorStrengths.credible`. The same fit where that is not so.
    """
    used = np.any(found.weights.codes, axis=0)
    priors = problem.strengths.credible(
        found.priors, chosen, kinds=problem.kinds, fields=found.fields, used=used
    )
    if priors == found.priors:
        return found
    new = continue_fit(data, _with_fixed(problem, priors), replace(found, priors=priors))
    return replace(new, parallax=found.parallax)


def _with_fixed(problem: Problem, priors: tuple[Prior, ...]) -> Problem:
    """Return the problem with the strengths of these priors given."""
    strengths = {kind: one.strength for kind, one in zip(problem.kinds, priors, strict=True)}
    return replace(problem, strengths=replace(problem.strengths, fixed=strengths))


def _fit_with_bare_beam(data: FitData, problem: Problem, start: Start | None) -> Fit:
    """Fit without the bare beam, then with it: it couples all frequencies and needs a near start."""
    assert problem.free is not None
    first = fit(replace(data, weights=data.weights.copy()), replace(problem, free=None), start)
    fields = first.fields.copy()
    for field, kind in zip(fields, problem.kinds, strict=True):
        if kind == PSI and problem.length2 is None:
            field -= field.mean(dtype=np.float64, where=~problem.free)
        field[~problem.free] = 0.0
    if data.margin:
        # With mask and margin solves converge slowly: what noise gives would be read before it is there.
        problem = _with_fixed(problem, first.priors)
    found, _ = solve_level(data, problem, Start(fields=fields, priors=first.priors), watch=False)
    return replace(found, solves=first.solves + found.solves, binning=first.binning, warm=first.warm)
