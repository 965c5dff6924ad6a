"""The flags of a pixel: a registry with bit, name and meaning of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Flag:
    """A quality flag of a pixel.

    Parameters
    ----------
    bit : int
        Value in the flag image, a power of two.
    name : str
        Short name.
    meaning : str
        One sentence.
    """

    bit: int
    name: str
    meaning: str


BAD_REFERENCE: Final = 1
BAD_SAMPLE: Final = 2
MASKED: Final = 4
FILLED: Final = 8
ILL_DETERMINED: Final = 16
UNDETERMINED: Final = 32
CLIPPED: Final = 64
NOT_POSITIVE: Final = 128
SEARCH_EDGE: Final = 256

FLAGS: Final[tuple[Flag, ...]] = (
    Flag(BAD_REFERENCE, "bad_reference", "a reference frame is NaN, infinite or not positive here"),
    Flag(BAD_SAMPLE, "bad_sample", "a sample frame is NaN or infinite here"),
    Flag(MASKED, "masked", "a frame has weight 0 here"),
    Flag(FILLED, "filled", "too few usable frames; the value comes from neighbouring pixels"),
    Flag(
        ILL_DETERMINED,
        "ill_determined",
        "reference frames are nearly proportional or have no contrast here; the value may come from "
        "neighbouring pixels",
    ),
    Flag(UNDETERMINED, "undetermined", "no frame determines this pixel; its channels are NaN"),
    Flag(CLIPPED, "clipped", "a negative dark-field was set to 0 as positive=True asks"),
    Flag(
        NOT_POSITIVE,
        "not_positive",
        "the transmission is 0 or negative here; phase and dark-field are NaN",
    ),
    Flag(SEARCH_EDGE, "search_edge", "the best shift lies on the edge of the search range"),
)


def count_flags(flags: NDArray[np.uint16]) -> dict[str, int]:
    """Count the flagged pixels by the flag's name.

    Parameters
    ----------
    flags : (y, x) uint16 array
        Flag image of a `Retrieval`.

    Returns
    -------
    dict
        Number of pixels for each flag that occurs.

    Examples
    --------
    >>> import numpy as np
    >>> count_flags(np.array([[0, FILLED], [FILLED | MASKED, 0]], np.uint16))
    {'masked': 1, 'filled': 2}
    """
    counts = {flag.name: int(np.count_nonzero(flags & flag.bit)) for flag in FLAGS}
    return {name: number for name, number in counts.items() if number}
