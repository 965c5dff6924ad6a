"""`mist-directional`: phase and directional dark-field, one pixel at a time.

Pavlov et al. 2020, "X-ray Multi-modal Intrinsic Speckle-Tracking", J. Opt. 22 125604,
doi:10.1088/2040-8986/abc313, eqs. (9) and (10), carried out in Pavlov et al. 2021, "Directional dark-field
implicit x-ray speckle tracking using an anisotropic-diffusion Fokker–Planck equation", Phys. Rev. A 104
053505, doi:10.1103/PhysRevA.104.053505. In pixel units, with ψ = ∆φ/(k p²) and d_ij = ∆D_ij/p²,

    I_R − I_S = I_R ∇²ψ − (d_xx ∂_xx + d_yy ∂_yy + 2 d_xy ∂_xy) I_R                                       (10)

at every pixel for every exposure. The paper writes its mixed term once: its D^(xy) is our 2 D_xy.

Derived here from the evolving Fokker–Planck equation, for a single material with φ = (γ/2) ln T, γ = δ/β:

    I_S = G I_R + T (d_xx ∂_xx + d_yy ∂_yy + 2 d_xy ∂_xy) I_R
    (1 − (γ∆/2k) ∇²) T = G [− Σ_ij ∂_i∂_j (T d_ij)]

These are the columns of eq. (10) with 1 − G in place of ∇²ψ and T d_ij in place of d_ij.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from xmist.core import flags as flag
from xmist.core.arrays import Image
from xmist.core.data import Retrieval
from xmist.core.experiment import Experiment
from xmist.core.version import __version__
from xmist.methods.common.findings import compare_frames, describe_flags
from xmist.methods.common.options import Range, check_options
from xmist.methods.common.phase import (
    above_zero,
    epsilon_of,
    phase_of_curvature,
    phase_of_transmission,
    refraction_of,
    screening_length2,
    single_material,
)
from xmist.methods.common.reference import prepare_reference
from xmist.methods.implicit.mist_attenuating import curvature_alone
from xmist.methods.implicit.pixelwise import PixelwiseSystem, prepare_pixelwise
from xmist.methods.implicit.regularisation import AUTOMATIC, Comparison, choose, chosen, contradictions
from xmist.numerics.images.smooth import gaussian
from xmist.numerics.images.tensors import eigenvalues, nearest_positive
from xmist.numerics.operators.derivatives import DXX, DXY, DYY, VALUE, derivative

# Columns for the unknowns ∇²ψ (or 1 − G), −d_xx, −2 d_xy, −d_yy.
COLUMNS: Final = (VALUE, DXX, DXY, DYY)
_FACTORS: Final = (-1.0, -0.5, -1.0)  # from the unknowns to d_xx, d_xy, d_yy

_OUTLYING: Final = 12.0  # times the median of a component's size


@dataclass(frozen=True, kw_only=True)
class MistDirectionalOptions:
    """Options of `mist-directional`.

    Parameters
    ----------
    delta_over_beta : float, optional
        γ = δ/β of the sample's single material, which may then attenuate. None: a phase object.
    curvature : bool
        Keep the term Σ ∂_i∂_j (T d_ij) in the equation for T; with noise and many exposures it hurts. Needs
        `delta_over_beta`.
    smoothing : float
        Gaussian σ in pixels that the normal equations are smoothed with; 0 solves every pixel alone.
    tensor_smoothing : float
        Gaussian σ in pixels that the tensor itself is averaged with, its outliers limited to 12 times the
        median; 0 leaves it as it is. A direction is noisier than D, and this serves it better than
        `smoothing` does: with 12, directions on simulated fibres are within 5° (rms; without, 48°).
    ridge : float
        Tikhonov term on (∇²ψ, d_xx, 2 d_xy, d_yy), relative to the mean diagonal of the normal matrix in
        pixel units.
    cutoff_length : float, optional
        Length L in metres in the sample's plane: structures of the phase that are longer are damped, by
        −κ²/(κ⁴ + (2π/L)⁴) for the inverse Laplacian, spectral symbol. None inverts the five-point Laplacian
        exactly. Not with `delta_over_beta`, which ties the phase to T.
    regularisation : {None, "auto"}
        "auto" chooses `ridge` and, from twice as many exposures as unknowns on, `cutoff_length` from the
        frames (see `xmist.methods.implicit.regularisation`), and records the choice in
        `provenance["regularisation"]`.
    positive : bool
        Replace a tensor with a negative eigenvalue by the nearest positive semi-definite one (and flag it).
        Noise is two-sided, so that this biases averages.

    Raises
    ------
    InputError
        Lists every value that is out of range, and options that exclude each other.

    Examples
    --------
    >>> MistDirectionalOptions(smoothing=2).smoothing
    2.0
    """

    delta_over_beta: float | None = None
    curvature: bool = False
    smoothing: float = 0.0
    tensor_smoothing: float = 0.0
    ridge: float = 0.0
    cutoff_length: float | None = None
    regularisation: str | None = None
    positive: bool = False

    def __post_init__(self) -> None:
        check_options(
            self,
            [
                Range("delta_over_beta", strict=True, optional=True),
                Range("smoothing", "pixels", high=1000.0),
                Range("tensor_smoothing", "pixels", high=1000.0),
                Range("ridge"),
                Range("cutoff_length", "m", strict=True, optional=True),
            ],
            ["curvature", "positive"],
            {"regularisation": AUTOMATIC},
            [
                *contradictions(self, "ridge", "cutoff_length"),
                (
                    self.delta_over_beta is not None and self.cutoff_length is not None,
                    "options cutoff_length and delta_over_beta are both given; expected one of them at most, "
                    "for with delta_over_beta the phase is (γ/2) ln T and no Laplacian is inverted",
                ),
                curvature_alone(self),
            ],
        )


OPTIONS: Final = MistDirectionalOptions


@dataclass(frozen=True, kw_only=True, eq=False)
class MistDirectionalPlan:
    """`mist-directional` prepared for a reference; call it with the sample frames of a projection.

    Parameters
    ----------
    experiment : Experiment
        Geometry.
    options : MistDirectionalOptions
        Options.
    equations : PixelwiseSystem
        Least squares for the reference.
    """

    experiment: Experiment
    options: MistDirectionalOptions
    equations: PixelwiseSystem

    def __call__(self, sample: ArrayLike, *, weights: ArrayLike | None = None) -> Retrieval:
        """Retrieve one projection.

        Parameters
        ----------
        sample : (position, y, x) array_like
            Frames with the sample.
        weights : (position, y, x) array_like, optional
            Weights that multiply those of the reference; 0 means that a pixel is ignored.

        Returns
        -------
        Retrieval
            Phase in rad, dark-field tensor in m, its trace/2 as dark-field, refraction angle in rad; with
            `delta_over_beta` also transmission. Without it the phase has mean 0, with it it is (γ/2) ln T.

        Raises
        ------
        InputError
            If the frames do not fit the reference, or if no pixel is determined.
        """
        options, experiment, threads = self.options, self.experiment, self.equations.threads
        equations, epsilon = self.equations, epsilon_of(options.cutoff_length, experiment)
        gamma = options.delta_over_beta
        length2 = 0.0 if gamma is None else screening_length2(experiment, gamma)
        provenance: dict[str, object] = {"xmist_version": __version__}
        if options.regularisation is not None:
            comparison = Comparison(curvature=gamma is None, length2=length2)
            equations, epsilon = choose(equations, sample, weights, comparison)
            provenance["regularisation"] = chosen(equations, epsilon, experiment)
        frames, unknowns, flags = equations.solve(sample, weights)
        findings = compare_frames(
            self.equations.reference.frames,
            frames,
            self.equations.reference.weights,
            may_attenuate=gamma is not None,
        )
        lost = (flags & flag.UNDETERMINED) > 0
        first, tensor = unknowns[0], unknowns[1:]
        for component, factor in zip(tensor, _FACTORS, strict=True):
            component *= np.float32(factor)
        transmission = None
        if gamma is None:
            phase = phase_of_curvature(first, experiment, lost=lost, epsilon=epsilon, threads=threads)
        else:
            if options.curvature:
                first += _curvature(np.where(lost, np.float32(0.0), tensor), threads)
            transmission = single_material(first, lost, length2=length2, threads=threads)
            usable = above_zero(transmission, lost, flags)
            tensor /= usable
            phase = phase_of_transmission(usable, gamma)
        tensor *= np.float32(experiment.effective_pixel**2 / experiment.effective_distance)
        if options.tensor_smoothing > 0.0:
            tensor = _averaged(tensor, options.tensor_smoothing, threads)
        if options.positive:
            negative = eigenvalues(tensor)[1] < 0.0
            tensor = nearest_positive(tensor)
            flags[negative] |= flag.CLIPPED
        return Retrieval(
            method="mist-directional",
            experiment=experiment,
            options=asdict(options),
            flags=flags,
            findings=tuple(findings + describe_flags(flags)),
            provenance=provenance | {"exposures": len(frames)},
            phase=phase,
            transmission=transmission,
            dark_field=(tensor[0] + tensor[2]) / 2,
            dark_field_tensor=tensor,
            refraction_angle=refraction_of(phase, experiment, threads=threads),
        )


def _curvature(tensor: Image, threads: int) -> Image:
    """Give Σ ∂_i∂_j of a tensor."""
    xx, xy, yy = (
        derivative(component, kind, threads=threads)
        for component, kind in zip(tensor, (DXX, DXY, DYY), strict=True)
    )
    total: Image = xx + np.float32(2.0) * xy + yy
    return total


def _averaged(tensor: Image, sigma: float, threads: int) -> Image:
    """Average the tensors of known pixels; noise has tails where an equation is nearly singular."""
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


def prepare(
    reference: ArrayLike,
    experiment: Experiment,
    options: MistDirectionalOptions,
    *,
    weights: ArrayLike | None = None,
    threads: int | None = None,
) -> MistDirectionalPlan:
    """Do once what depends on the reference alone; see `xmist.prepare`."""
    prepared = prepare_reference(
        reference, weights, method="mist-directional", minimum=4, threads=threads, scaled=True
    )
    equations = prepare_pixelwise(
        prepared, COLUMNS, smoothing=options.smoothing, ridge=options.ridge, threads=threads
    )
    return MistDirectionalPlan(experiment=experiment, options=options, equations=equations)
