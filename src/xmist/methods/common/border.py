"""Motion of speckles at the border of the frames, and whether a result contains it.

A phase that is integrated from its Laplacian, or fitted as the even mirror of itself, has no flow through the
border: a tilt, a defocus, an astigmatism or an object that the border cuts is lost or distorted. There is no
list of methods: the speckles at the border are registered, and each result is compared with their motion.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xmist.core.data import Retrieval
from xmist.core.findings import finding
from xmist.numerics.images.border_registration import BorderShifts, register_border

Real = NDArray[Any]

SIGNIFICANT: Final = 6.0  # deviations of a mean square without motion
_WORTH: Final = 0.05  # pixels, rms at the border
_NAMED: Final = 0.3  # part of what is missing that a tilt, a defocus or an astigmatism must have to be named
_NAMED_REST: Final = 0.6  # the same for the rest


def moves(square: float, deviation: float, least: float) -> bool:
    """Return whether a mean square of shifts is more than noise, and than that of `least` pixels."""
    return square > max(SIGNIFICANT * deviation, least**2)


def check_border(
    result: Retrieval,
    reference: Real,
    sample: Real,
    weights: Real | None,
    extra: ArrayLike | None = None,
    *,
    shifts: BorderShifts | None = None,
) -> Retrieval:
    """Return a result with a warning where it lacks motion of speckles (position, y, x) at the border.

    `weights` and `extra` are those of reference and sample; `shifts` where they are known already.
    """
    if result.refraction_angle is None or result.options.get("background") is not None:
        return result  # what moved over a given background was taken off
    if shifts is None:
        shifts = register_border(reference, sample, weights, None if extra is None else np.asarray(extra))
    if not moves(*shifts.through_border(), _WORTH):
        return result
    experiment = result.experiment
    scale = experiment.effective_distance / experiment.effective_pixel
    missing = shifts.without(result.refraction_angle, scale)
    square, deviation = missing.mean_square()
    if not missing.boxes or not moves(square, deviation, _WORTH):
        return result
    seen = float(np.sqrt(max(shifts.mean_square()[0], 0.0)))
    lacking = float(np.sqrt(max(square, 0.0)))
    remedy = (
        "preprocess with drift if the beam moved"
        if result.method == "full-field"
        else "use full-field or umpa, which retrieve it"
    )
    message = (
        f"speckles at the border moved by {seen:.2g} pixels (rms); there the refraction angle of "
        f"{result.method} is wrong by {lacking:.2g} pixels: {_parts(missing)}; {remedy}"
    )
    return replace(result, findings=(*result.findings, finding("border-motion-missing", message)))


def _parts(missing: BorderShifts) -> str:
    """Return the missing parts in words."""
    tilt_x, tilt_y, c, d, e = missing.polynomial()
    reach = np.sqrt((missing.centres**2).sum(axis=1).mean()) if missing.boxes else 0.0
    total = np.sqrt(max(missing.mean_square()[0], 0.0))
    astigmatism = np.hypot(0.5 * (c - d), e)
    parts = [
        (np.hypot(tilt_x, tilt_y), f"a tilt of ({tilt_x:.2g}, {tilt_y:.2g}) pixels"),
        (reach * abs(0.5 * (c + d)), f"a defocus of {50 * (c + d):.2g} %"),
        (reach * astigmatism, f"an astigmatism of {100 * astigmatism:.2g} %"),
    ]
    named = [words for size, words in parts if size > _NAMED * total]
    rest = missing.shifts - _polynomial_shift(missing)
    if np.sqrt((rest**2).sum(axis=1).mean()) > _NAMED_REST * total:
        named.append("that of an object that the border cuts")
    return " and ".join(named)


def _polynomial_shift(missing: BorderShifts) -> Real:
    a, b, c, d, e = missing.polynomial()
    x, y = missing.centres.T
    return np.stack([a + c * x + e * y, b + e * x + d * y], axis=1)
