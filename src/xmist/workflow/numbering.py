"""Numbers of projections in file names: where they begin, and in which steps."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

from xmist.core.errors import InputError


@dataclass(frozen=True)
class Numbering:
    """Numbers of projections: `first`, `first + step`, …; `doubt` states what is uncertain."""

    first: int = 0
    step: int = 1
    doubt: str = ""

    def index(self, number: int) -> int:
        """Return the index of the projection with a number."""
        return (number - self.first) // self.step


def find_numbering(numbers: Collection[int], count: int | None = None, first: int | None = None) -> Numbering:
    """Return the numbering of projections of which these numbers exist, possibly not all.

    `count` is the number of projections of the whole series and `first` the number of its first, where known.
    """
    lowest, highest = min(numbers), max(numbers)
    if first is not None and lowest < first:
        raise InputError(
            f"series.first is {first}, and a file has the number {lowest}; expected the lowest number",
            code="value-invalid",
        )
    start = lowest if first is None else first
    step = math.gcd(*(number - start for number in numbers)) or 1
    steps = (
        f"the numbers in the file names rise in steps of {step}: projections may be missing (state "
        "series.expected)"
    )
    begins = (
        f"the numbers in the file names begin with {lowest}: projections before it may be missing (state "
        "series.first)"
    )
    if count is None:
        doubts = [begins] * (first is None and lowest != 0) + [steps] * (step > 1)
        return Numbering(start, step, "; ".join(doubts))
    if (highest - start) // step + 1 == count:  # complete
        return Numbering(start, step)
    if first is not None:
        return Numbering(first, step if highest - first >= count else 1)
    if highest < count:
        return Numbering(0, 1, begins if lowest > 0 else "")
    if highest == count:
        return Numbering(1, 1)
    step = step if highest - lowest >= count else 1
    return Numbering(lowest, step, begins if lowest >= step else "")
