"""Priors on the dark-field that are not quadratic, as outer loops around the same quadratic solves.

Each is split off (alternating direction method of multipliers; Boyd et al. 2011, Found. Trends Mach. Learn. 3
1, doi:10.1561/2200000016): with K d a copy of the dark-field (K = 1) or its slopes (K = ∇),

    d ← argmin  data + ρ‖K d − v + y‖²,    v ← argmin  f(v) + ρ‖K d − v + y‖²,    y ← y + K d − v

The first is the usual solve with one more quadratic prior and a mean, the second is done for each pixel
alone:

============== ================================================= =======================================
name           f                                                 v
============== ================================================= =======================================
"non-negative" 0 for d ≥ 0 (a tensor without negative            the nearest such value
               eigenvalues), else infinite
"huber"        α|∇d|² up to |∇d| = s, α(2s|∇d| − s²) beyond      slopes shrink, the large by αs/ρ at most
"tv"           2αs|∇d|                                           slopes shrink by αs/ρ
============== ================================================= =======================================

s is about the typical slope for α, √(σ²/α) with σ² the variance of a datum of weight 1: "tv" then costs a
typical slope what "h1" does.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.core.arrays import Image
from xmist.methods.full_field.problem import DARK, Fit, FitData, Problem
from xmist.numerics.images.tensors import nearest_positive
from xmist.numerics.operators.transport import Transport
from xmist.numerics.solvers.preconditioner import Prior, moments
from xmist.numerics.solvers.whole_image import Right, to_cosines

Real = NDArray[Any]

# s over the slope √(σ²/α) that a quadratic prior of this α expects.
_TYPICAL: Final = {"non-negative": 1.0, "huber": 0.5, "tv": 1.0}
_OUTER: Final = 2  # linearisations
_SPLITS: Final = 30
_CLOSE: Final = 2e-3  # change of the dark-field in a split, relative to its rms, that counts as none


def fit_edge_preserving(data: FitData, problem: Problem, found: Fit, prior: str) -> Fit:
    """Continue a fit with quadratic priors by "non-negative", "huber" or "tv" on the dark-field."""
    variance = found.misfit[-1] / max(float(found.weights.count()), 1.0)
    transport, residual, fields = found.transport, found.residual, found.fields
    data = replace(data, weights=found.weights)
    solves, misfits = list(found.solves), list(found.misfit)
    settled = False
    for _ in range(_OUTER):
        right = Right.about(transport, residual, fields, transport.normal)
        residual.forget()
        split = _Split(problem, transport, found.priors, prior, variance)
        fields, hows, settled = split.run(right, fields)
        solves += hows
        models, residual = data.linearise(problem.kinds, fields)
        transport = data.operator(problem.kinds, models)
        misfits.append(data.misfit(residual))
    return replace(
        found,
        fields=fields,
        transport=transport,
        residual=residual,
        solves=tuple(solves),
        misfit=tuple(misfits),
        converged=found.converged and settled,
    )


class _Split:
    """The alternation about one linearisation."""

    def __init__(
        self,
        problem: Problem,
        transport: Transport,
        priors: tuple[Prior, ...],
        prior: str,
        variance: float,
    ) -> None:
        self._problem, self._transport, self._prior = problem, transport, prior
        self._dark = [i for i, kind in enumerate(problem.kinds) if kind in DARK]
        self._threads = transport.threads
        self._alpha = max(priors[self._dark[0]].strength, 1e-12)
        self._slope = _TYPICAL[prior] * float(np.sqrt(variance / self._alpha))
        if prior == "non-negative":
            self._rho = moments(transport.frames, transport.weights, threads=self._threads).curvature
            self._rho = max(self._rho, 1e-12)
            priors = tuple(
                replace(given, floor=given.floor + self._rho) if i in self._dark else given
                for i, given in enumerate(priors)
            )
        else:
            self._rho = self._alpha
            priors = tuple(
                replace(given, strength=self._rho, order=1.0) if i in self._dark else given
                for i, given in enumerate(priors)
            )
        self._priors = priors

    def run(self, right: Right, fields: Image) -> tuple[Image, list[Any], bool]:
        """Alternate from a start; return fields, records of the solves, and whether they converged."""
        solver = self._problem.solver(self._transport, self._priors)
        copy = self._apply(fields[self._dark])
        multiplier = np.zeros_like(copy)
        hows = []
        for _ in range(_SPLITS):
            pull = np.zeros_like(fields)
            pull[self._dark] = self._rho * self._transpose(copy - multiplier)
            to_cosines(pull, threads=self._threads)
            new, how = self._problem.run(solver, right, fields.copy(), pull=pull)
            hows.append(how)
            value = self._apply(new[self._dark])
            copy = self._nearest(value + multiplier)
            multiplier += value - copy
            change = float(np.sqrt(np.mean((new[self._dark] - fields[self._dark]) ** 2)))
            size = float(np.sqrt(np.mean(new[self._dark] ** 2)))
            fields = new
            if change <= _CLOSE * size:
                break
        if self._prior == "non-negative":
            fields[self._dark] = copy
        return fields, hows, change <= _CLOSE * size

    def _apply(self, dark: Image) -> Image:
        if self._prior == "non-negative":
            return dark.copy()
        out = np.zeros((*dark.shape[:1], 2, *dark.shape[1:]), dark.dtype)
        out[:, 0, :, :-1] = np.diff(dark, axis=2)
        out[:, 1, :-1] = np.diff(dark, axis=1)
        return out

    def _transpose(self, copy: Image) -> Image:
        if self._prior == "non-negative":
            return copy
        along_x, along_y = copy[:, 0], copy[:, 1]
        out = np.zeros_like(along_x)
        out[:, :, :-1] -= along_x[:, :, :-1]
        out[:, :, 1:] += along_x[:, :, :-1]
        out[:, :-1] -= along_y[:, :-1]
        out[:, 1:] += along_y[:, :-1]
        return out

    def _nearest(self, value: Image) -> Image:
        """Return argmin f(v) + ρ|v − value|²."""
        if self._prior == "non-negative":
            return (
                nearest_positive(value).astype(np.float32)
                if len(value) == 3
                else np.maximum(value, np.float32(0.0))
            )
        size = np.sqrt((value**2).sum(axis=1, keepdims=True))
        step = np.float32(self._alpha * self._slope / self._rho)
        shrunk = np.maximum(size - step, np.float32(0.0))
        if self._prior == "huber":
            small = np.float32(self._rho / (self._rho + self._alpha)) * size
            shrunk = np.where(small <= self._slope, small, shrunk)
        out: Image = value * (shrunk / np.maximum(size, np.float32(1e-30)))
        return out
