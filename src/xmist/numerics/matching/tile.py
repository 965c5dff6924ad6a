"""Matching of one tile after another for `xmist.numerics.matching.match`: load, search, refine.

A tile is plain if every pixel within reach of its windows is usable and inside the image: then the sums of
the reference alone are those of the unshifted tile. Other tiles carry weights through every sum.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.numerics.compiled import jit
from xmist.numerics.matching.constants import (
    COLUMNS,
    FLAT,
    MARGIN,
    NODES,
    NOTHING,
    OFFSET,
    ON_EDGE,
    ROUGH,
    SCALE,
    STRIP,
)
from xmist.numerics.matching.load import all_usable, load_halves, load_reference, load_sample
from xmist.numerics.matching.refine import BASIS, FARTHEST, PLACE, SUMS, TABLE, refine_row
from xmist.numerics.matching.search import find_group, mark_group, search
from xmist.numerics.matching.sums import (
    box_length,
    cross_sums,
    mask_pairs,
    reference_sums,
    weighted_sums,
    window_sums,
)

Real = NDArray[Any]

_NOISE: Final = 0.1  # of the contrast must be above noise for V to have a meaning
_RANK: Final = 1e-5  # of Σ w Q²: what the first column must leave of it


@dataclass(frozen=True, kw_only=True, eq=False)
class Search:
    """What is searched for.

    `model`: `MEANS`, `SCALE` or `OFFSET`; `window`: profile of the window, `flat` if all its weights are 1;
    `reach`: shifts up to so many pixels along either axis; `order`: the offsets y and x, nearest first (of
    equal costs the first wins); `gains`: factors of frames and of weights, and the mean of the frames that
    this leaves, all of the order of 1; `noise`: what noise adds to Σ w P², Σ w P Q and Σ w Q² over Σ w times
    the mean, and the part of its variance that half pixels average out; `taps`: filter that interpolates
    half-way between pixels, one side.
    """

    model: int
    window: Real
    flat: bool
    reach: int
    order: NDArray[np.int64]
    gains: Real
    noise: Real
    taps: Real


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """What was found in a tile, as in `Match`: `shift` (2, y, x), the others (y, x)."""

    shift: Real
    scale: Real
    visibility: Real
    cost: Real
    status: NDArray[np.uint8]


@jit
def _solve(b1, b2, pp, pq, qq):  # type: ignore[no-untyped-def]
    """Return p and q of the two columns; q = 0 where the second has no information."""
    if not pp > 0.0:
        return 0.0, 0.0, 0.0
    rest = qq - pq * pq / pp
    if not rest > _RANK * qq:
        return b1 / pp, 0.0, 0.0
    q = (b2 - pq / pp * b1) / rest
    return (b1 - pq * q) / pp, q, rest


@jit
def _between(f):  # type: ignore[no-untyped-def]
    """Return 0 at whole pixels and 1 half-way between, smoothly, for up to a pixel either way."""
    near = min(abs(f), 2.0 - abs(f)) ** 2
    return near * (2.0 - near)


@jit
def _evaluate(sums, x, fx, fy, weight, model, level, noise):  # type: ignore[no-untyped-def]
    """Return scale, visibility and whether the reference has contrast, from the sums at the minimum."""
    b1, b2 = np.float64(sums[x]), np.float64(sums[6 * COLUMNS + x])
    pp, pq = np.float64(sums[12 * COLUMNS + x]), np.float64(sums[18 * COLUMNS + x])
    qq = np.float64(sums[24 * COLUMNS + x])
    kept, flat = qq, False
    if noise[0] > 0.0 or noise[1] != 0.0 or noise[2] > 0.0:
        total = pq + level * pp if model == OFFSET else np.sqrt(max(pp * weight, 0.0))
        # Interpolation averages noise, most at half a pixel.
        total *= (1.0 - noise[3] * _between(fx)) * (1.0 - noise[3] * _between(fy))
        kept = qq - noise[2] * total
        if kept >= _NOISE * qq:
            pp -= noise[0] * total
            pq -= noise[1] * total
    if kept < _NOISE * qq or not qq > 0.0:
        kept, flat = qq, True
    p, q, rest = _solve(b1, b2, pp, pq, kept)
    if model == OFFSET and pq + level * pp > 0.0:
        p = b1 / (pq + level * pp)
    return p, (q / p if p > 0.0 else np.nan), flat or rest == 0.0


@jit
def _merge(source, m, source_at, live, at, width, table, k, target_at):  # type: ignore[no-untyped-def]
    """Copy a row of the sums of a group to the table."""
    a, b, c = np.uint64(source_at), np.uint64(at), np.uint64(target_at)
    for x in range(np.uint64(width)):
        table[k, c + x] = source[m, a + x] if live[b + x] > 0 else table[k, c + x]


@jit
def _fill_table(  # type: ignore[no-untyped-def]
    table, frames, at, masked, mean, detail, there, squares, plain, box, pitch, window, running, products,
    spare, sums, live,
):  # fmt: skip
    """Fill the sums at all nodes for the pixels of a group, at place `at` of S and `there` of P and Q."""
    height, width = box[1] - box[0] + 1, box[3] - box[2] + 1
    for node in range(NODES * NODES):
        ky, kx = node // NODES - NODES // 2, node % NODES - NODES // 2
        phase = 2 * (ky & 1) + (kx & 1)
        place = there - (ky >> 1) * pitch - (kx >> 1)
        if plain:
            cross_sums(
                frames, at, mean[phase], detail[phase], place, height, width, pitch, window, running,
                products, spare, sums,
            )  # fmt: skip
        else:
            weighted_sums(
                masked, mean[phase], detail[phase], place, height, width, pitch, window, running, products,
                spare, sums,
            )  # fmt: skip
        for y in range(height):
            target = (node * STRIP + box[0] + y) * COLUMNS + box[2]
            for k in range(5):
                if plain and k > 1:
                    _merge(squares[phase], k - 2, place + y * pitch, live, y * pitch, width, table, k, target)
                else:
                    _merge(sums, k, y * pitch, live, y * pitch, width, table, k, target)


@jit
def _refine_strip(  # type: ignore[no-untyped-def]
    frames, weight, mean, detail, usable, squares, plain, first, best_y, best_x, top, left, model, level,
    noise, window, running, pitch, masked, pairs, products, spare, norm, table, status, found,
):  # fmt: skip
    """Refine the rows of one strip, the first of which is row `first` of the tile."""
    rows, columns = best_y.shape
    size = len(window) - 1
    done, live = np.zeros((rows, columns), np.bool_), np.empty(rows * pitch, np.int32)
    sums, counted = np.empty((5, rows * pitch), np.float32), np.empty(rows * pitch, np.float32)
    basis, row_sums = np.empty(BASIS, np.float32), np.empty(SUMS, np.float32)
    place = np.zeros(PLACE, np.float32)
    box = np.zeros(4, np.int64)
    ones = np.ones(len(window), np.float32)
    for y in range(rows):
        for x in range(columns):
            done[y, x] = status[y, x] == NOTHING
    for i in range(rows):
        for j in range(columns):
            if done[i, j]:
                continue
            find_group(best_y, best_x, done, i, j, box)
            mark_group(best_y, best_x, done, i, j, box, pitch, live)
            height, width = box[1] - box[0] + 1, box[3] - box[2] + 1
            at = (first + box[0]) * pitch + box[2]
            there = (first + box[0] - best_y[i, j] + top) * pitch + box[2] - best_x[i, j] + left
            if not plain:
                # The pairs that count are those of the integer shift, so that the cost is smooth.
                length = box_length(height + size, width + size, pitch)
                mask_pairs(frames, weight, at, usable, there, length, masked, pairs)
                window_sums(pairs[1], 0, height, width, pitch, window, running, spare, sums[0])
                window_sums(pairs[2], 0, height, width, pitch, ones, running, spare, counted)
                for y in range(height):
                    for x in range(width):
                        if live[y * pitch + x] == 0:
                            continue
                        norm[first + box[0] + y, box[2] + x] = sums[0, y * pitch + x]
                        # Without more equations than unknowns everything fits.
                        if counted[y * pitch + x] < (1.5 if model == SCALE else 2.5):
                            status[box[0] + y, box[2] + x] = NOTHING
            _fill_table(
                table, frames, at, masked, mean, detail, there, squares, plain, box, pitch, window, running,
                products, spare, sums, live,
            )  # fmt: skip
    for y in range(rows):
        for x in range(columns):
            place[5 * COLUMNS + x] = 0.0 if status[y, x] == NOTHING else 1.0
        refine_row(table, basis, row_sums, place, y, columns)
        for x in range(columns):
            if status[y, x] == NOTHING:
                continue
            fx, fy = place[x], place[COLUMNS + x]
            found[0, y, x] = best_x[y, x] + 0.5 * fx
            found[1, y, x] = best_y[y, x] + 0.5 * fy
            if place[4 * COLUMNS + x] == 0.0 or max(abs(fx), abs(fy)) >= FARTHEST:
                status[y, x] |= ROUGH
            found[2, y, x], found[3, y, x], flat = _evaluate(
                row_sums, x, fx, fy, norm[first + y, x], model, level, noise
            )
            if flat and model != SCALE:
                status[y, x] |= FLAT


def match_tile(
    reference: Real,
    sample: Real,
    good: NDArray[np.uint8],
    weights: Real,
    start: NDArray[np.int64],
    search_for: Search,
    tile: tuple[int, int, int, int],
) -> Found:
    """Search a tile y0, y1, x0, x1 of frames (number, y, x).

    `good` and `weights` (number, y, x) of shape (0, 0, 0) stand for everywhere and 1; `start` (2, y, x) of
    shape (2, 0, 0) for 0.
    """
    y0, y1, x0, x1 = tile
    model, window, reach = search_for.model, search_for.window, search_for.reach
    gains, order = search_for.gains, search_for.order
    number, rows, columns, half = len(reference), y1 - y0, x1 - x0, len(window) // 2
    best_y, best_x = np.zeros((rows, columns), np.int64), np.zeros((rows, columns), np.int64)
    if start.shape[1] > 0:
        best_y[:], best_x[:] = start[1, y0:y1, x0:x1], start[0, y0:y1, x0:x1]
    # The reference's tile includes every shift of the search.
    top, left = int(best_y.max()) + reach + MARGIN, int(best_x.max()) + reach + MARGIN
    height, width = rows + 2 * half, columns + 2 * half
    tall = height + top - int(best_y.min()) + reach + MARGIN
    wide = width + left - int(best_x.min()) + reach + MARGIN
    pitch = wide + 2 * half
    frames, weight = np.empty((2, number, height * pitch), np.float32)
    # Of the four phases the first is the frame, the others lie half a pixel to the right, below, and both.
    # Zeros, because sums include the border that half pixels leave out.
    mean, detail = np.zeros((2, 4, number, tall * pitch), np.float32)
    usable = np.empty((number, tall * pitch), np.float32)
    lost = 0
    for n in range(number):
        lost += load_sample(
            sample, weights, n, gains, y0 - half, x0 - half, height, width, pitch, frames, weight
        )
    load_reference(
        reference, good, gains, y0 - half - top, x0 - half - left, tall, pitch, model, window,
        search_for.flat, mean[0], detail[0], usable,
    )  # fmt: skip
    load_halves(mean, detail, search_for.taps, model, pitch)
    plain = lost == 0 and bool(all_usable(usable, tall, wide, pitch, MARGIN))
    # Running sums would leave rounding where all weights of a window are 0.
    running = search_for.flat and plain
    squares = np.zeros((4 if plain else 1, 3, (tall if plain else rows) * pitch), np.float32)
    products, spare = np.empty((6, tall * pitch), np.float32), np.empty(tall * pitch, np.float32)
    pairs = np.empty((3, height * pitch), np.float32)
    masked = np.empty((2, 0 if plain else number, height * pitch), np.float32)
    available = np.empty(rows * pitch, np.float32)
    if plain:
        for phase in range(4):
            reference_sums(
                mean[phase], detail[phase], tall, wide, pitch, window, running, products, spare,
                squares[phase],
            )  # fmt: skip
    whole = (frames * frames if plain else weight).sum(axis=0)
    window_sums(whole, 0, rows, columns, pitch, window, running, spare, available)
    best, index = np.empty(rows * pitch, np.float32), np.empty(rows * pitch, np.int32)
    search(
        frames, weight, mean[0], detail[0], usable, squares[0], plain, best_y, best_x, top, left, order,
        model, window, running, pitch, available, masked, pairs, products, spare, best, index,
    )  # fmt: skip
    value, explained, chosen = (image.reshape(rows, pitch)[:, :columns] for image in (available, best, index))
    total = float(window.sum()) ** 2 * number
    cost = (value - explained) / np.float32(total) if plain else -explained
    with np.errstate(over="ignore"):  # squares of the frames' unit may be beyond float32
        cost = cost / gains[0] / gains[0]
    cost[chosen < 0] = np.nan
    offset = order[chosen]
    best_y += offset[..., 0]
    best_x += offset[..., 1]
    status = np.zeros((rows, columns), np.uint8)
    if reach > 0:
        status[np.abs(offset).max(axis=-1) == reach] = ON_EDGE
    status[chosen < 0] = NOTHING
    norm = np.full((rows, columns), total, np.float32)
    found = np.full((4, rows, columns), np.nan, np.float32)
    table = np.zeros((5, TABLE), np.float32)
    for first in range(0, rows, STRIP):
        strip = slice(first, min(first + STRIP, rows))
        values = np.full((4, strip.stop - first, columns), np.nan, np.float32)
        _refine_strip(
            frames, weight, mean, detail, usable, squares, plain, first, best_y[strip], best_x[strip], top,
            left, model, gains[2], search_for.noise, window, running, pitch, masked, pairs, products, spare,
            norm, table, status[strip], values,
        )  # fmt: skip
        found[:, strip] = values
    found[:, status == NOTHING] = np.nan
    return Found(shift=found[:2], scale=found[2], visibility=found[3], cost=cost, status=status)
