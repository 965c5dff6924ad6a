"""Check shifts of a periodic pattern."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.core.data import Retrieval
from xmist.core.findings import finding
from xmist.numerics.images.period import pattern_periods

Real = NDArray[Any]

_SMALL: Final = 1.5  # pixels: half of the least period that pixels resolve
_ROWS: Final = 16  # that the cache holds
_LINES: Final = 256  # rows that are looked at first
_LARGEST: Final = 0.999  # quantile of the shifts that counts as the largest


def check_period(result: Retrieval, reference: Real, weights: Real | None) -> Retrieval:
    """Return a result with a warning where its shifts exceed half the period of the reference.

    For methods that do not search; frames and weights (position, y, x). Start values may have resolved it.
    """
    if result.refraction_angle is None or result.options.get("initial") is not None:
        return result
    experiment = result.experiment
    pixels = experiment.effective_distance / experiment.effective_pixel
    if not _many_above(result.refraction_angle, result.flags, _SMALL / pixels):
        return result
    size = np.hypot(*result.refraction_angle)[result.flags == 0]
    size = size[np.isfinite(size)] * pixels
    largest = float(np.quantile(size, _LARGEST)) if size.size else 0.0
    if largest <= _SMALL:
        return result
    periods = pattern_periods(reference, None if weights is None else weights > 0)
    if not len(periods) or largest <= 0.5 * (period := float(np.hypot(*periods[0]))):
        return result
    message = (
        f"shifts reach {largest:.2g} pixels, but the pattern of the reference frames repeats every "
        f"{period:.2g} pixels, so that shifts above {0.5 * period:.2g} pixels are ambiguous: phase and "
        "refraction angle may be wrong by whole periods; use a diffuser that does not repeat, or give start "
        "values (initial)"
    )
    return replace(result, findings=(*result.findings, finding("shift-ambiguous", message)))


def _many_above(angle: Real, flags: NDArray[np.uint16], limit: float) -> bool:
    """Return whether the quantile of the angles (2, y, x) may be above a limit, without sorting them."""
    every = max(1, len(flags) // _LINES)
    if every > 1:  # where some rows have less than half of what it takes, all have less than that
        above, known = _count_above(angle[:, ::every], flags[::every], limit)
        if above < 0.5 * (1.0 - _LARGEST) * known:
            return False
    above, known = _count_above(angle, flags, limit)
    return above > (1.0 - _LARGEST) * known - 2.0


def _count_above(angle: Real, flags: NDArray[np.uint16], limit: float) -> tuple[int, int]:
    """Return how many of the angles are above a limit, and how many are known."""
    above = known = 0
    for start in range(0, len(flags), _ROWS):
        rows = slice(start, start + _ROWS)
        x, y = angle[:, rows]
        with np.errstate(over="ignore"):  # of pixels that are far off
            square = x * x + y * y
        square[flags[rows] > 0] = np.nan
        above += int(np.count_nonzero(square > 0.999 * limit**2))  # rounding
        known += int(np.count_nonzero(np.isfinite(square)))
    return above, known
