"""Standard deviations of a fit: the spread of solutions for perturbed data, and the error of the model.

A solution of (AᵀWA + P) δ = AᵀW e + P^½ z, with e of the residual's local variance (module `noise`) and z
white, has the covariance of the posterior. Half of the solves are for e, half for z.

The model is in error by more: granular contrast of the sample is alike at every position, and the residual
does not show what of it is in the images. Its size in d is read from the finest structure of d, which the
prior on d holds to be noise. Let v be its power over that of noise of the residual's level: the variance of
the model's error holds (v − 1) times half of the posterior's. To this come, for each image, what errors in
amplitude and of second order make: parts of d², ln² T, ψ², rough ψ² and the slope of ψ to the fourth power.
The factors were found on simulated experiments (docs/full-field.md, "Uncertainty"), but for the part of ln² T
in ψ: bent rays displace the attenuation (`xmist.numerics.operators.parallax`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from xmist.core.arrays import Image
from xmist.methods.full_field.noise import right_of_noise
from xmist.methods.full_field.prior_strengths import border_polynomial
from xmist.methods.full_field.problem import SMOOTH, Fit, FitData, Problem
from xmist.numerics.operators.derivatives import DX, DY, derivative
from xmist.numerics.operators.roughness import random_force
from xmist.numerics.operators.transport import D_XX, D_YY, LOG_T, PSI, D
from xmist.numerics.solvers.poisson import smoothed
from xmist.numerics.solvers.preconditioner import Prior, moments
from xmist.numerics.solvers.prior_strength import fine_power
from xmist.numerics.solvers.whole_image import Right, empty_pixels, to_cosines

Real = NDArray[Any]

_SMOOTHED_DRAWS: Final = 64  # with fewer draws the variance is smoothed
_LOCAL: Final = 4.0  # σ in pixels over which the noise level is taken
_ROWS: Final = 64
# The variance of the model's error: part of (v − 1) times the posterior's, of d, ...
_EXCESS: Final = 0.5
# ... and, in pixel units, parts of the squares of d, of ψ without what crosses the border (over N, and times
# the square of the speckles' variance), of rough ψ, and of ln T (over N), and of the slope of ψ to the fourth
# power.
_D_BY_D: Final = 0.35
_PSI_BY_PSI: Final = 1.4e-4
_PSI_BY_CONTRAST: Final = 7.5e-4
_PSI_BY_ROUGH: Final = 0.06
# Mean square of the part by which bent rays displace ln T: where it is not known, it is evenly likely from 0
# to 1; where it was found, that of its error.
_PART_UNKNOWN: Final = 1.0 / 3.0
_PART_FOUND: Final = 0.02
_LOG_T_BY_LOG_T: Final = 8e-4
_LOG_T_BY_SLOPE: Final = 3.3e-4


@dataclass(frozen=True, eq=False)
class Deviation:
    """Standard deviation (y, x) of an unknown, and the part of it by noise of the data."""

    total: Image
    noise: Image


@dataclass(frozen=True, eq=False)
class Spread:
    """Mean squares over solves by channel (y, x), and the power of d (ring,) over high frequencies."""

    squares: dict[str, Image]
    fine: Real


def standard_deviations(
    found: Fit, problem: Problem, data: FitData, *, draws: int, seed: int, lost: NDArray[np.bool_]
) -> dict[str, Deviation]:
    """Return standard deviations (y, x) in pixel units from a number of perturbed solves.

    Of ψ (without its mean where nothing fixes it) as "phase", of d (trace/2 of a tensor) as "dark_field" and
    of ln T as "transmission", where they were fitted. `lost` (y, x): pixels that nothing determined.
    """
    transport, kinds, weights = found.transport, found.transport.kinds, found.weights
    positions = len(found.residual)
    # The unknown ψ takes up about one position's worth of noise.
    correction = positions / max(positions - 1.0, 0.5)
    shape = (int(weights.shape[1]), int(weights.shape[2]))
    square, total = (np.zeros(shape, np.float32) for _ in range(2))
    for image, weight in zip(found.residual, weights, strict=True):
        square += np.square(image) * weight
        total += weight
    sigma = gaussian_filter(square, _LOCAL, mode="reflect")
    sigma /= np.maximum(gaussian_filter(total, _LOCAL, mode="reflect"), np.float32(1e-9))
    sigma *= np.float32(correction)
    np.sqrt(sigma, out=sigma)
    level = float(np.sqrt(correction * square.sum(dtype=np.float64) / total.sum(dtype=np.float64)))
    constant = level**2 * float(total.sum(dtype=np.float64))
    del square, total
    solver = problem.solver(transport, found.priors)
    transmission = np.exp(found.fields[kinds.index(LOG_T)]) if LOG_T in kinds else None

    def noise(random: np.random.Generator) -> Right:
        return right_of_noise(
            random, data.reference, sigma, data.spectra, transport, transmission=transmission
        )

    def prior(random: np.random.Generator) -> Right:
        out = np.zeros((len(kinds), *shape), np.float32)
        for image, one in zip(out, found.priors, strict=True):
            if one.natural:
                force = random_force(
                    random,
                    empty_pixels(weights, shape),
                    inside=one.strength,
                    empty=max(one.strength, one.empty),
                )
                image += np.float32(level) * to_cosines(force[None], threads=transport.threads)[0]
            else:
                _pull(random, image, one, level)
        return Right(coefficients=out, constant=constant)

    def spread(right: Any, numbers: range) -> Spread:
        squares: dict[str, Image] = {}
        fine: Real = np.zeros(())
        for draw in numbers:
            delta, _ = solver(
                right(np.random.default_rng([seed, draw])),
                negligible=lambda objective: 1e-3 * objective / positions,
                relative=1e-9,
            )
            if not problem.zero_is_known:  # else its spread counts
                psi = delta[kinds.index(PSI)]
                psi -= np.float32(psi.mean(dtype=np.float64, where=~lost))
            for name, image in _by_channel(delta, kinds).items():
                squares[name] = squares.get(name, np.float32(0.0)) + np.square(image)
            fine = fine + _fine(delta, kinds, transport.threads)
        smooth = SMOOTH if draws < _SMOOTHED_DRAWS else 0.0
        for name, image in squares.items():
            squares[name] = gaussian_filter(image / np.float32(len(numbers)), smooth, mode="reflect")
        return Spread(squares, fine / len(numbers))

    middle = (draws + 1) // 2 if any(one.strength > 0.0 or one.empty > 0.0 for one in found.priors) else draws
    of_noise = spread(noise, range(middle))
    of_prior = spread(prior, range(middle, draws)) if middle < draws else None
    posterior = {
        name: image if of_prior is None else image + of_prior.squares[name]
        for name, image in of_noise.squares.items()
    }
    model = _model_error(found, problem, data, posterior, of_noise.fine)
    return {
        name: Deviation(total=np.sqrt(image + model[name]), noise=np.sqrt(of_noise.squares[name]))
        for name, image in posterior.items()
    }


def _by_channel(fields: Real, kinds: tuple[int, ...]) -> dict[str, Image]:
    """Return ψ, d (trace/2 of a tensor) and ln T (y, x) by channel, where they are among the fields."""
    by_kind = dict(zip(kinds, fields, strict=True))
    out = {"phase": by_kind[PSI]}
    if D in by_kind:
        out["dark_field"] = by_kind[D]
    elif D_XX in by_kind:
        out["dark_field"] = np.float32(0.5) * (by_kind[D_XX] + by_kind[D_YY])
    if LOG_T in by_kind:
        out["transmission"] = by_kind[LOG_T]
    return out


def _fine(fields: Real, kinds: tuple[int, ...], threads: int | None) -> Real:
    """Return the power of d over rings of high frequencies, 0 without one."""
    image = _by_channel(fields, kinds).get("dark_field")
    if image is None:
        return np.zeros(())
    return fine_power(to_cosines(image[None].copy(), threads=threads)[0], threads=threads)


def _model_error(
    found: Fit, problem: Problem, data: FitData, posterior: dict[str, Image], noise: Real
) -> dict[str, Image]:
    """Return the variance of the model's error (y, x) by channel; `noise`: fine power of d of noise alone."""
    kinds, threads = found.transport.kinds, found.transport.threads
    fields = _by_channel(found.fields, kinds)
    psi, log_t = fields["phase"], fields.get("transmission", np.zeros((), np.float32))
    inner = psi if problem.zero_is_known else psi - border_polynomial(psi)
    smooth = smoothed(inner, SMOOTH, threads=threads)
    slope = sum(np.square(derivative(smooth, kind, threads=threads)) for kind in (DX, DY))
    amplitude = 1.0 / len(found.residual)
    contrast = sum(float(frame.var(dtype=np.float64)) for frame in data.reference)
    displaced = contrast / (moments(data.reference, threads=threads).slope or 1.0)  # pixels² of ψ for ln T
    part = _PART_FOUND if found.parallax > 0.0 else _PART_UNKNOWN
    squares = {
        "phase": (amplitude * _PSI_BY_PSI + _PSI_BY_CONTRAST * (amplitude * contrast) ** 2) * np.square(inner)
        + _PSI_BY_ROUGH * gaussian_filter(np.square(inner - smooth), _LOCAL, mode="reflect")
        + part * displaced**2 * np.square(log_t),
        "transmission": amplitude * _LOG_T_BY_LOG_T * np.square(log_t) + _LOG_T_BY_SLOPE * np.square(slope),
    }
    if "dark_field" in fields:
        dark = gaussian_filter(fields["dark_field"], _LOCAL, mode="reflect")
        squares["dark_field"] = _D_BY_D * np.square(dark)
        if np.all(noise > 0.0):
            ratios = _fine(found.fields, kinds, threads) / noise
            excess = float(np.exp(np.log(np.maximum(ratios, 1e-9)).mean()))
            squares["dark_field"] += _EXCESS * max(excess - 1.0, 0.0) * posterior["dark_field"]
    return {name: np.asarray(squares[name], np.float32) for name in posterior}


def _pull(random: np.random.Generator, image: Real, prior: Prior, level: float) -> None:
    """Add P^½ z to cosine coefficients, some rows at a time."""
    height, width = image.shape
    for start in range(0, height, _ROWS):
        rows = slice(start, min(start + _ROWS, height))
        drawn = random.standard_normal((rows.stop - start, width))
        image[rows] += level * np.sqrt(prior.precision((height, width), rows)) * drawn
