"""What lies beyond the border of the frames, and which part of a fit lies inside.

A fit continues frames and unknowns as even mirrors, so that nothing flows through its border. A margin of
pixels of weight 0 moves that border away from the frames.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

MARGIN: Final = 0  # pixels on each side; 0: nothing flows through the border of the frames


def with_margin(images: NDArray[Any], beyond: float | None = None) -> NDArray[Any]:
    """Return images (…, y, x) with a margin that holds their even mirror, or one value."""
    if MARGIN == 0:
        return images
    widths = [(0, 0)] * (images.ndim - 2) + [(MARGIN, MARGIN)] * 2
    if beyond is None:
        return np.pad(images, widths, mode="symmetric")
    return np.pad(images, widths, constant_values=beyond)


def inside(images: NDArray[Any]) -> NDArray[Any]:
    """Return images (…, y, x) without their margin."""
    height, width = images.shape[-2:]
    return images[..., MARGIN : height - MARGIN, MARGIN : width - MARGIN]
