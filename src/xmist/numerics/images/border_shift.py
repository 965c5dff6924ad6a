"""Shift of speckles across each border of the frames, which a solution without flux there does not have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Real = NDArray[Any]

_PARTS: Final = 8  # parts of a side whose scatter gives the error
_WIDTHS: Final = (12, 48)  # pixels of a strip, least and most
_SURE: Final = 5.0  # standard errors
_SMALL: Final = 5e-3  # pixels
_ROUND: Final = 0.1  # least ratio of the slopes across and along: stripes do not show a shift along them
_TOLD: Final = 1e-4  # least eigenvalue of a registration, in units of its diagonal


def _gradient(frame: Real) -> Real:
    """Centred differences of sixth order of a (y, x) frame, (2, y − 6, x − 6), along x and y."""
    out = np.zeros((2, frame.shape[0] - 6, frame.shape[1] - 6))
    for step, weight in ((1, 45.0 / 60.0), (2, -9.0 / 60.0), (3, 1.0 / 60.0)):
        out[0] += weight * (
            frame[3:-3, 3 + step : frame.shape[1] - 3 + step] - frame[3:-3, 3 - step : -3 - step]
        )
        out[1] += weight * (
            frame[3 + step : frame.shape[0] - 3 + step, 3:-3] - frame[3 - step : -3 - step, 3:-3]
        )
    return out


def _shift(reference: Real, sample: Real, good: NDArray[np.bool_]) -> tuple[float, float] | None:
    """Register a part (position, y, x), border at the left: the shift across it there, and its mean.

    R − S = u·∇(R + S)/2 + a R, with u_x linear in x; None where the speckles do not tell.
    """
    matrix, right = np.zeros((4, 4)), np.zeros(4)
    inward = (np.arange(3, reference.shape[2] - 3) + 0.5) / reference.shape[2]
    for r, s, w in zip(reference, sample, good, strict=True):
        inner = np.s_[3:-3, 3:-3]
        across, along = _gradient(0.5 * (r + s))
        columns = np.stack([across, across * inward, along, r[inner]])
        used = w[inner].copy()  # a difference needs its neighbours
        for step in range(1, 4):
            used &= w[3 + step : w.shape[0] - 3 + step, 3:-3] & w[3 - step : -3 - step, 3:-3]
            used &= w[3:-3, 3 + step : w.shape[1] - 3 + step] & w[3:-3, 3 - step : -3 - step]
        columns = columns[:, used]
        matrix += columns @ columns.T
        right += columns @ (r - s)[inner][used]
    scale = np.sqrt(np.diag(matrix))
    if not (scale[3] > 0.0 and scale[[0, 2]].min() > _ROUND * scale[[0, 2]].max()):
        return None
    values, vectors = np.linalg.eigh(matrix / np.outer(scale, scale))
    if values[0] <= _TOLD:
        return None
    border, slope, _, _ = (vectors @ ((vectors.T @ (right / scale)) / values)) / scale
    return float(border), float(border + 0.5 * slope)


def _strips(
    reference: Real, sample: Real, good: NDArray[np.bool_] | None
) -> Iterator[tuple[int, Real, Real, NDArray[np.bool_]]]:
    """Yield number, frames and usable pixels (position, along, inwards) of each side."""
    known = np.isfinite(sample) if good is None else good & np.isfinite(sample)
    for side in range(4):
        axis = (2, 1)[side // 2]
        width = int(np.clip(reference.shape[axis] // 12, *_WIDTHS)) + 3
        if width + 3 > reference.shape[axis]:
            continue
        span = slice(-1, -width - 1, -1) if side % 2 else slice(0, width)
        r, s, w = (np.moveaxis(frames, axis, 2)[:, :, span] for frames in (reference, sample, known))
        yield side, r.astype(np.float64), np.where(w, s, 0.0).astype(np.float64), w


def border_shift(reference: Real, sample: Real, good: NDArray[np.bool_] | None) -> Real:
    """Measure the shift across the left, right, upper and lower border, in pixels towards larger coordinates.

    `reference`, `sample` and `good`, (position, y, x), are registered in strips along each side. The shift is
    0 where it is within its error, or below 0.6 of the mean over the strip, because a sample begins there.
    """
    shifts, known = np.zeros(4), {}
    for side, reference_strip, sample_strip, usable in _strips(reference, sample, good):
        length = usable.shape[1]
        number = max(2, min(_PARTS, length // 16))
        found = []
        for part in range(number):
            rows = np.s_[:, part * length // number : (part + 1) * length // number]
            if usable[rows].shape[1] >= 8:
                found.append(_shift(reference_strip[rows], sample_strip[rows], usable[rows]))
        pairs = np.array([pair for pair in found if pair is not None])
        if len(pairs) >= 3:
            known[side] = *pairs.mean(axis=0), pairs[:, 0].std(ddof=1) / np.sqrt(len(pairs))
    for side, (border, mean, error) in known.items():
        # Few parts scatter too little by chance; those of the other sides tell.
        usual = max(error, float(np.median([errors for _, _, errors in known.values()])))
        if abs(border) > max(_SURE * usual, _SMALL) and border * mean > 0.6 * mean**2:
            shifts[side] = -border if side % 2 else border
    return shifts


def border_correlation(reference: Real, sample: Real, good: NDArray[np.bool_] | None) -> float:
    """Return the least correlation of reference and sample frames in the strips; 1 without any."""
    least = 1.0
    for _, r, s, w in _strips(reference, sample, good):
        values = []
        for one, other, used in zip(r, s, w, strict=True):
            if np.count_nonzero(used) > 2 and one[used].std() > 0.0 and other[used].std() > 0.0:
                values.append(float(np.corrcoef(one[used], other[used])[0, 1]))
        least = min(least, float(np.mean(values))) if values else least
    return least


def border_potential(shifts: Real, shape: tuple[int, int]) -> Real:
    """Return the quadratic ψ (y, x) in pixels², of mean 0, whose gradient at the borders is `shifts`."""
    height, width = shape
    y, x = (np.arange(size) + 0.5 for size in shape)
    left, right, upper, lower = shifts
    along_x = left * x + (right - left) * x**2 / (2 * width)
    along_y = upper * y + (lower - upper) * y**2 / (2 * height)
    return np.asarray((along_y - along_y.mean())[:, None] + (along_x - along_x.mean()))
