"""Step dark: subtract the signal that the detector has without beam."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from xmist.core.arrays import Image
from xmist.core.errors import InputError
from xmist.core.options import Options
from xmist.preprocess.frames import Frames, check_frames, describe_reduction, still_image


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


def apply_dark(frames: Frames, options: DarkOptions) -> Frames:
    """Subtract the dark frames from reference, sample and flat frames."""
    if frames.dark is None:
        raise InputError(
            "there are no dark frames (or an earlier step used them); give input.dark", "frames-missing"
        )
    mean = float(frames.dark.mean(dtype=np.float64, where=np.isfinite(frames.dark)))
    return frames.replace(
        f"dark: subtracted {describe_reduction(len(frames.dark))}, mean {mean:.4g}",
        reference=subtract_dark(frames.reference, frames.dark),
        sample=subtract_dark(frames.sample, frames.dark),
        flat=None if frames.flat is None else subtract_dark(frames.flat, frames.dark),
        dark=None,
    )
