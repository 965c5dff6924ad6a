"""Whether the sample has structure that windows smooth: their angle is then wrong by what they do not follow.

Refraction changes the intensity by −∇·u. What is alike in it at all positions and finer than a window gives
the part of u that is finer, without windows. Two halves of the positions have independent noise and speckles,
so that the mean of their product is that of the sample.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.core.data import Retrieval
from xmist.core.findings import Finding, finding
from xmist.numerics.operators.finite_transport import sampled, spline_coefficients
from xmist.numerics.operators.stencils import gradient
from xmist.numerics.solvers.poisson import inverse_laplacian

Real = NDArray[Any]

_POSITIONS: Final = 4  # that are looked at
_BLOCK: Final = 32  # pixels a side
_LARGEST: Final = 0.95  # quantile of the blocks: the sample may cover a small part
_MISSED: Final = 0.058  # pixels, rms of both components of the finer part
_WHOLE: Final = 2.3  # times that (rms, a component) is missed in all: windows smooth what is coarser, too


def describe_fine_structure(
    result: Retrieval,
    reference: Real,
    sample: Real,
    weights: Real | None,
    window: int,
    *,
    threads: int | None = None,
) -> list[Finding]:
    """Return a finding where structure finer than a window makes the angle wrong.

    Frames and weights (position, y, x), the reference finite; pixels of weight 0 or with a flag are left out.
    """
    if len(reference) < 2 or result.shift is None:
        return []
    shift = np.ascontiguousarray(np.nan_to_num(result.shift), np.float32)
    known = result.flags == 0
    level = float(reference.mean(dtype=np.float64))
    # Squares of other units may leave single precision.
    unit = np.float32(1.0 / level if level > 0.0 else 1.0)
    parts = []
    number = min(len(reference), _POSITIONS)
    for half in (range(0, number, 2), range(1, number, 2)):
        seen, light = np.zeros(known.shape, np.float32), np.zeros(known.shape, np.float32)
        for n in half:
            model = sampled(spline_coefficients(unit * reference[n], threads=threads), shift, threads=threads)
            used = known & np.isfinite(sample[n])
            if weights is not None:
                used &= weights[n] > 0
            model[~used] = 0.0
            seen += unit * np.where(used, sample[n], np.float32(0.0)) * model
            light += model * model
        parts.append(_finer(seen, light, window, threads))
    product = np.where(known, (parts[0] * parts[1]).sum(axis=0), np.float32(0.0))
    tall, wide = (max(1, size // _BLOCK) for size in known.shape)
    rows, columns = (
        np.array_split(np.arange(size), n) for size, n in zip(known.shape, (tall, wide), strict=True)
    )
    means = [float(product[np.ix_(y, x)].mean(dtype=np.float64)) for y in rows for x in columns]
    missed = float(np.sqrt(max(np.quantile(means, _LARGEST), 0.0)))
    if missed < _MISSED:
        return []
    message = (
        f"the sample has structure finer than a window of {window} pixels, which smooths it: there the shift "
        f"is wrong by about {_WHOLE * missed:.2g} pixels (rms), and transmission and dark-field suffer; use "
        "a smaller window with more positions, or full-field"
    )
    return [finding("structure-below-window", message)]


def _finer(seen: Real, light: Real, window: int, threads: int | None) -> Real:
    """Return the part of u (2, y, x) in pixels that is finer than a window, from Σ S M and Σ M² (y, x)."""
    from scipy.ndimage import uniform_filter

    enough = light > 0.0
    change = np.divide(seen, light, out=np.ones_like(seen), where=enough) - np.float32(1.0)
    change -= uniform_filter(change, window, mode="nearest")
    change[~enough] = 0.0
    out: Real = -gradient(inverse_laplacian(change, overwrite=True, threads=threads))
    return out
