"""The identity of a series (its configuration and frames), and the lock on its blocks.

A run continues an earlier one if both have the same identity; the blocks are those of the first run. The row
of each result (`quality.Row`) lists its frames; `audit` compares them with the present files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from xmist.core.errors import InputError, OutputError
from xmist.core.version import __version__
from xmist.io.frames.sources import listed
from xmist.io.results.atomic import write_file
from xmist.workflow.configuration import ParsedConfiguration
from xmist.workflow.frames import FrameReader, FrameTable, State
from xmist.workflow.quality import Row
from xmist.workflow.setup import SeriesSetup
from xmist.workflow.storage import BlockSchema

NAME: Final = "journal.json"
_LOCK: Final = "lock"
_SCHEMA: Final = 3
_LARGEST: Final = 2**28


# Keys that say where frames are and how results are stored: the frames themselves are compared.
_FREE: Final = {
    "input": ("reference", "sample", "dark", "flat", "sample_axes", "reference_axes", "links"),
    "series": ("angles", "tilt", "expected", "first", "projections", "block"),
}


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Everything that all results of a series depend on: configuration, version, hashes of shared frames."""

    configuration: Mapping[str, Any]
    inputs: Mapping[str, list[str]]
    version: str = __version__

    @property
    def hash(self) -> str:
        """SHA-256 of all of it."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Verified:
    """Unchanged frames of a result whose files have a new date; `states` are the present ones."""

    digest: str
    states: tuple[State, ...]


@dataclass(frozen=True, kw_only=True)
class Journal:
    """The identity and blocks of a series, the number of its runs, and files that were found unchanged."""

    identity: Identity
    block: int
    channels: tuple[str, ...]
    shape: tuple[int, int]
    run: int = 0
    verified: Mapping[int, Verified] = field(default_factory=dict)

    @property
    def schema(self) -> BlockSchema:
        """What every block holds."""
        return BlockSchema(identity=self.identity.hash, channels=self.channels, shape=self.shape)

    def save(self, folder: Path) -> None:
        """Write it."""
        text = json.dumps({"xmist_journal": _SCHEMA, **asdict(self)}, indent=1, ensure_ascii=True).encode()
        write_file(folder / NAME, text, overwrite=True)


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
            channels=tuple(map(str, data["channels"])),
            shape=(int(data["shape"][0]), int(data["shape"][1])),
            run=int(data["run"]),
            verified={
                int(number): Verified(
                    digest=str(each["digest"]), states=tuple(_state(*state) for state in each["states"])
                )
                for number, each in data["verified"].items()
            },
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        text = f"{path} cannot be read ({error}); --overwrite begins the series anew"
        raise InputError(text, code="journal-unreadable") from error


def _state(file: str, frame: int, size: int, time: int) -> State:
    return str(file), int(frame), int(size), int(time)


def identify(parsed: ParsedConfiguration, setup: SeriesSetup) -> Identity:
    """Return the identity of a series."""
    configuration = json.loads(json.dumps(parsed.to_dict()))
    for table, keys in _FREE.items():
        for key in keys:
            configuration.get(table, {}).pop(key, None)
    section = parsed.series_section
    if section.warm_start or len(section.reference_at or ()) > 1:  # a result depends on how many came before
        numbering = setup.table.numbering
        configuration["numbers"] = {"first": numbering.first, "step": numbering.step}
    inputs = {role: [frame["sha256"] for frame in frames] for role, frames in setup.digests.items()}
    return Identity(configuration=configuration, inputs=inputs)


def differences(old: Identity, new: Identity, names: Mapping[str, Sequence[str]]) -> list[str]:
    """Return in words how two runs differ; `names` are those of the shared frames of the new one."""
    found = []
    if old.version != new.version:
        found.append(f"xmist was {old.version} and is {new.version}")
    before, after = _flat(old.configuration), _flat(new.configuration)
    found += [
        f"{key} was {_shown(before.get(key))} and is {_shown(after.get(key))}"
        for key in sorted({*before, *after})
        if before.get(key) != after.get(key)
    ]
    for role in sorted({*old.inputs, *new.inputs}):
        one, other = old.inputs.get(role, []), new.inputs.get(role, [])
        others = [name for name, digest in zip(names.get(role, ()), other, strict=False) if digest not in one]
        if one != other:
            changed = f", other ones: {listed(others, 3)}" if others else " in another order or number"
            found.append(f"{role}: {len(one)} frames then and {len(other)} now{changed}")
    return found


@dataclass(frozen=True, kw_only=True)
class Audit:
    """Comparison of the frames of finished projections with the present files, by number.

    `changed` names frames that have changed, `removed` says why frames cannot be read any more, and
    `verified` are unchanged frames of files with a new date.
    """

    changed: Mapping[int, str] = field(default_factory=dict)
    removed: Mapping[int, str] = field(default_factory=dict)
    verified: Mapping[int, Verified] = field(default_factory=dict)


def audit(
    table: FrameTable, rows: Mapping[int, Row], verified: Mapping[int, Verified], *, load: bool
) -> Audit:
    """Compare the frames of finished projections with the present files.

    Where a file has changed its frames are loaded again and their hashes compared; without `load` only
    missing files are noticed.
    """
    changed: dict[int, str] = {}
    removed: dict[int, str] = {}
    same: dict[int, Verified] = {}
    with FrameReader(table) as reader:
        for number, row in rows.items():
            index = table.numbering.index(number)
            if index in table.missing:
                removed[number] = table.missing[index]
                continue
            if not load:
                same |= {number: verified[number]} if number in verified else {}
                continue
            try:
                states = tuple(reader.states(index))
                known = verified.get(number)
                if states == tuple(frame.state for frame in row.frames):
                    continue
                if known is not None and (known.digest, known.states) == (row.digest, states):
                    same[number] = known
                    continue
                digests = reader.digests(index)
                if digests == tuple(frame.sha256 for frame in row.frames):
                    same[number] = Verified(digest=row.digest, states=states)
                else:
                    changed[number] = _unlike(row, states, digests)
            except InputError as error:
                removed[number] = error.records[0].message
    return Audit(changed=changed, removed=removed, verified=same)


def _unlike(row: Row, states: Sequence[State], digests: Sequence[str]) -> str:
    """Name the present frames that were not used for a result."""
    known = {frame.sha256 for frame in row.frames}
    names = [state[0] for state, digest in zip(states, digests, strict=True) if digest not in known]
    others = [frame.file for frame in row.frames if frame.file not in {state[0] for state in states}]
    instead = f" in the place of {listed(list(dict.fromkeys(others)), 3)}" if others else ""
    text = listed(list(dict.fromkeys(names)), 3)
    return f"{text}{instead}" if text else "its frames are in another order"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock the blocks of a series; the lock of a killed process is released by the system."""
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
