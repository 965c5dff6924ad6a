"""The measured carbon tubes: frames, geometry, and boxes fixed on the ratio of sample to reference alone.

The frames are no part of the repository: `XMIST_REAL_FRAMES` names their folder, or else the sibling folder
shared/real is used.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import scipy.ndimage as ndi
from numpy.typing import NDArray

import xmist
from xmist.io.frames.frames import open_frames
from xmist.io.frames.loading import load_frames
from xmist.preprocess import Frames, apply_steps

Mask = NDArray[np.bool_]

# From the EDF headers: 0.8 m to the detector, Magnification 2.4545 and a pixel of 75 µm on the detector.
EXPERIMENT = xmist.Experiment(
    energy_kev=8.04, pixel_size=75e-6, sample_to_detector=0.8, source_to_sample=0.55
)
STEPS = (("bad-pixels", {}), ("unlit", {}), ("flux", {}))

DIFFUSERS = ("random", "hexagonal")
NAMES = tuple(f"{diffuser}_{role}.edf" for diffuser in DIFFUSERS for role in ("reference", "sample"))

# Tubes: two points (x, y) on the axis and half the width, in pixels. Bare beam: rows and columns.
TUBES = {
    "upright": ((421.5, 200.0), (421.5, 400.0), 12.0),
    "steep": ((289.5, 280.0), (361.5, 400.0), 12.0),
    "shallow": ((150.0, 345.0), (310.0, 452.0), 12.0),
    "level": ((80.0, 507.0), (240.0, 507.0), 3.0),
}
BARE = ((300, 480, 455, 505), (200, 240, 320, 390), (290, 335, 180, 245), (400, 490, 80, 180))


def real_frames() -> Path:
    """Return the folder of the measured frames."""
    return Path(os.environ.get("XMIST_REAL_FRAMES") or Path(__file__).parents[2] / "shared" / "real")


def raw(folder: Path) -> Frames:
    """Return the frames as measured: position 0 the random diffuser, position 1 the hexagonal one."""

    def read(role: str) -> NDArray[np.float32]:
        files = [str(folder / f"{diffuser}_{role}.edf") for diffuser in DIFFUSERS]
        return load_frames(open_frames(files, name=role, position_key=())).frames

    return Frames(read("reference"), read("sample"))


def prepared(folder: Path) -> Frames:
    """Return the frames after `STEPS`."""
    return apply_steps(raw(folder), STEPS)


def tube(name: str, shape: tuple[int, int]) -> Mask:
    """Return the pixels of a tube's box, a rectangle along its axis."""
    start, end, half = (np.asarray(value) for value in TUBES[name])
    y, x = np.mgrid[: shape[0], : shape[1]]
    along = (end - start) / np.hypot(*(end - start))
    position = (x - start[0]) * along[0] + (y - start[1]) * along[1]
    across = (y - start[1]) * along[0] - (x - start[0]) * along[1]
    return (position >= 0) & (position <= np.hypot(*(end - start))) & (np.abs(across) <= half)


def bare(shape: tuple[int, int]) -> Mask:
    """Return the pixels of the boxes of bare beam."""
    mask = np.zeros(shape, bool)
    for top, bottom, left, right in BARE:
        mask[top:bottom, left:right] = True
    return mask


def smoothed_ratio(frames: Frames, sigma: float = 3.0) -> NDArray[np.float64]:
    """Return sample over reference, summed over positions and smoothed by a Gaussian; NaN in the dark."""
    used = (frames.weights > 0).all(axis=0)
    sample, reference = (
        ndi.gaussian_filter(np.where(used, image.sum(axis=0, dtype=np.float64), 0.0), sigma)
        for image in (frames.sample, frames.reference)
    )
    return np.where(used, sample / np.where(reference > 0, reference, 1.0), np.nan)
