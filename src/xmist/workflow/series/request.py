"""What is asked of a scan, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xmist.core.errors import InputError, raise_errors
from xmist.io import NEXUS_ENDINGS
from xmist.io.frames.sources import listed
from xmist.io.results.atomic import target_errors
from xmist.io.results.stacks import GOOD, is_stack
from xmist.workflow.configuration import Draft
from xmist.workflow.projection.reading import reading_faults
from xmist.workflow.series.blocks import Block
from xmist.workflow.series.inputs import section_faults
from xmist.workflow.series.journal import Journal, read_journal
from xmist.workflow.series.memory import parse_memory
from xmist.workflow.series.table import Row


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run did.

    Parameters
    ----------
    path : Path
        The master.
    rows : tuple of Row
        One for each projection.
    done_before : int
        Projections that an earlier run had done.
    plots : tuple of Path
        Pictures that were written.
    problems : tuple of str
        Why blocks were not written.
    stopped : str
        With strict, at what the scan stopped; else empty.
    """

    path: Path
    rows: tuple[Row, ...]
    done_before: int
    plots: tuple[Path, ...]
    problems: tuple[str, ...]
    stopped: str = ""

    @property
    def flagged(self) -> tuple[Row, ...]:
        """Projections to look at: those that are not good."""
        return tuple(row for row in self.rows if row.status != GOOD)


@dataclass(frozen=True, kw_only=True)
class Choices:
    """How a scan is run; nothing of it changes a result.

    Parameters
    ----------
    workers : int or None
        Processes; None does the work in this one.
    client : object
        A Dask client, the address of a scheduler, or None.
    memory : str, float or None
        What all processes of this machine may hold.
    strict : bool
        Stop at the first projection that is not good.
    overwrite : bool
        Begin anew where another scan stands under the name.
    full_hash : bool
        Hash the whole input.
    """

    workers: int | None = None
    client: Any = None
    memory: str | float | None = None
    strict: bool = False
    overwrite: bool = False
    full_hash: bool = False


def outputs(draft: Draft) -> tuple[Path, tuple[Path, ...]]:
    """Give the master and the pictures that a scan file asks for.

    Parameters
    ----------
    draft : Draft
        What it states.

    Raises
    ------
    InputError
        If it does not ask for one NeXus file, or for something that a scan does not give.
    """
    masters = [path for path in draft.files if path.suffix.lower() in NEXUS_ENDINGS]
    plots = tuple(path for path in draft.files if path.suffix.lower() == ".png")
    faults = []
    if len(masters) != 1:
        faults.append(
            f"output.files names {len(masters)} files of {', '.join(NEXUS_ENDINGS)}; a scan needs one, which "
            "shows all projections"
        )
    others = [str(path) for path in draft.files if path not in masters and path not in plots]
    if others:
        faults.append(
            f"output.files names {listed(others)}; a scan writes one NeXus file, and .png of its quality "
            "numbers"
        )
    raise_errors(draft.named(faults))
    return masters[0], plots


def blocks_folder(master: Path) -> Path:
    """Give the folder of the blocks, beside the master.

    Parameters
    ----------
    master : Path
        The master.

    Examples
    --------
    >>> blocks_folder(Path("out/scan.h5")).as_posix()
    'out/scan_blocks'
    """
    return master.with_name(f"{master.stem}_blocks")


def written_faults(draft: Draft, read: Sequence[str | Path]) -> list[str]:
    """Say whether a scan would write over what it reads, or where it would read it the next time.

    Parameters
    ----------
    draft : Draft
        What the scan file states.
    read : sequence of str or Path
        Files that are read.
    """
    if not draft.files:
        return []
    master, plots = outputs(draft)
    block = blocks_folder(master) / Block(0, 1).name
    angles = None if draft.scan is None else draft.scan.angles
    if isinstance(angles, str):
        read = [*read, draft.folder / angles.partition("::")[0]]
    return list(reading_faults(draft, read, [master, *plots, block]).values())


def check_choices(draft: Draft, choices: Choices) -> float | None:
    """Check how the scan shall be run; give the bytes that it may hold.

    Parameters
    ----------
    draft : Draft
        What the scan file states.
    choices : Choices
        How to run it.

    Raises
    ------
    InputError
        Lists everything that is wrong.
    """
    faults = list(draft.named(section_faults(draft)))
    limit = None
    workers = choices.workers
    if workers is not None and (isinstance(workers, bool) or not isinstance(workers, int) or workers < 1):
        faults.append(f"workers is {workers!r}; expected a whole number from 1, or None")
    if workers is not None and choices.client is not None:
        faults.append("workers and a Dask cluster are both given; expected one of them")
    try:
        limit = None if choices.memory is None else parse_memory(choices.memory)
    except InputError as error:
        faults += error.faults
    raise_errors(faults)
    if draft.files:
        master, _ = outputs(draft)
        told = [error.message for error in target_errors(master, overwrite=True)]
        raise_errors(draft.named(told))
    return limit


def read_or_none(folder: Path) -> Journal | None:
    """Read the journal of an earlier run; one that is damaged counts as none.

    Parameters
    ----------
    folder : Path
        Of the blocks.
    """
    try:
        return read_journal(folder)
    except InputError:
        return None


def refusal(folder: Path, different: Sequence[str]) -> str:
    """Say why a scan does not go on.

    Parameters
    ----------
    folder : Path
        Of the blocks.
    different : sequence of str
        In what this run differs from the one that began.
    """
    return (
        f"the scan in {folder} was begun with something else, and its projections would not fit together: "
        f"{'; '.join(different)}. Put back what it was to go on, write to another name (output.files), or "
        "begin anew with --overwrite"
    )


def standing_faults(master: Path, choices: Choices) -> list[str]:
    """Say so if something stands under the name of the master that no journal knows.

    Parameters
    ----------
    master : Path
        The master.
    choices : Choices
        Whether it may be replaced.
    """
    if choices.overwrite or not master.exists():
        return []
    what = "a scan whose blocks have gone" if is_stack(master) else "another file"
    return [f"{master} exists already and is {what}; allow overwriting (--overwrite) or give another name"]
