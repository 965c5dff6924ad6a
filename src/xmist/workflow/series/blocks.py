"""Blocks: the results of a few neighbouring projections in one file that appears whole or not at all.

A block states which scan it belongs to, so that a folder of blocks tells by itself what is done.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from xmist.core.data import CHANNELS
from xmist.core.errors import InputError, OutputError
from xmist.core.flags import BAD_SAMPLE, UNDETERMINED
from xmist.io.results.atomic import leftovers
from xmist.io.results.stacks import GOOD, VALUELESS
from xmist.workflow.series.table import COLUMNS, Row, to_rows

if TYPE_CHECKING:
    import h5py

# What a pixel of a projection without a result, or of a block that is not there, says.
NOTHING: Final = UNDETERMINED | BAD_SAMPLE

_NAME: Final = re.compile(r"block_([0-9]{6,})_([0-9]{6,})\.h5")


@dataclass(frozen=True)
class Block:
    """Projections start to stop of a scan, counted from its first.

    Parameters
    ----------
    start, stop : int
        From which on, and before which.

    Examples
    --------
    >>> Block(0, 16).name
    'block_000000_000016.h5'
    """

    start: int
    stop: int

    @property
    def name(self) -> str:
        """Name of its file."""
        return f"block_{self.start:06d}_{self.stop:06d}.h5"

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True, kw_only=True)
class Form:
    """What every block of a scan holds.

    Parameters
    ----------
    identity : str
        Hash of what the results depend on.
    channels : tuple of str
        Names, in order.
    shape : (y, x)
        Of an image.
    """

    identity: str
    channels: tuple[str, ...]
    shape: tuple[int, int]

    def image_shape(self, name: str) -> tuple[int, ...]:
        """Give the shape of a channel of one projection.

        Parameters
        ----------
        name : str
            The channel, or "flags".
        """
        components = CHANNELS[name].components if name in CHANNELS else ()
        return (*((len(components),) if components else ()), *self.shape)

    @property
    def bytes_each(self) -> int:
        """Bytes of one projection."""
        images = sum(len(CHANNELS[name].components) or 1 for name in self.channels)
        return (4 * images + 2) * self.shape[0] * self.shape[1]


def split(count: int, size: int) -> list[Block]:
    """Split projections into blocks.

    Parameters
    ----------
    count : int
        Number of projections.
    size : int
        Projections a block; the last may have fewer.

    Examples
    --------
    >>> split(5, 2)
    [Block(start=0, stop=2), Block(start=2, stop=4), Block(start=4, stop=5)]
    """
    return [Block(start, min(start + size, count)) for start in range(0, count, size)]


def read_rows(folder: Path, block: Block, form: Form) -> list[Row]:
    """Read the quality numbers of a block, and make sure that it is whole and belongs to the scan.

    Parameters
    ----------
    folder : Path
        Of the blocks.
    block : Block
        Which.
    form : Form
        What it must hold.

    Returns
    -------
    list of Row
        One a projection.

    Raises
    ------
    InputError
        If the file is missing, damaged, or of another scan.
    """
    import h5py

    path = folder / block.name
    try:
        with h5py.File(path, "r", locking="best-effort") as file:
            if file.attrs.get("identity") != form.identity:
                raise InputError(f"{path} belongs to another scan")
            for name in (*form.channels, "flags"):
                _check_images(path, file, name, (len(block), *form.image_shape(name)))
            columns = {name: np.asarray(file["table"][name][()]) for name in COLUMNS}
            return to_rows(columns, json.loads(file["table/notes"].asstr()[()]))
    except InputError:
        raise
    except (OSError, RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(f"{path} cannot be read ({error})") from error


def _check_images(path: Path, file: h5py.File, name: str, shape: tuple[int, ...]) -> None:
    data = file.get(name)
    kind = np.dtype(np.uint16 if name == "flags" else np.float32)
    if getattr(data, "shape", None) != shape or data.dtype != kind:
        raise InputError(f"{path}: dataset {name} is not {kind} of shape {shape}")
    if data.chunks is None and data.id.get_storage_size() != data.nbytes:
        raise InputError(f"{path}: dataset {name} is incomplete")


def find_done(folder: Path, blocks: Sequence[Block], form: Form) -> dict[Block, list[Row]]:
    """Find the blocks that are done; those that are damaged, or flag what may be readable now, are not.

    Parameters
    ----------
    folder : Path
        Of the blocks.
    blocks : sequence of Block
        Those of the scan.
    form : Form
        What they hold.

    Returns
    -------
    dict
        Rows by block.
    """
    done = {}
    names = {path.name for path in folder.iterdir()}
    for block in blocks:
        if block.name not in names:
            continue
        try:
            rows = read_rows(folder, block, form)
        except InputError:
            continue
        if all(row.status in (GOOD, VALUELESS) for row in rows):
            done[block] = rows
    return done


def clear(folder: Path, *, everything: bool = False) -> None:
    """Delete what killed processes left half-written.

    Parameters
    ----------
    folder : Path
        Of the blocks; nobody else may be writing there.
    everything : bool
        Delete the blocks too.

    Raises
    ------
    OutputError
        If something cannot be deleted.
    """
    try:
        for path in [*leftovers(folder), *(_blocks(folder) if everything else ())]:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be tidied ({error.strerror or error})") from error


def _blocks(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.iterdir()) if _NAME.fullmatch(path.name))
