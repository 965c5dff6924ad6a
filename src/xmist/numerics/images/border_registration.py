"""Shifts of the speckles along the border of frames, by registration of patches.

In a patch the sample frame of every position is a·R(r − u) + b, with one shift u for all positions, whose
component across the border may change linearly with the distance from it. Least squares give u in the middle
of the patch and at the border, from whole pixels by cross-correlation. Where speckles are not found again so,
because they moved too far or too unevenly, frames binned by two are registered first, and tell where to look.
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
# Part of the variance of a sample patch that the moved reference must explain. By chance it explains about
# the inverse of the number of speckles, times 5 for the best of many shifts.
_EXPLAINED: Final = 0.25
_MISSED: Final = 0.1  # part of the patches without a shift from which on binned frames are registered
_COARSEST: Final = 32  # pixels a side of binned frames, at least
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
        """Return what a known shift (2, y, x) in pixels leaves, in patches where it is known.

        A shift may be that of the speckles that arrive in a patch or of those that leave it: the nearer.
        """
        lacking, kept = [], []
        for i, (box, one) in enumerate(zip(self.boxes, self.shifts, strict=True)):
            left = []
            for place in (box, _moved(box, -one, shift.shape[1:])):
                part = shift[(slice(None), *place)]
                known = np.isfinite(part).all(axis=0)
                if known.any():
                    left.append(one - part[:, known].mean(axis=1, dtype=np.float64))
            if left:
                lacking.append(min(left, key=lambda rest: float(np.hypot(*rest))))
                kept.append(i)
        return BorderShifts(
            boxes=tuple(self.boxes[i] for i in kept),
            centres=self.centres[kept],
            shifts=np.reshape(lacking, (-1, 2)),
            covariances=self.covariances[kept],
            crossing=self.crossing[kept],
        )

    def near(self, centre: list[float]) -> tuple[Real, Real]:
        """Return what to expect at a place of frames of twice the resolution: shift (2,) and its slopes.

        The polynomial that fits best, and what it lacks at the nearest patch; slopes (2, 2) along x and y.
        """
        a, b, c, d, e = self.polynomial()
        slopes = np.array([[c, e], [e, d]])
        place = 0.5 * np.asarray(centre)
        nearest = int(np.argmin(((self.centres - place) ** 2).sum(axis=1)))
        lacking = self.shifts[nearest] - np.array([a, b]) - slopes @ self.centres[nearest]
        return 2.0 * (np.array([a, b]) + slopes @ place + lacking), slopes

    def doubled(self) -> BorderShifts:
        """Return the shifts in pixels of frames of twice the resolution."""
        return BorderShifts(
            boxes=tuple(
                (slice(2 * y.start, 2 * y.stop), slice(2 * x.start, 2 * x.stop)) for y, x in self.boxes
            ),
            centres=2.0 * self.centres,
            shifts=2.0 * self.shifts,
            covariances=4.0 * self.covariances,
            crossing=self.crossing * np.array([2.0, 4.0]),
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
    number = len(reference)
    chosen = np.unique(np.linspace(0, number - 1, min(number, _POSITIONS)).round().astype(int))

    def usable(n: int, box: Box) -> NDArray[np.bool_]:
        one, other = reference[n][box], sample[n][box]
        good: NDArray[np.bool_] = np.isfinite(one) & np.isfinite(other) & (one > 0.0)
        for stack in weights:
            if stack is not None:
                good &= stack[n][box] > 0
        return good

    places, pairs = [], []
    for place in _boxes(*reference.shape[1:]):
        patches = []
        for n in chosen:
            good = usable(n, place[0])
            if np.count_nonzero(good) >= _LEAST:
                one, other = (frames[n][place[0]].astype(np.float64) for frames in (reference, sample))
                patches.append(
                    (np.where(good, one, one[good].mean()), np.where(good, other, other[good].mean()), good)
                )
        if patches:
            places.append(place)
            pairs.append(patches)
    found = [_register(one, *place[1:]) for one, place in zip(pairs, places, strict=True)]
    missed = found.count(None)
    coarse = None
    if missed > _MISSED * len(found) and min(reference.shape[1:]) >= 2 * _COARSEST:
        whole = (slice(None), slice(None))
        good = np.stack([usable(n, whole) for n in chosen])
        coarse = register_border(*(_halved(frames[chosen], good) for frames in (reference, sample)))
        if len(coarse.boxes):
            about = [coarse.near(_centre(place[0], reference.shape)) for place in places]
            found = [
                _register(one, *place[1:], *start) if before is None else before
                for before, one, place, start in zip(found, pairs, places, about, strict=True)
            ]
            if found.count(None) > 0.5 * len(found):
                return coarse.doubled()
    kept = [(place[0], one) for place, one in zip(places, found, strict=True) if one is not None]
    return BorderShifts(
        boxes=tuple(box for box, _ in kept),
        centres=np.array([_centre(box, reference.shape) for box, _ in kept]).reshape(-1, 2),
        shifts=np.array([one[0] for _, one in kept]).reshape(-1, 2),
        covariances=np.array([one[1] for _, one in kept]).reshape(-1, 2, 2),
        crossing=np.array([one[2] for _, one in kept]).reshape(-1, 2),
    )


def _moved(box: Box, shift: Real, shape: tuple[int, ...]) -> Box:
    """Return the part of a box that is moved by (x, y) and inside images of a shape (y, x)."""
    y, x = (
        slice(*(min(max(edge + round(float(by)), 0), size) for edge in (part.start, part.stop)))
        for part, by, size in zip(box, shift[::-1], shape, strict=True)
    )
    return y, x


def _centre(box: Box, shape: tuple[int, ...]) -> list[float]:
    """Return x and y of the middle of a box in pixels from the middle of frames (position, y, x)."""
    return [0.5 * (box[i].start + box[i].stop - shape[1 + i]) for i in (1, 0)]


def _halved(frames: Real, good: NDArray[np.bool_]) -> Real:
    """Return frames (position, y, x) binned by two, NaN where less than half of the pixels are good."""
    height, width = (size - size % 2 for size in frames.shape[1:])

    def sums(images: Real) -> Real:
        even: Real = images[:, :height, :width].reshape(len(images), height // 2, 2, width // 2, 2)
        return even.sum(axis=(2, 4))

    number = sums(good.astype(np.float32))
    total = sums(np.where(good, frames, np.float32(0.0)).astype(np.float32))
    return np.where(number >= 2.0, total / np.maximum(number, 1.0), np.nan)


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


def _register(
    pairs: list[Pair], axis: int, side: int, shift: Real | None = None, slopes: Real | None = None
) -> tuple[Real, Real, tuple[float, float]] | None:
    """Return the shift (x, y) of a patch, its covariance, and what crosses the border with its variance.

    The shift across the border may change linearly with the distance from it. `shift` and `slopes` (2, 2)
    are where to begin, by default with what correlates best. None where the data do not determine them.
    """
    shift = _whole_shift(pairs) if shift is None else shift
    splines = [ndimage.spline_filter(one, 3, mode="mirror") for one, _, _ in pairs]
    holes = [None if good.all() else ndimage.binary_dilation(~good, iterations=2) for _, _, good in pairs]
    height, width = pairs[0][0].shape
    y, x = np.mgrid[:height, :width].astype(np.float64)
    half = 0.5 * (width, height)[axis]
    distance = (x, y)[axis] + 0.5 - half
    uneven, density = np.zeros((2, 1, 1)), 1.0
    if slopes is not None:
        uneven = np.einsum("ij,jyx->iyx", slopes, np.stack([x + 0.5 - 0.5 * width, y + 0.5 - 0.5 * height]))
        density = 1.0 - float(np.trace(slopes))
    for step in range(_STEPS):
        normal, right, rest, total, number = np.zeros((3, 3)), np.zeros(3), 0.0, 0.0, 0
        # Pixels whose speckles were in the patch, one more for the derivative.
        from_x, from_y = x - shift[0] - uneven[0], y - shift[1] - uneven[1]
        inner = _within(x, width) & _within(y, height) & _within(from_x, width) & _within(from_y, height)
        for (_, other, good), spline, hole in zip(pairs, splines, holes, strict=True):
            source = np.stack([from_y, from_x])
            moved = density * ndimage.map_coordinates(spline, source, order=3, mode="mirror", prefilter=False)
            used = inner & good
            if hole is not None:
                used &= ndimage.map_coordinates(hole.astype(np.float32), source, order=1, mode="nearest") == 0
            count = int(np.count_nonzero(used))
            if count < _LEAST:
                continue
            gradient = [along[used] for along in np.gradient(moved)[::-1]]
            columns = np.stack([*gradient, gradient[axis] * distance[used]])
            model, data = moved[used], other[used]
            columns -= columns.mean(axis=1, keepdims=True)
            model, data = model - model.mean(), data - data.mean()
            square = float(model @ model)
            if square == 0.0:
                continue
            gain = float(model @ data) / square
            columns = -gain * (columns - np.multiply.outer(columns @ model / square, model))
            total += float(data @ data)
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
            if total - rest < _EXPLAINED * total:
                return None
            covariance = np.linalg.inv(normal) * max(rest, 0.0) / (number - 3)
            to_border = np.zeros(3)
            to_border[axis], to_border[2] = 1.0, side * half
            slope = change[2] + (0.0 if slopes is None else slopes[axis, axis])
            crossing = float(shift[axis] + side * half * slope)
            return shift, covariance[:2, :2], (crossing, float(to_border @ covariance @ to_border))
    return None


def _within(place: Real, size: int) -> Real:
    return (place >= 1) & (place <= size - 2)
