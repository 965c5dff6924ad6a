"""Refine positions from the frames: of a sample that moves, and of each sample frame against its reference.

The frame that images of u, T and V predict, T (R̄ + V (R − R̄))(r − u), is compared with the frame itself.

- A sample that moves: each frame is retrieved alone. From there on two frames that overlap are fitted
  together (`xmist.numerics.images.overlap`), which gives the difference of their positions with its
  information; least squares then give all positions. Their mean stays as given.
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
from xmist.numerics.images.overlap import OverlapFrame, offset_between
from xmist.numerics.images.registration import filled
from xmist.numerics.matching.directional import moved, spline
from xmist.numerics.operators.derivatives import DX, DY, derivative

Real = NDArray[Any]

_ROUNDS: Final = 6
_SETTLED: Final = 2e-3  # pixels
_RIM: Final = 8  # pixels at the rim of a frame, whose images are less good
_LEAST: Final = 256  # pixels that must count
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
        usable = np.isfinite(reference) & (reference > 0) & (weights > 0)
        ones = np.ones(scan.shape, np.float32)
        images = [ones if image is None else image for image in (result.transmission, result.visibility)]
        maps = np.stack([*shift_of_result(result), *images])
        counted = np.where(usable & ((result.flags & _WRONG) == 0), weights, np.float32(0.0))
        frames.append(OverlapFrame.of(filled(reference, usable), scan.sample[n], counted, maps, window))
    given = scan.sample_positions
    normal, right = np.zeros((number, 2, number, 2)), np.zeros((number, 2))
    for n in range(number):
        for m in range(n):
            found = offset_between(frames[m], frames[n], given[n] - given[m])
            if found is None:
                continue
            change, matrix = found
            for i, j, sign in ((n, n, 1.0), (m, m, 1.0), (n, m, -1.0), (m, n, -1.0)):
                normal[i, :, j] += sign * matrix
            right[n] += matrix @ change
            right[m] -= matrix @ change
    # The least change: what no overlap tells, the common shift among it, stays as given.
    change = np.linalg.lstsq(normal.reshape(2 * number, -1), right.ravel(), rcond=1e-9)[0].reshape(-1, 2)
    positions = given + change - change.mean(axis=0)
    return SampleScan(scan.reference, scan.sample, positions, scan.weights)
