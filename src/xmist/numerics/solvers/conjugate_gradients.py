"""Preconditioned conjugate gradients for least squares, with a stopping rule from statistics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmist.numerics.parallel import for_blocks
from xmist.numerics.reduce import dot

Real = NDArray[Any]

# Steps after which the energy still to be gained is judged by what the last ones gained (Hestenes & Stiefel
# 1952; Strakoš & Tichý 2002): a short window estimates it from below, closely where convergence is steady.
_WINDOW = 4


@dataclass(frozen=True, kw_only=True)
class Convergence:
    """How a solve went.

    Parameters
    ----------
    iterations : int
        Steps taken.
    converged : bool
        Whether the rule stopped it, rather than the limit.
    objective : tuple of float
        Objective before the first step and after each.
    """

    iterations: int
    converged: bool
    objective: tuple[float, ...]


def conjugate_gradients(
    normal: Callable[[Real], Real],
    right: Real,
    *,
    precondition: Callable[[Real], Real],
    constant: float,
    negligible: Callable[[float], float],
    start: Real | None = None,
    limit: int = 300,
    relative: float = 1e-12,
    overwrite: bool = False,
    threads: int | None = None,
) -> tuple[Real, Convergence]:
    """Minimise xᵀHx − 2bᵀx + c over images x.

    Parameters
    ----------
    normal : callable
        Gives H x; symmetric and positive semi-definite. Its result is read before either callable is called
        again, and may lie in memory that is used anew then.
    right : (unknown, y, x) float array
        b. Not modified, unless it may be.
    precondition : callable
        Gives an approximation of H⁻¹ r; symmetric and positive semi-definite. Its result as that of `normal`.
    constant : float
        c, so that the objective is the residual's sum of squares.
    negligible : callable
        Gives, for the present objective, the error in the objective that does not matter: a small part of
        what noise contributes. The solve stops when the estimated error is below.
    start : (unknown, y, x) float array, optional
        First guess, overwritten by x; 0 if left out.
    limit : int
        Most steps.
    relative : float
        Error of the objective, relative to its decrease from x = 0, that rounding does not let it get below.
    overwrite : bool
        Whether the memory of `right` may be used.
    threads : int, optional
        Threads; the result does not depend on it.

    Returns
    -------
    x : (unknown, y, x) array
        The minimiser.
    convergence : Convergence
        How it went.

    Examples
    --------
    >>> b = np.ones((1, 8, 8))
    >>> x, how = conjugate_gradients(
    ...     lambda x: 2 * x, b, precondition=lambda r: r, constant=100.0, negligible=lambda objective: 0.0
    ... )
    >>> float(x[0, 0, 0]), how.converged
    (0.5, True)
    """
    residual = right if overwrite else right.copy()
    if start is None:
        x = np.zeros_like(right)
        objective = constant
    else:
        x = start
        image = normal(x)
        objective = constant + dot(x, image, threads=threads) - 2.0 * dot(x, right, threads=threads)
        residual -= image
    history = [objective]
    gains: list[float] = []
    direction = precondition(residual).copy()
    slope = dot(residual, direction, threads=threads)
    converged = slope <= 0.0
    while not converged and len(gains) < limit:
        image = normal(direction)
        energy = dot(direction, image, threads=threads)
        if energy <= 0.0:  # only rounding is left
            converged = True
            break
        step = slope / energy
        _add(x, step, direction, threads)
        _add(residual, -step, image, threads)
        gains.append(step * slope)
        history.append(history[-1] - gains[-1])
        if len(gains) >= _WINDOW:
            left = sum(gains[-_WINDOW:])
            converged = left <= max(negligible(history[-1]), relative * (constant - history[-1]))
        preconditioned = precondition(residual)
        new = dot(residual, preconditioned, threads=threads)
        if new <= 0.0:
            converged = True
            break
        _scale_and_add(direction, new / slope, preconditioned, threads)
        slope = new
    return x, Convergence(iterations=len(gains), converged=converged, objective=tuple(history))


def _add(x: Real, factor: float, y: Real, threads: int | None) -> None:
    """Add factor · y to x."""
    (rows, others), number = (image.reshape(-1, x.shape[-1]) for image in (x, y)), x.dtype.type(factor)

    def task(start: int, stop: int) -> None:
        rows[start:stop] += number * others[start:stop]

    for_blocks(task, len(rows), threads=threads)


def _scale_and_add(x: Real, factor: float, y: Real, threads: int | None) -> None:
    """Make factor · x + y of x."""
    (rows, others), number = (image.reshape(-1, x.shape[-1]) for image in (x, y)), x.dtype.type(factor)

    def task(start: int, stop: int) -> None:
        rows[start:stop] *= number
        rows[start:stop] += others[start:stop]

    for_blocks(task, len(rows), threads=threads)
