"""`regularisation="auto"`: ridge and cut-off of the implicit methods, chosen from the frames.

**Ridge.** Alloo & Morgan 2025, "Stabilizing Laplacian inversion in Fokker–Planck image retrieval using the
transport-of-intensity equation", Phys. Scr. 100 075566 (arXiv:2412.15513), take the parameter whose phase
agrees best with one that is known to be stable, that of a single material. That needs δ/β and attenuation;
here the stable images come from the same equations, averaged over 8 pixels (Gaussian σ): next to no pixel is
ill-determined then, and what is averaged away is as much lost to every candidate. Of the ridges 0 and 10⁻⁴ to
3 the one is taken whose images x agree best, over all channels c,

    Σ_c ln (‖x_c − x̄_c‖²/‖x̄_c‖²) = min,

φ and T once more averaged over 8 pixels, since their errors are wide and the detail that the stable ones lack
would hide them; D as it is, since its noise is fine. A sum of logarithms lets no channel be bought at a
dearer price of another: a ridge that halves the error of D may not double that of φ. Predicting pixels that
were held out would ask for too little: neighbours share the sample's granular contrast, which is then
predicted too. Nor is a ridge taken with which φ or T disagree more than twice as much as they need, for
pulling them to nothing gives the stillest D.

**Cut-off.** With c the curvature's cosine coefficients, ν their noise and F = κ⁴/(κ⁴ + ε⁴), the error of the
phase is estimated without bias (Stein 1981, Ann. Stat. 9 1135) by

    Σ_κ [(1 − F)² c² + (2F − 1) ν]/κ⁴

whose least over ε is taken; no cut-off if none lowers it. ν is read, over rings of frequencies, from the
difference of the curvatures of both halves of the exposures. That noise comprises what the method neglects,
but not what all exposures share. Where a half would have fewer exposures than unknowns it would be far too
noisy a judge (at N = 2 it made φ worse), and the plain inverse stays.

Both choices are deterministic and recorded in `provenance["regularisation"]`. For a series of projections
take them from one projection and give them as options, so that all are treated alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xmist.core.arrays import Image
from xmist.core.errors import as_number
from xmist.core.experiment import Experiment
from xmist.methods.implicit.pixelwise import PixelwiseSystem
from xmist.numerics.images.smooth import gaussian
from xmist.numerics.solvers import least_squares
from xmist.numerics.solvers.integrate import integrate
from xmist.numerics.solvers.least_squares import ILL_LIMIT, TOO_FEW
from xmist.numerics.solvers.poisson import dct2, inverse_laplacian, screened

Real = NDArray[Any]

AUTOMATIC: Final = (None, "auto")
_STABLE: Final = 8.0  # Gaussian σ in pixels of the stable images
_DEAREST: Final = 2.0  # times the least disagreement of φ and of T that a better D may cost
_RIDGES: Final = (0.0, *(10.0 ** (exponent / 2) for exponent in range(-8, 2)))
_CUTOFFS: Final = 12  # octaves below four times the longer side, by halves
_RING: Final = 64  # waves


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Which images of the unknowns are compared.

    Parameters
    ----------
    curvature : bool
        Whether the first unknown is a curvature ∇²ψ, compared as ψ; else it is a deficit 1 − G, compared as
        1 − T.
    length2 : float
        ℓ² in pixels² of the screened Poisson equation from G to T; 0 for none.
    shift : slice, optional
        Unknowns that are a shift ∇ψ, compared as ψ.
    groups : sequence of slice
        The other unknowns, a channel each.
    """

    curvature: bool
    length2: float = 0.0
    shift: slice | None = None
    groups: Sequence[slice] = (slice(1, None),)

    @property
    def wide(self) -> int:
        """How many of the first channels are φ and T."""
        return 1 if self.shift is None else 2

    def images(self, unknowns: Real, threads: int) -> list[Real]:
        """Give an image, or a stack of images, a channel.

        Parameters
        ----------
        unknowns : (unknowns, y, x) array
            In pixel units, finite.
        threads : int
            Threads.
        """
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


def contradictions(options: Any, *names: str) -> list[tuple[bool, str]]:
    """Say which options `regularisation="auto"` leaves no room for.

    Parameters
    ----------
    options : dataclass instance
        Options of a method.
    *names : str
        Those of "ridge" and "cutoff_length" that it has.
    """
    automatic = isinstance(options.regularisation, str) and options.regularisation == "auto"
    given = [name for name in names if as_number(getattr(options, name)) not in (None, 0.0)]
    return [
        (
            automatic and bool(given),
            f"options regularisation and {' and '.join(given)} are given; expected one or the other, for "
            "'auto' chooses what it is given",
        )
    ]


def choose(
    equations: PixelwiseSystem, sample: ArrayLike, weights: ArrayLike | None, comparison: Comparison
) -> tuple[PixelwiseSystem, float | None]:
    """Choose the ridge and, where a curvature is inverted, the cut-off for one projection.

    Parameters
    ----------
    equations : PixelwiseSystem
        Prepared without a ridge.
    sample : (position, y, x) array_like
        Frames with the sample.
    weights : (position, y, x) array_like or None
        Weights that multiply those of the reference.
    comparison : Comparison
        What is compared.

    Returns
    -------
    equations : PixelwiseSystem
        With the ridge.
    epsilon : float or None
        ε of the inverse Laplacian in rad per pixel; None for the plain inverse.

    Raises
    ------
    InputError
        If the frames do not fit the reference.
    """
    frames, combined, _ = equations.take(sample, weights)
    threads, reference = equations.threads, equations.reference.frames
    matrix, rhs, status = least_squares.normal_equations(
        reference, frames, equations.system, weights=combined, threads=threads
    )
    hole = (status & TOO_FEW) > 0
    if hole.all():  # the solve will say what is wrong
        return equations, None
    averaged = matrix.copy(), rhs.copy()
    for images in averaged:
        gaussian(images, _STABLE, threads=threads)
    stable = comparison.images(_solved(*averaged, hole, 0.0, threads), threads)
    del averaged
    for images in (matrix, rhs):
        gaussian(images, equations.smoothing, threads=threads)
    unit = float(equations.floors.mean() / ILL_LIMIT)  # mean diagonal
    logarithms = np.array(
        [
            _disagreements(
                comparison.images(_solved(matrix, rhs, hole, ridge * unit, threads), threads), stable, hole
            )
            for ridge in _RIDGES
        ]
    )
    wide = logarithms[:, : comparison.wide]
    allowed = (wide <= wide.min(axis=0) + 2.0 * math.log(_DEAREST)).all(axis=1)
    if not allowed.any():  # φ and T want ridges far apart
        allowed[:] = True
    ridge = _RIDGES[int(np.argmin(np.where(allowed, logarithms.sum(axis=1), np.inf)))] * unit
    half = len(frames) // 2
    epsilon = None
    if comparison.curvature and half >= equations.system.unknowns:
        curvature = _solved(matrix, rhs, hole, ridge, threads)[0]
        del matrix, rhs
        halves = []
        for part in (slice(half), slice(half, 2 * half)):
            matrix, rhs, status = least_squares.normal_equations(
                reference[part],
                frames[part],
                equations.system,
                weights=None if combined is None else combined[part],
                threads=threads,
            )
            for images in (matrix, rhs):
                gaussian(images, equations.smoothing, threads=threads)
            unseen = hole | ((status & TOO_FEW) > 0)
            halves.append(_solved(matrix, rhs, unseen, ridge / 2, threads)[0])
        epsilon = choose_cutoff(curvature, *halves, threads=threads)
    return replace(equations, ridge=ridge), epsilon


def _solved(matrix: Real, rhs: Real, hole: NDArray[np.bool_], ridge: float, threads: int) -> Real:
    """Solve without touching the sums; 0, no object, where too few exposures see a pixel."""
    out, status = rhs.copy(), np.zeros(hole.shape, np.uint8)
    least_squares.solve_normal_equations(matrix, out, status, ridge=ridge, threads=threads)
    out[:, hole | ~np.isfinite(out).all(axis=0)] = 0.0
    return out


def _disagreements(images: list[Real], stable: list[Real], hole: NDArray[np.bool_]) -> list[float]:
    """Give ln (‖x − x̄‖²/‖x̄‖²) of each channel."""

    def logarithm(image: Real) -> float:
        square = np.square(image, dtype=np.float64)
        return math.log(max(float(square[..., ~hole].sum()), 1e-300))

    return [logarithm(x - y) - logarithm(y) for x, y in zip(images, stable, strict=True)]


def choose_cutoff(curvature: Image, one: Image, other: Image, *, threads: int | None) -> float | None:
    """Choose the ε with which −κ²/(κ⁴ + ε⁴) inverts a Laplacian with the least estimated error.

    Parameters
    ----------
    curvature : (y, x) float array
        What is inverted, per pixel².
    one, other : (y, x) float array
        The same from either half of the exposures, whose noise is independent.
    threads : int or None
        Threads; the result does not depend on it.

    Returns
    -------
    float or None
        ε in rad per pixel; None if the plain inverse is estimated to be best.

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
    kappa4[0, 0] = np.inf  # the mean is not inverted

    def change(epsilon: float) -> float:
        """Give the estimated error, less that without cut-off."""
        stopped = 1.0 / (1.0 + kappa4 / epsilon**4)
        stopped[0, 0] = 0.0
        return float(((stopped**2 * signal - 2.0 * stopped * noise) / kappa4).sum())

    longest = 4.0 * max(signal.shape)
    candidates = [2.0 * np.pi / longest * 2.0 ** (step / 2.0) for step in range(2 * _CUTOFFS)]
    changes = [change(epsilon) for epsilon in candidates]
    best = int(np.argmin(changes))
    return float(candidates[best]) if changes[best] < 0.0 else None


def chosen(
    equations: PixelwiseSystem | None, epsilon: float | None, experiment: Experiment
) -> dict[str, float | None]:
    """Give what was chosen as it is recorded: as the options that would give the same.

    Parameters
    ----------
    equations : PixelwiseSystem or None
        With the ridge, if one was chosen.
    epsilon : float or None
        ε in rad per pixel.
    experiment : Experiment
        Geometry.
    """
    record: dict[str, float | None] = {
        "cutoff_length": None if epsilon is None else 2.0 * math.pi * experiment.effective_pixel / epsilon
    }
    if equations is not None:
        record["ridge"] = float(equations.ridge / (equations.floors.mean() / ILL_LIMIT))
    return record
