"""Files that appear whole under their name, or not at all.

A file is written under a temporary name in its own folder (`.result.h5.<random>.partial`), synced, read
back, and only then given its name in one step of the file system. A process that is killed can leave the
temporary file behind: it never stands in the way of a later save and may be deleted, see `leftovers`.
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
from xmist.io.results.targets import folder_faults, make_folder, resolve, target_faults

__all__ = [
    "Job",
    "folder_faults",
    "leftovers",
    "make_folder",
    "settle",
    "target_faults",
    "write_file",
    "write_files",
]

_TEMPORARY: Final = re.compile(r"\..+\.[0-9a-f]{16}\.partial", re.DOTALL)
# File systems limit a name to 255 bytes; 60 characters of up to four bytes leave room for the rest.
_KEPT_CHARACTERS: Final = 60
_NO_SPACE: Final = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}


@dataclass(frozen=True)
class Job:
    """One file to write.

    Parameters
    ----------
    path : Path
        Final name.
    write : callable
        Fills the binary file that it is given.
    verify : callable, optional
        Reads the file of the given path back and raises `ValueError` or `OSError` if it is not as meant.
    cached : bool
        Whether the system may keep what was written in memory; False where it is large, and so much comes
        after it that it would only push out other things.
    """

    path: Path
    write: Callable[[BinaryIO], object]
    verify: Callable[[Path], object] | None = None
    cached: bool = True


def write_file(
    path: str | Path,
    write: Callable[[BinaryIO], object],
    verify: Callable[[Path], object] | None = None,
    *,
    overwrite: bool = False,
    cached: bool = True,
) -> Path:
    """Write one file that appears whole or not at all.

    Parameters
    ----------
    path : str or Path
        Final name; a symbolic link is followed.
    write : callable
        Fills the binary file that it is given.
    verify : callable, optional
        Reads the file of the given path back and raises `ValueError` or `OSError` if it is not as meant.
    overwrite : bool
        Replace a file that stands there already, and keep its permissions.
    cached : bool
        Whether the system may keep what was written in memory, see `Job`.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    InputError
        For a missing or read-only folder, a folder in place of the file, or a file that stands there.
    OutputError
        When writing failed: nothing was written and an old file stands unchanged; where only the last step
        failed (on Windows, a file that another program holds open), the message names the complete
        temporary file, which is kept.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_file(f"{folder}/note.txt", lambda file: file.write(b"done")).read_bytes()
    b'done'
    """
    return write_files([Job(Path(path), write, verify, cached)], overwrite=overwrite)[0]


def write_files(jobs: Sequence[Job], *, overwrite: bool = False) -> list[Path]:
    """Write files that belong together: all appear under their names, or none does.

    Parameters
    ----------
    jobs : sequence of Job
        The files.
    overwrite : bool
        Replace files that stand there already, and keep their permissions.

    Returns
    -------
    list of Path
        The names in the order of the jobs.

    Raises
    ------
    InputError
        Lists for every file what keeps it from being written.
    OutputError
        As for `write_file`.

    Notes
    -----
    A file system renames one file at a time: a process killed between two of them leaves some files new
    and some old, each of them whole.

    Examples
    --------
    >>> write_files([])
    []
    """
    raise_errors([fault for job in jobs for fault in target_faults(job.path, overwrite=overwrite)])
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
    """Have the disk take what was written to a large file so far, and the system not keep it in memory.

    Parameters
    ----------
    file : binary file
        Still being written.

    Raises
    ------
    OSError
        If the disk does not take it.

    Notes
    -----
    Less is left to wait for at the end, and memory is used again and again that the system would have to
    find and to clear anew: of a file of 64 MB that takes longer than the disk.

    Examples
    --------
    >>> with open("large.bin", "wb") as file:
    ...     _ = file.write(bytes(1000))
    ...     settle(file)
    """
    file.flush()
    _sync(file.fileno())
    _forget(file.fileno())


def leftovers(folder: str | Path) -> list[Path]:
    """Find the temporary files in a folder, which killed processes have left or running ones still fill.

    Parameters
    ----------
    folder : str or Path
        Where to look; not below.

    Returns
    -------
    list of Path
        The files, sorted by name. xmist never deletes them itself: it cannot know whether a process on
        another machine is writing one. When no xmist runs there, they may be deleted.

    Examples
    --------
    >>> leftovers(".")
    []
    """
    return sorted(path for path in Path(folder).iterdir() if _TEMPORARY.fullmatch(path.name))


class _UnplacedError(OutputError):
    """The new files are complete, but could not be given their names; they are kept."""


def _temporary_name(final: Path) -> Path:
    return final.with_name(f".{final.name[:_KEPT_CHARACTERS]}.{secrets.token_hex(8)}.partial")


def _fill(job: Job, temporary: Path, final: Path) -> None:
    """Write, sync and read back one temporary file."""
    stands = "; the file that stood there is unchanged" if final.exists() else ""
    try:
        with temporary.open("x+b") as file:  # HDF5 reads what it writes
            job.write(file)
            file.flush()
            _sync(file.fileno())
            if not job.cached:
                _forget(file.fileno())
        if stands:
            with suppress(OSError):
                shutil.copymode(final, temporary)
    except OSError as error:
        raise OutputError(f"{job.path}: {_reason(error, final)}; nothing was written{stands}") from error
    if job.verify is None:
        return
    try:
        job.verify(temporary)
    except (OSError, ValueError) as error:
        raise OutputError(
            f"{job.path} could not be read back as it was written ({error}); nothing was written{stands}"
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
    """Give every temporary file its final name, or take all back."""
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
    """Give a file that is about to be replaced a second, hidden name, from which it can be restored."""
    spare = _temporary_name(final)
    try:
        spare.hardlink_to(final)
    except OSError:  # a file system without hard links
        shutil.copy2(final, spare)
    return spare


def _rename_if_free(temporary: Path, final: Path) -> None:
    """Rename a file without replacing one that appeared meanwhile."""
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
        cause = f"{final} appeared while its content was being written, and was left as it is."
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
    """Take what is on the disk out of the system's memory, where it can be asked to."""
    if hasattr(os, "posix_fadvise"):
        with suppress(OSError):
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def _sync_folder(folder: Path) -> None:
    """Make the new names last through a power cut, where folders can be synced (not on Windows)."""
    if os.name == "nt":
        return
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
