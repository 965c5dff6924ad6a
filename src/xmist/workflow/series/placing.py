"""Which frame of which file belongs to which projection, position and exposure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xmist.core.errors import InputError
from xmist.io.frames.addresses import Address
from xmist.io.frames.sources import listed


@dataclass
class FoundFile:
    """A file as it was found.

    Parameters
    ----------
    address : Address
        The file, or a dataset in it.
    numbers : dict
        What stands in the place of the braces of its name.
    count : int
        Frames that it holds.
    fault : str
        Why none of them can be read.
    holes : mapping of int to str
        Frames that cannot be read, and why.
    gaps : tuple of int
        For each frame that was left out as invalid how many frames come before it.
    runs : tuple of int
        How many frames follow each other without a projection between, where keys tell it.
    paths : tuple of Path
        All files that hold its frames.
    """

    address: Address
    numbers: dict[str, int]
    count: int = 0
    fault: str = ""
    holes: Mapping[int, str] = field(default_factory=dict)
    gaps: tuple[int, ...] = ()
    runs: tuple[int, ...] = ()
    paths: tuple[Path, ...] = ()


def place_by_names(
    files: Sequence[FoundFile],
    places: Sequence[str],
    spec: Sequence[str],
    name: str,
    outer: str,
    exposures: int,
    count: int | None,
    positions: int | None,
) -> tuple[NDArray[np.int64], dict[int, str]]:
    """Place frames by the numbers in the names of their files.

    Parameters
    ----------
    files : sequence of FoundFile
        The files, in order.
    places : sequence of str
        What stands in braces in the names.
    spec : sequence of str
        The names.
    name : str
        How messages call the frames.
    outer : str
        "projection" or "set".
    exposures : int
        Frames of each position that follow each other.
    count : int or None
        Number of projections or sets, if it is known.
    positions : int or None
        Number N of positions, if it is known.

    Returns
    -------
    (outer, position, exposure, 2) int array
        File and frame, −1 where there is none.
    dict of int to str
        For each outer index without all its frames why.
    """
    longest = max(file.count for file in files)
    ranks = {place: _ranks([file.numbers[place] for file in files]) for place in places}
    found = max(ranks[outer]) + 1 if outer in places else longest // exposures
    # A list of angles tells of projections after the last file.
    count = max(count or 0, found) if outer in places else count or found
    if "position" in places:
        positions = positions or max(ranks["position"]) + 1
        if max(ranks["position"]) >= positions:
            raise InputError(
                f"{name}: the names give {max(ranks['position']) + 1} positions of the mask; expected "
                f"{positions}, as the references have"
            )
    else:
        positions = positions or longest // exposures
    inside = exposures * (1 if outer in places else count) * (1 if "position" in places else positions)
    if longest > inside or not inside:
        raise InputError(
            f"{name}: a file holds {longest} frames; expected {inside} ({_product(places, outer)}"
            f"{', scan.reference_at and scan.reference_exposures' if outer == 'set' else ''})"
        )
    table = np.full((count, positions, exposures, 2), -1, np.int64)
    for number, file in enumerate(files):
        outers = [ranks[outer][number]] if outer in places else range(count)
        inners = [ranks["position"][number]] if "position" in places else range(positions)
        frame = 0
        for index in outers:
            for position in inners:
                for exposure in range(exposures):
                    if frame < file.count:
                        table[index, position, exposure] = number, frame
                    frame += 1
    missing: dict[int, str] = {}
    for index in range(count):
        absent = np.flatnonzero((table[index, :, :, 0] < 0).any(axis=1))
        if absent.size == positions:
            missing[index] = f"there is no file {listed(spec, 2)} for it"
        elif absent.size:
            missing[index] = f"there is no frame at position {absent[0]} of the mask"
    return table, missing


def _product(places: Sequence[str], outer: str) -> str:
    parts = ["exposures"]
    if outer not in places:
        parts.append(f"{outer}s")
    if "position" not in places:
        parts.append("positions")
    return " × ".join(parts)


def _ranks(numbers: Sequence[int]) -> list[int]:
    """Give the places of numbers that count in steps; what is left out leaves a gap."""
    first = min(numbers)
    step = math.gcd(*(number - first for number in numbers)) or 1
    return [(number - first) // step for number in numbers]


def place_by_order(
    files: Sequence[FoundFile],
    name: str,
    outer: str,
    order: str | None,
    exposures: int,
    count: int | None,
    positions: int | None,
) -> tuple[NDArray[np.int64], dict[int, str]]:
    """Place frames by their order.

    Parameters
    ----------
    files : sequence of FoundFile
        The files, in order.
    name : str
        How messages call the frames.
    outer : str
        "projection" or "set".
    order : str or None
        "position" or "projection": what stays the same for the longest time.
    exposures : int
        Frames of each position that follow each other.
    count : int or None
        Number of projections or sets, if it is known.
    positions : int or None
        Number N of positions, if it is known.

    Returns
    -------
    (outer, position, exposure, 2) int array
        File and frame, −1 where there is none.
    dict of int to str
        For each outer index without all its frames why.
    """
    flat = [(number, frame) for number, file in enumerate(files) for frame in range(file.count)]
    if positions is None:
        assert count is not None  # of the references
        positions = len(flat) // (count * exposures)
        if positions * count * exposures != len(flat) or not positions:
            raise InputError(
                f"{name}: {len(flat)} frames are no multiple of {count} sets of {exposures} exposures; "
                "expected as many frames in each set (scan.reference_at, scan.reference_exposures)"
            )
    if order is None and positions > 1 and count != 1:
        raise InputError(
            f'scan.order is missing; expected "position" (stacks of a position) or "projection" '
            f"(interleaved), or names of {name} with {{{outer}}} and {{position}} in them"
        )
    by_position = order == "position"
    if by_position and len(files) == positions and max(file.count for file in files) > exposures:
        # A stack a position: one that is cut short lacks its last projections, and shifts no other.
        stacks = max(file.count for file in files) // exposures
        total = count or stacks
        table = np.full((total, positions, exposures, 2), -1, np.int64)
        for number, file in enumerate(files):
            for frame in range(min(file.count, total * exposures)):
                table[frame // exposures, number, frame % exposures] = number, frame
    else:
        total = count or len(flat) // (positions * exposures)
        if total * positions * exposures != len(flat):
            raise InputError(
                f"{name}: {len(flat)} frames are not {total or 1} {outer}s of {positions} positions of "
                f"{exposures} exposures; if files are missing, put {{{outer}}} and {{position}} into the "
                "names"
            )
        shape = (positions, total) if by_position else (total, positions)
        table = np.array(flat, np.int64).reshape(*shape, exposures, 2)
        table = np.ascontiguousarray(table.swapaxes(0, 1)) if by_position else table
    missing: dict[int, str] = {}
    for index, position in np.argwhere((table[..., 0] < 0).any(axis=2)):
        label = files[int(position)].address if by_position else name
        missing.setdefault(int(index), f"{label} ends before it")
    return table, missing


def place_by_runs(
    files: Sequence[FoundFile], places: Sequence[str], order: str | None, exposures: int, count: int | None
) -> NDArray[np.int64] | None:
    """Place references of which some were invalid: what is left of a set in the stack of a position.

    Parameters
    ----------
    files : sequence of FoundFile
        The files, in order.
    places : sequence of str
        What stands in braces in their names.
    order : str or None
        "position" or "projection".
    exposures : int
        Frames of each position in a set, before some were left out.
    count : int or None
        Number of sets.

    Returns
    -------
    (set, position, exposure, 2) int array or None
        File and frame, −1 for exposures that were left out; None where no frame was left out, or the files
        are no stacks of a position whose projections part the sets.

    Examples
    --------
    >>> left = {"count": 3, "gaps": (1,), "runs": (1, 2)}
    >>> files = [FoundFile(Address(Path(f"{n}.nxs")), {"position": n}, **left) for n in (0, 1)]
    >>> place_by_runs(files, ["position"], None, 2, 2)[:, 1, :, 1].tolist()
    [[0, -1], [1, 2]]
    """
    apart = list(places) == ["position"] or (not places and order == "position" and len(files) > 1)
    if not apart or not any(file.gaps for file in files):
        return None
    if any(file.fault or len(file.runs) != count or max(file.runs) > exposures for file in files):
        return None
    table = np.full((count or 0, len(files), exposures, 2), -1, np.int64)
    ranks = _ranks([file.numbers["position"] for file in files]) if places else range(len(files))
    if sorted(ranks) != list(range(len(files))):
        return None
    for number, (file, position) in enumerate(zip(files, ranks, strict=True)):
        frame = 0
        for index, size in enumerate(file.runs):
            table[index, position, :size, 0] = number
            table[index, position, :size, 1] = np.arange(frame, frame + size)
            frame += size
    return table


def gap_faults(files: Sequence[FoundFile], table: NDArray[np.int64], name: str) -> list[str]:
    """Say where frames that were left out as invalid leave it open where the others belong.

    They do not where every frame is a projection of its own, nor where stacks of a position each lack the
    same ones.

    Parameters
    ----------
    files : sequence of FoundFile
        The files.
    table : (outer, position, exposure, 2) int array
        Where their frames were placed.
    name : str
        How messages call the frames.

    Examples
    --------
    >>> file = FoundFile(Address(Path("scan.nxs")), {}, count=4, gaps=(1,))
    >>> gap_faults([file], np.zeros((4, 1, 1, 2), np.int64), "input.sample")
    []
    """
    read = [file for file in files if not file.fault]
    marked = [file for file in read if file.gaps]
    if not marked:
        return []
    positions, exposures = table.shape[1:3]
    if exposures == 1:
        if positions == 1:
            return []
        places = [np.unique(np.argwhere(table[..., 0] == number)[:, 1]).size for number in range(len(files))]
        if max(places) == 1 and len({file.gaps for file in read}) == 1:
            return []
    number = sum(len(file.gaps) for file in marked)
    return [
        f"{name}: {number} frame{'s' * (number > 1)} of {listed([file.address for file in marked], 2)} "
        f"{'are' if number > 1 else 'is'} marked as invalid (image_key 3), and without them it is open which "
        "projection the frames around belong to; expected invalid frames only where every frame is a "
        "projection of its own, or the same ones in each stack of a position"
    ]
