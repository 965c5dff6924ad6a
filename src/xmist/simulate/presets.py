"""Ready-made experiments: the only place of the simulator where physical numbers are set.

Every preset takes `shape`, `positions` and `seed`, fills the field with its sample whatever the shape, and
gives a `Simulation`. The membranes are random screens: ground sandpaper, of which only the speckles matter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from xmist.errors import InputError, raise_faults
from xmist.experiment import Experiment
from xmist.simulate.acquisition import Progress, acquire
from xmist.simulate.checks import check_count
from xmist.simulate.composites import berry, random_orientation
from xmist.simulate.detector import Detector
from xmist.simulate.materials import Material
from xmist.simulate.membranes import raster_positions
from xmist.simulate.objects import Cylinder, Ellipsoid, Slab, Tube, sphere
from xmist.simulate.phantoms import speckle_membrane
from xmist.simulate.sample import Part, Scatter
from xmist.simulate.tomography import Tomography, acquire_series
from xmist.simulate.truth import Simulation

# The experiment of Pavlov et al. 2020, J. Opt. 22 125604, section 4: 17 keV, 5.8 µm, 1 m.
_SYNCHROTRON: Final = Experiment(energy_kev=17.0, pixel_size=5.8e-6, sample_to_detector=1.0)
_MEMBRANE: Final = 0.5  # m upstream of the sample
_OVERSAMPLING: Final = 4
_BRIGHT: Final = 3e5  # photons: a signal-to-noise ratio of 550, above the paper's 500
_DIM: Final = 2e3


def currant(
    *,
    shape: tuple[int, int] = (256, 256),
    positions: int = 10,
    seed: int = 0,
    photons: float = _BRIGHT,
    physics: str = "wave",
    workers: int | None = None,
    progress: Progress | None = None,
) -> Simulation:
    """Simulate a currant as in Pavlov et al. 2020: 17 keV, 5.8 µm, ∆ = 1 m, the membrane 0.5 m upstream.

    Flesh of water with cell walls that scatter weakly, a skin, and seeds that scatter more.

    Parameters
    ----------
    shape : tuple of int
        Pixels (y, x); the berry fills four fifths of the shorter side.
    positions : int
        Number N of positions of the membrane, on a raster.
    seed : int
        Seed of membrane, seeds, structure and noise.
    photons : float
        Photons a pixel detects in the bare beam; 3·10⁵ is a signal-to-noise ratio of 550.
    physics : str
        "wave" or "model", see `acquire`.
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
        If xraydb is not installed, or an argument is out of range.

    Examples
    --------
    >>> stack, experiment, truth = currant(shape=(48, 48), positions=2)
    >>> experiment.effective_distance, bool(truth.phase.min() < -10)
    (1.0, True)
    """
    _check(shape, positions, seed)
    pixel = _SYNCHROTRON.pixel_size
    radius = 0.4 * min(shape) * pixel
    structure = 0.5 * pixel
    sample = berry(
        radius=radius,
        skin=0.05 * radius,
        seeds=5,
        seed_size=0.5 * radius,
        flesh_material=Material(formula="H2O", density=1050.0),
        skin_material=Material(formula="C6H10O5", density=1150.0),
        seed_material=Material(formula="C6H10O5", density=1350.0),
        flesh_scatter=_scatter(_SYNCHROTRON, blur=0.25, thickness=2.0 * radius, length=structure),
        seed_scatter=_scatter(_SYNCHROTRON, blur=0.5, thickness=0.25 * radius, length=structure),
        seed=seed,
    )
    return _synchrotron(
        sample,
        shape=shape,
        positions=positions,
        seed=seed,
        photons=photons,
        edge=_edge(_SYNCHROTRON, radius, Material(formula="C6H10O5", density=1150.0)),
        physics=physics,
        workers=workers,
        progress=progress,
    )


def low_dose(
    *,
    shape: tuple[int, int] = (256, 256),
    positions: int = 10,
    seed: int = 0,
    physics: str = "wave",
    workers: int | None = None,
    progress: Progress | None = None,
) -> Simulation:
    """Simulate the currant with 2000 photons a pixel.

    Parameters
    ----------
    shape : tuple of int
        Pixels (y, x).
    positions : int
        Number N of positions of the membrane, on a raster.
    seed : int
        Seed of membrane, seeds, structure and noise.
    physics : str
        "wave" or "model", see `acquire`.
    workers : int, optional
        Threads; the result does not depend on it.
    progress : callable, optional
        Called as progress("simulating", done, total).

    Returns
    -------
    Simulation
        Frames, geometry and truth.

    Examples
    --------
    >>> low_dose(shape=(48, 48), positions=2).detector.photons
    2000.0
    """
    return currant(
        shape=shape,
        positions=positions,
        seed=seed,
        photons=_DIM,
        physics=physics,
        workers=workers,
        progress=progress,
    )


def fibres(
    *,
    shape: tuple[int, int] = (256, 256),
    positions: int = 10,
    seed: int = 0,
    physics: str = "wave",
    workers: int | None = None,
    progress: Progress | None = None,
) -> Simulation:
    """Simulate six fibres in resin at 0, 30, … 150 degrees, of fibrils that scatter across them.

    The anisotropy of D is 0.8; the resin takes most of the refraction away.

    Parameters
    ----------
    shape : tuple of int
        Pixels (y, x); the fibres lie on a raster of two rows and three columns.
    positions : int
        Number N of positions of the membrane, on a raster.
    seed : int
        Seed of membrane, structure and noise.
    physics : str
        "wave" or "model", see `acquire`.
    workers : int, optional
        Threads; the result does not depend on it.
    progress : callable, optional
        Called as progress("simulating", done, total).

    Returns
    -------
    Simulation
        Frames, geometry and truth; the truth has a `dark_field_tensor`.

    Examples
    --------
    >>> stack, experiment, truth = fibres(shape=(48, 60), positions=2)
    >>> truth.dark_field_tensor.shape
    (3, 48, 60)
    """
    _check(shape, positions, seed)
    pixel = _SYNCHROTRON.pixel_size
    cell = min(shape[0] / 2.0, shape[1] / 3.0) * pixel
    radius = 0.13 * cell
    cellulose = Material(formula="C6H10O5", density=1500.0)
    resin = Material(formula="C21H25ClO5", density=1250.0)
    sample = [Part(body=Slab(depth=3.0 * radius), material=resin)]
    for number in range(6):
        row, column = divmod(number, 3)
        angle = 30.0 * number
        body = Cylinder(
            radius=radius,
            angle=angle,
            length=0.8 * cell,
            y=(row - 0.5) * shape[0] / 2.0 * pixel,
            x=(column - 1.0) * shape[1] / 3.0 * pixel,
        )
        scatter = _scatter(
            _SYNCHROTRON,
            blur=0.6,
            thickness=2.0 * radius,
            length=0.5 * pixel,
            direction=angle,
            anisotropy=0.8,
        )
        sample.append(Part(body=body, material=cellulose, within=resin, scatter=scatter))
    return _synchrotron(
        sample,
        shape=shape,
        positions=positions,
        seed=seed,
        photons=_BRIGHT,
        edge=_edge(_SYNCHROTRON, radius, cellulose),
        physics=physics,
        workers=workers,
        progress=progress,
    )


def spheres(
    *,
    shape: tuple[int, int] = (256, 256),
    positions: int = 10,
    seed: int = 0,
    physics: str = "wave",
    workers: int | None = None,
    progress: Progress | None = None,
) -> Simulation:
    """Simulate six balls without structure: water, polystyrene, nylon, acrylic glass, PTFE and fused silica.

    Parameters
    ----------
    shape : tuple of int
        Pixels (y, x); the balls lie on a raster of two rows and three columns, in that order.
    positions : int
        Number N of positions of the membrane, on a raster.
    seed : int
        Seed of membrane and noise.
    physics : str
        "wave" or "model", see `acquire`.
    workers : int, optional
        Threads; the result does not depend on it.
    progress : callable, optional
        Called as progress("simulating", done, total).

    Returns
    -------
    Simulation
        Frames, geometry and truth; the dark-field is 0.

    Examples
    --------
    >>> stack, experiment, truth = spheres(shape=(48, 60), positions=2)
    >>> float(truth.dark_field.max())
    0.0
    """
    _check(shape, positions, seed)
    pixel = _SYNCHROTRON.pixel_size
    radius = 0.36 * min(shape[0] / 2.0, shape[1] / 3.0) * pixel
    materials = [
        Material(formula=formula, density=density)
        for formula, density in (
            ("H2O", 1000.0),
            ("C8H8", 1050.0),
            ("C6H11NO", 1140.0),
            ("C5H8O2", 1180.0),
            ("C2F4", 2200.0),
            ("SiO2", 2200.0),
        )
    ]
    sample = []
    for number, material in enumerate(materials):
        row, column = divmod(number, 3)
        body = sphere(
            radius=radius,
            y=(row - 0.5) * shape[0] / 2.0 * pixel,
            x=(column - 1.0) * shape[1] / 3.0 * pixel,
        )
        sample.append(Part(body=body, material=material))
    return _synchrotron(
        sample,
        shape=shape,
        positions=positions,
        seed=seed,
        photons=_BRIGHT,
        edge=_edge(_SYNCHROTRON, radius, materials[-1]),
        physics=physics,
        workers=workers,
        progress=progress,
    )


def tubes(
    *,
    shape: tuple[int, int] = (256, 256),
    positions: int = 10,
    seed: int = 0,
    physics: str = "wave",
    workers: int | None = None,
    progress: Progress | None = None,
) -> Simulation:
    """Simulate tubes of glass fibres at a laboratory source: 8.04 keV, cone beam of 0.55 m + 0.8 m, T ≈ 0.7.

    The fibres run along their tube and scatter across it. The pixel is 15 µm (6.1 µm in the sample's plane):
    scatter that shows with one of 75 µm is so strong that a wave would need fifty samples a pixel.

    Parameters
    ----------
    shape : tuple of int
        Pixels (y, x).
    positions : int
        Number N of positions of the membrane, on a raster.
    seed : int
        Seed of membrane, structure and noise.
    physics : str
        "wave" or "model", see `acquire`.
    workers : int, optional
        Threads; the result does not depend on it.
    progress : callable, optional
        Called as progress("simulating", done, total).

    Returns
    -------
    Simulation
        Frames, geometry and truth; the truth has a `dark_field_tensor`.

    Examples
    --------
    >>> stack, experiment, truth = tubes(shape=(48, 48), positions=2)
    >>> round(experiment.magnification, 4), bool(0.6 < truth.transmission.min() < 0.8)
    (2.4545, True)
    """
    _check(shape, positions, seed)
    experiment = Experiment(energy_kev=8.04, pixel_size=15e-6, sample_to_detector=0.8, source_to_sample=0.55)
    pixel = experiment.effective_pixel
    size = min(shape) * pixel
    glass = Material(formula="SiO2", density=2200.0)
    radius = 0.06 * size
    wall = _half_absorbing_wall(glass, experiment, transmission=0.7)
    sample = []
    for angle in (20.0, 90.0, 150.0, 225.0, 300.0):  # from near the middle to the rim
        turn = math.radians(angle)
        body = Tube(
            radius=radius,
            wall=min(wall, 0.6 * radius),
            angle=angle % 180.0,
            length=0.34 * size,
            x=0.3 * size * math.cos(turn),
            y=0.3 * size * math.sin(turn),
        )
        scatter = _scatter(
            experiment,
            blur=0.5,
            thickness=2.0 * body.wall,
            length=0.5 * pixel,
            direction=angle % 180.0,
            anisotropy=0.8,
        )
        sample.append(Part(body=body, material=glass, scatter=scatter))
    y, x = (np.linspace(-1.0, 1.0, n) for n in shape)
    return acquire(
        experiment,
        shape=shape,
        sample=sample,
        membrane=speckle_membrane(experiment, 0.15, speckle=5.0 * pixel, visibility=0.3, seed=seed),
        membrane_to_sample=0.15,
        positions=raster_positions(positions, step=40.0 * pixel),
        detector=Detector(
            pixel_size=experiment.pixel_size,
            oversampling=_OVERSAMPLING,
            psf_sigma=0.8 * experiment.pixel_size,
            photons=4e4,
            gain=1.0,
            read_noise=5.0,
            offset=100.0,
            saturation=4.0e5,
        ),
        seed=seed,
        edge_sigma=_edge(experiment, radius, glass),
        physics=physics,
        source_sigma=2e-6,
        illumination=1.0 - 0.15 * y[:, None] ** 2 - 0.2 * x[None, :] ** 2,
        workers=workers,
        progress=progress,
    )


def ct(
    *,
    shape: tuple[int, int] = (96, 96),
    positions: int = 4,
    seed: int = 0,
    angles: int = 60,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Tomography:
    """Simulate the projections over 180 degrees of a ball of wax with grains in it, some of which scatter.

    Parameters
    ----------
    shape : tuple of int
        Pixels (y, x).
    positions : int
        Number N of positions of the membrane, on a raster.
    seed : int
        Seed of grains, membrane, structure and noise.
    angles : int
        Number of projections.
    workers : int, optional
        Threads; the result does not depend on it.
    progress : callable, optional
        Called as progress("simulating", done, total).

    Returns
    -------
    Tomography
        Frames, and the truth of every projection and of the volume.

    Examples
    --------
    >>> series = ct(shape=(32, 32), positions=2, angles=2)
    >>> series.volume.delta.shape
    (32, 32, 32)
    """
    _check(shape, positions, seed)
    faults: list[str] = []
    check_count("angles", angles, faults)
    raise_faults(faults)
    pixel = _SYNCHROTRON.pixel_size
    radius = 0.42 * min(shape) * pixel
    wax = Material(formula="C25H52", density=900.0)
    polystyrene = Material(formula="C8H8", density=1050.0)
    acrylic = Material(formula="C5H8O2", density=1180.0)
    rng = np.random.default_rng([seed, 4])
    scatter = _scatter(_SYNCHROTRON, blur=0.4, thickness=0.5 * radius, length=0.5 * pixel)
    sample = [Part(body=sphere(radius=radius), material=wax)]
    # Five places that are apart, so that grains do not overlap.
    for number in range(5):
        turn = 0.4 * math.pi * number + 0.3
        place = 0.5 * radius * np.array([math.cos(turn), (0.8 - 0.4 * number), math.sin(turn)])
        axes = radius * rng.uniform(0.12, 0.26, 3)
        body = Ellipsoid(
            semi_axes=(float(axes[0]), float(axes[1]), float(axes[2])),
            x=float(place[0]),
            y=float(place[1]),
            z=float(place[2]),
            orientation=random_orientation(rng),
        )
        filled = number % 2 == 0
        sample.append(
            Part(
                body=body,
                material=polystyrene if filled else acrylic,
                within=wax,
                scatter=scatter if filled else None,
            )
        )
    return acquire_series(
        _SYNCHROTRON,
        shape=shape,
        sample=sample,
        angles=[180.0 * number / angles for number in range(angles)],
        membrane=speckle_membrane(_SYNCHROTRON, _MEMBRANE, speckle=5.0 * pixel, visibility=0.35, seed=seed),
        membrane_to_sample=_MEMBRANE,
        positions=raster_positions(positions, step=40.0 * pixel),
        detector=synchrotron_detector(_BRIGHT),
        seed=seed,
        edge_sigma=_edge(_SYNCHROTRON, radius, wax),
        workers=workers,
        progress=progress,
    )


def _synchrotron(
    sample: Sequence[Part],
    *,
    shape: tuple[int, int],
    positions: int,
    seed: int,
    photons: float,
    edge: float,
    physics: str,
    workers: int | None,
    progress: Progress | None,
) -> Simulation:
    pixel = _SYNCHROTRON.pixel_size
    membrane = speckle_membrane(_SYNCHROTRON, _MEMBRANE, speckle=5.0 * pixel, visibility=0.35, seed=seed)
    y, x = (np.linspace(-1.0, 1.0, n) for n in shape)
    return acquire(
        _SYNCHROTRON,
        shape=shape,
        sample=sample,
        membrane=membrane,
        membrane_to_sample=_MEMBRANE,
        positions=raster_positions(positions, step=40.0 * pixel),
        detector=synchrotron_detector(photons),
        seed=seed,
        edge_sigma=edge,
        physics=physics,
        illumination=1.0 - 0.1 * y[:, None] ** 2 - 0.05 * (x[None, :] - 0.3) ** 2,
        workers=workers,
        progress=progress,
    )


def synchrotron_detector(photons: float) -> Detector:
    """Give the detector of the synchrotron's presets.

    Parameters
    ----------
    photons : float
        Photons a pixel detects in the bare beam.

    Returns
    -------
    Detector
        With a point spread of one pixel, read noise, offset and a gain that keeps counts below 65 535.

    Examples
    --------
    >>> synchrotron_detector(3e5).gain
    0.1
    """
    pixel = _SYNCHROTRON.pixel_size
    return Detector(
        pixel_size=pixel,
        oversampling=_OVERSAMPLING,
        psf_sigma=pixel,
        photons=photons,
        gain=min(1.0, 3e4 / photons),
        read_noise=2.0,
        offset=100.0,
        saturation=65535.0,
        whole_counts=True,
    )


def _check(shape: tuple[int, int], positions: int, seed: int) -> None:
    faults: list[str] = []
    if len(tuple(shape)) != 2:
        raise InputError(f"shape is {shape!r}; expected pixels (y, x)")
    for axis, size in zip("yx", shape, strict=True):
        check_count(f"shape along {axis}", size, faults, low=32)
    check_count("positions", positions, faults)
    check_count("seed", seed, faults, low=0)
    raise_faults(faults)


def _scatter(
    experiment: Experiment, *, blur: float, thickness: float, length: float, **options: Any
) -> Scatter:
    """Give structure that blurs by `blur` pixels (σ) where a body has a thickness."""
    angle = blur * experiment.effective_pixel / experiment.effective_distance
    return Scatter(power=angle**2 / thickness, correlation_length=length, **options)


def _edge(experiment: Experiment, radius: float, material: Material) -> float:
    """Smoothing at which a round edge's phase steps by 2.2 rad between samples, one pixel at least.

    Smoothed by σ, the edge 2√(2 R x) of a ball or a cylinder is about √(2R/σ) steep.
    """
    delta, _ = material.index(experiment.energy_kev)
    sample = experiment.effective_pixel / _OVERSAMPLING
    steep = experiment.wavenumber * delta * sample / 2.2
    return max(experiment.effective_pixel, 2.0 * radius * steep**2)


def _half_absorbing_wall(material: Material, experiment: Experiment, *, transmission: float) -> float:
    """Thickness of which two let that part of the light through."""
    _, beta = material.index(experiment.energy_kev)
    return -0.5 * math.log(transmission) / (2.0 * experiment.wavenumber * beta)
