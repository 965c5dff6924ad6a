"""Frames directly from the transport model (M), without wave optics.

    I_S = T I_R − (∆/k) ∇·(T I_R ∇φ) + ∆ Σ_ij ∂_i∂_j (D_ij T I_R)                                      (M)

the evolving Fokker–Planck equation of Pavlov et al. 2020, J. Opt. 22 125604, doi:10.1088/2040-8986/abc313,
for a sample that attenuates; for T = 1 and D_ij = D δ_ij it is its eq. (1).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xmist.core.arrays import SMALLEST_FRAME
from xmist.core.checks import Checks
from xmist.numerics.operators.derivatives import DX, DXX, DXY, DY, DYY, LAPLACIAN, derivative

Real = NDArray[Any]


def transported(
    reference: ArrayLike,
    *,
    wavenumber: float,
    distance: float,
    pixel: float,
    phase: ArrayLike | None = None,
    transmission: ArrayLike | None = None,
    dark_field: ArrayLike | None = None,
    workers: int | None = None,
) -> Real:
    """Return the sample frame of a reference frame by model (M).

    Derivatives are of sixth order, with the even mirror at the border.

    Parameters
    ----------
    reference : (y, x) array_like
        Reference frame I_R.
    wavenumber : float
        k in rad/m.
    distance : float
        Effective distance ∆ in metres.
    pixel : float
        Pixel in the sample's plane in metres.
    phase : (y, x) array_like, optional
        Phase φ in rad.
    transmission : (y, x) array_like, optional
        Transmission T; None is 1.
    dark_field : (y, x) or (3, y, x) array_like, optional
        D, or D_xx, D_xy and D_yy, in metres.
    workers : int, optional
        Threads; the result does not depend on it.

    Returns
    -------
    (y, x) float64 array
        Sample frame I_S.

    Raises
    ------
    InputError
        Lists what is no number of its range, and which image does not fit.

    Examples
    --------
    A phase of constant slope shifts: the frame's change is −u ∂I_R/∂x.

    >>> x = np.arange(32.0)
    >>> frame = np.tile(1 + 0.01 * x, (16, 1))
    >>> phase = np.tile(0.01 * x, (16, 1))
    >>> sample = transported(frame, wavenumber=1e11, distance=1.0, pixel=1e-6, phase=phase)
    >>> float(((sample - frame) / -0.01)[8, 16].round(6))
    0.1
    """
    frame = np.asarray(reference, np.float64)
    given = {"phase": phase, "transmission": transmission, "dark_field": dark_field}
    images = {name: None if image is None else np.asarray(image, np.float64) for name, image in given.items()}
    check = Checks()
    check.number("wavenumber", wavenumber, unit="rad/m", low=0.0, strict=True)
    check.number("distance", distance, unit="m")
    check.number("pixel", pixel, unit="m", low=0.0, strict=True)
    if frame.ndim != 2 or min(frame.shape) < SMALLEST_FRAME:
        check.add(
            f"reference has shape {frame.shape}; expected (y, x), at least {SMALLEST_FRAME} × "
            f"{SMALLEST_FRAME} pixels"
        )
    for name, image in images.items():
        shapes = [frame.shape, (3, *frame.shape)] if name == "dark_field" else [frame.shape]
        if image is not None and image.shape not in shapes:
            expected = " or ".join(map(str, shapes))
            check.add(f"{name} has shape {image.shape}; expected {expected}", "shape-mismatch")
    check.done()

    def slope(image: Real, kind: int) -> Real:
        result: Real = derivative(np.ascontiguousarray(image), kind, threads=workers)
        return result

    phi, t, d = images["phase"], images["transmission"], images["dark_field"]
    light = frame if t is None else t * frame
    out = light.copy()
    if phi is not None:
        psi = phi * (distance / (wavenumber * pixel**2))
        out -= light * slope(psi, LAPLACIAN)
        for kind in (DX, DY):
            out -= slope(light, kind) * slope(psi, kind)
    if d is not None:
        d = d * (distance / pixel**2)
        if d.ndim == 2:
            out += slope(d * light, LAPLACIAN)
        else:
            for weight, component, kind in zip((1.0, 2.0, 1.0), d, (DXX, DXY, DYY), strict=True):
                out += weight * slope(component * light, kind)
    return out
