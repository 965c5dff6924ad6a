"""The sample's own fine pattern, followed as it moves with the direction of the beam behind the diffuser.

Structure that is not resolved makes a granular contrast. Were it the same in every exposure, rough ψ would
explain it; but speckles are where rays converge, and each exposure sees the pattern moved by some tenths of a
pixel, in directions that change within a speckle (module `parallax`). What that leaves falls
where the dark-field is read. How far sample and diffuser are apart need not be known: which part of the
bending moves the pattern is read from what a fit leaves.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from xmist.core.arrays import Image
from xmist.methods.full_field.diagnostics import reduced_chi_squared
from xmist.methods.full_field.gauss_newton import SMOOTH, linearise, proceed
from xmist.methods.full_field.problem import Fit, Frames, Problem
from xmist.numerics.operators.finite_transport import sampled, spline_coefficients
from xmist.numerics.operators.parallax import Pattern, bending

_LOOKED_AT: Final = 3  # exposures that say how far the pattern moves
_TRIAL: Final = (0.25, 0.6)  # part of the bending that is tried first, and the most that is tried then
_CALM: Final = 1.5  # reduced χ² below which there is no pattern to speak of
# Part of what is left, without what ψ takes up, that moving the pattern must explain: with less than that
# nothing is gained that can be seen.
_WORTH: Final = 0.15


def follow(frames: Frames, problem: Problem, found: Fit) -> tuple[Frames, Fit]:
    """Fit again to frames in which the pattern stands still, where it is seen to move.

    Parameters
    ----------
    frames : Frames
        Data.
    problem : Problem
        What was fitted.
    found : Fit
        The fit.

    Returns
    -------
    frames : Frames
        Frames as the detector would see them along rays that are parallel behind the sample, in units of the
        mean reference; those given where nothing is gained.
    found : Fit
        The fit to them; its `parallax` is the part of the bending that moves the pattern.
    """
    level = reduced_chi_squared(found, frames.noise)
    if level is None or level < _CALM or found.lost:
        return frames, found
    pattern = Pattern.of(problem.kinds, found.fields, smoothing=SMOOTH, threads=frames.threads)
    part, explained = _estimate(frames, found, pattern)
    if explained < _WORTH or part <= 0.0:
        return frames, found
    part = min(part, 1.0)
    straight = _straightened(frames, problem, found, pattern, part)
    del pattern
    return straight, replace(proceed(straight, problem, found), parallax=part)


def _estimate(frames: Frames, found: Fit, pattern: Pattern) -> tuple[float, float]:
    """Give the part of the bending that moves the pattern, and how much of what is left that explains."""
    part, explained = _TRIAL[0], 0.0
    number = len(frames.reference)
    chosen = np.unique(np.linspace(0, number - 1, min(number, _LOOKED_AT)).round().astype(int))
    for _ in range(2):
        trial = min(max(part, _TRIAL[0]), _TRIAL[1])
        # Sums over exposures at each pixel: ψ takes up what goes with the model image.
        sums = np.zeros((3, *found.fields.shape[1:]))
        changes = rests = products = 0.0
        for n in chosen:
            model, rest, weights = found.transport.frames[n], found.residual[n], found.weights[n]
            shift = bending(frames.reference[n], threads=frames.threads)
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


def _straightened(frames: Frames, problem: Problem, found: Fit, pattern: Pattern, part: float) -> Frames:
    """Give frames whose fit with the present unknowns leaves what is left with the pattern moved."""
    threads = frames.threads
    reference, left = np.empty_like(frames.reference), np.empty_like(frames.reference)

    def pulled(image: Image, shift: Image, out: Image) -> None:
        sampled(spline_coefficients(image, threads=threads), shift, out=out, threads=threads)

    for n, frame in enumerate(frames.reference):
        shift = bending(frame, threads=threads)
        shift *= np.float32(part)
        rest = found.residual[n]
        rest += pattern.change(found.transport.frames[n], shift)
        rest[found.weights.codes[n] == 0] = 0.0
        shift *= np.float32(-1.0)  # from the detector back to where rays crossed the sample
        pulled(frame, shift, reference[n])
        pulled(rest, shift, left[n])
    found.residual.forget()
    straight = replace(frames, reference=reference, sample=left, weights=found.weights, unit=1.0)
    _, beyond = linearise(straight, problem.kinds, found.fields)
    for n in range(len(left)):
        rest = left[n].copy()
        model = rest - beyond[n]
        np.add(model, rest, out=left[n])
    return straight
