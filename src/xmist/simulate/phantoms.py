"""Phantoms of grains to measure methods: known, smooth φ, D and T, and frames by wave optics.

Half of the grains refract alone; the others also scatter, or absorb, so that no channel can be guessed from
another. Strengths are stated by their effect on the detector: the greatest speckle shift, the widest blur and
the least transmission.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.core.arrays import SMALLEST_FRAME
from xmist.core.checks import Checks
from xmist.core.errors import InputError, suggest
from xmist.core.experiment import Experiment
from xmist.core.materials import Material
from xmist.core.progress import Progress
from xmist.simulate.acquisition import acquire
from xmist.simulate.composites import random_orientation
from xmist.simulate.detector import Detector
from xmist.simulate.diffusers import RandomScreen, independent_positions
from xmist.simulate.grid import Grid
from xmist.simulate.objects import Ellipsoid, ThicknessMap
from xmist.simulate.plane import seen_from_sample
from xmist.simulate.sample import Part, Scatter
from xmist.simulate.truth import Simulation

Real = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Case:
    """How strong a phantom is."""

    # full width at half maximum of the speckles' autocorrelation in pixels, before the detector's blur
    speckle: float
    # standard deviation of the reference over its mean, before the detector's blur, for weak diffusers
    visibility: float
    shift: float  # greatest shift of a speckle in pixels (99.9th percentile)
    blur: float  # σ in pixels of the widest blur by structure below the pixel; 0 has none
    transmission: float  # least transmission; 1 does not absorb
    photons: float  # photons per pixel in the bare beam


CASES: Final[Mapping[str, Case]] = MappingProxyType(
    {
        "fine": Case(speckle=4.0, visibility=0.3, shift=0.4, blur=0.3, transmission=1.0, photons=1e5),
        "strong": Case(speckle=4.0, visibility=0.3, shift=1.5, blur=0.5, transmission=1.0, photons=1e5),
        "coarse": Case(speckle=8.0, visibility=0.3, shift=0.6, blur=0.5, transmission=1.0, photons=1e5),
        "absorbing": Case(speckle=4.0, visibility=0.3, shift=0.6, blur=0.4, transmission=0.5, photons=1e5),
        "low-dose": Case(speckle=4.0, visibility=0.3, shift=0.6, blur=0.4, transmission=1.0, photons=2e3),
    }
)

# 20 keV, 6.5 µm and 0.7 m: ∆/(kp²) = 0.16, so that speckles of four pixels are far from diffraction.
_EXPERIMENT: Final = Experiment(energy_kev=20.0, pixel_size=6.5e-6, sample_to_detector=0.7)
_DIFFUSER_TO_SAMPLE: Final = 1.0
_PSF: Final = 0.8  # σ in pixels
_CORRELATION: Final = 0.3  # of the structure, in pixels
_OVERSAMPLING: Final = 6


def phantom(
    kind: str,
    *,
    shape: tuple[int, int] = (256, 256),
    positions: int = 10,
    seed: int = 0,
    speckle: float | None = None,
    visibility: float | None = None,
    shift: float | None = None,
    blur: float | None = None,
    transmission: float | None = None,
    photons: float | None = None,
    physics: str = "wave",
    noise: bool = True,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Simulation:
    """Simulate a phantom of grains.

    Parameters
    ----------
    kind : str
        "fine", "strong", "coarse", "absorbing" or "low-dose", see `CASES`.
    shape : tuple of int
        Pixels (y, x).
    positions : int
        Number N of positions of the diffuser, so far apart that speckles are independent.
    seed : int
        Seed of grains, diffuser, structure and noise.
    speckle, visibility, shift, blur, transmission, photons : float, optional
        In place of the case's, see `Case`.
    physics : str
        "wave" or "model", see `acquire`.
    noise : bool
        Whether counts are drawn.
    workers : int, optional
        Threads; the result does not depend on it.
    progress : callable, optional
        Called as progress("simulating", done, total).

    Returns
    -------
    Simulation
        Frames, geometry and truth.

    Raises
    ------
    InputError
        For an unknown kind, or lists what is out of range.

    Examples
    --------
    >>> stack, experiment, truth = phantom("fine", shape=(32, 32), positions=2, seed=1)
    >>> bool(truth.dark_field.max() > 0)
    True
    """
    if kind not in CASES:
        raise InputError(f"there is no phantom '{kind}'; {suggest(str(kind), CASES)}", code="preset-unknown")
    given = {
        "speckle": speckle,
        "visibility": visibility,
        "shift": shift,
        "blur": blur,
        "transmission": transmission,
        "photons": photons,
    }
    case = replace(CASES[kind], **{name: value for name, value in given.items() if value is not None})
    check = Checks()
    shape = check.shape(shape, low=SMALLEST_FRAME)
    check.count("positions", positions)
    check.count("seed", seed, low=0)
    for name, low, high, strict in (
        ("speckle", 2.0, 64.0, False),
        ("visibility", 0.0, 0.6, True),
        ("shift", 0.0, 20.0, False),
        ("blur", 0.0, 2.0, False),
        ("transmission", 0.0, 1.0, True),
        ("photons", 0.0, math.inf, True),
    ):
        check.number(name, getattr(case, name), low=low, high=high, strict=strict)
    check.done()
    p = _EXPERIMENT.pixel_size
    diffuser = speckle_diffuser(
        _EXPERIMENT,
        _DIFFUSER_TO_SAMPLE,
        speckle=case.speckle * p,
        visibility=case.visibility,
        seed=seed,
    )
    return acquire(
        _EXPERIMENT,
        shape=shape,
        sample=grains(case, shape, seed=seed),
        diffuser=diffuser,
        diffuser_to_sample=_DIFFUSER_TO_SAMPLE,
        positions=independent_positions(positions, extent=(max(shape) + 100) * p, diffuser=diffuser),
        detector=Detector(
            pixel_size=p,
            oversampling=_OVERSAMPLING,
            psf_sigma=_PSF * p,
            photons=case.photons,
            gain=1.0,
            read_noise=0.0,
            offset=0.0,
        ),
        seed=seed,
        physics=physics,
        noise=noise,
        workers=workers,
        progress=progress,
    )


def speckle_diffuser(
    experiment: Experiment, diffuser_to_sample: float, *, speckle: float, visibility: float, seed: int
) -> RandomScreen:
    """Return the random screen whose speckles have a size and a visibility at the detector.

    In the near field the intensity is 1 − (z/k) ∇²φ. For a screen of Gaussian correlation of length ℓ its
    autocorrelation is that of ∇²φ, ∝ (u² − 8u + 8) e^{−u/2} with u = r²/ℓ², of full width 1.277 ℓ, and its
    standard deviation is √8 (z/k) σ_φ/ℓ².
    `diffuser_to_sample` in metres, `speckle` in metres.
    """
    length = speckle / 1.277
    upstream, scale = seen_from_sample(experiment, diffuser_to_sample)
    distance = upstream + experiment.effective_distance
    return RandomScreen(
        wavelength=experiment.wavelength,
        grain_size=2.0 * math.sqrt(2.0 * math.log(2.0)) * length * scale,
        rms_phase=visibility * experiment.wavenumber * length**2 / (math.sqrt(8.0) * distance),
        seed=seed,
    )


def grains(case: Case, shape: tuple[int, int], *, seed: int) -> list[Part]:
    """Draw the grains of a phantom."""
    rng = np.random.default_rng([seed, 3])
    p, k, distance = _EXPERIMENT.pixel_size, _EXPERIMENT.wavenumber, _EXPERIMENT.effective_distance
    # The maps reach beyond the field, as far as grains do that leave it.
    beyond = math.ceil(0.2 * min(shape))
    grid = Grid(shape=(shape[0] + 2 * beyond, shape[1] + 2 * beyond), pixel=p)
    maps = []
    for number in (6, 5, 4):
        total = np.zeros(grid.shape)
        for _ in range(number):
            axes = rng.uniform(0.06, 0.2, 3) * min(shape) * p
            y, x = (rng.uniform(-0.36, 0.36) * size * p for size in shape)
            total += Ellipsoid(
                semi_axes=(float(axes[0]), float(axes[1]), float(axes[2])),
                x=x,
                y=y,
                orientation=random_orientation(rng),
            ).thickness(grid)
        maps.append(_smooth(total, 0.015 * min(shape)))
    # kδt = φ: the steepest slope shifts by `shift` pixels.
    total = maps[0] + maps[1] + maps[2]
    field = (slice(beyond, -beyond),) * 2
    slope = np.hypot(*np.gradient(total, p))[field]
    delta = case.shift * p / (distance * float(np.quantile(slope, 0.999)))
    beta = -math.log(case.transmission) / (2.0 * k * float(maps[2][field].max()))
    clear = Material(delta=delta, beta=0.0, energy_kev=_EXPERIMENT.energy_kev)
    scatter = None
    if case.blur > 0.0:
        power = (case.blur * p / distance) ** 2 / float(maps[1][field].max())
        scatter = Scatter(power=power, correlation_length=_CORRELATION * p)
    dense = replace(clear, beta=beta)
    materials = (clear, clear, dense)
    return [
        Part(body=ThicknessMap(values=values, pixel=p), material=material, scatter=layer)
        for values, material, layer in zip(maps, materials, (None, scatter, None), strict=True)
    ]


def _smooth(image: Real, sigma: float) -> Real:
    import scipy.ndimage as ndi

    result: Real = ndi.gaussian_filter(image, sigma, mode="nearest")
    return result
