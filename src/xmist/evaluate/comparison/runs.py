"""One method on the first N exposures: its result, what it cost, and what can be said of it."""

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
from xmist.evaluate.comparison.regions import Regions
from xmist.evaluate.metrics import angular_sensitivity, cnr, correlation, fourier_ring_correlation, nrmse
from xmist.methods import METHODS, prepare

CHANNELS_COMPARED: Final = ("dark_field", "phase", "transmission")

_TRIAL: Final = 48  # pixels a side of the trial that compiles
_NORMAL: Final = 1.4826  # standard deviations in a median absolute deviation


@dataclass(frozen=True, kw_only=True)
class Quality:
    """What can be said of a picture; None where it cannot be said."""

    # contrast-to-noise ratio (μ_outside − μ_inside)/σ_outside, eq. (8) of Pavlov et al. 2020
    cnr: float | None = None
    # the same with medians, and 1.4826 times the median absolute deviation for σ: blind to a few wild
    # pixels, which can rule a mean and a standard deviation
    cnr_median: float | None = None
    # in metres, by Fourier ring correlation of results from every other exposure, at the half-bit
    # threshold; two pixels where the correlation never falls below it
    resolution: float | None = None
    # against the truth, over the frame; the error relative to the root mean square of the truth, and of a
    # phase without the means of both
    correlation: float | None = None
    nrmse: float | None = None
    correlation_inside: float | None = None  # the same in the region inside
    nrmse_inside: float | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """One method on the first N exposures."""

    method: str  # name of the method
    exposures: int  # number N of exposures
    options: Mapping[str, Any]  # options of the method that were given
    result: Retrieval | None = None  # what it retrieved; None if it could not
    reason: str = ""  # why there is no result; empty if there is one
    remarks: tuple[str, ...] = ()  # why something is not said
    # time of what depends on the reference alone, and of one projection; compiling is left out
    prepare_seconds: float | None = None
    seconds: float | None = None
    # peak memory in bytes of both, above what was there before; numpy's arrays, without the frames
    memory: float | None = None
    # standard deviation of the refraction angle along x and y in bare beam, in rad
    sensitivity: tuple[float, float] | None = None
    quality: Mapping[str, Quality] = field(default_factory=dict)  # `Quality` by channel

    @property
    def label(self) -> str:
        """Method and N in words."""
        return f"{self.method}, N = {self.exposures}"


def unable(method: str, exposures: int, options: Mapping[str, Any], positions: int) -> str:
    """Return why a method cannot work on N exposures; empty if it can."""
    entry = METHODS[method]
    if exposures > positions:
        return f"the frames have {positions} exposure{'s' * (positions > 1)}"
    reasons = []
    if exposures < entry.minimum_exposures:
        reasons.append(f"needs at least {entry.minimum_exposures} exposures")
    if entry.needs_delta_over_beta and options.get("delta_over_beta") is None:
        reasons.append("needs the option delta_over_beta")
    return ", ".join(reasons)


def first(stack: SpeckleStack, exposures: int | slice) -> SpeckleStack:
    """Return some exposures of a stack."""
    part = slice(exposures) if isinstance(exposures, int) else exposures
    weights = None if stack.weights is None else stack.weights[part]
    return SpeckleStack(stack.reference[part], stack.sample[part], weights)


def compile_method(
    stack: SpeckleStack, experiment: Experiment, method: str, options: Mapping[str, Any], threads: int | None
) -> None:
    """Run a method on a small part of the frames, so that its kernels are compiled; faults do not matter."""
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
    """Retrieve, and measure time and memory.

    Returns `memory` in bytes.
    """
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
    """Time without that of compiling, which the trial cannot always do in advance."""

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
    """Return the time between the beginning and the end of work that may contain other such work."""
    total, depth, begun = 0.0, 0, 0.0
    for moment, what in events:
        if what.is_start:
            begun = moment if depth == 0 else begun
            depth += 1
        elif depth:
            depth -= 1
            total += moment - begun if depth == 0 else 0.0
    return total


def judge(
    result: Retrieval,
    regions: Regions,
    truth: Mapping[str, NDArray[Any]],
    halves: tuple[Retrieval, Retrieval] | None,
) -> tuple[dict[str, Quality], tuple[float, float] | None]:
    """Return what can be said of a result.

    Returns `sensitivity` in rad.
    """
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
    sensitivity = None
    if result.refraction_angle is not None and regions.outside is not None:
        try:
            sensitivity = angular_sensitivity(result.refraction_angle, regions.outside)
        except InputError:
            sensitivity = None
    return quality, sensitivity


def agreement(pictures: list[NDArray[Any] | None]) -> NDArray[np.float64]:
    """Return the correlations of all pairs of pictures.

    `pictures` (y, x); returns (picture, picture).
    """
    matrix = np.full((len(pictures), len(pictures)), np.nan)
    for row, one in enumerate(pictures):
        for column, other in enumerate(pictures[: row + 1]):
            if one is not None and other is not None:
                value = _number(correlation, one, other)
                matrix[row, column] = matrix[column, row] = math.nan if value is None else value
    return matrix


def _number(metric: Any, *arguments: Any, **named: Any) -> float | None:
    """Return a metric, or None where it is not defined for these pictures."""
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
