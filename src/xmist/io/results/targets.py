"""Check names of output files before anything is written."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from xmist.core.errors import ErrorRecord, InputError
from xmist.io.frames.sources import listed


def make_folder(folder: str | Path) -> None:
    """Make a folder, and those above it, where it does not exist."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"the folder {folder} cannot be made ({error.strerror or error}); expected a free name, and "
            "permission to write",
            "output-invalid",
        ) from error


def folder_errors(folder: str | Path) -> list[ErrorRecord]:
    """Return errors that prevent making a folder or writing to it; does not make it."""
    path = Path(folder)
    text = ""
    try:
        existing = next(place for place in (path, *path.absolute().parents) if _exists(place))
        if not existing.is_dir():
            kind = "is a file" if existing.exists() else "is a broken link"
            text = f"the folder {path} cannot be made: {existing} {kind}; expected a free name"
        elif not os.access(existing, os.W_OK | os.X_OK):
            text = f"no permission to write in the folder {existing}; choose another for {path}"
    except (OSError, ValueError) as error:  # a name too long, a NUL in it
        text = f"the folder {path} cannot be made ({getattr(error, 'strerror', None) or error})"
    return [ErrorRecord("output-invalid", text)] if text else []


def target_errors(path: str | Path, *, overwrite: bool = False) -> list[ErrorRecord]:
    """Return errors that prevent writing a file; writes nothing."""
    path = Path(path)
    code, text = "output-invalid", ""
    try:
        final = resolve(path)
        folder = final.parent
        if final.is_dir():
            text = f"{path} is a folder; expected the name of a file"
        elif not folder.exists():
            text = f"the folder {path.parent} of {path.name} does not exist; create it first"
        elif not folder.is_dir():
            text = f"{path.parent} is a file; expected the folder for {path.name}"
        elif not os.access(folder, os.W_OK | os.X_OK):
            text = f"no permission to write in the folder {path.parent}; choose another for {path.name}"
        elif final.exists():
            mode = final.stat().st_mode
            if not stat.S_ISREG(mode):
                text = f"{path} is not a regular file; expected a free name"
            elif not overwrite:
                code = "output-exists"
                text = f"{path} exists already; allow overwriting (--overwrite) or give another name"
            elif not mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH):
                text = f"{path} is write-protected; remove the protection or give another name"
    except (OSError, ValueError, RuntimeError) as error:  # a name too long, a NUL in it, a loop of links
        text = f"{path} cannot be written ({getattr(error, 'strerror', None) or error}); give another name"
    return [ErrorRecord(code, text)] if text else []


def all_target_errors(paths: Iterable[str | Path], *, overwrite: bool = False) -> list[ErrorRecord]:
    """Return errors that prevent writing files; all existing files are one error."""
    errors: list[ErrorRecord] = []
    existing: list[Path] = []
    for path in map(Path, paths):
        for record in target_errors(path, overwrite=overwrite):
            if record.code == "output-exists":
                existing.append(path)
            else:
                errors.append(record)
    if existing:
        verb = "exists" if len(existing) == 1 else "exist"
        text = f"{listed(existing)} {verb} already; allow overwriting (--overwrite) or give another name"
        errors.append(ErrorRecord("output-exists", text))
    return errors


def _exists(path: Path) -> bool:
    """Return whether anything has this name; OSError if the file system does not allow the name."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def resolve(path: Path) -> Path:
    """Return the file that a name leads to, through symbolic links."""
    return Path(os.path.realpath(path))
