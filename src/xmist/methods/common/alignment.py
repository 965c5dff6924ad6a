"""Refine positions from the frames: of a sample that moves, and of each sample frame against its reference.

The frame that images of u, T and V predict, T (R̄ + V (R − R̄))(r − u), is compared with the frame itself.

- A sample that moves: each frame is retrieved alone and predicts those that overlap with it. Least squares
  give the difference of two positions, and then all positions. Their mean stays as given.
- A sample that stays: the images of all positions predict each frame, and least squares give its shift. Their
  mean stays 0: the common shift belongs to the images, where the bare beam sets it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.core import flags as flag
from xmist.core.arrays import Image
from xmist.core.data import Retrieval, SampleScan, SpeckleStack
from xmist.core.findings import finding
from xmist.methods.common.sample_stepping import shift_of_result
from xmist.numerics.images.registration import filled
from xmist.numerics.matching.directional import moved, spline
from xmist.numerics.operators.derivatives import DX, DY, derivative

Real = NDArray[Any]

_ROUNDS: Final = 6
_SETTLED: Final = 2e-3  # pixels
_STEP: Final = 0.5  # pixels, of differences along the position
_SHARPENED: Final = 6
_DAMPED: Final = 0.7
_RIM: Final = 8  # pixels at the rim of a frame, whose images are less good
_LEAST: Final = 256  # pixels in which two frames must overlap
_WRONG: Final = flag.SEARCH_EDGE | flag.FILLED | flag.UNDETERMINED | flag.BAD_REFERENCE | flag.BAD_SAMPLE


def predicted(coefficients: Real, means: Real, maps: Real) -> Real:
    """Return the frame (y, x) that maps (4, y, x) of u_x, u_y, T and V predict."""
    shape = maps.shape[1:]
    still = np.zeros((4, *shape), np.float32)
    shift = np.ascontiguousarray(maps[:2], np.float32)
    frame, mean = (moved(each, shift, still, 0, shape[0])[0] for each in (coefficients, means))
    out: Real = maps[2] * (mean + maps[3] * (frame - mean))
    return out


def frame_shifts(
    reference: Image,
    sample: Image,
    weights: Image | None,
    good: NDArray[np.uint8] | None,
    maps: Real,
    window: int,
) -> NDArray[np.float64]:
    """Return the shift (position, 2), y and x in pixels, of each sample frame beyond what the maps predict.

    Frames (position, y, x), the reference finite; `maps` (4, y, x): u_x, u_y, T, V, finite; the mean is 0.
    """
    from scipy.ndimage import uniform_filter

    found = np.zeros((len(sample), 2))
    for n, frame in enumerate(sample):
        coefficients = spline(reference[n][None])
        means = spline(uniform_filter(reference[n], window, mode="nearest")[None])
        used = np.isfinite(frame).astype(np.float32)
        if weights is not None:
            used *= weights[n]
        if good is not None:
            used *= good[n]
        used[:_RIM] = used[-_RIM:] = 0.0
        used[:, :_RIM] = used[:, -_RIM:] = 0.0
        chosen = used > 0
        if np.count_nonzero(chosen) < _LEAST:
            continue
        for _ in range(_ROUNDS):
            here = maps.copy()
            here[:2] += found[n, ::-1, None, None]
            model = predicted(coefficients, means, here)
            columns = [-derivative(model, kind, threads=1)[chosen] for kind in (DY, DX)]
            matrix = np.stack([*columns, model[chosen]]).astype(np.float64)
            weighted = matrix * used[chosen]
            step = np.linalg.lstsq(weighted @ matrix.T, weighted @ (frame - model)[chosen], rcond=None)[0][:2]
            found[n] += np.clip(step, -1.0, 1.0)
            if np.abs(step).max() < _SETTLED:
                break
    out: NDArray[np.float64] = found - found.mean(axis=0)
    return out


def moved_frames(frames: Image, shifts: NDArray[np.float64]) -> Image:
    """Return frames (position, y, x) moved by (position, 2), y and x in pixels."""
    shape = frames.shape[1:]
    still = np.zeros((4, *shape), np.float32)
    out = np.empty_like(frames)
    for n, (y, x) in enumerate(shifts):
        field = np.empty((2, *shape), np.float32)
        field[0], field[1] = x, y
        out[n] = moved(spline(frames[n][None]), field, still, 0, shape[0])[0]
    return out


def report_refined(
    result: Retrieval, what: str, change: NDArray[np.float64], record: Mapping[str, Any]
) -> Retrieval:
    """Return a result with a note on how far `what` was corrected, (position, 2), and its record."""
    length = np.hypot(*change.T)
    rms, most = float(np.sqrt(np.mean(length**2))), float(length.max())
    text = f"{what} were corrected by {rms:.2g} pixels (rms, at most {most:.2g}); their mean is unchanged"
    return replace(
        result,
        findings=(*result.findings, finding("positions-refined", text)),
        provenance={**result.provenance, **record},
    )


class _Frame:
    """One frame of the sample: its reference as a spline, and its images from it alone."""

    def __init__(
        self, reference: Image, sample: Image, weights: Image, result: Retrieval, window: int
    ) -> None:
        from scipy.ndimage import uniform_filter

        usable = np.isfinite(reference) & (reference > 0) & (weights > 0)
        whole = filled(reference, usable)
        self.coefficients = spline(whole[None])
        self.means = spline(uniform_filter(whole, window, mode="nearest")[None])
        self.weights = np.where(usable & np.isfinite(sample), weights, np.float32(0.0))
        self.sample = np.where(self.weights > 0, sample, np.float32(0.0))
        shift, transmission, visibility = shift_of_result(result), result.transmission, result.visibility
        ones = np.ones(reference.shape, np.float32)
        images = [ones if image is None else image for image in (transmission, visibility)]
        self.maps = np.nan_to_num(np.stack([*shift, *images])).astype(np.float64)
        self._sharpen(window)
        self.good = (result.flags & _WRONG) == 0
        self.good[:_RIM] = self.good[-_RIM:] = False
        self.good[:, :_RIM] = self.good[:, -_RIM:] = False

    def _sharpen(self, window: int) -> None:
        """Let u and T vary within the window: its average, with weights |∇R|², displaces them by a pixel."""
        from scipy.ndimage import uniform_filter

        for _ in range(_SHARPENED):
            model = predicted(self.coefficients, self.means, self.maps)
            residual = self.sample - model
            columns = [-derivative(model, DX, threads=1), -derivative(model, DY, threads=1), model]
            matrix, right = np.empty((*model.shape, 3, 3)), np.empty((*model.shape, 3))
            for i, one in enumerate(columns):
                right[..., i] = uniform_filter((self.weights * one * residual).astype(np.float64), window)
                for k, other in enumerate(columns[: i + 1]):
                    matrix[..., i, k] = uniform_filter(
                        (self.weights * one * other).astype(np.float64), window
                    )
                    matrix[..., k, i] = matrix[..., i, k]
            scale = np.einsum("...ii->...i", matrix)
            scale += 1e-2 * scale + 1e-9 * scale.max()
            step = np.linalg.solve(matrix, right[..., None])[..., 0]
            self.maps[:2] += _DAMPED * np.clip(np.moveaxis(step[..., :2], -1, 0), -0.3, 0.3)
            self.maps[2] *= 1.0 + _DAMPED * np.clip(step[..., 2], -0.2, 0.2)


def _compare(one: _Frame, other: _Frame, offset: Real) -> tuple[Real, Real] | None:
    """Return normal matrix (2, 2) and right side for the change of `offset` (y, x) of `one` from `other`."""
    from scipy.ndimage import map_coordinates

    rows, columns = np.mgrid[: one.sample.shape[0], : one.sample.shape[1]]

    def sampled(image: Real, dy: float = 0.0, dx: float = 0.0) -> Real:
        at = [rows - offset[0] - dy, columns - offset[1] - dx]
        found: Real = map_coordinates(image, at, order=1, mode="constant", cval=0.0)
        return found

    weights = one.weights * (one.good & (sampled(other.good.astype(np.float64)) > 0.999))
    if np.count_nonzero(weights) < _LEAST:
        return None

    def model(dy: float = 0.0, dx: float = 0.0) -> Real:
        maps = np.stack([sampled(image, dy, dx) for image in other.maps])
        return predicted(one.coefficients, one.means, maps)

    central = model()
    columns_of = [
        (model(_STEP, 0.0) - model(-_STEP, 0.0)) / (2 * _STEP),
        (model(0.0, _STEP) - model(0.0, -_STEP)) / (2 * _STEP),
        central,
    ]
    chosen = weights > 0
    matrix = np.stack([image[chosen].astype(np.float64) for image in columns_of])
    weighted = matrix * weights[chosen]
    normal = weighted @ matrix.T
    right = weighted @ (one.sample - central)[chosen].astype(np.float64)
    # The brightness is of no interest.
    part = normal[:2, 2] / normal[2, 2]
    return normal[:2, :2] - np.outer(part, normal[2, :2]), right[:2] - part * right[2]


def refine_sample_positions(
    scan: SampleScan, solve: Callable[[SpeckleStack], Retrieval], window: int
) -> SampleScan:
    """Return the scan with positions of the sample whose overlaps agree; their mean is that of the given."""
    number = scan.positions
    frames = []
    for n in range(number):
        reference = scan.reference[n if len(scan.reference) > 1 else 0]
        weights = np.ones(scan.shape, np.float32) if scan.weights is None else scan.weights[n]
        given = None if scan.weights is None else weights[None]
        result = solve(SpeckleStack(reference[None], scan.sample[n][None], given))
        frames.append(_Frame(reference, scan.sample[n], weights, result, window))
    positions = np.array(scan.sample_positions)
    for _ in range(_ROUNDS):
        normal, right = np.zeros((number, 2, number, 2)), np.zeros((number, 2))
        for n in range(number):
            for m in range(number):
                if n == m:
                    continue
                found = _compare(frames[n], frames[m], positions[n] - positions[m])
                if found is None:
                    continue
                matrix, side = found
                for i, j, sign in ((n, n, 1.0), (m, m, 1.0), (n, m, -1.0), (m, n, -1.0)):
                    normal[i, :, j] += sign * matrix
                right[n] += side
                right[m] -= side
        # The least change: what no overlap tells, the common shift among it, stays as given.
        step = np.linalg.lstsq(normal.reshape(2 * number, -1), right.ravel(), rcond=1e-9)[0].reshape(-1, 2)
        step -= step.mean(axis=0)
        positions += np.clip(step, -1.0, 1.0)
        if np.abs(step).max() < _SETTLED:
            break
    return SampleScan(scan.reference, scan.sample, positions, scan.weights)
