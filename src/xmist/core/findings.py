"""Findings: what was noticed about frames and results, as records with a code, a severity and a message."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal

Severity = Literal["note", "warning"]


@dataclass(frozen=True)
class FindingCode:
    """What a code means, and what to do about it.

    Parameters
    ----------
    code : str
        Name, in words joined by hyphens.
    severity : {"note", "warning"}
        A warning means that a result may be wrong.
    meaning : str
        What was found, and for which image channel it matters.
    remedy : str
        What to do.
    """

    code: str
    severity: Severity
    meaning: str
    remedy: str


@dataclass(frozen=True)
class Finding:
    """Something noticed about frames or a result.

    Parameters
    ----------
    code : str
        A key of `FINDING_CODES`.
    severity : {"note", "warning"}
        A warning means that a result may be wrong.
    message : str
        What was measured, what it means for which image channel, and what to do.

    Examples
    --------
    >>> record = finding("identical-frames", "sample and reference of position 0 are identical")
    >>> record.severity, str(record)
    ('warning', 'sample and reference of position 0 are identical')
    """

    code: str
    severity: Severity
    message: str

    def __str__(self) -> str:
        return self.message

    def to_dict(self) -> dict[str, str]:
        """Return the record as plain data."""
        return {"code": self.code, "severity": self.severity, "message": self.message}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Finding:
        """Return the record that `to_dict` made plain data of."""
        severity: Severity = "warning" if data["severity"] == "warning" else "note"
        return cls(str(data["code"]), severity, str(data["message"]))


_TABLE: Final = (
    FindingCode(
        "identical-frames",
        "warning",
        "Sample and reference frames are the same data.",
        "Check which files were given as sample and as reference.",
    ),
)

FINDING_CODES: Final[Mapping[str, FindingCode]] = MappingProxyType({entry.code: entry for entry in _TABLE})


def finding(code: str, message: str) -> Finding:
    """Return a finding; its severity is that of the code."""
    return Finding(code, FINDING_CODES[code].severity, message)


def warnings_of(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return the findings of severity "warning"."""
    return tuple(record for record in findings if record.severity == "warning")
