"""Where frames are: files, patterns of files, and datasets inside them."""

from __future__ import annotations

import glob
import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from xmist.core.errors import ErrorRecord, InputError
from xmist.io.frames.axes import Axes
from xmist.io.frames.sources import listed, reason

Spec = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
Links = Literal["all", "inside"]

# Endings of text files with a number on each line.
TABLES: Final = (".txt", ".dat", ".csv")
KEY_NAMES: Final = ("image_key", "image_key_control")
# What stands at the end of an address of some frames of a stack: [image_key=1].
_KEYED: Final = re.compile(r"(.*)\[([^\[\]=]*)=([^\[\]=]*)\]", re.DOTALL)


@dataclass(frozen=True)
class FrameKey:
    """Which frames of a stack to take, by the image key that NXtomo states for each."""

    name: str
    value: int

    def __str__(self) -> str:
        return f"[{self.name}={self.value}]"


@dataclass(frozen=True)
class Address:
    """A file and, for HDF5, the dataset in it; `axes`: those of its array, if they are stated.

    `links`: whether links may lead out of the folder of the file.
    """

    path: Path
    dataset: str | None = None
    key: FrameKey | None = None
    axes: Axes | None = None
    links: Links = "all"

    def __str__(self) -> str:
        if self.dataset is None and self.key is None:
            return str(self.path)
        return f"{self.path}::{self.dataset or ''}{self.key or ''}"


def check_link(address: Address) -> None:
    """Raise an error if a file is a symbolic link that leads out of its folder, and that is not allowed."""
    target = Path(os.path.realpath(address.path))
    if address.links == "inside" and not target.is_relative_to(os.path.realpath(address.path.parent)):
        raise InputError(
            f'{address.path} leads to {target}, outside its folder, which links = "inside" does not allow; '
            "name that file itself, or allow all links",
            "link-outside",
        )


def names_file(name: str) -> bool:
    """Return whether a text names a dataset or a table of numbers, and not a key of the headers."""
    return "::" in name or name.lower().endswith(TABLES)


def split_address(item: str) -> tuple[str, str | None, FrameKey | None]:
    """Split a name into the file and the dataset or key in it."""
    text, _, inside = item.partition("::")
    keyed = _KEYED.fullmatch(inside.strip())
    if keyed is None:
        return text, inside.strip() or None, None
    dataset, name, value = (part.strip() for part in keyed.groups())
    if name.rpartition("/")[2] not in KEY_NAMES or value not in ("0", "1", "2"):
        raise InputError(
            f"{item!r} ends in [{name}={value}]; expected [image_key=0] for projections, [image_key=1] for "
            "frames without the sample or [image_key=2] for darks",
            "image-key-invalid",
        )
    return text, dataset or None, FrameKey(name, int(value))


def find_addresses(spec: Spec, folder: str | Path | None, errors: list[ErrorRecord]) -> list[Address]:
    """Return the files that a specification names."""
    if isinstance(spec, (str, bytes, os.PathLike)) or not isinstance(spec, Iterable):
        items = [spec]
    else:
        items = list(spec)
    if not items:
        text = 'names no file; expected a file, or a pattern such as "ref_*.tif"'
        errors.append(ErrorRecord("value-invalid", text))
    found: list[Address] = []
    for item in items:
        if not isinstance(item, (str, os.PathLike)) or isinstance(os.fspath(item), bytes):
            text = f"{item!r} is of type {type(item).__name__}; expected the name of a file as text"
            errors.append(ErrorRecord("value-invalid", text))
        elif "\0" in os.fspath(item):
            text = f"{item!r} contains a NUL character; expected the name of a file"
            errors.append(ErrorRecord("value-invalid", text))
        elif not os.fspath(item).strip():
            text = 'holds an empty name; expected a file, or a pattern such as "ref_*.tif"'
            errors.append(ErrorRecord("value-invalid", text))
        else:
            found += _find(os.fspath(item), folder, errors)
    seen: dict[tuple[str, str | None, FrameKey | None], Address] = {}
    twice = []
    for address in found:
        key = (os.path.realpath(address.path), address.dataset, address.key)
        if key in seen:
            twice.append(address)
        seen.setdefault(key, address)
    if twice:
        text = f"{listed(twice)} is named more than once; name every file once"
        errors.append(ErrorRecord("frames-shared", text))
    return list(seen.values())


def natural_key(name: str) -> list[str | int]:
    """Return the key that sorts names by their numbers: `ref_2` before `ref_10`."""
    parts = re.split(r"([0-9]+)", name)  # text and numbers alternate, so only like is compared with like
    return [int(part) if place % 2 else part for place, part in enumerate(parts)]


def natural_sort(paths: Iterable[Path]) -> list[Path]:
    """Sort files by the numbers in their names."""
    return sorted(paths, key=lambda path: (natural_key(str(path)), str(path)))


def _find(item: str, folder: str | Path | None, errors: list[ErrorRecord]) -> list[Address]:
    """Return the files of one name or pattern."""
    try:
        text, dataset, key = split_address(item)
    except InputError as error:
        errors += error.records
        return []
    try:
        path = Path(text).expanduser()
        path = path if folder is None else Path(folder) / path
        if path.exists() or not glob.has_magic(str(path)):
            return [Address(_spelled(path), dataset, key)]
        # The folder is taken literally: its name may hold brackets. (Path.glob would find hidden files.)
        base, pattern = _split_pattern(path)
        matches = [base / match for match in find_names(pattern, base)]
        files = [match for match in natural_sort(matches) if not match.is_dir()]
    except (OSError, ValueError, RuntimeError) as error:
        errors.append(ErrorRecord("file-unreadable", f"{item!r} cannot be looked up ({reason(error)})"))
        return []
    if not files:
        errors.append(ErrorRecord("file-missing", _empty_pattern(item, base, pattern)))
    return [Address(file, dataset, key) for file in files]


def find_names(pattern: str, folder: Path) -> list[str]:
    """Return the names in a folder that match a pattern as it is written.

    If none does, accents may be composed or not (macOS decomposes them), and the ending of any case.
    """
    stem, dot, ending = pattern.rpartition(".")
    forms = [pattern]
    for normal in ("NFC", "NFD"):
        forms.append(unicodedata.normalize(normal, pattern))
        if dot and ending.isalnum():
            letters = "".join(f"[{x.lower()}{x.upper()}]" if x.isalpha() else x for x in ending)
            forms.append(f"{unicodedata.normalize(normal, stem)}.{letters}")
    found = (glob.glob(form, root_dir=folder) for form in dict.fromkeys(forms))  # noqa: PTH207
    return next((names for names in found if names), [])


def _spelled(path: Path) -> Path:
    """Return a path with the spelling of the existing file; as it was given if there is none."""
    if path.exists() or not path.parent.is_dir():
        return path
    names = find_names(glob.escape(path.name), path.parent)
    return path.parent / names[0] if len(names) == 1 else path


def _split_pattern(path: Path) -> tuple[Path, str]:
    """Split a path into the part that exists and the pattern."""
    base = path
    while glob.has_magic(str(base)) and not base.exists() and base != base.parent:
        base = base.parent
    return base, str(path.relative_to(base))


def _empty_pattern(item: str, base: Path, pattern: str) -> str:
    if not base.is_dir():
        return f"the folder {base} of the pattern {item!r} does not exist; check the name"
    there = natural_sort(Path(name.name) for name in base.iterdir() if not name.name.startswith("."))
    holds = f"it holds {listed(there)}" if there else "it is empty"
    return f"the pattern {pattern!r} matches no file in {base} ({holds})"
