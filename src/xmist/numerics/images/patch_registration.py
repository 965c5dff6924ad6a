"""Registration of a patch of frames at the border: least squares in compiled code.

The sample frame of every position is a·R(r − u) + b, with one shift u for all positions, whose component
across the border may change linearly with the distance from it. R is a cubic spline. u begins at 0, and only
where that explains too little with what correlates best.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from xmist.numerics.compiled import jit

Real = NDArray[Any]

_STEPS: Final = 5
_SMALL: Final = 2e-3  # pixels; the least squares have settled
_NEARLY: Final = 0.05  # pixels; the same after the last step
_LARGEST_STEP: Final = 1.0  # pixels
LEAST: Final = 64  # pixels of a patch, and of all its positions
_CONDITION: Final = 1e6
# Part of the variance of a sample patch that the moved reference must explain. By chance it explains about
# the inverse of the number of speckles, times 5 for the best of many shifts.
_EXPLAINED: Final = 0.25
_MOST: Final = 0.5  # the same, from which on no other shift explains more


@jit
def _center(images, good, out):  # type: ignore[no-untyped-def]
    """Fill `out` (position, y, x) with images minus their means over good pixels, 0 elsewhere."""
    number, height, width = out.shape
    for n in range(number):
        total, count = 0.0, 0
        for y in range(height):
            for x in range(width):
                value = np.float64(images[n, y, x]) if good[n, y, x] else 0.0
                out[n, y, x] = value
                total += value
                count += good[n, y, x]
        mean = total / count
        for y in range(height):
            for x in range(width):
                out[n, y, x] = out[n, y, x] - mean if good[n, y, x] else 0.0


@jit
def _taps(t, out):  # type: ignore[no-untyped-def]
    """Fill the weights of four coefficients at a part t of a pixel."""
    s = 1.0 - t
    out[0] = s * s * s / 6.0
    out[1] = 2.0 / 3.0 - t * t * (2.0 - t) / 2.0
    out[2] = 2.0 / 3.0 - s * s * (2.0 - s) / 2.0
    out[3] = t * t * t / 6.0


@jit
def _mirrored(place, size):  # type: ignore[no-untyped-def]
    return max(size - 1 - abs(size - 1 - abs(place)), 0)


@jit
def _move(splines, x, y, out):  # type: ignore[no-untyped-def]
    """Fill images (position, y, x) with splines moved by (x, y)."""
    number, height, width = out.shape
    whole_x, whole_y = int(np.floor(-x)), int(np.floor(-y))
    across, down = np.empty(4), np.empty(4)
    _taps(-x - whole_x, across)
    _taps(-y - whole_y, down)
    row, wide = np.empty(width), np.empty(width + 3)
    for n in range(number):
        for i in range(height):
            first = i + whole_y - 1
            a, b = splines[n, _mirrored(first, height)], splines[n, _mirrored(first + 1, height)]
            c, d = splines[n, _mirrored(first + 2, height)], splines[n, _mirrored(first + 3, height)]
            for j in range(width):
                row[j] = down[0] * a[j] + down[1] * b[j] + down[2] * c[j] + down[3] * d[j]
            for j in range(width + 3):
                wide[j] = row[_mirrored(j + whole_x - 1, width)]
            for j in range(width):
                out[n, i, j] = (
                    across[0] * wide[j]
                    + across[1] * wide[j + 1]
                    + across[2] * wide[j + 2]
                    + across[3] * wide[j + 3]
                )


@jit
def _at(spline, y, x, across, down):  # type: ignore[no-untyped-def]
    """Return the value of a spline (y, x) at a place."""
    height, width = spline.shape
    first_y, first_x = int(np.floor(y)), int(np.floor(x))
    _taps(y - first_y, down)
    _taps(x - first_x, across)
    total = 0.0
    for k in range(4):
        line, part = spline[_mirrored(first_y - 1 + k, height)], 0.0
        for i in range(4):
            part += across[i] * line[_mirrored(first_x - 1 + i, width)]
        total += down[k] * part
    return total


@jit
def _clear(hole, y, x):  # type: ignore[no-untyped-def]
    """Return whether none of the pixels about a place belongs to a hole (y, x)."""
    height, width = hole.shape
    y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
    first_y, first_x = int(np.floor(y)), int(np.floor(x))
    for j in range(first_y, first_y + 1 + (y > first_y)):
        for i in range(first_x, first_x + 1 + (x > first_x)):
            if hole[j, i]:
                return False
    return True


@jit
def _sum_position(moved, sample, good, hole, axis, shift, slopes, sums):  # type: ignore[no-untyped-def]
    """Sum products of what a position's equations hold, and return the number of pixels.

    `sums` (5, 5): covariances of the moved reference, its derivatives along x and y, that across the border
    times the distance, and the sample, each times the number of pixels.
    """
    height, width = moved.shape
    middle_y, middle_x = 0.5 * (height - 1), 0.5 * (width - 1)
    values, means, count = np.empty(5), np.zeros(5), 0
    for i in range(5):
        for j in range(5):
            sums[i, j] = 0.0
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            if not good[y, x]:
                continue
            off_y, off_x = y - middle_y, x - middle_x
            from_x = x - shift[0] - (slopes[0, 0] * off_x + slopes[0, 1] * off_y)
            from_y = y - shift[1] - (slopes[1, 0] * off_x + slopes[1, 1] * off_y)
            # Pixels whose speckles were in the patch, one more for the derivative.
            if not (1.0 <= from_x <= width - 2.0 and 1.0 <= from_y <= height - 2.0):
                continue
            if hole.size > 0 and not _clear(hole, from_y, from_x):
                continue
            count += 1
            values[0] = moved[y, x]
            values[1] = 0.5 * (moved[y, x + 1] - moved[y, x - 1])
            values[2] = 0.5 * (moved[y + 1, x] - moved[y - 1, x])
            values[3] = values[1] * off_x if axis == 0 else values[2] * off_y
            values[4] = sample[y, x]
            for i in range(5):
                means[i] += values[i]
                for j in range(i, 5):
                    sums[i, j] += values[i] * values[j]
    for i in range(5):
        for j in range(i, 5):
            sums[i, j] -= means[i] * means[j] / max(count, 1)
            sums[j, i] = sums[i, j]
    return count


@jit
def _sum_positions(moved, samples, good, holes, axis, shift, slopes, normal, right):  # type: ignore[no-untyped-def]
    """Fill the normal equations (3, 3), (3,) for a change of shift and slope, with offset and gain free.

    Return the square sums of the residual and of the sample, and the number of data, 0 if these are too few.
    """
    for i in range(3):
        right[i] = 0.0
        for j in range(3):
            normal[i, j] = 0.0
    sums = np.empty((5, 5))
    rest, total, number = 0.0, 0.0, 0
    for n in range(len(moved)):
        hole = holes[n if len(holes) > 1 else 0]
        count = _sum_position(moved[n], samples[n], good[n], hole, axis, shift, slopes, sums)
        square = sums[0, 0]
        if count < LEAST or not square > 0.0:
            continue
        number += count - 2
        gain = sums[0, 4] / square
        # What is left without the part along the moved reference; derivatives of the model are -gain of it.
        for i in range(3):
            for j in range(3):
                normal[i, j] += gain**2 * (sums[1 + i, 1 + j] - sums[1 + i, 0] * sums[0, 1 + j] / square)
            right[i] -= gain * (sums[1 + i, 4] - sums[1 + i, 0] * gain)
        rest += sums[4, 4] - sums[0, 4] * gain
        total += sums[4, 4]
    return rest, total, number if number >= LEAST else 0


@jit
def _invert(normal, scale, out):  # type: ignore[no-untyped-def]
    """Fill `out` with the inverse of a normal matrix (3, 3) in units of the roots of its diagonal, `scale`.

    Return whether it has one.
    """
    for i in range(3):
        if not normal[i, i] > 0.0:
            return False
        scale[i] = math.sqrt(normal[i, i])
    a, b = normal[0, 1] / (scale[0] * scale[1]), normal[0, 2] / (scale[0] * scale[2])
    c = normal[1, 2] / (scale[1] * scale[2])
    # The eigenvalues of a matrix with ones on its diagonal.
    spread = math.sqrt((a * a + b * b + c * c) / 3.0)
    angle = math.acos(min(max(a * b * c / max(spread**3, 1e-300), -1.0), 1.0)) / 3.0
    least = 1.0 + 2.0 * spread * math.cos(angle + 2.0 * math.pi / 3.0)
    if not 1.0 + 2.0 * spread * math.cos(angle) < _CONDITION * least:
        return False
    determinant = 1.0 + 2.0 * a * b * c - a * a - b * b - c * c
    out[0, 0], out[1, 1], out[2, 2] = 1.0 - c * c, 1.0 - b * b, 1.0 - a * a
    out[0, 1], out[0, 2], out[1, 2] = b * c - a, a * c - b, a * b - c
    for i in range(3):
        for j in range(i, 3):
            out[i, j] /= determinant
            out[j, i] = out[i, j]
    return True


@jit
def _fit(splines, samples, good, holes, axis, shift, slopes, uneven, covariance):  # type: ignore[no-untyped-def]
    """Improve a shift (x, y), in place, and fill its covariance (3, 3) with that of the slope.

    Return the slope across the border and the part of the variance that is explained, 0 where the data do not
    determine the shift.
    """
    number, height, width = splines.shape
    moved = np.empty(splines.shape)
    normal, inverse, right, scale = np.empty((3, 3)), np.empty((3, 3)), np.empty(3), np.empty(3)
    across, down, change = np.empty(4), np.empty(4), np.empty(3)
    density = 1.0 - slopes[0, 0] - slopes[1, 1]
    for step in range(_STEPS):
        if uneven:
            for n in range(number):
                for y in range(height):
                    for x in range(width):
                        off_y, off_x = y - 0.5 * (height - 1), x - 0.5 * (width - 1)
                        from_x = x - shift[0] - (slopes[0, 0] * off_x + slopes[0, 1] * off_y)
                        from_y = y - shift[1] - (slopes[1, 0] * off_x + slopes[1, 1] * off_y)
                        moved[n, y, x] = density * _at(splines[n], from_y, from_x, across, down)
        else:
            _move(splines, shift[0], shift[1], moved)
        rest, total, count = _sum_positions(moved, samples, good, holes, axis, shift, slopes, normal, right)
        if count == 0 or not _invert(normal, scale, inverse):
            return 0.0, 0.0
        for i in range(3):
            change[i] = 0.0
            for j in range(3):
                change[i] += inverse[i, j] * right[j] / (scale[i] * scale[j])
            rest -= right[i] * change[i]
        for i in range(2):
            shift[i] += min(max(change[i], -_LARGEST_STEP), _LARGEST_STEP)
        if math.hypot(change[0], change[1]) < (_SMALL if step < _STEPS - 1 else _NEARLY):
            if not 1.0 - rest / total >= _EXPLAINED:
                return 0.0, 0.0
            for i in range(3):
                for j in range(3):
                    covariance[i, j] = inverse[i, j] / (scale[i] * scale[j]) * max(rest, 0.0) / (count - 3)
            return change[2] + slopes[axis, axis], 1.0 - rest / total
    return 0.0, 0.0


@dataclass(frozen=True, eq=False)
class PatchShift:
    """Shift (x, y) of a patch, its covariance (2, 2), what crosses the border with its variance.

    `explained`: part of the variance of the sample that the moved reference has.
    """

    shift: Real
    covariance: Real
    crossing: tuple[float, float]
    explained: float


@dataclass(frozen=True, eq=False)
class Patches:
    """Patches (position, y, x) of reference and sample without their means, and where both are good.

    `splines`: cubic spline coefficients of the reference; `holes`: what pixels that are not good have an
    effect on, (1, 0, 0) if all are.
    """

    reference: Real
    sample: Real
    good: NDArray[np.bool_]
    splines: Real
    holes: NDArray[np.bool_]

    @classmethod
    def of(cls, reference: Real, sample: Real, good: NDArray[np.bool_]) -> Patches:
        """Prepare patches (position, y, x), each with a good pixel."""
        one, other = np.empty(good.shape), np.empty(good.shape)
        _center(reference, good, one)
        _center(sample, good, other)
        splines = one
        for axis in (1, 2):
            splines = ndimage.spline_filter1d(splines, axis=axis, mode="mirror")
        holes = np.zeros((1, 0, 0), np.bool_)
        if not good.all():
            holes = ndimage.binary_dilation(~good, ndimage.generate_binary_structure(2, 1)[None], 2)
        return cls(one, other, good, splines, holes)

    def register(
        self, axis: int, side: int, shift: Real | None = None, slopes: Real | None = None
    ) -> PatchShift | None:
        """Return the shift of a patch across whose border (`axis` 0: x, 1: y; `side` ±1) it changes linearly.

        `shift` and `slopes` (2, 2) are where to begin, by default with what correlates best. None where the
        data do not determine it.
        """
        if shift is None:
            still = self.register(axis, side, np.zeros(2))
            if still is not None and still.explained > _MOST:
                return still
            shift = self._whole_shift()
            if not shift.any():
                return still
        place, covariance = shift.copy(), np.empty((3, 3))
        uneven, slopes = slopes is not None, np.zeros((2, 2)) if slopes is None else slopes
        slope, explained = _fit(
            self.splines, self.sample, self.good, self.holes, axis, place, slopes, uneven, covariance
        )
        if explained == 0.0:
            return None
        half = 0.5 * side * self.good.shape[2 - axis]
        crossing = float(place[axis] + half * slope)
        variance = covariance[axis, axis] + 2.0 * half * covariance[axis, 2] + half**2 * covariance[2, 2]
        return PatchShift(place, covariance[:2, :2], (crossing, float(variance)), explained)

    def _whole_shift(self) -> Real:
        """Return the whole pixels (x, y) at which the sum of the cross-correlations is largest."""
        sizes = self.reference.shape[1:]
        reach = [size // 3 for size in sizes]
        # Shifts beyond the reach may wrap around.
        shape = [fft.next_fast_len(size + most, real=True) for size, most in zip(sizes, reach, strict=True)]
        a, b = (
            fft.rfft2(images - images.mean(axis=(1, 2), keepdims=True), shape)
            for images in (self.reference, self.sample)
        )
        total = fft.irfft2((b * np.conj(a)).sum(axis=0), shape)
        near = total[np.ix_(*(np.arange(-most, most + 1) for most in reach))]
        y, x = np.unravel_index(int(np.argmax(near)), near.shape)
        return np.array([float(x) - reach[1], float(y) - reach[0]])
