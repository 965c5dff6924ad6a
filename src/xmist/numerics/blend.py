"""An image from its values and its gradient together, by cosine and sine transforms.

With the even mirror an image is a sum of cosines, its derivative along x a sum of sines along x. Noise of the
values and of the gradient differ in frequency: the values are good at low ones, the gradient at high ones.
Of the sum of squares

    |u − v|² + ℓ² |∇u − g|²

the minimum is (1 − ℓ²∇²) u = v − ℓ² ∇·g, which blends v with the potential ∇⁻²∇·g of g by the weight
1/(1 + ℓ²κ²) at frequency κ. Derivatives are those of the sums of cosines; the divergence is the exact adjoint
of their gradient.
"""

from __future__ import annotations

from typing import Any, Literal

import numba
import numpy as np
import scipy.fft
from numpy.typing import NDArray

from xmist.numerics.parallel import for_blocks
from xmist.numerics.poisson import dct2

Real = NDArray[Any]
Blend = Literal["gaussian", "screened"]

_jit = numba.njit(nogil=True, cache=True, error_model="numpy")


@_jit
def _blend(values, slope, kappa_y, kappa_x, length2, gaussian, start, stop):  # type: ignore[no-untyped-def]
    for y in range(start, stop):
        for x in range(values.shape[1]):
            s = kappa_y[y] ** 2 + kappa_x[x] ** 2
            if s == 0.0:
                continue  # no gradient tells a mean
            weight = np.exp(-length2 * s) if gaussian else 1.0 / (1.0 + length2 * s)
            values[y, x] = weight * values[y, x] - (1.0 - weight) * slope[y, x] / s


def _sines(image: Real, axis: int, *, inverse: bool, threads: int | None) -> Real:
    """Transform with sines along an axis and cosines along the other; for components of a gradient."""
    sine, cosine = (scipy.fft.idst, scipy.fft.idct) if inverse else (scipy.fft.dst, scipy.fft.dct)
    along_x, along_y = (sine, cosine) if axis == 1 else (cosine, sine)

    def rows(start: int, stop: int) -> None:
        image[start:stop] = along_x(image[start:stop], axis=1, norm="ortho", overwrite_x=True)

    def columns(start: int, stop: int) -> None:
        image[:, start:stop] = along_y(image[:, start:stop], axis=0, norm="ortho")

    for_blocks(rows, image.shape[0], threads=threads)
    for_blocks(columns, image.shape[1], threads=threads)
    return image


def _kappa(size: int, dtype: Any) -> Real:
    return (np.pi * np.arange(size) / size).astype(dtype)


def spectral_gradient(image: Real, *, threads: int | None = None) -> Real:
    """Gradient of the sum of cosines that an image is.

    Parameters
    ----------
    image : (y, x) float array
        Image. Not modified.
    threads : int, optional
        Threads; the result does not depend on it.

    Returns
    -------
    (2, y, x) array
        Derivatives along x and y per pixel.

    Examples
    --------
    >>> x = np.cos(np.pi * 2 * (np.arange(16) + 0.5) / 16)
    >>> exact = -np.pi / 8 * np.sin(np.pi * 2 * (np.arange(16) + 0.5) / 16)
    >>> bool(np.allclose(spectral_gradient(np.tile(x, (8, 1)))[0], exact))
    True
    """
    coefficients = dct2(image.copy(), threads=threads)
    out = np.zeros((2, *image.shape), image.dtype)
    # cos κ becomes −κ sin κ; sine number j of the transform is cosine number j + 1.
    kappa_y, kappa_x = (_kappa(size, image.dtype) for size in image.shape)
    out[0, :, :-1] = -kappa_x[1:] * coefficients[:, 1:]
    out[1, :-1] = -kappa_y[1:, None] * coefficients[1:]
    for axis, component in ((1, out[0]), (0, out[1])):
        _sines(component, axis, inverse=True, threads=threads)
    return out


def _divergence_coefficients(gradient: Real, threads: int | None) -> Real:
    """Cosine coefficients of the divergence, the negative adjoint of `spectral_gradient`."""
    height, width = gradient.shape[1:]
    kappa_y, kappa_x = _kappa(height, gradient.dtype), _kappa(width, gradient.dtype)
    out = np.zeros((height, width), gradient.dtype)
    along_x = _sines(gradient[0].copy(), 1, inverse=False, threads=threads)
    out[:, 1:] = kappa_x[1:] * along_x[:, :-1]
    along_y = _sines(gradient[1].copy(), 0, inverse=False, threads=threads)
    out[1:] += kappa_y[1:, None] * along_y[:-1]
    return out


def blend(
    values: Real, gradient: Real, length2: float, *, by: Blend = "screened", threads: int | None = None
) -> Real:
    """Give the image that agrees best with both values and gradient.

    Parameters
    ----------
    values : (y, x) float array
        Image as it was measured; decides low frequencies. Not modified.
    gradient : (2, y, x) float array
        Its derivatives along x and y per pixel as they were measured; decide high frequencies.
    length2 : float
        ℓ² in pixels², where one takes over from the other.
    by : {"screened", "gaussian"}
        Weight of the values: 1/(1 + ℓ²κ²), of least squares, or e^(−ℓ²κ²).
    threads : int, optional
        Threads; the result does not depend on it.

    Returns
    -------
    (y, x) array
        Image, of the dtype of `values`.

    Examples
    --------
    >>> image = np.random.default_rng(1).normal(size=(12, 16))
    >>> bool(np.allclose(blend(image, spectral_gradient(image), 3.0), image))
    True
    """
    coefficients = dct2(values.copy(), threads=threads)
    slope = _divergence_coefficients(gradient, threads)
    kappa_y, kappa_x = (np.pi * np.arange(size) / size for size in values.shape)
    for_blocks(
        lambda a, b: _blend(coefficients, slope, kappa_y, kappa_x, length2, by == "gaussian", a, b),
        values.shape[0],
        threads=threads,
    )
    return dct2(coefficients, inverse=True, threads=threads)


def potential(gradient: Real, *, threads: int | None = None) -> Real:
    """Give the image of mean 0 whose gradient is nearest to a vector image.

    Parameters
    ----------
    gradient : (2, y, x) float array
        Components along x and y per pixel. Not modified.
    threads : int, optional
        Threads; the result does not depend on it.

    Returns
    -------
    (y, x) array
        Image, of the dtype of `gradient`.

    Examples
    --------
    >>> image = np.random.default_rng(1).normal(size=(12, 16))
    >>> image -= image.mean()
    >>> bool(np.allclose(potential(spectral_gradient(image)), image))
    True
    """
    slope = _divergence_coefficients(gradient, threads)
    coefficients = np.zeros_like(slope)
    kappa_y, kappa_x = (np.pi * np.arange(size) / size for size in coefficients.shape)
    # With ℓ² beyond all bounds the values do not count.
    for_blocks(
        lambda a, b: _blend(coefficients, slope, kappa_y, kappa_x, np.inf, False, a, b),
        coefficients.shape[0],
        threads=threads,
    )
    return dct2(coefficients, inverse=True, threads=threads)
