"""Base of the readers of frames, and the checks that they share."""

from __future__ import annotations

import difflib
import logging
import os
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
from xmist.core.errors import ErrorRecord, InputError, raise_errors
from xmist.io.frames.axes import ArrayLayout, Axes, array_layout

# Called with (done, total) while reading.
Progress = Callable[[int, int], object]

# A header may make us allocate no more than a frame of 32768 × 32768 pixels, ...
MOST_PIXELS: Final = 2**30
# ... and no more than its stored bytes can hold. Deflate shrinks 1032 : 1 at most; the strongest of the
# others, zstd, writes a run of 128 KiB in 4 bytes.
MOST_SHRUNK: Final = 2**15

# An array has at most so many axes: projection or set, position, repeat, y, x.
MOST_AXES: Final = 5

_calls = threading.local()


@dataclass(frozen=True, kw_only=True)
class Source:
    """One file (or one dataset of a file) of frames, all of one shape and dtype; only its headers are held.

    A reader defines `read`, or `frames` where several frames are read faster together.

    Parameters
    ----------
    label : str
        Name in messages: the path as given, and the dataset.
    path : Path
        The file that was given.
    files : tuple of Path
        All files that hold its numbers; more than one with HDF5 links.
    count : int
        Number of frames.
    shape : tuple of int
        (y, x) of each.
    dtype : numpy dtype
        Of the numbers, in native byte order.
    layout : ArrayLayout or None
        How the frames stand in an array; None: one after the other.
    inverted : bool
        Whether the file stores the brightest value as 0.
    """

    label: str
    path: Path
    files: tuple[Path, ...]
    count: int
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    layout: ArrayLayout | None = None
    inverted: bool = False

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sizes of the axes that count frames, one where these are not named."""
        layout = self.layout
        named = layout is not None and layout.count == self.count and len(layout.names) > 1
        return layout.sizes if named and layout is not None else (self.count,)

    def read(self, index: int) -> NDArray[Any]:
        """Return frame `index` as a new (y, x) array in native byte order: values as stored, or inverted."""
        return next(self.frames([index]))

    def header(self, index: int) -> Mapping[str, str]:
        """Return what the file states about frame `index`, as text."""
        raise NotImplementedError

    def frames(self, indices: Sequence[int]) -> Iterator[NDArray[Any]]:
        """Read several frames, one at a time, in the given order."""
        return map(self.read, indices)


def check_file(path: Path) -> None:
    """Require a regular file that can be read and is not empty."""
    try:
        if path.is_dir():
            raise InputError(
                f'{path} is a folder; give the files in it, e.g. "{path / "*.tif"}"', "file-unreadable"
            )
        if not path.exists():
            raise InputError(f"{path} does not exist{_nearby(path)}", "file-missing")
        if not path.is_file():
            raise InputError(f"{path} is not a regular file; give a file of frames", "file-unreadable")
        with path.open("rb") as file:
            if not file.read(1):
                raise InputError(f"{path} is empty; copy or record it again", "file-damaged")
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} cannot be read ({reason(error)})", "file-unreadable") from error


def _nearby(path: Path) -> str:
    """Return a hint for a missing file: its missing folder, or a similar name."""
    if not path.parent.is_dir():
        return f", and neither does its folder {path.parent}; check the name"
    names = [found.name for found in islice(path.parent.iterdir(), 1000)]
    near = difflib.get_close_matches(path.name, names, n=1, cutoff=0.8)
    return f"; did you mean '{near[0]}'?" if near else "; check the name"


@contextmanager
def reading(label: str) -> Iterator[None]:
    """Turn any exception inside into an `InputError` that names the file.

    The libraries report damage by nearly every built-in exception. Their log is suppressed: the message
    contains it, or it is harmless.
    """
    _calls.depth = getattr(_calls, "depth", 0) + 1
    try:
        yield
    except InputError as error:
        if {"dataset-incomplete", "file-damaged"} & {*error.codes} and is_being_written(_file_of(label)):
            raise InputError([_unfinished(str(record)) for record in error.records]) from error
        raise
    except MemoryError as error:
        raise InputError(f"{label} does not fit into memory", "memory-insufficient") from error
    except OSError as error:
        if is_being_written(_file_of(label)):
            raise InputError([_unfinished(f"{label} cannot be read yet")]) from error
        if error.errno is None:  # raised by a library, not by the system
            raise InputError(
                f"{label} is damaged or truncated ({reason(error)}); copy or record it again", "file-damaged"
            ) from error
        raise InputError(
            f"{label} cannot be read ({reason(error)}); check its permissions and the disk", "file-unreadable"
        ) from error
    except Exception as error:
        if is_being_written(_file_of(label)):
            raise InputError([_unfinished(f"{label} cannot be read yet")]) from error
        raise InputError(
            f"{label} is damaged ({reason(error)}); copy or record it again", "file-damaged"
        ) from error
    finally:
        _calls.depth -= 1


def _file_of(label: str) -> Path:
    return Path(label.partition("::")[0])


def _unfinished(text: str) -> ErrorRecord:
    """Return the error of a file that another program has open to write."""
    known = text.partition("; another program")[0]
    advice = "another program is writing it: wait until it is closed, or use xmist retrieve --follow"
    return ErrorRecord("file-being-written", f"{known}; {advice}")


def written_flags(path: Path) -> int:
    """Return the flags by which an HDF5 file states that it is open for writing: 0 if not, bit 2 for SWMR."""
    try:
        with path.open("rb") as file:
            head = file.read(12)
    except OSError:
        return 0
    return head[11] if head.startswith(b"\x89HDF\r\n\x1a\n") and len(head) == 12 and head[8] >= 3 else 0


def is_being_written(path: Path) -> bool:
    """Return whether another program has a file open to write, as far as this can be seen without a lock.

    HDF5 notes it in files of its newer format, and locks the file, which Linux lists for this machine.
    """
    if written_flags(path) & 1:
        return True
    try:
        facts = path.stat()
        locks = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except OSError:
        return False
    place = f"{os.major(facts.st_dev):02x}:{os.minor(facts.st_dev):02x}:{facts.st_ino}"
    return any(" WRITE " in line and place in line.split() for line in locks)


def silence(logger: str) -> None:
    """Suppress what a library logs in this thread while `reading`; its other users keep their messages."""
    log = logging.getLogger(logger)
    if _not_reading not in log.filters:
        log.addFilter(_not_reading)


def _not_reading(record: logging.LogRecord) -> bool:
    return not getattr(_calls, "depth", 0)


def reason(error: BaseException) -> str:
    """Return the cause of an error in one line."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    line = " ".join(text.split())
    return line if len(line) <= 200 else line[:199] + "…"


def frame_errors(
    label: str, shape: Sequence[int], dtype: np.dtype[Any], layout: ArrayLayout | None = None
) -> list[ErrorRecord]:
    """Return errors if images of this shape, (y, x) or (frame, …, y, x), and dtype cannot be frames."""
    shape = tuple(shape)
    y, x = layout.frame if layout is not None else shape[-2:] if len(shape) > 1 else (0, 0)
    texts = []
    if dtype.kind == "O":
        texts = ["holds Python objects, which can hide code and are never read; expected integers or floats"]
    elif dtype.kind in "US":
        texts = ["holds text; expected integers or floats"]
    elif dtype.kind not in "iuf" or dtype.itemsize > 8:
        advice = {"c": " (of complex numbers, save the modulus)", "b": " (it looks like a mask)"}
        texts = [f"holds {dtype}; expected integers or floats{advice.get(dtype.kind, '')}"]
    if dtype.kind in "OUS":
        pass
    elif not 2 <= len(shape) <= MOST_AXES:
        texts.append(f"has shape {shape}; expected (y, x) or (frame, y, x)")
    elif 0 in shape:
        texts.append(f"has shape {shape}, which has no pixels; expected (y, x) or (frame, y, x)")
    elif layout is None and len(shape) == 3 and x in (3, 4) and min(shape[:2]) >= SMALLEST_FRAME:
        texts.append(
            f"has shape {shape}, which looks like colour; expected grey values, (frame, y, x), or for frames "
            'along the last axis sample_axes = "y,x,position" in [input] (reference_axes for references)'
        )
    elif min(y, x) < SMALLEST_FRAME:
        texts.append(
            f"has frames of {y} × {x} pixels; expected at least {SMALLEST_FRAME} × {SMALLEST_FRAME}"
            + f" (its shape is {shape})" * (len(shape) > 2)
            + f'; for {x} frames along the last axis give sample_axes = "y,x,position" in [input]'
            * (layout is None and len(shape) == 3 and min(shape[:2]) >= SMALLEST_FRAME)
        )
    elif y * x > MOST_PIXELS:
        texts.append(f"claims frames of {y} × {x} pixels; expected {MOST_PIXELS} at most")
    return [ErrorRecord("frames-unsupported", f"{label} {text}") for text in texts]


def checked_layout(label: str, shape: Sequence[int], dtype: np.dtype[Any], axes: Axes | None) -> ArrayLayout:
    """Return the layout of frames in an array; InputError if it cannot be frames."""
    stated = array_layout(shape, axes, label) if axes and 2 <= len(shape) <= MOST_AXES else None
    raise_errors(frame_errors(label, shape, dtype, stated))
    return stated or array_layout(shape, None, label)


def native(array: NDArray[Any]) -> NDArray[Any]:
    """Return a C-contiguous copy in native byte order."""
    return np.array(array, dtype=array.dtype.newbyteorder("="), order="C", copy=True, subok=False)


def listed(names: Sequence[object], most: int = 5) -> str:
    """Return the first `most` names, and how many more there are."""
    shown = ", ".join(str(name) for name in names[:most])
    rest = len(names) - most
    return f"{shown} and {rest} more" if rest > 0 else shown
