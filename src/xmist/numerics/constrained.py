"""Whole-image least squares under linear constraints: unknowns tied to each other, or 0 where that is known.

The same problem as in `xmist.numerics.whole_image`, over fewer unknowns v with u = B v at each pixel, and
v = 0 outside a mask. Both keep the operator and the priors as they are; steps of conjugate gradients that
begin inside the mask stay there when the preconditioner is put between two projections on it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmist.numerics.conjugate_gradients import Convergence, conjugate_gradients
from xmist.numerics.preconditioner import Prior, block_preconditioner, moments
from xmist.numerics.transport import Transport
from xmist.numerics.whole_image import Right, to_cosines

Real = NDArray[Any]


class ConstrainedSolver:
    """The least-squares problem of an operator and priors under constraints.

    Parameters
    ----------
    transport : Transport
        A with its weights W.
    priors : tuple of Prior
        One a kind of the operator.
    mix : (kinds, unknowns) float array, optional
        B; each unknown is one of the kinds itself, with a factor of 1. None: every kind is an unknown.
    free : (y, x) bool array, optional
        Pixels that are solved for; elsewhere all is 0. None: all pixels.

    Examples
    --------
    >>> from xmist.numerics.transport import LOG_T, PSI
    >>> frames = np.random.default_rng(1).uniform(1, 2, (1, 16, 18))
    >>> transport = Transport(frames=frames, kinds=(PSI, LOG_T))
    >>> solver = ConstrainedSolver(transport, (Prior(), Prior()), mix=np.array([[3.0], [1.0]]))
    >>> fields, how = solver(0.01 * frames, negligible=lambda objective: 0.0)
    >>> bool(np.allclose(fields[0], 3.0 * fields[1])), bool(np.allclose(fields[1], 0.01, atol=1e-6))
    (True, True)
    """

    def __init__(
        self,
        transport: Transport,
        priors: tuple[Prior, ...],
        *,
        mix: Real | None = None,
        free: NDArray[np.bool_] | None = None,
    ) -> None:
        self._transport, self._threads, self._free = transport, transport.threads, free
        frames = transport.frames
        shape = (int(frames.shape[1]), int(frames.shape[2]))
        given = np.eye(len(priors)) if mix is None else mix
        self._mix = given.astype(frames.dtype)
        self._own = [int(np.flatnonzero(column == 1.0)[-1]) for column in given.T]
        self._precisions = [prior.precision(shape).astype(frames.dtype) for prior in priors]
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
        """Fit the kinds to images or a right side; see `xmist.numerics.whole_image.solve`."""
        threads = self._threads
        right = images if isinstance(images, Right) else Right.of(self._transport, images)
        first = None
        if start is not None:
            first = self._project(to_cosines(start[self._own].copy(), threads=threads))
        found, convergence = conjugate_gradients(
            self._normal,
            self._fold(right.coefficients if pull is None else right.coefficients + pull),
            precondition=self._precondition,
            constant=right.constant,
            negligible=negligible,
            start=first,
            limit=limit,
            relative=relative,
            threads=threads,
        )
        unknowns = to_cosines(found, inverse=True, threads=threads)
        if self._free is not None:
            unknowns *= self._free
        return self._expand(unknowns), convergence

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
        kinds = self._expand(coefficients)
        out = self._transport.normal(to_cosines(kinds.copy(), inverse=True, threads=self._threads))
        to_cosines(out, threads=self._threads)
        for image, precision, kind in zip(out, self._precisions, kinds, strict=True):
            image += precision * kind
        return self._fold(out)


def _combine(matrix: Real, images: Real) -> Real:
    out = np.zeros((len(matrix), *images.shape[1:]), images.dtype)
    for row, image in zip(matrix, out, strict=True):
        for factor, part in zip(row, images, strict=True):
            if factor:
                image += factor * part
    return out
