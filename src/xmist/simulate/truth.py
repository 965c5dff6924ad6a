"""Simulated frames with their geometry and the true images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmist.core.arrays import Image
from xmist.core.data import Retrieval, SpeckleStack
from xmist.core.experiment import Experiment
from xmist.core.findings import Finding
from xmist.core.version import __version__
from xmist.simulate.detector import Detector


@dataclass(frozen=True, kw_only=True, eq=False)
class Truth:
    """True images: means over the detector's pixels; names and units are those of a `Retrieval`.

    Parameters
    ----------
    phase : (y, x) float32 array
        Phase φ = −k ∫δ dz of the bodies in rad, 0 where there is nothing.
    transmission : (y, x) float32 array
        Transmission T.
    dark_field : (y, x) float32 array
        D in m; trace/2 of the tensor where structure is oriented.
    dark_field_tensor : (3, y, x) float32 array, optional
        D_xx, D_xy and D_yy in m; None if all structure is isotropic.
    phase_total : (y, x) float32 array
        `phase` and the pixels' means of the phase of the structure that was drawn.
    refraction_angle : (2, y, x) float32 array
        ∇φ/k along x and y in rad, by central differences of `phase`.
    """

    phase: Image
    transmission: Image
    dark_field: Image
    dark_field_tensor: Image | None
    phase_total: Image
    refraction_angle: Image

    def __post_init__(self) -> None:
        for name in (
            "phase",
            "transmission",
            "dark_field",
            "dark_field_tensor",
            "phase_total",
            "refraction_angle",
        ):
            given = getattr(self, name)
            if given is not None:
                array = np.ascontiguousarray(given, np.float32).view()
                array.flags.writeable = False
                object.__setattr__(self, name, array)


@dataclass(frozen=True, kw_only=True, eq=False)
class Simulation:
    """Frames with a known truth; unpacks as `stack, experiment, truth`.

    Parameters
    ----------
    stack : SpeckleStack
        Reference and sample frames, dark and flat corrected: 1 in the bare beam.
    experiment : Experiment
        Geometry.
    truth : Truth
        True images.
    detector : Detector
        The detector, by which the counts follow from the frames.
    illumination : (y, x) float32 array, optional
        Intensity of the bare beam that the frames were divided by; None means 1.
    settings : mapping
        How it was made, as plain data.
    findings : tuple of Finding
        Where the truth is not what a method can see.

    Examples
    --------
    >>> simulation = xmist.simulate.phantom("fine", shape=(32, 32), positions=2, seed=1)
    >>> stack, experiment, truth = simulation
    >>> stack.reference.shape, truth.phase.shape
    ((2, 32, 32), (32, 32))
    """

    stack: SpeckleStack
    experiment: Experiment
    truth: Truth
    detector: Detector
    illumination: Image | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "settings", MappingProxyType(dict(self.settings)))

    def __iter__(self) -> Iterator[Any]:
        """Return stack, experiment and truth."""
        return iter((self.stack, self.experiment, self.truth))

    def counts(self, frames: NDArray[Any]) -> Image:
        """Return frames as the detector counted them.

        Parameters
        ----------
        frames : (..., y, x) array
            Corrected frames, such as `stack.reference`.

        Returns
        -------
        (..., y, x) float32 array
            Counts.
        """
        scale = self.detector.gain * self.detector.photons
        light = frames if self.illumination is None else frames * self.illumination
        counts = np.asarray(light, np.float64) * scale + self.detector.offset
        return np.asarray(np.rint(counts) if self.detector.whole_counts else counts, np.float32)

    def truth_as_result(self) -> Retrieval:
        """Return the truth as a `Retrieval` of the method "truth", which can be saved and compared.

        Returns
        -------
        Retrieval
            Phase, transmission, dark-field (and tensor) and refraction angle.
        """
        return Retrieval(
            method="truth",
            experiment=self.experiment,
            flags=np.zeros(self.truth.phase.shape, np.uint16),
            options={},
            findings=self.findings,
            provenance={"xmist_version": __version__, "simulation": dict(self.settings)},
            phase=self.truth.phase,
            transmission=self.truth.transmission,
            dark_field=self.truth.dark_field,
            dark_field_tensor=self.truth.dark_field_tensor,
            refraction_angle=self.truth.refraction_angle,
        )
