"""Poisson and screened Poisson equations with the even mirror, by the discrete cosine transform.

Images are in pixel units; κ is in rad per pixel. There are two symbols of the Laplacian: that of the 5-point
stencil of `stencils`, −(2 − 2 cos κ_x) − (2 − 2 cos κ_y), whose inverse is exact for that stencil, and the
spectral one, −κ².
"""

from __future__ import annotations

from typing import Any, Final, Literal

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from xmist.numerics.compiled import jit
from xmist.numerics.parallel import for_blocks

Real = NDArray[Any]
Symbol = Literal["stencil", "spectral"]

_CACHED: Final = 1 << 17  # numbers that stay in the cache


def dct2(image: Real, *, inverse: bool = False, threads: int | None = None) -> Real:
    """Return the orthonormal DCT-II coefficients of an image (y, x), or the image; its memory may be used."""
    transform = scipy.fft.idct if inverse else scipy.fft.dct
    height, width = image.shape

    def rows(start: int, stop: int) -> None:
        part = image[start:stop]
        out = transform(part, axis=1, norm="ortho", overwrite_x=True)
        if not np.may_share_memory(out, part):
            part[...] = out

    def columns(start: int, stop: int) -> None:
        image[:, start:stop] = transform(image[:, start:stop], axis=0, norm="ortho")

    for_blocks(rows, height, threads=threads, block=_block(height, width))
    for_blocks(columns, width, threads=threads, block=_block(width, height))
    return image


def _block(number: int, length: int) -> int:
    """Return the number of lines in a block: as many as fit into the cache, because each call costs time."""
    return max(16, min(_CACHED // length, number // 8))


def frequencies(shape: tuple[int, ...]) -> list[Real]:
    """Return the frequencies of the DCT along each axis of an image of `shape`, in rad per pixel."""
    return [np.pi * np.arange(size) / size for size in shape]


def filtered(image: Real, gain_y: Real, gain_x: Real, *, threads: int | None = None) -> Real:
    """Return an image (y, x) whose DCT coefficients are multiplied by gains (y,) and (x,)."""
    coefficients = dct2(image.copy(), threads=threads)
    along_y, along_x = (np.asarray(gain, image.dtype) for gain in (gain_y, gain_x))

    def multiply(start: int, stop: int) -> None:
        coefficients[start:stop] *= along_y[start:stop, None] * along_x

    for_blocks(multiply, len(coefficients), threads=threads)
    return dct2(coefficients, inverse=True, threads=threads)


def smoothed(image: Real, sigma: float, *, threads: int | None = None) -> Real:
    """Return an image (y, x) smoothed by a Gaussian of σ pixels, mirrored at the border."""
    gains = [np.exp(-0.5 * (sigma * k) ** 2) for k in frequencies(image.shape)]
    return filtered(image, *gains, threads=threads)


def _symbol(shape: tuple[int, ...], symbol: Symbol) -> list[Real]:
    """Return −∇² along y and along x, in the DCT basis; the symbol is their sum."""
    kappa = frequencies(shape)
    if symbol == "spectral":
        return [k**2 for k in kappa]
    return [4.0 * np.sin(k / 2.0) ** 2 for k in kappa]


@jit
def _divide_laplacian(coefficients, symbol_y, symbol_x, quartic, start, stop):  # type: ignore[no-untyped-def]
    for y in range(start, stop):
        for x in range(coefficients.shape[1]):
            s = symbol_y[y] + symbol_x[x]
            if s == 0.0:
                coefficients[y, x] = 0.0
            else:
                coefficients[y, x] *= -s / (s * s + quartic)


@jit
def _divide_screened(coefficients, symbol_y, symbol_x, length2, start, stop):  # type: ignore[no-untyped-def]
    for y in range(start, stop):
        for x in range(coefficients.shape[1]):
            coefficients[y, x] /= 1.0 + length2 * (symbol_y[y] + symbol_x[x])


def inverse_laplacian(
    source: Real,
    *,
    symbol: Symbol = "stencil",
    epsilon: float = 0.0,
    overwrite: bool = False,
    threads: int | None = None,
) -> Real:
    """Return u (y, x) of ∇²u = source per pixel² with the even mirror; means are dropped.

    `symbol`: which discrete Laplacian is inverted; `epsilon`: ε in rad per pixel, −1/κ² becomes −κ²/(κ⁴ +
    ε⁴), which damps what varies more slowly than the length 2π/ε; `overwrite`: use the memory of the source.
    """
    coefficients = dct2(source if overwrite else source.copy(), threads=threads)
    symbol_y, symbol_x = _symbol(source.shape, symbol)
    for_blocks(
        lambda a, b: _divide_laplacian(coefficients, symbol_y, symbol_x, epsilon**4, a, b),
        source.shape[0],
        threads=threads,
    )
    return dct2(coefficients, inverse=True, threads=threads)


def screened(source: Real, length2: float, *, symbol: Symbol = "stencil", threads: int | None = None) -> Real:
    """Return u (y, x) of (1 − ℓ²∇²) u = source, ℓ² ≥ 0 in pixels², ∇² as `symbol` says."""
    coefficients = dct2(source.copy(), threads=threads)
    symbol_y, symbol_x = _symbol(source.shape, symbol)
    for_blocks(
        lambda a, b: _divide_screened(coefficients, symbol_y, symbol_x, length2, a, b),
        source.shape[0],
        threads=threads,
    )
    return dct2(coefficients, inverse=True, threads=threads)
