"""Second-order stencils on unknown images, each with its exact adjoint.

All work in pixel units on (y, x) images of float32 or float64 with the even mirror at the border (a value
outside the image equals its mirror image about the pixel edge; no flux leaves).

==================  =======================================  =============================
operator            stencil                                  adjoint
==================  =======================================  =============================
`gradient`          (u[i+1] − u[i−1])/2 along x and y        −`divergence`
`divergence`        the same of a vector, odd mirror         −`gradient`
`laplacian`         5 points                                 itself
==================  =======================================  =============================
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmist.numerics.compiled import jit
from xmist.numerics.parallel import for_blocks

Real = NDArray[Any]


@jit
def _gradient(image, scale, out, start, stop):  # type: ignore[no-untyped-def]
    height, width = image.shape
    half = scale * 0.5
    for y in range(start, stop):
        above, below = max(y - 1, 0), min(y + 1, height - 1)
        for x in range(width):
            out[1, y, x] = half * (image[below, x] - image[above, x])
        out[0, y, 0] = half * (image[y, 1] - image[y, 0])
        out[0, y, width - 1] = half * (image[y, width - 1] - image[y, width - 2])
        for x in range(1, width - 1):
            out[0, y, x] = half * (image[y, x + 1] - image[y, x - 1])


@jit
def _divergence(vector, out, start, stop):  # type: ignore[no-untyped-def]
    height, width = out.shape
    for y in range(start, stop):
        for x in range(width):
            right = vector[0, y, x + 1] if x + 1 < width else -vector[0, y, x]
            left = vector[0, y, x - 1] if x > 0 else -vector[0, y, x]
            below = vector[1, y + 1, x] if y + 1 < height else -vector[1, y, x]
            above = vector[1, y - 1, x] if y > 0 else -vector[1, y, x]
            out[y, x] = ((right - left) + (below - above)) / 2


@jit
def _laplacian(image, out, start, stop):  # type: ignore[no-untyped-def]
    height, width = image.shape
    for y in range(start, stop):
        above, below = max(y - 1, 0), min(y + 1, height - 1)
        for x in range(width):
            centre = image[y, x]
            left, right = image[y, max(x - 1, 0)], image[y, min(x + 1, width - 1)]
            out[y, x] = (
                (image[above, x] - centre) + (image[below, x] - centre) + (left - centre) + (right - centre)
            )


def gradient(image: Real, *, scale: float = 1.0, threads: int | None = None) -> Real:
    """Return `scale` times the derivatives (2, y, x) along x and y per pixel, by centred differences."""
    out = np.empty((2, *image.shape), image.dtype)
    factor = image.dtype.type(scale)
    for_blocks(lambda a, b: _gradient(image, factor, out, a, b), image.shape[0], threads=threads)
    return out


def divergence(vector: Real, *, threads: int | None = None) -> Real:
    """Return ∂x v_x + ∂y v_y (y, x) per pixel of (2, y, x), the negative adjoint of `gradient`."""
    out: Real = np.empty_like(vector[0])
    for_blocks(lambda a, b: _divergence(vector, out, a, b), out.shape[0], threads=threads)
    return out


def laplacian(image: Real, *, threads: int | None = None) -> Real:
    """Return ∇²u (y, x) per pixel² by the 5-point stencil; it is its own adjoint."""
    out = np.empty_like(image)
    for_blocks(lambda a, b: _laplacian(image, out, a, b), image.shape[0], threads=threads)
    return out
