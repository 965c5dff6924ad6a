"""The recipes of the presets: the only place of the simulator where physical numbers are set."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.core.checks import Checks
from xmist.core.experiment import Experiment
from xmist.core.materials import Material
from xmist.simulate.composites import berry, random_orientation
from xmist.simulate.detector import Detector
from xmist.simulate.diffusers import Diffuser, raster_positions
from xmist.simulate.objects import Cylinder, Ellipsoid, Slab, Tube, sphere
from xmist.simulate.phantoms import speckle_diffuser
from xmist.simulate.sample import Part, Scatter

# The experiment of Pavlov et al. 2020, J. Opt. 22 125604, section 4: 17 keV, 5.8 µm, 1 m.
_SYNCHROTRON: Final = Experiment(energy_kev=17.0, pixel_size=5.8e-6, sample_to_detector=1.0)
_LABORATORY: Final = Experiment(
    energy_kev=8.04, pixel_size=15e-6, sample_to_detector=0.8, source_to_sample=0.55
)
_OVERSAMPLING: Final = 4
_STEEP: Final = 2.2  # rad between samples at the edge of a body

# By number, so that the currant needs no tables: water of 1050 kg/m³, cellulose of 1150 and 1350 kg/m³.
FLESH: Final = Material(delta=8.380e-7, beta=7.330e-10, energy_kev=17.0)
SKIN: Final = Material(delta=8.768e-7, beta=6.265e-10, energy_kev=17.0)
SEED: Final = Material(delta=1.0293e-6, beta=7.354e-10, energy_kev=17.0)

BRIGHT: Final = 3e5  # photons: a signal-to-noise ratio of 550, above the paper's 500
DIM: Final = 2e3


@dataclass(frozen=True, kw_only=True, eq=False)
class Recipe:
    """An experiment that can be simulated or planned.

    Parameters
    ----------
    experiment : Experiment
        Geometry.
    shape : tuple of int
        Detector's pixels (y, x).
    seed : int
        Seed of structure and noise.
    sample : tuple of Part
        The sample.
    diffuser : Diffuser
        What makes the speckles.
    diffuser_to_sample : float
        Distance in metres.
    positions : (position, 2) float64 array
        Displacements (y, x) of the diffuser in metres.
    detector : Detector
        Detector.
    edge_sigma : float
        σ in metres that bodies are smoothed with.
    source_sigma : float
        σ of the source in metres.
    illumination : (y, x) float64 array, optional
        Intensity of the bare beam.
    """

    experiment: Experiment
    shape: tuple[int, int]
    seed: int
    sample: tuple[Part, ...]
    diffuser: Diffuser
    diffuser_to_sample: float
    positions: NDArray[np.float64]
    detector: Detector
    edge_sigma: float
    source_sigma: float = 0.0
    illumination: NDArray[np.float64] | None = None

    def arguments(self) -> dict[str, Any]:
        """Return the arguments that `acquire` and `acquire_series` share.

        `source_sigma` is not among them: `acquire` alone takes it.

        Returns
        -------
        dict
            Values by the name of the argument.

        Examples
        --------
        >>> recipe = xmist.simulate.find_recipe("ct")((32, 32), 1, 0)
        >>> xmist.simulate.acquire_series(**recipe.arguments(), angles=[0.0, 90.0]).samples.shape
        (2, 1, 32, 32)
        """
        return {
            "experiment": self.experiment,
            "shape": self.shape,
            "sample": self.sample,
            "diffuser": self.diffuser,
            "diffuser_to_sample": self.diffuser_to_sample,
            "positions": self.positions,
            "detector": self.detector,
            "seed": self.seed,
            "edge_sigma": self.edge_sigma,
            "illumination": self.illumination,
        }


def currant_recipe(shape: tuple[int, int], positions: int, seed: int, *, photons: float = BRIGHT) -> Recipe:
    """Return the currant: flesh of water with weakly scattering cell walls, a skin, and seeds."""
    check_arguments(shape, positions, seed)
    pixel = _SYNCHROTRON.pixel_size
    radius = 0.4 * min(shape) * pixel
    structure = 0.5 * pixel
    sample = berry(
        radius=radius,
        skin=0.05 * radius,
        seeds=5,
        seed_size=0.5 * radius,
        flesh_material=FLESH,
        skin_material=SKIN,
        seed_material=SEED,
        flesh_scatter=_scatter(_SYNCHROTRON, blur=0.25, thickness=2.0 * radius, length=structure),
        seed_scatter=_scatter(_SYNCHROTRON, blur=0.5, thickness=0.25 * radius, length=structure),
        seed=seed,
    )
    return _at_synchrotron(
        sample, shape, positions, seed, photons=photons, edge=_edge(_SYNCHROTRON, radius, SKIN)
    )


def fibres_recipe(shape: tuple[int, int], positions: int, seed: int) -> Recipe:
    """Return six fibres in resin at 0, 30, … 150 degrees, of fibrils that scatter across them."""
    check_arguments(shape, positions, seed)
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
    return _at_synchrotron(
        sample, shape, positions, seed, photons=BRIGHT, edge=_edge(_SYNCHROTRON, radius, cellulose)
    )


def spheres_recipe(shape: tuple[int, int], positions: int, seed: int) -> Recipe:
    """Return six balls of known materials without structure."""
    check_arguments(shape, positions, seed)
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
    return _at_synchrotron(
        sample, shape, positions, seed, photons=BRIGHT, edge=_edge(_SYNCHROTRON, radius, materials[-1])
    )


def tubes_recipe(shape: tuple[int, int], positions: int, seed: int) -> Recipe:
    """Return five tubes of glass fibres at a laboratory source."""
    check_arguments(shape, positions, seed)
    experiment = _LABORATORY
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
            blur=0.35,
            thickness=2.0 * body.wall,
            length=0.5 * pixel,
            direction=angle % 180.0,
            anisotropy=0.8,
        )
        sample.append(Part(body=body, material=glass, scatter=scatter))
    y, x = (np.linspace(-1.0, 1.0, n) for n in shape)
    upstream = 0.15
    return Recipe(
        experiment=experiment,
        shape=shape,
        seed=seed,
        sample=tuple(sample),
        diffuser=speckle_diffuser(experiment, upstream, speckle=5.0 * pixel, visibility=0.3, seed=seed),
        diffuser_to_sample=upstream,
        positions=raster_positions(positions, step=40.0 * pixel),
        detector=Detector(
            pixel_size=experiment.pixel_size,
            oversampling=_OVERSAMPLING,
            psf_sigma=0.8 * experiment.pixel_size,
            photons=4e4,
            gain=1.0,
            read_noise=5.0,
            offset=100.0,
            whole_counts=True,
        ),
        edge_sigma=_edge(experiment, radius, glass),
        source_sigma=2e-6,
        illumination=1.0 - 0.15 * y[:, None] ** 2 - 0.2 * x[None, :] ** 2,
    )


def ct_recipe(shape: tuple[int, int], positions: int, seed: int) -> Recipe:
    """Return a ball of wax with five grains in it, three of which scatter."""
    check_arguments(shape, positions, seed)
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
    return _at_synchrotron(
        sample, shape, positions, seed, photons=BRIGHT, edge=_edge(_SYNCHROTRON, radius, wax)
    )


def check_arguments(shape: tuple[int, int], positions: int, seed: int) -> None:
    """Check the arguments of a preset."""
    check = Checks()
    check.shape(shape, low=32)
    check.count("positions", positions)
    check.count("seed", seed, low=0)
    check.done()


def _at_synchrotron(
    sample: Sequence[Part],
    shape: tuple[int, int],
    positions: int,
    seed: int,
    *,
    photons: float,
    edge: float,
) -> Recipe:
    pixel, upstream = _SYNCHROTRON.pixel_size, 0.5
    y, x = (np.linspace(-1.0, 1.0, n) for n in shape)
    return Recipe(
        experiment=_SYNCHROTRON,
        shape=shape,
        seed=seed,
        sample=tuple(sample),
        diffuser=speckle_diffuser(_SYNCHROTRON, upstream, speckle=5.0 * pixel, visibility=0.35, seed=seed),
        diffuser_to_sample=upstream,
        positions=raster_positions(positions, step=40.0 * pixel),
        detector=Detector(
            pixel_size=pixel,
            oversampling=_OVERSAMPLING,
            psf_sigma=pixel,
            photons=photons,
            gain=min(1.0, 3e4 / photons),  # so that counts stay below 65 535
            read_noise=2.0,
            offset=100.0,
            saturation=65535.0,
            whole_counts=True,
        ),
        edge_sigma=edge,
        illumination=1.0 - 0.1 * y[:, None] ** 2 - 0.05 * (x[None, :] - 0.3) ** 2,
    )


def _scatter(
    experiment: Experiment, *, blur: float, thickness: float, length: float, **options: Any
) -> Scatter:
    """Return structure that blurs by `blur` pixels (σ) where a body has a thickness."""
    angle = blur * experiment.effective_pixel / experiment.effective_distance
    return Scatter(power=angle**2 / thickness, correlation_length=length, **options)


def _edge(experiment: Experiment, radius: float, material: Material) -> float:
    """Smoothing at which a round edge's phase steps by `_STEEP` between samples, one pixel at least.

    Smoothed by σ, the edge 2√(2 R x) of a ball or a cylinder is about √(2R/σ) steep.
    """
    delta, _ = material.index(experiment.energy_kev)
    sample = experiment.effective_pixel / _OVERSAMPLING
    steep = experiment.wavenumber * delta * sample / _STEEP
    return max(experiment.effective_pixel, 2.0 * radius * steep**2)


def _half_absorbing_wall(material: Material, experiment: Experiment, *, transmission: float) -> float:
    """Thickness of a wall, two of which transmit this part of the light."""
    _, beta = material.index(experiment.energy_kev)
    return -0.5 * math.log(transmission) / (2.0 * experiment.wavenumber * beta)
