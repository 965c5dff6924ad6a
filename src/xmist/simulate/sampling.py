"""Check whether a grid can hold a wave, before propagation; errors say what to change."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xmist.core.checks import Checks
from xmist.core.errors import ErrorRecord

_ROWS: Final = 256


def check_sampling(
    *,
    wavelength: float,
    pixel_size: float,
    shape: tuple[int, int],
    distance: float,
    phase: ArrayLike | None = None,
    refraction_angle: float | None = None,
    margin: float | None = None,
    name: str = "phase",
) -> tuple[ErrorRecord, ...]:
    """Return the errors of the sampling of a propagation.

    Parameters
    ----------
    wavelength : float
        Wavelength in metres.
    pixel_size : float
        Spacing of the samples in metres.
    shape : (int, int)
        Samples along y and x, margin included.
    distance : float
        (Effective) distance in metres.
    phase : (y, x) array_like, optional
        Phase in rad of what the wave passes, not wrapped; neighbours may differ by π at most. Its steepest
        step also gives the largest refraction angle.
    refraction_angle : float, optional
        Largest refraction angle in rad, if it is known otherwise (the greater of both counts).
    margin : float, optional
        Width in metres of the field around the part that is looked at; None is half the field. The steepest
        ray must not come back from the other side into that part.
    name : str
        Name of `phase` in messages.

    Returns
    -------
    tuple of ErrorRecord
        Records with a code and a message that says how to fix the sampling; empty if it is fine.

    Raises
    ------
    InputError
        If an argument is no number of its range.

    Examples
    --------
    >>> grid = {"wavelength": 7.3e-11, "pixel_size": 1e-6, "shape": (256, 256)}
    >>> check_sampling(distance=1.0, **grid)
    ()
    >>> for record in check_sampling(distance=10.0, phase=np.eye(256) * 4.0, **grid):
    ...     print(record)
    distance is 10 m: the transfer function of 256 samples of 1e-06 m along y aliases beyond 3.521 m; ...
    distance is 10 m: the transfer function of 256 samples of 1e-06 m along x aliases beyond 3.521 m; ...
    phase steps by 4 rad between neighbours; expected π at most: sample it at 7.85e-07 m or finer ...
    phase refracts by up to 4.65e-05 rad, which is 0.000465 m at the distance of 10 m; expected ...
    """
    check = Checks()
    check.number("wavelength", wavelength, unit="m", low=0.0, strict=True)
    check.number("pixel_size", pixel_size, unit="m", low=0.0, strict=True)
    check.number("distance", distance, unit="m")
    if refraction_angle is not None:
        check.number("refraction_angle", refraction_angle, unit="rad", low=0.0)
    if margin is not None:
        check.number("margin", margin, unit="m", low=0.0)
    check.done()
    check.errors += transfer_function_errors(wavelength, pixel_size, shape, distance, paraxial=True)
    angle = refraction_angle or 0.0
    if phase is not None:
        step = largest_step(phase)
        if step > math.pi:
            check.add(
                f"{name} steps by {step:.3g} rad between neighbours; expected π at most: sample it at "
                f"{pixel_size * math.pi / step:.3g} m or finer instead of {pixel_size:g} m (more "
                "oversampling), or smooth its edges",
                "sampling-coarse",
            )
        angle = max(angle, step * wavelength / (2.0 * math.pi * pixel_size))
    room = 0.5 * pixel_size * min(shape) if margin is None else margin
    reach = angle * abs(distance)
    if reach > room:
        missing = math.ceil((reach - room) / pixel_size - 1e-9)
        check.add(
            f"{name} refracts by up to {angle:.3g} rad, which is {reach:.3g} m at the distance of "
            f"{distance:g} m; expected at most the {'half field' if margin is None else 'margin'} of "
            f"{room:.3g} m: widen the field by {missing} samples on each side",
            "field-small",
        )
    return tuple(check.errors)


def largest_step(phase: ArrayLike) -> float:
    """Largest difference between neighbours along y or x.

    `phase` (y, x) in rad.
    """
    image: NDArray[Any] = np.asarray(phase)
    step = 0.0
    for start in range(0, image.shape[0], _ROWS):
        rows = image[start : start + _ROWS + 1]
        for axis in (0, 1):
            if rows.shape[axis] > 1:
                difference = np.diff(rows, axis=axis)
                step = max(step, float(difference.max()), -float(difference.min()))
    return step


def transfer_function_errors(
    wavelength: float, pixel_size: float, shape: tuple[int, ...], distance: float, *, paraxial: bool
) -> list[ErrorRecord]:
    """List the axes along which the phase of the transfer function steps by more than π.

    The step is greatest between the two highest frequencies. It is the same as asking that the steepest wave
    that the grid can hold, of the angle λ/(2 pixel_size), stays within half the field.
    """
    check = Checks()
    for axis, size in zip("yx", shape, strict=True):
        highest = size // 2
        if highest == 0:  # a single sample knows no direction
            continue
        s1, s2 = (
            min(1.0, (wavelength * index / (size * pixel_size)) ** 2) for index in (highest - 1, highest)
        )
        slow = 0.5 * (s2 - s1) if paraxial else (s2 - s1) / (math.sqrt(1.0 - s1) + math.sqrt(1.0 - s2))
        limit = wavelength / (2.0 * slow)
        if abs(distance) > limit:
            need = math.ceil(size * abs(distance) / limit)
            check.add(
                f"distance is {distance:g} m: the transfer function of {size} samples of {pixel_size:g} m "
                f"along {axis} aliases beyond {limit:.4g} m; use at least {need} samples (a wider field), "
                "a coarser pixel or a shorter distance",
                "sampling-coarse",
            )
    return check.errors
