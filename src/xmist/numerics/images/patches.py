"""Patches of frames and the correlation of their speckles, to test whether frames belong together.

Without common speckles the correlation of two patches at one shift is Gaussian of mean 0 and variance
Σ p q, p and q their power spectra of sum 1. Correlations are given in standard deviations of that.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from xmist.numerics.compiled import jit

Real = NDArray[Any]
Place = tuple[slice, slice]

_SIZES: Final = (64, 32, 16)  # pixels a side
_ACROSS: Final = 2  # patches that fit at least
_PATCHES: Final = 64  # of all positions together, about
_FEWEST: Final = 4  # and most of one position
_MOST: Final = 16
_USED: Final = 0.75  # part of a patch that must be usable
_EVERY: Final = 4  # of so many rows one is looked at for that
_COARSE: Final = 25.0  # pixels of the waves that illumination and sample may have
_REACH: Final = 4  # part of a patch that speckles may move by: one over it
_SURE: Final = 6.0  # deviations from which on the top of a correlation is a shift


@dataclass(frozen=True, kw_only=True, eq=False)
class SpecklePatches:
    """Patches of frames (position, patch): spectra of their contrast, and what these are.

    `power`: of the spectra, with sum 1; `energy`: variance of the contrast; `speckle`: its autocorrelation at
    a shift of one pixel, to which noise adds nothing; `mean`: of the pixels; `raw` (position, patch, y, x).
    """

    spectra: NDArray[np.complex64]  # (position, patch, v, u)
    power: Real  # (position, patch, v, u)
    energy: Real
    speckle: Real
    mean: Real
    raw: Real

    @property
    def size(self) -> int:
        """Pixels a side."""
        return int(self.raw.shape[-1])

    @property
    def area(self) -> float:
        """Pixels of one speckle: the inverse of how many of them are independent in a pixel."""
        return float(self.size**2 * (self.power**2).sum(axis=(2, 3)).mean())

    @property
    def visibility(self) -> Real:
        """Standard deviation over mean of the speckles of each position, without noise."""
        squares = np.median(self.energy * np.maximum(self.speckle, 0.0), axis=1)
        root: Real = np.sqrt(squares)
        return root


@dataclass(frozen=True, eq=False)
class PatchMatch:
    """How a sample frame fits a reference: standard deviations above chance, shift (x, y) in pixels.

    `deviations`: the most of all patches together, and of each; `expected`: of all patches together, of
    frames whose speckles lost half of their contrast. `gains` (patch,): contrast of the speckles over that in
    the reference, and `chances` (patch,) the error of that by what else the patches hold. `shifts` (patch,
    2): x and y in pixels of each; NaN where chance may have made them.
    """

    deviations: float
    shift: tuple[int, int]
    expected: float
    gains: Real
    chances: Real
    shifts: Real


def places_of_patches(frames: Real, weights: Real | None) -> list[Place]:
    """Return places of patches, spread over frames (position, y, x); none in small frames.

    Most pixels of a patch have a value and a weight above 0, at every position.
    """
    positions, *shape = frames.shape
    if frames.dtype.kind != "f":
        frames = frames.astype(np.float32)
    size = next((size for size in _SIZES if min(shape) >= _ACROSS * size), 0)
    if not size:
        return []
    number = int(np.clip(_PATCHES // positions, _FEWEST, _MOST))
    across = [np.linspace(0, side - size, min(8, side // size)).round().astype(int) for side in shape]
    every = [(slice(y, y + size), slice(x, x + size)) for y in across[0] for x in across[1]]
    corners = np.array([(y.start, x.start) for y, x in every])
    given = np.zeros((1, 0, 0), np.uint8) if weights is None else weights
    fit = [every[i] for i in np.flatnonzero(_usable(frames, given, corners, size))]
    if not fit:
        return []
    chosen = np.unique(np.linspace(0, len(fit) - 1, min(number, len(fit))).round().astype(int))
    return [fit[index] for index in chosen]


@jit
def _usable(frames, weights, corners, size):  # type: ignore[no-untyped-def]
    """Return for each corner (y, x) whether most pixels of a patch are usable in every frame."""
    out = np.ones(len(corners), np.bool_)
    for p in range(len(corners)):
        top, left = corners[p, 0], corners[p, 1]
        for n in range(len(frames)):
            count = 0
            for y in range(top + _EVERY // 2, top + size, _EVERY):
                total = 0.0
                for x in range(left, left + size):
                    total += np.float64(frames[n, y, x])
                if weights.size == 0 and np.isfinite(total):
                    count += size
                    continue
                for x in range(left, left + size):
                    count += np.isfinite(frames[n, y, x]) and (weights.size == 0 or weights[n, y, x] > 0)
            if count * _EVERY < _USED * size * size:
                out[p] = False
                break
    return out


def take_patches(frames: Real, weights: Real | None, places: list[Place]) -> SpecklePatches:
    """Cut patches out of frames (position, y, x); pixels of weight 0 or without a value count as the mean."""
    raw = np.stack([np.stack([frame[place] for place in places]) for frame in frames]).astype(np.float32)
    good = np.isfinite(raw)
    if weights is not None:
        good &= np.stack([np.stack([given[place] for place in places]) for given in weights]) > 0
    return make_patches(raw, good)


@jit
def _take_contrast(raw, good, contrast, means):  # type: ignore[no-untyped-def]
    """Fill the contrast of patches (number, pixel), 0 where they are not good, and their means (number,)."""
    for p in range(len(raw)):
        total, count = 0.0, 0
        for i in range(raw.shape[1]):
            if good[p, i]:
                total += np.float64(raw[p, i])
                count += 1
        mean = total / max(count, 1)
        unit = mean if mean > 0.0 else 1.0
        means[p] = mean
        for i in range(raw.shape[1]):
            contrast[p, i] = (np.float64(raw[p, i]) - mean) / unit if good[p, i] else 0.0


@jit
def _take_power(spectra, twice, covariance, power, energy, speckle):  # type: ignore[no-untyped-def]
    """Fill the power of spectra (number, frequency), of sum 1, that sum, and the covariance of neighbours."""
    for p in range(len(spectra)):
        total = 0.0
        for k in range(spectra.shape[1]):
            re, im = np.float64(spectra[p, k].real), np.float64(spectra[p, k].imag)
            power[p, k] = (re * re + im * im) * twice[k]
            total += power[p, k]
        energy[p] = total
        for k in range(spectra.shape[1]):
            power[p, k] /= max(total, 1e-300)
            speckle[p] += power[p, k] * covariance[k]


@cache
def _spectral(size: int) -> tuple[Real, Real, Real]:
    """Return (v, u) where waves are short, how often columns count, and what power adds to the covariance."""
    v, u = fft.fftfreq(size)[:, None], fft.rfftfreq(size)
    twice = np.full(size // 2 + 1, 2.0)
    twice[0] = 1.0
    twice[-1] = 1.0 if size % 2 == 0 else 2.0
    covariance = 0.5 * (np.cos(2 * np.pi * v) + np.cos(2 * np.pi * u))
    short = (np.hypot(v, u) > 1.0 / _COARSE).astype(np.float32)
    return short, np.broadcast_to(twice, short.shape).copy(), covariance


def make_patches(raw: Real, good: Real) -> SpecklePatches:
    """Return patches of raw pixels (position, patch, y, x); those that are not good count as the mean."""
    shape, size = raw.shape[:2], raw.shape[-1]
    number = shape[0] * shape[1]
    contrast, means = np.empty((number, size * size), np.float32), np.empty(number)
    _take_contrast(raw.reshape(number, -1), good.reshape(number, -1), contrast, means)
    short, twice, covariance = _spectral(size)
    spectra = (fft.rfft2(contrast.reshape(number, size, size)) * short).astype(np.complex64)
    power, energy, speckle = np.empty(spectra.shape), np.empty(number), np.zeros(number)
    flat = spectra.reshape(number, -1)
    _take_power(flat, twice.ravel(), covariance.ravel(), power.reshape(number, -1), energy, speckle)
    return SpecklePatches(
        spectra=spectra.reshape(*shape, *short.shape),
        power=power.reshape(*shape, *short.shape),
        energy=energy.reshape(shape) / size**4,
        speckle=speckle.reshape(shape),
        mean=means.reshape(shape),
        raw=raw,
    )


def energy_of(spectra: NDArray[np.complexfloating]) -> tuple[Real, Real]:
    """Return variance, and covariance of neighbouring pixels, of images by their spectra (…, v, u)."""
    size = spectra.shape[-2]
    _, twice, covariance = _spectral(size)
    power = np.abs(spectra) ** 2 * twice
    return power.sum(axis=(-2, -1)) / size**4, (power * covariance).sum(axis=(-2, -1)) / size**4


def match_patches(reference: SpecklePatches, n: int, sample: SpecklePatches, m: int) -> PatchMatch:
    """Correlate sample frame m with reference frame n, at shifts of up to a quarter of a patch."""
    size, weight = reference.size, np.full(reference.spectra.shape[-1], 0.5)
    weight[0] = weight[-1] = 1.0
    # The power of half of the plane is doubled, so that a product of two counts it four times.
    deviation = np.sqrt((reference.power[n] * sample.power[m] * weight).sum(axis=(1, 2)))
    energies = np.sqrt(reference.energy[n] * sample.energy[m])
    known = (deviation > 0.0) & (energies > 0.0)
    if not known.any():
        none = np.full((len(known), 2), np.nan)
        return PatchMatch(0.0, (0, 0), 0.0, np.empty(0), np.empty(0), none)
    product = sample.spectra[m][known] * np.conj(reference.spectra[n][known])
    surface = fft.irfft2(product, (size, size)) / (size**2 * energies[known, None, None])
    reach = np.arange(-(size // _REACH), size // _REACH + 1)
    near = surface[:, reach[:, None], reach] / deviation[known, None, None]
    together = near.sum(axis=0) / np.sqrt(len(near))
    y, x = np.unravel_index(int(np.argmax(together)), together.shape)
    speckle = np.sqrt(np.maximum(reference.speckle[n] * sample.speckle[m], 0.0))[known]
    # Structure of the sample adds to its contrast, and is no speckle.
    share = np.minimum(1.0, np.sqrt(reference.energy[n] / np.maximum(sample.energy[m], 1e-300)))[known]
    expected = 0.5 * speckle * share / deviation[known]
    correlation = near[:, y, x] * deviation[known]
    ratio = np.sqrt(sample.energy[m][known] / reference.energy[n][known])
    shifts = np.full((len(known), 2), np.nan)
    shifts[known] = _peaks(near)
    return PatchMatch(
        max(float(together[y, x]), float(near.max())),
        (int(reach[x]), int(reach[y])),
        float(expected.sum() / np.sqrt(len(expected))),
        correlation * ratio,
        np.sqrt(np.maximum(1.0 - correlation**2, 0.0)) * deviation[known] * ratio,
        shifts,
    )


def _peaks(surfaces: Real) -> Real:
    """Return x and y (number, 2) of the tops of correlations (number, y, x) in deviations, by parabolas.

    NaN where chance may have made them.
    """
    number, size, _ = surfaces.shape
    each = np.arange(number)
    y, x = np.divmod(surfaces.reshape(number, -1).argmax(axis=1), size)
    top = surfaces[each, y, x]
    inside = (y > 0) & (y < size - 1) & (x > 0) & (x < size - 1) & (top >= _SURE)
    y, x = np.clip(y, 1, size - 2), np.clip(x, 1, size - 2)
    out = np.empty((number, 2))
    for k, (down, right) in enumerate(((0, 1), (1, 0))):
        before, after = surfaces[each, y - down, x - right], surfaces[each, y + down, x + right]
        out[:, k] = (y if down else x) - size // 2
        out[:, k] += 0.5 * (before - after) / np.minimum(before - 2.0 * top + after, -1e-12)
    out[~inside] = np.nan
    return out
