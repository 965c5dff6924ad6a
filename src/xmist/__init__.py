"""xmist: transmission, phase and dark-field from X-ray speckle images.

Public names are imported when first used, so that `import xmist` stays fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from xmist.version import __version__

if TYPE_CHECKING:
    from xmist import flags, io, metrics, plotting, preprocess, report, simulate
    from xmist.comparison import Comparison, compare
    from xmist.data import CHANNELS, Retrieval, SpeckleStack
    from xmist.errors import InputError, OutputError, XmistError
    from xmist.experiment import Experiment
    from xmist.flags import FLAGS
    from xmist.io import open_result
    from xmist.methods import METHODS, prepare, retrieve
    from xmist.progress import progress_bars
    from xmist.scanning import scan
    from xmist.simulate.materials import Material

_HOME = {
    "CHANNELS": "xmist.data",
    "Comparison": "xmist.comparison",
    "compare": "xmist.comparison",
    "Retrieval": "xmist.data",
    "SpeckleStack": "xmist.data",
    "InputError": "xmist.errors",
    "OutputError": "xmist.errors",
    "XmistError": "xmist.errors",
    "Experiment": "xmist.experiment",
    "Material": "xmist.simulate.materials",
    "FLAGS": "xmist.flags",
    "open_result": "xmist.io",
    "METHODS": "xmist.methods",
    "prepare": "xmist.methods",
    "progress_bars": "xmist.progress",
    "retrieve": "xmist.methods",
    "scan": "xmist.scanning",
}
_MODULES = ("flags", "io", "metrics", "plotting", "preprocess", "report", "simulate")

__all__ = [
    "CHANNELS",
    "FLAGS",
    "METHODS",
    "Comparison",
    "Experiment",
    "InputError",
    "Material",
    "OutputError",
    "Retrieval",
    "SpeckleStack",
    "XmistError",
    "__version__",
    "compare",
    "flags",
    "io",
    "metrics",
    "open_result",
    "plotting",
    "prepare",
    "preprocess",
    "progress_bars",
    "report",
    "retrieve",
    "scan",
    "simulate",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    if name in _MODULES:
        return import_module(f"xmist.{name}")
    raise AttributeError(f"module 'xmist' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
