"""Findings about the flags of a result, for every method."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xmist.core import flags as flag
from xmist.core.findings import Finding, finding, percent

_SMALL_SHARE = 0.002  # of the pixels: not worth a finding
ROUGH_SHIFT = 0.1  # pixels, rms, of a shift against its neighbours


def describe_flags(flags: NDArray[np.uint16]) -> list[Finding]:
    """Return findings about the (y, x) uint16 flags of a result."""
    found = []
    share = share_of(flags, flag.ILL_DETERMINED)
    if share > _SMALL_SHARE:
        message = (
            f"{percent(share)} of the pixels are ill-determined, because their reference frames are "
            "nearly proportional; use smoothing of 1 to 3 pixels, or more positions"
        )
        found.append(finding("ill-determined", message))
    share = share_of(flags, flag.UNDETERMINED)
    if share > 0:
        message = f"{percent(share)} of the pixels are not determined by any frame and are NaN"
        found.append(finding("undetermined", message))
    share = share_of(flags, flag.NOT_POSITIVE)
    if share > 0:
        message = (
            f"{percent(share)} of the pixels have a transmission of 0 or below; phase and dark-field are "
            "NaN there"
        )
        found.append(finding("transmission-not-positive", message))
    return found


def share_of(flags: NDArray[np.uint16], bit: int) -> float:
    """Return the share of the pixels that have a flag."""
    return float(np.count_nonzero(flags & bit) / flags.size)
