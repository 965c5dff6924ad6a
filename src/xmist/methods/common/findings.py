"""Suspicions about frames that no pixel can prove, in words."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmist.core import flags as flag
from xmist.core.arrays import Image

Real = NDArray[Any]

_EVERY = 16  # rows between those that are looked at: flux and contrast need no more


def _moments(frames: Image, weights: Real | None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and contrast of each frame over every few rows."""
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
        return f"exposure {numbers[0]}"
    return f"exposures {', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"


def compare_frames(
    reference: Image, sample: Image, weights: Real | None, *, may_attenuate: bool
) -> list[str]:
    """Say what looks wrong with a set of frames.

    Parameters
    ----------
    reference, sample : (position, y, x) float32 array
        Frames as a method uses them.
    weights : (position, y, x) array or None
        Weights; pixels of weight 0 do not count.
    may_attenuate : bool
        Whether the method allows an attenuating sample.

    Returns
    -------
    list of str
        One sentence a finding, exposures counted from 0.
    """
    identical = [n for n in range(len(sample)) if _identical(reference[n], sample[n])]
    if identical:
        return [f"sample and reference of {_listed(identical)} are identical"]
    found = []
    flux_reference, contrast_reference = _moments(reference, weights)
    flux_sample, contrast_sample = _moments(sample, weights)
    found += _odd_ones("reference", flux_reference)
    found += _odd_ones("sample", flux_sample)
    ratio = _typical_ratio(flux_sample, flux_reference)
    contrast = _typical_ratio(contrast_sample, contrast_reference)
    if ratio > 1.01:
        found.append(
            f"the sample frames are {ratio:.4g} times as bright as the references: are they swapped, or was "
            "the flux not normalised?"
        )
    elif contrast > 1.1 and ratio > 1.0:
        found.append(
            f"the speckles of the sample frames have {contrast:.3g} times the contrast of the references': "
            "are they swapped?"
        )
    elif ratio < 0.98 and not may_attenuate:
        found.append(
            f"the sample frames have {ratio:.3g} times the flux of the references: if the sample attenuates, "
            "the phase of this method means nothing and its dark-field comes out multiplied by the "
            "transmission; use a method that allows attenuation, such as mist-attenuating"
        )
    return found


def _typical_ratio(sample: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    """Give the median ratio; NaN, of which no comparison is true, if no reference can be divided by."""
    known = (reference > 0.0) & np.isfinite(sample)
    return float(np.median(sample[known] / reference[known])) if known.any() else float("nan")


def _identical(reference: Image, sample: Image) -> bool:
    middle = len(reference) // 2
    return np.array_equal(reference[middle], sample[middle]) and np.array_equal(reference, sample)


def _odd_ones(name: str, flux: NDArray[np.float64]) -> list[str]:
    dark = [n for n in range(len(flux)) if flux[n] <= 0.0]
    if dark:
        told = f"{name} frames hold no light in {_listed(dark)}: is the shutter closed there?"
        return [told] if len(dark) < len(flux) else []  # where all are dark, every pixel is flagged
    if len(flux) < 3:
        others = flux[::-1] if len(flux) == 2 else flux
        odd = [n for n in range(len(flux)) if flux[n] < 0.7 * others[n]]
        typical = others
    else:
        typical = np.full(len(flux), np.nanmedian(flux))
        odd = [n for n in range(len(flux)) if not 0.7 < flux[n] / typical[n] < 1.0 / 0.7]
    return [f"{name} {n} has {flux[n] / typical[n]:.2g} times the flux of the others" for n in odd]


def determined_background(
    background: NDArray[np.bool_] | None, lost: NDArray[np.bool_], found: list[str]
) -> NDArray[np.bool_] | None:
    """Give the bare beam that has values to be set to 0 or 1 by.

    Parameters
    ----------
    background : (y, x) bool array or None
        The bare beam.
    lost : (y, x) bool array
        Pixels without a value.
    found : list of str
        Receives a sentence if no pixel of the bare beam has one.
    """
    if background is None:
        return None
    known = background & ~lost
    if known.any():
        return known
    found.append("no pixel of the background is determined: nothing was set to 0 or 1 there")
    return None


def describe_flags(flags: NDArray[np.uint16]) -> list[str]:
    """Say what a reader should know of a result's flags.

    Parameters
    ----------
    flags : (y, x) uint16 array
        Flags of the result.

    Returns
    -------
    list of str
        One sentence a finding.
    """
    found = []
    share = np.count_nonzero(flags & flag.ILL_DETERMINED) / flags.size
    if share > 0.002:
        found.append(
            f"{100 * share:.2g} % of the pixels are ill-determined, for their references are nearly "
            "proportional; smoothing of 1 to 3 pixels or more exposures helps"
        )
    share = np.count_nonzero(flags & flag.UNDETERMINED) / flags.size
    if share > 0:
        found.append(f"{100 * share:.2g} % of the pixels are not determined by any frame and are NaN")
    share = np.count_nonzero(flags & flag.NOT_POSITIVE) / flags.size
    if share > 0:
        found.append(
            f"{100 * share:.2g} % of the pixels have a transmission at or below 0; their phase and "
            "dark-field are NaN"
        )
    return found
