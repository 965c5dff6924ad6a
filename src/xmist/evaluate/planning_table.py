"""The table of a plan."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What to expect of one choice; errors are root mean squares over pixels and draws."""

    distance: float  # distance from sample to detector in metres
    speckle: float  # size of the speckles in the sample's plane in metres
    exposures: int  # number N of positions of the diffuser
    photons: float  # photons a pixel detects in the bare beam in one exposure
    dose: float  # photons a pixel detects in all reference and sample exposures, 2 N photons
    phase_error: float | None  # error of φ in rad, its mean removed; None where the method gives none
    dark_field_error: float | None  # error of D in m
    refraction_angle_error: float | None  # error of each component of ∇φ/k in rad
    # the same over the standard deviation of the truth; None where the truth is constant
    phase_nrmse: float | None
    dark_field_nrmse: float | None
    refraction_angle_nrmse: float | None


@dataclass(frozen=True, kw_only=True)
class ExpectedErrors:
    """The table of a plan; iterate for its rows, print it for a person.

    Parameters
    ----------
    rows : tuple of Expected
        One a choice.
    method : str
        Method that retrieved.
    draws : int
        Number of simulated experiments a choice.

    Examples
    --------
    >>> row = Expected(
    ...     distance=1.0,
    ...     speckle=2e-5,
    ...     exposures=2,
    ...     photons=1e4,
    ...     dose=4e4,
    ...     phase_error=0.5,
    ...     dark_field_error=None,
    ...     refraction_angle_error=1e-8,
    ...     phase_nrmse=0.1,
    ...     dark_field_nrmse=None,
    ...     refraction_angle_nrmse=0.2,
    ... )
    >>> print(ExpectedErrors(rows=(row,), method="mist", draws=4))
                                             error of φ     error of D      error of ∇φ/k
    distance    speckle     N  photons      rad   NRMSE      pm    NRMSE      nrad    NRMSE
       1 m      20 µm     2    10000      0.5     0.1       –        –        10      0.2
    """

    rows: tuple[Expected, ...]
    method: str
    draws: int

    def __iter__(self) -> Iterator[Expected]:
        """Return the rows."""
        return iter(self.rows)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.rows)

    def __str__(self) -> str:
        """Return the table as text."""
        lines = [
            f"{'':37}{'error of φ':>14}{'error of D':>15}{'error of ∇φ/k':>19}",
            "distance    speckle     N  photons      rad   NRMSE      pm    NRMSE      nrad    NRMSE",
        ]
        for row in self.rows:
            cells = [
                f"{row.distance:>4.3g} m",
                f"{1e6 * row.speckle:>6.3g} µm",
                f"{row.exposures:>4d}",
                f"{row.photons:>7.6g}",
                _cell(row.phase_error, 1.0, 7),
                _cell(row.phase_nrmse, 1.0, 6),
                _cell(row.dark_field_error, 1e12, 6),
                _cell(row.dark_field_nrmse, 1.0, 7),
                _cell(row.refraction_angle_error, 1e9, 8),
                _cell(row.refraction_angle_nrmse, 1.0, 7),
            ]
            lines.append("  ".join(cells))
        return "\n".join(lines)

    def to_rows(self) -> list[dict[str, Any]]:
        """Return the rows as plain data."""
        return [asdict(row) for row in self.rows]


def _cell(value: float | None, scale: float, width: int) -> str:
    return f"{'–' if value is None else f'{value * scale:.3g}':>{width}}"
