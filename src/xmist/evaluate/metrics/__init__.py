"""How good a picture is: contrast, error, resolution, sensitivity; how good the speckle; where it scatters.

A pixel that is NaN in an image, or outside a mask, does not count; infinities in a picture are errors.
"""

from __future__ import annotations

from xmist.evaluate.metrics.pictures import angular_sensitivity, cnr, correlation, nrmse
from xmist.evaluate.metrics.resolution import FRC, fourier_ring_correlation
from xmist.evaluate.metrics.speckles import speckle_size, visibility
from xmist.numerics.images.tensors import anisotropy, direction

__all__ = [
    "FRC",
    "angular_sensitivity",
    "anisotropy",
    "cnr",
    "correlation",
    "direction",
    "fourier_ring_correlation",
    "nrmse",
    "speckle_size",
    "visibility",
]
