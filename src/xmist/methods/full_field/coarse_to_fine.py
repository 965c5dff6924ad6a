"""Frames at half the resolution, for shifts that are too large to begin with at the full one.

A Taylor step knows where a speckle went only while the shift is small against its size. Binned frames show
speckles without their finest structure, and so with a wider basin for a shift that is half as many pixels:
their fit is where the fit of the frames themselves begins. In pixel units ψ and d are four times as large at
twice the resolution, ln T is the same.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

from xmist.numerics.operators.transport import LOG_T
from xmist.numerics.weights import Images

Real = NDArray[Any]

LEAST: Final = 24  # pixels a side of the coarsest frames
BLOCK: Final = 4  # pixels a side over which statistics are summed
_ROUNDING: Final = 1e-12
_LOCAL: Final = 6.0  # σ in pixels over which speckles are judged
# Part of the speckles' variance that a fit may leave: what a shift by a sixth of a speckle's width makes.
_LEFT: Final = 0.15
LOST: Final = 0.005  # part of the image that says that shifts are too large


def lost_share(models: Images, residual: Images, weights: Images, noise: float) -> float:
    """Give the part of the image in which a fit has not found the speckles.

    Parameters
    ----------
    models, residual : (position, y, x) float array or sequence of images
        Model images, and what they leave.
    weights : (position, y, x) float array or Weights
        Weights.
    noise : float
        Variance of a pixel of weight 1.

    Returns
    -------
    float
        Share of the pixels around which the residual's variance, less that of the noise in sample and
        reference, is above a part of the speckles' own.

    Examples
    --------
    >>> models = np.random.default_rng(1).uniform(1, 2, (1, 64, 64))
    >>> weights = np.ones_like(models)
    >>> lost_share(models, 0.1 * models, weights, 0.0), lost_share(models, models - 1.5, weights, 0.0)
    (0.0, 1.0)
    """
    left: Real = np.zeros(())
    speckle: Real = np.zeros(())
    for model, rest, w in zip(models, residual, weights, strict=True):
        total = np.maximum(_local(w), 1e-9)
        left = left + _local(w * rest * rest) - _local(w * rest) ** 2 / total
        left -= 2.0 * noise * _local((w > 0).astype(np.float32))
        speckle = speckle + _local(w * model * model) - _local(w * model) ** 2 / total
    return float(np.mean(left > _LEFT * speckle + _ROUNDING))


def halve(images: Real) -> Real:
    """Bin by two; the last row or column of an odd number counts twice.

    Parameters
    ----------
    images : (number, y, x) float array
        Images.

    Returns
    -------
    (number, (y + 1)//2, (x + 1)//2) array
        Means over 2 × 2 pixels.

    Examples
    --------
    >>> halve(np.arange(6.0).reshape(1, 2, 3))
    array([[[2. , 3.5]]])
    """
    _, height, width = images.shape
    even = np.pad(images, ((0, 0), (0, height % 2), (0, width % 2)), mode="edge")
    out: Real = 0.25 * (
        (even[:, ::2, ::2] + even[:, 1::2, 1::2]) + (even[:, 1::2, ::2] + even[:, ::2, 1::2])
    ).astype(images.dtype)
    return out


def double(fields: Real, kinds: tuple[int, ...], shape: tuple[int, ...]) -> Real:
    """Bring unknowns to twice the resolution.

    Parameters
    ----------
    fields : (unknown, y, x) float array
        Unknowns in units of the coarse pixel.
    kinds : tuple of int
        Which they are, see `xmist.numerics.operators.transport`.
    shape : tuple of int
        Size (y, x) of what `halve` was given.

    Returns
    -------
    (unknown, y, x) array
        Cubic splines through them at the fine pixels, in units of the fine pixel.

    Examples
    --------
    >>> round(float(double(np.ones((1, 4, 4)), (0,), (7, 8))[0, 3, 3]), 3)
    4.0
    """
    out = np.empty((len(fields), *shape), fields.dtype)
    for field, kind, target in zip(fields, kinds, out, strict=True):
        fine = scipy.ndimage.zoom(field.astype(np.float64), 2, order=3, mode="reflect", grid_mode=True)
        target[...] = fine[: shape[0], : shape[1]] * (1.0 if kind == LOG_T else 4.0)
    return out


def _local(image: Real) -> Real:
    out: Real = scipy.ndimage.gaussian_filter(block_mean(image), _LOCAL / BLOCK, mode="reflect")
    return out


def block_mean(image: Real) -> Real:
    """Give the means over blocks of `BLOCK` × `BLOCK` pixels; at the border the last row or column repeats.

    Parameters
    ----------
    image : (y, x) float array
        Image.

    Examples
    --------
    >>> block_mean(np.arange(20.0).reshape(4, 5))
    array([[ 9. , 11.5]])
    """
    height, width = (-(-size // BLOCK) * BLOCK for size in image.shape)
    even = np.pad(image, ((0, height - image.shape[0]), (0, width - image.shape[1])), mode="edge")
    blocks = even.reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK)
    out: Real = blocks.mean(axis=(1, 3), dtype=np.float64)
    return out
