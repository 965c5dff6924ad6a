"""Simulate speckle experiments with a known truth by wave optics, from the diffuser to the detector.

`acquire` simulates one; `phantom` and the presets are ready-made ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xmist.core.lazy import lazy_names

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

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "acquisition": "acquire",
        "beam": "Spectrum",
        "composites": "berry tube_stack",
        "detector": "Detector draw_dead_pixels",
        "diffusers": (
            "Checkerboard HoleGrid RandomScreen Sandpaper independent_positions random_positions "
            "raster_positions"
        ),
        "grid": "Grid",
        "microstructure": "Screen",
        "model": "transported",
        "objects": "Cylinder Ellipsoid Slab ThicknessMap Tube Wedge sphere",
        "phantoms": "phantom",
        "presets": "RECIPES ct currant fibres find_recipe low_dose spheres tubes",
        "propagation": "angular_spectrum fresnel",
        "recipes": "Recipe",
        "sample": "Part Scatter",
        "sampling": "check_sampling",
        "series": "ProjectionSeries Volume acquire_series",
        "truth": "Simulation Truth",
    },
)
