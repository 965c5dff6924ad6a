"""Retrieve projections while an acquisition records them: a run of the series whenever files have changed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from xmist.core.errors import ErrorRecord, InputError, raise_errors
from xmist.core.findings import finding
from xmist.core.progress import Progress
from xmist.io.frames.addresses import find_addresses, split_address
from xmist.io.frames.sources import is_being_written
from xmist.io.results.stacks import UNREADABLE
from xmist.workflow.configuration import ParsedConfiguration
from xmist.workflow.outputs import ROLES, series_file
from xmist.workflow.placement import match_files
from xmist.workflow.quality import Row, Run
from xmist.workflow.rotation import angle_files
from xmist.workflow.series import Execution, run_series

# Errors of files that have not arrived, or are not complete yet.
_UNFINISHED: Final = frozenset(
    {
        "angles-unequal-number",
        "axes-mismatch",
        "dataset-incomplete",
        "dataset-invalid",
        "dataset-missing",
        "file-being-written",
        "file-changed",
        "file-damaged",
        "file-missing",
        "file-unreadable",
        "frames-missing",
        "frames-unequal-numbers",
        "frames-unsupported",
        "image-key-invalid",
        "link-broken",
        "projection-failed",
    }
)
# Errors that say that nothing has arrived at all.
_ABSENT: Final = frozenset({"file-missing", "frames-missing"})
_POLL: Final = 1.0  # seconds between two looks at the files
# Looking shall take no larger part of the time.
_LOOKING: Final = 0.1

Seen = dict[str, tuple[int, int]]


def follow_series(
    parsed: ParsedConfiguration,
    execution: Execution,
    idle_timeout: float,
    tell: Progress,
    pause: Callable[[float], object] = time.sleep,
) -> Run:
    """Retrieve the projections of a series as they arrive, until all have arrived or files stop changing.

    At the end, frames that were read while their files changed are compared with the finished files;
    projections that differ are retrieved again.
    """
    raise_errors(parsed.named(parsed.errors()))
    angles = parsed.series_section.angles
    listed = len(angles) if isinstance(angles, tuple) and not angle_files(angles) else None
    expected = parsed.series_section.expected or listed
    seen: Seen = {}
    known: tuple[Path, ...] = ()
    last = time.monotonic()
    complete = False
    execution = replace(execution, following=True)
    while True:
        begin = time.monotonic()
        found = _look(parsed, known)
        looking = time.monotonic() - begin
        if found != seen:
            seen = found
            try:
                done, known = run_series(parsed, execution, tell)
            except InputError as error:
                if not {*error.codes} <= _UNFINISHED:
                    raise
                tell(f"waiting: {error.messages[0]}", 0, 1)
            else:
                if done.stopped:
                    return done
                execution = replace(execution, anew=False)
                complete = expected is not None and sum(row.was_tried for row in done.rows) >= expected
            last = time.monotonic()
        else:
            closed = complete and not any(map(is_being_written, map(Path, seen)))
            if closed or time.monotonic() - last >= idle_timeout:
                break
        pause(max(_POLL, looking / _LOOKING))
    try:
        return run_series(parsed, replace(execution, following=False), tell)[0]
    except InputError as error:
        if {*error.codes} <= _ABSENT:
            return _nothing(parsed, expected or 1, error.messages[0])
        raise


def _nothing(parsed: ParsedConfiguration, expected: int, why: str) -> Run:
    """Return the run of a series whose frames never arrived."""
    first, record = parsed.series_section.first or 0, finding("projection-failed", why)
    rows = [Row(projection=first + n, status=UNREADABLE).with_finding(record) for n in range(expected)]
    return Run(path=series_file(parsed), files=(), rows=tuple(rows), findings=())


def _look(parsed: ParsedConfiguration, known: tuple[Path, ...]) -> Seen:
    """Return size and modification time of every file that is read, as far as they are known."""
    paths = set(known)
    errors: list[ErrorRecord] = []
    for role in ROLES:
        for item in getattr(parsed.input, role) or ():
            with suppress(InputError, OSError):
                if "{" in item:
                    paths |= {file.address.path for file in match_files(item, parsed.folder)}
                else:
                    paths |= {each.path for each in find_addresses((item,), parsed.folder, errors)}
    for item in angle_files(parsed.series_section.angles):
        with suppress(InputError):
            paths.add(parsed.folder / split_address(item)[0])
    seen: Seen = {}
    for path in paths:
        with suppress(OSError):
            facts = os.stat(path)  # noqa: PTH116  # of thousands of files
            seen[str(path)] = facts.st_size, facts.st_mtime_ns
    return seen
