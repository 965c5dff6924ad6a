"""Match windows of frames: the shift, scale and visibility with which references fit sample frames best.

At every pixel, with a window w and S, R_n the frames, minimise over the shift u

    Σ_n Σ_r w(r) ω_S,n(r) ω_R,n(r−u) [ S_n(r) − p P_n(r−u) − q Q_n(r−u) ]²

This is linear in p and q, so that every integer u costs a few windowed sums. P and Q by model:

======== ============== ============== ===================================================
model    P              Q              p, q
======== ============== ============== ===================================================
MEANS    R̄              R − R̄          T, TV; R̄ the windowed mean of the reference, a map
SCALE    R              –              T
OFFSET   1              R − level      a + …, TV ≥ 0: the zero-normalised correlation
======== ============== ============== ===================================================

For subpixel shifts the reference is interpolated to half pixels by a long filter, and between those the sums
(not the cost) by polynomials of degree 4, because the sums are smooth: linear and quadratic in the reference.
Newton's method finds the minimum of the resulting cost. A parabola through costs has errors of a tenth of a
pixel.

A pair of pixels of which one is outside the image or unusable has no weight. The cost is divided by the
remaining weight, and shifts with less than half of the weight are not considered.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.numerics.matching.constants import (
    COLUMNS,
    FLAT,
    MEANS,
    NOTHING,
    OFFSET,
    ON_EDGE,
    ROUGH,
    SCALE,
    TAPS,
)
from xmist.numerics.matching.tile import Search, match_tile
from xmist.numerics.parallel import for_blocks

__all__ = ["FLAT", "MEANS", "NOTHING", "OFFSET", "ON_EDGE", "ROUGH", "SCALE", "Match", "Window", "match"]

Real = NDArray[Any]

_ROWS: Final = 32


@dataclass(frozen=True)
class Window:
    """Profile of a window of `size` pixels a side, odd.

    "flat", or "hamming": 0.54 + 0.46 cos(2πj/(size − 1)).
    """

    size: int
    weighting: str = "flat"

    @property
    def profile(self) -> Real:
        """Profile along one axis."""
        if self.weighting == "flat" or self.size == 1:
            return np.ones(self.size, np.float32)
        return np.hamming(self.size).astype(np.float32)

    @property
    def flat(self) -> bool:
        """Whether all weights are 1."""
        return self.weighting == "flat" or self.size == 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Match:
    """What was found by matching, images (y, x).

    `shift` (2, y, x): u along x and y in pixels, S(r) ≈ R(r − u); `scale`: T, for OFFSET the ratio of the
    windowed means; `visibility`: V, 0 for SCALE; `cost`: least mean square of the residual, Σ w r² over Σ w,
    among whole shifts; `status`: `NOTHING` (all else is NaN), `ON_EDGE`, `FLAT`, `ROUGH`, or 0.
    """

    shift: Real
    scale: Real
    visibility: Real
    cost: Real
    status: NDArray[np.uint8]


@cache
def half_sample_taps() -> Real:
    """Return the symmetric filter that interpolates half-way between samples, one side of it.

    Least squares of its response against 1 up to 0.65 of the highest frequency, exact for a constant.
    """
    kappa = np.linspace(0.0, 0.65 * np.pi, 400)
    response = 2.0 * np.cos(np.outer(kappa, np.arange(TAPS) + 0.5))
    weight = np.where(kappa == 0.0, 1e4, 1.0)
    taps = np.linalg.lstsq(weight[:, None] * response, weight, rcond=None)[0]
    scaled: Real = (taps / (2.0 * taps.sum())).astype(np.float32)
    return scaled


@cache
def _nearest_first(reach: int) -> NDArray[np.int64]:
    steps = range(-reach, reach + 1)
    return np.array(sorted(((y, x) for y in steps for x in steps), key=lambda s: (s[0] ** 2 + s[1] ** 2, s)))


def _cuts(size: int, border: int, step: int) -> list[int]:
    """Cut an axis into tiles; narrow ones where windows leave the image, for those cost more."""
    if size <= 2 * border + step:
        return [*range(0, size, step), size]
    return [0, *range(border, size - border, step), size - border, size]


def match(
    reference: Real,
    sample: Real,
    window: Window,
    *,
    reach: int,
    model: int = MEANS,
    good: NDArray[np.uint8] | None = None,
    weights: Real | None = None,
    start: NDArray[np.int64] | None = None,
    noise: float = 0.0,
    level: float | None = None,
    threads: int | None = None,
) -> Match:
    """Return shift, scale and visibility that match windows of the reference R to those of the sample S.

    Frames (number, y, x), R finite; `good` and `weights` (number, y, x): where R counts, and weights of S.
    Shifts of up to `reach` pixels around `start` (2, y, x) are searched. `noise`: variance of the noise of R
    over its mean; what it adds to Σ w Q² is taken away before V is computed. `level`: mean of R, the unit
    that frames are counted in, so that float32 loses no digits whatever they are measured in; None: computed
    here.
    """
    height, width = shape = sample.shape[1:]
    none, empty = np.empty((0, 0, 0), np.uint8), np.empty((0, 0, 0), np.float32)
    begin = np.empty((2, 0, 0), np.int64) if start is None else start
    shift, scale = np.empty((2, *shape), np.float32), np.empty(shape, np.float32)
    visibility, cost = np.empty(shape, np.float32), np.empty(shape, np.float32)
    status = np.empty(shape, np.uint8)
    border = window.size // 2 + reach
    ys, xs = _cuts(height, border, _ROWS), _cuts(width, border, COLUMNS)
    tiles = [(*a, *b) for a in pairwise(ys) for b in pairwise(xs)]
    tiles = [tile for tile in tiles if tile[0] < tile[1] and tile[2] < tile[3]]
    averaged = 1.0 - 2.0 * float((half_sample_taps() ** 2).sum())
    level = float(reference.mean(dtype=np.float64)) if level is None else level
    unit = level if np.isfinite(level) and level > 0.0 else 1.0
    heaviest = 0.0 if weights is None else float(weights.max(initial=0.0))
    gains = np.array([1.0 / unit, 1.0 / heaviest if heaviest > 0.0 else 1.0, level / unit], np.float32)
    factors = np.append(_noise_factors(window, model) * noise / unit, averaged)

    search_for = Search(
        model=model,
        window=window.profile,
        flat=window.flat,
        reach=reach,
        order=_nearest_first(reach),
        gains=gains,
        noise=factors,
        taps=half_sample_taps(),
    )
    fixed, moving = np.ascontiguousarray(reference, np.float32), np.ascontiguousarray(sample, np.float32)
    counted = none if good is None else np.ascontiguousarray(good)
    weighted = empty if weights is None else np.ascontiguousarray(weights, np.float32)

    def task(first: int, last: int) -> None:
        for tile in tiles[first:last]:
            found = match_tile(fixed, moving, counted, weighted, begin, search_for, tile)
            part = slice(tile[0], tile[1]), slice(tile[2], tile[3])
            shift[:, *part], scale[part], visibility[part] = found.shift, found.scale, found.visibility
            cost[part], status[part] = found.cost, found.status

    for_blocks(task, len(tiles), threads=threads, block=1)
    if model == SCALE:
        visibility[:] = 0.0
    return Match(shift=shift, scale=scale, visibility=visibility, cost=cost, status=status)


def _noise_factors(window: Window, model: int) -> Real:
    """Return what white noise of variance 1 in R adds to Σ w P², Σ w P Q and Σ w Q², over Σ w."""
    if model == OFFSET:
        return np.array([0.0, 0.0, 1.0])
    if model == SCALE:
        return np.array([1.0, 0.0, 0.0])
    profile = window.profile.astype(np.float64)
    total = profile.sum() ** 2
    centre, squares = profile[window.size // 2] ** 2 / total, (profile**2).sum() ** 2 / total**2
    return np.array([squares, centre - squares, 1.0 - 2.0 * centre + squares])
