"""Propagation of a paraxial wave through free space, on plain arrays.

A wave is the complex amplitude of exp(+ikz), without this carrier: matter of thickness t multiplies it
by exp(−ikδt − kβt), so that its phase φ = −kδt is negative, and a phase φ moves what stands behind it by
u = (∆/k)∇φ. Free space of length z multiplies the spectrum at the frequency f (1/m) by

    fresnel           exp(−iπλz f²)                          (Goodman, Introduction to Fourier Optics, 4-20)
    angular spectrum  exp(−i k z [1 − √(1 − λ²f²)])          (ibid., 3-74)

The field is periodic: what leaves it on one side comes back on the other, so give it a margin.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import scipy.fft
from numpy.typing import ArrayLike, NDArray

from xmist.core.checks import Checks
from xmist.numerics.parallel import for_blocks
from xmist.simulate.sampling import transfer_function_errors

Wave = NDArray[Any]

# Of rows or columns in one go: what a transform and its factors need of them stays in the cache.
_BLOCK: Final = 64


def fresnel(
    wave: ArrayLike,
    *,
    wavelength: float,
    pixel_size: float,
    distance: float,
    shift: tuple[float, float] = (0.0, 0.0),
    overwrite: bool = False,
    workers: int | None = None,
) -> Wave:
    """Propagate by Fresnel's transfer function.

    Parameters
    ----------
    wave : (y, x) array_like
        Wave; complex64, float32 and short integers give complex64, all else complex128.
    wavelength : float
        Wavelength in metres.
    pixel_size : float
        Spacing of the wave's samples in metres.
    distance : float
        Distance in metres; a negative one undoes its positive. In a cone beam give `scaled_distance`.
    shift : (float, float)
        Displacement (y, x) in metres that the wave has gained on the way, exact for any part of a pixel: a
        drifted detector sees a shifted wave.
    overwrite : bool
        Let the result take the memory of `wave`.
    workers : int, optional
        Threads; the result does not depend on it, bit for bit.

    Returns
    -------
    (y, x) complex array
        The wave at that distance.

    Raises
    ------
    InputError
        Lists all errors: no finite wave, a number out of range, a transfer function that the field is too
        small to sample.

    Examples
    --------
    >>> wave = np.exp(1j * np.random.default_rng(1).normal(size=(64, 64)))
    >>> there = fresnel(wave, wavelength=7.3e-11, pixel_size=1e-6, distance=0.3)
    >>> back = fresnel(there, wavelength=7.3e-11, pixel_size=1e-6, distance=-0.3)
    >>> bool(np.allclose(back, wave))
    True
    """
    field = _check(wave, wavelength, pixel_size, distance, shift, overwrite, paraxial=True)
    y, x = _frequencies(field.shape, pixel_size)
    along_y, along_x = (
        _unit(-0.5 * wavelength * distance * f**2 - move * f, field.dtype)
        for f, move in zip((y, x), shift, strict=True)
    )

    def multiply(rows: Wave, start: int, stop: int) -> None:
        rows *= along_x
        rows *= along_y[start:stop, None]

    return _filter(field, multiply, workers)


def angular_spectrum(
    wave: ArrayLike,
    *,
    wavelength: float,
    pixel_size: float,
    distance: float,
    shift: tuple[float, float] = (0.0, 0.0),
    overwrite: bool = False,
    workers: int | None = None,
) -> Wave:
    """Propagate by the angular spectrum, exact also beyond small angles.

    Parameters
    ----------
    wave : (y, x) array_like
        Wave; complex64, float32 and short integers give complex64, all else complex128.
    wavelength : float
        Wavelength in metres.
    pixel_size : float
        Spacing of the wave's samples in metres, at least λ/√2: a finer one could hold evanescent waves,
        which have no way back.
    distance : float
        Distance in metres; a negative one undoes its positive.
    shift : (float, float)
        Displacement (y, x) in metres that the wave has gained on the way.
    overwrite : bool
        Let the result take the memory of `wave`.
    workers : int, optional
        Threads; the result does not depend on it, bit for bit.

    Returns
    -------
    (y, x) complex array
        The wave at that distance.

    Raises
    ------
    InputError
        Lists all errors, as `fresnel` does.

    Examples
    --------
    At X-ray angles it is Fresnel's propagation.

    >>> wave = np.exp(1j * np.random.default_rng(1).normal(size=(64, 64)))
    >>> beam = {"wavelength": 7.3e-11, "pixel_size": 1e-6, "distance": 0.3}
    >>> bool(np.allclose(angular_spectrum(wave, **beam), fresnel(wave, **beam)))
    True
    """
    field = _check(wave, wavelength, pixel_size, distance, shift, overwrite, paraxial=False)
    y, x = _frequencies(field.shape, pixel_size)

    def multiply(rows: Wave, start: int, stop: int) -> None:
        s = (wavelength * y[start:stop, None]) ** 2 + (wavelength * x) ** 2
        # 1 − √(1 − s) without the difference of near numbers.
        cycles = (-distance / wavelength) * (s / (1.0 + np.sqrt(1.0 - s)))
        cycles -= shift[0] * y[start:stop, None] + shift[1] * x
        rows *= _unit(cycles, rows.dtype)

    return _filter(field, multiply, workers)


def scaled_distance(*, start: float, stop: float, plane: float) -> float:
    """Distance of a parallel beam that equals a stretch of a cone beam, by the Fresnel scaling theorem.

    With transverse coordinates measured in a common plane (r = plane·θ, θ the angle from the source), the
    paraxial equation of a cone beam at the distance s from the source is that of a parallel beam in dz =
    (plane/s)² ds; its integral is plane² (1/start − 1/stop). From the sample, which is the plane, to the
    detector this is `Experiment.effective_distance`.
    `start`, `stop` in metres; returns in metres.
    """
    check = Checks()
    for name, value in {"start": start, "stop": stop, "plane": plane}.items():
        check.number(name, value, unit="m", low=0.0, strict=True)
    check.done()
    return (plane / start) * (plane / stop) * (stop - start)


def _check(
    wave: ArrayLike,
    wavelength: float,
    pixel_size: float,
    distance: float,
    shift: tuple[float, float],
    overwrite: bool,
    *,
    paraxial: bool,
) -> Wave:
    """Check the arguments; return the wave in memory that may be written to."""
    check = Checks()
    wavelength = check.number("wavelength", wavelength, unit="m", low=0.0, strict=True)
    pixel_size = check.number("pixel_size", pixel_size, unit="m", low=0.0, strict=True)
    distance = check.number("distance", distance, unit="m")
    for axis, move in zip("yx", shift, strict=True):
        check.number(f"shift along {axis}", move, unit="m")
    given = np.asarray(wave)
    if given.dtype.kind not in "iufc" or given.ndim != 2 or given.size == 0:
        check.add(f"wave has shape {given.shape} and dtype {given.dtype}; expected numbers (y, x)")
        check.done()
    if not check.errors:
        if not paraxial and pixel_size < wavelength / np.sqrt(2.0):
            check.add(
                f"pixel_size is {pixel_size:g} m; expected at least λ/√2 = {wavelength / np.sqrt(2.0):g} m, "
                "so that no wave is evanescent"
            )
        else:
            check.errors += transfer_function_errors(
                wavelength, pixel_size, given.shape, distance, paraxial=paraxial
            )
    dtype = np.result_type(given.dtype, np.complex64)
    # A sum is finite only if every sample is; it needs no array of its own.
    if not np.isfinite(given.sum(dtype=np.complex128)):
        check.add("wave holds NaN or infinite samples; expected finite numbers")
    check.done()
    reusable = overwrite and given.dtype == dtype and given.flags.writeable
    return given if reusable else given.astype(dtype)


def _frequencies(shape: tuple[int, ...], pixel_size: float) -> list[NDArray[np.float64]]:
    """Frequencies in 1/m along y and along x."""
    return [scipy.fft.fftfreq(size, pixel_size) for size in shape]


def _unit(cycles: NDArray[np.float64], dtype: np.dtype[Any]) -> Wave:
    """Return exp(2πi cycles) from float64, because single precision is not enough for many cycles."""
    return np.asarray(np.exp(2j * np.pi * cycles), dtype)


def _filter(field: Wave, multiply: Callable[[Wave, int, int], None], workers: int | None) -> Wave:
    """Multiply the spectrum in place, in blocks that do not depend on the number of threads."""

    def columns(transform: Callable[..., Wave]) -> None:
        def task(start: int, stop: int) -> None:
            field[:, start:stop] = transform(field[:, start:stop], axis=0)

        for_blocks(task, field.shape[1], threads=workers, block=_BLOCK)

    def rows(start: int, stop: int) -> None:
        spectrum = scipy.fft.fft(field[start:stop], axis=1)
        multiply(spectrum, start, stop)
        field[start:stop] = scipy.fft.ifft(spectrum, axis=1, overwrite_x=True)

    columns(scipy.fft.fft)
    for_blocks(rows, field.shape[0], threads=workers, block=_BLOCK)
    columns(scipy.fft.ifft)
    return field
