"""The frames of a projection out of their files, which stay open while neighbours are read."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.core.errors import InputError
from xmist.io.frames.frames import FrameSeries, Source, load_frames
from xmist.workflow.series.layout import Layout, open_for_scan

# Headers that are kept: as many as there can be stacks of a position.
_KEPT: Final = 64


@dataclass(frozen=True, kw_only=True)
class _Stream(Source):
    """A source that goes on reading where it stopped, so that files are opened and chunks unpacked once.

    Parameters
    ----------
    inner : Source
        The file.
    state : dict
        What is being read: the frames to come, and the number of the next.
    """

    inner: Source
    state: dict[str, Any]

    @property
    def _streams(self) -> bool:
        """Whether the file gains by staying open: HDF5 looks a file through for damage as it opens it."""
        return hasattr(self.inner, "depth") and self.inner.count > 1

    def read(self, index: int) -> NDArray[Any]:
        """Read one frame; see `Source.read`."""
        if not self._streams:
            return self.inner.read(index)
        if self.state.get("next") != index:
            self.close()
            self.state["frames"] = self.inner.frames(range(index, self.inner.count))
        try:
            frame: NDArray[Any] = next(self.state["frames"])
        except BaseException:
            self.close()
            raise
        self.state["next"] = index + 1
        return frame

    def header(self, index: int) -> Mapping[str, str]:
        """Give what the file states; see `Source.header`."""
        return self.inner.header(index)

    def frames(self, indices: Sequence[int]) -> Iterator[NDArray[Any]]:
        """Read several frames; see `Source.frames`."""
        if not self._streams:
            return self.inner.frames(indices)
        return map(self.read, indices)

    def close(self) -> None:
        """Close what is open."""
        if "frames" in self.state:
            self.state.pop("frames").close()
        self.state.pop("next", None)


class Reader:
    """Reads projections; a context manager that closes what is open.

    Parameters
    ----------
    layout : Layout
        Where the frames are.

    Examples
    --------
    >>> from pathlib import Path
    >>> from xmist.workflow.series.layout import lay_out
    >>> np.save("p_7.npy", np.ones((2, 8, 9)))
    >>> place = {"name": "input.sample", "outer": "projection", "folder": Path("."), "exposures": 1}
    >>> with Reader(lay_out(["p_{projection}.npy"], order=None, **place)) as reader:
    ...     reader.read(0).shape
    (2, 8, 9)
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._sources: OrderedDict[int, _Stream] = OrderedDict()

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        for stream in self._sources.values():
            stream.close()
        self._sources.clear()

    def read(self, index: int) -> NDArray[Any]:
        """Read a projection; repeated exposures are averaged as `load_frames` does.

        Parameters
        ----------
        index : int
            From 0.

        Returns
        -------
        (position, y, x) float32 array
            Its frames.

        Raises
        ------
        InputError
            If a frame is missing, cannot be read, or is of another shape.
        """
        layout = self.layout
        if index in layout.missing:
            raise InputError(f"{layout.name}: {layout.missing[index]}")
        places = layout.places[index]
        numbers = [number for number in dict.fromkeys(places[..., 0].reshape(-1).tolist()) if number >= 0]
        streams = [self._open(number) for number in numbers]
        starts = dict(
            zip(numbers, np.cumsum([0, *(stream.count for stream in streams)]).tolist(), strict=False)
        )
        series = FrameSeries(layout.name, tuple(streams))
        groups = [
            [starts[number] + frame for number, frame in position.tolist() if number >= 0]
            for position in places
        ]
        return load_frames(series, groups=groups).frames

    def header(self, index: int) -> Mapping[str, str]:
        """Give what the first frame's file states of a projection.

        Parameters
        ----------
        index : int
            From 0.
        """
        number, frame = self.layout.places[index, 0, 0].tolist()
        return {} if number < 0 else self.header_of(number, frame)

    def header_of(self, number: int, frame: int) -> Mapping[str, str]:
        """Give what a file states of one of its frames.

        Parameters
        ----------
        number, frame : int
            Numbers of the file in the layout, and of the frame in the file.
        """
        return self._open(number).header(frame)

    def _open(self, number: int) -> _Stream:
        if number in self._sources:
            self._sources.move_to_end(number)
            return self._sources[number]
        layout = self.layout
        source = open_for_scan(layout.addresses[number])
        if source.shape != layout.shape:
            raise InputError(
                f"{layout.name}: {source.label} has frames of {source.shape[0]} × {source.shape[1]} pixels; "
                f"expected {layout.shape[0]} × {layout.shape[1]}"
            )
        stream = _Stream(
            inner=source,
            state={},
            label=source.label,
            path=source.path,
            files=source.files,
            count=source.count,
            shape=source.shape,
            dtype=source.dtype,
        )
        self._sources[number] = stream
        # A projection may need more files than are kept: the oldest of earlier projections goes.
        while len(self._sources) > max(_KEPT, 2 * layout.places[0].size):
            self._sources.popitem(last=False)[1].close()
        return stream
