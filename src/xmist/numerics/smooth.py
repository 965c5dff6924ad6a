"""Gaussian smoothing with the even mirror."""

from __future__ import annotations

from typing import Any

import scipy.ndimage
from numpy.typing import NDArray

from xmist.numerics.parallel import for_blocks

Real = NDArray[Any]


def gaussian(images: Real, sigma: float, *, threads: int | None = None) -> None:
    """Smooth each image of a stack in place.

    Parameters
    ----------
    images : (number, y, x) float array
        Images.
    sigma : float
        Standard deviation in pixels; 0 leaves them as they are.
    threads : int, optional
        Threads, at most one an image; the result does not depend on it.

    Examples
    --------
    >>> import numpy as np
    >>> images = np.ones((1, 8, 8))
    >>> gaussian(images, 2.0)
    >>> round(float(images[0, 0, 0]), 12)
    1.0
    """
    if sigma > 0.0:

        def task(start: int, stop: int) -> None:
            for image in images[start:stop]:
                scipy.ndimage.gaussian_filter(image, sigma, mode="reflect", output=image)

        for_blocks(task, len(images), threads=threads, block=1)
