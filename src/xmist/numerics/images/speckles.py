"""Size and visibility of the speckles of an image with holes."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Real = NDArray[Any]

_BLOCK: Final = 64  # pixels a side of the parts whose own means count
# The sixth-order second derivative, see `xmist.numerics.operators.derivatives`.
_SECOND: Final = np.array([1 / 90, -3 / 20, 3 / 2, -49 / 18, 3 / 2, -3 / 20, 1 / 90])


def speckle_size(frame: Real, used: NDArray[np.bool_], reach: int) -> tuple[float, float]:
    """Return the full widths at half maximum along x and y in pixels of the autocorrelation of a frame.

    Pixels that are not `used` (y, x) do not count. A width is 0 for a constant image, infinite if the
    autocorrelation does not fall to half within `reach` pixels. White noise adds to the shift 0 alone: where
    the value there is above the Gaussian through the shifts 1 and 2, the Gaussian's counts instead. Between
    shifts its logarithm is linear in the shift squared.
    """
    y, x = (_half_width(frame, used, axis, min(reach, size - 1)) for axis, size in enumerate(frame.shape))
    return x, y


def visibility(frame: Real, used: NDArray[np.bool_]) -> float:
    """Return the standard deviation over the mean of the used pixels of a frame (y, x)."""
    values = frame[used].astype(np.float64)
    return float(values.std() / values.mean())


def speckle_wavenumber(frames: Real, used: NDArray[np.bool_], noise: float) -> float:
    """Return κ_s in rad per pixel, κ_s² = −cov(I, ∇²I)/var(I), of frames I (position, y, x).

    Pixels that are not `used` (position, y, x) do not count. `noise` is the variance over the mean of white
    noise in the frames, whose part is subtracted. Means are those of blocks, so that the beam's profile does
    not count. NaN where there are no speckles.
    """
    from scipy.ndimage import correlate1d

    variance = covariance = 0.0
    for frame, good in zip(frames, used, strict=True):
        values = frame.astype(np.float64)
        laplacian = correlate1d(values, _SECOND, 0, mode="reflect") + correlate1d(
            values, _SECOND, 1, mode="reflect"
        )
        for y in range(0, frame.shape[0], _BLOCK):
            for x in range(0, frame.shape[1], _BLOCK):
                part = (slice(y, y + _BLOCK), slice(x, x + _BLOCK))
                counted = values[part][good[part]]
                if counted.size:
                    mean = counted.mean()
                    variance += ((counted - mean) ** 2).sum() - noise * counted.sum()
                    covariance += ((counted - mean) * laplacian[part][good[part]]).sum()
                    covariance -= 2.0 * _SECOND[3] * noise * counted.sum()
    return math.sqrt(-covariance / variance) if variance > 0.0 > covariance else math.nan


def _half_width(frame: Real, used: NDArray[np.bool_], axis: int, reach: int) -> float:
    values = frame.astype(np.float64)  # squares of bright frames are beyond float32
    centred = np.where(used, values - values[used].mean(), 0.0)
    size = frame.shape[axis]
    curve: list[float] = []
    for shift in range(reach + 1):
        a, b = (np.take(centred, np.arange(*span), axis) for span in ((0, size - shift), (shift, size)))
        p, q = (np.take(used, np.arange(*span), axis) for span in ((0, size - shift), (shift, size)))
        pairs = np.count_nonzero(p & q)
        curve.append(float((a * b).sum()) / pairs if pairs else 0.0)
        if not curve[0] > 0.0:
            return 0.0
        if shift < min(2, reach):
            continue
        if shift == 2 and curve[1] > curve[2] > 0.0:
            curve[0] = min(curve[0], (curve[1] ** 4 / curve[2]) ** (1.0 / 3.0))
        half = 0.5 * curve[0]
        fallen = next((i for i in range(1, len(curve)) if curve[i] < half), None)
        if fallen is not None:
            before, after = curve[fallen - 1], max(curve[fallen], 1e-3 * curve[0])
            share = math.log(before / half) / math.log(before / after)
            return 2.0 * math.sqrt((fallen - 1) ** 2 + share * (2 * fallen - 1))
    return math.inf
