"""Errors to expect over distance, speckle size, number of positions and dose.

Frames come from the transport model (M), and a method retrieves them. The model has neither diffraction nor
the granular contrast of the structure itself, so that the errors are a lower bound: those of noise, speckles
and the method.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmist.core.checks import Checks
from xmist.core.data import SpeckleStack
from xmist.core.errors import InputError, raise_errors
from xmist.core.experiment import Experiment
from xmist.core.progress import Progress
from xmist.evaluate.metrics import mean_square_error
from xmist.methods import least_positions, make_options, retrieve
from xmist.methods.registry import DEFAULT_METHOD
from xmist.simulate.detector import Detector, detect
from xmist.simulate.grid import Grid, binned
from xmist.simulate.microstructure import Screen, dark_field_tensor, gaussian_field
from xmist.simulate.model import transported
from xmist.simulate.pixels import blur_and_bin
from xmist.simulate.sample import Part, check_sample, project

Real = NDArray[Any]

_FINE = 2  # samples a pixel: enough for speckles of two pixels
_EDGE = 8  # pixels at the border that count for no error
# Errors in the text: field, units in one SI unit, width.
_CELLS = (
    ("phase_error", 1.0, 7),
    ("phase_nrmse", 1.0, 6),
    ("dark_field_error", 1e12, 6),
    ("dark_field_nrmse", 1.0, 7),
    ("refraction_angle_error", 1e9, 8),
    ("refraction_angle_nrmse", 1.0, 7),
)


@dataclass(frozen=True, kw_only=True)
class Expected:
    """Expected errors of one choice: root mean squares over pixels and draws."""

    distance: float  # distance from sample to detector in metres
    speckle: float  # size of the speckles in the sample's plane in metres
    positions: int  # number N of positions of the diffuser
    photons: float  # photons that a pixel detects in the bare beam in one frame
    dose: float  # photons that a pixel detects in all reference and sample frames, 2 N photons
    phase_error: float | None  # error of φ in rad, its mean removed; None where the method gives none
    dark_field_error: float | None  # error of D in m
    refraction_angle_error: float | None  # error of each component of ∇φ/k in rad
    # the same over the standard deviation of the truth; None where the truth is constant
    phase_nrmse: float | None
    dark_field_nrmse: float | None
    refraction_angle_nrmse: float | None


@dataclass(frozen=True, kw_only=True)
class ExpectedErrors:
    """The table of expected errors; iterate for its rows, print it as text.

    Parameters
    ----------
    rows : tuple of Expected
        One for each choice.
    method : str
        Method that retrieved.
    draws : int
        Number of simulated experiments for each choice.

    Examples
    --------
    >>> row = Expected(
    ...     distance=1.0,
    ...     speckle=2e-5,
    ...     positions=2,
    ...     photons=1e4,
    ...     dose=4e4,
    ...     phase_error=0.5,
    ...     dark_field_error=None,
    ...     refraction_angle_error=1e-8,
    ...     phase_nrmse=0.1,
    ...     dark_field_nrmse=None,
    ...     refraction_angle_nrmse=0.2,
    ... )
    >>> print(ExpectedErrors(rows=(row,), method="mist", draws=4))
                                             error of φ     error of D      error of ∇φ/k
    distance    speckle     N  photons      rad   NRMSE      pm    NRMSE      nrad    NRMSE
       1 m      20 µm     2    10000      0.5     0.1       –        –        10      0.2
    """

    rows: tuple[Expected, ...]
    method: str
    draws: int

    def __iter__(self) -> Iterator[Expected]:
        """Return the rows."""
        return iter(self.rows)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.rows)

    def __str__(self) -> str:
        """Return the table as text."""
        lines = [
            f"{'':37}{'error of φ':>14}{'error of D':>15}{'error of ∇φ/k':>19}",
            "distance    speckle     N  photons      rad   NRMSE      pm    NRMSE      nrad    NRMSE",
        ]
        for row in self.rows:
            choice = (f"{row.distance:>4.3g} m", f"{1e6 * row.speckle:>6.3g} µm", f"{row.positions:>4d}")
            errors = (_cell(getattr(row, name), scale, width) for name, scale, width in _CELLS)
            lines.append("  ".join([*choice, f"{row.photons:>7.6g}", *errors]))
        return "\n".join(lines)

    def to_rows(self) -> list[dict[str, Any]]:
        """Return the rows as plain data."""
        return [asdict(row) for row in self.rows]


def expected_errors(
    sample: Sequence[Part],
    experiment: Experiment,
    *,
    shape: tuple[int, int],
    detector: Detector,
    distances: Sequence[float],
    speckles: Sequence[float],
    visibility: float,
    positions: Sequence[int],
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
    """Return the errors to expect of a method, by Monte-Carlo runs on frames of the transport model.

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
    positions : sequence of int
        Numbers N of positions of the diffuser.
    photons : sequence of float
        Photons that a pixel detects in the bare beam in one frame.
    draws : int
        Simulated experiments for each choice, 1 at least.
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
        One row for each choice, distances outermost, photons innermost.

    Raises
    ------
    InputError
        Lists all errors.

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
    ...     positions=[4],
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
    check = Checks()
    given = {"distances": distances, "speckles": speckles, "photons": photons, "positions": positions}
    for name, values in given.items():
        if not len(values):
            check.add(f"{name} is empty; expected one at least")
        for number in values:
            if name == "positions":
                check.count(name, number)
            else:
                unit = "photons" if name == "photons" else "m"
                check.number(name, number, unit=unit, low=0.0, strict=True)
    check.number("visibility", visibility, low=0.0, high=1.0, strict=True)
    check.number("edge_sigma", edge_sigma, unit="m", low=0.0)
    check.count("draws", draws)
    check.count("seed", seed, low=0)
    shape = check.shape(shape, low=2 * _EDGE + 8)
    check.done()
    pixel = experiment.effective_pixel
    for size in speckles:
        if size < pixel:
            check.add(f"speckles is {size:g} m; expected at least the effective pixel of {pixel:.4g} m")
    top = math.inf if detector.saturation is None else detector.saturation
    for number in photons:
        if (counts := number * detector.gain + detector.offset) >= top:
            check.add(
                f"photons is {number:g}: {counts:g} counts in the bare beam; expected less than the "
                f"saturation of {top:g}, or a smaller gain"
            )
    method, options = method or DEFAULT_METHOD, options or {}
    try:
        make_options(method, options)
        least = least_positions(method, options)
        if min(positions) < least:
            message = f"positions has {min(positions)}; expected at least {least} for {method}"
            check.add(message, "positions-too-few")
    except InputError as error:
        check.errors += error.records
    check.done()
    choices = list(itertools.product(distances, speckles, positions, photons))
    rows = []
    for number, (distance, speckle, count, light) in enumerate(choices):
        setup = replace(experiment, sample_to_detector=distance)
        scene = _scene(sample, setup, shape, screens, edge_sigma)
        squares: dict[str, list[float | None]] = {name: [] for name in scene.truth}
        for draw in range(draws):
            # The same grains for every choice: what differs then is the choice.
            frames = _frames(
                scene,
                setup,
                replace(detector, photons=light),
                speckle=speckle,
                visibility=visibility,
                positions=count,
                seed=(seed, draw),
                workers=workers,
            )
            found = retrieve(frames, setup, method=method, threads=workers, **options)
            for name, truth in scene.truth.items():
                squares[name].append(_mean_square(getattr(found, name), truth, centred=name == "phase"))
        errors: dict[str, float | None] = {}
        for name, truth in scene.truth.items():
            known = [square for square in squares[name] if square is not None]
            wrong = math.sqrt(sum(known) / len(known)) if known else None
            spread = float(truth.std())
            errors[f"{name}_error"] = wrong
            errors[f"{name}_nrmse"] = wrong / spread if wrong is not None and spread > 0.0 else None
        rows.append(
            Expected(
                distance=distance,
                speckle=float(speckle),
                positions=int(count),
                photons=float(light),
                dose=2.0 * count * light,
                **errors,
            )
        )
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


def _frames(
    scene: _Scene,
    experiment: Experiment,
    detector: Detector,
    *,
    speckle: float,
    visibility: float,
    positions: int,
    seed: tuple[int, int],
    workers: int | None,
) -> SpeckleStack:
    """Simulate the frames of one experiment."""
    grid = scene.grid
    length = speckle / (2.0 * math.sqrt(2.0 * math.log(2.0))) / grid.pixel
    # ln I of standard deviation s has ⟨I²⟩/⟨I⟩² = exp(s²), whatever its correlation.
    spread = math.sqrt(math.log1p(visibility**2))
    plain = replace(detector, oversampling=1, psf_sigma=0.0)
    sigma = detector.psf_sigma / experiment.pixel_size * _FINE
    frames: tuple[list[Real], list[Real]] = ([], [])
    for number in range(positions):
        rng = np.random.default_rng([*seed, number])
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
    return SpeckleStack(np.stack(frames[0]), np.stack(frames[1]))


def _mean_square(image: Real | None, truth: Real, *, centred: bool) -> float | None:
    """Return the mean square of the error away from the border, perhaps without its mean."""
    if image is None:
        return None
    inside = (..., slice(_EDGE, -_EDGE), slice(_EDGE, -_EDGE))
    return mean_square_error(image[inside], truth[inside], remove_mean=centred)[0]


def _cell(value: float | None, scale: float, width: int) -> str:
    return f"{'–' if value is None else f'{value * scale:.3g}':>{width}}"
