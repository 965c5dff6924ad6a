"""Whole-image least squares: min ‖W^½ (b − A u)‖² + priors, by conjugate gradients in the cosine basis.

In that basis priors and preconditioner are diagonal (one small block per frequency), so that an iteration
costs one application of AᵀWA and one cosine transform there and back of each unknown, whatever the priors
are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.numerics.compiled import jit
from xmist.numerics.operators.roughness import add_roughness
from xmist.numerics.operators.transport import NormalOperator, Transport
from xmist.numerics.parallel import for_blocks
from xmist.numerics.reduce import dot
from xmist.numerics.solvers.conjugate_gradients import Convergence, conjugate_gradients
from xmist.numerics.solvers.poisson import dct2, frequencies
from xmist.numerics.solvers.preconditioner import Prior, block_preconditioner, moments, moments_of
from xmist.numerics.weights import Images, Weights

Real = NDArray[Any]

_MANY: Final = 3  # positions from which on sums over them cost less than reading them each time


def to_cosines(fields: Real, *, inverse: bool = False, threads: int | None = None) -> Real:
    """Transform each image of a stack (unknown, y, x) to the cosine basis, or back, in its own memory."""
    for field in fields:
        field[...] = dct2(field, inverse=inverse, threads=threads)
    return fields


def energy(images: Images, weights: Images | None = None, *, threads: int | None = None) -> float:
    """Return the weighted sum of squares of images (position, y, x), with memory for one or two more."""
    if isinstance(weights, Weights):
        return sum(weights.energy(n, a, threads=threads) for n, a in enumerate(images))
    if weights is None:
        return sum(dot(a, a, threads=threads) for a in images)
    return sum(dot(a, a * w, threads=threads) for a, w in zip(images, weights, strict=True))


def empty_pixels(weights: Images | None, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return the pixels (y, x) that have no weight in any position."""
    if weights is None:
        return np.zeros(shape, bool)
    stack = weights.codes if isinstance(weights, Weights) else np.asarray(weights)
    return np.asarray(~np.any(stack, axis=0))


def prior_energy(
    fields: Real, priors: tuple[Prior, ...], *, weights: Images | None = None, threads: int | None = None
) -> float:
    """Return what the priors add to the objective at unknowns (unknown, y, x) in pixel units.

    `weights` say which pixels are empty for a natural prior; None means none.
    """
    total = 0.0
    for field, prior in zip(fields, priors, strict=True):
        if prior.natural:
            empty = empty_pixels(weights, field.shape)
            total += _add_natural(field, empty, prior, np.zeros_like(field), threads)
        elif prior.strength or prior.floor:
            cosines = to_cosines(field[None].copy(), threads=threads)[0]
            weighed = np.zeros_like(cosines)
            _add_prior(weighed, cosines, prior, threads)
            total += dot(cosines, weighed, threads=threads)
    return total


@dataclass(frozen=True, kw_only=True, eq=False)
class Right:
    """Right side of the normal equations, which represents the images b in a solve.

    `coefficients` (unknown, y, x): cosine coefficients of Aᵀ W b; `constant`: ‖W^½ b‖².
    """

    coefficients: Real
    constant: float

    @classmethod
    def of(cls, transport: Transport, images: Images) -> Right:
        """Return that of images b (position, y, x), read one by one."""
        right, constant = _gathered(transport, images)
        return cls(coefficients=to_cosines(right, threads=transport.threads), constant=constant)

    @classmethod
    def about(
        cls, transport: Transport, residual: Images, fields: Real, normal: Callable[[Real], Real]
    ) -> Right:
        """Return that of b = r + A u without computing b, which would be as large as the frames.

        `residual` r (position, y, x); `fields` u (unknown, y, x) in pixel units; `normal` applies Aᵀ W A.
        """
        threads = transport.threads
        right, constant = _gathered(transport, residual)
        if fields.any():
            image = normal(fields)
            constant += 2.0 * dot(right, fields, threads=threads) + dot(image, fields, threads=threads)
            right += image
        return cls(coefficients=to_cosines(right, threads=threads), constant=constant)

    def scaled(self, factor: float) -> Right:
        """Return that of images `factor` times as large; the memory of this one is used."""
        self.coefficients[...] *= self.coefficients.dtype.type(factor)
        return Right(coefficients=self.coefficients, constant=factor**2 * self.constant)


def _gathered(transport: Transport, images: Images) -> tuple[Real, float]:
    """Return Aᵀ W b and ‖W^½ b‖²."""
    frames = transport.frames
    right = np.zeros((len(transport.kinds), *frames.shape[1:]), frames.dtype)
    constant = 0.0
    for n, image in enumerate(images):
        constant += gather(transport, n, image, right)
    return right, constant


def gather(transport: Transport, n: int, image: Real, right: Real) -> float:
    """Add Aᵀ W b of an image b (y, x) of a position to `right` (unknown, y, x); return ‖W^½ b‖²."""
    transport.gather(n, image, right)
    weights = transport.weights
    if isinstance(weights, Weights):
        return weights.energy(n, image, threads=transport.threads)
    return energy([image], None if weights is None else [weights[n]], threads=transport.threads)


def without_models(transport: Transport) -> Transport:
    """Return what is known of an operator without the memory of the model images."""
    frames = transport.frames
    return replace(transport, frames=np.broadcast_to(np.zeros((), frames.dtype), frames.shape))


class Solver:
    """The least-squares problem of an operator and priors (one per kind), prepared for any number of images.

    `mix` (kinds, unknowns): kinds as combinations of unknowns, for the preconditioner.
    """

    def __init__(self, transport: Transport, priors: tuple[Prior, ...], *, mix: Real | None = None) -> None:
        self._transport, self._threads = transport, transport.threads
        frames = transport.frames
        shape = (int(frames.shape[1]), int(frames.shape[2]))
        operator = transport.normal_operator() if len(frames) >= _MANY else None
        self.normal: Callable[..., Real] = transport.normal if operator is None else operator
        self.moments = (
            moments(frames, transport.weights, threads=self._threads)
            if operator is None
            else moments_of(operator)
        )
        self._priors = priors
        natural = any(prior.natural for prior in priors)
        self._empty = empty_pixels(transport.weights, shape) if natural else None
        self._preconditioner = block_preconditioner(
            transport.kinds,
            self.moments,
            shape,
            priors=priors,
            mix=mix,
            threads=self._threads,
        )

    def forget_models(self) -> None:
        """Free the memory of the model images if right sides do not need it; nothing else is solved then."""
        if isinstance(self.normal, NormalOperator):
            self._transport = without_models(self._transport)

    @property
    def positions(self) -> int:
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
        """Fit the kinds to images, or to a right side; return them and how it went.

        The memory of the start is used, and that of the right side where there is no pull.
        """
        threads, frames = self._threads, self._transport.frames
        right = images if isinstance(images, Right) else Right.of(self._transport, images)
        # Reused at every step: allocating memory takes as long as filling it.
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
        """Return the coefficients of the unknowns from images of the kinds, in their memory if possible."""
        return to_cosines(start, threads=self._threads)

    def _end(self, unknowns: Real) -> Real:
        """Return images of the kinds from those of the unknowns."""
        return unknowns

    def _fold(self, kinds: Real) -> Real:
        """Return the right side for the unknowns from that for the kinds."""
        return kinds

    def _precondition(self, residual: Real) -> Real:
        return self._preconditioner.apply(residual, self._fields)

    def _normal(self, coefficients: Real) -> Real:
        """Apply AᵀWA + P in the cosine basis."""
        np.copyto(self._fields, coefficients)
        to_cosines(self._fields, inverse=True, threads=self._threads)
        out = self.normal(self._fields, out=self._image)
        for image, prior, field in zip(out, self._priors, self._fields, strict=True):
            if prior.natural:
                assert self._empty is not None
                _add_natural(field, self._empty, prior, image, self._threads)
        to_cosines(out, threads=self._threads)
        for image, prior, field in zip(out, self._priors, coefficients, strict=True):
            if not prior.natural and (prior.strength or prior.floor):
                _add_prior(image, field, prior, self._threads)
        return out


def _add_natural(
    field: Real, empty: NDArray[np.bool_], prior: Prior, out: Real, threads: int | None
) -> float:
    """Add a natural prior's matrix times an image (y, x), and return its energy."""
    most = max(prior.strength, prior.empty)
    return add_roughness(field, empty, out, inside=prior.strength, empty=most, threads=threads)


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
    """Add a prior's precision times cosine coefficients, without storing the precision."""
    symbol_y, symbol_x = (4 * np.sin(k / 2) ** 2 for k in frequencies(image.shape))
    choice = (float(prior.strength), float(prior.order), float(prior.floor))
    for_blocks(
        lambda a, b: _add_prior_rows(image, field, symbol_y, symbol_x, *choice, a, b),
        len(image),
        threads=threads,
    )
