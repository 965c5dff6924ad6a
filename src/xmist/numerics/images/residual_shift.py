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


@jit
def _load(  # type: ignore[no-untyped-def]
    frame, sample, good, angle, scale, flagged, top, left, side, out, known
):
    """Fill M, G_x, G_y, S and the known shift (6, pixel) of a patch, and where they are known (pixel,).

    Return the number of these pixels.
    """
    height, width = frame.shape
    weighted = good.size > 0
    value_x, slope_x, value_y, slope_y = np.empty(4), np.empty(4), np.empty(4), np.empty(4)
    number = 0
    for i in range(side * side):
        y, x = top + i // side, left + i % side
        known[i] = False
        if flagged[y, x] or (weighted and not good[y, x]):
            continue
        s = np.float64(sample[y, x])
        u_x, u_y = scale * np.float64(angle[0, y, x]), scale * np.float64(angle[1, y, x])
        if not (np.isfinite(s) and np.isfinite(u_x) and np.isfinite(u_y)):
            continue
        from_x, from_y = x - u_x, y - u_y
        if not (from_x >= 1.0 and from_y >= 1.0 and from_x < width - 2.0 and from_y < height - 2.0):
            continue
        first_x, first_y = int(np.floor(from_x)), int(np.floor(from_y))
        _taps(from_x - first_x, value_x, slope_x)
        _taps(from_y - first_y, value_y, slope_y)
        m, g_x, g_y, usable = 0.0, 0.0, 0.0, True
        for j in range(4):
            row, row_slope = 0.0, 0.0
            for k in range(4):
                if weighted and not good[first_y - 1 + j, first_x - 1 + k]:
                    usable = False
                r = np.float64(frame[first_y - 1 + j, first_x - 1 + k])
                row += value_x[k] * r
                row_slope += slope_x[k] * r
            m += value_y[j] * row
            g_x += value_y[j] * row_slope
            g_y += slope_y[j] * row
        if not usable:
            continue
        out[0, i], out[1, i], out[2, i], out[3, i], out[4, i], out[5, i] = m, g_x, g_y, s, u_x, u_y
        known[i] = True
        number += 1
    return number


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
def _add(images, known, counts, own, matrix, vector, sums):  # type: ignore[no-untyped-def]
    """Sum the equations of a patch from images (position, 4, pixel) into (2 N, 2 N), (2 N,) and (7,).

    `counts`: known pixels of each position; `own` (position,): those that are used. `sums`: square of what is
    to be explained, pixels, contrast, positions, the sum of the known shift (x, y), ratio of the fluxes.
    """
    number, size = known.shape
    most = counts.max()
    used = 0
    for n in range(number):
        own[n] = 2 * counts[n] > most
        used += own[n]
    mean = np.zeros((number, 2))
    everywhere = np.ones(size, np.bool_)
    pixels = 0
    for i in range(size):
        for n in range(number):
            if own[n] and not known[n, i]:
                everywhere[i] = False
        if everywhere[i]:
            pixels += 1
            for n in range(number):
                if own[n]:
                    mean[n, 0] += images[n, 0, i]
                    mean[n, 1] += images[n, 3, i]
                    sums[4] += images[n, 4, i] / used
                    sums[5] += images[n, 5, i] / used
    sums[1], sums[3] = pixels, used
    for n in range(number):
        if own[n] and not (mean[n, 0] > 0.0 and mean[n, 1] > 0.0):
            sums[1] = 0.0
        elif own[n]:
            sums[6] += mean[n, 1] / mean[n, 0] / used
    if sums[1] == 0.0:
        return
    both, square = 0.0, 0.0
    for n in range(number):
        if own[n]:
            for i in range(size):
                for k in range(3):
                    images[n, k, i] *= pixels / mean[n, 0]
                images[n, 3, i] *= pixels / mean[n, 1]
                if everywhere[i]:
                    both += (images[n, 0, i] - 1.0) * (images[n, 3, i] - 1.0)
                    square += (images[n, 0, i] - 1.0) ** 2
    gain = both / square if square > 0.0 else 0.0
    sums[2] = gain
    along = np.zeros(2 * number)
    for i in range(size):
        if not everywhere[i]:
            continue
        light, seen = 0.0, 0.0
        for n in range(number):
            if own[n]:
                light += images[n, 0, i] ** 2
                seen += images[n, 0, i] * images[n, 3, i]
        for n in range(number):
            if not own[n]:
                continue
            m = images[n, 0, i]
            if used > 1:
                images[n, 3, i] -= seen / light * m
            for a in range(2):
                images[n, 1 + a, i] *= gain
                along[2 * n + a] = images[n, 1 + a, i] * m
        if used > 1:
            for a in range(2 * number):
                part = along[a] / light
                for b in range(2 * number):
                    matrix[a, b] -= part * along[b]
    for n in range(number):
        if own[n]:
            if used == 1:
                _take_off(images[n], everywhere, gain)
            for i in range(size):
                if everywhere[i]:
                    rest = images[n, 3, i]
                    sums[0] += rest * rest
                    for a in range(2):
                        slope = images[n, 1 + a, i]
                        vector[2 * n + a] -= slope * rest
                        for b in range(2):
                            matrix[2 * n + a, 2 * n + b] += slope * images[n, 1 + b, i]


@jit
def _sum_patches(  # type: ignore[no-untyped-def]
    frames,
    samples,
    good,
    chosen,
    angle,
    scale,
    flagged,
    corners,
    side,
    matrix,
    vector,
    sums,
    own,
    first,
    last,
):
    """Sum the equations of patches `first` to `last`, see `_add`; without `good` all pixels count."""
    number, size = len(chosen), side * side
    images, known = np.zeros((number, 6, size)), np.zeros((number, size), np.bool_)
    counts = np.zeros(number, np.int64)
    for p in range(first, last):
        for n in range(number):
            at = chosen[n]
            counts[n] = _load(
                frames[at],
                samples[at],
                good[at if len(good) > 1 else 0],
                angle,
                scale,
                flagged,
                corners[p, 0],
                corners[p, 1],
                side,
                images[n],
                known[n],
            )
        if counts.max() > 0:
            _add(images, known, counts, own[p], matrix[p], vector[p], sums[p])


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
    patches, own = len(corners), np.zeros((len(corners), len(chosen)), np.bool_)
    matrix = np.zeros((patches, 2 * len(chosen), 2 * len(chosen)))
    vector, sums = np.zeros(matrix.shape[:2]), np.zeros((patches, 7))
    good = np.zeros((1, 0, 0), np.bool_) if weights is None else weights > 0
    given = (reference, sample, good, chosen, angle, scale, flagged, corners, side, matrix, vector, sums, own)
    for_blocks(lambda first, last: _sum_patches(*given, first, last), patches, threads=threads, block=_TASK)
    return _solved(corners, side, matrix, vector, sums, own, chosen)


def _solved(
    corners: NDArray[np.int64],
    side: int,
    matrix: Real,
    vector: Real,
    sums: Real,
    own: Mask,
    positions: NDArray[np.int64],
) -> ResidualShifts:
    """Solve the equations of `_add` in patches where they determine the shifts."""
    number = len(positions)
    blocks = matrix.reshape(-1, number, 2, number, 2)
    shared, right = blocks.sum(axis=(1, 3)), vector.reshape(-1, number, 2).sum(axis=1)
    absent = np.repeat(~own, 2, axis=1)
    full = matrix + absent[:, :, None] * np.eye(2 * number)
    data = np.where(sums[:, 3] > 1.0, sums[:, 1] * (sums[:, 3] - 1.0), sums[:, 1] - _TERMS)
    data -= 2.0 * sums[:, 3]
    enough = (sums[:, 1] >= _FEWEST) & (data > 0.0)
    used = enough & (sums[:, 2] > _GAIN) & _determined(shared) & _determined(full)
    left = sums[:, 0].copy()
    # Slopes have the contrast of the sample's speckles.
    slopes = np.trace(full - absent[:, :, None] * np.eye(2 * number), axis1=1, axis2=2)
    slopes /= np.maximum(sums[:, 1] * sums[:, 3] * sums[:, 2] ** 2, 1e-300)
    full, shared, right, vector = (part[used] for part in (full, shared, right, vector))
    inverse, inverse_shared = np.linalg.inv(full), np.linalg.inv(shared)
    each = (inverse @ vector[..., None])[..., 0]
    common = (inverse_shared @ right[..., None])[..., 0]
    left[used] = np.maximum(left[used] - (vector * each).sum(axis=1), 0.0)
    rest = left[used] / data[used]
    apart = each.reshape(-1, number, 2) - common[:, None]
    trace = np.diagonal(inverse, axis1=1, axis2=2).reshape(-1, number, 2).sum(axis=2)
    trace = trace - np.trace(inverse_shared, axis1=1, axis2=2)[:, None]
    lacking = ~own[used]
    apart[lacking], trace[lacking] = np.nan, np.nan
    return ResidualShifts(
        corners=corners[used],
        side=side,
        flux=sums[used, 6],
        shift=sums[used, 4:6] / sums[used, 1, None],
        common=common,
        covariance=rest[:, None, None] * inverse_shared,
        own=apart,
        variance=rest[:, None] * trace,
        positions=positions,
        rest=left[enough] / data[enough] / np.maximum(slopes[enough], 1e-300),
        light=sums[enough, 6],
    )


def _determined(matrix: Real) -> Mask:
    """Return where normal equations (patch, n, n) have a solution."""
    scale = np.sqrt(np.maximum(np.diagonal(matrix, axis1=1, axis2=2), 0.0))
    positive = scale.min(axis=1) > _FLAT * scale.max(axis=1)
    scale = np.where(scale > 0.0, scale, 1.0)
    values = np.linalg.eigvalsh(matrix / (scale[:, :, None] * scale[:, None]))
    out: Mask = positive & (values[:, -1] < _CONDITION * values[:, 0])
    return out
