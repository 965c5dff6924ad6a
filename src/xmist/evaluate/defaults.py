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
QUICK_METHODS: Final = METHODS_COMPARED[:2]  # without window matching, which takes longest to compile
