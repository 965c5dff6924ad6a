"""Counts of a sample that dims and blurs."""

import numpy as np
import scipy.ndimage as ndi

from tests.manufactured import blob, speckle

SHAPE = (48, 48)


def noisy_pair(number=4):
    """Counts of a sample that dims by 10 % and blurs."""
    random = np.random.default_rng(3)
    reference = 1000 * speckle(random, number, SHAPE, 1.7)
    sample = (1 - 0.1 * blob(SHAPE, 0.5, 0.5, 0.2)) * np.stack(
        [ndi.gaussian_filter(f, 0.4) for f in reference]
    )
    return tuple(random.poisson(frames).astype(np.float32) for frames in (reference, sample))
