"""Displacement of fine structure of the sample by the diffuser, which bends the rays.

Rays that meet at the detector at r crossed the sample at r − s(r), with s proportional to their angle. Behind
a diffuser that bends rays a little, I = 1 − ∇·(L θ) at a distance L: so L θ = −∇∇⁻²(I − 1) where θ has no
curl, and s is a part of it. Rough ψ and ln T are displaced by it, differently at each position. So is smooth
ln T: s·∇ ln T goes with the speckles, and looks like a displacement of them (see `Pattern.with_attenuation`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmist.numerics.operators.derivatives import DX, DY, derivative
from xmist.numerics.operators.finite_transport import sampled, spline_coefficients
from xmist.numerics.operators.transport import LOG_T, PSI
from xmist.numerics.solvers.poisson import inverse_laplacian, smoothed

Real = NDArray[Any]


def bending(frame: Real, *, threads: int | None = None) -> Real:
    """Return L θ (2, y, x) along x and y in pixels, from the speckles (y, x; without noise) that it made."""
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
    """What of a sample is displaced.

    `images`: slopes of rough ψ along x and y, and ln T, rough or whole, where it is an unknown, (y, x);
    `coefficients`: those of the splines through them.
    """

    images: tuple[Real, ...]
    coefficients: tuple[Real, ...]
    threads: int | None = None

    @classmethod
    def of(
        cls, kinds: tuple[int, ...], fields: Real, *, smoothing: float, threads: int | None = None
    ) -> Pattern:
        """Return that of unknowns (unknown, y, x), rough beyond σ = `smoothing` pixels."""
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

    def with_attenuation(self, log_t: Real) -> Pattern:
        """Return it with the whole of ln T (y, x).

        With s a part p of −∇∇⁻²(I − 1), its term −M s·∇ ln T is, as far as ψ can explain it, that of an error
        of ψ of p ⟨(I − 1)²⟩/⟨|∇I|²⟩ ln T.
        """
        coefficients = spline_coefficients(log_t, threads=self.threads)
        return replace(
            self, images=(*self.images[:2], log_t), coefficients=(*self.coefficients[:2], coefficients)
        )

    def change(self, model: Real, shift: Real) -> Real:
        """Return the decrease of a model image M (y, x) if the pattern is displaced by s (2, y, x).

        ∇·(M δu) − M δt, δ the difference between a value at r − s and at r.
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
