"""Where the pixels of a simulated plane lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Real = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Square pixels in the sample's plane; x = y = 0 is the middle of the field.

    Parameters
    ----------
    shape : tuple of int
        Number of pixels (y, x).
    pixel : float
        Size of a pixel in metres.

    Examples
    --------
    >>> grid = Grid(shape=(4, 6), pixel=0.5)
    >>> grid.x(slice(None)).tolist()
    [-1.25, -0.75, -0.25, 0.25, 0.75, 1.25]
    """

    shape: tuple[int, int]
    pixel: float

    def y(self, rows: slice) -> Real:
        """Return the y of the pixels' centres.

        Parameters
        ----------
        rows : slice
            Which rows.

        Returns
        -------
        (y,) float64 array
            In metres, growing downwards.
        """
        return (np.arange(self.shape[0])[rows] - (self.shape[0] - 1) / 2.0) * self.pixel

    def x(self, columns: slice) -> Real:
        """Return the x of the pixels' centres.

        Parameters
        ----------
        columns : slice
            Which columns.

        Returns
        -------
        (x,) float64 array
            In metres, growing to the right.
        """
        return (np.arange(self.shape[1])[columns] - (self.shape[1] - 1) / 2.0) * self.pixel

    def window(self, box: tuple[float, float, float, float], margin: int = 0) -> tuple[slice, slice]:
        """Return the rows and columns that touch a box.

        Parameters
        ----------
        box : tuple of float
            Least and greatest y, least and greatest x, in metres; may be infinite.
        margin : int
            Pixels more on every side.

        Returns
        -------
        tuple of slice
            Rows and columns, within the field; empty slices if the box lies outside.
        """
        slices = []
        for size, low, high in zip(self.shape, box[::2], box[1::2], strict=True):
            edge = size / 2.0
            first = np.floor(np.clip(low / self.pixel + edge, -1.0, size + 1.0)) - margin
            last = np.ceil(np.clip(high / self.pixel + edge, -1.0, size + 1.0)) + margin
            start = int(np.clip(first, 0, size))
            slices.append(slice(start, max(start, int(np.clip(last, 0, size)))))
        return slices[0], slices[1]


def binned(image: Real, factor: int) -> Real:
    """Average an image over squares of pixels.

    `image` (..., y, x); returns (..., y/factor, x/factor).
    """
    y, x = image.shape[-2:]
    blocks = image.reshape(*image.shape[:-2], y // factor, factor, x // factor, factor)
    means: Real = blocks.mean(axis=(-3, -1), dtype=np.float64)
    return means
