"""The linear transport operator over whole images, its adjoint and its normal operator.

In pixel units, about model images M_n (the references, or what transport made of them), a small change of
the phase ψ = ∆φ/(k p²), of the diffusion d = ∆D/p² (or its tensor) and of ln T changes exposure n by

    A_n (ψ, d, …, t) = −∇·(M_n ∇ψ) + Σ_ij ∂_i∂_j (d_ij M_n) + M_n t

(model (M) of Pavlov et al. 2020, J. Opt. 22 125604, eq. 1, for T = 1 and d_ij = d δ_ij). Products are
expanded; M_n is differentiated to sixth order, the unknown by three-point stencils with the even mirror, and
the adjoint is the exact transpose of that. Derivatives of M_n are made row by row on the way: every frame is
read once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.numerics.derivatives import (
    DX,
    DXX,
    DXY,
    DY,
    DYY,
    LAPLACIAN,
    RADIUS,
    VALUE,
    copy_row,
    jit,
    row_derivative,
)
from xmist.numerics.parallel import for_blocks

Real = NDArray[Any]

PSI: Final = 0
D: Final = 1
D_XX: Final = 2
D_XY: Final = 3
D_YY: Final = 4
LOG_T: Final = 5

# A field's stencil needs these derivatives of M, in this order: value, ∂x, ∂y, then the term without a
# derivative of the unknown (∇²M, ∂xx M, ∂xy M or ∂yy M).
_ZEROTH: Final = (VALUE, LAPLACIAN, DXX, DXY, DYY, VALUE)
# In an array, so that the compiler takes it for any kind, and compiles the derivative once.
_SHARED: Final = np.array([VALUE, DX, DY])
_ROWS: Final = 32


@jit
def _load(field, y, line):  # type: ignore[no-untyped-def]
    """Copy a row (mirrored if it lies outside) with one mirrored pixel on either side."""
    height, width = field.shape
    row = field[min(max(y, 0), height - 1)]
    line[0] = row[0]
    line[width + 1] = row[width - 1]
    inner = line[1:]
    for i in range(width):
        inner[i] = row[i]


@jit
def _fold(line, row):  # type: ignore[no-untyped-def]
    """Add a padded row to a row, the transpose of `_load`."""
    width = len(row)
    inner = line[1:]
    for i in range(width):
        row[i] += inner[i]
    row[0] += line[0]
    row[width - 1] += line[width + 1]


@jit
def _forward_row(kind, above, centre, below, m, mx, my, m0, out):  # type: ignore[no-untyped-def]
    """Add A u along a row; the three rows of u carry one more pixel on either side."""
    width = len(out)
    half = out.dtype.type(0.5)
    quarter = out.dtype.type(0.25)
    if kind == LOG_T:
        for i in range(width):
            out[i] += m[i] * centre[i + 1]
    elif kind == PSI:
        for i in range(width):
            c = centre[i + 1]
            curvature = ((centre[i] - c) + (centre[i + 2] - c)) + ((above[i + 1] - c) + (below[i + 1] - c))
            slope = mx[i] * (centre[i + 2] - centre[i]) + my[i] * (below[i + 1] - above[i + 1])
            out[i] -= m[i] * curvature + half * slope
    elif kind == D:
        for i in range(width):
            c = centre[i + 1]
            curvature = ((centre[i] - c) + (centre[i + 2] - c)) + ((above[i + 1] - c) + (below[i + 1] - c))
            slope = mx[i] * (centre[i + 2] - centre[i]) + my[i] * (below[i + 1] - above[i + 1])
            out[i] += m[i] * curvature + slope + m0[i] * c
    elif kind == D_XX:
        for i in range(width):
            c = centre[i + 1]
            curvature = (centre[i] - c) + (centre[i + 2] - c)
            out[i] += m[i] * curvature + mx[i] * (centre[i + 2] - centre[i]) + m0[i] * c
    elif kind == D_YY:
        for i in range(width):
            c = centre[i + 1]
            curvature = (above[i + 1] - c) + (below[i + 1] - c)
            out[i] += m[i] * curvature + my[i] * (below[i + 1] - above[i + 1]) + m0[i] * c
    else:
        for i in range(width):
            twist = (below[i + 2] - below[i]) - (above[i + 2] - above[i])
            slope = mx[i] * (below[i + 1] - above[i + 1]) + my[i] * (centre[i + 2] - centre[i])
            mixed = quarter * m[i] * twist + half * slope + m0[i] * centre[i + 1]
            out[i] += mixed + mixed  # D_xy and D_yx


@jit
def _adjoint_row(kind, a, m, mx, my, m0, above, centre, below):  # type: ignore[no-untyped-def]
    """Add Aᵀ a of one row to three padded rows; line by line the transpose of `_forward_row`."""
    width = len(a)
    half = a.dtype.type(0.5)
    two = a.dtype.type(2.0)
    if kind == LOG_T:
        for i in range(width):
            centre[i + 1] += m[i] * a[i]
        return
    if kind == PSI:
        for i in range(width):
            centre[i] -= (m[i] - half * mx[i]) * a[i]
        for i in range(width):
            centre[i + 2] -= (m[i] + half * mx[i]) * a[i]
        for i in range(width):
            above[i + 1] -= (m[i] - half * my[i]) * a[i]
        for i in range(width):
            below[i + 1] -= (m[i] + half * my[i]) * a[i]
        for i in range(width):
            centre[i + 1] += two * two * m[i] * a[i]
        return
    if kind in (D, D_XX):
        for i in range(width):
            centre[i] += (m[i] - mx[i]) * a[i]
        for i in range(width):
            centre[i + 2] += (m[i] + mx[i]) * a[i]
    if kind in (D, D_YY):
        for i in range(width):
            above[i + 1] += (m[i] - my[i]) * a[i]
        for i in range(width):
            below[i + 1] += (m[i] + my[i]) * a[i]
    if kind == D_XY:
        for i in range(width):
            corner = half * m[i] * a[i]
            below[i + 2] += corner
            below[i] -= corner
        for i in range(width):
            corner = half * m[i] * a[i]
            above[i] += corner
            above[i + 2] -= corner
        for i in range(width):
            below[i + 1] += mx[i] * a[i]
            above[i + 1] -= mx[i] * a[i]
        for i in range(width):
            centre[i + 2] += my[i] * a[i]
            centre[i] -= my[i] * a[i]
        for i in range(width):
            centre[i + 1] += two * m0[i] * a[i]
        return
    neighbours = two * two if kind == D else two
    for i in range(width):
        centre[i + 1] += (m0[i] - neighbours * m[i]) * a[i]


@jit
def _coefficients(kinds, frame, y, padded, lines):  # type: ignore[no-untyped-def]
    """Fill value, ∂x, ∂y and each field's zeroth-order term of a frame along a row."""
    width = frame.shape[1]
    for j in range(3):
        row_derivative(_SHARED[j], frame, y, 0, width, lines[j], padded)
    for f in range(len(kinds)):
        zeroth = _ZEROTH[kinds[f]]
        if zeroth != VALUE:
            row_derivative(zeroth, frame, y, 0, width, lines[3 + f], padded)
        else:
            copy_row(lines[0], lines[3 + f])


@jit
def _forward_rows(kinds, frame, fields, out, start, stop):  # type: ignore[no-untyped-def]
    width, dtype = frame.shape[1], frame.dtype
    lines = np.empty((3 + len(kinds), width), dtype)
    padded = np.empty(width + 2 * RADIUS, dtype)
    rows = np.empty((3, width + 2), dtype)
    for y in range(start, stop):
        _coefficients(kinds, frame, y, padded, lines)
        line = out[y]
        line[:] = 0.0
        for f in range(len(kinds)):
            for j in range(3):
                _load(fields[f], y - 1 + j, rows[j])
            _forward_row(
                kinds[f], rows[0], rows[1], rows[2], lines[0], lines[1], lines[2], lines[3 + f], line
            )


@jit
def _transpose_rows(kinds, frames, weights, fields, residuals, normal, out, start, stop):  # type: ignore[no-untyped-def]
    """Add Aᵀ W (A u) of these rows if `normal`, else Aᵀ W r; a row of halo is computed on either side."""
    exposures, height, width = frames.shape
    dtype = frames.dtype
    unknowns = len(kinds)
    lines = np.empty((3 + unknowns, width), dtype)
    padded = np.empty(width + 2 * RADIUS, dtype)
    a = np.empty(width, dtype)
    rows = np.empty((unknowns, 3, width + 2), dtype)
    sums = np.empty((unknowns, 3, width + 2), dtype)
    for f in range(unknowns):
        out[f, start:stop] = 0.0
    for y in range(max(start - 1, 0), min(stop + 1, height)):
        sums[:] = 0.0
        if normal:
            for f in range(unknowns):
                for j in range(3):
                    _load(fields[f], y - 1 + j, rows[f, j])
        for n in range(exposures):
            _coefficients(kinds, frames[n], y, padded, lines)
            if normal:
                a[:] = 0.0
                for f in range(unknowns):
                    _forward_row(
                        kinds[f], rows[f, 0], rows[f, 1], rows[f, 2],
                        lines[0], lines[1], lines[2], lines[3 + f], a,
                    )  # fmt: skip
            else:
                copy_row(residuals[n, y], a)
            if weights is not None:
                w = weights[n, y]
                for i in range(width):
                    a[i] *= w[i]
            for f in range(unknowns):
                _adjoint_row(
                    kinds[f], a, lines[0], lines[1], lines[2], lines[3 + f],
                    sums[f, 0], sums[f, 1], sums[f, 2],
                )  # fmt: skip
        for f in range(unknowns):
            for j in range(3):
                target = min(max(y - 1 + j, 0), height - 1)
                if start <= target < stop:
                    _fold(sums[f, j], out[f, target])


@dataclass(frozen=True, kw_only=True, eq=False)
class Transport:
    """The operator A about given model images.

    Parameters
    ----------
    frames : (position, y, x) float array
        Model images M_n, finite.
    kinds : tuple of int
        Unknown fields, of `PSI`, `D`, `D_XX`, `D_XY`, `D_YY` and `LOG_T`.
    weights : (position, y, x) float array, optional
        Weights W of the exposures' pixels, of the frames' dtype; None means 1.
    threads : int, optional
        Threads; no result depends on it.

    Examples
    --------
    >>> frames = np.random.default_rng(1).uniform(1, 2, (2, 16, 18))
    >>> transport = Transport(frames=frames, kinds=(PSI, D))
    >>> fields = np.random.default_rng(2).normal(size=(2, 16, 18))
    >>> images = transport.forward(fields)
    >>> energy = float((images**2).sum())
    >>> bool(np.isclose(energy, (fields * transport.normal(fields)).sum()))
    True
    """

    frames: Real
    kinds: tuple[int, ...]
    weights: Real | None = None
    threads: int | None = None

    def forward(self, fields: Real) -> Real:
        """Give A u.

        Parameters
        ----------
        fields : (unknown, y, x) array
            The unknowns in pixel units, of the frames' dtype.

        Returns
        -------
        (position, y, x) array
            Change of the exposures.
        """
        out = np.empty_like(self.frames)
        kinds = np.array(self.kinds, np.int64)

        def task(start: int, stop: int) -> None:
            for frame, image in zip(self.frames, out, strict=True):
                _forward_rows(kinds, frame, fields, image, start, stop)

        for_blocks(task, out.shape[1], threads=self.threads, block=_ROWS)
        return out

    def adjoint(self, images: Real) -> Real:
        """Give Aᵀ W r.

        Parameters
        ----------
        images : (position, y, x) array
            Residuals r, of the frames' dtype.

        Returns
        -------
        (unknown, y, x) array
            Gradient of ½ Σ w r² with respect to the unknowns.
        """
        return self._transpose(images[:0, 0], images, normal=False)

    def normal(self, fields: Real, *, out: Real | None = None) -> Real:
        """Give Aᵀ W A u, reading every frame once.

        Parameters
        ----------
        fields : (unknown, y, x) array
            The unknowns in pixel units, of the frames' dtype.
        out : (unknown, y, x) array, optional
            Memory for the result, other than that of the fields.

        Returns
        -------
        (unknown, y, x) array
            The normal operator's image.
        """
        return self._transpose(fields, self.frames, normal=True, out=out)

    def _transpose(self, fields: Real, residuals: Real, *, normal: bool, out: Real | None = None) -> Real:
        shape = (len(self.kinds), *self.frames.shape[1:])
        if out is None:
            out = np.empty(shape, self.frames.dtype)
        if not normal:
            fields = np.empty((len(self.kinds), 0, 0), self.frames.dtype)
        kinds = np.array(self.kinds, np.int64)
        for_blocks(
            lambda a, b: _transpose_rows(
                kinds, self.frames, self.weights, fields, residuals, normal, out, a, b
            ),
            shape[1],
            threads=self.threads,
            block=_ROWS,
        )
        return out
