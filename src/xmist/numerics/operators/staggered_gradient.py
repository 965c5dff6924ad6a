"""Gradient and divergence on the faces between pixels, which together make up the 5-point Laplacian.

A face image has shape (2, y, x). Entry (0, y, x) lies between the pixels (y, x) and (y, x + 1), entry (1, y,
x) between (y, x) and (y + 1, x); the last column of the first and the last row of the second are outside the
image and 0, so that no flux leaves. The divergence of differences across faces is the 5-point Laplacian of
`stencils` exactly; that of centred differences would not see the checkerboard.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmist.numerics.compiled import jit
from xmist.numerics.operators.derivatives import RADIUS, copy_row, mirror
from xmist.numerics.parallel import for_blocks

Real = NDArray[Any]

# Sixth-order interpolation half-way between two pixels.
_W1, _W2, _W3 = 150.0 / 256.0, -25.0 / 256.0, 3.0 / 256.0


@jit
def _between(a, b, a2, b2, a3, b3):  # type: ignore[no-untyped-def]
    """Value between a and b; their mean where the interpolation overshoots, next to a step."""
    dtype = type(a)
    value = dtype(_W1) * (a + b) + dtype(_W2) * (a2 + b2) + dtype(_W3) * (a3 + b3)
    return value if value > dtype(0.5) * min(a, b) else dtype(0.5) * (a + b)


@jit
def _add_rows(potential, frame, weights, flow, total, start, stop):  # type: ignore[no-untyped-def]
    height, width = frame.shape
    padded = np.empty(width + 2 * RADIUS, frame.dtype)
    for y in range(start, stop):
        for i in range(RADIUS):
            padded[i] = frame[y, mirror(i - RADIUS, width)]
            padded[width + RADIUS + i] = frame[y, mirror(width + i, width)]
        copy_row(frame[y], padded[RADIUS:])
        for x in range(width - 1):
            value = _between(
                padded[x + 3], padded[x + 4], padded[x + 2], padded[x + 5], padded[x + 1], padded[x + 6]
            )
            change = potential[y, x + 1] - potential[y, x]
            if weights is not None:
                weight = min(weights[y, x], weights[y, x + 1])
                change *= weight
                value *= weight
            flow[0, y, x] += change
            total[0, y, x] += value
        if y == height - 1:
            continue
        u2, u3 = frame[mirror(y - 1, height)], frame[mirror(y - 2, height)]
        d2, d3 = frame[mirror(y + 2, height)], frame[mirror(y + 3, height)]
        for x in range(width):
            value = _between(frame[y, x], frame[y + 1, x], u2[x], d2[x], u3[x], d3[x])
            change = potential[y + 1, x] - potential[y, x]
            if weights is not None:
                weight = min(weights[y, x], weights[y + 1, x])
                change *= weight
                value *= weight
            flow[1, y, x] += change
            total[1, y, x] += value


@jit
def _divergence_rows(flow, out, start, stop):  # type: ignore[no-untyped-def]
    width = out.shape[1]
    for y in range(start, stop):
        for x in range(width):
            left = flow[0, y, x - 1] if x > 0 else 0
            above = flow[1, y - 1, x] if y > 0 else 0
            out[y, x] = (flow[0, y, x] - left) + (flow[1, y, x] - above)


def add_flow(
    potential: Real,
    frame: Real,
    flow: Real,
    total: Real,
    *,
    weights: Real | None = None,
    threads: int | None = None,
) -> None:
    """Add ∇Λ and I on the faces to running sums (2, y, x), whose ratio is g in Σ I g = Σ ∇Λ.

    `potential` Λ and `frame` I > 0 (y, x), I interpolated to the faces to sixth order; `weights` (y, x): a
    face has the smaller of its two.
    """
    for_blocks(
        lambda a, b: _add_rows(potential, frame, weights, flow, total, a, b), frame.shape[0], threads=threads
    )


def staggered_divergence(flow: Real, *, threads: int | None = None) -> Real:
    """Return the flow out of each pixel (y, x), from a flow through the faces (2, y, x)."""
    out: Real = np.empty_like(flow[0])
    for_blocks(lambda a, b: _divergence_rows(flow, out, a, b), out.shape[0], threads=threads)
    return out
