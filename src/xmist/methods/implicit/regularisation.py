"""`ridge="auto"` and `cutoff_length="auto"`: both chosen from the frames, for the implicit methods.

**Ridge.** Alloo & Morgan 2025, "Stabilizing Laplacian inversion in Fokker–Planck image retrieval using the
transport-of-intensity equation", Phys. Scr. 100 075566 (arXiv:2412.15513), take the parameter whose phase
agrees best with one that is known to be stable, that of a single material. That needs δ/β and attenuation;
here the stable images come from the same equations, averaged over 8 pixels (Gaussian σ): hardly any pixel is
ill-determined then, and what the average removes is missing for every candidate alike. Of the ridges 0 and
10⁻⁴ to 3 the one is taken whose images x agree best, over all channels c,

    Σ_c ln (‖x_c − x̄_c‖²/‖x̄_c‖²) = min,

φ and T once more averaged over 8 pixels, because their errors are wide and the detail that the stable images
lack would hide them; D as it is, because its noise is fine. In a sum of logarithms no channel improves at a
larger relative cost of another: a ridge that halves the error of D may not double that of φ. Cross-validation
under-regularises: neighbours share the sample's granular contrast, which is then predicted too. A ridge with
which φ or T disagree more than twice as much as they need is not taken either, because pulling them to 0
gives the least noisy D.

**Cut-off.** With c the curvature's cosine coefficients, ν their noise and F = κ⁴/(κ⁴ + ε⁴), the error of the
phase is estimated without bias (Stein 1981, Ann. Stat. 9 1135) by

    Σ_κ [(1 − F)² c² + (2F − 1) ν]/κ⁴

and its minimum over ε is taken; no cut-off if none lowers it. ν is read, over rings of frequencies, from the
difference of the curvatures of both halves of the positions. That noise includes what the method neglects,
but not what all positions share. Where a half has fewer positions than there are unknowns it is too noisy for
that (at N = 2 it made φ worse), and the plain inverse is used.

Both choices are deterministic and recorded in `provenance["regularisation"]`. For a series of projections
take them from one projection and give them as options, so that all are treated alike.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.core.arrays import Image
from xmist.core.experiment import Experiment
from xmist.methods.implicit.pixelwise import PixelwiseSystem
from xmist.numerics.compiled import jit
from xmist.numerics.images.smooth import gaussian
from xmist.numerics.solvers import least_squares
from xmist.numerics.solvers.integrate import integrate
from xmist.numerics.solvers.least_squares import TOO_FEW
from xmist.numerics.solvers.poisson import dct2, inverse_laplacian, screened

Real = NDArray[Any]

_STABLE: Final = 8.0  # Gaussian σ in pixels of the stable images
_DEAREST: Final = 2.0  # times the least disagreement of φ and of T, at most
_RIDGES: Final = (0.0, *(10.0 ** (exponent / 2) for exponent in range(-8, 2)))
_CUTOFFS: Final = 12  # octaves below four times the longer side, by halves
_RING: Final = 64  # waves
_PER_OCTAVE: Final = 32  # rings of κ²


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Which images of the unknowns are compared."""

    curvature: bool  # the first unknown is ∇²ψ, compared as ψ; else a deficit 1 − G, compared as 1 − T
    length2: float = 0.0  # ℓ² in pixels² of the screened Poisson equation from G to T; 0 for none
    shift: slice | None = None  # unknowns that are a shift ∇ψ, compared as ψ
    groups: Sequence[slice] = (slice(1, None),)  # the other unknowns, one for each channel

    @property
    def wide(self) -> int:
        """Number of the first channels, which are φ and T."""
        return 1 if self.shift is None else 2

    def images(self, unknowns: Real, threads: int) -> list[Real]:
        """Return an image or a stack for each channel, from finite (unknown, y, x) in pixel units."""
        first = unknowns[0].copy()
        if self.curvature:
            first = inverse_laplacian(first, overwrite=True, threads=threads)
        elif self.length2 > 0.0:
            first = screened(first, self.length2, threads=threads)
        wide = [first]
        if self.shift is not None:
            wide.append(integrate(unknowns[self.shift], threads=threads))
        for image in wide:
            gaussian(image[None], _STABLE, threads=threads)
        return [*wide, *(unknowns[group] for group in self.groups)]


def choose(
    equations: PixelwiseSystem,
    frames: Image,
    weights: Real | None,
    comparison: Agreement,
    wanted: Collection[str],
) -> tuple[PixelwiseSystem, float | None]:
    """Choose "ridge" and, where a curvature is inverted, "cutoff_length" for one projection.

    `frames` and `weights` are (position, y, x) as of `PixelwiseSystem.take`. Returned are the equations with
    the ridge and ε of the inverse Laplacian in rad per pixel, None for the plain inverse.
    """
    threads, reference = equations.threads, equations.reference.frames
    matrix, rhs, status = least_squares.normal_equations(
        reference, frames, equations.system, weights=weights, needed=equations.needed, threads=threads
    )
    hole = (status & TOO_FEW) > 0
    if hole.all():  # the solve reports the error
        return equations, None
    ridge = equations.ridge
    if "ridge" in wanted:
        averaged = matrix.copy(), rhs.copy()
        for images in averaged:
            gaussian(images, _STABLE, threads=threads)
        stable = comparison.images(_solved(*averaged, hole, 0.0, threads), threads)
        del averaged
    for images in (matrix, rhs):
        equations.average(images)
    if "ridge" in wanted:
        ridge = _agreeing_ridge(equations, matrix, rhs, hole, comparison, stable)
    half = len(frames) // 2
    epsilon = None
    if "cutoff_length" in wanted and comparison.curvature and half >= equations.system.unknowns:
        curvature = _solved(matrix, rhs, hole, ridge, threads)[0]
        del matrix, rhs
        halves = []
        for part in (slice(half), slice(half, 2 * half)):
            matrix, rhs, status = least_squares.normal_equations(
                reference[part],
                frames[part],
                equations.system,
                weights=None if weights is None else weights[part],
                threads=threads,
            )
            for images in (matrix, rhs):
                equations.average(images)
            unseen = hole | ((status & TOO_FEW) > 0)
            halves.append(_solved(matrix, rhs, unseen, ridge / 2, threads)[0])
        epsilon = choose_cutoff(curvature, *halves, threads=threads)
    return replace(equations, ridge=ridge), epsilon


def _agreeing_ridge(
    equations: PixelwiseSystem,
    matrix: Real,
    rhs: Real,
    hole: NDArray[np.bool_],
    comparison: Agreement,
    stable: list[Real],
) -> float:
    """Return the absolute ridge whose images agree best with the stable ones."""
    threads = equations.threads
    logarithms = np.array(
        [
            _disagreements(
                comparison.images(
                    _solved(matrix, rhs, hole, ridge * equations.mean_diagonal, threads), threads
                ),
                stable,
                hole,
            )
            for ridge in _RIDGES
        ]
    )
    wide = logarithms[:, : comparison.wide]
    allowed = (wide <= wide.min(axis=0) + 2.0 * math.log(_DEAREST)).all(axis=1)
    if not allowed.any():  # φ and T need very different ridges
        allowed[:] = True
    best = int(np.argmin(np.where(allowed, logarithms.sum(axis=1), np.inf)))
    ridge: float = _RIDGES[best] * equations.mean_diagonal
    return ridge


def _solved(matrix: Real, rhs: Real, hole: NDArray[np.bool_], ridge: float, threads: int) -> Real:
    """Solve without changing the sums; 0, no object, where too few positions see a pixel."""
    out, status = rhs.copy(), np.zeros(hole.shape, np.uint8)
    least_squares.solve_normal_equations(matrix, out, status, ridge=ridge, threads=threads)
    out[:, hole | ~np.isfinite(out).all(axis=0)] = 0.0
    return out


def _disagreements(images: list[Real], stable: list[Real], hole: NDArray[np.bool_]) -> list[float]:
    """Return ln (‖x − x̄‖²/‖x̄‖²) of each channel."""

    def logarithm(image: Real) -> float:
        square = np.square(image, dtype=np.float64)
        return math.log(max(float(square[..., ~hole].sum()), 1e-300))

    return [logarithm(x - y) - logarithm(y) for x, y in zip(images, stable, strict=True)]


def choose_cutoff(curvature: Image, one: Image, other: Image, *, threads: int | None) -> float | None:
    """Return the ε in rad per pixel for which −κ²/(κ⁴ + ε⁴) inverts a Laplacian with the least error.

    `one` and `other` are the same from either half of the positions, whose noise is independent. None: the
    plain inverse is estimated to be best.

    Examples
    --------
    >>> noise = np.random.default_rng(1).normal(size=(2, 32, 32)).astype(np.float32)
    >>> choose_cutoff(noise.mean(axis=0), *noise, threads=1) > 0.1
    True
    >>> choose_cutoff(noise[0], noise[0], noise[0], threads=1) is None
    True
    """
    signal = dct2(np.array(curvature, np.float64), threads=threads) ** 2
    noise = dct2((np.asarray(one, np.float64) - other) / 2.0, threads=threads) ** 2
    kappa_y, kappa_x = (np.pi * np.arange(size) / size for size in signal.shape)
    kappa4 = (kappa_y[:, None] ** 2 + kappa_x**2) ** 2
    # Rings of equally many waves, so that the noise of the few longest, which decide, is an average.
    order = np.argsort(kappa4, axis=None, kind="stable")[1:]
    for ring in np.array_split(order, max(1, order.size // _RING)):
        noise.flat[ring] = noise.flat[ring].mean()
    return least_cutoff(signal, noise)


@jit
def _ring_sums(signal, noise, k_y, k_x, sums):  # type: ignore[no-untyped-def]
    """Sum waves of nearly the same κ: number, κ⁴, power and noise over κ⁴, variance of both over κ⁸."""
    shortest = np.log2(k_y[-1] + k_x[-1])
    for y in range(len(k_y)):
        for x in range(len(k_x)):
            square = k_y[y] + k_x[x]
            if square > 0.0:  # the mean is not inverted
                ring = sums[np.int64(_PER_OCTAVE * (shortest - np.log2(square)))]
                fourth, s, n = square**2, np.float64(signal[y, x]), np.float64(noise[y, x])
                ring[0] += 1.0
                ring[1] += fourth
                ring[2] += s / fourth
                ring[3] += n / fourth
                ring[4] += (2.0 * n**2 + 4.0 * n * max(s - n, 0.0)) / fourth**2


def least_cutoff(signal: Real, noise: Real, *, cautious: bool = False) -> float | None:
    """Return the ε of `choose_cutoff` from the power (y, x) of each wave of ∇²ψ, and what noise has of it.

    Waves that differ by 1 % in κ count as one.
    """
    k_y, k_x = ((np.pi * np.arange(size) / size) ** 2 for size in signal.shape)
    longest = 4.0 * max(signal.shape)
    sums = np.zeros((2 + int(_PER_OCTAVE * 2 * math.log2(longest)), 5))
    _ring_sums(signal, noise, k_y, k_x, sums)
    sums = sums[sums[:, 0] > 0.0]
    number, fourth, power, expected, variance = sums.T
    kappa4 = fourth / number

    def change(epsilon: float) -> float:
        """Return the estimated error, minus that without cut-off."""
        stopped = 1.0 / (1.0 + kappa4 / epsilon**4)
        found = float((stopped**2 * power - 2.0 * stopped * expected).sum())
        # Few waves decide: a change counts by what it is for certain, one standard error less.
        return found + math.sqrt(float((stopped**4 * variance).sum())) if cautious else found

    candidates = [2.0 * np.pi / longest * 2.0 ** (step / 2.0) for step in range(2 * _CUTOFFS)]
    changes = [change(epsilon) for epsilon in candidates]
    best = int(np.argmin(changes))
    return float(candidates[best]) if changes[best] < 0.0 else None


def cutoff_of(epsilon: float | None, experiment: Experiment) -> float | None:
    """Return the cut-off length in metres that has this ε in rad per pixel."""
    return None if epsilon is None else 2.0 * math.pi * experiment.effective_pixel / epsilon
