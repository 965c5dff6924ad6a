"""Preconditioned conjugate gradients for least squares, with a statistical stopping rule."""

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
    """How a solve went; `objective`: before the first step and after each."""

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
    """Minimise xᵀHx − 2bᵀx + c over images x (unknown, y, x); return x and how it went.

    `normal` returns H x, `precondition` an approximation of H⁻¹ r, both symmetric and positive semi-definite;
    their results are read before either is called again, and may lie in memory that is used anew then.
    `right`: b, whose memory is used with `overwrite`; `constant`: c, so that the objective is the residual's
    sum of squares; `start`: overwritten by x, 0 if left out. The solve stops when the estimated error of the
    objective is below `negligible` of the present objective, a small part of what noise contributes, or below
    `relative` times its decrease from x = 0, as far as rounding lets it get; or after `limit` steps.
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
