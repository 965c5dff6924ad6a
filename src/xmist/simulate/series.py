"""A series of projections of a sample that turns, with its truth in three dimensions."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xmist.core.arrays import Image
from xmist.core.checks import Checks
from xmist.core.data import SpeckleStack
from xmist.core.errors import prefix_errors
from xmist.core.experiment import Experiment
from xmist.core.findings import Finding
from xmist.core.progress import Progress
from xmist.simulate.detector import Detector
from xmist.simulate.diffusers import Diffuser
from xmist.simulate.grid import Grid
from xmist.simulate.objects.ellipsoid import Ellipsoid, turning
from xmist.simulate.recording import record_frame, rms_turn, upstream_waves
from xmist.simulate.sample import Part
from xmist.simulate.scene import look_through
from xmist.simulate.setup import make_setup
from xmist.simulate.truth import Simulation, Truth

Real = NDArray[Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Volume:
    """A sample in three dimensions, on cubes of the effective pixel; shape (z, y, x).

    The axis of rotation is y, through x = z = 0, the middle of the volume; the beam runs along +z at angle 0.

    Parameters
    ----------
    delta, beta : (z, y, x) float32 array
        Refractive index decrement and absorption index.
    scatter : (z, y, x) float32 array
        Mean square of the refraction angle per metre of path in rad²/m, so that D = ∆/2 ∫ scatter dz; across
        the fibres where there are some.
    pixel : float
        Side of a cube in metres.
    """

    delta: Image
    beta: Image
    scatter: Image
    pixel: float


@dataclass(frozen=True, kw_only=True, eq=False)
class ProjectionSeries:
    """Projections of a turning sample; `projection(i)` is a `Simulation`.

    Parameters
    ----------
    angles : tuple of float
        Angles of the sample in degrees, from +x towards +z.
    reference : (position, y, x) float32 array
        Reference frames, common to all projections.
    samples : (angle, position, y, x) float32 array
        Sample frames.
    experiment : Experiment
        Geometry.
    truths : tuple of Truth
        One an angle.
    volume : Volume
        Truth in three dimensions.
    detector : Detector
        The detector.
    illumination : (y, x) float32 array, optional
        Intensity of the bare beam that the frames were divided by; None means 1.
    tilt : float
        Angle of the axis of rotation in degrees, from +y towards +z.

    Examples
    --------
    >>> series = xmist.simulate.ct(shape=(32, 32), positions=2, angles=3)
    >>> stack, experiment, truth = series.projection(1)
    >>> series.samples.shape, len(series)
    ((3, 2, 32, 32), 3)
    """

    angles: tuple[float, ...]
    reference: Image
    samples: Image
    experiment: Experiment
    truths: tuple[Truth, ...]
    volume: Volume
    detector: Detector
    illumination: Image | None = None
    tilt: float = 0.0

    def __len__(self) -> int:
        """Return the number of projections."""
        return len(self.angles)

    def __iter__(self) -> Iterator[Simulation]:
        """Return the projections in turn."""
        return (self.projection(number) for number in range(len(self)))

    def projection(self, number: int) -> Simulation:
        """Return one projection.

        Parameters
        ----------
        number : int
            Its number from 0.

        Returns
        -------
        Simulation
            Frames, geometry and truth.
        """
        return Simulation(
            stack=SpeckleStack(self.reference, self.samples[number]),
            experiment=self.experiment,
            truth=self.truths[number],
            detector=self.detector,
            illumination=self.illumination,
            settings={"angle": self.angles[number]},
        )


def acquire_series(
    experiment: Experiment,
    *,
    shape: tuple[int, int],
    sample: Sequence[Part],
    angles: Sequence[float],
    diffuser: Diffuser,
    diffuser_to_sample: float,
    positions: ArrayLike,
    detector: Detector,
    seed: int,
    edge_sigma: float = 0.0,
    illumination: ArrayLike | None = None,
    tilt: float = 0.0,
    noise: bool = True,
    workers: int | None = None,
    progress: Progress | None = None,
) -> ProjectionSeries:
    """Simulate the projections of a sample of ellipsoids that turns about the y axis, or about a tilted one.

    Parameters
    ----------
    experiment : Experiment
        Geometry.
    shape : tuple of int
        Detector's pixels (y, x).
    sample : sequence of Part
        Ellipsoids and spheres.
    angles : sequence of float
        Angles in degrees, from +x towards +z.
    diffuser : Diffuser
        Diffuser.
    diffuser_to_sample : float
        Distance in metres.
    positions : (position, 2) array_like
        Displacements (y, x) of the diffuser in metres; the same for every projection.
    detector : Detector
        Detector.
    seed : int
        Seed of structure, which is another one at each angle, and noise.
    edge_sigma : float
        σ in metres that projections are smoothed with.
    illumination : (y, x) array_like, optional
        Intensity of the bare beam on the detector, by which the frames are divided again; None is 1.
    tilt : float
        Angle in degrees that the axis of rotation is turned by about x, from +y towards +z.
    noise : bool
        Whether counts are drawn.
    workers : int, optional
        Threads; the result does not depend on it.
    progress : callable, optional
        Called as progress("simulating", done, total) after each projection.

    Returns
    -------
    ProjectionSeries
        Frames, and the truth of each projection and of the volume.

    Raises
    ------
    InputError
        As `acquire`, or if a part is no ellipsoid.

    Examples
    --------
    `xmist.simulate.ct` calls it.
    """
    bodies: list[tuple[Part, Ellipsoid]] = []
    check = Checks()
    check.number("tilt", tilt, unit="degrees", low=-90.0, high=90.0)
    for number, part in enumerate(sample):
        if not isinstance(part.body, Ellipsoid):
            check.add(
                f"part {number} of the sample is a {type(part.body).__name__}; expected ellipsoids and "
                "spheres, which can be turned"
            )
        else:
            bodies.append((part, part.body))
    if not len(angles):
        check.add("there are no angles; expected one at least, in degrees")
    check.done()
    setup = make_setup(
        experiment,
        shape=shape,
        diffuser=diffuser,
        diffuser_to_sample=diffuser_to_sample,
        positions=positions,
        detector=detector,
        seed=seed,
        illumination=illumination,
        noise=noise,
        workers=workers,
    )
    waves = list(upstream_waves(setup))
    count = len(waves)
    reference = np.stack([record_frame(setup, wave, None, number=n) for n, wave in enumerate(waves)])
    samples, truths = [], []
    findings: dict[Finding, None] = {}  # of all angles, each once
    for number, angle in enumerate(angles):
        matrix = turning(angle, tilt)
        turned = [
            replace(part, body=body.turned(angle, tilt), scatter=part.scatter and part.scatter.turned(matrix))
            for part, body in bodies
        ]
        with prefix_errors(f"at {angle:g} degrees: "):
            seen = look_through(
                setup, turned, edge_sigma=edge_sigma, seed=seed + number, turn=rms_turn(waves[0][0])
            )
        first = (number + 1) * count
        samples.append([record_frame(setup, wave, seen, number=first + n) for n, wave in enumerate(waves)])
        truths.append(seen.truth)
        findings |= dict.fromkeys(seen.findings)
        if progress is not None:
            progress("simulating", number + 1, len(angles))
    for record in findings:
        warnings.warn(record.message, UserWarning, stacklevel=2)
    return ProjectionSeries(
        angles=tuple(float(angle) for angle in angles),
        reference=reference,
        samples=np.array(samples, np.float32),
        experiment=experiment,
        truths=tuple(truths),
        volume=make_volume(bodies, experiment, shape),
        detector=detector,
        illumination=None if setup.illumination is None else setup.illumination.astype(np.float32),
        tilt=tilt,
    )


def make_volume(
    bodies: Sequence[tuple[Part, Ellipsoid]], experiment: Experiment, shape: tuple[int, int]
) -> Volume:
    """Fill a volume, each cube by 2 × 2 × 2 points."""
    fine = Grid(shape=(2 * shape[0], 2 * shape[1]), pixel=0.5 * experiment.effective_pixel)
    everywhere = slice(None)
    y, x = fine.y(everywhere)[:, None], fine.x(everywhere)[None, :]
    z = fine.x(everywhere)
    volumes = np.zeros((3, shape[1], *shape), np.float32)
    for part, body in bodies:
        delta, beta = part.index(experiment.energy_kev)
        power = 0.0 if part.scatter is None else part.scatter.power
        inside_rows, inside_columns = fine.window(body.box, 2)
        rows = slice(inside_rows.start // 2 * 2, math.ceil(inside_rows.stop / 2) * 2)
        columns = slice(inside_columns.start // 2 * 2, math.ceil(inside_columns.stop / 2) * 2)
        window = (slice(rows.start // 2, rows.stop // 2), slice(columns.start // 2, columns.stop // 2))
        for layer in range(shape[1]):
            depth = z[2 * layer : 2 * layer + 2][:, None, None]
            inside = body.contains(depth, y[None, rows], x[None, :, columns])
            share = inside.reshape(2, inside.shape[1] // 2, 2, inside.shape[2] // 2, 2).mean(axis=(0, 2, 4))
            for volume, value in zip(volumes, (delta, beta, power), strict=True):
                volume[layer][window] += np.float32(value) * share.astype(np.float32)
    return Volume(delta=volumes[0], beta=volumes[1], scatter=volumes[2], pixel=experiment.effective_pixel)
