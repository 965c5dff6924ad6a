"""Step crop: keep a box of the frames."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from xmist.core.arrays import SMALLEST_FRAME, Image
from xmist.core.errors import InputError
from xmist.core.options import Options
from xmist.preprocess.frames import Frames, Span, SpanOption, box_slices, check_frames


class CropOptions(Options):
    """Options of `crop`; see `xmist.preprocess.crop`.

    Parameters
    ----------
    rows, columns : (start, stop), optional
        Rows and columns to keep, counted from 0, stop excluded.

    Examples
    --------
    >>> CropOptions(columns=[10, 200]).columns
    (10, 200)
    """

    rows: SpanOption = None
    columns: SpanOption = None


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
            f"expected at least {SMALLEST_FRAME} × {SMALLEST_FRAME}",
            "frames-too-small",
        )
    return np.ascontiguousarray(series[:, ys, xs])


def crop_entry(options: CropOptions) -> str:
    """Return the entry of the history for a box."""
    rows = f"rows {options.rows[0]} to {options.rows[1] - 1}" if options.rows else "all rows"
    columns = (
        f"columns {options.columns[0]} to {options.columns[1] - 1}" if options.columns else "all columns"
    )
    return f"crop: kept {rows} and {columns}"


def apply_crop(frames: Frames, options: CropOptions) -> Frames:
    """Crop frames, weights, dark and flat frames."""
    given = {name: getattr(frames, name) for name in ("reference", "sample", "weights", "dark", "flat")}
    return frames.replace(
        crop_entry(options),
        **{
            name: None if images is None else crop(images, rows=options.rows, columns=options.columns)
            for name, images in given.items()
        },
    )
