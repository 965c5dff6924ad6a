"""Find counts that are not measurements in frames as they are stored: markers, saturation, stuck pixels.

They are looked for before any arithmetic, because dark, flat and averages hide them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.core.errors import InputError

Mask = NDArray[np.bool_]

# Highest counts of analogue-to-digital converters, and of 16-bit frames that were saved as wider numbers.
_LIMITS: Final = tuple(2.0**bits - 1 for bits in (10, 12, 14, 16))
_MOST_16: Final = 2.0**16 - 1
_WIDE: Final = 2.0**32
_MOST_NEGATIVE: Final = 2  # distinct negative values that can be markers; noise about 0 has more
_PLATEAU: Final = 4  # pixels that share the highest value
# A pixel that never changes is stuck if a good one would do so with less than this probability.
_BY_CHANCE: Final = 1e-7
_STUCK_FRAMES: Final = 4
_ALONE: Final = 5e-3  # as _WRAPPED, where counts of other pixels lie between, as in 8 bits
_WRAPPED: Final = 2e-4  # share of a frame's pixels that wrapped around, from which the frame is refused


@dataclass
class RawCounts:
    """The invalid counts of frames of one role, which are added one by one.

    `saturation` is the count from which a pixel is saturated; None looks for a plateau. `counts` holds the
    number of pixels by kind, summed over frames.
    """

    saturation: float | None = None
    counts: dict[str, int] = field(default_factory=dict)
    frames: int = 0
    level: float | None = None  # of saturation, as found
    _tops: list[float] = field(default_factory=list)
    _first: NDArray[Any] | None = None
    _same: Mask | None = None
    _equal: float = 0.0

    def invalid(self, frame: NDArray[Any], name: str) -> Mask | None:
        """Return the mask of a frame's invalid pixels, None if there are none; `name` is for errors."""
        self.frames += 1
        mask = _markers(frame)
        self.count("marked", mask)
        good = frame if mask is None else frame[~mask]
        top = float(good.max()) if good.size else math.nan
        if not math.isfinite(top):
            finite = good[np.isfinite(good)]
            top = float(finite.max()) if finite.size else math.nan
        self._tops.append(top)
        _check_wrapped(frame, top, name)
        level = self.saturation if self.saturation is not None else _plateau(good, top)
        if level is None and frame.dtype == np.uint16 and top == _MOST_16:
            level = top
        if level is not None:
            self.level = level if self.level is None else min(level, self.level)
        if self.level is not None and top >= self.level:
            over = frame >= self.level if mask is None else (frame >= self.level) & ~mask
            self._tops[-1] = -math.inf
            self.count("saturated", over)
            mask = over if mask is None else mask | over
        self._compare(frame)
        return mask

    def late(self) -> list[int]:
        """Return the numbers of frames that reach a saturation level that was found in later frames."""
        return [n for n, top in enumerate(self._tops) if self.level is not None and top >= self.level]

    def stuck(self) -> Mask | None:
        """Return the pixels whose count is the same in all frames, although photon noise would change it."""
        if self._same is None or self.frames < _STUCK_FRAMES:
            return None
        chance = (self._equal / (self.frames - 1)) ** (self.frames - 1)
        if chance > _BY_CHANCE or not self._same.any():
            return None
        self.count("stuck", self._same)
        return self._same

    def count(self, kind: str, mask: Mask | None) -> None:
        """Add the pixels of a mask to the number of their kind."""
        number = 0 if mask is None else int(np.count_nonzero(mask))
        if number:
            self.counts[kind] = self.counts.get(kind, 0) + number

    def _compare(self, frame: NDArray[Any]) -> None:
        if self._first is None:
            self._first = frame
            return
        same = frame == self._first
        self._equal += np.count_nonzero(same) / same.size
        self._same = same if self._same is None else np.logical_and(self._same, same, out=self._same)


def _markers(frame: NDArray[Any]) -> Mask | None:
    """Return the pixels that hold a detector's mark instead of a count; None if there are none."""
    kind, size = frame.dtype.kind, frame.dtype.itemsize
    mask = None
    if kind == "u" and size > 2:
        mask = frame >= int(_WIDE) - 2
    elif kind in "if":
        values = frame.astype(np.float64) if kind == "i" and size == 8 else frame
        with np.errstate(invalid="ignore"):
            wide = values >= _WIDE - 2 if size > 2 else None
            negative = values < 0
        if wide is not None and wide.any():
            mask = wide
        if negative.any():
            few = np.unique(values[negative][:1000])
            if few.size <= _MOST_NEGATIVE and bool((few == np.floor(few)).all()) and np.isfinite(few).all():
                distinct = np.unique(values[negative])
                if distinct.size <= _MOST_NEGATIVE:
                    mask = negative if mask is None else mask | negative
    if mask is not None and not mask.any():
        mask = None
    if frame.dtype == np.int16 or size == 1:
        return mask
    # 2¹⁶ − 1 and 2¹⁶ − 2 are markers too if no count comes near them; otherwise they are saturated.
    good = frame if mask is None else frame[~mask]
    if good.size and good.max() in (_MOST_16, _MOST_16 - 1):
        high = good > 0.75 * _MOST_16
        if np.count_nonzero(high) == np.count_nonzero(good[high] >= _MOST_16 - 1):
            marked = (frame >= _MOST_16 - 1) & (frame <= _MOST_16)
            mask = marked if mask is None else mask | marked
    return mask


def _plateau(values: NDArray[Any], top: float) -> float | None:
    """Return the highest value of good pixels if the detector evidently saturates there."""
    if not values.size or not top > 0:
        return None
    at_top = int(np.count_nonzero(values == top))
    if at_top < _PLATEAU:
        return None
    # Three counts at least: neighbouring integers of a weak frame are no interval.
    below = int(np.count_nonzero(values >= min(0.99 * top, top - 3.0))) - at_top
    if below >= at_top:
        return None
    return top if at_top < values.size // 2 or top in _LIMITS else None


def _check_wrapped(frame: NDArray[Any], top: float, name: str) -> None:
    """Raise an error if counts below 0 were stored as unsigned numbers, near the largest of them.

    Then the numbers just below the largest are as frequent as those just above 0, with none between.
    """
    if frame.dtype.kind == "u":
        span = float(np.iinfo(frame.dtype).max) + 1.0
    elif frame.dtype.kind == "f" or frame.dtype.itemsize > 2:
        span = 2.0**16
    else:
        return
    if not 0.75 * span < top < span:
        return
    high = frame[frame > 0.75 * span].astype(np.float64)
    if high.size < max(30.0, _WRAPPED * frame.size) or high.size > 0.5 * frame.size:
        return
    depth = 2.0 * float(np.median(span - high))
    near = int(np.count_nonzero(high >= span - depth))
    low = int(np.count_nonzero(frame < depth))
    between = int(np.count_nonzero(frame > 0.4 * span)) - high.size
    _, repeats = np.unique(high, return_counts=True)
    smooth = repeats.size >= 5 and repeats.max() < 0.5 * high.size
    apart = between < 0.2 * high.size or (high.size > _ALONE * frame.size and _stand_alone(frame, span))
    if smooth and depth < 0.25 * span and 2 * low >= near and apart:
        raise InputError(
            f"{name}: {100 * high.size / frame.size:.2g} % of the pixels hold counts just below {span:.0f}: "
            "counts below 0 wrapped around; subtract the dark from the raw frames again, as signed numbers "
            "or floats",
            "counts-wrapped",
        )


def _stand_alone(frame: NDArray[Any], span: float) -> bool:
    """Return whether nearly every high count has a neighbour near 0, as no speckle has."""
    inner = frame[1:-1, 1:-1]
    around = np.minimum.reduce([frame[:-2, 1:-1], frame[2:, 1:-1], frame[1:-1, :-2], frame[1:-1, 2:]])
    dark = around[inner > 0.75 * span] < 0.25 * span
    return bool(dark.size) and int(np.count_nonzero(dark)) >= 0.9 * dark.size
