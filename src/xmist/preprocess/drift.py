"""Step drift: register the references to the sample frames, and move them.

The shift is measured by least squares on bare beam, where the sample frame is a·R(r − u) + b, and the
reference is moved by it with a windowed sinc. A reference that has not moved is left as it is, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xmist.core.arrays import Image, as_array
from xmist.core.errors import ErrorRecord, InputError, raise_errors
from xmist.core.options import Options, Range
from xmist.numerics.images.registration import filled, register, shifted
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


class DriftOptions(Options):
    """Options of `drift`; see `xmist.preprocess.measure_drift`.

    Parameters
    ----------
    rows, columns : (start, stop), optional
        Box of bare beam, counted from 0, stop excluded; without it the median over blocks is taken.
    max_shift : float
        Largest shift in pixels.

    Examples
    --------
    >>> DriftOptions(max_shift=3).max_shift
    3.0
    """

    rows: SpanOption = None
    columns: SpanOption = None
    max_shift: Annotated[float, Range(0.0, 1000.0, above=True, unit="pixels")] = 10.0


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
        Weights; a pixel of weight 0 does not count, and neither do pixels that it would affect.
    rows, columns : (start, stop), optional
        Box of bare beam, counted from 0, stop excluded; its pixels are fitted together. Where both are None,
        the median over fits of blocks of 48 × 48 pixels is taken, which a sample that refracts in less than
        half of the frame does not affect.
    max_shift : float
        Largest shift in pixels that is looked for, at most 1000.
    threads : int, optional
        Threads, at most one per pair; the result does not depend on it.

    Returns
    -------
    (position, 2) float64 array
        Shift along x and y in pixels, of the sample's speckles against the reference's, towards larger
        coordinates.

    Raises
    ------
    InputError
        If the frames, the box or `max_shift` are invalid, or if a pair cannot be registered.

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
    errors = [""] * len(first)

    def measure(n: int) -> None:
        used = np.isfinite(first[n]) & (first[n] > 0) & np.isfinite(second[n])
        if given is not None:
            used &= given[n] > 0
        used = used[ys, xs]
        found = register(
            np.ascontiguousarray(first[n, ys, xs]),
            np.ascontiguousarray(second[n, ys, xs]),
            used,
            by_blocks=whole,
            max_shift=max_shift,
        )
        if isinstance(found, str):
            errors[n] = f"reference and sample {n} cannot be registered: {found}"
        else:
            shifts[n] = found

    _for_each(measure, len(first), threads)
    raise_errors([ErrorRecord("drift-undetermined", error) for error in errors if error])
    return shifts


def correct_drift(
    reference: ArrayLike,
    shift: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    threads: int | None = None,
) -> tuple[Image, Image]:
    """Move the reference frames by the measured shifts of their speckles.

    Parameters
    ----------
    reference : (position, y, x) array_like
        Frames without the sample.
    shift : (position, 2) array_like
        Shift along x and y in pixels, as returned by `measure_drift`.
    weights : (position, y, x) array_like, optional
        Weights of the pairs.
    threads : int, optional
        Threads, at most one per frame; the result does not depend on it.

    Returns
    -------
    reference : (position, y, x) float32 array
        Shifted frames. A frame whose shift is 0 is unchanged.
    weights : (position, y, x) float32 array
        The given weights; 0 where bad pixels, or pixels beyond the border, contribute more than 5 %.

    Raises
    ------
    InputError
        If shapes do not fit or a frame has no usable pixel.

    Notes
    -----
    The kernel is a sinc with a Kaiser window (`xmist.numerics.images.registration.kernel`), applied along y
    and x. Bad pixels are filled from their neighbours before.

    Examples
    --------
    >>> frames = np.random.default_rng(1).uniform(1, 2, (1, 16, 16))
    >>> moved, weights = correct_drift(frames, [[1, 0]])
    >>> bool(np.allclose(moved[0, :, 1:], frames[0, :, :-1])), float(weights[0, :, 0].max())
    (True, 0.0)
    """
    series, given = check_frames("reference", reference, weights)
    errors: list[ErrorRecord] = []
    shifts = as_array("shift", shift, "numbers (x, y) for each frame", errors)
    raise_errors(errors)
    assert shifts is not None  # as_array appended an error otherwise
    if shifts.dtype.kind not in "iuf" or shifts.shape != (len(series), 2) or not np.isfinite(shifts).all():
        raise InputError(
            f"shift is {shifts.dtype} of shape {shifts.shape}; expected finite numbers (x, y) for each of "
            f"the {len(series)} frames",
            "shape-mismatch",
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
            raise InputError(
                f"reference frame {n} has no usable pixel; leave out this position", "drift-undetermined"
            )
        moved, touched = shifted(filled(frame, usable), usable, shifts[n])
        out[n] = moved
        new[n][touched] = 0.0

    _for_each(correct, len(series), threads)
    return out, new


def _for_each(task: Callable[[int], None], number: int, threads: int | None) -> None:
    def tasks(start: int, stop: int) -> None:
        for n in range(start, stop):
            task(n)

    for_blocks(tasks, number, threads=threads, block=1)


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
