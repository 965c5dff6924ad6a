"""The tables of a benchmark, and their files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from xmist.core.errors import raise_errors
from xmist.io.results.atomic import target_faults, write_file

CHANNELS: Final = ("phase", "dark_field", "transmission")


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """How close a method comes to the truth of a phantom.

    Parameters
    ----------
    method : str
        The method.
    case : str
        The phantom.
    exposures : int
        Number N of exposures.
    scores : mapping
        By channel the correlation with the truth, and the rms of the error over that of the truth; φ without
        its mean. Of the transmission the error is that of T itself.
    reason : str
        Why there are none; else empty.
    """

    method: str
    case: str
    exposures: int
    scores: Mapping[str, tuple[float, float]]
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Speed:
    """What a method takes.

    Parameters
    ----------
    method : str
        The method.
    size : int
        Pixels along a side.
    exposures : int
        Number N of exposures.
    prepare_seconds, seconds : float
        Best times of the preparation and of a projection, kernels compiled.
    memory : float
        Peak in bytes beyond the frames.
    """

    method: str
    size: int
    exposures: int
    prepare_seconds: float
    seconds: float
    memory: float


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Both tables, and where they come from.

    Parameters
    ----------
    accuracy : tuple of Accuracy
        One a method, phantom and N.
    speed : tuple of Speed
        One a method and size.
    provenance : mapping
        Version, date, machine, and what the tables were asked for.
    """

    accuracy: tuple[Accuracy, ...]
    speed: tuple[Speed, ...]
    provenance: Mapping[str, Any]

    def __str__(self) -> str:
        """Return the tables in Markdown."""
        facts = ", ".join(f"{name} {value}" for name, value in self.provenance.items())
        lines = ["# xmist benchmark", "", facts, ""]
        if self.accuracy:
            lines += [
                "Correlation (error over the rms of the truth; φ without its mean), over the whole image.",
                "",
                *_table(["phantom", "method", "N", "φ", "D", "T"], map(_accuracy_cells, self.accuracy)),
                "",
            ]
        if self.speed:
            lines += [
                "Best times with kernels compiled; memory beyond the frames.",
                "",
                *_table(
                    ["method", "size", "N", "prepare s", "projection s", "GB"], map(_speed_cells, self.speed)
                ),
                "",
            ]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        return asdict(self)


def save_benchmark(found: Benchmark, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write the tables; the ending decides the format.

    Parameters
    ----------
    found : Benchmark
        The tables.
    path : str or Path
        `.md`: tables for people. `.json`: plain data.
    overwrite : bool
        Replace a file that stands there already.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        For another ending, or if the file cannot be written there.
    OutputError
        When writing failed.

    Examples
    --------
    >>> save_benchmark(Benchmark(accuracy=(), speed=(), provenance={}), "benchmark.md").name
    'benchmark.md'
    """
    raise_errors(result_faults(path, overwrite=overwrite))
    text = (
        str(found)
        if Path(path).suffix.lower() == ".md"
        else json.dumps(found.to_dict(), indent=2, ensure_ascii=False) + "\n"
    )

    def write(file: BinaryIO) -> None:
        file.write(text.encode())

    return write_file(path, write, overwrite=overwrite)


def result_faults(path: str | Path, *, overwrite: bool = False) -> list[str]:
    """Return the errors that keep the tables from being written."""
    ending = Path(path).suffix.lower()
    if ending not in (".md", ".json"):
        return [f"{path} ends in '{ending}'; expected .md (tables) or .json (data)"]
    return target_faults(path, overwrite=overwrite)


def _accuracy_cells(row: Accuracy) -> list[str]:
    cells = [row.case, row.method, str(row.exposures)]
    if row.reason:
        return [*cells, row.reason, "", ""]
    shown = (row.scores.get(name) for name in CHANNELS)
    return [*cells, *(f"{item[0]:.4f} ({item[1]:.3g})" if item else "–" for item in shown)]


def _speed_cells(row: Speed) -> list[str]:
    times = (f"{seconds:.3g}" for seconds in (row.prepare_seconds, row.seconds))
    return [row.method, f"{row.size} × {row.size}", str(row.exposures), *times, f"{row.memory / 1e9:.2f}"]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]
