"""The transport operator in plain NumPy: what the compiled kernel of `transport` is tested against.

A term of A u is a factor times a derivative of the frame (sixth order) times a derivative of the unknown
(three points), both with the even mirror. Derivatives are products with matrices, the adjoint their
transposes. For small images: the matrices are dense.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.numerics.operators.transport import D_XX, D_XY, D_YY, LOG_T, PSI, D

Real = NDArray[Any]
Stencils = dict[int, tuple[float, ...]]  # coefficients by the order of the derivative

_SIXTH: Final[Stencils] = {1: (3 / 4, -3 / 20, 1 / 60), 2: (3 / 2, -3 / 20, 1 / 90)}
_THREE_POINTS: Final[Stencils] = {1: (1 / 2,), 2: (1.0,)}
_XX: Final = [(1.0, "", "xx"), (2.0, "x", "x"), (1.0, "xx", "")]  # ∂xx (M u), expanded
_YY: Final = [(1.0, "", "yy"), (2.0, "y", "y"), (1.0, "yy", "")]
_XY: Final = [(2.0, "", "xy"), (2.0, "x", "y"), (2.0, "y", "x"), (2.0, "xy", "")]  # with ∂yx
_TERMS: Final = {
    PSI: [(-1.0, "", "xx"), (-1.0, "", "yy"), (-1.0, "x", "x"), (-1.0, "y", "y")],  # −∇·(M ∇u)
    D: [*_XX, *_YY],
    D_XX: _XX,
    D_XY: _XY,
    D_YY: _YY,
    LOG_T: [(1.0, "", "")],
}


def _matrix(size: int, order: int, coefficients: tuple[float, ...]) -> Real:
    out = np.zeros((size, size))
    rows = np.arange(size)
    for distance, c in enumerate(coefficients, start=1):
        for offset, factor in ((distance, c), (-distance, -c if order == 1 else c)):
            columns = np.pad(rows, distance, mode="symmetric")[rows + distance + offset]
            np.add.at(out, (rows, columns), factor)
            out[rows, rows] -= 0.0 if order == 1 else c
    return out


def _derivative(image: Real, along: str, stencils: Stencils, transpose: bool = False) -> Real:
    for axis, letter in enumerate("yx"):
        if order := along.count(letter):
            matrix = _matrix(image.shape[axis], order, stencils[order])
            matrix = matrix.T if transpose else matrix
            image = matrix @ image if axis == 0 else image @ matrix.T
    return image


def forward(frames: Real, kinds: tuple[int, ...], fields: Real) -> Real:
    """Return A u (position, y, x) for frames (position, y, x) and unknowns (unknown, y, x)."""
    out = np.zeros(frames.shape)
    for frame, image in zip(frames, out, strict=True):
        for kind, field in zip(kinds, fields, strict=True):
            for factor, of_frame, of_field in _TERMS[kind]:
                slope = _derivative(frame, of_frame, _SIXTH)
                image += factor * slope * _derivative(field, of_field, _THREE_POINTS)
    return out


def adjoint(frames: Real, kinds: tuple[int, ...], images: Real) -> Real:
    """Return Aᵀ r (unknown, y, x) for frames and images r (position, y, x)."""
    out = np.zeros((len(kinds), *frames.shape[1:]))
    for frame, image in zip(frames, images, strict=True):
        for kind, field in zip(kinds, out, strict=True):
            for factor, of_frame, of_field in _TERMS[kind]:
                slope = _derivative(frame, of_frame, _SIXTH)
                field += _derivative(factor * slope * image, of_field, _THREE_POINTS, transpose=True)
    return out
