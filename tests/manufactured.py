"""Frames that satisfy a discrete equation, by code that shares nothing with the solvers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.ndimage as ndi
from numpy.typing import NDArray

import xmist

Real = NDArray[np.float64]

EXPERIMENT = xmist.Experiment(
    energy_kev=17.0, pixel_size=5.8e-6, sample_to_detector=1.0, source_to_sample=30.0
)
_SECOND = np.array([2, -27, 270, -490, 270, -27, 2]) / 180.0


def laplacian6(frame: Real) -> Real:
    """Sixth-order Laplacian, even mirror."""
    return sum(ndi.correlate1d(frame, _SECOND, axis=axis, mode="reflect") for axis in (0, 1))


def laplacian2(image: Real) -> Real:
    """Five-point Laplacian, even mirror."""
    return ndi.laplace(image, mode="reflect")


def speckle(rng: np.random.Generator, positions: int, shape: tuple[int, int], grain: float = 1.6) -> Real:
    """Positive random speckle of contrast 0.25; `grain` is the σ in pixels of the smoothing."""
    frames = np.stack([ndi.gaussian_filter(rng.normal(size=shape), grain) for _ in range(positions)])
    return np.exp(0.25 * frames / frames.std())


def blob(shape: tuple[int, int], y: float, x: float, radius: float) -> Real:
    """A smooth bump of height 1; centre and radius as parts of the image's size."""
    yy, xx = np.mgrid[: shape[0], : shape[1]]
    r2 = ((yy / shape[0] - y) ** 2 + (xx / shape[1] - x) ** 2) / radius**2
    return np.exp(-r2)


@dataclass(frozen=True)
class Case:
    """Frames with the φ (rad, mean 0) and D (m) that they satisfy the equation with."""

    reference: Real
    sample: Real
    phase: Real
    dark_field: Real
    experiment: xmist.Experiment


def phase_object(
    positions: int, shape: tuple[int, int] = (96, 128), seed: int = 0, strength: float = 1.0
) -> Case:
    """Frames of eq. (4): I_R − I_S = (∆/k) I_R ∇²φ − ∆ D ∇²I_R."""
    rng = np.random.default_rng(seed)
    reference = speckle(rng, positions, shape)
    # ψ of a few pixels² over a bump of tens of pixels refracts by about a tenth of a pixel.
    psi = -strength * (4.0 * blob(shape, 0.45, 0.4, 0.2) + 2.5 * blob(shape, 0.6, 0.65, 0.12))
    psi -= psi.mean()
    d = strength * (0.25 * blob(shape, 0.4, 0.55, 0.15) + 0.02)
    curvature = laplacian2(psi)
    sample = np.stack([r - r * curvature + d * laplacian6(r) for r in reference])
    return Case(reference, sample, *_physical(psi, d), EXPERIMENT)


def _physical(psi: Real, d: Real) -> tuple[Real, Real]:
    k, p, distance = EXPERIMENT.wavenumber, EXPERIMENT.effective_pixel, EXPERIMENT.effective_distance
    return psi * k * p**2 / distance, d * p**2 / distance
