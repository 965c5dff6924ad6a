"""Speckle experiments with a known truth: the experiment as a wave, from the diffuser to the detector.

`acquire` simulates one; `phantom` and the presets are ready-made ones.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "acquire": "acquisition",
    "currant": "presets",
    "fibres": "presets",
    "low_dose": "presets",
    "spheres": "presets",
    "tubes": "presets",
    "phantom": "phantoms",
    "ct": "presets",
    "ProjectionSeries": "series",
    "Volume": "series",
    "acquire_series": "series",
    "RECIPES": "presets",
    "find_recipe": "presets",
    "Recipe": "recipes",
    "berry": "composites",
    "tube_stack": "composites",
    "Tube": "objects",
    "Simulation": "truth",
    "Truth": "truth",
    "Part": "sample",
    "Scatter": "sample",
    "Screen": "microstructure",
    "Grid": "grid",
    "Cylinder": "objects",
    "Ellipsoid": "objects",
    "Slab": "objects",
    "ThicknessMap": "objects",
    "Wedge": "objects",
    "sphere": "objects",
    "Detector": "detector",
    "Spectrum": "beam",
    "draw_dead_pixels": "detector",
    "Checkerboard": "diffusers",
    "HoleGrid": "diffusers",
    "RandomScreen": "diffusers",
    "Sandpaper": "diffusers",
    "independent_positions": "diffusers",
    "random_positions": "diffusers",
    "raster_positions": "diffusers",
    "angular_spectrum": "propagation",
    "fresnel": "propagation",
    "check_sampling": "sampling",
    "transported": "model",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"xmist.simulate.{_HOME[name]}"), name)
    raise AttributeError(f"module 'xmist.simulate' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
