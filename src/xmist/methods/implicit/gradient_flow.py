"""The steps of `mist-gradient-flow` on arrays in pixel units; its own file has the equations."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.core.arrays import Image
from xmist.methods.common.reference import middle
from xmist.methods.implicit.direct import PositionSum, add_positions, fill_source
from xmist.numerics.images.blocks import binned
from xmist.numerics.images.fill import fill
from xmist.numerics.matching.contrast import noise_gain
from xmist.numerics.operators.derivatives import DX, DY, RADIUS, derivative
from xmist.numerics.operators.finite_transport import Warp, sampled, spline_coefficients, spline_gains
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
_TILE: Final = 192  # pixels
_WHOLE: Final = 768  # pixels; larger images are judged by nine tiles
_RINGS: Final = 14
_FEW: Final = 4  # positions that noise is read from
_ROWS: Final = 16  # of a few frames, which the cache holds
_BEYOND: Final = 0.01  # of |∇I|² that squares of 2 pixels may miss
_HALF: Final = 0.5  # of the flux of speckles without their mean that is a gradient, if they are isotropic


@dataclass(frozen=True, kw_only=True, eq=False)
class FrameSums:
    """Sums of frames over positions: Σ (J − I_S) and Σ J, J the references as they were moved.

    `sources`, `levels` (2, v, u): the same of each half of the positions, means over squares of `slow_size`
    pixels; `positions`: how many.
    """

    source: Image  # (y, x)
    level: Image
    sources: Image
    levels: Image
    positions: tuple[int, int]


@dataclass(frozen=True, kw_only=True, eq=False)
class EquationSums:
    """Normal equations, summed over positions and over each half of them.

    Parameters
    ----------
    equations : (`SCALAR` or `TENSOR`, y, x) float32 array
        Normal equations; those of a few rows are added up if only slow ones were wanted.
    halves : (2, `SCALAR` or `TENSOR`, v, u) float32 array
        The same of each half, means over squares of `slow_size` pixels of the frames.
    tiles : list of (2, `SCALAR` or `TENSOR`, y, x) float32 array
        Equations of each half in the pixels of `_tiles`; none if only slow ones were wanted.
    positions : (int, int)
        How many.
    share : float
        Part of the flux I g that is a gradient.
    grid : int
        Side in pixels of a square, the unit of length in the equations.
    """

    equations: Image
    halves: Image
    tiles: list[Image]
    positions: tuple[int, int]
    share: float
    grid: int


@dataclass(frozen=True, kw_only=True, eq=False)
class SampleSums:
    """What is derived from the sample frames of a projection once.

    `halves`: sums of each half of the positions, with the spline of the references, by equal weights;
    `sample` (position, v, u): means over the squares of the equations; `weights`: of these; `gain`: variance
    of the noise of the references over their mean.
    """

    halves: list[list[tuple[PositionSum, Image]]]
    sample: Image
    weights: list[Image | None]
    gain: float


def slow_size(shape: tuple[int, ...]) -> int:
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
    grid : int
        Side in pixels of the squares in which equations are summed, 1 or 2.
    small : (position, v, u) float32 array
        Means of the frames over these squares.
    splines : list of (2, v, u) float32 array
        Spline coefficients of each of these and of its filtered form; empty without refinements.
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
    grid: int
    small: Image
    splines: list[Image]
    speckle: float
    epsilon: float
    tensor: bool
    threads: int

    def take(self, sample: Image, weights: Sequence[Image | None]) -> SampleSums:
        """Prepare sample frames (position, y, x) with the weights of `position_weights`."""
        threads = self.threads
        halves = [
            add_positions(self.frames[k::2], sample[k::2], weights[k::2], threads=threads) for k in (0, 1)
        ]
        return SampleSums(
            halves=[
                [(group, spline_coefficients(group.reference, threads=threads)) for group in half]
                for half in halves
            ],
            sample=_in_squares(sample, self.grid, threads),
            weights=[_weight_in_squares(weight, self.grid, threads) for weight in weights],
            gain=reference_noise(self.frames, sample, weights),
        )

    def frame_sums(self, projection: SampleSums, warp: Warp | None) -> FrameSums:
        """Sum the frames, the references moved by a warp.

        A warp is linear: that of the sum of the references serves all positions of the same weights.
        """
        shape, inside = self.frames.shape[1:], None if warp is None else _from_inside(warp.back)
        source, level = np.zeros((2, *shape), np.float32)
        moved, rest = np.empty((2, *shape), np.float32)
        size, parts = slow_size(shape), []

        def add(mean: np.float32, start: int, stop: int) -> None:
            rows = slice(start, stop)
            source[rows] += rest[rows] if mean == 1.0 else mean * rest[rows]
            level[rows] += moved[rows] if mean == 1.0 else mean * moved[rows]

        def subtract(sample: Image, mean: np.float32 | None, start: int, stop: int) -> None:
            with np.errstate(invalid="ignore", over="ignore"):  # pixels of weight 0
                np.subtract(moved[start:stop], sample[start:stop], out=rest[start:stop])
            if mean is not None:  # while the cache holds them
                add(mean, start, stop)

        def each(function: Callable[..., None], *values: object) -> None:
            for_blocks(partial(function, *values), len(rest), threads=self.threads, block=_ROWS)

        for half in projection.halves:
            for group, spline in half:
                own, weight = group.weights, _both(group.weights, inside)
                mean = np.float32(1.0 if own is None else own.mean(dtype=np.float64))
                if warp is None:
                    moved, rest = group.reference, group.difference
                else:
                    sampled(spline, warp.back, factor=warp.jacobian, out=moved, threads=self.threads)
                    each(subtract, group.sample, mean if weight is None else None)
                if warp is None or weight is not None:
                    rest = fill_source(rest, weight, threads=self.threads)
                    each(add, mean)
            parts.append([binned(image, size, threads=self.threads) for image in (source, level)])
        sources, levels = (np.stack([one, both - one]) for one, both in zip(*parts, strict=True))
        return FrameSums(
            source=source, level=level, sources=sources, levels=levels, positions=_halves(len(self.frames))
        )

    def equation_sums(
        self,
        projection: SampleSums,
        warp: Warp | None,
        *,
        positions: Sequence[int] | None = None,
        slow: bool = False,
        factor: Image | None = None,
        filtered: bool = False,
        explained: bool = False,
    ) -> EquationSums:
        """Sum the equations of some positions, the references times `factor` (y, x) and moved by a warp.

        `slow`: add up rows; `explained`: the warp is that of the mean wave of all positions, which has its
        part of the noise.
        """
        grid, threads = self.grid, self.threads
        shape, chosen = self.small.shape[1:], range(len(self.small)) if positions is None else positions
        size = slow_size(self.frames.shape[1:]) // grid
        down = size if slow else 1
        total = np.zeros((TENSOR if self.tensor else SCALAR, shape[0] // down, shape[1]), np.float32)
        if grid > 1:
            warp = None if warp is None else warp.binned(grid)
            factor = None if factor is None else binned(factor, grid, threads=threads)
        inside = None if warp is None else _from_inside(warp.back)
        rest, moved = np.empty(shape, np.float32), np.empty((2, *shape), np.float32)
        epsilon = grid * self.epsilon if filtered else 0.0
        noise = (projection.gain / grid**2) * noise_sums(
            shape,
            epsilon,
            tensor=self.tensor,
            explained=explained / len(self.frames),
            sigma=START / grid,
        )

        def subtract(model: Image, frame: Image, start: int, stop: int) -> None:
            with np.errstate(invalid="ignore", over="ignore"):  # pixels of weight 0
                np.subtract(model[start:stop], frame[start:stop], out=rest[start:stop])

        parts: list[list[Image]] = []
        for half in (chosen[::2], chosen[1::2]):
            for n in half:
                model, detail = self._moved(n, factor, warp, filtered=filtered, out=moved)
                weight = _both(projection.weights[n], inside)
                frame = projection.sample[n]
                for_blocks(partial(subtract, model, frame), len(rest), threads=threads, block=_ROWS)
                potential = whitened(
                    fill_source(rest, weight, threads=threads),
                    epsilon,
                    potential=True,
                    overwrite=True,
                    threads=threads,
                )
                add_equations(
                    detail,
                    potential,
                    total,
                    weight=weight,
                    level=model if factor is None else model * factor,
                    noise=noise,
                    size=down,
                    threads=threads,
                )
            part = [binned(total, size, down=size // down, threads=threads)]
            parts.append(part + [total[:, *tile].copy() for tile in _tiles(shape) if not slow])
        halves, *tiles = (np.stack([one, both - one]) for one, both in zip(*parts, strict=True))
        return EquationSums(
            equations=total,
            halves=halves,
            tiles=tiles,
            positions=_halves(len(chosen)),
            share=_HALF if filtered else 1.0,
            grid=grid,
        )

    def _moved(
        self, n: int, factor: Image | None, warp: Warp | None, *, filtered: bool, out: Image
    ) -> tuple[Image, Image]:
        """Return the reference of a position as it is without scatter, and that of the equations."""
        threads = self.threads
        if warp is not None and filtered and factor is None:
            values = sampled(self.splines[n], warp.back, factor=warp.jacobian, out=out, threads=threads)
            return values[0], values[1]
        model: Image = self.small[n] if factor is None else self.small[n] * factor
        if warp is not None:
            model = warp(model)
        if not filtered:
            return model, model
        back = np.zeros((2, *model.shape), np.float32) if warp is None else warp.back
        return model, sampled(self.splines[n][1], back, factor=factor, out=out[1], threads=threads)


def _halves(number: int) -> tuple[int, int]:
    return number - number // 2, number // 2


def _in_squares(images: Image, grid: int, threads: int) -> Image:
    return images if grid == 1 else binned(images, grid, threads=threads)


def _weight_in_squares(weight: Image | None, grid: int, threads: int) -> Image | None:
    """Return the mean weight of squares, 0 where a pixel has none."""
    if weight is None or grid == 1:
        return weight
    out = _in_squares(weight, grid, threads)
    out[_in_squares((weight == 0.0).astype(np.float32), grid, threads) > 0.0] = 0.0
    return out


def prepare_flow(
    frames: Image, *, speckle: float, tensor: bool, refine: bool, fine: bool, threads: int
) -> Flow:
    """Filter the references and fit splines to them; `speckle` is their size in pixels.

    Equations are summed in squares of 2 pixels if these resolve the speckles, unless they are to be `fine`.
    """
    epsilon = 2.0 * math.pi / (2.0 * speckle)
    wide = refine and not fine and slow_size(frames.shape[1:]) % 2 == 0 and _resolved(frames)
    grid = 2 if wide else 1
    small = _in_squares(frames, grid, threads)
    return Flow(
        frames=frames,
        grid=grid,
        small=small,
        splines=[_splines_of(frame, grid * epsilon, threads) for frame in small] if refine else [],
        speckle=speckle,
        epsilon=epsilon,
        tensor=tensor,
        threads=threads,
    )


def _resolved(frames: Image) -> bool:
    """Return whether squares of 2 pixels hold nearly all of |∇I|², without noise, of (position, y, x)."""
    crop = frames[(slice(_FEW), *middle(frames.shape[1:]))]
    k_y, k_x = frequencies(crop.shape[1:])
    power = np.zeros(crop.shape[1:])
    for frame in crop:
        mean = float(frame.mean(dtype=np.float64))
        power += np.square(dct2(frame - np.float32(mean)), dtype=np.float64) - mean * noise_gain(frame[None])
    power *= k_y[:, None] ** 2 + k_x**2
    inner = power[: np.count_nonzero(k_y < np.pi / 2), : np.count_nonzero(k_x < np.pi / 2)]
    return float(power.sum() - inner.sum()) < _BEYOND * float(power.sum())


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


def mean_wave(sums: FrameSums, dark: Image | None, *, threads: int) -> Image:
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
    sums: EquationSums, smoothings: Sequence[float], ridges: Sequence[float], *, threads: int
) -> tuple[float, float]:
    """Choose σ and ridge (relative) of the d with the least estimated error; `smoothings` rise.

    Each half of the positions predicts the equations of the other, smoothed by 1 pixel only. The mean of both
    halves predicts better, by an amount that follows from their difference.
    """
    errors = np.zeros((len(smoothings), len(ridges)))
    for tile in sums.tiles:
        judge = _scalar(tile).copy()
        smooth, done, size = judge.copy(), 0.0, 1
        _smooth_halves(judge, _FIRST / sums.grid, threads)
        weight, known = _eliminated(judge, sums.share)
        for k, sigma in enumerate(smoothings):
            if (
                sigma > 3.0 * size * sums.grid and min(smooth.shape[2:]) >= 16
            ):  # the images fit on a coarser grid
                size *= 2
                smooth, weight, known = (_halved(images, threads) for images in (smooth, weight, known))
            _smooth_halves(smooth, math.sqrt(sigma**2 - done**2) / (size * sums.grid), threads)
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


def add_slow(fast: Image, frames: FrameSums, sums: EquationSums, *, threads: int) -> Image:
    """Average long waves of ψ (cosine coefficients, in place) with those of g from the equations.

    Return the variance (y, x) that noise leaves in each wave of ∇²ψ.
    """
    shape, unit = fast.shape, sums.grid
    size, halves = slow_size(shape), sums.halves.copy()
    _smooth_halves(halves, _SLOW / size, threads)
    diagonal = halves[:, 3] if halves.shape[1] == SCALAR else halves[:, 3] + halves[:, 5]
    floor = ILL_LIMIT * float(diagonal.mean(dtype=np.float64))
    (g, d), (_, first), (_, second) = (
        _slope_and_scatter(sums_of, sums.share, floor, threads)
        for sums_of in (halves[0] + halves[1], halves[0], halves[1])
    )
    slow = _coarse(integrated(g * np.float32(size * unit), threads=threads), size, shape)
    scatter = np.float32(unit**2) * _coarse(dct2(d, threads=threads), size, shape)
    slopes = []
    for source, level in zip(frames.sources * np.float32(size**2), frames.levels, strict=True):
        potential = whitened(source, 0.0, potential=True, overwrite=True, threads=threads)
        slopes.append(gradient(potential, threads=threads) / level)
    a, b = frames.positions
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
    sums: EquationSums, *, smoothing: float, ridge: float, threads: int
) -> tuple[Image, NDArray[np.bool_]]:
    """Return d (1 or 3, y, x) from the equations, smoothed in place, and the ill-determined pixels."""
    equations, grid = sums.equations, sums.grid
    smooth_equations(equations, smoothing / grid, threads=threads)
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
    if grid == 1:
        return dark, ill
    if ridge == 0.0 and ill.any() and not ill.all():
        for image in dark:
            image[...] = fill(image, ~ill, threads=threads)
        dark[~np.isfinite(dark)] = 0.0
    dark *= np.float32(grid**2)
    whole = np.stack([_doubled(image, threads) for image in dark])
    return whole, ill.repeat(grid, axis=0).repeat(grid, axis=1)


def _doubled(image: Image, threads: int) -> Image:
    """Return an image of half as large pixels, by cubic convolution, with the even mirror."""
    height, width = image.shape
    # Keys' cubic a quarter of a pixel before and behind the centre.
    a, b, c, d = (np.float32(part / 128) for part in (-3, 29, 111, -9))
    padded, out = np.pad(image, 2, mode="symmetric"), np.empty((2 * height, 2 * width), np.float32)

    def rows(start: int, stop: int) -> None:
        lines = [padded[start + k : stop + k] for k in range(5)]
        for first, (p, q, r, s) in ((0, lines[:4]), (1, lines[:0:-1])):
            line = a * p + b * q + c * r + d * s
            part = [line[:, k : k + width] for k in range(5)]
            into = out[2 * start + first : 2 * stop : 2]
            into[:, ::2] = a * part[0] + b * part[1] + c * part[2] + d * part[3]
            into[:, 1::2] = a * part[4] + b * part[3] + c * part[2] + d * part[1]

    for_blocks(rows, height, threads=threads, block=_ROWS)
    return out


def synthesised(coefficients: Image, *, threads: int) -> Image:
    """Return the image of cosine coefficients, which are overwritten."""
    return dct2(coefficients, inverse=True, threads=threads)
