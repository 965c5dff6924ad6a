"""Part of the frames, and larger pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from xmist.core.arrays import SMALLEST_FRAME, Image
from xmist.core.errors import InputError
from xmist.preprocess.frames import Span, box_slices, check_frames
from xmist.preprocess.options import BinOptions


def crop(frames: ArrayLike, *, rows: Span | None = None, columns: Span | None = None) -> Image:
    """Keep a box of the frames.

    Parameters
    ----------
    frames : (position, y, x) array_like
        Frames or weights.
    rows, columns : (start, stop), optional
        What to keep, counted from 0, stop excluded; None keeps all.

    Returns
    -------
    (position, y, x) float32 array
        The box.

    Raises
    ------
    InputError
        If a range lies outside the frames or keeps fewer than 7 pixels.

    Examples
    --------
    >>> crop(np.ones((2, 20, 30)), rows=(5, 15)).shape
    (2, 10, 30)
    """
    series, _ = check_frames("frames", frames, None)
    ys, xs = box_slices(rows, columns, (series.shape[1], series.shape[2]))
    if min(ys.stop - ys.start, xs.stop - xs.start) < SMALLEST_FRAME:
        raise InputError(
            f"the box has {ys.stop - ys.start} × {xs.stop - xs.start} pixels; "
            f"expected at least {SMALLEST_FRAME} × {SMALLEST_FRAME}"
        )
    return np.ascontiguousarray(series[:, ys, xs])


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
        Least share of good pixels; with fewer, the joined pixel has weight 0: a speckle of which one corner
        was seen is not the mean over the pixel.

    Returns
    -------
    frames : (position, y, x) float32 array
        Weighted mean of the good pixels; 0 where there is none.
    weights : (position, y, x) float32 array
        Mean of the weights, so that a joined pixel of which all parts have weight 1 has weight 1; 0 where
        fewer than `least` of them are good.

    Raises
    ------
    InputError
        If the options or the frames are faulty, or the frames too small.

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
            f"{width}; expected at least {SMALLEST_FRAME} × {SMALLEST_FRAME}"
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
