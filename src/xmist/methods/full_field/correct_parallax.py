"""Correct for parallax: unresolved structure of the sample is displaced differently at each position.

Unresolved structure makes a granular contrast. If it were the same in every frame, rough ψ would explain it;
but bent rays cross the sample elsewhere, so that it is displaced by some tenths of a pixel, in directions
that change within a speckle (`xmist.numerics.operators.parallax`). The residual of this motion looks like a
dark-field. The distances need not be known: the part of the bending that displaces the structure is estimated
from the residual of a fit. It displaces ln T as a whole; left alone that would look like a shift of speckles.
Rays are told apart by the speckles of the reference, so that what they are bent by moves with the speckles.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from xmist.core.arrays import Image
from xmist.methods.full_field.diagnostics import reduced_chi_squared
from xmist.methods.full_field.fit import continue_fit
from xmist.methods.full_field.problem import SMOOTH, Fit, FitData, Problem
from xmist.numerics.operators.finite_model import smooth_warp
from xmist.numerics.operators.finite_transport import sampled, spline_coefficients
from xmist.numerics.operators.parallax import Pattern, bending
from xmist.numerics.operators.transport import LOG_T, PSI
from xmist.numerics.solvers.poisson import smoothed

_LOOKED_AT: Final = 3  # positions that the part is estimated from
_TRIAL: Final = (0.25, 0.6)  # part of the bending that is tried first, and the most that is tried then
_CALM: Final = 1.5  # reduced χ² below which there is no such structure
# Part of the residual, without what ψ takes up, that displacing the structure must explain to be worth it.
_WORTH: Final = 0.15
_CLEAR: Final = 3.0  # reduced χ² from which the residual is hardly noise, which harms d by way of rough ψ
_WORTH_CLEAR: Final = 0.08  # the same part there


def correct_parallax(data: FitData, problem: Problem, found: Fit) -> tuple[FitData, Fit]:
    """If the residual shows that unresolved structure moves, fit again to frames corrected for this.

    These are the frames for rays that are parallel behind the sample, in units of the mean reference. Returns
    the given data and fit where the correction explains too little.
    """
    level = reduced_chi_squared(found, data.noise)
    if level is None or level < _CALM or found.lost:
        return data, found
    pattern = Pattern.of(problem.kinds, found.fields, smoothing=SMOOTH, threads=data.threads)
    back = smooth_warp(found.fields[problem.kinds.index(PSI)], SMOOTH, threads=data.threads).back
    part, explained = _estimate(data, found, pattern, back)
    if explained < (_WORTH if level < _CLEAR else _WORTH_CLEAR) or part <= 0.0:
        return data, found
    part = min(part, 1.0)
    if LOG_T in problem.kinds:
        log_t = found.fields[problem.kinds.index(LOG_T)]
        smooth = smoothed(log_t, SMOOTH, threads=data.threads)
        pattern = pattern.with_attenuation(log_t - smooth + _carried(smooth[None], back, data.threads)[0])
    straight = _straightened(data, problem, found, pattern, part, back)
    del pattern
    # What the correction explains was noise to the choice of the strength. ψ took up one position of it.
    number = len(data.reference)
    less = (1.0 - explained) ** (number / max(number - 1.0, 0.5))
    found = replace(found, priors=problem.strengths.weaker(found.priors, problem.kinds, less))
    return straight, replace(continue_fit(straight, problem, found), parallax=part)


def _carried(images: Image, back: Image, threads: int) -> Image:
    """Return images (number, y, x) of rays where the sample has moved these, `back` as in `Warp`."""
    coefficients = np.stack([spline_coefficients(image, threads=threads) for image in images])
    return sampled(coefficients, back, threads=threads)


def _estimate(data: FitData, found: Fit, pattern: Pattern, back: Image) -> tuple[float, float]:
    """Return the fraction of the bending that displaces the structure, and how much this explains."""
    part, explained = _TRIAL[0], 0.0
    number = len(data.reference)
    chosen = np.unique(np.linspace(0, number - 1, min(number, _LOOKED_AT)).round().astype(int))
    for _ in range(2):
        trial = min(max(part, _TRIAL[0]), _TRIAL[1])
        # Sums over positions at each pixel: ψ takes up what goes with the model image.
        sums = np.zeros((3, *found.fields.shape[1:]))
        changes = rests = products = 0.0
        for n in chosen:
            model, rest, weights = found.transport.frames[n], found.residual[n], found.weights[n]
            shift = _carried(bending(data.reference[n], threads=data.threads), back, data.threads)
            shift *= np.float32(trial)
            change = pattern.change(model, shift)
            for total, image in zip(sums, (change, rest, model), strict=True):
                total += weights * model * image
            changes += float((weights * change**2).sum(dtype=np.float64))
            rests += float((weights * rest**2).sum(dtype=np.float64))
            products += float((weights * change * rest).sum(dtype=np.float64))
        along = np.maximum(sums[2], 1e-9)
        changes -= float((sums[0] ** 2 / along).sum())
        rests -= float((sums[1] ** 2 / along).sum())
        products -= float((sums[0] * sums[1] / along).sum())
        if changes <= 0.0 or rests <= 0.0:
            return 0.0, 0.0
        part, explained = -trial * products / changes, products**2 / (changes * rests)
    found.residual.forget()
    return part, explained


def _straightened(
    data: FitData, problem: Problem, found: Fit, pattern: Pattern, part: float, back: Image
) -> FitData:
    """Return corrected data, whose residual with the present unknowns is that of the displaced structure."""
    threads = data.threads
    reference, left = (np.empty(data.reference.shape, data.reference.dtype) for _ in range(2))

    def pulled(image: Image, shift: Image, out: Image) -> None:
        sampled(spline_coefficients(image, threads=threads), shift, out=out, threads=threads)

    for n, frame in enumerate(data.reference):
        shift = bending(frame, threads=threads)
        shift *= np.float32(part)
        moved = _carried(shift, back, threads)
        rest = found.residual[n]
        rest += pattern.change(found.transport.frames[n], moved)
        rest[found.weights.codes[n] == 0] = 0.0
        # From the detector back to where rays crossed the sample.
        pulled(frame, -shift, reference[n])
        pulled(rest, -moved, left[n])
    found.residual.forget()
    straight = replace(data, reference=reference, sample=left, weights=found.weights, unit=1.0)
    _, beyond = straight.linearise(problem.kinds, found.fields)
    for n in range(len(left)):
        rest = left[n].copy()
        model = rest - beyond[n]
        np.add(model, rest, out=left[n])
    return straight
