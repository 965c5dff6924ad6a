"""Period of the pattern of frames, by the peaks of their autocorrelation."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

Real = NDArray[Any]

_CROP: Final = 256  # pixels a side that are looked at
_FRAMES: Final = 4
_ALIKE: Final = 0.7  # least correlation of frames shifted by a period
_DEVIATIONS: Final = 5.0  # of the autocorrelation of random speckles, for some hundred shifts
_OVERLAP: Final = 0.5  # part of the pixels that a shift leaves


def pattern_periods(frames: Real, used: NDArray[np.bool_] | None) -> Real:
    """Return the shifts (number, 2), along x and y in pixels, by which frames (position, y, x) repeat.

    Sorted by length, one of each pair of opposites; none for a random pattern. Pixels that are not `used`
    (position, y, x) do not count. The autocorrelations of the frames are averaged: where some of them are
    random, a shift by the period of the others changes the set of frames.
    """
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(len(frames), _FRAMES)).astype(int))
    crop = tuple(
        slice((size - part) // 2, (size - part) // 2 + part)
        for size, part in ((size, min(size, _CROP)) for size in frames.shape[1:])
    )
    total: Real = np.zeros((1, 1))
    share: Real = np.zeros((1, 1))
    noisy = 1.0
    for n in chosen:
        frame = frames[n][crop].astype(np.float64)
        inside = np.ones(frame.shape, bool) if used is None else used[n][crop]
        if np.count_nonzero(inside) < 2:
            return np.empty((0, 2))
        size = [fft.next_fast_len(2 * part, real=True) for part in frame.shape]
        centred = np.where(inside, frame - frame[inside].mean(), 0.0)
        power, pairs = (
            fft.fftshift(fft.irfft2(np.abs(fft.rfft2(image, size)) ** 2, size))
            for image in (centred, inside.astype(np.float64))
        )
        overlap = pairs / np.count_nonzero(inside)
        curve = np.where(overlap > _OVERLAP, power / np.maximum(pairs, 1.0), 0.0)
        middle = np.array(curve.shape) // 2
        signal = _without_noise(curve, middle)
        if not signal > 0.0:
            return np.empty((0, 2))
        total = total + curve / signal
        noisy = max(noisy, float(curve[tuple(middle)]) / signal)
        share = share + overlap * np.count_nonzero(inside)
    total = total / len(chosen)
    middle = np.array(total.shape) // 2
    area = max(1.0, np.count_nonzero(_central(total, middle)))
    with np.errstate(divide="ignore"):
        least = np.maximum(_ALIKE, _DEVIATIONS * noisy * np.sqrt(area / np.maximum(share, 1e-9)))
    peaks = np.argwhere((total >= least) & (total == ndimage.maximum_filter(total, 3))) - middle
    found = []
    for y, x in peaks:
        if (y, x) <= (0, 0):  # one of two opposites
            continue
        # Stripes, and the flank of the middle, have no minimum half-way.
        between = total[middle[0] + y // 2, middle[1] + x // 2]
        if between < 0.5 * total[middle[0] + y, middle[1] + x]:
            found.append((float(x), float(y)))
    return np.array(sorted(found, key=lambda shift: math.hypot(*shift))).reshape(-1, 2)


def _without_noise(curve: Real, middle: NDArray[np.int64]) -> float:
    """Return the autocorrelation at shift 0 without white noise, by the parabola through shifts 1 and 2."""
    y, x = middle
    first, second = (0.5 * float(curve[y, x + step] + curve[y + step, x]) for step in (1, 2))
    return min(float(curve[y, x]), first + max(first - second, 0.0) / 3.0)


def _central(curve: Real, middle: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return the part of an autocorrelation above one half that is joined to shift 0."""
    labels, _ = ndimage.label(curve > 0.5)
    joined: NDArray[np.bool_] = labels == labels[tuple(middle)]
    return joined
