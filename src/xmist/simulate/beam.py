"""Beams that are not ideal: a source of some size, and a spectrum."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from xmist.core.checks import Checks

Real = NDArray[Any]


def source_blur(*, source_sigma: float, source_to_plane: float, plane_to_detector: float) -> float:
    """Blur in the detector's plane by a source of Gaussian profile.

    Through a point of a plane, a source point at height s is seen at −s · plane_to_detector/source_to_plane
    (a pinhole camera), so that the image of the plane is blurred by the source scaled so; measured in the
    sample's plane it is smaller by the magnification. With the sample as the plane this is the blur of the
    sample's features; the diffuser stands further upstream, and its own distances give the blur of its
    speckles.
    `source_sigma` in metres, `source_to_plane`, `plane_to_detector` in metres; returns in metres.
    """
    check = Checks()
    check.number("source_sigma", source_sigma, unit="m", low=0.0)
    check.number("source_to_plane", source_to_plane, unit="m", low=0.0, strict=True)
    check.number("plane_to_detector", plane_to_detector, unit="m", low=0.0)
    check.done()
    return source_sigma * plane_to_detector / source_to_plane


@dataclass(frozen=True, kw_only=True)
class Spectrum:
    """Photon energies and their weights; iterate for (energy_kev, weight) pairs, weights of sum 1.

    Parameters
    ----------
    energies_kev : sequence of float
        Photon energies in keV.
    weights : sequence of float
        Part of the detected intensity of the bare beam that each has, up to a common factor.

    Raises
    ------
    InputError
        Lists all errors.

    Examples
    --------
    >>> list(Spectrum(energies_kev=[16.0, 18.0], weights=[1, 3]))
    [(16.0, 0.25), (18.0, 0.75)]
    """

    energies_kev: Sequence[float]
    weights: Sequence[float]

    def __post_init__(self) -> None:
        check = Checks()
        energies, weights = tuple(self.energies_kev), tuple(self.weights)
        if len(energies) != len(weights) or not energies:
            check.add(
                f"a spectrum of {len(energies)} energies has {len(weights)} weights; expected one for each"
            )
        for energy in energies:
            check.number("energies_kev", energy, unit="keV", low=0.1, high=1000.0)
        for weight in weights:
            check.number("weights", weight, low=0.0)
        if not check.errors and sum(weights) == 0.0:
            check.add("all weights of the spectrum are 0; expected one above 0 at least")
        check.done()
        total = math.fsum(weights)
        object.__setattr__(self, "energies_kev", tuple(float(energy) for energy in energies))
        object.__setattr__(self, "weights", tuple(weight / total for weight in weights))

    def __iter__(self) -> Iterator[tuple[float, float]]:
        """Return (energy_kev, weight) pairs."""
        return iter(zip(self.energies_kev, self.weights, strict=True))
