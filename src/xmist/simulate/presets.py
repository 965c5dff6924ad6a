"""Ready-made experiments.

Every preset takes `shape`, `positions` and `seed` and fills the field with its sample, whatever the shape.
Its diffuser is a random screen, which stands for sandpaper: only the speckles matter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from xmist.core.checks import Checks
from xmist.core.errors import InputError, suggest
from xmist.core.progress import Progress
from xmist.simulate.acquisition import acquire
from xmist.simulate.recipes import (
    BRIGHT,
    DIM,
    Recipe,
    ct_recipe,
    currant_recipe,
    fibres_recipe,
    spheres_recipe,
    tubes_recipe,
)
from xmist.simulate.series import ProjectionSeries, acquire_series
from xmist.simulate.truth import Simulation

RECIPES: Final[Mapping[str, Callable[[tuple[int, int], int, int], Recipe]]] = MappingProxyType(
    {
        "currant": currant_recipe,
        "low-dose": lambda shape, positions, seed: currant_recipe(shape, positions, seed, photons=DIM),
        "fibres": fibres_recipe,
        "spheres": spheres_recipe,
        "tubes": tubes_recipe,
        "ct": ct_recipe,
    }
)


def find_recipe(name: str) -> Callable[[tuple[int, int], int, int], Recipe]:
    """Return what a preset consists of.

    Parameters
    ----------
    name : str
        Name of the preset.

    Returns
    -------
    callable
        Takes shape, positions and seed, and gives the `Recipe`.

    Raises
    ------
    InputError
        For an unknown name; suggests the nearest.

    Examples
    --------
    >>> find_recipe("fibres")((48, 48), 2, 0).experiment.energy_kev
    17.0
    """
    if name not in RECIPES:
        raise InputError(f"there is no preset '{name}'; {suggest(str(name), RECIPES)}", code="preset-unknown")
    return RECIPES[name]


def currant(
    *,
    shape: tuple[int, int] = (256, 256),
    positions: int = 10,
    seed: int = 0,
    photons: float = BRIGHT,
    physics: str = "wave",
    workers: int | None = None,
    progress: Progress | None = None,
) -> Simulation:
    """Simulate a currant as in Pavlov et al. 2020: 17 keV, 5.8 µm, ∆ = 1 m, the diffuser 0.5 m upstream.

    Flesh of water with cell walls that scatter weakly, a skin, and seeds that scatter more.

    Parameters
    ----------
    shape : tuple of int
        Pixels (y, x); the berry fills four fifths of the shorter side.
    positions : int
        Number N of positions of the diffuser, on a raster.
    seed : int
        Seed of diffuser, seeds, structure and noise.
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
        If an argument is out of range.

    Examples
    --------
    >>> stack, experiment, truth = currant(shape=(48, 48), positions=2)
    >>> experiment.effective_distance, bool(truth.phase.min() < -10)
    (1.0, True)
    """
    check = Checks()
    check.number("photons", photons, unit="photons", low=0.0, strict=True)
    check.done()
    recipe = currant_recipe(shape, positions, seed, photons=photons)
    return _run(recipe, physics=physics, workers=workers, progress=progress)


def low_dose(
    *,
    shape: tuple[int, int] = (256, 256),
    positions: int = 10,
    seed: int = 0,
    physics: str = "wave",
    workers: int | None = None,
    progress: Progress | None = None,
) -> Simulation:
    """Simulate the currant with 2000 photons per pixel.

    Parameters
    ----------
    shape : tuple of int
        Pixels (y, x).
    positions : int
        Number N of positions of the diffuser, on a raster.
    seed : int
        Seed of diffuser, seeds, structure and noise.
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
    return _run(
        currant_recipe(shape, positions, seed, photons=DIM),
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

    The anisotropy of D is 0.8; the resin reduces most of the refraction.

    Parameters
    ----------
    shape : tuple of int
        Pixels (y, x); the fibres lie on a raster of two rows and three columns.
    positions : int
        Number N of positions of the diffuser, on a raster.
    seed : int
        Seed of diffuser, structure and noise.
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
    return _run(fibres_recipe(shape, positions, seed), physics=physics, workers=workers, progress=progress)


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
        Number N of positions of the diffuser, on a raster.
    seed : int
        Seed of diffuser and noise.
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
    return _run(spheres_recipe(shape, positions, seed), physics=physics, workers=workers, progress=progress)


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
        Number N of positions of the diffuser, on a raster.
    seed : int
        Seed of diffuser, structure and noise.
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
    >>> round(experiment.magnification, 4), truth.dark_field_tensor.shape
    (2.4545, (3, 48, 48))
    """
    return _run(tubes_recipe(shape, positions, seed), physics=physics, workers=workers, progress=progress)


def ct(
    *,
    shape: tuple[int, int] = (96, 96),
    positions: int = 4,
    seed: int = 0,
    angles: int = 60,
    workers: int | None = None,
    progress: Progress | None = None,
) -> ProjectionSeries:
    """Simulate the projections over 180 degrees of a ball of wax with grains in it, some of which scatter.

    Parameters
    ----------
    shape : tuple of int
        Pixels (y, x).
    positions : int
        Number N of positions of the diffuser, on a raster.
    seed : int
        Seed of grains, diffuser, structure and noise.
    angles : int
        Number of projections.
    workers : int, optional
        Threads; the result does not depend on it.
    progress : callable, optional
        Called as progress("simulating", done, total).

    Returns
    -------
    ProjectionSeries
        Frames, and the truth of every projection and of the volume.

    Examples
    --------
    >>> series = ct(shape=(32, 32), positions=2, angles=2)
    >>> series.volume.delta.shape
    (32, 32, 32)
    """
    check = Checks()
    check.count("angles", angles)
    check.done()
    recipe = ct_recipe(shape, positions, seed)
    return acquire_series(
        **recipe.arguments(),
        angles=[180.0 * number / angles for number in range(angles)],
        workers=workers,
        progress=progress,
    )


def _run(recipe: Recipe, *, physics: str, workers: int | None, progress: Progress | None) -> Simulation:
    return acquire(
        **recipe.arguments(),
        physics=physics,
        source_sigma=recipe.source_sigma,
        workers=workers,
        progress=progress,
    )
