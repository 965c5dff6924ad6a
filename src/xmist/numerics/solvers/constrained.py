"""Whole-image least squares under linear constraints: unknowns tied to each other, or 0 where that is known.

The same problem as in `whole_image`, over fewer unknowns v with u = B v at each pixel, and v = 0 outside a
mask. Both keep the operator and the priors as they are. Conjugate gradients that begin inside the mask stay
there if the preconditioner is put between two projections on it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmist.numerics.operators.transport import Transport
from xmist.numerics.solvers.preconditioner import Prior
from xmist.numerics.solvers.whole_image import Solver, to_cosines

Real = NDArray[Any]


class ConstrainedSolver(Solver):
    """The least-squares problem of an operator and priors (one per kind) under constraints.

    `mix` (kinds, unknowns): B; each unknown is one of the kinds itself, with a factor of 1; None: every kind
    is an unknown. `free` (y, x): pixels that are solved for; elsewhere all is 0.
    """

    def __init__(
        self,
        transport: Transport,
        priors: tuple[Prior, ...],
        *,
        mix: Real | None = None,
        free: NDArray[np.bool_] | None = None,
    ) -> None:
        super().__init__(transport, priors, mix=mix)
        self._free = free
        given = np.eye(len(priors)) if mix is None else mix
        self._mix = given.astype(transport.frames.dtype)
        self._own = [int(np.flatnonzero(column == 1.0)[-1]) for column in given.T]

    def _begin(self, start: Real) -> Real:
        return self._project(super()._begin(start[self._own]))

    def _end(self, unknowns: Real) -> Real:
        if self._free is not None:
            unknowns *= self._free
        return self._expand(unknowns)

    def _expand(self, unknowns: Real) -> Real:
        return _combine(self._mix, unknowns)

    def _fold(self, kinds: Real) -> Real:
        return _combine(self._mix.T, kinds)

    def _project(self, coefficients: Real) -> Real:
        """Set an image to 0 where nothing is solved for, in the cosine basis and in place."""
        if self._free is not None:
            to_cosines(coefficients, inverse=True, threads=self._threads)
            coefficients *= self._free
            to_cosines(coefficients, threads=self._threads)
        return coefficients

    def _precondition(self, residual: Real) -> Real:
        if self._free is None:
            return self._preconditioner(residual)
        return self._project(self._preconditioner(self._project(residual.copy())))

    def _normal(self, coefficients: Real) -> Real:
        return self._fold(super()._normal(self._expand(coefficients)))


def _combine(matrix: Real, images: Real) -> Real:
    out = np.zeros((len(matrix), *images.shape[1:]), images.dtype)
    for row, image in zip(matrix, out, strict=True):
        for factor, part in zip(row, images, strict=True):
            if factor:
                image += factor * part
    return out
