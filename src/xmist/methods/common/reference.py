"""Reference and sample frames as every method takes them: checked, differentiable, with weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xmist.core import flags as flag
from xmist.core.arrays import Image, as_frames, as_weights, without_masked
from xmist.core.errors import ErrorRecord, InputError, raise_errors
from xmist.core.experiment import Experiment
from xmist.numerics.images.fill import fill
from xmist.numerics.images.speckles import speckle_size, speckle_wavenumber
from xmist.numerics.matching.contrast import noise_gain

Real = NDArray[Any]

_CROP: Final = 256  # pixels a side that the size of speckles is read from
_REACH: Final = 64  # pixels; larger speckles are not measured
_FINEST: Final = 2.0  # pixels
_NOISE_SIDE: Final = 7  # pixels; the noise of smaller frames cannot be estimated
_SPARSE: Final = 0.1  # part of the usable pixels that must have usable neighbours
_ORDINARY: Final = 2.0**24  # frames of such a size, or one over it, need no scaling


@dataclass(frozen=True, kw_only=True, eq=False)
class PreparedReference:
    """Reference frames that can be differentiated, with the weights of their equations."""

    frames: Image  # (position, y, x) finite and positive; unusable pixels are filled from their neighbours
    weights: Real | None  # (position, y, x) weight of each equation; None if all are 1
    flags: NDArray[np.uint16]  # (y, x) `BAD_REFERENCE` and `MASKED`
    # What the frames were multiplied by, and the sample's have to be: a power of two that brings extreme
    # units into the range where squares and fourth powers fit single precision, else 1. No bit of a result
    # depends on it.
    scale: float = 1.0
    wavenumber: float = math.nan  # κ_s of the speckles in rad per pixel; NaN without speckles
    sparse: bool = False  # almost no usable pixel has usable neighbours: derivatives have errors

    def check(self, sample: ArrayLike, weights: ArrayLike | None) -> tuple[Image, Image | None]:
        """Return sample frames, NaN where their weight is 0, and weights as float32.

        InputError if they do not fit the reference.
        """
        errors: list[ErrorRecord] = []
        shape = self.frames.shape
        frames = as_frames("sample", sample, errors)
        if frames is not None and frames.shape != shape:
            text = f"sample has shape {frames.shape}; expected that of the reference, {shape}"
            errors.append(ErrorRecord("shape-mismatch", text))
        given = None if weights is None else as_weights("weights", weights, shape, errors)
        raise_errors(errors)
        assert frames is not None  # as_frames added an error otherwise
        out = without_masked(frames, given)
        self.require_light(out)
        return out, given

    def require_light(self, sample: Image) -> None:
        """Raise InputError if the usable pixels of the sample frames have values, but none above 0."""
        known = False
        for n, frame in enumerate(sample):
            values = frame if self.weights is None else frame[self.weights[n] > 0]
            if (values > 0).any():
                return
            known = known or bool(np.isfinite(values).any())
        if known:
            text = "no usable pixel of the sample frames is above 0; check the shutter and the dark frames"
            raise InputError(text, "pixels-unusable")

    def not_hidden(self, bad: NDArray[np.bool_], n: int, given: Image | None = None) -> NDArray[np.bool_]:
        """Return those of the bad pixels (y, x) of a position's sample frame that no weight of 0 hides.

        `given`: weights that came with the sample frames. A pixel whose weight is 0 only because a neighbour
        is bad is not hidden.
        """
        if self.weights is not None:
            bad = bad & ~((self.weights[n] == 0) & ((self.flags & flag.MASKED) > 0))
        return bad if given is None else bad & (given[n] > 0)

    def speckle_size(self) -> float | None:
        """Return the full width at half maximum in pixels of the speckles in the middle; None if unknown."""
        crop = middle(self.frames.shape[1:])
        sizes: list[float] = []
        for n, frame in enumerate(self.frames):
            used = np.ones(frame[crop].shape, np.bool_) if self.weights is None else self.weights[n][crop] > 0
            if np.count_nonzero(used) > 1:
                sizes += speckle_size(frame[crop], used, _REACH)
        known = [size for size in sizes if 0.0 < size < math.inf]
        return max(float(np.median(known)), _FINEST) if known else None

    def record(self, experiment: Experiment) -> dict[str, float]:
        """Return what a result keeps of its speckles: κ_s in rad/m, if there are any."""
        if math.isnan(self.wavenumber):
            return {}
        return {"speckle_wavenumber": self.wavenumber / experiment.effective_pixel}


def middle(shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Return the rows and columns in the middle of a frame from which speckles are read."""
    y, x = (
        slice((size - part) // 2, (size - part) // 2 + part)
        for size, part in ((size, min(size, _CROP)) for size in shape)
    )
    return y, x


def prepare_reference(
    reference: ArrayLike,
    weights: ArrayLike | None,
    *,
    method: str,
    minimum: int,
    threads: int | None,
    scaled: bool = False,
    keep_neighbours: bool = False,
    differentiated: bool = True,
) -> PreparedReference:
    """Check (position, y, x) reference frames, fill unusable pixels and take weight from their neighbours.

    `method` is for messages; `minimum` is the least number of positions; `scaled` allows other units, see
    `PreparedReference.scale`. With `keep_neighbours` the equations next to an unusable pixel that stands
    alone count: where the unknowns are whole images, the error of its interpolation costs less than four
    equations. Where frames are not `differentiated`, all usable pixels count.
    """
    errors: list[ErrorRecord] = []
    frames = as_frames("reference", reference, errors)
    given = None
    if frames is not None and weights is not None:
        given = as_weights("weights", weights, frames.shape, errors)
    if frames is not None and len(frames) < minimum:
        number = f"{len(frames)} position{'s' if len(frames) > 1 else ''}"
        text = f"{number} of the diffuser; {method} needs at least {minimum}"
        errors.append(ErrorRecord("positions-too-few", text))
    raise_errors(errors)
    assert frames is not None  # as_frames added an error otherwise
    scale = _scale(without_masked(frames, given)) if scaled else 1.0
    if scale != 1.0:
        frames = frames * np.float32(scale)
    flags = np.zeros(frames.shape[1:], np.uint16)
    filled: Image | None = None
    sparse = False
    out: Real | None = None if given is None else given.copy()
    for n, frame in enumerate(frames):
        usable = np.isfinite(frame) & (frame > 0)
        masked = None if given is None else given[n] == 0
        flags[~usable if masked is None else ~(usable | masked)] |= flag.BAD_REFERENCE
        if masked is not None:
            flags[masked] |= flag.MASKED
            usable &= ~masked
        if usable.all():
            continue
        if not usable.any():
            raise InputError(
                f"the reference frame of position {n} has no usable pixel; leave out this position",
                "pixels-unusable",
            )
        if filled is None:
            filled = frames.copy()
        repaired = fill(frame, usable, smooth=True, threads=threads)
        # Where a filled value is at or below 0 or out of reach the mean serves: its equations have weight 0.
        fallback = np.float32(frame[usable].mean(dtype=np.float64))
        filled[n] = np.where(np.isfinite(repaired) & (repaired > 0), repaired, fallback)
        if out is None:
            out = np.ones(frames.shape, np.uint8)
        inner = _inner(usable, keep_neighbours=keep_neighbours)
        if np.count_nonzero(inner) < _SPARSE * np.count_nonzero(usable):
            inner, sparse = usable, True  # equations with errors are better than none
        if not differentiated:
            inner = usable
        out[n][~inner] = 0
    finished = frames if filled is None else filled
    return PreparedReference(
        frames=finished,
        weights=out,
        flags=flags,
        scale=scale,
        wavenumber=_wavenumber(finished, out),
        sparse=sparse,
    )


def _wavenumber(frames: Image, weights: Real | None) -> float:
    """Return κ_s in rad per pixel in the middle of (position, y, x) frames; NaN without speckles."""
    crop = (slice(None), *middle(frames.shape[1:]))
    part = frames[crop]
    good = np.ones(part.shape, np.bool_) if weights is None else weights[crop] > 0
    noise = noise_gain(part, good.view(np.uint8)) if min(part.shape[1:]) >= _NOISE_SIDE else 0.0
    return speckle_wavenumber(part, good, noise)


def _scale(frames: Image) -> float:
    """Return a power of two that brings frames to about 1, or 1 where their size is ordinary."""
    middle = frames[0][len(frames[0]) // 2]
    usable = middle[np.isfinite(middle) & (middle > 0.0)]
    if not usable.size:
        usable = frames[np.isfinite(frames) & (frames > 0.0)]
    size = float(np.median(usable)) if usable.size else 1.0
    return 1.0 if 1.0 / _ORDINARY < size < _ORDINARY else 2.0 ** -round(math.log2(size))


def _inner(usable: NDArray[np.bool_], *, keep_neighbours: bool) -> NDArray[np.bool_]:
    """Leave out the equations that the filled value of an unusable pixel would make wrong.

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
