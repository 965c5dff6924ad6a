"""Sums over blocks of reference and sample frames, from which bare beam and its motion are found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.numerics.compiled import jit
from xmist.numerics.parallel import for_blocks

Real = NDArray[Any]

BLOCK: Final = 8  # pixels a side; as many pixels as a few speckles have
_LARGE: Final = 512  # pixels a side of frames, from which on blocks are larger, and not all rows count
_LARGER: Final = 16
_ROWS: Final = 16  # of blocks, for a thread
_WIDE: Final = 128  # columns whose sums the nearest cache holds


@jit
def _find_good(sample, good, everywhere, ok):  # type: ignore[no-untyped-def]
    for x in range(len(ok)):
        ok[x] = 1.0 if np.isfinite(sample[x]) else 0.0
    if not everywhere:
        for x in range(len(ok)):
            ok[x] = ok[x] if good[x] else 0.0


@jit
def _take(row, ok, out):  # type: ignore[no-untyped-def]
    for x in range(len(out)):
        out[x] = np.float64(row[x]) if ok[x] > 0.0 else 0.0


@jit
def _take_difference(after, before, ok, out):  # type: ignore[no-untyped-def]
    for x in range(len(out)):
        out[x] = 0.5 * (np.float64(after[x]) - np.float64(before[x])) * ok[x]


@jit
def _add_columns(ok, reference, sample, along, across, sums):  # type: ignore[no-untyped-def]
    """Constant distances within one array, so that the compiler vectorises."""
    for x in range(len(ok)):
        w, r, s, g, h = ok[x], reference[x], sample[x], along[x], across[x]
        sums[x] += w
        sums[_WIDE + x] += r * r
        sums[2 * _WIDE + x] += r * s
        sums[3 * _WIDE + x] += s * s
        sums[4 * _WIDE + x] += g * g
        sums[5 * _WIDE + x] += g * h
        sums[6 * _WIDE + x] += h * h
        sums[7 * _WIDE + x] += g * r
        sums[8 * _WIDE + x] += h * r
        sums[9 * _WIDE + x] += g * s
        sums[10 * _WIDE + x] += h * s
        sums[11 * _WIDE + x] += r
        sums[12 * _WIDE + x] += s


@jit
def _add_light(ok, reference, sample, sums):  # type: ignore[no-untyped-def]
    """As `_add_columns`, without the gradient."""
    for x in range(len(ok)):
        w, r, s = ok[x], reference[x], sample[x]
        sums[x] += w
        sums[_WIDE + x] += r * r
        sums[2 * _WIDE + x] += r * s
        sums[3 * _WIDE + x] += s * s
        sums[4 * _WIDE + x] += r
        sums[5 * _WIDE + x] += s


@jit
def _add_blocks(sums, number, side, left, right, out):  # type: ignore[no-untyped-def]
    """Fill sums over the blocks of a part of the columns, from those of a number of images (x, image)."""
    for u in range(left // side, -(-right // side)):
        for k in range(number):
            total = 0.0
            for begin in range(u * side - left, (u + 1) * side - left, BLOCK):
                block = sums[k * _WIDE + begin : k * _WIDE + begin + BLOCK]  # 0 beyond the frame
                total += ((block[0] + block[1]) + (block[2] + block[3])) + (
                    (block[4] + block[5]) + (block[6] + block[7])
                )
            out[u, k] = total


@jit
def _sum_light(reference, sample, good, everywhere, side, every, out, first, last):  # type: ignore[no-untyped-def]
    """As `_sum_rows`, without the gradient."""
    height, width = reference.shape
    ok, r, s = np.empty(_WIDE), np.empty(_WIDE), np.empty(_WIDE)
    sums = np.empty(6 * _WIDE)
    for v in range(first, last):
        for left in range(0, width, _WIDE):
            right = min(left + _WIDE, width)
            n = right - left
            sums[:] = 0.0
            for y in range(v * side + every // 2, min((v + 1) * side, height), every):
                _find_good(
                    sample[y][left:right], good[0 if everywhere else y][left:right], everywhere, ok[:n]
                )
                _take(reference[y][left:right], ok, r[:n])
                _take(sample[y][left:right], ok, s[:n])
                _add_light(ok[:n], r, s, sums)
            _add_blocks(sums, 6, side, left, right, out[v])


@jit
def _sum_rows(reference, sample, good, everywhere, side, every, blocks, out, first, last):  # type: ignore[no-untyped-def]
    """Add up `every` few rows of blocks `first` to `last`, columns before blocks; see `BlockMoments`."""
    height, width = reference.shape
    ok, r, s, gx, gy = np.empty(_WIDE), np.empty(_WIDE), np.empty(_WIDE), np.empty(_WIDE), np.empty(_WIDE)
    sums = np.empty(13 * _WIDE)
    for v in range(first, last):
        for left in range(0, width, _WIDE):
            right = min(left + _WIDE, width)
            n = right - left
            if not blocks[v, left // side : -(-right // side)].any():
                continue
            sums[:] = 0.0
            for y in range(v * side + every // 2, min((v + 1) * side, height), every):
                row = reference[y]
                up, down = reference[max(y - 1, 0)], reference[min(y + 1, height - 1)]
                _find_good(
                    sample[y][left:right], good[0 if everywhere else y][left:right], everywhere, ok[:n]
                )
                _take(row[left:right], ok, r[:n])
                _take(sample[y][left:right], ok, s[:n])
                _take_difference(down[left:right], up[left:right], ok, gy[:n])
                start, stop = max(left, 1), min(right, width - 1)
                _take_difference(
                    row[start + 1 : stop + 1],
                    row[start - 1 : stop - 1],
                    ok[start - left :],
                    gx[start - left : stop - left],
                )
                if left == 0:
                    gx[0] = 0.5 * (np.float64(row[1]) - np.float64(row[0])) * ok[0]
                if right == width:
                    gx[n - 1] = 0.5 * (np.float64(row[-1]) - np.float64(row[-2])) * ok[n - 1]
                _add_columns(ok[:n], r, s, gx, gy, sums)
            _add_blocks(sums, 13, side, left, right, out[v])


@dataclass(frozen=True, kw_only=True, eq=False)
class BlockMoments:
    """Sums over blocks (y, x) of `side` × `side` pixels where both frames count.

    `count`, `rr`, `rs`, `ss`: of pixels, r², r s, s² over all positions. `flux` (position, 2, y, x): of r, s.
    """

    count: Real
    rr: Real
    rs: Real
    ss: Real
    flux: Real
    shape: tuple[int, int]  # of the frames
    side: int

    def mask(self, blocks: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return the pixels (y, x) of some blocks (y, x)."""
        pixels: NDArray[np.bool_] = np.repeat(np.repeat(blocks, self.side, axis=0), self.side, axis=1)
        return pixels[: self.shape[0], : self.shape[1]]


@dataclass(frozen=True, kw_only=True, eq=False)
class SlopeMoments:
    """The same with the gradient g of r: `gg` (3, y, x): g_x², g_x g_y, g_y²; `gr`, `gs` (2, y, x)."""

    count: Real
    rr: Real
    rs: Real
    ss: Real
    gg: Real
    gr: Real
    gs: Real


@dataclass(frozen=True, kw_only=True, eq=False)
class FramePairs:
    """Reference and sample frames (position, y, x) of which sums over blocks are taken.

    Pixels of weight 0, not `used` (y, x), or without a finite sample do not count. Reference frames are
    finite. Each position is divided by its mean. Of large frames about as many rows count as half of a
    position has.
    """

    reference: Real
    sample: Real
    weights: Real | None
    used: NDArray[np.bool_] | None = None
    threads: int | None = None

    def light(self) -> BlockMoments:
        """Return the sums without the gradient."""
        side, _, grid = self._blocks()
        flux = np.zeros((len(self.reference), 2, *grid))

        def sums(n: int, *given: Any) -> Real:
            out = np.zeros((*grid, 6))
            self._for_blocks(grid, lambda first, last: _sum_light(*given, out, first, last))
            flux[n] = np.moveaxis(out[..., 4:], 2, 0)
            return out

        parts = self._added(sums)
        return BlockMoments(
            count=parts[0],
            rr=parts[1],
            rs=parts[2],
            ss=parts[3],
            flux=flux,
            shape=self.reference.shape[1:],
            side=side,
        )

    def slopes(self, blocks: NDArray[np.bool_]) -> SlopeMoments:
        """Return the sums in some blocks (y, x); those of others may be 0."""
        _, _, grid = self._blocks()

        def sums(n: int, *given: Any) -> Real:
            out = np.zeros((*grid, 13))
            self._for_blocks(grid, lambda first, last: _sum_rows(*given, blocks, out, first, last))
            return out

        parts = self._added(sums)
        return SlopeMoments(
            count=parts[0],
            rr=parts[1],
            rs=parts[2],
            ss=parts[3],
            gg=parts[4:7],
            gr=parts[7:9],
            gs=parts[9:11],
        )

    def _blocks(self) -> tuple[int, int, tuple[int, int]]:
        """Return the side of a block, every how many rows count, and the numbers of blocks along y and x."""
        height, width = self.reference.shape[1:]
        side = BLOCK if max(height, width) <= _LARGE else _LARGER
        every = 1 if side == BLOCK else min(side, 1 << len(self.reference).bit_length())
        return side, every, (-(-height // side), -(-width // side))

    def _for_blocks(self, grid: tuple[int, int], task: Callable[[int, int], None]) -> None:
        for_blocks(task, grid[0], threads=self.threads, block=_ROWS)

    def _added(self, sums: Callable[..., Real]) -> Real:
        """Add the sums (y, x, image) of all positions, each in units of its mean; return (image, y, x)."""
        side, every, _ = self._blocks()
        limited = self.weights is not None or self.used is not None
        total: Real = np.zeros(1)
        for n, (one, other) in enumerate(zip(self.reference, self.sample, strict=True)):
            good = np.ones((1, 1), np.bool_) if self.weights is None else self.weights[n] > 0
            if self.used is not None:
                good = good & self.used
            out = sums(n, one, other, good, not limited, side, every)
            number, level = out[..., 0].sum(), out[..., -2].sum()
            out[..., 1:] *= (number / level) ** 2 if level > 0.0 else 0.0
            total = total + out
        return np.moveaxis(total, 2, 0)
