"""Findings about the frames of a projection and the flags of a result, for every method."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmist.core import flags as flag
from xmist.core.arrays import Image
from xmist.core.findings import Finding, finding

Real = NDArray[Any]

_EVERY = 16  # rows between those that are used: flux and contrast need no more
_SMALL_SHARE = 0.002  # of the pixels: not worth a finding


def compare_frames(
    reference: Image, sample: Image, weights: Real | None, *, may_attenuate: bool
) -> list[Finding]:
    """Return findings about (position, y, x) frames as a method uses them, pixels of weight 0 left out."""
    used = [None] * len(sample) if weights is None else weights
    identical = [n for n in range(len(sample)) if _identical(reference[n], sample[n], used[n])]
    if identical:
        return [
            finding("identical-frames", f"sample and reference frames of {_listed(identical)} are identical")
        ]
    found = []
    flux_reference, contrast_reference = _moments(reference, weights)
    flux_sample, contrast_sample = _moments(sample, weights)
    found += _compare_flux("reference", flux_reference)
    found += _compare_flux("sample", flux_sample)
    ratio = _typical_ratio(flux_sample, flux_reference)
    contrast = _typical_ratio(contrast_sample, contrast_reference)
    if ratio > 1.01:
        message = (
            f"the sample frames are {ratio:.4g} times as bright as the reference frames; check whether they "
            "are swapped, or normalise the flux"
        )
        found.append(finding("sample-brighter", message))
    elif contrast > 1.1 and ratio > 1.0:
        message = (
            f"the speckle contrast of the sample frames is {contrast:.3g} times that of the reference "
            "frames; check whether they are swapped"
        )
        found.append(finding("sample-sharper", message))
    elif ratio < 0.98 and not may_attenuate:
        message = (
            f"the sample frames have {ratio:.3g} times the flux of the reference frames; if the sample "
            "attenuates, the phase is wrong and the dark-field is multiplied by the transmission: use a "
            "method that allows attenuation, such as mist-attenuating"
        )
        found.append(finding("sample-attenuates", message))
    return found


def _moments(frames: Image, weights: Real | None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and contrast of each frame over every few rows."""
    means, contrasts = [], []
    for n, frame in enumerate(frames):
        rows = frame[_EVERY // 2 :: _EVERY] if len(frame) >= 4 * _EVERY else frame
        good = np.isfinite(rows)
        if weights is not None:
            good &= (weights[n][_EVERY // 2 :: _EVERY] if len(frame) >= 4 * _EVERY else weights[n]) > 0
        values = rows[good].astype(np.float64)
        mean = values.mean() if values.size else np.nan
        means.append(mean)
        contrasts.append(values.std() / mean if values.size and mean else np.nan)
    return np.array(means), np.array(contrasts)


def _listed(numbers: list[int]) -> str:
    if len(numbers) == 1:
        return f"position {numbers[0]}"
    return f"positions {', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"


def _typical_ratio(sample: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    """Return the median ratio; NaN, for which no comparison is true, if no reference can be divided by."""
    known = (reference > 0.0) & np.isfinite(sample)
    return float(np.median(sample[known] / reference[known])) if known.any() else float("nan")


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
        if len(dark) == len(flux):  # every pixel is flagged
            return []
        return [finding("no-light", f"the {name} frames of {_listed(dark)} have no light; check the shutter")]
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


def describe_flags(flags: NDArray[np.uint16]) -> list[Finding]:
    """Return findings about the (y, x) uint16 flags of a result."""
    found = []
    share = share_of(flags, flag.ILL_DETERMINED)
    if share > _SMALL_SHARE:
        message = (
            f"{100 * share:.2g} % of the pixels are ill-determined, because their reference frames are "
            "nearly proportional; use smoothing of 1 to 3 pixels, or more positions"
        )
        found.append(finding("ill-determined", message))
    share = share_of(flags, flag.UNDETERMINED)
    if share > 0:
        message = f"{100 * share:.2g} % of the pixels are not determined by any frame and are NaN"
        found.append(finding("undetermined", message))
    share = share_of(flags, flag.NOT_POSITIVE)
    if share > 0:
        message = (
            f"{100 * share:.2g} % of the pixels have a transmission of 0 or below; phase and dark-field are "
            "NaN there"
        )
        found.append(finding("transmission-not-positive", message))
    return found


def share_of(flags: NDArray[np.uint16], bit: int) -> float:
    """Return the share of the pixels that have a flag."""
    return float(np.count_nonzero(flags & bit) / flags.size)
