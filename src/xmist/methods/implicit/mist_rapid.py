"""`mist-rapid`: phase and a dark-field that varies rapidly, one pixel at a time.

Alloo et al. 2023, "Multimodal intrinsic speckle-tracking (MIST) to extract images of rapidly-varying diffuse
X-ray dark-field", Sci. Rep. 13 5424, doi:10.1038/s41598-023-31574-z. In pixel units, with ψ = ∆φ/(k p²) and
d = ∆D/p²,

    I_R − I_S = I_R x_0 − x_1 ∇²I_R − 2 x_2 ∂_xI_R − 2 x_3 ∂_yI_R,  x = (∇²(ψ − d), d, ∂_x d, ∂_y d)       (1)

at every pixel for every exposure. It keeps the derivatives of d and drops ∇I_R·∇ψ, which x_2 and x_3 take up
as −∇ψ/2: the method suits samples that scatter more than they refract. The estimates of d are blended (the
values at low frequencies, the gradient at high ones), and with the blended d eq. (1) gives x_0 again.

Derived here from the evolving Fokker–Planck equation, for a single material with φ = (γ/2) ln T, γ = δ/β, the
unknowns x_1, x_2, x_3 are T d and its derivatives, x_0 holds 1 − T too, and

    (1 − (γ∆/2k) ∇²) T = 1 − x_0 − ∇²(T d)
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

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
from xmist.methods.implicit.pixelwise import PixelwiseSystem, prepare_pixelwise
from xmist.methods.implicit.regularisation import AUTOMATIC, Comparison, choose, chosen, contradictions
from xmist.numerics.operators.derivatives import DX, DY, LAPLACIAN, VALUE
from xmist.numerics.operators.stencils import laplacian
from xmist.numerics.solvers import least_squares
from xmist.numerics.solvers.blend import Blend, blend
from xmist.numerics.solvers.integrate import spectral_gradient

# Columns of eq. (1) for the unknowns x_0, −x_1, −2x_2, −2x_3.
COLUMNS: Final = (VALUE, LAPLACIAN, DX, DY)
_WAYS: Final[dict[str, Blend]] = {"screened": "screened", "fourier": "gaussian"}


@dataclass(frozen=True, kw_only=True)
class MistRapidOptions:
    """Options of `mist-rapid`.

    Parameters
    ----------
    delta_over_beta : float, optional
        γ = δ/β of the sample's single material, which may then attenuate. None: a phase object.
    combine : {"screened", "fourier"}
        Weight of the values of d against its gradient at frequency κ: 1/(1 + ℓ²κ²), of least squares, or
        e^(−ℓ²κ²), the paper's, with r = ℓ². Both mirror the border as the derivatives need it.
    crossover : float, optional
        ℓ in pixels. None takes it from the references: the ratio of the noise of both, which for
        "screened" makes the blend the least squares solution.
    published : bool
        The paper's transmission, T = e^(2φ/γ) with the φ of a phase object and D not divided by T, for
        comparison: φ then takes up 1 − T too, and T comes out wrong by factors. Needs `delta_over_beta`.
    smoothing : float
        Gaussian σ in pixels that the normal equations are smoothed with; 0 solves every pixel alone.
    ridge : float
        Tikhonov term on (x_0, x_1, 2x_2, 2x_3), relative to the mean diagonal of the normal matrix in pixel
        units.
    cutoff_length : float, optional
        Length L in metres in the sample's plane: structures of the phase that are longer are damped, by
        −κ²/(κ⁴ + (2π/L)⁴) for the inverse Laplacian, spectral symbol. None inverts the five-point Laplacian
        exactly. Not where γ ties the phase to T.
    regularisation : {None, "auto"}
        "auto" chooses `ridge` and, from twice as many exposures as unknowns on, `cutoff_length` from the
        frames (see `xmist.methods.implicit.regularisation`), and records the choice in
        `provenance["regularisation"]`.
    positive : bool
        Set a negative dark-field to 0 (and flag it).

    Raises
    ------
    InputError
        Lists every value that is out of range, and options that exclude each other.

    Examples
    --------
    >>> MistRapidOptions(combine="fourier").combine
    'fourier'
    """

    delta_over_beta: float | None = None
    combine: Literal["screened", "fourier"] = "screened"
    crossover: float | None = None
    published: bool = False
    smoothing: float = 0.0
    ridge: float = 0.0
    cutoff_length: float | None = None
    regularisation: str | None = None
    positive: bool = False

    def __post_init__(self) -> None:
        known = self.delta_over_beta is not None
        check_options(
            self,
            [
                Range("delta_over_beta", strict=True, optional=True),
                Range("crossover", "pixels", high=1000.0, optional=True),
                Range("smoothing", "pixels", high=1000.0),
                Range("ridge"),
                Range("cutoff_length", "m", strict=True, optional=True),
            ],
            ["published", "positive"],
            {"combine": tuple(_WAYS), "regularisation": AUTOMATIC},
            [
                *contradictions(self, "ridge", "cutoff_length"),
                (
                    self.published is True and not known,
                    "option published is True without delta_over_beta; expected delta_over_beta too, for it "
                    "concerns the transmission",
                ),
                (
                    self.cutoff_length is not None and known and not self.published,
                    "options cutoff_length and delta_over_beta are both given; expected one of them at most, "
                    "for with delta_over_beta the phase is (γ/2) ln T and no Laplacian is inverted",
                ),
            ],
        )


OPTIONS: Final = MistRapidOptions


@dataclass(frozen=True, kw_only=True, eq=False)
class MistRapidPlan:
    """`mist-rapid` prepared for a reference; call it with the sample frames of a projection.

    Parameters
    ----------
    experiment : Experiment
        Geometry.
    options : MistRapidOptions
        Options.
    equations : PixelwiseSystem
        Least squares for the reference.
    coupling : (3, y, x) float32 array
        How x_0 answers to the other unknowns: their elements of the first row of the normal matrix, divided
        by its diagonal.
    crossover2 : float
        ℓ² in pixels².
    """

    experiment: Experiment
    options: MistRapidOptions
    equations: PixelwiseSystem
    coupling: Image
    crossover2: float

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
            Phase in rad, dark-field in m, refraction angle in rad; with `delta_over_beta` also transmission.
            Without it the phase has mean 0, with it it is (γ/2) ln T.

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
            inverted = gamma is None or options.published
            comparison = Comparison(
                curvature=inverted,
                length2=0.0 if inverted else length2,
                groups=(slice(1, 2), slice(2, 4)),
            )
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
        first, blur = self._blended(unknowns, lost)
        # Now ∇²ψ of a phase object, and 1 − (1 − ℓ²∇²) T of a single material.
        first += laplacian(blur, threads=threads)
        transmission = None
        if gamma is None or options.published:
            phase = phase_of_curvature(first, experiment, lost=lost, epsilon=epsilon, threads=threads)
            if gamma is not None:
                transmission = np.exp(np.float32(2.0 / gamma) * phase)
        else:
            transmission = single_material(first, lost, length2=length2, threads=threads)
            usable = above_zero(transmission, lost, flags)
            blur /= usable
            phase = phase_of_transmission(usable, gamma)
        dark_field = blur
        dark_field *= np.float32(experiment.effective_pixel**2 / experiment.effective_distance)
        dark_field[lost] = np.nan
        if options.positive:
            negative = dark_field < 0.0
            dark_field[negative] = 0.0
            flags[negative] |= flag.CLIPPED
        return Retrieval(
            method="mist-rapid",
            experiment=experiment,
            options=asdict(options),
            flags=flags,
            findings=tuple(findings + describe_flags(flags)),
            provenance=provenance
            | {
                "exposures": len(frames),
                "crossover": self.crossover2**0.5,
            },
            phase=phase,
            transmission=transmission,
            dark_field=dark_field,
            refraction_angle=refraction_of(phase, experiment, threads=threads),
        )

    def _blended(self, unknowns: Image, lost: NDArray[np.bool_]) -> tuple[Image, Image]:
        """Give the blended (T)d, and the x_0 of least squares with it in place of x_1, x_2, x_3."""
        threads = self.equations.threads
        if lost.any():
            unknowns[:, lost] = 0.0
        first, slopes = unknowns[0], unknowns[1:]
        slopes[0] *= np.float32(-1.0)
        slopes[1:] *= np.float32(-0.5)
        blur = blend(slopes[0], slopes[1:], self.crossover2, by=_WAYS[self.options.combine], threads=threads)
        # What changed of each unknown, times its share of the first normal equation.
        slopes[0] -= blur
        slopes[1:] -= spectral_gradient(blur, threads=threads)
        first -= self.coupling[0] * slopes[0]
        for coupled, slope in zip(self.coupling[1:], slopes[1:], strict=True):
            first -= 2 * coupled * slope
        return first, blur


def prepare(
    reference: ArrayLike,
    experiment: Experiment,
    options: MistRapidOptions,
    *,
    weights: ArrayLike | None = None,
    threads: int | None = None,
) -> MistRapidPlan:
    """Do once what depends on the reference alone; see `xmist.prepare`."""
    prepared = prepare_reference(
        reference, weights, method="mist-rapid", minimum=4, threads=threads, scaled=True
    )
    equations = prepare_pixelwise(
        prepared, COLUMNS, smoothing=options.smoothing, ridge=options.ridge, threads=threads
    )
    matrix = equations.matrix
    if matrix is None:
        matrix, _, _ = least_squares.normal_equations(
            prepared.frames, prepared.frames, equations.system, weights=prepared.weights, threads=threads
        )
    # The first element of each row of the lower triangle.
    own = np.where(matrix[0] > 0, matrix[0], np.float32(1.0))
    coupling = np.stack([matrix[row * (row + 1) // 2] / own for row in (1, 2, 3)])
    if options.crossover is None:
        # The noise of x_1 and of x_2 goes with 1/Σ(∇²I_R)² and 1/Σ(2∂_xI_R)².
        second, along_x, along_y = (matrix[row].mean(dtype=np.float64) for row in (2, 5, 9))
        # References without contrast determine nothing, at any crossover.
        crossover2 = float(2.0 * (along_x + along_y) / second) if second > 0 else 1.0
    else:
        crossover2 = options.crossover**2
    return MistRapidPlan(
        experiment=experiment,
        options=options,
        equations=equations,
        coupling=coupling,
        crossover2=crossover2,
    )
