"""Float images as 16-bit codes, packed small enough to travel in a page.

A code is a whole number: 1 to 65533 stand for `low + (code - 1) * step`, 0 for a value below that range,
65534 for one above it, and 65535 for no value. Neighbouring pixels are alike, so the codes are stored as
differences from what their neighbours predict, low bytes first and high bytes after them, and compressed.
"""

from __future__ import annotations

import base64
import io
import zlib
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xmist.view.figures.page import NO_VALUE as HOLE

Codes16 = NDArray[np.uint16]

BELOW: Final = 0
FIRST: Final = 1
LAST: Final = 65533
ABOVE: Final = 65534
NO_VALUE: Final = 65535

# A step of a 32nd of the noise of a pixel adds a hundredth of it (1/32/√12), and leaves about nine bits a
# pixel to store instead of sixteen.
_STEPS_IN_NOISE: Final = 32.0
# Far values would take the range from all others: it ends this many inner ranges away from the inner range.
_INNER: Final = (0.1, 99.9)
_FARTHEST: Final = 8.0
_LOOKED_AT: Final = 1 << 20  # pixels that tell range and noise
# The median of |x| of a normal distribution, in standard deviations.
_NORMAL_MEDIAN: Final = 0.674489750196082

PREDICTORS: Final = ("left", "plane")


@dataclass(frozen=True, eq=False)
class Codes:
    """An image as codes with their scale."""

    codes: Codes16  # (y, x), the codes
    low: float  # value of code 1
    step: float  # difference of the values of two neighbouring codes

    def values(self) -> NDArray[np.float64]:
        """Return the (y, x) values back: NaN for no value, and infinities beyond the range."""
        values = self.low + (self.codes.astype(np.float64) - FIRST) * self.step
        values[self.codes == BELOW] = -np.inf
        values[self.codes == ABOVE] = np.inf
        values[self.codes == NO_VALUE] = np.nan
        return values


def quantise(image: ArrayLike) -> Codes:
    """Return an image as 16-bit codes.

    `image` (y, x).
    """
    array = np.asarray(image)
    finite = np.isfinite(array)
    codes = np.full(array.shape, NO_VALUE, np.uint16)
    codes[array == -np.inf] = BELOW
    codes[array == np.inf] = ABOVE
    known = array[finite].astype(np.float64)
    if not known.size:
        return Codes(codes, 0.0, 1.0)
    low, high = _range(known)
    step = max((high - low) / (LAST - FIRST), _noise(array) / _STEPS_IN_NOISE)
    step = step or abs(low) * float(np.finfo(np.float32).eps) or 1.0  # one value alone: as fine as it is
    found = np.rint((known - low) / step) + FIRST
    found[known < low] = BELOW
    found[known > high] = ABOVE
    codes[finite] = found.astype(np.uint16)
    return Codes(codes, low, step)


def pack(codes: Codes16) -> tuple[str, str]:
    """Pack codes as text.

    `codes` (y, x).
    """
    left = np.diff(codes, axis=1, prepend=np.uint16(0))  # modulo 65536
    plane = np.diff(left, axis=0, prepend=np.uint16(0))
    choices = {"left": _folded(left), "plane": _folded(plane)}
    predictor = min(choices, key=lambda name: _bits(choices[name]))
    halves = np.ascontiguousarray(choices[predictor], dtype="<u2").view(np.uint8).reshape(-1, 2).T
    # What is left is close to noise, where a higher level finds nothing more.
    return base64.b64encode(zlib.compress(halves.tobytes(), 4)).decode("ascii"), predictor


def png_text(parts: NDArray[Any], colours: str) -> str:
    """Return a small image as PNG in base64: `parts` (y, x) from 0 to 1 by a colour map.

    NaN has a colour of its own.
    """
    from matplotlib import colormaps
    from matplotlib.image import imsave

    painted = colormaps[colours].with_extremes(bad=HOLE)(np.ma.masked_invalid(parts), bytes=True)
    buffer = io.BytesIO()
    imsave(buffer, painted, format="png")
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def unpack(text: str, shape: tuple[int, int], predictor: str) -> Codes16:
    """Return back the codes that `pack` packed, as the page does.

    Returns (y, x).
    """
    halves = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8).reshape(2, -1).astype(np.uint16)
    folded = (halves[0] | (halves[1] << 8)).reshape(shape)
    codes = (folded >> 1) ^ (0 - (folded & 1))
    codes = np.cumsum(codes, axis=1, dtype=np.uint16)
    return np.cumsum(codes, axis=0, dtype=np.uint16) if predictor == "plane" else codes


def _folded(differences: Codes16) -> Codes16:
    """Return 0, -1, 1, -2, ... the numbers 0, 1, 2, 3, ..., so that small ones have an empty high byte."""
    signed = differences.view(np.int16)
    folded: Codes16 = ((signed << 1) ^ (signed >> 15)).view(np.uint16)
    return folded


def _bits(folded: Codes16) -> float:
    """Return the mean number of bits of some of the numbers."""
    looked_at = some(folded).astype(np.float64)
    return float(np.mean(np.log2(looked_at + 1.0))) if looked_at.size else 0.0


def some(values: NDArray[Any]) -> NDArray[Any]:
    """Return a sample of the values, evenly spread."""
    flat = values.reshape(-1)
    return flat[:: max(1, flat.size // _LOOKED_AT)]


def _range(known: NDArray[np.float64]) -> tuple[float, float]:
    low, high = float(known.min()), float(known.max())
    inner_low, inner_high = (float(limit) for limit in np.percentile(some(known), _INNER))
    reach = _FARTHEST * (inner_high - inner_low)
    if reach > 0.0:
        low, high = max(low, inner_low - reach), min(high, inner_high + reach)
    return low, high


def _noise(array: NDArray[Any]) -> float:
    """Estimate the standard deviation of the noise of a pixel, from differences that no slope has part in."""
    if min(array.shape) < 2:
        return 0.0
    skip = max(1, array.shape[0] * array.shape[1] // _LOOKED_AT)
    rows = np.arange(0, array.shape[0] - 1, skip)
    upper, lower = array[rows].astype(np.float64), array[rows + 1].astype(np.float64)
    with np.errstate(invalid="ignore"):  # infinities
        mixed = np.abs(np.diff(upper - lower, axis=1))
    mixed = mixed[np.isfinite(mixed)]
    return float(np.median(mixed)) / (2.0 * _NORMAL_MEDIAN) if mixed.size else 0.0
