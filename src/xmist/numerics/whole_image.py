"""Whole-image least squares: min ‖W^½ (b − A u)‖² + priors, by conjugate gradients in the cosine basis.

In that basis priors and preconditioner are diagonal (one small block a frequency), so that an iteration costs
one application of AᵀWA and one cosine transform there and back of each unknown, whatever the priors are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from xmist.numerics.conjugate_gradients import Convergence, conjugate_gradients
from xmist.numerics.poisson import dct2
from xmist.numerics.preconditioner import Prior, block_preconditioner, moments
from xmist.numerics.reduce import dot
from xmist.numerics.transport import Transport

Real = NDArray[Any]


def to_cosines(fields: Real, *, inverse: bool = False, threads: int | None = None) -> Real:
    """Transform each image of a stack to the cosine basis, or back, in its own memory.

    Parameters
    ----------
    fields : (unknown, y, x) float array
        Images; overwritten.
    inverse : bool
        Transform back.
    threads : int, optional
        Threads; the result does not depend on it.

    Examples
    --------
    >>> fields = np.ones((1, 4, 4))
    >>> round(float(to_cosines(fields)[0, 0, 0]), 12)
    4.0
    """
    for field in fields:
        field[...] = dct2(field, inverse=inverse, threads=threads)
    return fields


def solve(
    transport: Transport,
    images: Real,
    priors: tuple[Prior, ...],
    *,
    negligible: Callable[[float], float],
    start: Real | None = None,
    pull: Real | None = None,
    limit: int = 300,
    relative: float = 1e-12,
) -> tuple[Real, Convergence]:
    """Fit the unknowns to images.

    Parameters
    ----------
    transport : Transport
        A with its weights W.
    images : (position, y, x) float array
        b, of the frames' dtype.
    priors : tuple of Prior
        One an unknown.
    negligible : callable
        Gives, for the present objective, the error in the objective that does not matter.
    start : (unknown, y, x) float array, optional
        First guess; 0 if left out. Not modified.
    pull : (unknown, y, x) float array, optional
        Cosine coefficients added to the right side: the priors' precision times their means.
    limit : int
        Most steps.
    relative : float
        Error of the objective, relative to its decrease from u = 0, that rounding does not let it get below.

    Returns
    -------
    fields : (unknown, y, x) array
        u, of the frames' dtype; the mean of ψ is 0.
    convergence : Convergence
        How it went; the objective includes the priors.

    Examples
    --------
    >>> from xmist.numerics.transport import PSI
    >>> frames = np.random.default_rng(1).uniform(1, 2, (3, 16, 18))
    >>> transport = Transport(frames=frames, kinds=(PSI,))
    >>> psi = np.random.default_rng(2).normal(size=(1, 16, 18))
    >>> psi -= psi.mean()
    >>> found, _ = solve(transport, transport.forward(psi), (Prior(),), negligible=lambda objective: 0.0)
    >>> bool(np.allclose(found, psi, atol=1e-4))
    True
    """
    threads = transport.threads
    shape = (int(images.shape[1]), int(images.shape[2]))
    dtype = images.dtype
    weights = transport.weights
    precisions = [
        None if prior == Prior(order=prior.order) else prior.precision(shape).astype(dtype)
        for prior in priors
    ]

    def normal(coefficients: Real) -> Real:
        fields = to_cosines(coefficients.copy(), inverse=True, threads=threads)
        out = to_cosines(transport.normal(fields), threads=threads)
        for image, precision, field in zip(out, precisions, coefficients, strict=True):
            if precision is not None:
                image += precision * field
        return out

    right = to_cosines(transport.adjoint(images), threads=threads)
    if pull is not None:
        right += pull
    constant = dot(images, images if weights is None else images * weights, threads=threads)
    precondition = block_preconditioner(
        transport.kinds,
        moments(transport.frames, weights, threads=threads),
        shape,
        priors=priors,
        threads=threads,
    )
    found, convergence = conjugate_gradients(
        normal,
        right,
        precondition=precondition,
        constant=constant,
        negligible=negligible,
        start=None if start is None else to_cosines(start.copy(), threads=threads),
        limit=limit,
        relative=relative,
        threads=threads,
    )
    return to_cosines(found, inverse=True, threads=threads), convergence
