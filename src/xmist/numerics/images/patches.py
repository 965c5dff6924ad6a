"""Patches of frames and the correlation of their speckles, to test whether frames belong together.

Without common speckles the correlation of two patches at one shift is Gaussian of mean 0 and variance
Σ p q, p and q their power spectra of sum 1. Correlations are given in standard deviations of that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import fft

Real = NDArray[Any]
Place = tuple[slice, slice]

_SIZES: Final = (64, 32, 16)  # pixels a side
_ACROSS: Final = 2  # patches that fit at least
_PATCHES: Final = 64  # of all positions together, about
_FEWEST: Final = 4  # and most of one position
_MOST: Final = 16
_USED: Final = 0.75  # part of a patch that must be usable
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
    size = next((size for size in _SIZES if min(shape) >= _ACROSS * size), 0)
    if not size:
        return []
    number = int(np.clip(_PATCHES // positions, _FEWEST, _MOST))
    across = [np.linspace(0, side - size, min(8, side // size)).round().astype(int) for side in shape]
    every = [(slice(y, y + size), slice(x, x + size)) for y in across[0] for x in across[1]]
    fit = [place for place in every if _usable(frames, weights, place)]
    if not fit:
        return []
    chosen = np.unique(np.linspace(0, len(fit) - 1, min(number, len(fit))).round().astype(int))
    return [fit[index] for index in chosen]


def _usable(frames: Real, weights: Real | None, place: Place) -> bool:
    for n, frame in enumerate(frames):
        good = np.isfinite(frame[place])
        if weights is not None:
            good &= weights[n][place] > 0
        if np.count_nonzero(good) < _USED * good.size:
            return False
    return True


def take_patches(frames: Real, weights: Real | None, places: list[Place]) -> SpecklePatches:
    """Cut patches out of frames (position, y, x); pixels of weight 0 or without a value count as the mean."""
    raw = np.stack([np.stack([frame[place] for place in places]) for frame in frames]).astype(np.float32)
    good = np.isfinite(raw)
    if weights is not None:
        good &= np.stack([np.stack([given[place] for place in places]) for given in weights]) > 0
    return make_patches(raw, good)


def make_patches(raw: Real, good: Real) -> SpecklePatches:
    """Return patches of raw pixels (position, patch, y, x); those that are not good count as the mean."""
    number = good.sum(axis=(2, 3), keepdims=True)
    values = np.where(good, raw, np.float32(0.0))
    mean = values.sum(axis=(2, 3), dtype=np.float64, keepdims=True) / np.maximum(number, 1)
    unit = np.where(mean > 0.0, mean, 1.0)
    contrast = np.where(good, (values - mean) / unit, 0.0).astype(np.float32)
    size = contrast.shape[-1]
    v, u = _frequencies(size)
    spectra = fft.rfft2(contrast) * (np.hypot(v, u) > 1.0 / _COARSE)
    power = np.abs(spectra) ** 2 * _twice(size)
    total = power.sum(axis=(2, 3))
    power = power / np.maximum(total, 1e-300)[..., None, None]
    return SpecklePatches(
        spectra=spectra.astype(np.complex64),
        power=power,
        energy=total / size**4,
        speckle=_covariance(power),
        mean=mean[..., 0, 0],
        raw=raw,
    )


def energy_of(spectra: NDArray[np.complexfloating]) -> tuple[Real, Real]:
    """Return variance, and covariance of neighbouring pixels, of images by their spectra (…, v, u)."""
    size = spectra.shape[-2]
    power = np.abs(spectra) ** 2 * _twice(size)
    return power.sum(axis=(-2, -1)) / size**4, _covariance(power) / size**4


def _frequencies(size: int) -> tuple[Real, Real]:
    return fft.fftfreq(size)[:, None], fft.rfftfreq(size)


def _twice(size: int) -> Real:
    """Return how often each column of half of a spectrum counts."""
    twice = np.full(size // 2 + 1, 2.0)
    twice[0] = 1.0
    twice[-1] = 1.0 if size % 2 == 0 else 2.0
    return twice


def _covariance(power: Real) -> Real:
    """Return the sum of power (…, v, u) by its part of the covariance at a shift of one pixel."""
    v, u = _frequencies(power.shape[-2])
    total: Real = (power * (0.5 * (np.cos(2 * np.pi * v) + np.cos(2 * np.pi * u)))).sum(axis=(-2, -1))
    return total


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
    shifts[known] = [_peak(one) for one in near]
    return PatchMatch(
        max(float(together[y, x]), float(near.max())),
        (int(reach[x]), int(reach[y])),
        float(expected.sum() / np.sqrt(len(expected))),
        correlation * ratio,
        np.sqrt(np.maximum(1.0 - correlation**2, 0.0)) * deviation[known] * ratio,
        shifts,
    )


def _peak(surface: Real) -> tuple[float, float]:
    """Return x and y of the top of a correlation (y, x) in deviations, by parabolas; NaN for chance."""
    middle = len(surface) // 2
    y, x = np.unravel_index(int(np.argmax(surface)), surface.shape)
    inside = 0 < y < len(surface) - 1 and 0 < x < len(surface) - 1
    if not inside or surface[y, x] < _SURE:
        return np.nan, np.nan
    place = []
    for at, (before, top, after) in ((x, surface[y, x - 1 : x + 2]), (y, surface[y - 1 : y + 2, x])):
        place.append(at - middle + 0.5 * (before - after) / min(before - 2.0 * top + after, -1e-12))
    return place[0], place[1]
