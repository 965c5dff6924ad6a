"""Contrast and size of speckle."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from xmist.core.arrays import as_array
from xmist.core.errors import InputError, raise_errors, shown
from xmist.evaluate.metrics.checks import Mask, Real, check_image
from xmist.numerics.images.autocorrelation import half_width


def _frames(frames: ArrayLike, weights: ArrayLike | None) -> tuple[Real, Mask]:
    """Return frames (frame, y, x), and which pixels count."""
    faults: list[str] = []
    array = check_image("frames", frames, faults, (2, 3), infinite=True)
    given = None if weights is None else as_array("weights", weights, "numbers", faults)
    if given is not None and given.dtype.kind not in "biuf":
        faults.append(f"weights have dtype {given.dtype}; expected numbers")
    if array is not None and given is not None and given.shape != array.shape:
        faults.append(f"weights have shape {given.shape}; expected the frames' {array.shape}")
    raise_errors(faults)
    assert array is not None  # there were no faults
    used = np.isfinite(array)
    if given is not None:
        used &= np.ma.filled(given, 0) > 0
    if array.ndim == 2:
        array, used = array[None], used[None]
    for n, part in enumerate(used):
        if np.count_nonzero(part) < 2:
            faults.append(f"frame {n} has fewer than two usable pixels")
    raise_errors(faults)
    return array, used


def visibility(frames: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Contrast of speckle: standard deviation over mean.

    Parameters
    ----------
    frames : (y, x) or (frame, y, x) array_like
        Frames without the sample; NaN and infinities do not count. Slow changes of the beam's profile count:
        give a part of even flux.
    weights : array_like, optional
        Weights of the frames' shape; pixels of weight 0 do not count.

    Returns
    -------
    float
        Mean over the frames. Photon noise is part of it.

    Raises
    ------
    InputError
        If frames or weights are faulty, or a frame has no usable pixels or no flux.

    Examples
    --------
    >>> visibility([[1.0, 3.0], [3.0, 1.0]])
    0.5
    """
    array, used = _frames(frames, weights)
    contrasts = []
    for n, (frame, part) in enumerate(zip(array, used, strict=True)):
        mean = float(frame[part].mean())
        if not mean > 0.0:
            raise InputError(f"frame {n} has a mean of {mean:g}; expected a positive flux")
        contrasts.append(float(frame[part].std()) / mean)
    return float(np.mean(contrasts))


def speckle_size(
    frames: ArrayLike, weights: ArrayLike | None = None, *, reach: int = 32
) -> tuple[float, float]:
    """Size of a grain: full width at half maximum of the autocorrelation.

    Parameters
    ----------
    frames : (y, x) or (frame, y, x) array_like
        Frames without the sample; NaN and infinities do not count.
    weights : array_like, optional
        Weights of the frames' shape; pixels of weight 0 do not count.
    reach : int
        Largest shift in pixels that is looked at.

    Returns
    -------
    x, y : float
        Widths along x and y in pixels, averaged over the frames.

    Raises
    ------
    InputError
        If frames, weights or `reach` are faulty, if a frame is constant, or if the autocorrelation does not
        fall to half within `reach`.

    Notes
    -----
    The autocorrelation of I − ⟨I⟩ is normalised at every shift by the number of pairs of good pixels, so that
    holes do not count. White noise adds to the shift 0 alone: where the value there stands above the
    Gaussian through the shifts 1 and 2, the Gaussian's counts in its place. Between shifts its logarithm is
    linear in the shift squared. Speckle smoothed by a Gaussian of σ pixels has a width of 4 √(ln 2) σ.

    Examples
    --------
    >>> import scipy.ndimage
    >>> noise = np.random.default_rng(1).normal(size=(256, 256))
    >>> x, y = speckle_size(1 + 0.1 * scipy.ndimage.gaussian_filter(noise, 2.0))
    >>> bool(abs(x - 6.66) < 0.3), bool(abs(y - 6.66) < 0.3)
    (True, True)
    """
    farthest: Any = reach
    if isinstance(farthest, bool) or not isinstance(farthest, numbers.Integral) or farthest < 1:
        raise InputError(f"reach is {shown(reach)}; expected a whole number of pixels, at least 1")
    array, used = _frames(frames, weights)
    widths = [
        [half_width(frame, part, axis, min(reach, frame.shape[axis] - 1)) for axis in (1, 0)]
        for frame, part in zip(array, used, strict=True)
    ]
    if any(width == 0.0 for pair in widths for width in pair):
        raise InputError("a frame is constant; it has no speckle")
    if np.isinf(widths).any():
        raise InputError(f"the autocorrelation does not fall to half within {reach} pixels; raise reach")
    x, y = (float(value) for value in np.mean(widths, axis=0))
    return x, y
