"""The steps to a frame: the wave that reaches the sample, the sample, the counts of the detector."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.core.errors import InputError
from xmist.simulate.detector import detect
from xmist.simulate.diffusers import transmission_functions
from xmist.simulate.model import transported
from xmist.simulate.pixels import blur_and_bin
from xmist.simulate.propagation import fresnel
from xmist.simulate.scene import Seen
from xmist.simulate.setup import Setup

Real = NDArray[Any]
Wave = NDArray[np.complex64]

_STEEP: Final = 0.75 * math.pi  # a wave that is sampled well hardly ever turns by as much between samples


def upstream_waves(setup: Setup) -> Iterator[tuple[Wave, ...]]:
    """Return the wave that reaches the sample, for each position of the diffuser.

    Returns (y, x).
    """
    plane = setup.plane
    functions = [
        transmission_functions(
            setup.diffuser,
            plane.samples.shape,
            plane.samples.pixel * plane.diffuser_scale,
            beam.wavelength,
            setup.steps,
            workers=setup.workers,
        )
        for beam, _ in setup.beams
    ]
    for number, transmissions in enumerate(zip(*functions, strict=True)):
        if number == 0:
            _check_diffuser(setup, transmissions[0])
        yield tuple(
            fresnel(
                transmission,
                wavelength=beam.wavelength,
                pixel_size=plane.samples.pixel,
                distance=plane.upstream,
                overwrite=True,
                workers=setup.workers,
            )
            for transmission, (beam, _) in zip(transmissions, setup.beams, strict=True)
        )


def rms_turn(wave: Wave) -> float:
    """Return the rms by which a wave turns between neighbouring samples, weighted by its intensity.

    `wave` (y, x).
    """
    turns = []
    for pair in (wave[1:] * wave[:-1].conj(), wave[:, 1:] * wave[:, :-1].conj()):
        weight = np.abs(pair)
        turns.append(float((weight * np.angle(pair) ** 2).sum() / weight.sum()))
    return math.sqrt(max(turns))


def _check_diffuser(setup: Setup, transmission: Wave) -> None:
    turns = np.abs(np.angle(transmission[1:] * transmission[:-1].conj()))
    share = float(np.count_nonzero(turns > _STEEP)) / turns.size
    if share > 0.01:
        raise InputError(
            f"the diffuser's phase turns by more than {_STEEP:.3g} rad between {100 * share:.0f} % of the "
            f"neighbouring samples of {setup.plane.samples.pixel:.3g} m; expected 1 % at most: use more "
            "oversampling, a weaker diffuser or coarser grains",
            code="sampling-coarse",
        )


def expected_intensity(setup: Setup, waves: Sequence[Wave], seen: Seen | None) -> Real:
    """Return the intensity on the detector's pixels, without noise.

    `waves` (y, x); returns (y, x).
    """
    plane = setup.plane
    total = np.zeros(plane.shape)
    for number, (wave, (beam, weight)) in enumerate(zip(waves, setup.beams, strict=True)):
        through = wave if seen is None or not seen.waves else wave * seen.waves[number]
        here = fresnel(
            through,
            wavelength=beam.wavelength,
            pixel_size=plane.samples.pixel,
            distance=plane.experiment.effective_distance,
            shift=(0.0, 0.0) if seen is None else setup.drift,
            overwrite=through is not wave,
            workers=setup.workers,
        )
        intensity = here.real**2
        intensity += here.imag**2
        if seen is not None and seen.images:
            phase, transmission, tensor = seen.images[number]
            intensity = transported(
                intensity,
                wavenumber=beam.wavenumber,
                distance=plane.experiment.effective_distance,
                pixel=plane.samples.pixel,
                phase=phase,
                transmission=transmission,
                dark_field=tensor,
                workers=setup.workers,
            )
        sigma = setup.blur / plane.experiment.pixel_size * plane.oversampling
        total += weight * blur_and_bin(
            intensity, sigma, plane.oversampling, margin=plane.cut, workers=setup.workers
        )
    return total


def record_frame(
    setup: Setup, waves: Sequence[Wave], seen: Seen | None, *, number: int
) -> NDArray[np.float32]:
    """Return a frame, corrected for offset, gain, photons and illumination.

    `waves` (y, x); returns (y, x).
    """
    light = np.maximum(expected_intensity(setup, waves, seen), 0.0)
    if setup.illumination is not None:
        light *= setup.illumination
    detector = setup.detector
    rng = None if setup.noise_seed is None else np.random.default_rng([setup.noise_seed, 2, number])
    counts = detect(light, replace(detector, oversampling=1, psf_sigma=0.0), rng, workers=setup.workers)
    frame = (counts.astype(np.float64) - detector.offset) / (detector.gain * detector.photons)
    if setup.illumination is not None:
        frame /= setup.illumination
    return frame.astype(np.float32)
