"""How far a sample moved between two frames that overlap, by a fit of both frames to one sample.

With the diffuser at rest a frame of the sample at s shows, at its pixel r, the place q = r − s of the sample:

    I(r) = T(q) [ R̄ + V (R − R̄) ](r − u(q)),   u = ∇ψ

ln T and ψ of the overlap are splines in q, so that a frame is fitted at any s without interpolation of the
sample. Gauss–Newton for their coefficients and the offset s − s' of both frames; what the coefficients leave
of the offset's normal matrix (Schur complement) is its information. V is given. Windows, which average T and
u and thereby displace them, have no part in the fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.numerics.matching.contrast import noise_gain
from xmist.numerics.matching.directional import moved, spline
from xmist.numerics.operators.derivatives import DX, DY, derivative

Real = NDArray[Any]
# Values of each spline (place, coefficient) by kind (ln T, ψ), axis and derivative.
Bases = dict[tuple[int, int, int], Real]

_DEGREE: Final = 4  # second derivatives of ψ are smooth
_KNOTS: Final = (2.0, 4.0)  # pixels between knots of ln T and of ψ
# Least rms of second differences of ln T a pixel², and of third differences of ψ a pixel, that the priors
# expect; more where a fit finds more.
_SMOOTHEST: Final = (0.003, 0.03)
_RIM: Final = 8  # pixels at the rim of a frame that are left out
_LARGEST: Final = 320  # pixels along an axis; a part of larger overlaps tells enough
_MODEL: Final = 1e-3  # part of the mean that the model is wrong by
_WIDE: Final = 41  # pixels a side of the window in which V is averaged
_LEAST: Final = 256  # pixels that must count
_STEPS: Final = 6
_INNER: Final = 40
_DAMPED: Final = 0.8  # overshoots, because the splines also fit noise
_FARTHEST: Final = 0.5  # pixels a step
_PLAUSIBLE: Final = 2.0  # pixels; usual size of an error of the offset


@dataclass(frozen=True, kw_only=True, eq=False)
class OverlapFrame:
    """A frame (y, x) with its reference, prepared.

    `splines` (y, x, 6): of R̄ and R − R̄, each with ∂x and ∂y; `weights` are 0 where nothing is usable;
    `visibility` V; `start` (3, y, x): first u_x, u_y and ln T; `noise`: variance of a pixel's difference.
    """

    splines: Real
    sample: Real
    weights: Real
    visibility: Real
    start: Real
    noise: float

    @classmethod
    def of(cls, reference: Real, sample: Real, weights: Real, maps: Real, window: int) -> OverlapFrame:
        """Prepare a frame; `maps` (4, y, x): u_x, u_y, T, V, NaN where they are not known."""
        from scipy.ndimage import uniform_filter

        known = np.isfinite(maps).all(axis=0) & (maps[2] > 0)
        mean = uniform_filter(reference, window, mode="nearest")
        images = [mean, reference - mean]
        images = [part for image in images for part in (image, *_slopes(image))]
        used = np.where(known & np.isfinite(sample), weights, np.float32(0.0))
        noise = 0.0
        for image in (reference, np.where(used > 0, sample, reference)):
            level = float(image.mean(dtype=np.float64))
            noise += noise_gain(image[None].astype(np.float32), (used > 0)[None].astype(np.uint8)) * level
            noise += (_MODEL * level) ** 2
        return cls(
            splines=spline(np.stack(images)),
            sample=np.where(used > 0, sample, np.float32(0.0)).astype(np.float64),
            weights=used.astype(np.float64),
            visibility=_smooth(np.where(known, np.clip(maps[3], 0.0, 1.5), 0.0), known),
            noise=noise,
            start=np.where(known, np.stack([*maps[:2], np.log(np.where(known, maps[2], 1.0))]), 0.0),
        )


def _smooth(image: Real, known: NDArray[np.bool_]) -> Real:
    """Return the mean of the known pixels (y, x) of a wide window: one frame tells V with much noise."""
    from scipy.ndimage import uniform_filter

    share = uniform_filter(known.astype(np.float64), _WIDE, mode="nearest")
    total = uniform_filter(np.where(known, image, 0.0), _WIDE, mode="nearest")
    return np.where(share > 0.05, total / np.maximum(share, 0.05), 1.0)


def _slopes(image: Real) -> tuple[Real, Real]:
    return derivative(image, DX, threads=1), derivative(image, DY, threads=1)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Part:
    """A frame's part of the equations: rows and columns, matrices of splines, images (y, x) there.

    `slopes`: M = ∂I/∂ln T, ∂I/∂u_x and ∂I/∂u_y; `residual`; `weights`; `along`: ∂I/∂offset, y and x.
    """

    bases: Bases
    slopes: tuple[Real, Real, Real]
    residual: Real
    weights: Real
    along: tuple[Real, Real]


def _basis(places: Real, ends: tuple[float, float], knots: float, order: int) -> Real:
    """Return (place, coefficient): a derivative of each B-spline of an interval, 0 beyond it."""
    from scipy.interpolate import BSpline

    number = int(np.ceil((ends[1] - ends[0]) / knots)) + _DEGREE
    at = ends[0] + knots * (np.arange(number + _DEGREE + 1) - _DEGREE)
    found: Real = BSpline(at, np.eye(number), _DEGREE, extrapolate=False)(places, nu=order)
    return np.nan_to_num(found)


def _bases(places: Sequence[Real], ends: Sequence[tuple[float, float]]) -> Bases:
    return {
        (kind, axis, order): _basis(places[axis], ends[axis], knots, order)
        for kind, knots in enumerate(_KNOTS)
        for axis in (0, 1)
        for order in range(2 + kind)
    }


class _Equations:
    """Normal equations of the coefficients of ln T and ψ (kinds 0 and 1) and their solution.

    `fields`: coefficients found so far, as rough as which the priors allow.
    """

    def __init__(self, parts: Sequence[_Part], noise: float, fields: Sequence[Real] | None = None) -> None:
        self.parts, self.noise = parts, noise
        bases = parts[0].bases
        self.shapes = [tuple(bases[kind, axis, 0].shape[1] for axis in (0, 1)) for kind in (0, 1)]
        self.rough = [
            [np.diff(np.eye(size), 2 + kind, axis=0) / knots ** (2 + kind) for size in shape]
            for kind, (shape, knots) in enumerate(zip(self.shapes, _KNOTS, strict=True))
        ]
        self.strengths = []
        for kind, (knots, usual) in enumerate(zip(_KNOTS, _SMOOTHEST, strict=True)):
            found = 0.0 if fields is None else self._roughness(kind, fields[kind])
            self.strengths.append((knots / max(usual, found)) ** 2)
        diagonal = [np.zeros(shape) for shape in self.shapes]
        for part in parts:
            for kind, orders, slope in _terms(part):
                left, right = (part.bases[kind, axis, orders[axis]] ** 2 for axis in (0, 1))
                diagonal[kind] += left.T @ (part.weights * slope**2 / noise) @ right
        for kind, strength in enumerate(self.strengths):
            y, x = ((matrix**2).sum(axis=0) for matrix in self.rough[kind])
            diagonal[kind] += strength * (y[:, None] + x) + 1e-6 * diagonal[kind].max() + 1e-30
        self.diagonal = diagonal

    def _roughness(self, kind: int, field: Real) -> float:
        """Return the rms of the differences that the prior is about."""
        y, x = self.rough[kind]
        return float(np.sqrt(0.5 * (np.mean((y @ field) ** 2) + np.mean((field @ x.T) ** 2))))

    def prior(self, fields: Sequence[Real]) -> list[Real]:
        """Return the gradient of the priors at coefficients (kind of y, x)."""
        return [
            strength * (y.T @ (y @ field) + (field @ x.T) @ x)
            for strength, (y, x), field in zip(self.strengths, self.rough, fields, strict=True)
        ]

    def adjoint(self, images: Sequence[Real]) -> list[Real]:
        """Return the gradient of the data term for images (y, x), one for each part."""
        out = [np.zeros(shape) for shape in self.shapes]
        for part, image in zip(self.parts, images, strict=True):
            weighted = part.weights * image / self.noise
            for kind, orders, slope in _terms(part):
                left, right = (part.bases[kind, axis, orders[axis]] for axis in (0, 1))
                out[kind] += left.T @ (slope * weighted) @ right
        return out

    def apply(self, fields: Sequence[Real]) -> list[Real]:
        """Return the normal matrix times coefficients."""
        images = []
        for part in self.parts:
            terms = _terms(part)
            values = [slope * _image(part.bases, fields, kind, *orders) for kind, orders, slope in terms]
            images.append(values[0] + values[1] + values[2])
        pairs = zip(self.adjoint(images), self.prior(fields), strict=True)
        return [one + other for one, other in pairs]

    def solve(self, right: Sequence[Real]) -> list[Real]:
        """Return coefficients by conjugate gradients."""
        found = [np.zeros(shape) for shape in self.shapes]
        rest = [part.copy() for part in right]
        step = [part / scale for part, scale in zip(rest, self.diagonal, strict=True)]
        first = size = _dot(rest, step)
        for _ in range(_INNER):
            if not size > 1e-8 * first:
                break
            image = self.apply(step)
            length = size / _dot(step, image)
            for k in (0, 1):
                found[k] += length * step[k]
                rest[k] -= length * image[k]
            scaled = [part / scale for part, scale in zip(rest, self.diagonal, strict=True)]
            size, before = _dot(rest, scaled), size
            step = [part + size / before * last for part, last in zip(scaled, step, strict=True)]
        return found


def _terms(part: _Part) -> list[tuple[int, tuple[int, int], Real]]:
    """Return the kind, the orders of its derivative along y and x and the factor of each term."""
    return [(0, (0, 0), part.slopes[0]), (1, (0, 1), part.slopes[1]), (1, (1, 0), part.slopes[2])]


def _image(bases: Bases, fields: Sequence[Real], kind: int, y: int, x: int) -> Real:
    out: Real = bases[kind, 0, y] @ fields[kind] @ bases[kind, 1, x].T
    return out


def _dot(one: Sequence[Real], other: Sequence[Real]) -> float:
    return float(sum((a * b).sum() for a, b in zip(one, other, strict=True)))


def offset_between(one: OverlapFrame, other: OverlapFrame, offset: Real) -> tuple[Real, Real] | None:
    """Return what the offset (y, x) of the sample from `one` to `other` is beyond that given.

    Also its normal matrix (2, 2) in pixels⁻². None where the frames overlap too little.
    """
    box = _overlap(one, offset)
    if box is None:
        return None
    ends = [(first - 3.0, last + 3.0) for first, last in box]
    places = [np.arange(first, last + 1.0) for first, last in box]
    # The same places of the sample, in whole pixels of the other frame.
    there = [np.rint(place + part) for place, part in zip(places, offset, strict=True)]
    rows = [tuple(slice(int(place[0]), int(place[-1]) + 1) for place in pair) for pair in (places, there)]
    frames = (one, other)
    if min(np.count_nonzero(frame.weights[part]) for frame, part in zip(frames, rows, strict=True)) < _LEAST:
        return None
    fields = _start(one, rows[0], _bases(places, ends))
    noise = 0.5 * (one.noise + other.noise)
    found, normal, misfits = np.array(offset, np.float64), np.zeros((2, 2)), []
    for _ in range(_STEPS):
        shifted = [place - part for place, part in zip(there, found, strict=True)]
        parts = [
            _linearise(frame, part, _bases(at, ends), fields, moves=moves)
            for frame, part, at, moves in zip(frames, rows, (places, shifted), (False, True), strict=True)
        ]
        total = sum(float(part.weights.sum()) for part in parts)
        misfits.append(sum(float((part.weights * part.residual**2).sum()) for part in parts) / total)
        step, normal, change = _step(_Equations(parts, noise, fields), fields)
        found += step
        fields = [field + part for field, part in zip(fields, change, strict=True)]
    if not (np.isfinite(found).all() and misfits[-1] <= misfits[0]):
        return None
    # What the model does not explain tells less than noise would.
    return found - offset, normal * min(1.0, noise / misfits[-1])


def _overlap(one: OverlapFrame, offset: Real) -> list[tuple[int, int]] | None:
    """Return the first and last row and column of `one` that are compared; the richest part of many."""
    box = []
    for size, part in zip(one.sample.shape, offset, strict=True):
        first, last = np.ceil(max(0.0, -part)) + _RIM, np.floor(min(size, size - part)) - 1 - _RIM
        box.append((int(first), int(last)))
    if min(last - first for first, last in box) < _RIM:
        return None
    (top, bottom), (left, right) = box
    slopes = np.gradient(one.start[:, top : bottom + 1, left : right + 1], axis=(1, 2))
    detail = sum((slope**2).sum(axis=0) for slope in slopes)
    for axis in (0, 1):
        first, last = box[axis]
        if last - first >= _LARGEST:
            sums = np.concatenate([[0.0], np.cumsum(detail.sum(axis=1 - axis))])
            begin = int(np.argmax(sums[_LARGEST:] - sums[:-_LARGEST]))
            detail = detail.take(np.arange(begin, begin + _LARGEST), axis=axis)
            box[axis] = first + begin, first + begin + _LARGEST - 1
    return box


def _start(frame: OverlapFrame, part: tuple[slice, ...], bases: Bases) -> list[Real]:
    """Return the coefficients of ln T and ψ nearest to the first maps."""
    u_x, u_y, log_t = (image[part] for image in frame.start)
    weights = (frame.weights[part] > 0).astype(np.float64)
    nothing = np.zeros_like(weights)
    parts = [
        _Part(bases=bases, slopes=slopes, residual=target, weights=weights, along=(nothing, nothing))
        for slopes, target in (
            ((nothing + 1.0, nothing, nothing), log_t),
            ((nothing, nothing + 1.0, nothing), u_x),
            ((nothing, nothing, nothing + 1.0), u_y),
        )
    ]
    equations = _Equations(parts, 1e-4)
    return equations.solve(equations.adjoint([item.residual for item in parts]))


def _linearise(
    frame: OverlapFrame,
    part: tuple[slice, ...],
    bases: Bases,
    fields: Sequence[Real],
    *,
    moves: bool,
) -> _Part:
    """Return a frame's part of the equations; its sample `moves` with the offset, or stays."""
    height, width = frame.sample.shape
    shift = np.zeros((2, height, width), np.float32)
    shift[0][part], shift[1][part] = _image(bases, fields, 1, 0, 1), _image(bases, fields, 1, 1, 0)
    still = np.zeros((4, height, width), np.float32)
    images = moved(frame.splines, shift, still, part[0].start, part[0].stop)[:, :, part[1]].astype(np.float64)
    values = images[:3] + frame.visibility[part] * images[3:]
    transmission = np.exp(_image(bases, fields, 0, 0, 0))
    model, slope_x, slope_y = transmission * values[0], -transmission * values[1], -transmission * values[2]
    along = (np.zeros_like(model), np.zeros_like(model))
    if moves:
        # The sample at q = r − s moves along with s: all images change against their gradient.
        along = tuple(
            -(
                model * _image(bases, fields, 0, y, x)
                + slope_x * _image(bases, fields, 1, y, 1 + x)
                + slope_y * _image(bases, fields, 1, 1 + y, x)
            )
            for y, x in ((1, 0), (0, 1))
        )
    return _Part(
        bases=bases,
        slopes=(model, slope_x, slope_y),
        residual=frame.sample[part] - model,
        weights=frame.weights[part],
        along=along,
    )


def _step(equations: _Equations, fields: Sequence[Real]) -> tuple[Real, Real, list[Real]]:
    """Return the step of the offset, its normal matrix (2, 2), and the change of the coefficients."""
    parts, noise = equations.parts, equations.noise
    data = equations.adjoint([part.residual for part in parts])
    right = [one - other for one, other in zip(data, equations.prior(fields), strict=True)]
    columns = [equations.adjoint([part.along[k] for part in parts]) for k in (0, 1)]
    still, together = equations.solve(right), [equations.solve(column) for column in columns]

    def product(k: int, image: str, i: int = 0) -> float:
        other = [getattr(part, image) for part in parts]
        chosen = [some[i] if image == "along" else some for some in other]
        pairs = zip(parts, chosen, strict=True)
        return float(sum((part.weights * part.along[k] * some).sum() for part, some in pairs)) / noise

    normal = np.array(
        [[product(k, "along", i) - _dot(columns[k], together[i]) for i in (0, 1)] for k in (0, 1)]
    )
    normal = 0.5 * (normal + normal.T)
    gradient = np.array([product(k, "residual") - _dot(columns[k], still) for k in (0, 1)])
    step = _DAMPED * np.linalg.solve(normal + np.eye(2) / _PLAUSIBLE**2, gradient)
    step = np.clip(step, -_FARTHEST, _FARTHEST)
    change = [own - step[0] * y - step[1] * x for own, y, x in zip(still, *together, strict=True)]
    return step, normal, change
