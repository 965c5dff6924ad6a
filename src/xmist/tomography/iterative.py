"""Weighted least squares for one slice by iterations: SIRT, and CGLS with a prior on the slice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from xmist.tomography.engines import Projector
from xmist.tomography.options import TomographyOptions

Real = NDArray[Any]
Apply = Callable[[Real], Real]

_SETTLED = 1e-3  # of the first residual, in the norm of the preconditioner
_ROUNDS, _INNER = 10, 2  # total variation: rounds, and iterations in each


def sirt(projector: Projector, row: Real, weight: Real | None, iterations: int) -> Real:
    """Return the SIRT solution x ← x + C Aᵀ R W (b − A x), R and C the inverse row and column sums."""
    values, used = _known(row, weight)
    rows = np.maximum(projector.forward(np.ones(projector.shape)), 1e-6)
    columns = np.maximum(projector.adjoint(used), 1e-6)
    image = np.zeros(projector.shape)
    for _ in range(iterations):
        image += projector.adjoint(used * (values - projector.forward(image)) / rows) / columns
    return image


def cgls(projector: Projector, row: Real, weight: Real | None, options: TomographyOptions) -> Real:
    """Return argmin Σ w (b − A x)² + λ Σ |∇x|², for "tv" with 2λ g Σ |∇x|, g the rms of |∇x| of the former.

    Total variation by split Bregman (Goldstein & Osher 2009, doi:10.1137/080725891).
    """
    values, used = _known(row, weight)
    right = projector.adjoint(used * values)
    # The data term of a pixel is about the number of projections times the width of a ray.
    scale = 0.0 if options.prior == "none" else options.strength * float(used.sum()) / projector.shape[0]

    def normal(x: Real) -> Real:
        out = projector.adjoint(used * projector.forward(x))
        return out + scale * _gradient_adjoint(_gradient(x)) if scale else out

    # Without a prior, only few iterations limit the noise; a preconditioner would fit it at once.
    precondition = _inverse(projector, used, scale) if scale else np.copy
    image, product = np.zeros(projector.shape), np.zeros(projector.shape)
    image, product = _conjugate_gradients(normal, precondition, right, image, product, options.iterations)
    if options.prior != "tv" or not scale:
        return image
    slopes = _gradient(image)
    limit = float(np.sqrt(2.0 * (slopes**2).mean()))
    excess = np.zeros_like(slopes)
    for _ in range(_ROUNDS):
        wanted = slopes + excess
        size = np.sqrt((wanted**2).sum(0))
        split = wanted * (np.maximum(size - limit, 0.0) / np.maximum(size, 1e-300))
        excess = wanted - split
        goal = right + scale * _gradient_adjoint(split - excess)
        image, product = _conjugate_gradients(normal, precondition, goal, image, product, _INNER)
        slopes = _gradient(image)
    return image


def _known(row: Real, weight: Real | None) -> tuple[Real, Real]:
    """Return values and weights (projection, x); weights have mean 1, 0 where a value is not finite."""
    good = np.isfinite(row)
    used = good.astype(np.float64) if weight is None else np.where(good, weight, 0.0).astype(np.float64)
    mean = used[used > 0].mean() if (used > 0).any() else 1.0
    return np.where(good, row, 0.0).astype(np.float64), used / mean


def _gradient(x: Real) -> Real:
    """Return differences (2, y, x) to the next neighbours, 0 at the last ones."""
    out = np.zeros((2, *x.shape))
    out[0, :-1] = x[1:] - x[:-1]
    out[1, :, :-1] = x[:, 1:] - x[:, :-1]
    return out


def _gradient_adjoint(slopes: Real) -> Real:
    """Return the adjoint of `_gradient`; the last differences have to be 0."""
    out = np.array(-slopes.sum(0))
    out[1:] += slopes[0, :-1]
    out[:, 1:] += slopes[1, :, :-1]
    return out


def _inverse(projector: Projector, used: Real, scale: float) -> Apply:
    """Return the inverse of the normal equations for even angles and equal weights.

    Projecting there and back convolves with n/(π r), whose symbol is 2n/κ.
    """
    size = projector.shape[0]
    y, x = 2.0 * np.pi * np.fft.fftfreq(size)[:, None], 2.0 * np.pi * np.fft.rfftfreq(size)[None]
    wave = np.maximum(np.hypot(y, x), np.pi / size)
    slope = 4.0 * (np.sin(0.5 * y) ** 2 + np.sin(0.5 * x) ** 2)
    inverse = 1.0 / (2.0 * used.sum() / used.shape[1] / wave + scale * slope)

    def apply(image: Real) -> Real:
        return np.asarray(scipy.fft.irfft2(scipy.fft.rfft2(image) * inverse, image.shape))

    return apply


def _conjugate_gradients(
    normal: Apply, precondition: Apply, right: Real, x: Real, product: Real, iterations: int
) -> tuple[Real, Real]:
    """Return x of normal(x) = `right` by preconditioned conjugate gradients, and normal(x).

    `x` and `product` = normal(x) are where they begin.
    """
    residual = right - product
    direction = shaped = precondition(residual)
    power = first = _dot(residual, shaped)
    for _ in range(iterations):
        if power <= _SETTLED**2 * first:
            break
        change = normal(direction)
        step = power / _dot(direction, change)
        x, product, residual = x + step * direction, product + step * change, residual - step * change
        shaped = precondition(residual)
        new = _dot(residual, shaped)
        direction = shaped + (new / power) * direction
        power = new
    return x, product


def _dot(a: Real, b: Real) -> float:
    """Return Σ a b; a BLAS would add in an order that depends on its threads."""
    return float((a * b).sum())
