"""What a fine pattern of the sample does in a beam whose direction differs from speckle to speckle.

Rays that meet at the detector at r crossed the sample at r − s(r), s what their direction makes of the way
from sample to detector. Behind a diffuser that bends rays a little, I = 1 − ∇·(L θ) at a distance L: so
L θ = −∇∇⁻²(I − 1) where θ has no curl, and s is a part of it. Where the sample is smooth over s, which is
less than a pixel, this changes nothing. The rough part of ψ and ln T moves by it, from exposure to exposure
in another direction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmist.numerics.operators.derivatives import DX, DY, derivative
from xmist.numerics.operators.finite_transport import sampled, spline_coefficients
from xmist.numerics.operators.transport import LOG_T, PSI
from xmist.numerics.solvers.poisson import inverse_laplacian, smoothed

Real = NDArray[Any]


def bending(frame: Real, *, threads: int | None = None) -> Real:
    """Give L θ in pixels, from the speckles that it made.

    Parameters
    ----------
    frame : (y, x) float array
        Reference without noise.
    threads : int, optional
        Threads; the result does not depend on it.

    Returns
    -------
    (2, y, x) array
        Along x and y, of the frame's dtype.

    Examples
    --------
    >>> x = np.arange(64) + 0.5
    >>> frame = np.tile(1 - 0.1 * np.cos(np.pi * x / 8), (32, 1))
    >>> along_x, along_y = bending(frame)
    >>> bool(np.allclose(along_x, 0.1 * 8 / np.pi * np.sin(np.pi * x / 8), atol=1e-4))
    True
    """
    mean = frame.mean(dtype=np.float64)
    source = frame / frame.dtype.type(-mean)
    source += 1
    potential = inverse_laplacian(source, symbol="spectral", overwrite=True, threads=threads)
    out = np.empty((2, *frame.shape), frame.dtype)
    for line, kind in zip(out, (DX, DY), strict=True):
        derivative(potential, kind, out=line, threads=threads)
    return out


@dataclass(frozen=True, eq=False)
class Pattern:
    """The rough part of a sample, ready to be moved.

    Parameters
    ----------
    images : tuple of (y, x) float array
        Slopes of rough ψ along x and y, and rough ln T where it is an unknown.
    coefficients : tuple of (y, x) float array
        Those of the splines through them.
    threads : int, optional
        Threads; no result depends on it.
    """

    images: tuple[Real, ...]
    coefficients: tuple[Real, ...]
    threads: int | None = None

    @classmethod
    def of(
        cls, kinds: tuple[int, ...], fields: Real, *, smoothing: float, threads: int | None = None
    ) -> Pattern:
        """Take it from the unknowns.

        Parameters
        ----------
        kinds : tuple of int
            Unknowns, see `xmist.numerics.operators.transport`; ψ is one of them.
        fields : (unknown, y, x) array
            Their values in pixel units.
        smoothing : float
            σ in pixels of the Gaussian beyond which they are rough.
        threads : int, optional
            Threads.
        """
        named = dict(zip(kinds, fields, strict=True))

        def rough(kind: int) -> Real:
            out: Real = named[kind] - smoothed(named[kind], smoothing, threads=threads)
            return out

        psi = rough(PSI)
        images = [derivative(psi, kind, threads=threads) for kind in (DX, DY)]
        if LOG_T in named:
            images.append(rough(LOG_T))
        return cls(
            tuple(images), tuple(spline_coefficients(image, threads=threads) for image in images), threads
        )

    def change(self, model: Real, shift: Real) -> Real:
        """Give what moving the pattern takes from the model of an exposure, and adds to what it leaves.

        Parameters
        ----------
        model : (y, x) float array
            Model image M.
        shift : (2, y, x) array
            s along x and y in pixels.

        Returns
        -------
        (y, x) array
            ∇·(M δu) − M δt, δ the difference between a value at r − s and at r.

        Examples
        --------
        >>> psi = np.random.default_rng(1).normal(size=(1, 24, 32))
        >>> pattern = Pattern.of((PSI,), psi, smoothing=2.0)
        >>> bool(np.abs(pattern.change(np.ones((24, 32)), np.zeros((2, 24, 32)))).max() < 1e-12)
        True
        """
        threads = self.threads
        moved = []
        for image, coefficients in zip(self.images, self.coefficients, strict=True):
            value = sampled(coefficients, shift, threads=threads)
            value -= image
            moved.append(value)
        out: Real = np.zeros_like(model)
        for value, kind in zip(moved, (DX, DY), strict=False):
            out += model * derivative(value, kind, threads=threads)
            out += derivative(model, kind, threads=threads) * value
        if len(moved) > 2:
            out -= model * moved[2]
        return out
