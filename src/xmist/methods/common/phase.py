"""What the methods that end in a phase share: from curvature or transmission to φ and its gradient."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from xmist.core import flags as flag
from xmist.core.arrays import Image
from xmist.core.experiment import Experiment
from xmist.numerics.images.fill import fill
from xmist.numerics.operators.stencils import gradient
from xmist.numerics.solvers.poisson import inverse_laplacian, screened


def phase_of_curvature(
    curvature: Image,
    experiment: Experiment,
    *,
    lost: NDArray[np.bool_],
    epsilon: float | None,
    threads: int | None,
) -> Image:
    """Give the φ of mean 0 whose ψ = ∆φ/(k p²) has the Laplacian ∇²ψ.

    Parameters
    ----------
    curvature : (y, x) float32 array
        ∇²ψ in pixel units; overwritten.
    experiment : Experiment
        Geometry.
    lost : (y, x) bool array
        Pixels that nothing determined: they count as bare beam, and become NaN.
    epsilon : float or None
        ε in rad per pixel: −κ²/(κ⁴ + ε⁴) serves as the inverse Laplacian, spectral symbol; None inverts the
        five-point Laplacian exactly.
    threads : int or None
        Threads.

    Returns
    -------
    (y, x) float32 array
        Phase in rad.
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


def epsilon_of(cutoff_length: float | None, experiment: Experiment) -> float | None:
    """Give the ε of the inverse Laplacian −κ²/(κ⁴ + ε⁴), 2π/L, in rad per pixel.

    Parameters
    ----------
    cutoff_length : float or None
        L in metres in the sample's plane; None for the plain inverse.
    experiment : Experiment
        Geometry.
    """
    return None if cutoff_length is None else 2.0 * math.pi * experiment.effective_pixel / cutoff_length


def centre(phase: Image, lost: NDArray[np.bool_]) -> None:
    """Shift a phase to mean 0 over the pixels that are not lost, in place; the lost become NaN.

    Parameters
    ----------
    phase : (y, x) float32 array
        Phase.
    lost : (y, x) bool array
        Pixels that nothing determined.
    """
    any_lost = bool(lost.any())
    if lost.all():
        phase[...] = np.nan
        return
    mean = phase.mean(dtype=np.float64, where=~lost if any_lost else np.True_)
    phase -= np.float32(mean)
    if any_lost:
        phase[lost] = np.nan


def refraction_of(phase: Image, experiment: Experiment, *, threads: int | None) -> Image:
    """Give the refraction angle ∇φ/k.

    Parameters
    ----------
    phase : (y, x) float32 array
        Phase in rad; NaN where it has no value, and there alone the angle has none either.
    experiment : Experiment
        Geometry.
    threads : int or None
        Threads.

    Returns
    -------
    (2, y, x) float32 array
        Angle along x and y in rad.
    """
    scale = 1.0 / (experiment.wavenumber * experiment.effective_pixel)
    known = np.isfinite(phase)
    if known.all():
        angle: Image = gradient(phase, scale=scale, threads=threads)
        return angle
    # The neighbours of a pixel without a value have one: they are given a number to differentiate with.
    angle = gradient(fill(phase, known, smooth=True, threads=threads), scale=scale, threads=threads)
    angle[:, ~known] = np.nan
    return angle


def screening_length2(experiment: Experiment, delta_over_beta: float) -> float:
    """Give γ∆/(2k) in pixels², the ℓ² of (1 − ℓ²∇²) T for a single material.

    Parameters
    ----------
    experiment : Experiment
        Geometry.
    delta_over_beta : float
        γ = δ/β.
    """
    k, p = experiment.wavenumber, experiment.effective_pixel
    return delta_over_beta * experiment.effective_distance / (2.0 * k * p**2)


def single_material(
    contrast: Image, lost: NDArray[np.bool_], *, length2: float, threads: int | None
) -> Image:
    """Solve (1 − ℓ²∇²) T = Q for what differs from bare beam, so that nothing gives exactly T = 1.

    Parameters
    ----------
    contrast : (y, x) float32 array
        1 − Q. Modified where pixels are lost.
    lost : (y, x) bool array
        Pixels that nothing determined: they count as bare beam, and become NaN.
    length2 : float
        ℓ² in pixels².
    threads : int or None
        Threads.

    Returns
    -------
    (y, x) float32 array
        T.
    """
    contrast[lost] = 0.0
    transmission: Image = screened(contrast, length2, threads=threads)
    np.subtract(1.0, transmission, out=transmission)
    transmission[lost] = np.nan
    return transmission


def above_zero(transmission: Image, lost: NDArray[np.bool_], flags: NDArray[np.uint16]) -> Image:
    """Give a transmission to divide by and to take the logarithm of.

    Parameters
    ----------
    transmission : (y, x) float32 array
        T.
    lost : (y, x) bool array
        Pixels that nothing determined.
    flags : (y, x) uint16 array
        Gets `NOT_POSITIVE` where T is not above 0, but for the lost pixels.

    Returns
    -------
    (y, x) float32 array
        T; NaN where it is not above 0.
    """
    positive = transmission > 0.0
    flags[~positive & ~lost] |= flag.NOT_POSITIVE
    return np.where(positive, transmission, np.float32(np.nan))


def phase_of_transmission(transmission: Image, delta_over_beta: float) -> Image:
    """Give the phase of a single material, φ = (γ/2) ln T.

    Parameters
    ----------
    transmission : (y, x) float32 array
        T above 0, or NaN.
    delta_over_beta : float
        γ = δ/β.

    Returns
    -------
    (y, x) float32 array
        Phase in rad.
    """
    phase: Image = np.log(transmission)
    phase *= np.float32(0.5 * delta_over_beta)
    return phase
