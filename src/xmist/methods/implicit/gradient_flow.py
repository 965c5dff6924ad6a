"""The steps of `mist-gradient-flow` on arrays in pixel units; its own file has the equations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from xmist.core.arrays import Image
from xmist.methods.common.reference import middle
from xmist.methods.implicit.direct import fill_source
from xmist.numerics.images.blocks import binned
from xmist.numerics.matching.contrast import noise_gain
from xmist.numerics.operators.derivatives import DX, DY, RADIUS, derivative
from xmist.numerics.operators.finite_transport import Warp, sampled, spline_gains
from xmist.numerics.parallel import for_blocks
from xmist.numerics.solvers.gradient_flow import (
    SCALAR,
    TENSOR,
    add_equations,
    noise_sums,
    smooth_equations,
    solve_equations,
    whiten,
    whitened,
)
from xmist.numerics.solvers.integrate import spectral_adjoint
from xmist.numerics.solvers.least_squares import ILL_LIMIT
from xmist.numerics.solvers.poisson import dct2, frequencies

Real = NDArray[Any]

SMOOTHINGS: Final = (1.0, 1.4, 2.0, 2.8, 4.0, 5.7, 8.0, 11.3, 16.0)  # pixels
RIDGES: Final = (0.0, *(10.0 ** (exponent / 2) for exponent in range(-6, 3)))
_FIRST: Final = 1.0  # Gaussian σ in pixels of the equations that judge a smoothing
START: Final = 0.7  # Gaussian σ in pixels of the ψ that the references are moved by
_SLOW: Final = 4.0  # Gaussian σ in pixels of the g that long waves are taken from
_SHORTEST: Final = 3.0  # of these waves, in σ
_BIN: Final = 4  # pixels; σ = 4 leaves nothing finer
_TILE: Final = 256  # pixels
_WHOLE: Final = 768  # pixels; larger images are judged by nine tiles
_RINGS: Final = 14
_ACCURACY: Final = 1e-5  # pixels of a moved reference; noise moves speckles by far more
_FEW: Final = 4  # positions that noise is read from
_ROWS: Final = 16  # of a few frames, which the cache holds
_HALF: Final = 0.5  # of the flux of speckles without their mean that is a gradient, if they are isotropic


@dataclass(frozen=True, kw_only=True, eq=False)
class Sums:
    """Sums over positions, and over each half of them.

    Parameters
    ----------
    equations : (`SCALAR` or `TENSOR`, y, x) float32 array
        Normal equations; those of a few rows are added up if only coarse ones were wanted.
    source, level : (y, x) float32 array
        Σ (J − I_S) and Σ J, J the reference as it was moved.
    halves, sources, levels : (2, ..., v, u) float32 array
        The same of each half, means over squares of `coarse_size` pixels.
    tiles : list of (2, `SCALAR` or `TENSOR`, y, x) float32 array
        Equations of each half in the pixels of `_tiles`; none if only coarse ones were wanted.
    positions : (int, int)
        How many.
    share : float
        Part of the flux I g that is a gradient.
    """

    equations: Image
    source: Image
    level: Image
    halves: Image
    sources: Image
    levels: Image
    tiles: list[Image]
    positions: tuple[int, int]
    share: float


def coarse_size(shape: tuple[int, ...]) -> int:
    """Return the side in pixels of the squares over which slow images are averaged."""
    size = _BIN
    while size > 1 and any(n % size or n // size < 16 for n in shape):
        size -= 1
    return size


@dataclass(frozen=True, kw_only=True, eq=False)
class Flow:
    """References, and the arrays that are derived from them once.

    Parameters
    ----------
    frames : (position, y, x) float32 array
        Reference frames.
    splines : list of (2, y, x) float32 array
        Spline coefficients of each reference and of its filtered form; empty without refinements.
    speckle : float
        Size of the speckles in pixels.
    epsilon : float
        ε of the filter in rad per pixel.
    tensor : bool
        Whether d is a tensor.
    threads : int
        Threads.
    """

    frames: Image
    splines: list[Image]
    speckle: float
    epsilon: float
    tensor: bool
    threads: int

    def sums(
        self,
        sample: Image,
        weights: Sequence[Image | None],
        *,
        factor: Image | None = None,
        shift: Image | None = None,
        filtered: bool = False,
        positions: Sequence[int] | None = None,
        equations: Literal["none", "coarse", "whole"] = "whole",
        gain: float = 0.0,
        explained: bool = False,
    ) -> Sums:
        """Sum the equations of some positions, the references times `factor`, moved by `shift` (2, y, x).

        `gain`: variance of the noise of the references over their mean; `explained`: the shift is that of
        the mean wave, which has its part of the noise.
        """
        shape, chosen = self.frames.shape[1:], range(len(self.frames)) if positions is None else positions
        kinds = 0 if equations == "none" else TENSOR if self.tensor else SCALAR
        size = coarse_size(shape)
        down = size if equations == "coarse" else 1
        total = np.zeros((kinds, shape[0] // down, shape[1]), np.float32)
        source, level = np.zeros((2, *shape), np.float32)
        warp = None if shift is None else Warp.of(shift, accuracy=_ACCURACY, threads=self.threads)
        inside = None if warp is None else _from_inside(warp.back)
        rest, moved = np.empty(shape, np.float32), np.empty((2, *shape), np.float32)
        noise = gain * noise_sums(
            shape,
            self.epsilon if filtered else 0.0,
            tensor=self.tensor,
            explained=explained / len(chosen),
            sigma=START,
        )
        parts: list[list[Image]] = []
        for half in (chosen[::2], chosen[1::2]):
            for n in half:
                model, detail = self._moved(n, factor, warp, filtered=filtered, out=moved)
                weight = _both(weights[n], inside)
                rest = self._add(model, sample[n], weights[n], weight, source, level, rest)
                if not kinds:
                    continue
                epsilon = self.epsilon if filtered else 0.0
                potential = whitened(rest, epsilon, potential=True, overwrite=True, threads=self.threads)
                add_equations(
                    detail,
                    potential,
                    total,
                    weight=weight,
                    level=model if factor is None else model * factor,
                    noise=noise,
                    size=down,
                    threads=self.threads,
                )
            parts.append(
                [
                    binned(total, size, down=size // down, threads=self.threads),
                    *(binned(image, size, threads=self.threads) for image in (source, level)),
                    *(total[:, *tile].copy() for tile in _tiles(shape) if down == 1),
                ]
            )
        halves, sources, levels, *tiles = (
            np.stack([one, both - one]) for one, both in zip(*parts, strict=True)
        )
        return Sums(
            equations=total,
            source=source,
            level=level,
            halves=halves,
            sources=sources,
            levels=levels,
            tiles=tiles,
            positions=(len(chosen) - len(chosen) // 2, len(chosen) // 2),
            share=_HALF if filtered else 1.0,
        )

    def _moved(
        self, n: int, factor: Image | None, warp: Warp | None, *, filtered: bool, out: Image
    ) -> tuple[Image, Image]:
        """Return the reference of a position as it is without scatter, and that of the equations."""
        if warp is not None and self.splines and factor is None:
            splines = self.splines[n] if filtered else self.splines[n][:1]
            values = sampled(
                splines, warp.back, factor=warp.jacobian, out=out[: len(splines)], threads=self.threads
            )
            return values[0], values[-1]
        model: Image = self.frames[n] if factor is None else self.frames[n] * factor
        if warp is not None:
            model = warp(model)
        if not filtered:
            return model, model
        back = np.zeros((2, *model.shape), np.float32) if warp is None else warp.back
        return model, sampled(self.splines[n][1], back, factor=factor, out=out[1], threads=self.threads)

    def _add(
        self,
        model: Image,
        sample: Image,
        own: Image | None,
        weight: Image | None,
        source: Image,
        level: Image,
        rest: Image,
    ) -> Image:
        """Return J − I_S, where the weight is 0 from neighbours; add it and J to sums by its own weight."""
        mean = np.float32(1.0 if own is None else own.mean(dtype=np.float64))

        def subtract(start: int, stop: int) -> None:
            rows = slice(start, stop)
            with np.errstate(invalid="ignore", over="ignore"):  # pixels of weight 0
                np.subtract(model[rows], sample[rows], out=rest[rows])
            if weight is None:  # while the cache holds them
                add(start, stop)

        def add(start: int, stop: int) -> None:
            rows = slice(start, stop)
            source[rows] += rest[rows] if own is None else mean * rest[rows]
            level[rows] += model[rows] if own is None else mean * model[rows]

        for_blocks(subtract, len(rest), threads=self.threads, block=_ROWS)
        if weight is not None:
            rest = fill_source(rest, weight, threads=self.threads)
            for_blocks(add, len(rest), threads=self.threads, block=_ROWS)
        return rest


def prepare_flow(frames: Image, *, speckle: float, tensor: bool, refine: bool, threads: int) -> Flow:
    """Filter the references and fit splines to them; `speckle` is their size in pixels."""
    epsilon = 2.0 * math.pi / (2.0 * speckle)
    splines = [_splines_of(frame, epsilon, threads) for frame in frames] if refine else []
    return Flow(
        frames=frames,
        splines=splines,
        speckle=speckle,
        epsilon=epsilon,
        tensor=tensor,
        threads=threads,
    )


def _splines_of(frame: Image, epsilon: float, threads: int) -> Image:
    """Return the spline coefficients (2, y, x) of a frame and of its filtered form."""
    out = np.empty((2, *frame.shape), np.float32)
    along_y, along_x = (gain.astype(np.float32) for gain in spline_gains(frame.shape))
    out[1] = frame
    dct2(out[1], threads=threads)

    def filter_rows(start: int, stop: int) -> None:
        rows = slice(start, stop)
        np.multiply(out[1, rows], along_y[rows, None] * along_x, out=out[0, rows])

    for_blocks(filter_rows, len(frame), threads=threads, block=_ROWS)
    out[1] = out[0]
    whiten(out[1], epsilon, potential=False, threads=threads)
    for image in out:
        dct2(image, inverse=True, threads=threads)
    return out


def reference_noise(reference: Image, sample: Image, weights: Sequence[Image | None]) -> float:
    """Return the variance over the mean of the white noise of references (position, y, x).

    That of the difference of reference and sample is the sum of both: structure that they share, and noise
    that they share, do not count.
    """
    crop = (slice(_FEW), *middle(reference.shape[1:]))
    one, other = reference[crop], sample[crop].copy()
    if min(one.shape[1:]) < 2 * RADIUS + 1:
        return 0.0
    for frame, own, weight in zip(other, one, weights, strict=False):
        if weight is not None:  # 0 where the frame is not finite
            lost = weight[crop[1:]] == 0.0
            frame[lost] = own[lost]
    first, second, both = (noise_gain(frames, level=one) for frames in (one, other, one - other))
    return min(max(0.5 * (first + both - second), 0.0), first)


def _from_inside(back: Image) -> NDArray[np.bool_] | None:
    """Return which pixels a warp fills from inside the frame; None for all."""
    height, width = back.shape[1:]
    y, x = (
        np.arange(height, dtype=np.float32)[:, None] - back[1],
        np.arange(width, dtype=np.float32) - back[0],
    )
    inside = (y >= -0.5) & (y <= height - 0.5) & (x >= -0.5) & (x <= width - 0.5)
    return None if inside.all() else inside


def _both(weight: Image | None, inside: NDArray[np.bool_] | None) -> Image | None:
    if inside is None:
        return weight
    return np.where(inside, np.float32(1.0) if weight is None else weight, np.float32(0.0))


def displacement(psi: Image, border: Image | None, *, threads: int) -> Image | None:
    """Return ∇ψ (2, y, x) of a ψ with the even mirror and of a quadratic `border` without; None for 0."""
    shift = gradient(psi, threads=threads)
    if border is not None:
        for component, axis in ((0, 1), (1, 0)):
            shift[component] += np.gradient(border, axis=axis, edge_order=2).astype(np.float32)
    return shift if shift.any() else None  # without motion there is no rounding


def mean_wave(sums: Sums, dark: Image | None, *, threads: int) -> Image:
    """Solve eq. (4) for the cosine coefficients of ψ; `dark` is d, (1 or 3, y, x), or None for 0."""
    level = sums.level
    potential = whitened(sums.source, 0.0, potential=True, threads=threads)
    if dark is not None and len(dark) == 1:
        potential += dark[0] * level
    slope = gradient(potential, threads=threads)
    if dark is not None and len(dark) == 3:
        for component, elements in ((0, (0, 1)), (1, (1, 2))):
            for element, kind in zip(elements, (DX, DY), strict=True):
                slope[component] += derivative(dark[element] * level, kind, threads=threads)
    slope /= level
    return integrated(slope, threads=threads)


def integrated(slope: Image, *, threads: int) -> Image:
    """Return the cosine coefficients of ∇⁻²∇·g of a (2, y, x) g."""
    coefficients = spectral_adjoint(slope, threads=threads)
    whiten(coefficients, 0.0, potential=True, threads=threads)
    return np.negative(coefficients, out=coefficients)


def gradient(image: Image, *, threads: int) -> Image:
    """Return the derivatives (2, y, x) of an image along x and y."""
    out: Image = np.empty((2, *image.shape), np.float32)
    for kind, component in zip((DX, DY), out, strict=True):
        derivative(image, kind, out=component, threads=threads)
    return out


def _scalar(equations: Image) -> Image:
    """Return the sums of a scalar d from those of a tensor."""
    if equations.shape[-3] == SCALAR:
        return equations
    e = equations
    parts = [e[..., k, :, :] for k in (0, 1, 2)]
    parts += [e[..., 3, :, :] + e[..., 5, :, :], e[..., 6, :, :], e[..., 7, :, :]]
    return np.stack([*parts, e[..., 8, :, :] + e[..., 10, :, :]], axis=-3)


def _eliminated(sums: Image, share: float) -> tuple[Image, Image]:
    """Return pivot and right side of the equation for a scalar d, g eliminated, from (2, 7, y, x)."""
    a, p, q, c, u_x, u_y, v = np.moveaxis(sums, 1, 0)
    scale = np.maximum(np.float32(share) * a, np.float32(1e-30))
    return np.maximum(c - (p * p + q * q) / scale, np.float32(0.0)), -(v - (p * u_x + q * u_y) / scale)


def choose(
    sums: Sums, smoothings: Sequence[float], ridges: Sequence[float], *, threads: int
) -> tuple[float, float]:
    """Choose σ and ridge (relative) of the d with the least estimated error; `smoothings` rise.

    Each half of the positions predicts the equations of the other, smoothed by 1 pixel only. The mean of both
    halves predicts better, by an amount that follows from their difference.
    """
    errors = np.zeros((len(smoothings), len(ridges)))
    for tile in sums.tiles:
        judge = _scalar(tile).copy()
        smooth, done, size = judge.copy(), 0.0, 1
        _smooth_halves(judge, _FIRST, threads)
        weight, known = _eliminated(judge, sums.share)
        for k, sigma in enumerate(smoothings):
            if sigma > 3.0 * size and min(smooth.shape[2:]) >= 16:  # the images fit on a coarser grid
                size *= 2
                smooth, weight, known = (_halved(images, threads) for images in (smooth, weight, known))
            _smooth_halves(smooth, math.sqrt(sigma**2 - done**2) / size, threads)
            done = sigma
            pivot, right = _eliminated(smooth, sums.share)
            mean = float(smooth[:, 3].mean(dtype=np.float64))
            for m, ridge in enumerate(ridges):
                d = right / (
                    np.maximum(pivot, np.float32(ILL_LIMIT * mean + 1e-30)) + np.float32(ridge * mean)
                )
                predicted = weight[::-1] * d**2 - 2.0 * d * known[::-1]
                spread = weight.sum(axis=0) * (d[0] - d[1]) ** 2
                error = predicted.sum(dtype=np.float64) / 2.0 - spread.sum(dtype=np.float64) / 8.0
                errors[k, m] += size**2 * error
    k, m = divmod(int(np.argmin(errors)), len(ridges))
    return smoothings[k], ridges[m]


def _smooth_halves(halves: Image, sigma: float, threads: int) -> None:
    smooth_equations(halves.reshape(-1, *halves.shape[2:]), sigma, threads=threads)  # a view


def _halved(images: Image, threads: int) -> Image:
    """Return means over squares of 2 pixels; an odd last row or column stands twice."""
    odd = [(0, 0)] * (images.ndim - 2) + [(0, size % 2) for size in images.shape[-2:]]
    return binned(np.pad(images, odd, mode="edge"), 2, threads=threads)


def _tiles(shape: tuple[int, ...]) -> list[tuple[slice, slice]]:
    starts = [
        (0, size - _TILE) if size - _TILE < _TILE else (0, (size - _TILE) // 2, size - _TILE)
        for size in shape
    ]
    if max(shape) <= _WHOLE:
        return [(slice(None), slice(None))]
    spans = [
        [slice(None)] if size <= _WHOLE else [slice(a, a + _TILE) for a in begin]
        for size, begin in zip(shape, starts, strict=True)
    ]
    return [(rows, columns) for rows in spans[0] for columns in spans[1]]


def _coarse(coefficients: Image, size: int, shape: tuple[int, ...]) -> Image:
    """Return the lowest coefficients of the full image from those of means over squares."""
    gains = []
    for number, full in zip(coefficients.shape, shape, strict=True):
        k = np.pi * np.arange(number) / full
        with np.errstate(invalid="ignore"):
            gain = np.where(k > 0.0, size * np.sin(k / 2) / np.sin(size * k / 2), 1.0)
        gains.append(math.sqrt(size) * gain)
    return np.asarray(coefficients * gains[0][:, None] * gains[1], np.float32)


def add_slow(fast: Image, sums: Sums, *, floor_share: float = ILL_LIMIT, threads: int) -> Image:
    """Average long waves of ψ (cosine coefficients, in place) with those of g from the equations.

    Return the variance (y, x) that noise leaves in each wave of ∇²ψ.
    """
    shape = fast.shape
    size, halves = coarse_size(shape), sums.halves.copy()
    _smooth_halves(halves, _SLOW / size, threads)
    diagonal = halves[:, 3] if halves.shape[1] == SCALAR else halves[:, 3] + halves[:, 5]
    floor = floor_share * float(diagonal.mean(dtype=np.float64))
    (g, d), (_, first), (_, second) = (
        _slope_and_scatter(sums_of, sums.share, floor, threads)
        for sums_of in (halves[0] + halves[1], halves[0], halves[1])
    )
    slow = _coarse(integrated(g * np.float32(size), threads=threads), size, shape)
    scatter = _coarse(dct2(d, threads=threads), size, shape)
    slopes = []
    for source, level in zip(sums.sources * np.float32(size**2), sums.levels, strict=True):
        potential = whitened(source, 0.0, potential=True, overwrite=True, threads=threads)
        slopes.append(gradient(potential, threads=threads) / level)
    a, b = sums.positions
    error = _coarse(integrated(slopes[0] - slopes[1], threads=threads), size, shape)
    error *= np.float32(math.sqrt(a * b) / (a + b))
    low = np.s_[: slow.shape[0], : slow.shape[1]]
    k_y, k_x = (k**2 for k in frequencies(shape))
    kappa2 = k_y[: slow.shape[0], None] + k_x[: slow.shape[1]]
    share, noise = _shares(fast[low], slow, error, kappa2)
    fast[low] += (1.0 - share) * (slow - fast[low])
    fast[low] += _signal(first, second, sums.positions) * scatter  # ∇ψ = g + ∇d
    left = np.full(shape, noise, np.float32)
    left[low] *= share  # of the mean of two estimates that are weighted by their variances
    return left


def _slope_and_scatter(equations: Image, share: float, floor: float, threads: int) -> tuple[Image, Image]:
    found, _ = solve_equations(equations, share=share, floor=floor, threads=threads)
    return found[:2], found[2] if len(found) == 3 else (found[2] + found[4]) / 2


def _signal(one: Image, other: Image, positions: tuple[int, int]) -> np.float32:
    """Return the part of the variance of d that is not noise, from d of each half of the positions."""
    a, b = positions
    noise = float(np.mean((one - other) ** 2, dtype=np.float64)) * a * b / (a + b) ** 2
    mean = (a * one + b * other) / (a + b)
    total = float(mean.var(dtype=np.float64))
    return np.float32(max(0.0, 1.0 - noise / total) if total > 0.0 else 0.0)


def _shares(fast: Image, slow: Image, error: Image, kappa2: Real) -> tuple[Image, float]:
    """Return how much of each wave comes from `fast`, 1 where `slow` holds nothing; and the noise of κ²ψ."""
    highest = (2.0 * math.pi / (_SHORTEST * _SLOW)) ** 2
    flat = kappa2.ravel()
    waves = np.sort(flat[(flat > 0.0) & (flat < highest)])
    ends = np.unique(np.round(np.geomspace(min(8, len(waves)), len(waves), _RINGS)).astype(int))
    place = np.searchsorted(waves[ends - 1], flat)  # equal frequencies fall in one ring
    place[0] = len(ends)
    rings = [ring for ring in (np.flatnonzero(place == k) for k in range(len(ends))) if len(ring)]
    fourth = flat**2
    both = (fast.ravel().astype(np.float64) - slow.ravel()) ** 2 * fourth
    own = error.ravel().astype(np.float64) ** 2 * fourth
    number = np.array([min(len(ring), 50) for ring in rings], float)
    difference = np.array([both[ring].mean() for ring in rings])
    # White noise of the frames: the same κ⁴ |ψ|² at all frequencies, geometric mean against single waves.
    with np.errstate(divide="ignore"):
        noise = math.exp((np.log([own[ring].mean() for ring in rings]) * number).sum() / number.sum())
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.clip(1.0 - noise / difference, 0.0, 1.0)
    share[~np.isfinite(share)] = 1.0
    padded, count = np.pad(share * number, 1), np.pad(number, 1)
    share = (padded[:-2] + padded[1:-1] + padded[2:]) / (count[:-2] + count[1:-1] + count[2:])
    places = [np.log(flat[ring]).mean() for ring in rings]
    with np.errstate(divide="ignore"):
        where = np.log(flat)
    out = np.interp(where, [*places, math.log(highest) + 0.5], [*share, 1.0])
    out[0] = 1.0
    return np.asarray(out.reshape(kappa2.shape), np.float32), noise


def solve_dark(
    sums: Sums, *, smoothing: float, ridge: float, threads: int
) -> tuple[Image, NDArray[np.bool_]]:
    """Return d (1 or 3, y, x) from the equations, smoothed in place, and the ill-determined pixels."""
    equations = sums.equations
    smooth_equations(equations, smoothing, threads=threads)
    diagonal = equations[3] if len(equations) == SCALAR else equations[3] + equations[5]
    mean = float(diagonal.mean(dtype=np.float64)) / (1 if len(equations) == SCALAR else 2)
    found, ill = solve_equations(
        equations, share=sums.share, ridge=ridge * mean, floor=ILL_LIMIT * mean, threads=threads
    )
    dark = found[2:]
    if len(dark) == 3:  # the part of its flux that is a gradient has half of the anisotropy
        half = np.float32(0.5) * (dark[0] + dark[2])
        dark *= np.float32(2.0)
        dark[0] -= half
        dark[2] -= half
    return dark, ill


def synthesised(coefficients: Image, *, threads: int) -> Image:
    """Return the image of cosine coefficients, which are overwritten."""
    return dct2(coefficients, inverse=True, threads=threads)
