"""The finite transport model of sample frames, about which the linear operator is taken.

    S_n = M_n − ∇·(M_n ∇ψ_r) + M_n t_r,    M_n = B_d W_u (T_s I_R,n)

with W_u the warp by u = ∇ψ_s that conserves intensity, B_d the blur by diffusion, and ψ = ψ_s + ψ_r,
ln T = t_s + t_r split into a smooth and a rough part.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmist.numerics.derivatives import DX, DY, LAPLACIAN, derivative
from xmist.numerics.finite_transport import Warp, diffuse
from xmist.numerics.parallel import for_blocks
from xmist.numerics.poisson import filtered, frequencies
from xmist.numerics.transport import LOG_T, PSI

Real = NDArray[Any]


def linearise(
    reference: Real,
    sample: Real,
    kinds: tuple[int, ...],
    fields: Real,
    *,
    smoothing: float,
    unit: float = 1.0,
    out: tuple[Real, Real] | None = None,
    threads: int | None = None,
) -> tuple[Real, Real]:
    """Give the model images M_n and the residual S_n − model.

    Parameters
    ----------
    reference, sample : (position, y, x) float array
        Frames.
    kinds : tuple of int
        Unknowns, see `xmist.numerics.transport`; ψ is one of them.
    fields : (unknown, y, x) array
        Their values in pixel units, of the frames' dtype.
    smoothing : float
        σ in pixels of the Gaussian that makes the smooth parts.
    unit : float
        What the sample frames are divided by.
    out : two (position, y, x) arrays, optional
        Memory for models and residual; none of it may be that of the frames.
    threads : int, optional
        Threads; the result does not depend on it.

    Returns
    -------
    models, residual : (position, y, x) arrays
        M_n and S_n − model, of the frames' dtype. The models without a sample are the reference itself.

    Examples
    --------
    >>> frames = np.random.default_rng(1).uniform(1, 2, (2, 16, 18))
    >>> models, residual = linearise(frames, frames, (PSI,), np.full((1, 16, 18), 3.0), smoothing=2.0)
    >>> bool(np.allclose(models, frames)), bool(np.allclose(residual, 0.0))
    (True, True)
    """
    if not fields.any():
        residual = np.divide(sample, reference.dtype.type(unit), out=None if out is None else out[1])
        residual -= reference
        return reference, residual
    named = dict(zip(kinds, fields, strict=True))
    gains = [np.exp(-0.5 * (smoothing * k) ** 2) for k in frequencies(fields.shape[1:])]
    psi = named.pop(PSI)
    smooth = filtered(psi, *gains, threads=threads)
    flow = np.empty((2, *psi.shape), psi.dtype)
    for line, kind in zip(flow, (DX, DY), strict=True):
        derivative(smooth, kind, out=line, threads=threads)
    warp = Warp.of(flow, threads=threads)
    rough = psi - smooth
    del flow, smooth
    # What the model image is multiplied by, and its slopes, where the residual is taken.
    value = derivative(rough, LAPLACIAN, threads=threads)
    value -= 1
    along_x, along_y = (derivative(rough, kind, threads=threads) for kind in (DX, DY))
    del rough
    factor = None
    log_t = named.pop(LOG_T, None)
    if log_t is not None:
        smooth = filtered(log_t, *gains, threads=threads)
        value += smooth
        value -= log_t
        factor = warp(np.exp(smooth))
        del smooth
    models, residual = (np.empty_like(reference), np.empty_like(sample)) if out is None else out
    slope = np.empty_like(psi)
    for n, frame in enumerate(reference):
        models[n] = diffuse(warp(frame, factor=factor), named, overwrite=True, threads=threads)
        derivative(models[n], DX, out=residual[n], threads=threads)
        derivative(models[n], DY, out=slope, threads=threads)

        def subtract(start: int, stop: int, *, n: int = n) -> None:
            rows = slice(start, stop)
            rest = residual[n, rows]
            rest *= along_x[rows]
            rest += models[n, rows] * value[rows]
            rest += slope[rows] * along_y[rows]
            rest += sample[n, rows] / rest.dtype.type(unit)

        for_blocks(subtract, len(slope), threads=threads)
    return models, residual
