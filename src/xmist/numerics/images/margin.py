"""Images with a margin that holds their even mirror, made one by one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Real = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Margined:
    """A sequence of images (number, y, x) with `margin` more pixels on each side, which are not kept."""

    images: Real
    margin: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of images, and their size with the margin."""
        number, height, width = self.images.shape
        return number, height + 2 * self.margin, width + 2 * self.margin

    @property
    def dtype(self) -> np.dtype[Any]:
        """That of the images."""
        return self.images.dtype

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[Real]:
        return (self[n] for n in range(len(self)))

    def __getitem__(self, n: int, /) -> Real:
        return np.pad(self.images[n], self.margin, mode="symmetric")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Real:
        out = np.empty(self.shape, self.dtype if dtype is None else dtype)
        for target, image in zip(out, self, strict=True):
            target[...] = image
        return out
