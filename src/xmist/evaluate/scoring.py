"""One method on the first N positions: its result, what it takes, and how good the result is."""

from __future__ import annotations

import math
import time
import tracemalloc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from xmist.core.data import Retrieval, SpeckleStack
from xmist.core.errors import InputError, XmistError
from xmist.core.experiment import Experiment
from xmist.core.findings import Finding, finding
from xmist.evaluate.metrics import angular_sensitivity, cnr, correlation, fourier_ring_correlation, nrmse
from xmist.evaluate.regions import NO_REGIONS, Regions
from xmist.methods import METHODS, least_positions, prepare

CHANNELS_COMPARED: Final = ("dark_field", "phase", "transmission")

_TRIAL: Final = 48  # pixels a side of the trial that compiles
_NORMAL: Final = 1.4826  # standard deviations in a median absolute deviation


@dataclass(frozen=True, kw_only=True)
class Quality:
    """How good an image is; None where that is not known.

    Parameters
    ----------
    cnr : float or None
        Contrast-to-noise ratio (μ_outside − μ_inside)/σ_outside, eq. (8) of Pavlov et al. 2020.
    cnr_median : float or None
        The same with medians, and 1.4826 times the median absolute deviation for σ: not influenced by
        outliers.
    resolution : float or None
        In metres, by Fourier ring correlation of results from every other position, at the half-bit
        threshold; two pixels where the correlation never falls below it.
    correlation, nrmse : float or None
        Against the truth, over the frame; the error relative to the root mean square of the truth, and of a
        phase without the means of both.
    correlation_inside, nrmse_inside : float or None
        The same in the region inside.
    """

    cnr: float | None = None
    cnr_median: float | None = None
    resolution: float | None = None
    correlation: float | None = None
    nrmse: float | None = None
    correlation_inside: float | None = None
    nrmse_inside: float | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class MethodRun:
    """One method on the first N positions.

    Parameters
    ----------
    method : str
        Name of the method.
    positions : int
        Number N of positions of the diffuser.
    options : mapping
        Options of the method that were given.
    result : Retrieval or None
        The result; None if there is none.
    reason : str
        Why there is no result; empty if there is one.
    findings : tuple of Finding
        Why a quantity is not known.
    prepare_seconds, seconds : float or None
        Time to prepare the reference, and that of one projection, without compilation.
    memory : float or None
        Peak memory of both in bytes, of NumPy arrays, without the frames.
    sensitivity : tuple of float or None
        Standard deviation of the refraction angle along x and y in bare beam, in rad.
    quality : mapping
        `Quality` by channel.
    """

    method: str
    positions: int
    options: Mapping[str, Any]
    result: Retrieval | None = None
    reason: str = ""
    findings: tuple[Finding, ...] = ()
    prepare_seconds: float | None = None
    seconds: float | None = None
    memory: float | None = None
    sensitivity: tuple[float, float] | None = None
    quality: Mapping[str, Quality] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Method and N, such as "mist, N = 4"."""
        return f"{self.method}, N = {self.positions}"


def run_method(
    stack: SpeckleStack,
    experiment: Experiment,
    method: str,
    options: Mapping[str, Any],
    *,
    truth: Mapping[str, NDArray[Any]],
    regions: Regions = NO_REGIONS,
    resolution: bool = False,
    threads: int | None = None,
) -> MethodRun:
    """Retrieve all positions of a stack by a method, and score the result; an error becomes the reason."""
    n = stack.positions
    reason = unable(method, n, options, n)
    if reason:
        return MethodRun(method=method, positions=n, options=options, reason=reason)
    try:
        result, prepare_seconds, seconds, memory = measure(stack, experiment, method, options, threads)
    except (XmistError, MemoryError) as error:
        return MethodRun(method=method, positions=n, options=options, reason=_one_line(error))
    halves: tuple[Retrieval, Retrieval] | None = None
    findings: tuple[Finding, ...] = ()
    if resolution:
        halves, findings = _halves(stack, experiment, method, options, threads)
    return MethodRun(
        method=method,
        positions=n,
        options=options,
        result=result,
        findings=findings,
        prepare_seconds=prepare_seconds,
        seconds=seconds,
        memory=memory,
        sensitivity=_sensitivity(result, regions),
        quality=score(result, regions, truth, halves),
    )


def unable(method: str, positions: int, options: Mapping[str, Any], available: int) -> str:
    """Return why a method cannot work on N of the available positions; empty if it can.

    >>> unable("mist", 1, {}, 10), unable("mist", 2, {}, 10)
    ('needs at least 2 positions', '')
    """
    entry = METHODS[method]
    if positions > available:
        return f"the frames have {available} position{'s' * (available > 1)}"
    reasons = []
    least = least_positions(method, options)
    if positions < least:
        reasons.append(f"needs at least {least} positions")
    if entry.delta_over_beta == "required" and options.get("delta_over_beta") is None:
        reasons.append("needs the option delta_over_beta")
    return ", ".join(reasons)


def take_positions(stack: SpeckleStack, positions: int | slice) -> SpeckleStack:
    """Return the first positions of a stack, or those of a slice."""
    part = slice(positions) if isinstance(positions, int) else positions
    weights = None if stack.weights is None else stack.weights[part]
    return SpeckleStack(stack.reference[part], stack.sample[part], weights)


def compile_method(
    stack: SpeckleStack, experiment: Experiment, method: str, options: Mapping[str, Any], threads: int | None
) -> None:
    """Run a method on a small part of the frames, so that its kernels are compiled; errors do not matter."""
    top, left = (max(0, (size - _TRIAL) // 2) for size in stack.shape)
    part = np.s_[:, top : top + _TRIAL, left : left + _TRIAL]
    weights = None if stack.weights is None else stack.weights[part]
    plain = {name: value for name, value in options.items() if not isinstance(value, np.ndarray)}
    try:
        small = SpeckleStack(stack.reference[part], stack.sample[part], weights)
        prepare(small.reference, experiment, method=method, weights=weights, threads=threads, **plain)(
            small.sample
        )
    except XmistError:
        pass


def measure(
    stack: SpeckleStack, experiment: Experiment, method: str, options: Mapping[str, Any], threads: int | None
) -> tuple[Retrieval, float, float, float]:
    """Return the result, the seconds of preparation and of the projection, and the peak memory in bytes."""
    before = tracemalloc.is_tracing()
    if not before:
        tracemalloc.start()
    try:
        there = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        with _Clock() as preparing:
            plan = prepare(
                stack.reference, experiment, method=method, weights=stack.weights, threads=threads, **options
            )
        with _Clock() as retrieving:
            result = plan(stack.sample)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        if not before:
            tracemalloc.stop()
    return result, preparing.seconds, retrieving.seconds, float(max(0, peak - there))


class _Clock:
    """Measure time without that of compilation, which the trial cannot always do in advance."""

    seconds = 0.0

    def __enter__(self) -> Self:
        self._events: Any = import_module("numba.core.event")
        self._compiled = self._events.RecordingListener()
        self._events.register("numba:compile", self._compiled)
        self._start = time.perf_counter()
        return self

    def __exit__(self, *_error: object) -> None:
        elapsed = time.perf_counter() - self._start
        self._events.unregister("numba:compile", self._compiled)
        self.seconds = max(0.0, elapsed - _outermost(self._compiled.buffer))


def _outermost(events: Sequence[tuple[float, Any]]) -> float:
    """Return the time of the outermost of nested events."""
    total, depth, begun = 0.0, 0, 0.0
    for moment, what in events:
        if what.is_start:
            begun = moment if depth == 0 else begun
            depth += 1
        elif depth:
            depth -= 1
            total += moment - begun if depth == 0 else 0.0
    return total


def score(
    result: Retrieval,
    regions: Regions,
    truth: Mapping[str, NDArray[Any]],
    halves: tuple[Retrieval, Retrieval] | None = None,
) -> dict[str, Quality]:
    """Return the quality of each channel by regions, by the truth, and by results of half the positions."""
    quality = {}
    for name in CHANNELS_COMPARED:
        image = getattr(result, name)
        if image is None:
            continue
        found: dict[str, float | None] = {}
        if regions.outside is not None and regions.inside is not None:
            found["cnr"] = _number(cnr, image, regions.outside, regions.inside)
            found["cnr_median"] = _robust_cnr(image, regions.outside, regions.inside)
        if halves is not None:
            found["resolution"] = _resolution(
                getattr(halves[0], name), getattr(halves[1], name), result.experiment.effective_pixel
            )
        if name in truth:
            right, free = truth[name], name == "phase"
            found["correlation"] = _number(correlation, image, right)
            found["nrmse"] = _number(nrmse, image, right, remove_mean=free)
            if regions.inside is not None:
                found["correlation_inside"] = _number(correlation, image, right, mask=regions.inside)
                found["nrmse_inside"] = _number(nrmse, image, right, remove_mean=free, mask=regions.inside)
        quality[name] = Quality(**found)
    return quality


def _sensitivity(result: Retrieval, regions: Regions) -> tuple[float, float] | None:
    if result.refraction_angle is None or regions.outside is None:
        return None
    try:
        return angular_sensitivity(result.refraction_angle, regions.outside)
    except InputError:
        return None


def _halves(
    stack: SpeckleStack, experiment: Experiment, method: str, options: Mapping[str, Any], threads: int | None
) -> tuple[tuple[Retrieval, Retrieval] | None, tuple[Finding, ...]]:
    """Return the results of every other position, or the finding that there are none."""
    n, least = stack.positions, least_positions(method, options)
    if n // 2 < least:
        reason = f"half of {n} positions is less than the {least} that {method} needs"
        return None, (finding("resolution-unknown", f"no resolution: {reason}"),)
    try:
        one, other = (
            measure(take_positions(stack, slice(start, n, 2)), experiment, method, options, threads)[0]
            for start in (0, 1)
        )
    except (XmistError, MemoryError) as error:
        return None, (finding("resolution-unknown", f"no resolution: {_one_line(error)}"),)
    return (one, other), ()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or "not enough memory"


def agreement(images: Sequence[NDArray[Any] | None]) -> NDArray[np.float64]:
    """Return the correlations (image, image) of all pairs; NaN where an image is missing or constant."""
    matrix = np.full((len(images), len(images)), np.nan)
    for row, one in enumerate(images):
        for column, other in enumerate(images[: row + 1]):
            if one is not None and other is not None:
                value = _number(correlation, one, other)
                matrix[row, column] = matrix[column, row] = math.nan if value is None else value
    return matrix


def _number(metric: Any, *arguments: Any, **named: Any) -> float | None:
    """Return a metric, or None where it is not defined for these images."""
    try:
        value = float(metric(*arguments, **named))
    except InputError:
        return None
    return value if math.isfinite(value) else None


def _robust_cnr(image: NDArray[Any], outside: NDArray[Any], inside: NDArray[Any]) -> float | None:
    beam, within = (np.asarray(image[mask & np.isfinite(image)], np.float64) for mask in (outside, inside))
    if beam.size < 2 or within.size < 1:
        return None
    middle = float(np.median(beam))
    noise = _NORMAL * float(np.median(np.abs(beam - middle)))
    return (middle - float(np.median(within))) / noise if noise > 0 else None


def _resolution(a: NDArray[Any] | None, b: NDArray[Any] | None, pixel: float) -> float | None:
    if a is None or b is None:
        return None
    try:
        found = fourier_ring_correlation(a, b, pixel_size=pixel).resolution
    except InputError:
        return None
    return found if math.isfinite(found) else 2.0 * pixel
