"""Reference frames as every method takes them: checked, differentiable, each equation with a weight."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xmist.core import flags as flag
from xmist.core.arrays import Image, as_frames, as_weights
from xmist.core.errors import InputError, raise_errors
from xmist.numerics.images.fill import fill

Real = NDArray[Any]

_ORDINARY: Final = 2.0**24  # frames of such a size, or one over it, need no scaling


@dataclass(frozen=True, kw_only=True, eq=False)
class PreparedReference:
    """Reference frames that can be differentiated, with the weights of their equations.

    Parameters
    ----------
    frames : (position, y, x) float32 array
        Finite and positive; unusable pixels are filled from their neighbours.
    weights : (position, y, x) array or None
        Weight of each equation; None if all are 1.
    flags : (y, x) uint16 array
        `BAD_REFERENCE` and `MASKED`.
    scale : float
        What the frames were multiplied by, and the sample's have to be: a power of two that brings far-off
        units into the range where squares and fourth powers fit single precision, else 1. No bit of a result
        depends on it.
    """

    frames: Image
    weights: Real | None
    flags: NDArray[np.uint16]
    scale: float = 1.0


def prepare_reference(
    reference: ArrayLike,
    weights: ArrayLike | None,
    *,
    method: str,
    minimum: int,
    threads: int | None,
    scaled: bool = False,
    keep_neighbours: bool = False,
) -> PreparedReference:
    """Check the reference frames, fill their unusable pixels and take weight from the equations these touch.

    Parameters
    ----------
    reference : (position, y, x) array_like
        Frames without the sample.
    weights : (position, y, x) array_like or None
        Weight of each pixel; 0 means that it is ignored.
    method : str
        Name of the method, for messages.
    minimum : int
        Least number of exposures.
    threads : int or None
        Threads.
    scaled : bool
        Whether far-off units may be changed, see `PreparedReference.scale`.
    keep_neighbours : bool
        Whether the equations next to an unusable pixel that stands alone count: where the unknowns are whole
        images, what its interpolation is wrong by costs less than four equations.

    Raises
    ------
    InputError
        Lists all faults: shape, dtype, weights, too few exposures, no usable pixel.
    """
    faults: list[str] = []
    frames = as_frames("reference", reference, faults)
    given = None
    if frames is not None and weights is not None:
        given = as_weights("weights", weights, frames.shape, faults)
    if frames is not None and len(frames) < minimum:
        faults.append(
            f"{len(frames)} exposure{'s' if len(frames) > 1 else ''}; {method} needs at least {minimum} "
            "positions of the diffuser"
        )
    raise_errors(faults)
    assert frames is not None  # as_frames gave a fault otherwise
    scale = _scale(frames) if scaled else 1.0
    if scale != 1.0:
        frames = frames * np.float32(scale)
    flags = np.zeros(frames.shape[1:], np.uint16)
    filled: Image | None = None
    out: Real | None = None if given is None else given.copy()
    for n, frame in enumerate(frames):
        usable = np.isfinite(frame) & (frame > 0)
        flags[~usable] |= flag.BAD_REFERENCE
        if given is not None:
            masked = given[n] == 0
            flags[masked] |= flag.MASKED
            usable &= ~masked
        if usable.all():
            continue
        if not usable.any():
            raise InputError(f"reference frame {n} has no usable pixel; leave this exposure out")
        if filled is None:
            filled = frames.copy()
        repaired = fill(frame, usable, smooth=True, threads=threads)
        # A filled value at or below 0 or out of reach: the mean serves, for its equations count for nothing.
        fallback = np.float32(frame[usable].mean(dtype=np.float64))
        filled[n] = np.where(np.isfinite(repaired) & (repaired > 0), repaired, fallback)
        if out is None:
            out = np.ones(frames.shape, np.uint8)
        out[n][~_inner(usable, keep_neighbours=keep_neighbours)] = 0
    return PreparedReference(
        frames=frames if filled is None else filled, weights=out, flags=flags, scale=scale
    )


def _scale(frames: Image) -> float:
    """Give a power of two that brings frames to about 1, or 1 where they are of an ordinary size."""
    middle = frames[0][len(frames[0]) // 2]
    usable = middle[np.isfinite(middle) & (middle > 0.0)]
    if not usable.size:
        usable = frames[np.isfinite(frames) & (frames > 0.0)]
    size = float(np.median(usable)) if usable.size else 1.0
    return 1.0 if 1.0 / _ORDINARY < size < _ORDINARY else 2.0 ** -round(math.log2(size))


def _inner(usable: NDArray[np.bool_], *, keep_neighbours: bool) -> NDArray[np.bool_]:
    """Take away the equations that the filled value of an unusable pixel would spoil.

    Those are its four nearest neighbours, unless those of a pixel that stands alone are to be kept; and the
    four next to them along the axes where it lies in a cluster, a line or a border, whose filled values are
    no sixth-order interpolation.
    """
    inner = usable.copy()
    if usable.all():
        return inner
    guessed = ~usable & ~_between(usable) & ~_between(usable.T).T
    _reach(inner, ~guessed if keep_neighbours else usable, 1)
    _reach(inner, ~guessed, 2)
    return inner


def _reach(inner: NDArray[np.bool_], usable: NDArray[np.bool_], distance: int) -> None:
    inner[distance:] &= usable[:-distance]
    inner[:-distance] &= usable[distance:]
    inner[:, distance:] &= usable[:, :-distance]
    inner[:, :-distance] &= usable[:, distance:]


def _between(usable: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Find pixels with three usable ones on either side along x."""
    run = usable[:, :-2] & usable[:, 1:-1] & usable[:, 2:]
    between = np.zeros_like(usable)
    between[:, 3:-3] = run[:, :-4] & run[:, 4:]
    return between
