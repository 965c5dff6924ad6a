"""What a comparison says to programs: rows, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from xmist.core.version import __version__
from xmist.evaluate.comparison.runs import CHANNELS_COMPARED, Quality, Run
from xmist.io.results.plain import to_text

if TYPE_CHECKING:
    from xmist.evaluate.comparison.result import Comparison


def rows(found: Comparison) -> list[dict[str, Any]]:
    """Return one row a run."""
    table = []
    for run in found.runs:
        row: dict[str, Any] = {
            "method": run.method,
            "exposures": run.exposures,
            "reason": run.reason,
            "options": to_text("options", plain_options(run))[0],
            "prepare_seconds": run.prepare_seconds,
            "seconds": run.seconds,
            "memory_bytes": run.memory,
            "sensitivity_x_rad": None if run.sensitivity is None else run.sensitivity[0],
            "sensitivity_y_rad": None if run.sensitivity is None else run.sensitivity[1],
        }
        for channel in CHANNELS_COMPARED:
            quality = run.quality.get(channel, Quality())
            for item in fields(Quality):
                unit = "_m" if item.name == "resolution" else ""
                row[f"{channel}_{item.name}{unit}"] = getattr(quality, item.name)
        table.append(row)
    return table


def csv_text(found: Comparison) -> str:
    """Return the rows as CSV."""
    table = rows(found)
    file = io.StringIO()
    writer = csv.DictWriter(file, list(table[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return file.getvalue()


def json_text(found: Comparison) -> str:
    """Return everything but the pictures as JSON."""
    regions = found.regions
    data = {
        "xmist_version": __version__,
        "experiment": found.experiment.to_dict(),
        "shape": list(found.shape),
        "about": json.loads(to_text("about", dict(found.about))[0]),
        "notes": list(found.notes),
        "regions": {
            name: {"about": regions.about[name], "boxes": regions.boxes[name]} for name in regions.about
        },
        "truth": sorted(found.truth),
        "runs": [
            {
                "method": run.method,
                "exposures": run.exposures,
                "options": json.loads(to_text("options", plain_options(run))[0]),
                "reason": run.reason,
                "prepare_seconds": run.prepare_seconds,
                "seconds": run.seconds,
                "memory_bytes": run.memory,
                "sensitivity_rad": run.sensitivity,
                "quality": {name: asdict(quality) for name, quality in run.quality.items()},
                "findings": [] if run.result is None else [record.message for record in run.result.findings],
                "remarks": list(run.remarks),
            }
            for run in found.runs
        ],
        "agreement": {
            "labels": [run.label for run in found.done],
            **{
                channel: [
                    [None if math.isnan(value) else value for value in line] for line in matrix.tolist()
                ]
                for channel, matrix in found.agreement.items()
            },
        },
    }
    return json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def plain_options(run: Run) -> dict[str, Any]:
    """Return the options as plain data: those of the result where there is one, for what was given."""
    used = {} if run.result is None else run.result.options
    plain = (bool, int, float, str, list, tuple, dict)
    return {
        name: used.get(name, value if value is None or isinstance(value, plain) else type(value).__name__)
        for name, value in run.options.items()
    }
