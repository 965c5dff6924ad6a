"""Sinograms: line integrals of the three quantities, weights of angles, ring suppression."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xmist.core.arrays import Image
from xmist.core.experiment import Experiment
from xmist.io.results.nxtomo import INTEGRALS
from xmist.tomography.engines import need

Real = NDArray[Any]


def line_integrals(channel: str, images: Image, experiment: Experiment) -> Image:
    """Return the line integrals of projections.

    Parameters
    ----------
    channel : {"phase", "transmission", "dark_field"}
        Image channel.
    images : (projection, y, x) float32 array
        Projections in rad, 1 or m.
    experiment : Experiment
        Geometry.

    Returns
    -------
    (projection, y, x) float32 array
        ∫δ dz = −φ/k in m, ∫μ dz = −ln T, or ∫ε dz = 2D/∆ in rad², ε = ⟨θ²⟩ per axis and metre. Variances of
        the angle add along a ray, and at the distance ∆ they blur speckles by 2∆D = ∆² ∫ε dz.

    Examples
    --------
    >>> experiment = xmist.Experiment(energy_kev=17.0, pixel_size=5.8e-6, sample_to_detector=1.0)
    >>> float(line_integrals("dark_field", np.full((1, 2, 2), 1e-12, np.float32), experiment).mean())
    1.9999999...e-12
    """
    return np.asarray(INTEGRALS[channel].of(images, experiment), np.float32)


def angular_weights(angles: ArrayLike) -> NDArray[np.float64]:
    """Return the share of the half circle that each projection stands for.

    Parameters
    ----------
    angles : (projection,) array_like
        Angles in degrees, in any order; they may span 180° or 360°, and some may be missing.

    Returns
    -------
    (projection,) float64 array
        Half the distance to both neighbours modulo 180° in rad, shared by opposite projections. The sum is π.

    Examples
    --------
    >>> angular_weights([0, 60, 120]).round(4)
    array([1.0472, 1.0472, 1.0472])
    """
    folded = np.mod(np.asarray(angles, np.float64), 180.0)
    # Angles that differ by rounding alone are one direction.
    folded[folded > 180.0 - 1e-6] = 0.0
    directions, inverse, counts = np.unique(np.round(folded, 6), return_inverse=True, return_counts=True)
    if directions.size == 1:
        return np.full(folded.size, np.pi / folded.size)
    gaps = np.diff(directions, append=directions[0] + 180.0)
    share = 0.5 * (gaps + np.roll(gaps, 1))
    return np.deg2rad(share / counts)[inverse]


def is_half(degrees: Real, centre: float, width: int, acquisition: str) -> bool:
    """Return whether (projection,) angles and the axis are those of a half acquisition."""
    if acquisition != "auto":
        return acquisition == "half"
    turned = np.sort(np.mod(degrees, 360.0))
    gaps = np.diff(turned, append=turned[0] + 360.0)
    around = turned.size > 3 and gaps.max() < 60.0
    return bool(around and abs(centre - 0.5 * (width - 1)) > 0.05 * width)


def sides(width: int, centre: float) -> tuple[int, int]:
    """Return the columns to add on the left and on the right, so that the axis comes to the middle."""
    more = round(abs(width - 1 - 2.0 * centre))
    return (more, 0) if centre < 0.5 * (width - 1) else (0, more)


def overlap_weights(width: int, centre: float) -> Image:
    """Return weights (x,) of rays of a half acquisition, so that those of two opposite rays have the sum 2.

    Both sides of the axis see the rays up to its nearer border; there the weight falls smoothly to 0.
    """
    u = np.arange(width) - centre
    near = min(centre, width - 1 - centre) + 0.5
    outwards = u if centre < 0.5 * (width - 1) else -u
    phase = np.clip(outwards / max(near, 0.5), -1.0, 1.0)
    return np.asarray(1.0 + np.sin(0.5 * np.pi * phase), np.float32)


def suppress_rings(sinograms: Image, strength: str) -> Image:
    """Return sinograms without stripes, which become rings in slices.

    Parameters
    ----------
    sinograms : (projection, slice, x) float32 array
        Line integrals.
    strength : {"none", "small", "all"}
        "small" removes thin stripes by sorting, "all" also wide and dead ones (Vo et al. 2018, Opt. Express
        26 28396, doi:10.1364/OE.26.028396; algotom).

    Returns
    -------
    (projection, slice, x) float32 array
        Sinograms.

    Raises
    ------
    InputError
        If algotom is not installed.

    Examples
    --------
    >>> suppress_rings(np.ones((4, 1, 8), np.float32), "none").shape
    (4, 1, 8)
    """
    if strength == "none":
        return sinograms
    removal = need("algotom.prep.removal")
    # Windows in columns, wider than a stripe and narrower than the object.
    wide, narrow = (max(sinograms.shape[2] // part, least) | 1 for part, least in ((20, 11), (50, 5)))
    out = np.empty_like(sinograms)
    for number in range(sinograms.shape[1]):
        row = np.ascontiguousarray(sinograms[:, number])
        if strength == "small":
            out[:, number] = removal.remove_stripe_based_sorting(row, wide)
        else:
            out[:, number] = removal.remove_all_stripe(row, 3.0, wide, narrow)
    return out
