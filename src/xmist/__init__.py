"""xmist: transmission, phase and dark-field from X-ray speckle images.

Public names are imported when first used, so that `import xmist` stays fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from xmist.core.hooks import register
from xmist.core.version import __version__

if TYPE_CHECKING:
    from xmist import evaluate, io, preprocess, simulate, tomography, view
    from xmist.core.data import CHANNELS, Retrieval, SampleScan, SpeckleStack
    from xmist.core.errors import InputError, OutputError, XmistError
    from xmist.core.experiment import Experiment
    from xmist.core.findings import Finding
    from xmist.core.flags import FLAGS, count_flags
    from xmist.core.materials import Material
    from xmist.core.progress import progress_bars
    from xmist.evaluate.comparison import Comparison, compare
    from xmist.io import open_result
    from xmist.io.results.nxtomo import export_tomography
    from xmist.io.results.volumes import Volumes, open_volumes
    from xmist.methods import METHODS, prepare, retrieve
    from xmist.tomography.options import VolumeOptions
    from xmist.workflow.run import Run, run
    from xmist.workflow.simulation import write_simulation
    from xmist.workflow.volumes import write_volumes

_HOME = {
    "CHANNELS": "xmist.core.data",
    "Comparison": "xmist.evaluate.comparison",
    "compare": "xmist.evaluate.comparison",
    "Retrieval": "xmist.core.data",
    "SampleScan": "xmist.core.data",
    "SpeckleStack": "xmist.core.data",
    "InputError": "xmist.core.errors",
    "OutputError": "xmist.core.errors",
    "XmistError": "xmist.core.errors",
    "Experiment": "xmist.core.experiment",
    "Finding": "xmist.core.findings",
    "Material": "xmist.core.materials",
    "FLAGS": "xmist.core.flags",
    "count_flags": "xmist.core.flags",
    "open_result": "xmist.io",
    "METHODS": "xmist.methods",
    "prepare": "xmist.methods",
    "progress_bars": "xmist.core.progress",
    "retrieve": "xmist.methods",
    "run": "xmist.workflow.run",
    "Run": "xmist.workflow.run",
    "export_tomography": "xmist.io.results.nxtomo",
    "write_simulation": "xmist.workflow.simulation",
    "Volumes": "xmist.io.results.volumes",
    "VolumeOptions": "xmist.tomography.options",
    "open_volumes": "xmist.io.results.volumes",
    "write_volumes": "xmist.workflow.volumes",
}
for _hook in (
    ("save result", "xmist.io", "save_result"),
    ("save figure", "xmist.view.figures", "save_result_figure"),
    ("result html", "xmist.view.notebook", "result_html"),
    ("stack html", "xmist.view.notebook", "stack_html"),
    ("experiment html", "xmist.view.notebook", "experiment_html"),
    ("comparison figure", "xmist.view.figures.comparisons", "channel_figure"),
    ("comparison figures", "xmist.view.figures.comparisons", "comparison_figures"),
    ("figure job", "xmist.view.figures", "figure_job"),
):
    register(*_hook)

_MODULES = ("evaluate", "io", "preprocess", "simulate", "tomography", "view")

__all__ = [
    "CHANNELS",
    "FLAGS",
    "METHODS",
    "Comparison",
    "Experiment",
    "Finding",
    "InputError",
    "Material",
    "OutputError",
    "Retrieval",
    "Run",
    "SampleScan",
    "SpeckleStack",
    "VolumeOptions",
    "Volumes",
    "XmistError",
    "__version__",
    "compare",
    "count_flags",
    "evaluate",
    "export_tomography",
    "io",
    "open_result",
    "open_volumes",
    "prepare",
    "preprocess",
    "progress_bars",
    "retrieve",
    "run",
    "simulate",
    "tomography",
    "view",
    "write_simulation",
    "write_volumes",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    if name in _MODULES:
        return import_module(f"xmist.{name}")
    raise AttributeError(f"module 'xmist' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
