"""Windowed sums for `xmist.numerics.matching.match`, in single precision.

All images of a tile have rows of the same length, the pitch, and are stored as one line each. A box of pixels
is a stretch of that line, so that one long loop serves all of its rows; the sums at the ends of rows are not
used. Indices are unsigned and no loop writes to more than two lines, so that the compiler vectorises.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from xmist.numerics.compiled import jit

_RANK: Final = np.float32(1e-9)  # relative determinant below which the second column has no information
_SMALLEST: Final = np.float32(1e-5)  # of Σ w Q²: what the first column must leave of it
_DIRECT: Final = 7  # a window up to this size costs no more than a running sum
_ZERO: Final = np.float32(0.0)
_ONE: Final = np.float32(1.0)


@jit
def box_length(height, width, pitch):  # type: ignore[no-untyped-def]
    """Return the length of the stretch from the first pixel of a box to its last."""
    return (height - 1) * pitch + width


@jit
def product(left, l0, right, r0, total, count, first):  # type: ignore[no-untyped-def]
    """Fill, or add to, a line with left · right from the places l0 and r0 on."""
    a, b = np.uint64(l0), np.uint64(r0)
    if first:
        for x in range(np.uint64(count)):
            total[x] = left[a + x] * right[b + x]
    else:
        for x in range(np.uint64(count)):
            total[x] += left[a + x] * right[b + x]


@jit
def _product_pair(s, s0, p, q, p0, n, out, k, count):  # type: ignore[no-untyped-def]
    """Fill, or from the second frame on add to, lines k and k + 1 with s · p and s · q."""
    a, b = np.uint64(s0), np.uint64(p0)
    if n == 0:
        for x in range(np.uint64(count)):
            out[k, x] = s[n, a + x] * p[n, b + x]
            out[k + 1, x] = s[n, a + x] * q[n, b + x]
    else:
        for x in range(np.uint64(count)):
            out[k, x] += s[n, a + x] * p[n, b + x]
            out[k + 1, x] += s[n, a + x] * q[n, b + x]


@jit
def _mirrored(line, at, step, size, window, out, count):  # type: ignore[no-untyped-def]
    """Sum over a symmetric window along one axis, in which `step` leads to the next pixel."""
    half = size // 2
    middle, last = np.uint64(at + half * step), np.uint64(at + 2 * half * step)
    start, centre, outer = np.uint64(at), window[half], window[0]
    if half == 0:
        for x in range(np.uint64(count)):
            out[x] = centre * line[start + x]
        return
    for x in range(np.uint64(count)):
        out[x] = centre * line[middle + x] + outer * (line[start + x] + line[last + x])
    for j in range(1, half):
        a, b, factor = np.uint64(at + j * step), np.uint64(at + (2 * half - j) * step), window[j]
        for x in range(np.uint64(count)):
            out[x] += factor * (line[a + x] + line[b + x])


@jit
def window_sums(image, at, height, width, pitch, window, running, spare, out):  # type: ignore[no-untyped-def]
    """Sum over separable windows whose corners fill the box that begins at the place `at`.

    `running`: all weights are 1, and a running sum down the columns may do. A tile is so short that rounding
    has no room to grow.
    """
    size = len(window)
    count = box_length(height, width, pitch)
    _mirrored(image, at, 1, size, window, spare, count + (size - 1) * pitch)
    if not running or size <= _DIRECT:
        _mirrored(spare, 0, pitch, size, window, out, count)
        return
    _mirrored(spare, 0, pitch, size, window, out, width)
    for y in range(1, height):
        here, above = np.uint64(y * pitch), np.uint64((y - 1) * pitch)
        new = np.uint64((y + size - 1) * pitch)
        for x in range(np.uint64(width)):
            out[here + x] = out[above + x] + (spare[new + x] - spare[above + x])


@jit
def reference_sums(mean, detail, height, width, pitch, window, running, products, spare, sums):  # type: ignore[no-untyped-def]
    """Fill Σ w P², Σ w P Q and Σ w Q² of one phase where every pixel counts."""
    size = len(window) - 1
    for i in range(3):
        for n in range(len(mean)):
            left, right = mean[n] if i < 2 else detail[n], mean[n] if i == 0 else detail[n]
            product(left, 0, right, 0, products[0], height * pitch, n == 0)
        window_sums(products[0], 0, height - size, width - size, pitch, window, running, spare, sums[i])


@jit
def cross_sums(frames, s0, mean, detail, p0, height, width, pitch, window, running, products, spare, out):  # type: ignore[no-untyped-def]
    """Fill Σ w S P and Σ w S Q; the first window's corner lies at place s0 in S and at p0 in P and Q."""
    size = len(window) - 1
    count = box_length(height + size, width + size, pitch)
    for n in range(len(frames)):
        _product_pair(frames, s0, mean, detail, p0, n, products, 0, count)
    for k in range(2):
        window_sums(products[k], 0, height, width, pitch, window, running, spare, out[k])


@jit
def mask_pairs(frames, weight, s0, usable, p0, count, masked, pairs):  # type: ignore[no-untyped-def]
    """Return S and 1 times the weights of pairs; sum S² with them, the weights, and the number of pairs."""
    a, b = np.uint64(s0), np.uint64(p0)
    for k in range(3):
        for x in range(np.uint64(count)):
            pairs[k, x] = _ZERO
    for n in range(len(frames)):
        for x in range(np.uint64(count)):
            masked[1, n, x] = weight[n, a + x] * usable[n, b + x]
        for x in range(np.uint64(count)):
            masked[0, n, x] = masked[1, n, x] * frames[n, a + x]
        for x in range(np.uint64(count)):
            pairs[0, x] += masked[0, n, x] * frames[n, a + x]
        for x in range(np.uint64(count)):
            pairs[1, x] += masked[1, n, x]
        for x in range(np.uint64(count)):
            pairs[2, x] += _ONE if masked[1, n, x] > _ZERO else _ZERO


@jit
def weighted_sums(masked, mean, detail, p0, height, width, pitch, window, running, products, spare, out):  # type: ignore[no-untyped-def]
    """Fill Σ w S P, Σ w S Q, Σ w P², Σ w P Q and Σ w Q² with the weights of pairs."""
    size, b = len(window) - 1, np.uint64(p0)
    count = box_length(height + size, width + size, pitch)
    for n in range(len(mean)):
        _product_pair(masked[0], 0, mean, detail, p0, n, products, 0, count)
        for x in range(np.uint64(count)):
            products[5, x] = masked[1, n, x] * detail[n, b + x]
        product(products[5], 0, detail[n], p0, products[4], count, n == 0)
        product(products[5], 0, mean[n], p0, products[3], count, n == 0)
        for x in range(np.uint64(count)):
            products[5, x] = masked[1, n, x] * mean[n, b + x]
        product(products[5], 0, mean[n], p0, products[2], count, n == 0)
    for k in range(5):
        window_sums(products[k], 0, height, width, pitch, window, running, spare, out[k])


@jit
def inverses(sums, pp, count, out):  # type: ignore[no-untyped-def]
    """Fill 1/Σ w P², Σ w P Q/Σ w P² and one over what that leaves of Σ w Q²; 0 where they say nothing.

    The three sums are the lines from `pp` on.
    """
    pq, qq = pp + 1, pp + 2
    for x in range(np.uint64(count)):
        out[0, x] = _ONE / sums[pp, x] if sums[pp, x] > _ZERO else _ZERO
    for x in range(np.uint64(count)):
        out[1, x] = sums[pq, x] * out[0, x]
    for x in range(np.uint64(count)):
        # Of what is left of the second column by the first: no cancellation of large terms.
        rest = sums[qq, x] - out[1, x] * sums[pq, x]
        enough = rest > _RANK * sums[pp, x] and rest > _SMALLEST * sums[qq, x]
        out[2, x] = _ONE / rest if enough else _ZERO


@jit
def explained(sums, known, at, least, count, out):  # type: ignore[no-untyped-def]
    """Fill bᵀA⁻¹b, the part of Σ w S² that the model explains; a second term below `least` is left out."""
    a = np.uint64(at)
    for x in range(np.uint64(count)):
        second = sums[1, x] - known[1, a + x] * sums[0, x]
        second = second if second > least else _ZERO
        out[x] = sums[0, x] * sums[0, x] * known[0, a + x] + second * second * known[2, a + x]
