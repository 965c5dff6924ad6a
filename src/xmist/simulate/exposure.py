"""The steps of an exposure: the wave that arrives, what the sample does, what the detector counts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xmist.data import SMALLEST_FRAME
from xmist.errors import raise_faults
from xmist.experiment import Experiment
from xmist.numerics.parallel import for_blocks
from xmist.simulate.beam import Spectrum
from xmist.simulate.beam import source_blur as blur_by_source
from xmist.simulate.checks import check_count, check_number
from xmist.simulate.detector import Detector, detect
from xmist.simulate.membranes import Membrane, transmission_functions
from xmist.simulate.microstructure import Screen, check_screen, dark_field_tensor
from xmist.simulate.model import transported
from xmist.simulate.pixels import blur_and_bin
from xmist.simulate.plane import Plane, make_plane
from xmist.simulate.propagation import fresnel
from xmist.simulate.sample import Part, check_sample, project
from xmist.simulate.sampling import check_sampling
from xmist.simulate.truth import Truth

Real = NDArray[Any]
Wave = NDArray[np.complex64]

PHYSICS: Final = ("wave", "model")

# The speckles of a weak screen in the near field are its curvature, whose autocorrelation is 1/1.84 as wide
# as the phase's if that is Gaussian.
_SPECKLE: Final = 1.0 / 1.84
_STEEP: Final = 0.75 * math.pi  # a wave that is sampled well hardly ever turns by as much between samples


@dataclass(frozen=True, kw_only=True, eq=False)
class Setup:
    """Everything but the sample.

    Parameters
    ----------
    plane : Plane
        Grid and distances.
    beams : tuple of (Experiment, float)
        Energies with their weights, of sum 1.
    membrane : Membrane
        Membrane.
    steps : (position, 2) float64 array
        Its displacements (y, x) in metres.
    detector : Detector
        Detector.
    blur : float
        σ of point spread and source in metres, in the detector's plane.
    drift : tuple of float
        Displacement (y, x) of the sample frames in the sample's plane in metres.
    illumination : (y, x) float64 array or None
        Intensity of the bare beam.
    physics : str
        "wave" or "model".
    noise_seed : int or None
        Seed of the noise; None gives expected values.
    workers : int or None
        Threads.
    """

    plane: Plane
    beams: tuple[tuple[Experiment, float], ...]
    membrane: Membrane
    steps: NDArray[np.float64]
    detector: Detector
    blur: float
    drift: tuple[float, float]
    illumination: Real | None
    physics: str
    noise_seed: int | None
    workers: int | None

    @property
    def grain(self) -> float | None:
        """Size of the speckles in the sample's plane in metres, as far as the membrane tells."""
        width = getattr(self.membrane, "correlation_width", None)
        if width is None:
            period = getattr(self.membrane, "period", None)
            return None if period is None else 0.5 * float(period) / self.plane.membrane_scale
        return float(width) * _SPECKLE / self.plane.membrane_scale


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """A sample as a beamline's wave meets it.

    Parameters
    ----------
    truth : Truth
        What is true of it.
    findings : tuple of str
        Where the truth is not what speckles can see.
    waves : tuple of (y, x) complex64 array
        Its transmission function for each energy; empty for the model.
    images : tuple of (phase, transmission, tensor)
        What the model needs for each energy; empty for wave optics.
    """

    truth: Truth
    findings: tuple[str, ...]
    waves: tuple[Wave, ...]
    images: tuple[tuple[Real, Real, Real], ...]


def prepare(
    experiment: Experiment,
    *,
    shape: tuple[int, int],
    membrane: Membrane,
    membrane_to_sample: float,
    positions: ArrayLike,
    detector: Detector,
    seed: int,
    physics: str,
    spectrum: Spectrum | None,
    source_sigma: float,
    drift: tuple[float, float],
    illumination: ArrayLike | None,
    noise: bool,
    workers: int | None,
) -> Setup:
    """Check all that does not concern the sample, and choose the grid; parameters as for `acquire`."""
    faults: list[str] = []
    sizes = [
        check_count(f"shape along {a}", n, faults, low=SMALLEST_FRAME)
        for a, n in zip("yx", shape, strict=True)
    ]
    check_count("seed", seed, faults, low=0)
    source = experiment.source_to_sample
    check_number(
        "membrane_to_sample",
        membrane_to_sample,
        faults,
        unit="m",
        low=0.0,
        high=math.inf if source is None else 0.999 * source,
        strict=True,
        advice="the membrane stands upstream of the sample"
        + ("" if source is None else ", after the source"),
    )
    check_number("source_sigma", source_sigma, faults, unit="m", low=0.0)
    for axis, move in zip("yx", drift, strict=True):
        check_number(f"drift along {axis}", move, faults, unit="m")
    if source_sigma > 0.0 and source is None:
        faults.append("source_sigma is given and the beam is parallel; expected a source_to_sample")
    if not math.isclose(detector.pixel_size, experiment.pixel_size, rel_tol=1e-9):
        faults.append(
            f"the detector's pixel is {detector.pixel_size:g} m and the experiment's "
            f"{experiment.pixel_size:g} m; expected the same"
        )
    if physics not in PHYSICS:
        faults.append(f"physics is {physics!r}; expected 'wave' or 'model'")
    light = None if illumination is None else np.asarray(illumination, np.float64)
    if light is not None and (light.shape != tuple(shape) or not (np.isfinite(light) & (light > 0)).all()):
        faults.append(
            f"illumination has shape {light.shape}; expected {tuple(shape)} finite positive numbers (y, x)"
        )
    raise_faults(faults)
    blur = detector.psf_sigma
    if source_sigma > 0.0 and source is not None:
        by_source = blur_by_source(
            source_sigma=source_sigma,
            source_to_plane=source - membrane_to_sample,
            plane_to_detector=membrane_to_sample + experiment.sample_to_detector,
        )
        blur = math.hypot(blur, by_source)
    beams = (
        ((experiment, 1.0),)
        if spectrum is None
        else tuple((replace(experiment, energy_kev=energy), weight) for energy, weight in spectrum)
    )
    plane = make_plane(
        experiment,
        (sizes[0], sizes[1]),
        oversampling=detector.oversampling,
        membrane_to_sample=membrane_to_sample,
        blur=blur / experiment.magnification,
        wavelengths=[beam.wavelength for beam, _ in beams],
    )
    for beam, _ in beams:
        for distance in (plane.upstream, experiment.effective_distance):
            faults += check_sampling(
                wavelength=beam.wavelength,
                pixel_size=plane.samples.pixel,
                shape=plane.samples.shape,
                distance=distance,
            )
    raise_faults(faults)
    return Setup(
        plane=plane,
        beams=beams,
        membrane=membrane,
        steps=np.array(positions, np.float64),
        detector=detector,
        blur=blur,
        drift=(drift[0] / experiment.magnification, drift[1] / experiment.magnification),
        illumination=light,
        physics=physics,
        noise_seed=seed if noise else None,
        workers=workers,
    )


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

    Parameters
    ----------
    setup : Setup
        Beamline.
    sample : sequence of Part
        The sample.
    screens : sequence of Screen
        Layers of structure beside that of its parts.
    edge_sigma : float
        σ in metres that bodies are smoothed with.
    seed : int
        Seed of the structure.
    turn : float
        Rms in rad by which the wave that arrives turns between neighbouring samples, see `rms_turn`.

    Returns
    -------
    Seen
        The sample as the wave meets it.
    """
    plane = setup.plane
    nominal = plane.experiment
    faults: list[str] = []
    check_number("edge_sigma", edge_sigma, faults, unit="m", low=0.0)
    for beam, _ in setup.beams:
        faults += check_sample(sample, plane.pixels, energy_kev=beam.energy_kev)
    raise_faults(faults)
    waves, images, findings = [], [], []
    truth = None
    drawn: Real | None = None
    for beam, _ in (((nominal, 1.0),) if setup.beams[0][0] != nominal else ()) + setup.beams:
        seen = project(
            sample,
            plane.samples,
            energy_kev=beam.energy_kev,
            wavenumber=beam.wavenumber,
            screens=screens,
            edge_sigma=edge_sigma,
        )
        if drawn is None:
            for screen in seen.screens:
                wrong, doubtful = check_screen(
                    screen,
                    wavenumber=beam.wavenumber,
                    distance=nominal.effective_distance,
                    pixel=plane.pixels.pixel,
                    sample=plane.samples.pixel,
                    grain=setup.grain,
                    turn=turn,
                )
                faults += wrong
                findings += doubtful
            faults += check_sampling(
                wavelength=beam.wavelength,
                pixel_size=plane.samples.pixel,
                shape=plane.samples.shape,
                distance=nominal.effective_distance,
                phase=seen.phase,
                name="the sample's phase",
            )
            raise_faults(faults)
            drawn = np.zeros(plane.samples.shape, np.float32)
            if setup.physics == "wave":
                for number, screen in enumerate(seen.screens):
                    drawn += screen.phase(
                        plane.samples,
                        wavenumber=beam.wavenumber,
                        rng=np.random.default_rng([seed, 1, number]),
                        workers=setup.workers,
                    )
            tensor = dark_field_tensor(seen.screens, plane.samples, distance=nominal.effective_distance)
            truth = _truth(
                plane,
                seen.phase,
                seen.absorbance,
                tensor,
                drawn,
                any(screen.anisotropy > 0.0 for screen in seen.screens),
            )
            if all(beam != other for other, _ in setup.beams):
                continue
        # θ ∝ λ², so that the structure's phase goes with λ and D with λ⁴.
        colour = beam.wavelength / nominal.wavelength
        if setup.physics == "wave":
            waves.append(_wave(seen.phase, drawn, colour, seen.absorbance, setup.workers))
        else:
            images.append((seen.phase, np.exp(-seen.absorbance), tensor * colour**4))
    assert truth is not None
    return Seen(truth=truth, findings=tuple(findings), waves=tuple(waves), images=tuple(images))


def _truth(plane: Plane, phase: Real, absorbance: Real, tensor: Real, drawn: Real, oriented: bool) -> Truth:
    mean_phase, mean_tensor = plane.mean(phase), plane.mean(tensor)
    scale = 1.0 / (plane.experiment.wavenumber * plane.pixels.pixel)
    slope_y, slope_x = np.gradient(mean_phase)
    return Truth(
        phase=mean_phase,
        transmission=plane.mean(np.exp(-absorbance)),
        dark_field=0.5 * (mean_tensor[0] + mean_tensor[2]),
        dark_field_tensor=mean_tensor if oriented else None,
        phase_total=mean_phase + plane.mean(drawn),
        refraction_angle=np.asarray(scale * np.stack([slope_x, slope_y]), np.float32),
    )


def _wave(phase: Real, drawn: Real, colour: float, absorbance: Real, workers: int | None) -> Wave:
    out = np.empty(phase.shape, np.complex64)

    def task(start: int, stop: int) -> None:
        rows = slice(start, stop)
        total = phase[rows] + colour * drawn[rows]
        amplitude = np.exp(-0.5 * absorbance[rows])
        out.real[rows] = amplitude * np.cos(total)
        out.imag[rows] = amplitude * np.sin(total)

    for_blocks(task, len(out), threads=workers)
    return out


def upstream_waves(setup: Setup) -> Iterator[tuple[Wave, ...]]:
    """Give the wave that reaches the sample, for each position of the membrane.

    Parameters
    ----------
    setup : Setup
        Beamline.

    Yields
    ------
    tuple of (y, x) complex64 array
        One an energy.

    Raises
    ------
    InputError
        If the samples are too coarse for the membrane.
    """
    plane = setup.plane
    functions = [
        transmission_functions(
            setup.membrane,
            plane.samples.shape,
            plane.samples.pixel * plane.membrane_scale,
            beam.wavelength,
            setup.steps,
            workers=setup.workers,
        )
        for beam, _ in setup.beams
    ]
    for number, transmissions in enumerate(zip(*functions, strict=True)):
        if number == 0:
            raise_faults(_membrane_faults(setup, transmissions[0]))
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
    """Give the rms by which a wave turns between neighbouring samples, weighted by its intensity.

    Parameters
    ----------
    wave : (y, x) complex array
        Wave.

    Returns
    -------
    float
        In rad, of the steeper axis.

    Examples
    --------
    >>> float(round(rms_turn(np.exp(0.5j * np.arange(8.0)) * np.ones((8, 1))), 6))
    0.5
    """
    turns = []
    for pair in (wave[1:] * wave[:-1].conj(), wave[:, 1:] * wave[:, :-1].conj()):
        weight = np.abs(pair)
        turns.append(float((weight * np.angle(pair) ** 2).sum() / weight.sum()))
    return math.sqrt(max(turns))


def _membrane_faults(setup: Setup, transmission: Wave) -> list[str]:
    turns = np.abs(np.angle(transmission[1:] * transmission[:-1].conj()))
    share = float(np.count_nonzero(turns > _STEEP)) / turns.size
    if share <= 0.01:
        return []
    return [
        f"the membrane's phase turns by more than {_STEEP:.3g} rad between {100 * share:.0f} % of the "
        f"neighbouring samples of {setup.plane.samples.pixel:.3g} m; expected 1 % at most: use more "
        "oversampling, a weaker membrane or coarser grains"
    ]


def expected(setup: Setup, waves: Sequence[Wave], seen: Seen | None) -> Real:
    """Give the intensity on the detector's pixels, without noise.

    Parameters
    ----------
    setup : Setup
        Beamline.
    waves : sequence of (y, x) complex64 array
        Wave that reaches the sample, one an energy.
    seen : Seen or None
        Sample; None is a reference.

    Returns
    -------
    (y, x) float64 array
        Intensity, 1 in the bare beam.
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


def expose(setup: Setup, waves: Sequence[Wave], seen: Seen | None, *, number: int) -> NDArray[np.float32]:
    """Expose the detector, and correct the frame for offset, gain, photons and illumination.

    Parameters
    ----------
    setup : Setup
        Beamline.
    waves : sequence of (y, x) complex64 array
        Wave that reaches the sample, one an energy.
    seen : Seen or None
        Sample; None is a reference.
    number : int
        Number of the exposure; chooses its noise.

    Returns
    -------
    (y, x) float32 array
        Frame, 1 in the bare beam.
    """
    light = np.maximum(expected(setup, waves, seen), 0.0)
    if setup.illumination is not None:
        light *= setup.illumination
    detector = setup.detector
    rng = None if setup.noise_seed is None else np.random.default_rng([setup.noise_seed, 2, number])
    counts = detect(light, replace(detector, oversampling=1, psf_sigma=0.0), rng, workers=setup.workers)
    frame = (counts.astype(np.float64) - detector.offset) / (detector.gain * detector.photons)
    if setup.illumination is not None:
        frame /= setup.illumination
    return frame.astype(np.float32)
