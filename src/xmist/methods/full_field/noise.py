"""Random residuals of sample frames: noise of the frame, and errors of the reference.

A reference without noise is an estimate. Its error is displaced and attenuated like the speckles and has
their size, so that it affects the unknowns more than as much white noise of the sample frame.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.core.arrays import Image
from xmist.numerics.images.denoise import ImageSpectrum
from xmist.numerics.images.margin import Margined
from xmist.numerics.operators.transport import Transport
from xmist.numerics.solvers.whole_image import Right, gather, to_cosines

Real = NDArray[Any]

_MOST: Final = 0.95  # of the residual's mean square: most that errors of the reference may make


def right_of_noise(
    random: np.random.Generator,
    reference: Image | Margined,
    level: Real,
    spectra: Sequence[ImageSpectrum],
    transport: Transport,
    *,
    transmission: Real | None = None,
) -> Right:
    """Return the right side of a random residual of the local rms `level` (y, x).

    Errors of the references (position, y, x; without noise), as large as the noise in their `spectra` makes
    them, dimmed by `transmission` (y, x), and white noise that makes up for the rest of the mean square. The
    images are drawn one by one; the constant leaves out what both have in common by chance.
    """
    threads, shape = transport.threads, (len(transport.kinds), *level.shape)
    right = np.zeros(shape, np.float32)
    made = constant = 0.0
    for n, error in _errors(random, reference, spectra, transmission, threads):
        made += _mean_square(error) / len(reference)
        constant += gather(transport, n, error, right)
    of_errors, of_white = _shares(made, _mean_square(level))
    right *= np.float32(of_errors)
    constant *= of_errors**2
    rest = (of_white * level).astype(np.float32)
    for n in range(len(reference)):
        white = random.standard_normal(shape[1:], np.float32)
        white *= rest
        constant += gather(transport, n, white, right)
    return Right(coefficients=to_cosines(right, threads=threads), constant=constant)


def white_right(random: np.random.Generator, transport: Transport) -> Right:
    """Return the right side of white noise of variance 1 for a pixel of weight 1."""
    shape = transport.frames.shape
    right = np.zeros((len(transport.kinds), *shape[1:]), np.float32)
    constant = 0.0
    for n in range(shape[0]):
        image = random.standard_normal(shape[1:], np.float32)
        if transport.weights is not None:
            weights = transport.weights[n]
            image[weights == 0.0] = 0.0
            np.divide(image, np.sqrt(weights), out=image, where=weights > 0.0)
        constant += gather(transport, n, image, right)
    return Right(coefficients=to_cosines(right, threads=transport.threads), constant=constant)


def _errors(
    random: np.random.Generator,
    reference: Image | Margined,
    spectra: Sequence[ImageSpectrum],
    transmission: Real | None,
    threads: int | None,
) -> Iterator[tuple[int, Image]]:
    """Draw the error of one reference after the other."""
    for n, (frame, spectrum) in enumerate(zip(reference, spectra, strict=False)):
        error = spectrum.draw_error((int(frame.shape[0]), int(frame.shape[1])), random, threads)
        # The error of I is 2√I times that of √I.
        root = np.maximum(frame, np.float32(0.0))
        np.sqrt(root, out=root)
        error *= root
        error *= np.float32(2.0)
        if transmission is not None:
            error *= transmission
        yield n, error


def _shares(made: float, square: float) -> tuple[float, float]:
    """Return factors for errors of mean square `made` and for white noise that sum to `square`."""
    most = _MOST * square
    part = min(made / most, 1.0) if most else 0.0
    return (float(np.sqrt(most / made)) if made > most else 1.0), float(np.sqrt(1.0 - _MOST * part))


def _mean_square(image: Real) -> float:
    """Return the mean square, summed row by row: its own copy in float64 would be twice the image."""
    return sum(float(np.square(row, dtype=np.float64).sum()) for row in image) / max(image.size, 1)
