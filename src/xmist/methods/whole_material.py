"""The exact equation of a single material over the whole image, for `single-material`.

In pixel units, ℓ² = γ∆/(2k p²) and with the contrast u = 1 − T,

    A_n u = I_R,n u − ℓ² ∇·(I_R,n ∇u) = I_R,n − I_S,n

which is the transport operator of `xmist.numerics.transport` on ψ = ℓ² u and ln T = u: references are
differentiated to sixth order, u by three-point stencils, and the adjoint is exact. Σ_n w_n (A_n u − …)² is
minimised; for one exposure without dead pixels that solves the equation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.data import Image
from xmist.methods.direct import exposure_weights
from xmist.methods.pixelwise import PreparedReference
from xmist.numerics.conjugate_gradients import Convergence, conjugate_gradients
from xmist.numerics.poisson import dct2
from xmist.numerics.preconditioner import expected_block, moments
from xmist.numerics.reduce import dot
from xmist.numerics.transport import LOG_T, PSI, Transport

Real = NDArray[Any]

_KINDS: Final = (PSI, LOG_T)
_LIMIT: Final = 200
# Part of what noise leaves in the residual that the solve may miss: 1 % of the error that noise makes in T.
_NEGLIGIBLE: Final = 1e-4
_BLOCK: Final = 64  # rows


@dataclass(frozen=True, kw_only=True, eq=False)
class _Equation:
    transport: Transport
    length2: np.float32
    inverse: Image  # one over the expected symbol of AᵀWA, in the cosine basis
    threads: int

    def _fields(self, u: Real) -> Real:
        return np.stack([self.length2 * u, u])

    def _fold(self, fields: Real) -> Real:
        out: Real = fields[1]
        out += self.length2 * fields[0]
        return out

    def normal(self, u: Real) -> Real:
        return self._fold(self.transport.normal(self._fields(u[0])))[None]

    def residual(self, u: Real, reference: Image, sample: Image) -> tuple[Real, float]:
        """Give Aᵀ W r and Σ w r², exposure by exposure, for the sake of memory."""
        right = np.zeros_like(u)
        total = 0.0
        fields = self._fields(u)
        weights = self.transport.weights
        for n in range(len(reference)):
            part = slice(n, n + 1)
            one = Transport(
                frames=reference[part],
                kinds=_KINDS,
                weights=None if weights is None else weights[part],
                threads=self.threads,
            )
            rest = (reference[part] - sample[part]) - one.forward(fields)
            if weights is not None:
                rest[weights[part] == 0.0] = 0.0  # set, not multiplied: 0 times a NaN would not be 0
                total += dot(rest, weights[part] * rest, threads=self.threads)
            else:
                total += dot(rest, rest, threads=self.threads)
            right += self._fold(one.adjoint(rest))
        return right, total

    def precondition(self, residual: Real) -> Real:
        coefficients = dct2(residual[0].copy(), threads=self.threads)
        coefficients *= self.inverse
        return dct2(coefficients, inverse=True, threads=self.threads)[None]


def inverse_symbol(reference: PreparedReference, *, length2: float, threads: int) -> Image:
    """Give one over the expected symbol of the normal operator, which preconditions `refine`.

    Parameters
    ----------
    reference : PreparedReference
        References with their weights.
    length2 : float
        ℓ² in pixels².
    threads : int
        Threads; the result does not depend on it.

    Returns
    -------
    (y, x) float32 array
        In the cosine basis.
    """
    moment = moments(reference.frames, reference.weights, threads=threads)
    height, width = reference.frames.shape[1:]
    out = np.empty((height, width), np.float32)
    for start in range(0, height, _BLOCK):
        rows = slice(start, min(start + _BLOCK, height))
        block = expected_block(_KINDS, moment, (height, width), rows)
        symbol = length2**2 * block[..., 0, 0] + 2.0 * length2 * block[..., 0, 1] + block[..., 1, 1]
        out[rows] = 1.0 / symbol
    return out


def refine(
    transmission: Image,
    reference: PreparedReference,
    sample: Image,
    given: Image | None,
    *,
    length2: float,
    inverse: Image,
    threads: int,
) -> tuple[Image, Convergence]:
    """Solve T I_R − ℓ² ∇·(I_R ∇T) = I_S for all exposures, from a first guess.

    Parameters
    ----------
    transmission : (y, x) float32 array
        First guess of T; what the equations leave open keeps it.
    reference : PreparedReference
        References with their weights.
    sample : (position, y, x) float32 array
        Frames with the sample; may hold anything where the weight is 0.
    given : (position, y, x) float32 array or None
        Weights that multiply those of the reference.
    length2 : float
        ℓ² in pixels².
    inverse : (y, x) float32 array
        Of `inverse_symbol`.
    threads : int
        Threads; the result does not depend on it.

    Returns
    -------
    transmission : (y, x) float32 array
        T.
    convergence : Convergence
        How it went.
    """
    combined = [
        exposure_weights(
            frame,
            None if reference.weights is None else reference.weights[n],
            None if given is None else given[n],
        )
        for n, frame in enumerate(sample)
    ]
    weights = None
    if any(w is not None for w in combined):
        one = np.ones(sample.shape[1:], np.float32)
        weights = np.stack([one if w is None else w for w in combined])
    equation = _Equation(
        transport=Transport(frames=reference.frames, kinds=_KINDS, weights=weights, threads=threads),
        length2=np.float32(length2),
        inverse=inverse,
        threads=threads,
    )
    u = np.subtract(1.0, transmission, dtype=np.float32)
    right, constant = equation.residual(u, reference.frames, sample)
    step, how = conjugate_gradients(
        equation.normal,
        right[None],
        precondition=equation.precondition,
        constant=constant,
        negligible=lambda objective: _NEGLIGIBLE * objective / len(sample),
        limit=_LIMIT,
        threads=threads,
    )
    u += step[0]
    return np.subtract(1.0, u, dtype=np.float32), how
