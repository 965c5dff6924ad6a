"""xmist: transmission, phase and dark-field from X-ray speckle images.

Public names are imported when first used, so that `import xmist` stays fast.
"""

from __future__ import annotations

from xmist.core.hooks import register
from xmist.core.lazy import lazy_names
from xmist.core.version import __version__

TYPE_CHECKING = False  # as in typing, whose import would take longer than all of this one
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
    from xmist.workflow.quality import Run
    from xmist.workflow.run import run
    from xmist.workflow.simulation import write_simulation
    from xmist.workflow.volumes import write_volumes

__getattr__ = lazy_names(
    __name__,
    {
        "core.data": "CHANNELS Retrieval SampleScan SpeckleStack",
        "core.errors": "InputError OutputError XmistError",
        "core.experiment": "Experiment",
        "core.findings": "Finding",
        "core.flags": "FLAGS count_flags",
        "core.materials": "Material",
        "core.progress": "progress_bars",
        "evaluate.comparison": "Comparison compare",
        "io.results.nxtomo": "export_tomography",
        "io.results.volumes": "Volumes open_volumes",
        "methods": "METHODS prepare retrieve",
        "tomography.options": "VolumeOptions",
        "workflow.quality": "Run",
        "workflow.run": "run",
        "workflow.simulation": "write_simulation",
        "workflow.volumes": "write_volumes",
        **dict.fromkeys(("evaluate", "preprocess", "simulate", "tomography", "view"), ""),
        "io": "io open_result",
    },
)[0]
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


def __dir__() -> list[str]:
    return sorted(__all__)
