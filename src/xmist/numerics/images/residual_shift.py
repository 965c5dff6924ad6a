"""Shifts of speckles that a known shift leaves, in patches all over frames, of each position.

The reference M of a position, moved by the known shift, and its gradient G fit the sample frame by

    S_n = T (M_n − g δ_n·G_n)

in every pixel, with a shift δ_n of the position in a patch, the contrast g that the speckles have in the
sample frames, and a T of the pixel that all positions share: what the sample changes in intensity, even if it
is finer than the speckles, is no shift. M_n and S_n are divided by their means over the patch. With one
position T is a quadratic in the patch, and the mean is free. The 2 N unknowns of a patch are solved by least
squares, once with one shift for all positions, and once with its own for each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.numerics.compiled import jit
from xmist.numerics.parallel import for_blocks

Real = NDArray[Any]
Mask = NDArray[np.bool_]

_SIDE: Final = 16  # pixels of a patch
_ACROSS: Final = 12  # patches, at most
_PATCHES: Final = 800  # of all positions, about
_POSITIONS: Final = 12  # that are used, at most
_TASK: Final = 6  # patches for a thread
_FEWEST: Final = 64  # pixels of a patch
_GAIN: Final = 0.1  # least contrast of the speckles
_CONDITION: Final = 1e6
_FLAT: Final = 1e-3  # least ratio of slopes along x and y: stripes do not show a shift along them
_TERMS: Final = 7  # that are taken off from the equations of one position


@jit
def _taps(t, value, slope):  # type: ignore[no-untyped-def]
    """Fill the weights of four pixels for the value and the slope at a part t of a pixel (Catmull-Rom)."""
    value[0] = -0.5 * t + t * t - 0.5 * t * t * t
    value[1] = 1.0 - 2.5 * t * t + 1.5 * t * t * t
    value[2] = 0.5 * t + 2.0 * t * t - 1.5 * t * t * t
    value[3] = -0.5 * t * t + 0.5 * t * t * t
    slope[0] = -0.5 + 2.0 * t - 1.5 * t * t
    slope[1] = -5.0 * t + 4.5 * t * t
    slope[2] = 0.5 + 4.0 * t - 4.5 * t * t
    slope[3] = -t + 1.5 * t * t


# Loops, not operations on arrays or slices: they compile in a third of the time.
@jit
def _dot(a, b):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(len(a)):
        total += a[i] * b[i]
    return total


@jit
def _multiply(row, factor):  # type: ignore[no-untyped-def]
    for i in range(len(row)):
        row[i] *= factor


@jit
def _load(  # type: ignore[no-untyped-def]
    frames, samples, weights, chosen, angle, scale, flagged, top, left, side, images, known, shift, counts
):
    """Fill M, G_x, G_y and S (position, 4, pixel) of a patch, and the known shift (2, pixel).

    Also fill where a position is known (position, pixel), and at how many pixels (position,).
    """
    height, width = flagged.shape
    weighted = weights.size > 0
    value_x, slope_x, value_y, slope_y = np.empty(4), np.empty(4), np.empty(4), np.empty(4)
    for n in range(len(chosen)):
        counts[n] = 0
        for i in range(side * side):
            known[n, i] = False
    for i in range(side * side):
        y, x = top + i // side, left + i % side
        u_x, u_y = scale * np.float64(angle[0, y, x]), scale * np.float64(angle[1, y, x])
        if flagged[y, x] or not (np.isfinite(u_x) and np.isfinite(u_y)):
            continue
        from_x, from_y = x - u_x, y - u_y
        if not (from_x >= 1.0 and from_y >= 1.0 and from_x < width - 2.0 and from_y < height - 2.0):
            continue
        shift[0, i], shift[1, i] = u_x, u_y
        first_x, first_y = int(np.floor(from_x)), int(np.floor(from_y))
        _taps(from_x - first_x, value_x, slope_x)
        _taps(from_y - first_y, value_y, slope_y)
        for n in range(len(chosen)):
            at = chosen[n]
            s = np.float64(samples[at, y, x])
            usable = np.isfinite(s)
            if weighted:
                usable = usable and weights[at, y, x] > 0
                for j in range(first_y - 1, first_y + 3):
                    for k in range(first_x - 1, first_x + 3):
                        usable = usable and weights[at, j, k] > 0
            if not usable:
                continue
            m, g_x, g_y = 0.0, 0.0, 0.0
            for j in range(4):
                line = frames[at, first_y - 1 + j]
                row, row_slope = 0.0, 0.0
                for k in range(4):
                    r = np.float64(line[first_x - 1 + k])
                    row += value_x[k] * r
                    row_slope += slope_x[k] * r
                m += value_y[j] * row
                g_x += value_y[j] * row_slope
                g_y += slope_y[j] * row
            images[n, 0, i], images[n, 1, i], images[n, 2, i], images[n, 3, i] = m, g_x, g_y, s
            known[n, i] = True
            counts[n] += 1


@jit
def _take_off(images, used, gain):  # type: ignore[no-untyped-def]
    """Subtract from G and S of images (6, pixel) what M times a quadratic explains, and the mean."""
    size = len(used)
    side = int(np.sqrt(size))
    terms = np.zeros((_TERMS, size))
    for i in range(size):
        if used[i]:
            y, x = 2.0 * (i // side) / side - 1.0, 2.0 * (i % side) / side - 1.0
            m = 1.0 + gain * (images[0, i] - 1.0)
            terms[0, i], terms[1, i], terms[2, i], terms[3, i] = 1.0, m, m * x, m * y
            terms[4, i], terms[5, i], terms[6, i] = m * x * x, m * x * y, m * y * y
    for k in range(_TERMS):
        norm = 0.0
        for i in range(size):
            norm += terms[k, i] ** 2
        if norm < 1e-6:
            continue
        for j in range(k + 1, _TERMS + 3):
            total = 0.0
            for i in range(size):
                total += terms[k, i] * (terms[j, i] if j < _TERMS else images[1 + j - _TERMS, i])
            total /= norm
            for i in range(size):
                if j < _TERMS:
                    terms[j, i] -= total * terms[k, i]
                else:
                    images[1 + j - _TERMS, i] -= total * terms[k, i]


@jit
def _divide_by_means(images, known, counts, own, sums):  # type: ignore[no-untyped-def]
    """Divide M, G and S by their means over the pixels that all positions know; fill 0 elsewhere.

    Fill which positions are used, and 1 to 3 and 6 of the `sums` of `_add`. Return these pixels, and the
    number of positions, 0 without light.
    """
    number, size = known.shape
    used, most, pixels, everywhere = 0, 0, 0, np.zeros(size, np.bool_)
    for n in range(number):
        most = max(most, counts[n])
    for n in range(number):
        own[n] = 2 * counts[n] > most
        used += own[n]
    for i in range(size):
        seen_by = 0
        for n in range(number):
            seen_by += own[n] and known[n, i]
        everywhere[i] = seen_by == used
        pixels += everywhere[i]
    both, square = 0.0, 0.0
    for n in range(number):
        for i in range(size):
            if not (own[n] and everywhere[i]):
                for k in range(4):
                    images[n, k, i] = 0.0
        if not own[n]:
            continue
        light, seen = 0.0, 0.0
        for i in range(size):
            light += images[n, 0, i]
            seen += images[n, 3, i]
        if not (light > 0.0 and seen > 0.0):
            return everywhere, 0
        for k in range(3):
            _multiply(images[n, k], pixels / light)
        _multiply(images[n, 3], pixels / seen)
        both += _dot(images[n, 0], images[n, 3]) - pixels
        square += _dot(images[n, 0], images[n, 0]) - pixels
        sums[6] += seen / light / used
    sums[1], sums[2], sums[3] = pixels, both / square if square > 0.0 else 0.0, used
    return everywhere, used


@jit
def _add(images, known, counts, shift, own, matrix, vector, sums):  # type: ignore[no-untyped-def]
    """Sum the equations of a patch from images (position, 4, pixel) into (2 N, 2 N) and (2 N,).

    `counts`: known pixels of each position; `own` (position,): those that are used. `sums`: square of what is
    to be explained, pixels, contrast, positions, the sum of the known shift (x, y), ratio of the fluxes, and
    the trace of the matrix.
    """
    number, size = known.shape
    everywhere, used = _divide_by_means(images, known, counts, own, sums)
    if used == 0:
        return
    gain = sums[2]
    square, seen = np.zeros(size), np.zeros(size)
    for n in range(number):
        for i in range(size):
            square[i] += images[n, 0, i] ** 2
            seen[i] += images[n, 0, i] * images[n, 3, i]
    root = np.zeros(size)
    for i in range(size):
        if everywhere[i]:
            sums[4] += shift[0, i]
            sums[5] += shift[1, i]
            root[i] = 1.0 / math.sqrt(square[i])
            seen[i] /= square[i]
    along = np.zeros((2 * number, size))
    for n in range(number):
        _multiply(images[n, 1], gain)
        _multiply(images[n, 2], gain)
        if used == 1 and own[n]:
            _take_off(images[n], everywhere, gain)
        if used > 1:
            for i in range(size):
                m = images[n, 0, i]
                images[n, 3, i] -= seen[i] * m
                along[2 * n, i] = images[n, 1, i] * (m * root[i])
                along[2 * n + 1, i] = images[n, 2, i] * (m * root[i])
    for j in range(2 * number):
        for k in range(j, 2 * number):
            matrix[j, k] -= _dot(along[j], along[k])
            matrix[k, j] = matrix[j, k]
    for n in range(number):
        rest = images[n, 3]
        sums[0] += _dot(rest, rest)
        for a in range(2):
            vector[2 * n + a] = -_dot(images[n, 1 + a], rest)
            for b in range(2):
                matrix[2 * n + a, 2 * n + b] += _dot(images[n, 1 + a], images[n, 1 + b])
            sums[7] += matrix[2 * n + a, 2 * n + a]


@jit
def _multiply_sides(matrix, scale):  # type: ignore[no-untyped-def]
    for i in range(len(scale)):
        for j in range(len(scale)):
            matrix[i, j] *= scale[i] * scale[j]


@jit
def _invert(matrix):  # type: ignore[no-untyped-def]
    """Invert a normal matrix in place and return whether its condition allows it.

    Unknowns without equations, 0 on the diagonal, stay 0.
    """
    size = len(matrix)
    scale, total, most = np.zeros(size), 0.0, 0.0
    for i in range(size):
        scale[i] = 1.0 / math.sqrt(matrix[i, i]) if matrix[i, i] > 0.0 else 0.0
        most = max(most, scale[i])
    for i in range(size):
        if 0.0 < scale[i] < _FLAT * most:
            return False
    _multiply_sides(matrix, scale)
    for k in range(size):
        if scale[k] == 0.0:
            continue
        pivot = matrix[k, k]
        if not pivot > 1.0 / _CONDITION:
            return False
        matrix[k, k] = 1.0
        _multiply(matrix[k], 1.0 / pivot)
        for i in range(size):
            if i != k:
                factor = matrix[i, k]
                matrix[i, k] = 0.0
                for j in range(size):
                    matrix[i, j] -= factor * matrix[k, j]
    for i in range(size):
        total += matrix[i, i]
    _multiply_sides(matrix, scale)
    return total < _CONDITION


@jit
def _solve(matrix, vector, own, sums, common, inverse, each, traces):  # type: ignore[no-untyped-def]
    """Fill shifts of all positions (2,) and of each (position, 2), the inverse matrix (2, 2) of the former.

    Also fill the traces (position,) of that of each, and subtract from `sums` what they explain. Return
    whether the equations determine both.
    """
    right = np.zeros(2)
    for a in range(2):
        for b in range(2):
            inverse[a, b] = 0.0
    for n in range(len(own)):
        for a in range(2):
            right[a] += vector[2 * n + a]
            for m in range(len(own)):
                for b in range(2):
                    inverse[a, b] += matrix[2 * n + a, 2 * m + b]
    if not (inverse[0, 0] > 0.0 and inverse[1, 1] > 0.0 and _invert(inverse)):
        return False
    for n in range(len(own)):
        if own[n] and not (matrix[2 * n, 2 * n] > 0.0 and matrix[2 * n + 1, 2 * n + 1] > 0.0):
            return False
    if not _invert(matrix):
        return False
    for a in range(2):
        common[a] = inverse[a, 0] * right[0] + inverse[a, 1] * right[1]
    for k in range(len(vector)):
        value = _dot(matrix[k], vector)
        each[k // 2, k % 2] = value
        traces[k // 2] += matrix[k, k]
        sums[0] -= value * vector[k]
    return True


@jit
def _solve_patches(  # type: ignore[no-untyped-def]
    frames,
    samples,
    weights,
    chosen,
    angle,
    scale,
    flagged,
    corners,
    side,
    own,
    sums,
    common,
    inverse,
    each,
    traces,
    determined,
    first,
    last,
):
    """Solve patches `first` to `last`, see `_add` and `_solve`; without `weights` all pixels count."""
    number, size = len(chosen), side * side
    images, known, shift = (
        np.zeros((number, 4, size)),
        np.zeros((number, size), np.bool_),
        np.zeros((2, size)),
    )
    counts, vector = np.zeros(number, np.int64), np.zeros(2 * number)
    matrix = np.zeros((2 * number, 2 * number))
    for p in range(first, last):
        patch = (corners[p, 0], corners[p, 1], side)
        _load(frames, samples, weights, chosen, angle, scale, flagged, *patch, images, known, shift, counts)
        for k in range(2 * number):
            vector[k] = 0.0
            for j in range(2 * number):
                matrix[k, j] = 0.0
        _add(images, known, counts, shift, own[p], matrix, vector, sums[p])
        if sums[p, 1] >= _FEWEST and sums[p, 2] > _GAIN:
            determined[p] = _solve(matrix, vector, own[p], sums[p], common[p], inverse[p], each[p], traces[p])


@dataclass(frozen=True, kw_only=True, eq=False)
class ResidualShifts:
    """Shifts (x, y) in pixels that a known shift leaves, in patches where speckles are seen.

    `corners` (patch, 2): first row and column of patches of `side` pixels; `flux` (patch,): that of the
    sample over that of the reference; `shift` (patch, 2): the known one; `common` (patch, 2): that of all
    positions besides, with its `covariance` (patch, 2, 2); `own` (patch, position, 2): that of a position
    minus `common`, with its `variance` (patch, position) of both components; NaN where a position does not
    count. `positions`: numbers of those that were used.

    Of every patch with enough pixels, also where no speckles are seen: `rest` (all,), the mean square of what
    is left over that of the reference's gradient in pixels², and `light` (all,), the flux.
    """

    corners: NDArray[np.int64]
    side: int
    flux: Real
    shift: Real
    common: Real
    covariance: Real
    own: Real
    variance: Real
    positions: NDArray[np.int64]
    rest: Real
    light: Real


def residual_shifts(
    reference: Real,
    sample: Real,
    weights: Real | None,
    angle: Real,
    *,
    scale: float,
    flagged: Mask,
    threads: int | None = None,
) -> ResidualShifts:
    """Return what the shift `scale` × `angle` (2, y, x) leaves in patches of frames (position, y, x).

    Pixels of weight 0 or that are `flagged` (y, x), without a finite sample or angle, do not count.
    """
    number, (height, width) = len(reference), reference.shape[1:]
    chosen = np.unique(np.linspace(0, number - 1, min(number, _POSITIONS)).round().astype(np.int64))
    side = min(_SIDE, height, width)
    across = min(_ACROSS, round(np.sqrt(_PATCHES / len(chosen))))
    rows, columns = (
        np.linspace(0, size - side, max(1, min(across, size // side))).round().astype(np.int64)
        for size in (height, width)
    )
    corners = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2)
    patches, used = len(corners), len(chosen)
    own, determined = np.zeros((patches, used), np.bool_), np.zeros(patches, np.bool_)
    sums, common, inverse = np.zeros((patches, 8)), np.zeros((patches, 2)), np.zeros((patches, 2, 2))
    each, traces = np.zeros((patches, used, 2)), np.zeros((patches, used))
    given_weights = np.zeros((1, 0, 0), np.uint8) if weights is None else weights
    given = (reference, sample, given_weights, chosen, angle, scale, flagged, corners, side)
    out = (own, sums, common, inverse, each, traces, determined)
    for_blocks(
        lambda first, last: _solve_patches(*given, *out, first, last), patches, threads=threads, block=_TASK
    )
    data = np.where(sums[:, 3] > 1.0, sums[:, 1] * (sums[:, 3] - 1.0), sums[:, 1] - _TERMS)
    data -= 2.0 * sums[:, 3]
    enough = (sums[:, 1] >= _FEWEST) & (data > 0.0)
    left = np.maximum(sums[:, 0], 0.0) / np.where(enough, data, 1.0)
    # Slopes have the contrast of the sample's speckles.
    slopes = sums[:, 7] / np.maximum(sums[:, 1] * sums[:, 3] * sums[:, 2] ** 2, 1e-300)
    kept = determined & enough
    inverse, absent = inverse[kept], ~own[kept]
    common, rest = common[kept], left[kept]
    apart = each[kept] - common[:, None]
    trace = traces[kept] - np.trace(inverse, axis1=1, axis2=2)[:, None]
    apart[absent], trace[absent] = np.nan, np.nan
    return ResidualShifts(
        corners=corners[kept],
        side=side,
        flux=sums[kept, 6],
        shift=sums[kept, 4:6] / sums[kept, 1, None],
        common=common,
        covariance=rest[:, None, None] * inverse,
        own=apart,
        variance=rest[:, None] * trace,
        positions=chosen,
        rest=left[enough] / np.maximum(slopes[enough], 1e-300),
        light=sums[enough, 6],
    )
