"""Maps and numbers that show how far a fit can be trusted."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

from xmist.core.arrays import Image
from xmist.methods.full_field.border import inside
from xmist.methods.full_field.problem import Fit, FitData, Problem
from xmist.numerics.images.blocks import BLOCK, block_pixels, block_sums
from xmist.numerics.images.speckles import speckle_size, visibility
from xmist.numerics.operators.derivatives import DX, DY, LAPLACIAN, VALUE, derivative
from xmist.numerics.operators.transport import D_XX, D_YY, LOG_T, PSI, D
from xmist.numerics.solvers.preconditioner import Moments, expected_block

Real = NDArray[Any]

_FINE: Final = 8  # pixels: waves of which the maps of information are
_NEIGHBOURS: Final = 0.01  # of the mean information about φ, which stands for that of the neighbours
_MIDDLE: Final = 512  # pixels a side of the part of a reference in which speckles are measured
_REACH: Final = 32
_CHANNELS: Final = {"phase": (PSI,), "dark_field": (D, D_XX, D_YY), "transmission": (LOG_T,)}


@dataclass(frozen=True)
class SpeckleStatistics:
    """Speckles of the references.

    `size`: full width at half maximum of the autocorrelation in pixels, mean of x and y, NaN for none;
    `visibility`: standard deviation over mean, without noise.
    """

    size: float
    visibility: float

    @classmethod
    def of(cls, frames: Image, clean: Image, weights: Image | None) -> SpeckleStatistics:
        """Measure them in the middle of the first reference; (position, y, x), `clean` without noise."""
        middle = tuple(
            slice((size - part) // 2, (size - part) // 2 + part)
            for size, part in ((size, min(size, _MIDDLE)) for size in frames.shape[1:])
        )
        frame, smooth = frames[0][middle], clean[0][middle]
        used = np.ones(frame.shape, bool) if weights is None else weights[0][middle] > 0
        if np.count_nonzero(used) < 2:
            return cls(math.nan, math.nan)
        size = float(np.mean(speckle_size(frame, used, _REACH)))
        return cls(size if 0.0 < size < math.inf else math.nan, visibility(smooth, used))

    def to_dict(self) -> dict[str, float | None]:
        """Return plain data."""
        return {
            "speckle_size": None if math.isnan(self.size) else self.size,
            "visibility": None if math.isnan(self.visibility) else self.visibility,
        }


def reduced_chi_squared(found: Fit, noise: float) -> float | None:
    """Return the residual's variance over that of the noise, for each datum that ψ leaves over.

    `noise`: variance of a pixel of weight 1. About 1 where noise of the sample frames alone is left; None
    where the noise is not known (0) or a single position leaves nothing over.
    """
    positions, number = len(found.residual), found.weights.count()
    if noise == 0.0 or positions == 1 or number == 0:
        return None
    return float(found.misfit[-1] / (noise * number * (1.0 - 1.0 / positions)))


def convergence_record(found: Fit, noise: float) -> dict[str, Any]:
    """Return the record of convergence as plain data; `noise`: variance of a pixel of weight 1 or 0."""
    number = found.weights.count()
    return {
        "converged": found.converged,
        "iterations": [how.iterations for how in found.solves],
        "misfit": [value / number for value in found.misfit],
        "reduced_chi_squared": reduced_chi_squared(found, noise),
        "binning": found.binning,
        "parallax": found.parallax,
        "margin": found.margin,
        "prior_strengths": [prior.strength for prior in found.priors],
        "prior_orders": [prior.order for prior in found.priors],
        "residual_by_frame": [
            float(np.sqrt(np.mean(inside(image, found.margin) ** 2, dtype=np.float64)))
            for image in found.residual
        ],
    }


def diagnostic_maps(
    data: FitData, problem: Problem, found: Fit, moment: tuple[Real, Real, Real]
) -> dict[str, Image]:
    """Return maps (y, x).

    "residual": rms over the positions of the residual over the noise that is expected of it, or over the rms
    of all where that is not known; NaN without a usable frame. "phase_information" and, where D was fitted,
    "dark_field_information": how much of the value comes from the data around rather than from the prior (for
    φ: from its neighbours), 0 to 1, for structure of some eight pixels.
    """
    square = np.zeros(found.residual.shape[1:], np.float32)
    count = np.zeros(square.shape, np.uint16)
    for n, rest in enumerate(found.residual):
        rest *= rest
        rest *= found.weights[n]
        square += rest
        count += found.weights.codes[n] > 0
    del rest
    found.residual.forget()
    expected = data.noise or found.misfit[-1] / max(found.weights.count(), 1) or 1.0
    with np.errstate(invalid="ignore", divide="ignore"):
        square /= count * np.float32(expected)
        out = {"residual": np.sqrt(square, out=square)}
    shape = found.weights.shape[1:]
    for name, share in information(problem, found, moment, waves=_FINE).items():
        if name == "transmission":
            continue
        fine = scipy.ndimage.zoom(share, BLOCK, order=1, mode="nearest", grid_mode=True, output=np.float32)
        out[f"{name}_information"] = np.ascontiguousarray(fine[: shape[0], : shape[1]])
    return out


def local_moments(found: Fit) -> tuple[Real, Real, Real]:
    """Return Σ ⟨w M²⟩, Σ ⟨w |∇M|²⟩ and Σ ⟨w (∇²M)²⟩ over the positions, in blocks of pixels (y, x)."""
    transport, shape = found.transport, found.weights.shape[1:]
    sums = np.zeros((3, *(-(-size // BLOCK) for size in shape)))
    for frame, w in zip(transport.frames, found.weights, strict=True):
        for place, kind in ((0, VALUE), (1, DX), (1, DY), (2, LAPLACIAN)):
            image = derivative(frame, kind, threads=transport.threads)
            sums[place] += block_sums(image, w, BLOCK, threads=transport.threads)[3]
    sums /= block_pixels(shape, BLOCK)
    value, slope, curvature = (scipy.ndimage.gaussian_filter(total, 1.0, mode="reflect") for total in sums)
    return value, slope, curvature


def information(
    problem: Problem, found: Fit, moment: tuple[Real, Real, Real], *, waves: int
) -> dict[str, Real]:
    """Return how much of φ, D and T comes from the data, 0 to 1, for waves of a length in pixels.

    By channel, "phase", "dark_field" and "transmission", in blocks of pixels (y, x); `moment` from
    `local_moments`.
    """
    kinds, grid = found.transport.kinds, (waves // 2, waves // 2)  # its second frequency has these waves
    weight = np.eye(len(kinds)) if problem.mix is None else problem.mix
    block = np.zeros((*moment[0].shape, weight.shape[1], weight.shape[1]))
    for one, image in zip(np.eye(3), moment, strict=True):
        symbol = expected_block(kinds, Moments(*one), grid, mix=problem.mix)
        block += image[..., None, None] * (0.5 * (symbol[0, 1] + symbol[1, 0]))
    total = block.copy()
    for row, kind, prior in zip(weight, kinds, found.priors, strict=True):
        precision = float(prior.precision(grid)[0, 1])
        own = np.flatnonzero(row)[0]
        if kind == PSI:
            precision = _NEIGHBOURS * float(row[own] ** -2 * block[..., own, own].mean())
        total += precision * np.outer(row, row)
    diagonal = np.arange(len(total[0, 0]))
    total[..., diagonal, diagonal] = total[..., diagonal, diagonal] * (1.0 + 1e-6) + 1e-30
    shares = np.linalg.solve(total, block)
    out = {}
    for name, members in _CHANNELS.items():
        found_shares = [
            shares[..., own, own]
            for row, kind in zip(weight, kinds, strict=True)
            if kind in members
            for own in np.flatnonzero(row)[:1]
        ]
        if found_shares:
            out[name] = np.clip(np.mean(found_shares, axis=0), 0.0, 1.0)
    return out
