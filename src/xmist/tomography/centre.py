"""The column of the rotation axis, found from all projections or from opposite ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter1d

from xmist.core.errors import ErrorRecord, InputError

Real = NDArray[Any]

_MOST_PAIRS = 64
_MOST_LINES = 16  # rows of which the overlap is sought


@dataclass(frozen=True)
class Centre:
    """The rotation axis in the projections.

    Parameters
    ----------
    column : float
        Column of the axis at the middle row, from 0 at the middle of the first pixel.
    tilt : float
        Angle of the axis against the columns of the detector, in degrees.
    spread : float
        Standard error of `column` in pixels, from bands of rows; NaN for a single band.
    tilt_spread : float
        Standard error of `tilt` in degrees.
    pairs : int
        Number of opposite pairs that were registered; 0 where all projections were used.
    """

    column: float
    tilt: float
    spread: float
    tilt_spread: float
    pairs: int


def find_centre(
    projections: ArrayLike, angles: ArrayLike, *, rows: ArrayLike | None = None, tolerance: float = 1.0
) -> Centre:
    """Find the rotation axis of line integrals.

    Where the object lies inside the frame, the centre of mass of the projection at θ is c + x cos θ − z sin θ
    (Helgason-Ludwig condition of first order), and c is fitted to all projections. Otherwise, also for half
    acquisitions, opposite projections are registered, one of them mirrored. Bands of rows measure the tilt.

    Parameters
    ----------
    projections : (projection, y, x) array_like
        Line integrals.
    angles : (projection,) array_like
        Angles in degrees.
    rows : (y,) array_like, optional
        Rows of the frame that the projections hold, where these are not all; the column is that at their
        middle.
    tolerance : float
        Largest deviation from 180° of an opposite pair, in degrees.

    Returns
    -------
    Centre
        Column, tilt and standard error.

    Raises
    ------
    InputError
        If the object leaves the frame and no two projections are opposite within the tolerance.

    Examples
    --------
    >>> x, angles = np.arange(64), np.arange(0, 180, 20)
    >>> place = 35.0 + 6 * np.cos(np.deg2rad(angles))
    >>> disc = np.exp(-((x - place[:, None]) ** 2) / 50)
    >>> round(find_centre(np.tile(disc[:, None], (1, 8, 1)), angles).column, 3)
    35.0
    """
    images = np.asarray(projections, np.float64)
    degrees = np.asarray(angles, np.float64)
    height = images.shape[1]
    lines = np.arange(height) if rows is None else np.asarray(rows, np.float64)
    bands = np.array_split(np.arange(height), min(8, max(height // 4, 1)))
    profiles = np.stack([images[:, band].sum(1) for band in bands], axis=1)
    inside = inside_bands(profiles)
    if inside.any() and degrees.size >= 4:
        columns, errors = _by_centre_of_mass(profiles, degrees)
        weights = np.where(inside & (errors > 0), 1.0 / np.maximum(errors, 1e-9) ** 2, 0.0)
        pairs = 0
    else:
        columns, weights, pairs = _by_opposite_pairs(images, degrees, bands, tolerance)
    if not weights.any():
        weights = np.ones_like(weights)
    column = float(np.average(columns, weights=weights))
    places = np.array([lines[band].mean() for band in bands]) - lines.mean()
    # Bands that hardly count neither measure a tilt nor an error.
    used = int((weights > 1e-3 * weights.max()).sum())
    if used < 3:
        return Centre(column, 0.0, float("nan"), float("nan"), pairs)
    slope, column = np.polyfit(places, columns, 1, w=np.sqrt(weights))
    scatter = np.average((columns - column - slope * places) ** 2, weights=weights)
    lever = np.average(places**2, weights=weights) * (used - 2)
    tilt, tilt_spread = np.rad2deg(np.arctan(slope)), np.rad2deg(np.sqrt(scatter / lever))
    spread = float(np.sqrt(scatter / (used - 2)))
    return Centre(float(column), float(tilt), spread, float(tilt_spread), pairs)


def inside_bands(profiles: Real) -> NDArray[np.bool_]:
    """Return which bands of (projection, band, x) profiles are flat at both borders in 9 of 10 projections.

    An offset of a projection does not matter. Limits are 15 % of the range and of the steepest slope: a
    cylinder that leaves the frame by 1 % of its radius has more.
    """
    margin = max(profiles.shape[2] // 40, 2)
    left, right = profiles[:, :, :margin], profiles[:, :, -margin:]
    floor = 0.5 * (left.mean(2) + right.mean(2))
    step = _most(np.abs(left.mean(2) - right.mean(2)))
    slopes = gaussian_filter1d(profiles, 0.5 * margin, axis=2, order=1)
    border = _most(np.abs(slopes[:, :, [0, margin, -1 - margin, -1]]).max(2))
    range_ = _most(np.abs(profiles - floor[:, :, None]).max(2))
    return np.asarray((step < 0.15 * range_) & (border < 0.15 * _most(np.abs(slopes).max(2))))


def _most(values: Real) -> Real:
    """Return the 90th percentile of (projection, band) values over the projections."""
    return np.asarray(np.quantile(values, 0.9, axis=0))


def _by_centre_of_mass(profiles: Real, degrees: Real) -> tuple[Real, Real]:
    """Return the column of the axis and its standard error of each band of (projection, band, x) profiles."""
    x = np.arange(profiles.shape[2]) - 0.5 * (profiles.shape[2] - 1)
    margin = max(profiles.shape[2] // 40, 2)
    floor = 0.5 * (profiles[:, :, :margin].mean(2) + profiles[:, :, -margin:].mean(2))
    mass = (profiles - floor[:, :, None]).sum(2)
    moment = ((profiles - floor[:, :, None]) * x).sum(2)
    theta = np.deg2rad(degrees)
    columns, errors = np.empty(profiles.shape[1]), np.empty(profiles.shape[1])
    for band in range(profiles.shape[1]):
        # The mass of all projections is the same: its mean is less noisy.
        weight = np.median(mass[:, band])
        model = np.stack([np.ones_like(theta), np.cos(theta), -np.sin(theta)], axis=1)
        if weight == 0:
            columns[band], errors[band] = 0.0, 0.0
            continue
        values = moment[:, band] / weight
        used = np.ones(values.size, bool)
        for _ in range(5):  # without outliers, such as projections that failed
            solution, *_ = np.linalg.lstsq(model[used], values[used], rcond=None)
            distance = np.abs(values - model @ solution)
            kept = distance <= max(6.0 * float(np.median(distance)), 1e-9)
            if kept.sum() < 4 or np.array_equal(kept, used):
                break
            used = kept
        residual = (values - model @ solution)[used]
        covariance = np.linalg.inv(model[used].T @ model[used])[0, 0]
        columns[band] = solution[0] + 0.5 * (profiles.shape[2] - 1)
        errors[band] = np.sqrt(covariance * (residual**2).sum() / max(residual.size - 3, 1)) + 1e-6
    return columns, errors


def _by_opposite_pairs(
    images: Real, degrees: Real, bands: list[Any], tolerance: float
) -> tuple[Real, Real, int]:
    """Return column and weight of each band of (projection, y, x) images, and the number of pairs."""
    pairs = _opposite_pairs(degrees, tolerance)
    if not pairs:
        raise InputError(
            ErrorRecord(
                "no-opposite-projections",
                f"the object leaves the frame and no two projections are 180° apart within {tolerance:g}°; "
                "state the rotation centre (centre = column)",
            )
        )
    pairs = pairs[:: max(1, len(pairs) // _MOST_PAIRS)]
    width = images.shape[2]
    start = _overlap(images, pairs)
    part = slice(max(start, 0), width + min(start, 0))
    other_part = slice(max(-start, 0), width + min(-start, 0))
    columns, power = np.empty((len(pairs), len(bands))), np.empty((len(pairs), len(bands)))
    for number, (one, other, _) in enumerate(pairs):
        for place, band in enumerate(bands):
            mirrored = images[other, band][:, ::-1]
            shift, power[number, place] = _shift(images[one, band, part], mirrored[:, other_part])
            columns[number, place] = 0.5 * (width - 1 + start + shift)
    excess = np.array([gap for *_, gap in pairs])
    found = [_at_zero(excess, columns[:, place], power[:, place]) for place in range(len(bands))]
    return np.array(found), power.sum(0), len(pairs)


def _opposite_pairs(degrees: Real, tolerance: float) -> list[tuple[int, int, float]]:
    """Return (i, j, deviation from 180° in degrees) of the closest partner of each projection."""
    pairs = []
    for number, angle in enumerate(degrees):
        gap = degrees - angle - 180.0
        best = int(np.argmin(np.abs(gap)))
        if abs(gap[best]) <= tolerance:
            pairs.append((number, best, float(gap[best])))
    return pairs


def _overlap(images: Real, pairs: list[tuple[int, int, float]]) -> int:
    """Return the shift s in pixels of most correlation with b(x − s), b the mirrored opposite projection."""
    width = images.shape[2]
    rows = slice(None, None, max(1, images.shape[1] // _MOST_LINES))
    chosen = pairs[:: max(1, len(pairs) // 8)]
    a, b = (
        np.concatenate([gaussian_filter1d(images[number, rows], 1.0, order=1) for number in numbers])
        for numbers in ([one for one, *_ in chosen], [other for _, other, _ in chosen])
    )
    b = -b[:, ::-1]
    least = max(8, width // 16)
    best, best_shift = -np.inf, 0
    for shift in range(least - width, width - least + 1):
        one, other = (
            a[:, max(shift, 0) : width + min(shift, 0)],
            b[:, max(-shift, 0) : width + min(-shift, 0)],
        )
        scale = np.sqrt((one**2).sum() * (other**2).sum())
        # A narrow overlap correlates by chance: so much less counts its correlation.
        value = float((one * other).sum() / max(scale, 1e-300)) - np.sqrt(least / one.shape[1]) / 4
        if value > best:
            best, best_shift = value, shift
    return best_shift


def _at_zero(excess: Real, values: Real, weights: Real) -> float:
    """Return the value at a deviation of 0 from a weighted line, or from the weighted mean."""
    if np.ptp(excess) > 1e-6 and excess.size > 2:
        return float(np.polyfit(excess, values, 1, w=np.sqrt(weights))[1])
    return float(np.average(values, weights=np.maximum(weights, 1e-300)))


def _shift(a: Real, b: Real) -> tuple[float, float]:
    """Return the shift s of (y, x) images with a(x) ≈ b(x − s), in pixels, and their power."""
    width = a.shape[1]
    # The horizontal gradient has no offset and suppresses slow waves, which φ holds most of.
    window = np.hanning(width)[None, :]
    ga, gb = (np.gradient(image, axis=1) * window for image in (a, b))
    size = scipy.fft.next_fast_len(2 * width, real=True)
    fa, fb = (scipy.fft.rfft(image, size, axis=1) for image in (ga, gb))
    cross = (fa * fb.conj()).sum(0)
    correlation = scipy.fft.irfft(cross, size)
    peak = int(np.argmax(correlation))
    start = peak if peak <= size // 2 else peak - size
    wave = 2.0 * np.pi * np.arange(cross.size) / size
    low = (wave > 0) & (wave < 0.5 * np.pi)
    strength = np.abs(cross[low])
    shift = float(start)
    for _ in range(10):  # Gauss-Newton on the phase of the cross-spectrum
        angle = np.angle(cross[low] * np.exp(1j * wave[low] * shift))
        step = float((strength * wave[low] * angle).sum() / max((strength * wave[low] ** 2).sum(), 1e-300))
        shift -= step
        if abs(step) < 1e-6:
            break
    return shift, float(np.sqrt((ga**2).sum() * (gb**2).sum()))
