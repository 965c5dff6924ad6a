"""Normal equations of a flux of gradients: ∇Λ = I g − d ∇I at every pixel, summed over positions.

Λ is the potential of the flux, ∇²Λ = I_R − I_S; g a vector; d a scalar or a symmetric tensor, for which d ∇I
is the product of the two. Both equations of a position (along x and along y) are weighted alike. Sums are
kept apart from their solution, so that they can be smoothed in between.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.numerics.compiled import fixed, jit
from xmist.numerics.images.smooth import convolve
from xmist.numerics.operators.derivatives import DX, DY, RADIUS, copy_row, row_derivative
from xmist.numerics.parallel import for_blocks
from xmist.numerics.solvers.poisson import dct2, frequencies

Real = NDArray[Any]

SCALAR: Final = 7  # sums: I², I ∂_xI, I ∂_yI, |∇I|², I ∂_xΛ, I ∂_yΛ, ∇I·∇Λ
TENSOR: Final = 11  # |∇I|² and ∇I·∇Λ by components: xx, xy, yy


@jit
def _multiply(a, b, out):  # type: ignore[no-untyped-def]
    for x in range(len(out)):
        out[x] = a[x] * b[x]


@jit
def _add(a, b, out):  # type: ignore[no-untyped-def]
    for x in range(len(out)):
        out[x] += a[x] * b[x]


@jit
def _add_two(a, b, c, d, out):  # type: ignore[no-untyped-def]
    for x in range(len(out)):
        out[x] += a[x] * b[x] + c[x] * d[x]


@jit
def _subtract(a, b, factor, out):  # type: ignore[no-untyped-def]
    for x in range(len(out)):
        out[x] -= factor * (a[x] * b[x])


@jit
def _add_rows(frame, potential, weight, level, noise, size, sums, start, stop):  # type: ignore[no-untyped-def]
    """One product in each loop, so that the compiler vectorises."""
    width, first = frame.shape[1], np.int64(0)
    i_x, i_y = np.empty(width, frame.dtype), np.empty(width, frame.dtype)
    f_x, f_y = np.empty(width, frame.dtype), np.empty(width, frame.dtype)
    w_i, w_x, w_y = np.empty(width, frame.dtype), np.empty(width, frame.dtype), np.empty(width, frame.dtype)
    padded, w = np.empty(width + 2 * RADIUS, frame.dtype), np.empty(width, frame.dtype)
    for y in range(start, stop):
        row_derivative(DX, frame, y, first, width, i_x, padded)
        row_derivative(DY, frame, y, first, width, i_y, padded)
        row_derivative(DX, potential, y, first, width, f_x, padded)
        row_derivative(DY, potential, y, first, width, f_y, padded)
        i = frame[y]
        if weight is None:
            copy_row(i, w_i)
            copy_row(i_x, w_x)
            copy_row(i_y, w_y)
            w[:] = 1.0
        else:
            copy_row(weight[y], w)
            _multiply(weight[y], i, w_i)
            _multiply(weight[y], i_x, w_x)
            _multiply(weight[y], i_y, w_y)
        row = y // size
        _add(w_i, i, sums[0][row])
        _add(w_i, i_x, sums[1][row])
        _add(w_i, i_y, sums[2][row])
        if len(sums) == SCALAR:
            _add_two(w_x, i_x, w_y, i_y, sums[3][row])
            _add(w_i, f_x, sums[4][row])
            _add(w_i, f_y, sums[5][row])
            _add_two(w_x, f_x, w_y, f_y, sums[6][row])
        else:
            _add(w_x, i_x, sums[3][row])
            _add(w_x, i_y, sums[4][row])
            _add(w_y, i_y, sums[5][row])
            _add(w_i, f_x, sums[6][row])
            _add(w_i, f_y, sums[7][row])
            _add(w_x, f_x, sums[8][row])
            _add_two(w_y, f_x, w_x, f_y, sums[9][row])
            _add(w_y, f_y, sums[10][row])
        for k in range(len(noise)):
            if noise[k] != 0.0:
                _subtract(w, level[y], noise[k], sums[k][row])


def add_equations(
    frame: Real,
    potential: Real,
    sums: Real,
    *,
    weight: Real | None = None,
    level: Real | None = None,
    noise: Real | None = None,
    size: int = 1,
    threads: int | None = None,
) -> None:
    """Add the normal equations of one position (y, x) to `sums`, (`SCALAR` or `TENSOR`, y, x), in place.

    Those of `size` rows are added up to one. `noise` of `noise_sums` times `level` (y, x) is subtracted.
    """
    images = fixed(frame), fixed(potential)
    bright = images[0] if level is None else fixed(level)
    less = np.zeros(0, frame.dtype) if noise is None else noise.astype(frame.dtype)

    def task(start: int, stop: int) -> None:
        _add_rows(*images, weight, bright, less, size, sums, start, stop)

    for_blocks(task, len(frame), threads=threads, block=16 * size)


def noise_sums(
    shape: tuple[int, ...], epsilon: float, *, tensor: bool, explained: float = 0.0, sigma: float = 0.0
) -> NDArray[np.float64]:
    """Return what white noise of variance 1 in the reference frames adds to the sums at each pixel.

    The noise stands in ∇I and in ∇Λ, both filtered with ε (see `whitened`), and is correlated. The part
    `explained` of it, smoothed by a Gaussian of σ pixels, was removed from Λ.
    """
    k_y, k_x = (k**2 for k in frequencies(shape))
    d_y, d_x = ((1.5 * np.sin(k) - 0.3 * np.sin(2 * k) + np.sin(3 * k) / 30) ** 2 for k in frequencies(shape))
    square = k_y[:, None] + k_x
    left = (1.0 - explained * np.exp(-0.5 * sigma**2 * square)) / np.maximum(square + epsilon**2, 1e-300)
    xx, yy = float((left * d_x).mean()), float((left * d_y[:, None]).mean())
    out = np.zeros(TENSOR if tensor else SCALAR)
    out[-3:] = (-xx, 0.0, -yy) if tensor else (0.0, 0.0, -xx - yy)
    return out


@jit
def _solve_scalar(sums, share, ridge, floor, out, ill, start, stop):  # type: ignore[no-untyped-def]
    for y in range(start, stop):
        for x in range(out.shape[2]):
            a = max(share * np.float64(sums[0, y, x]), 1e-300)
            p, q = np.float64(sums[1, y, x]), np.float64(sums[2, y, x])
            pivot = sums[3, y, x] - (p * p + q * q) / a
            ill[y, x] = not pivot >= floor
            known = sums[6, y, x] - (p * sums[4, y, x] + q * sums[5, y, x]) / a
            d = -known / (max(pivot, floor) + ridge)
            out[2, y, x] = d
            out[0, y, x] = (sums[4, y, x] + d * p) / a
            out[1, y, x] = (sums[5, y, x] + d * q) / a


@jit
def _solve_tensor(sums, share, ridge, floor, out, ill, start, stop):  # type: ignore[no-untyped-def]
    for y in range(start, stop):
        for x in range(out.shape[2]):
            a = max(share * np.float64(sums[0, y, x]), 1e-300)
            p, q = np.float64(sums[1, y, x]), np.float64(sums[2, y, x])
            u_x, u_y = np.float64(sums[6, y, x]), np.float64(sums[7, y, x])
            # LDLᵀ of [[k_x, k, 0], [k, k_x + k_y, k], [0, k, k_y]], g eliminated.
            k_x, k_y = sums[3, y, x] - p * p / a, sums[5, y, x] - q * q / a
            k = sums[4, y, x] - p * q / a
            first = max(k_x, floor) + ridge
            l_1 = k / first
            second = max(k_x + k_y + ridge - l_1 * k, floor + ridge)
            l_2 = k / second
            third = k_y + ridge - l_2 * k
            ill[y, x] = not (k_x >= floor and third >= floor + ridge)
            third = max(third, floor + ridge)
            r_0 = -(sums[8, y, x] - p * u_x / a)
            r_1 = -(sums[9, y, x] - (q * u_x + p * u_y) / a) - l_1 * r_0
            r_2 = -(sums[10, y, x] - q * u_y / a) - l_2 * r_1
            yy = r_2 / third
            xy = r_1 / second - l_2 * yy
            xx = r_0 / first - l_1 * xy
            out[0, y, x] = (u_x + xx * p + xy * q) / a
            out[1, y, x] = (u_y + xy * p + yy * q) / a
            out[2, y, x], out[3, y, x], out[4, y, x] = xx, xy, yy


def solve_equations(
    sums: Real, *, share: float = 1.0, ridge: float = 0.0, floor: float = 0.0, threads: int | None = None
) -> tuple[Real, NDArray[np.bool_]]:
    """Return g and d, (3, y, x), or g and d_xx, d_xy, d_yy, (5, y, x); and the ill-determined pixels.

    `share` is the part of I g that is a gradient: 1, or ½ for speckles without their mean; `floor` is the
    least pivot.
    """
    kernel, unknowns = (_solve_scalar, 3) if len(sums) == SCALAR else (_solve_tensor, 5)
    out = np.empty((unknowns, *sums.shape[1:]), sums.dtype)
    ill = np.empty(sums.shape[1:], np.bool_)
    for_blocks(
        lambda a, b: kernel(sums, share, ridge, max(floor, 1e-300), out, ill, a, b), len(ill), threads=threads
    )
    return out, ill


def smooth_equations(sums: Real, sigma: float, *, threads: int | None = None) -> None:
    """Smooth each image of (number, y, x) by a Gaussian of σ pixels, cut at 4 σ, in place; 0 leaves them."""
    if sigma == 0.0:
        return
    convolve(sums, np.exp(-0.5 * (np.arange(int(4.0 * sigma + 0.5) + 1) / sigma) ** 2), threads=threads)


@jit
def _whiten_rows(coefficients, k_y, k_x, epsilon2, potential, start, stop):  # type: ignore[no-untyped-def]
    """Plain loops in the type of the coefficients, so that the compiler vectorises."""
    for y in range(start, stop):
        row, own = coefficients[y], k_y[y]
        if potential:
            for x in range(len(k_x)):
                s = own + k_x[x]
                row[x] /= -np.sqrt(s * (s + epsilon2))
        else:
            for x in range(len(k_x)):
                s = own + k_x[x]
                row[x] *= np.sqrt(s / (s + epsilon2))
        if own == 0.0:
            row[0] = 0.0  # without its mean


def whiten(coefficients: Real, epsilon: float, *, potential: bool, threads: int | None = None) -> None:
    """Filter cosine coefficients (y, x) in place, see `whitened`."""
    number = coefficients.dtype.type
    k_y, k_x = ((k**2).astype(number) for k in frequencies(coefficients.shape))
    for_blocks(
        lambda a, b: _whiten_rows(coefficients, k_y, k_x, number(epsilon**2), potential, a, b),
        len(k_y),
        threads=threads,
    )


def whitened(
    image: Real, epsilon: float, *, potential: bool, overwrite: bool = False, threads: int | None = None
) -> Real:
    """Filter an image by f = κ/√(κ² + ε²), or, as a potential, by −f/κ²; ε in rad per pixel, 0 for f = 1.

    A potential of white noise has the spectrum 1/κ²: filtered, its gradient is white up to ε.
    """
    coefficients = dct2(image if overwrite else image.copy(), threads=threads)
    whiten(coefficients, epsilon, potential=potential, threads=threads)
    return dct2(coefficients, inverse=True, threads=threads)
