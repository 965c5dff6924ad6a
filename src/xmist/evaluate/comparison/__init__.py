"""Methods compared on the same frames: methods × numbers of exposures, with tables and figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xmist.core.data import Retrieval, SpeckleStack
from xmist.core.errors import InputError, XmistError, raise_errors
from xmist.core.experiment import Experiment
from xmist.core.progress import Progress
from xmist.evaluate.comparison.regions import Regions, find_regions, make_regions
from xmist.evaluate.comparison.request import exposure_faults, method_faults, option_faults
from xmist.evaluate.comparison.result import Comparison
from xmist.evaluate.comparison.runs import (
    CHANNELS_COMPARED,
    Quality,
    Run,
    agreement,
    compile_method,
    first,
    judge,
    measure,
    unable,
)
from xmist.methods import METHODS
from xmist.numerics.parallel import count_threads

__all__ = [
    "EXPOSURES",
    "METHODS_COMPARED",
    "Comparison",
    "Quality",
    "Regions",
    "Run",
    "compare",
    "find_regions",
    "make_regions",
]

# Those of Pavlov et al. 2020, and the whole equation over the whole image.
METHODS_COMPARED: Final = ("mist", "full-field", "umpa", "xsvt")
EXPOSURES: Final = (2, 4, 10)

Truth = Retrieval | Mapping[str, ArrayLike] | str | Path | object


def compare(
    stack: SpeckleStack,
    experiment: Experiment,
    *,
    methods: Sequence[str] = METHODS_COMPARED,
    exposures: Sequence[int] = EXPOSURES,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    regions: Mapping[str, Any] | Regions | None = None,
    truth: Truth | None = None,
    resolution: bool = True,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Run methods on the first N exposures of the same frames, and say how good each picture is.

    Parameters
    ----------
    stack : SpeckleStack
        Reference and sample frames.
    experiment : Experiment
        Geometry.
    methods : sequence of str
        Names of methods, see `xmist.METHODS`: the rows.
    exposures : sequence of int
        Numbers N of exposures, of which the first N are taken: the columns.
    options : mapping, optional
        By name of a method its options.
    regions : mapping or Regions, optional
        "outside", bare beam, and "inside", the sample away from its rim: a box [y0, y1, x0, x1] in pixels,
        ends excluded, a list of such boxes, or a (y, x) mask. What is not given is found in the frames.
    truth : optional
        What is right: a `Retrieval`, the path of one that was saved, or a mapping or object with the
        channels' names.
    resolution : bool
        Whether to measure the resolution, for which each method runs once more on either half of the
        exposures.
    threads : int, optional
        Threads to compute with; None takes one for each core that the process may use.
    progress : callable, optional
        Called with what is done, and how much of how much of it.

    Returns
    -------
    Comparison
        Results, tables and figures. A method that cannot work on N exposures is listed with the reason.

    Raises
    ------
    InputError
        Lists what is wrong with names, options, numbers, regions and truth; or says why no method can work.

    Notes
    -----
    The halves of N exposures are every other one: 0, 2, 4, … and 1, 3, 5, …; where half of N is less than a
    method needs there is no resolution. Methods run on a small part of the frames before their time is
    taken, so that compiling does not count.

    Examples
    --------
    >>> simulation = xmist.simulate.phantom("fine", shape=(48, 48), positions=2)
    >>> stack, experiment, truth = simulation
    >>> found = xmist.compare(
    ...     stack, experiment, methods=["mist", "mist-rapid"], exposures=[2], truth=truth, resolution=False
    ... )
    >>> [(run.label, run.reason) for run in found.runs]
    [('mist, N = 2', ''), ('mist-rapid, N = 2', 'needs at least 4 exposures')]
    """
    given: Any = options or {}
    names: Any = methods
    chosen = tuple(names) if isinstance(names, Iterable) and not isinstance(names, str) else (names,)
    faults = [*method_faults(chosen), *exposure_faults(exposures)]
    if isinstance(given, Mapping):
        faults += option_faults(given, chosen)
    else:
        faults.append(f"options are {given!r}; expected a mapping from methods to their options")
    try:
        count_threads(threads)
    except InputError as error:
        faults += error.faults
    right = _truth(truth, stack.shape, faults)
    try:
        found = make_regions(stack, regions)
    except InputError as error:
        faults += error.faults
    raise_errors(faults)
    pairs = [(name, int(n)) for name in chosen for n in exposures]
    reasons = {pair: unable(*pair, given.get(pair[0], {}), stack.positions) for pair in pairs}
    if all(reasons.values()):
        raise InputError(
            "no method can work on these frames: "
            + "; ".join(f"{name}, N = {n}: {reason}" for (name, n), reason in reasons.items())
        )
    tell = progress or (lambda *_: None)
    runs = []
    compiled: set[str] = set()
    for number, (name, n) in enumerate(pairs):
        own = given.get(name, {})
        reason = reasons[name, n]
        if not reason:
            try:
                some = first(stack, n)
            except InputError as error:  # the first N may be dead, though others are not
                reason = "; ".join(error.faults)
        if reason:
            runs.append(Run(method=name, exposures=n, options=own, reason=reason))
            continue
        if name not in compiled:
            tell(f"preparing {name}", number, len(pairs))
            compile_method(some, experiment, name, own, threads)
            compiled.add(name)
        tell(f"{name}, N = {n}", number, len(pairs))
        runs.append(_run(some, experiment, name, own, found, right, resolution, threads))
    tell("comparing", len(pairs), len(pairs))
    done = [run for run in runs if run.result is not None]
    if not done:
        raise InputError(
            "no method could work on these frames: " + "; ".join(f"{run.label}: {run.reason}" for run in runs)
        )
    return Comparison(
        experiment=experiment,
        shape=stack.shape,
        runs=tuple(runs),
        regions=found,
        truth=right,
        agreement={
            channel: agreement([getattr(run.result, channel) for run in done])
            for channel in CHANNELS_COMPARED
        },
        frames=_overview(stack),
    )


def _run(
    some: SpeckleStack,
    experiment: Experiment,
    name: str,
    options: Mapping[str, Any],
    regions: Regions,
    truth: Mapping[str, NDArray[Any]],
    resolution: bool,
    threads: int | None,
) -> Run:
    n = some.positions
    try:
        result, prepare_seconds, seconds, memory = measure(some, experiment, name, options, threads)
    except (XmistError, MemoryError) as error:
        reason = str(error) or "not enough memory"
        return Run(method=name, exposures=n, options=options, reason=" ".join(reason.split()))
    halves, remarks = None, []
    if resolution:
        least = METHODS[name].minimum_exposures
        if n // 2 < max(1, least):
            remarks.append(
                f"no resolution: half of {n} exposures is less than the {max(1, least)} that {name} needs"
            )
        else:
            try:
                one, other = (
                    measure(first(some, slice(start, n, 2)), experiment, name, options, threads)[0]
                    for start in (0, 1)
                )
                halves = one, other
            except (XmistError, MemoryError) as error:
                remarks.append(f"no resolution: {' '.join(str(error).split()) or 'not enough memory'}")
    quality, sensitivity = judge(result, regions, truth, halves)
    return Run(
        method=name,
        exposures=n,
        options=options,
        result=result,
        remarks=tuple(remarks),
        prepare_seconds=prepare_seconds,
        seconds=seconds,
        memory=memory,
        sensitivity=sensitivity,
        quality=quality,
    )


def _truth(truth: Truth | None, shape: tuple[int, int], faults: list[str]) -> dict[str, NDArray[Any]]:
    """Return what is right by channel."""
    if truth is None:
        return {}
    if isinstance(truth, (str, Path)):
        from xmist.io import open_result

        try:
            truth = open_result(truth)
        except InputError as error:
            faults += [f"truth: {fault}" for fault in error.faults]
            return {}
    found = {}
    for name in CHANNELS_COMPARED:
        given = truth.get(name) if isinstance(truth, Mapping) else getattr(truth, name, None)
        if given is None:
            continue
        image = np.asarray(given)
        if image.shape != shape or image.dtype.kind not in "iuf":
            faults.append(
                f"truth has {name} of shape {image.shape} and dtype {image.dtype}; expected numbers of the "
                f"frames' {shape}"
            )
        else:
            found[name] = image
    if not found and not faults:
        faults.append(f"truth has none of {', '.join(CHANNELS_COMPARED)}; expected one at least")
    return found


def _overview(stack: SpeckleStack) -> NDArray[np.float32]:
    """Return the sample frames over the reference frames, summed over the exposures."""
    sample, reference = (
        np.where(np.isfinite(frames), frames, 0).sum(0, dtype=np.float64)
        for frames in (stack.sample, stack.reference)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.asarray(sample / reference, np.float32)
    if stack.weights is not None:
        ratio[(stack.weights <= 0).all(0)] = np.nan
    ratio[~np.isfinite(ratio)] = np.nan
    return ratio
