"""A disc that absorbs and scatters, before bare beam; cheap for every method."""

import numpy as np
import scipy.ndimage as ndi

import xmist
from tests.manufactured import EXPERIMENT, speckle

SHAPE = (60, 64)
RADIUS = 18.0
BLUR = 0.4  # pixels, σ of what the disc does to the speckles
ABSORBED = 0.1


def distance(shape=SHAPE):
    """Distance of each pixel from the disc's centre in pixels."""
    y, x = (np.arange(size) - (size - 1) / 2 for size in shape)
    return np.hypot(y[:, None], x)


def stack(positions=4, seed=0, noise=1e-3):
    """Frames of the disc."""
    rng = np.random.default_rng(seed)
    reference = speckle(rng, positions, SHAPE)
    # Blurred with reflecting borders, as every method's mirror has it.
    blurred = ndi.gaussian_filter(reference, (0, BLUR, BLUR), mode="reflect")
    within = ndi.gaussian_filter((distance() < RADIUS).astype(float), 1.0)
    sample = reference + within * ((1 - ABSORBED) * blurred - reference)
    reference, sample = (
        frames * (1 + noise * rng.normal(size=frames.shape)) for frames in (reference, sample)
    )
    return xmist.SpeckleStack(reference, sample)


def truth():
    """What is right: T, and D by σ² = 2∆D."""
    inside = distance() < RADIUS
    pixel, length = EXPERIMENT.effective_pixel, EXPERIMENT.effective_distance
    return {
        "transmission": np.where(inside, 1 - ABSORBED, 1.0),
        "dark_field": np.where(inside, (BLUR * pixel) ** 2 / (2 * length), 0.0),
    }
