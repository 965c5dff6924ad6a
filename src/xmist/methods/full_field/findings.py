"""Findings about a fit."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

from xmist.core.arrays import Image
from xmist.core.findings import Finding, finding, percent
from xmist.methods.full_field.border import inside
from xmist.methods.full_field.diagnostics import SpeckleStatistics, information, reduced_chi_squared
from xmist.methods.full_field.gauss_newton import OUTLIER
from xmist.methods.full_field.problem import Fit, Problem
from xmist.numerics.images.registration import filled, register, shifted
from xmist.numerics.operators.transport import D_XX, D_YY, LOG_T, PSI, D

Real = NDArray[Any]

_FINEST: Final = 2.0  # pixels
_FAINTEST: Final = 0.03
# Reduced χ² that is worth a finding. Samples with fine structure reach some 5 where there are many photons.
_LOW: Final = 0.3
_HIGH: Final = 10.0
_MOVED: Final = 0.02  # pixels by which speckles of the bare beam may move
_MOVED_MOST: Final = 10.0  # pixels that are searched
_MOVED_SIGNIFICANT: Final = 36.0  # χ² by which the shift must explain the frames better than none
_WAVES: Final = 64  # pixels: structure of which D and T should come from the data
_SHARE: Final = 0.5  # of it that should, at least
_BLUR: Final = 0.12  # pixels; less blur of the speckles does not matter
_BLOCK: Final = 16  # pixels a side that d is averaged over, where noise may hide its mean
_ATTENUATES: Final = 0.02  # part of the light that a sample which attenuates takes
_NOISELESS: Final = 1e-9  # variance of 10⁹ photons a pixel: no detector


def speckle_findings(speckles: SpeckleStatistics) -> list[Finding]:
    """Return findings about the speckles of the references."""
    found = []
    if speckles.size < _FINEST:
        message = (
            f"speckle size is {speckles.size:.2g} pixels, below {_FINEST:g}: the detector does not resolve "
            "the speckles and the dark-field is wrong; use a coarser diffuser or less binning"
        )
        found.append(finding("speckles-too-fine", message))
    if speckles.visibility < _FAINTEST:
        message = (
            f"speckle visibility is {speckles.visibility:.2g}, below {_FAINTEST:g}: phase and dark-field are "
            "dominated by noise and by structure of the sample; use a diffuser of more contrast"
        )
        found.append(finding("speckles-too-faint", message))
    return found


def fit_findings(found: Fit, speckles: SpeckleStatistics) -> list[Finding]:
    """Return findings about how the fit went."""
    out = []
    if found.binning > 1:
        psi = inside(found.fields, found.margin)[found.transport.kinds.index(PSI)].astype(np.float64)
        psi = scipy.ndimage.gaussian_filter(psi, 1.0, mode="reflect")
        largest = float(np.quantile(np.hypot(*np.gradient(psi)), 0.999))
        sizes = f" ({largest / speckles.size:.2g} speckle sizes)" if np.isfinite(speckles.size) else ""
        message = f"speckle shifts reach {largest:.2g} pixels{sizes}; solved from coarse to fine"
        out.append(finding("large-shifts", message))
    if len(found.residual) == 1 and {D, D_XX} & set(found.transport.kinds):
        message = (
            "the dark-field comes from one position, which does not separate scatter from thickness: value "
            "and sign may be wrong everywhere, and its standard deviation is at least its rms; use two "
            "positions to measure it"
        )
        out.append(finding("dark-field-one-position", message))
    if found.lost:
        message = (
            f"speckles were not found around {percent(found.lost)} of the pixels, where all image "
            "channels are wrong: the shift is too large or too uneven, or the frames changed otherwise"
        )
        out.append(finding("speckles-lost", message))
    if not found.converged:
        message = (
            f"the fit did not converge in {len(found.misfit) - 1} outer iterations and no image channel is "
            "reliable; check for shifts above a speckle size, for attenuation without transmission, and that "
            "the frames belong together"
        )
        out.append(finding("not-converged", message))
    rejected = sum(map(len, found.outliers))
    if rejected:
        message = (
            f"{rejected} outlier{'s' if rejected > 1 else ''} (> {OUTLIER:g} σ) in the sample frames rejected"
        )
        out.append(finding("outliers-rejected", message))
    return out


def prior_findings(problem: Problem, found: Fit, moment: tuple[Real, Real, Real]) -> list[Finding]:
    """Return a finding where the prior determines D or T over most of the frame; `moment`: `local_moments`.

    Only where something scatters, or light is lost: otherwise there is no contrast that could be.
    """
    usable = moment[0] > 0.0
    if not usable.any():
        return []
    shares = {
        name: float(np.median(share[usable]))
        for name, share in information(problem, found, moment, waves=_WAVES).items()
    }
    out = []
    if (share := shares.get("dark_field", 1.0)) < _SHARE and _scatters(problem, found):
        message = (
            f"dark-field: {100 * share:.0f} % of structure of {_WAVES} pixels comes from the data, the rest "
            "from the prior, over at least half of the frame: contrast is lost, and little more than the "
            "mean is measured; use more positions, more light or speckles that are finer or of more contrast"
        )
        out.append(finding("dark-field-from-prior", message))
    if (share := shares.get("transmission", 1.0)) < _SHARE:
        log_t = inside(found.fields, found.margin)[found.transport.kinds.index(LOG_T)]
        lost = 1.0 - float(np.exp(log_t).mean(dtype=np.float64))
        if lost > _ATTENUATES:
            message = (
                f"transmission: {100 * share:.0f} % of structure of {_WAVES} pixels comes from the data, the "
                f"rest from the prior, over at least half of the frame: of the {percent(lost)} of the "
                "light that is lost, little more than the mean is measured; use more positions, more light "
                "or speckles of more contrast"
            )
            out.append(finding("transmission-from-prior", message))
    return out


def _scatters(problem: Problem, found: Fit) -> bool:
    """Return whether d is worth a blur of the speckles anywhere; the prior leaves its mean to the data."""
    kinds = [(D_XX, D_YY) if kind == D_XX else (D,) for kind in problem.kinds if kind in (D, D_XX)]
    fields = inside(found.fields, found.margin)
    d = np.mean([fields[problem.kinds.index(kind)] for kind in kinds[0]], axis=0)
    smooth = scipy.ndimage.uniform_filter(d, min(_BLOCK, *d.shape), mode="reflect")
    return bool(np.abs(smooth).max() > 0.5 * _BLUR**2)


def noise_findings(found: Fit, noise: float, *, given: bool) -> list[Finding]:
    """Return a finding if the residual is far from the expected noise.

    `noise`: variance of a pixel of weight 1, 0 if unknown; `given`: whether the gain was given.
    """
    level = reduced_chi_squared(found, noise)
    if level is None or noise < _NOISELESS:
        return []
    measured = f"residual variance is {level:.2g} × the {'given' if given else 'estimated'} noise"
    if level < _LOW:
        cause = (
            "gain or read_noise is too large, or the frames were scaled or averaged; standard deviations are "
            "computed from the residual and do not depend on it"
            if given
            else "the finest structure of the frames is not all noise (edges of a grating, bad pixels), and "
            "the references may be smoothed too much; give gain and read_noise"
        )
        return [finding("residual-below-noise", f"{measured}: {cause}")]
    if level > _HIGH:
        cause = (
            "gain or read_noise is too small, the frames were scaled"
            if given
            else "the frames were smoothed or interpolated"
        )
        return [
            finding(
                "residual-above-noise",
                f"{measured}: {cause}, or the model does not describe the sample (unresolved structure, "
                "motion or drift); see the map residual; more positions help, more light does not",
            )
        ]
    return []


def background_findings(
    reference: Image, sample: Image, codes: NDArray[np.uint8], background: NDArray[np.bool_] | None
) -> list[Finding]:
    """Return a finding if speckles moved on the bare beam (y, x), where φ is held at 0.

    Frames (position, y, x), the references without noise, are registered there. The residual of the fit is
    smaller: at the edge of the region φ beside it takes up a part of the motion. Pixels of code 0 do not
    count.
    """
    if background is None:
        return []
    box = tuple(
        slice(int(places[0]), int(places[-1]) + 1)
        for places in (np.flatnonzero(background.any(axis=axis)) for axis in (1, 0))
    )
    shifts = [
        _motion(frame[box], other[box], background[box] & (code[box] > 0))
        for frame, other, code in zip(reference, sample, codes, strict=True)
    ]
    largest = max(shifts, default=0.0)
    if largest < _MOVED:
        return []
    message = (
        f"speckles moved by up to {largest:.2g} pixels on the background: beam or diffuser moved between "
        "reference and sample frames, and the phase has a ramp beside the background; add the preprocessing "
        "step drift"
    )
    return [finding("background-moved", message)]


def _motion(reference: Image, sample: Image, used: NDArray[np.bool_]) -> float:
    """Return the length in pixels of the shift of a frame (y, x), 0 where it is not significant."""
    shift = register(reference, sample, used, by_blocks=False, max_shift=_MOVED_MOST)
    if isinstance(shift, str):
        return 0.0
    moved, touched = shifted(filled(reference, used), used, shift)
    good = used & ~touched
    data = sample[good].astype(np.float64)

    def misfit(image: Image) -> float:
        model = image[good].astype(np.float64)
        return float(data @ data - (data @ model) ** 2 / (model @ model))

    left = misfit(moved)
    gained = (misfit(reference) - left) * np.count_nonzero(good)
    return float(np.hypot(*shift)) if gained > _MOVED_SIGNIFICANT * left else 0.0


def initial_finding() -> Finding:
    """Return the finding that an initial result was not used."""
    return finding(
        "initial-unused",
        "the initial result explains the frames no better than an empty field of view; it was not used",
    )
