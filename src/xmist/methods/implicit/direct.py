"""Helpers of methods that transform whole images: the ratio, weights, sums and filled pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xmist.core.arrays import Image
from xmist.methods.common.reference import prepare_reference
from xmist.methods.implicit.pixelwise import PixelwiseSystem, prepare_pixelwise
from xmist.numerics.images.fill import fill
from xmist.numerics.operators.derivatives import VALUE
from xmist.numerics.parallel import for_blocks

Real = NDArray[Any]

_ROWS: Final = 16  # of three sums and two frames, which the cache holds


def prepare_ratio(
    reference: ArrayLike, weights: ArrayLike | None, *, method: str, minimum: int = 1, threads: int | None
) -> PixelwiseSystem:
    """Prepare the least-squares ratio of the frames, I_R − I_S = I_R (1 − Q): Q = Σ w I_R I_S/Σ w I_R².

    The one unknown is 1 − Q. A pixel that no position sees takes its neighbours' and is flagged `FILLED`.
    """
    prepared = prepare_reference(
        reference, weights, method=method, minimum=minimum, threads=threads, scaled=True
    )
    return prepare_pixelwise(prepared, (VALUE,), smoothing=0.0, ridge=0.0, threads=threads)


def position_weights(sample: Image, *weights: ArrayLike | None) -> Image | None:
    """Return the product of weights of one position, 0 where the sample is not finite; None for 1."""
    product: Image | None = None
    for factor in weights:
        if factor is not None:
            array = np.asarray(factor, np.float32)
            product = array if product is None else product * array
    finite = np.isfinite(sample)
    if finite.all():
        return product
    return np.where(finite, np.float32(1.0) if product is None else product, np.float32(0.0))


@dataclass(frozen=True, kw_only=True, eq=False)
class PositionSum:
    """Sums over positions that have the same (y, x) weights.

    Equations that are linear in the frames hold for sums of positions too, so that one transform serves all
    of them. Bad pixels of a detector are the same at every position; a position with others stands alone.
    """

    reference: Image  # (y, x) Σ I_R; anything where the weight is 0
    sample: Image  # Σ I_S
    difference: Image  # Σ (I_R − I_S), exactly 0 for equal frames
    weights: Image | None  # None if all are 1


def add_positions(
    reference: Image, sample: Image, weights: Sequence[Image | None], *, threads: int | None
) -> list[PositionSum]:
    """Add up the (position, y, x) frames that have the same weights (of `position_weights`)."""
    groups: list[tuple[Image | None, list[int]]] = []
    for n, own in enumerate(weights):
        for shared, members in groups:
            if own is shared or (own is not None and shared is not None and np.array_equal(own, shared)):
                members.append(n)
                break
        else:
            groups.append((own, [n]))
    return [
        PositionSum(**_sums(reference, sample, members, threads), weights=shared)
        for shared, members in groups
    ]


def _sums(reference: Image, sample: Image, members: list[int], threads: int | None) -> dict[str, Image]:
    shape = reference.shape[1:]
    bare, seen, difference = (np.zeros(shape, np.float32) for _ in range(3))

    def task(start: int, stop: int) -> None:
        with np.errstate(invalid="ignore", over="ignore"):  # pixels of weight 0
            for n in members:
                rows = reference[n, start:stop], sample[n, start:stop]
                bare[start:stop] += rows[0]
                seen[start:stop] += rows[1]
                difference[start:stop] += rows[0] - rows[1]

    for_blocks(task, shape[0], threads=threads, block=_ROWS)
    return {"reference": bare, "sample": seen, "difference": difference}


def fill_source(image: Image, weights: Image | None, *, threads: int | None) -> Image:
    """Return an image to transform: pixels of weight 0 filled from neighbours, 0 out of their reach."""
    if weights is None or weights.all():
        return image
    filled: Image = fill(image, weights > 0, smooth=True, threads=threads)
    filled[np.isnan(filled)] = 0.0
    return filled
