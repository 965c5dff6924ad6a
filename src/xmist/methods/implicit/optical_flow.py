"""`optical-flow`: phase of a sample that only refracts, from one position or more.

Paganin et al. 2018, "Single-image geometric-flow x-ray speckle tracking", Phys. Rev. A 98 053813,
doi:10.1103/PhysRevA.98.053813; derived here from the Fokker–Planck equation with D = 0. In pixel units, with
ψ = ∆φ/(k p²),

    I_R − I_S = ∇·(I_R ∇ψ)                                                                              (1)

The flow is taken to have a potential, I_R ∇ψ = ∇Λ, which is exact in one dimension and drops a curl in two:

    ∇²Λ = I_R − I_S                                                                                     (2)
    ∇ψ = ∇Λ/I_R                                                                                         (3)
    ψ = ∇⁻² ∇·(∇Λ/I_R)                                                                                  (4)

Several positions are averaged in (3) with weights I_R, ∇ψ = Σ ∇Λ/Σ I_R. Each neglects a different curl, and
the sum of the references is more uniform than one of them, so the error falls with N. The weights I_R² of
least squares would reduce it less: the curl is correlated with I_R, and for a speckle contrast c φ came out
about c²/2 too small however many positions there were (2.2 % for c = 0.25; 0.3 % with weights I_R). For one
position it is about as much too large. Gradient and divergence live on the faces between pixels, so that (2)
and (4) invert the same five-point Laplacian. (2) is linear, so that positions with the same weights share one
transform.

The average over positions, the division by a smoothed transmission and the form of the high-pass are xmist's
own; whether the paper's filter has the same form could not be checked.
"""

from __future__ import annotations

from typing import Annotated, Final

import numpy as np
from numpy.typing import ArrayLike

from xmist.core import flags as flag
from xmist.core.arrays import Image
from xmist.core.experiment import Experiment
from xmist.core.findings import Finding, finding
from xmist.core.options import Options, Range
from xmist.methods.common.options import CutoffLength
from xmist.methods.common.phase import centre
from xmist.methods.implicit.direct import add_positions, fill_source, position_weights, prepare_ratio
from xmist.methods.implicit.plan import Channels, ImplicitPlan, Solution
from xmist.methods.implicit.regularisation import choose_cutoff, cutoff_of
from xmist.numerics.images.fill import fill
from xmist.numerics.images.smooth import gaussian
from xmist.numerics.operators.staggered_gradient import add_flow, staggered_divergence
from xmist.numerics.solvers.poisson import inverse_laplacian

# Positions that a half must have to judge noise: the curl that one position drops is no noise of an average.
_JUDGES: Final = 2


class OpticalFlowOptions(Options):
    """Options of `optical-flow`.

    Parameters
    ----------
    attenuation_smoothing : float, optional
        Gaussian σ in pixels: I_S is first divided by Σ I_R I_S/Σ I_R² smoothed by this σ, which is returned
        as the transmission. It must be wider than the speckles and the features of the phase, whose contrast
        would otherwise be taken for attenuation. None: the sample does not attenuate.
    cutoff_length : float or "auto", optional
        Length L in metres in the sample's plane: longer structures of the phase are damped, by
        −κ²/(κ⁴ + (2π/L)⁴) as inverse Laplacian of (4), with the symbol of its own stencil for κ². "auto"
        chooses it from the difference of both halves of the positions, where there are at least four, and
        records it in `provenance["regularisation"]`. None damps nothing.

    Examples
    --------
    >>> OpticalFlowOptions(cutoff_length=1e-3).cutoff_length
    0.001
    """

    attenuation_smoothing: Annotated[float, Range(0.0, 1000.0, above=True, unit="pixels")] | None = None
    cutoff_length: CutoffLength | None = None


OPTIONS: Final = OpticalFlowOptions


def prepare(
    reference: ArrayLike,
    experiment: Experiment,
    options: OpticalFlowOptions,
    *,
    weights: ArrayLike | None = None,
    threads: int | None = None,
) -> ImplicitPlan:
    """Prepare the method for (position, y, x) reference frames; see `xmist.prepare`."""
    return ImplicitPlan(
        method="optical-flow",
        experiment=experiment,
        options=options,
        equations=prepare_ratio(reference, weights, method="optical-flow", threads=threads),
        channels=_channels,
    )


def _channels(found: Solution) -> Channels:
    experiment, threads, lost = found.experiment, found.threads, found.lost
    ratio = found.unknowns[0]
    np.subtract(1.0, ratio, out=ratio)  # 1 − (1 − Q)
    ratio[lost] = 1.0
    transmission = None
    if found.options.attenuation_smoothing is not None:
        transmission = ratio
        gaussian(transmission[None], found.options.attenuation_smoothing, threads=threads)
        low = ~(transmission > 0.0)
        found.flags[low] |= flag.NOT_POSITIVE
        lost |= low
    else:
        found.findings += _attenuated(float(ratio.mean(dtype=np.float64)))
    curvature, epsilon = _curvature(found, transmission, slice(None)), found.epsilon
    if found.options.cutoff_length == "auto":
        half = len(found.sample) // 2
        if half >= _JUDGES:
            halves = [_curvature(found, transmission, part) for part in (slice(half), slice(half, 2 * half))]
            epsilon = choose_cutoff(curvature, *halves, threads=threads)
        found.provenance["regularisation"] = {"cutoff_length": cutoff_of(epsilon, experiment)}
    phase: Image = inverse_laplacian(curvature, epsilon=epsilon or 0.0, overwrite=True, threads=threads)
    phase *= np.float32(experiment.wavenumber * experiment.effective_pixel**2 / experiment.effective_distance)
    centre(phase, lost)
    if transmission is not None:
        transmission[lost] = np.nan
    return {"phase": phase, "transmission": transmission}


def _curvature(found: Solution, transmission: Image | None, part: slice) -> Image:
    """Return ∇·∇ψ by (2) and (3) from some of the positions."""
    reference, sample, threads = found.reference, found.sample, found.threads
    flow = np.zeros((2, *sample.shape[1:]), np.float32)
    total = np.zeros_like(flow)
    weights = [
        position_weights(
            sample[n],
            None if reference.weights is None else reference.weights[n],
            None if found.weights is None else found.weights[n],
            ~found.lost if found.lost.any() else None,
        )
        for n in range(len(sample))[part]
    ]
    for group in add_positions(reference.frames[part], sample[part], weights, threads=threads):
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
        "attenuates, the phase is wrong; set attenuation_smoothing, or use a method that allows "
        "attenuation, such as full-field"
    )
    return [finding("sample-attenuates", message)]
