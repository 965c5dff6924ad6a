"""`single-exposure`: transmission, phase and a qualitative dark-field of one material, from one position.

Beltran et al. 2023, "Fast implicit diffusive dark-field retrieval for single-exposure, single-mask x-ray
imaging", Optica 10 422, doi:10.1364/OPTICA.480489 (devolving), and Alloo et al. 2025, "Separating edges from
microstructure in X-ray dark-field imaging", Opt. Express 33 3577, arXiv:2410.18317 (both perspectives);
derived here from the Fokker–Planck equation of an attenuating sample. T and φ are those of `single-material`
in its approximate form,

    (1 − (γ∆/2k) ∇²) T = I_S/I_R,   φ = (γ/2) ln T                                                      (1)

What they do not explain of the sample frame is attributed to scattering. From the reference (evolving),

    ∆ ∇²(D T I_R) = I_S − T I_R + (∆/k) ∇·(T I_R ∇φ)                                                    (2)

or back from the sample frame (devolving, the default),

    ∆ ∇²(D I_S) = I_S − T I_R + (∆/k) ∇·(I_S ∇φ)                                                        (3)

by an inverse Laplacian (spectral, because D I contains the speckles) and a division by I = T I_R or I_S.
What both drop is of second order in the flow F of (2) and (3): I_S = (1 − F + F²/2 − …) T I_R makes (2) see
F²/2 of the frame and (3) see −F²/2. Refraction by edges therefore gives D of opposite signs, where
microstructure gives the same, so that `perspective="both"` separates them (the idea of Alloo et al. 2025):

    D = (D_2 + D_3)/2,   edges = (D_2 − D_3)/2                                                          (4)

Several positions are averaged with weights I: both equations are linear in the frames, so that this is their
solution for the sum of the positions, by one transform. How the papers regularise the inverse Laplacian and
combine positions and perspectives could not be checked.

Notes
-----
D is **qualitative**. One position cannot separate attenuation and scattering: (1) has used the whole frame
for T already, and (2) and (3) see what its approximation left. On simulated frames the slope of D against the
truth was 2 to 55 for N = 1, with false D where the attenuation varies. Several positions do not help: they
average out what scattering does to the speckles and leave what it did to T, and D came out with the wrong
sign. Both signs have a meaning, unresolved structure and edges, so that none is clipped. The inverse
Laplacian leaves a constant open: D I has mean 0.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import numpy as np
from numpy.typing import ArrayLike

from xmist.core import flags as flag
from xmist.core.arrays import Image
from xmist.core.experiment import Experiment
from xmist.core.findings import finding
from xmist.core.options import Options, Range
from xmist.methods.common.options import DeltaOverBeta
from xmist.methods.common.phase import above_zero, phase_of_transmission, single_material
from xmist.methods.common.reference import PreparedReference
from xmist.methods.implicit.direct import add_positions, fill_source, position_weights, prepare_ratio
from xmist.methods.implicit.plan import Channels, ImplicitPlan, Solution
from xmist.numerics.images.fill import fill
from xmist.numerics.operators.transport import PSI, Transport
from xmist.numerics.solvers.poisson import inverse_laplacian


class SingleExposureOptions(Options):
    """Options of `single-exposure`.

    Parameters
    ----------
    delta_over_beta : float
        γ = δ/β of the sample's material.
    perspective : {"devolving", "evolving", "both"}
        "devolving" starts from the sample frame (equation 3), "evolving" from the reference (2); "both" is
        their mean (4), in which edges cancel to first order; the result then has the diagnostics
        `dark_field_devolving`, `dark_field_evolving` and `dark_field_edges`, half of their difference, in
        metres.
    cutoff_length : float, optional
        Length L in metres in the sample's plane: longer structures of D I are damped, by −κ²/(κ⁴ + (2π/L)⁴)
        as inverse Laplacian. None damps nothing; the noise of D then grows with the size of the image.

    Examples
    --------
    >>> SingleExposureOptions(delta_over_beta=1000).perspective
    'devolving'
    """

    delta_over_beta: DeltaOverBeta
    perspective: Literal["devolving", "evolving", "both"] = "devolving"
    cutoff_length: Annotated[float, Range(0.0, above=True, unit="m")] | None = None


OPTIONS: Final = SingleExposureOptions


def prepare(
    reference: ArrayLike,
    experiment: Experiment,
    options: SingleExposureOptions,
    *,
    weights: ArrayLike | None = None,
    threads: int | None = None,
) -> ImplicitPlan:
    """Prepare the method for (position, y, x) reference frames; see `xmist.prepare`."""
    return ImplicitPlan(
        method="single-exposure",
        experiment=experiment,
        options=options,
        equations=prepare_ratio(reference, weights, method="single-exposure", threads=threads),
        channels=_channels,
    )


def _channels(found: Solution) -> Channels:
    message = (
        "the dark-field of this method is qualitative: its amplitude has no meaning, and with several "
        "positions its sign has none either; for values in metres use full-field"
    )
    found.findings.append(finding("dark-field-qualitative", message))
    threads = found.threads
    transmission = single_material(found.unknowns[0], found.lost, length2=found.length2, threads=threads)
    usable = above_zero(transmission, found.lost, found.flags)
    chosen = found.options.perspective
    maps = {
        f"dark_field_{perspective}": diffusion(
            found.reference,
            found.sample,
            found.weights,
            usable,
            length2=found.length2,
            perspective=perspective,
            epsilon=found.epsilon or 0.0,
            threads=threads,
        )
        * np.float32(found.scatter)
        for perspective in (("devolving", "evolving") if chosen == "both" else (chosen,))
    }
    dark_field = sum(maps.values()) / np.float32(len(maps))
    if chosen == "both":
        maps["dark_field_edges"] = (maps["dark_field_evolving"] - maps["dark_field_devolving"]) / 2
    # Where no position has light within reach, T may be known and D not.
    found.flags[np.isfinite(usable) & ~np.isfinite(dark_field)] |= flag.UNDETERMINED
    phase = phase_of_transmission(usable, found.options.delta_over_beta)
    return {
        "phase": phase,
        "transmission": transmission,
        "dark_field": dark_field,
        "diagnostics": maps if chosen == "both" else {},
    }


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
    """Return d = ∆D/p² in pixels² by (2) or (3), for a known (y, x) transmission; NaN where it is NaN.

    With ℓ² = γ∆/(2k p²) and ψ = ℓ² ln T they read, in pixel units, ∇²(d T I_R) = I_S − T I_R + ℓ² ∇·(I_R ∇T)
    and ∇²(d I_S) = I_S − T I_R + ∇·(I_S ∇ψ). A sample pixel at or below 0 has weight 0 in (3). `epsilon` is
    that of the inverse Laplacian −κ²/(κ⁴ + ε⁴), in rad per pixel.
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
        position_weights(
            frame,
            None if reference.weights is None else reference.weights[n],
            None if given is None else given[n],
            None if known.all() else known,
            None if not devolving or (frame > 0.0).all() else frame > 0.0,
        )
        for n, frame in enumerate(sample)
    ]
    for group in add_positions(reference.frames, sample, weights, threads=threads):
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
    """Return a sample frame to differentiate; T I_R replaces pixels whose neighbours are beyond reach."""
    if weights is None or weights.all():
        return frame
    filled: Image = fill(frame, weights > 0, smooth=True, threads=threads)
    return np.where(np.isfinite(filled) & (filled > 0.0), filled, dimmed)
