"""Frames of any axes in formats that store images one by one, such as TIFF and EDF."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.io.frames.axes import ArrayLayout, Axes
from xmist.io.frames.sources import Source, checked_layout

# Frames are put together from all pages at once, up to this many bytes.
_SLAB: Final = 2**28


@dataclass(frozen=True, kw_only=True)
class ReorderedSource(Source):
    """Frames of an array whose first axis are the pages of another source."""

    layout: ArrayLayout
    inner: Source

    def frames(self, indices: Sequence[int]) -> Iterator[NDArray[Any]]:
        """Read several frames; see `Source.frames`."""
        layout = self.layout
        most = max(1, _SLAB // max(1, math.prod(self.shape) * self.dtype.itemsize))
        for start in range(0, len(indices), most):
            chosen = indices[start : start + most]
            # Where each frame is along the axes: a page, and a part of it; the axes y and x are taken whole.
            places = [layout.index(layout.numbers(index)) for index in chosen]
            if 0 not in (layout.y, layout.x):
                for place in places:
                    assert isinstance(place[0], int)
                    yield np.ascontiguousarray(layout.image(self.inner.read(place[0])[place[1:]]))
                continue
            images = np.empty((len(chosen), *self.shape), self.dtype)
            for number, page in enumerate(self.inner.frames(range(self.inner.count))):
                for image, place in zip(images, places, strict=True):
                    line = page[place[1:]]
                    if layout.y == 0:
                        image[number] = line
                    else:
                        image[:, number] = line
            yield from images

    def header(self, index: int) -> Mapping[str, str]:
        """Return what the first page states: it is shared by all frames."""
        return self.inner.header(0)


def with_axes(source: Source, axes: Axes | None) -> Source:
    """Return a source of pages as the frames of an array whose axes are stated."""
    if axes is None:
        return source
    if len(axes) == 2 and source.count == 1:
        axes = ("repeat", *axes)
    layout = checked_layout(source.label, (source.count, *source.shape), source.dtype, axes)
    if (layout.y, layout.x) == (1, 2):
        return source
    return ReorderedSource(
        label=source.label,
        path=source.path,
        files=source.files,
        count=layout.count,
        shape=layout.frame,
        dtype=source.dtype,
        layout=layout,
        inner=source,
    )
