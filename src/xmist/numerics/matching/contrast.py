"""Properties of the reference that matching needs: its noise, and how fast blur reduces its contrast."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.numerics.images.denoise import MEDIAN_OF_SQUARE
from xmist.numerics.images.medians import median_of_nine
from xmist.numerics.matching.match import MEANS, Window
from xmist.numerics.operators.derivatives import LAPLACIAN, RADIUS, derivative
from xmist.numerics.parallel import for_blocks

Real = NDArray[Any]

# Six differences of a well-sampled image leave little but its noise; 924 is the sum of squares.
_DIFFERENCES: Final = np.array([1.0, -6.0, 15.0, -20.0, 15.0, -6.0, 1.0]) / np.sqrt(924.0)
_CENTRE: Final = -49.0 / 9.0  # of the sixth-order Laplacian
_ARM: Final = (3.0 / 2.0, -3.0 / 20.0, 1.0 / 90.0)
_LEAST: Final = 0.1  # of the median κ²: below, the window has no speckle


def noise_gain(frames: Real, good: NDArray[np.uint8] | None = None, *, level: Real | None = None) -> float:
    """Return the variance over the mean of white noise in frames (number, y, x), in their unit.

    Frames of well-sampled structure of at least 7 × 7 pixels; `good` (number, y, x): where one counts;
    `level` (number, y, x): the mean, if not the frames.
    """
    from scipy.ndimage import correlate1d

    means = frames if level is None else level
    unit = _unit(means)
    gains = []
    for n, frame in enumerate(frames):
        values = frame.astype(np.float32) * np.float32(1.0 / unit)
        rough = correlate1d(correlate1d(values, _DIFFERENCES, axis=0), _DIFFERENCES, axis=1)[3:-3, 3:-3]
        rough *= rough
        mean = values if level is None else level[n].astype(np.float32) * np.float32(1.0 / unit)
        rough /= np.maximum(mean[3:-3, 3:-3], np.float32(1e-30))
        if good is not None:
            rough = rough[good[n, 3:-3, 3:-3] > 0]
        if rough.size:
            gains.append(unit * float(np.median(rough)) / MEDIAN_OF_SQUARE)
    return float(np.mean(gains)) if gains else 0.0


def _unit(frames: Real) -> float:
    """Return the mean, the unit in which single precision suffices."""
    mean = float(frames.mean(dtype=np.float64))
    return mean if np.isfinite(mean) and mean > 0.0 else 1.0


def contrast_decay(
    frames: Real,
    window: Window,
    *,
    model: int,
    level: float = 0.0,
    good: NDArray[np.uint8] | None = None,
    noise: float = 0.0,
    threads: int | None = None,
) -> Real:
    """Return κ² = −cov(R, ∇²R)/var(R) over windows and frames: blur of variance 2d takes V to 1 − d κ².

    (y, x) in rad² per pixel², from frames R (number, y, x); the median of all where a window has almost no
    contrast. The mean of the `model`, `MEANS` or `OFFSET` (with the mean `level` of R), and what noise of
    variance `noise` over the mean adds are those of `match`, so that V and κ² belong together.
    """
    unit = _unit(frames)
    level, noise = level / unit, noise / unit
    decay = np.empty(frames.shape[1:], np.float32)
    # Of windows about windows about stencils.
    halo = 2 * (window.size // 2) + RADIUS

    def band(start: int, stop: int) -> None:
        first, last = max(0, start - halo), min(len(decay), stop + halo)
        own = _decay_of_band(
            frames[:, first:last] * np.float32(1.0 / unit),
            None if good is None else good[:, first:last] > 0,
            window,
            model,
            level,
            noise,
        )
        decay[start:stop] = own[start - first : stop - first]

    for_blocks(band, len(decay), threads=threads)
    with np.errstate(invalid="ignore"):
        positive = decay > 0.0
        usual = float(np.median(decay[positive])) if positive.any() else 1.0
        decay[~(decay > _LEAST * usual)] = usual
    return decay


def blur_of_shift(shift: Real, window: Window, *, threads: int | None = None) -> Real:
    """Return half the variance per axis in pixels² of a shift (2, y, x) within windows, (y, x).

    Windows take one shift for all their pixels, so that a shift that changes blurs as a d of this size does.
    Medians about as wide as a window leave out wrong minima.
    """
    from scipy.ndimage import correlate1d

    profile = (window.profile / window.profile.sum(dtype=np.float64)).astype(np.float32)
    smooth = [median_of_nine(np.nan_to_num(part), (window.size + 1) // 2) for part in shift]
    for part in smooth:
        part -= part.mean(dtype=np.float64)  # squares of large shifts would cancel
    out = np.empty(shift.shape[1:], np.float32)
    half = window.size // 2

    def band(start: int, stop: int) -> None:
        first, last = max(0, start - half), min(len(out), stop + half)
        inner = slice(start - first, stop - first)
        out[start:stop] = 0.0
        for part in smooth:
            rows = part[first:last]

            def mean(image: Real) -> Real:
                along: Real = correlate1d(correlate1d(image, profile, axis=0), profile, axis=1)
                return along

            out[start:stop] += (mean(rows * rows) - mean(rows) ** 2)[inner]

    for_blocks(band, len(out), threads=threads)
    np.maximum(out, 0.0, out=out)
    out *= 0.25
    return out


def _decay_of_band(
    frames: Real, good: NDArray[np.bool_] | None, window: Window, model: int, level: float, noise: float
) -> Real:
    """Return κ² where there is contrast; NaN or arbitrary values elsewhere."""
    from scipy.ndimage import correlate1d

    profile = window.profile.astype(np.float64)

    def sums(image: Real) -> Real:
        out: Real = correlate1d(
            correlate1d(image, profile, axis=0, mode="constant"), profile, axis=1, mode="constant"
        )
        return out

    shape = frames.shape[1:]
    pp, pq, qq, pl, ql, level_sum = (np.zeros(shape, np.float32) for _ in range(6))
    for n, values in enumerate(frames):
        counted = np.ones(shape, np.float32) if good is None else good[n].astype(np.float32)
        curvature = derivative(np.ascontiguousarray(values), LAPLACIAN, threads=1)
        if model == MEANS:
            weight, total = sums(counted), sums(counted * values)
            mean = np.where(weight > 0, total / np.maximum(weight, np.float32(1e-6)), values)
            detail = values - mean
        else:
            mean, detail = np.ones(shape, np.float32), values - np.float32(level)
        level_sum += sums(counted * values)
        for total, product in (
            (pp, mean * mean),
            (pq, mean * detail),
            (qq, detail * detail),
            (pl, mean * curvature),
            (ql, detail * curvature),
        ):
            total += sums(counted * product)
    if noise > 0.0:
        for total, factor in zip((pp, pq, qq, pl, ql), _noise_of_sums(window, model), strict=True):
            total -= np.float32(factor * noise) * level_sum
    seen = pp > 0.0
    ratio = np.divide(pq, pp, out=np.zeros(shape, np.float32), where=seen)
    variance = qq - ratio * pq
    decay = np.full(shape, np.nan, np.float32)
    np.divide(ratio * pl - ql, variance, out=decay, where=seen & (variance > 0.0))
    return decay


def _noise_of_sums(window: Window, model: int) -> tuple[float, float, float, float, float]:
    """Return what white noise of variance 1 adds to the five sums, over Σ w."""
    if model != MEANS:
        return 0.0, 0.0, 1.0, 0.0, _CENTRE
    profile = window.profile.astype(np.float64) / window.profile.astype(np.float64).sum()
    half = window.size // 2
    centre, squares = profile[half] ** 2, (profile**2).sum() ** 2
    # Of the mean and the Laplacian: the weight of the window at the arms of the stencil.
    cross = _CENTRE * centre
    for step, coefficient in enumerate(_ARM, 1):
        if step <= half:
            cross += 4.0 * coefficient * profile[half] * profile[half + step]
    return squares, centre - squares, 1.0 - 2.0 * centre + squares, cross, _CENTRE - cross
