"""`lcs`: low-coherence system; transmission, refraction and dark-field, one pixel at a time.

Quénot et al. 2021, "Implicit tracking approach for X-ray phase-contrast imaging with a random mask and a
conventional system", Optica 8 1412, doi:10.1364/OPTICA.434954; with dark-field Magnin et al. 2023, Opt. Lett.
48 5839. In pixel units, with the shift u = ∇ψ, ψ = ∆φ/(k p²), and d = ∆D/p²,

    I_R = I_S/T + u·∇I_R [− d ∇²I_R, or − (d_xx ∂_xx + d_yy ∂_yy + 2 d_xy ∂_xy) I_R]

at every pixel for every position. It is solved for 1/T − 1, so that no object gives exactly 0 and the ridge
pulls towards no object. ∇φ = k u/∆ is integrated by least squares.

The equations of a window of pixels can join those of the positions, as in Kefs et al. 2025, IEEE Trans. Med.
Imaging (derived here: the normal equations are averaged, by a flat window or a Gaussian). One position is
then enough.

What multiplies the whole frame is found as one: the T of this method is T (1 − ∇·u + ∆∇²D), attenuation and
lensing together.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xmist.core import flags as flag
from xmist.core.experiment import Experiment
from xmist.core.findings import Finding, finding
from xmist.core.options import Options, Range
from xmist.methods.common.background import Background, background_mask, determined_background
from xmist.methods.common.findings import ROUGH_SHIFT
from xmist.methods.common.options import Integrator, Ridge, Smoothing
from xmist.methods.common.phase import phase_of_shift
from xmist.methods.common.reference import PreparedReference, prepare_reference
from xmist.methods.implicit.plan import Channels, ImplicitPlan, Solution, prepare_equations
from xmist.methods.implicit.regularisation import Agreement
from xmist.numerics.images.medians import distance_from_median
from xmist.numerics.operators.derivatives import DX, DXX, DXY, DY, DYY, LAPLACIAN, SAMPLE

# Columns for the unknowns 1/T − 1, u_x, u_y and −d or −d_xx, −2 d_xy, −d_yy.
COLUMNS: Final = {
    "none": (SAMPLE, DX, DY),
    "scalar": (SAMPLE, DX, DY, LAPLACIAN),
    "tensor": (SAMPLE, DX, DY, DXX, DXY, DYY),
}
Real = NDArray[Any]

_FULL_WIDTH: Final = 2.355  # at half maximum, of a Gaussian in σ
_FACTORS: Final = {"none": (), "scalar": (-1.0,), "tensor": (-1.0, -0.5, -1.0)}


class LcsOptions(Options):
    """Options of `lcs`.

    Parameters
    ----------
    dark_field : {"auto", "none", "scalar", "tensor"}
        The dark-field that the model has: none (N ≥ 3), as in the paper of 2021; a scalar D (N ≥ 4); a tensor
        (N ≥ 6); with `window` or `smoothing` each from N = 1. "auto" is "scalar", or "none" for three
        positions without them.
    integrator : {"dct", "southwell"}
        How the shift is integrated to the phase: with the gradient of a sum of cosines (Frankot–Chellappa
        with the even mirror), or with differences of neighbours.
    background : (y, x) bool array or (int, int, int, int), optional
        Bare beam beside the sample: a mask, or a box y0, y1, x0, x1 in pixels, ends excluded. On average the
        shift, D and φ are 0 there and T is 1, which removes a drift of the diffuser or of the flux between
        the frames. None: as measured, and the mean of φ is 0.
    window : int
        The normal equations are averaged over `window` × `window` pixels (odd), so that one position is
        enough; 1 solves every pixel alone. It should be larger than a speckle.
    smoothing : float
        Gaussian σ in pixels that the normal equations are smoothed with; 0 does not smooth.
    ridge : float or "auto"
        Tikhonov term on (1/T − 1, u, d), relative to the mean diagonal of the normal matrix in pixel units.
        "auto" chooses it from the frames and records it in `provenance["regularisation"]`.
    positive : bool
        Set a negative dark-field to 0 (and flag it), or replace a tensor with a negative eigenvalue by the
        nearest positive semi-definite one.

    Examples
    --------
    >>> LcsOptions(dark_field="tensor").dark_field
    'tensor'
    """

    dark_field: Literal["auto", "none", "scalar", "tensor"] = "auto"
    integrator: Integrator = "dct"
    background: Background | None = None
    window: Annotated[int, Range(1, 999, odd=True, unit="pixels")] = 1
    smoothing: Smoothing = 0.0
    ridge: Ridge = 0.0
    positive: bool = False

    @property
    def joined(self) -> bool:
        """Whether equations of several pixels are joined."""
        return self.window > 1 or self.smoothing > 0.0

    @property
    def minimum_positions(self) -> int:
        """Least number of positions: as many as unknowns, unless pixels around contribute."""
        return 1 if self.joined else len(COLUMNS["none" if self.dark_field == "auto" else self.dark_field])


OPTIONS: Final = LcsOptions


def prepare(
    reference: ArrayLike,
    experiment: Experiment,
    options: LcsOptions,
    *,
    weights: ArrayLike | None = None,
    threads: int | None = None,
) -> ImplicitPlan:
    """Prepare the method for (position, y, x) reference frames; see `xmist.prepare`."""
    kind = options.dark_field
    label = f"lcs with dark_field='{kind}'" if kind in ("scalar", "tensor") else "lcs"
    prepared = prepare_reference(
        reference, weights, method=label, minimum=options.minimum_positions, threads=threads, scaled=True
    )
    if kind == "auto":
        kind = "scalar" if options.joined or len(prepared.frames) >= len(COLUMNS["scalar"]) else "none"
    background = background_mask(options.background, prepared.flags.shape)
    return ImplicitPlan(
        method="lcs",
        experiment=experiment,
        options=options,
        equations=prepare_equations(prepared, COLUMNS[kind], options, threads=threads),
        channels=partial(
            _channels, kind=kind, background=background, narrow=_narrow_window(prepared, options, kind)
        ),
        comparison=Agreement(
            curvature=False, shift=slice(1, 3), groups=() if kind == "none" else (slice(3, None),)
        ),
    )


def _narrow_window(reference: PreparedReference, options: LcsOptions, kind: str) -> list[Finding]:
    """Return the finding that a window which replaces positions is smaller than a speckle."""
    speckle = reference.speckle_size()
    width = max(float(options.window), _FULL_WIDTH * options.smoothing)
    if len(reference.frames) >= len(COLUMNS[kind]) or speckle is None or width >= speckle:
        return []
    message = (
        f"the window of {width:.3g} pixels is smaller than a speckle of {speckle:.2g} pixels: transmission, "
        "phase and dark-field are noisy; use a larger window or more positions"
    )
    return [finding("window-below-speckle", message)]


def _describe_shift(shift: Real, options: LcsOptions) -> list[Finding]:
    """Return a finding where noise of the shift (2, y, x) is as large as a wrong angle."""
    width = max(float(options.window), _FULL_WIDTH * options.smoothing)
    rough = distance_from_median(shift, max(2, round(width)))
    if rough < ROUGH_SHIFT:
        return []
    message = (
        f"the shift differs by {rough:.2g} pixels (rms) from that of neighbouring pixels, and is wrong by "
        "about as much: use smoothing or a window, or more positions"
    )
    return [finding("shift-rough", message)]


def _channels(
    found: Solution, *, kind: str, background: NDArray[np.bool_] | None, narrow: list[Finding]
) -> Channels:
    experiment, flags, unknowns = found.experiment, found.flags, found.unknowns
    found.findings += narrow
    inverse, shift, blur = unknowns[0], unknowns[1:3], unknowns[3:]
    inverse += np.float32(1.0)
    transmission = np.divide(1.0, inverse, out=np.full_like(inverse, np.nan), where=inverse != 0.0)
    wrong = ~(inverse > 0.0)  # what was fitted with it is wrong too
    flags[wrong & ~found.lost] |= flag.NOT_POSITIVE
    p, distance = experiment.effective_pixel, experiment.effective_distance
    unsure = wrong | ((flags & flag.ILL_DETERMINED) > 0)
    bare = determined_background(background, unsure, found.findings)
    if bare is not None:
        transmission /= transmission[bare].mean(dtype=np.float64).astype(np.float32)
        unknowns[1:] -= unknowns[1:, bare].mean(axis=1, dtype=np.float64).astype(np.float32)[:, None, None]
    phase = phase_of_shift(
        shift, experiment, unsure=unsure, kind=found.options.integrator, threads=found.threads
    )
    phase[wrong] = np.nan
    unknowns[1:, wrong] = np.nan
    found.findings += _describe_shift(shift, found.options)
    for component, factor in zip(blur, _FACTORS[kind], strict=True):
        component *= np.float32(factor * p**2 / distance)
    channels: Channels = {}
    if kind == "scalar":
        found.clip(blur[0])
        channels["dark_field"] = blur[0]
    elif kind == "tensor":
        tensor = found.clip_tensor(blur)
        channels |= {"dark_field": (tensor[0] + tensor[2]) / 2, "dark_field_tensor": tensor}
    return channels | {
        "phase": phase,
        "transmission": transmission,
        "refraction_angle": shift * np.float32(p / distance),
        "shift": shift,
    }
