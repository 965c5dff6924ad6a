"""Loading of one tile for `match`: frames, the model's columns, and both half a pixel off.

Images of a tile are kept as `xmist.numerics.matching.sums` describes.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from xmist.numerics.compiled import jit
from xmist.numerics.matching.constants import MEANS, OFFSET, SCALE, TAPS
from xmist.numerics.matching.sums import window_sums

_ZERO: Final = np.float32(0.0)
_ONE: Final = np.float32(1.0)
_TWO: Final = np.float32(2.0)


@jit
def load_sample(sample, weights, n, gains, y0, x0, rows, columns, pitch, frames, weight):  # type: ignore[no-untyped-def]
    """Fill frame n and its weights from row y0, column x0 on; count what is no weight of 1."""
    height, width = sample.shape[1], sample.shape[2]
    weighted = weights.shape[0] > 0
    first, last = max(0, -x0), min(columns, width - x0)
    lost = 0 if first == 0 and last == columns else 1
    for x in range(np.uint64(rows * pitch)):
        frames[n, x] = _ZERO
        weight[n, x] = _ZERO
    for i in range(rows):
        y, at = y0 + i, i * pitch
        if y < 0 or y >= height:
            lost += 1
            continue
        for j in range(first, last):
            value, w = gains[0] * sample[n, y, x0 + j], _ONE
            if weighted:
                w = gains[1] * weights[n, y, x0 + j]
            good = value - value == _ZERO and w > _ZERO  # NaN for a NaN or an infinity
            lost += 0 if good and w == _ONE else 1
            frames[n, at + j] = value if good else _ZERO
            weight[n, at + j] = w if good else _ZERO
    return lost


@jit
def _beyond(frame, y, x):  # type: ignore[no-untyped-def]
    """Continue a frame beyond its border by the odd mirror about its last pixel, which keeps the slope."""
    height, width = frame.shape
    v, u = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    far_v, far_u = min(max(2 * v - y, 0), height - 1), min(max(2 * u - x, 0), width - 1)
    if v == y:
        return _TWO * frame[y, u] - frame[y, far_u]
    if u == x:
        return _TWO * frame[v, x] - frame[far_v, x]
    near = _TWO * frame[v, u] - frame[v, far_u]
    return _TWO * near - (_TWO * frame[far_v, u] - frame[far_v, far_u])


@jit
def _load_frame(frame, good, n, gain, y0, x0, pitch, values, usable):  # type: ignore[no-untyped-def]
    """Fill a frame and where it counts; give the number of pixels that do not."""
    height, width = frame.shape
    lost = 0
    first, last = max(0, -x0), min(pitch, width - x0)
    for i in range(len(values) // pitch):
        y, at = y0 + i, i * pitch
        for j in range(pitch):
            if y < 0 or y >= height or j < first or j >= last:
                values[at + j] = gain * _beyond(frame, y, x0 + j)
                usable[at + j] = _ZERO
                lost += 1
        if y < 0 or y >= height:
            continue
        for j in range(first, last):
            values[at + j] = gain * frame[y, x0 + j]
            usable[at + j] = _ONE
        if good.shape[0] > 0:
            for j in range(first, last):
                if good[n, y, x0 + j] == 0:
                    usable[at + j] = _ZERO
                    lost += 1
    return lost


@jit
def load_reference(  # type: ignore[no-untyped-def]
    reference, good, gains, y0, x0, rows, pitch, model, window, running, mean, detail, usable
):
    """Fill P and Q of the model I_S = p P + q Q, and which pixels count.

    Beyond the border frames continue as by `_beyond`. No sum counts these pixels; only half-pixel images use
    them.
    """
    reach = len(window) // 2 if model == MEANS else 0
    tall, inner = rows + 2 * reach, np.uint64(reach * pitch + reach)
    count = np.uint64(rows * pitch - 2 * reach)
    values, counted = np.empty(tall * pitch, np.float32), np.empty(tall * pitch, np.float32)
    spare, norm = np.empty(tall * pitch, np.float32), np.empty(tall * pitch, np.float32)
    for n in range(len(reference)):
        lost = _load_frame(reference[n], good, n, gains[0], y0 - reach, x0 - reach, pitch, values, counted)
        for x in range(count):
            usable[n, x] = counted[inner + x]
        for x in range(count):
            detail[n, x] = values[inner + x]
        if model == SCALE:
            for x in range(count):
                mean[n, x] = values[x]
                detail[n, x] = _ZERO
        elif model == OFFSET:
            for x in range(count):
                mean[n, x] = _ONE
                detail[n, x] -= gains[2]
        else:
            for x in range(np.uint64(tall * pitch)):
                values[x] *= counted[x]
            run = running and lost == 0
            width = pitch - 2 * reach
            window_sums(counted, 0, rows, width, pitch, window, run, spare, norm)
            window_sums(values, 0, rows, width, pitch, window, run, spare, mean[n])
            for x in range(count):
                mean[n, x] = mean[n, x] / norm[x] if norm[x] > _ZERO else detail[n, x]
            for x in range(count):
                detail[n, x] -= mean[n, x]


@jit
def all_usable(usable, rows, columns, pitch, border):  # type: ignore[no-untyped-def]
    """Return whether every pixel counts that is at least `border` away from the tile's edge."""
    lost = 0
    for n in range(len(usable)):
        for i in range(border, rows - border):
            at = np.uint64(i * pitch + border)
            for x in range(np.uint64(columns - 2 * border)):
                lost += 0 if usable[n, at + x] > _ZERO else 1
    return lost == 0


@jit
def _half_pixel(image, taps, step, out):  # type: ignore[no-untyped-def]
    """Fill the image half a pixel before, away from the border; `step` leads to the next pixel."""
    size = len(image)
    count = np.uint64(size - 2 * TAPS * step) if size > 2 * TAPS * step else np.uint64(0)
    middle = TAPS * step
    at = np.uint64(middle)
    for j in range(0, TAPS, 3):
        a0, b0 = np.uint64(middle - (1 + j) * step), np.uint64(middle + j * step)
        a1, b1 = np.uint64(middle - (2 + j) * step), np.uint64(middle + (j + 1) * step)
        a2, b2 = np.uint64(middle - (3 + j) * step), np.uint64(middle + (j + 2) * step)
        c0, c1, c2 = taps[j], taps[j + 1], taps[j + 2]
        keep = _ZERO if j == 0 else _ONE
        for x in range(count):
            out[at + x] = (
                keep * out[at + x]
                + c0 * (image[a0 + x] + image[b0 + x])
                + c1 * (image[a1 + x] + image[b1 + x])
                + c2 * (image[a2 + x] + image[b2 + x])
            )


@jit
def load_halves(mean, detail, taps, model, pitch):  # type: ignore[no-untyped-def]
    """Fill P and Q half a pixel to the right, below, and both, from phase 0."""
    for n in range(mean.shape[1]):
        for phase in range(1, 4):
            source, step = (2, 1) if phase == 3 else (0, 1 if phase == 1 else pitch)
            if model == OFFSET:
                for x in range(mean.shape[2]):
                    mean[phase, n, x] = _ONE
            else:
                _half_pixel(mean[source, n], taps, step, mean[phase, n])
            if model == SCALE:
                for x in range(mean.shape[2]):
                    detail[phase, n, x] = _ZERO
            else:
                _half_pixel(detail[source, n], taps, step, detail[phase, n])
