"""A simulated experiment without its sample, checked."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xmist.core.arrays import SMALLEST_FRAME
from xmist.core.checks import Checks
from xmist.core.experiment import Experiment
from xmist.simulate.beam import Spectrum
from xmist.simulate.beam import source_blur as blur_by_source
from xmist.simulate.detector import Detector
from xmist.simulate.diffusers import Diffuser
from xmist.simulate.plane import Plane, make_plane
from xmist.simulate.sampling import check_sampling

Real = NDArray[Any]

PHYSICS: Final = ("wave", "model")

# The speckles of a weak screen in the near field are its curvature, whose autocorrelation is 1/1.84 as wide
# as the phase's if that is Gaussian.
_SPECKLE: Final = 1.0 / 1.84


@dataclass(frozen=True, kw_only=True, eq=False)
class Setup:
    """A simulated experiment without its sample."""

    plane: Plane  # grid and distances
    beams: tuple[tuple[Experiment, float], ...]  # energies with their weights, of sum 1
    diffuser: Diffuser
    steps: NDArray[np.float64]  # (position, 2), its displacements (y, x) in metres
    detector: Detector  # detector
    blur: float  # σ of point spread and source in metres, in the detector's plane
    drift: tuple[float, float]  # displacement (y, x) of the sample frames in the sample's plane in metres
    illumination: Real | None  # (y, x), intensity of the bare beam
    physics: str  # "wave" or "model"
    noise_seed: int | None  # seed of the noise; None gives expected values
    workers: int | None  # threads

    @property
    def grain(self) -> float | None:
        """Size of the speckles in the sample's plane in metres; None if the diffuser does not state it."""
        width = getattr(self.diffuser, "correlation_width", None)
        if width is None:
            period = getattr(self.diffuser, "period", None)
            return None if period is None else 0.5 * float(period) / self.plane.diffuser_scale
        return float(width) * _SPECKLE / self.plane.diffuser_scale


def make_setup(
    experiment: Experiment,
    *,
    shape: tuple[int, int],
    diffuser: Diffuser,
    diffuser_to_sample: float,
    positions: ArrayLike,
    detector: Detector,
    seed: int,
    physics: str = "wave",
    spectrum: Spectrum | None = None,
    source_sigma: float = 0.0,
    drift: tuple[float, float] = (0.0, 0.0),
    illumination: ArrayLike | None,
    noise: bool,
    workers: int | None,
) -> Setup:
    """Check everything except the sample, and choose the grid."""
    check = Checks()
    shape = check.shape(shape, low=SMALLEST_FRAME)
    check.count("seed", seed, low=0)
    source = experiment.source_to_sample
    check.number(
        "diffuser_to_sample",
        diffuser_to_sample,
        unit="m",
        low=0.0,
        high=math.inf if source is None else 0.999 * source,
        strict=True,
        advice="the diffuser stands upstream of the sample"
        + ("" if source is None else ", after the source"),
    )
    check.number("source_sigma", source_sigma, unit="m", low=0.0)
    for axis, move in zip("yx", drift, strict=True):
        check.number(f"drift along {axis}", move, unit="m")
    if source_sigma > 0.0 and source is None:
        check.add("source_sigma is given and the beam is parallel; expected a source_to_sample")
    if not math.isclose(detector.pixel_size, experiment.pixel_size, rel_tol=1e-9):
        check.add(
            f"the detector's pixel is {detector.pixel_size:g} m and the experiment's "
            f"{experiment.pixel_size:g} m; expected the same"
        )
    if physics not in PHYSICS:
        check.add(f"physics is {physics!r}; expected 'wave' or 'model'")
    light = None if illumination is None else np.asarray(illumination, np.float64)
    if light is not None and (light.shape != shape or not (np.isfinite(light) & (light > 0)).all()):
        check.add(f"illumination has shape {light.shape}; expected {shape} finite positive numbers (y, x)")
    check.done()
    blur = detector.psf_sigma
    if source_sigma > 0.0 and source is not None:
        by_source = blur_by_source(
            source_sigma=source_sigma,
            source_to_plane=source - diffuser_to_sample,
            plane_to_detector=diffuser_to_sample + experiment.sample_to_detector,
        )
        blur = math.hypot(blur, by_source)
    beams = (
        ((experiment, 1.0),)
        if spectrum is None
        else tuple((replace(experiment, energy_kev=energy), weight) for energy, weight in spectrum)
    )
    plane = make_plane(
        experiment,
        shape,
        oversampling=detector.oversampling,
        diffuser_to_sample=diffuser_to_sample,
        blur=blur / experiment.magnification,
        wavelengths=[beam.wavelength for beam, _ in beams],
    )
    for beam, _ in beams:
        for distance in (plane.upstream, experiment.effective_distance):
            check.errors += check_sampling(
                wavelength=beam.wavelength,
                pixel_size=plane.samples.pixel,
                shape=plane.samples.shape,
                distance=distance,
            )
    check.done()
    return Setup(
        plane=plane,
        beams=beams,
        diffuser=diffuser,
        steps=np.array(positions, np.float64),
        detector=detector,
        blur=blur,
        drift=(drift[0] / experiment.magnification, drift[1] / experiment.magnification),
        illumination=light,
        physics=physics,
        noise_seed=seed if noise else None,
        workers=workers,
    )
