"""The references at the time of each projection: one set, the nearest, or two interpolated.

Between two sets the diffuser creeps. The speckles of both are moved to where they were at the time of the
projection, as if the drift were even in time, and then averaged with linear weights.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from xmist.core.arrays import Image
from xmist.core.errors import InputError
from xmist.preprocess.drift import correct_drift, measure_drift


@dataclass(frozen=True, kw_only=True, eq=False)
class References:
    """Sets of references, each taken at a time.

    Parameters
    ----------
    sets : (set, position, y, x) float32 array
        Frames without dark signal and of even response, where the steps ask for that.
    weights : (set, position, y, x) float32 array or None
        0 for bad pixels, which must not be moved; None where there is only one set.
    times : tuple of float
        For each set how many projections came before it.
    between : str
        "linear" or "nearest".
    shifts : (set − 1, position, 2) float64 array or None
        How far (x, y) in pixels the speckles moved from each set to the next; None if that is not needed.

    Examples
    --------
    >>> frames = np.random.default_rng(1).uniform(1, 2, (2, 1, 16, 16)).astype(np.float32)
    >>> sets = References(sets=frames, weights=None, times=(0.0, 9.0), between="nearest", shifts=None)
    >>> sets.at(3)[0] is sets.at(4)[0], sets.key(3), sets.key(5)
    (True, 0.0, 1.0)
    """

    sets: Image
    weights: Image | None
    times: tuple[float, ...]
    between: Literal["linear", "nearest"]
    shifts: NDArray[np.float64] | None
    _kept: dict[str, Any] = field(default_factory=dict, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        state = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        return state | {"_kept": {}}

    def key(self, projection: int) -> float:
        """Give the time of the references for a projection, counted in sets; equal times share references.

        Parameters
        ----------
        projection : int
            Its number from 0 in the whole scan.
        """
        # Numbers of projections are whole, and a projection lies between two of them.
        time = projection + 0.5
        times = self.times
        if len(times) == 1 or time <= times[0]:
            return 0.0
        if time >= times[-1]:
            return float(len(times) - 1)
        before = int(np.searchsorted(times, time, "right")) - 1
        part = (time - times[before]) / (times[before + 1] - times[before])
        if self.between == "nearest":
            part = float(part > 0.5)
        return before + part

    def at(self, projection: int) -> tuple[Image, Image | None]:
        """Give the references for a projection.

        Parameters
        ----------
        projection : int
            Its number from 0 in the whole scan.

        Returns
        -------
        reference : (position, y, x) float32 array
            The same object for projections with the same `key`, as long as it is the latest.
        weights : (position, y, x) float32 array or None
            0 where a bad pixel was moved.
        """
        key = self.key(projection)
        kept = self._kept.get("made")
        if kept is None or kept[0] != key:
            kept = (key, *self._make(key))
            self._kept["made"] = kept
        return kept[1], kept[2]

    def _make(self, key: float) -> tuple[Image, Image | None]:
        before, part = int(key), key - int(key)
        if part == 0.0:
            return self.sets[before], None if self.weights is None else self.weights[before]
        assert self.shifts is not None
        assert self.weights is not None
        shift = self.shifts[before]
        first, seen = correct_drift(self.sets[before], part * shift, self.weights[before])
        second, also = correct_drift(self.sets[before + 1], (part - 1.0) * shift, self.weights[before + 1])
        return first * np.float32(1.0 - part) + second * np.float32(part), np.minimum(seen, also)


def measure_shifts(sets: Image, weights: Image) -> NDArray[np.float64]:
    """Measure how far the speckles moved from each set of references to the next.

    Parameters
    ----------
    sets : (set, position, y, x) float32 array
        Frames.
    weights : (set, position, y, x) float32 array
        Weights.

    Returns
    -------
    (set − 1, position, 2) float64 array
        Along x and y in pixels.

    Raises
    ------
    InputError
        If two sets cannot be registered.

    Examples
    --------
    >>> import scipy.ndimage
    >>> noise = np.random.default_rng(1).normal(size=(1, 64, 64))
    >>> frames = 10 + scipy.ndimage.gaussian_filter(noise, (0, 2, 2), mode="wrap")
    >>> moved = np.stack([frames, np.roll(frames, 2, axis=2)]).astype(np.float32)
    >>> measure_shifts(moved, np.ones_like(moved)).round(2).tolist()
    [[[2.0, 0.0]]]
    """
    shifts = []
    for number in range(len(sets) - 1):
        joint = np.minimum(weights[number], weights[number + 1])
        try:
            shifts.append(measure_drift(sets[number], sets[number + 1], joint))
        except InputError as error:
            raise InputError(
                [
                    f"references of sets {number} and {number + 1}: {fault} "
                    '(scan.between = "nearest" needs no registration)'
                    for fault in error.faults
                ]
            ) from error
    return np.stack(shifts)
