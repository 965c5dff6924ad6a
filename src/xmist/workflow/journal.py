"""What a series is: its configuration and the files that it reads, and the right to write its blocks.

A run goes on where an earlier one stopped if both are the same; how it is cut into blocks was decided then.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from xmist.core.errors import InputError, OutputError
from xmist.core.version import __version__
from xmist.io.frames.sources import listed
from xmist.io.results.atomic import write_file
from xmist.workflow.configuration import ParsedConfiguration

NAME: Final = "journal.json"
_LOCK: Final = "lock"
_SCHEMA: Final = 2
_LARGEST: Final = 2**28


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What the results of a series depend on: configuration, size and time of change (ns) of each file."""

    configuration: Mapping[str, Any]
    files: Mapping[str, list[int]]
    version: str = __version__

    @property
    def hash(self) -> str:
        """SHA-256 of all of it."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Journal:
    """What was decided when a series began; `key` is the hash of the identity then."""

    identity: Identity
    block: int
    count: int
    channels: tuple[str, ...]
    key: str

    def save(self, folder: Path) -> None:
        """Write it."""
        text = json.dumps({"xmist_journal": _SCHEMA, **asdict(self)}, indent=1, ensure_ascii=True).encode()
        write_file(folder / NAME, lambda file: file.write(text), overwrite=True)


def read_journal(folder: Path) -> Journal | None:
    """Read the journal of an earlier run."""
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
        text = f"{path} cannot be read ({error}); --overwrite begins the series anew"
        raise InputError(text, code="journal-unreadable") from error


def identify(parsed: ParsedConfiguration, files: Iterable[Path]) -> Identity:
    """Return what the results of a series depend on; files that are missing are left out."""
    found: dict[str, list[int]] = {}
    for path in dict.fromkeys(map(Path, files)):
        with suppress(OSError):
            facts = path.stat()
            name = os.path.relpath(path, parsed.folder) if path.is_relative_to(parsed.folder) else str(path)
            found[name] = [facts.st_size, facts.st_mtime_ns]
    return Identity(configuration=json.loads(json.dumps(parsed.to_dict())), files=found)


def differences(old: Identity, new: Identity) -> list[str]:
    """Return in words how two runs differ; a file that was missing and is there now is no difference."""
    found = []
    if old.version != new.version:
        found.append(f"xmist was {old.version} and is {new.version}")
    before, after = _flat(old.configuration), _flat(new.configuration)
    found += [
        f"{key} was {_shown(before.get(key))} and is {_shown(after.get(key))}"
        for key in sorted({*before, *after})
        if before.get(key) != after.get(key)
    ]
    gone = sorted(old.files.keys() - new.files.keys())
    if gone:
        found.append(f"missing now: {listed(gone, 3)}")
    common = sorted(old.files.keys() & new.files.keys())
    for what, place in (("size", 0), ("time of change", 1)):
        changed = [name for name in common if old.files[name][place] != new.files[name][place]]
        if changed:
            found.append(f"another {what}: {listed(changed, 3)}")
            break
    return found


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the right to write the blocks of a series; a killed process gives it up by itself."""
    path = folder / _LOCK
    try:
        file = path.open("a+b")
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error.strerror or error})") from error
    with file:
        if not _acquire(file.fileno()):
            text = f"another xmist is at work on {folder}; wait until it has ended, or stop it first"
            raise InputError(text, code="series-locked")
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
