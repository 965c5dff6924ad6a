"""Planning: the errors to expect over distance, speckle size, exposures and dose.

Frames come straight from the transport model (M), many of them for each choice, and a method retrieves them.
What the model does not hold, the granular contrast of the structure itself and diffraction, is not in the
numbers: they say what noise, speckles and the method leave, and are a lower bound.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmist.core.data import Retrieval, SpeckleStack
from xmist.core.errors import InputError, raise_errors
from xmist.core.experiment import Experiment
from xmist.core.progress import Progress
from xmist.evaluate.planning_table import Expected, ExpectedErrors
from xmist.methods import find_method, make_options, retrieve
from xmist.simulate.checks import check_count, check_number, check_shape
from xmist.simulate.detector import Detector, detect
from xmist.simulate.grid import Grid, binned
from xmist.simulate.microstructure import Screen, dark_field_tensor, gaussian_field
from xmist.simulate.model import transported
from xmist.simulate.pixels import blur_and_bin
from xmist.simulate.sample import Part, check_sample, project
from xmist.workflow.simulation import DEFAULT_METHOD

Real = NDArray[Any]

_FINE = 2  # samples a pixel: enough for speckles of two pixels
_EDGE = 8  # pixels at the border that count for no error


def expected_errors(
    sample: Sequence[Part],
    experiment: Experiment,
    *,
    shape: tuple[int, int],
    detector: Detector,
    distances: Sequence[float],
    speckles: Sequence[float],
    visibility: float,
    exposures: Sequence[int],
    photons: Sequence[float],
    draws: int,
    seed: int,
    method: str | None = None,
    options: Mapping[str, Any] | None = None,
    screens: Sequence[Screen] = (),
    edge_sigma: float = 0.0,
    workers: int | None = None,
    progress: Progress | None = None,
) -> ExpectedErrors:
    """Return what errors to expect, by Monte-Carlo runs of a method through the fast path.

    Parameters
    ----------
    sample : sequence of Part
        The sample.
    experiment : Experiment
        Energy, pixel and source; its distance from sample to detector is replaced by `distances`.
    shape : tuple of int
        Pixels (y, x) to simulate.
    detector : Detector
        Detector; its photons are replaced by `photons`.
    distances : sequence of float
        Distances from sample to detector in metres.
    speckles : sequence of float
        Full widths at half maximum of the speckles' autocorrelation, in metres in the sample's plane and
        before the detector's blur.
    visibility : float
        Standard deviation of the reference over its mean, before the detector's blur.
    exposures : sequence of int
        Numbers N of positions of the diffuser.
    photons : sequence of float
        Photons a pixel detects in the bare beam in one exposure.
    draws : int
        Simulated experiments a choice, 1 at least.
    seed : int
        Seed.
    method : str, optional
        Method, see `xmist.METHODS`; None takes `full-field`.
    options : mapping, optional
        Options of the method.
    screens : sequence of Screen
        Layers of structure beside that of the sample's parts.
    edge_sigma : float
        σ in metres that bodies are smoothed with.
    workers : int, optional
        Threads; the result does not depend on it.
    progress : callable, optional
        Called as progress("planning", done, total) after each choice.

    Returns
    -------
    ExpectedErrors
        One row a choice, distances outermost, photons innermost.

    Raises
    ------
    InputError
        Lists all that is wrong.

    Examples
    --------
    >>> from xmist import simulate
    >>> recipe = simulate.find_recipe("fibres")((48, 48), 2, 0)
    >>> table = expected_errors(
    ...     recipe.sample,
    ...     recipe.experiment,
    ...     shape=(48, 48),
    ...     detector=recipe.detector,
    ...     distances=[1.0],
    ...     speckles=[25e-6],
    ...     visibility=0.3,
    ...     exposures=[4],
    ...     photons=[1e3, 1e5],
    ...     draws=2,
    ...     seed=1,
    ...     method="mist",
    ...     options={"smoothing": 2.0},
    ... )
    >>> few, many = table
    >>> few.phase_error > many.phase_error
    True
    """
    faults: list[str] = []
    for name, values, unit in (
        ("distances", distances, "m"),
        ("speckles", speckles, "m"),
        ("photons", photons, "photons"),
    ):
        if not len(values):
            faults.append(f"{name} is empty; expected one at least")
        for number in values:
            check_number(name, number, faults, unit=unit, low=0.0, strict=True)
    pixel = experiment.effective_pixel
    if not faults:
        faults += [
            f"speckles is {size:g} m; expected at least the pixel in the sample's plane, {pixel:.4g} m: "
            "the detector sees none below it"
            for size in speckles
            if size < pixel
        ]
    top = math.inf if detector.saturation is None else detector.saturation
    if not faults:
        faults += [
            f"photons is {number:g}: {number * detector.gain + detector.offset:g} counts in the bare beam; "
            f"expected less than the saturation of {top:g}, or a smaller gain"
            for number in photons
            if number * detector.gain + detector.offset >= top
        ]
    if not len(exposures):
        faults.append("exposures is empty; expected one at least")
    for count in exposures:
        check_count("exposures", count, faults)
    check_number("visibility", visibility, faults, low=0.0, high=1.0, strict=True)
    check_number("edge_sigma", edge_sigma, faults, unit="m", low=0.0)
    check_count("draws", draws, faults)
    check_count("seed", seed, faults, low=0)
    shape = check_shape(shape, faults, low=2 * _EDGE + 8)
    raise_errors(faults)
    method, options = method or DEFAULT_METHOD, options or {}
    try:
        entry = find_method(method)
        make_options(method, options)
        few = [count for count in exposures if not faults and count < entry.minimum_exposures]
        if few:
            faults.append(f"exposures has {few[0]}; expected at least {entry.minimum_exposures} for {method}")
    except InputError as error:
        faults += error.faults
    raise_errors(faults)
    choices = list(itertools.product(distances, speckles, exposures, photons))
    rows = []
    for number, (distance, speckle, count, light) in enumerate(choices):
        setup = replace(experiment, sample_to_detector=distance)
        scene = _scene(sample, setup, shape, screens, edge_sigma)
        # The same grains for every choice: what differs then is the choice.
        errors = [
            _errors(
                scene,
                setup,
                replace(detector, photons=light),
                speckle=speckle,
                visibility=visibility,
                exposures=count,
                method=method,
                options=options,
                seed=(seed, draw),
                workers=workers,
            )
            for draw in range(draws)
        ]
        rows.append(_row(scene, setup, speckle, count, light, errors))
        if progress is not None:
            progress("planning", number + 1, len(choices))
    return ExpectedErrors(rows=tuple(rows), method=method, draws=draws)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Scene:
    """A sample on the fine grid, and its truth on pixels."""

    grid: Grid
    phase: Real
    transmission: Real
    tensor: Real
    truth: Mapping[str, Real]


def _scene(
    sample: Sequence[Part],
    experiment: Experiment,
    shape: tuple[int, int],
    screens: Sequence[Screen],
    edge_sigma: float,
) -> _Scene:
    pixel = experiment.effective_pixel
    raise_errors(check_sample(sample, Grid(shape=shape, pixel=pixel), energy_kev=experiment.energy_kev))
    grid = Grid(shape=(_FINE * shape[0], _FINE * shape[1]), pixel=pixel / _FINE)
    seen = project(
        sample,
        grid,
        energy_kev=experiment.energy_kev,
        wavenumber=experiment.wavenumber,
        screens=screens,
        edge_sigma=edge_sigma,
    )
    tensor = dark_field_tensor(seen.screens, grid, distance=experiment.effective_distance)
    phase = binned(seen.phase, _FINE)
    slope_y, slope_x = np.gradient(phase, pixel * experiment.wavenumber)
    return _Scene(
        grid=grid,
        phase=seen.phase,
        transmission=np.exp(-seen.absorbance),
        tensor=tensor,
        truth={
            "phase": phase - phase.mean(),
            "dark_field": binned(0.5 * (tensor[0] + tensor[2]), _FINE),
            "refraction_angle": np.stack([slope_x, slope_y]),
        },
    )


def _errors(
    scene: _Scene,
    experiment: Experiment,
    detector: Detector,
    *,
    speckle: float,
    visibility: float,
    exposures: int,
    method: str,
    options: Mapping[str, Any],
    seed: tuple[int, int],
    workers: int | None,
) -> dict[str, float | None]:
    """Simulate one experiment, retrieve it, and give mean squares of the errors."""
    grid = scene.grid
    length = speckle / (2.0 * math.sqrt(2.0 * math.log(2.0))) / grid.pixel
    # ln I of standard deviation s has ⟨I²⟩/⟨I⟩² = exp(s²), whatever its correlation.
    spread = math.sqrt(math.log1p(visibility**2))
    plain = replace(detector, oversampling=1, psf_sigma=0.0)
    sigma = detector.psf_sigma / experiment.pixel_size * _FINE
    frames: tuple[list[Real], list[Real]] = ([], [])
    for exposure in range(exposures):
        rng = np.random.default_rng([*seed, exposure])
        field = gaussian_field(
            grid.shape, across=length, along=length, direction=0.0, rng=rng, workers=workers
        )
        reference = np.exp(spread * field.astype(np.float64) - 0.5 * spread**2)
        sample = transported(
            reference,
            wavenumber=experiment.wavenumber,
            distance=experiment.effective_distance,
            pixel=grid.pixel,
            phase=scene.phase,
            transmission=scene.transmission,
            dark_field=scene.tensor,
            workers=workers,
        )
        for stack, light in zip(frames, (reference, sample), strict=True):
            seen = np.maximum(blur_and_bin(light, sigma, _FINE, workers=workers), 0.0)
            counts = detect(seen, plain, rng, workers=workers)
            stack.append((counts - detector.offset) / (detector.gain * detector.photons))
    found = retrieve(
        SpeckleStack(np.stack(frames[0]), np.stack(frames[1])),
        experiment,
        method=method,
        threads=workers,
        **options,
    )
    return {name: _mean_square(found, name, truth) for name, truth in scene.truth.items()}


def _mean_square(found: Retrieval, name: str, truth: Real) -> float | None:
    image = getattr(found, name)
    if image is None:
        return None
    inside = (..., slice(_EDGE, -_EDGE), slice(_EDGE, -_EDGE))
    difference = (image.astype(np.float64) - truth)[inside]
    if name == "phase":
        difference = difference - np.nanmean(difference)
    return float(np.nanmean(difference**2))


def _row(
    scene: _Scene,
    experiment: Experiment,
    speckle: float,
    exposures: int,
    photons: float,
    errors: Sequence[Mapping[str, float | None]],
) -> Expected:
    values: dict[str, float | None] = {}
    for name, truth in scene.truth.items():
        squares = [error[name] for error in errors]
        known = [square for square in squares if square is not None]
        error = math.sqrt(sum(known) / len(known)) if known else None
        spread = float(truth.std())
        values[f"{name}_error"] = error
        values[f"{name}_nrmse"] = error / spread if error is not None and spread > 0.0 else None
    return Expected(
        distance=experiment.sample_to_detector,
        speckle=float(speckle),
        exposures=int(exposures),
        photons=float(photons),
        dose=2.0 * exposures * photons,
        **values,
    )
