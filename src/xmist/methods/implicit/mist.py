"""`mist`: phase and dark-field of a phase object, one pixel at a time.

Pavlov et al. 2020, "X-ray Multi-modal Intrinsic Speckle-Tracking", J. Opt. 22 125604,
doi:10.1088/2040-8986/abc313. In pixel units, with ψ = ∆φ/(k p²) and d = ∆D/p², its eq. (4) is

    I_R − I_S = I_R ∇²ψ − d ∇²I_R

at every pixel for every exposure. Two exposures give eq. (7), which the least squares of N = 2 equal; more
are solved by least squares.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from xmist.core import flags as flag
from xmist.core.data import Retrieval
from xmist.core.experiment import Experiment
from xmist.core.version import __version__
from xmist.methods.common.findings import compare_frames, describe_flags
from xmist.methods.common.options import Range, check_options
from xmist.methods.common.phase import epsilon_of, phase_of_curvature, refraction_of
from xmist.methods.common.reference import prepare_reference
from xmist.methods.implicit.pixelwise import PixelwiseSystem, prepare_pixelwise
from xmist.methods.implicit.regularisation import AUTOMATIC, Comparison, choose, chosen, contradictions
from xmist.numerics.operators.derivatives import LAPLACIAN, VALUE

# Columns of eq. (4) for the unknowns ∇²ψ and −d; `mist-attenuating` shares them.
COLUMNS: Final = (VALUE, LAPLACIAN)


@dataclass(frozen=True, kw_only=True)
class MistOptions:
    """Options of `mist`.

    Parameters
    ----------
    smoothing : float
        Gaussian σ in pixels that the normal equations are smoothed with, so that a pixel whose references are
        nearly proportional borrows from its neighbours; 0 solves every pixel alone.
    ridge : float
        Tikhonov term on (∇²ψ, d), relative to the mean diagonal of the normal matrix in pixel units.
    cutoff_length : float, optional
        Length L in metres in the sample's plane: structures of the phase that are longer are damped, by
        −κ²/(κ⁴ + (2π/L)⁴) for the inverse Laplacian, spectral symbol. None inverts the five-point Laplacian
        exactly.
    regularisation : {None, "auto"}
        "auto" chooses `ridge` and, from twice as many exposures as unknowns on, `cutoff_length` from the
        frames (see `xmist.methods.implicit.regularisation`), and records the choice in
        `provenance["regularisation"]`.
    positive : bool
        Set a negative dark-field to 0 (and flag it), as Fig. 2 of the paper does. Noise is two-sided, so that
        this biases averages.

    Raises
    ------
    InputError
        Lists every value that is out of range, and options that exclude each other.

    Examples
    --------
    >>> MistOptions(smoothing=2).smoothing
    2.0
    """

    smoothing: float = 0.0
    ridge: float = 0.0
    cutoff_length: float | None = None
    regularisation: str | None = None
    positive: bool = False

    def __post_init__(self) -> None:
        check_options(
            self,
            [
                Range("smoothing", "pixels", high=1000.0),
                Range("ridge"),
                Range("cutoff_length", "m", strict=True, optional=True),
            ],
            ["positive"],
            {"regularisation": AUTOMATIC},
            contradictions(self, "ridge", "cutoff_length"),
        )


OPTIONS: Final = MistOptions


@dataclass(frozen=True, kw_only=True, eq=False)
class MistPlan:
    """`mist` prepared for a reference; call it with the sample frames of a projection.

    Parameters
    ----------
    experiment : Experiment
        Geometry.
    options : MistOptions
        Options.
    equations : PixelwiseSystem
        Least squares for the reference.
    """

    experiment: Experiment
    options: MistOptions
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
            Phase in rad with mean 0, dark-field in m, refraction angle in rad.

        Raises
        ------
        InputError
            If the frames do not fit the reference, or if no pixel is determined.
        """
        threads = self.equations.threads
        equations, epsilon = self.equations, epsilon_of(self.options.cutoff_length, self.experiment)
        provenance: dict[str, object] = {"xmist_version": __version__}
        if self.options.regularisation is not None:
            equations, epsilon = choose(equations, sample, weights, Comparison(curvature=True))
            provenance["regularisation"] = chosen(equations, epsilon, self.experiment)
        frames, unknowns, flags = equations.solve(sample, weights)
        findings = compare_frames(
            self.equations.reference.frames,
            frames,
            self.equations.reference.weights,
            may_attenuate=False,
        )
        lost = (flags & flag.UNDETERMINED) > 0
        curvature, dark_field = unknowns
        phase = phase_of_curvature(
            curvature,
            self.experiment,
            lost=lost,
            epsilon=epsilon,
            threads=threads,
        )
        dark_field *= np.float32(-(self.experiment.effective_pixel**2) / self.experiment.effective_distance)
        if self.options.positive:
            negative = dark_field < 0.0
            dark_field[negative] = 0.0
            flags[negative] |= flag.CLIPPED
        return Retrieval(
            method="mist",
            experiment=self.experiment,
            options=asdict(self.options),
            flags=flags,
            findings=tuple(findings + describe_flags(flags)),
            provenance=provenance | {"exposures": len(frames)},
            phase=phase,
            dark_field=dark_field,
            refraction_angle=refraction_of(phase, self.experiment, threads=threads),
        )


def prepare(
    reference: ArrayLike,
    experiment: Experiment,
    options: MistOptions,
    *,
    weights: ArrayLike | None = None,
    threads: int | None = None,
) -> MistPlan:
    """Do once what depends on the reference alone; see `xmist.prepare`."""
    prepared = prepare_reference(reference, weights, method="mist", minimum=2, threads=threads, scaled=True)
    equations = prepare_pixelwise(
        prepared, COLUMNS, smoothing=options.smoothing, ridge=options.ridge, threads=threads
    )
    return MistPlan(experiment=experiment, options=options, equations=equations)
