"""A sample in the beam: its effect on the wave, and its truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmist.core.checks import Checks
from xmist.core.experiment import Experiment
from xmist.core.findings import Finding
from xmist.numerics.parallel import for_blocks
from xmist.simulate.microstructure import Screen, check_screen, dark_field_tensor
from xmist.simulate.plane import Plane
from xmist.simulate.sample import Part, Projection, check_sample, project
from xmist.simulate.sampling import check_sampling
from xmist.simulate.setup import Setup
from xmist.simulate.truth import Truth

Real = NDArray[Any]
Wave = NDArray[np.complex64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """The effect of a sample on the wave."""

    truth: Truth  # what is true of it
    findings: tuple[Finding, ...]  # where the truth is not what speckles can see
    waves: tuple[Wave, ...]  # (y, x), its transmission function for each energy; empty for the model
    images: tuple[tuple[Real, Real, Real], ...]  # what the model needs for each energy; empty for wave optics


def look_through(
    setup: Setup,
    sample: Sequence[Part],
    *,
    screens: Sequence[Screen] = (),
    edge_sigma: float = 0.0,
    seed: int,
    turn: float,
) -> Seen:
    """Project a sample, draw its structure, and state the truth.

    `edge_sigma` in metres, `turn` in rad.
    """
    plane, nominal = setup.plane, setup.plane.experiment
    seen = _project(setup, sample, nominal, screens, edge_sigma)
    findings = _check(setup, seen, turn)
    drawn = np.zeros(plane.samples.shape, np.float32)
    if setup.physics == "wave":
        for number, screen in enumerate(seen.screens):
            drawn += screen.phase(
                plane.samples,
                wavenumber=nominal.wavenumber,
                rng=np.random.default_rng([seed, 1, number]),
                workers=setup.workers,
            )
    truth = _truth(plane, seen, drawn)
    waves, images = [], []
    for beam, _ in setup.beams:
        here = seen if beam == nominal else _project(setup, sample, beam, screens, edge_sigma)
        # θ ∝ λ², so that the structure's phase goes with λ and D with λ⁴.
        colour = beam.wavelength / nominal.wavelength
        if setup.physics == "wave":
            waves.append(_wave(here, drawn, colour, setup.workers))
        else:
            tensor = dark_field_tensor(here.screens, plane.samples, distance=nominal.effective_distance)
            images.append((here.phase, np.exp(-here.absorbance), tensor * colour**4))
    return Seen(truth=truth, findings=findings, waves=tuple(waves), images=tuple(images))


def _project(
    setup: Setup, sample: Sequence[Part], beam: Experiment, screens: Sequence[Screen], edge_sigma: float
) -> Projection:
    check = Checks()
    check.number("edge_sigma", edge_sigma, unit="m", low=0.0)
    check.errors += check_sample(sample, setup.plane.pixels, energy_kev=beam.energy_kev)
    check.done()
    return project(
        sample,
        setup.plane.samples,
        energy_kev=beam.energy_kev,
        wavenumber=beam.wavenumber,
        screens=screens,
        edge_sigma=edge_sigma,
    )


def _check(setup: Setup, seen: Projection, turn: float) -> tuple[Finding, ...]:
    """Raise the errors of the sampling; return the findings."""
    plane, nominal = setup.plane, setup.plane.experiment
    check = Checks()
    findings: list[Finding] = []
    for screen in seen.screens:
        wrong, doubtful = check_screen(
            screen,
            wavenumber=nominal.wavenumber,
            distance=nominal.effective_distance,
            pixel=plane.pixels.pixel,
            sample=plane.samples.pixel,
            grain=setup.grain,
            turn=turn,
        )
        check.errors += wrong
        findings += doubtful
    check.errors += check_sampling(
        wavelength=nominal.wavelength,
        pixel_size=plane.samples.pixel,
        shape=plane.samples.shape,
        distance=nominal.effective_distance,
        phase=seen.phase,
        name="the sample's phase",
    )
    check.done()
    return tuple(findings)


def _truth(plane: Plane, seen: Projection, drawn: Real) -> Truth:
    phase = plane.mean(seen.phase)
    tensor = np.zeros((3, *plane.shape))
    for screen in seen.screens:
        # Of the squared angle a single image, not three on the wave's samples.
        squared = 0.5 * plane.experiment.effective_distance * plane.mean(screen.strength(plane.samples) ** 2)
        for component, share in zip(tensor, screen.shape_tensor(), strict=True):
            component += share * squared
    oriented = any(screen.anisotropy > 0.0 for screen in seen.screens)
    scale = 1.0 / (plane.experiment.wavenumber * plane.pixels.pixel)
    slope_y, slope_x = np.gradient(phase)
    return Truth(
        phase=phase,
        transmission=plane.mean(np.exp(-seen.absorbance)),
        dark_field=0.5 * (tensor[0] + tensor[2]),
        dark_field_tensor=np.asarray(tensor, np.float32) if oriented else None,
        phase_total=phase + plane.mean(drawn),
        refraction_angle=np.asarray(scale * np.stack([slope_x, slope_y]), np.float32),
    )


def _wave(seen: Projection, drawn: Real, colour: float, workers: int | None) -> Wave:
    out = np.empty(drawn.shape, np.complex64)

    def task(start: int, stop: int) -> None:
        rows = slice(start, stop)
        total = seen.phase[rows] + colour * drawn[rows]
        amplitude = np.exp(-0.5 * seen.absorbance[rows])
        out.real[rows] = amplitude * np.cos(total)
        out.imag[rows] = amplitude * np.sin(total)

    for_blocks(task, len(out), threads=workers)
    return out
