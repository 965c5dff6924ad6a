"""Find the files of many projections, and place their frames by the names of the files or by their order.

A series has more files than can be opened before it starts, and some of them are missing or cut short.
Missing frames are noted for their projection; the others keep their places. A projection is identified by the
number in the name of its files, or by its place in a stack.
"""

from __future__ import annotations

import glob
import math
import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.core.errors import ErrorRecord, InputError, prefix_errors, prefixed, raise_errors
from xmist.io.frames.addresses import Address, Links, find_addresses, find_names, split_address
from xmist.io.frames.axes import Axes, axis_sizes, frame_axes
from xmist.io.frames.sources import Source, listed
from xmist.workflow.configuration import ParsedConfiguration
from xmist.workflow.frames import FrameTable, open_tolerant
from xmist.workflow.numbering import Numbering, find_numbering

# Number of files that are opened to see how much each holds; of more files, the first represents all.
_MOST_OPENED: Final = 64
# Number of files that are tried to find one that can be opened.
_MOST_TRIED: Final = 8
# Names tell where files belong if the numbers in them are at least one in so many that they could be.
_SPARSE: Final = 2
# Numbers in names may leave so many times the projections out that there are.
_MOST_TIMES: Final = 1000

_PLACE: Final = re.compile(r"\{([a-z]+)\}")

Places = NDArray[np.int64]


@dataclass
class _File:
    """A file that was found; `numbers` replace the braces of its name, `error` says why it cannot be read.

    `holes` are frames that cannot be read, `gaps` and `runs` what image keys say of those left out.
    """

    address: Address
    numbers: dict[str, int]
    count: int = 0
    sizes: tuple[int, ...] = ()
    error: str = ""
    holes: Mapping[int, str] = field(default_factory=dict)
    gaps: tuple[int, ...] = ()
    runs: tuple[int, ...] = ()
    paths: tuple[Path, ...] = ()


@dataclass(frozen=True, kw_only=True)
class FrameRequest:
    """The frames to find, of many projections or sets of references.

    Names in `spec` may have {projection} (or {set}), {position} and {repeat} instead of digits, and
    `outer` is "projection" or "set". `axes` state the axes of the stored arrays, and in which order frames of
    several files are counted; they are needed if the names do not state it. `any_repeats`: the positions of
    a set may have any numbers of repeats. `count` and `positions` are how many there are, if known; `first`
    is the number of the first projection in the names, `position_numbers` are those of the references, and
    `before` are the numbers of projections that were there before. `growing`: more frames are recorded.
    """

    spec: Sequence[str]
    name: str
    outer: str
    folder: Path
    axes: Axes | None = None
    links: Links = "all"
    repeats: int = 1
    any_repeats: bool = False
    count: int | None = None
    positions: int | None = None
    first: int | None = None
    position_numbers: tuple[int, ...] = ()
    before: Collection[int] = ()
    growing: bool = False

    @classmethod
    def of(cls, parsed: ParsedConfiguration, role: str, **more: Any) -> FrameRequest:
        """Return the request for the "reference" or "sample" frames of a configuration."""
        sample = role == "sample"
        given = {
            "spec": getattr(parsed.input, role),
            "name": parsed.name_of(f"input.{role}"),
            "outer": "projection" if sample else "set",
            "folder": parsed.folder,
            "axes": parsed.input.sample_axes if sample else parsed.reference_axes,
            "links": parsed.input.links,
            "repeats": parsed.input.repeats,
        }
        return cls(**given | more)

    @property
    def counted(self) -> Axes | None:
        """The axes that count frames, without y and x."""
        return None if self.axes is None else frame_axes(self.axes)

    @property
    def known(self) -> dict[str, int]:
        """Sizes that are known, by axis."""
        sizes = {self.outer: self.count, "position": self.positions, "repeat": self.repeats}
        return {axis: size for axis, size in sizes.items() if size is not None}

    def ordered(self, files: int) -> Axes:
        """Return all axes that count frames, from the slowest to the fastest.

        Projections (or sets) are in files of their own, and repeats follow each other, where this is not
        stated. Of positions it must be, unless nothing depends on it.
        """
        axes = self.counted
        if axes is None:
            several = self.positions is not None and self.positions > 1 and self.count != 1
            if several and self.outer == "projection":
                raise InputError(
                    f'{self.name} has no order; expected sample_axes = "position,projection,y,x" in [input] '
                    '(stacks of a position) or "projection,position,y,x" (the positions of a projection '
                    "follow each other), or names with {projection} and {position} in them",
                    code="axes-missing",
                )
            return (self.outer, "position", "repeat")
        if self.outer not in axes:
            axes = (self.outer, *axes)
        if "position" not in axes:
            axes = ("position", *axes) if self.positions in (None, files) else (*axes, "position")
        return axes if "repeat" in axes else (*axes, "repeat")


def place_frames(request: FrameRequest) -> FrameTable:
    """Find the files of many projections (or sets of references), and place their frames."""
    name, outer, before = request.name, request.outer, request.before
    files, braces = _find_files(request)
    for file in files:
        file.address = replace(file.address, axes=request.axes, links=request.links)
    opened = _open_files(files, name)
    stated = getattr(opened.layout, "names", ())
    if request.axes is None and len(stated) > 1:  # the file states them
        found = tuple(outer if axis in ("projection", "set") else axis for axis in stated)
        request = replace(request, axes=found)
    if not braces and outer == "projection" and request.count != 1:
        braces = _number_files(files, request)
    missing: dict[int, str] = {}
    numbering = Numbering()
    places = _place_by_runs(files, braces, request) if outer == "set" else None
    if places is None:
        if braces:
            places, missing, numbering = _place_by_names(files, braces, request)
        else:
            places, missing = _place_by_order(files, request)
        lost = max(before, default=-1) + 1 - len(places)
        if lost > 0 and not braces:  # a stack is shorter than it was
            places = np.pad(places, [(0, lost), (0, 0), (0, 0), (0, 0)], constant_values=-1)
        raise_errors([ErrorRecord("frames-missing", text) for text in _gap_errors(files, places, name)])
        for index in np.flatnonzero(_lost(places, outer).any(axis=1)):
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
        folder=request.folder,
        position_numbers=tuple(sorted({file.numbers["position"] for file in files}))
        if "position" in braces
        else (),
        files=tuple(dict.fromkeys(path for file in files for path in file.paths or (file.address.path,))),
        finding_text=getattr(opened, "finding_text", "") or _runs_text(opened, braces, request, places),
    )


def _runs_text(first: Source, braces: Sequence[str], request: FrameRequest, places: Places) -> str:
    """Return a text if a stack holds another number of sets of references between projections."""
    runs, sets = len(getattr(first, "runs", ())), len(places)
    # Positions one after the other in one stack may have references each.
    apart = request.axes is not None and (request.counted or ())[:1] == ("position",)
    apart = apart and not braces and np.unique(places[..., 0]).size == 1
    if request.outer != "set" or "set" in braces or apart or runs in (0, sets):
        return ""
    return (
        f"by its image_key, {first.label} holds references in {runs} part{'s' * (runs > 1)} with projections "
        f"between, and series.reference_at makes {sets} set{'s' * (sets > 1)} of them"
    )


def _find_files(request: FrameRequest) -> tuple[list[_File], tuple[str, ...]]:
    """Find the files and the numbers in their names."""
    spec, name, outer, folder = request.spec, request.name, request.outer, request.folder
    braces = [tuple(_PLACE.findall(item)) for item in spec]
    errors = [
        f"{name}: {item!r} has the place {{{place}}}; expected {{{outer}}}, {{position}} or {{repeat}}, each "
        "once"
        for item, found in zip(spec, braces, strict=True)
        for place in found
        if place not in (outer, "position", "repeat") or found.count(place) > 1
    ]
    if len({frozenset(found) for found in braces}) > 1:
        errors.append(f"{name}: {listed(spec)} have different places in braces; expected the same in all")
    if errors:
        raise InputError(list(dict.fromkeys(errors)), code="value-invalid")
    if not braces[0]:
        wrong: list[ErrorRecord] = []
        addresses = find_addresses(tuple(spec), folder, wrong)
        raise_errors(prefixed(f"{name}: ", wrong))
        return [_File(address, {}) for address in addresses], ()
    with prefix_errors(f"{name}: "):
        files = [file for item in spec for file in match_files(item, folder)]
    if not files:
        text = f"{name}: no file is called {listed(spec)} in {folder}; expected digits in the place of "
        raise InputError(f"{text}{{{outer}}} and {{position}}", code="frames-missing")
    files.sort(key=lambda file: sorted(file.numbers.items()))
    keys = [tuple(sorted(file.numbers.items())) for file in files]
    if len(set(keys)) < len(keys):
        twice = next(file for file, key in zip(files, keys, strict=True) if keys.count(key) > 1)
        raise InputError(
            f"{name}: several files have the numbers {twice.numbers}; expected one file each",
            code="frames-unequal-numbers",
        )
    return files, braces[0]


def match_files(item: str, folder: Path) -> list[_File]:
    """Find the files whose names have digits instead of the braces."""
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
    """Read the headers of files; return one of them."""
    first: Source | None = None
    errors: list[Any] = []
    single = False
    for number, file in enumerate(files):
        # A key can take another number of frames of each file.
        if file.address.key is None and first is not None and (single or number >= _MOST_OPENED):
            file.count, file.sizes = first.count, first.sizes
            continue
        try:
            source = open_tolerant(file.address)
        except InputError as error:
            file.error = error.records[0].message
            errors += error.records
            if first is None and number + 1 >= _MOST_TRIED:
                break
            continue
        file.count, file.sizes, file.paths = source.count, source.sizes, source.files
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
        # The expected content of a file that cannot be opened is not known.
        if not file.count:
            file.count, file.sizes = first.count, first.sizes
    return first


def _number_files(files: Sequence[_File], request: FrameRequest) -> tuple[str, ...]:
    """Take the digits that differ between names of files for what braces would tell; return what they count.

    Nothing where the names leave it open, so that the files are counted in their order.
    """
    names = [str(file.address.path) for file in files]
    if len({re.sub("[0-9]+", "0", name) for name in names}) > 1 or len(files) < 2:
        return ()
    fields = np.array([[int(digits) for digits in re.findall("[0-9]+", name)] for name in names], object)
    fields = fields[:, [len(set(column)) > 1 for column in fields.T]]
    steps = [math.gcd(*(column - min(column))) for column in fields.T]
    spans = [(max(column) - min(column)) // step + 1 for column, step in zip(fields.T, steps, strict=True)]
    alone = len(set(map(tuple, fields.tolist()))) == len(files)
    if not fields.size or not alone or math.prod(spans) > _SPARSE * len(files):
        return ()
    try:
        axes = request.ordered(len(files))
    except InputError:  # placing them by order tells what is missing
        return ()
    sizes = request.known | {"repeat": request.repeats}
    inside = [axis for axis in axes[1:] if sizes.get(axis) != 1]
    one = max(file.count for file in files) == 1
    if one and fields.shape[1] == len(inside) + 1:  # a number for each axis
        counted = (axes[0], *inside)
        known = request.position_numbers
        if known and "position" in counted and not {*fields[:, counted.index("position")]} <= {*known}:
            return ()
        for file, numbers in zip(files, fields.tolist(), strict=True):
            file.numbers = dict(zip(counted, numbers, strict=True))
        return counted
    if fields.shape[1] > 1 or axes[0] != request.outer or any(axis not in sizes for axis in inside):
        return ()
    within = [sizes[axis] for axis in inside]
    if not one:  # a projection for each file, or a part of the series
        if max(file.count for file in files) != math.prod(within):
            return ()
        for file, (number,) in zip(files, fields.tolist(), strict=True):
            file.numbers = {request.outer: number}
        return (request.outer,)
    first = min(fields[:, 0])  # a number for each frame
    for file, (number,) in zip(files, fields.tolist(), strict=True):
        index, rest = divmod((number - first) // steps[0], math.prod(within))
        at = np.unravel_index(rest, within) if within else ()
        file.numbers = {request.outer: index} | dict(zip(inside, map(int, at), strict=True))
    return (request.outer, *inside)


def _place_by_names(
    files: Sequence[_File], braces: Sequence[str], request: FrameRequest
) -> tuple[Places, dict[int, str], Numbering]:
    """Place frames by the numbers in the names of their files."""
    name, outer = request.name, request.outer
    largest = max(files, key=lambda file: file.count)
    ranks: dict[str, list[int]] = {}
    numbering = Numbering()
    for place in braces:
        numbers = [file.numbers[place] for file in files]
        if place == "projection":
            numbering = find_numbering({*numbers, *request.before}, request.count, request.first)
            ranks[place] = [numbering.index(number) for number in numbers]
        elif place == "position":
            ranks[place] = _position_ranks(numbers, request)
        else:
            ranks[place] = _ranks(numbers)
    known = request.known
    if request.any_repeats or (len(largest.sizes) > 1 and request.repeats == 1):
        del known["repeat"]  # the files state it
    inside = [axis for axis in request.counted or (outer, "position", "repeat") if axis not in braces]
    # Axes inside the files that nothing states have a size of 1, but for the first of them.
    axes = tuple(axis for axis in (outer, "position") if axis not in (*braces, *inside)) + tuple(inside)
    if "repeat" not in (*axes, *braces):
        axes = (*axes, "repeat")
    if len(largest.sizes) == 1:
        unknown = [axis for axis in axes if axis not in known]
        known |= dict.fromkeys(unknown[1:], 1)
        least = math.prod(known[axis] for axis in axes if axis in known)
        if unknown:  # frames beyond a multiple are an error below
            known[unknown[0]] = max(1, largest.count // least)
        sizes = {axis: known[axis] for axis in axes}
    else:
        stated = tuple(axis for axis in axes if axis in inside)
        sizes = dict.fromkeys(axes, 1) | axis_sizes(
            stated, largest.sizes, 1, {axis: size for axis, size in known.items() if axis in stated}, name
        )
    for place in braces:
        sizes[place] = max(ranks[place]) + 1
    if "position" in braces and request.positions and sizes["position"] > request.positions:
        raise InputError(
            f"{name}: the names give {sizes['position']} positions of the diffuser; expected "
            f"{request.positions}, as the references have",
            code="frames-unequal-numbers",
        )
    sizes["position"] = max(sizes["position"], request.positions or 0)
    if outer in braces:  # a list of angles can contain projections after the last file
        last = max(map(numbering.index, request.before), default=-1)
        sizes[outer] = max(request.count or 0, sizes[outer], last + 1)
    if sizes[outer] > _MOST_TIMES * max(len(files), request.count or 0, 1000):
        raise InputError(
            f"{name}: the numbers in the names of {len(files)} files reach from {numbering.first} on over "
            f"{sizes[outer]} projections; expected numbers that follow each other",
            code="frames-unequal-numbers",
        )
    fits = math.prod(sizes[axis] for axis in axes)
    if largest.count > fits:
        product = ["repeats", *(f"{each}s" for each in (outer, "position") if each not in braces)]
        hint = ", series.reference_at and series.reference_repeats" * (outer == "set")
        raise InputError(
            f"{name}: a file holds {largest.count} frames; expected {fits} ({' × '.join(product)}{hint})",
            code="frames-unequal-numbers",
        )
    count, positions, repeats = (sizes[axis] for axis in (outer, "position", "repeat"))
    places = np.full((count, positions, repeats, 2), -1, np.int64)
    for number, file in enumerate(files):
        start = {place: ranks[place][number] for place in braces}
        _put(places, outer, start, {axis: sizes[axis] for axis in axes}, number, np.arange(file.count))
    missing: dict[int, str] = {}
    lost = _lost(places, outer)
    for index in range(count):
        gone = np.flatnonzero(lost[index])
        if gone.size == positions:
            missing[index] = f"there is no file {listed(request.spec, 2)} for it"
        elif gone.size:
            missing[index] = f"there is no frame at position {gone[0]} of the diffuser"
    return places, missing, numbering


def _position_ranks(numbers: Sequence[int], request: FrameRequest) -> list[int]:
    """Return the indices of positions from numbers in names; if possible, those of the references."""
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


def _lost(places: Places, outer: str) -> NDArray[np.bool_]:
    """Return which positions (outer, position) lack frames; references only if they lack all repeats."""
    absent: NDArray[np.bool_] = places[..., 0] < 0
    lost: NDArray[np.bool_] = np.all(absent, axis=2) if outer == "set" else np.any(absent, axis=2)
    return lost


def _put(
    places: Places,
    outer: str,
    start: Mapping[str, int],
    sizes: Mapping[str, int],
    file: Any,
    frames: Places,
) -> None:
    """Enter frames of a file, by its number, from `start`, along axes of these sizes, the last fastest."""
    at = {axis: np.full(len(frames), start.get(axis, 0)) for axis in (outer, "position", "repeat")}
    if sizes:
        along = np.unravel_index(np.arange(len(frames)), tuple(sizes.values()))
        at |= dict(zip(sizes, along, strict=True))
    where = at[outer], at["position"], at["repeat"]
    places[(*where, 0)], places[(*where, 1)] = file, frames


def _empty(outer: str, found: Mapping[str, int], known: Mapping[str, int]) -> Places:
    """Return places without frames, of the sizes that were found, or are known, or 1."""
    full = (found.get(axis, known.get(axis, 1)) for axis in (outer, "position", "repeat"))
    return np.full((*full, 2), -1, np.int64)


def _ranks(numbers: Sequence[int]) -> list[int]:
    """Return the indices of numbers that rise in steps; missing numbers leave a gap."""
    first = min(numbers)
    step = math.gcd(*(number - first for number in numbers)) or 1
    return [(number - first) // step for number in numbers]


def _place_by_order(files: Sequence[_File], request: FrameRequest) -> tuple[Places, dict[int, str]]:
    """Place frames by their order, along the axes that are stated."""
    name, outer = request.name, request.outer
    axes = request.ordered(len(files))
    known = request.known
    sizes = files[0].sizes
    if len(sizes) > 1 and "repeat" in (request.counted or ()) and request.repeats == 1:
        del known["repeat"]  # the array states it
    if len(sizes) > 1:
        axes = _without_single(axes, len(sizes), len(files), known)
    total = sum(file.count for file in files)
    alike = len({file.sizes for file in files}) == 1
    if len(files) > 1 and known.get(axes[0], len(files)) == len(files) and not alike:
        return _place_by_file(files, axes, known, request)
    if len(axes[1:]) and known.get(axes[0]) == len(files) > 1 and axes[0] == "position":
        return _place_by_file(files, axes, known, request)
    if not alike:
        sizes = (total,)
    elif len(files) == len(sizes) == 1 and outer == "projection":
        sizes = (_whole_stack(total, axes, known, request),)
    code = "frames-unequal-numbers" if request.axes is None else "axes-mismatch"
    found = axis_sizes(axes, sizes, len(files) if alike else 1, known, name, code)
    places = _empty(outer, found, known)
    numbers = np.repeat(np.arange(len(files)), [file.count for file in files])
    frames = np.concatenate([np.arange(file.count) for file in files])
    _put(places, outer, {}, {axis: found[axis] for axis in axes}, numbers, frames)
    return places, {}


def _whole_stack(total: int, axes: Axes, known: Mapping[str, int], request: FrameRequest) -> int:
    """Return the number of frames in a complete stack; one may lack some at its end."""
    outer = request.outer
    if any(axis not in known for axis in axes if axis != outer):
        return total
    each = math.prod(known[axis] for axis in axes if axis != outer)
    if outer in known:
        return max(total, known[outer] * each)
    return -(-total // each) * each if request.growing and axes[0] == outer else total


def _without_single(axes: Axes, stored: int, files: int, known: Mapping[str, int]) -> Axes:
    """Leave out axes of size 1 that arrays with so many axes of frames do not have."""
    found = list(axes)
    for axis in reversed(axes):
        if len(found) > stored + (files > 1) and known.get(axis) == 1:
            found.remove(axis)
    return tuple(found)


def _place_by_file(
    files: Sequence[_File], axes: Axes, known: Mapping[str, int], request: FrameRequest
) -> tuple[Places, dict[int, str]]:
    """Place the frames of files along the first axis; an incomplete file does not shift those of others."""
    name, outer = request.name, request.outer
    first, *rest = axes
    largest = max(files, key=lambda file: file.count)
    if len(largest.sizes) > 1:
        inside = {axis: size for axis, size in known.items() if axis in rest}
        found = axis_sizes(tuple(rest), largest.sizes, 1, inside, name)
    else:
        unknown = [axis for axis in rest if axis not in known]
        least = math.prod(known[axis] for axis in rest if axis in known)
        found = {axis: known.get(axis, max(1, largest.count // least)) for axis in rest}
        if len(unknown) > 1 or (not unknown and largest.count > least):
            raise InputError(
                f"{name}: {largest.address} holds {largest.count} frames; expected {least} "
                f"({', '.join(f'{known[axis]} {axis}s' for axis in rest if axis in known)}), for the axes "
                f"{','.join(axes)}",
                code="axes-mismatch",
            )
    found[first] = len(files)
    places, inner = _empty(outer, found, known), {axis: found[axis] for axis in rest}
    for number, file in enumerate(files):
        count = min(file.count, math.prod(inner.values()))
        _put(places, outer, {first: number}, inner, number, np.arange(count))
    missing: dict[int, str] = {}
    for index, position in np.argwhere((places[..., 0] < 0).any(axis=2)).tolist():
        label = files[position].address if first == "position" else name
        missing.setdefault(index, f"{label} ends before it")
    return places, missing


def _place_by_runs(files: Sequence[_File], braces: Sequence[str], request: FrameRequest) -> Places | None:
    """Place references whose number differs between positions: each set is a run in the file of a position.

    Numbers differ if some frames were invalid, or if any number is allowed. None if they do not differ, if a
    file is not that of a position, or if the sets of the frames are not known.
    """
    axes = request.counted or ()
    apart = list(braces) == ["position"] or (not braces and axes[:1] == ("position",) and len(files) > 1)
    uneven = any(file.gaps for file in files)
    sets = request.count or 0
    more = request.any_repeats and any(file.count > sets for file in files)
    if not apart or not (uneven or more) or any(file.error for file in files):
        return None
    sizes = [file.runs for file in files]
    if sets == 1 and request.any_repeats:
        sizes = [(file.count,) for file in files]
    most = max((max(size, default=0) for size in sizes), default=0)
    if any(len(size) != sets for size in sizes) or (most > request.repeats and not request.any_repeats):
        return None
    ranks = _ranks([file.numbers["position"] for file in files]) if braces else list(range(len(files)))
    if sorted(ranks) != list(range(len(files))):
        return None
    places = np.full((sets, len(files), max(most, request.repeats), 2), -1, np.int64)
    for number, (runs, position) in enumerate(zip(sizes, ranks, strict=True)):
        frame = 0
        for index, size in enumerate(runs):
            places[index, position, :size, 0] = number
            places[index, position, :size, 1] = np.arange(frame, frame + size)
            frame += size
    return places


def _gap_errors(files: Sequence[_File], places: Places, name: str) -> list[str]:
    """Return errors where invalid frames were left out and the places of the others are not known.

    They are known if each frame is a projection, or if all stacks of positions lack the same frames.
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
