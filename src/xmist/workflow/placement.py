"""Find the files of many projections, and place their frames by the names of the files or by their order.

A series has more files than can be opened before it starts, and some of them are missing or cut short. What
is not there is noted for its projection; the others keep their places. What identifies a projection is
decided here: the number in the name of its files, or its place in a stack.
"""

from __future__ import annotations

import glob
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.core.errors import ErrorRecord, InputError, prefixed, raise_errors
from xmist.io.frames.addresses import Address, find_addresses, find_names, split_address
from xmist.io.frames.sources import Source, listed
from xmist.workflow.frames import FrameTable, open_tolerant, with_name
from xmist.workflow.numbering import Numbering, find_numbering

# So many files are opened to see how much each holds; of more, the first one speaks for all.
_MOST_OPENED: Final = 64
# So many files may be tried to find one that can be opened.
_MOST_TRIED: Final = 8
# Numbers in names may leave so many times the projections out that there are.
_MOST_TIMES: Final = 1000

_PLACE: Final = re.compile(r"\{([a-z]+)\}")

Places = NDArray[np.int64]


@dataclass
class _File:
    """A file as it was found; `numbers` replace the braces of its name, `error` says why it cannot be read.

    `holes` are frames that cannot be read, `gaps` and `runs` what image keys say of those left out.
    """

    address: Address
    numbers: dict[str, int]
    count: int = 0
    error: str = ""
    holes: Mapping[int, str] = field(default_factory=dict)
    gaps: tuple[int, ...] = ()
    runs: tuple[int, ...] = ()
    paths: tuple[Path, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Request:
    """What is asked for: `outer` is "projection" or "set", and how many there are of each, if it is known."""

    spec: Sequence[str]
    name: str
    outer: str
    order: str | None
    repeats: int
    count: int | None
    positions: int | None
    first: int | None
    position_numbers: tuple[int, ...]


def place_frames(
    spec: Sequence[str],
    *,
    name: str,
    outer: str,
    folder: Path,
    order: str | None,
    repeats: int,
    count: int | None = None,
    positions: int | None = None,
    first: int | None = None,
    position_numbers: tuple[int, ...] = (),
) -> FrameTable:
    """Find the files of many projections (or sets of references) and say where each frame is.

    Names may have {projection} (or {set}) and {position} in the place of digits. `order` is needed where the
    names do not tell it: "position" or "projection", what stays the same for the longest time. `first` is the
    number of the first projection in the names, `position_numbers` are those of the references.
    """
    request = _Request(
        spec=spec,
        name=name,
        outer=outer,
        order=order,
        repeats=repeats,
        count=count,
        positions=positions,
        first=first,
        position_numbers=position_numbers,
    )
    files, braces = _find_files(request, folder)
    opened = _open_files(files, name)
    missing: dict[int, str] = {}
    numbering = Numbering()
    places = _place_by_runs(files, braces, request) if outer == "set" else None
    if places is None:
        if braces:
            places, missing, numbering = _place_by_names(files, braces, request)
        else:
            places, missing = _place_by_order(files, request)
        raise_errors(_gap_errors(files, places, name))
        for index in np.unique(np.argwhere((places < 0).any(axis=(1, 2, 3)))):
            missing.setdefault(int(index), "frames are missing")
    for number, file in enumerate(files):
        if not file.error and not file.holes:
            continue
        for index, position, repeat in np.argwhere(places[..., 0] == number):
            text = file.error or file.holes.get(int(places[index, position, repeat, 1]), "")
            if text:
                missing.setdefault(int(index), text)
    return FrameTable(
        name=name,
        addresses=tuple(file.address for file in files),
        shape=opened.shape,
        dtype=opened.dtype,
        places=places,
        missing=dict(sorted(missing.items())),
        numbering=numbering,
        position_numbers=tuple(sorted({file.numbers["position"] for file in files}))
        if "position" in braces
        else (),
        files=tuple(dict.fromkeys(path for file in files for path in file.paths or (file.address.path,))),
        finding_text=getattr(opened, "finding_text", "") or _runs_text(opened, braces, request, places),
    )


def _runs_text(first: Source, braces: Sequence[str], request: _Request, places: Places) -> str:
    """Return a text where a stack holds references between projections, in another number of sets."""
    runs, sets = len(getattr(first, "runs", ())), len(places)
    # Positions one after the other in one stack may have references each.
    apart = request.order == "position" and not braces and np.unique(places[..., 0]).size == 1
    if request.outer != "set" or "set" in braces or apart or runs in (0, sets):
        return ""
    return (
        f"by its image_key, {first.label} holds references in {runs} part{'s' * (runs > 1)} with projections "
        f"between, and series.reference_at makes {sets} set{'s' * (sets > 1)} of them"
    )


def _find_files(request: _Request, folder: Path) -> tuple[list[_File], tuple[str, ...]]:
    """Find the files and the numbers in their names."""
    spec, name, outer = request.spec, request.name, request.outer
    braces = [tuple(_PLACE.findall(item)) for item in spec]
    errors = [
        f"{name}: {item!r} has the place {{{place}}}; expected {{{outer}}} or {{position}}, each once"
        for item, found in zip(spec, braces, strict=True)
        for place in found
        if place not in (outer, "position") or found.count(place) > 1
    ]
    if len({frozenset(found) for found in braces}) > 1:
        errors.append(f"{name}: {listed(spec)} have different places in braces; expected the same in all")
    raise_errors(list(dict.fromkeys(errors)))
    if not braces[0]:
        wrong: list[ErrorRecord] = []
        addresses = find_addresses(tuple(spec), folder, wrong)
        raise_errors(prefixed(f"{name}: ", wrong))
        return [_File(address, {}) for address in addresses], ()
    try:
        files = [file for item in spec for file in _match(item, folder)]
    except InputError as error:
        raise with_name(name, error) from error
    if not files:
        text = f"{name}: no file is called {listed(spec)} in {folder}; expected digits in the place of "
        raise InputError(f"{text}{{{outer}}} and {{position}}", code="frames-missing")
    files.sort(key=lambda file: sorted(file.numbers.items()))
    keys = [tuple(sorted(file.numbers.items())) for file in files]
    if len(set(keys)) < len(keys):
        twice = next(file for file, key in zip(files, keys, strict=True) if keys.count(key) > 1)
        raise InputError(f"{name}: several files have the numbers {twice.numbers}; expected one file each")
    return files, braces[0]


def _match(item: str, folder: Path) -> list[_File]:
    """Find the files whose names have digits in the place of the braces."""
    text, dataset, key = split_address(item)
    parts = _PLACE.split(text)  # text and names of places alternate
    pattern = "".join("*" if k % 2 else glob.escape(part) for k, part in enumerate(parts))
    form = "".join(f"(?P<{part}>[0-9]+)" if k % 2 else re.escape(part) for k, part in enumerate(parts))
    found = []
    base = Path(folder).expanduser()
    form = unicodedata.normalize("NFC", form)
    for match in find_names(pattern, base):
        numbers = re.fullmatch(form, unicodedata.normalize("NFC", match), re.IGNORECASE)
        if numbers is not None:
            known = {place: int(digits) for place, digits in numbers.groupdict().items()}
            found.append(_File(Address(base / match, dataset, key), known))
    return found


def _open_files(files: list[_File], name: str) -> Source:
    """Open files by their headers to see what they hold; return one of them."""
    first: Source | None = None
    errors: list[Any] = []
    single = False
    for number, file in enumerate(files):
        # A key can take another number of frames of each file.
        if file.address.key is None and first is not None and (single or number >= _MOST_OPENED):
            file.count = first.count
            continue
        try:
            source = open_tolerant(file.address)
        except InputError as error:
            file.error = error.records[0].message
            errors += error.records
            if first is None and number + 1 >= _MOST_TRIED:
                break
            continue
        file.count, file.paths = source.count, source.files
        file.gaps = tuple(getattr(source, "gaps", ()))
        file.runs = tuple(getattr(source, "runs", ()))
        file.holes = dict(getattr(source, "holes", {}))
        if first is None:
            first = source
            # Many files of a frame each: every one is checked when it is read.
            single = len(files) > _MOST_OPENED and source.count == 1
        elif source.shape != first.shape:
            file.error = (
                f"{source.label} has frames of {source.shape[0]} × {source.shape[1]} pixels; expected "
                f"{first.shape[0]} × {first.shape[1]}, as {first.label} has"
            )
    if first is None:
        raise InputError(prefixed(f"{name}: ", errors))
    for file in files:
        # Of a file that cannot be opened it is not known how much it should hold.
        file.count = file.count or first.count
    return first


def _place_by_names(
    files: Sequence[_File], braces: Sequence[str], request: _Request
) -> tuple[Places, dict[int, str], Numbering]:
    """Place frames by the numbers in the names of their files."""
    name, outer, repeats = request.name, request.outer, request.repeats
    longest = max(file.count for file in files)
    ranks: dict[str, list[int]] = {}
    numbering = Numbering()
    for place in braces:
        numbers = [file.numbers[place] for file in files]
        if place == "projection":
            numbering = find_numbering(set(numbers), request.count, request.first)
            ranks[place] = [numbering.index(number) for number in numbers]
        elif place == "position":
            ranks[place] = _position_ranks(numbers, request)
        else:
            ranks[place] = _ranks(numbers)
    found = max(ranks[outer]) + 1 if outer in braces else longest // repeats
    # A list of angles tells of projections after the last file.
    count = max(request.count or 0, found) if outer in braces else request.count or found
    if "position" in braces:
        positions = request.positions or max(ranks["position"]) + 1
        if max(ranks["position"]) >= positions:
            raise InputError(
                f"{name}: the names give {max(ranks['position']) + 1} positions of the diffuser; expected "
                f"{positions}, as the references have",
                code="frames-unequal-numbers",
            )
    else:
        positions = request.positions or longest // repeats
    if count > _MOST_TIMES * max(len(files), request.count or 0, 1000):
        raise InputError(
            f"{name}: the numbers in the names of {len(files)} files reach from {numbering.first} on over "
            f"{count} projections; expected numbers that follow each other",
            code="frames-unequal-numbers",
        )
    inside = repeats * (1 if outer in braces else count) * (1 if "position" in braces else positions)
    if longest > inside or not inside:
        product = ["repeats", *(f"{each}s" for each in (outer, "position") if each not in braces)]
        hint = ", series.reference_at and series.reference_repeats" * (outer == "set")
        raise InputError(
            f"{name}: a file holds {longest} frames; expected {inside} ({' × '.join(product)}{hint})",
            code="frames-unequal-numbers",
        )
    places = np.full((count, positions, repeats, 2), -1, np.int64)
    for number, file in enumerate(files):
        frame = 0
        for index in [ranks[outer][number]] if outer in braces else range(count):
            for position in [ranks["position"][number]] if "position" in braces else range(positions):
                for repeat in range(repeats):
                    if frame < file.count:
                        places[index, position, repeat] = number, frame
                    frame += 1
    missing: dict[int, str] = {}
    for index in range(count):
        absent = np.flatnonzero((places[index, :, :, 0] < 0).any(axis=1))
        if absent.size == positions:
            missing[index] = f"there is no file {listed(request.spec, 2)} for it"
        elif absent.size:
            missing[index] = f"there is no frame at position {absent[0]} of the diffuser"
    return places, missing, numbering


def _position_ranks(numbers: Sequence[int], request: _Request) -> list[int]:
    """Return the positions that numbers in names mean: those of the references, where they have the same."""
    known = request.position_numbers
    ours = set(numbers)
    if not ours & set(known):
        return _ranks(numbers)
    if not ours <= set(known):
        raise InputError(
            f"{request.name}: the names hold the positions {listed(sorted(ours))}, and those of the "
            f"references {listed(known)}; expected the same numbers",
            code="positions-mismatch",
        )
    return [known.index(number) for number in numbers]


def _ranks(numbers: Sequence[int]) -> list[int]:
    """Return the places of numbers that count in steps; what is left out leaves a gap."""
    first = min(numbers)
    step = math.gcd(*(number - first for number in numbers)) or 1
    return [(number - first) // step for number in numbers]


def _place_by_order(files: Sequence[_File], request: _Request) -> tuple[Places, dict[int, str]]:
    """Place frames by their order."""
    name, outer, repeats = request.name, request.outer, request.repeats
    count, positions = request.count, request.positions
    flat = [(number, frame) for number, file in enumerate(files) for frame in range(file.count)]
    if positions is None:
        assert count is not None  # of the references
        positions = len(flat) // (count * repeats)
        if positions * count * repeats != len(flat) or not positions:
            raise InputError(
                f"{name}: {len(flat)} frames are no multiple of {count} sets of {repeats} repeats; expected "
                "as many frames in each set (series.reference_at, series.reference_repeats)",
                code="frames-unequal-numbers",
            )
    if request.order is None and positions > 1 and count != 1:
        raise InputError(
            f'series.order is missing; expected "position" (stacks of a position) or "projection" '
            f"(interleaved), or names of {name} with {{{outer}}} and {{position}} in them",
            code="option-missing",
        )
    by_position = request.order == "position"
    if by_position and len(files) == positions and max(file.count for file in files) > repeats:
        # A stack a position: one that is cut short lacks its last projections, and shifts no other.
        total = count or max(file.count for file in files) // repeats
        places = np.full((total, positions, repeats, 2), -1, np.int64)
        for number, file in enumerate(files):
            for frame in range(min(file.count, total * repeats)):
                places[frame // repeats, number, frame % repeats] = number, frame
    else:
        total = count or len(flat) // (positions * repeats)
        if total * positions * repeats != len(flat):
            raise InputError(
                f"{name}: {len(flat)} frames are not {total or 1} {outer}s of {positions} positions of "
                f"{repeats} repeats; if files are missing, put {{{outer}}} and {{position}} into the names",
                code="frames-unequal-numbers",
            )
        shape = (positions, total) if by_position else (total, positions)
        places = np.array(flat, np.int64).reshape(*shape, repeats, 2)
        places = np.ascontiguousarray(places.swapaxes(0, 1)) if by_position else places
    missing: dict[int, str] = {}
    for index, position in np.argwhere((places[..., 0] < 0).any(axis=2)):
        label = files[int(position)].address if by_position else name
        missing.setdefault(int(index), f"{label} ends before it")
    return places, missing


def _place_by_runs(files: Sequence[_File], braces: Sequence[str], request: _Request) -> Places | None:
    """Place references of which some were invalid: what is left of a set in the stack of a position.

    None where no frame was left out, or the files are no stacks of a position with projections between sets.
    """
    apart = list(braces) == ["position"] or (not braces and request.order == "position" and len(files) > 1)
    if not apart or not any(file.gaps for file in files):
        return None
    sets = request.count or 0
    if any(file.error or len(file.runs) != sets or max(file.runs) > request.repeats for file in files):
        return None
    ranks = _ranks([file.numbers["position"] for file in files]) if braces else list(range(len(files)))
    if sorted(ranks) != list(range(len(files))):
        return None
    places = np.full((sets, len(files), request.repeats, 2), -1, np.int64)
    for number, (file, position) in enumerate(zip(files, ranks, strict=True)):
        frame = 0
        for index, size in enumerate(file.runs):
            places[index, position, :size, 0] = number
            places[index, position, :size, 1] = np.arange(frame, frame + size)
            frame += size
    return places


def _gap_errors(files: Sequence[_File], places: Places, name: str) -> list[str]:
    """Return where frames that were left out as invalid leave it open where the others belong.

    They do not where every frame is a projection of its own, nor where stacks of a position each lack the
    same ones.
    """
    read = [file for file in files if not file.error]
    marked = [file for file in read if file.gaps]
    positions, repeats = places.shape[1:3]
    if not marked or (repeats == 1 and positions == 1):
        return []
    if repeats == 1:
        inside = [np.unique(np.argwhere(places[..., 0] == number)[:, 1]).size for number in range(len(files))]
        if max(inside) == 1 and len({file.gaps for file in read}) == 1:
            return []
    number = sum(len(file.gaps) for file in marked)
    return [
        f"{name}: {number} frame{'s' * (number > 1)} of {listed([file.address for file in marked], 2)} "
        f"{'are' if number > 1 else 'is'} marked as invalid (image_key 3), and without them it is open which "
        "projection the frames around belong to; expected invalid frames only where every frame is a "
        "projection of its own, or the same ones in each stack of a position"
    ]
