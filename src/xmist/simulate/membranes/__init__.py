"""Membranes that put speckles in the beam, and their translation.

A membrane is a description of the plane. `transmission_functions` samples it where it stands at each
exposure: moved by the position s, its transmission function is t(r − s), exact for any part of a pixel. Its
phase φ (rad, negative for matter) is stated at a wavelength λ₀; at another it is φ λ/λ₀ (δ ∝ λ², far from an
absorption edge), and ln T = 2φ/γ, where γ = δ/β is given, scales by (λ/λ₀)³ (β ∝ λ⁴).
"""

from xmist.simulate.membranes.base import Membrane, transmission_functions
from xmist.simulate.membranes.periodic import Checkerboard, HoleGrid
from xmist.simulate.membranes.positions import independent_positions, random_positions, raster_positions
from xmist.simulate.membranes.random import RandomScreen, Sandpaper

__all__ = [
    "Checkerboard",
    "HoleGrid",
    "Membrane",
    "RandomScreen",
    "Sandpaper",
    "independent_positions",
    "random_positions",
    "raster_positions",
    "transmission_functions",
]
