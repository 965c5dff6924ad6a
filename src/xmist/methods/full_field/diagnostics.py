"""How far a whole-image fit can be trusted: maps, numbers and findings that a scientist can act on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

from xmist.core.arrays import Image
from xmist.methods.full_field.coarse_to_fine import BLOCK, block_mean
from xmist.methods.full_field.problem import Fit, Frames, Problem
from xmist.numerics.images.autocorrelation import half_width
from xmist.numerics.operators.derivatives import DX, DY, LAPLACIAN, VALUE, derivative
from xmist.numerics.operators.transport import D_XX, D_YY, PSI, D
from xmist.numerics.solvers.preconditioner import Moments, expected_block

Real = NDArray[Any]

_GRID: Final = (4, 4)  # its second frequency has waves of eight pixels
_NEIGHBOURS: Final = 0.01  # of the mean information about φ, which neighbours stand in for
_LOOKED_AT: Final = 512  # pixels a side of the part of a reference that speckles are measured in
_REACH: Final = 32
_FINEST: Final = 2.0  # pixels
_FAINTEST: Final = 0.03
# Reduced χ² that is worth a word. Samples with fine structure reach some 5 where there are many photons.
_LOW: Final = 0.3
_HIGH: Final = 10.0
# Pixels by which speckles of the bare beam may move without a word, and the part of what is left there that a
# shift must explain.
_MOVED: Final = 0.02
_MOVED_SHARE: Final = 0.2
_NOISELESS: Final = 1e-9  # variance that no detector has: a thousand million photons a pixel


@dataclass(frozen=True)
class Speckles:
    """What the references' speckles are like.

    Parameters
    ----------
    size : float
        Full width at half maximum of the autocorrelation in pixels, mean of x and y; NaN for none.
    visibility : float
        Standard deviation over mean, without noise.
    """

    size: float
    visibility: float

    @classmethod
    def of(cls, frames: Image, clean: Image, weights: Image | None) -> Speckles:
        """Measure them in the middle of the first reference.

        Parameters
        ----------
        frames, clean : (position, y, x) float32 array
            References as they are, and without noise.
        weights : (position, y, x) float32 array or None
            Weights.

        Examples
        --------
        >>> noise = np.random.default_rng(1).normal(size=(1, 128, 128))
        >>> frames = 1 + 0.1 * scipy.ndimage.gaussian_filter(noise, (0, 2, 2)).astype(np.float32)
        >>> bool(abs(Speckles.of(frames, frames, None).size - 6.66) < 0.6)
        True
        """
        middle = tuple(
            slice((size - part) // 2, (size - part) // 2 + part)
            for size, part in ((size, min(size, _LOOKED_AT)) for size in frames.shape[1:])
        )
        frame, smooth = frames[0][middle], clean[0][middle]
        used = np.ones(frame.shape, bool) if weights is None else weights[0][middle] > 0
        if np.count_nonzero(used) < 2:
            return cls(math.nan, math.nan)
        widths = [half_width(frame, used, axis, min(_REACH, frame.shape[axis] - 1)) for axis in (0, 1)]
        size = float(np.mean(widths))
        values = smooth[used].astype(np.float64)
        return cls(size if 0.0 < size < math.inf else math.nan, float(values.std() / values.mean()))

    def findings(self) -> list[str]:
        """Say what is bad about them."""
        found = []
        if self.size < _FINEST:
            found.append(
                f"speckles of {self.size:.2g} pixels: below {_FINEST:g} pixels the detector cuts off their "
                "finest structure, and D comes out wrong; use a coarser diffuser or bin less"
            )
        if self.visibility < _FAINTEST:
            found.append(
                f"speckles of visibility {self.visibility:.2g}: below {_FAINTEST:g} they say little next to "
                "noise and to the sample's own structure"
            )
        return found

    def to_dict(self) -> dict[str, float | None]:
        """Give plain data."""
        return {
            "speckle_size": None if math.isnan(self.size) else self.size,
            "visibility": None if math.isnan(self.visibility) else self.visibility,
        }


def reduced_chi_squared(found: Fit, noise: float) -> float | None:
    """Give the residual's variance over that of the noise, for each datum that ψ leaves over.

    Parameters
    ----------
    found : Fit
        The fit.
    noise : float
        Variance of a pixel of weight 1; 0 where it is not known.

    Returns
    -------
    float or None
        About 1 where noise of the sample frames alone is left; None where the noise is not known or one
        exposure leaves nothing over.
    """
    exposures, number = len(found.residual), found.weights.count()
    if noise == 0.0 or exposures == 1 or number == 0:
        return None
    return float(found.misfit[-1] / (noise * number * (1.0 - 1.0 / exposures)))


def describe_level(found: Fit, noise: float, *, given: bool) -> list[str]:
    """Say where what is left is far from the noise that was expected.

    Parameters
    ----------
    found : Fit
        The fit.
    noise : float
        Variance of a pixel of weight 1; 0 where it is not known.
    given : bool
        Whether the gain was given rather than estimated from the frames.

    Returns
    -------
    list of str
        One sentence or none.
    """
    level = reduced_chi_squared(found, noise)
    if level is None or noise < _NOISELESS:
        return []
    is_times = f"what the fit leaves has {level:.2g} times the variance of the frames' noise as"
    if level < _LOW:
        words = (
            "given: gain or read_noise are too large, or the frames were scaled or averaged"
            if given
            else "estimated from their finest structure, which is not all noise (edges of a grating, bad "
            "pixels): give gain and read_noise"
        )
        return [f"{is_times} {words}; standard deviations follow what is left, not this"]
    if level > _HIGH:
        words = (
            "given: gain or read_noise are too small, the frames were scaled,"
            if given
            else "estimated: the frames were smoothed or interpolated, which hides their noise,"
        )
        return [
            f"{is_times} {words} or the model does not describe the sample (structure that is not resolved, "
            "motion or drift between the frames); the map 'residual' shows where, and there more exposures "
            "help rather than more light"
        ]
    return []


def describe_background(found: Fit, background: NDArray[np.bool_] | None) -> list[str]:
    """Say where speckles have moved over what was said to be bare beam.

    Parameters
    ----------
    found : Fit
        The fit, whose φ is 0 there: a shift is in what it leaves.
    background : (y, x) bool array or None
        Bare beam.

    Returns
    -------
    list of str
        One sentence or none.
    """
    if background is None:
        return []
    box = tuple(
        slice(int(places[0]), int(places[-1]) + 1)
        for places in (np.flatnonzero(background.any(axis=axis)) for axis in (1, 0))
    )
    inside, threads = background[box], found.transport.threads
    shifts = []
    for n, rest in enumerate(found.residual):
        weights = (found.weights[n][box] * inside).astype(np.float64)
        slopes = np.stack([derivative(found.transport.frames[n], k, threads=threads)[box] for k in (DX, DY)])
        normal = np.einsum("iyx,jyx,yx->ij", slopes, slopes, weights)
        right = -np.einsum("iyx,yx,yx->i", slopes, rest[box], weights)
        total = float((weights * rest[box] ** 2).sum())
        shift = np.linalg.lstsq(normal, right, rcond=1e-6)[0]
        if float(right @ shift) > _MOVED_SHARE * total:
            shifts.append(float(np.hypot(*shift)))
    found.residual.forget()
    largest = max(shifts, default=0.0)
    if largest < _MOVED:
        return []
    return [
        f"over the background, which is said to be bare beam, speckles moved by up to {largest:.2g} pixels: "
        "beam or diffuser moved between reference and sample frames. φ is held at 0 there and has a ramp "
        "elsewhere, so that the background stands out with edges; add the step 'drift' before the method"
    ]


def record(found: Fit, noise: float) -> dict[str, Any]:
    """Give the record of convergence, as plain data.

    Parameters
    ----------
    found : Fit
        The fit.
    noise : float
        Variance of a pixel of weight 1; 0 where it is not known.
    """
    number = found.weights.count()
    return {
        "converged": found.converged,
        "iterations": [how.iterations for how in found.solves],
        "misfit": [value / number for value in found.misfit],
        "reduced_chi_squared": reduced_chi_squared(found, noise),
        "binning": found.binning,
        "parallax": found.parallax,
        "prior_strengths": [prior.strength for prior in found.priors],
        "prior_orders": [prior.order for prior in found.priors],
        "residual_by_frame": [
            float(np.sqrt(np.mean(image**2, dtype=np.float64))) for image in found.residual
        ],
    }


def maps(frames: Frames, problem: Problem, found: Fit) -> dict[str, Image]:
    """Give the diagnostic maps.

    Parameters
    ----------
    frames : Frames
        Data.
    problem : Problem
        What was fitted.
    found : Fit
        The fit.

    Returns
    -------
    dict of str to (y, x) float32 array
        "residual": rms over the exposures of the residual over the noise that is expected of it, or over the
        rms of all where that is not known; NaN without a usable exposure. "phase_information" and, where D
        was fitted, "dark_field_information": how much of the value comes from the data around rather than
        from the prior (for φ: from its neighbours), 0 to 1, for structure of some eight pixels.
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
    expected = frames.noise or found.misfit[-1] / max(found.weights.count(), 1) or 1.0
    with np.errstate(invalid="ignore", divide="ignore"):
        square /= count * np.float32(expected)
        out = {"residual": np.sqrt(square, out=square)}
    return out | _information(problem, found)


def _information(problem: Problem, found: Fit) -> dict[str, Image]:
    transport = found.transport
    kinds, shape = transport.kinds, found.weights.shape[1:]
    threads = transport.threads
    sums = np.zeros((3, *(-(-size // BLOCK) for size in shape)))
    for frame, w in zip(transport.frames, found.weights, strict=True):
        for place, kind in ((0, VALUE), (1, DX), (1, DY), (2, LAPLACIAN)):
            image = derivative(frame, kind, threads=threads)
            image *= image
            image *= w
            sums[place] += block_mean(image)
    del image, w
    value, slope, curvature = (
        scipy.ndimage.gaussian_filter(total, 1.0, mode="reflect")[..., None, None] for total in sums
    )
    weight = np.eye(len(kinds)) if problem.mix is None else problem.mix
    block = np.zeros((*sums.shape[1:], weight.shape[1], weight.shape[1]))
    for moment, image in (
        (Moments(1.0, 0.0, 0.0), value),
        (Moments(0.0, 1.0, 0.0), slope),
        (Moments(0.0, 0.0, 1.0), curvature),
    ):
        grid = expected_block(kinds, moment, _GRID, mix=problem.mix)
        block += image * (0.5 * (grid[0, 1] + grid[1, 0]))
    total = block.copy()
    for row, kind, prior in zip(weight, kinds, found.priors, strict=True):
        precision = float(prior.precision(_GRID)[0, 1])
        own = np.flatnonzero(row)[0]
        if kind == PSI:
            precision = _NEIGHBOURS * float(row[own] ** -2 * block[..., own, own].mean())
        total += precision * np.outer(row, row)
    diagonal = np.arange(len(total[0, 0]))
    total[..., diagonal, diagonal] = total[..., diagonal, diagonal] * (1.0 + 1e-6) + 1e-30
    shares = np.linalg.solve(total, block)
    names = {"phase_information": (PSI,), "dark_field_information": (D, D_XX, D_YY)}
    out = {}
    for name, members in names.items():
        found_shares = [
            shares[..., own, own]
            for row, kind in zip(weight, kinds, strict=True)
            if kind in members
            for own in np.flatnonzero(row)[:1]
        ]
        if found_shares:
            share = np.clip(np.mean(found_shares, axis=0), 0.0, 1.0)
            fine = scipy.ndimage.zoom(
                share, BLOCK, order=1, mode="nearest", grid_mode=True, output=np.float32
            )
            out[name] = np.ascontiguousarray(fine[: shape[0], : shape[1]])
    return out


def describe(found: Fit, speckles: Speckles) -> list[str]:
    """Say in words what a reader should know of a fit.

    Parameters
    ----------
    found : Fit
        The fit.
    speckles : Speckles
        Of the references.

    Returns
    -------
    list of str
        One sentence a finding.
    """
    words = speckles.findings()
    if found.binning > 1:
        psi = scipy.ndimage.gaussian_filter(
            found.fields[found.transport.kinds.index(PSI)].astype(np.float64), 1.0, mode="reflect"
        )
        largest = float(np.quantile(np.hypot(*np.gradient(psi)), 0.999))
        words.append(
            f"shifts reach {largest / speckles.size:.2g} speckles ({largest:.2g} pixels); solved "
            "coarse-to-fine"
        )
    if len(found.residual) == 1 and {D, D_XX} & set(found.transport.kinds):
        words.append(
            "the dark-field is that of one exposure and no measurement: one image does not tell scatter from "
            "thickness, and its values and even its sign can be wrong everywhere, so that its standard "
            "deviation is given as no less than its own rms; take two exposures to measure D"
        )
    if found.lost:
        words.append(
            f"around {100 * found.lost:.2g} % of the pixels the sample's speckles were not found: the shift "
            "is too large or rough there, or something else than a sample changed them"
        )
    if not found.converged:
        words.append(
            f"the solution had not settled after {len(found.misfit) - 1} outer steps: do not trust it "
            "before the cause is found (shifts of more than a speckle, an attenuating sample without "
            "transmission among the unknowns, frames that do not belong together)"
        )
    rejected = sum(map(len, found.outliers))
    if rejected:
        words.append(
            f"{rejected} pixel{'s' if rejected > 1 else ''} of sample frames, with residuals of more than 8 "
            "standard deviations of those around, contradict the model and were ignored"
        )
    return words
