"""The strength of a prior, from an estimate and from a solve for noise alone.

`least_error_strength` is for an image that exists for certain but may be dominated by noise. With H the
normal operator's block at a frequency, P the prior's precision for α = 1 and δ = H/(H + αP) the part of the
truth that an estimate keeps, its expected error is

    Σ (1 − δ)² S + v δ²/H

with S the truth's power and v the noise level. It is least where, for H that varies slowly,

    α Σ w P S = v Σ w,    w = δ² (1 − δ)

The frequencies around which the prior begins to outweigh the data decide, so that the truth need not have
the spectrum of the prior. S is the power of an estimate, less that of its noise, over δ²; it may be negative.
Where the model is wrong, as at rims, the last solve has less weight, and a smaller v than the estimate. v is
not taken from the residual: the error of D is mostly coherent with the sample, and 2 to 16 times as
large as noise in the frames explains. It is read in the estimate itself, as its power at high frequencies
over that of a solve for white noise of variance 1.

`estimate_strength`, for an image that may be nothing at all (ln T of a phase object). An estimate made with a
weak prior is the truth, damped, plus noise. Per frequency, with H the normal operator's block, P the priors'
precisions and G = (H + P)⁻¹, its expected power is

    |(G H)_ff|² S(κ) + σ² (G H G)_ff,    S(κ) = σ²/α s^−order

The two terms differ in shape: the signal dominates at low frequencies, noise of any origin (photons, the
sample's own speckle) at high ones. Whittle's likelihood (1953, Ark. Mat. 2 423) over rings of frequencies is
maximised over α, with σ² in closed form, and compared between orders. With this α the prior is that of the
truth itself, so that the fit is the best linear estimate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.numerics.parallel import for_blocks
from xmist.numerics.solvers.poisson import frequencies
from xmist.numerics.solvers.preconditioner import Moments, Prior, expected_block

Real = NDArray[Any]

_GRID: Final = (192, 192)  # frequencies at which the expected blocks are averaged over rings
_RINGS: Final = 24
_LOWEST: Final = (
    3.0  # half waves over the shorter side; below, the mean and the borders of the frames dominate
)
_ROWS: Final = 64
_HIGHEST: Final = 2.0  # rad per pixel; beyond, errors of the stencils dominate
# Rings in rad per pixel, waves of 15 to 6 pixels, at which D of simulated experiments is noise.
_FINE: Final = np.geomspace(0.43, 1.08, 7)
# The error of D is larger at low frequencies than white noise explains: in simulated experiments v is 1.2 to
# 1.8 times as large at waves of 30 to 100 pixels.
_MIDDLE: Final = 0.68  # rad per pixel, of the rings above
_RISE: Final = 0.2
_NO_SIGNAL: Final = 0.36  # rad per pixel from which the power of an estimate is taken for noise altogether
# What is known before the data: P S of a coefficient for order 3/2, over ⟨d²⟩, and for how much weight this
# counts (a frequency counts for 1 at most). An image whose power falls like κ⁻³ from waves of a hundred
# pixels on has about this roughness.
_ROUGHNESS: Final = 0.15
_COUNTS_FOR: Final = 150.0
_PEAK: Final = 27.0 / 4.0  # over the largest δ² (1 − δ)
_NEIGHBOURS: Final = 7  # rings over which δ, which one solve for noise measures, is averaged
_ITERATIONS: Final = 60
ORDER: Final = 1.5  # that `_ROUGHNESS` is of
ALIKE: Final = 0.2  # rad per pixel at which priors of all orders are alike


def _symbol(shape: tuple[int, int]) -> Real:
    s_y, s_x = (4 * np.sin(np.pi * np.arange(size) / size / 2) ** 2 for size in shape)
    symbol: Real = s_y[:, None] + s_x[None]
    return symbol


def _response(
    kinds: tuple[int, ...], moment: Moments, priors: tuple[Prior, ...], field: int, mix: Real | None
) -> tuple[Real, Real]:
    """Return |(G H)_ff|² and (G H G)_ff on the grid of frequencies."""
    block = expected_block(kinds, moment, _GRID, mix=mix)
    total = block.copy()
    weight = np.eye(len(kinds)) if mix is None else mix
    if mix is not None:
        field = int(np.flatnonzero(mix[field])[0])
    for i, prior in enumerate(priors):
        total += np.outer(weight[i], weight[i]) * prior.precision(_GRID)[..., None, None]
    diagonal = np.arange(len(weight.T))
    total[0, 0] = np.eye(len(diagonal))
    total[..., diagonal, diagonal] *= 1.0 + 1e-6
    inverse = np.linalg.inv(total)
    damping = np.einsum("yxj,yxj->yx", inverse[..., field, :], block[..., :, field])
    noise = np.einsum("yxj,yxjk,yxk->yx", inverse[..., field, :], block, inverse[..., field, :])
    # By rounding it is below 0 where the unknowns can hardly be told apart.
    return damping**2, np.maximum(noise, 1e-30 * float(np.abs(noise).max()))


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """The result of fitting a prior of some order to a spectrum.

    `strength`: the α that it asks for, infinity if nothing is above the noise; `deviance`: −2 log likelihood,
    but for what is the same for every order.
    """

    order: float
    strength: float
    deviance: float


def estimate_strength(
    coefficients: Real,
    kinds: tuple[int, ...],
    moment: Moments,
    priors: tuple[Prior, ...],
    field: int,
    *,
    noise: Real,
    orders: Sequence[float],
    mix: Real | None = None,
    threads: int | None = None,
) -> list[Estimate]:
    """Return the strength α of the prior of one unknown that its estimate asks for, for each of the orders.

    `coefficients` (y, x): cosine coefficients of the unknown number `field` of `kinds`, as estimated with
    `priors`, weak on it; `noise` (ring,): `power_over_rings` of it as estimated from noise of variance 1
    alone, which knows how unevenly few positions determine the pixels, as the expected blocks do not; `mix`
    as in `expected_block`.
    """
    counts, *sums = _over_rings(coefficients, _rings(coefficients), threads)
    used = counts > 0
    counts = counts[used]
    centres, power, noise_power = (values[used] / counts for values in (*sums, noise))
    if not power.any():
        return [Estimate(order=order, strength=float("inf"), deviance=0.0) for order in orders]
    radius = np.sqrt(_symbol(_GRID))
    damping, expected = (
        _along(radius, values, centres) for values in _response(kinds, moment, priors, field, mix)
    )
    drawn = expected * _smoothed(noise_power / expected)
    out = []
    for order in orders:
        signal = damping * centres ** (-2.0 * order)
        ratios = np.geomspace(1e-6, 1e9, 601) * float(np.median(signal / drawn))
        shapes = signal / ratios[:, None] + drawn
        level = (counts * power / shapes).sum(axis=1) / counts.sum()
        deviance = (counts * (np.log(level)[:, None] + np.log(shapes))).sum(axis=1)
        best = int(np.argmin(deviance))
        strength = float("inf") if best == len(ratios) - 1 else float(ratios[best])
        out.append(Estimate(order=order, strength=strength, deviance=float(deviance[best])))
    return out


def least_error_strength(
    coefficients: Real,
    prior: Prior,
    *,
    noise: Real,
    determined: Real,
    left: float,
    square: float,
    threads: int | None = None,
) -> float:
    """Return the strength α with which the expected error of an unknown is least.

    `coefficients` (y, x): cosine coefficients of its estimate with `prior`; `noise`, `determined` (ring,):
    `power_over_rings` of a solve for white noise of variance 1, and of that and its right-hand side; `left`:
    noise level of the final solve, over that of the estimate; `square`: ⟨u²⟩ over the usable pixels.
    """
    counts, *sums = _over_rings(coefficients, _rings(coefficients), threads)
    used = (counts > 0) & (noise > 0.0)
    if not used.any():
        return float("inf")
    counts, determined = counts[used], determined[used]
    centres, power, noise = (values[used] / counts for values in (*sums, noise))
    fine = (centres >= _FINE[0]) & (centres <= _FINE[-1]) & (power > 0.0)
    variance = (centres / _MIDDLE) ** -_RISE
    variance *= np.exp(np.mean(np.log(power[fine] / noise[fine] / variance[fine]))) if fine.any() else 0.0
    near = np.ones(_NEIGHBOURS)
    kept = np.convolve(determined, near, "same") / np.convolve(counts, near, "same")
    kept = np.clip(kept, 1e-3, 1.0 - 1e-3)
    shape = centres ** (2.0 * prior.order)
    data = prior.strength * shape * kept / (1.0 - kept)
    signal = np.where(centres < _NO_SIGNAL, (power - variance * noise) / kept**2, 0.0)
    known = _COUNTS_FOR * _ROUGHNESS * ALIKE ** (2.0 * (prior.order - ORDER)) * square
    strength = prior.strength
    for _ in range(_ITERATIONS):
        kept = data / (data + strength * shape)
        weights = _PEAK * counts * kept**2 * (1.0 - kept)
        whole = max(float((weights * shape * signal).sum()), 0.0) + known
        total = float(weights.sum())
        if whole == 0.0:
            return float("inf")
        level = left * float((weights * variance).sum()) / total
        # Half of a step in log α: a whole one overshoots.
        strength = float(np.sqrt(strength * level * (total + _COUNTS_FOR) / whole))
    return strength


def fine_waves(coefficients: Real, order: float, *, threads: int | None = None) -> Real:
    """Return s^order times cosine coefficients (y, x) at high frequencies, 0 elsewhere.

    With the order of a prior that outweighs the data there, noise becomes nearly white.
    """
    s_y, s_x = (4 * np.sin(k / 2) ** 2 for k in frequencies(coefficients.shape))
    out = np.zeros_like(coefficients)

    def task(start: int, stop: int) -> None:
        symbol = s_y[start:stop, None] + s_x
        fine = (symbol >= _FINE[0] ** 2) & (symbol < _FINE[-1] ** 2)
        out[start:stop][fine] = coefficients[start:stop][fine] * symbol[fine] ** order

    for_blocks(task, len(s_y), threads=threads, block=_ROWS)
    return out


def fine_power(coefficients: Real, *, threads: int | None = None) -> Real:
    """Return the power (ring,) of cosine coefficients (y, x) over rings of high frequencies."""
    power: Real = _over_rings(coefficients, _FINE, threads)[2]
    return power


def power_over_rings(coefficients: Real, other: Real | None = None, *, threads: int | None = None) -> Real:
    """Return the power (ring,) of cosine coefficients (y, x), or their product with others, over rings."""
    power: Real = _over_rings(coefficients, _rings(coefficients), threads, other)[2]
    return power


def _rings(coefficients: Real) -> Real:
    return np.geomspace(_LOWEST * np.pi / min(coefficients.shape), _HIGHEST, _RINGS + 1)


def _over_rings(coefficients: Real, edges: Real, threads: int | None, other: Real | None = None) -> Real:
    """Sum 1, the frequency, and the power (or product with others) over rings between edges: (3, ring)."""
    s_y, s_x = (4 * np.sin(k / 2) ** 2 for k in frequencies(coefficients.shape))
    blocks = -(-len(s_y) // _ROWS)
    sums = np.empty((blocks, 3, len(edges) + 1))

    def task(start: int, stop: int) -> None:
        symbol = np.sqrt(s_y[start:stop, None] + s_x).ravel()
        ring = np.digitize(symbol, edges)
        power = coefficients[start:stop].astype(np.float64).ravel()
        power *= power if other is None else other[start:stop].ravel()
        for out, values in zip(sums[start // _ROWS], (None, symbol, power), strict=True):
            out[:] = np.bincount(ring, values, len(edges) + 1)

    for_blocks(task, len(s_y), threads=threads, block=_ROWS)
    total: Real = sums.sum(axis=0)[:, 1:-1]
    return total


def _smoothed(values: Real) -> Real:
    """Return the geometric mean over five rings, because rings of low frequency have few modes."""
    kernel = np.ones(5)
    sums: Real = np.convolve(np.log(values), kernel, "same") / np.convolve(
        np.ones_like(values), kernel, "same"
    )
    return np.exp(sums)


def _along(radius: Real, values: Real, centres: Real) -> Real:
    """Return the mean over directions at given frequencies."""
    edges = np.linspace(0.0, radius.max() * (1 + 1e-9), 97)
    ring = np.digitize(radius.ravel(), edges) - 1
    counts = np.bincount(ring, minlength=96)
    used = counts > 0
    middle = np.bincount(ring, radius.ravel(), 96)[used] / counts[used]
    mean = np.bincount(ring, values.ravel(), 96)[used] / counts[used]
    return np.interp(centres, middle[1:], mean[1:])
