"""Common parts of all commands: exit codes, errors as one paragraph, signals, progress, output."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, Any, Final

import click

from xmist.core import progress as bars
from xmist.core.errors import InputError, OutputError
from xmist.core.findings import Finding
from xmist.core.log import RunLog, open_log
from xmist.core.progress import Progress

DONE: Final = 0
FAILED: Final = 1
BAD_INPUT: Final = 2
FLAGGED: Final = 3
INTERRUPTED: Final = 130
TERMINATED: Final = 143


@dataclass
class Settings:
    """Values of the options that every command has."""

    debug: bool = False
    quiet: bool = False
    log: RunLog | None = None
    arguments: tuple[str, ...] = ()

    def keep_log(self, path: str) -> None:
        """Add what happens from now on to a file."""
        self.log = open_log(path)
        self.log.start(shlex.join(["xmist", *self.arguments]))


class Terminated(BaseException):
    """SIGTERM arrived; not an `Exception`, so that it is not handled as an error."""


def run(command: click.Command, arguments: Sequence[str] | None) -> int:
    """Run a command, and print its errors; return the exit code."""
    settings = Settings(arguments=tuple(sys.argv[1:] if arguments is None else arguments))
    code = FAILED
    for stream in (sys.stdout, sys.stderr):
        _tolerate(stream)
    try:
        with _terminable():
            code = command.main(
                args=None if arguments is None else list(arguments),
                prog_name="xmist",
                standalone_mode=False,
                obj=settings,
            )
            code = code if isinstance(code, int) else DONE
    except SystemExit as error:  # click raises this when nobody reads its output
        code = error.code if isinstance(error.code, int) else FAILED
    except (Exception, KeyboardInterrupt, Terminated) as error:
        if settings.debug:
            traceback.print_exc()
        if settings.log is not None:
            settings.log.error(error)
        code, message = explain(error)
        with suppress(OSError):  # the pipe is closed
            click.echo(message, err=True)
    if settings.log is not None:
        settings.log.write(f"ended with exit code {code}")
    return code


def echo_json(data: Any) -> None:
    """Print plain data as JSON."""
    click.echo(json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False))


def say(settings: Settings, text: str) -> None:
    """Print information to stderr, unless quiet."""
    if not settings.quiet:
        click.echo(text, err=True)


def say_findings(settings: Settings, findings: Iterable[Finding]) -> None:
    """Print findings to stderr: warnings always, notes unless quiet."""
    findings = tuple(findings)
    if settings.log is not None:
        settings.log.findings(findings)
    for finding in findings:
        if finding.severity == "warning":
            click.echo(f"Warning: {finding}", err=True)
        else:
            say(settings, f"Note: {finding}")


@contextmanager
def progress_bars(settings: Settings) -> Iterator[Progress | None]:
    """Show a bar for each part of long work on stderr; none if that is no terminal, or when quiet."""
    log = settings.log
    if settings.quiet or not sys.stderr.isatty():
        yield None if log is None else log.watch(None)
        return
    with bars.progress_bars() as show:
        yield show if log is None else log.watch(show)


def explain(error: BaseException) -> tuple[int, str]:
    """Return the exit code and the paragraph for what ended a command."""
    if isinstance(error, (click.Abort, KeyboardInterrupt)):
        return INTERRUPTED, "Interrupted; no incomplete file was left."
    if isinstance(error, Terminated):
        return TERMINATED, "Terminated; no incomplete file was left."
    if isinstance(error, click.ClickException):
        return BAD_INPUT, _usage(error)
    if isinstance(error, InputError):
        number = len(error.records)
        if number == 1:
            return BAD_INPUT, f"Error: {_typed(str(error))}"
        return BAD_INPUT, f"Error: {number} errors\n{_typed(str(error))}"
    if isinstance(error, OutputError):
        return FAILED, f"Error: {_typed(str(error))}"
    if isinstance(error, MemoryError):
        return FAILED, (
            "Error: this machine has not enough memory; xmist check shows how much is needed. The steps "
            "'crop' and 'bin' make frames smaller."
        )
    text = str(error) or "no message"
    if isinstance(error, OSError):
        return FAILED, f"Error: {text}"
    return FAILED, (
        f"Error: unexpected {type(error).__name__}: {text}. This is an error in xmist: please report it "
        "with the output of --debug"
    )


def _typed(text: str) -> str:
    """Return names of files relative to this folder where they lie inside."""
    try:
        here = str(Path.cwd())
    except OSError:  # a folder that has gone
        return text
    return text if here == Path(here).anchor else text.replace(here + os.sep, "")


def _usage(error: click.ClickException) -> str:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        return error.format_message()
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "xmist"
    text = error.format_message().rstrip(".")
    if isinstance(error, click.exceptions.NoSuchOption):
        near = [name for name in error.possibilities or () if name not in ("-h", "--help")]
        text = f"No such option '{error.option_name}'{f'; did you mean {near[0]}?' if near else ''}"
    return f"Error: {text}{'' if text.endswith('?') else '.'} See: {path} --help"


def _tolerate(stream: IO[str]) -> None:
    """Replace characters that a console cannot show, such as Greek letters, instead of failing."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        with suppress(OSError, ValueError):
            reconfigure(errors="replace")


@contextmanager
def _terminable() -> Iterator[None]:
    """Turn SIGTERM into an exception, so that temporary files are removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
