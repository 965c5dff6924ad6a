"""Weights for where the model itself is in doubt: rough ψ, such as the rim of a strongly refracting body.

Rough ψ enters the model to first order. Its second order, ½ Σ ∂_i∂_j (u_i u_j M) with u its gradient, spreads
speckles as a dark-field of |u|²/4 would, and is taken for one. What is known to be uncertain by a dark-field
d₀ is uncertain by d₀ ∇²M in every frame, and data of variance σ² + d₀² ⟨(∇²M)²⟩ get their weight by it.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

from xmist.numerics.operators.derivatives import DX, DY, derivative
from xmist.numerics.solvers.poisson import smoothed

Real = NDArray[Any]

# d₀ over the local mean of |u|². The second order alone is ¼; at a rim rays cross and waves bend besides, and
# what was found of u is smoother than it is. Chosen on a simulated currant and tubes with sharp walls.
_DOUBT: Final = 4.0
_LOCAL: Final = 2.0  # σ in pixels


def doubt(psi: Real, *, smoothing: float, curvature: float, noise: float, threads: int | None = None) -> Real:
    """Give factors for the weights of the data.

    Parameters
    ----------
    psi : (y, x) float32 array
        ψ in pixels².
    smoothing : float
        σ in pixels of the Gaussian beyond which ψ is rough.
    curvature : float
        ⟨(∇²M)²⟩ of a model image per pixel⁴.
    noise : float
        Variance σ² of a datum of weight 1, positive.
    threads : int, optional
        Threads; the result does not depend on it.

    Returns
    -------
    (y, x) float32 array
        σ²/(σ² + d₀² ⟨(∇²M)²⟩).

    Examples
    --------
    >>> y, x = np.mgrid[:64, :64].astype(np.float32)
    >>> smooth, bump = 0.01 * x**2, 4.0 * np.exp(-((x - 32) ** 2 + (y - 32) ** 2) / 4)
    >>> factors = doubt(smooth + bump, smoothing=2.0, curvature=0.05, noise=1e-5)
    >>> bool(factors[8:24, 8:24].min() > 0.99), bool(factors[32, 32] < 0.01)
    (True, True)
    """
    rough = psi - smoothed(psi, smoothing, threads=threads)
    square = sum(np.square(derivative(rough, kind, threads=threads)) for kind in (DX, DY))
    spread = _DOUBT * scipy.ndimage.gaussian_filter(square, _LOCAL, mode="reflect")
    factors: Real = 1.0 / (1.0 + np.square(spread) * np.float32(curvature / noise))
    return factors
