"""Reconstruct slices from projections: sinograms, rotation centre, and existing engines.

Needs the extra `xmist[tomography]`: algotom (FBP), and astra-toolbox (iterative algorithms).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xmist.tomography.centre import Centre, find_centre
    from xmist.tomography.options import TomographyOptions
    from xmist.tomography.sinograms import angular_weights, line_integrals, suppress_rings
    from xmist.tomography.slices import reconstruct, reconstruct_refraction
    from xmist.tomography.tensors import export_mumott

_HOME = {
    "Centre": "centre",
    "TomographyOptions": "options",
    "angular_weights": "sinograms",
    "export_mumott": "tensors",
    "find_centre": "centre",
    "line_integrals": "sinograms",
    "reconstruct": "slices",
    "reconstruct_refraction": "slices",
    "suppress_rings": "sinograms",
}

__all__ = [
    "Centre",
    "TomographyOptions",
    "angular_weights",
    "export_mumott",
    "find_centre",
    "line_integrals",
    "reconstruct",
    "reconstruct_refraction",
    "suppress_rings",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"xmist.tomography.{_HOME[name]}"), name)
    raise AttributeError(f"module 'xmist.tomography' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
