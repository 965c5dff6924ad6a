"""Sinograms of a phantom of ellipses, computed without the package."""

from importlib.util import find_spec

import numpy as np
import pytest

WIDTH, ANGLES = 96, 151
THETA = np.arange(ANGLES) * 180.0 / ANGLES
# x, z of the middle, semi-axes, angle of the first axis in rad, value
ELLIPSES = ((0, 0, 34, 29, 0, 1.0), (11, -6, 8, 5, 0.5, 0.6), (-13, 9, 6, 6, 0, -0.5))


def sinogram(theta, centre):
    """Line integrals (projection, x) in pixels, each pixel the mean of 8 rays."""
    t = np.deg2rad(theta)[:, None]
    out = np.zeros((len(theta), WIDTH))
    for part in (np.arange(8) - 3.5) / 8:
        s = np.arange(WIDTH) + part - centre
        for x, z, a, b, turn, value in ELLIPSES:
            width2 = (a * np.cos(t + turn)) ** 2 + (b * np.sin(t + turn)) ** 2
            away = s - (x * np.cos(t) - z * np.sin(t))
            out += value * 2 * a * b * np.sqrt(np.clip(width2 - away**2, 0, None)) / width2 / 8
    return out


def phantom():
    """The slice (z, x), each pixel the mean of 4 × 4 points."""
    z, x = np.indices((WIDTH, WIDTH)) - 0.5 * (WIDTH - 1)
    out = np.zeros((WIDTH, WIDTH))
    for i in (np.arange(4) - 1.5) / 4:
        for j in (np.arange(4) - 1.5) / 4:
            for x0, z0, a, b, turn, value in ELLIPSES:
                u = (x + i - x0) * np.cos(turn) + (z + j - z0) * np.sin(turn)
                v = -(x + i - x0) * np.sin(turn) + (z + j - z0) * np.cos(turn)
                out += value * ((u / a) ** 2 + (v / b) ** 2 <= 1) / 16
    return out


NEEDS_ASTRA = pytest.mark.skipif(find_spec("astra") is None, reason="astra-toolbox has no wheel for macOS")
TRUTH = phantom()
FLAT = np.s_[44:52, 42:50]  # inside, far from edges
INSIDE = TRUTH > 0.3
