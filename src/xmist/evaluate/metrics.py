"""Metrics: contrast, error, resolution, sensitivity; contrast and size of speckles; direction of scattering.

A pixel that is NaN in an image, or outside a mask, does not count; infinities in an image are errors. With
`robust=True` medians replace means and 1.4826 times the median absolute deviation the standard deviation, so
that outliers do not count.
"""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from xmist.core.arrays import as_array
from xmist.core.errors import ErrorRecord, InputError, as_number, raise_errors, shown
from xmist.numerics.images import speckles
from xmist.numerics.images.tensors import anisotropy, direction

__all__ = [
    "FRC",
    "angular_sensitivity",
    "anisotropy",
    "cnr",
    "correlation",
    "direction",
    "fourier_ring_correlation",
    "nrmse",
    "speckle_size",
    "visibility",
]

Real = NDArray[np.float64]
Mask = NDArray[np.bool_]

_NORMAL: Final = 1.4826  # standard deviations in a median absolute deviation, for Gaussian noise
_FEWEST: Final = 10.0  # independent coefficients that a ring needs


def mean_square_error(
    image: ArrayLike, truth: ArrayLike, *, remove_mean: bool = False, mask: ArrayLike | None = None
) -> tuple[float, float]:
    """Return the mean squares of the error and of the truth over the pixels that count."""
    a, b = _pair(image, truth, mask)
    if remove_mean:
        a, b = a - a.mean(), b - b.mean()
    return float(np.mean((a - b) ** 2)), float(np.mean(b * b))


def _pair(image: ArrayLike, truth: ArrayLike, mask: ArrayLike | None) -> tuple[Real, Real]:
    """Return the pixels that count of two images, as rows of numbers."""
    a, b = _image("image", image, (2, 3)), _image("truth", truth, (2, 3))
    if a.shape != b.shape:
        raise InputError(
            f"image has shape {a.shape} and truth {b.shape}; expected equal shapes", code="shape-mismatch"
        )
    used = _mask("mask", mask, a.shape) & ~np.isnan(a) & ~np.isnan(b)
    if np.count_nonzero(used) < 2:
        raise InputError(
            "fewer than two pixels have a value in both images; expected at least two", code="pixels-too-few"
        )
    return a[used], b[used]


def _middle_and_spread(values: Real, robust: bool) -> tuple[float, float]:
    """Return mean and standard deviation, or median and scaled median absolute deviation."""
    if not robust:
        return float(values.mean()), float(values.std())
    middle = float(np.median(values))
    return middle, _NORMAL * float(np.median(np.abs(values - middle)))


def cnr(
    image: ArrayLike,
    outside: ArrayLike,
    inside: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    robust: bool = False,
) -> float:
    """Return the contrast-to-noise ratio of a sample against bare beam.

    Parameters
    ----------
    image : (y, x) array_like
        Image; NaN does not count.
    outside, inside : (y, x) bool array_like
        Where there is no sample, and where it is.
    mask : (y, x) bool array_like, optional
        Pixels that count, such as `result.flags == 0`; None takes all.
    robust : bool
        Take medians for μ, and 1.4826 times the median absolute deviation for σ.

    Returns
    -------
    float
        (μ_outside − μ_inside)/σ_outside: negative where the signal grows in the sample, as a dark-field does.
        Compare absolute values.

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
    array = _image("image", image)
    used = _mask("mask", mask, array.shape) & ~np.isnan(array)
    values = []
    for name, given, least in (("outside", outside, 2), ("inside", inside, 1)):
        values.append(array[_mask(name, given, array.shape) & used])
        if values[-1].size < least:
            raise InputError(
                f"{name} has {values[-1].size} pixels with a value; expected {least} at least",
                code="pixels-too-few",
            )
    beam, noise = _middle_and_spread(values[0], robust)
    if noise == 0.0:
        raise InputError(
            "the image has no noise outside; the contrast-to-noise ratio is not defined",
            code="metric-undefined",
        )
    return (beam - _middle_and_spread(values[1], robust)[0]) / noise


def nrmse(
    image: ArrayLike,
    truth: ArrayLike,
    *,
    remove_mean: bool = False,
    mask: ArrayLike | None = None,
    robust: bool = False,
) -> float:
    """Return the root mean square error over the root mean square of the truth.

    Parameters
    ----------
    image, truth : (y, x) or (component, y, x) array_like
        Retrieved image and truth; pixels that are NaN in either do not count.
    remove_mean : bool
        Take the mean off both first: for a phase, which is known but for a constant.
    mask : bool array_like, optional
        Pixels that count; None takes all.
    robust : bool
        Take 1.4826 times the median of the absolute error for its root mean square; of an error without its
        mean, the median is subtracted instead.

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
    error, size = mean_square_error(image, truth, remove_mean=remove_mean, mask=mask)
    if size == 0.0:
        what = "constant" if remove_mean else "0 everywhere"
        raise InputError(f"truth is {what}; the relative error is not defined", code="metric-undefined")
    if robust:
        a, b = _pair(image, truth, mask)
        wrong = a - b - (np.median(a - b) if remove_mean else 0.0)
        return _NORMAL * float(np.median(np.abs(wrong))) / math.sqrt(size)
    return math.sqrt(error / size)


def correlation(
    image: ArrayLike, truth: ArrayLike, *, mask: ArrayLike | None = None, robust: bool = False
) -> float:
    """Return Pearson's correlation of two images, whatever their offset and scale.

    Parameters
    ----------
    image, truth : (y, x) or (component, y, x) array_like
        Images; pixels that are NaN in either do not count.
    mask : bool array_like, optional
        Pixels that count; None takes all.
    robust : bool
        By median absolute deviations of the sum and the difference of both images, each less its median and
        over its deviation: (σ₊² − σ₋²)/(σ₊² + σ₋²), by Gnanadesikan & Kettenring 1972, Biometrics 28 81,
        doi:10.2307/2528963.

    Returns
    -------
    float
        From −1 to 1.

    Raises
    ------
    InputError
        If shapes differ, nothing is left to compare, or an image is constant; with `robust`, also where most
        of an image is.

    Examples
    --------
    >>> round(correlation([[1.0, 2.0, 3.0]], [[10.0, 20.0, 30.0]]), 12)
    1.0
    >>> image, truth = [[1.0, 2.0, 3.0, 1e9, 5.0]], [[10.0, 20.0, 30.0, 40.0, 50.0]]
    >>> round(correlation(image, truth), 3), round(correlation(image, truth, robust=True), 3)
    (0.354, 0.946)
    """
    a, b = _pair(image, truth, mask)
    if robust:
        (low, width), (middle, height) = (_middle_and_spread(part, True) for part in (a, b))
        if width == 0.0 or height == 0.0:
            raise InputError(
                "most of an image is constant; the correlation is not defined", "metric-undefined"
            )
        a, b = (a - low) / width, (b - middle) / height
        both, apart = (_middle_and_spread(part, True)[1] ** 2 for part in (a + b, a - b))
        return (both - apart) / (both + apart)
    constant = any(float(part.min()) == float(part.max()) for part in (a, b))  # its mean may be rounded
    a, b = a - a.mean(), b - b.mean()
    size = math.sqrt(float(np.mean(a * a))) * math.sqrt(float(np.mean(b * b)))
    if constant or size == 0.0:
        raise InputError("an image is constant; the correlation is not defined", code="metric-undefined")
    return min(1.0, max(-1.0, float(np.mean(a * b)) / size))


def angular_sensitivity(
    refraction_angle: ArrayLike,
    background: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    robust: bool = False,
) -> tuple[float, float]:
    """Return the standard deviation of the refraction angle in bare beam: the least visible refraction.

    Parameters
    ----------
    refraction_angle : (2, y, x) array_like
        Angle along x and y in rad; NaN does not count.
    background : (y, x) bool array_like
        Where there is no sample.
    mask : (y, x) bool array_like, optional
        Pixels that count, such as `result.flags == 0`; None takes all.
    robust : bool
        Take 1.4826 times the median absolute deviation for the standard deviation.

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
    array = _image("refraction_angle", refraction_angle, (3,))
    if array.shape[0] != 2:
        raise InputError(
            f"refraction_angle has shape {array.shape}; expected (2, y, x), x first", code="shape-mismatch"
        )
    used = _mask("background", background, array.shape[1:]) & ~np.isnan(array).any(axis=0)
    used &= _mask("mask", mask, array.shape[1:])
    if np.count_nonzero(used) < 2:
        raise InputError(
            "background has fewer than two pixels with a value; expected bare beam", code="pixels-too-few"
        )
    x, y = (_middle_and_spread(component[used], robust)[1] for component in array)
    return x, y


@dataclass(frozen=True, eq=False)
class FRC:
    """Fourier ring correlation of two images.

    Parameters
    ----------
    frequencies : (ring,) array
        Spatial frequency in cycles per metre.
    values : (ring,) array
        Correlation on each ring.
    threshold : (ring,) array
        Half-bit threshold.
    resolution : float
        1/frequency in metres where the correlation first falls below the threshold and stays there on the
        next ring; NaN if it does so nowhere, for then the pixel and not the image limits the resolution.
        Rings of fewer than ten independent coefficients say nothing.
    """

    frequencies: Real
    values: Real
    threshold: Real
    resolution: float


def fourier_ring_correlation(
    a: ArrayLike, b: ArrayLike, *, pixel_size: float, mask: ArrayLike | None = None
) -> FRC:
    """Compare two independent images of the same thing ring by ring in Fourier space.

    Parameters
    ----------
    a, b : (y, x) array_like
        Images from independent data, such as the even and the odd positions. Pixels that are NaN in either
        take the value of the nearest that counts.
    pixel_size : float
        Pixel in metres.
    mask : (y, x) bool array_like, optional
        Pixels that count; None takes all.

    Returns
    -------
    FRC
        Rings as wide as the coarser axis resolves, up to Nyquist; without the ring of the mean.

    Raises
    ------
    InputError
        If shapes differ or are below 16 pixels, if an image is constant, or if the pixel size is invalid.

    Notes
    -----
    van Heel & Schatz 2005, J. Struct. Biol. 151 250, doi:10.1016/j.jsb.2005.05.009: a ring of n pixels of
    Fourier space crosses the half-bit threshold at
    (0.2071 + 1.9102/√n)/(1.2071 + 0.9102/√n). A Hann window along either axis keeps the borders from
    correlating; it leaves about a quarter of the coefficients independent, by which n is reduced, as it is by
    pixels that do not count. Those are filled, since holes would correlate.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> noise = rng.normal(size=(3, 64, 64))
    >>> same = fourier_ring_correlation(noise[0], noise[0], pixel_size=1e-6)
    >>> bool((same.values > 0.999).all()), same.resolution
    (True, nan)
    """
    first, second = _image("a", a), _image("b", b)
    errors = []
    if first.shape != second.shape:
        message = f"a has shape {first.shape} and b {second.shape}; expected equal shapes"
        errors.append(ErrorRecord("shape-mismatch", message))
    if min(first.shape) < 16:
        message = f"a has shape {first.shape}; expected at least 16 × 16 pixels"
        errors.append(ErrorRecord("pixels-too-few", message))
    size = as_number(pixel_size)
    if size is None or not (math.isfinite(size) and size > 0):
        message = f"pixel_size is {shown(pixel_size)}; expected a positive number of metres"
        errors.append(ErrorRecord("value-invalid", message))
    raise_errors(errors)
    assert size is not None  # there were no errors
    used = _mask("mask", mask, first.shape) & ~np.isnan(first) & ~np.isnan(second)
    if not used.any():
        raise InputError("no pixel has a value in both images; expected some", code="pixels-too-few")
    window = np.outer(*(np.hanning(n + 2)[1:-1] for n in first.shape))
    spectra = [np.fft.rfft2(_without_mean(_filled(image, used), window)) for image in (first, second)]
    ring, edges, count = _rings(first.shape)
    power = [np.bincount(ring.ravel(), (np.abs(f) ** 2 * count).ravel(), len(edges)) for f in spectra]
    cross = np.bincount(ring.ravel(), ((spectra[0] * np.conj(spectra[1])).real * count).ravel(), len(edges))
    number = np.bincount(ring.ravel(), count.ravel(), len(edges))
    inside = slice(1, len(edges) - 1)
    size2 = np.sqrt(power[0][inside] * power[1][inside])
    if not (size2 > 0).any():
        raise InputError(
            "an image is constant; its Fourier ring correlation is not defined", code="metric-undefined"
        )
    values = cross[inside] / np.where(size2 > 0, size2, np.inf)
    root = np.sqrt(number[inside] * _independent(window) * used.mean())
    threshold = (0.2071 + 1.9102 / root) / (1.2071 + 0.9102 / root)
    frequencies = edges[inside] / size
    excess = np.where(root**2 >= _FEWEST, values - threshold, np.inf)
    return FRC(frequencies, values, threshold, _crossing(frequencies, excess))


def _filled(image: Real, used: Mask) -> Real:
    """Return an image in which pixels that do not count have the value of the nearest that does."""
    if used.all():
        return image
    nearest = ndimage.distance_transform_edt(~used, return_distances=False, return_indices=True)
    filled: Real = image[tuple(nearest)]
    return filled


def _without_mean(image: Real, window: Real) -> Real:
    """Subtract the windowed mean, so that the spectrum of the window does not correlate."""
    return window * (image - float((window * image).sum() / window.sum()))


def _independent(window: Real) -> float:
    """Share of the Fourier coefficients that a window leaves independent."""
    return float(np.mean(window**2) ** 2 / np.mean(window**4))


def _rings(shape: tuple[int, ...]) -> tuple[NDArray[np.int64], Real, Real]:
    """Ring of each coefficient of rfft2, centres of the rings in cycles a pixel, and multiplicities."""
    height, width = shape
    ky, kx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    rings = min(shape) // 2
    ring = np.rint(np.hypot(ky, kx) * 2.0 * rings).astype(np.int64)
    ring = np.minimum(ring, rings + 1)
    count = np.full(ring.shape, 2.0)  # the other half of Fourier space
    count[:, 0] = 1.0
    if width % 2 == 0:
        count[:, -1] = 1.0
    return ring, np.arange(rings + 2) / (2.0 * rings), count


def _crossing(frequencies: Real, excess: Real) -> float:
    low = excess < 0
    below = np.flatnonzero(low & np.append(low[1:], True))
    if below.size == 0:
        return math.nan
    first = int(below[0])
    if first == 0 or not math.isfinite(excess[first - 1]):
        return float(1.0 / frequencies[first])
    before, after = excess[first - 1], excess[first]
    share = before / (before - after)
    return float(1.0 / (frequencies[first - 1] + share * (frequencies[first] - frequencies[first - 1])))


def _frames(frames: ArrayLike, weights: ArrayLike | None) -> tuple[Real, Mask]:
    """Return frames (frame, y, x), and which pixels count."""
    array = _image("frames", frames, (2, 3), infinite=True)
    used = np.isfinite(array)
    if weights is not None:
        given = _array("weights", weights)
        if given.dtype.kind not in "biuf":
            raise InputError(f"weights have dtype {given.dtype}; expected numbers", code="value-invalid")
        if given.shape != array.shape:
            raise InputError(
                f"weights have shape {given.shape}; expected the frames' {array.shape}", code="shape-mismatch"
            )
        used &= np.ma.filled(given, 0) > 0
    if array.ndim == 2:
        array, used = array[None], used[None]
    raise_errors(
        [
            ErrorRecord("pixels-too-few", f"frame {n} has fewer than two usable pixels")
            for n, part in enumerate(used)
            if np.count_nonzero(part) < 2
        ]
    )
    return array, used


def visibility(frames: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Return the contrast of speckles: standard deviation over mean.

    Parameters
    ----------
    frames : (y, x) or (frame, y, x) array_like
        Frames without the sample; NaN and infinities do not count. Slow changes of the beam's profile count:
        give a part of even flux.
    weights : array_like, optional
        Weights of the frames' shape; pixels of weight 0 do not count.

    Returns
    -------
    float
        Mean over the frames. Photon noise is part of it.

    Raises
    ------
    InputError
        If frames or weights are invalid, or a frame has no usable pixels or no flux.

    Examples
    --------
    >>> visibility([[1.0, 3.0], [3.0, 1.0]])
    0.5
    """
    array, used = _frames(frames, weights)
    contrasts = []
    for n, (frame, part) in enumerate(zip(array, used, strict=True)):
        mean = float(frame[part].mean())
        if not mean > 0.0:
            raise InputError(
                f"frame {n} has a mean of {mean:g}; expected a positive flux", code="metric-undefined"
            )
        contrasts.append(speckles.visibility(frame, part))
    return float(np.mean(contrasts))


def speckle_size(
    frames: ArrayLike, weights: ArrayLike | None = None, *, reach: int = 32
) -> tuple[float, float]:
    """Return the size of the speckles: full width at half maximum of the autocorrelation.

    Parameters
    ----------
    frames : (y, x) or (frame, y, x) array_like
        Frames without the sample; NaN and infinities do not count.
    weights : array_like, optional
        Weights of the frames' shape; pixels of weight 0 do not count.
    reach : int
        Largest shift in pixels that is looked at.

    Returns
    -------
    x, y : float
        Widths along x and y in pixels, averaged over the frames.

    Raises
    ------
    InputError
        If frames, weights or `reach` are invalid, if a frame is constant, or if the autocorrelation does not
        fall to half within `reach`.

    Notes
    -----
    The autocorrelation of I − ⟨I⟩ is normalised at every shift by the number of pairs of good pixels, so that
    holes do not count. White noise adds to the shift 0 alone: where the value there stands above the
    Gaussian through the shifts 1 and 2, the Gaussian's counts in its place. Between shifts its logarithm is
    linear in the shift squared. Speckle smoothed by a Gaussian of σ pixels has a width of 4 √(ln 2) σ.

    Examples
    --------
    >>> import scipy.ndimage
    >>> noise = np.random.default_rng(1).normal(size=(256, 256))
    >>> x, y = speckle_size(1 + 0.1 * scipy.ndimage.gaussian_filter(noise, 2.0))
    >>> bool(abs(x - 6.66) < 0.3), bool(abs(y - 6.66) < 0.3)
    (True, True)
    """
    farthest: Any = reach
    if isinstance(farthest, bool) or not isinstance(farthest, numbers.Integral) or farthest < 1:
        raise InputError(
            f"reach is {shown(reach)}; expected a whole number of pixels, at least 1", code="value-invalid"
        )
    array, used = _frames(frames, weights)
    widths = [speckles.speckle_size(frame, part, reach) for frame, part in zip(array, used, strict=True)]
    if any(width == 0.0 for pair in widths for width in pair):
        raise InputError("a frame is constant; expected speckles", code="metric-undefined")
    if np.isinf(widths).any():
        raise InputError(
            f"the autocorrelation does not fall to half within {reach} pixels; raise reach",
            code="metric-undefined",
        )
    x, y = (float(value) for value in np.mean(widths, axis=0))
    return x, y


def _array(name: str, given: ArrayLike) -> NDArray[Any]:
    """Return an array; its values are not checked."""
    errors: list[Any] = []
    array = as_array(name, given, "numbers", errors)
    raise_errors(errors)
    assert array is not None  # there were no errors
    return array


def _image(
    name: str, image: ArrayLike, dimensions: tuple[int, ...] = (2,), *, infinite: bool = False
) -> Real:
    """Return an image in float64; masked pixels become NaN, and so do infinities where they are allowed."""
    array = _array(name, image)
    if array.dtype.kind not in "iuf":
        raise InputError(f"{name} has dtype {array.dtype}; expected numbers", code="value-invalid")
    if array.ndim not in dimensions or array.size == 0:
        shapes = {2: "(y, x)", 3: "(frame, y, x)"}
        expected = " or ".join(shapes[dimension] for dimension in dimensions)
        raise InputError(f"{name} has shape {array.shape}; expected {expected}", code="shape-mismatch")
    values: Real = np.ma.filled(array.astype(np.float64), np.nan)
    beyond = np.isinf(values)
    if infinite:
        values[beyond] = np.nan
    elif beyond.any():
        message = f"{name} has {int(beyond.sum())} infinite pixels; expected numbers, or NaN"
        raise InputError(message, code="value-invalid")
    return values


def _mask(name: str, mask: ArrayLike | None, shape: tuple[int, ...]) -> Mask:
    """Return a mask of this shape; all pixels for None."""
    if mask is None:
        return np.ones(shape, bool)
    array = np.asarray(mask)
    if array.dtype != bool:
        raise InputError(f"{name} has dtype {array.dtype}; expected booleans", code="value-invalid")
    if array.shape != shape:
        raise InputError(
            f"{name} has shape {array.shape}; expected the image's {shape}", code="shape-mismatch"
        )
    return array
