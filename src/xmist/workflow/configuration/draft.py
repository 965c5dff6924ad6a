"""What a scan file states, with its faults or without."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xmist.core.errors import raise_errors
from xmist.core.experiment import Experiment
from xmist.workflow.configuration.schema import CompareSection, InputSection, RegionsSection, ScanSection


@dataclass(frozen=True, kw_only=True)
class Draft:
    """What stands in a scan file, and everything that is wrong with it.

    Parameters
    ----------
    source : str
        Where it comes from, for messages; empty for a command line.
    folder : Path
        Names of files are relative to this folder.
    problems : tuple of (str, str)
        For each fault the path of its key and what is wrong with it; a text that begins with a colon is a
        sentence of its own.
    called : mapping
        Other names of keys, by path: a command line says "--energy-kev".
    input : InputSection
        Where the frames are; a key with a fault has its default, or None.
    experiment : Experiment or None
        Energy and geometry; None, as are the next four, where they have a fault.
    preprocess : tuple of (str, mapping) or None
        Steps with their options, in order.
    method : str or None
        Name of the method.
    options : mapping or None
        Options of the method that were given.
    threads : int or None
        Threads to compute with; None takes every core.
    files : tuple of Path
        What to write, without names that have a fault.
    overwrite : bool
        Whether files that stand there may be replaced.
    scan : ScanSection or None
        How many projections lie in the frames; None for a single one.
    compare : CompareSection or None
        Which methods are to be compared; None where the file does not say.
    regions : RegionsSection or None
        Boxes of bare beam and sample; None where the file gives none.
    """

    source: str
    folder: Path
    problems: tuple[tuple[str, str], ...]
    called: Mapping[str, str]
    input: InputSection
    experiment: Experiment | None
    preprocess: tuple[tuple[str, Mapping[str, Any]], ...] | None
    method: str | None
    options: Mapping[str, Any] | None
    threads: int | None
    files: tuple[Path, ...]
    overwrite: bool
    scan: ScanSection | None = None
    compare: CompareSection | None = None
    regions: RegionsSection | None = None

    @property
    def faults(self) -> tuple[str, ...]:
        """A sentence for each fault, with the path of its key."""
        return self.tell({})

    def tell(self, hints: Mapping[str, str]) -> tuple[str, ...]:
        """Give a sentence for each fault, with hints for those keys that have one.

        Parameters
        ----------
        hints : mapping
            Text to be added, by path.
        """
        told = []
        for path, text in self.problems:
            name = self.called.get(path, path)
            hint = f"; {hints[path]}" if path in hints else ""
            told.append(f"{name}{'' if text.startswith(':') else ' '}{text}{hint}")
        return tuple(told)

    def finish(self) -> ScanFile:
        """Give the scan file if there is no fault.

        Raises
        ------
        InputError
            Lists all faults.
        """
        raise_errors(self.named(self.faults))
        return ScanFile(**{item.name: getattr(self, item.name) for item in dataclasses.fields(self)})

    def named(self, faults: Iterable[str]) -> list[str]:
        """Give faults with the scan file's name before each, unless they are about an option.

        Parameters
        ----------
        faults : iterable of str
            The faults.
        """
        return [
            f"{self.source}: {fault}" if self.source and not fault.startswith("--") else fault
            for fault in faults
        ]


@dataclass(frozen=True, kw_only=True)
class ScanFile(Draft):
    """A scan file without a fault; its parts are those of `Draft`."""

    experiment: Experiment
    preprocess: tuple[tuple[str, Mapping[str, Any]], ...]
    method: str
    options: Mapping[str, Any]
    files: tuple[Path, ...]
