"""Samples of several parts: a berry, and a stack of tubes as in wood."""

from __future__ import annotations

import math

import numpy as np

from xmist.core.checks import Checks
from xmist.core.errors import InputError
from xmist.core.materials import Material
from xmist.simulate.objects import Ellipsoid, Tube, sphere
from xmist.simulate.sample import Part, Scatter

_TRIES = 2000  # to place a seed


def berry(
    *,
    radius: float,
    skin: float,
    seeds: int,
    seed_size: float,
    flesh_material: Material,
    skin_material: Material,
    seed_material: Material,
    flesh_scatter: Scatter | None = None,
    seed_scatter: Scatter | None = None,
    x: float = 0.0,
    y: float = 0.0,
    seed: int,
) -> list[Part]:
    """Return a berry: a ball of flesh with a skin around it and seeds inside.

    Parameters
    ----------
    radius : float
        Radius in metres, the skin included.
    skin : float
        Thickness of the skin in metres.
    seeds : int
        Number of seeds, which do not meet.
    seed_size : float
        Length of a seed in metres; it is 0.6 as wide and 0.5 as thick.
    flesh_material, skin_material, seed_material : Material
        What they are made of.
    flesh_scatter, seed_scatter : Scatter, optional
        Structure below the pixel; that of the flesh continues inside the seeds.
    x, y : float
        Centre in metres.
    seed : int
        Chooses where the seeds lie.

    Returns
    -------
    list of Part
        Skin, flesh, and the seeds.

    Raises
    ------
    InputError
        Lists every number that is out of range, or says that the seeds do not fit.

    Examples
    --------
    >>> water = Material(delta=8e-7, beta=5e-10, energy_kev=17.0)
    >>> wood = Material(delta=1.1e-6, beta=6e-10, energy_kev=17.0)
    >>> parts = berry(
    ...     radius=5e-4,
    ...     skin=1e-5,
    ...     seeds=3,
    ...     seed_size=2e-4,
    ...     flesh_material=water,
    ...     skin_material=wood,
    ...     seed_material=wood,
    ...     seed=1,
    ... )
    >>> len(parts)
    5
    """
    check = Checks()
    check.number("radius", radius, unit="m", low=0.0, strict=True)
    check.number("skin", skin, unit="m", low=0.0, high=0.5 * abs(radius), strict=True)
    check.number("seed_size", seed_size, unit="m", low=0.0, high=abs(radius), strict=True)
    check.count("seeds", seeds, low=0)
    check.count("seed", seed, low=0)
    check.done()
    inner = radius - skin
    parts = [
        Part(body=sphere(radius=radius, x=x, y=y), material=skin_material),
        Part(
            body=sphere(radius=inner, x=x, y=y),
            material=flesh_material,
            within=skin_material,
            scatter=flesh_scatter,
        ),
    ]
    rng = np.random.default_rng(seed)
    centres: list[np.ndarray] = []
    for _ in range(_TRIES):
        if len(centres) == seeds:
            break
        centre = rng.uniform(-1.0, 1.0, 3) * (inner - 0.5 * seed_size)
        if np.linalg.norm(centre) < inner - 0.55 * seed_size and all(
            np.linalg.norm(centre - other) > seed_size for other in centres
        ):
            centres.append(centre)
    if len(centres) < seeds:
        text = f"{seeds} seeds of {seed_size:g} m do not fit into a berry of radius {radius:g} m"
        raise InputError(text, "value-invalid")
    for centre in centres:
        body = Ellipsoid(
            semi_axes=(0.5 * seed_size, 0.3 * seed_size, 0.25 * seed_size),
            x=x + float(centre[0]),
            y=y + float(centre[1]),
            z=float(centre[2]),
            orientation=random_orientation(rng),
        )
        parts.append(Part(body=body, material=seed_material, within=flesh_material, scatter=seed_scatter))
    return parts


def random_orientation(rng: np.random.Generator) -> tuple[tuple[float, float, float], ...]:
    """Draw a rotation matrix, every orientation equally likely."""
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return tuple((float(row[0]), float(row[1]), float(row[2])) for row in q)


def tube_stack(
    *,
    radius: float,
    wall: float,
    pitch: float,
    rows: int,
    layers: int,
    angle: float,
    material: Material,
    scatter: Scatter | None = None,
    spread: float = 0.0,
    seed: int,
) -> list[Part]:
    """Return parallel tubes like the cells of wood: rows side by side, layers behind each other.

    Parameters
    ----------
    radius : float
        Outer radius of a tube in metres.
    wall : float
        Thickness of its wall in metres.
    pitch : float
        Distance of neighbouring tubes in metres; every other layer is shifted by half of it.
    rows, layers : int
        Number of tubes side by side, and of layers behind each other.
    angle : float
        Direction of the tubes in degrees from +x towards +y.
    material : Material
        Material of the walls.
    scatter : Scatter, optional
        Structure below the pixel in the walls.
    spread : float
        Standard deviation in degrees of the directions.
    seed : int
        Chooses the directions.

    Returns
    -------
    list of Part
        The tubes.

    Raises
    ------
    InputError
        Lists every number that is out of range.

    Examples
    --------
    >>> cellulose = Material(delta=1e-6, beta=5e-10, energy_kev=17.0)
    >>> wood = tube_stack(
    ...     radius=1e-5, wall=2e-6, pitch=2e-5, rows=4, layers=2, angle=90.0, material=cellulose, seed=1
    ... )
    >>> len(wood)
    8
    """
    check = Checks()
    check.number("pitch", pitch, unit="m", low=0.0, strict=True)
    check.number("spread", spread, unit="degrees", low=0.0, high=90.0)
    check.count("rows", rows)
    check.count("layers", layers)
    check.count("seed", seed, low=0)
    check.done()
    rng = np.random.default_rng(seed)
    turn = math.radians(angle)
    parts = []
    for layer in range(layers):
        for row in range(rows):
            across = (row - 0.5 * (rows - 1) + 0.5 * (layer % 2)) * pitch
            body = Tube(
                radius=radius,
                wall=wall,
                angle=angle + float(rng.normal(0.0, spread)),
                x=-across * math.sin(turn),
                y=across * math.cos(turn),
            )
            parts.append(Part(body=body, material=material, scatter=scatter))
    return parts
