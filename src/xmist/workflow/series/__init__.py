"""Scans: thousands of projections with bounded memory, in files that survive a kill, by one command.

Data flow: `inputs` finds the frames and reads the references, `workshop` retrieves a projection, `work` makes
a block of several, `executors` decide where, `run` leads them and `master` shows all as one stack.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from xmist.core.errors import InputError
from xmist.core.progress import Progress
from xmist.workflow.configuration import draft_scan
from xmist.workflow.series.request import Choices, Outcome
from xmist.workflow.series.run import run_scan

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Choices", "Outcome", "Progress", "run_scan", "scan"]


def scan(
    path: str | Path,
    *,
    workers: int | None = None,
    client: Client | str | None = None,
    memory: str | float | None = None,
    strict: bool = False,
    overwrite: bool = False,
    full_hash: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Retrieve all projections of a scan; run again, it goes on where it stopped.

    Parameters
    ----------
    path : str or Path
        The scan file (TOML), with a table [scan].
    workers : int, optional
        Processes on this machine; None does all in this one, with threads. A script that asks for processes
        needs `if __name__ == "__main__":` around the call.
    client : distributed.Client or str, optional
        A Dask cluster, or the address of its scheduler, whose workers share a file system.
    memory : str or float, optional
        What all processes of this machine may hold, such as "4GB": fewer workers are started if they do not
        fit.
    strict : bool
        Stop at the first projection that is not good, instead of flagging it.
    overwrite : bool
        Begin anew where the results of another configuration or input stand. A scan that is the same goes on.
    full_hash : bool
        Hash the input in full, to tell it from another.
    progress : callable, optional
        Called with what is done, and how much of how much of it.

    Returns
    -------
    Path
        The master: `xmist.open_result(master, chunks={})` gives a dataset that reads when it is computed.

    Raises
    ------
    InputError
        Lists everything that is wrong with the scan before anything is written; that its configuration or
        input has changed since it began; or, with `strict`, which projection is not good.
    OutputError
        When blocks cannot be written; what was done stands, and the scan goes on when it is called again.

    Notes
    -----
    Neither workers, nor memory, nor the size of the blocks changes a bit of the results.

    Examples
    --------
    >>> master = xmist.scan("scan.toml", workers=4, memory="16GB")  # doctest: +SKIP
    >>> xmist.open_result(master, projection=0).save("first.h5")  # doctest: +SKIP
    """
    choices = Choices(
        workers=workers,
        client=client,
        memory=memory,
        strict=strict,
        overwrite=overwrite,
        full_hash=full_hash,
    )
    outcome = run_scan(draft_scan(path), choices, progress=progress)
    if outcome.stopped:
        raise InputError(
            f"strict: stopped at {outcome.stopped}; what was done before stands in {outcome.path}"
        )
    return outcome.path
