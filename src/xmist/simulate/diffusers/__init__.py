"""Diffusers that put speckles in the beam, and their translation.

A diffuser is a description of the plane. `transmission_functions` samples it where it stands at each
frame: moved by the position s, its transmission function is t(r − s), exact for any part of a pixel. Its
phase φ (rad, negative for matter) is stated at a wavelength λ₀; at another it is φ λ/λ₀ (δ ∝ λ², far from an
absorption edge), and ln T = 2φ/γ, where γ = δ/β is given, scales by (λ/λ₀)³ (β ∝ λ⁴).
"""

from xmist.simulate.diffusers.base import Diffuser, transmission_functions
from xmist.simulate.diffusers.periodic import Checkerboard, HoleGrid
from xmist.simulate.diffusers.positions import independent_positions, random_positions, raster_positions
from xmist.simulate.diffusers.random import RandomScreen, Sandpaper

__all__ = [
    "Checkerboard",
    "Diffuser",
    "HoleGrid",
    "RandomScreen",
    "Sandpaper",
    "independent_positions",
    "random_positions",
    "raster_positions",
    "transmission_functions",
]
