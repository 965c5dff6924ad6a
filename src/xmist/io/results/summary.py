"""The content of a result file as plain data."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmist.core.arrays import statistics
from xmist.core.data import channel_of
from xmist.core.experiment import Experiment
from xmist.core.flags import count_flags
from xmist.io.results.nexus_reader import read_nexus, read_version


def describe_result(path: str | Path) -> dict[str, Any]:
    """Return what the file of a result holds; `xmist.io.describe` lists the keys."""
    path = Path(path)
    result = read_nexus(path)
    version, schema = read_version(path) or ("", 0)
    return {
        "kind": "result",
        "path": str(path),
        "bytes": path.stat().st_size,
        "method": result.method,
        "shape": list(result.shape),
        "channels": _summaries(result.channels()),
        "derived": _summaries(result.derived()),
        "diagnostics": {name: _statistics(array) for name, array in result.diagnostics.items()},
        "flags": count_flags(result.flags),
        "flagged": int(np.count_nonzero(result.flags)),
        "experiment": _geometry(result.experiment),
        "options": dict(result.options),
        "findings": [record.message for record in result.findings],
        "provenance": dict(result.provenance),
        "written_by": f"xmist {version}",
        "schema": schema,
    }


def _summaries(images: Iterable[tuple[str, NDArray[np.float32]]]) -> dict[str, Any]:
    return {name: {"unit": channel_of(name).unit, **_statistics(image)} for name, image in images}


def _statistics(array: NDArray[np.float32]) -> dict[str, float | int | None]:
    return {**statistics(array), "nan": int(np.count_nonzero(np.isnan(array)))}


def _geometry(experiment: Experiment) -> dict[str, Any]:
    derived = ("wavelength", "wavenumber", "magnification", "effective_pixel", "effective_distance")
    return experiment.to_dict() | {name: getattr(experiment, name) for name in derived}
