"""Slices from sinograms: FBP, SIRT, and weighted CGLS with a prior on the slice."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xmist.core.arrays import Image
from xmist.core.errors import ErrorRecord, InputError, raise_errors
from xmist.core.progress import Progress
from xmist.tomography.engines import Projector, filtered_back_projection, has_astra
from xmist.tomography.iterative import cgls, sirt
from xmist.tomography.options import TomographyOptions
from xmist.tomography.sinograms import angular_weights, is_half, overlap_weights, sides, suppress_rings

Real = NDArray[Any]


def reconstruct(
    sinograms: ArrayLike,
    angles: ArrayLike,
    *,
    pixel: float,
    centre: float | ArrayLike,
    weights: ArrayLike | None = None,
    options: TomographyOptions | None = None,
    progress: Progress | None = None,
) -> Image:
    """Reconstruct slices from line integrals in parallel geometry.

    Parameters
    ----------
    sinograms : (projection, slice, x) array_like
        Line integrals, such as ∫δ dz in m; the slices lie along the rotation axis.
    angles : (projection,) array_like
        Angles in degrees, 180° or 360° in all, with gaps or without.
    pixel : float
        Effective pixel in m.
    centre : float or (slice,) array_like
        Column of the rotation axis; one for each slice where the axis is tilted.
    weights : (projection, slice, x) array_like, optional
        Inverse variances; 0 ignores a pixel. Only for "cgls" and "sirt".
    options : TomographyOptions, optional
        Algorithm, rings, prior.
    progress : callable, optional
        Called as progress("reconstructing", done, total) after each slice.

    Returns
    -------
    (slice, z, x) float32 array
        The quantity per metre: δ, μ in 1/m, ε in rad²/m. The axis is in the middle of a slice; rows run along
        the beam at angle 0. Slices are as wide as a frame, or twice its longer side of the axis for a half
        acquisition.

    Raises
    ------
    InputError
        If shapes do not agree, or the engine is not installed.

    Examples
    --------
    >>> disc = np.sqrt(np.maximum(10.0**2 - (np.arange(32) - 15.5) ** 2, 0)) * 2
    >>> sinograms = np.tile(disc, (60, 1, 1))
    >>> options = TomographyOptions(algorithm="fbp")
    >>> slices = reconstruct(
    ...     sinograms, np.arange(60) * 3.0, pixel=1.0, centre=15.5, options=options
    ... )  # doctest: +SKIP
    >>> slices[0, 16, 16].round(1)  # doctest: +SKIP
    1.0
    """
    options = options or TomographyOptions()
    data = np.asarray(sinograms, np.float32)
    degrees = np.asarray(angles, np.float64)
    given = None if weights is None else np.asarray(weights, np.float32)
    columns = _check(data, degrees, given, centre)
    algorithm = chosen_algorithm(options, weighted=given is not None)
    if algorithm == "fbp" and not np.isfinite(data).all():
        raise InputError(
            ErrorRecord("array-invalid", "the sinograms hold values that are not finite; fill them first")
        )
    data = suppress_rings(data, options.rings)
    radians = np.deg2rad(degrees)
    _, slices, width = data.shape
    half = is_half(degrees, float(columns.mean()), width, options.acquisition)
    left, right = sides(width, float(columns.mean())) if half else (0, 0)
    size = left + width + right
    out = np.empty((slices, size, size), np.float32)
    if algorithm == "fbp":
        share = angular_weights(degrees)
        window = None if options.filter == "none" else options.filter
        for number, column in enumerate(columns):
            row = data[:, number]
            if half:
                row = np.pad(row * overlap_weights(width, column), ((0, 0), (left, right)))
            out[number] = filtered_back_projection(row, radians, share, left + column, window=window)
            _tell(progress, number, slices)
    else:
        margin = 0 if options.padding == "auto" else round(options.padding * size)
        inner = slice(margin, margin + size)
        projector = None
        try:
            for number, column in enumerate(columns):
                if projector is None or column != columns[number - 1]:
                    if projector is not None:
                        projector.close()
                    projector = Projector(width, radians, column, size + 2 * margin)
                weight = None if given is None else given[:, number]
                row = data[:, number]
                if algorithm == "sirt":
                    image = sirt(projector, row, weight, options.iterations)
                else:
                    image = cgls(projector, row, weight, options)
                out[number] = image[inner, inner]
                _tell(progress, number, slices)
        finally:
            if projector is not None:
                projector.close()
    return np.asarray(out / np.float32(pixel), np.float32)


def chosen_algorithm(options: TomographyOptions, *, weighted: bool) -> Literal["fbp", "cgls", "sirt"]:
    """Return the algorithm of "auto"."""
    if options.algorithm != "auto":
        return options.algorithm
    return "cgls" if weighted and has_astra() else "fbp"


def reconstruct_refraction(
    refraction: ArrayLike,
    angles: ArrayLike,
    *,
    centre: float | ArrayLike,
    acquisition: str = "auto",
    progress: Progress | None = None,
) -> Image:
    """Reconstruct δ from refraction angles, for objects that are larger than the field of view.

    Parameters
    ----------
    refraction : (projection, slice, x) array_like
        Component of ∇φ/k across the rotation axis, in rad.
    angles : (projection,) array_like
        Angles in degrees.
    centre : float or (slice,) array_like
        Column of the rotation axis; one for each slice where the axis is tilted.
    acquisition : {"auto", "full", "half"}
        As in `TomographyOptions`.
    progress : callable, optional
        Called as progress("reconstructing", done, total) after each slice.

    Returns
    -------
    (slice, z, x) float32 array
        δ, as from `reconstruct`. No zero of φ is needed; where the object leaves the field of view, an offset
        of δ remains.

    Raises
    ------
    InputError
        If shapes do not agree, or algotom is not installed.

    Notes
    -----
    ∇φ/k = −∂/∂x ∫δ dz, and the ramp filter is a derivative followed by a Hilbert filter (Pfeiffer et al.
    2007, Phys. Rev. Lett. 98 108105, doi:10.1103/PhysRevLett.98.108105).

    Examples
    --------
    >>> reconstruct_refraction(
    ...     np.zeros((60, 1, 32)), np.arange(60) * 3.0, centre=15.5
    ... ).shape  # doctest: +SKIP
    (1, 32, 32)
    """
    data = np.asarray(refraction, np.float32)
    degrees = np.asarray(angles, np.float64)
    columns = _check(data, degrees, None, centre)
    share = angular_weights(degrees)
    radians = np.deg2rad(degrees)
    width = data.shape[2]
    half = is_half(degrees, float(columns.mean()), width, acquisition)
    left, right = sides(width, float(columns.mean())) if half else (0, 0)
    size = left + width + right
    out = np.empty((data.shape[1], size, size), np.float32)
    for number, column in enumerate(columns):
        row = -data[:, number]
        if half:
            row = np.pad(row * overlap_weights(width, column), ((0, 0), (left, right)))
        out[number] = filtered_back_projection(row, radians, share, left + column, derivative=True)
        _tell(progress, number, data.shape[1])
    return out


def _check(data: Real, degrees: Real, weights: Real | None, centre: float | ArrayLike) -> Real:
    """Check that the arrays fit together; return the column of the axis (slice,)."""
    errors = []
    columns = np.atleast_1d(np.asarray(centre, np.float64))
    if data.ndim != 3:
        errors.append(
            ErrorRecord(
                "shape-mismatch", f"sinograms have {data.ndim} axes; expected 3 (projection, slice, x)"
            )
        )
    elif degrees.shape != data.shape[:1]:
        text = f"{degrees.size} angles for {data.shape[0]} projections; expected one each"
        errors.append(ErrorRecord("shape-mismatch", text))
    if weights is not None and weights.shape != data.shape:
        text = f"weights have shape {weights.shape}; expected that of the sinograms, {data.shape}"
        errors.append(ErrorRecord("shape-mismatch", text))
    if data.ndim == 3:
        if columns.size not in (1, data.shape[1]):
            text = f"{columns.size} centres for {data.shape[1]} slices; expected one, or one each"
            errors.append(ErrorRecord("shape-mismatch", text))
        wrong = columns[~((columns >= -0.5) & (columns <= data.shape[2] - 0.5))]
        if wrong.size:
            text = f"centre is {wrong[0]:g}; expected one of the {data.shape[2]} columns of a frame"
            errors.append(ErrorRecord("option-invalid", text))
    raise_errors(errors)
    return np.broadcast_to(columns, data.shape[1:2])


def _tell(progress: Progress | None, number: int, total: int) -> None:
    if progress is not None:
        progress("reconstructing", number + 1, total)
