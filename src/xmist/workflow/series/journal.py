"""What a scan is: the hashes of its configuration and input, and the right to write its blocks.

The journal is written before the first block. A later run compares itself with it: an equal one goes on,
another one is refused and told what differs.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from xmist.core.errors import InputError, OutputError
from xmist.core.version import __version__
from xmist.io.frames.frames import digest
from xmist.io.frames.sources import listed
from xmist.io.results.atomic import write_file
from xmist.workflow.configuration import ScanFile

NAME: Final = "journal.json"
_LOCK: Final = "lock"
_SCHEMA: Final = 1
# So many files have a part of their content looked at; of all, size and time are.
_SAMPLED: Final = 256
_PIECE: Final = 2**16
_LARGEST: Final = 2**28


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What the results of a scan depend on.

    Parameters
    ----------
    scan : mapping
        What the scan file states, as plain data.
    files : mapping of str to list
        For each file, by its name from the scan file's folder: size, time of change in ns (0 with a full
        hash) and a hash of its content (of parts of it; "" if it was not looked at).
    full : bool
        Whether the hashes are those of the whole content.
    version : str
        Version of xmist.
    """

    scan: Mapping[str, Any]
    files: Mapping[str, list[Any]]
    full: bool
    version: str = __version__

    @property
    def hash(self) -> str:
        """SHA-256 of all of it."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Give it as plain data."""
        return {
            "scan": dict(self.scan),
            "files": dict(self.files),
            "full": self.full,
            "version": self.version,
        }


@dataclass(frozen=True, kw_only=True)
class Journal:
    """What was decided when a scan began.

    Parameters
    ----------
    identity : Identity
        Its input and configuration then.
    block : int
        Projections a block.
    count : int
        Number of projections.
    channels : tuple of str
        Channels that are kept.
    key : str
        Hash of the identity when the scan began; every block carries it.
    """

    identity: Identity
    block: int
    count: int
    channels: tuple[str, ...]
    key: str

    def save(self, folder: Path) -> None:
        """Write it.

        Parameters
        ----------
        folder : Path
            Of the blocks.

        Raises
        ------
        OutputError
            When writing failed.
        """
        data = {
            "xmist_journal": _SCHEMA,
            "key": self.key,
            "identity": self.identity.to_dict(),
            "block": self.block,
            "count": self.count,
            "channels": list(self.channels),
        }
        text = json.dumps(data, indent=1, ensure_ascii=True).encode()
        write_file(folder / NAME, lambda file: file.write(text), overwrite=True)


def read_journal(folder: Path) -> Journal | None:
    """Read the journal of an earlier run.

    Parameters
    ----------
    folder : Path
        Of the blocks.

    Returns
    -------
    Journal or None
        None if there is none.

    Raises
    ------
    InputError
        If it is damaged.
    """
    path = folder / NAME
    if not path.exists():
        return None
    try:
        if path.stat().st_size > _LARGEST:
            raise ValueError("it is too large")
        data = json.loads(path.read_bytes())
        if data["xmist_journal"] != _SCHEMA:
            raise ValueError(f"it has schema {data['xmist_journal']!r}")
        return Journal(
            identity=Identity(**data["identity"]),
            block=int(data["block"]),
            count=int(data["count"]),
            channels=tuple(map(str, data["channels"])),
            key=str(data["key"]),
        )
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise InputError(f"{path} cannot be read ({error}); --overwrite begins the scan anew") from error


def identify(scan: ScanFile, files: Iterable[Path], *, full: bool) -> Identity:
    """Say what the results of a scan depend on.

    Parameters
    ----------
    scan : ScanFile
        What it states.
    files : iterable of Path
        What it reads; those that are missing are left out.
    full : bool
        Read every file whole, and leave the time of its change out.
    """
    section = scan.scan
    assert section is not None
    stated = {
        "input": scan.input.model_dump(exclude_none=True),
        "experiment": scan.experiment.to_dict(),
        "preprocess": [{"step": name, **options} for name, options in scan.preprocess],
        "retrieve": {"method": scan.method},
        "options": dict(scan.options),
        # How many projections share a file changes no result.
        "scan": section.model_dump(exclude_none=True, exclude={"block"}),
    }
    present = [path for path in dict.fromkeys(files) if path.is_file()]
    looked_at = {present[k * len(present) // _SAMPLED] for k in range(_SAMPLED)} if present else set()
    found: dict[str, list[Any]] = {}
    for path in present:
        with suppress(OSError):  # it has gone meanwhile
            facts = path.stat()
            if full:
                content = digest([path])[0]["sha256"]
            else:
                content = _sampled(path, facts.st_size) if path in looked_at else ""
            found[_called(path, scan.folder)] = [facts.st_size, 0 if full else facts.st_mtime_ns, content]
    return Identity(scan=json.loads(json.dumps(stated)), files=found, full=full)


def differences(old: Identity, new: Identity) -> list[str]:
    """Say in words how two runs differ; a file that was missing and is there now is no difference.

    Parameters
    ----------
    old, new : Identity
        Of the journal, and of this run.
    """
    told = []
    if old.version != new.version:
        told.append(f"xmist was {old.version} and is {new.version}")
    before, after = _flat(old.scan), _flat(new.scan)
    told += [
        f"{key} was {_shown(before.get(key))} and is {_shown(after.get(key))}"
        for key in sorted({*before, *after})
        if before.get(key) != after.get(key)
    ]
    if old.full != new.full:
        told.append(
            "the input was hashed in full, and now it was not: give --full-hash"
            if old.full
            else "the input was not hashed in full, and now it was: leave out --full-hash"
        )
        return told
    gone = sorted(old.files.keys() - new.files.keys())
    if gone:
        told.append(f"missing now: {listed(gone, 3)}")
    for what, place in (("size", 0), ("content", 2), ("time of change", 1)):
        changed = [
            name
            for name in sorted(old.files.keys() & new.files.keys())
            if old.files[name][place] != new.files[name][place]
            # Which files have their content looked at depends on how many there are.
            and (place != 2 or (old.files[name][2] and new.files[name][2]))
        ]
        if changed:
            told.append(f"another {what}: {listed(changed, 3)}")
            break
    return told


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the right to write the blocks of a scan; a killed process gives it up by itself.

    Parameters
    ----------
    folder : Path
        Of the blocks.

    Raises
    ------
    InputError
        If another process holds it.
    OutputError
        If the folder cannot be written to.
    """
    path = folder / _LOCK
    try:
        file = path.open("a+b")
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error.strerror or error})") from error
    with file:
        if not _acquire(file.fileno()):
            raise InputError(
                f"another xmist scan is at work on {folder}; wait until it has ended, or stop it first"
            )
        yield


def _acquire(descriptor: int) -> bool:
    """Lock an open file; a file system that cannot lock counts as locked."""
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except OSError:
            return False
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _called(path: Path, folder: Path) -> str:
    return os.path.relpath(path, folder) if path.is_relative_to(folder) else str(path)


def _sampled(path: Path, size: int) -> str:
    """Hash the beginning, the middle and the end of a file."""
    parts = hashlib.sha256()
    with path.open("rb") as file:
        for start in sorted({0, max(0, size // 2 - _PIECE // 2), max(0, size - _PIECE)}):
            file.seek(start)
            parts.update(file.read(_PIECE))
    return parts.hexdigest()


def _flat(data: Any, name: str = "") -> dict[str, Any]:
    if isinstance(data, Mapping):
        return {
            key: value
            for part, inside in data.items()
            for key, value in _flat(inside, f"{name}.{part}" if name else str(part)).items()
        }
    if isinstance(data, Sequence) and not isinstance(data, str) and any(isinstance(x, Mapping) for x in data):
        return {
            key: value
            for number, inside in enumerate(data, 1)
            for key, value in _flat(inside, f"{name}[{number}]").items()
        }
    return {name: data}


def _shown(value: Any) -> str:
    text = "not given" if value is None else repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
