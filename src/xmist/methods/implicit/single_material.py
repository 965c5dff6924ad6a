"""`single-material`: transmission and phase of a sample of one material, from one exposure or more.

Pavlov et al. 2020, "Single-shot x-ray speckle-based imaging of a single-material object", Phys. Rev.
Applied 13 054023, doi:10.1103/PhysRevApplied.13.054023; derived here from the Fokker–Planck equation of an
attenuating sample with D = 0. A single material ties the phase to the transmission, φ = (γ/2) ln T with
γ = δ/β, so that (∆/k) T∇φ = (γ∆/2k) ∇T and

    T I_R − (γ∆/2k) ∇·(I_R ∇T) = I_S                                                                    (1)

Without ∇I_R·∇T, which changes sign from speckle to speckle, it is a screened Poisson equation,

    (1 − (γ∆/2k) ∇²) T = I_S/I_R                                                                        (2)

solved at once by the cosine transform; several exposures enter as Σ I_R I_S/Σ I_R², the least squares of
I_R times (2). `exact=True` solves (1) itself, for all exposures in least squares over the whole image, by
preconditioned conjugate gradients from (2). That is xmist's own, as are the exposures.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from xmist.core import flags as flag
from xmist.core.arrays import as_weights
from xmist.core.data import Retrieval
from xmist.core.experiment import Experiment
from xmist.core.findings import finding
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
from xmist.methods.implicit.direct import prepare_ratio
from xmist.methods.implicit.pixelwise import PixelwiseSystem
from xmist.methods.implicit.single_material_exact import WholeMaterial, prepare_whole, refine


@dataclass(frozen=True, kw_only=True)
class SingleMaterialOptions:
    """Options of `single-material`.

    Parameters
    ----------
    delta_over_beta : float
        γ = δ/β of the sample's material; it has no default.
    exact : bool
        Solve (1), not (2).

    Raises
    ------
    InputError
        If `delta_over_beta` is missing; lists every value that is out of range.

    Examples
    --------
    >>> SingleMaterialOptions(delta_over_beta=1000).exact
    False
    """

    delta_over_beta: float | None = None
    exact: bool = False

    def __post_init__(self) -> None:
        missing = self.delta_over_beta is None
        check_options(
            self,
            [Range("delta_over_beta", strict=True, optional=missing)],
            ["exact"],
            exclusions=[(missing, missing_material("single-material"))],
        )


OPTIONS: Final = SingleMaterialOptions


def missing_material(method: str) -> str:
    """Say that a method needs δ/β.

    Parameters
    ----------
    method : str
        Name of the method.
    """
    return (
        f"option delta_over_beta is missing; {method} needs the γ = δ/β of the sample's material at the "
        "photon energy, a number above 0"
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class SingleMaterialPlan:
    """`single-material` prepared for a reference; call it with the sample frames of a projection.

    Parameters
    ----------
    experiment : Experiment
        Geometry.
    options : SingleMaterialOptions
        Options.
    equations : PixelwiseSystem
        Least-squares ratio of the frames.
    whole : WholeMaterial, optional
        For `exact`.
    """

    experiment: Experiment
    options: SingleMaterialOptions
    equations: PixelwiseSystem
    whole: WholeMaterial | None = None

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
            Transmission; phase in rad, (γ/2) ln T; refraction angle in rad.

        Raises
        ------
        InputError
            If the frames do not fit the reference, or if no pixel is determined.
        """
        reference, threads = self.equations.reference, self.equations.threads
        gamma = self.options.delta_over_beta
        assert gamma is not None  # the options require it
        frames, unknowns, flags = self.equations.solve(sample, weights)
        findings = compare_frames(reference.frames, frames, reference.weights, may_attenuate=True)
        lost = (flags & flag.UNDETERMINED) > 0
        length2 = screening_length2(self.experiment, gamma)
        transmission = single_material(unknowns[0], lost, length2=length2, threads=threads)
        provenance: dict[str, object] = {"xmist_version": __version__, "exposures": len(frames)}
        if self.whole is not None:
            transmission[lost] = 1.0
            transmission, how = refine(
                transmission,
                self.whole,
                reference,
                frames,
                None if weights is None else as_weights("weights", weights, frames.shape, []),
                threads=threads,
            )
            transmission[lost] = np.nan
            provenance["iterations"] = how.iterations
            if not how.converged:
                message = f"conjugate gradients stopped after {how.iterations} iterations without converging"
                findings.append(finding("not-converged", message))
        phase = phase_of_transmission(above_zero(transmission, lost, flags), gamma)
        return Retrieval(
            method="single-material",
            experiment=self.experiment,
            options=asdict(self.options),
            flags=flags,
            findings=tuple(findings + describe_flags(flags)),
            provenance=provenance,
            phase=phase,
            transmission=transmission,
            refraction_angle=refraction_of(phase, self.experiment, threads=threads),
        )


def prepare(
    reference: ArrayLike,
    experiment: Experiment,
    options: SingleMaterialOptions,
    *,
    weights: ArrayLike | None = None,
    threads: int | None = None,
) -> SingleMaterialPlan:
    """Do once what depends on the reference alone; see `xmist.prepare`."""
    equations = prepare_ratio(reference, weights, method="single-material", threads=threads)
    whole = None
    if options.exact:
        assert options.delta_over_beta is not None  # the options require it
        whole = prepare_whole(
            equations.reference,
            length2=screening_length2(experiment, options.delta_over_beta),
            threads=equations.threads,
        )
    return SingleMaterialPlan(experiment=experiment, options=options, equations=equations, whole=whole)
