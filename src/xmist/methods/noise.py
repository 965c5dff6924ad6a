"""Draws of what separates sample frames from their model: noise of the frame, and errors of the reference.

A reference without noise is an estimate. What it is wrong by moves and dims with the speckles and is of their
size: it falls where the unknowns are read, and weighs more than as much noise in the sample frame, which is
white.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.data import Image
from xmist.numerics.denoise import Spectrum

Real = NDArray[Any]

_MOST: Final = 0.95  # of the residual's mean square that errors of the reference may be said to make


def draw_noise(
    random: np.random.Generator,
    reference: Image,
    level: Real,
    spectra: Sequence[Spectrum],
    *,
    transmission: Real | None = None,
    threads: int | None = None,
) -> Image:
    """Draw what a residual of a given level consists of.

    Parameters
    ----------
    random : Generator
        Source of the draw.
    reference : (position, y, x) float32 array
        References without noise, in units of their mean.
    level : (y, x) float array
        Rms over the exposures of the residual.
    spectra : sequence of Spectrum
        Spectrum of the square root of each reference, with its noise; empty if the references have none.
    transmission : (y, x) float array, optional
        Transmission T of the sample; None is 1.
    threads : int, optional
        Threads; the result does not depend on it.

    Returns
    -------
    (position, y, x) float32 array
        Errors of the references, as large as their noise makes them, and white noise that makes up for the
        rest of the mean square of `level`.

    Examples
    --------
    >>> reference, level = np.ones((2, 64, 64), np.float32), np.full((64, 64), 0.1)
    >>> drawn = draw_noise(np.random.default_rng(1), reference, level, ())
    >>> bool(abs(drawn.std() / 0.1 - 1) < 0.05)
    True
    """
    shape = (int(level.shape[0]), int(level.shape[1]))
    out = np.zeros(reference.shape, np.float32)
    for image, frame, spectrum in zip(out, reference, spectra, strict=False):
        # The error of I is 2√I times that of √I.
        image[...] = 2.0 * np.sqrt(np.maximum(frame, 0.0)) * spectrum.draw_error(shape, random, threads)
    if transmission is not None:
        out *= transmission
    most = _MOST * np.mean(np.square(level), dtype=np.float64)
    made = np.mean(np.square(out), dtype=np.float64)
    if made > most:
        out *= np.float32(np.sqrt(most / made))
        made = most
    rest = (np.sqrt(1.0 - _MOST * made / most if most else 0.0) * level).astype(np.float32)
    for image in out:
        image += rest * random.standard_normal(shape, np.float32)
    return out
