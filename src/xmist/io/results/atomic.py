"""Write files that appear complete or not at all.

A file is written under a temporary name in its own folder (`.result.h5.<random>.partial`), synced, read
back, and then renamed, which is one step of the file system. A killed process can leave the temporary file
behind: it does not affect a later save and may be deleted, see `leftovers`.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from xmist.core.errors import OutputError, raise_errors
from xmist.io.results.targets import (
    all_target_errors,
    folder_errors,
    make_folder,
    resolve,
    target_errors,
)

__all__ = [
    "OutputFile",
    "all_target_errors",
    "folder_errors",
    "leftovers",
    "make_folder",
    "settle",
    "target_errors",
    "write_file",
    "write_files",
]

_TEMPORARY: Final = re.compile(r"\..+\.[0-9a-f]{16}\.partial", re.DOTALL)
# File systems limit a name to 255 bytes; 60 characters of up to four bytes leave room for the rest.
_KEPT_CHARACTERS: Final = 60
_NO_SPACE: Final = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}


@dataclass(frozen=True)
class OutputFile:
    """One file to write: `content`, or a function that fills the binary file that it is given.

    `verify` reads the file of the given path back and raises `ValueError` or `OSError` if it is wrong.
    `cached` is False for large files in long series, which need not stay in the system's memory.
    """

    path: Path
    content: bytes | Callable[[BinaryIO], object]
    verify: Callable[[Path], object] | None = None
    cached: bool = True


def write_file(
    path: str | Path,
    content: bytes | Callable[[BinaryIO], object],
    verify: Callable[[Path], object] | None = None,
    *,
    overwrite: bool = False,
    cached: bool = True,
) -> Path:
    """Write one file that appears complete or not at all; see `OutputFile` and `write_files`."""
    return write_files([OutputFile(Path(path), content, verify, cached)], overwrite=overwrite)[0]


def write_files(jobs: Sequence[OutputFile], *, overwrite: bool = False) -> list[Path]:
    """Write files that belong together: all appear under their names, or none does.

    `overwrite` replaces files and keeps their permissions; a symbolic link is followed. After an
    `OutputError` nothing was written and old files are unchanged. If only the renaming failed (on Windows, a
    file that another program holds open), the message names the complete temporary file, which is kept. A
    process that is killed between two renames leaves some files new and some old, each complete.
    """
    raise_errors(all_target_errors((job.path for job in jobs), overwrite=overwrite))
    finals = [resolve(job.path) for job in jobs]
    moves = [(_temporary_name(final), final) for final in finals]
    try:
        for job, (temporary, final) in zip(jobs, moves, strict=True):
            _fill(job, temporary, final)
        _place(moves, overwrite=overwrite)
    except _UnplacedError:
        raise
    except BaseException:  # an interrupt and an exit, too, leave nothing behind
        for temporary, _ in moves:
            _remove(temporary)
        raise
    for folder in dict.fromkeys(final.parent for final in finals):
        _sync_folder(folder)
    return [job.path for job in jobs]


def settle(file: BinaryIO) -> None:
    """Write what a large file holds so far to the disk, and drop it from the system's memory.

    This leaves less to do at the end, and reuses memory that the system would have to find and to clear: for
    a file of 64 MB that takes longer than the disk.
    """
    file.flush()
    _sync(file.fileno())
    _forget(file.fileno())


def leftovers(folder: str | Path) -> list[Path]:
    """Return the temporary files in a folder, which killed processes left or running ones fill, by name.

    xmist never deletes them: a process on another machine may be writing one. When no xmist runs there, they
    may be deleted.
    """
    return sorted(path for path in Path(folder).iterdir() if _TEMPORARY.fullmatch(path.name))


class _UnplacedError(OutputError):
    """The new files are complete, but could not be renamed; they are kept."""


def _temporary_name(final: Path) -> Path:
    return final.with_name(f".{final.name[:_KEPT_CHARACTERS]}.{secrets.token_hex(8)}.partial")


def _fill(job: OutputFile, temporary: Path, final: Path) -> None:
    """Write, sync and read back one temporary file."""
    kept = "; the existing file is unchanged" if final.exists() else ""
    try:
        with temporary.open("x+b") as file:  # HDF5 reads what it writes
            if isinstance(job.content, bytes):
                file.write(job.content)
            else:
                job.content(file)
            file.flush()
            _sync(file.fileno())
            if not job.cached:
                _forget(file.fileno())
        if kept:
            with suppress(OSError):
                shutil.copymode(final, temporary)
    except OSError as error:
        raise OutputError(f"{job.path}: {_reason(error, final)}; nothing was written{kept}") from error
    if job.verify is None:
        return
    try:
        job.verify(temporary)
    except (OSError, ValueError) as error:
        raise OutputError(
            f"{job.path} could not be read back as it was written ({error}); nothing was written{kept}"
        ) from error


def _reason(error: OSError, final: Path) -> str:
    if error.errno in _NO_SPACE:
        return f"no space left on the disk or in the quota of {final.parent}"
    if error.errno == errno.EFBIG:
        return (
            f"no space left on {final.parent} for a file of this size (the system limits it, see ulimit -f)"
        )
    if isinstance(error, PermissionError) or error.errno == errno.EROFS:
        return f"no permission to write in {final.parent}"
    return str(error.strerror or error)


def _place(moves: Sequence[tuple[Path, Path]], *, overwrite: bool) -> None:
    """Rename all temporary files, or none."""
    placed: list[tuple[Path, Path]] = []
    old: dict[Path, Path] = {}
    try:
        for temporary, final in moves:
            if overwrite:
                if len(moves) > 1 and final.exists():
                    old[final] = _second_name(final)
                temporary.replace(final)
            else:
                _rename_if_free(temporary, final)
            placed.append((temporary, final))
    except BaseException as error:
        for temporary, final in reversed(placed):
            with suppress(OSError):
                final.replace(temporary)
                if final in old:
                    old.pop(final).replace(final)
        if isinstance(error, OSError):
            raise _UnplacedError(_unplaced(error, moves, moves[len(placed)][1])) from error
        raise
    finally:
        for spare in old.values():
            _remove(spare)


def _second_name(final: Path) -> Path:
    """Return a second, hidden name of a file that is about to be replaced, from which it can be restored."""
    spare = _temporary_name(final)
    try:
        spare.hardlink_to(final)
    except OSError:  # a file system without hard links
        shutil.copy2(final, spare)
    return spare


def _rename_if_free(temporary: Path, final: Path) -> None:
    """Rename a file, without replacing one that appeared meanwhile."""
    if os.name == "nt":
        temporary.rename(final)  # never replaces there
        return
    try:
        final.hardlink_to(temporary)  # one step, and never replaces
    except FileExistsError:
        raise
    except OSError as error:  # a file system without hard links: the next best, with a short gap
        if final.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(final)) from error
        temporary.replace(final)
    else:
        _remove(temporary)


def _unplaced(error: OSError, moves: Sequence[tuple[Path, Path]], final: Path) -> str:
    if isinstance(error, FileExistsError):
        cause = f"{final} was created by another program in the meantime and was not replaced."
        advice = "rename it, or save again under another name"
    else:
        cause = f"{final} could not be replaced ({error.strerror or error}); is it open in another program?"
        advice = "close the other program and rename it, or save again"
    names = ", ".join(str(temporary) for temporary, _ in moves)
    return f"{cause} Nothing was overwritten. Complete and kept under a temporary name: {names}; {advice}"


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system that cannot sync
            raise


def _forget(descriptor: int) -> None:
    """Drop written data from the cache of the system, where the system allows it."""
    if hasattr(os, "posix_fadvise"):
        with suppress(OSError):
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def _sync_folder(folder: Path) -> None:
    """Sync a folder, so that new names survive a power failure (not on Windows)."""
    if os.name == "nt":
        return
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
