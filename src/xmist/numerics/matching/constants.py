"""Constants of the kernels of `xmist.numerics.matching.match`."""

from __future__ import annotations

from typing import Final

# Sums are interpolated between 5 × 5 shifts half a pixel apart by a polynomial through all of them: good to
# 0.01 % at an eighth of the sampling frequency and 0.4 % at a quarter, where speckles have little power.
NODES: Final = 5
SIDE: Final = 1  # pixels that these nodes reach
TAPS: Final = 6  # pixels on either side that half a pixel is interpolated from
MARGIN: Final = SIDE + TAPS

MEANS: Final = 0  # I_S = T (R̄ + V (R − R̄)), R̄ the windowed mean as a map
SCALE: Final = 1  # I_S = T R
OFFSET: Final = 2  # I_S = a + b R, b ≥ 0: the zero-normalised correlation

NOTHING: Final = 1  # fewer pairs of pixels than unknowns
ON_EDGE: Final = 2  # the minimum lies on the edge of the search range
FLAT: Final = 4  # the reference has no contrast in the window
ROUGH: Final = 8  # no minimum near the best integer shift

COLUMNS: Final = 64  # pixels a row of a tile, at most
STRIP: Final = 16  # rows that are refined at once: the sums at all nodes then stay in the core's cache
