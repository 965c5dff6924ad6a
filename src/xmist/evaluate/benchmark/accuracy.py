"""The accuracy of methods on phantoms by wave optics."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from xmist.core.data import Retrieval, SpeckleStack
from xmist.core.errors import XmistError
from xmist.core.experiment import Experiment
from xmist.core.progress import Progress
from xmist.evaluate.benchmark.request import SEED, method_options
from xmist.evaluate.benchmark.tables import CHANNELS, Accuracy
from xmist.evaluate.comparison.runs import first, measure, unable
from xmist.evaluate.metrics import correlation, nrmse
from xmist.simulate import phantom


def measure_accuracy(
    methods: Sequence[str],
    cases: Sequence[str],
    exposures: Sequence[int],
    size: int,
    threads: int | None,
    tell: Progress,
) -> Iterable[Accuracy]:
    """Return one row a phantom, N and method."""
    total = len(cases) * len(exposures) * len(methods)
    done = 0
    for case in cases:
        tell(f"simulating {case}", done, total)
        stack, experiment, truth = phantom(case, shape=(size, size), positions=max(exposures), seed=SEED)
        for number in exposures:
            for method in methods:
                tell(f"accuracy of {method}", done, total)
                yield _score(first(stack, number), experiment, truth, method, case, threads)
                done += 1


def _score(
    stack: SpeckleStack, experiment: Experiment, truth: Any, method: str, case: str, threads: int | None
) -> Accuracy:
    n, options = stack.positions, method_options(method)
    reason = unable(method, n, options, n)
    scores: dict[str, tuple[float, float]] = {}
    if not reason:
        try:
            result = measure(stack, experiment, method, options, threads)[0]
            scores = dict(_scores(result, truth))
        except XmistError as error:
            reason = " ".join(str(error).split())
    return Accuracy(method=method, case=case, exposures=n, scores=scores, reason=reason)


def _scores(result: Retrieval, truth: Any) -> Iterable[tuple[str, tuple[float, float]]]:
    for name in CHANNELS:
        found, right = getattr(result, name), getattr(truth, name)
        # Where the truth is the same everywhere there is nothing to correlate with.
        if found is None or np.ptp(right) == 0:
            continue
        error = nrmse(found, right, remove_mean=name == "phase")
        yield name, (correlation(found, right), error)
