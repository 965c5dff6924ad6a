"""Preconditioned conjugate gradients for least squares, with a statistical stopping rule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmist.numerics.compiled import jit
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
        _step(x, direction, residual, image, step, threads)
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


@jit
def _step_rows(x, direction, residual, image, step, start, stop):  # type: ignore[no-untyped-def]
    for y in range(start, stop):
        a, b, c, d = x[y], direction[y], residual[y], image[y]
        for i in range(len(a)):
            a[i] += step * b[i]
            c[i] -= step * d[i]


@jit
def _scale_and_add_rows(x, factor, other, start, stop):  # type: ignore[no-untyped-def]
    for y in range(start, stop):
        a, b = x[y], other[y]
        for i in range(len(a)):
            a[i] = factor * a[i] + b[i]


def _step(x: Real, direction: Real, residual: Real, image: Real, step: float, threads: int | None) -> None:
    """Add step · direction to x, and take step · image off the residual."""
    rows = [stack.reshape(-1, x.shape[-1]) for stack in (x, direction, residual, image)]
    number = x.dtype.type(step)
    for_blocks(lambda a, b: _step_rows(*rows, number, a, b), len(rows[0]), threads=threads)


def _scale_and_add(x: Real, factor: float, other: Real, threads: int | None) -> None:
    """Make factor · x + other of x."""
    (rows, others), number = (a.reshape(-1, x.shape[-1]) for a in (x, other)), x.dtype.type(factor)
    for_blocks(lambda a, b: _scale_and_add_rows(rows, number, others, a, b), len(rows), threads=threads)
