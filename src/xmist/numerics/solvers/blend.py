"""An image from its values and its gradient, by cosine and sine transforms.

With the even mirror an image is a sum of cosines, its derivative along x a sum of sines along x. The values
are less noisy at low frequencies, the gradient at high ones. The sum of squares

    |u − v|² + ℓ² |∇u − g|²

has the minimum (1 − ℓ²∇²) u = v − ℓ² ∇·g, which blends v with the potential ∇⁻²∇·g of g by the weight 1/(1 +
ℓ²κ²) at frequency κ. Derivatives are those of the cosine series, `spectral_gradient` of
`xmist.numerics.solvers.integrate`, and the divergence is its exact adjoint.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from xmist.numerics.compiled import jit
from xmist.numerics.parallel import for_blocks
from xmist.numerics.solvers.integrate import spectral_adjoint
from xmist.numerics.solvers.poisson import dct2, frequencies

Real = NDArray[Any]
Blend = Literal["gaussian", "screened"]


@jit
def _blend(values, slope, kappa_y, kappa_x, length2, gaussian, start, stop):  # type: ignore[no-untyped-def]
    for y in range(start, stop):
        for x in range(values.shape[1]):
            s = kappa_y[y] ** 2 + kappa_x[x] ** 2
            if s == 0.0:
                continue  # the gradient does not determine the mean
            weight = np.exp(-length2 * s) if gaussian else 1.0 / (1.0 + length2 * s)
            values[y, x] = weight * values[y, x] + (1.0 - weight) * slope[y, x] / s


def blend(
    values: Real, gradient: Real, length2: float, *, by: Blend = "screened", threads: int | None = None
) -> Real:
    """Return the image (y, x) that agrees best with both values (y, x) and gradient (2, y, x) per pixel.

    `length2`: ℓ² in pixels², where one takes over from the other; `by`: weight of the values, 1/(1 + ℓ²κ²) of
    least squares ("screened") or e^(−ℓ²κ²) ("gaussian").
    """
    coefficients = dct2(values.copy(), threads=threads)
    slope = spectral_adjoint(gradient, threads=threads)
    kappa_y, kappa_x = frequencies(values.shape)
    for_blocks(
        lambda a, b: _blend(coefficients, slope, kappa_y, kappa_x, length2, by == "gaussian", a, b),
        values.shape[0],
        threads=threads,
    )
    return dct2(coefficients, inverse=True, threads=threads)
