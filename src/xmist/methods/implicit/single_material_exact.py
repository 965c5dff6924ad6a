"""The exact equation of a single material over the whole image, for `single-material`.

In pixel units, ℓ² = γ∆/(2k p²) and with the contrast u = 1 − T,

    A_n u = I_R,n u − ℓ² ∇·(I_R,n ∇u) = I_R,n − I_S,n

At a pixel A_n u = c_n·v, with the columns c_n = (I_R,n, ∂_xI_R,n, ∂_yI_R,n), to sixth order, and
v = (u − ℓ²∇²u, −ℓ²∂_xu, −ℓ²∂_yu) by three-point stencils. With E: u → v, the normal equations of
Σ_n w_n (A_n u − I_R,n + I_S,n)² are

    Eᵀ (Σ_n w_n c_n c_nᵀ) E u = Eᵀ Σ_n w_n c_n (I_R,n − I_S,n)

so that the positions are summed once, as for least squares at a pixel, and a step of conjugate gradients
costs the same for any number of them. The adjoint is exact. For one position without dead pixels the minimum
solves the equation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.core.arrays import Image
from xmist.methods.common.reference import PreparedReference
from xmist.numerics.compiled import jit
from xmist.numerics.operators.derivatives import DX, DY, VALUE
from xmist.numerics.operators.stencils import divergence, gradient, laplacian
from xmist.numerics.operators.transport import LOG_T, PSI
from xmist.numerics.parallel import for_blocks
from xmist.numerics.solvers import least_squares
from xmist.numerics.solvers.conjugate_gradients import Convergence, conjugate_gradients
from xmist.numerics.solvers.least_squares import LOST_SAMPLE, System
from xmist.numerics.solvers.poisson import dct2
from xmist.numerics.solvers.preconditioner import expected_block, moments

Real = NDArray[Any]

_SYSTEM: Final = System(kinds=(VALUE, DX, DY))
_KINDS: Final = (PSI, LOG_T)
_LIMIT: Final = 200
# Share of the residual's noise that the solution may miss: 1 % of the error that noise makes in T.
_NEGLIGIBLE: Final = 1e-4
_BLOCK: Final = 64  # rows


@dataclass(frozen=True, kw_only=True, eq=False)
class WholeMaterial:
    """The terms of the exact equation that depend on the references."""

    matrix: Image  # (6, y, x) Σ_n w_n c_n c_nᵀ, the lower triangle row by row
    inverse: Image  # (y, x) one over the expected symbol of the normal operator in the cosine basis
    length2: float  # ℓ² in pixels²


def prepare_whole(reference: PreparedReference, *, length2: float, threads: int) -> WholeMaterial:
    """Sum the terms that depend on the references alone; ℓ² in pixels²."""
    matrix, _, _ = least_squares.normal_equations(
        reference.frames, reference.frames, _SYSTEM, weights=reference.weights, threads=threads
    )
    moment = moments(reference.frames, reference.weights, threads=threads)
    height, width = reference.frames.shape[1:]
    inverse = np.empty((height, width), np.float32)
    for start in range(0, height, _BLOCK):
        rows = slice(start, min(start + _BLOCK, height))
        block = expected_block(_KINDS, moment, (height, width), rows)
        symbol = length2**2 * block[..., 0, 0] + 2.0 * length2 * block[..., 0, 1] + block[..., 1, 1]
        inverse[rows] = 1.0 / symbol
    return WholeMaterial(matrix=matrix, inverse=inverse, length2=length2)


@jit
def _multiply_rows(matrix, value, slope, start, stop):  # type: ignore[no-untyped-def]
    for y in range(start, stop):
        for x in range(value.shape[1]):
            v, s, t = value[y, x], slope[0, y, x], slope[1, y, x]
            value[y, x] = matrix[0, y, x] * v + matrix[1, y, x] * s + matrix[3, y, x] * t
            slope[0, y, x] = matrix[1, y, x] * v + matrix[2, y, x] * s + matrix[4, y, x] * t
            slope[1, y, x] = matrix[3, y, x] * v + matrix[4, y, x] * s + matrix[5, y, x] * t


@jit
def _square_rows(reference, sample, weights, sums, start, stop):  # type: ignore[no-untyped-def]
    for y in range(start, stop):
        total = 0.0
        for n in range(len(reference)):
            for x in range(reference.shape[2]):
                weight = 1.0 if weights is None else np.float64(weights[n, y, x])
                difference = np.float64(reference[n, y, x]) - np.float64(sample[n, y, x])
                if weight > 0.0 and difference - difference == 0.0:
                    total += weight * difference * difference
        sums[y] = total


def _square(reference: Image, sample: Image, weights: Real | None, threads: int) -> float:
    """Return Σ w (I_R − I_S)²."""
    sums = np.empty(reference.shape[1])
    for_blocks(lambda a, b: _square_rows(reference, sample, weights, sums, a, b), len(sums), threads=threads)
    return float(sums.sum())


@dataclass(frozen=True, kw_only=True, eq=False)
class _Equation:
    matrix: Image
    inverse: Image
    length2: np.float32
    threads: int

    def normal(self, u: Real) -> Real:
        image = u[0]
        value = laplacian(image, threads=self.threads)
        value *= -self.length2
        value += image
        slope = gradient(image, scale=-float(self.length2), threads=self.threads)  # value and slope: E u
        for_blocks(
            lambda a, b: _multiply_rows(self.matrix, value, slope, a, b), len(image), threads=self.threads
        )
        return self.transpose(value, slope)

    def transpose(self, value: Real, slope: Real) -> Real:
        """Return Eᵀ of three images; the adjoint of the gradient is −divergence."""
        out = laplacian(value, threads=self.threads)
        np.subtract(divergence(slope, threads=self.threads), out, out=out)
        out *= self.length2
        out += value
        return out[None]

    def precondition(self, residual: Real) -> Real:
        coefficients = dct2(residual[0].copy(), threads=self.threads)
        coefficients *= self.inverse
        return dct2(coefficients, inverse=True, threads=self.threads)[None]


def refine(
    transmission: Image,
    whole: WholeMaterial,
    reference: PreparedReference,
    sample: Image,
    given: Image | None,
    *,
    threads: int,
) -> tuple[Image, Convergence]:
    """Solve T I_R − ℓ² ∇·(I_R ∇T) = I_S for all positions, from a first guess of the (y, x) T.

    Undetermined parts keep the guess; `given` are weights that multiply those of the reference.
    """
    weights = reference.weights
    if given is not None:
        weights = given if weights is None else given * weights
    matrix = whole.matrix if given is None else None
    new, right, status = least_squares.normal_equations(
        reference.frames, sample, _SYSTEM, weights=weights, want_matrix=matrix is None, threads=threads
    )
    if matrix is not None and (status & LOST_SAMPLE).any():
        matrix = None  # the sample's own bad pixels take equations from the matrix too
        new, right, status = least_squares.normal_equations(
            reference.frames, sample, _SYSTEM, weights=weights, threads=threads
        )
    equation = _Equation(
        matrix=new if matrix is None else matrix,
        inverse=whole.inverse,
        length2=np.float32(whole.length2),
        threads=threads,
    )
    u, how = conjugate_gradients(
        equation.normal,
        equation.transpose(right[0], right[1:]),
        precondition=equation.precondition,
        constant=_square(reference.frames, sample, weights, threads),
        negligible=lambda objective: _NEGLIGIBLE * objective / len(sample),
        start=np.subtract(1.0, transmission, dtype=np.float32)[None],
        limit=_LIMIT,
        threads=threads,
    )
    return np.subtract(1.0, u[0], dtype=np.float32), how
