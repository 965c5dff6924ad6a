"""The solver of one level: Gauss–Newton on the finite model, at one resolution.

An outer step linearises the model about the present images, solves the linear problem with the present
priors, and goes as far towards its solution as the objective allows. After one of the first steps the
strengths of the priors are chosen. Outliers (single pixels of sample frames) get weight 0.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.core.arrays import Image
from xmist.methods.full_field.border import hide_incoming
from xmist.methods.full_field.options import TOLERANCE
from xmist.methods.full_field.problem import DARK, NEGLIGIBLE, Fit, FitData, Problem, Start
from xmist.methods.full_field.refit_dark_field import trust
from xmist.numerics.images.blocks import BLOCK, block_sums
from xmist.numerics.images.smooth import convolve, gaussian_taps, outlying
from xmist.numerics.operators.finite_model import Residual
from xmist.numerics.operators.transport import PSI
from xmist.numerics.solvers.conjugate_gradients import Convergence
from xmist.numerics.solvers.preconditioner import Prior
from xmist.numerics.solvers.whole_image import Right, prior_energy, without_models
from xmist.numerics.weights import Images

Real = NDArray[Any]
Places = NDArray[np.intp]  # in a flattened frame

OUTLIER: Final = 8.0  # residual over its local rms; Gaussian noise never gets there
_LOCAL: Final = 8.0  # σ in pixels of "local"
_STEPS: Final = 8
_STEPS_CLOSE: Final = 20  # to a smaller tolerance
# Part of a position's share of the objective that a solve may leave before strengths are chosen (of one
# position, which determines least, a smaller one), and in the first step from no sample, which ends where the
# linear problem is no longer right.
_ROUGH: Final = 3e-2
_ROUGH_ALONE: Final = 1e-2
_ROUGHEST: Final = 2.0
_LOOK: Final = 1  # outer step after which the speckles must be found
_HALVINGS: Final = 5
_RISE: Final = 1e-3  # of the objective that rounding may make
_BELOW: Final = 0.25  # part of the noise's variance below which a misfit has no effect
_ROUNDING: Final = 1e-12
_SPECKLES: Final = 6.0  # σ in pixels over which speckles are judged
# Part of the speckles' variance that a residual may have: that of a shift by a sixth of a speckle's width.
_LEFT: Final = 0.15
_TAPS: Final = gaussian_taps(_SPECKLES / BLOCK)
_LOST: Final = 0.005  # part of the image above which shifts are too large


def solve_level(
    data: FitData, problem: Problem, start: Start | None, *, watch: bool, steps: int | None = None
) -> tuple[Fit, bool]:
    """Fit the unknowns by at most `steps` outer steps (8, or 20 to a small tolerance), from a start or not.

    With `watch` it stops where the first steps do not find the speckles, and returns True besides the fit;
    the outliers then have their weights back. Else the weights of outliers in `data` stay 0.
    """
    kinds, strengths = problem.kinds, problem.strengths
    steps = steps or (_STEPS_CLOSE if problem.tolerance < TOLERANCE else _STEPS)
    fields = data.begin(kinds) if start is None else start.fields
    hidden = hide_incoming(data, fields[kinds.index(PSI)], None)
    models, residual = data.linearise(kinds, fields)
    suspects, misfit = _judge(data, residual)[1:]
    taken = _reject(data, suspects)
    transport = data.operator(kinds, models)
    weak = strengths.weak(transport)
    priors = strengths.initial(weak, kinds)
    known = None if start is None else start.priors
    if known is not None:
        priors = strengths.known(priors, known)
    choosing = strengths.steps(known=known is not None)
    last = max(choosing)
    begun, positions = start is not None, len(data.reference)
    alone = positions == 1
    rough = _ROUGH_ALONE if alone else _ROUGH / positions
    del start
    solves: list[Convergence] = []
    misfits = [misfit]
    least = _BELOW * data.noise * float(data.weights.count())
    gains: list[float] = []
    settled = lost = False
    for step in range(steps):
        solver, used = problem.solver(transport, priors), priors
        noisy = []
        if step in choosing:
            noisy = strengths.noise_rights(
                reference=data.reference,
                spectra=data.spectra,
                fields=fields,
                residual=residual,
                transport=transport,
                weak=weak,
                dark=known is None and step == choosing[0],
            )
        part = NEGLIGIBLE if step > last else rough if step or begun or alone else _ROUGHEST / positions
        right = Right.about(transport, residual, fields, solver.normal)
        # Solves and models need the memory.
        solver.forget_models()
        transport = without_models(transport)
        del models, residual
        noise = strengths.noise_response(
            noisy,
            lambda one, solver=solver: problem.run(solver, one, None, part=rough)[0],  # type: ignore[misc]
            kinds,
            data.threads,
        )
        new, how = problem.run(solver, right, fields.copy(), part=part)
        solves.append(how)
        moment = solver.moments
        del solver, right
        priors = strengths.choose(
            new,
            noise,
            transport=transport,
            moment=moment,
            priors=priors,
            weak=weak,
            mix=problem.mix,
            trust=trust(data, new[kinds.index(PSI)]) if any(kinds[i] in DARK for i in noise) else None,
        )
        if step == choosing[0] and strengths.chosen(noise, kinds):
            last = step
        before = misfits[-1] + prior_energy(fields, used, weights=data.weights, threads=data.threads)
        after, new, trial = _search(data, kinds, fields, new, used, before)
        moved = trial is not None
        models, residual, suspects, misfit = (
            (*data.linearise(kinds, fields), [], 0.0) if trial is None else trial
        )
        fields = new
        del trial
        if watch and (step == _LOOK or not moved):
            lost = lost_share(models, residual, data.weights, data.noise, threads=data.threads) > _LOST
        if lost or not moved:
            transport = data.operator(kinds, models)
            break
        taken += _reject(data, suspects)
        if hidden is not None:
            hidden = hide_incoming(data, fields[kinds.index(PSI)], hidden)
            misfit = data.misfit(residual)
        transport = data.operator(kinds, models)
        misfits.append(misfit)
        gains.append(abs(before - after))
        still = (gains[-1] if alone else _left(gains)) <= problem.tolerance * before or misfits[-1] < least
        if step > last and still:
            settled = True
            break
    share = lost_share(models, residual, data.weights, data.noise, threads=data.threads)
    if lost:  # another fit of these frames follows
        if hidden is not None:
            hidden.restore(data)
        for n, where, codes in taken:
            data.weights.codes[n].flat[where] = codes
    found = Fit(
        fields=fields,
        priors=priors,
        transport=transport,
        residual=residual,
        solves=tuple(solves),
        misfit=tuple(misfits),
        converged=settled and share <= _LOST and all(how.converged for how in solves),
        outliers=tuple(
            np.concatenate([where for m, where, _ in taken if m == n]) for n in range(len(data.sample))
        ),
        lost=share if share > _LOST else 0.0,
        margin=data.margin,
    )
    return found, lost


def _left(gains: list[float]) -> float:
    """Return what further outer steps will gain if they go on as the last two did."""
    if len(gains) < 2 or gains[-1] >= gains[-2]:
        return gains[-1]
    return gains[-1] ** 2 / (gains[-2] - gains[-1])


def _search(
    data: FitData,
    kinds: tuple[int, ...],
    fields: Image,
    new: Image,
    priors: tuple[Prior, ...],
    before: float,
) -> tuple[float, Image, tuple[Image, Residual, list[Places], float] | None]:
    """Step from `fields` towards `new` as far as the objective falls; no model if it never does.

    With the model come its residual, the outliers and the misfit without them.
    """
    for _ in range(_HALVINGS + 1):
        if not np.isfinite(new).all():
            break
        models, residual = data.linearise(kinds, new)
        misfit, suspects, without = _judge(data, residual)
        after = misfit + prior_energy(new, priors, weights=data.weights, threads=data.threads)
        if after <= before * (1.0 + _RISE):
            return after, new, (models, residual, suspects, without)
        del models, residual
        new = np.float32(0.5) * (new + fields)
    return before, fields, None


def _judge(data: FitData, residual: Residual) -> tuple[float, list[Places], float]:
    """Return the misfit, outliers for each position, and the misfit without them."""
    suspects = []
    misfit = without = 0.0
    for n, image in enumerate(residual):
        where = np.flatnonzero(
            outlying(image, data.weights.codes[n] > 0, _LOCAL, OUTLIER**2, threads=data.threads)
        )
        suspects.append(where)
        part = data.weights.energy(n, image, threads=data.threads)
        misfit += part
        if where.size:
            image.flat[where] = 0.0
            part = data.weights.energy(n, image, threads=data.threads)
        without += part
    return misfit, suspects, without


def _reject(data: FitData, suspects: list[Places]) -> list[tuple[int, Places, NDArray[np.uint8]]]:
    """Set weights to 0; return positions, places and codes of these pixels."""
    taken = []
    for n, where in enumerate(suspects):
        codes = data.weights.codes[n]
        taken.append((n, where, codes.flat[where]))
        codes.flat[where] = 0
    return taken


def lost_share(
    models: Images, residual: Images, weights: Images, noise: float, *, threads: int | None = None
) -> float:
    """Return the part of the image in which a fit has not found the speckles, 0 to 1.

    There the local variance of the residual (position, y, x), less that of the noise in sample and reference
    (`noise` for a pixel of weight 1), is above a part of that of the speckles in the models.
    """
    shape = [-(-size // BLOCK) for size in models[0].shape]
    sums, means = np.zeros((2, *shape)), np.zeros((2, *shape))
    for model, rest, w in zip(models, residual, weights, strict=True):
        number, weight, left, left_square = block_sums(rest, w, BLOCK, threads=threads)
        light, light_square = block_sums(model, w, BLOCK, threads=threads)[2:]
        sums += left_square - 2.0 * noise * number, light_square
        local = np.stack([weight, left, light])
        convolve(local, _TAPS, threads=threads)
        means += local[1:] ** 2 / np.maximum(local[0], 1e-9)
    convolve(sums, _TAPS, threads=threads)
    unexplained, speckle = (sums - means) / BLOCK**2
    return float(np.mean(unexplained > _LEFT * speckle + _ROUNDING))
