"""What the methods that solve one pixel at a time share: reference, weights, flags, filling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xmist import flags as flag
from xmist.data import Image, as_frames, as_weights
from xmist.errors import InputError, raise_faults
from xmist.numerics import least_squares
from xmist.numerics.borrow import borrow
from xmist.numerics.derivatives import RADIUS
from xmist.numerics.fill import REACH, fill
from xmist.numerics.least_squares import ILL, ILL_LIMIT, LOST_SAMPLE, TOO_FEW, System
from xmist.numerics.parallel import count_threads
from xmist.numerics.smooth import gaussian

Real = NDArray[Any]

_TILE = 128  # pixels a side
_FAINT = 0.2  # of the usual normal matrix: below, smoothing has left a pixel next to nothing


@dataclass(frozen=True, kw_only=True, eq=False)
class PreparedReference:
    """Reference frames that can be differentiated, with the weights of their equations.

    Parameters
    ----------
    frames : (position, y, x) float32 array
        Finite and positive; unusable pixels are filled from their neighbours.
    weights : (position, y, x) array or None
        Weight of each equation; None if all are 1.
    flags : (y, x) uint16 array
        `BAD_REFERENCE` and `MASKED`.
    """

    frames: Image
    weights: Real | None
    flags: NDArray[np.uint16]


def prepare_reference(
    reference: ArrayLike,
    weights: ArrayLike | None,
    *,
    method: str,
    minimum: int,
    threads: int | None,
) -> PreparedReference:
    """Check the reference frames, fill their unusable pixels and take weight from the equations these touch.

    Parameters
    ----------
    reference : (position, y, x) array_like
        Frames without the sample.
    weights : (position, y, x) array_like or None
        Weight of each pixel; 0 means that it is ignored.
    method : str
        Name of the method, for messages.
    minimum : int
        Least number of exposures.
    threads : int or None
        Threads.

    Raises
    ------
    InputError
        Lists all faults: shape, dtype, weights, too few exposures, no usable pixel.
    """
    faults: list[str] = []
    frames = as_frames("reference", reference, faults)
    given = None
    if frames is not None and weights is not None:
        given = as_weights("weights", weights, frames.shape, faults)
    if frames is not None and len(frames) < minimum:
        faults.append(
            f"{len(frames)} exposure{'s' if len(frames) > 1 else ''}; {method} needs at least {minimum} "
            "positions of the membrane"
        )
    raise_faults(faults)
    assert frames is not None  # as_frames gave a fault otherwise
    flags = np.zeros(frames.shape[1:], np.uint16)
    filled: Image | None = None
    out: Real | None = None if given is None else given.copy()
    for n, frame in enumerate(frames):
        usable = np.isfinite(frame) & (frame > 0)
        flags[~usable] |= flag.BAD_REFERENCE
        if given is not None:
            masked = given[n] == 0
            flags[masked] |= flag.MASKED
            usable &= ~masked
        if usable.all():
            continue
        if not usable.any():
            raise InputError(f"reference frame {n} has no usable pixel; leave this exposure out")
        if filled is None:
            filled = frames.copy()
        repaired = fill(frame, usable, smooth=True, threads=threads)
        # A filled value at or below 0 or out of reach: the mean serves, for its equations count for nothing.
        fallback = np.float32(frame[usable].mean(dtype=np.float64))
        filled[n] = np.where(np.isfinite(repaired) & (repaired > 0), repaired, fallback)
        if out is None:
            out = np.ones(frames.shape, np.uint8)
        out[n][~_inner(usable)] = 0
    return PreparedReference(frames=frames if filled is None else filled, weights=out, flags=flags)


def _inner(usable: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Take away the equations that the filled value of an unusable pixel would spoil.

    Those are its four nearest neighbours; and the four next to them along the axes where it lies in a
    cluster, a line or a border, whose filled values are no sixth-order interpolation.
    """
    inner = usable.copy()
    _reach(inner, usable, 1)
    if not inner.all():
        guessed = ~usable & ~_between(usable) & ~_between(usable.T).T
        _reach(inner, ~guessed, 2)
    return inner


def _reach(inner: NDArray[np.bool_], usable: NDArray[np.bool_], distance: int) -> None:
    inner[distance:] &= usable[:-distance]
    inner[:-distance] &= usable[distance:]
    inner[:, distance:] &= usable[:, :-distance]
    inner[:, :-distance] &= usable[:, distance:]


def _between(usable: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Find pixels with three usable ones on either side along x."""
    run = usable[:, :-2] & usable[:, 1:-1] & usable[:, 2:]
    between = np.zeros_like(usable)
    between[:, 3:-3] = run[:, :-4] & run[:, 4:]
    return between


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
        faults: list[str] = []
        shape = self.reference.frames.shape
        frames = as_frames("sample", sample, faults)
        if frames is not None and frames.shape != shape:
            faults.append(f"sample has shape {frames.shape}; expected the reference's {shape}")
        given = None if weights is None else as_weights("weights", weights, shape, faults)
        raise_faults(faults)
        assert frames is not None  # as_frames gave a fault otherwise
        flags = self.reference.flags.copy()
        combined = self.reference.weights
        if given is not None:
            flags[(given == 0).any(axis=0)] |= flag.MASKED
            combined = given if combined is None else given * combined
        unknowns, status = self._least_squares(frames, combined, own=given is None)
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
        return wanted, borrow(
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
        found = borrow(
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
            "positions of the membrane"
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
        Columns, see `xmist.numerics.derivatives`.
    target : int
        Right side, see `xmist.numerics.least_squares`.
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
