"""Shifts of the speckles along the border of frames, by registration of patches.

In a patch the sample frame of every position is a·R(r − u) + b, with one shift u for all positions, whose
component across the border may change linearly with the distance from it. Least squares give u in the middle
of the patch and at the border. Where this fails, because speckles
moved too far or too unevenly, frames binned by two are registered first and give the start values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.numerics.compiled import jit
from xmist.numerics.images.patch_registration import LEAST, Patches, PatchShift

Real = NDArray[Any]
Box = tuple[slice, slice]
Place = tuple[Box, int, int]  # patch, axis across the border (0: x, 1: y), −1 where that begins there, else 1

_DEPTH: Final = 16  # pixels from the border
_LENGTH: Final = 64  # pixels along it, at most
_PATCHES: Final = 10  # a side, at most
_POSITIONS: Final = 3  # that are used, at most
_MISSED: Final = 0.1  # part of the patches without a shift from which on binned frames are registered
_COARSEST: Final = 32  # pixels a side of binned frames, at least
_NEIGHBOURS: Final = 3  # patches that say what to expect in another
_APART: Final = 1.0  # pixels from that at which a shift is doubted
_UNEVEN: Final = 0.5  # pixels by which a shift may change along a patch that is taken to have one
_SPREAD: Final = 0.5
_REWEIGHTED: Final = 10
_OUTLYING: Final = 2.5  # times the median distance from a polynomial
# Variance in pixels² that a patch has against a polynomial, besides that of its own.
_FLOOR: Final = 1e-4


@jit
def _sum_planes(shift, edges, number, mean, slopes, spread):  # type: ignore[no-untyped-def]
    """Sum a shift (2, y, x) in boxes (first and last row, first and last column), where it is known.

    Fill the numbers of pixels, means (box, 2), and sums of products with the distances (y, x) from the middle
    of these pixels: of the shift (box, 2, 2), and of the distances (box, 2, 2).
    """
    for b in range(len(edges)):
        top, bottom, left, right = edges[b, 0], edges[b, 1], edges[b, 2], edges[b, 3]
        middle_y, middle_x = 0.0, 0.0
        for y in range(top, bottom):
            for x in range(left, right):
                value_x, value_y = shift[0, y, x], shift[1, y, x]
                if np.isfinite(value_x) and np.isfinite(value_y):
                    number[b] += 1
                    middle_y += y
                    middle_x += x
                    mean[b, 0] += value_x
                    mean[b, 1] += value_y
        if number[b] == 0:
            continue
        mean[b, 0] /= number[b]
        mean[b, 1] /= number[b]
        middle_y /= number[b]
        middle_x /= number[b]
        for y in range(top, bottom):
            for x in range(left, right):
                value_x, value_y = shift[0, y, x], shift[1, y, x]
                if np.isfinite(value_x) and np.isfinite(value_y):
                    off_y, off_x = y - middle_y, x - middle_x
                    slopes[b, 0, 0] += value_x * off_y
                    slopes[b, 0, 1] += value_x * off_x
                    slopes[b, 1, 0] += value_y * off_y
                    slopes[b, 1, 1] += value_y * off_x
                    spread[b, 0, 0] += off_y * off_y
                    spread[b, 0, 1] += off_y * off_x
                    spread[b, 1, 1] += off_x * off_x
        spread[b, 1, 0] = spread[b, 0, 1]


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
        """Return the mean square in pixels² of motion through the border, and its deviation without motion.

        Noise is subtracted, so the value may be negative.
        """
        return _beyond_noise(self.crossing[:, 0] ** 2, self.crossing[:, 1], self.crossing[:, 1] ** 2)

    def mean_square(self) -> tuple[float, float]:
        """Return the mean square shift in pixels² without noise, and its deviation without motion."""
        noise = np.trace(self.covariances, axis1=1, axis2=2)
        return _beyond_noise((self.shifts**2).sum(axis=1), noise, (self.covariances**2).sum(axis=(1, 2)))

    def without(self, shift: Real, scale: float = 1.0) -> BorderShifts:
        """Return these shifts minus `scale` × (2, y, x) in pixels, for patches where that is known.

        A shift may be that of the speckles that arrive in a patch or of those that leave it: the nearer.
        """
        places = [
            [box, _moved(box, -one, shift.shape[1:])]
            for box, one in zip(self.boxes, self.shifts, strict=True)
        ]
        edges = np.array([[(y.start, y.stop, x.start, x.stop) for y, x in pair] for pair in places], np.int64)
        edges = edges.reshape(-1, 4)
        number, mean = np.zeros(len(edges), np.int64), np.zeros((len(edges), 2))
        slopes, spread = np.zeros((len(edges), 2, 2)), np.zeros((len(edges), 2, 2))
        _sum_planes(shift, edges, number, mean, slopes, spread)
        mean, slopes = scale * mean, scale * slopes
        # The one shift of a patch is that of its mean only to a part of what it varies by. What varies is a
        # plane; the rest of a noisy result is no motion.
        varies = slopes @ np.linalg.pinv(spread, hermitian=True) @ slopes.transpose(0, 2, 1)
        varies *= _SPREAD**2 / np.maximum(number, 1)[:, None, None]
        rest = self.shifts[:, None] - mean.reshape(-1, 2, 2)
        far = np.where(number > 0, np.hypot(*rest.reshape(-1, 2).T), np.inf).reshape(-1, 2)
        kept = np.flatnonzero(np.isfinite(far).any(axis=1))
        nearest = np.argmin(far[kept], axis=1)
        return BorderShifts(
            boxes=tuple(self.boxes[i] for i in kept),
            centres=self.centres[kept],
            shifts=rest[kept, nearest],
            covariances=self.covariances[kept] + varies.reshape(-1, 2, 2, 2)[kept, nearest],
            crossing=self.crossing[kept],
        )

    def near(self, centres: Real, *, left_out: bool) -> tuple[Real, Real] | None:
        """Return expected shifts (number, 2) at some centres and the slopes (2, 2) along x and y of all.

        They are the polynomial that fits best plus the median of its error in the nearest patches, without
        the one of the same centre if it is `left_out`; NaN without any. None if there are no patches.
        """
        if not self.boxes:
            return None
        a, b, c, d, e = self.polynomial()
        offset, slopes = np.array([a, b]), np.array([[c, e], [e, d]])
        lacking = self.shifts - offset - self.centres @ slopes
        distance = ((self.centres - centres[:, None]) ** 2).sum(axis=2)
        if left_out:
            distance[distance == 0.0] = np.inf
        nearest = np.argsort(distance, axis=1, kind="stable")[:, :_NEIGHBOURS]
        known = np.isfinite(np.take_along_axis(distance, nearest, axis=1))
        errors = np.sort(np.where(known[..., None], lacking[nearest], np.nan), axis=1)  # NaN comes last
        number, row = known.sum(axis=1), np.arange(len(centres))
        middle = errors[row, np.maximum(number - 1, 0) // 2] + errors[row, number // 2]
        return offset + centres @ slopes + 0.5 * middle, slopes

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
        """Return (a, b, c, d, e) of the shift (a + c x + e y, b + e x + d y) that fits most patches best."""
        return self._polynomial

    @cached_property
    def _polynomial(self) -> Real:
        if not len(self.boxes):
            return np.zeros(5)
        (x, y), one, none = self.centres.T, np.ones(len(self.boxes)), np.zeros(len(self.boxes))
        rows = np.stack([np.stack([one, none, x, none, y], -1), np.stack([none, one, none, y, x], -1)], 1)
        roots = np.linalg.cholesky(np.linalg.inv(self.covariances + _FLOOR * np.eye(2))).transpose(0, 2, 1)
        weights = one
        for _ in range(_REWEIGHTED):
            scaled = np.sqrt(weights)[:, None, None] * roots
            matrix, right = (scaled @ rows).reshape(-1, 5), (scaled @ self.shifts[..., None]).ravel()
            solution: Real = np.linalg.lstsq(matrix, right, rcond=1e-8)[0]
            # Patches in which something else moves count less, in proportion to how far they are off.
            off = np.hypot(*(self.shifts - rows @ solution).T)
            weights = 1.0 / np.maximum(1.0, off / max(_OUTLYING * float(np.median(off)), 3.0 * _FLOOR**0.5))
        return solution


def register_border(reference: Real, sample: Real, *weights: Real | None) -> BorderShifts:
    """Register patches along the border of frames (position, y, x); pixels of any weight 0 do not count."""
    number = len(reference)
    chosen = np.unique(np.linspace(0, number - 1, min(number, _POSITIONS)).round().astype(int))

    def usable(place: tuple[Any, ...]) -> NDArray[np.bool_]:
        one, other = reference[place], sample[place]
        good: NDArray[np.bool_] = np.isfinite(one) & np.isfinite(other) & (one > 0.0)
        for stack in weights:
            if stack is not None:
                good &= stack[place] > 0
        return good

    places: list[Place] = []
    patches: list[Patches] = []
    for place in _boxes(*reference.shape[1:]):
        box = (chosen, *place[0])
        good = usable(box)
        kept = np.count_nonzero(good, axis=(1, 2)) >= LEAST
        if kept.any():
            places.append(place)
            patches.append(Patches.of(reference[box][kept], sample[box][kept], good[kept]))
    centres = [_centre(place[0], reference.shape) for place in places]
    found = [one.register(*place[1:]) for one, place in zip(patches, places, strict=True)]
    missed = found.count(None) > _MISSED * len(found)
    coarse = None
    if missed and min(reference.shape[1:]) >= 2 * _COARSEST:
        good = usable((chosen,))
        coarse = register_border(*(_halved(frames[chosen], good) for frames in (reference, sample)))
        coarse = coarse.doubled() if len(coarse.boxes) else None
    around = coarse or _gathered(places, centres, found)
    expected = around.near(np.reshape(centres, (-1, 2)), left_out=coarse is None)
    if expected is not None:
        shifts, slopes = expected
        for i, (one, place) in enumerate(zip(patches, places, strict=True)):
            if np.isfinite(shifts[i]).all():
                found[i] = _better(found[i], shifts[i], slopes, one, place)
    if coarse is not None and found.count(None) > 0.5 * len(found):
        return coarse
    return _gathered(places, centres, found)


def _gathered(
    places: list[Place], centres: list[list[float]], found: list[PatchShift | None]
) -> BorderShifts:
    """Return the shifts of the patches that could be registered."""
    kept = [(place[0], centre, one) for place, centre, one in zip(places, centres, found, strict=True) if one]
    return BorderShifts(
        boxes=tuple(box for box, _, _ in kept),
        centres=np.array([centre for _, centre, _ in kept]).reshape(-1, 2),
        shifts=np.array([one.shift for _, _, one in kept]).reshape(-1, 2),
        covariances=np.array([one.covariance for _, _, one in kept]).reshape(-1, 2, 2),
        crossing=np.array([one.crossing for _, _, one in kept]).reshape(-1, 2),
    )


def _better(
    found: PatchShift | None, shift: Real, slopes: Real, patches: Patches, place: Place
) -> PatchShift | None:
    """Return the shift of a patch, or the one found from an expected shift and slopes if it explains more.

    The second is tried where nothing was found, where both are a pixel apart, or where the shift changes
    along the patch.
    """
    if found and math.hypot(*(found.shift - shift)) < _APART:
        if np.abs(slopes).max() * max(patches.good.shape[1:]) < _UNEVEN:
            return found
        shift = found.shift
    other = patches.register(*place[1:], shift, slopes)
    return other if other and (not found or other.explained > found.explained) else found


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
        parts = images[:, :height, :width].reshape(len(images), height // 2, 2, width // 2, 2)
        return np.asarray(parts.sum(axis=(2, 4)))

    number = sums(good.astype(np.float32))
    total = sums(np.where(good, frames, np.float32(0.0)).astype(np.float32))
    out: Real = np.where(number >= 2.0, total / np.maximum(number, 1.0), np.nan)
    return out


def _beyond_noise(squares: Real, noise: Real, variances: Real) -> tuple[float, float]:
    if not len(squares):
        return 0.0, 0.0
    return float(np.mean(squares - noise)), float(np.sqrt(2.0 * variances.sum())) / len(squares)


def _boxes(height: int, width: int) -> list[Place]:
    """Return patches; those along y lie between those along x."""
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
