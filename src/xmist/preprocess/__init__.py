"""Preprocess raw frames for the methods.

Each step is a function on arrays that does not modify them. A configuration file lists the steps by name, and
`apply_steps` runs them on `Frames` in order; each adds an entry to the history. A pixel without information
gets weight 0 and keeps its value: nothing is interpolated.
"""

from __future__ import annotations

from xmist.preprocess.bad_pixels import find_bad_pixels
from xmist.preprocess.bin import bin_frames
from xmist.preprocess.crop import crop
from xmist.preprocess.dark import subtract_dark
from xmist.preprocess.drift import correct_drift, measure_drift
from xmist.preprocess.flat import divide_flat
from xmist.preprocess.flux import normalise_flux
from xmist.preprocess.frames import Frames
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
