"""Methods and numbers of positions that are compared by default: the only list beside the registry.

They are those of Pavlov et al. 2020 (Table I and Fig. 2 of doi:10.1088/2040-8986/abc313), and `full-field`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

POSITIONS_COMPARED: Final = (2, 4, 10)

# With their options in the demo: the windows of the paper have 5 × 5 pixels, and `mist` pixel by pixel is too
# noisy at two positions.
DEMO_OPTIONS: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {"mist": {"smoothing": 2.0}, "full-field": {}, "umpa": {"window": 5}, "xsvt": {"window": 5}}
)
METHODS_COMPARED: Final = tuple(DEMO_OPTIONS)
DEMO_METHODS: Final = METHODS_COMPARED[:2]  # without window matching, which takes longest to compile

# The dark-field's contrast-to-noise ratio for N = 2, 4 and 10 in Table I of the paper.
PAPER_CNR: Final[Mapping[str, tuple[float, float, float]]] = MappingProxyType(
    {"umpa": (4.6, 17.9, 30.8), "xsvt": (6.9, 11.6, 17.1), "mist": (10.9, 22.6, 23.1)}
)
# In the order of the paper, with what came later. The berry attenuates, for which `mist-gradient-flow` needs
# an option.
PAPER_OPTIONS: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {
        **{name: DEMO_OPTIONS[name] for name in PAPER_CNR},
        "mist-gradient-flow": {"attenuation_smoothing": 16.0},
        "full-field": {},
    }
)


def usual_positions(available: int) -> tuple[int, ...]:
    """Return the numbers of positions to compare where so many are available.

    Examples
    --------
    >>> usual_positions(2), usual_positions(6), usual_positions(20)
    ((2,), (2, 4, 6), (2, 4, 10))
    """
    most = min(available, POSITIONS_COMPARED[-1])
    return (*(number for number in POSITIONS_COMPARED if number < most), most)
