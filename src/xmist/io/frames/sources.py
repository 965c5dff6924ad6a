"""What every reader of frames gives, and what every reader refuses."""

from __future__ import annotations

import difflib
import logging
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.core.arrays import SMALLEST_FRAME
from xmist.core.errors import InputError

# Called with (done, total) while something long is read.
Progress = Callable[[int, int], object]

# A header may make us allocate no more than a frame of 32768 × 32768 pixels, ...
MOST_PIXELS: Final = 2**30
# ... and no more than its stored bytes can hold. Deflate shrinks 1032 : 1 at most; the strongest of the
# others, zstd, writes a run of 128 KiB in 4 bytes.
MOST_SHRUNK: Final = 2**15

_calls = threading.local()


@dataclass(frozen=True, kw_only=True)
class Source:
    """One file (or one dataset of a file) of frames, all of one shape and dtype; only its headers are held.

    Parameters
    ----------
    label : str
        How messages call it: the path as it was given, and the dataset.
    path : Path
        The file that was given.
    files : tuple of Path
        All files that hold its numbers; more than one where HDF5 links lead to others.
    count : int
        Number of frames.
    shape : tuple of int
        (y, x) of each.
    dtype : numpy dtype
        Of the numbers, in the byte order of this machine.
    """

    label: str
    path: Path
    files: tuple[Path, ...]
    count: int
    shape: tuple[int, int]
    dtype: np.dtype[Any]

    def read(self, index: int) -> NDArray[Any]:
        """Read one frame.

        Parameters
        ----------
        index : int
            From 0.

        Returns
        -------
        (y, x) array
            Values as stored, in the byte order of this machine; a new array.

        Raises
        ------
        InputError
            If the frame cannot be read in full; names the file.
        """
        raise NotImplementedError

    def header(self, index: int) -> Mapping[str, str]:
        """Give what the file states about one frame, as text.

        Parameters
        ----------
        index : int
            From 0.
        """
        raise NotImplementedError

    def frames(self, indices: Sequence[int]) -> Iterator[NDArray[Any]]:
        """Read several frames, one at a time, in the given order.

        Parameters
        ----------
        indices : sequence of int
            From 0.
        """
        return map(self.read, indices)


def check_file(path: Path) -> None:
    """Require a regular file that can be read and is not empty.

    Parameters
    ----------
    path : Path
        The file.

    Raises
    ------
    InputError
        Says what stands there instead.

    Examples
    --------
    >>> check_file(Path("no-such-file.tif"))
    Traceback (most recent call last):
    ...
    xmist.core.errors.InputError: no-such-file.tif does not exist
    """
    try:
        if path.is_dir():
            raise InputError(f'{path} is a folder; give the files in it, e.g. "{path / "*.tif"}"')
        if not path.exists():
            raise InputError(f"{path} does not exist{_nearby(path)}")
        if not path.is_file():
            raise InputError(f"{path} is not a regular file")
        with path.open("rb") as file:
            if not file.read(1):
                raise InputError(f"{path} is empty; copy or record it again")
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} cannot be read ({reason(error)})") from error


def _nearby(path: Path) -> str:
    """Help with a name that does not exist: the part that is missing, or a name like it."""
    if not path.parent.is_dir():
        return f"; nor does its folder {path.parent}"
    names = [found.name for found in islice(path.parent.iterdir(), 1000)]
    near = difflib.get_close_matches(path.name, names, n=1, cutoff=0.8)
    return f"; did you mean '{near[0]}'?" if near else ""


@contextmanager
def reading(label: str) -> Iterator[None]:
    """Turn whatever goes wrong with a file into an `InputError` that names it.

    Parameters
    ----------
    label : str
        How the message calls the file.

    Raises
    ------
    InputError
        For any exception inside.

    Notes
    -----
    The libraries report damage by nearly every built-in exception, so all are caught. What they would log
    meanwhile is kept back: it has become the message, or was harmless.
    """
    _calls.depth = getattr(_calls, "depth", 0) + 1
    try:
        yield
    except InputError:
        raise
    except MemoryError as error:
        raise InputError(f"{label} does not fit into the memory of this machine") from error
    except OSError as error:
        if error.errno is None:  # a library's own complaint
            raise InputError(f"{label} is damaged or truncated ({reason(error)})") from error
        raise InputError(f"{label} cannot be read ({reason(error)})") from error
    except Exception as error:
        raise InputError(f"{label} is damaged ({reason(error)})") from error
    finally:
        _calls.depth -= 1


def silence(logger: str) -> None:
    """Keep a library's log back while one of our readers runs in the same thread.

    Parameters
    ----------
    logger : str
        Name of the library's logger; other users of the library keep what it logs.
    """
    log = logging.getLogger(logger)
    if _not_reading not in log.filters:
        log.addFilter(_not_reading)


def _not_reading(record: logging.LogRecord) -> bool:
    return not getattr(_calls, "depth", 0)


def reason(error: BaseException) -> str:
    """Give the cause of an error in one line.

    Parameters
    ----------
    error : BaseException
        What was raised.

    Examples
    --------
    >>> reason(PermissionError(13, "Permission denied", "ref.tif"))
    'Permission denied'
    """
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    line = " ".join(text.split())
    return line if len(line) <= 200 else line[:199] + "…"


def frame_faults(shape: Sequence[int], dtype: np.dtype[Any]) -> list[str]:
    """Say why images of a shape and dtype cannot be frames; messages go on after the file's name.

    Parameters
    ----------
    shape : sequence of int
        (y, x), or (frame, y, x).
    dtype : numpy dtype
        Of the numbers.

    Examples
    --------
    >>> frame_faults((64, 64), np.dtype(complex))
    ['holds complex128; expected integers or floats (of complex numbers, save the modulus)']
    >>> frame_faults((10, 64, 64), np.dtype("u2"))
    []
    """
    faults = []
    if dtype.kind == "O":
        return ["holds Python objects, which can hide code and are never read; expected integers or floats"]
    if dtype.kind in "US":
        return ["holds text; expected integers or floats"]
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        advice = {"c": " (of complex numbers, save the modulus)", "b": " (it looks like a mask)"}
        faults.append(f"holds {dtype}; expected integers or floats{advice.get(dtype.kind, '')}")
    shape = tuple(shape)
    if len(shape) not in (2, 3):
        faults.append(f"has shape {shape}; expected (y, x) or (frame, y, x)")
    elif 0 in shape:
        faults.append(f"has shape {shape} and so no pixels; expected (y, x) or (frame, y, x)")
    elif len(shape) == 3 and shape[2] in (3, 4) and min(shape[:2]) >= SMALLEST_FRAME:
        faults.append(f"has shape {shape}, which looks like colour; expected grey values, (frame, y, x)")
    elif min(shape[-2:]) < SMALLEST_FRAME:
        faults.append(
            f"has frames of {shape[-2]} × {shape[-1]} pixels; expected at least "
            f"{SMALLEST_FRAME} × {SMALLEST_FRAME}"
        )
    elif math.prod(shape[-2:]) > MOST_PIXELS:
        faults.append(
            f"claims frames of {shape[-2]} × {shape[-1]} pixels; expected {MOST_PIXELS} pixels at most"
        )
    return faults


def native(array: NDArray[Any]) -> NDArray[Any]:
    """Give an array in the byte order of this machine, as a C-contiguous copy of its own memory.

    Parameters
    ----------
    array : array
        Any numbers.
    """
    return np.array(array, dtype=array.dtype.newbyteorder("="), order="C", copy=True, subok=False)


def listed(names: Sequence[object], most: int = 5) -> str:
    """Name a few of many.

    Parameters
    ----------
    names : sequence
        What to name.
    most : int
        How many before the rest is counted.

    Examples
    --------
    >>> listed(["a.tif", "b.tif", "c.tif"], most=2)
    'a.tif, b.tif and 1 more'
    """
    shown = ", ".join(str(name) for name in names[:most])
    rest = len(names) - most
    return f"{shown} and {rest} more" if rest > 0 else shown
