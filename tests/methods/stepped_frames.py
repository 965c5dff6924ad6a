"""Frames of a sample that moves while the diffuser stays."""

import numpy as np
import scipy.ndimage as ndi

from tests.manufactured import speckle

SIDE = 56
_WIDE = speckle(np.random.default_rng(0), 3, (SIDE + 24, SIDE + 24), 1.7)
_SPLINES = [ndi.spline_filter(frame, order=5) for frame in _WIDE]
REFERENCES = _WIDE[:, 12:-12, 12:-12]
WHOLE = -np.array([(0, 0), (0, 30), (25, 0), (25, 30), (12, 15)])


def sample_maps(y, x):
    """Shift along x and y and transmission at sample coordinates in pixels."""
    shift = np.stack([0.8 * np.sin(y / 12) * np.cos(x / 14), 0.5 * np.cos(x / 13 + 1)])
    return shift, 1 - 0.2 * np.exp(-((y - 30) ** 2 + (x - 50) ** 2) / 18**2)


def frames_at(positions, reference=0, maps=sample_maps):
    """Frames of the sample at positions (y, x): it moves to +y, +x."""
    y, x = np.mgrid[:SIDE, :SIDE].astype(float)
    frames = []
    for n, (dy, dx) in enumerate(positions):
        shift, transmission = maps(y - dy, x - dx)
        at = [y - shift[1] + 12, x - shift[0] + 12]
        spline = _SPLINES[reference if np.isscalar(reference) else reference[n]]
        frames.append(transmission * ndi.map_coordinates(spline, at, order=5, prefilter=False))
    return np.stack(frames)
