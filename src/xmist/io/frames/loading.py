"""Frames into memory: repeated exposures averaged while reading, with the noise of the mean."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from xmist.core.errors import InputError, raise_errors
from xmist.io.frames.positions import Position, format_position, position_scale, same_position
from xmist.io.frames.series import FrameSeries
from xmist.io.frames.sources import Progress, listed

Groups = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class LoadedFrames:
    """Frames in memory, one for each position of the mask.

    Parameters
    ----------
    frames : (position, y, x) array
        The mean of each position's exposures.
    variance : (position, y, x) array, optional
        Estimated variance of that mean, from the scatter of the exposures; NaN for a position with a single
        exposure, None if no position has more.
    positions : tuple of tuple, optional
        The mask's coordinates, as the headers give them.
    """

    frames: NDArray[Any]
    variance: NDArray[Any] | None
    positions: tuple[Position, ...] | None


def load_frames(
    series: FrameSeries,
    *,
    exposures: int | Literal["all"] = 1,
    groups: Sequence[Sequence[int]] | None = None,
    dtype: DTypeLike = np.float32,
    progress: Progress | None = None,
) -> LoadedFrames:
    """Read frames, one at a time, and average the exposures of each position of the mask.

    Parameters
    ----------
    series : FrameSeries
        What to read.
    exposures : int or "all"
        Repeated exposures of each position, see `group_exposures`; "all" gives the mean of all frames, as a
        dark or a flat needs it.
    groups : sequence of sequences of int, optional
        Which frames belong together, in the order wanted, as `pair_frames` gives them; `exposures` is not
        used then.
    dtype : dtype
        float32 or float64.
    progress : callable, optional
        Called with (frames read, frames in all) after each.

    Returns
    -------
    LoadedFrames
        Sums are taken in float64 and in the order of the series. A pixel that is NaN in one exposure is NaN
        in the mean.

    Raises
    ------
    InputError
        If a frame cannot be read, the exposures do not fit the frames, or memory does not suffice.

    Examples
    --------
    >>> from xmist.io.frames.frames import open_frames
    >>> np.save("ref.npy", np.arange(4.0)[:, None, None] * np.ones((4, 8, 9)))
    >>> loaded = load_frames(open_frames("ref.npy", name="input.reference"), exposures=2)
    >>> loaded.frames[:, 0, 0].tolist(), loaded.variance[:, 0, 0].tolist()
    ([0.5, 2.5], [0.25, 0.25])
    """
    kind = np.dtype(dtype)
    if kind not in (np.float32, np.float64):
        raise InputError(f"dtype is {kind}; expected float32 or float64")
    chosen = group_exposures(series, exposures) if groups is None else tuple(map(tuple, groups))
    if not chosen or not all(chosen):
        raise InputError(f"{series.name}: no frames are chosen; expected at least one a position")
    repeated = any(len(group) > 1 for group in chosen)
    total = sum(map(len, chosen))
    try:
        frames = np.empty((len(chosen), *series.shape), kind)
        variance = np.empty_like(frames) if repeated else None
        read = series.frames([index for group in chosen for index in group])
        done = 0
        for place, group in enumerate(chosen):
            first = next(read)
            # Deviations from the first exposure: equal exposures have a variance of exactly 0.
            sums = np.zeros((2, *series.shape)) if len(group) > 1 else None
            done += 1
            _report(progress, done, total)
            for _ in group[1:]:
                assert sums is not None
                with np.errstate(invalid="ignore", over="ignore"):  # infinite pixels become NaN: no weight
                    deviation = np.subtract(next(read), first, dtype=np.float64)
                    sums[0] += deviation
                    sums[1] += np.square(deviation, out=deviation)
                done += 1
                _report(progress, done, total)
            with np.errstate(over="ignore"):  # beyond float32 becomes inf, which is a bad pixel
                _finish(frames, variance, place, first, sums, len(group))
    except MemoryError as error:
        size = len(chosen) * math.prod(series.shape) * kind.itemsize * (2 if repeated else 1)
        raise InputError(
            f"{series.name}: {len(chosen)} frames of {series.shape[0]} × {series.shape[1]} pixels need "
            f"{size / 1e9:.1f} GB, more than this machine has; crop or bin them, or take fewer"
        ) from error
    positions = series.positions
    kept = None if positions is None else tuple(positions[group[0]] for group in chosen)
    return LoadedFrames(frames, variance, kept)


def group_exposures(series: FrameSeries, exposures: int | Literal["all"] = 1) -> Groups:
    """Say which frames are exposures of the same position of the mask.

    Parameters
    ----------
    series : FrameSeries
        The frames.
    exposures : int or "all"
        How many frames each position has. Where the headers give positions, these decide what belongs
        together, in the order of the first exposures, and a number above 1 must agree with them; elsewhere
        so many consecutive frames belong together. "all": all frames do, whatever the headers say.

    Returns
    -------
    tuple of tuple of int
        The frames of each position.

    Raises
    ------
    InputError
        If the number does not divide the frames, or contradicts the headers' positions.

    Examples
    --------
    >>> from xmist.io.frames.frames import open_frames
    >>> np.save("ref.npy", np.zeros((4, 8, 9)))
    >>> group_exposures(open_frames("ref.npy", name="input.reference"), exposures=2)
    ((0, 1), (2, 3))
    """
    count = len(series)
    if exposures == "all":
        return (tuple(range(count)),)
    if isinstance(exposures, bool) or not isinstance(exposures, int) or exposures < 1:
        raise InputError(
            f"exposures is {exposures!r}; expected a whole number from 1, the frames of each position"
        )
    groups = _by_position(series)
    if groups is None:
        if count % exposures:
            raise InputError(
                f"{series.name}: {count} frames are not a multiple of exposures = {exposures}; expected "
                f"{exposures} frames for each position of the mask"
            )
        return tuple(tuple(range(start, start + exposures)) for start in range(0, count, exposures))
    if exposures > 1:
        assert series.positions is not None
        raise_errors(
            [
                f"{series.name}: the headers give {len(group)} frame{'s' if len(group) > 1 else ''} at "
                f"{format_position(series.position_keys, series.positions[group[0]])} "
                f"({listed([series.label(index) for index in group], most=3)}); exposures = {exposures} "
                f"expects {exposures}"
                for group in groups
                if len(group) != exposures
            ]
        )
    return groups


def _by_position(series: FrameSeries) -> Groups | None:
    """Group frames by the headers' positions, where these tell positions apart."""
    positions = series.positions
    if positions is None:
        return None
    scale = position_scale(positions)
    groups: list[list[int]] = []
    for index, position in enumerate(positions):
        for group in groups:
            if same_position(positions[group[0]], position, scale):
                group.append(index)
                break
        else:
            groups.append([index])
    if len(groups) == 1 and not series.position_asked:
        return None  # a motor that happens to be called like this, and did not move
    return tuple(map(tuple, groups))


def _finish(
    frames: NDArray[Any],
    variance: NDArray[Any] | None,
    place: int,
    first: NDArray[Any],
    sums: NDArray[np.float64] | None,
    count: int,
) -> None:
    """Store the mean of a position's exposures, and the variance of the mean."""
    if sums is None:
        frames[place] = first
        if variance is not None:
            variance[place] = np.nan
        return
    assert variance is not None
    with np.errstate(invalid="ignore"):
        mean = sums[0] / count
        spread = np.maximum(sums[1] - sums[0] * mean, 0.0)
        frames[place] = np.add(mean, first, out=mean)
        variance[place] = np.divide(spread, count * (count - 1.0), out=spread)


def _report(progress: Progress | None, done: int, total: int) -> None:
    if progress is not None:
        progress(done, total)
