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
from xmist.core.findings import Finding, finding, percent
from xmist.methods.common.border import SIGNIFICANT
from xmist.methods.common.frames import in_words
from xmist.numerics.images.residual_shift import ResidualShifts, residual_shifts

Real = NDArray[Any]

_WRONG: Final = (
    0.08  # pixels, rms of patches: an angle that is wrong by 0.1 has a third of its square in them
)
_APART: Final = 0.05  # pixels, rms, of a position against the others, at least
_APART_MOST: Final = 0.15
_PART: Final = 0.55  # of the shift that a sample makes; its granular contrast, which differs, moves by less
_ABOVE: Final = 6.0  # times the variance of noise, for a position
_BLUR: Final = 0.1  # pixels; less blur of the speckles does not matter
_SECOND: Final = 0.23  # part of a dark-field: the rest is 30 % less
_STILL: Final = 0.1  # pixels, besides noise
_LIGHT: Final = 0.01  # part of the flux
_RIM: Final = 0.75  # of the border
# What is wrong with the frames already.
_KNOWN: Final = {
    "frames-exchanged",
    "identical-frames",
    "pairs-swapped",
    "pairs-turned",
    "pairs-unmatched",
    "sample-sharper",
}
_CALM: Final = 0.25  # of the patches, where the angle does not change within a patch
_FEWEST: Final = 4  # patches
_UNLIKE: Final = 0.4  # of the variance of the speckles; foreign speckles leave one to three times that
_UNUSUAL: Final = 10.0  # times what is left in most patches
_FEW_LOST: Final = 2  # patches
_LOST: Final = 0.01  # of the patches


def check_motion(
    result: Retrieval,
    reference: Real,
    sample: Real,
    weights: Real | None,
    *,
    first_order: bool = False,
    threads: int | None = None,
) -> Retrieval:
    """Return a result with warnings where speckles of frames (position, y, x) contradict its angle.

    Pixels with a flag do not count. `first_order`: equations neglect what is of second order in the shift.
    """
    codes = {record.code for record in result.findings}
    if codes & _KNOWN or ("border-motion-missing" in codes and not first_order):
        return result
    experiment, angle = result.experiment, result.refraction_angle
    left = residual_shifts(
        reference,
        sample,
        weights,
        np.zeros((2, *result.flags.shape), np.float32) if angle is None else angle,
        scale=experiment.effective_distance / experiment.effective_pixel,
        flagged=(result.flags & ~np.uint16(flag.CLIPPED)) > 0,
        threads=threads,
    )
    # The angle is wrong near the border if motion through it is missing: that explains what is left.
    compared = angle is not None and "border-motion-missing" not in codes
    found = _lost(left, result) if compared else []
    if len(left.common) < _FEWEST:
        return replace(result, findings=(*result.findings, *found))
    if compared:
        found = (_apart(left) or _contradicted(left, result)) + found
    if "border-motion-missing" not in codes:
        found += _blurred(left, result)
    if first_order:
        found += _as_blur(left, result)
    return replace(result, findings=(*result.findings, *found))


def _lost(left: ResidualShifts, result: Retrieval) -> list[Finding]:
    """Return a warning where frames do not contain the speckles that the reference and the angle predict.

    What is left is compared with the contrast of the speckles, and with what is left in most patches: noise,
    which light that the sample takes makes larger. With one position edges of a sample look alike.
    """
    wavenumber = result.provenance.get("speckle_wavenumber")
    known = "speckles-lost" in {record.code for record in result.findings}
    if wavenumber is None or known or len(left.positions) < 2 or not len(left.rest):
        return []
    rest = left.rest * (wavenumber * result.experiment.effective_pixel) ** 2
    usual = float(np.median(rest * left.light))
    share = float(np.mean((rest > _UNLIKE) & (rest * left.light > _UNUSUAL * usual)))
    if share * len(rest) < _FEW_LOST or share < _LOST:
        return []
    message = (
        f"in {percent(share)} of the frame the sample frames do not contain the speckles that the reference "
        "and the refraction angle predict: all image channels are wrong there, and the phase beyond; the "
        "shift is too large or too uneven, or the frames changed otherwise; give these pixels weight 0"
    )
    return [finding("speckles-lost", message)]


def _as_blur(left: ResidualShifts, result: Retrieval) -> list[Finding]:
    """Return a warning where a good part of the dark-field is what a shift u is to second order.

    u_i u_j ∂_i∂_j I/2 adds |u|²/4 to an isotropic d in speckles without a direction. Where shifts are largest
    counts most; the shift of a patch is a mean, and what the angle has besides is added.
    """
    if result.dark_field is None:
        return []
    d, scale = _dark_field(left, result)
    known = np.isfinite(d)
    noise = np.trace(left.covariance, axis1=1, axis2=2)
    square = np.maximum(((left.shift + left.common) ** 2).sum(axis=1) - noise, 0.0)
    added = 0.25 * (square + _within(left, result))[known]
    if not added.sum() > 0.0:
        return []
    mean, found = (float(np.average(values, weights=added)) for values in (added, d[known]))
    # Where less is found than the shift makes, noise of D is larger.
    if mean < _BLUR**2 or not _SECOND * found < mean < 2.0 * found:
        return []
    message = (
        f"speckles moved by up to {2.0 * np.sqrt(added.max()):.2g} pixels, which {result.method} takes for "
        f"scatter in part: of the dark-field there, {found / scale:.2g} m, about "
        f"{mean / scale:.2g} m come from the shift; use full-field, umpa or mist-gradient-flow"
    )
    return [finding("dark-field-from-shift", message)]


def _within(left: ResidualShifts, result: Retrieval) -> Real:
    """Return the variance in pixels² of the angle within patches (patch,), without that of its noise."""
    if result.refraction_angle is None:
        return np.zeros(len(left.corners))
    scale = result.experiment.effective_distance / result.experiment.effective_pixel
    parts = _patches(result.refraction_angle, left)
    known = np.isfinite(parts).all(axis=0)
    number = np.maximum(known.sum(axis=1), 1)
    mean = np.where(known, parts, 0.0).sum(axis=2) / number
    off = np.where(known, parts - mean[..., None], 0.0)
    out = scale**2 * ((off**2).sum(axis=2) / number).sum(axis=0)
    beyond: Real = np.maximum(out - np.quantile(out, _CALM), 0.0)
    return beyond


def _patches(images: Real, left: ResidualShifts) -> Real:
    """Return the patches (…, patch, pixel) of images (…, y, x)."""
    rows, columns = (left.corners[:, k, None] + np.arange(left.side) for k in (0, 1))
    parts = images[..., rows[:, :, None], columns[:, None]].astype(np.float64)
    return parts.reshape(*images.shape[:-2], len(rows), left.side**2)


def _dark_field(left: ResidualShifts, result: Retrieval) -> tuple[Real, float]:
    """Return means over patches of d in pixels², NaN where it is not known, and d over D in 1/m."""
    assert result.dark_field is not None
    scale = result.experiment.effective_distance / result.experiment.effective_pixel**2
    parts = _patches(result.dark_field, left)
    known = np.isfinite(parts)
    number = known.sum(axis=1)
    total = np.where(known, parts, 0.0).sum(axis=1)
    return np.where(number > 0, scale * total / np.maximum(number, 1), np.nan), scale


def _blurred(left: ResidualShifts, result: Retrieval) -> list[Finding]:
    """Return a warning where speckles are blurred all along the border, where they stand still.

    No sample scatters all along the border that neither refracts nor takes light there. Bare beam is not
    found if it is blurred, for it differs from the reference as a sample does.
    """
    if result.dark_field is None:
        return []
    d, scale = _dark_field(left, result)
    last = np.array(result.flags.shape) - left.side
    rim = ((left.corners == 0) | (left.corners == last)).any(axis=1)
    noise = np.trace(left.covariance, axis1=1, axis2=2)
    still = ((left.shift + left.common) ** 2).sum(axis=1) < _STILL**2 + 4.0 * noise
    still &= np.abs(left.flux - np.median(left.flux[rim]) if rim.any() else left.flux) < _LIGHT
    still &= rim & np.isfinite(d)
    if np.count_nonzero(still) < max(_FEWEST, _RIM * np.count_nonzero(rim)):
        return []
    values, others = d[still], d[~rim & np.isfinite(d)]
    middle = float(np.median(values))
    error = 1.2533 * 1.4826 * float(np.median(np.abs(values - middle))) / np.sqrt(len(values))
    mean = float(others.mean()) if len(others) else 0.0
    if abs(middle) < max(0.5 * _BLUR**2, 5.0 * error, 0.3 * abs(mean)):
        return []
    message = (
        f"dark-field is {middle / scale:.2g} m along the border, where speckles stand still and no light is "
        "lost, and where it is 0 unless the sample covers the frame: all of it is off by as much, because "
        "references and samples differ in blur, averaging or dark frames, or because references are noisy"
    )
    return [finding("bare-beam-dark-field", message)]


def _apart(left: ResidualShifts) -> list[Finding]:
    """Return a warning about positions whose speckles moved otherwise than those of the others."""
    if len(left.positions) < 2:
        return []
    spread = float(np.sqrt(left.shift.var(axis=0).sum()))
    # The mean of all positions has its share of what one does.
    least = min(max(_APART, _PART * (1.0 - 1.0 / len(left.positions)) * spread), _APART_MOST)
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
