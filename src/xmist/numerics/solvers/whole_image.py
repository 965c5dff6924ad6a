"""Whole-image least squares: min ‖W^½ (b − A u)‖² + priors, by conjugate gradients in the cosine basis.

In that basis priors and preconditioner are diagonal (one small block a frequency), so that an iteration costs
one application of AᵀWA and one cosine transform there and back of each unknown, whatever the priors are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmist.numerics.operators.derivatives import jit
from xmist.numerics.operators.transport import Transport
from xmist.numerics.parallel import for_blocks
from xmist.numerics.reduce import dot
from xmist.numerics.solvers.conjugate_gradients import Convergence, conjugate_gradients
from xmist.numerics.solvers.poisson import dct2, frequencies
from xmist.numerics.solvers.preconditioner import Prior, block_preconditioner, moments
from xmist.numerics.weights import Images

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


def energy(images: Images, weights: Images | None = None, *, threads: int | None = None) -> float:
    """Give the weighted sum of squares of images, with memory for one or two more.

    Parameters
    ----------
    images : (position, y, x) float array, or sequence of images
        Images.
    weights : (position, y, x) float array or Weights, optional
        Weights; None means 1.
    threads : int, optional
        Threads; the result does not depend on it.

    Examples
    --------
    >>> energy(np.full((2, 3, 4), 2.0), np.full((2, 3, 4), 0.5))
    48.0
    """
    if weights is None:
        return sum(dot(a, a, threads=threads) for a in images)
    return sum(dot(a, a * w, threads=threads) for a, w in zip(images, weights, strict=True))


def prior_energy(fields: Real, priors: tuple[Prior, ...], *, threads: int | None = None) -> float:
    """Give what the priors add to the objective.

    Parameters
    ----------
    fields : (unknown, y, x) float array
        The unknowns in pixel units. Not modified.
    priors : tuple of Prior
        One an unknown.
    threads : int, optional
        Threads; the result does not depend on it.

    Examples
    --------
    >>> round(prior_energy(np.full((1, 4, 4), 3.0), (Prior(floor=0.5),)), 9)
    72.0
    """
    total = 0.0
    for field, prior in zip(fields, priors, strict=True):
        if prior.strength or prior.floor:
            cosines = to_cosines(field[None].copy(), threads=threads)[0]
            weighed = np.zeros_like(cosines)
            _add_prior(weighed, cosines, prior, threads)
            total += dot(cosines, weighed, threads=threads)
    return total


@dataclass(frozen=True, kw_only=True, eq=False)
class Right:
    """Right side of the normal equations: all that a solve needs to know of the images b.

    Parameters
    ----------
    coefficients : (unknown, y, x) float array
        Cosine coefficients of Aᵀ W b.
    constant : float
        ‖W^½ b‖².

    Examples
    --------
    >>> from xmist.numerics.operators.transport import LOG_T
    >>> transport = Transport(frames=np.full((2, 4, 4), 2.0), kinds=(LOG_T,))
    >>> one = Right.of(transport, np.ones((2, 4, 4)))
    >>> round(float(one.coefficients[0, 0, 0]), 9), one.constant
    (16.0, 32.0)
    >>> other = Right.about(transport, np.zeros((2, 4, 4)), np.full((1, 4, 4), 0.5))
    >>> bool(np.allclose(other.coefficients, one.coefficients)), round(other.constant, 9)
    (True, 32.0)
    """

    coefficients: Real
    constant: float

    @classmethod
    def of(cls, transport: Transport, images: Images) -> Right:
        """Make that of images b, one by one.

        Parameters
        ----------
        transport : Transport
            A with its weights W.
        images : (position, y, x) float array, or sequence of images
            b, of the frames' dtype.
        """
        right, constant = _gathered(transport, images)
        return cls(coefficients=to_cosines(right, threads=transport.threads), constant=constant)

    @classmethod
    def about(cls, transport: Transport, residual: Images, fields: Real) -> Right:
        """Make that of b = r + A u, which is not made: it would be as large as the frames.

        Parameters
        ----------
        transport : Transport
            A with its weights W.
        residual : (position, y, x) float array, or sequence of images
            r, of the frames' dtype.
        fields : (unknown, y, x) float array
            u in pixel units.
        """
        threads = transport.threads
        right, constant = _gathered(transport, residual)
        if fields.any():
            image = transport.normal(fields)
            constant += 2.0 * dot(right, fields, threads=threads) + dot(image, fields, threads=threads)
            right += image
        return cls(coefficients=to_cosines(right, threads=threads), constant=constant)

    def scaled(self, factor: float) -> Right:
        """Give that of images so many times as large; the memory of this one is used."""
        self.coefficients[...] *= self.coefficients.dtype.type(factor)
        return Right(coefficients=self.coefficients, constant=factor**2 * self.constant)


def _gathered(transport: Transport, images: Images) -> tuple[Real, float]:
    """Give Aᵀ W b and ‖W^½ b‖²."""
    frames, weights = transport.frames, transport.weights
    right = np.zeros((len(transport.kinds), *frames.shape[1:]), frames.dtype)
    constant = 0.0
    for n, image in enumerate(images):
        transport.gather(n, image, right)
        w = None if weights is None else weights[n]
        constant += energy([image], None if w is None else [w], threads=transport.threads)
    return right, constant


class Solver:
    """The least-squares problem of an operator and priors, prepared for any number of images.

    Parameters
    ----------
    transport : Transport
        A with its weights W.
    priors : tuple of Prior
        One a kind of the operator.
    mix : (kinds, unknowns) float array, optional
        Kinds as combinations of unknowns, for the preconditioner; None: every kind is an unknown.

    Examples
    --------
    >>> from xmist.numerics.operators.transport import PSI
    >>> frames = np.random.default_rng(1).uniform(1, 2, (3, 16, 18))
    >>> solver = Solver(Transport(frames=frames, kinds=(PSI,)), (Prior(),))
    >>> found, how = solver(0.01 * frames, negligible=lambda objective: 0.0)
    >>> found.shape, how.converged
    ((1, 16, 18), True)
    """

    def __init__(self, transport: Transport, priors: tuple[Prior, ...], *, mix: Real | None = None) -> None:
        self._transport, self._threads = transport, transport.threads
        frames = transport.frames
        shape = (int(frames.shape[1]), int(frames.shape[2]))
        self._priors = priors
        self._preconditioner = block_preconditioner(
            transport.kinds,
            moments(frames, transport.weights, threads=self._threads),
            shape,
            priors=priors,
            mix=mix,
            threads=self._threads,
        )

    @property
    def exposures(self) -> int:
        """Number of images that the unknowns are fitted to."""
        return len(self._transport.frames)

    def __call__(
        self,
        images: Real | Right,
        *,
        negligible: Callable[[float], float],
        start: Real | None = None,
        pull: Real | None = None,
        limit: int = 300,
        relative: float = 1e-12,
    ) -> tuple[Real, Convergence]:
        """Fit the kinds to images, or to a right side; see `solve`.

        The memory of the start is used, and that of the right side where there is no pull.
        """
        threads, frames = self._threads, self._transport.frames
        right = images if isinstance(images, Right) else Right.of(self._transport, images)
        # Used anew at every step: to ask the system for memory costs as much as to fill it.
        self._fields, self._image = (
            np.empty((len(self._priors), *frames.shape[1:]), frames.dtype) for _ in range(2)
        )
        try:
            found, convergence = conjugate_gradients(
                self._normal,
                self._fold(right.coefficients if pull is None else right.coefficients + pull),
                precondition=self._precondition,
                constant=right.constant,
                negligible=negligible,
                start=None if start is None else self._begin(start),
                limit=limit,
                relative=relative,
                overwrite=True,
                threads=threads,
            )
        finally:
            del self._fields, self._image
        return self._end(to_cosines(found, inverse=True, threads=threads)), convergence

    def _begin(self, start: Real) -> Real:
        """Give the coefficients of the unknowns from images of the kinds, in their memory if it can be."""
        return to_cosines(start, threads=self._threads)

    def _end(self, unknowns: Real) -> Real:
        """Give images of the kinds from those of the unknowns."""
        return unknowns

    def _fold(self, kinds: Real) -> Real:
        """Give what a right side for the kinds is for the unknowns."""
        return kinds

    def _precondition(self, residual: Real) -> Real:
        return self._preconditioner.apply(residual, self._fields)

    def _normal(self, coefficients: Real) -> Real:
        """Apply AᵀWA + P in the cosine basis."""
        np.copyto(self._fields, coefficients)
        to_cosines(self._fields, inverse=True, threads=self._threads)
        out = to_cosines(self._transport.normal(self._fields, out=self._image), threads=self._threads)
        for image, prior, field in zip(out, self._priors, coefficients, strict=True):
            if prior.strength or prior.floor:
                _add_prior(image, field, prior, self._threads)
        return out


@jit
def _add_prior_rows(image, field, symbol_y, symbol_x, strength, order, floor, start, stop):  # type: ignore[no-untyped-def]
    number = image.dtype.type
    for y in range(start, stop):
        s_y, target, source = symbol_y[y], image[y], field[y]
        for x in range(len(target)):
            s = s_y + symbol_x[x]
            power = s * np.sqrt(s) if order == 1.5 else s**order
            target[x] += number(strength * power + floor) * source[x]


def _add_prior(image: Real, field: Real, prior: Prior, threads: int | None) -> None:
    """Add a prior's precision times cosine coefficients; to keep it would take an image a prior."""
    symbol_y, symbol_x = (4 * np.sin(k / 2) ** 2 for k in frequencies(image.shape))
    choice = (float(prior.strength), float(prior.order), float(prior.floor))
    for_blocks(
        lambda a, b: _add_prior_rows(image, field, symbol_y, symbol_x, *choice, a, b),
        len(image),
        threads=threads,
    )


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
    >>> from xmist.numerics.operators.transport import PSI
    >>> frames = np.random.default_rng(1).uniform(1, 2, (3, 16, 18))
    >>> transport = Transport(frames=frames, kinds=(PSI,))
    >>> psi = np.random.default_rng(2).normal(size=(1, 16, 18))
    >>> psi -= psi.mean()
    >>> found, _ = solve(transport, transport.forward(psi), (Prior(),), negligible=lambda objective: 0.0)
    >>> bool(np.allclose(found, psi, atol=1e-4))
    True
    """
    return Solver(transport, priors)(
        images,
        negligible=negligible,
        start=None if start is None else start.copy(),
        pull=pull,
        limit=limit,
        relative=relative,
    )
