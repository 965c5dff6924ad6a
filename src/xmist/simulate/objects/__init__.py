"""Bodies with known projected thickness.

A body gives the length of its chord along the beam, z, at any point (x, y) of the sample's plane, exactly.
`thickness` averages it over the pixels: by midpoints of 8 × 8 parts in every pixel that an edge passes
through or comes near (good to about 0.5 % of the thickness there), by the value at the centre plus its
Laplacian/24 elsewhere, to fourth order. The averages of a long straight cylinder and of a slab are exact.
"""

from xmist.simulate.objects.base import Body, check_bodies
from xmist.simulate.objects.cylinder import Cylinder, Tube
from xmist.simulate.objects.ellipsoid import Ellipsoid, sphere
from xmist.simulate.objects.plates import Slab, ThicknessMap, Wedge

__all__ = [
    "Body",
    "Cylinder",
    "Ellipsoid",
    "Slab",
    "ThicknessMap",
    "Tube",
    "Wedge",
    "check_bodies",
    "sphere",
]
