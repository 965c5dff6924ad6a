"""Meaning of the axes of a stored array: y and x of a frame, and the axes that count frames."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from numpy.typing import NDArray

from xmist.core.errors import InputError

Axes = tuple[str, ...]

# From the slowest to the fastest, where nothing else is stated.
FRAME_AXES: Final = ("projection", "set", "position", "repeat")
_IMAGE: Final = ("y", "x")
_WORDS: Final[Mapping[str, str]] = {
    word: name
    for name, words in {
        "projection": "projection projections proj angle angles rotation_angle theta omega",
        "set": "set sets",
        "position": "position positions diffuser diffuser_position step steps",
        "repeat": "repeat repeats repetition repetitions",
        "y": "y row rows vertical height",
        "x": "x column columns col cols horizontal width",
    }.items()
    for word in words.split()
}


def as_axes(value: Any) -> Axes:
    """Return the axes that a text ("projection,position,y,x") or a list names, or raise ValueError."""
    names = re.split(r"[,\s]+", value.strip()) if isinstance(value, str) else list(value)
    axes = tuple(str(name).strip().lower() for name in names)
    if len(set(axes)) < len(axes) or not {*_IMAGE} <= {*axes} <= {*_IMAGE, *FRAME_AXES}:
        raise ValueError
    if {"projection", "set"} <= {*axes}:
        raise ValueError
    return axes


def known_axes(labels: Sequence[str]) -> Axes | None:
    """Return the axes that labels in a file mean; None if one of them is not known.

    Examples
    --------
    >>> known_axes(["rotation_angle", "position", "y", "x"])
    ('projection', 'position', 'y', 'x')
    """
    names = [_WORDS.get(label.strip().lower(), "") for label in labels]
    if labels[-2:] == [".", "."]:  # NeXus: pixels without coordinates
        names[-2:] = _IMAGE
    try:
        return as_axes(names)
    except ValueError:
        return None


def frame_axes(axes: Iterable[str]) -> Axes:
    """Return the axes that count frames, without y and x."""
    return tuple(name for name in axes if name not in _IMAGE)


@dataclass(frozen=True)
class ArrayLayout:
    """How frames are stored in an array: places of y and x, and the names of the other axes, if known.

    Frames are counted along the other axes, the last of them fastest.
    """

    shape: tuple[int, ...]
    y: int
    x: int
    names: Axes = ()

    @property
    def frame(self) -> tuple[int, int]:
        """Size (y, x) of a frame."""
        return self.shape[self.y], self.shape[self.x]

    @property
    def others(self) -> tuple[int, ...]:
        """Places of the axes that count frames."""
        return tuple(place for place in range(len(self.shape)) if place not in (self.y, self.x))

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sizes of the axes that count frames; () for a single frame."""
        return tuple(self.shape[place] for place in self.others)

    @property
    def count(self) -> int:
        """Number of frames."""
        return math.prod(self.sizes)

    def numbers(self, frame: int) -> tuple[int, ...]:
        """Return where a frame is along the axes that count frames."""
        found = []
        for size in reversed(self.sizes):
            frame, number = divmod(frame, size)
            found.append(number)
        return tuple(reversed(found))

    def index(self, numbers: Sequence[int | slice]) -> tuple[int | slice, ...]:
        """Return the index of a part of the array from its places along the axes that count frames."""
        parts = dict(zip(self.others, numbers, strict=True))
        return tuple(parts.get(place, slice(None)) for place in range(len(self.shape)))

    def image(self, part: NDArray[Any]) -> NDArray[Any]:
        """Return one frame, which was read with `index`, as (y, x)."""
        return part if self.y < self.x else part.T


def array_layout(shape: Sequence[int], axes: Axes | None, label: str) -> ArrayLayout:
    """Return the layout of an array whose axes are stated; None: y and x are the last, and one counts frames.

    More axes than the array has count frames of several files, or share its only axis of frames. Of an array
    without stated axes, all but one of those that count frames may have a length of 1.
    """
    shape = tuple(shape)
    ndim = len(shape)
    if axes is None:
        if ndim > 3 and sum(size > 1 for size in shape[:-2]) > 1:
            raise InputError(
                f"{label} has shape {shape}, and nothing states what its axes are; expected "
                'sample_axes = "projection,position,y,x" in [input], in the order of its axes '
                "(reference_axes for references: set, position, repeat, y, x)",
                "axes-missing",
            )
        return ArrayLayout(shape, ndim - 2, ndim - 1)
    names = axes
    if len(axes) > ndim:  # the first axes are those of the files, or share one
        image = tuple(axis for axis in axes if axis in _IMAGE)
        if ndim == 2:
            names = image
        elif ndim == 3:
            names = ("", *image) if axes[-2:] == image else (*image, "") if axes[:2] == image else ()
        else:
            names = axes[len(axes) - ndim :] if {*_IMAGE} <= {*axes[len(axes) - ndim :]} else ()
    if len(names) != ndim:
        raise InputError(
            f"{label} has shape {shape}, that is {ndim} axes; expected {len(axes)}: {','.join(axes)} (see "
            "sample_axes and reference_axes in [input])",
            "axes-mismatch",
        )
    found = frame_axes(names)
    return ArrayLayout(shape, names.index("y"), names.index("x"), found if "" not in found else ())


def axis_sizes(
    axes: Axes,
    sizes: Sequence[int],
    files: int,
    known: Mapping[str, int],
    label: str,
    code: str = "axes-mismatch",
) -> dict[str, int]:
    """Return the size of each axis that counts frames, in so many files whose arrays have `sizes` of them.

    One axis may have a size that is not known before; files are counted along the first axis.
    """
    total = files * math.prod(sizes)
    found: dict[str, int] = {}
    if len(sizes) == len(axes) and len(axes) > 0:
        found = dict(zip(axes, (sizes[0] * files, *sizes[1:]), strict=True))
    elif len(sizes) == len(axes) - 1 and (len(sizes) > 1 or known.get(axes[0]) in (None, files)):
        found = dict(zip(axes, (files, *sizes), strict=True))
    elif len(sizes) <= 1:
        open_axes = [axis for axis in axes if axis not in known]
        given = math.prod(known[axis] for axis in axes if axis in known)
        if len(open_axes) <= 1 and given and total % given == 0:
            found = {axis: known.get(axis, total // given) for axis in axes}
    if (
        not found
        or math.prod(found.values()) != total
        or any(found.get(axis, size) != size for axis, size in known.items())
    ):
        wanted = ", ".join(f"{known[axis]} {axis}s" if axis in known else f"{axis}s" for axis in axes)
        stored = f"{files} file{'s' * (files > 1)} of {' × '.join(map(str, sizes)) or 1} frames"
        raise InputError(
            f"{label}: {stored} do not fit {','.join(axes)} ({wanted}); check the order of the axes and the "
            "numbers of positions and repeats, and if files are missing, put {projection} (or {set}) and "
            "{position} into the names",
            code,
        )
    return found
