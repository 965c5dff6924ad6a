"""What is reported of a fit, in words."""

from __future__ import annotations

from typing import Final

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

from xmist.methods.full_field.border import inside, with_margin
from xmist.methods.full_field.diagnostics import SpeckleStatistics, reduced_chi_squared
from xmist.methods.full_field.problem import Fit
from xmist.numerics.operators.derivatives import DX, DY, derivative
from xmist.numerics.operators.transport import D_XX, PSI, D

_FINEST: Final = 2.0  # pixels
_FAINTEST: Final = 0.03
# Reduced χ² that is worth a finding. Samples with fine structure reach some 5 where there are many photons.
_LOW: Final = 0.3
_HIGH: Final = 10.0
# Pixels by which speckles of the bare beam may move, and the part of what is left there that a shift must
# explain.
_MOVED: Final = 0.02
_MOVED_SHARE: Final = 0.2
_NOISELESS: Final = 1e-9  # variance that no detector has: a thousand million photons a pixel


def speckle_findings(speckles: SpeckleStatistics) -> list[str]:
    """Return what is bad about the speckles of the references."""
    found = []
    if speckles.size < _FINEST:
        found.append(
            f"speckles of {speckles.size:.2g} pixels: below {_FINEST:g} pixels the detector cuts off their "
            "finest structure, and D comes out wrong; use a coarser diffuser or bin less"
        )
    if speckles.visibility < _FAINTEST:
        found.append(
            f"speckles of visibility {speckles.visibility:.2g}: below {_FAINTEST:g} they say little next to "
            "noise and to the sample's own structure"
        )
    return found


def fit_findings(found: Fit, speckles: SpeckleStatistics) -> list[str]:
    """Return what a reader should know of how the fit went."""
    words = []
    if found.binning > 1:
        psi = inside(found.fields)[found.transport.kinds.index(PSI)].astype(np.float64)
        psi = scipy.ndimage.gaussian_filter(psi, 1.0, mode="reflect")
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


def noise_findings(found: Fit, noise: float, *, given: bool) -> list[str]:
    """Return whether what is left is far from the noise that was expected.

    `noise`: variance of a pixel of weight 1, 0 if unknown; `given`: whether the gain was given.
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


def background_findings(found: Fit, background: NDArray[np.bool_] | None) -> list[str]:
    """Return whether speckles moved over the bare beam (y, x), where φ is held at 0.

    The shift is in what the fit leaves there.
    """
    if background is None:
        return []
    background = with_margin(background, False)
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
