"""Counts of a drop in bare beam, with a drift and a flux."""

import functools

import numpy as np

from tests.manufactured import EXPERIMENT, speckle
from tests.methods.window_frames import moved

SHAPE = (96, 104)
PHOTONS = 20000
SCALE = EXPERIMENT.wavenumber * EXPERIMENT.effective_pixel**2 / EXPERIMENT.effective_distance


def drop(size=20.0):
    """ψ in pixels² of a drop in the middle that ends at `size` pixels, smooth to its rim."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    r2 = ((y - 48) ** 2 + (x - 52) ** 2) / size**2
    return -8.0 * np.maximum(0.0, 1.0 - r2) ** 3


@functools.cache
def frames(sample=True, drift=0.0, flux=1.0, positions=4):
    """Counts of a drop, or of nothing, where speckles drift along x and the flux changes."""
    random = np.random.default_rng(5)
    reference = speckle(random, positions, SHAPE, 1.7)
    psi = drop() if sample else np.zeros(SHAPE)
    u = np.gradient(psi)[::-1]
    divergence = np.gradient(u[0], axis=1) + np.gradient(u[1], axis=0)
    transmission = 1.0 + 0.1 * psi / 8.0
    seen = flux * transmission * (1.0 - divergence) * moved(reference, u[0] + drift, u[1])
    return tuple(random.poisson(PHOTONS * images).astype(np.float32) for images in (reference, seen))
