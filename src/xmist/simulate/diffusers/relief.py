"""The random parts of a diffuser, drawn where they are needed.

A diffuser is a function of the plane, the same for every grid that samples it: its random numbers belong to
tiles of the plane, each with its own generator. A diffuser therefore has no border, translations by parts of
a pixel are exact, and only the tiles of the field are drawn.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.numerics.compiled import jit
from xmist.numerics.parallel import for_blocks

Real = NDArray[Any]


# Lattice nodes a tile has along a side.
_TILE: Final = 64
# Nodes a σ of the Gaussian: the variance then varies over the lattice by 4 exp(−π² 1.25²) = 8e-7.
_NODES: Final = 1.25
# Where the Gaussian is cut, in σ: exp(−½ 5.5²) = 3e-7.
_CUT: Final = 5.5


def tile_generator(seed: int, y: int, x: int) -> np.random.Generator:
    """Return the generator of a tile."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(y % 2**32, x % 2**32)))


def coordinates(size: int, pixel_size: float, displacement: float) -> NDArray[np.float64]:
    """Where the samples of a centred grid lie on a diffuser that was moved.

    `pixel_size` in metres, `displacement` in metres.
    """
    return np.asarray((np.arange(size) - 0.5 * (size - 1)) * pixel_size - displacement, np.float64)


def gaussian_field(
    y: NDArray[np.float64], x: NDArray[np.float64], sigma: float, seed: int, *, workers: int | None = None
) -> NDArray[np.float32]:
    """Gaussian random field of mean 0, variance 1 and covariance exp(−r²/(4σ²)).

    White noise on a lattice of the plane, convolved with a Gaussian that is evaluated where the samples lie.
    Returns (y, x).
    """
    spacing = sigma / _NODES
    (first_y, weights_y), (first_x, weights_x) = (_weights(r, sigma, spacing) for r in (y, x))
    taps = weights_y.shape[1]
    low_y, low_x = int(first_y[0]), int(first_x[0])
    noise = _lattice(seed, low_y, int(first_y[-1]) + taps, low_x, int(first_x[-1]) + taps)
    first_y -= low_y
    first_x -= low_x
    across = np.empty((noise.shape[0], len(x)), np.float32)
    for_blocks(
        lambda a, b: _along_rows(noise, first_x, weights_x, across, a, b), noise.shape[0], threads=workers
    )
    field = np.empty((len(y), len(x)), np.float32)
    for_blocks(lambda a, b: _down_columns(across, first_y, weights_y, field, a, b), len(y), threads=workers)
    return field


def _weights(r: NDArray[np.float64], sigma: float, spacing: float) -> tuple[NDArray[np.int64], Real]:
    """First lattice node that each sample sees, and the Gaussian at it and the nodes after it."""
    taps = 2 * math.ceil(_CUT * sigma / spacing) + 1
    first = np.floor(r / spacing).astype(np.int64) - taps // 2
    distance = (first[:, None] + np.arange(taps)) * spacing - r[:, None]
    weights = np.exp(-0.5 * (distance / sigma) ** 2)
    # Σ w² over the lattice is √π σ/h; with it white noise becomes a field of variance 1.
    weights /= math.sqrt(math.sqrt(math.pi) * sigma / spacing)
    return first, weights.astype(np.float32)


def _lattice(seed: int, y0: int, y1: int, x0: int, x1: int) -> NDArray[np.float32]:
    """White noise at the nodes y0 to y1, x0 to x1 of the plane."""
    noise = np.empty((y1 - y0, x1 - x0), np.float32)
    for ty in range(y0 // _TILE, (y1 - 1) // _TILE + 1):
        for tx in range(x0 // _TILE, (x1 - 1) // _TILE + 1):
            tile = tile_generator(seed, ty, tx).standard_normal((_TILE, _TILE), np.float32)
            top, left = ty * _TILE, tx * _TILE
            a, b = max(top, y0), min(top + _TILE, y1)
            c, d = max(left, x0), min(left + _TILE, x1)
            noise[a - y0 : b - y0, c - x0 : d - x0] = tile[a - top : b - top, c - left : d - left]
    return noise


@jit
def _along_rows(noise, first, weights, out, start, stop):  # type: ignore[no-untyped-def]
    taps = weights.shape[1]
    for y in range(start, stop):
        row = noise[y]
        for x in range(out.shape[1]):
            total = np.float32(0.0)
            j = first[x]
            for t in range(taps):
                total += weights[x, t] * row[j + t]
            out[y, x] = total


@jit
def _down_columns(across, first, weights, out, start, stop):  # type: ignore[no-untyped-def]
    taps = weights.shape[1]
    for y in range(start, stop):
        line = out[y]
        line[:] = np.float32(0.0)
        for t in range(taps):
            row, w = across[first[y] + t], weights[y, t]
            for x in range(len(line)):
                line[x] += w * row[x]


def sphere_thickness(
    y: NDArray[np.float64],
    x: NDArray[np.float64],
    radius: float,
    spread: float,
    density: float,
    seed: int,
    *,
    workers: int | None = None,
) -> NDArray[np.float32]:
    """Thickness along z of spheres scattered at random (a Poisson process in the plane).

    `y`, `x` in metres, `radius` in metres; returns (y, x) in metres.
    """
    grains = _spheres(y, x, radius, spread, density, seed)
    thickness = np.zeros((len(y), len(x)), np.float32)
    pixel = (y[-1] - y[0]) / (len(y) - 1) if len(y) > 1 else 1.0
    step = (x[-1] - x[0]) / (len(x) - 1) if len(x) > 1 else 1.0
    for_blocks(
        lambda a, b: _add_spheres(grains, y[0], pixel, x[0], step, thickness, a, b), len(y), threads=workers
    )
    return thickness


def _spheres(
    y: NDArray[np.float64],
    x: NDArray[np.float64],
    radius: float,
    spread: float,
    density: float,
    seed: int,
) -> NDArray[np.float64]:
    """(sphere, [y, x, radius]) of all that may touch the grid, ordered by tile."""
    side = 16.0 * radius
    reach = radius * (1.0 + spread)
    ranges = [
        range(math.floor((r[0] - reach) / side), math.floor((r[-1] + reach) / side) + 1) for r in (y, x)
    ]
    drawn = []
    for ty in ranges[0]:
        for tx in ranges[1]:
            rng = tile_generator(seed, ty, tx)
            spheres = rng.random((int(rng.poisson(density * side**2)), 3))
            spheres[:, 0] = (spheres[:, 0] + ty) * side
            spheres[:, 1] = (spheres[:, 1] + tx) * side
            spheres[:, 2] = radius * (1.0 + spread * (2.0 * spheres[:, 2] - 1.0))
            drawn.append(spheres)
    return np.concatenate(drawn)


@jit
def _add_spheres(spheres, y0, step_y, x0, step_x, thickness, start, stop):  # type: ignore[no-untyped-def]
    for s in range(len(spheres)):
        cy, cx, r = spheres[s]
        top = max(start, math.ceil((cy - r - y0) / step_y))
        bottom = min(stop, math.floor((cy + r - y0) / step_y) + 1)
        for i in range(top, bottom):
            rest = r * r - (y0 + i * step_y - cy) ** 2
            if rest <= 0.0:
                continue
            half = math.sqrt(rest)
            left = max(0, math.ceil((cx - half - x0) / step_x))
            right = min(thickness.shape[1], math.floor((cx + half - x0) / step_x) + 1)
            for j in range(left, right):
                chord2 = rest - (x0 + j * step_x - cx) ** 2
                if chord2 > 0.0:
                    thickness[i, j] += np.float32(2.0 * math.sqrt(chord2))
