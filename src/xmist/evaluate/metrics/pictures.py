"""Contrast, error and sensitivity of pictures."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from xmist.core.errors import InputError, raise_errors
from xmist.evaluate.metrics.checks import Real, check_image, check_mask


def _pair(image: ArrayLike, truth: ArrayLike, mask: ArrayLike | None) -> tuple[Real, Real]:
    """Return the pixels that count of two images, as rows of numbers."""
    faults: list[str] = []
    a, b = check_image("image", image, faults, (2, 3)), check_image("truth", truth, faults, (2, 3))
    if a is not None and b is not None and a.shape != b.shape:
        faults.append(f"image has shape {a.shape} and truth {b.shape}; expected equal shapes")
    used = None if a is None else check_mask("mask", mask, a.shape, faults)
    raise_errors(faults)
    assert a is not None  # there were no faults
    assert b is not None
    assert used is not None
    used = used & ~np.isnan(a) & ~np.isnan(b)
    if np.count_nonzero(used) < 2:
        raise InputError("fewer than two pixels are numbers in both images; nothing to compare")
    return a[used], b[used]


def cnr(image: ArrayLike, outside: ArrayLike, inside: ArrayLike) -> float:
    """Contrast-to-noise ratio of a sample against bare beam.

    Parameters
    ----------
    image : (y, x) array_like
        Picture; NaN does not count.
    outside, inside : (y, x) bool array_like
        Where there is no sample, and where it is.

    Returns
    -------
    float
        (μ_outside − μ_inside)/σ_outside. Its sign follows from what the signal does (a dark-field grows in a
        sample: negative); its size is what is compared.

    Raises
    ------
    InputError
        If a mask does not fit, holds too few pixels, or if there is no noise outside.

    Notes
    -----
    Eq. (8) of Pavlov et al. 2020, J. Opt. 22 125604, doi:10.1088/2040-8986/abc313.

    Examples
    --------
    >>> image = np.array([[1.0, 3.0, 12.0, 12.0]])
    >>> cnr(image, image < 5, image > 5)
    -10.0
    """
    faults: list[str] = []
    array = check_image("image", image, faults)
    raise_errors(faults)
    assert array is not None  # there were no faults
    masks = [
        check_mask(name, m, array.shape, faults) for name, m in (("outside", outside), ("inside", inside))
    ]
    values = []
    for name, mask, least in zip(("outside", "inside"), masks, (2, 1), strict=True):
        if mask is not None:
            values.append(array[mask & ~np.isnan(array)])
            if values[-1].size < least:
                faults.append(
                    f"{name} holds {values[-1].size} pixels with a value; expected at least {least}"
                )
    raise_errors(faults)
    noise = float(values[0].std())
    if noise == 0.0:
        raise InputError("the image has no noise outside; the contrast-to-noise ratio is not defined")
    return float((values[0].mean() - values[1].mean()) / noise)


def nrmse(
    image: ArrayLike, truth: ArrayLike, *, remove_mean: bool = False, mask: ArrayLike | None = None
) -> float:
    """Root mean square error over the root mean square of the truth.

    Parameters
    ----------
    image, truth : (y, x) or (component, y, x) array_like
        What was found and what is right; pixels that are NaN in either do not count.
    remove_mean : bool
        Take the mean off both first: for a phase, whose zero means nothing.
    mask : bool array_like, optional
        Pixels that count; None takes all.

    Returns
    -------
    float
        0 is perfect; 1 is as bad as an image of zeros.

    Raises
    ------
    InputError
        If shapes differ, nothing is left to compare, or the truth is 0 everywhere.

    Examples
    --------
    >>> nrmse([[2.0, 4.0]], [[1.0, 3.0]], remove_mean=True), nrmse([[0.0, 0.0]], [[1.0, 3.0]])
    (0.0, 1.0)
    """
    a, b = _pair(image, truth, mask)
    if remove_mean:
        a, b = a - a.mean(), b - b.mean()
    size = float(np.mean(b * b))
    if size == 0.0:
        what = "constant" if remove_mean else "0 everywhere"
        raise InputError(f"truth is {what}; the relative error is not defined")
    return math.sqrt(float(np.mean((a - b) ** 2)) / size)


def correlation(image: ArrayLike, truth: ArrayLike, *, mask: ArrayLike | None = None) -> float:
    """Pearson's correlation of two images, blind to offset and scale.

    Parameters
    ----------
    image, truth : (y, x) or (component, y, x) array_like
        Images; pixels that are NaN in either do not count.
    mask : bool array_like, optional
        Pixels that count; None takes all.

    Returns
    -------
    float
        From −1 to 1.

    Raises
    ------
    InputError
        If shapes differ, nothing is left to compare, or an image is constant.

    Examples
    --------
    >>> round(correlation([[1.0, 2.0, 3.0]], [[10.0, 20.0, 30.0]]), 12)
    1.0
    """
    a, b = _pair(image, truth, mask)
    constant = any(float(part.min()) == float(part.max()) for part in (a, b))  # its mean may be rounded
    a, b = a - a.mean(), b - b.mean()
    size = math.sqrt(float(np.mean(a * a))) * math.sqrt(float(np.mean(b * b)))
    if constant or size == 0.0:
        raise InputError("an image is constant; the correlation is not defined")
    return min(1.0, max(-1.0, float(np.mean(a * b)) / size))


def angular_sensitivity(refraction_angle: ArrayLike, background: ArrayLike) -> tuple[float, float]:
    """Smallest refraction that can be seen: the scatter of the angle in bare beam.

    Parameters
    ----------
    refraction_angle : (2, y, x) array_like
        Angle along x and y in rad; NaN does not count.
    background : (y, x) bool array_like
        Where there is no sample.

    Returns
    -------
    x, y : float
        Standard deviation along x and y in rad; the mean, which drift makes, does not count.

    Raises
    ------
    InputError
        If shapes do not fit or fewer than two pixels are left.

    Examples
    --------
    >>> angle = np.array([[[1.0, 3.0]], [[5.0, 5.0]]])
    >>> angular_sensitivity(angle, np.ones((1, 2), bool))
    (1.0, 0.0)
    """
    faults: list[str] = []
    array = check_image("refraction_angle", refraction_angle, faults, (3,))
    mask = None
    if array is not None:
        if array.shape[0] != 2:
            faults.append(f"refraction_angle has shape {array.shape}; expected (2, y, x), x first")
        mask = check_mask("background", background, array.shape[1:], faults)
    raise_errors(faults)
    assert array is not None  # there were no faults
    assert mask is not None
    used = mask & ~np.isnan(array).any(axis=0)
    if np.count_nonzero(used) < 2:
        raise InputError("background holds fewer than two pixels with a value; expected bare beam")
    x, y = (float(component[used].std()) for component in array)
    return x, y
