"""Step bin: join pixels into larger ones."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import ArrayLike

from xmist.core.arrays import SMALLEST_FRAME, Image
from xmist.core.errors import InputError
from xmist.core.options import Options, Range
from xmist.preprocess.frames import Frames, check_frames


class BinOptions(Options):
    """Options of `bin`; see `xmist.preprocess.bin_frames`.

    Parameters
    ----------
    size : int
        Pixels a side that are joined. The `pixel_size` of the experiment must then be that many times larger.
    least : float
        Least share of good pixels.

    Examples
    --------
    >>> BinOptions(size=2).least
    0.5
    """

    size: Annotated[int, Range(1, 1000, unit="pixels")] = 2
    least: Annotated[float, Range(0.0, 1.0)] = 0.5


def bin_frames(
    frames: ArrayLike, weights: ArrayLike | None = None, *, size: int, least: float = 0.5
) -> tuple[Image, Image]:
    """Join size × size pixels into one.

    Parameters
    ----------
    frames : (position, y, x) array_like
        Frames.
    weights : (position, y, x) array_like, optional
        Weights.
    size : int
        Pixels a side. Rows and columns that are left over at the end are dropped.
    least : float
        Least share of good pixels; a joined pixel with fewer has weight 0, because the mean of one corner of
        a speckle is not the mean over the pixel.

    Returns
    -------
    frames : (position, y, x) float32 array
        Weighted mean of the good pixels; 0 where there is none.
    weights : (position, y, x) float32 array
        Mean of the weights, 1 for a joined pixel whose parts all have weight 1; 0 where fewer than `least` of
        them are good.

    Raises
    ------
    InputError
        If the options or the frames are invalid, or the frames too small.

    Examples
    --------
    >>> frames, weights = np.arange(256.0).reshape(1, 16, 16), np.ones((1, 16, 16))
    >>> frames[0, 0, 0], weights[0, 0, 0] = np.nan, 0
    >>> joined, joined_weights = bin_frames(frames, weights, size=2)
    >>> joined.shape, float(joined[0, 0, 0]), float(joined_weights[0, 0, 0])
    ((1, 8, 8), 11.333..., 0.75)
    """
    options = BinOptions(size=size, least=least)
    size = options.size
    series, given = check_frames("frames", frames, weights)
    height, width = series.shape[1] // size, series.shape[2] // size
    if min(height, width) < SMALLEST_FRAME:
        raise InputError(
            f"joining {size} × {size} of {series.shape[1]} × {series.shape[2]} pixels leaves {height} × "
            f"{width}; expected at least {SMALLEST_FRAME} × {SMALLEST_FRAME}",
            "frames-too-small",
        )
    out = np.empty((len(series), height, width), np.float32)
    new = np.empty_like(out)
    for n, frame in enumerate(series):
        total, value, good = np.zeros((height, width)), np.zeros((height, width)), np.zeros((height, width))
        for y in range(size):
            for x in range(size):
                part = np.s_[y : height * size : size, x : width * size : size]
                values = frame[part]
                weight = np.isfinite(values).astype(np.float32)
                if given is not None:
                    weight *= given[n][part]
                total += weight
                good += weight > 0
                value += np.where(weight > 0, values, np.float32(0.0)) * weight.astype(np.float64)
        out[n] = value / np.where(total > 0, total, 1.0)
        new[n] = np.where(good >= max(1.0, options.least * size * size), total / size**2, 0.0)
    return out, new


def apply_bin(frames: Frames, options: BinOptions) -> Frames:
    """Bin frames, weights, dark and flat frames."""
    # One set of weights: a pixel that either frame lacks is left out of both means.
    good = np.isfinite(frames.reference) & np.isfinite(frames.sample) & (frames.reference > 0)
    weights = np.where(good, frames.weights, np.float32(0.0))
    reference, joined = bin_frames(frames.reference, weights, size=options.size, least=options.least)
    sample, _ = bin_frames(frames.sample, weights, size=options.size, least=options.least)
    dark, flat = (
        None if images is None else bin_frames(images, size=options.size)[0]
        for images in (frames.dark, frames.flat)
    )
    return frames.replace(
        f"bin: joined {options.size} × {options.size} pixels; the pixel is {options.size} times as large",
        reference=reference,
        sample=sample,
        weights=joined,
        dark=dark,
        flat=flat,
    )
