"""Kernels of `xmist.numerics.matching`, for one tile of the image each; float32 rows that vectorise.

A tile is plain where every pixel that its windows can reach is usable and inside the image: the sums of the
reference alone then are those of the unshifted tile. Any other tile carries weights through every sum.
Images of a tile are sliced so that an index from 0 is never negative, which lets the compiler vectorise.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from xmist.numerics.derivatives import jit

# Sums are interpolated between 5 × 5 shifts half a pixel apart by a polynomial through all of them: good to
# 0.01 % at an eighth of the sampling frequency and 0.4 % at a quarter, where speckles have next to nothing.
NODES: Final = 5
SIDE: Final = 1  # pixels that these nodes reach
TAPS: Final = 6  # pixels on either side that half a pixel is interpolated from
MARGIN: Final = SIDE + TAPS

MEANS: Final = 0  # I_S = T (R̄ + V (R − R̄)), R̄ the windowed mean as a map
SCALE: Final = 1  # I_S = T R
OFFSET: Final = 2  # I_S = a + b R, b ≥ 0: the zero-normalised correlation

NOTHING: Final = 1  # fewer pairs of pixels than unknowns
ON_EDGE: Final = 2  # the minimum lies on the edge of the search range
FLAT: Final = 4  # the reference has no contrast in the window
ROUGH: Final = 8  # no minimum near the best integer shift

_ITERATIONS = 8
_STEP = 1.0  # half pixels: longest step of Newton's method
_SMALL = 2e-3  # half pixels: the next step would be of the order of its square
_RANK = 1e-9  # relative determinant below which the second column says nothing
_LEAST = 0.5  # of the weight of a window: a shift that leaves less is not considered


@jit
def window_sums(image, height, width, window, flat, spare, out):  # type: ignore[no-untyped-def]
    """Sum over separable windows whose corners lie in the first rows and columns of `image`."""
    size = len(window)
    for y in range(height + size - 1):
        line, row = spare[y][:width], image[y]
        if flat:
            line[:] = row[:width]
            for j in range(1, size):
                shifted = row[j : j + width]
                for x in range(width):
                    line[x] += shifted[x]
        else:
            line[:] = 0.0
            for j in range(size):
                shifted, factor = row[j : j + width], window[j]
                for x in range(width):
                    line[x] += factor * shifted[x]
    if flat:
        # A running sum down the columns; a tile is so short that rounding has no room to grow.
        total = out[0][:width]
        total[:] = spare[0][:width]
        for j in range(1, size):
            line = spare[j][:width]
            for x in range(width):
                total[x] += line[x]
        for y in range(1, height):
            before, total = out[y - 1][:width], out[y][:width]
            new, old = spare[y + size - 1][:width], spare[y - 1][:width]
            for x in range(width):
                total[x] = before[x] + (new[x] - old[x])
    else:
        for y in range(height):
            total = out[y][:width]
            total[:] = 0.0
            for j in range(size):
                line, factor = spare[y + j][:width], window[j]
                for x in range(width):
                    total[x] += factor * line[x]


@jit
def load_sample(sample, weights, y0, x0, frames, weight):  # type: ignore[no-untyped-def]
    """Fill weighted frames and weights from row y0, column x0 on; say whether all weights are 1."""
    number, rows, columns = frames.shape
    height, width = sample.shape[1], sample.shape[2]
    plain = y0 >= 0 and x0 >= 0 and y0 + rows <= height and x0 + columns <= width
    weighted = weights.shape[0] > 0
    for n in range(number):
        for i in range(rows):
            y = y0 + i
            for j in range(columns):
                x = x0 + j
                value = w = np.float32(0.0)
                if 0 <= y < height and 0 <= x < width:
                    value = sample[n, y, x]
                    w = weights[n, y, x] if weighted else np.float32(1.0)
                    if value - value != 0.0 or w == 0.0:  # NaN for a NaN or an infinity
                        value = w = np.float32(0.0)
                if w != 1.0:
                    plain = False
                frames[n, i, j] = w * value
                weight[n, i, j] = w
    return plain


@jit
def _beyond(frame, y, x):  # type: ignore[no-untyped-def]
    """Continue a frame beyond its border by the odd mirror about its last pixel, which keeps the slope."""
    height, width = frame.shape
    v, u = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    far_v, far_u = min(max(2 * v - y, 0), height - 1), min(max(2 * u - x, 0), width - 1)
    if v == y:
        return np.float32(2.0) * frame[y, u] - frame[y, far_u]
    if u == x:
        return np.float32(2.0) * frame[v, x] - frame[far_v, x]
    near = np.float32(2.0) * frame[v, u] - frame[v, far_u]
    return np.float32(2.0) * near - (np.float32(2.0) * frame[far_v, u] - frame[far_v, far_u])


@jit
def load_reference(reference, good, y0, x0, model, level, window, flat, mean, detail, usable):  # type: ignore[no-untyped-def]
    """Fill P and Q of the model I_S = p P + q Q, and which pixels count; say whether all do.

    Beyond the border frames go on as `_beyond` tells, which no sum counts; half pixels alone see it.
    """
    number, rows, columns = detail.shape
    height, width = reference.shape[1], reference.shape[2]
    half = len(window) // 2
    masked = good.shape[0] > 0
    plain = y0 >= 0 and x0 >= 0 and y0 + rows <= height and x0 + columns <= width
    reach = half if model == MEANS else 0
    outer = np.empty((2, rows + 2 * reach, columns + 2 * reach), np.float32)
    sums = np.empty((2, rows, columns), np.float32)
    spare = np.empty((rows + 2 * reach, columns), np.float32)
    for n in range(number):
        frame = reference[n]
        for i in range(rows + 2 * reach):
            y = y0 + i - reach
            for j in range(columns + 2 * reach):
                x = x0 + j - reach
                if 0 <= y < height and 0 <= x < width:
                    outer[0, i, j] = frame[y, x]
                    outer[1, i, j] = 0.0 if masked and good[n, y, x] == 0 else 1.0
                else:
                    outer[0, i, j] = _beyond(frame, y, x)
                    outer[1, i, j] = 0.0
        for i in range(rows):
            for j in range(columns):
                usable[n, i, j] = outer[1, i + reach, j + reach]
                if usable[n, i, j] == 0.0:
                    plain = False
        if model == MEANS:
            for i in range(rows + 2 * reach):
                for j in range(columns + 2 * reach):
                    detail_value = outer[0, i, j]
                    outer[0, i, j] = detail_value * outer[1, i, j]
                    if reach <= i < rows + reach and reach <= j < columns + reach:
                        detail[n, i - reach, j - reach] = detail_value
            window_sums(outer[0], rows, columns, window, flat, spare, sums[0])
            window_sums(outer[1], rows, columns, window, flat, spare, sums[1])
            for i in range(rows):
                for j in range(columns):
                    value = detail[n, i, j]
                    if sums[1, i, j] > 0.0:
                        value = sums[0, i, j] / sums[1, i, j]
                    mean[n, i, j] = value
                    detail[n, i, j] -= value
        elif model == SCALE:
            mean[n] = outer[0]
            detail[n] = 0.0
        else:
            mean[n] = 1.0
            for i in range(rows):
                for j in range(columns):
                    detail[n, i, j] = outer[0, i, j] - level
    return plain


@jit
def _add_products(left, right, total):  # type: ignore[no-untyped-def]
    for x in range(len(total)):
        total[x] += left[x] * right[x]


@jit
def _add_weighted(weight, left, right, total):  # type: ignore[no-untyped-def]
    for x in range(len(total)):
        total[x] += weight[x] * left[x] * right[x]


@jit
def half_pixel(image, taps, along_x, out):  # type: ignore[no-untyped-def]
    """Fill image(x − ½), or image(y − ½), away from the border of the tile."""
    rows, columns = image.shape
    size = len(taps)
    if along_x:
        for y in range(rows):
            line = out[y][size : columns - size]
            line[:] = 0.0
            for j in range(size):
                factor = taps[j]
                left, right = image[y][size - 1 - j : columns - 1 - j], image[y][size + j : columns]
                for x in range(columns - 2 * size):
                    line[x] += factor * (left[x] + right[x])
    else:
        for y in range(size, rows - size):
            line = out[y]
            line[:] = 0.0
            for j in range(size):
                factor = taps[j]
                above, below = image[y - 1 - j], image[y + j]
                for x in range(columns):
                    line[x] += factor * (above[x] + below[x])


@jit
def load_halves(mean, detail, taps, model):  # type: ignore[no-untyped-def]
    """Fill P and Q half a pixel to the right, below, and both, from phase 0."""
    for n in range(mean.shape[1]):
        for phase in range(1, 4):
            source, along_x = (0, True) if phase == 1 else ((0, False) if phase == 2 else (2, True))
            if model == OFFSET:
                mean[phase, n] = 1.0
            else:
                half_pixel(mean[source, n], taps, along_x, mean[phase, n])
            if model == SCALE:
                detail[phase, n] = 0.0
            else:
                half_pixel(detail[source, n], taps, along_x, detail[phase, n])


@jit
def reference_sums(mean, detail, window, flat, sums):  # type: ignore[no-untyped-def]
    """Fill Σ w P², Σ w P Q and Σ w Q² of one phase where every pixel counts."""
    number, rows, columns = mean.shape
    size = len(window) - 1
    products, spare = np.empty((rows, columns), np.float32), np.empty((rows, columns), np.float32)
    for i in range(3):
        left, right = (mean, mean) if i == 0 else ((mean, detail) if i == 1 else (detail, detail))
        products[:] = 0.0
        for y in range(rows):
            for n in range(number):
                _add_products(left[n, y], right[n, y], products[y])
        window_sums(products, rows - size, columns - size, window, flat, spare, sums[i])


@jit
def cross_sums(frames, mean, detail, y, x, v, u, height, width, window, flat, products, spare, out):  # type: ignore[no-untyped-def]
    """Fill Σ w S P and Σ w S Q; the windows' corners lie at (y, x) in S and at (v, u) in P and Q."""
    rows, columns = height + len(window) - 1, width + len(window) - 1
    for i in range(rows):
        first, second = products[0, i][:columns], products[1, i][:columns]
        first[:] = 0.0
        second[:] = 0.0
        for n in range(len(frames)):
            s = frames[n, y + i][x : x + columns]
            p, q = mean[n, v + i][u : u + columns], detail[n, v + i][u : u + columns]
            for j in range(columns):
                first[j] += s[j] * p[j]
                second[j] += s[j] * q[j]
    for k in range(2):
        window_sums(products[k], height, width, window, flat, spare, out[k])


@jit
def mask_pairs(frames, weight, usable, y, x, v, u, rows, columns, masked, energy, pairs):  # type: ignore[no-untyped-def]
    """Give S and its weights where the reference counts too; sum S·S, the weights and the pairs."""
    number = len(frames)
    energy[:rows, :columns] = 0.0
    pairs[:, :rows, :columns] = 0.0
    for n in range(number):
        for i in range(rows):
            s, w = frames[n, y + i][x : x + columns], weight[n, y + i][x : x + columns]
            m = usable[n, v + i][u : u + columns]
            for j in range(columns):
                masked[0, n, i, j] = s[j] * m[j]
                masked[1, n, i, j] = w[j] * m[j]
                if w[j] * m[j] > 0.0:
                    energy[i, j] += s[j] * s[j] / w[j]
                    pairs[0, i, j] += w[j]
                    pairs[1, i, j] += 1.0


@jit
def weighted_sums(masked, mean, detail, v, u, height, width, window, flat, products, spare, out):  # type: ignore[no-untyped-def]
    """Fill Σ w S P, Σ w S Q, Σ w P², Σ w P Q and Σ w Q² with the weights of pairs."""
    number, rows, columns = masked.shape[1], height + len(window) - 1, width + len(window) - 1
    for i in range(rows):
        for k in range(5):
            products[k, i][:columns] = 0.0
        for n in range(number):
            s, w = masked[0, n, i][:columns], masked[1, n, i][:columns]
            p, q = mean[n, v + i][u : u + columns], detail[n, v + i][u : u + columns]
            _add_products(s, p, products[0, i][:columns])
            _add_products(s, q, products[1, i][:columns])
            _add_weighted(w, p, p, products[2, i][:columns])
            _add_weighted(w, p, q, products[3, i][:columns])
            _add_weighted(w, q, q, products[4, i][:columns])
    for k in range(5):
        window_sums(products[k], height, width, window, flat, spare, out[k])


@jit
def explained_row(model, b1, b2, a11, a12, a22, out):  # type: ignore[no-untyped-def]
    """Fill bᵀA⁻¹b, what the model explains of Σ w S²; of one column where the second says nothing."""
    for x in range(len(out)):
        p, q, pp, pq, qq = b1[x], b2[x], a11[x], a12[x], a22[x]
        first = p * p / pp if pp > 0.0 else np.float32(0.0)
        # Of what is left of the second column by the first: no cancellation of large terms.
        ratio = pq / pp if pp > 0.0 else np.float32(0.0)
        rest, cross = qq - ratio * pq, q - ratio * p
        second = cross * cross / rest if rest > _RANK * pp and rest > 1e-5 * qq else np.float32(0.0)
        if model == OFFSET and cross < 0.0:
            second = np.float32(0.0)
        out[x] = first + second
