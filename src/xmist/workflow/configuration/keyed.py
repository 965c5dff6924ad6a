"""Scans that stand in NXtomo stacks, as their image keys and angles tell them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

# The part of a frame by its image key; the third kind, invalid, has none.
KEY_ROLES: Final = {0: "sample", 1: "reference", 2: "dark"}


@dataclass(frozen=True, eq=False)
class KeyedStack:
    """A stack whose frames have keys.

    Parameters
    ----------
    path : Path
        The file.
    keys : (frame,) int array
        0 projection, 1 flat, 2 dark, 3 invalid.
    angles : (str, (frame,) float64 array) or None
        Path and values of the rotation angles.
    """

    path: Path
    keys: NDArray[np.int64]
    angles: tuple[str, NDArray[np.float64]] | None

    @property
    def roles(self) -> dict[int, str]:
        """The parts of which the stack has frames, by key."""
        return {key: role for key, role in KEY_ROLES.items() if (self.keys == key).any()}


@dataclass(frozen=True, kw_only=True)
class ScanPlan:
    """What a table [scan] has to say.

    Parameters
    ----------
    order : str
        "position" or "projection".
    positions, projections : int
        How many there are.
    first : Path
        The first file.
    angles : str or None
        Path of its dataset of angles.
    reference_at : tuple of int
        How many projections come before each set of references; empty if the keys do not tell it.
    reference_exposures : int
        Frames of each position in a set.
    """

    order: str
    positions: int
    projections: int
    first: Path
    angles: str | None
    reference_at: tuple[int, ...]
    reference_exposures: int


def find_keyed(path: Path, dataset: str) -> KeyedStack | None:
    """Give a stack that holds frames of several kinds.

    Parameters
    ----------
    path : Path
        An HDF5 file.
    dataset : str
        Path of the stack.

    Returns
    -------
    KeyedStack or None
        None if the file states no key that can be used, or the same for all frames.
    """
    from xmist.io.frames.hdf5_columns import describe_key

    found = describe_key(path, dataset)
    if found is None or len(set(found[0].tolist())) < 2:
        return None
    return KeyedStack(path, *found)


def plan_scan(stacks: Sequence[KeyedStack]) -> ScanPlan | None:
    """Say how many projections at how many positions of the mask stand in stacks, and where references do.

    Several stacks are taken as one a position; in one, frames of the same angle are taken as its positions.

    Parameters
    ----------
    stacks : sequence of KeyedStack
        In order.

    Returns
    -------
    ScanPlan or None
        None for a single projection, or where the stacks contradict each other.

    Examples
    --------
    >>> keys = np.array([2, 1, 1, 0, 0, 0, 1, 1])
    >>> angles = np.array([0, 0, 0, 0, 90, 180, 180, 180.0])
    >>> plan = plan_scan([KeyedStack(Path(f"pos_{n}.nxs"), keys, ("/angle", angles)) for n in range(3)])
    >>> plan.positions, plan.projections, plan.reference_at, plan.reference_exposures
    (3, 3, (0, 3), 2)
    """
    stacks = [stack for stack in stacks if (stack.keys == 0).any()]
    if not stacks or any(not np.array_equal(stack.keys, stacks[0].keys) for stack in stacks):
        return None
    first = stacks[0]
    frames = np.flatnonzero(first.keys == 0)
    turned = None if first.angles is None else first.angles[1][frames]
    together = 1
    if len(stacks) == 1 and turned is not None:
        runs = {len(list(run)) for _, run in groupby(turned.tolist())}
        together = runs.pop() if len(runs) == 1 else 1
    projections = frames.size // together
    if projections == 1 or (turned is None and frames.size <= np.count_nonzero(first.keys == 1)):
        return None
    valid = first.keys[(first.keys == 0) | (first.keys == 1)]
    before, sets = 0, []
    for key, run in groupby(valid.tolist()):
        size = len(list(run))
        if key == 1:
            sets.append((before, size))
        before += size if key == 0 else 0
    sizes = {size for _, size in sets}
    told = len(sizes) == 1 and not any(number % together for pair in sets for number in pair)
    return ScanPlan(
        order="position" if len(stacks) > 1 else "projection",
        positions=len(stacks) * together,
        projections=projections,
        first=first.path,
        angles=None if first.angles is None else first.angles[0],
        reference_at=tuple(number // together for number, _ in sets) if told else (),
        reference_exposures=sizes.pop() // together if told else 1,
    )
