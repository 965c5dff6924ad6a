"""Names that are to be written to: what keeps them from it, told before anything is written."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from xmist.core.errors import InputError


def make_folder(folder: str | Path) -> None:
    """Make a folder, and those above it, where it does not exist.

    Parameters
    ----------
    folder : str or Path
        The folder.

    Raises
    ------
    InputError
        If it cannot be made.

    Examples
    --------
    >>> make_folder(".")
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"the folder {folder} cannot be made ({error.strerror or error}); expected a name that is free, "
            "where you may write"
        ) from error


def folder_faults(folder: str | Path) -> list[str]:
    """Say what keeps a folder from being made or written to, without making it.

    Parameters
    ----------
    folder : str or Path
        The folder.

    Returns
    -------
    list of str
        A sentence for each fault; empty if `make_folder` and writing into it can work.

    Examples
    --------
    >>> folder_faults("."), folder_faults("new/folder")
    ([], [])
    """
    path = Path(folder)
    try:
        standing = next(place for place in (path, *path.absolute().parents) if _stands(place))
        if not standing.is_dir():
            kind = "is a file" if standing.exists() else "is a link to nothing"
            return [f"the folder {path} cannot be made: {standing} {kind}; expected a name that is free"]
        if not os.access(standing, os.W_OK | os.X_OK):
            return [f"no permission to write in the folder {standing}; choose another for {path}"]
    except (OSError, ValueError) as error:  # a name too long, a NUL in it
        return [f"the folder {path} cannot be made ({getattr(error, 'strerror', None) or error})"]
    return []


def target_faults(path: str | Path, *, overwrite: bool = False) -> list[str]:
    """Say what keeps a file from being written, without writing anything.

    Parameters
    ----------
    path : str or Path
        Final name.
    overwrite : bool
        Whether a file that stands there already may be replaced.

    Returns
    -------
    list of str
        A sentence for each fault; empty if the file can be written.

    Examples
    --------
    >>> target_faults("no-such-folder/result.h5")
    ['the folder no-such-folder of result.h5 does not exist; create it first']
    """
    path = Path(path)
    try:
        final = resolve(path)
        folder = final.parent
        if final.is_dir():
            return [f"{path} is a folder; expected the name of a file"]
        if not folder.exists():
            return [f"the folder {path.parent} of {path.name} does not exist; create it first"]
        if not folder.is_dir():
            return [f"{path.parent} is a file; expected the folder that shall hold {path.name}"]
        if not os.access(folder, os.W_OK | os.X_OK):
            return [f"no permission to write in the folder {path.parent}; choose another for {path.name}"]
        if final.exists():
            mode = final.stat().st_mode
            if not stat.S_ISREG(mode):
                return [f"{path} is not a regular file; expected a name that is free"]
            if not overwrite:
                return [f"{path} exists already; allow overwriting (--overwrite) or give another name"]
            if not mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH):
                return [f"{path} is write-protected; remove the protection or give another name"]
    except (OSError, ValueError, RuntimeError) as error:  # a name too long, a NUL in it, a loop of links
        return [f"{path} cannot be written ({getattr(error, 'strerror', None) or error})"]
    return []


def _stands(path: Path) -> bool:
    """Say whether anything has this name; a name that no file system takes raises."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def resolve(path: Path) -> Path:
    """Give the file that a name leads to, through symbolic links.

    Parameters
    ----------
    path : Path
        The name.
    """
    return Path(os.path.realpath(path))
