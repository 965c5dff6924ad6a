"""Gauss–Newton on the finite transport model, for whole images.

The sample frame of exposure n is modelled as

    S_n = M_n − ∇·(M_n ∇ψ_r) + M_n t_r,    M_n = B_d W_u (T_s I_R,n)

with W_u the warp by u = ∇ψ_s that conserves intensity, B_d the blur by diffusion, and ψ = ψ_s + ψ_r,
ln T = t_s + t_r split into a smooth and a rough part: rough ψ is lensing by structure that is not resolved,
no displacement, and a warp by it would blur the model. Its first order is (M) of Pavlov et al. 2020, J. Opt.
22 125604. Unknowns are in pixel units: ψ = ∆φ/(k p²), d = ∆D/p².
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

from xmist.data import Image
from xmist.numerics import finite_model
from xmist.numerics.conjugate_gradients import Convergence
from xmist.numerics.preconditioner import Prior, moments
from xmist.numerics.reduce import dot
from xmist.numerics.smooth import local_mean
from xmist.numerics.strength import estimate_strength
from xmist.numerics.transport import PSI, Transport
from xmist.numerics.whole_image import prior_energy, solve, to_cosines

Real = NDArray[Any]

SMOOTH: Final = 2.0  # σ in pixels of the smooth parts
_OUTLIER: Final = 8.0  # residual over its local rms; Gaussian noise never gets there
_LOCAL: Final = 8.0  # σ in pixels of "local"
_STEPS: Final = 8
_READ: Final = (1, 2)  # outer steps after whose solve the priors' strengths are read
_HALVINGS: Final = 5
_RISE: Final = 1e-3  # of the objective that rounding may make
_SEED: Final = 0
_SETTLED: Final = 0.01  # relative change of the objective between outer steps that counts as none
# Part of the noise's contribution to the objective, a pixel, that a solve may leave.
_NEGLIGIBLE: Final = 1e-4


@dataclass(frozen=True, kw_only=True, eq=False)
class Frames:
    """What a fit is made to, in units of the mean reference.

    Parameters
    ----------
    reference : (position, y, x) float32 array
        References without noise, finite and positive.
    sample : (position, y, x) float32 array
        Sample frames, finite.
    weights : (position, y, x) float32 array
        Weights of mean 1.
    threads : int
        Threads; no result depends on it.
    """

    reference: Image
    sample: Image
    weights: Image
    threads: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Fit:
    """Unknowns that were fitted, and how it went.

    Parameters
    ----------
    fields : (unknown, y, x) float32 array
        The unknowns in pixel units.
    priors : tuple of Prior
        Priors that were used in the end.
    transport : Transport
        Linearised operator at the end.
    residual : (position, y, x) float32 array
        S − model.
    solves : tuple of Convergence
        One an inner solve.
    misfit : tuple of float
        Weighted sum of squared residuals before each outer step.
    converged : bool
        Whether the outer steps settled and every inner solve met its rule.
    outliers : (position, y, x) bool array
        Pixels that were found to contradict the model, and got weight 0.
    """

    fields: Image
    priors: tuple[Prior, ...]
    transport: Transport
    residual: Image
    solves: tuple[Convergence, ...]
    misfit: tuple[float, ...]
    converged: bool
    outliers: NDArray[np.bool_]

    @property
    def weights(self) -> Image:
        """Weights at the end, (position, y, x)."""
        weights = self.transport.weights
        assert weights is not None
        return weights


def linearise(frames: Frames, kinds: tuple[int, ...], fields: Image) -> tuple[Image, Image]:
    """Give the model images M_n and the residual S_n − model at the present unknowns.

    Parameters
    ----------
    frames : Frames
        Data.
    kinds : tuple of int
        Unknowns, see `xmist.numerics.transport`.
    fields : (unknown, y, x) float32 array
        Their values in pixel units.

    Returns
    -------
    models, residual : (position, y, x) float32 arrays
        M_n and S_n − model.
    """
    return finite_model.linearise(
        frames.reference, frames.sample, kinds, fields, smoothing=SMOOTH, threads=frames.threads
    )


def fit(
    frames: Frames,
    kinds: tuple[int, ...],
    weak: Callable[[Transport], tuple[Prior, ...]],
    *,
    fixed: Mapping[int, float],
) -> Fit:
    """Fit the unknowns to the frames.

    Parameters
    ----------
    frames : Frames
        Data.
    kinds : tuple of int
        Unknowns, see `xmist.numerics.transport`.
    weak : callable
        Gives the priors to begin with, weaker than what the data will ask for.
    fixed : mapping of int to float
        Strengths of the priors that are not to be read from the data, by kind.

    Returns
    -------
    Fit
        The unknowns, the operator at the end and the record of convergence.
    """
    frames = replace(frames, weights=frames.weights.copy())
    fields = np.zeros((len(kinds), *frames.sample.shape[1:]), np.float32)
    outliers = np.zeros(frames.sample.shape, np.bool_)
    models, residual = linearise(frames, kinds, fields)
    _reject(frames, residual, outliers)
    transport = _transport(frames, kinds, models)
    weakest = priors = tuple(
        replace(prior, strength=fixed.get(kind, prior.strength))
        for kind, prior in zip(kinds, weak(transport), strict=True)
    )
    solves: list[Convergence] = []
    misfits = [_misfit(frames, residual)]
    settled = False
    for step in range(_STEPS):
        images = residual + transport.forward(fields)
        new, how = _solve(transport, images, priors, fields)
        solves.append(how)
        if step in _READ:
            read = read_strengths(new, residual, transport, priors, weakest, fixed)
            if read != priors:
                priors = read
                new, how = _solve(transport, images, priors, new)
                solves.append(how)
        before = _objective(frames, residual, fields, priors)
        after, new, trial = _search(frames, kinds, fields, new, priors, before)
        if trial is None:
            break
        fields, (models, residual) = new, trial
        _reject(frames, residual, outliers)
        transport = _transport(frames, kinds, models)
        misfits.append(_misfit(frames, residual))
        if step > max(_READ) and abs(before - after) <= _SETTLED * before:
            settled = True
            break
    return Fit(
        fields=fields,
        priors=priors,
        transport=transport,
        residual=residual,
        solves=tuple(solves),
        misfit=tuple(misfits),
        converged=settled and all(how.converged for how in solves),
        outliers=outliers,
    )


def _transport(frames: Frames, kinds: tuple[int, ...], models: Image) -> Transport:
    return Transport(frames=models, kinds=kinds, weights=frames.weights, threads=frames.threads)


def _search(
    frames: Frames,
    kinds: tuple[int, ...],
    fields: Image,
    new: Image,
    priors: tuple[Prior, ...],
    before: float,
) -> tuple[float, Image, tuple[Image, Image] | None]:
    """Go from `fields` towards `new` as far as the objective allows; no model where it never does."""
    for _ in range(_HALVINGS + 1):
        if not np.isfinite(new).all():
            break
        trial = linearise(frames, kinds, new)
        after = _objective(frames, trial[1], new, priors)
        if after <= before * (1.0 + _RISE):
            return after, new, trial
        new = np.float32(0.5) * (new + fields)
    return before, fields, None


def _solve(
    transport: Transport, images: Image, priors: tuple[Prior, ...], start: Image
) -> tuple[Image, Convergence]:
    exposures = len(images)
    return solve(
        transport,
        images,
        priors,
        start=start if start.any() else None,
        negligible=lambda objective: _NEGLIGIBLE * objective / exposures,
        relative=1e-9,
    )


def read_strengths(
    fields: Image,
    residual: Image,
    transport: Transport,
    priors: tuple[Prior, ...],
    weakest: tuple[Prior, ...],
    fixed: Mapping[int, float],
) -> tuple[Prior, ...]:
    """Give priors whose strengths are read from an estimate and from noise alone, see `estimate_strength`.

    Parameters
    ----------
    fields : (unknown, y, x) float32 array
        The estimate.
    residual : (position, y, x) float32 array
        What the model leaves, whose local level the noise has.
    transport : Transport
        Operator that it was made with.
    priors : tuple of Prior
        Priors that it was made with.
    weakest : tuple of Prior
        Priors that none shall be weaker than, nor a million times as strong.
    fixed : mapping of int to float
        Kinds whose priors stay as they are.
    """
    kinds, threads = transport.kinds, transport.threads
    readable = [i for i, kind in enumerate(kinds) if kind != PSI and kind not in fixed]
    if not readable:
        return priors
    moment = moments(transport.frames, transport.weights, threads=threads)
    square = (residual.astype(np.float64) ** 2).mean(axis=0)
    level = np.sqrt(scipy.ndimage.gaussian_filter(square / square.mean(), _LOCAL / 2, mode="reflect"))
    random = np.random.default_rng(_SEED)
    data = level.astype(np.float32) * random.standard_normal(residual.shape, np.float32)
    noise, _ = _solve(transport, data, priors, np.zeros_like(fields))
    to_cosines(noise, threads=threads)
    out = list(priors)
    for i in readable:
        cosines = to_cosines(fields[i : i + 1].copy(), threads=threads)[0]
        found = estimate_strength(cosines, kinds, moment, priors, i, noise=noise[i], threads=threads)
        least = weakest[i].strength
        out[i] = replace(priors[i], strength=min(max(found, least), 1e6 * least))
    return tuple(out)


def _misfit(frames: Frames, residual: Image) -> float:
    return dot(residual, residual * frames.weights, threads=frames.threads)


def _objective(frames: Frames, residual: Image, fields: Image, priors: tuple[Prior, ...]) -> float:
    return _misfit(frames, residual) + prior_energy(fields, priors, threads=frames.threads)


def _reject(frames: Frames, residual: Image, outliers: NDArray[np.bool_]) -> None:
    """Take the weight from single pixels whose residual is far beyond that of their surroundings."""
    for n, image in enumerate(residual):
        used = frames.weights[n] > 0
        square = np.square(image)
        level = local_mean(square, used, _LOCAL, threads=frames.threads)
        level *= np.float32(_OUTLIER**2)
        wrong = used & (square > level)
        outliers[n] |= wrong
        frames.weights[n][wrong] = 0.0
