"""`mist-rapid`: phase and a dark-field that varies rapidly, one pixel at a time.

Alloo et al. 2023, "Multimodal intrinsic speckle-tracking (MIST) to extract images of rapidly-varying diffuse
X-ray dark-field", Sci. Rep. 13 5424, doi:10.1038/s41598-023-31574-z. In pixel units, with ψ = ∆φ/(k p²) and
d = ∆D/p²,

    I_R − I_S = I_R x_0 − x_1 ∇²I_R − 2 x_2 ∂_xI_R − 2 x_3 ∂_yI_R,  x = (∇²(ψ − d), d, ∂_x d, ∂_y d)       (1)

at every pixel for every position. It keeps the derivatives of d and drops ∇I_R·∇ψ, which x_2 and x_3 take up
as −∇ψ/2: the method suits samples that scatter more than they refract. The estimates of d are blended (the
values at low frequencies, the gradient at high ones), and with the blended d eq. (1) gives x_0 again.

Derived here from the evolving Fokker–Planck equation, for a single material with φ = (γ/2) ln T, γ = δ/β, the
unknowns x_1, x_2, x_3 are T d and its derivatives, x_0 holds 1 − T too, and

    (1 − (γ∆/2k) ∇²) T = 1 − x_0 − ∇²(T d)
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Annotated, Final, Literal

import numpy as np
from numpy.typing import ArrayLike

from xmist.core.arrays import Image
from xmist.core.experiment import Experiment
from xmist.core.options import Options, Range
from xmist.methods.common.options import TIED_PHASE, CutoffLength, DeltaOverBeta, Ridge, Smoothing
from xmist.methods.common.phase import (
    above_zero,
    phase_of_curvature,
    phase_of_transmission,
    screening_length2,
    single_material,
)
from xmist.methods.common.reference import prepare_reference
from xmist.methods.implicit.plan import Channels, ImplicitPlan, Solution, prepare_equations
from xmist.methods.implicit.regularisation import Agreement
from xmist.numerics.operators.derivatives import DX, DY, LAPLACIAN, VALUE
from xmist.numerics.operators.stencils import laplacian
from xmist.numerics.solvers import least_squares
from xmist.numerics.solvers.blend import Blend, blend
from xmist.numerics.solvers.integrate import spectral_gradient

# Columns of eq. (1) for the unknowns x_0, −x_1, −2x_2, −2x_3.
COLUMNS: Final = (VALUE, LAPLACIAN, DX, DY)
_WAYS: Final[dict[str, Blend]] = {"screened": "screened", "fourier": "gaussian"}


class MistRapidOptions(Options):
    """Options of `mist-rapid`.

    Parameters
    ----------
    delta_over_beta : float, optional
        γ = δ/β of the sample's single material, which may then attenuate. None: a phase object.
    combine : {"screened", "fourier"}
        Weight of the values of d against its gradient at frequency κ: 1/(1 + ℓ²κ²), of least squares, or
        e^(−ℓ²κ²), the paper's, with r = ℓ². Both mirror the border as the derivatives need it.
    crossover : float, optional
        ℓ in pixels. None takes it from the reference frames: the ratio of the noise of both, which for
        "screened" makes the blend the least-squares solution.
    published : bool
        The paper's transmission, T = e^(2φ/γ) with the φ of a phase object and D not divided by T, for
        comparison: φ then includes 1 − T, and T is wrong by factors. Needs `delta_over_beta`.
    smoothing : float
        Gaussian σ in pixels that the normal equations are smoothed with; 0 solves every pixel alone.
    ridge : float or "auto"
        Tikhonov term on (x_0, x_1, 2x_2, 2x_3), relative to the mean diagonal of the normal matrix in pixel
        units. "auto" chooses it from the frames and records it in `provenance["regularisation"]`.
    cutoff_length : float or "auto", optional
        Length L in metres in the sample's plane: longer structures of the phase are damped, by
        −κ²/(κ⁴ + (2π/L)⁴) as inverse Laplacian. "auto" chooses it from the frames where there are at least
        eight positions. None inverts the five-point Laplacian exactly. A number is not allowed where γ ties
        the phase to T.
    positive : bool
        Set a negative dark-field to 0 (and flag it).

    Examples
    --------
    >>> MistRapidOptions(combine="fourier").combine
    'fourier'
    """

    delta_over_beta: DeltaOverBeta | None = None
    combine: Literal["screened", "fourier"] = "screened"
    crossover: Annotated[float, Range(0.0, 1000.0, unit="pixels")] | None = None
    published: bool = False
    smoothing: Smoothing = 0.0
    ridge: Ridge = 0.0
    cutoff_length: CutoffLength | None = None
    positive: bool = False

    def conflicts(self) -> Iterator[tuple[tuple[str, ...], str]]:
        """Yield contradictions."""
        known = self.delta_over_beta is not None
        if self.published and not known:
            yield (
                ("published", "delta_over_beta"),
                "is true without delta_over_beta; give delta_over_beta, too: the option concerns the "
                "transmission",
            )
        if known and not self.published and isinstance(self.cutoff_length, float):
            yield ("cutoff_length", "delta_over_beta", "published"), TIED_PHASE

    @property
    def inverts(self) -> bool:
        """Whether the phase comes from a curvature, not from T."""
        return self.delta_over_beta is None or self.published


OPTIONS: Final = MistRapidOptions


def prepare(
    reference: ArrayLike,
    experiment: Experiment,
    options: MistRapidOptions,
    *,
    weights: ArrayLike | None = None,
    threads: int | None = None,
) -> ImplicitPlan:
    """Prepare the method for (position, y, x) reference frames; see `xmist.prepare`."""
    prepared = prepare_reference(
        reference, weights, method="mist-rapid", minimum=len(COLUMNS), threads=threads, scaled=True
    )
    equations = prepare_equations(prepared, COLUMNS, options, threads=threads)
    matrix = equations.matrix
    if matrix is None:
        matrix, _, _ = least_squares.normal_equations(
            prepared.frames, prepared.frames, equations.system, weights=prepared.weights, threads=threads
        )
    # How x_0 depends on the other unknowns: the first element of each row of the lower triangle.
    own = np.where(matrix[0] > 0, matrix[0], np.float32(1.0))
    coupling = np.stack([matrix[row * (row + 1) // 2] / own for row in (1, 2, 3)])
    if options.crossover is None:
        # The noise of x_1 and of x_2 goes with 1/Σ(∇²I_R)² and 1/Σ(2∂_xI_R)².
        second, along_x, along_y = (matrix[row].mean(dtype=np.float64) for row in (2, 5, 9))
        # References without contrast determine nothing, at any crossover.
        crossover2 = float(2.0 * (along_x + along_y) / second) if second > 0 else 1.0
    else:
        crossover2 = options.crossover**2
    length2 = 0.0 if options.inverts else screening_length2(experiment, options.delta_over_beta)
    return ImplicitPlan(
        method="mist-rapid",
        experiment=experiment,
        options=options,
        equations=equations,
        channels=partial(_channels, coupling=coupling, crossover2=crossover2),
        may_attenuate=options.delta_over_beta is not None,
        comparison=Agreement(curvature=options.inverts, length2=length2, groups=(slice(1, 2), slice(2, 4))),
    )


def _channels(found: Solution, *, coupling: Image, crossover2: float) -> Channels:
    options, threads, lost = found.options, found.threads, found.lost
    found.provenance["crossover"] = crossover2**0.5
    first, blur = _blended(found, coupling, crossover2)
    # Now ∇²ψ of a phase object, and 1 − (1 − ℓ²∇²) T of a single material.
    first += laplacian(blur, threads=threads)
    transmission: Image | None = None
    if options.inverts:
        phase = phase_of_curvature(first, found.experiment, lost=lost, epsilon=found.epsilon, threads=threads)
        if options.delta_over_beta is not None:
            transmission = np.exp(np.float32(2.0 / options.delta_over_beta) * phase)
    else:
        transmission = single_material(first, lost, length2=found.length2, threads=threads)
        usable = above_zero(transmission, lost, found.flags)
        blur /= usable
        phase = phase_of_transmission(usable, options.delta_over_beta)
    dark_field = blur
    dark_field *= np.float32(found.scatter)
    dark_field[lost] = np.nan
    found.clip(dark_field)
    return {
        "phase": phase,
        "transmission": transmission,
        "dark_field": dark_field,
    }


def _blended(found: Solution, coupling: Image, crossover2: float) -> tuple[Image, Image]:
    """Return the x_0 of least squares for the blended (T)d, and the blended (T)d."""
    threads = found.threads
    if found.lost.any():
        found.unknowns[:, found.lost] = 0.0
    first, slopes = found.unknowns[0], found.unknowns[1:]
    slopes[0] *= np.float32(-1.0)
    slopes[1:] *= np.float32(-0.5)
    blur = blend(slopes[0], slopes[1:], crossover2, by=_WAYS[found.options.combine], threads=threads)
    # What changed of each unknown, times its share of the first normal equation.
    slopes[0] -= blur
    slopes[1:] -= spectral_gradient(blur, threads=threads)
    first -= coupling[0] * slopes[0]
    for coupled, slope in zip(coupling[1:], slopes[1:], strict=True):
        first -= 2 * coupled * slope
    return first, blur
