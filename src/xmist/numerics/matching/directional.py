"""Directional blur of matched windows: the covariance of the Gaussian that leads from reference to sample.

From the shift u that `match` found, minimise at each pixel, with a window w, over the covariance Σ (pixels²),
u and T

    Σ_n Σ_r w(r) ω_n(r) [ S_n(r) − T (R_n * G_Σ)(r − u) ]²

T is one number at each pixel r where two frames or more count, because fine structure of the sample changes
it from pixel to pixel; else it is one for the window. The minimum is a fixed point of linear least squares:
A is the reference moved by u' and blurred with the positive part of Σ' as found before,
B = A + ½ Σ'₋_ij ∂_i∂_j A has the negative part to first order, and the model is
B + ½ (Σ − Σ')_ij ∂_i∂_j A − (u − u')·∇A. Shift and blur are one interpolation: Gauss–Hermite nodes along the
eigenvectors of Σ' on a quintic spline.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.numerics.compiled import jit
from xmist.numerics.images.tensors import nearest_positive
from xmist.numerics.matching.match import Window
from xmist.numerics.operators.derivatives import DX, DXX, DXY, DY, DYY, RADIUS, derivative
from xmist.numerics.parallel import for_blocks

Real = NDArray[Any]

_ROUNDS: Final = 5
_STILL: Final = 2  # rounds that leave the shift
_PAD: Final = 12  # pixels that the spline goes on beyond the border
_TOUCH: Final = 4  # pixels that spline and stencils reach about one that is not usable
_NODES, _SHARES = np.polynomial.hermite_e.hermegauss(4)
_SHARES /= _SHARES.sum()
_LOWEST: Final = -0.5  # pixels²: an eigenvalue below would sharpen noise
_RANK: Final = 1e-4  # of a column's sum of squares that the columns before must leave
_SIZE: Final = 6  # columns: T, Σ_xx, Σ_xy, Σ_yy, u_x, u_y
_KINDS: Final = ((DXX, 0.5), (DXY, 1.0), (DYY, 0.5), (DX, -1.0), (DY, -1.0))


@jit
def _quintic(f, taps):  # type: ignore[no-untyped-def]
    """Fill the weights of the pixels −2 … 3 of a quintic B-spline at the fraction f."""
    for i in range(6):
        t = abs(f - (i - 2))
        if t < 1.0:
            taps[i] = (66.0 - 60.0 * t**2 + 30.0 * t**4 - 10.0 * t**5) / 120.0
        elif t < 2.0:
            taps[i] = (51.0 + 75.0 * t - 210.0 * t**2 + 150.0 * t**3 - 45.0 * t**4 + 5.0 * t**5) / 120.0
        else:
            taps[i] = max(3.0 - t, 0.0) ** 5 / 120.0


@jit
def _move_rows(coefficients, shift, axes, nodes, shares, pad, first, out):  # type: ignore[no-untyped-def]
    """Fill rows (y, x, number) from `first` on with the spline moved by `shift` and blurred along `axes`."""
    tall, wide, number = coefficients.shape
    rows, columns = np.empty(6, np.float32), np.empty(6, np.float32)
    for i in range(out.shape[0]):
        y = first + i
        for x in range(out.shape[1]):
            for n in range(number):
                out[i, x, n] = 0.0
            ax, ay, bx, by = axes[0, y, x], axes[1, y, x], axes[2, y, x], axes[3, y, x]
            sharp = ax == 0.0 and ay == 0.0 and bx == 0.0 and by == 0.0
            for a in range(1 if sharp else len(nodes)):
                for b in range(1 if sharp else len(nodes)):
                    share = 1.0 if sharp else shares[a] * shares[b]
                    at_x = x - shift[0, y, x] + nodes[a] * ax + nodes[b] * bx + pad
                    at_y = y - shift[1, y, x] + nodes[a] * ay + nodes[b] * by + pad
                    at_x, at_y = min(max(at_x, 2.0), wide - 4.0), min(max(at_y, 2.0), tall - 4.0)
                    whole_x, whole_y = int(np.floor(at_x)), int(np.floor(at_y))
                    _quintic(at_x - whole_x, columns)
                    _quintic(at_y - whole_y, rows)
                    for j in range(6):
                        for k in range(6):
                            tap = np.float32(share) * rows[j] * columns[k]
                            for n in range(number):
                                out[i, x, n] += tap * coefficients[whole_y - 2 + j, whole_x - 2 + k, n]


def spline(frames: Real) -> Real:
    """Return coefficients (y, x, number) of the quintic spline through frames, continued at the border."""
    from scipy.ndimage import spline_filter

    out = np.empty((frames.shape[1] + 2 * _PAD, frames.shape[2] + 2 * _PAD, len(frames)), np.float32)
    for n, frame in enumerate(frames):
        padded = np.pad(frame.astype(np.float32), _PAD, mode="reflect", reflect_type="odd")
        out[..., n] = spline_filter(padded, 5, output=np.float32, mode="mirror")
    return out


def moved(coefficients: Real, shift: Real, axes: Real, first: int, last: int) -> Real:
    """Return rows of frames (number, y, x) moved by `shift` (2, y, x) and blurred along `axes` (4, y, x)."""
    out = np.empty((last - first, shift.shape[2], coefficients.shape[2]), np.float32)
    _move_rows(coefficients, shift, axes, _NODES, _SHARES, float(_PAD), first, out)
    return np.ascontiguousarray(np.moveaxis(out, -1, 0))


def blur_axes(covariance: Real) -> Real:
    """Return the eigenvectors times √λ (4, y, x), x and y of each, of tensors (3, y, x) ≥ 0."""
    xx, xy, yy = covariance
    mean, deviator = (xx + yy) / 2, (xx - yy) / 2
    radius, angle = np.hypot(deviator, xy), np.arctan2(xy, deviator) / 2
    long, short = np.sqrt(np.maximum(mean + radius, 0)), np.sqrt(np.maximum(mean - radius, 0))
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.stack([long * cosine, long * sine, -short * sine, short * cosine]).astype(np.float32)


def _source_weights(good: NDArray[np.uint8] | None, shift: Real, number: int) -> Real:
    """Return 1 where the reference pixels (number, y, x) that a moved pixel comes from are usable, else 0."""
    from scipy.ndimage import binary_erosion

    height, width = shift.shape[1:]
    rows, columns = np.mgrid[:height, :width]
    y, x = (np.rint(index - part).astype(np.int64) for index, part in ((rows, shift[1]), (columns, shift[0])))
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    out = np.repeat(inside[None].astype(np.float32), number, axis=0)
    if good is not None:
        y, x = np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)
        box = np.ones((2 * _TOUCH + 1,) * 2, bool)
        for n, frame in enumerate(good):
            out[n] *= binary_erosion(frame > 0, box, border_value=1)[y, x]
    return out


@jit
def _add_pixels(frames, weights, columns, found, matrix, right):  # type: ignore[no-untyped-def]
    """Fill the normal equations of each pixel: matrix (21, y, x) and right (6, y, x), lower triangle by rows.

    `columns` (number, 6, y, x): B and five derivatives; `found` (6, y, x): the T that pixels share which one
    frame alone determines, and the five unknowns found before. The equations are those of the unknowns
    themselves, not of their changes. If two frames or more count, T is eliminated.
    """
    number, size = columns.shape[0], columns.shape[1]
    product, value = np.empty((size, size)), np.empty(size)
    for y in range(frames.shape[1]):
        for x in range(frames.shape[2]):
            counted = 0
            for i in range(size):
                value[i] = 0.0
                for k in range(i + 1):
                    product[i, k] = 0.0
            for n in range(number):
                w = weights[n, y, x]
                if not w > 0.0:
                    continue
                counted += 1
                for i in range(size):
                    weighted = np.float64(w) * columns[n, i, y, x]
                    value[i] += weighted * frames[n, y, x]
                    for k in range(i + 1):
                        product[i, k] += weighted * columns[n, k, y, x]
            own = counted > 1 and product[0, 0] > 0.0
            scale = value[0] / product[0, 0] if own else found[0, y, x]
            if counted == 0 or not scale > 0.0:
                scale = 0.0
            at = 0
            for i in range(size):
                # What is left of S by T B; and of the columns, where T is of the pixel.
                rest = value[i] - scale * product[i, 0]
                factor = product[i, 0] / product[0, 0] if own else 0.0
                for k in range(i + 1):
                    left = product[i, k] - factor * product[k, 0]
                    matrix[at, y, x] = left * (scale if i > 0 else 1.0) * (scale if k > 0 else 1.0)
                    at += 1
                right[i, y, x] = rest * (scale if i > 0 else 1.0)
            if own:
                matrix[0, y, x], right[0, y, x] = 0.0, 0.0
            for i in range(1, size):
                for k in range(1, size):
                    low, high = min(i, k), max(i, k)
                    right[i, y, x] += matrix[high * (high + 1) // 2 + low, y, x] * found[k, y, x]
            for k in range(1, size):
                right[0, y, x] += matrix[k * (k + 1) // 2, y, x] * found[k, y, x]


@jit
def _solve(matrix, right, rank, ill):  # type: ignore[no-untyped-def]
    """Solve the equations of each pixel in place by Cholesky factors; mark where Σ is not determined."""
    size = right.shape[0]
    factor, value = np.empty((size, size)), np.empty(size)
    for y in range(right.shape[1]):
        for x in range(right.shape[2]):
            ill[y, x] = False
            for i in range(size):
                value[i] = right[i, y, x]
                for k in range(i + 1):
                    left = matrix[i * (i + 1) // 2 + k, y, x]
                    for j in range(k):
                        left -= factor[i, j] * factor[k, j]
                    if k < i:
                        factor[i, k] = left * factor[k, k]
                    else:
                        enough = left > rank * matrix[i * (i + 3) // 2, y, x]
                        factor[i, i] = 1.0 / np.sqrt(left) if enough else 0.0
                        ill[y, x] = ill[y, x] or (i > 0 and not enough)
                for k in range(i):
                    value[i] -= factor[i, k] * value[k]
                value[i] *= factor[i, i]
            for i in range(size - 1, -1, -1):
                for k in range(i + 1, size):
                    value[i] -= factor[k, i] * value[k]
                value[i] *= factor[i, i]
                right[i, y, x] = value[i]


def blur_covariance(
    reference: Real,
    sample: Real,
    shift: Real,
    window: Window,
    *,
    good: NDArray[np.uint8] | None = None,
    weights: Real | None = None,
    threads: int | None = None,
) -> Real:
    """Return the covariance Σ_xx, Σ_xy, Σ_yy (3, y, x) in pixels²; NaN where nothing determines it.

    Frames (number, y, x), R finite and positive; `shift` (2, y, x) in pixels, finite; `good` and `weights`
    (number, y, x): where R counts, and weights of S.
    """
    from scipy.ndimage import correlate1d

    unit = np.float32(1.0 / reference.mean(dtype=np.float64))
    coefficients = spline(reference * unit)
    frames = sample * unit
    counted = _source_weights(good, shift, len(frames)) * np.isfinite(frames)
    if weights is not None:
        counted *= weights / max(float(weights.max()), 1e-30)
    frames = np.where(counted > 0, frames, np.float32(0.0))
    profile = window.profile.astype(np.float64)
    half, (height, width) = window.size // 2, shift.shape[1:]
    most = (window.size / 2) ** 2
    found = np.zeros((_SIZE, height, width), np.float32)
    found[0], found[4:] = 1.0, shift
    ill = np.zeros((height, width), np.bool_)

    def sums(images: Real) -> Real:
        for axis in (1, 2):
            images = correlate1d(images, profile, axis=axis, mode="constant")
        return images

    for number in range(_ROUNDS):
        positive = nearest_positive(found[1:4])
        axes, negative = blur_axes(positive), found[1:4] - positive
        field = np.ascontiguousarray(found[4:])
        latest = np.empty_like(found)

        def band(start: int, stop: int) -> None:
            first, last = max(0, start - half), min(height, stop + half)
            outer = slice(max(0, first - RADIUS), min(height, last + RADIUS))
            inner = slice(first - outer.start, last - outer.start)
            part = slice(first, last)
            columns = np.empty((len(frames), _SIZE, last - first, width), np.float32)
            for n, image in enumerate(moved(coefficients, field, axes, outer.start, outer.stop)):  # noqa: B023
                columns[n, 0] = image[inner]
                for i, (kind, factor) in enumerate(_KINDS, 1):
                    columns[n, i] = np.float32(factor) * derivative(image, kind, threads=1)[inner]
                columns[n, 0] += (negative[:, part] * columns[n, 1:4]).sum(axis=0)  # noqa: B023
            matrix = np.empty((_SIZE * (_SIZE + 1) // 2, last - first, width))
            right = np.empty((_SIZE, last - first, width))
            before = found[:, part].copy()  # noqa: B023
            before[4:] = 0.0
            if len(frames) < 2 or (counted > 0).sum(axis=0).min() < 2:
                before[0] = _shared_scale(frames[:, part], counted[:, part], columns[:, 0], sums)
            _add_pixels(frames[:, part], counted[:, part], columns, before, matrix, right)
            matrix, right = sums(matrix), sums(right)
            own = slice(start - first, stop - first)
            matrix, right = np.ascontiguousarray(matrix[:, own]), np.ascontiguousarray(right[:, own])
            _solve(matrix, right, _RANK, ill[start:stop])
            latest[:, start:stop] = right  # noqa: B023

        for_blocks(band, height, threads=threads)
        latest[1:4, ill] = 0.0
        latest[4:, ill] = 0.0
        # Once Σ is about right, because its error disturbs u. Half of the step: whole ones would undo the
        # average of the window, and raise noise. Beyond a pixel of the first match is another match.
        step = np.float32(0.0 if number < _STILL else 0.5)
        latest[4:] = np.clip(found[4:] + step * latest[4:], shift - 1, shift + 1)
        latest[1:4] = _limited(latest[1:4], most)
        found = latest
    covariance = found[1:4]
    covariance[:, ill] = np.nan
    return covariance


def _shared_scale(frames: Real, weights: Real, model: Real, sums: Any) -> Real:
    """Return T over the window: Σ w S B / Σ w B²."""
    above, below = sums(
        np.stack([(weights * model * image).sum(axis=0, dtype=np.float64) for image in (frames, model)])
    )
    out: Real = np.divide(above, below, out=np.zeros_like(above), where=below > 0)
    return out


def _limited(covariance: Real, most: float) -> Real:
    """Return tensors (3, y, x) whose eigenvalues lie between those that the model can hold."""
    xx, xy, yy = covariance
    mean, deviator = (xx + yy) / 2, (xx - yy) / 2
    radius = np.hypot(deviator, xy)
    high, low = (np.clip(value, _LOWEST, most) for value in (mean + radius, mean - radius))
    ratio = np.divide((high - low) / 2, radius, out=np.ones_like(radius), where=radius > 0)
    centre = (high + low) / 2
    return np.stack([centre + ratio * deviator, ratio * xy, centre - ratio * deviator])
