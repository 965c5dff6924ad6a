"""From raw frames to frames that a method can use.

Each step is a function on arrays that modifies nothing. A scan file lists the steps by name, and
`apply_steps` carries them out on `Frames` in order; each leaves a note in words of what it did. A pixel
without information gets weight 0 and keeps its value: nothing is interpolated.
"""

from __future__ import annotations

from xmist.preprocess.bad_pixels import find_bad_pixels
from xmist.preprocess.detector import divide_flat, subtract_dark
from xmist.preprocess.drift import correct_drift, measure_drift
from xmist.preprocess.flux import normalise_flux
from xmist.preprocess.frames import Frames
from xmist.preprocess.regions import bin_frames, crop
from xmist.preprocess.steps import STEPS, Step, apply_steps, make_step_options
from xmist.preprocess.unlit import find_unlit

__all__ = [
    "STEPS",
    "Frames",
    "Step",
    "apply_steps",
    "bin_frames",
    "correct_drift",
    "crop",
    "divide_flat",
    "find_bad_pixels",
    "find_unlit",
    "make_step_options",
    "measure_drift",
    "normalise_flux",
    "subtract_dark",
]
