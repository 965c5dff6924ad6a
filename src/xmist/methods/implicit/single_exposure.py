"""`single-exposure`: transmission, phase and a qualitative dark-field of one material, from one exposure.

Beltran et al. 2023, "Fast implicit diffusive dark-field retrieval for single-exposure, single-mask x-ray
imaging", Optica 10 422, doi:10.1364/OPTICA.480489 (devolving), and Alloo et al. 2025, "Separating edges from
microstructure in X-ray dark-field imaging", Opt. Express 33 3577, arXiv:2410.18317 (both perspectives);
derived here from the Fokker–Planck equation of an attenuating sample. T and φ are those of `single-material`
in its approximate form,

    (1 − (γ∆/2k) ∇²) T = I_S/I_R,   φ = (γ/2) ln T                                                      (1)

What they do not explain of the sample frame is taken for scatter. From the reference (evolving),

    ∆ ∇²(D T I_R) = I_S − T I_R + (∆/k) ∇·(T I_R ∇φ)                                                    (2)

or back from the sample frame (devolving, the default),

    ∆ ∇²(D I_S) = I_S − T I_R + (∆/k) ∇·(I_S ∇φ)                                                        (3)

by an inverse Laplacian (spectral, for D I holds the speckles) and a division by I = T I_R or I_S. Several
exposures are averaged with weights I: both equations are linear in the frames, so that this is their solution
for the sum of the exposures, by one transform.
How the papers regularise the inverse Laplacian and join exposures could not be checked.

Notes
-----
D is **qualitative**. One exposure cannot tell attenuation from scatter: (1) has spent the whole frame on T
already, and (2) and (3) see what its approximation left. On simulated frames the slope of D against the
truth was 2 to 55 for N = 1, with false D where the attenuation varies. Several exposures do not help: they
average out what scatter does to the speckles and leave what it did to T, and D came out with the wrong sign.
Both signs mean something, unresolved structure and edges, so that none is clipped. The inverse Laplacian
leaves a constant open: D I has mean 0.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from xmist.core import flags as flag
from xmist.core.arrays import Image, as_weights
from xmist.core.data import Retrieval
from xmist.core.experiment import Experiment
from xmist.core.findings import finding
from xmist.core.version import __version__
from xmist.methods.common.findings import compare_frames, describe_flags
from xmist.methods.common.options import Range, check_options
from xmist.methods.common.phase import (
    above_zero,
    epsilon_of,
    phase_of_transmission,
    refraction_of,
    screening_length2,
    single_material,
)
from xmist.methods.common.reference import PreparedReference
from xmist.methods.implicit.direct import add_exposures, exposure_weights, fill_source, prepare_ratio
from xmist.methods.implicit.pixelwise import PixelwiseSystem
from xmist.methods.implicit.single_material import missing_material
from xmist.numerics.images.fill import fill
from xmist.numerics.operators.transport import PSI, Transport
from xmist.numerics.solvers.poisson import inverse_laplacian

_PERSPECTIVES: Final = ("devolving", "evolving")


@dataclass(frozen=True, kw_only=True)
class SingleExposureOptions:
    """Options of `single-exposure`.

    Parameters
    ----------
    delta_over_beta : float
        γ = δ/β of the sample's material; it has no default.
    perspective : {"devolving", "evolving"}
        Equation (3) or (2).
    cutoff_length : float, optional
        Length L in metres in the sample's plane: structures of D I that are longer are damped, by
        −κ²/(κ⁴ + (2π/L)⁴) for the inverse Laplacian. None damps nothing; the noise of D then grows with the
        size of the image.

    Raises
    ------
    InputError
        If `delta_over_beta` is missing; lists every value that is out of range.

    Examples
    --------
    >>> SingleExposureOptions(delta_over_beta=1000).perspective
    'devolving'
    """

    delta_over_beta: float | None = None
    perspective: str = "devolving"
    cutoff_length: float | None = None

    def __post_init__(self) -> None:
        missing = self.delta_over_beta is None
        check_options(
            self,
            [
                Range("delta_over_beta", strict=True, optional=missing),
                Range("cutoff_length", "m", strict=True, optional=True),
            ],
            choices={"perspective": _PERSPECTIVES},
            exclusions=[(missing, missing_material("single-exposure"))],
        )


OPTIONS: Final = SingleExposureOptions


@dataclass(frozen=True, kw_only=True, eq=False)
class SingleExposurePlan:
    """`single-exposure` prepared for a reference; call it with the sample frames of a projection.

    Parameters
    ----------
    experiment : Experiment
        Geometry.
    options : SingleExposureOptions
        Options.
    equations : PixelwiseSystem
        Least-squares ratio of the frames.
    """

    experiment: Experiment
    options: SingleExposureOptions
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
            Transmission; phase in rad, (γ/2) ln T; refraction angle in rad; dark-field in m, qualitative and
            of either sign.

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
        message = (
            "the dark-field of this method is qualitative: its amplitude has no meaning, and with several "
            "positions neither has its sign"
        )
        findings.append(finding("dark-field-qualitative", message))
        lost = (flags & flag.UNDETERMINED) > 0
        length2 = screening_length2(self.experiment, gamma)
        transmission = single_material(unknowns[0], lost, length2=length2, threads=threads)
        usable = above_zero(transmission, lost, flags)
        dark_field = diffusion(
            reference,
            frames,
            None if weights is None else as_weights("weights", weights, frames.shape, []),
            usable,
            length2=length2,
            perspective=self.options.perspective,
            epsilon=epsilon_of(self.options.cutoff_length, self.experiment) or 0.0,
            threads=threads,
        )
        dark_field *= np.float32(self.experiment.effective_pixel**2 / self.experiment.effective_distance)
        # Where no exposure has light within reach, T may be known and D not.
        flags[np.isfinite(usable) & ~np.isfinite(dark_field)] |= flag.UNDETERMINED
        phase = phase_of_transmission(usable, gamma)
        return Retrieval(
            method="single-exposure",
            experiment=self.experiment,
            options=asdict(self.options),
            flags=flags,
            findings=tuple(findings + describe_flags(flags)),
            provenance={"xmist_version": __version__, "exposures": len(frames)},
            phase=phase,
            transmission=transmission,
            dark_field=dark_field,
            refraction_angle=refraction_of(phase, self.experiment, threads=threads),
        )


def diffusion(
    reference: PreparedReference,
    sample: Image,
    given: Image | None,
    transmission: Image,
    *,
    length2: float,
    perspective: str,
    epsilon: float = 0.0,
    threads: int | None = None,
) -> Image:
    """Solve (2) or (3) for d = ∆D/p², for a transmission that is known.

    With ℓ² = γ∆/(2k p²) and ψ = ℓ² ln T they read, in pixel units, ∇²(d T I_R) = I_S − T I_R + ℓ² ∇·(I_R ∇T)
    and ∇²(d I_S) = I_S − T I_R + ∇·(I_S ∇ψ).

    Parameters
    ----------
    reference : PreparedReference
        References with their weights.
    sample : (position, y, x) float32 array
        Frames with the sample; may hold anything where the weight is 0.
    given : (position, y, x) float32 array or None
        Weights that multiply those of the reference.
    transmission : (y, x) float32 array
        T, above 0; NaN where it is not known, and d is then NaN too.
    length2 : float
        ℓ² in pixels².
    perspective : {"devolving", "evolving"}
        Equation (3) or (2). Devolving, a pixel of the sample at or below 0 says nothing.
    epsilon : float
        ε of the inverse Laplacian −κ²/(κ⁴ + ε⁴), in rad per pixel.
    threads : int, optional
        Threads; the result does not depend on it.

    Returns
    -------
    (y, x) float32 array
        d in pixels².
    """
    known = np.isfinite(transmission)
    if not known.all():
        transmission = fill(transmission, known, threads=threads)
        transmission[np.isnan(transmission)] = 1.0
    devolving = perspective == "devolving"
    field = np.log(transmission) if devolving else transmission - np.float32(1.0)
    field = (np.float32(length2) * field)[None]
    total = np.zeros_like(transmission)
    norm = np.zeros_like(transmission)
    weights = [
        exposure_weights(
            frame,
            None if reference.weights is None else reference.weights[n],
            None if given is None else given[n],
            None if known.all() else known,
            None if not devolving or (frame > 0.0).all() else frame > 0.0,
        )
        for n, frame in enumerate(sample)
    ]
    for group in add_exposures(reference.frames, sample, weights, threads=threads):
        dimmed = transmission * group.reference
        blurred = (
            _filled_sample(group.sample, dimmed, group.weights, threads=threads) if devolving else dimmed
        )
        carrier = blurred if devolving else group.reference
        transport = Transport(frames=carrier[None], kinds=(PSI,), threads=threads)
        with np.errstate(invalid="ignore", over="ignore"):  # pixels of weight 0
            source = (group.sample - dimmed) - transport.forward(field)[0]
        product = inverse_laplacian(
            fill_source(source, group.weights, threads=threads),
            symbol="spectral",
            epsilon=epsilon,
            overwrite=True,
            threads=threads,
        )
        total += product if group.weights is None else group.weights * product
        norm += blurred if group.weights is None else group.weights * blurred
    good = norm > 0.0
    d: Image = np.divide(total, norm, out=total, where=good)
    if not good.all():
        d = fill(d, good, threads=threads)
    d[~known] = np.nan
    return d


def _filled_sample(frame: Image, dimmed: Image, weights: Image | None, *, threads: int | None) -> Image:
    """Give a sample frame that can be differentiated: T I_R stands where its neighbours are beyond reach."""
    if weights is None or weights.all():
        return frame
    filled: Image = fill(frame, weights > 0, smooth=True, threads=threads)
    return np.where(np.isfinite(filled) & (filled > 0.0), filled, dimmed)


def prepare(
    reference: ArrayLike,
    experiment: Experiment,
    options: SingleExposureOptions,
    *,
    weights: ArrayLike | None = None,
    threads: int | None = None,
) -> SingleExposurePlan:
    """Do once what depends on the reference alone; see `xmist.prepare`."""
    equations = prepare_ratio(reference, weights, method="single-exposure", threads=threads)
    return SingleExposurePlan(experiment=experiment, options=options, equations=equations)
