"""Shifts of the speckles along the border of frames, by registration of patches.

In a patch the sample frame of every position is a·R(r − u) + b, with one shift u for all positions, whose
component across the border may change linearly with the distance from it. Least squares give u in the middle
of the patch and at the border, from whole pixels by cross-correlation.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

Real = NDArray[Any]
Box = tuple[slice, slice]
Pair = tuple[Real, Real, Real]  # patches of reference and sample, and where both are good

_DEPTH: Final = 16  # pixels from the border
_LENGTH: Final = 64  # pixels along it, at most
_PATCHES: Final = 16  # a side, at most
_POSITIONS: Final = 4  # that are used, at most
_STEPS: Final = 5
_SMALL: Final = 2e-3  # pixels; the least squares have settled
_NEARLY: Final = 0.05  # pixels; the same after the last step
_LARGEST_STEP: Final = 1.0  # pixels
_LEAST: Final = 64  # pixels of a patch, and of all its positions
_CONDITION: Final = 1e6
# Variance in pixels² that a patch has against a polynomial, besides that of its own.
_FLOOR: Final = 1e-4


@dataclass(frozen=True, kw_only=True, eq=False)
class BorderShifts:
    """Shifts (patch, 2) in pixels along x and y, in patches that could be registered.

    `centres` (patch, 2): x and y in pixels from the middle of the frame; `covariances` (patch, 2, 2);
    `crossing` (patch, 2): the component across the border at the border itself, and its variance.
    """

    boxes: tuple[Box, ...]
    centres: Real
    shifts: Real
    covariances: Real
    crossing: Real

    def through_border(self) -> tuple[float, float]:
        """Return the mean square in pixels² of what goes through the border, and its deviation for none.

        Noise is taken off, so that it may be negative.
        """
        return _beyond_noise(self.crossing[:, 0] ** 2, self.crossing[:, 1], self.crossing[:, 1] ** 2)

    def mean_square(self) -> tuple[float, float]:
        """Return the mean square shift in pixels², and its deviation for none; noise is taken off."""
        noise = np.trace(self.covariances, axis1=1, axis2=2)
        return _beyond_noise((self.shifts**2).sum(axis=1), noise, (self.covariances**2).sum(axis=(1, 2)))

    def without(self, shift: Real) -> BorderShifts:
        """Return what a known shift (2, y, x) in pixels leaves, in patches where it is known."""
        means, kept = [], []
        for i, box in enumerate(self.boxes):
            part = shift[(slice(None), *box)]
            known = np.isfinite(part).all(axis=0)
            if known.any():
                means.append(part[:, known].mean(axis=1, dtype=np.float64))
                kept.append(i)
        return BorderShifts(
            boxes=tuple(self.boxes[i] for i in kept),
            centres=self.centres[kept],
            shifts=self.shifts[kept] - np.reshape(means, (-1, 2)),
            covariances=self.covariances[kept],
            crossing=self.crossing[kept],
        )

    def polynomial(self) -> Real:
        """Return (a, b, c, d, e) of the shift (a + c x + e y, b + e x + d y) that fits best."""
        rows, right = [np.zeros((0, 5))], [np.zeros(0)]
        for (x, y), shift, covariance in zip(self.centres, self.shifts, self.covariances, strict=True):
            root = np.linalg.cholesky(np.linalg.inv(covariance + _FLOOR * np.eye(2))).T
            rows.append(root @ np.array([[1.0, 0.0, x, 0.0, y], [0.0, 1.0, 0.0, y, x]]))
            right.append(root @ shift)
        solution: Real = np.linalg.lstsq(np.concatenate(rows), np.concatenate(right), rcond=1e-8)[0]
        return solution


def register_border(reference: Real, sample: Real, *weights: Real | None) -> BorderShifts:
    """Register patches along the border of frames (position, y, x); pixels of any weight 0 do not count."""
    number, height, width = reference.shape
    chosen = np.unique(np.linspace(0, number - 1, min(number, _POSITIONS)).round().astype(int))
    boxes, centres, shifts, covariances, crossing = [], [], [], [], []
    for box, axis, side in _boxes(height, width):
        pairs = []
        for n in chosen:
            one, other = (frames[n][box].astype(np.float64) for frames in (reference, sample))
            good = np.isfinite(one) & np.isfinite(other) & (one > 0.0)
            for stack in weights:
                if stack is not None:
                    good &= stack[n][box] > 0
            if np.count_nonzero(good) >= _LEAST:
                pairs.append(
                    (np.where(good, one, one[good].mean()), np.where(good, other, other[good].mean()), good)
                )
        found = _register(pairs, axis, side) if pairs else None
        if found is None:
            continue
        boxes.append(box)
        centres.append([0.5 * (box[i].start + box[i].stop - size) for i, size in ((1, width), (0, height))])
        shifts.append(found[0])
        covariances.append(found[1])
        crossing.append(found[2])
    return BorderShifts(
        boxes=tuple(boxes),
        centres=np.array(centres).reshape(-1, 2),
        shifts=np.array(shifts).reshape(-1, 2),
        covariances=np.array(covariances).reshape(-1, 2, 2),
        crossing=np.array(crossing).reshape(-1, 2),
    )


def _beyond_noise(squares: Real, noise: Real, variances: Real) -> tuple[float, float]:
    if not len(squares):
        return 0.0, 0.0
    return float(np.mean(squares - noise)), float(np.sqrt(2.0 * variances.sum())) / len(squares)


def _boxes(height: int, width: int) -> list[tuple[Box, int, int]]:
    """Return patches: box, axis across the border (0: x, 1: y), and −1 where that begins there, else 1.

    Those along y lie between those along x.
    """
    depth = max(1, min(_DEPTH, height // 4, width // 4))

    def along(start: int, stop: int) -> list[slice]:
        number = min(_PATCHES, max(1, (stop - start) // (2 * depth)))
        edges = np.linspace(start, stop, number + 1).round().astype(int)
        cut = [max(0, int(high - low) - _LENGTH) // 2 for low, high in pairwise(edges)]
        return [
            slice(int(low) + c, int(high) - c) for (low, high), c in zip(pairwise(edges), cut, strict=True)
        ]

    out = []
    for side, rows in ((-1, slice(0, depth)), (1, slice(height - depth, height))):
        out += [((rows, part), 1, side) for part in along(0, width)]
    for side, columns in ((-1, slice(0, depth)), (1, slice(width - depth, width))):
        out += [((part, columns), 0, side) for part in along(depth, height - depth)]
    return out


def _whole_shift(pairs: list[Pair]) -> Real:
    """Return the whole pixels (x, y) at which the sum of the cross-correlations is largest."""
    height, width = pairs[0][0].shape
    shape = [fft.next_fast_len(2 * size, real=True) for size in (height, width)]
    total = np.zeros(shape)
    for one, other, _ in pairs:
        a, b = (fft.rfft2(image - image.mean(), shape) for image in (one, other))
        total += fft.irfft2(b * np.conj(a), shape)
    reach = [size // 3 for size in (height, width)]
    near = total[np.ix_(*(np.arange(-most, most + 1) for most in reach))]
    y, x = np.unravel_index(int(np.argmax(near)), near.shape)
    return np.array([float(x) - reach[1], float(y) - reach[0]])


def _register(pairs: list[Pair], axis: int, side: int) -> tuple[Real, Real, tuple[float, float]] | None:
    """Return the shift (x, y) of a patch, its covariance, and what crosses the border with its variance.

    The shift across the border may change linearly with the distance from it. None where the data do not
    determine them.
    """
    shift = _whole_shift(pairs)
    splines = [ndimage.spline_filter(one, 3, mode="mirror") for one, _, _ in pairs]
    holes = [None if good.all() else ndimage.binary_dilation(~good, iterations=2) for _, _, good in pairs]
    height, width = pairs[0][0].shape
    y, x = np.ogrid[:height, :width]
    half = 0.5 * (width, height)[axis]
    distance = np.broadcast_to((x, y)[axis] + 0.5 - half, (height, width))
    for step in range(_STEPS):
        normal, right, rest, number = np.zeros((3, 3)), np.zeros(3), 0.0, 0
        # Pixels whose speckles were in the patch, one more for the derivative.
        inner = _within(x, width) & _within(y, height)
        inner = inner & _within(x - shift[0], width) & _within(y - shift[1], height)
        for (_, other, good), spline, hole in zip(pairs, splines, holes, strict=True):
            moved = ndimage.shift(spline, shift[::-1], order=3, mode="mirror", prefilter=False)
            used = inner & good
            if hole is not None:
                used &= ndimage.shift(hole.astype(np.float32), shift[::-1], order=1, mode="nearest") == 0
            count = int(np.count_nonzero(used))
            if count < _LEAST:
                continue
            slopes = [along[used] for along in np.gradient(moved)[::-1]]
            columns = np.stack([*slopes, slopes[axis] * distance[used]])
            model, data = moved[used], other[used]
            columns -= columns.mean(axis=1, keepdims=True)
            model, data = model - model.mean(), data - data.mean()
            square = float(model @ model)
            if square == 0.0:
                continue
            gain = float(model @ data) / square
            columns = -gain * (columns - np.multiply.outer(columns @ model / square, model))
            data -= gain * model
            normal += columns @ columns.T
            right += columns @ data
            rest += float(data @ data)
            number += count - 2
        scale = np.sqrt(np.diag(normal))
        if (
            number < _LEAST
            or not scale.all()
            or not np.linalg.cond(normal / np.outer(scale, scale)) < _CONDITION
        ):
            return None
        change = np.linalg.solve(normal, right)
        rest -= float(right @ change)
        shift = shift + np.clip(change[:2], -_LARGEST_STEP, _LARGEST_STEP)
        if np.hypot(*change[:2]) < (_SMALL if step < _STEPS - 1 else _NEARLY):
            covariance = np.linalg.inv(normal) * max(rest, 0.0) / (number - 3)
            to_border = np.zeros(3)
            to_border[axis], to_border[2] = 1.0, side * half
            crossing = float(shift[axis] + side * half * change[2])
            return shift, covariance[:2, :2], (crossing, float(to_border @ covariance @ to_border))
    return None


def _within(place: Real, size: int) -> Real:
    return (place >= 1) & (place <= size - 2)
