"""Step dark: subtract the signal that the detector has without beam."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from xmist.core.arrays import Image
from xmist.core.errors import InputError
from xmist.core.findings import Finding, finding
from xmist.core.options import Options
from xmist.preprocess.frames import (
    Frames,
    check_frames,
    describe_reduction,
    median_level,
    still_image,
    without_hidden,
)

_BEAM: Final = 0.05  # of the beam: a dark frame that is brighter than the others by more was taken with beam


class DarkOptions(Options):
    """Options of `dark`: none.

    Examples
    --------
    >>> DarkOptions()
    DarkOptions()
    """


def subtract_dark(frames: ArrayLike, dark: ArrayLike) -> Image:
    """Subtract the signal that the detector has without beam.

    Parameters
    ----------
    frames : (position, y, x) array_like
        Frames.
    dark : (y, x) or (frame, y, x) array_like
        Frames without beam, of the same exposure time; three or more are reduced to their median.

    Returns
    -------
    (position, y, x) float32 array
        Frames without the dark signal; NaN where it is not finite.

    Raises
    ------
    InputError
        If the shapes do not fit.

    Examples
    --------
    >>> float(subtract_dark(np.full((2, 9, 9), 110.0), np.full((9, 9), 10.0)).max())
    100.0
    """
    series, _ = check_frames("frames", frames, None)
    still = still_image("dark", dark, series.shape[1:])
    with np.errstate(invalid="ignore"):  # inf − inf is a bad pixel
        return series - np.where(np.isfinite(still), still, np.float32(np.nan))


def usable_darks(dark: Image, level: float | None) -> tuple[Image, tuple[Finding, ...]]:
    """Return the dark frames (frame, y, x) that were taken without beam, and findings about the others.

    `level` is that of the reference frames, where it is known.
    """
    levels = np.array([median_level(frame) for frame in dark])
    lowest = float(levels.min())
    if level is None or not np.isfinite([level, lowest]).all():
        return dark, ()
    if not lowest < level:
        message = f"the dark frames have a median of {lowest:.4g}, the reference frames of {level:.4g}"
        return dark, (finding("dark-bright", message),)
    lit = levels > lowest + _BEAM * (level - lowest)
    if not lit.any():
        return dark, ()
    numbers = ", ".join(str(number) for number in np.flatnonzero(lit))
    message = (
        f"dark frame {numbers} of {len(dark)} (counted from 0) was taken with beam: its median is "
        f"{levels[lit][0]:.4g}, that of the others {lowest:.4g}; it was left out"
    )
    return dark[~lit], (finding("dark-with-beam", message),)


def dark_entry(dark: Image) -> str:
    """Return the entry of the history for dark frames (frame, y, x)."""
    mean = float(dark.mean(dtype=np.float64, where=np.isfinite(dark)))
    return f"dark: subtracted {describe_reduction(len(dark))}, mean {mean:.4g}"


def apply_dark(frames: Frames, options: DarkOptions) -> Frames:
    """Subtract the dark frames from reference, sample and flat frames."""
    if frames.dark is None:
        raise InputError(
            "there are no dark frames (or an earlier step used them); give input.dark", "frames-missing"
        )
    counted = np.where(frames.weights > 0.0, frames.reference, np.float32(np.nan))
    dark, findings = usable_darks(without_hidden(frames.dark, frames.weights), median_level(counted))
    return frames.replace(
        dark_entry(dark),
        reference=subtract_dark(frames.reference, dark),
        sample=subtract_dark(frames.sample, dark),
        flat=None if frames.flat is None else subtract_dark(frames.flat, dark),
        dark=None,
        findings=(*frames.findings, *findings),
    )
