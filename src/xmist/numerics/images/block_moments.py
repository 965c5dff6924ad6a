"""Sums over blocks of reference and sample frames, from which bare beam and its motion are found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.numerics.operators.derivatives import jit
from xmist.numerics.parallel import for_blocks

Real = NDArray[Any]

BLOCK: Final = 8  # pixels a side; as many pixels as a few speckles have
_ROWS: Final = 4  # of blocks, for a thread


@jit
def _sum_rows(reference, sample, good, everywhere, out, flux, first, last):  # type: ignore[no-untyped-def]
    """Add up blocks of rows `first` to `last`; see `BlockMoments`."""
    height, width = reference.shape
    for v in range(first, last):
        for y in range(v * BLOCK, min((v + 1) * BLOCK, height)):
            up, down = max(y - 1, 0), min(y + 1, height - 1)
            for x in range(width):
                s = np.float64(sample[y, x])
                if not np.isfinite(s) or not (everywhere or good[y, x]):
                    continue
                u = x // BLOCK
                r = np.float64(reference[y, x])
                a, b = max(x - 1, 0), min(x + 1, width - 1)
                gx = 0.5 * (np.float64(reference[y, b]) - np.float64(reference[y, a]))
                gy = 0.5 * (np.float64(reference[down, x]) - np.float64(reference[up, x]))
                block = out[v, u]
                block[0] += 1.0
                block[1] += r * r
                block[2] += r * s
                block[3] += s * s
                block[4] += gx * gx
                block[5] += gx * gy
                block[6] += gy * gy
                block[7] += gx * r
                block[8] += gy * r
                block[9] += gx * s
                block[10] += gy * s
                flux[v, u, 0] += r
                flux[v, u, 1] += s


@dataclass(frozen=True, kw_only=True, eq=False)
class BlockMoments:
    """Sums over blocks of `BLOCK` × `BLOCK` pixels (y, x) where both frames count.

    `count`, `rr`, `rs`, `ss`: of pixels, r², r s, s² over all positions, with the gradient g of r `gg`
    (3, y, x): g_x², g_x g_y, g_y²; `gr`, `gs` (2, y, x): g r, g s. `flux` (position, 2, y, x): of r and s.
    """

    count: Real
    rr: Real
    rs: Real
    ss: Real
    gg: Real
    gr: Real
    gs: Real
    flux: Real
    shape: tuple[int, int]  # of the frames

    def mask(self, blocks: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return the pixels (y, x) of some blocks (y, x)."""
        pixels: NDArray[np.bool_] = np.repeat(np.repeat(blocks, BLOCK, axis=0), BLOCK, axis=1)
        return pixels[: self.shape[0], : self.shape[1]]


def block_moments(
    reference: Real,
    sample: Real,
    weights: Real | None,
    *,
    used: NDArray[np.bool_] | None = None,
    threads: int | None = None,
) -> BlockMoments:
    """Sum over blocks of frames (position, y, x).

    Pixels of weight 0, not `used` (y, x), or without a finite sample do not count. Reference frames are
    finite. Each position is divided by its mean.
    """
    height, width = reference.shape[1:]
    grid = (-(-height // BLOCK), -(-width // BLOCK))
    total = np.zeros((*grid, 11))
    limited = weights is not None or used is not None
    flux = np.zeros((len(reference), 2, *grid))
    for n, (one, other) in enumerate(zip(reference, sample, strict=True)):
        good = np.ones((1, 1), np.bool_) if weights is None else weights[n] > 0
        if used is not None:
            good = good & used
        out, both = np.zeros((*grid, 11)), np.zeros((*grid, 2))

        def task(first: int, last: int, one=one, other=other, good=good, out=out, both=both) -> None:  # type: ignore[no-untyped-def]
            _sum_rows(one, other, good, not limited, out, both, first, last)

        for_blocks(task, grid[0], threads=threads, block=_ROWS)
        flux[n] = np.moveaxis(both, 2, 0)
        number, level = out[..., 0].sum(), both[..., 0].sum()
        out[..., 1:] *= (number / level) ** 2 if level > 0.0 else 0.0
        total += out
    parts = np.moveaxis(total, 2, 0)
    return BlockMoments(
        count=parts[0],
        rr=parts[1],
        rs=parts[2],
        ss=parts[3],
        gg=parts[4:7],
        gr=parts[7:9],
        gs=parts[9:11],
        flux=flux,
        shape=(height, width),
    )
