"""Whether frames are repeats of one another: by what they differ beyond noise, against their speckles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.numerics.images.patches import energy_of, make_patches

Real = NDArray[Any]

_PART: Final = 0.75  # quantile of the patches: the sample may be in a quarter of them
_SURE: Final = 4.0  # deviations of chance in one patch
_UNLIKE: Final = 0.06  # of the variance of the speckles, as if they moved by four tenths of a pixel
_LEAST: Final = 0.001  # as if they moved by a twentieth
_STEADY: Final = 0.5  # part of a change


@dataclass(frozen=True, eq=False)
class FrameDifferences:
    """By what frames differ beyond noise, over the variance of their speckles, and its standard error.

    Both are (frame, frame): 0 of equal frames, 2 of frames without common speckles.
    """

    value: NDArray[np.float64]
    error: NDArray[np.float64]

    @property
    def unlike(self) -> bool:
        """Whether some frames differ so much that they are no repeats of the first."""
        return bool((self.value[0] > np.maximum(_UNLIKE, _SURE * self.error[0])).any())


def compare_frames(raw: Sequence[Real], good: Sequence[Real]) -> FrameDifferences:
    """Compare frames by patches (patch, y, x) of each, with the pixels that are usable.

    Noise of neighbouring pixels is taken to be independent: of the difference of two frames the covariance of
    neighbours counts, to which it adds nothing.
    """
    patches = make_patches(np.stack(raw), np.stack(good))
    number, size = len(patches.raw), patches.size
    speckle = np.maximum((patches.energy * patches.speckle).mean(axis=0), 1e-300)  # (patch,)
    value, error = np.zeros((2, number, number))
    for n in range(number):
        for m in range(n):
            energy, covariance = energy_of(patches.spectra[n] - patches.spectra[m])
            found = float(np.quantile(covariance / speckle, _PART))
            # Of white noise, as if every patch stood alone: the quantile is not better than one of them.
            chance = float(np.median(energy / speckle)) / size
            value[n, m] = value[m, n] = found
            error[n, m] = error[m, n] = chance
    return FrameDifferences(value, error)


def change_within(found: FrameDifferences, numbers: Sequence[int], groups: Sequence[int]) -> bool:
    """Return whether frames of a group, which should be repeats, change from one to the next as groups do.

    `numbers` count the frames in the order in which they were taken, `groups` rise with them. A steady change
    makes frames differ as the square of how many are between.
    """
    number, group = np.asarray(numbers), np.asarray(groups)
    n, m = np.triu_indices(len(number), 1)
    same = group[n] == group[m]
    if n.size < 3 or not same.any():
        return False
    value, error = found.value[n, m], found.error[n, m]
    floor, rest = _fit((number[m] - number[n]) ** 2.0, value)
    within = float(value[same].max()) - max(floor, 0.0)
    if within < max(_LEAST, _SURE * float(np.median(error))):
        return False
    if same.all():
        return rest < _STEADY * float(np.sum((value - value.mean()) ** 2))
    last = int(np.flatnonzero(group == group[0])[-1])
    return within > _STEADY * (float(found.value[last, last + 1]) - floor)


def alike_in_groups(found: FrameDifferences) -> int:
    """Return how many frames in a row are repeats of one another, in at least three such rows; 1 if none are.

    Rows of equal length hardly come by chance, so that smaller changes count.
    """
    steps = np.diagonal(found.value, 1)
    least = np.maximum(0.1 * _LEAST, _SURE * np.diagonal(found.error, 1))
    for size in range(2, len(found.value) // 3 + 1):
        between = np.arange(1, len(steps) + 1) % size == 0
        changes = steps[between] - float(steps[~between].max())
        if (changes > np.maximum(least[between], 0.5 * steps[between])).all():
            return size
    return 1


def _fit(steps: Real, value: Real) -> tuple[float, float]:
    """Fit value = a + b·steps, b not below 0; return a and the sum of squared residuals."""
    away = steps - steps.mean()
    slope = max(0.0, float(away @ value) / max(float(away @ away), 1e-300))
    floor = float(value.mean()) - slope * float(steps.mean())
    return floor, float(np.sum((value - floor - slope * steps) ** 2))
