"""The loop over resolutions, around a solver that knows one level.

A first-order step finds a speckle again only if the shift is small against its size. Binned frames have
coarser speckles and shifts of half as many pixels: where the solver does not find the speckles, it first
solves binned frames and begins from their result. In pixel units ψ and d are four times as large at twice the
resolution, ln T is the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

from xmist.core.arrays import Image
from xmist.methods.full_field.problem import Fit, FitData, Problem, Start
from xmist.numerics.images.blocks import halve
from xmist.numerics.operators.transport import LOG_T
from xmist.numerics.weights import Weights

Real = NDArray[Any]

_LEAST: Final = 24  # pixels a side of the coarsest frames
_MANY: Final = 24  # outer steps for large shifts, where linearisation is poor


def coarse_to_fine(solve: Callable[..., tuple[Fit, bool]], data: FitData, problem: Problem) -> Fit:
    """Fit at as many resolutions as are needed to find the speckles.

    `solve(data, problem, start, watch=, steps=)` fits at one resolution; with `watch` it may stop because
    shifts are too large, and return True besides the fit.
    """
    levels = []
    while True:
        found, lost = solve(data, problem, None, watch=min(data.sample.shape[1:]) >= 2 * _LEAST)
        if not lost:
            break
        levels.append((data, problem, found))
        data, problem = halved(data, found), problem.halved()
    for data, problem, before in reversed(levels):
        kinds = problem.kinds
        near = double(found.fields, kinds, data.sample.shape[1:])
        # Where the binned speckles were not found either, their fit need not be the better start.
        if found.lost and not data.explained_better_by(near, before.fields, kinds):
            found, _ = solve(data, problem, Start(fields=before.fields), watch=False)
        else:
            binning = 2 * found.binning
            found, _ = solve(data, problem, Start(fields=near), watch=False, steps=_MANY)
            found = replace(found, binning=binning)
    return found


def halved(data: FitData, found: Fit) -> FitData:
    """Return data binned by two, without the outliers of a fit."""
    numbers = range(len(data.sample))

    def sample(n: int) -> Image:
        out: Image = np.asarray(data.sample[n] / np.float32(data.unit), np.float32)
        out.flat[found.outliers[n]] = data.reference[n].flat[found.outliers[n]]
        return out

    def weights(n: int) -> Image:
        out = data.weights[n]
        out.flat[found.outliers[n]] = 0.0
        return out

    return FitData(
        reference=np.concatenate([halve(frame[None]) for frame in data.reference]),
        sample=np.concatenate([halve(sample(n)[None]) for n in numbers]),
        weights=Weights.of(np.concatenate([halve(weights(n)[None]) for n in numbers])),
        noise=0.25 * data.noise,
        threads=data.threads,
        margin=data.margin // 2,
        beginning=None if data.beginning is None else 0.25 * halve(data.beginning[None])[0],
    )


def double(fields: Real, kinds: tuple[int, ...], shape: tuple[int, ...]) -> Real:
    """Return fields (unknown, y, x) at twice the resolution, in its pixel units, by cubic splines."""
    out = np.empty((len(fields), *shape), fields.dtype)
    for field, kind, target in zip(fields, kinds, out, strict=True):
        fine = scipy.ndimage.zoom(field.astype(np.float64), 2, order=3, mode="reflect", grid_mode=True)
        target[...] = fine[: shape[0], : shape[1]] * (1.0 if kind == LOG_T else 4.0)
    return out
