"""`mist-attenuating`: transmission and dark-field of an attenuating sample, one pixel at a time.

Alloo et al. 2022, "Dark-field tomography of an attenuating object using intrinsic x-ray speckle tracking",
J. Med. Imaging 9 031502, doi:10.1117/1.JMI.9.3.031502; derived here from the evolving Fokker–Planck equation
of an attenuating sample. Where D varies slowly and ∇I_R·∇ terms average out over the exposures,

    I_S/I_R = G + ∆ T D ∇²I_R/I_R

at every pixel for every exposure: the columns of `mist` with 1 − G in place of ∇²ψ. For a single material,
φ = (γ/2) ln T with γ = δ/β,

    (1 − (γ∆/2k) ∇²) T = G [− ∆ ∇²(T D)]
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike

from xmist.core import flags as flag
from xmist.core.data import Retrieval
from xmist.core.experiment import Experiment
from xmist.core.version import __version__
from xmist.methods.common.findings import compare_frames, describe_flags
from xmist.methods.common.options import Range, check_options
from xmist.methods.common.phase import (
    above_zero,
    phase_of_transmission,
    refraction_of,
    screening_length2,
    single_material,
)
from xmist.methods.common.reference import prepare_reference
from xmist.methods.implicit.mist import COLUMNS
from xmist.methods.implicit.pixelwise import PixelwiseSystem, prepare_pixelwise
from xmist.methods.implicit.regularisation import AUTOMATIC, Comparison, choose, chosen, contradictions
from xmist.numerics.operators.stencils import laplacian


@dataclass(frozen=True, kw_only=True)
class MistAttenuatingOptions:
    """Options of `mist-attenuating`.

    Parameters
    ----------
    delta_over_beta : float, optional
        γ = δ/β of the sample's single material. None: T ≈ G, which is exact where ∇²φ is small, and no phase.
    curvature : bool
        Keep the term ∆∇²(TD) in the equation for T; with noise and many exposures it hurts. Needs
        `delta_over_beta`.
    smoothing : float
        Gaussian σ in pixels that the normal equations are smoothed with; 0 solves every pixel alone.
    ridge : float
        Tikhonov term on (1 − G, d), relative to the mean diagonal of the normal matrix in pixel units.
    regularisation : {None, "auto"}
        "auto" chooses `ridge` from the frames, by agreement with a stable estimate (see
        `xmist.methods.implicit.regularisation`), and records the choice in `provenance["regularisation"]`.
    positive : bool
        Set a negative dark-field to 0 (and flag it).

    Raises
    ------
    InputError
        Lists every value that is out of range, and options that exclude each other.

    Examples
    --------
    >>> MistAttenuatingOptions(delta_over_beta=1000).delta_over_beta
    1000.0
    """

    delta_over_beta: float | None = None
    curvature: bool = False
    smoothing: float = 0.0
    ridge: float = 0.0
    regularisation: str | None = None
    positive: bool = False

    def __post_init__(self) -> None:
        check_options(
            self,
            [
                Range("delta_over_beta", strict=True, optional=True),
                Range("smoothing", "pixels", high=1000.0),
                Range("ridge"),
            ],
            ["curvature", "positive"],
            {"regularisation": AUTOMATIC},
            [*contradictions(self, "ridge"), curvature_alone(self)],
        )


OPTIONS: Final = MistAttenuatingOptions


def curvature_alone(options: Any) -> tuple[bool, str]:
    """Say whether the curvature of TD is asked for and δ/β is missing, and what is wrong then.

    Parameters
    ----------
    options : dataclass instance
        Options `curvature` and `delta_over_beta`.
    """
    return (
        options.delta_over_beta is None and options.curvature is True,
        "option curvature is True without delta_over_beta; expected delta_over_beta too, for the term is one "
        "of the equation for T",
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class MistAttenuatingPlan:
    """`mist-attenuating` prepared for a reference; call it with the sample frames of a projection.

    Parameters
    ----------
    experiment : Experiment
        Geometry.
    options : MistAttenuatingOptions
        Options.
    equations : PixelwiseSystem
        Least squares for the reference.
    """

    experiment: Experiment
    options: MistAttenuatingOptions
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
            Transmission, dark-field in m; with `delta_over_beta` also phase in rad, (γ/2) ln T, and
            refraction angle in rad.

        Raises
        ------
        InputError
            If the frames do not fit the reference, or if no pixel is determined.
        """
        equations, threads = self.equations, self.equations.threads
        gamma = self.options.delta_over_beta
        length2 = 0.0 if gamma is None else screening_length2(self.experiment, gamma)
        provenance: dict[str, object] = {"xmist_version": __version__}
        if self.options.regularisation is not None:
            comparison = Comparison(curvature=False, length2=length2)
            equations, _ = choose(equations, sample, weights, comparison)
            provenance["regularisation"] = {"ridge": chosen(equations, None, self.experiment)["ridge"]}
        frames, unknowns, flags = equations.solve(sample, weights)
        findings = compare_frames(
            self.equations.reference.frames, frames, self.equations.reference.weights, may_attenuate=True
        )
        lost = (flags & flag.UNDETERMINED) > 0
        contrast, dark_field = unknowns
        np.negative(dark_field, out=dark_field)
        if gamma is None:
            transmission = np.subtract(1.0, contrast, out=contrast)
        else:
            if self.options.curvature:
                contrast += laplacian(np.where(lost, np.float32(0.0), dark_field), threads=threads)
            transmission = single_material(contrast, lost, length2=length2, threads=threads)
        usable = above_zero(transmission, lost, flags)
        p = self.experiment.effective_pixel
        dark_field /= usable
        dark_field *= np.float32(p**2 / self.experiment.effective_distance)
        if self.options.positive:
            negative = dark_field < 0.0
            dark_field[negative] = 0.0
            flags[negative] |= flag.CLIPPED
        phase = angle = None
        if gamma is not None:
            phase = phase_of_transmission(usable, gamma)
            angle = refraction_of(phase, self.experiment, threads=threads)
        return Retrieval(
            method="mist-attenuating",
            experiment=self.experiment,
            options=asdict(self.options),
            flags=flags,
            findings=tuple(findings + describe_flags(flags)),
            provenance=provenance | {"exposures": len(frames)},
            phase=phase,
            transmission=transmission,
            dark_field=dark_field,
            refraction_angle=angle,
        )


def prepare(
    reference: ArrayLike,
    experiment: Experiment,
    options: MistAttenuatingOptions,
    *,
    weights: ArrayLike | None = None,
    threads: int | None = None,
) -> MistAttenuatingPlan:
    """Do once what depends on the reference alone; see `xmist.prepare`."""
    prepared = prepare_reference(
        reference, weights, method="mist-attenuating", minimum=2, threads=threads, scaled=True
    )
    equations = prepare_pixelwise(
        prepared, COLUMNS, smoothing=options.smoothing, ridge=options.ridge, threads=threads
    )
    return MistAttenuatingPlan(experiment=experiment, options=options, equations=equations)
