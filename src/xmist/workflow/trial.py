"""Estimate the time of a retrieval by a trial on a part of its frames."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from xmist.core.data import SpeckleStack
from xmist.core.errors import XmistError
from xmist.core.experiment import Experiment
from xmist.methods import retrieve

# Pixels: once to compile, and two parts whose difference does not contain the constant cost of a call.
_SIDES: Final = (64, 64, 256)
# Part of the frames that may be tried: a retrieval shall not take noticeably longer for it.
_SHARE: Final = 1 / 32
# Options that belong to whole frames; they hardly change the time.
_WHOLE: Final = frozenset({"background", "initial"})


def expected_seconds(
    stack: SpeckleStack,
    experiment: Experiment,
    method: str,
    options: Mapping[str, Any],
    threads: int | None,
) -> float | None:
    """Return about how long a retrieval will take, from the middle of the frames.

    None if the frames are too small for a trial, or if the method cannot work on the part.
    """
    y, x = stack.shape
    if _SIDES[-1] ** 2 > _SHARE * y * x or min(y, x) < _SIDES[-1]:
        return None
    general = {name: value for name, value in options.items() if name not in _WHOLE}
    spent = []
    for side in _SIDES:
        part = np.s_[:, (y - side) // 2 : (y + side) // 2, (x - side) // 2 : (x + side) // 2]
        weights = None if stack.weights is None else stack.weights[part]
        try:
            small = SpeckleStack(stack.reference[part], stack.sample[part], weights)
            start = time.perf_counter()
            retrieve(small, experiment, method=method, threads=threads, **general)
        except XmistError:
            return None
        spent.append(time.perf_counter() - start)
    _, little, much = spent
    tried, all_of_it = _SIDES[-1] ** 2, y * x
    slope = max(much - little, 0.5 * much) / (tried - _SIDES[1] ** 2)
    return much + slope * (all_of_it - tried)
