"""The best integer shift of every pixel of one tile of `xmist.numerics.matching.match`."""

from __future__ import annotations

from typing import Final

import numpy as np

from xmist.numerics.compiled import jit
from xmist.numerics.matching.constants import OFFSET
from xmist.numerics.matching.sums import (
    box_length,
    cross_sums,
    explained,
    inverses,
    mask_pairs,
    weighted_sums,
    window_sums,
)

_BLOCK: Final = 64  # pixels, at least a tile's side
_SPARSE: Final = 4  # a block is halved where fewer than one in so many of its pixels share a shift
_LEAST: Final = np.float32(0.5)  # of the weight of a window: a shift that leaves less is not considered
_ZERO: Final = np.float32(0.0)
_NEVER: Final = np.float32(-np.inf)


@jit
def find_group(ys, xs, done, i, j, box):  # type: ignore[no-untyped-def]
    """Bound the pixels that share the shift of pixel (i, j), in a block small enough that they are many."""
    rows, columns = done.shape
    block = _BLOCK
    while True:
        y0, x0 = i // block * block, j // block * block
        box[0], box[1], box[2], box[3] = i, i, j, j
        count = 0
        for y in range(y0, min(rows, y0 + block)):
            for x in range(x0, min(columns, x0 + block)):
                if not done[y, x] and ys[y, x] == ys[i, j] and xs[y, x] == xs[i, j]:
                    count += 1
                    box[0], box[1] = min(box[0], y), max(box[1], y)
                    box[2], box[3] = min(box[2], x), max(box[3], x)
        if block <= 4 or _SPARSE * count >= (box[1] - box[0] + 1) * (box[3] - box[2] + 1):
            return
        block //= 2


@jit
def mark_group(ys, xs, done, i, j, box, pitch, live):  # type: ignore[no-untyped-def]
    """Mark the pixels of the box that belong to the group as done."""
    shift_y, shift_x = ys[i, j], xs[i, j]
    for x in range(len(live)):
        live[x] = 0
    for y in range(box[0], box[1] + 1):
        for x in range(box[2], box[3] + 1):
            if not done[y, x] and ys[y, x] == shift_y and xs[y, x] == shift_x:
                live[(y - box[0]) * pitch + x - box[2]] = 1
                done[y, x] = True


@jit
def _mean_cost(gain, pairs, available, at, count):  # type: ignore[no-untyped-def]
    """Turn what is explained into minus the mean square of the rest, where enough pairs count."""
    a = np.uint64(at)
    for x in range(np.uint64(count)):
        w = pairs[1, x]
        enough = w > _ZERO and w >= _LEAST * available[a + x]
        gain[x] = (gain[x] - pairs[0, x]) / w if enough else _NEVER


@jit
def _keep_best(value, live, number, at, count, best, index):  # type: ignore[no-untyped-def]
    a = np.uint64(at)
    for x in range(np.uint64(count)):
        better = live[x] > 0 and value[x] > best[a + x]
        best[a + x] = value[x] if better else best[a + x]
        index[a + x] = number if better else index[a + x]


@jit
def search(  # type: ignore[no-untyped-def]
    frames, weight, mean, detail, usable, squares, plain, start_y, start_x, top, left, order, model, window,
    running, pitch, available, masked, pairs, products, spare, best, index,
):  # fmt: skip
    """Fill the best value, and which of the offsets `order` from the start gave it, −1 for none.

    Where all pixels count, `squares` holds the reference's three sums and the value is what is explained of
    Σ w S²; else minus the mean square of the residual.
    """
    rows, columns = start_y.shape
    size = len(window) - 1
    least = _ZERO if model == OFFSET else _NEVER
    done, live = np.zeros((rows, columns), np.bool_), np.empty(rows * pitch, np.int32)
    box = np.zeros(4, np.int64)
    sums, total = np.empty((5, rows * pitch), np.float32), np.empty((2, rows * pitch), np.float32)
    value = np.empty(rows * pitch, np.float32)
    known = np.empty((3, squares.shape[1]), np.float32)
    if plain:
        inverses(squares, 0, squares.shape[1], known)
    for x in range(rows * pitch):
        best[x], index[x] = _NEVER, -1
    for i in range(rows):
        for j in range(columns):
            if done[i, j]:
                continue
            find_group(start_y, start_x, done, i, j, box)
            mark_group(start_y, start_x, done, i, j, box, pitch, live)
            height, width = box[1] - box[0] + 1, box[3] - box[2] + 1
            count = box_length(height, width, pitch)
            at = box[0] * pitch + box[2]
            for k in range(len(order)):
                v = box[0] - start_y[i, j] - order[k, 0] + top
                there = v * pitch + box[2] - start_x[i, j] - order[k, 1] + left
                if plain:
                    cross_sums(
                        frames, at, mean, detail, there, height, width, pitch, window, running, products,
                        spare, sums,
                    )  # fmt: skip
                    explained(sums, known, there, least, count, value)
                else:
                    length = box_length(height + size, width + size, pitch)
                    mask_pairs(frames, weight, at, usable, there, length, masked, pairs)
                    weighted_sums(
                        masked, mean, detail, there, height, width, pitch, window, running, products, spare,
                        sums,
                    )  # fmt: skip
                    for m in range(2):
                        window_sums(pairs[m], 0, height, width, pitch, window, running, spare, total[m])
                    inverses(sums, 2, count, known)
                    explained(sums, known, 0, least, count, value)
                    _mean_cost(value, total, available, at, count)
                _keep_best(value, live, np.int32(k), at, count, best, index)
