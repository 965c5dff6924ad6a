"""Integration of a gradient, by least squares with the even mirror at the border.

Minimises Σ w |∇u − g|² over images u of mean 0, with one of two discrete gradients:

=========== ============================================================ ==============================
`kind`      gradient                                                     right side
=========== ============================================================ ==============================
"dct"       spectral: that of the cosine series of u                     g, at the pixels
"southwell" differences of neighbours, between the pixels                g, averaged of the two pixels
=========== ============================================================ ==============================

The first is Frankot & Chellappa 1988, IEEE Trans. PAMI 10 439, doi:10.1109/34.3909, without its wrap-around;
the second Southwell 1980, J. Opt. Soc. Am. 70 998, doi:10.1364/JOSA.70.000998. Without weights both are one
division in the cosine basis.

With weights that division preconditions conjugate gradients for the second, which takes about twenty steps.
The first would take hundreds, because fine detail inside a hole costs little, and least squares would fit
noise with it. It starts from Southwell's solution instead and repeats: replace missing weight by the gradient
of the present image, divide. The misfit decreases each time; a few repetitions suffice.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from xmist.numerics.parallel import for_blocks
from xmist.numerics.reduce import dot
from xmist.numerics.solvers.conjugate_gradients import conjugate_gradients
from xmist.numerics.solvers.poisson import dct2, frequencies, inverse_laplacian

Real = NDArray[Any]
Integrator = Literal["dct", "southwell"]

INTEGRATORS: Final[tuple[Integrator, ...]] = ("dct", "southwell")
_STEPS: Final = 200
_ENOUGH: Final = 1e-10  # of the misfit: 1e-6 of u
_REPEATS: Final = 10  # leave a fifth of the difference between the two gradients, and fit no noise


def _transform(image: Real, sine_axis: int, *, inverse: bool, threads: int | None) -> Real:
    """Orthonormal DST-II along `sine_axis` and DCT-II along the other; in fixed blocks."""
    from scipy import fft

    out = image.copy()

    def along(axis: int) -> None:
        if axis == sine_axis:
            transform = fft.idst if inverse else fft.dst
        else:
            transform = fft.idct if inverse else fft.dct

        def task(start: int, stop: int) -> None:
            part = (slice(start, stop), slice(None)) if axis == 1 else (slice(None), slice(start, stop))
            out[part] = transform(out[part], type=2, axis=axis, norm="ortho")

        for_blocks(task, out.shape[1 - axis], threads=threads)

    along(1)
    along(0)
    return out


def spectral_gradient(image: Real, *, threads: int | None = None) -> Real:
    """Return the derivatives (2, y, x) of the cosine series through an image (y, x), per pixel."""
    coefficients = dct2(image.copy(), threads=threads)
    height, width = image.shape
    out = np.empty((2, height, width), image.dtype)
    along_y, along_x = (-k[1:].astype(image.dtype) for k in frequencies(image.shape))

    def differentiate(start: int, stop: int) -> None:
        # cos κx becomes −κ sin κx; the sine series starts at the first frequency.
        np.multiply(coefficients[start:stop, 1:], along_x, out=out[0, start:stop, :-1])
        out[0, start:stop, -1] = 0.0
        inner = min(stop, height - 1)
        np.multiply(coefficients[start + 1 : inner + 1], along_y[start:inner, None], out=out[1, start:inner])

    out[1, -1] = 0.0
    for_blocks(differentiate, height, threads=threads)
    for component, axis in ((0, 1), (1, 0)):
        out[component] = _transform(out[component], axis, inverse=True, threads=threads)
    return out


def spectral_adjoint(gradient: Real, *, threads: int | None = None) -> Real:
    """Return the adjoint of `spectral_gradient` for (2, y, x) as DCT-II coefficients (y, x)."""
    height, width = gradient.shape[1:]
    out: Real = np.empty((height, width), gradient.dtype)
    along_y, along_x = (-k[1:].astype(out.dtype) for k in frequencies(out.shape))
    x = _transform(gradient[0], 1, inverse=False, threads=threads)
    y = _transform(gradient[1], 0, inverse=False, threads=threads)

    def combine(start: int, stop: int) -> None:
        out[start:stop, 0] = 0.0
        np.multiply(x[start:stop, :-1], along_x, out=out[start:stop, 1:])
        first = max(start, 1)
        out[first:stop] += y[first - 1 : stop - 1] * along_y[first - 1 : stop - 1, None]

    for_blocks(combine, height, threads=threads)
    return out


def _divide(coefficients: Real, threads: int | None) -> Real:
    """Divide by κ² in the cosine basis, in place, and go back to the image of mean 0."""
    ky, kx = (k**2 for k in frequencies(coefficients.shape))

    def task(start: int, stop: int) -> None:
        symbol = ky[start:stop, None] + kx
        if start == 0:
            symbol[0, 0] = np.inf
        coefficients[start:stop] /= symbol

    for_blocks(task, len(ky), threads=threads)
    return dct2(coefficients, inverse=True, threads=threads)


def _differences(image: Real) -> Real:
    """Differences of neighbours along x and y; 0 at the last column and row."""
    out = np.zeros((2, *image.shape), image.dtype)
    out[0, :, :-1] = np.diff(image, axis=1)
    out[1, :-1] = np.diff(image, axis=0)
    return out


def _differences_adjoint(vector: Real) -> Real:
    out: Real = np.zeros_like(vector[0])
    out[:, :-1] -= vector[0, :, :-1]
    out[:, 1:] += vector[0, :, :-1]
    out[:-1] -= vector[1, :-1]
    out[1:] += vector[1, :-1]
    return out


def _between(gradient: Real) -> Real:
    """Average of neighbouring slopes."""
    out = np.zeros_like(gradient)
    out[0, :, :-1] = 0.5 * (gradient[0, :, :-1] + gradient[0, :, 1:])
    out[1, :-1] = 0.5 * (gradient[1, :-1] + gradient[1, 1:])
    return out


def integrate(
    gradient: Real, *, kind: Integrator = "dct", weights: Real | None = None, threads: int | None = None
) -> Real:
    """Return the image (y, x) whose gradient is nearest to a given one (2, y, x) per pixel.

    `kind`: which discrete gradient, see the module; `weights` (y, x): of the gradient at each pixel, at least
    0; where it is 0 the gradient may have any value. A difference between two pixels has the smaller of both
    weights. The mean over pixels of weight above 0 is 0.
    """
    dtype = gradient.dtype
    known = None if weights is None else np.asarray(weights, np.float64)
    slopes = gradient  # one division loses nothing in single precision; many iterations would
    if known is not None:
        slopes = gradient.astype(np.float64)
        slopes[:, known == 0.0] = 0.0
    if known is None or bool((known == known.flat[0]).all() and known.flat[0] > 0.0):
        if kind == "southwell":
            image = inverse_laplacian(-_differences_adjoint(_between(slopes)), threads=threads)
        else:
            image = _divide(spectral_adjoint(slopes, threads=threads), threads)
        return np.asarray(image - image.mean(dtype=np.float64), dtype)
    share = known / max(float(known.max()), 1e-300)
    image = _weighted_southwell(slopes, share, threads)
    if kind == "dct":
        for _ in range(_REPEATS):
            own = spectral_gradient(image, threads=threads)
            image = _divide(spectral_adjoint(own + share * (slopes - own), threads=threads), threads)
    counted = known > 0.0
    mean = image.mean(where=counted) if counted.any() else 0.0
    return np.asarray(image - mean, dtype)


def _weighted_southwell(slopes: Real, share: Real, threads: int | None) -> Real:
    """Solve Southwell's least squares by conjugate gradients; `share` are weights of at most 1."""
    weight = np.zeros((2, *share.shape))
    weight[0, :, :-1] = np.minimum(share[:, :-1], share[:, 1:])
    weight[1, :-1] = np.minimum(share[:-1], share[1:])
    wanted = _between(slopes)
    found, _ = conjugate_gradients(
        lambda x: _differences_adjoint(weight * _differences(x[0]))[None],
        _differences_adjoint(weight * wanted)[None],
        precondition=lambda r: -inverse_laplacian(r[0], threads=threads)[None],
        constant=dot(weight * wanted, wanted, threads=threads),
        negligible=lambda objective: 0.0,
        limit=_STEPS,
        relative=_ENOUGH,
        threads=threads,
    )
    image: Real = found[0]
    return image
