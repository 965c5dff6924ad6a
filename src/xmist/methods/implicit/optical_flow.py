"""`optical-flow`: phase of a sample that only refracts, from one exposure or more.

Paganin et al. 2018, "Single-image geometric-flow x-ray speckle tracking", Phys. Rev. A 98 053813,
doi:10.1103/PhysRevA.98.053813; derived here from the Fokker–Planck equation with D = 0. In pixel units, with
ψ = ∆φ/(k p²),

    I_R − I_S = ∇·(I_R ∇ψ)                                                                              (1)

The flow is taken to have a potential, I_R ∇ψ = ∇Λ, which is exact in one dimension and drops a curl in two:

    ∇²Λ = I_R − I_S                                                                                     (2)
    ∇ψ = ∇Λ/I_R                                                                                         (3)
    ψ = ∇⁻² ∇·(∇Λ/I_R)                                                                                  (4)

Several exposures are averaged in (3) with weights I_R, ∇ψ = Σ ∇Λ/Σ I_R. Each drops a curl of its own, and
the sum of the references is more even than one, so that the error falls with N. The weights I_R² of least
squares would do that less: the curl is correlated with I_R, and for a contrast c of the speckles φ came out
about c²/2 too small however many there were (2.2 % for c = 0.25; 0.3 % with weights I_R). For one exposure it
is about as much too large. Gradient and divergence live on the faces between pixels, so that (2) and (4)
invert one and the same five-point Laplacian. (2) is linear, so that exposures with the same weights share one
transform.

Averaging over exposures, the division by a smoothed transmission and the form of the high-pass are xmist's
own: whether the paper's filter has the same form could not be checked.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xmist.core import flags as flag
from xmist.core.arrays import Image, as_weights
from xmist.core.data import Retrieval
from xmist.core.experiment import Experiment
from xmist.core.findings import Finding, finding
from xmist.core.version import __version__
from xmist.methods.common.findings import compare_frames, describe_flags
from xmist.methods.common.options import Range, check_options
from xmist.methods.common.phase import centre, epsilon_of, refraction_of
from xmist.methods.implicit.direct import add_exposures, exposure_weights, fill_source, prepare_ratio
from xmist.methods.implicit.pixelwise import PixelwiseSystem
from xmist.methods.implicit.regularisation import AUTOMATIC, choose_cutoff, chosen, contradictions
from xmist.numerics.images.fill import fill
from xmist.numerics.images.smooth import gaussian
from xmist.numerics.operators.staggered_gradient import add_flow, staggered_divergence
from xmist.numerics.solvers.poisson import inverse_laplacian

# Exposures that a half must have to judge noise: the curl that one exposure drops is no noise of an average.
_JUDGES: Final = 2


@dataclass(frozen=True, kw_only=True)
class OpticalFlowOptions:
    """Options of `optical-flow`.

    Parameters
    ----------
    attenuation_smoothing : float, optional
        Gaussian σ in pixels: I_S is first divided by Σ I_R I_S/Σ I_R² smoothed so much, which is given as the
        transmission. It must be wider than the speckles and the features of the phase, whose contrast it
        would take for attenuation. None: the sample does not attenuate.
    cutoff_length : float, optional
        Length L in metres in the sample's plane: structures of the phase that are longer are damped, by
        −κ²/(κ⁴ + (2π/L)⁴) for the inverse Laplacian of (4), with the symbol of its own stencil for κ². None
        damps nothing.
    regularisation : {None, "auto"}
        "auto" chooses `cutoff_length` from the difference of both halves of the exposures, from N = 4 on (see
        `xmist.methods.implicit.regularisation`), and records the choice in `provenance["regularisation"]`.

    Raises
    ------
    InputError
        Lists every value that is out of range, and options that exclude each other.

    Examples
    --------
    >>> OpticalFlowOptions(cutoff_length=1e-3).cutoff_length
    0.001
    """

    attenuation_smoothing: float | None = None
    cutoff_length: float | None = None
    regularisation: str | None = None

    def __post_init__(self) -> None:
        check_options(
            self,
            [
                Range("attenuation_smoothing", "pixels", high=1000.0, strict=True, optional=True),
                Range("cutoff_length", "m", strict=True, optional=True),
            ],
            choices={"regularisation": AUTOMATIC},
            exclusions=contradictions(self, "cutoff_length"),
        )


OPTIONS: Final = OpticalFlowOptions


@dataclass(frozen=True, kw_only=True, eq=False)
class OpticalFlowPlan:
    """`optical-flow` prepared for a reference; call it with the sample frames of a projection.

    Parameters
    ----------
    experiment : Experiment
        Geometry.
    options : OpticalFlowOptions
        Options.
    equations : PixelwiseSystem
        Least-squares ratio of the frames.
    """

    experiment: Experiment
    options: OpticalFlowOptions
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
            Phase in rad with mean 0, refraction angle in rad; with `attenuation_smoothing` also the
            transmission that was divided out.

        Raises
        ------
        InputError
            If the frames do not fit the reference, or if no pixel is determined.
        """
        reference, threads = self.equations.reference, self.equations.threads
        frames, unknowns, flags = self.equations.solve(sample, weights)
        provenance: dict[str, object] = {"xmist_version": __version__, "exposures": len(frames)}
        findings = compare_frames(reference.frames, frames, reference.weights, may_attenuate=True)
        lost = (flags & flag.UNDETERMINED) > 0
        ratio = unknowns[0]
        np.subtract(1.0, ratio, out=ratio)  # 1 − (1 − Q)
        ratio[lost] = 1.0
        transmission = None
        sigma = self.options.attenuation_smoothing
        if sigma is not None:
            transmission = ratio
            gaussian(transmission[None], sigma, threads=threads)
            low = ~(transmission > 0.0)
            flags[low] |= flag.NOT_POSITIVE
            lost |= low
        else:
            findings += _attenuated(float(ratio.mean(dtype=np.float64)))
        given = None if weights is None else as_weights("weights", weights, frames.shape, [])
        k, p = self.experiment.wavenumber, self.experiment.effective_pixel
        epsilon = epsilon_of(self.options.cutoff_length, self.experiment)
        everything, half = slice(None), len(frames) // 2
        curvature = self._curvature(frames, given, transmission, lost, everything)
        if self.options.regularisation is not None:
            if half >= _JUDGES:
                parts = (slice(half), slice(half, 2 * half))
                halves = [self._curvature(frames, given, transmission, lost, part) for part in parts]
                epsilon = choose_cutoff(curvature, *halves, threads=threads)
            provenance["regularisation"] = chosen(None, epsilon, self.experiment)
        phase: Image = inverse_laplacian(
            curvature,
            epsilon=epsilon or 0.0,
            overwrite=True,
            threads=threads,
        )
        phase *= np.float32(k * p**2 / self.experiment.effective_distance)
        centre(phase, lost)
        if transmission is not None:
            transmission[lost] = np.nan
        return Retrieval(
            method="optical-flow",
            experiment=self.experiment,
            options=asdict(self.options),
            flags=flags,
            findings=tuple(findings + describe_flags(flags)),
            provenance=provenance,
            phase=phase,
            transmission=transmission,
            refraction_angle=refraction_of(phase, self.experiment, threads=threads),
        )

    def _curvature(
        self,
        sample: Image,
        given: Image | None,
        transmission: Image | None,
        lost: NDArray[np.bool_],
        part: slice,
    ) -> Image:
        """Give ∇·∇ψ by (2) and (3) from some of the exposures."""
        reference, threads = self.equations.reference, self.equations.threads
        flow = np.zeros((2, *sample.shape[1:]), np.float32)
        total = np.zeros_like(flow)
        dead = ~lost if lost.any() else None
        weights = [
            exposure_weights(
                frame,
                None if reference.weights is None else reference.weights[n],
                None if given is None else given[n],
                dead,
            )
            for n, frame in enumerate(sample)
            if n in range(len(sample))[part]
        ]
        for group in add_exposures(reference.frames[part], sample[part], weights, threads=threads):
            source = group.difference
            if transmission is not None:
                with np.errstate(invalid="ignore", over="ignore", divide="ignore"):  # pixels of weight 0
                    source = group.reference - group.sample / transmission
            potential = inverse_laplacian(
                fill_source(source, group.weights, threads=threads), overwrite=True, threads=threads
            )
            add_flow(potential, group.reference, flow, total, weights=group.weights, threads=threads)
        inner = ((slice(None), slice(None, -1)), (slice(None, -1), slice(None)))
        for component, norm, faces in zip(flow, total, inner, strict=True):
            good = norm[faces] > 0.0
            np.divide(component[faces], norm[faces], out=component[faces], where=good)
            if not good.all():
                filled = fill(np.ascontiguousarray(component[faces]), good, threads=threads)
                filled[~good & np.isnan(filled)] = 0.0  # beyond reach: bare beam
                component[faces] = filled
        divergence: Image = staggered_divergence(flow, threads=threads)
        return divergence


def _attenuated(ratio: float) -> list[Finding]:
    if ratio >= 0.98:
        return []
    message = (
        f"the sample frames have {ratio:.3g} times the flux of the reference frames; if the sample "
        "attenuates, the phase is wrong: set attenuation_smoothing, or use a method that allows "
        "attenuation, such as single-material"
    )
    return [finding("sample-attenuates", message)]


def prepare(
    reference: ArrayLike,
    experiment: Experiment,
    options: OpticalFlowOptions,
    *,
    weights: ArrayLike | None = None,
    threads: int | None = None,
) -> OpticalFlowPlan:
    """Do once what depends on the reference alone; see `xmist.prepare`."""
    equations = prepare_ratio(reference, weights, method="optical-flow", threads=threads)
    return OpticalFlowPlan(experiment=experiment, options=options, equations=equations)
