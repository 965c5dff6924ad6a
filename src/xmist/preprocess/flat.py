"""Step flat: divide by the uneven response of the detector."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from xmist.core.arrays import Image
from xmist.core.errors import ErrorRecord, InputError, raise_errors
from xmist.core.options import Options
from xmist.preprocess.frames import Frames, check_frames, count_pixels, describe_reduction, still_image


class FlatOptions(Options):
    """Options of `flat`: none.

    Examples
    --------
    >>> FlatOptions()
    FlatOptions()
    """


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
        If the shapes do not fit, or if the flat has no finite positive pixel.

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
        raise InputError("flat has no finite positive pixel; expected intensities above 0", "flat-invalid")
    mean = np.float32(still[usable].mean(dtype=np.float64))
    response = np.where(usable, still, np.float32(np.nan))
    response /= mean
    with np.errstate(over="ignore"):  # beyond float32 becomes inf, which is a bad pixel
        return np.divide(series, response, dtype=np.float32)


def apply_flat(frames: Frames, options: FlatOptions) -> Frames:
    """Divide reference and sample frames by the flat frames."""
    errors = []
    if frames.flat is None:
        errors.append(
            ErrorRecord(
                "frames-missing", "there are no flat frames (or an earlier step used them); give input.flat"
            )
        )
    if frames.dark is not None:
        errors.append(
            ErrorRecord(
                "step-order", "there are dark frames that were not subtracted; put the step dark before flat"
            )
        )
    raise_errors(errors)
    assert frames.flat is not None
    reference = divide_flat(frames.reference, frames.flat)
    lost = int(np.count_nonzero(np.isnan(reference[0]) & ~np.isnan(frames.reference[0])))
    return frames.replace(
        f"flat: divided by {describe_reduction(len(frames.flat))}, scaled to mean 1; {count_pixels(lost)} "
        "without response",
        reference=reference,
        sample=divide_flat(frames.sample, frames.flat),
        flat=None,
    )
