"""Results to write and read, made of random numbers."""

import numpy as np

from xmist import CHANNELS, Experiment, Retrieval
from xmist.core.findings import finding
from xmist.core.flags import FILLED, UNDETERMINED

CONE = Experiment(energy_kev=17.3, pixel_size=5.8e-6, sample_to_detector=0.83, source_to_sample=2.7)


def make_result(shape=(12, 17), names=("phase", "dark_field"), *, seed=1, experiment=CONE, **parts):
    """Return a result with the named channels, some of its pixels NaN or extreme."""
    random = np.random.default_rng(seed)
    flags = np.where(random.random(shape) < 0.1, FILLED, 0).astype(np.uint16)
    flags[0, -1] = UNDETERMINED
    images = {}
    for number, name in enumerate(names):
        components = CHANNELS[name].components
        image = random.normal(size=((len(components),) if components else ()) + shape).astype(np.float32)
        image *= np.float32(10.0) ** (-4 * number)
        image[..., 0, -1] = np.nan
        image[..., -1, 0] = [-0.0, 1e-45, 3.4e38, np.inf][number % 4]
        images[name] = image
    defaults = {
        "options": {"smoothing": 2.0, "unknowns": ("phase", "dark_field"), "seed": None},
        "findings": (finding("identical-frames", "sample and reference are alike"),),
        "provenance": {"positions": 2, "inputs": [{"name": "ref.edf", "sha256": "0" * 64}]},
    }
    return Retrieval(method="mist", experiment=experiment, flags=flags, **images, **(defaults | parts))
