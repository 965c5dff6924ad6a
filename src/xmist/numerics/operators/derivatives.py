"""Sixth-order derivatives of reference frames, row by row, for use inside fused kernels.

`row_derivative` fills `out[:width]` with a derivative of `frame` at row `y`, columns `x0` to `x0 + width`, in
pixel units, with the even mirror at the border. `padded` is scratch of the frame's dtype, of width + 6.
Coefficients: Fornberg 1988, Math. Comp. 51 699, table 1, centred, accuracy 6.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.numerics.compiled import fixed, jit
from xmist.numerics.parallel import for_blocks

Real = NDArray[Any]

RADIUS: Final = 3
VALUE: Final = 0
LAPLACIAN: Final = 1
DX: Final = 2
DY: Final = 3
DXX: Final = 4
DYY: Final = 5
DXY: Final = 6
SAMPLE: Final = 7  # the value of the sample frame; only for `xmist.numerics.solvers.least_squares`

_FIRST = (3.0 / 4.0, -3.0 / 20.0, 1.0 / 60.0)
_SECOND = (3.0 / 2.0, -3.0 / 20.0, 1.0 / 90.0)


@jit
def mirror(index, size):  # type: ignore[no-untyped-def]
    """Fold an index that lies up to `size` outside back into the image."""
    if index < 0:
        index = -1 - index
    if index >= size:
        index = 2 * size - 1 - index
    return index


@jit
def folded(index, size):  # type: ignore[no-untyped-def]
    """Fold any index back into the image."""
    index = index % (2 * size)
    return index if index < size else 2 * size - 1 - index


@jit
def copy_row(source, target):  # type: ignore[no-untyped-def]
    """Copy a row into one at least as long; a slice would add seconds of compilation."""
    for i in range(len(source)):
        target[i] = source[i]


@jit
def _pad_row(frame, y, x0, width, padded):  # type: ignore[no-untyped-def]
    size = frame.shape[1]
    for i in range(RADIUS):
        padded[i] = frame[y, mirror(x0 + i - RADIUS, size)]
        padded[width + RADIUS + i] = frame[y, mirror(x0 + width + i, size)]
    row, inner = frame[y][x0 : x0 + width], padded[RADIUS:]
    for i in range(width):
        inner[i] = row[i]


# Slices, not offsets: the compiler sees that an index from 0 is never negative, and vectorises.
@jit
def _near_rows(frame, y, x0, width):  # type: ignore[no-untyped-def]
    size, x1 = frame.shape[0], x0 + width
    return (
        frame[mirror(y - 1, size)][x0:x1],
        frame[mirror(y + 1, size)][x0:x1],
        frame[mirror(y - 2, size)][x0:x1],
        frame[mirror(y + 2, size)][x0:x1],
        frame[mirror(y - 3, size)][x0:x1],
        frame[mirror(y + 3, size)][x0:x1],
    )


@jit
def _first_along_row(padded, width, out):  # type: ignore[no-untyped-def]
    a, b, c = padded.dtype.type(_FIRST[0]), padded.dtype.type(_FIRST[1]), padded.dtype.type(_FIRST[2])
    for i in range(width):
        out[i] = (
            a * (padded[i + 4] - padded[i + 2])
            + b * (padded[i + 5] - padded[i + 1])
            + c * (padded[i + 6] - padded[i])
        )


@jit
def _first_across_rows(frame, y, x0, width, out):  # type: ignore[no-untyped-def]
    a, b, c = frame.dtype.type(_FIRST[0]), frame.dtype.type(_FIRST[1]), frame.dtype.type(_FIRST[2])
    u1, d1, u2, d2, u3, d3 = _near_rows(frame, y, x0, width)
    for i in range(width):
        out[i] = a * (d1[i] - u1[i]) + b * (d2[i] - u2[i]) + c * (d3[i] - u3[i])


@jit
def _first_at(frame, y, x):  # type: ignore[no-untyped-def]
    size = frame.shape[0]
    return (
        _FIRST[0] * (frame[mirror(y + 1, size), x] - frame[mirror(y - 1, size), x])
        + _FIRST[1] * (frame[mirror(y + 2, size), x] - frame[mirror(y - 2, size), x])
        + _FIRST[2] * (frame[mirror(y + 3, size), x] - frame[mirror(y - 3, size), x])
    )


@jit
def _second_along_row(padded, width, out):  # type: ignore[no-untyped-def]
    a, b, c = padded.dtype.type(_SECOND[0]), padded.dtype.type(_SECOND[1]), padded.dtype.type(_SECOND[2])
    # Differences to the centre, so that a constant gives exactly 0 and float32 loses nothing to cancellation.
    for i in range(width):
        v = padded[i + 3]
        out[i] = (
            a * ((padded[i + 2] - v) + (padded[i + 4] - v))
            + b * ((padded[i + 1] - v) + (padded[i + 5] - v))
            + c * ((padded[i] - v) + (padded[i + 6] - v))
        )


@jit
def _second_across_rows(frame, y, x0, width, out):  # type: ignore[no-untyped-def]
    a, b, c = frame.dtype.type(_SECOND[0]), frame.dtype.type(_SECOND[1]), frame.dtype.type(_SECOND[2])
    u1, d1, u2, d2, u3, d3 = _near_rows(frame, y, x0, width)
    centre = frame[y][x0 : x0 + width]
    for i in range(width):
        v = centre[i]
        out[i] += (
            a * ((u1[i] - v) + (d1[i] - v))
            + b * ((u2[i] - v) + (d2[i] - v))
            + c * ((u3[i] - v) + (d3[i] - v))
        )


@jit
def row_derivative(kind, frame, y, x0, width, out, padded):  # type: ignore[no-untyped-def]
    """Fill `out` with the derivative that `kind` names."""
    if kind == VALUE:
        row = frame[y][x0 : x0 + width]
        for i in range(width):
            out[i] = row[i]
    elif kind == DY:
        _first_across_rows(frame, y, x0, width, out)
    elif kind == DYY:
        out[:width] = 0.0
        _second_across_rows(frame, y, x0, width, out)
    elif kind == DXY:
        size = frame.shape[1]
        _first_across_rows(frame, y, x0, width, padded[RADIUS:])
        for i in range(RADIUS):
            padded[i] = _first_at(frame, y, mirror(x0 + i - RADIUS, size))
            padded[width + RADIUS + i] = _first_at(frame, y, mirror(x0 + width + i, size))
        _first_along_row(padded, width, out)
    else:
        _pad_row(frame, y, x0, width, padded)
        if kind == DX:
            _first_along_row(padded, width, out)
        else:
            _second_along_row(padded, width, out)
            if kind == LAPLACIAN:
                _second_across_rows(frame, y, x0, width, out)


@jit
def _derivative_rows(kind, frame, out, start, stop):  # type: ignore[no-untyped-def]
    width = frame.shape[1]
    padded = np.empty(width + 2 * RADIUS, frame.dtype)
    first = np.int64(0)  # a literal would be compiled as a kernel of its own
    for y in range(start, stop):
        row_derivative(kind, frame, y, first, width, out[y], padded)


def derivative(frame: Real, kind: int, *, out: Real | None = None, threads: int | None = None) -> Real:
    """Return the sixth-order derivative (y, x) of a frame of at least 7 × 7 pixels, per pixel or per pixel².

    `kind`: `LAPLACIAN`, `DX`, `DY`, `DXX`, `DYY`, `DXY` or `VALUE` of this module; even mirror at the border.
    """
    result, given = np.empty_like(frame) if out is None else out, fixed(frame)
    for_blocks(lambda a, b: _derivative_rows(kind, given, result, a, b), frame.shape[0], threads=threads)
    return result
