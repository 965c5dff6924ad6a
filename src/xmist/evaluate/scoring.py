"""Run methods on the first N positions; score their results, time and memory."""

from __future__ import annotations

import math
import time
import tracemalloc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from xmist.core.data import Retrieval, SpeckleStack
from xmist.core.errors import InputError, XmistError
from xmist.core.experiment import Experiment
from xmist.core.findings import Finding, finding
from xmist.core.flags import CLIPPED
from xmist.core.progress import Progress
from xmist.evaluate.metrics import angular_sensitivity, cnr, correlation, fourier_ring_correlation, nrmse
from xmist.evaluate.regions import Regions
from xmist.methods import METHODS, least_positions, prepare

CHANNELS_COMPARED: Final = ("dark_field", "phase", "transmission")

MOST_FLAGGED: Final = 0.2  # of the sample or of bare beam: what flags more is scored apart
_TRIAL: Final = 48  # pixels a side of the trial that compiles

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Halves:
    """Channels by name of the results of every other position, and the pixels that neither flags."""

    channels: Mapping[str, tuple[NDArray[Any], NDArray[Any]]]
    pixels: Mask


@dataclass(frozen=True, kw_only=True)
class Quality:
    """How good an image is on the pixels that are scored; None where that is not known.

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
    correlation, correlation_median, nrmse, nrmse_median : float or None
        Against the truth, over the frame; the error relative to the root mean square of the truth, and of a
        phase without the means of both. By medians, 1.4826 times the median of the absolute error counts.
    correlation_inside, correlation_median_inside, nrmse_inside, nrmse_median_inside : float or None
        The same in the region inside.
    """

    cnr: float | None = None
    cnr_median: float | None = None
    resolution: float | None = None
    correlation: float | None = None
    correlation_median: float | None = None
    nrmse: float | None = None
    nrmse_median: float | None = None
    correlation_inside: float | None = None
    correlation_median_inside: float | None = None
    nrmse_inside: float | None = None
    nrmse_median_inside: float | None = None


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
    sensitivity, sensitivity_median : tuple of float or None
        Standard deviation of the refraction angle along x and y in bare beam, in rad, and 1.4826 times its
        median absolute deviation.
    pixels : int
        Number of pixels that are scored.
    flagged : float
        Share of the sample, or of bare beam if that is more, that the method flags.
    apart : bool
        Whether the result is scored on the pixels that it does not flag itself, because it flags more than
        20 %, and not on those that none of the others flags.
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
    sensitivity_median: tuple[float, float] | None = None
    pixels: int = 0
    flagged: float = 0.0
    apart: bool = False
    quality: Mapping[str, Quality] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Method and N, such as "mist, N = 4"."""
        return f"{self.method}, N = {self.positions}"


def run_methods(
    stack: SpeckleStack,
    experiment: Experiment,
    pairs: Sequence[tuple[str, int]],
    options: Mapping[str, Mapping[str, Any]],
    *,
    resolution: bool = False,
    threads: int | None = None,
    report: Progress,
) -> tuple[list[MethodRun], list[Halves | None]]:
    """Retrieve by each method and N, and for the resolution from both halves of the positions.

    The runs are not scored yet. An error becomes the reason of a run.
    """
    runs: list[MethodRun] = []
    halves: list[Halves | None] = []
    compiled: set[str] = set()
    for number, (method, n) in enumerate(pairs):
        own = options.get(method, {})
        run = MethodRun(
            method=method, positions=n, options=own, reason=unable(method, n, own, stack.positions)
        )
        half: Halves | None = None
        try:
            if not run.reason:
                some = take_positions(stack, n)  # the first N may be dead, though others are not
                if method not in compiled:
                    report(f"preparing {method}", number, len(pairs))
                    compile_method(some, experiment, method, own, threads)
                    compiled.add(method)
                report(run.label, number, len(pairs))
                result, prepare_seconds, seconds, memory = measure(some, experiment, method, own, threads)
                run = replace(
                    run, result=result, prepare_seconds=prepare_seconds, seconds=seconds, memory=memory
                )
                if resolution:
                    half, findings = _halves(some, experiment, method, own, threads)
                    run = replace(run, findings=findings)
        except (XmistError, MemoryError) as error:
            run = replace(run, reason=_one_line(error))
        runs.append(run)
        halves.append(half)
    return runs, halves


def score_runs(
    runs: Sequence[MethodRun],
    regions: Regions,
    truth: Mapping[str, NDArray[Any]],
    halves: Sequence[Halves | None] | None = None,
) -> tuple[list[MethodRun], list[Mask]]:
    """Score runs, and return the pixels (y, x) that are scored of each that has a result.

    The scores use the pixels that no run flags. A run that flags more than 20 % of the sample or of bare beam
    is scored apart, on the pixels that it does not flag.
    """
    done = [run.result for run in runs if run.result is not None]
    if not done:
        return list(runs), []
    own = [ordinary(result) for result in done]
    anywhere: Mask = np.any(own, axis=0)
    areas = [mask for mask in (regions.inside, regions.outside) if mask is not None] or [anywhere]
    areas = [area & anywhere for area in areas]
    flagged = [max(_share(area & ~mask, area) for area in areas) for mask in own]
    apart = [share > MOST_FLAGGED for share in flagged]
    shared = np.all([mask for mask, alone in zip(own, apart, strict=True) if not alone] or own, axis=0)
    pixels = [mask if alone else shared for mask, alone in zip(own, apart, strict=True)]
    several = len(done) > 1
    scored = []
    rest = iter(zip(pixels, flagged, apart, strict=True))
    for run, half in zip(runs, halves or [None] * len(runs), strict=True):
        if run.result is None:
            scored.append(run)
            continue
        used, share, alone = next(rest)
        findings = run.findings
        if alone and several:
            text = (
                f"{run.label} flags {100 * share:.0f} % of the sample or of bare beam: its scores are those "
                "of other pixels than the scores of the other methods"
            )
            findings = (*findings, finding("scored-apart", text))
        scored.append(
            replace(
                run,
                findings=findings,
                pixels=int(used.sum()),
                flagged=share,
                apart=alone and several,
                sensitivity=_sensitivity(run.result, regions, used),
                sensitivity_median=_sensitivity(run.result, regions, used, robust=True),
                quality=score(run.result, regions, truth, used, half),
            )
        )
    return scored, pixels


def ordinary(result: Retrieval) -> Mask:
    """Return the pixels (y, x) that a result does not flag; values that positive=True clips are ordinary."""
    return np.asarray((result.flags | CLIPPED) == CLIPPED)


def _share(part: Mask, area: Mask) -> float:
    return int(np.count_nonzero(part)) / max(1, int(np.count_nonzero(area)))


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
    """Measure time without compilation, which a trial cannot always do in advance."""

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
    pixels: Mask,
    halves: Halves | None = None,
) -> dict[str, Quality]:
    """Return the quality of each channel on some pixels (y, x).

    By regions, by the truth, and by the results of halves of the positions.
    """
    quality = {}
    for name in CHANNELS_COMPARED:
        image = getattr(result, name)
        if image is None:
            continue
        found: dict[str, float | None] = {}
        if regions.outside is not None and regions.inside is not None:
            for key, robust in (("cnr", False), ("cnr_median", True)):
                found[key] = _number(cnr, image, regions.outside, regions.inside, mask=pixels, robust=robust)
        if halves is not None:
            found["resolution"] = _resolution(halves, name, pixels, result.experiment.effective_pixel)
        if name in truth:
            areas = {"": pixels}
            if regions.inside is not None:
                areas["_inside"] = pixels & regions.inside
            for where, mask in areas.items():
                pair = (image, truth[name])
                for key, robust in (("", False), ("_median", True)):
                    found[f"correlation{key}{where}"] = _number(correlation, *pair, mask=mask, robust=robust)
                    found[f"nrmse{key}{where}"] = _number(
                        nrmse, *pair, remove_mean=name == "phase", mask=mask, robust=robust
                    )
        quality[name] = Quality(**found)
    return quality


def _sensitivity(
    result: Retrieval, regions: Regions, pixels: Mask, *, robust: bool = False
) -> tuple[float, float] | None:
    if result.refraction_angle is None or regions.outside is None:
        return None
    try:
        return angular_sensitivity(result.refraction_angle, regions.outside, mask=pixels, robust=robust)
    except InputError:
        return None


def _halves(
    stack: SpeckleStack, experiment: Experiment, method: str, options: Mapping[str, Any], threads: int | None
) -> tuple[Halves | None, tuple[Finding, ...]]:
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
    channels = {
        name: (a, b)
        for name in CHANNELS_COMPARED
        if (a := getattr(one, name)) is not None and (b := getattr(other, name)) is not None
    }
    return Halves(channels, ordinary(one) & ordinary(other)), ()


def _one_line(error: Exception) -> str:
    if isinstance(error, InputError):
        return "; ".join(record.message for record in error.records)
    return " ".join(str(error).split()) or "not enough memory"


def agreement(
    images: Sequence[NDArray[Any] | None], pixels: Sequence[Mask], *, robust: bool = False
) -> NDArray[np.float64]:
    """Return the correlations (image, image) of all pairs on pixels (y, x) that are scored of both.

    `robust`: by medians. NaN where an image is missing or constant.
    """
    matrix = np.full((len(images), len(images)), np.nan)
    for row, one in enumerate(images):
        for column, other in enumerate(images[: row + 1]):
            if one is not None and other is not None:
                value = _number(correlation, one, other, mask=pixels[row] & pixels[column], robust=robust)
                matrix[row, column] = matrix[column, row] = math.nan if value is None else value
    return matrix


def _number(metric: Any, *arguments: Any, **named: Any) -> float | None:
    """Return a metric, or None where it is not defined for these images."""
    try:
        value = float(metric(*arguments, **named))
    except InputError:
        return None
    return value if math.isfinite(value) else None


def _resolution(halves: Halves, name: str, pixels: Mask, pixel: float) -> float | None:
    """Return the resolution of a channel in metres; `pixel` in metres."""
    if name not in halves.channels:
        return None
    try:
        found = fourier_ring_correlation(
            *halves.channels[name], pixel_size=pixel, mask=pixels & halves.pixels
        ).resolution
    except InputError:
        return None
    return found if math.isfinite(found) else 2.0 * pixel
