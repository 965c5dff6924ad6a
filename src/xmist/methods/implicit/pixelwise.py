"""Least squares at every pixel: weights, flags, and filling of undetermined pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xmist.core import flags as flag
from xmist.core.arrays import Image
from xmist.core.errors import InputError
from xmist.methods.common.reference import PreparedReference
from xmist.numerics.images.fill import REACH, fill
from xmist.numerics.images.smooth import average
from xmist.numerics.operators.derivatives import RADIUS
from xmist.numerics.parallel import count_threads
from xmist.numerics.solvers import least_squares
from xmist.numerics.solvers.least_squares import ILL, ILL_LIMIT, LOST_SAMPLE, TOO_FEW, System
from xmist.numerics.solvers.neighbour_solve import solve_from_neighbours

Real = NDArray[Any]

_TILE = 128  # pixels a side
_FAINT = 0.2  # of the usual normal matrix: below, smoothing has left a pixel almost no equations


@dataclass(frozen=True, kw_only=True, eq=False)
class PixelwiseSystem:
    """Least squares at every pixel, prepared for a reference."""

    reference: PreparedReference
    system: System  # columns and target
    smoothing: float  # Gaussian σ in pixels of the normal equations
    window: int  # pixels a side of the flat window of the normal equations
    ridge: float  # absolute
    floors: NDArray[np.float64]  # (unknown,) least pivots
    matrix: Real | None  # (lower triangle, y, x) smoothed normal matrix, if it depends on the reference alone
    threads: int

    @property
    def mean_diagonal(self) -> float:
        """Mean diagonal of the normal matrix, the unit of a relative ridge."""
        return float(self.floors.mean() / ILL_LIMIT)

    @property
    def relative_ridge(self) -> float:
        """The ridge as the option has it."""
        return self.ridge / self.mean_diagonal

    @property
    def averaged(self) -> bool:
        """Whether the equations of several pixels are joined."""
        return self.smoothing > 0.0 or self.window > 1

    @property
    def needed(self) -> int:
        """Positions that a pixel needs: as many as unknowns, unless pixels around it contribute."""
        return min(self.system.unknowns, len(self.reference.frames))

    def average(self, images: Real) -> None:
        """Join the (number, y, x) normal equations of the pixels around each pixel, in place."""
        average(images, self.smoothing, self.window, threads=self.threads)

    def take(
        self, sample: ArrayLike, weights: ArrayLike | None
    ) -> tuple[Image, Image | None, Real | None, NDArray[np.uint16]]:
        """Return sample frames, weights given with them, weights of the equations, and first flags."""
        frames, given = self.reference.check(sample, weights)
        if self.reference.scale != 1.0:
            with np.errstate(over="ignore"):  # beyond single precision becomes inf, which is a bad pixel
                frames = frames * np.float32(self.reference.scale)
        flags = self.reference.flags.copy()
        combined = self.reference.weights
        if given is not None:
            flags[(given == 0).any(axis=0)] |= flag.MASKED
            combined = given if combined is None else given * combined
        return frames, given, combined, flags

    def solve(
        self, frames: Image, given: Image | None, combined: Real | None, flags: NDArray[np.uint16]
    ) -> Image:
        """Return the (unknown, y, x) unknowns in pixel units, NaN where flagged `UNDETERMINED`; adds flags.

        Frames, weights and flags are those of `take`.
        """
        unknowns, status = self._least_squares(frames, combined, own=given is None)
        if (status & LOST_SAMPLE).any():
            for n, frame in enumerate(frames):
                flags[self.reference.not_hidden(~np.isfinite(frame), n, given)] |= flag.BAD_SAMPLE
        if status.any():
            self._fill(unknowns, status, flags, frames, combined)
        return unknowns

    def _least_squares(
        self, sample: Image, weights: Real | None, *, own: bool
    ) -> tuple[Image, NDArray[np.uint8]]:
        reference, system, threads = self.reference.frames, self.system, self.threads
        if not self.averaged:
            return least_squares.solve(
                reference,
                sample,
                system,
                weights=weights,
                floors=self.floors,
                ridge=self.ridge,
                threads=threads,
            )
        matrix = self.matrix if own else None
        sums = partial(
            least_squares.normal_equations,
            reference,
            sample,
            system,
            weights=weights,
            needed=self.needed,
            threads=threads,
        )
        new, rhs, status = sums(want_matrix=matrix is None)
        if matrix is not None and (status & LOST_SAMPLE).any():
            matrix = None  # the sample's own bad pixels take equations from the matrix too
            new, rhs, status = sums()
        if matrix is None:
            matrix = new
            self.average(matrix)
        self.average(rhs)
        borrowed = self._borrow_smoothed(matrix, rhs, (status & TOO_FEW) > 0)
        least_squares.solve_normal_equations(
            matrix, rhs, status, floors=self.floors, ridge=self.ridge, threads=threads
        )
        if borrowed is not None:
            wanted, values = borrowed
            rhs[:, wanted] = values
            lacking = np.isnan(values).any(axis=0)
            status[wanted] = np.where(lacking, status[wanted] | ILL, status[wanted] & ~np.uint8(ILL))
        return rhs, status

    def _borrow_smoothed(
        self, matrix: Real, rhs: Image, too_few: NDArray[np.bool_]
    ) -> tuple[NDArray[np.bool_], Real] | None:
        """Solve with equations from farther away where smoothing leaves almost none (wide gaps)."""
        if not too_few.any() or too_few.all():
            return None
        informed = ~too_few
        usual = matrix[0].mean(dtype=np.float64, where=informed)
        wanted = too_few & (matrix[0] < _FAINT * usual)
        return wanted, solve_from_neighbours(
            matrix, rhs, informed, wanted, floors=self.floors, ridge=self.ridge, threads=self.threads
        )

    def _borrow(
        self, unknowns: Image, sample: Image, weights: Real | None, wanted: NDArray[np.bool_]
    ) -> None:
        """Solve with the equations of the neighbours, tile by tile to save memory."""
        height, width = wanted.shape
        for top in range(0, height, _TILE):
            for left in range(0, width, _TILE):
                inner = np.s_[top : top + _TILE, left : left + _TILE]
                if wanted[inner].any():
                    self._borrow_tile(unknowns, sample, weights, wanted, top, left)

    def _borrow_tile(
        self,
        unknowns: Image,
        sample: Image,
        weights: Real | None,
        wanted: NDArray[np.bool_],
        top: int,
        left: int,
    ) -> None:
        halo = REACH + RADIUS
        outer = np.s_[max(0, top - halo) : top + _TILE + halo, max(0, left - halo) : left + _TILE + halo]
        matrix, rhs, status = least_squares.normal_equations(
            np.ascontiguousarray(self.reference.frames[:, *outer]),
            np.ascontiguousarray(sample[:, *outer]),
            self.system,
            weights=None if weights is None else np.ascontiguousarray(weights[:, *outer]),
            threads=self.threads,
        )
        here = wanted[outer].copy()
        y, x = min(top, halo), min(left, halo)
        here[:y] = here[y + _TILE :] = here[:, :x] = here[:, x + _TILE :] = False
        found = solve_from_neighbours(
            matrix,
            rhs,
            (status & TOO_FEW) == 0,
            here,
            floors=self.floors,
            ridge=self.ridge,
            threads=self.threads,
        )
        unknowns[:, *outer][:, here] = found

    def _fill(
        self,
        unknowns: Image,
        status: NDArray[np.uint8],
        flags: NDArray[np.uint16],
        sample: Image,
        weights: Real | None,
    ) -> None:
        too_few, ill = (status & TOO_FEW) > 0, (status & ILL) > 0
        unsolved = np.zeros_like(too_few) if self.averaged else too_few.copy()
        if self.ridge == 0.0:
            unsolved |= ill
        elif self.averaged:
            unsolved |= ill & too_few
        if unsolved.all():
            raise InputError(*self._nothing(too_few))
        flags[too_few] |= flag.FILLED
        flags[ill & ~too_few] |= flag.ILL_DETERMINED
        if not self.averaged:
            self._borrow(unknowns, sample, weights, unsolved)
        else:
            good = ~unsolved
            for image in unknowns:
                image[...] = fill(image, good, threads=self.threads)
        lost = ~np.isfinite(unknowns).all(axis=0)
        if self.averaged and too_few.any():
            lost |= _out_of_reach(~too_few)
        if lost.all():
            raise InputError(*self._nothing(too_few))
        flags[lost] = (flags[lost] & ~np.uint16(flag.FILLED | flag.ILL_DETERMINED)) | flag.UNDETERMINED
        unknowns[:, lost] = np.nan

    def _nothing(self, too_few: NDArray[np.bool_]) -> tuple[str, str]:
        """Return message and code for frames that determine no pixel."""
        if too_few.all():
            return (
                f"no pixel has {self.needed} usable positions of the {len(self.reference.frames)}; expected "
                "frames whose good pixels overlap (check weights, NaN and reference values of 0 or below)"
            ), "pixels-unusable"
        return (
            "the reference frames are proportional to each other at every pixel; expected different "
            "positions of the diffuser"
        ), "references-proportional"


def _out_of_reach(informed: NDArray[np.bool_]) -> NDArray[np.bool_]:
    from scipy.ndimage import maximum_filter

    near: NDArray[np.bool_] = maximum_filter(informed, size=2 * REACH + 1, mode="constant", cval=False)
    return ~near


def prepare_pixelwise(
    reference: PreparedReference,
    kinds: Sequence[int],
    *,
    smoothing: float,
    window: int = 1,
    ridge: float,
    threads: int | None,
) -> PixelwiseSystem:
    """Sum the terms that depend on the reference alone.

    `ridge` multiplies the mean diagonal of the normal matrix.
    """
    system = System(kinds=tuple(kinds))
    number = count_threads(threads)
    matrix, _, status = least_squares.normal_equations(
        reference.frames,
        reference.frames,
        system,
        weights=reference.weights,
        needed=min(system.unknowns, len(reference.frames)),
        threads=number,
    )
    used = (status & TOO_FEW) == 0
    if not used.any():
        used = np.ones_like(used)
    rows = [j * (j + 3) // 2 for j in range(system.unknowns)]
    diagonal = np.array([matrix[row].mean(dtype=np.float64, where=used) for row in rows])
    prepared = PixelwiseSystem(
        reference=reference,
        system=system,
        smoothing=smoothing,
        window=window,
        ridge=float(ridge * diagonal.mean()),
        floors=ILL_LIMIT * diagonal,
        matrix=None,
        threads=number,
    )
    if not prepared.averaged or system.uses_sample:
        return prepared
    prepared.average(matrix)
    return replace(prepared, matrix=matrix)
