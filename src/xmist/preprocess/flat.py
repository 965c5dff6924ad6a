"""Step flat: divide by the response of the detector."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from xmist.core.arrays import Image
from xmist.core.errors import ErrorRecord, InputError, raise_errors
from xmist.core.findings import Finding, finding
from xmist.core.options import Options
from xmist.preprocess.frames import (
    Frames,
    check_frames,
    count_pixels,
    describe_reduction,
    median_level,
    still_image,
    without_hidden,
)

_BEAM: Final = 0.05  # of the brightest flat: a darker one was taken without beam


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


def usable_flats(flat: Image) -> tuple[Image, tuple[Finding, ...]]:
    """Return the flat frames (frame, y, x), without dark, that were taken with beam, and findings."""
    levels = np.array([median_level(frame) for frame in flat])
    unlit = levels < _BEAM * levels.max()
    if not unlit.any() or not levels.max() > 0:
        return flat, ()
    numbers = ", ".join(str(number) for number in np.flatnonzero(unlit))
    message = (
        f"flat frame {numbers} of {len(flat)} (counted from 0) was taken without beam: its median is "
        f"{levels[unlit][0]:.4g}, that of the others {np.median(levels[~unlit]):.4g}; it was left out"
    )
    return flat[~unlit], (finding("flat-without-beam", message),)


def flat_entry(flat: Image, lost: int) -> str:
    """Return the entry of the history for flat frames (frame, y, x)."""
    reduced = describe_reduction(len(flat))
    return f"flat: divided by {reduced}, scaled to mean 1; {count_pixels(lost)} without response"


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
    flat, findings = usable_flats(without_hidden(frames.flat, frames.weights))
    reference = divide_flat(frames.reference, flat)
    lost = np.isnan(reference[0]) & ~np.isnan(frames.reference[0]) & (frames.weights > 0.0).any(axis=0)
    return frames.replace(
        flat_entry(flat, int(np.count_nonzero(lost))),
        reference=reference,
        sample=divide_flat(frames.sample, flat),
        flat=None,
        findings=(*frames.findings, *findings),
    )
