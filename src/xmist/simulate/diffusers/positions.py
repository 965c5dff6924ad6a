"""Positions of a diffuser."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from xmist.core.checks import Checks
from xmist.core.errors import InputError
from xmist.simulate.diffusers.base import Diffuser
from xmist.simulate.diffusers.random import RandomScreen, Sandpaper


def raster_positions(number: int, *, step: float) -> NDArray[np.float64]:
    """Return positions on a square raster, row by row.

    Parameters
    ----------
    number : int
        Positions.
    step : float
        Step in metres, longer than a grain so that each position shows new speckles.

    Returns
    -------
    (position, 2) float64 array
        Displacements (y, x) in metres.

    Examples
    --------
    >>> raster_positions(3, step=1e-5).tolist()
    [[0.0, 0.0], [0.0, 1e-05], [1e-05, 0.0]]
    """
    check = Checks()
    number = check.count("number", number)
    step = check.number("step", step, unit="m", low=0.0, strict=True)
    check.done()
    side = math.ceil(math.sqrt(number))
    return step * np.array([divmod(n, side) for n in range(number)], np.float64)


def random_positions(number: int, *, span: float, seed: int) -> NDArray[np.float64]:
    """Return random positions inside a square.

    Parameters
    ----------
    number : int
        Positions.
    span : float
        Positions are uniform between 0 and this in metres, along y and x.
    seed : int
        Seed.

    Returns
    -------
    (position, 2) float64 array
        Displacements (y, x) in metres.

    Examples
    --------
    >>> random_positions(5, span=1e-3, seed=1).shape
    (5, 2)
    """
    check = Checks()
    number = check.count("number", number)
    span = check.number("span", span, unit="m", low=0.0, strict=True)
    check.count("seed", seed, low=0)
    check.done()
    return np.random.default_rng(seed).uniform(0.0, span, (number, 2))


def independent_positions(number: int, *, extent: float, diffuser: Diffuser) -> NDArray[np.float64]:
    """Return positions so far apart that no grain is seen twice, which gives independent speckles.

    Parameters
    ----------
    number : int
        Positions.
    extent : float
        Width of the field along x in metres, margin included.
    diffuser : Diffuser
        A random diffuser.

    Returns
    -------
    (position, 2) float64 array
        Displacements (y, x) in metres.

    Raises
    ------
    InputError
        If the diffuser is periodic, or a number is out of range.

    Examples
    --------
    >>> screen = RandomScreen(wavelength=7.3e-11, grain_size=8e-6, rms_phase=1.0, seed=1)
    >>> independent_positions(2, extent=1e-3, diffuser=screen).round(6).tolist()
    [[0.0, 0.0], [0.0, 0.001032]]
    """
    check = Checks()
    number = check.count("number", number)
    extent = check.number("extent", extent, unit="m", low=0.0, strict=True)
    check.done()
    if not isinstance(diffuser, RandomScreen | Sandpaper):
        raise InputError(
            f"diffuser is a {type(diffuser).__name__}, which repeats itself; expected a RandomScreen or a "
            "Sandpaper (or use raster_positions)",
            code="value-invalid",
        )
    # Gaussians are cut at 5.5 σ = 1.65 grains on either side; spheres reach one grain at most.
    pitch = extent + 4.0 * diffuser.grain_size
    return np.stack([np.zeros(number), pitch * np.arange(number)], axis=1)
