"""Simulate an experiment: diffuser, sample and detector in the beam, frames and truth."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import asdict
from itertools import chain

import numpy as np
from numpy.typing import ArrayLike

from xmist.core.data import SpeckleStack
from xmist.core.experiment import Experiment
from xmist.core.progress import Progress
from xmist.simulate.beam import Spectrum
from xmist.simulate.detector import Detector
from xmist.simulate.diffusers import Diffuser
from xmist.simulate.microstructure import Screen
from xmist.simulate.recording import record_frame, rms_turn, upstream_waves
from xmist.simulate.sample import Part
from xmist.simulate.scene import look_through
from xmist.simulate.setup import make_setup
from xmist.simulate.truth import Simulation


def acquire(
    experiment: Experiment,
    *,
    shape: tuple[int, int],
    sample: Sequence[Part],
    diffuser: Diffuser,
    diffuser_to_sample: float,
    positions: ArrayLike,
    detector: Detector,
    seed: int,
    screens: Sequence[Screen] = (),
    edge_sigma: float = 0.0,
    physics: str = "wave",
    spectrum: Spectrum | None = None,
    source_sigma: float = 0.0,
    drift: tuple[float, float] = (0.0, 0.0),
    illumination: ArrayLike | None = None,
    noise: bool = True,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Simulation:
    """Simulate the frames of a speckle experiment, and return them with the truth.

    Parameters
    ----------
    experiment : Experiment
        Geometry; the cone beam of `source_to_sample` included.
    shape : tuple of int
        Detector's pixels (y, x).
    sample : sequence of Part
        Bodies with materials and structure; may be empty.
    diffuser : Diffuser
        What makes the speckles.
    diffuser_to_sample : float
        Distance by which the diffuser stands upstream of the sample, in metres.
    positions : (position, 2) array_like
        Displacements (y, x) of the diffuser in metres, in its plane.
    detector : Detector
        Detector; its pixel is the experiment's, its oversampling that of the wave.
    seed : int
        Seed of structure and noise; the diffuser has its own.
    screens : sequence of Screen
        Layers of unresolved structure beside that of the sample's parts.
    edge_sigma : float
        σ in metres, in the sample's plane, that all bodies are smoothed with (the truth too), so that no
        surface is too steep for the grid.
    physics : str
        "wave": wave optics. "model": the diffuser by wave optics, the sample by the transport model (M); its
        structure then is the mean over all draws.
    spectrum : Spectrum, optional
        Energies whose intensities add up; None is `experiment.energy_kev` alone, at which the truth holds
        anyway.
    source_sigma : float
        σ of the source in metres; blurs as seen from the diffuser.
    drift : tuple of float
        Displacement (y, x) in metres on the detector between reference and sample frames.
    illumination : (y, x) array_like, optional
        Intensity of the bare beam on the detector, by which the frames are divided again; None is 1.
    noise : bool
        Whether counts are drawn; without, frames are expected values.
    workers : int, optional
        Threads; the result does not depend on it, bit for bit.
    progress : callable, optional
        Called as progress("simulating", done, total) after each pair of frames.

    Returns
    -------
    Simulation
        Frames corrected for offset, gain, photons and illumination (1 in the bare beam), geometry and truth.

    Raises
    ------
    InputError
        Lists all that is wrong: an object outside the field, a sampling that aliases, a distance out of
        range, an energy that a material is not known at.

    Warns
    -----
    UserWarning
        Where structure is such that the truth D is not what speckles can see.

    Examples
    --------
    >>> from xmist import simulate
    >>> experiment = xmist.Experiment(energy_kev=17.0, pixel_size=5e-6, sample_to_detector=0.5)
    >>> water = xmist.Material(delta=8e-7, beta=5e-10, energy_kev=17.0)
    >>> drop = simulate.Part(body=simulate.sphere(radius=50e-6), material=water)
    >>> screen = simulate.RandomScreen(
    ...     wavelength=experiment.wavelength, grain_size=40e-6, rms_phase=3.0, seed=1
    ... )
    >>> detector = simulate.Detector(
    ...     pixel_size=5e-6, oversampling=4, psf_sigma=4e-6, photons=1e4, gain=1, read_noise=0, offset=0
    ... )
    >>> stack, _, truth = simulate.acquire(
    ...     experiment,
    ...     shape=(32, 32),
    ...     sample=[drop],
    ...     diffuser=screen,
    ...     diffuser_to_sample=0.5,
    ...     positions=[(0, 0), (0, 1e-4)],
    ...     detector=detector,
    ...     edge_sigma=2e-6,
    ...     seed=1,
    ... )
    >>> stack.sample.shape, round(float(truth.phase.min()), 1)
    ((2, 32, 32), -6.9)
    """
    setup = make_setup(
        experiment,
        shape=shape,
        diffuser=diffuser,
        diffuser_to_sample=diffuser_to_sample,
        positions=positions,
        detector=detector,
        seed=seed,
        physics=physics,
        spectrum=spectrum,
        source_sigma=source_sigma,
        drift=drift,
        illumination=illumination,
        noise=noise,
        workers=workers,
    )
    arriving = upstream_waves(setup)
    first = next(arriving)
    seen = look_through(
        setup, sample, screens=screens, edge_sigma=edge_sigma, seed=seed, turn=rms_turn(first[0])
    )
    reference, frames = [], []
    for number, wave in enumerate(chain([first], arriving)):
        reference.append(record_frame(setup, wave, None, number=2 * number))
        frames.append(record_frame(setup, wave, seen, number=2 * number + 1))
        if progress is not None:
            progress("simulating", number + 1, len(setup.steps))
    for record in seen.findings:
        warnings.warn(record.message, UserWarning, stacklevel=2)
    return Simulation(
        stack=SpeckleStack(np.stack(reference), np.stack(frames)),
        experiment=experiment,
        truth=seen.truth,
        detector=detector,
        illumination=None if setup.illumination is None else setup.illumination.astype(np.float32),
        settings={
            "physics": physics,
            "diffuser": {"kind": type(diffuser).__name__, **asdict(diffuser)},
            "diffuser_to_sample": diffuser_to_sample,
            "positions": setup.steps.tolist(),
            "detector": asdict(detector),
            "seed": seed,
            "edge_sigma": edge_sigma,
            "source_sigma": source_sigma,
            "drift": list(drift),
            "noise": noise,
        },
        findings=seen.findings,
    )
