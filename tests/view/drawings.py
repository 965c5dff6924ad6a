"""Results to draw, and what a figure holds."""

import numpy as np

from xmist import CHANNELS, Experiment, Retrieval
from xmist.view import figures

EXPERIMENT = Experiment(energy_kev=17.0, pixel_size=6.5e-6, sample_to_detector=1.0)


def make_result(
    shape=(60, 80), names=("phase", "dark_field", "transmission"), *, seed=0, holes=True, **parts
):
    """Return a sphere in phase and transmission, a patch in the dark-field, noise, and a hole."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    distance = ((y - shape[0] / 2) ** 2 + (x - shape[1] / 2) ** 2) / (0.4 * min(shape)) ** 2
    thickness = np.sqrt(np.clip(1 - distance, 0, None))
    base = {
        "phase": -40 * thickness,
        "transmission": np.exp(-0.4 * thickness),
        "dark_field": 3e-11 * (distance < 0.3),
        "refraction_angle": 1e-6 * thickness,
        "dark_field_tensor": 3e-11 * thickness,
    }
    images = {}
    for name in names:
        mean = base.get(name, thickness)
        size = (len(CHANNELS[name].components), *shape) if CHANNELS[name].components else shape
        images[name] = mean + np.ptp(mean) * random.normal(0, 0.1, size)
    flags = np.zeros(shape, np.uint16)
    if holes:
        hole = (slice(shape[0] // 2, shape[0] // 2 + 4), slice(2, 6))
        flags[hole] = 32
        for image in images.values():
            image[(..., *hole)] = np.nan
    defaults = {"options": {"smoothing": 2.0, "cutoff_length": None}, "provenance": {"positions": 10}}
    return Retrieval(
        method="mist",
        experiment=parts.pop("experiment", EXPERIMENT),
        flags=flags,
        **images,
        **(defaults | parts),
    )


def figure(result, **style):
    """Draw a figure with everything that it can say."""
    return figures.figure(result, annotations=True, **style)


def image_axes(drawn):
    return [axes for axes in drawn.axes if not hasattr(axes, "_colorbar") and axes.get_label() != "legend"]


def pixels(drawn):
    drawn.canvas.draw()
    return np.asarray(drawn.canvas.buffer_rgba())[..., :3] / 255
