"""Convert intensity to counts: point spread, pixels, noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xmist.core.checks import Checks
from xmist.simulate.pixels import blur_and_bin


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
        Photons that a pixel detects in the bare beam (intensity 1) in one frame.
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
        check = Checks()
        check.count("oversampling", self.oversampling)
        for name, unit, low, high, strict in (
            ("pixel_size", "m", 1e-9, 1e-3, False),
            ("psf_sigma", "m", 0.0, 1e-2, False),
            ("photons", "photons", 0.0, 1e15, True),
            ("gain", "counts per photon", 0.0, math.inf, True),
            ("read_noise", "counts", 0.0, math.inf, False),
            ("offset", "counts", -math.inf, math.inf, False),
        ):
            value = check.number(name, getattr(self, name), unit=unit, low=low, high=high, strict=strict)
            object.__setattr__(self, name, value)
        if self.saturation is not None:
            low = self.offset if math.isfinite(self.offset) else -math.inf
            value = check.number("saturation", self.saturation, unit="counts", low=low, strict=True)
            object.__setattr__(self, "saturation", value)
        whole: Any = self.whole_counts
        if not isinstance(whole, bool):
            check.add(f"whole_counts is {whole!r}; expected true or false")
        check.done()


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

    `intensity` (y, x), `source_blur` in metres; returns (y, x).
    """
    check = Checks()
    light = np.asarray(intensity)
    if light.dtype.kind not in "iuf" or light.ndim != 2:
        check.add(f"intensity has shape {light.shape} and dtype {light.dtype}; expected real numbers (y, x)")
    margin = check.count("margin", margin, low=0)
    blur = check.number("source_blur", source_blur, unit="m", low=0.0)
    check.done()
    binning = detector.oversampling
    sizes = [size - 2 * margin for size in light.shape]
    if any(size < binning or size % binning for size in sizes):
        check.add(
            f"intensity has {light.shape[0]} × {light.shape[1]} samples and a margin of {margin}; expected a "
            f"whole number of pixels of {binning} × {binning} samples inside the margin"
        )
    if not (float(light.min(initial=0.0)) >= 0.0 and np.isfinite(light.max(initial=0.0))):
        check.add("intensity holds negative, NaN or infinite values; expected numbers of at least 0")
    height, width = (max(size // binning, 1) for size in sizes)
    for y, x in detector.dead_pixels:
        if not (0 <= y < height and 0 <= x < width):
            check.add(f"dead pixel ({y}, {x}) lies outside the detector of {height} × {width} pixels")
    check.done()
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
    check = Checks()
    height, width = check.shape(shape)
    fraction = check.number("fraction", fraction, low=0.0, high=1.0)
    check.count("seed", seed, low=0)
    check.done()
    size = height * width
    chosen = np.random.default_rng(seed).choice(size, round(fraction * size), replace=False)
    return tuple((int(index // width), int(index % width)) for index in np.sort(chosen))
