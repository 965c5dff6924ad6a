"""Step unlit: mask regions that the beam does not reach, behind a slit, a beam stop or the sample holder."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xmist.core.arrays import Image
from xmist.core.options import Options, Range
from xmist.preprocess.frames import Frames, check_frames, lit_level

Mask = NDArray[np.bool_]


class UnlitOptions(Options):
    """Options of `unlit`; see `xmist.preprocess.find_unlit`.

    Parameters
    ----------
    threshold : float
        Part of the lit level below which a pixel is dark.
    size : int
        Smallest width in pixels of a dark region, odd.
    margin : int
        Pixels around a region that are masked too.

    Examples
    --------
    >>> UnlitOptions(margin=5).margin
    5
    """

    threshold: Annotated[float, Range(0.0, 1.0, above=True)] = 0.05
    size: Annotated[int, Range(3, 999, odd=True, unit="pixels")] = 11
    margin: Annotated[int, Range(0, 1000, unit="pixels")] = 2


def find_unlit(
    frames: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    threshold: float = 0.05,
    size: int = 11,
    margin: int = 2,
) -> Image:
    """Return weights that are 0 in large regions without beam.

    Parameters
    ----------
    frames : (position, y, x) array_like
        Frames of one kind, all with or all without the sample.
    weights : (position, y, x) array_like, optional
        Weights so far; 0 stays 0.
    threshold : float
        Part of the level of the lit pixels below which a pixel is dark. Lower it for samples that transmit
        less.
    size : int
        Smallest width in pixels of a dark region, odd; smaller ones are speckles, defects or the sample.
    margin : int
        Pixels around a region that are masked too.

    Returns
    -------
    (position, y, x) float32 array
        Weights; a region is unlit at every position when it is at most of them.

    Raises
    ------
    InputError
        If the options, the frames or the weights are invalid.

    Notes
    -----
    The level is the median of the pixels above a tenth of itself. A pixel belongs to an unlit region where
    most of the good pixels in a window of size × size are dark; dark pixels that touch such a region join it.

    Examples
    --------
    >>> frames = np.random.default_rng(1).uniform(90, 110, (2, 40, 50))
    >>> frames[:, :15] = 1.0
    >>> weights = find_unlit(frames)
    >>> bool((weights[:, :17] == 0).all()), bool((weights[:, 17:] == 1).all())
    (True, True)
    """
    options = UnlitOptions(threshold=threshold, size=size, margin=margin)
    series, given = check_frames("frames", frames, weights)
    unlit = unlit_region(series, given, options)
    out = np.ones(series.shape, np.float32) if given is None else given.copy()
    out[:, unlit] = 0.0
    return out


def unlit_region(frames: Image, weights: Image | None, options: UnlitOptions) -> Mask:
    """Return the (y, x) region that most frames (position, y, x) leave dark; see `find_unlit`."""
    from scipy import ndimage

    size = options.size
    votes = np.zeros(frames.shape[1:], np.int32)
    heard = np.zeros(frames.shape[1:], np.int32)
    for n, frame in enumerate(frames):
        good = np.isfinite(frame)
        if weights is not None:
            good &= weights[n] > 0
        level = lit_level(frame[good])
        votes += good & (np.where(good, frame, np.float32(0.0)) < options.threshold * level)
        heard += good
    dark, known = 2 * votes > heard, heard > 0
    # Bad pixels do not count: a seam or a cluster of them is not a region without beam.
    share = ndimage.uniform_filter(dark.astype(np.float32), size, mode="nearest")
    share -= 0.5 * ndimage.uniform_filter(known.astype(np.float32), size, mode="nearest")
    core = _large(share > 1e-6, size)
    # Restore the corners, which the majority rounds off.
    region: Mask = ndimage.binary_dilation(core, iterations=max(1, size // 2), mask=dark | core)
    if options.margin:
        region = ndimage.binary_dilation(region, iterations=options.margin)
    return region


def _large(mask: Mask, size: int) -> Mask:
    """Keep the connected parts of at least half a window's area."""
    from scipy import ndimage

    labels: NDArray[Any]
    labels, _ = ndimage.label(mask)
    area = np.bincount(labels.ravel())
    keep = area >= size * size // 2
    keep[0] = False
    kept: Mask = keep[labels]
    return kept


def apply_unlit(frames: Frames, options: UnlitOptions) -> Frames:
    """Mask, at all positions, the regions of reference or sample frames that the beam does not reach."""
    region = unlit_region(frames.reference, frames.weights, options)
    region |= unlit_region(frames.sample, frames.weights, options)
    weights = frames.weights.copy()
    weights[:, region] = 0.0
    return frames.replace(
        f"unlit: masked {100 * region.mean():.3g} % of the frame, which the beam does not reach",
        weights=weights,
    )
