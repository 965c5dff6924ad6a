"""Shifts of the speckles along the border of frames, by registration of patches.

In a patch the sample frame of every position is a·R(r − u) + b, with one shift u for all positions, whose
component across the border may change linearly with the distance from it. Least squares give u in the middle
of the patch and at the border, from whole pixels by cross-correlation. Where this fails, because speckles
moved too far or too unevenly, frames binned by two are registered first and give the start values.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

Real = NDArray[Any]
Box = tuple[slice, slice]
Place = tuple[Box, int, int]  # patch, axis across the border (0: x, 1: y), −1 where that begins there, else 1

_DEPTH: Final = 16  # pixels from the border
_LENGTH: Final = 64  # pixels along it, at most
_PATCHES: Final = 10  # a side, at most
_POSITIONS: Final = 3  # that are used, at most
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
_NEIGHBOURS: Final = 3  # patches that say what to expect in another
_APART: Final = 1.0  # pixels from that at which a shift is doubted
_UNEVEN: Final = 0.5  # pixels by which a shift may change along a patch that is taken to have one
_SPREAD: Final = 0.5
_REWEIGHTED: Final = 10
_INNER: Final = np.s_[1:-1, 1:-1]
_OUTLYING: Final = 2.5  # times the median distance from a polynomial
# Variance in pixels² that a patch has against a polynomial, besides that of its own.
_FLOOR: Final = 1e-4


@dataclass(frozen=True, eq=False)
class Patches:
    """Patches (position, y, x) of reference and sample without their means, and where both are good.

    `splines`: cubic spline coefficients of the reference; `holes`: numbers of patches with pixels that are
    not good, and what these (y, x) have an effect on.
    """

    reference: Real
    sample: Real
    good: NDArray[np.bool_]
    splines: Real
    holes: tuple[tuple[int, NDArray[np.bool_]], ...]

    @classmethod
    def of(cls, reference: Real, sample: Real, good: NDArray[np.bool_]) -> Patches:
        """Prepare patches (position, y, x), each with a good pixel."""
        filled = []
        number = np.count_nonzero(good, axis=(1, 2))[:, None, None]
        for images in (reference, sample):
            out = np.where(good, images, 0.0).astype(np.float64)
            out -= out.sum(axis=(1, 2), keepdims=True) / number
            out *= good
            filled.append(out)
        splines = filled[0]
        for axis in (1, 2):
            splines = ndimage.spline_filter1d(splines, 3, axis=axis, mode="mirror")
        return cls(
            reference=filled[0],
            sample=filled[1],
            good=good,
            splines=splines,
            holes=tuple(
                (n, ndimage.binary_dilation(~one, iterations=2))
                for n, one in enumerate(good)
                if not one.all()
            ),
        )


@dataclass(frozen=True, eq=False)
class PatchShift:
    """Shift (x, y) of a patch, its covariance (2, 2), what crosses the border with its variance.

    `explained`: part of the variance of the sample that the moved reference has.
    """

    shift: Real
    covariance: Real
    crossing: tuple[float, float]
    explained: float


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

    def without(self, shift: Real) -> BorderShifts:
        """Return these shifts minus a known shift (2, y, x) in pixels, for patches where it is known.

        A shift may be that of the speckles that arrive in a patch or of those that leave it: the nearer.
        """
        lacking, uneven, kept = [], [], []
        for i, (box, one) in enumerate(zip(self.boxes, self.shifts, strict=True)):
            left = []
            for place in (box, _moved(box, -one, shift.shape[1:])):
                part = shift[(slice(None), *place)]
                known = np.isfinite(part).all(axis=0)
                if known.any():
                    values = part[:, known].astype(np.float64)
                    # The one shift of a patch is that of its mean only to a part of what it varies by. What
                    # varies is a plane; the rest of a noisy result is no motion.
                    plane = np.stack(np.nonzero(known)).astype(np.float64)
                    plane -= plane.mean(axis=1, keepdims=True)
                    slopes = values @ plane.T @ np.linalg.pinv(plane @ plane.T) @ plane
                    spread = _SPREAD**2 * (slopes @ slopes.T) / slopes.shape[1]
                    left.append((one - values.mean(axis=1), spread))
            if left:
                nearest = min(left, key=lambda rest: float(np.hypot(*rest[0])))
                lacking.append(nearest[0])
                uneven.append(nearest[1])
                kept.append(i)
        return BorderShifts(
            boxes=tuple(self.boxes[i] for i in kept),
            centres=self.centres[kept],
            shifts=np.reshape(lacking, (-1, 2)),
            covariances=self.covariances[kept] + np.reshape(uneven, (-1, 2, 2)),
            crossing=self.crossing[kept],
        )

    def near(self, centre: list[float], *, without: list[float] | None) -> tuple[Real, Real] | None:
        """Return the expected shift (2,) at a place and its slopes (2, 2) along x and y.

        It is the polynomial that fits best plus the median of its error in the nearest patches, without the
        patch whose centre is `without`; None if there are none.
        """
        used = np.ones(len(self.centres), bool) if without is None else (self.centres != without).any(axis=1)
        if not used.any():
            return None
        a, b, c, d, e = self.polynomial()
        offset, slopes = np.array([a, b]), np.array([[c, e], [e, d]])
        lacking = (self.shifts - offset - self.centres @ slopes)[used]
        nearest = np.argsort(((self.centres[used] - centre) ** 2).sum(axis=1), kind="stable")[:_NEIGHBOURS]
        return offset + slopes @ centre + np.median(lacking[nearest], axis=0), slopes

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
        kept = np.count_nonzero(good, axis=(1, 2)) >= _LEAST
        if kept.any():
            places.append(place)
            patches.append(Patches.of(reference[box][kept], sample[box][kept], good[kept]))
    centres = [_centre(place[0], reference.shape) for place in places]
    found = [_register(one, *place[1:]) for one, place in zip(patches, places, strict=True)]
    missed = found.count(None) > _MISSED * len(found)
    coarse = None
    if missed and min(reference.shape[1:]) >= 2 * _COARSEST:
        good = usable((chosen,))
        coarse = register_border(*(_halved(frames[chosen], good) for frames in (reference, sample)))
        coarse = coarse.doubled() if len(coarse.boxes) else None
    around = coarse or _gathered(places, centres, found)
    for i, (one, place) in enumerate(zip(patches, places, strict=True)):
        expected = around.near(centres[i], without=None if coarse else centres[i])
        found[i] = _better(found[i], expected, one, place)
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
    found: PatchShift | None, expected: tuple[Real, Real] | None, patches: Patches, place: Place
) -> PatchShift | None:
    """Return the shift of a patch, or the one found from an expected shift and slopes if it explains more.

    The second is tried where nothing was found, where both are a pixel apart, or where the shift changes
    along the patch.
    """
    if expected is None:
        return found
    shift, slopes = expected
    if found and np.hypot(*(found.shift - shift)) < _APART:
        if np.abs(slopes).max() * max(patches.reference.shape[1:]) < _UNEVEN:
            return found
        shift = found.shift
    other = _register(patches, *place[1:], shift, slopes)
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


def _whole_shift(patches: Patches) -> Real:
    """Return the whole pixels (x, y) at which the sum of the cross-correlations is largest."""
    sizes = patches.reference.shape[1:]
    reach = [size // 3 for size in sizes]
    # Shifts beyond the reach may wrap around.
    shape = [fft.next_fast_len(size + most, real=True) for size, most in zip(sizes, reach, strict=True)]
    a, b = (
        fft.rfft2(images - images.mean(axis=(1, 2), keepdims=True), shape)
        for images in (patches.reference, patches.sample)
    )
    total = fft.irfft2((b * np.conj(a)).sum(axis=0), shape)
    near = total[np.ix_(*(np.arange(-most, most + 1) for most in reach))]
    y, x = np.unravel_index(int(np.argmax(near)), near.shape)
    return np.array([float(x) - reach[1], float(y) - reach[0]])


def _register(
    patches: Patches, axis: int, side: int, shift: Real | None = None, slopes: Real | None = None
) -> PatchShift | None:
    """Register a patch, whose shift across the border may change linearly with the distance from it.

    `shift` and `slopes` (2, 2) are where to begin, by default with what correlates best. None where the
    data do not determine it.
    """
    shift = _whole_shift(patches) if shift is None else shift
    height, width = patches.reference.shape[1:]
    y, x = np.mgrid[:height, :width].astype(np.float64)
    half = 0.5 * (width, height)[axis]
    distance = ((x, y)[axis] + 0.5 - half)[_INNER]
    uneven, density = np.zeros((2, 1, 1)), 1.0
    if slopes is not None:
        uneven = np.einsum("ij,jyx->iyx", slopes, np.stack([x + 0.5 - 0.5 * width, y + 0.5 - 0.5 * height]))
        density = 1.0 - float(np.trace(slopes))
    for step in range(_STEPS):
        # Pixels whose speckles were in the patch, one more for the derivative.
        source = np.stack(np.broadcast_arrays(y - shift[1] - uneven[1], x - shift[0] - uneven[0]))
        used = patches.good[:, 1:-1, 1:-1] & (_within(source[0], height) & _within(source[1], width))[_INNER]
        for n, hole in patches.holes:
            near = ndimage.map_coordinates(hole.astype(np.float32), source, order=1, mode="nearest")
            used[n] &= near[_INNER] == 0
        moved = (
            _moved_images(patches.splines, shift)
            if slopes is None
            else density
            * np.stack(
                [
                    ndimage.map_coordinates(spline, source, order=3, mode="mirror", prefilter=False)
                    for spline in patches.splines
                ]
            )
        )
        sums = _sums(moved, patches.sample, used, axis, distance)
        if sums is None:
            return None
        normal, right, rest, total, number = sums
        scale = np.sqrt(np.diag(normal))
        if not scale.all():
            return None
        least, _, most = np.linalg.eigvalsh(normal / (scale[:, None] * scale))
        if not most < _CONDITION * least:
            return None
        change = np.linalg.solve(normal, right)
        rest -= float(right @ change)
        shift = shift + np.minimum(np.maximum(change[:2], -_LARGEST_STEP), _LARGEST_STEP)
        if np.hypot(*change[:2]) < (_SMALL if step < _STEPS - 1 else _NEARLY):
            explained = 1.0 - rest / total
            if explained < _EXPLAINED:
                return None
            covariance = np.linalg.inv(normal) * max(rest, 0.0) / (number - 3)
            to_border = np.zeros(3)
            to_border[axis], to_border[2] = 1.0, side * half
            slope = change[2] + (0.0 if slopes is None else slopes[axis, axis])
            crossing = float(shift[axis] + side * half * slope)
            variance = float(to_border @ covariance @ to_border)
            return PatchShift(shift, covariance[:2, :2], (crossing, variance), explained)
    return None


def _sums(
    moved: Real, sample: Real, used: NDArray[np.bool_], axis: int, distance: Real
) -> tuple[Real, Real, float, float, int] | None:
    """Return the normal equations (3, 3), (3,) for a change of shift and slope, with offset and gain free.

    Also return the square sums of the residual and of the sample, and the number of data; None if these are
    too few. Images (position, y, x); `used` and `distance` without the outermost pixels.
    """
    count = np.count_nonzero(used, axis=(1, 2))
    kept = np.flatnonzero(count >= _LEAST)
    if not kept.size:
        return None
    moved, sample, used, count = moved[kept], sample[kept], used[kept], count[kept].astype(np.float64)
    rows = np.empty((len(kept), 6, *used.shape[1:]))
    rows[:, 0] = 1.0
    rows[:, 1] = moved[:, 1:-1, 1:-1]
    rows[:, 2] = 0.5 * (moved[:, 1:-1, 2:] - moved[:, 1:-1, :-2])
    rows[:, 3] = 0.5 * (moved[:, 2:, 1:-1] - moved[:, :-2, 1:-1])
    rows[:, 4] = rows[:, 2 + axis] * distance
    rows[:, 5] = sample[:, 1:-1, 1:-1]
    rows *= used[:, None]
    rows = rows.reshape(len(kept), 6, -1)
    products = rows @ rows.transpose(0, 2, 1)
    means = products[:, 0, 1:] / count[:, None]
    products = products[:, 1:, 1:] - products[:, 0, 1:, None] * means[:, None]
    square = products[:, 0, 0]
    products, square, count = products[square > 0.0], square[square > 0.0], count[square > 0.0]
    number = int(count.sum()) - 2 * len(count)
    if number < _LEAST:
        return None
    gain = products[:, 0, 4] / square
    # What is left without the part along the moved reference; the derivatives of the model are -gain of it.
    left = products[:, 1:, 1:] - products[:, 1:, 0, None] * (products[:, 0, None, 1:] / square[:, None, None])
    normal = (gain[:, None, None] ** 2 * left[:, :3, :3]).sum(axis=0)
    right = -(gain[:, None] * left[:, :3, 3]).sum(axis=0)
    return normal, right, float(left[:, 3, 3].sum()), float(products[:, 4, 4].sum()), number


def _moved_images(splines: Real, shift: Real) -> Real:
    """Return images (position, y, x) of cubic spline coefficients, moved by (x, y)."""
    down, across = (
        _spline_matrix(size, float(by)) for size, by in zip(splines.shape[1:], shift[::-1], strict=True)
    )
    out: Real = down @ splines @ across.T
    return out


def _spline_matrix(size: int, shift: float) -> Real:
    """Return the matrix (size, size) from cubic spline coefficients to values moved by a shift."""
    whole = int(np.floor(-shift))
    t = -shift - whole
    weights = ((1 - t) ** 3 / 6, 2 / 3 - t**2 * (2 - t) / 2, 2 / 3 - (1 - t) ** 2 * (1 + t) / 2, t**3 / 6)
    places = np.arange(size)
    mirrored = np.abs(places + np.arange(whole - 1, whole + 3)[:, None])
    mirrored = np.maximum(size - 1 - np.abs(size - 1 - mirrored), 0)
    out = np.zeros((size, size))
    for columns, weight in zip(mirrored, weights, strict=True):
        out[places, columns] += weight
    return out


def _within(place: Real, size: int) -> NDArray[np.bool_]:
    return np.asarray((place >= 1) & (place <= size - 2))
