"""Simulate speckle experiments with a known truth by wave optics, from the diffuser to the detector.

`acquire` simulates one; `phantom` and the presets are ready-made ones.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xmist.simulate.acquisition import acquire as acquire
    from xmist.simulate.beam import Spectrum as Spectrum
    from xmist.simulate.composites import berry as berry
    from xmist.simulate.composites import tube_stack as tube_stack
    from xmist.simulate.detector import Detector as Detector
    from xmist.simulate.detector import draw_dead_pixels as draw_dead_pixels
    from xmist.simulate.diffusers import Checkerboard as Checkerboard
    from xmist.simulate.diffusers import HoleGrid as HoleGrid
    from xmist.simulate.diffusers import RandomScreen as RandomScreen
    from xmist.simulate.diffusers import Sandpaper as Sandpaper
    from xmist.simulate.diffusers import independent_positions as independent_positions
    from xmist.simulate.diffusers import random_positions as random_positions
    from xmist.simulate.diffusers import raster_positions as raster_positions
    from xmist.simulate.grid import Grid as Grid
    from xmist.simulate.microstructure import Screen as Screen
    from xmist.simulate.model import transported as transported
    from xmist.simulate.objects import Cylinder as Cylinder
    from xmist.simulate.objects import Ellipsoid as Ellipsoid
    from xmist.simulate.objects import Slab as Slab
    from xmist.simulate.objects import ThicknessMap as ThicknessMap
    from xmist.simulate.objects import Tube as Tube
    from xmist.simulate.objects import Wedge as Wedge
    from xmist.simulate.objects import sphere as sphere
    from xmist.simulate.phantoms import phantom as phantom
    from xmist.simulate.presets import RECIPES as RECIPES
    from xmist.simulate.presets import ct as ct
    from xmist.simulate.presets import currant as currant
    from xmist.simulate.presets import fibres as fibres
    from xmist.simulate.presets import find_recipe as find_recipe
    from xmist.simulate.presets import low_dose as low_dose
    from xmist.simulate.presets import spheres as spheres
    from xmist.simulate.presets import tubes as tubes
    from xmist.simulate.propagation import angular_spectrum as angular_spectrum
    from xmist.simulate.propagation import fresnel as fresnel
    from xmist.simulate.recipes import Recipe as Recipe
    from xmist.simulate.sample import Part as Part
    from xmist.simulate.sample import Scatter as Scatter
    from xmist.simulate.sampling import check_sampling as check_sampling
    from xmist.simulate.series import ProjectionSeries as ProjectionSeries
    from xmist.simulate.series import Volume as Volume
    from xmist.simulate.series import acquire_series as acquire_series
    from xmist.simulate.truth import Simulation as Simulation
    from xmist.simulate.truth import Truth as Truth

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
