"""Weights of the pixels of a stack of images, in one byte each.

The bits of a positive float, read as an integer, grow about like its logarithm. A code c > 0 stands for the
float32 whose bits are `first` + (c − 1) `step`, so that the 255 codes are about evenly spaced in the
logarithm from the smallest to the largest weight; 0 stands for 0. This is accurate enough for a fit: where
the largest weight is twenty times the smallest, codes are within 1 %, and a relative error ε of the weights
increases the variance of a least-squares fit by at most ε².
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from xmist.numerics.compiled import jit
from xmist.numerics.parallel import for_blocks

Real = NDArray[Any]

_CODES: Final = 255
_LARGEST: Final = int(np.finfo(np.float32).max.view(np.int32))  # bits


@jit
def _energy_rows(image, codes, values, sums, start, stop):  # type: ignore[no-untyped-def]
    for y in range(start, stop):
        a, c = image[y], codes[y]
        # Two sums, since each addition would wait for the one before.
        one = two = 0.0
        whole = len(a) - len(a) % 2
        for x in range(0, whole, 2):
            one += np.float64(values[c[x]]) * np.float64(a[x]) ** 2
            two += np.float64(values[c[x + 1]]) * np.float64(a[x + 1]) ** 2
        for x in range(whole, len(a)):
            one += np.float64(values[c[x]]) * np.float64(a[x]) ** 2
        sums[y] = one + two


class Images(Protocol):
    """A stack of images, or an object that makes them one by one."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Any]: ...

    def __getitem__(self, n: int, /) -> Any: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Weights:
    """Weights as codes; as a sequence, float32 images that are made on demand.

    `codes` (position, y, x) uint8: setting one to 0 removes its weight; `first`, `step`: bits of the smallest
    weight, and what a code adds to them.
    """

    codes: NDArray[np.uint8]
    first: int
    step: int

    @classmethod
    def of(cls, weights: Real) -> Weights:
        """Encode a stack (position, y, x) of finite numbers of at least 0."""
        return cls.made(weights.shape, lambda n: weights[n])

    @classmethod
    def made(cls, shape: tuple[int, ...], image: Callable[[int], Real]) -> Weights:
        """Encode a stack of `shape` (position, y, x) that is never there as a whole.

        `image(n)` returns the weights of a position, finite numbers of at least 0; called twice for each.
        """
        least, largest = np.float32(np.inf), np.float32(0.0)
        for n in range(shape[0]):
            values = np.asarray(image(n), np.float32)
            least = min(least, values.min(where=values > 0.0, initial=np.float32(np.inf)))
            largest = max(largest, values.max())
        first, last = (int(value.view(np.int32)) for value in (min(least, largest), largest))
        step = max(1, -(-(last - first) // (_CODES - 1)))
        codes = np.empty(shape, np.uint8)
        for n, out in enumerate(codes):
            values = np.ascontiguousarray(image(n), np.float32)
            places = values.view(np.int32) - np.int32(first)
            places += np.int32(step // 2)
            places //= np.int32(step)
            places += np.int32(1)
            places[values <= 0.0] = 0
            out[...] = places
        return cls(codes=codes, first=first, step=step)

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of images, and their size."""
        return self.codes.shape

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, n: int, /) -> NDArray[np.float32]:
        out: NDArray[np.float32] = self._values[self.codes[n]]
        return out

    @property
    def _values(self) -> NDArray[np.float32]:
        """The weights that the codes 0 to 255 stand for."""
        bits = self.first + (np.arange(_CODES + 1) - 1) * self.step
        bits[0] = 0
        values: NDArray[np.float32] = np.minimum(bits, _LARGEST).astype(np.int32).view(np.float32)
        return values

    def energy(self, n: int, image: Real, *, threads: int | None = None) -> float:
        """Return Σ w I² for an image I (y, x) of a position."""
        codes, values, sums = self.codes[n], self._values, np.empty(len(image))
        for_blocks(
            lambda a, b: _energy_rows(image, codes, values, sums, a, b),
            len(image),
            threads=threads,
            block=256,
        )
        return float(sums.sum())

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        return (self[n] for n in range(len(self)))

    def part(self, n: int) -> Weights:
        """Return those of one position as a stack, in the same memory."""
        return replace(self, codes=self.codes[n : n + 1])

    def copy(self) -> Weights:
        """Return a copy, from which weights can be taken."""
        return replace(self, codes=self.codes.copy())

    def count(self) -> int:
        """Return how many pixels have weight."""
        return int(np.count_nonzero(self.codes))
