"""The plane of the computation: that of the sample, by the Fresnel scaling theorem."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from xmist.core.experiment import Experiment
from xmist.simulate.grid import Grid, binned
from xmist.simulate.propagation import scaled_distance

Real = NDArray[Any]

_SEARCH = 24  # pixels that the margin may grow by to make sizes that transform fast


@dataclass(frozen=True, kw_only=True)
class Plane:
    """The wave's grid in the sample's plane, and its distances to diffuser and detector."""

    experiment: Experiment
    shape: tuple[int, int]  # detector's pixels (y, x)
    oversampling: int  # samples of the wave a pixel has along a side
    margin: int  # pixels on each side that the detector does not see
    upstream: float  # distance from diffuser to sample in metres, scaled
    diffuser_scale: float  # A length in the diffuser's plane over the same in the sample's

    @property
    def pixels(self) -> Grid:
        """The detector's pixels."""
        return Grid(shape=self.shape, pixel=self.experiment.effective_pixel)

    @property
    def samples(self) -> Grid:
        """The wave's samples, with the margin."""
        y, x = ((n + 2 * self.margin) * self.oversampling for n in self.shape)
        return Grid(shape=(y, x), pixel=self.experiment.effective_pixel / self.oversampling)

    @property
    def cut(self) -> int:
        """Samples in the margin on each side."""
        return self.margin * self.oversampling

    def mean(self, image: Real) -> Real:
        """Average an image on the samples over the detector's pixels.

        `image` (..., y, x); returns (..., y, x).
        """
        cut = self.cut
        return binned(image[..., cut : image.shape[-2] - cut, cut : image.shape[-1] - cut], self.oversampling)

    def around(self, image: Real) -> Real:
        """Extend an image of the detector's pixels into the margin by its mirror.

        `image` (y, x); returns (y, x).
        """
        return np.pad(image, self.margin, mode="symmetric")


def seen_from_sample(experiment: Experiment, diffuser_to_sample: float) -> tuple[float, float]:
    """Return how a diffuser appears in the sample's plane.

    `diffuser_to_sample` in metres; returns in metres.
    """
    source = experiment.source_to_sample
    if source is None:
        return diffuser_to_sample, 1.0
    start = source - diffuser_to_sample
    return scaled_distance(start=start, stop=source, plane=source), start / source


def make_plane(
    experiment: Experiment,
    shape: tuple[int, int],
    *,
    oversampling: int,
    diffuser_to_sample: float,
    blur: float,
    wavelengths: list[float],
) -> Plane:
    """Choose the grid.

    The margin is as wide as the steepest wave that the grid can hold, of the angle λ/(2 sample), travels
    sideways from the diffuser to the detector, so nothing from beyond the border reaches the detector.
    `diffuser_to_sample` in metres, `blur` in metres, `wavelengths` in metres.
    """
    upstream, scale = seen_from_sample(experiment, diffuser_to_sample)
    pixel = experiment.effective_pixel
    reach = (upstream + experiment.effective_distance) * max(wavelengths) * oversampling / (2.0 * pixel)
    least = math.ceil((reach + 6.0 * blur) / pixel) + 1
    for margin in range(least, least + _SEARCH):
        sizes = [(n + 2 * margin) * oversampling for n in shape]
        if all(scipy.fft.next_fast_len(size) == size for size in sizes):
            break
    else:
        margin = least
    return Plane(
        experiment=experiment,
        shape=shape,
        oversampling=oversampling,
        margin=margin,
        upstream=upstream,
        diffuser_scale=scale,
    )
