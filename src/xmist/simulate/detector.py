"""From intensity to counts: source size, spectrum, point spread, pixels, noise."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from xmist.errors import InputError, raise_faults
from xmist.numerics.parallel import for_blocks
from xmist.simulate.checks import check_count, check_number

Real = NDArray[Any]

_jit = numba.njit(nogil=True, cache=True, error_model="numpy")


@dataclass(frozen=True, kw_only=True)
class Detector:
    """A detector that counts photons.

    Counts are gain · (Poisson photons) + offset + Gaussian read noise, cut at the saturation.

    Parameters
    ----------
    pixel_size : float
        Pixel in metres.
    oversampling : int
        Samples of the wave a pixel has along a side; the pixel adds up their intensity.
    psf_sigma : float
        σ in metres of the Gaussian point spread, without the pixel itself.
    photons : float
        Photons that a pixel detects in the bare beam (intensity 1) in one exposure.
    gain : float
        Counts a photon makes.
    read_noise : float
        Standard deviation of the read noise in counts.
    offset : float
        Counts without light.
    saturation : float, optional
        Highest count that a pixel gives; None never saturates.
    whole_counts : bool
        Whether counts are rounded, as an integer file keeps them.
    dead_pixels : tuple of (int, int)
        (y, x) of pixels that read 0 whatever falls on them; `draw_dead_pixels` makes some.

    Raises
    ------
    InputError
        Lists every value that is out of range.

    Examples
    --------
    >>> detector = Detector(
    ...     pixel_size=5.8e-6,
    ...     oversampling=2,
    ...     psf_sigma=3e-6,
    ...     photons=1e4,
    ...     gain=0.5,
    ...     read_noise=2.0,
    ...     offset=100.0,
    ... )
    >>> detect(np.ones((4, 6)), detector, None)
    array([[5100., 5100., 5100.],
           [5100., 5100., 5100.]], dtype=float32)
    """

    pixel_size: float
    oversampling: int
    psf_sigma: float
    photons: float
    gain: float
    read_noise: float
    offset: float
    saturation: float | None = None
    whole_counts: bool = False
    dead_pixels: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        faults: list[str] = []
        check_count("oversampling", self.oversampling, faults)
        for name, unit, low, high, strict in (
            ("pixel_size", "m", 1e-9, 1e-3, False),
            ("psf_sigma", "m", 0.0, 1e-2, False),
            ("photons", "photons", 0.0, 1e15, True),
            ("gain", "counts per photon", 0.0, math.inf, True),
            ("read_noise", "counts", 0.0, math.inf, False),
            ("offset", "counts", -math.inf, math.inf, False),
        ):
            value = check_number(
                name, getattr(self, name), faults, unit=unit, low=low, high=high, strict=strict
            )
            object.__setattr__(self, name, value)
        if self.saturation is not None:
            low = self.offset if math.isfinite(self.offset) else -math.inf
            value = check_number("saturation", self.saturation, faults, unit="counts", low=low, strict=True)
            object.__setattr__(self, "saturation", value)
        whole: Any = self.whole_counts
        if not isinstance(whole, bool):
            faults.append(f"whole_counts is {whole!r}; expected true or false")
        raise_faults(faults)


def detect(
    intensity: ArrayLike,
    detector: Detector,
    rng: np.random.Generator | None,
    *,
    margin: int = 0,
    source_blur: float = 0.0,
    workers: int | None = None,
) -> NDArray[np.float32]:
    """Expose a detector.

    Parameters
    ----------
    intensity : (y, x) array_like
        Intensity on the wave's grid, 1 in the bare beam, ≥ 0.
    detector : Detector
        Detector.
    rng : Generator or None
        Source of the noise; None gives the expected counts.
    margin : int
        Samples on each side that the detector does not see; only blur brings them in. Without any, the
        border is an even mirror.
    source_blur : float
        σ in metres, in the detector's plane, of the blur by the source's size: `source_blur`.
    workers : int, optional
        Threads; the result does not depend on it, bit for bit.

    Returns
    -------
    (y, x) float32 array
        Counts of (rows − 2 margin)/oversampling × (columns − 2 margin)/oversampling pixels.

    Raises
    ------
    InputError
        If the intensity does not fit the pixels, or is negative, NaN or infinite.

    Examples
    --------
    >>> detector = Detector(
    ...     pixel_size=5.8e-6, oversampling=1, psf_sigma=0, photons=100, gain=1, read_noise=0, offset=0
    ... )
    >>> counts = detect(np.ones((300, 300)), detector, np.random.default_rng(1))
    >>> round(float(counts.mean())), round(float(counts.var()), -1)
    (100, 100.0)
    """
    faults: list[str] = []
    light = np.asarray(intensity)
    if light.dtype.kind not in "iuf" or light.ndim != 2:
        faults.append(
            f"intensity has shape {light.shape} and dtype {light.dtype}; expected real numbers (y, x)"
        )
    margin = check_count("margin", margin, faults, low=0)
    blur = check_number("source_blur", source_blur, faults, unit="m", low=0.0)
    raise_faults(faults)
    binning = detector.oversampling
    sizes = [size - 2 * margin for size in light.shape]
    if any(size < binning or size % binning for size in sizes):
        faults.append(
            f"intensity has {light.shape[0]} × {light.shape[1]} samples and a margin of {margin}; expected a "
            f"whole number of pixels of {binning} × {binning} samples inside the margin"
        )
    if not (float(light.min(initial=0.0)) >= 0.0 and np.isfinite(light.max(initial=0.0))):
        faults.append("intensity holds negative, NaN or infinite values; expected numbers of at least 0")
    height, width = (max(size // binning, 1) for size in sizes)
    for y, x in detector.dead_pixels:
        if not (0 <= y < height and 0 <= x < width):
            faults.append(f"dead pixel ({y}, {x}) lies outside the detector of {height} × {width} pixels")
    raise_faults(faults)
    sigma = math.hypot(detector.psf_sigma, blur) / detector.pixel_size * binning
    counts = blur_and_bin(light, sigma, binning, margin=margin, workers=workers)
    counts *= detector.photons
    if rng is not None:
        counts = rng.poisson(counts).astype(np.float64)
    counts *= detector.gain
    if rng is not None and detector.read_noise > 0.0:
        counts += rng.normal(0.0, detector.read_noise, counts.shape)
    counts += detector.offset
    if detector.saturation is not None:
        np.minimum(counts, detector.saturation, out=counts)
    if detector.whole_counts:
        np.rint(counts, out=counts)
    for y, x in detector.dead_pixels:
        counts[y, x] = 0.0
    return counts.astype(np.float32)


def blur_and_bin(
    image: Real, sigma: float, binning: int, *, margin: int = 0, workers: int | None = None
) -> NDArray[np.float64]:
    """Blur by a Gaussian and average over pixels, in one pass along each axis.

    The Gaussian is the discrete one, e^{−σ²} I_n(σ²), whose variance is σ² for every σ (Lindeberg 1990, IEEE
    Trans. PAMI 12, 234).

    Parameters
    ----------
    image : (y, x) array
        Samples.
    sigma : float
        σ in samples.
    binning : int
        Samples a pixel has along a side.
    margin : int
        Samples on each side that no pixel covers.
    workers : int, optional
        Threads; the result does not depend on it.

    Returns
    -------
    (y, x) float64 array
        Means over the pixels.

    Examples
    --------
    >>> blur_and_bin(np.arange(16.0).reshape(4, 4), 0.0, 2)
    array([[ 2.5,  4.5],
           [10.5, 12.5]])
    """
    weights = np.convolve(discrete_gaussian(sigma), np.full(binning, 1.0 / binning))
    reach = (len(weights) - binning) // 2
    height, width = ((size - 2 * margin) // binning for size in image.shape)
    image = np.ascontiguousarray(image, None if image.dtype.kind == "f" else np.float64)
    down = np.empty((height, image.shape[1]), np.float64)
    for_blocks(
        lambda a, b: _down(image, weights, binning, margin - reach, down, a, b), height, threads=workers
    )
    out = np.empty((height, width), np.float64)
    for_blocks(
        lambda a, b: _along(down, weights, binning, margin - reach, out, a, b), height, threads=workers
    )
    return out


def discrete_gaussian(sigma: float) -> NDArray[np.float64]:
    """Weights of the discrete Gaussian, centred, of sum 1.

    Parameters
    ----------
    sigma : float
        Standard deviation in samples, exact for every value.

    Examples
    --------
    >>> weights = discrete_gaussian(0.8)
    >>> n = np.arange(len(weights)) - len(weights) // 2
    >>> round(float((weights * n**2).sum()), 6)
    0.64
    """
    from scipy.special import ive

    reach = 0 if sigma == 0.0 else math.ceil(6.0 * sigma + 4.0)
    weights = ive(np.abs(np.arange(-reach, reach + 1)), sigma**2)
    return np.asarray(weights / weights.sum(), np.float64)


@_jit
def _fold(index, size):  # type: ignore[no-untyped-def]
    """Fold an index back into the image, as often as it takes."""
    index = index % (2 * size)
    if index < 0:
        index += 2 * size
    return index if index < size else 2 * size - 1 - index


@_jit
def _down(image, weights, binning, first, out, start, stop):  # type: ignore[no-untyped-def]
    for y in range(start, stop):
        line = out[y]
        line[:] = 0.0
        for t in range(len(weights)):
            row, w = image[_fold(y * binning + first + t, image.shape[0])], weights[t]
            for x in range(len(line)):
                line[x] += w * row[x]


@_jit
def _along(image, weights, binning, first, out, start, stop):  # type: ignore[no-untyped-def]
    width = image.shape[1]
    for y in range(start, stop):
        row = image[y]
        for x in range(out.shape[1]):
            begin = x * binning + first
            total = 0.0
            if begin >= 0 and begin + len(weights) <= width:
                for t in range(len(weights)):
                    total += weights[t] * row[begin + t]
            else:
                for t in range(len(weights)):
                    total += weights[t] * row[_fold(begin + t, width)]
            out[y, x] = total


def source_blur(*, source_sigma: float, source_to_plane: float, plane_to_detector: float) -> float:
    """Blur in the detector's plane by a source of Gaussian profile.

    Through a point of a plane, a source point at height s is seen at −s · plane_to_detector/source_to_plane
    (a pinhole camera), so that the image of the plane is blurred by the source scaled so; measured in the
    sample's plane it is smaller by the magnification. With the sample as the plane this is the blur of the
    sample's features; the membrane stands further upstream, and its own distances give the blur of its
    speckles.

    Parameters
    ----------
    source_sigma : float
        σ of the source in metres.
    source_to_plane, plane_to_detector : float
        Distances in metres.

    Returns
    -------
    float
        σ in metres.

    Raises
    ------
    InputError
        Lists every value that is out of range.

    Examples
    --------
    >>> blur = source_blur(source_sigma=50e-6, source_to_plane=50.0, plane_to_detector=1.0)
    >>> round(blur * 1e6, 6)
    1.0
    """
    faults: list[str] = []
    check_number("source_sigma", source_sigma, faults, unit="m", low=0.0)
    check_number("source_to_plane", source_to_plane, faults, unit="m", low=0.0, strict=True)
    check_number("plane_to_detector", plane_to_detector, faults, unit="m", low=0.0)
    raise_faults(faults)
    return source_sigma * plane_to_detector / source_to_plane


@dataclass(frozen=True, kw_only=True)
class Spectrum:
    """Photon energies and their weights; iterate for (energy_kev, weight) pairs, weights of sum 1.

    Parameters
    ----------
    energies_kev : sequence of float
        Photon energies in keV.
    weights : sequence of float
        Part of the detected intensity of the bare beam that each has, up to a common factor.

    Raises
    ------
    InputError
        Lists every fault.

    Examples
    --------
    >>> list(Spectrum(energies_kev=[16.0, 18.0], weights=[1, 3]))
    [(16.0, 0.25), (18.0, 0.75)]
    """

    energies_kev: Sequence[float]
    weights: Sequence[float]

    def __post_init__(self) -> None:
        faults: list[str] = []
        energies, weights = tuple(self.energies_kev), tuple(self.weights)
        if len(energies) != len(weights) or not energies:
            faults.append(
                f"a spectrum of {len(energies)} energies has {len(weights)} weights; expected one for each"
            )
        for energy in energies:
            check_number("energies_kev", energy, faults, unit="keV", low=0.1, high=1000.0)
        for weight in weights:
            check_number("weights", weight, faults, low=0.0)
        if not faults and sum(weights) == 0.0:
            faults.append("all weights of the spectrum are 0; expected one above 0 at least")
        raise_faults(faults)
        total = math.fsum(weights)
        object.__setattr__(self, "energies_kev", tuple(float(energy) for energy in energies))
        object.__setattr__(self, "weights", tuple(weight / total for weight in weights))

    def __iter__(self) -> Iterator[tuple[float, float]]:
        """Give (energy_kev, weight) pairs."""
        return iter(zip(self.energies_kev, self.weights, strict=True))


def incoherent_sum(terms: Iterable[tuple[float, ArrayLike]]) -> Real:
    """Add up the intensities of waves that do not interfere, in the order in which they come.

    Parameters
    ----------
    terms : iterable of (float, (y, x) array_like)
        Weight and wave, or weight and intensity if it is real. A generator keeps one in memory at a time.

    Returns
    -------
    (y, x) array
        Σ weight · |wave|², in the precision of the first term.

    Raises
    ------
    InputError
        If there is nothing to add.

    Examples
    --------
    >>> incoherent_sum((weight, np.full((1, 2), 1j * weight)) for weight in (0.5, 0.5))
    array([[0.25, 0.25]])
    """
    total: Real | None = None
    for weight, term in terms:
        given = np.asarray(term)
        if given.dtype.kind == "c":
            intensity = given.real**2
            intensity += given.imag**2
        else:
            intensity = np.array(given, np.result_type(given.dtype, np.float32))
        intensity *= weight
        if total is None:
            total = intensity
        else:
            total += intensity
    if total is None:
        raise InputError("there are no intensities to add; expected one at least")
    return total


def exposure_generators(seed: int, number: int) -> list[np.random.Generator]:
    """Give each exposure a generator of its own, so that no order of work changes its noise.

    Parameters
    ----------
    seed : int
        Seed of all exposures.
    number : int
        Exposures; the first ones do not depend on how many follow.

    Returns
    -------
    list of Generator
        One an exposure.

    Raises
    ------
    InputError
        If the seed or the number is not a whole number of the range.

    Examples
    --------
    >>> a, b = exposure_generators(1, 2)
    >>> bool(a.random() == exposure_generators(1, 5)[0].random())
    True
    """
    faults: list[str] = []
    check_count("seed", seed, faults, low=0)
    check_count("number", number, faults, low=0)
    raise_faults(faults)
    return [np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(number)]


def draw_dead_pixels(shape: tuple[int, int], fraction: float, seed: int) -> tuple[tuple[int, int], ...]:
    """Draw dead pixels for a `Detector`.

    Parameters
    ----------
    shape : (int, int)
        Pixels along y and x.
    fraction : float
        Part of them that is dead, below 1; rounded to whole pixels.
    seed : int
        Seed.

    Returns
    -------
    tuple of (int, int)
        (y, x) of each, in reading order.

    Examples
    --------
    >>> len(draw_dead_pixels((100, 100), 0.01, seed=1))
    100
    """
    faults: list[str] = []
    height, width = (check_count(f"shape along {a}", n, faults) for a, n in zip("yx", shape, strict=True))
    fraction = check_number("fraction", fraction, faults, low=0.0, high=1.0)
    check_count("seed", seed, faults, low=0)
    raise_faults(faults)
    size = height * width
    chosen = np.random.default_rng(seed).choice(size, round(fraction * size), replace=False)
    return tuple((int(index // width), int(index % width)) for index in np.sort(chosen))
