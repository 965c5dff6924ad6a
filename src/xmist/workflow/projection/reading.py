"""What is read, and what must not be written: nothing over it, nor where it is read the next time."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from fnmatch import fnmatch
from glob import has_magic
from pathlib import Path
from typing import Final

from xmist.workflow.configuration import Draft

ROLES: Final = ("reference", "sample", "dark", "flat")

_PLACE: Final = re.compile(r"\{\w+\}")  # {projection}, which stands for digits


def reading_faults(draft: Draft, read: Iterable[str | Path], written: Sequence[Path]) -> dict[Path, str]:
    """Say which files to write would take the place of what is read, now or the next time.

    Parameters
    ----------
    draft : Draft
        What the scan file states; it is read too.
    read : iterable of str or Path
        Files that are read.
    written : sequence of Path
        Files that would be written.

    Returns
    -------
    dict
        A sentence for each that has a fault.

    Examples
    --------
    >>> from xmist.workflow.configuration import make_draft
    >>> draft = make_draft({"input": {"reference": "ref_*.tif"}}, folder=".", source="")
    >>> reading_faults(draft, (), [Path("ref_phase.tif"), Path("phase.tif")])
    {PosixPath('ref_phase.tif'): "ref_phase.tif would be read as a frame the next time, for ..."}
    """
    faults: dict[Path, str] = {}
    precious: set[str] = set()
    if any(os.path.lexists(path) for path in written):  # else nothing that is read can be meant
        precious = {os.path.realpath(path) for path in (*read, *([draft.source] if draft.source else []))}
    for path in written:
        with suppress(ValueError):  # a name that no file system takes, which the writer tells
            if os.path.realpath(path) in precious:
                faults[path] = f"{path} would replace what is read; expected another name for the result"
            elif pattern := _pattern(draft, path):
                faults[path] = (
                    f"{path} would be read as a frame the next time, for {pattern} matches it; expected "
                    "another name for the result"
                )
    return faults


def _pattern(draft: Draft, path: Path) -> str:
    """Give the pattern of the input that a file matches, with its key; empty if there is none."""
    parent, name = os.path.split(os.path.realpath(path))
    for role in ROLES:
        for spec in getattr(draft.input, role) or ():
            place = _PLACE.sub("[0-9]*", spec.partition("::")[0])
            folder, last = os.path.split(os.path.realpath(draft.folder / place))
            if has_magic(place) and fnmatch(name, last) and (parent == folder or fnmatch(parent, folder)):
                key = f"input.{role}"
                return f"{draft.called.get(key, key)} = '{spec}'"
    return ""
