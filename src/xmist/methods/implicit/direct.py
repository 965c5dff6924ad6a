"""What the methods that transform whole images share: weights of one exposure, and what dead pixels hold."""

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
    reference: ArrayLike, weights: ArrayLike | None, *, method: str, threads: int | None
) -> PixelwiseSystem:
    """Prepare the least-squares ratio of the frames, I_R − I_S = I_R (1 − Q): Q = Σ w I_R I_S/Σ w I_R².

    Parameters
    ----------
    reference : (position, y, x) array_like
        Frames without the sample.
    weights : (position, y, x) array_like or None
        Weight of each pixel; 0 means that it is ignored.
    method : str
        Name of the method, for messages.
    threads : int or None
        Threads.

    Returns
    -------
    PixelwiseSystem
        Its one unknown is 1 − Q. A pixel that no exposure sees takes its neighbours' and is flagged `FILLED`.

    Raises
    ------
    InputError
        Lists all faults of the reference and its weights.
    """
    prepared = prepare_reference(reference, weights, method=method, minimum=1, threads=threads, scaled=True)
    return prepare_pixelwise(prepared, (VALUE,), smoothing=0.0, ridge=0.0, threads=threads)


def exposure_weights(sample: Image, *weights: ArrayLike | None) -> Image | None:
    """Combine the weights of one exposure.

    Parameters
    ----------
    sample : (y, x) float32 array
        Frame with the sample; what is not finite has weight 0.
    *weights : (y, x) array_like or None
        Weights that are multiplied.

    Returns
    -------
    (y, x) float32 array or None
        None if all are 1.
    """
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
class Exposures:
    """Sums over exposures that have the same weights.

    Equations that are linear in the frames hold for sums of exposures too, so that a transform serves all of
    them. Bad pixels of a detector are the same in every exposure; one that has some of its own stands alone.

    Parameters
    ----------
    reference, sample : (y, x) float32 array
        Σ I_R and Σ I_S; anything where the weight is 0.
    difference : (y, x) float32 array
        Σ (I_R − I_S), exactly 0 for equal frames.
    weights : (y, x) float32 array or None
        Weights that they share; None if all are 1.
    """

    reference: Image
    sample: Image
    difference: Image
    weights: Image | None


def add_exposures(
    reference: Image, sample: Image, weights: Sequence[Image | None], *, threads: int | None
) -> list[Exposures]:
    """Add up the exposures that have the same weights.

    Parameters
    ----------
    reference, sample : (position, y, x) float32 array
        Frames.
    weights : sequence of (y, x) float32 array or None
        Of `exposure_weights`, one an exposure.
    threads : int or None
        Threads; the result does not depend on it.
    """
    groups: list[tuple[Image | None, list[int]]] = []
    for n, own in enumerate(weights):
        for shared, members in groups:
            if own is shared or (own is not None and shared is not None and np.array_equal(own, shared)):
                members.append(n)
                break
        else:
            groups.append((own, [n]))
    return [
        Exposures(**_sums(reference, sample, members, threads), weights=shared) for shared, members in groups
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
    """Give the pixels of weight 0 a number, so that the image can be transformed.

    Parameters
    ----------
    image : (y, x) float32 array
        What is transformed; anything where the weight is 0.
    weights : (y, x) float32 array or None
        Weights of the exposure.
    threads : int or None
        Threads.

    Returns
    -------
    (y, x) float32 array
        Interpolated from the neighbours; 0, which stands for bare beam, where they are beyond reach.
    """
    if weights is None or weights.all():
        return image
    filled: Image = fill(image, weights > 0, smooth=True, threads=threads)
    filled[np.isnan(filled)] = 0.0
    return filled
