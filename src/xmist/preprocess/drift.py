"""Step drift: move the references to where the speckles of the sample frames are.

The shift is measured by least squares on bare beam, where the sample frame is a·R(r − u) + b, and the
reference is moved by it with a windowed sinc. A reference that has not moved is left as it is, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xmist.core.arrays import Image, as_array
from xmist.core.errors import InputError, raise_errors
from xmist.core.options import Options, Range
from xmist.numerics.images.fill import fill
from xmist.numerics.operators.derivatives import DX, DY, derivative
from xmist.numerics.parallel import for_blocks
from xmist.preprocess.frames import (
    Frames,
    Span,
    SpanOption,
    box_slices,
    check_frames,
    check_pair,
    count_pixels,
)

Mask = NDArray[np.bool_]

TAPS: Final = 6  # pixels that the kernel reaches to either side
BETA: Final = 8.0  # of the Kaiser window
_TOUCH: Final = 0.05  # part of a pixel's value that bad pixels may bring in
_BLOCK: Final = 48  # pixels a side; each block has its own say where bare beam is not given
_STEPS: Final = 12
_SMALL: Final = 1e-4  # pixels; the least squares have settled


class DriftOptions(Options):
    """Options of `drift`; see `xmist.preprocess.measure_drift`.

    Parameters
    ----------
    rows, columns : (start, stop), optional
        Box of bare beam, counted from 0, stop excluded; without it the median over blocks is taken.
    max_shift : float
        Largest shift in pixels that is looked for.

    Examples
    --------
    >>> DriftOptions(max_shift=3).max_shift
    3.0
    """

    rows: SpanOption = None
    columns: SpanOption = None
    max_shift: Annotated[float, Range(0.0, 1000.0, above=True, unit="pixels")] = 10.0


def kernel(shift: float) -> NDArray[np.float64]:
    """Give the weights of pixels −6 to 6 that shift a row by a part of a pixel.

    Parameters
    ----------
    shift : float
        From −0.5 to 0.5 pixels, towards larger coordinates.

    Returns
    -------
    (13,) array
        Weight of the pixel at each offset, of sum 1: sinc times a Kaiser window.

    Notes
    -----
    With β = 8 and six pixels to either side, spatial frequencies up to 0.7 of Nyquist keep their amplitude
    within 1 %. Half a pixel along both axes is the worst case: what is lost of a speckle of 3 pixels (full
    width at half maximum) looks like a ∆D/p² of 0.002, of 5 pixels like one of 0.0005.

    Examples
    --------
    >>> float(kernel(0.0)[6]), round(float(kernel(0.3).sum()), 12)
    (1.0, 1.0)
    """
    offsets = np.arange(-TAPS, TAPS + 1.0)
    distance = offsets + shift
    window = np.i0(BETA * np.sqrt(np.maximum(0.0, 1.0 - (distance / (TAPS + 0.5)) ** 2))) / np.i0(BETA)
    taps = np.sinc(distance) * window
    return np.asarray(taps / taps.sum())


def measure_drift(
    reference: ArrayLike,
    sample: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    rows: Span | None = None,
    columns: Span | None = None,
    max_shift: float = 10.0,
    threads: int | None = None,
) -> NDArray[np.float64]:
    """Measure how far the speckles of each pair have moved as a whole.

    Parameters
    ----------
    reference, sample : (position, y, x) array_like
        Frames.
    weights : (position, y, x) array_like, optional
        Weights; a pixel of weight 0 does not count, and neither does one that it would touch.
    rows, columns : (start, stop), optional
        Box of bare beam, counted from 0, stop excluded; its pixels are fitted together. Where both are None,
        blocks of 48 × 48 pixels are fitted alone and their median counts, which a sample that refracts in
        less than half of the frame does not disturb.
    max_shift : float
        Largest shift in pixels that is looked for, at most 1000.
    threads : int, optional
        Threads, at most one a pair; the result does not depend on it.

    Returns
    -------
    (position, 2) float64 array
        Shift along x and y in pixels, of the sample's speckles against the reference's, towards larger
        coordinates.

    Raises
    ------
    InputError
        If the frames, the box or `max_shift` are faulty, or if a pair cannot be registered.

    Examples
    --------
    >>> import scipy.ndimage
    >>> noise = np.random.default_rng(1).normal(size=(1, 64, 64))
    >>> frames = 10 + scipy.ndimage.gaussian_filter(noise, (0, 2, 2), mode="wrap")
    >>> measure_drift(frames, np.roll(frames, (1, -2), axis=(1, 2))).round(3)
    array([[-2.,  1.]])
    """
    max_shift = DriftOptions(rows=rows, columns=columns, max_shift=max_shift).max_shift
    first, second, given = check_pair(reference, sample, weights)
    ys, xs = box_slices(rows, columns, (first.shape[1], first.shape[2]))
    whole = rows is None and columns is None
    shifts = np.zeros((len(first), 2))
    faults = [""] * len(first)

    def measure(n: int) -> None:
        used = np.isfinite(first[n]) & (first[n] > 0) & np.isfinite(second[n])
        if given is not None:
            used &= given[n] > 0
        used = used[ys, xs]
        found = _register(
            np.ascontiguousarray(first[n, ys, xs]),
            np.ascontiguousarray(second[n, ys, xs]),
            used,
            whole=whole,
            max_shift=max_shift,
        )
        if isinstance(found, str):
            faults[n] = f"reference and sample {n} cannot be registered: {found}"
        else:
            shifts[n] = found

    _for_each(measure, len(first), threads)
    raise_errors([fault for fault in faults if fault])
    return shifts


def correct_drift(
    reference: ArrayLike,
    shift: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    threads: int | None = None,
) -> tuple[Image, Image]:
    """Move the speckles of the reference frames to where those of the sample frames are.

    Parameters
    ----------
    reference : (position, y, x) array_like
        Frames without the sample.
    shift : (position, 2) array_like
        Shift along x and y in pixels, as `measure_drift` gives it.
    weights : (position, y, x) array_like, optional
        Weights of the pairs.
    threads : int, optional
        Threads, at most one a frame; the result does not depend on it.

    Returns
    -------
    reference : (position, y, x) float32 array
        Shifted frames. A frame whose shift is 0 is unchanged.
    weights : (position, y, x) float32 array
        The given weights; 0 where bad pixels, or those beyond the border, bring in more than 5 % of a value.

    Raises
    ------
    InputError
        If shapes do not fit or a frame has no usable pixel.

    Notes
    -----
    The kernel is a sinc with a Kaiser window, see `kernel`, applied along y and x. Where it needs the value
    of a bad pixel, it takes one filled from the neighbours.

    Examples
    --------
    >>> frames = np.random.default_rng(1).uniform(1, 2, (1, 16, 16))
    >>> moved, weights = correct_drift(frames, [[1, 0]])
    >>> bool(np.allclose(moved[0, :, 1:], frames[0, :, :-1])), float(weights[0, :, 0].max())
    (True, 0.0)
    """
    series, given = check_frames("reference", reference, weights)
    faults: list[str] = []
    shifts = as_array("shift", shift, "numbers (x, y) for each frame", faults)
    raise_errors(faults)
    assert shifts is not None  # as_array gave a fault otherwise
    if shifts.dtype.kind not in "iuf" or shifts.shape != (len(series), 2) or not np.isfinite(shifts).all():
        raise InputError(
            f"shift is {shifts.dtype} of shape {shifts.shape}; expected finite numbers (x, y) for each of "
            f"the {len(series)} frames"
        )
    out = series.copy()
    new = np.ones(series.shape, np.float32) if given is None else given.copy()

    def correct(n: int) -> None:
        frame = series[n]
        if not shifts[n].any():
            return
        usable = np.isfinite(frame) & (frame > 0)
        if given is not None:
            usable &= given[n] > 0
        if not usable.any():
            raise InputError(f"reference frame {n} has no usable pixel; leave this exposure out")
        moved, touched = _move(_filled(frame, usable), usable, shifts[n])
        out[n] = moved
        new[n][touched] = 0.0

    _for_each(correct, len(series), threads)
    return out, new


def _for_each(task: Callable[[int], None], number: int, threads: int | None) -> None:
    def tasks(start: int, stop: int) -> None:
        for n in range(start, stop):
            task(n)

    for_blocks(tasks, number, threads=threads, block=1)


def _filled(frame: Image, usable: Mask) -> Image:
    if usable.all():
        return frame
    mean = np.float32(frame[usable].mean(dtype=np.float64))
    repaired = fill(frame, usable, smooth=True, threads=1)
    filled: Image = np.where(np.isfinite(repaired), repaired, mean)
    return filled


def _move(frame: Image, usable: Mask, shift: NDArray[np.float64]) -> tuple[Image, Mask]:
    """Shift a frame by (x, y) pixels, and say which pixels bad ones touch."""
    from scipy import ndimage

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


def _register(
    reference: Image, sample: Image, used: Mask, *, whole: bool, max_shift: float
) -> NDArray[np.float64] | str:
    """Find the shift of one pair; a sentence if there is none."""
    if np.count_nonzero(used) < 64:
        return f"{np.count_nonzero(used)} usable pixels; expected at least 64 of bare beam"
    frame = _filled(reference, used)
    shift = _whole_shift(frame, np.where(used, sample, np.float32(0.0)), used, max_shift)
    for _ in range(_STEPS):
        moved, touched = _move(frame, used, shift)
        good = used & ~touched
        step = _fit(moved, sample, good, whole=whole)
        if step is None:
            return "no part of the frames has speckle that moves alike; give rows and columns of bare beam"
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
    return "the least squares do not settle; give rows and columns of bare beam"


def _whole_shift(reference: Image, sample: Image, used: Mask, max_shift: float) -> NDArray[np.float64]:
    """Find the whole pixels by cross-correlation of the local contrast."""
    from scipy import fft, ndimage

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


def _fit(moved: Image, sample: Image, good: Mask, *, whole: bool) -> NDArray[np.float64] | None:
    """One step of least squares for (x, y), gain and offset: S = a R − a (u·∇)R + b."""
    dx, dy = (derivative(moved, kind, threads=1) for kind in (DX, DY))
    block = _BLOCK if whole and min(moved.shape) >= 2 * _BLOCK else max(moved.shape)
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


def apply_drift(frames: Frames, options: DriftOptions) -> Frames:
    """Move the references onto the speckles of the sample frames."""
    shift = measure_drift(
        frames.reference,
        frames.sample,
        frames.weights,
        rows=options.rows,
        columns=options.columns,
        max_shift=options.max_shift,
    )
    reference, weights = correct_drift(frames.reference, shift, frames.weights)
    lost = int(np.count_nonzero((weights == 0) & (frames.weights > 0)))
    listed = ", ".join(f"({x:+.3f}, {y:+.3f})" for x, y in shift)
    return frames.replace(
        f"drift: references moved by (x, y) {listed} pixels onto the samples; {count_pixels(lost)} masked "
        "next to bad pixels or at the border",
        reference=reference,
        weights=weights,
        measured={**frames.measured, "drift": shift},
    )
