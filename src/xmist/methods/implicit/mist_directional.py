"""`mist-directional`: phase and directional dark-field, one pixel at a time.

Pavlov et al. 2020, "X-ray Multi-modal Intrinsic Speckle-Tracking", J. Opt. 22 125604,
doi:10.1088/2040-8986/abc313, eqs. (9) and (10), carried out in Pavlov et al. 2021, "Directional dark-field
implicit x-ray speckle tracking using an anisotropic-diffusion Fokker–Planck equation", Phys. Rev. A 104
053505, doi:10.1103/PhysRevA.104.053505. In pixel units, with ψ = ∆φ/(k p²) and d_ij = ∆D_ij/p²,

    I_R − I_S = I_R ∇²ψ − (d_xx ∂_xx + d_yy ∂_yy + 2 d_xy ∂_xy) I_R                                       (10)

at every pixel for every position. The paper writes its mixed term once: its D^(xy) is our 2 D_xy.

Derived here from the evolving Fokker–Planck equation, for a single material with φ = (γ/2) ln T, γ = δ/β:

    I_S = G I_R + T (d_xx ∂_xx + d_yy ∂_yy + 2 d_xy ∂_xy) I_R
    (1 − (γ∆/2k) ∇²) T = G [− Σ_ij ∂_i∂_j (T d_ij)]

These are the columns of eq. (10) with 1 − G in place of ∇²ψ and T d_ij in place of d_ij.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from xmist.core.arrays import Image
from xmist.core.experiment import Experiment
from xmist.core.options import Options
from xmist.methods.common.options import TIED_PHASE, CutoffLength, DeltaOverBeta, Ridge, Smoothing
from xmist.methods.common.phase import (
    above_zero,
    phase_of_curvature,
    phase_of_transmission,
    screening_length2,
    single_material,
)
from xmist.methods.common.reference import prepare_reference
from xmist.methods.implicit.mist_attenuating import CURVATURE_ALONE
from xmist.methods.implicit.plan import Channels, ImplicitPlan, Solution, prepare_equations
from xmist.methods.implicit.regularisation import Agreement
from xmist.numerics.images.smooth import gaussian
from xmist.numerics.operators.derivatives import DXX, DXY, DYY, VALUE, derivative

# Columns for the unknowns ∇²ψ (or 1 − G), −d_xx, −2 d_xy, −d_yy.
COLUMNS: Final = (VALUE, DXX, DXY, DYY)
_FACTORS: Final = (-1.0, -0.5, -1.0)  # from the unknowns to d_xx, d_xy, d_yy

_OUTLYING: Final = 12.0  # times the median of a component's size


class MistDirectionalOptions(Options):
    """Options of `mist-directional`.

    Parameters
    ----------
    delta_over_beta : float, optional
        γ = δ/β of the sample's single material, which may then attenuate. None: a phase object.
    curvature : bool
        Keep the term Σ ∂_i∂_j (T d_ij) in the equation for T; with noise and many positions it makes T worse.
        Needs `delta_over_beta`.
    smoothing : float
        Gaussian σ in pixels that the normal equations are smoothed with; 0 solves every pixel alone.
    tensor_smoothing : float
        Gaussian σ in pixels that the tensor itself is averaged with, its outliers limited to 12 times the
        median; 0 leaves it as it is. A direction is noisier than D, and this helps it more than `smoothing`
        does: with 12, directions on simulated fibres are within 5° (rms; without, 48°).
    ridge : float or "auto"
        Tikhonov term on (∇²ψ, d_xx, 2 d_xy, d_yy), relative to the mean diagonal of the normal matrix in
        pixel units. "auto" chooses it from the frames and records it in `provenance["regularisation"]`.
    cutoff_length : float or "auto", optional
        Length L in metres in the sample's plane: longer structures of the phase are damped, by
        −κ²/(κ⁴ + (2π/L)⁴) as inverse Laplacian. "auto" chooses it from the frames where there are at least
        eight positions. None inverts the five-point Laplacian exactly. A number excludes `delta_over_beta`,
        which ties the phase to T.
    positive : bool
        Replace a tensor with a negative eigenvalue by the nearest positive semi-definite one (and flag it).
        Noise has both signs, so that this biases means.

    Examples
    --------
    >>> MistDirectionalOptions(smoothing=2).smoothing
    2.0
    """

    delta_over_beta: DeltaOverBeta | None = None
    curvature: bool = False
    smoothing: Smoothing = 0.0
    tensor_smoothing: Smoothing = 0.0
    ridge: Ridge = 0.0
    cutoff_length: CutoffLength | None = None
    positive: bool = False

    def conflicts(self) -> Iterator[tuple[tuple[str, ...], str]]:
        """Yield contradictions."""
        if self.delta_over_beta is None and self.curvature:
            yield CURVATURE_ALONE
        if self.delta_over_beta is not None and isinstance(self.cutoff_length, float):
            yield ("cutoff_length", "delta_over_beta"), TIED_PHASE


OPTIONS: Final = MistDirectionalOptions


def prepare(
    reference: ArrayLike,
    experiment: Experiment,
    options: MistDirectionalOptions,
    *,
    weights: ArrayLike | None = None,
    threads: int | None = None,
) -> ImplicitPlan:
    """Prepare the method for (position, y, x) reference frames; see `xmist.prepare`."""
    gamma = options.delta_over_beta
    prepared = prepare_reference(
        reference, weights, method="mist-directional", minimum=len(COLUMNS), threads=threads, scaled=True
    )
    return ImplicitPlan(
        method="mist-directional",
        experiment=experiment,
        options=options,
        equations=prepare_equations(prepared, COLUMNS, options, threads=threads),
        channels=_channels,
        may_attenuate=gamma is not None,
        comparison=Agreement(curvature=gamma is None, length2=screening_length2(experiment, gamma)),
    )


def _channels(found: Solution) -> Channels:
    options, threads, lost = found.options, found.threads, found.lost
    first, tensor = found.unknowns[0], found.unknowns[1:]
    for component, factor in zip(tensor, _FACTORS, strict=True):
        component *= np.float32(factor)
    transmission = None
    if options.delta_over_beta is None:
        phase = phase_of_curvature(first, found.experiment, lost=lost, epsilon=found.epsilon, threads=threads)
    else:
        if options.curvature:
            first += _curvature(np.where(lost, np.float32(0.0), tensor), threads)
        transmission = single_material(first, lost, length2=found.length2, threads=threads)
        usable = above_zero(transmission, lost, found.flags)
        tensor /= usable
        phase = phase_of_transmission(usable, options.delta_over_beta)
    tensor *= np.float32(found.scatter)
    if options.tensor_smoothing > 0.0:
        tensor = _averaged(tensor, options.tensor_smoothing, threads)
    tensor = found.clip_tensor(tensor)
    return {
        "phase": phase,
        "transmission": transmission,
        "dark_field": (tensor[0] + tensor[2]) / 2,
        "dark_field_tensor": tensor,
    }


def _curvature(tensor: Image, threads: int) -> Image:
    """Return Σ ∂_i∂_j of a tensor."""
    xx, xy, yy = (
        derivative(component, kind, threads=threads)
        for component, kind in zip(tensor, (DXX, DXY, DYY), strict=True)
    )
    total: Image = xx + np.float32(2.0) * xy + yy
    return total


def _averaged(tensor: Image, sigma: float, threads: int) -> Image:
    """Average the tensors of known pixels; outliers of nearly singular equations are limited."""
    known = np.isfinite(tensor).all(axis=0)
    if not known.any():
        return tensor
    limit = np.float32(_OUTLYING * np.median(np.abs(tensor[:, known])))
    weighted = np.zeros((4, *known.shape), np.float32)
    weighted[3] = known
    np.clip(tensor, -limit, limit, out=weighted[:3], where=known)
    gaussian(weighted, sigma, threads=threads)
    averaged: Image = np.full_like(tensor, np.nan)
    np.divide(weighted[:3], weighted[3], out=averaged, where=known)
    return averaged
