"""From curvature or transmission to the phase φ and its gradient."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from xmist.core import flags as flag
from xmist.core.arrays import Image
from xmist.core.experiment import Experiment
from xmist.numerics.images.fill import fill
from xmist.numerics.operators.stencils import gradient
from xmist.numerics.solvers.integrate import Integrator, integrate
from xmist.numerics.solvers.poisson import inverse_laplacian, screened

# Weight of a shift that is filled from its neighbours: it carries the phase over a gap that cuts the image,
# and changes the phase on either side by 10⁻⁴ of the error in the gap.
_BRIDGE: Final = 1e-4


def phase_of_curvature(
    curvature: Image,
    experiment: Experiment,
    *,
    lost: NDArray[np.bool_],
    epsilon: float | None,
    threads: int | None,
) -> Image:
    """Return the φ of mean 0 in rad whose ψ = ∆φ/(k p²) has the (y, x) Laplacian ∇²ψ, which is overwritten.

    Lost pixels count as bare beam and become NaN. With ε in rad per pixel, −κ²/(κ⁴ + ε⁴) serves as inverse
    Laplacian, spectral symbol; None inverts the five-point Laplacian exactly.
    """
    k, p = experiment.wavenumber, experiment.effective_pixel
    any_lost = bool(lost.any())
    if any_lost:
        curvature[lost] = 0.0
    phase: Image = inverse_laplacian(
        curvature,
        symbol="stencil" if epsilon is None else "spectral",
        epsilon=epsilon or 0.0,
        overwrite=True,
        threads=threads,
    )
    phase *= np.float32(k * p**2 / experiment.effective_distance)
    centre(phase, lost)
    return phase


def phase_of_shift(
    shift: Image,
    experiment: Experiment,
    *,
    unsure: NDArray[np.bool_],
    kind: Integrator,
    threads: int | None,
) -> Image:
    """Return the φ of mean 0 in rad whose gradient is k u p/∆ for a (2, y, x) shift u in pixels.

    The shift of an `unsure` pixel (y, x) does not count. That of its neighbours replaces it with almost no
    weight, so that parts which unsure pixels separate from the rest get the level that fits best. If every
    pixel is unsure, all count.
    """
    k, p = experiment.wavenumber, experiment.effective_pixel
    weights = None
    if unsure.any() and not unsure.all():
        filled: Image = np.empty_like(shift)
        for image, given in zip(filled, shift, strict=True):
            mean = np.float32(given.mean(where=~unsure, dtype=np.float64))
            image[...] = fill(given, ~unsure, smooth=True, threads=threads)
            image[np.isnan(image)] = mean
        shift, weights = filled, np.where(unsure, np.float32(_BRIDGE), np.float32(1.0))
    elif unsure.any():
        shift = np.nan_to_num(shift, nan=0.0)
    phase: Image = integrate(
        shift * np.float32(k * p**2 / experiment.effective_distance),
        kind=kind,
        weights=weights,
        threads=threads,
    )
    if weights is not None:
        phase -= np.float32(phase.mean(where=~unsure, dtype=np.float64))
    return phase


def epsilon_of(cutoff_length: float, experiment: Experiment) -> float:
    """Return the ε = 2π/L of the inverse Laplacian −κ²/(κ⁴ + ε⁴) in rad per pixel, for L in metres."""
    return 2.0 * math.pi * experiment.effective_pixel / cutoff_length


def centre(phase: Image, lost: NDArray[np.bool_]) -> None:
    """Shift a (y, x) phase to mean 0 over the pixels that are not lost, in place; the lost become NaN."""
    any_lost = bool(lost.any())
    if lost.all():
        phase[...] = np.nan
        return
    mean = phase.mean(dtype=np.float64, where=~lost if any_lost else np.True_)
    phase -= np.float32(mean)
    if any_lost:
        phase[lost] = np.nan


def refraction_of(phase: Image, experiment: Experiment, *, threads: int | None) -> Image:
    """Return the (2, y, x) refraction angle ∇φ/k in rad; NaN only where the phase is NaN."""
    scale = 1.0 / (experiment.wavenumber * experiment.effective_pixel)
    known = np.isfinite(phase)
    if known.all():
        angle: Image = gradient(phase, scale=scale, threads=threads)
        return angle
    # Neighbours of a pixel without a value have one: the gap is filled to differentiate there.
    angle = gradient(fill(phase, known, smooth=True, threads=threads), scale=scale, threads=threads)
    angle[:, ~known] = np.nan
    return angle


def screening_length2(experiment: Experiment, delta_over_beta: float | None) -> float:
    """Return γ∆/(2kp²) in pixels², the ℓ² of (1 − ℓ²∇²) T for a single material; 0 without γ."""
    if delta_over_beta is None:
        return 0.0
    k, p = experiment.wavenumber, experiment.effective_pixel
    return delta_over_beta * experiment.effective_distance / (2.0 * k * p**2)


def single_material(
    contrast: Image, lost: NDArray[np.bool_], *, length2: float, threads: int | None
) -> Image:
    """Return the (y, x) T of (1 − ℓ²∇²) T = Q from 1 − Q, so that equal frames give exactly T = 1.

    Lost pixels count as bare beam, also in `contrast`, and become NaN.
    """
    contrast[lost] = 0.0
    transmission: Image = screened(contrast, length2, threads=threads)
    np.subtract(1.0, transmission, out=transmission)
    transmission[lost] = np.nan
    return transmission


def above_zero(transmission: Image, lost: NDArray[np.bool_], flags: NDArray[np.uint16]) -> Image:
    """Return T, NaN where it is not above 0, which is flagged `NOT_POSITIVE` but for the lost pixels."""
    positive = transmission > 0.0
    flags[~positive & ~lost] |= flag.NOT_POSITIVE
    return np.where(positive, transmission, np.float32(np.nan))


def phase_of_transmission(transmission: Image, delta_over_beta: float) -> Image:
    """Return the phase of a single material in rad, φ = (γ/2) ln T."""
    phase: Image = np.log(transmission)
    phase *= np.float32(0.5 * delta_over_beta)
    return phase
