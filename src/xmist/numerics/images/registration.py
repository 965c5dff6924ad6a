"""Registration of frames: the shift of their speckles, and frames shifted by part of a pixel.

Cross-correlation of the local contrast gives whole pixels, least squares for the sample frame a·R(r − u) + b
the rest.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from xmist.numerics.images.fill import fill
from xmist.numerics.operators.derivatives import DX, DY, derivative

Image = NDArray[Any]
Mask = NDArray[np.bool_]

TAPS: Final = 6  # pixels that the kernel reaches to either side
BETA: Final = 8.0  # of the Kaiser window
_TOUCH: Final = 0.05  # part of a pixel's value that bad pixels may bring in
_BLOCK: Final = 48  # pixels a side of the blocks that are fitted alone where bare beam is not given
_STEPS: Final = 12
_SMALL: Final = 1e-4  # pixels; the least squares have settled


def kernel(shift: float) -> NDArray[np.float64]:
    """Return the weights (13,) of pixels −6 to 6 that shift a row by −0.5 to 0.5 pixels: a windowed sinc.

    With β = 8 and six pixels to either side, spatial frequencies up to 0.7 of Nyquist keep their amplitude
    within 1 %. Half a pixel along both axes is the worst case: what is lost of a speckle of 3 pixels (full
    width at half maximum) looks like a ∆D/p² of 0.002, of 5 pixels like one of 0.0005.
    """
    offsets = np.arange(-TAPS, TAPS + 1.0)
    distance = offsets + shift
    window = np.i0(BETA * np.sqrt(np.maximum(0.0, 1.0 - (distance / (TAPS + 0.5)) ** 2))) / np.i0(BETA)
    taps = np.sinc(distance) * window
    return np.asarray(taps / taps.sum())


def filled(frame: Image, usable: Mask) -> Image:
    """Return a frame (y, x) whose unusable pixels are filled from their neighbours, or by the mean."""
    if usable.all():
        return frame
    mean = np.float32(frame[usable].mean(dtype=np.float64))
    repaired = fill(frame, usable, smooth=True, threads=1)
    out: Image = np.where(np.isfinite(repaired), repaired, mean)
    return out


def shifted(frame: Image, usable: Mask, shift: NDArray[np.float64]) -> tuple[Image, Mask]:
    """Return a frame (y, x) shifted by (x, y) pixels, and the pixels that unusable ones touch."""
    x, y = float(shift[0]), float(shift[1])
    whole_x, whole_y = round(x), round(y)
    image = frame.astype(np.float32)
    share = (~usable).astype(np.float32)
    for axis, whole, part in ((0, whole_y, y - whole_y), (1, whole_x, x - whole_x)):
        image, share = _roll(image, share, whole, axis)
        if part != 0.0:
            taps = kernel(part)
            image = ndimage.correlate1d(image, taps, axis=axis, mode="reflect")
            share = ndimage.correlate1d(share, np.abs(taps), axis=axis, mode="constant", cval=1.0)
    return image, share > _TOUCH


def _roll(image: Image, share: Image, whole: int, axis: int) -> tuple[Image, Image]:
    """Shift by whole pixels; what comes from beyond the border mirrors it and is bad."""
    if whole == 0:
        return image, share
    size = image.shape[axis]
    index = np.arange(size) - whole
    outside = (index < 0) | (index >= size)
    index = np.where(index < 0, -1 - index, np.where(index >= size, 2 * size - 1 - index, index))
    image = np.take(image, np.clip(index, 0, size - 1), axis=axis)
    share = np.take(share, np.clip(index, 0, size - 1), axis=axis)
    share[(outside, slice(None))[:: 1 if axis == 0 else -1]] = 1.0
    return image, share


def register(
    reference: Image, sample: Image, used: Mask, *, by_blocks: bool, max_shift: float
) -> NDArray[np.float64] | str:
    """Return the shift (x, y) in pixels of the speckles of a pair of frames, or a text that says why not.

    With `by_blocks` blocks of 48 × 48 pixels are fitted alone and their median counts.
    """
    if np.count_nonzero(used) < 64:
        return f"{np.count_nonzero(used)} usable pixels; expected at least 64 of bare beam"
    frame = filled(reference, used)
    shift = _whole_shift(frame, np.where(used, sample, np.float32(0.0)), used, max_shift)
    for _ in range(_STEPS):
        moved, touched = shifted(frame, used, shift)
        good = used & ~touched
        step = _fit(moved, sample, good, by_blocks=by_blocks)
        if step is None:
            return (
                "no part of the frames has speckles with a common shift; give rows and columns of bare beam"
            )
        shift = shift + step
        if math.hypot(*shift) > max_shift + 1.0:
            break
        if math.hypot(*step) < _SMALL:
            return np.where(np.abs(shift) < _SMALL, 0.0, shift)
    if math.hypot(*shift) > max_shift:
        return (
            f"the shift would be {math.hypot(*shift):.3g} pixels, above max_shift = {max_shift:g}; raise it, "
            "or check that the frames belong together"
        )
    return "the registration did not converge; give rows and columns of bare beam"


def _whole_shift(reference: Image, sample: Image, used: Mask, max_shift: float) -> NDArray[np.float64]:
    """Return the whole pixels (x, y) by cross-correlation of the local contrast."""

    def contrast(image: Image) -> Image:
        # Local mean and scatter leave out what is bad, so that neither absorption nor defects correlate.
        share = ndimage.gaussian_filter(used.astype(np.float32), 4.0, mode="constant")
        mean = ndimage.gaussian_filter(np.where(used, image, np.float32(0.0)), 4.0, mode="constant")
        mean /= np.maximum(share, np.float32(1e-3))
        return np.where(used, image / np.maximum(mean, np.float32(1e-30)) - 1, np.float32(0.0))

    reach = math.ceil(max_shift)
    shape = [fft.next_fast_len(size + reach, real=True) for size in reference.shape]
    a, b = (fft.rfft2(np.clip(contrast(image), -2, 2), shape) for image in (reference, sample))
    correlation = fft.irfft2(b * np.conj(a), shape)
    window = np.ix_(np.arange(-reach, reach + 1), np.arange(-reach, reach + 1))
    near = correlation[window]
    y, x = np.unravel_index(int(np.argmax(near)), near.shape)
    return np.array([float(x) - reach, float(y) - reach])


def _fit(moved: Image, sample: Image, good: Mask, *, by_blocks: bool) -> NDArray[np.float64] | None:
    """Return one step of least squares for the shift (x, y): S = a R − a (u·∇)R + b."""
    dx, dy = (derivative(moved, kind, threads=1) for kind in (DX, DY))
    block = _BLOCK if by_blocks and min(moved.shape) >= 2 * _BLOCK else max(moved.shape)
    steps = []
    for y in range(0, moved.shape[0], block):
        for x in range(0, moved.shape[1], block):
            part = (slice(y, y + block), slice(x, x + block))
            inside = good[part]
            number = np.count_nonzero(inside)
            if number < max(64, 0.25 * inside.size if block == _BLOCK else 0):
                continue
            columns = [image[part][inside].astype(np.float64) for image in (dx, dy, moved)]
            columns.append(np.ones(number))
            scales = np.array([max(float(np.abs(column).max()), 1e-300) for column in columns])
            matrix = np.stack([column / scale for column, scale in zip(columns, scales, strict=True)])
            normal = matrix @ matrix.T
            if np.linalg.cond(normal) > 1e12:
                continue
            solution = np.linalg.solve(normal, matrix @ sample[part][inside].astype(np.float64)) / scales
            if not solution[2] > 0:
                continue
            steps.append(-solution[:2] / solution[2])
    if not steps:
        return None
    limited = np.clip(np.array(steps), -1.0, 1.0)
    if len(steps) == 1:
        return np.asarray(limited[0])
    return np.asarray(np.median(limited, axis=0))
