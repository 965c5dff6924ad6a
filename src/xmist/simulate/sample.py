"""A sample: bodies of materials, with or without structure below the pixel, and its projection."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.ndimage as ndi
from numpy.typing import NDArray

from xmist.core.checks import Checks
from xmist.core.errors import ErrorRecord, collect_errors
from xmist.core.materials import Material
from xmist.simulate.grid import Grid
from xmist.simulate.microstructure import Screen
from xmist.simulate.objects import Body, check_bodies

Real = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Scatter:
    """Structure below the pixel that fills a body.

    Parameters
    ----------
    power : float
        Mean square of the refraction angle per metre of path, in rad²/m: per axis if isotropic, else across
        the fibres. A body of thickness t then makes D = ∆ power t/2.
    correlation_length : float
        Correlation length of the structure's phase across the fibres in metres.
    direction : float, optional
        Direction of the fibres in degrees from +x towards +y.
    anisotropy : float
        (λ₁ − λ₂)/(λ₁ + λ₂) of the tensor D of fibres across the beam; needs a direction.
    inclination : float
        Angle of the fibres against the plane of x and y in degrees, towards +z.

    Raises
    ------
    InputError
        Lists every value that is out of range.

    Notes
    -----
    Fibres f have the tensor power (1 − a f fᵀ) in three dimensions, of which a beam sees the part across it.

    Examples
    --------
    >>> Scatter(power=1e-8, correlation_length=3e-6).power
    1e-08
    """

    power: float
    correlation_length: float
    direction: float | None = None
    anisotropy: float = 0.0
    inclination: float = 0.0

    def __post_init__(self) -> None:
        check = Checks()
        check.number("power", self.power, unit="rad²/m", low=0.0, strict=True)
        check.number("inclination", self.inclination, unit="degrees", low=-90.0, high=90.0)
        check.done()
        self.screen(0.0)

    def screen(self, angle: Any) -> Screen:
        """Return the thin layer that represents the structure.

        Parameters
        ----------
        angle : float or (y, x) array
            Rms refraction angle in rad.

        Returns
        -------
        Screen
            The layer.
        """
        return Screen(
            angle=angle,
            correlation_length=self.correlation_length,
            direction=self.direction,
            anisotropy=self.seen_anisotropy,
        )

    @property
    def seen_anisotropy(self) -> float:
        """Anisotropy of the tensor D for a beam along z."""
        # Along inclined fibres the tensor is 1 − a cos², a = 1 − (1 − A)/(1 + A).
        if not self.inclination:
            return self.anisotropy
        share = 2.0 * self.anisotropy / (1.0 + self.anisotropy)
        share *= math.cos(math.radians(self.inclination)) ** 2
        return share / (2.0 - share)

    def turned(self, matrix: Real) -> Scatter:
        """Return the structure after a rotation matrix in (x, y, z) turned the sample."""
        if self.direction is None:
            return self
        along, up = math.radians(self.direction), math.radians(self.inclination)
        x, y, z = matrix @ [math.cos(up) * math.cos(along), math.cos(up) * math.sin(along), math.sin(up)]
        direction = math.degrees(math.atan2(y, x))
        return replace(self, direction=direction, inclination=math.degrees(math.atan2(z, math.hypot(x, y))))


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """A body of one material.

    Parameters
    ----------
    body : Body
        Its shape.
    material : Material, optional
        What it is made of; None is vacuum, a hole when it stands in place of something.
    within : Material, optional
        The material that it stands in place of, of a body around it.
    scatter : Scatter, optional
        Structure below the pixel.

    Examples
    --------
    >>> from xmist.simulate.objects import sphere
    >>> water = Material(delta=8e-7, beta=5e-10, energy_kev=17.0)
    >>> bubble = Part(body=sphere(radius=2e-5), material=None, within=water)
    """

    body: Body
    material: Material | None = None
    within: Material | None = None
    scatter: Scatter | None = None

    def index(self, energy_kev: float) -> tuple[float, float]:
        """Return δ and β relative to the material that the body replaces.

        Parameters
        ----------
        energy_kev : float
            Photon energy in keV.

        Returns
        -------
        tuple of float
            δ and β.
        """
        delta, beta = (0.0, 0.0) if self.material is None else self.material.index(energy_kev)
        if self.within is not None:
            around = self.within.index(energy_kev)
            delta, beta = delta - around[0], beta - around[1]
        return delta, beta


@dataclass(frozen=True, kw_only=True, eq=False)
class Projection:
    """A sample seen along the beam."""

    phase: Real  # (y, x), phase φ = −k ∫δ dz in rad
    absorbance: Real  # (y, x), 2k ∫β dz, so that T = exp(−absorbance)
    screens: tuple[Screen, ...]  # its structure below the pixel


def project(
    parts: Sequence[Part],
    grid: Grid,
    *,
    energy_kev: float,
    wavenumber: float,
    screens: Sequence[Screen] = (),
    edge_sigma: float = 0.0,
) -> Projection:
    """Project a sample along the beam.

    `energy_kev` in keV, `wavenumber` in rad, `edge_sigma` in metres.
    """
    phase, absorbance = np.zeros(grid.shape), np.zeros(grid.shape)
    squared: dict[tuple[float, float | None, float], Real] = {}
    for part in parts:
        thickness = part.body.thickness(grid)
        if edge_sigma > 0.0:
            ndi.gaussian_filter(thickness, edge_sigma / grid.pixel, mode="nearest", output=thickness)
        delta, beta = part.index(energy_kev)
        phase -= (wavenumber * delta) * thickness
        absorbance += (2.0 * wavenumber * beta) * thickness
        if part.scatter is not None:
            layer = part.scatter
            kind = (layer.correlation_length, layer.direction, layer.seen_anisotropy)
            if kind not in squared:
                squared[kind] = np.zeros(grid.shape)
            squared[kind] += layer.power * thickness
    joined = [
        Screen(angle=np.sqrt(total), correlation_length=length, direction=direction, anisotropy=anisotropy)
        for (length, direction, anisotropy), total in squared.items()
    ]
    return Projection(phase=phase, absorbance=absorbance, screens=(*joined, *screens))


def check_sample(parts: Sequence[Part], field: Grid, *, energy_kev: float) -> list[ErrorRecord]:
    """Return which parts lie outside the field, and which materials are not known at an energy.

    `energy_kev` in keV.
    """
    check = Checks()
    check.errors += check_bodies([part.body for part in parts], field)
    for number, part in enumerate(parts):
        for material in (part.material, part.within):
            if material is not None:
                with collect_errors(check.errors, f"part {number} of the sample: "):
                    material.index(energy_kev)
    return check.errors
