"""What the methods that solve one pixel at a time share: least squares, weights, flags, filling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xmist.core import flags as flag
from xmist.core.arrays import Image, as_frames, as_weights
from xmist.core.errors import InputError, raise_errors
from xmist.methods.common.reference import PreparedReference, prepare_reference
from xmist.numerics.images.fill import REACH, fill
from xmist.numerics.images.smooth import gaussian
from xmist.numerics.operators.derivatives import RADIUS
from xmist.numerics.parallel import count_threads
from xmist.numerics.solvers import least_squares
from xmist.numerics.solvers.least_squares import ILL, ILL_LIMIT, LOST_SAMPLE, TOO_FEW, System
from xmist.numerics.solvers.neighbour_solve import solve_from_neighbours

__all__ = ["PixelwiseSystem", "PreparedReference", "prepare_pixelwise", "prepare_reference"]

Real = NDArray[Any]

_TILE = 128  # pixels a side
_FAINT = 0.2  # of the usual normal matrix: below, smoothing has left a pixel next to nothing


@dataclass(frozen=True, kw_only=True, eq=False)
class PixelwiseSystem:
    """Least squares at every pixel, prepared for a reference.

    Parameters
    ----------
    reference : PreparedReference
        Frames and weights.
    system : System
        Columns and target.
    smoothing : float
        Gaussian σ in pixels that the normal equations are smoothed with.
    ridge : float
        Absolute ridge.
    floors : (unknowns,) array
        Least pivots.
    matrix : (unknowns (unknowns + 1)/2, y, x) array or None
        Smoothed normal matrix for the reference's own weights; None without smoothing or if it depends on
        the sample.
    threads : int
        Threads.
    """

    reference: PreparedReference
    system: System
    smoothing: float
    ridge: float
    floors: NDArray[np.float64]
    matrix: Real | None
    threads: int

    def take(
        self, sample: ArrayLike, weights: ArrayLike | None
    ) -> tuple[Image, Real | None, NDArray[np.uint16]]:
        """Check the frames of a projection and combine their weights with the reference's.

        Parameters
        ----------
        sample : (position, y, x) array_like
            Frames with the sample.
        weights : (position, y, x) array_like or None
            Weights that multiply those of the reference.

        Returns
        -------
        sample : (position, y, x) float32 array
            The frames as they are used.
        weights : (position, y, x) array or None
            Weights of the equations.
        flags : (y, x) uint16 array
            Flags of the reference and the weights.

        Raises
        ------
        InputError
            If the frames do not fit the reference.
        """
        faults: list[str] = []
        shape = self.reference.frames.shape
        frames = as_frames("sample", sample, faults)
        if frames is not None and frames.shape != shape:
            faults.append(f"sample has shape {frames.shape}; expected the reference's {shape}")
        given = None if weights is None else as_weights("weights", weights, shape, faults)
        raise_errors(faults)
        assert frames is not None  # as_frames gave a fault otherwise
        if self.reference.scale != 1.0:
            with np.errstate(over="ignore"):  # beyond single precision becomes inf, which is a bad pixel
                frames = frames * np.float32(self.reference.scale)
        flags = self.reference.flags.copy()
        combined = self.reference.weights
        if given is not None:
            flags[(given == 0).any(axis=0)] |= flag.MASKED
            combined = given if combined is None else given * combined
        return frames, combined, flags

    def solve(self, sample: ArrayLike, weights: ArrayLike | None) -> tuple[Image, Image, NDArray[np.uint16]]:
        """Solve for the unknowns of one projection.

        Parameters
        ----------
        sample : (position, y, x) array_like
            Frames with the sample.
        weights : (position, y, x) array_like or None
            Weights that multiply those of the reference.

        Returns
        -------
        sample : (position, y, x) float32 array
            The frames as they were used.
        unknowns : (unknowns, y, x) float32 array
            In pixel units; NaN where flagged `UNDETERMINED`.
        flags : (y, x) uint16 array
            Flags of reference, sample and solution.

        Raises
        ------
        InputError
            If the frames do not fit the reference, or if no pixel is determined.
        """
        frames, combined, flags = self.take(sample, weights)
        unknowns, status = self._least_squares(frames, combined, own=weights is None)
        flags[(status & LOST_SAMPLE) > 0] |= flag.BAD_SAMPLE
        if status.any():
            self._fill(unknowns, status, flags, frames, combined)
        return frames, unknowns, flags

    def _least_squares(
        self, sample: Image, weights: Real | None, *, own: bool
    ) -> tuple[Image, NDArray[np.uint8]]:
        reference, system, threads = self.reference.frames, self.system, self.threads
        if self.smoothing == 0.0:
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
        new, rhs, status = least_squares.normal_equations(
            reference, sample, system, weights=weights, want_matrix=matrix is None, threads=threads
        )
        if matrix is not None and (status & LOST_SAMPLE).any():
            matrix = None  # the sample's own bad pixels take equations from the matrix too
            new, rhs, status = least_squares.normal_equations(
                reference, sample, system, weights=weights, threads=threads
            )
        if matrix is None:
            matrix = new
            gaussian(matrix, self.smoothing, threads=threads)
        gaussian(rhs, self.smoothing, threads=threads)
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
        """Solve farther out where smoothing leaves next to nothing, as in the middle of a seam."""
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
        """Solve with the equations of the neighbours; tile by tile, for the sake of memory."""
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
        unsolved = too_few.copy() if self.smoothing == 0.0 else np.zeros_like(too_few)
        if self.ridge == 0.0:
            unsolved |= ill
        elif self.smoothing > 0.0:
            unsolved |= ill & too_few
        if unsolved.all():
            raise InputError(self._nothing(too_few))
        flags[too_few] |= flag.FILLED
        flags[ill & ~too_few] |= flag.ILL_DETERMINED
        if self.smoothing == 0.0:
            self._borrow(unknowns, sample, weights, unsolved)
        else:
            good = ~unsolved
            for image in unknowns:
                image[...] = fill(image, good, threads=self.threads)
        lost = ~np.isfinite(unknowns).all(axis=0)
        if self.smoothing > 0.0 and too_few.any():
            lost |= _out_of_reach(~too_few)
        flags[lost] = (flags[lost] & ~np.uint16(flag.FILLED | flag.ILL_DETERMINED)) | flag.UNDETERMINED
        unknowns[:, lost] = np.nan

    def _nothing(self, too_few: NDArray[np.bool_]) -> str:
        needed = self.system.unknowns
        if too_few.all():
            return (
                f"no pixel has {needed} usable exposures of the {len(self.reference.frames)}; expected "
                "frames whose good pixels overlap (look at weights, NaN and reference values at or below 0)"
            )
        return (
            "the reference frames are proportional to each other at every pixel; expected different "
            "positions of the diffuser"
        )


def _out_of_reach(informed: NDArray[np.bool_]) -> NDArray[np.bool_]:
    from scipy.ndimage import maximum_filter

    near: NDArray[np.bool_] = maximum_filter(informed, size=2 * REACH + 1, mode="constant", cval=False)
    return ~near


def prepare_pixelwise(
    reference: PreparedReference,
    kinds: Sequence[int],
    *,
    target: int = least_squares.DIFFERENCE,
    smoothing: float,
    ridge: float,
    threads: int | None,
) -> PixelwiseSystem:
    """Sum what depends on the reference alone.

    Parameters
    ----------
    reference : PreparedReference
        Frames and weights.
    kinds : sequence of int
        Columns, see `xmist.numerics.operators.derivatives`.
    target : int
        Right side, see `xmist.numerics.solvers.least_squares`.
    smoothing : float
        Gaussian σ in pixels for the normal equations.
    ridge : float
        Relative ridge: multiplies the mean diagonal of the normal matrix.
    threads : int or None
        Threads.
    """
    system = System(kinds=tuple(kinds), target=target)
    number = count_threads(threads)
    matrix, _, status = least_squares.normal_equations(
        reference.frames, reference.frames, system, weights=reference.weights, threads=number
    )
    used = (status & TOO_FEW) == 0
    if not used.any():
        used = np.ones_like(used)
    rows = [j * (j + 3) // 2 for j in range(system.unknowns)]
    diagonal = np.array([matrix[row].mean(dtype=np.float64, where=used) for row in rows])
    if smoothing > 0.0 and not system.uses_sample:
        gaussian(matrix, smoothing, threads=number)
        kept = matrix
    else:
        kept = None
    return PixelwiseSystem(
        reference=reference,
        system=system,
        smoothing=smoothing,
        ridge=float(ridge * diagonal.mean()),
        floors=ILL_LIMIT * diagonal,
        matrix=kept,
        threads=number,
    )
