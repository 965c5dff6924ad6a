"""Check the frames of a projection before a method uses them; every method calls this check."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.core.arrays import Image
from xmist.core.findings import Finding, finding, percent
from xmist.numerics.images.bare_beam import brightest_blocks
from xmist.numerics.images.patches import (
    PatchMatch,
    SpecklePatches,
    match_patches,
    places_of_patches,
    take_patches,
)
from xmist.numerics.images.row_sums import RowSums, some_rows

Real = NDArray[Any]

_CHANCE: Final = 5.0  # deviations that frames without common speckles reach once in a thousand times
_EXPECTED: Final = 8.0  # deviations that are expected of frames that belong together, so that chance is none
_SURE: Final = 8.0  # deviations by which another frame fits
_FAR: Final = 2  # pixels between the shift of a position and that of the others, from which pairs are doubted
_SHARPER: Final = 0.1  # part of the contrast of the reference
_SAME: Final = 0.9  # correlation of frames at two positions
_ALIKE: Final = 6.0  # deviations of that of independent frames
_LOW: Final = 0.6  # part of the visibility of the others
_SOFTER: Final = 0.07  # part of the contrast that a sample frame has in others
_FALLS: Final = 0.03  # part of the flux
_UNSTEADY: Final = 6.0  # deviations from a steady change that the change must be larger than
_BRIGHTER: Final = 0.01  # parts of the flux
_DIMMER: Final = 0.02
_DIMMER_BARE: Final = 0.01  # where bare beam tells the flux
_NORMALISED: Final = 0.005  # by which the flux differs where it was normalised
_BARE: Final = 0.5  # part of the frame
_CUT: Final = 0.003  # part of the pixels that have the same extreme value
_LEVEL: Final = 0.015  # by which that of bare beam may differ
_EXCESS: Final = 0.005  # that a swapped sample adds
_KNOWN: Final = 0.1  # pixels to which the shift of a patch is known
_BORDER: Final = 0.3  # pixels by which speckles at the border may move farther than those of a patch
_PAIRING: Final = {"pairs-swapped", "pairs-turned", "pairs-unmatched"}


def check_frames(
    reference: Image, sample: Image, weights: Real | None, *, may_attenuate: bool, sparse: bool = False
) -> list[Finding]:
    """Return findings about (position, y, x) frames as a method uses them, pixels of weight 0 left out.

    `sparse`: usable pixels of the reference stand alone, see `PreparedReference`.
    """
    used = [None] * len(sample) if weights is None else weights
    identical = [n for n in range(len(sample)) if _identical(reference[n], sample[n], used[n])]
    if identical:
        return [
            finding(
                "identical-frames",
                f"sample and reference frames of {in_words(identical)} are identical",
            )
        ]
    found = []
    if sparse:
        message = (
            "nearly every usable pixel lies beside a masked one, so that its speckle is guessed: all "
            "image channels are rough or wrong; mask fewer pixels, or bin the frames"
        )
        found.append(finding("mask-dense", message))
    light = RowSums.of(reference, sample, weights)
    flux_reference, flux_sample = light.means()
    found += _compare_flux("reference", flux_reference)
    found += _compare_flux("sample", flux_sample)
    for name, frames, extremes in zip(
        ("reference", "sample"), (reference, sample), light.extremes, strict=True
    ):
        found += _cut(name, frames, weights, extremes)
    places = places_of_patches(sample, weights)
    matches: list[PatchMatch] = []
    if places:
        patches = take_patches(reference, weights, places), take_patches(sample, weights, places)
        matches = [match_patches(patches[0], n, patches[1], n) for n in range(len(sample))]
        found += _falling_flux(flux_reference, flux_sample, patches[0], reference[0].size)
        found += _repeated(*patches)
        found += _unmatched(matches, *patches, sample, weights, places)
        if {record.code for record in found} & _PAIRING:
            matches = []
        found += _blurred(*patches, matches)
    inflow = _inflow(matches, places, reference.shape[1:])
    return found + _compare_pairs(light, inflow, matches, may_attenuate=may_attenuate)


def _cut(name: str, frames: Image, weights: Real | None, extremes: Real) -> list[Finding]:
    """Return a finding about frames (position, y, x) that are cut at their highest or their lowest value.

    `extremes` (position, 6) as of `RowSums`.
    """
    cut = []
    for n, (top, at_top, low, at_low, number, total) in enumerate(extremes):
        for side, extreme, count in ((1.0, top, at_top), (-1.0, low, at_low)):
            if not top > low or not _CUT < count / number < 0.5:
                continue
            rows = some_rows(frames.shape[1])
            good = np.isfinite(frames[n][rows])
            if weights is not None:
                good &= weights[n][rows] > 0
            values = side * frames[n][rows][good].astype(np.float64)
            below = values[values < side * extreme]
            # The next lower count, too: a frame of few counts has many pixels of each.
            near = min(side * extreme - 0.01 * abs(total / number), below.max())
            if count > 3.0 * np.count_nonzero(below >= near):
                cut.append((n, count / number))
                break
    if not cut:
        return []
    message = (
        f"{percent(max(share for _, share in cut))} of the pixels of the {name} frame of "
        f"{in_words([n for n, _ in cut])} have the highest or lowest value of the frame: counts were "
        "cut, as by saturation, and phase and dark-field are wrong there; give these pixels weight 0"
    )
    return [finding("counts-cut", message)]


@dataclass(frozen=True)
class _Inflow:
    """Part of the flux that speckles bring in through the border: by a linear shift, and the error of that.

    `object`: the most that an object brings which the border cuts.
    """

    linear: float
    error: float
    object: float


def _inflow(matches: list[PatchMatch], places: list[Any], shape: tuple[int, ...]) -> _Inflow:
    """Return what comes in, from the shifts of patches."""
    per_pixel = sum(shape) / (shape[0] * shape[1])  # of half of the border
    shifts = np.array([match.shifts for match in matches])
    known = np.isfinite(shifts).all(axis=(0, 2)) if matches else np.zeros(0, bool)
    if not known.any():
        return _Inflow(0.0, 0.0, _BORDER * per_pixel)
    shift = np.median(shifts[:, known], axis=0)
    most = per_pixel * (_BORDER + float(np.abs(shift).max()))
    place = np.array([[x.start, y.start] for y, x in places])[known]
    columns = np.column_stack([np.ones(len(place)), place - place.mean(axis=0)])
    if np.linalg.matrix_rank(columns) < 3 or len(place) < 4:
        return _Inflow(0.0, 0.0, most)
    slopes = np.linalg.lstsq(columns, shift, rcond=None)[0]
    rest = float(np.sqrt(np.mean((shift - columns @ slopes) ** 2)))
    spread = np.linalg.inv(columns.T @ columns)
    linear = -float(slopes[1, 0] + slopes[2, 1])
    # The shift of a patch within which it changes is known to a tenth only.
    error = max(rest, _KNOWN) * math.sqrt(spread[1, 1] + spread[2, 2]) + 0.1 * abs(linear)
    return _Inflow(linear, error, most)


def _compare_pairs(
    light: RowSums, inflow: _Inflow, matches: list[PatchMatch], *, may_attenuate: bool
) -> list[Finding]:
    """Return findings where sample frames are brighter, sharper or darker than the reference frames.

    A sample takes light; where it adds some, and refraction brings none from elsewhere, frames are swapped.
    """
    one, other, number = (part.sum(axis=0) for part in (light.reference, light.sample, light.pixels))
    used = (number > 0.5 * number.max()) & (one > 0.0)
    if not used.any():
        return []
    ratio = other[used] / one[used]
    whole, typical = float(other[used].sum() / one[used].sum()), float(np.median(ratio))
    error = float(np.median(np.abs(ratio - typical))) / math.sqrt(ratio.size)  # of it, twice without signal
    linear = inflow.linear if abs(inflow.linear) > inflow.error else 0.0
    least = max(_BRIGHTER, _CHANCE * 2.0 * error, linear + 3.0 * inflow.error * (linear > 0.0))
    if min(typical, whole) > 1.0 + least:
        message = (
            f"the sample frames are {typical:.4g} times as bright as the reference frames; check whether "
            "they are swapped, or normalise the flux"
        )
        return [finding("sample-brighter", message)]
    excess = whole - max(typical, 1.0)
    # What darkens by refraction is noise of the sum; what brightens is the sample, if frames are swapped.
    darker = math.sqrt(2.0 * float(np.mean(np.minimum(ratio - typical, 0.0) ** 2)))
    noise = (3.0 * darker + float(ratio.std())) / math.sqrt(ratio.size)
    least = max(_EXCESS, noise, inflow.object + max(linear, 0.0))
    if typical > 1.0 - _LEVEL and excess > least:
        message = (
            f"parts of the sample frames are brighter than the rest, by {percent(excess)} of all light, and "
            "no part is darker instead, as if sample and reference were swapped: then no image channel is "
            "right; check the files"
        )
        return [finding("frames-exchanged", message)]
    if whole > 1.0 - _LEVEL and (sharper := _sharper(matches)):
        return sharper
    level, dimmer = _bare_level(light, typical)
    if whole < level - dimmer + min(linear, 0.0) - inflow.object and not may_attenuate:
        message = (
            f"the sample frames have {whole:.3g} times the flux of the reference frames; if the sample "
            "attenuates, the phase is wrong and the dark-field is multiplied by the transmission: use a "
            "method that allows attenuation, such as mist-attenuating"
        )
        return [finding("sample-attenuates", message)]
    return []


def _bare_level(light: RowSums, typical: float) -> tuple[float, float]:
    """Return the ratio of the fluxes in bare beam, at most 1, and how far that of whole frames may be.

    Bare beam has at least half of the frame, so that it also shows in the `typical` ratio. What a sample
    refracts stays in the frame, so that whole frames have the ratio of bare beam.
    """
    if abs(typical - 1.0) < _NORMALISED:
        return min(typical, 1.0), _DIMMER_BARE
    sums = np.stack(
        [part.reshape(len(part), -1) for part in (light.reference, light.sample, light.pixels)], axis=1
    )
    bare = brightest_blocks(sums)
    one, other, _ = sums[:, :, bare].sum(axis=(0, 2))
    if np.count_nonzero(bare) < _BARE * bare.size or not abs(other - one) < _LEVEL * one:
        return 1.0, _DIMMER
    return min(float(other / one), 1.0), _DIMMER_BARE


def _sharper(matches: list[PatchMatch]) -> list[Finding]:
    """Return a finding where the speckles of the reference have more contrast in the sample frames."""
    if not any(match.gains.size for match in matches):
        return []
    gains = np.concatenate([match.gains for match in matches])
    chances = np.concatenate([match.chances for match in matches])
    gain, error = float(np.median(gains)), float(np.sqrt(np.mean(chances**2) / gains.size))
    if gain < 1.0 + max(_SHARPER, _CHANCE * error):
        return []
    message = (
        f"the speckles have {gain:.3g} times the contrast in the sample frames that they have in the "
        "reference frames, and no sample sharpens them; check whether they are swapped"
    )
    return [finding("sample-sharper", message)]


def _falling_flux(
    reference: NDArray[np.float64], sample: NDArray[np.float64], patches: SpecklePatches, pixels: int
) -> list[Finding]:
    """Return a finding where the flux of reference and sample frames (position,) falls or rises steadily."""
    number = len(reference)
    if number < 4 or not (np.minimum(reference, sample) > 0.0).all():
        return []
    place = np.arange(number) - 0.5 * (number - 1)
    # The mean of a frame varies with its speckles, of which it has so many.
    chance = float(np.median(patches.visibility)) * math.sqrt(patches.area / pixels / float(place @ place))
    falls = []
    for flux in (reference, sample):
        value = np.log(flux)
        slope = float(place @ value) / float(place @ place)
        rest = float(np.std(value - slope * place))
        fall = slope * (number - 1)
        if abs(fall) < max(_FALLS, _UNSTEADY * rest) or abs(slope) < _CHANCE * chance:
            return []
        falls.append(fall)
    if falls[0] * falls[1] < 0.0:
        return []
    how = "falls" if falls[0] < 0.0 else "rises"
    message = (
        f"the flux {how} steadily over the positions, by {percent(abs(math.expm1(falls[0])))} in the "
        f"reference and {percent(abs(math.expm1(falls[1])))} in the sample frames: the beam decays or "
        "recovers, and the transmission is wrong unless each pair has one flux; preprocess with flux"
    )
    return [finding("flux-falls", message)]


def _repeated(reference: SpecklePatches, sample: SpecklePatches) -> list[Finding]:
    """Return a finding where two positions have the same speckles."""
    pairs: list[tuple[int, int]] = []
    number = len(reference.raw)
    for patches in (reference, sample):
        values = np.where(np.isfinite(patches.raw), patches.raw, 0.0).reshape(number, -1)
        sums = values.sum(axis=1)
        equal = [
            (n, m)
            for m in range(number)
            for n in range(m)
            if sums[n] == sums[m] and values[n].any() and np.array_equal(values[n], values[m])
        ]
        pairs += [pair for pair in equal if pair not in pairs]
    flat = reference.spectra.reshape(number, -1).view(np.float32)
    product = (flat @ flat.T).astype(np.float64)
    size = np.sqrt(np.diagonal(product))
    alike = np.abs(product) / np.maximum(np.outer(size, size), 1e-300)
    # Frames of few speckles, or waves, are alike by chance. Those of one patch count, as if the others
    # showed the same again.
    independent = max(reference.size**2 / max(reference.area, 1.0), 4.0)
    least = max(_SAME, math.tanh(_ALIKE / math.sqrt(independent - 3.0)))
    pairs += [(n, m) for m in range(number) for n in range(m) if alike[n, m] > least and (n, m) not in pairs]
    if not pairs:
        return []
    listed = "; ".join(f"{n} and {m}" for n, m in sorted(pairs)[:6])
    message = (
        f"frames of different positions show the same speckles: positions {listed}; they count as one "
        "position, and the dark-field is less well determined; check the files, and that the diffuser moved"
    )
    return [finding("positions-repeated", message)]


def _unmatched(
    matches: list[PatchMatch],
    reference: SpecklePatches,
    sample: SpecklePatches,
    frames: Image,
    weights: Real | None,
    places: list[Any],
) -> list[Finding]:
    """Return findings about pairs of frames whose speckles are not the same."""
    number = len(matches)
    doubted = []
    shifts = np.array([match.shift for match in matches])
    for n, match in enumerate(matches):
        others = [other.deviations for m, other in enumerate(matches) if m != n]
        expected = max(match.expected, 0.5 * float(np.median(others)) if others else 0.0)
        apart = np.abs(shifts[n] - np.median(shifts, axis=0)).max() > _FAR
        flat = bool(reference.energy[n].any()) and not sample.energy[n].any()
        if flat or (match.deviations < _CHANCE and expected >= _EXPECTED) or (number > 2 and apart):
            doubted.append(n)
    if not doubted:
        return []
    swapped, turned, unknown = [], [], []
    for n in doubted:
        fits = [match_patches(reference, m, sample, n) if m != n else matches[n] for m in range(number)]
        best = int(np.argmax([fit.deviations for fit in fits]))
        if best != n and fits[best].deviations > max(_SURE, 1.2 * matches[n].deviations):
            swapped.append((n, best))
        elif matches[n].deviations < _CHANCE:
            how = _turned(reference, n, frames[n], None if weights is None else weights[n], places)
            if how:
                turned.append((n, how))
            else:
                unknown.append(n)
    found = []
    if swapped:
        listed = "; ".join(f"{n} those of reference frame {m}" for n, m in swapped[:6])
        message = (
            f"sample frames show the speckles of another reference frame: sample frame {listed}; all image "
            "channels are wrong: pair the frames by position"
        )
        found.append(finding("pairs-swapped", message))
    if turned:
        message = (
            f"the sample frame{'s' if len(turned) > 1 else ''} of {in_words([n for n, _ in turned])} fit"
            f"{'' if len(turned) > 1 else 's'} the reference {turned[0][1]}; all image channels are wrong: "
            "turn the frames of one kind"
        )
        found.append(finding("pairs-turned", message))
    if unknown:
        message = (
            f"the speckles of the sample frame of {in_words(unknown)} are not those of the reference frame: "
            "all image channels are wrong; check which files belong together, their order, and that the "
            "diffuser stood still"
        )
        found.append(finding("pairs-unmatched", message))
    return found


def _turned(reference: SpecklePatches, n: int, frame: Image, weights: Real | None, places: list[Any]) -> str:
    """Return in words how a sample frame (y, x) must be turned to fit a reference; empty if it does not."""
    ways: dict[str, Callable[[Real], Real]] = {
        "mirrored left to right": lambda image: image[:, ::-1],
        "mirrored top to bottom": lambda image: image[::-1],
        "turned by 180°": lambda image: image[::-1, ::-1],
    }
    if frame.shape[0] == frame.shape[1]:
        ways |= {
            "turned by 90°": np.rot90,
            "turned by 270°": lambda image: np.rot90(image, 3),
            "with x and y exchanged": lambda image: image.T,
            "with x and y exchanged and turned by 180°": lambda image: image[::-1, ::-1].T,
        }
    for words, turn in ways.items():
        given = None if weights is None else turn(weights)[None]
        if match_patches(reference, n, take_patches(turn(frame)[None], given, places), 0).deviations > _SURE:
            return words
    return ""


def _blurred(reference: SpecklePatches, sample: SpecklePatches, matches: list[PatchMatch]) -> list[Finding]:
    """Return a finding about positions whose speckles have far less visibility than those of the others."""
    number = len(reference.raw)
    if number < 2:
        return []
    found = []
    for name, patches in (("reference", reference), ("sample", sample)):
        seen = patches.visibility
        lit = np.median(patches.mean, axis=1) > 0.0
        # Of so many independent speckles that a visibility is known to 1/√(2 n).
        spots = (
            1.0 / np.maximum((patches.power**2).sum(axis=(2, 3)), 1e-300).mean(axis=1) * patches.raw.shape[1]
        )
        for n, typical in enumerate(_medians_of_others(seen)):
            error = typical / math.sqrt(2.0 * spots[n])
            if lit[n] and seen[n] < _LOW * typical and typical - seen[n] > 6.0 * error:
                found.append((name, n, seen[n] / typical))
    found += _blurred_more(matches)
    low = sorted({n for _, n, _ in found})
    if not low or len(low) > number // 2:
        return []
    least = min(part for _, _, part in found)
    kinds = " and ".join(sorted({name for name, _, _ in found}))
    message = (
        f"the speckles of {in_words(low)} have {least:.2g} times the visibility of the others in the {kinds} "
        "frames: diffuser, source or sample moved meanwhile, and dark-field and phase suffer; leave the "
        "position out or record it again"
    )
    return [finding("visibility-differs", message)]


def _blurred_more(matches: list[PatchMatch]) -> list[tuple[str, int, float]]:
    """Return positions whose sample frame has less contrast against its reference than at the others.

    The sample blurs all positions alike. What is found of two positions is the less sharp one.
    """
    if len(matches) < 2 or len({match.gains.size for match in matches}) != 1 or not matches[0].gains.size:
        return []
    gains, chances = (np.array([getattr(match, name) for match in matches]) for name in ("gains", "chances"))
    others = _medians_of_others(gains)
    if not (others > 0.0).all():
        return []
    parts = (gains / others).mean(axis=1)
    errors = np.sqrt(((chances / others) ** 2).mean(axis=1) / gains.shape[1])
    # Blur takes more from finer speckles: positions of few waves differ by themselves.
    spread = 1.4826 * float(np.median(np.abs(parts - np.median(parts)))) if len(parts) > 3 else 0.0
    limits = [1.0 - max(_SOFTER, 6.0 * error, 4.0 * spread) for error in errors]
    return [("sample", n, float(part)) for n, part in enumerate(parts) if part < limits[n]]


def _medians_of_others(values: Real) -> Real:
    """Return for each of values (number, …) the median of the others."""
    number = len(values)
    others = np.nonzero(~np.eye(number, dtype=bool))[1].reshape(number, number - 1)
    out: Real = np.median(values[others], axis=1)
    return out


def in_words(numbers: list[int]) -> str:
    """Return positions in words."""
    if len(numbers) == 1:
        return f"position {numbers[0]}"
    return f"positions {', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"


def _identical(reference: Image, sample: Image, weights: Real | None) -> bool:
    """Return whether all pixels (y, x) that both frames have are equal."""
    middle = len(reference) // 2
    for part in (slice(middle, middle + 1), slice(None)):  # a row tells almost always
        both = np.isfinite(sample[part])
        if weights is not None:
            both &= weights[part] > 0
        if not np.array_equal(reference[part][both], sample[part][both]):
            return False
    return bool(both.any())


def _compare_flux(name: str, flux: NDArray[np.float64]) -> list[Finding]:
    """Return findings about frames whose flux differs from that of the others."""
    dark = [n for n in range(len(flux)) if flux[n] <= 0.0]
    if dark:
        return [
            finding("no-light", f"the {name} frames of {in_words(dark)} have no light; check the shutter")
        ]
    known = np.isfinite(flux)
    if not known.any():
        return []
    if len(flux) < 3:
        typical = flux[::-1] if len(flux) == 2 else flux
        odd = [n for n in range(len(flux)) if flux[n] < 0.7 * typical[n]]
    else:
        typical = np.full(len(flux), np.nanmedian(flux))
        odd = [n for n in range(len(flux)) if known[n] and not 0.7 < flux[n] / typical[n] < 1.0 / 0.7]
    return [
        finding(
            "unequal-flux",
            f"the {name} frame of position {n} has {flux[n] / typical[n]:.2g} times the flux of the others",
        )
        for n in odd
    ]
