"""The log file of a run: what was done and found, when, and how it ended."""

from __future__ import annotations

import platform
import re
import time
import traceback
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final

from xmist.core.errors import ErrorRecord, InputError
from xmist.core.findings import Finding
from xmist.core.progress import Progress
from xmist.core.version import __version__

# How every log begins: a time and the program.
_BEGINNING: Final = re.compile(rb"\d{4}-\d\d-\d\dT\S+ xmist ")
_COUNT: Final = 10.0  # seconds between two lines on how far a stage has come


class RunLog:
    """A text file of what happens when; a disk that does not take it does not end the run.

    Without a path lines are kept until `begin` names one.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._early: list[str] = []
        self._found: set[Finding] = set()
        self._error: BaseException | None = None
        self._stage = ""
        self._told = 0.0

    def begin(self, path: Path) -> None:
        """Write to a file from now on, if none was chosen before."""
        if self.path is None:
            self.path = path
            self._append(self._early)

    def write(self, text: str) -> None:
        """Add a line with the time; further lines of the text are indented."""
        stamp = datetime.now().astimezone().isoformat(timespec="seconds")
        first, *others = text.splitlines() or [""]
        lines = [f"{stamp} {first}\n", *(f"    {line}\n" for line in others)]
        if self.path is None:
            self._early += lines
        else:
            self._append(lines)

    def start(self, what: str) -> None:
        """Note what is begun, the versions, and the machine."""
        machine = f"Python {platform.python_version()} on {platform.platform(terse=True)}, {platform.node()}"
        self.write(f"xmist {__version__}: {what}\n{machine}\nin {Path.cwd()}")

    def configuration(self, text: str) -> None:
        """Note the configuration of what begins, whose findings are noted anew."""
        self._found.clear()
        self.write(f"configuration\n{text}")

    def findings(self, findings: Iterable[Finding]) -> None:
        """Note findings with severity and code, each once."""
        for record in findings:
            if record in self._found:
                continue
            self._found.add(record)
            self.write(f"{record.severity} [{record.code}] {record.message}")

    def error(self, error: BaseException) -> None:
        """Note an error with its codes and traceback, once."""
        if error is self._error:
            return
        self._error = error
        records = [f"[{each.code}] {each.message}" for each in getattr(error, "records", ())]
        lines = [line for part in traceback.format_exception(error) for line in part.splitlines()]
        self.write("\n".join([f"error: {type(error).__name__}", *records, *lines]))

    def watch(self, tell: Progress | None) -> Progress:
        """Return a progress that also notes each stage when it begins, and every 10 s how far it is."""

        def noted(what: str, done: float, total: float) -> None:
            now = time.monotonic()
            if what != self._stage:
                self.write(what)
                self._stage, self._told = what, now
            elif now - self._told >= _COUNT:
                self.write(f"{what}: {done:.0f} of {total:.0f}{' s' * isinstance(total, float)}")
                self._told = now
            if tell is not None:
                tell(what, done, total)

        return noted

    def _append(self, lines: Iterable[str]) -> None:
        assert self.path is not None
        with suppress(OSError), self.path.open("a", encoding="utf-8", errors="replace") as file:
            file.writelines(lines)


def open_log(path: str | Path) -> RunLog:
    """Return a log that adds to a file; an error where the file cannot be written or is no log."""
    path = Path(path)
    try:
        with path.open("a+b") as file:
            file.seek(0)
            line = file.readline(200)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        text = f"the log {path} cannot be written ({reason}); expected a file in a folder that exists"
        raise InputError([ErrorRecord("output-invalid", text)]) from error
    if line and not _BEGINNING.match(line):
        text = f"{path} exists and is no log of xmist, to which a log could be added; give another name"
        raise InputError([ErrorRecord("output-exists", text)])
    return RunLog(path)
