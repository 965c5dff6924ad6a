"""Bare beam, found in the frames: by the ratio of sample to reference, or by how much the sample changed."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Image = NDArray[Any]

_CLUSTER: Final = 0.05  # of the blocks that bare beam must hold


def block_sums(
    reference: Image, sample: Image, weights: Image | None, block: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return sums of a reference, a sample frame (y, x) and the good pixels over blocks; over all for 0."""
    good = np.isfinite(reference) & np.isfinite(sample) & (reference > 0)
    if weights is not None:
        good &= weights > 0
    parts = (np.where(good, reference, np.float32(0.0)), np.where(good, sample, np.float32(0.0)), good)
    if block == 0:
        first, second, third = (np.array([part.sum(dtype=np.float64)]) for part in parts)
        return first, second, third
    side = min(block, *reference.shape)
    height, width = (size // side for size in reference.shape)
    summed = [
        part[: height * side, : width * side]
        .reshape(height, side, width * side)
        .sum(axis=1, dtype=np.float64)
        .reshape(height, width, side)
        .sum(axis=2)
        .ravel()
        for part in parts
    ]
    return summed[0], summed[1], summed[2]


def brightest_blocks(sums: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return the blocks of bare beam: the brightest cluster of ratios of sample to reference.

    `sums` (position, 3, block) as of `block_sums`. A cluster has at least 5 % of the blocks, and is as wide
    as four times the scatter between neighbouring blocks.
    """
    total = sums.sum(axis=0)
    used = total[2] >= 0.5 * total[2].max()
    ratio = np.where(used, total[1] / np.maximum(total[0], 1e-300), np.nan)
    order = np.sort(ratio[used])
    steps = np.abs(np.diff(ratio))
    steps = steps[np.isfinite(steps)]
    # The median step between neighbours is 0.95 σ of a block for Gaussian noise.
    sigma = max(float(np.median(steps)) / 0.95 if steps.size else 0.0, 1e-4 * float(np.median(order)))
    counts = np.searchsorted(order, order + 2.0 * sigma, "right") - np.searchsorted(
        order, order - 2.0 * sigma, "left"
    )
    crowded = np.flatnonzero(counts >= max(1.0, _CLUSTER * order.size))
    if crowded.size == 0:
        return np.asarray(used)
    brightest = order[crowded[-1]]
    near = crowded[order[crowded] >= brightest - 4.0 * sigma]
    centre = order[near[np.argmax(counts[near])]]
    bare: NDArray[np.bool_] = used & (np.abs(ratio - centre) <= 2.0 * sigma)
    return bare
