"""Energy and geometry of an experiment."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from xmist.core.errors import ErrorRecord, as_number, raise_errors, wrong_value
from xmist.core.hooks import hook

# Values of X-ray speckle experiments; outside, the unit is wrong.
_PLAUSIBLE: dict[str, tuple[float, float, str, str]] = {
    "energy_kev": (0.1, 1000.0, "keV", "give the photon energy in keV (17 keV is 17.0, not 17000)"),
    "pixel_size": (1e-9, 1e-3, "m", "give the detector's pixel in metres (5.8 µm is 5.8e-6)"),
    "sample_to_detector": (1e-6, 1e3, "m", "give the distance in metres"),
    "source_to_sample": (
        1e-6,
        1e6,
        "m",
        "give the distance in metres, or leave it out (None) for a parallel beam",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Energy and geometry of a speckle experiment.

    Parameters
    ----------
    energy_kev : float
        Photon energy in keV.
    pixel_size : float
        Pixel of the detector in metres (not divided by the magnification).
    sample_to_detector : float
        Distance from the sample to the detector in metres.
    source_to_sample : float, optional
        Distance from the source to the sample in metres; None means a parallel beam.

    Raises
    ------
    InputError
        Lists every value that is not a positive finite number or whose unit is evidently wrong.

    Notes
    -----
    By the Fresnel scaling theorem a cone beam gives the same image as a parallel beam with pixel and distance
    divided by the magnification. Every equation of xmist uses `effective_pixel` and `effective_distance`.

    Examples
    --------
    >>> experiment = Experiment(energy_kev=17.0, pixel_size=5.8e-6, sample_to_detector=1.0)
    >>> f"{experiment.wavenumber:.3e}"
    '8.615e+10'
    >>> cone = Experiment(
    ...     energy_kev=8.04, pixel_size=75e-6, sample_to_detector=0.8, source_to_sample=0.55
    ... )
    >>> round(cone.magnification, 4), round(cone.effective_distance, 4)
    (2.4545, 0.3259)
    """

    energy_kev: float
    pixel_size: float
    sample_to_detector: float
    source_to_sample: float | None = None

    def __post_init__(self) -> None:
        errors = []

        def invalid(text: str) -> None:
            errors.append(ErrorRecord("experiment-invalid", text))

        for name, (low, high, unit, advice) in _PLAUSIBLE.items():
            value = getattr(self, name)
            if value is None and name == "source_to_sample":
                continue
            number = as_number(value)
            if number is None:
                invalid(f"{name} {wrong_value(value, f'a number in {unit}: {advice}')}")
            elif not low <= number <= high:  # nor is NaN
                invalid(f"{name} is {number:g} {unit}; expected {low:g} to {high:g} {unit}: {advice}")
            else:
                object.__setattr__(self, name, number)
        raise_errors(errors)

    @property
    def wavelength(self) -> float:
        """Wavelength λ = hc/E in metres."""
        from scipy import constants

        return float(constants.h * constants.c / (self.energy_kev * 1e3 * constants.e))

    @property
    def wavenumber(self) -> float:
        """Wavenumber k = 2π/λ in rad/m."""
        return 2.0 * math.pi / self.wavelength

    @property
    def magnification(self) -> float:
        """Magnification M = (source_to_sample + sample_to_detector)/source_to_sample; 1 if parallel."""
        if self.source_to_sample is None:
            return 1.0
        return (self.source_to_sample + self.sample_to_detector) / self.source_to_sample

    @property
    def effective_pixel(self) -> float:
        """Pixel in the sample's plane, pixel_size/M, in metres."""
        return self.pixel_size / self.magnification

    @property
    def effective_distance(self) -> float:
        """Effective propagation distance ∆ = sample_to_detector/M in metres."""
        return self.sample_to_detector / self.magnification

    def _repr_html_(self) -> str:
        return str(hook("experiment html")(self))

    def to_dict(self) -> dict[str, Any]:
        """Return the four parameters by name, as plain data."""
        return asdict(self)
