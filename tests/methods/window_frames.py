"""Frames of a known phase and transmission for the methods that match windows."""

import numpy as np
import scipy.ndimage as ndi

import xmist
from tests.manufactured import EXPERIMENT, blob, speckle

SHAPE = (72, 84)
K, P, DISTANCE = EXPERIMENT.wavenumber, EXPERIMENT.effective_pixel, EXPERIMENT.effective_distance
INSIDE = (slice(12, -12),) * 2


def moved(frames, x, y):
    """Frames whose speckles move by u: S(r) = R(r − u)."""
    rows, columns = np.mgrid[: frames.shape[1], : frames.shape[2]]
    return np.stack(
        [ndi.map_coordinates(f, [rows - y, columns - x], order=5, mode="nearest") for f in frames]
    )


def scene(number=5, seed=0, shape=SHAPE):
    """Frames moved by u = (∆/k)∇φ of a smooth φ, dimmed by T."""
    reference = speckle(np.random.default_rng(seed), number, shape, 1.7)
    psi = -16.0 * blob(shape, 0.5, 0.45, 0.2)
    shift = np.gradient(psi)[::-1]
    transmission = 1 - 0.3 * blob(shape, 0.5, 0.5, 0.2)
    return reference, transmission * moved(reference, *shift), psi, np.array(shift), transmission


def retrieve(reference, sample, method="umpa", weights=None, threads=None, **options):
    stack = xmist.SpeckleStack(reference, sample, weights)
    return xmist.retrieve(stack, EXPERIMENT, method=method, threads=threads, **options)


def window_error(shift, size, number, grain=1.7):
    """Rms of u that a window leaves: it averages a varying u with weights |∇R|², of which it holds few.

    The variance of such a mean is that of u over the window times ⟨g⁴⟩/⟨g²⟩² = 3 over the number of patches
    as large as the speckle's autocorrelation, at least one a frame. 0.02 pixels are those of rigid shifts.
    """
    slope = np.sqrt(np.mean(np.sum(np.square(np.gradient(shift, axis=(1, 2))), axis=0)[:, *INSIDE]))
    patches = number * max(1.0, (size / (2.355 * np.sqrt(2) * grain)) ** 2)
    return 0.02 + np.sqrt(3 / patches * (size**2 - 1) / 12) * slope


def mean_error(transmission, size):
    """What the mean over a window differs by from its middle, σ²∇²T/2, and the 0.2 % of rigid shifts."""
    return 0.002 + (size**2 - 1) / 24 * np.abs(ndi.laplace(transmission)).max() / transmission.min()
