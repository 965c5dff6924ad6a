"""The table of quality of a series, with one row per projection, its plot, and what a run returns."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xmist.core.data import Retrieval
from xmist.core.errors import InputError
from xmist.core.findings import Finding
from xmist.io import open_result
from xmist.io.results.atomic import write_file
from xmist.io.results.stacks import FAILED, GOOD, VALUELESS

_LONGEST_NOTE: Final = 1000


class FrameRecord(NamedTuple):
    """A frame that went into a result: its file and number there, size and time of change (ns), and hash.

    `file` is relative to the folder of the configuration where it is inside; `sha256` is that of the frame as
    it was loaded.
    """

    file: str
    frame: int
    size: int
    time: int
    sha256: str

    @property
    def state(self) -> tuple[str, int, int, int]:
        """File, number, size and modification time, which are known without loading the frame."""
        return self[:4]


@dataclass(frozen=True, kw_only=True)
class Row:
    """Quality of one projection; a number that is not known is NaN."""

    projection: int
    status: int
    angle: float = math.nan
    valueless: int = 0
    flagged: int = 0
    flux: float = math.nan
    drift_x: float = math.nan
    drift_y: float = math.nan
    misfit: float = math.nan
    iterations: float = math.nan
    converged: float = math.nan
    speckle_wavenumber: float = math.nan
    warnings: int = 0
    findings: tuple[Finding, ...] = ()
    note: str = ""
    frames: tuple[FrameRecord, ...] = ()  # in the order of reading
    start: str = ""  # what `digest` was of the projection whose result it began from
    provisional: bool = False  # the frames were read while more were being recorded

    @property
    def digest(self) -> str:
        """SHA-256 of every frame, in the order of reading."""
        return " ".join(frame.sha256 for frame in self.frames)

    @property
    def has_result(self) -> bool:
        """Whether there are images."""
        return self.status in (GOOD, VALUELESS)

    @property
    def was_tried(self) -> bool:
        """Whether all frames were there."""
        return self.status in (GOOD, VALUELESS, FAILED)

    def with_finding(self, record: Finding) -> Row:
        """Return the row with a finding added."""
        findings = (*self.findings, record)
        warnings = self.warnings + (record.severity == "warning")
        note = " ".join(filter(None, (self.note, str(record))))
        return replace(self, findings=findings, warnings=warnings, note=note)

    @property
    def needs_attention(self) -> bool:
        """Whether the status is not good, or a finding is a warning."""
        return self.status != GOOD or self.warnings > 0

    def texts(self) -> dict[str, Any]:
        """Return the entries that are not numbers, as plain data."""
        findings = [finding.to_dict() for finding in self.findings]
        return {
            "note": self.note[:_LONGEST_NOTE],
            "frames": self.frames,
            "start": self.start,
            "provisional": self.provisional,
            "findings": findings,
        }

    def __post_init__(self) -> None:
        # A message can quote what stands in a damaged header; HDF5 takes neither NUL nor half characters.
        plain = self.note.replace("\0", "\N{SYMBOL FOR NULL}").encode("utf-8", "replace").decode()
        object.__setattr__(self, "note", plain)


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """What a run did.

    Parameters
    ----------
    path : Path
        The first file that was written: the result, or the file that shows all projections of a series.
    files : tuple of Path
        Everything that was written for people: results, figures.
    rows : tuple of Row
        The table of quality, one row for each projection: its number, angle, status, flux, misfit…
    findings : tuple of Finding
        What was noticed about the frames, and about the result of a single projection.
    done_before : int
        Projections that an earlier run had done.
    problems : tuple of str
        Why blocks of a series were not written; the same command does what is missing.
    stopped : str
        The projection at which `strict` stopped; empty otherwise.
    result : Retrieval or None
        The result of a single projection.

    Examples
    --------
    >>> xmist.run("config.toml").open().phase.shape  # doctest: +SKIP
    (2048, 2048)
    """

    path: Path
    files: tuple[Path, ...]
    rows: tuple[Row, ...]
    findings: tuple[Finding, ...]
    done_before: int = 0
    problems: tuple[str, ...] = ()
    stopped: str = ""
    result: Retrieval | None = None

    @property
    def flagged(self) -> tuple[Row, ...]:
        """Rows of the projections that are not good."""
        return tuple(row for row in self.rows if row.status != GOOD)

    def open(self, projection: int | None = None) -> Retrieval:
        """Return the result of a projection.

        Parameters
        ----------
        projection : int, optional
            Its number; may be left out for a single projection.

        Returns
        -------
        Retrieval
            As it was written.

        Raises
        ------
        InputError
            If there is no such projection.

        Examples
        --------
        >>> xmist.run("series.toml").open(0).phase.shape  # doctest: +SKIP
        (2048, 2048)
        """
        if self.result is None:
            return open_result(self.path, projection=projection)
        if projection not in (None, self.rows[0].projection):
            raise InputError(
                f"there is no projection {projection!r}; the configuration describes a single projection",
                code="projection-missing",
            )
        return self.result


@dataclass(frozen=True)
class Column:
    """A column of the table."""

    dtype: str
    unit: str
    title: str


COLUMNS: Final[Mapping[str, Column]] = MappingProxyType(
    {
        "projection": Column("i8", "", "number of the projection"),
        "angle": Column("f8", "degrees", "angle"),
        "status": Column("u1", "", "status"),
        "valueless": Column("i8", "", "pixels without a value"),
        "flagged": Column("i8", "", "pixels with a flag"),
        "flux": Column("f8", "1", "mean of sample over reference frames"),
        "drift_x": Column("f8", "pixel", "drift along x"),
        "drift_y": Column("f8", "pixel", "drift along y"),
        "misfit": Column("f8", "1", "reduced χ², misfit over expected noise"),
        "iterations": Column("f8", "1", "iterations"),
        "converged": Column("f8", "1", "converged"),
        "speckle_wavenumber": Column("f8", "rad/m", "rms wavenumber of the speckles"),
        "warnings": Column("i8", "", "findings that are warnings"),
    }
)


def to_columns(rows: Sequence[Row]) -> dict[str, NDArray[Any]]:
    """Return rows as columns."""
    return {
        name: np.array([getattr(row, name) for row in rows], dtype=column.dtype)
        for name, column in COLUMNS.items()
    }


def to_rows(columns: Mapping[str, NDArray[Any]], texts: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Return rows from columns and the data of `Row.texts`."""
    return [
        Row(
            **{name: columns[name][k].item() for name in COLUMNS},
            note=given["note"],
            frames=tuple(FrameRecord(*frame) for frame in given["frames"]),
            start=given["start"],
            provisional=given["provisional"],
            findings=tuple(map(Finding.from_dict, given["findings"])),
        )
        for k, given in enumerate(texts)
    ]


def plot_table(columns: Mapping[str, NDArray[Any]], path: str | Path, *, title: str, overwrite: bool) -> Path:
    """Draw the quality numbers over the projections."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, ScalarFormatter

    drawn = [
        name
        for name in ("flux", "misfit", "iterations", "drift_x", "drift_y", "flagged", "valueless")
        if np.isfinite(columns[name].astype(float)).any()
    ]
    figure = Figure(figsize=(8.0, 1.2 + 1.4 * len(drawn)), layout="constrained")
    FigureCanvasAgg(figure)
    across = columns["projection"]
    bad = columns["status"] != GOOD
    axes = figure.subplots(max(len(drawn), 1), 1, sharex=True, squeeze=False)[:, 0]
    for axis, name in zip(axes, drawn, strict=False):
        column = COLUMNS[name]
        axis.plot(across, columns[name], ".-", lw=0.6, ms=3, color="tab:blue")
        for where in across[bad]:
            axis.axvline(where, color="tab:red", lw=0.8, alpha=0.5)
        unit = f" ({column.unit})" if column.unit not in ("", "1") else ""
        axis.set_title(f"{column.title}{unit}", fontsize=8, loc="left", pad=3)
        axis.tick_params(labelsize=7)
        axis.yaxis.set_major_formatter(ScalarFormatter(useOffset=False))
        if np.issubdtype(columns[name].dtype, np.integer) or name == "iterations":
            top = max(1.05 * float(np.nanmax(columns[name])), 1.0)
            axis.set_ylim(-0.04 * top, top)
            axis.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    angles = columns["angle"]
    if len(across) > 1 and np.isfinite(angles).all():
        first, start = across[0], angles[0]
        step = (angles[-1] - start) / (across[-1] - first)
        if step and np.allclose(angles, start + step * (across - first), atol=0.01 * abs(step)):
            above = axes[0].secondary_xaxis(
                "top", functions=(lambda n: start + step * (n - first), lambda a: first + (a - start) / step)
            )
            above.set_xlabel("angle (degrees)", fontsize=8)
            above.tick_params(labelsize=7)
    axes[-1].set_xlabel("projection; red: not good", fontsize=8)
    figure.suptitle(title, fontsize=9)
    return write_file(path, lambda file: figure.savefig(file, format="png", dpi=120), overwrite=overwrite)
