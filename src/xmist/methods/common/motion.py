"""Whether speckles moved as a result says, and alike at all positions.

Methods that retrieve a phase from changes of intensity take every change for refraction: an illumination that
moved, light that the sample absorbs, what fills a dead part of the detector. The speckles tell where they are
whatever their intensity, so that each result is compared with them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.core import flags as flag
from xmist.core.data import Retrieval
from xmist.core.findings import Finding, finding
from xmist.methods.common.border import SIGNIFICANT
from xmist.methods.common.frames import in_words
from xmist.numerics.images.residual_shift import ResidualShifts, residual_shifts

Real = NDArray[Any]

_WRONG: Final = (
    0.08  # pixels, rms of patches: an angle that is wrong by 0.1 has a third of its square in them
)
_APART: Final = 0.05  # pixels, rms, of a position against the others, at least
_APART_MOST: Final = 0.15
_PART: Final = 0.3  # of the shift that a sample makes; structure of the sample in a patch is less
_ABOVE: Final = 6.0  # times the variance of noise, for a position
# What is wrong with the frames already.
_KNOWN: Final = {
    "border-motion-missing",
    "frames-exchanged",
    "identical-frames",
    "pairs-swapped",
    "pairs-turned",
    "pairs-unmatched",
    "sample-sharper",
}
_FEWEST: Final = 4  # patches


def check_motion(
    result: Retrieval, reference: Real, sample: Real, weights: Real | None, *, threads: int | None = None
) -> Retrieval:
    """Return a result with warnings where speckles of frames (position, y, x) contradict its angle.

    Pixels with a flag do not count.
    """
    if result.refraction_angle is None or {record.code for record in result.findings} & _KNOWN:
        return result
    experiment = result.experiment
    left = residual_shifts(
        reference,
        sample,
        weights,
        result.refraction_angle,
        scale=experiment.effective_distance / experiment.effective_pixel,
        flagged=(result.flags & ~np.uint16(flag.CLIPPED)) > 0,
        threads=threads,
    )
    if len(left.common) < _FEWEST:
        return result
    found = _apart(left) or _contradicted(left, result)
    return replace(result, findings=(*result.findings, *found))


def _apart(left: ResidualShifts) -> list[Finding]:
    """Return a warning about positions whose speckles moved otherwise than those of the others."""
    if len(left.positions) < 2:
        return []
    spread = float(np.sqrt(left.shift.var(axis=0).sum()))
    least = min(max(_APART, _PART * spread), _APART_MOST)
    square, noise = (left.own**2).sum(axis=2), left.variance
    moved = []
    for n, position in enumerate(left.positions):
        known = np.isfinite(noise[:, n])
        if np.count_nonzero(known) < _FEWEST:
            continue
        size, chance = float(square[known, n].mean()), float(noise[known, n].mean())
        if size > _ABOVE * chance and size > chance + least**2:
            moved.append((float(np.sqrt(size - chance)), int(position)))
    if not moved:
        return []
    # What one position does the mean of all has in part: the others seem to move the other way.
    largest = max(moved)[0]
    numbers = sorted(position for size, position in moved if size > 0.5 * largest)
    message = (
        f"speckles of {in_words(numbers)} moved by {largest:.2g} pixels (rms) otherwise than the mean "
        "of all positions: the sample moved or changed between positions, and no image channel is right "
        "where it did; leave positions out, or record them again"
    )
    return [finding("positions-disagree", message)]


def _contradicted(left: ResidualShifts, result: Retrieval) -> list[Finding]:
    """Return a warning where speckles moved by more than the result says."""
    common = left.common
    if result.options.get("background") is not None:  # what moved there was taken off
        common = common - np.median(common, axis=0)
    noise = np.trace(left.covariance, axis1=1, axis2=2)
    # Positions differ by more than noise where a sample has structure that the frames do not resolve.
    known = np.isfinite(left.variance)
    wider = 1.0
    if len(left.positions) > 1 and known.any():
        wider = max(1.0, float((left.own[known] ** 2).sum() / max(left.variance[known].sum(), 1e-300)))
    square = float(np.mean((common**2).sum(axis=1) - wider * noise))
    variance = float((left.covariance**2).sum())
    if square < max(_WRONG**2, SIGNIFICANT * wider * float(np.sqrt(2.0 * variance)) / len(common)):
        return []
    message = (
        f"speckles moved by {np.sqrt(square):.2g} pixels (rms) otherwise than the refraction angle of "
        f"{result.method} says: intensities changed by something else than refraction (an illumination that "
        "moved, attenuation, masked areas), or shifts are too large for the method; preprocess with drift or "
        "flux, or use umpa or full-field, which follow the speckles"
    )
    return [finding("shift-contradicted", message)]
