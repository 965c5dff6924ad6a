"""What the detector adds to every frame: its dark signal and its uneven response."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from xmist.core.arrays import Image
from xmist.core.errors import InputError
from xmist.preprocess.frames import check_frames, still_image


def subtract_dark(frames: ArrayLike, dark: ArrayLike) -> Image:
    """Subtract the signal that the detector has without beam.

    Parameters
    ----------
    frames : (position, y, x) array_like
        Frames.
    dark : (y, x) or (frame, y, x) array_like
        Frames without beam, exposed as long; three or more are reduced to their median.

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


def divide_flat(frames: ArrayLike, flat: ArrayLike) -> Image:
    """Divide by the response of the detector, scaled to mean 1 so that counts stay counts.

    Parameters
    ----------
    frames : (position, y, x) array_like
        Frames without the dark signal.
    flat : (y, x) or (frame, y, x) array_like
        Frames with beam but without diffuser and sample, without the dark signal; three or more are reduced
        to their median.

    Returns
    -------
    (position, y, x) float32 array
        Frames of even response; NaN where the flat is not finite and positive.

    Raises
    ------
    InputError
        If the shapes do not fit, or if the flat is nowhere positive.

    Examples
    --------
    >>> flat = np.where(np.arange(9) < 4, 50.0, 150.0) * np.ones((9, 1))
    >>> float(np.ptp(divide_flat(flat[None], flat)))
    0.0
    """
    series, _ = check_frames("frames", frames, None)
    still = still_image("flat", flat, series.shape[1:])
    usable = np.isfinite(still) & (still > 0)
    if not usable.any():
        raise InputError("flat has no finite positive pixel; expected intensities above 0")
    mean = np.float32(still[usable].mean(dtype=np.float64))
    response = np.where(usable, still, np.float32(np.nan))
    response /= mean
    with np.errstate(over="ignore"):  # beyond float32 becomes inf, which is a bad pixel
        return np.divide(series, response, dtype=np.float32)
