"""Gauss–Newton on the finite transport model, for whole images.

The sample frame of exposure n is modelled as

    S_n = M_n − ∇·(M_n ∇ψ_r) + M_n t_r,    M_n = B_d W_u (T_s I_R,n)

with W_u the warp by u = ∇ψ_s that conserves intensity, B_d the blur by diffusion, and ψ = ψ_s + ψ_r,
ln T = t_s + t_r split into a smooth and a rough part: rough ψ is lensing by structure that is not resolved,
no displacement, and a warp by it would blur the model. Its first order is (M) of Pavlov et al. 2020, J. Opt.
22 125604. Unknowns are in pixel units: ψ = ∆φ/(k p²), d = ∆D/p².
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.core.arrays import Image
from xmist.methods.full_field.coarse_to_fine import LEAST, LOST, double, halve, lost_share
from xmist.methods.full_field.problem import Fit, Frames, Problem, Start
from xmist.methods.full_field.strengths import power_of_noise, read_strengths
from xmist.numerics.images.smooth import local_mean
from xmist.numerics.operators import finite_model
from xmist.numerics.operators.finite_model import Residual
from xmist.numerics.operators.transport import PSI
from xmist.numerics.reduce import dot
from xmist.numerics.solvers.conjugate_gradients import Convergence
from xmist.numerics.solvers.preconditioner import Prior
from xmist.numerics.solvers.whole_image import Right, energy, prior_energy
from xmist.numerics.weights import Weights

Real = NDArray[Any]
Places = NDArray[np.intp]  # in a flattened image

SMOOTH: Final = 2.0  # σ in pixels of the smooth parts
_OUTLIER: Final = 8.0  # residual over its local rms; Gaussian noise never gets there
_LOCAL: Final = 8.0  # σ in pixels of "local"
_STEPS: Final = 8
_LARGE: Final = 24  # outer steps for large shifts: about the shifted speckles a step belongs elsewhere
_LOOK: Final = 1  # outer step after which it is asked whether the speckles were found
_READ: Final = (1, 2)  # outer steps after whose solve the priors' strengths are read
_READ_AGAIN: Final = (0,)  # the same, where they are known from a fit like this
_HALVINGS: Final = 5
_RISE: Final = 1e-3  # of the objective that rounding may make
_SETTLED: Final = 0.01  # relative change of the objective between outer steps that counts as none
_BELOW: Final = 0.25  # part of the noise's variance that a misfit of no consequence may have


def linearise(
    frames: Frames, kinds: tuple[int, ...], fields: Image, *, out: Image | None = None
) -> tuple[Image, Residual]:
    """Give the model images M_n and the residual S_n − model at the present unknowns.

    Parameters
    ----------
    frames : Frames
        Data.
    kinds : tuple of int
        Unknowns, see `xmist.numerics.operators.transport`.
    fields : (unknown, y, x) float32 array
        Their values in pixel units.
    out : (position, y, x) float32 array, optional
        Memory for the models, other than that of the frames.

    Returns
    -------
    models : (position, y, x) float32 array
        M_n.
    residual : Residual
        S_n − model.
    """
    return finite_model.linearise(
        frames.reference,
        frames.sample,
        kinds,
        fields,
        smoothing=SMOOTH,
        unit=frames.unit,
        out=out,
        threads=frames.threads,
    )


def fit(frames: Frames, problem: Problem, start: Start | None = None) -> Fit:
    """Fit the unknowns to the frames.

    Parameters
    ----------
    frames : Frames
        Data.
    problem : Problem
        Unknowns, priors and constraints.
    start : Start, optional
        What to begin with, where it explains the frames better than no sample.

    Returns
    -------
    Fit
        The unknowns, the operator at the end and the record of convergence. Its weights are those of the
        frames, in the same memory, from which outliers were taken.

    Notes
    -----
    Where the first outer steps do not find the speckles, for shifts are too large, frames binned by two are
    fitted first (which may bin again), and their unknowns are what the fit begins with.
    """
    if problem.free is not None:
        return _with_background(frames, problem, start)
    shape = frames.sample.shape[1:]

    def nothing() -> Start:
        return Start(fields=np.zeros((len(problem.kinds), *shape), np.float32))

    if start is not None and _begins_better(frames, problem, start, nothing()):
        found, lost = _descend(frames, problem, start, steps=_STEPS, watch=True)
        if not lost:
            return replace(found, warm=True)
    found, lost = _descend(frames, problem, nothing(), steps=_STEPS, watch=min(shape) >= 2 * LEAST)
    if not lost:
        return found
    below = fit(_binned(frames, found), problem.halved())
    start = Start(fields=double(below.fields, problem.kinds, shape))
    # Binned frames in which the speckles were not found either are no better a start than what there is.
    if below.lost and not _begins_better(frames, problem, start, Start(fields=found.fields)):
        return _descend(frames, problem, Start(fields=found.fields), steps=_STEPS, watch=False)[0]
    found, _ = _descend(frames, problem, start, steps=_LARGE, watch=False)
    return replace(found, binning=2 * below.binning)


def _binned(frames: Frames, found: Fit) -> Frames:
    """Give frames binned by two, without the outliers of a fit."""
    numbers = range(len(frames.sample))

    def sample(n: int) -> Image:
        out: Image = frames.sample[n] / np.float32(frames.unit)
        out.flat[found.outliers[n]] = frames.reference[n].flat[found.outliers[n]]
        return out

    def weights(n: int) -> Image:
        out = frames.weights[n]
        out.flat[found.outliers[n]] = 0.0
        return out

    return Frames(
        reference=np.concatenate([halve(frame[None]) for frame in frames.reference]),
        sample=np.concatenate([halve(sample(n)[None]) for n in numbers]),
        weights=Weights.of(np.concatenate([halve(weights(n)[None]) for n in numbers])),
        noise=0.25 * frames.noise,
        threads=frames.threads,
    )


def proceed(frames: Frames, problem: Problem, found: Fit) -> Fit:
    """Go on from a fit of nearly the same frames.

    Parameters
    ----------
    frames : Frames
        Data.
    problem : Problem
        What is fitted.
    found : Fit
        The fit to go on from; the strengths of its priors are what the new ones are read with.

    Returns
    -------
    Fit
        The fit to these frames, with the record of both.
    """
    near = Start(fields=found.fields, priors=found.priors)
    new, _ = _descend(frames, problem, near, steps=_STEPS, watch=False)
    outliers = (np.union1d(*both) for both in zip(found.outliers, new.outliers, strict=True))
    return replace(
        new,
        solves=found.solves + new.solves,
        misfit=found.misfit + new.misfit[1:],
        outliers=tuple(outliers),
        binning=found.binning,
        warm=found.warm,
    )


def _with_background(frames: Frames, problem: Problem, start: Start | None) -> Fit:
    """Fit without the background, then with it: it couples all frequencies and needs a near start."""
    assert problem.free is not None
    weights = frames.weights.copy()
    first = fit(replace(frames, weights=weights), replace(problem, free=None), start)
    fields = first.fields.copy()
    for field, kind in zip(fields, problem.kinds, strict=True):
        if kind == PSI and problem.length2 is None:
            field -= field.mean(dtype=np.float64, where=~problem.free)
        field[~problem.free] = 0.0
    near = Start(fields=fields, priors=first.priors)
    found, _ = _descend(frames, problem, near, steps=_STEPS, watch=False)
    return replace(found, solves=first.solves + found.solves, binning=first.binning, warm=first.warm)


def _begins_better(frames: Frames, problem: Problem, one: Start, other: Start) -> bool:
    misfits = [_misfit(frames, linearise(frames, problem.kinds, start.fields)[1]) for start in (one, other)]
    return misfits[0] < misfits[1]


def _descend(frames: Frames, problem: Problem, start: Start, *, steps: int, watch: bool) -> tuple[Fit, bool]:
    """Take outer steps; with `watch` stop, and say so, where the first do not find the speckles."""
    kinds, fields = problem.kinds, start.fields
    models, residual = linearise(frames, kinds, fields)
    suspects, misfit = _judge(frames, residual)[1:]
    taken = _reject(frames, suspects)
    transport = frames.operator(kinds, models)
    weakest = priors = problem.priors(transport)
    known = start.priors
    if known is not None:
        priors = tuple(
            replace(prior, strength=one.strength, order=one.order)
            for prior, one in zip(priors, known, strict=True)
        )
    read_at = _READ if known is None else _READ_AGAIN
    del start
    solves: list[Convergence] = []
    misfits = [misfit]
    # What is left below the noise decides nothing.
    least = _BELOW * frames.noise * float(frames.weights.count())
    settled = lost = False
    for step in range(steps):
        # What is not needed for a while is let go: solves and models need the memory.
        last = max(read_at)
        solver, used = problem.solver(transport, priors), priors
        noise = {}
        if step in read_at:
            noise = power_of_noise(frames, problem, solver, fields, residual, transport, weakest)
        right = Right.about(transport, residual, fields)
        residual.forget()
        begin = fields.copy() if fields.any() else None
        new, how = problem.run(solver, right, begin, rough=step <= last)
        solves.append(how)
        del solver, right, begin
        priors = read_strengths(problem, new, noise, transport, priors, weakest)
        if priors != used and step < last:  # the next step will do so after the last
            right = Right.about(transport, residual, fields)
            residual.forget()
            solver, used = problem.solver(transport, priors), priors
            new, how = problem.run(solver, right, new, rough=True)
            solves.append(how)
            del solver, right
        del transport, models, residual
        before = misfits[-1] + prior_energy(fields, used, threads=frames.threads)
        after, new, trial = _search(frames, kinds, fields, new, used, before)
        moved = trial is not None
        models, residual, suspects, misfit = (
            (*linearise(frames, kinds, fields), [], 0.0) if trial is None else trial
        )
        fields = new
        del trial
        if watch and (step == _LOOK or not moved):
            lost = lost_share(models, residual, frames.weights, frames.noise) > LOST
        if lost or not moved:
            transport = frames.operator(kinds, models)
            break
        taken += _reject(frames, suspects)
        transport = frames.operator(kinds, models)
        misfits.append(misfit)
        still = abs(before - after) <= _SETTLED * before or misfits[-1] < least
        if step > last and still:
            settled = True
            break
    share = lost_share(models, residual, frames.weights, frames.noise)
    if lost:  # another fit of these frames follows
        for n, where, codes in taken:
            frames.weights.codes[n].flat[where] = codes
    found = Fit(
        fields=fields,
        priors=priors,
        transport=transport,
        residual=residual,
        solves=tuple(solves),
        misfit=tuple(misfits),
        converged=settled and share <= LOST and all(how.converged for how in solves),
        outliers=tuple(
            np.concatenate([where for m, where, _ in taken if m == n]) for n in range(len(frames.sample))
        ),
        lost=share if share > LOST else 0.0,
    )
    return found, lost


def _search(
    frames: Frames,
    kinds: tuple[int, ...],
    fields: Image,
    new: Image,
    priors: tuple[Prior, ...],
    before: float,
) -> tuple[float, Image, tuple[Image, Residual, list[Places], float] | None]:
    """Go from `fields` towards `new` as far as the objective allows; no model where it never does.

    With the model come its residual, the outliers and the misfit without them.
    """
    for _ in range(_HALVINGS + 1):
        if not np.isfinite(new).all():
            break
        models, residual = linearise(frames, kinds, new)
        misfit, suspects, without = _judge(frames, residual)
        after = misfit + prior_energy(new, priors, threads=frames.threads)
        if after <= before * (1.0 + _RISE):
            return after, new, (models, residual, suspects, without)
        del models, residual
        new = np.float32(0.5) * (new + fields)
    return before, fields, None


def _misfit(frames: Frames, residual: Residual) -> float:
    return energy(residual, frames.weights, threads=frames.threads)


def _judge(frames: Frames, residual: Residual) -> tuple[float, list[Places], float]:
    """Give the misfit, single pixels whose residual stands far out of those around, and it without them."""
    suspects = []
    misfit = without = 0.0
    for n, image in enumerate(residual):
        image *= image
        used = frames.weights.codes[n] > 0
        level = local_mean(image, used, _LOCAL, threads=frames.threads)
        level *= np.float32(_OUTLIER**2)
        used &= image > level
        del level
        where = np.flatnonzero(used)
        suspects.append(where)
        weights = frames.weights[n]
        part = dot(image, weights, threads=frames.threads)
        misfit += part
        if where.size:
            weights.flat[where] = 0.0
            part = dot(image, weights, threads=frames.threads)
        without += part
    return misfit, suspects, without


def _reject(frames: Frames, suspects: list[Places]) -> list[tuple[int, Places, NDArray[np.uint8]]]:
    """Take the weight from pixels; gives the exposures, places and codes of what was taken."""
    taken = []
    for n, where in enumerate(suspects):
        codes = frames.weights.codes[n]
        taken.append((n, where, codes.flat[where]))
        codes.flat[where] = 0
    return taken
