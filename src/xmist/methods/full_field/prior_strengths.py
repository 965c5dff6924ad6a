"""The quadratic priors on ψ, d and ln T, and how their strengths are chosen.

`PriorStrengths` is all that the other steps use: the priors to begin with (`initial`), the outer steps after
which strengths are chosen (`steps`), and the choice itself (`noise_rights` and `noise_response` before a
solve, `choose` after it). The strength for d is read from an estimate with a prior of a fixed strength and
from what white noise gives, such that the expected error is least; those for ln T and ψ from the spectrum of
a weakly regularised estimate, next to that of drawn noise (`xmist.numerics.solvers.prior_strength`).

The prior on ψ is its roughness, for which a tilt, a defocus and an astigmatism cost nothing. For one position
it acts everywhere: one frame determines ψ so far that without a prior noise decides the rest. For more
positions it acts in the margin alone. Inside, ψ must be free to take up the granular contrast of the
sample, which d would take up otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

from xmist.core.arrays import Image
from xmist.methods.full_field.noise import right_of_noise, white_right
from xmist.numerics.images.denoise import ImageSpectrum
from xmist.numerics.images.margin import Margined
from xmist.numerics.operators.finite_model import Residual
from xmist.numerics.operators.transport import D_XX, D_XY, D_YY, LOG_T, PSI, D, Transport
from xmist.numerics.reduce import dot
from xmist.numerics.solvers.preconditioner import Moments, Prior, moments
from xmist.numerics.solvers.prior_strength import (
    ALIKE,
    ORDER,
    estimate_strength,
    fine_waves,
    least_error_strength,
    power_over_rings,
)
from xmist.numerics.solvers.whole_image import Right, to_cosines
from xmist.numerics.weights import Images

Real = NDArray[Any]

_CROSSING: Final = 0.35  # rad per pixel at which the first, weak prior outweighs the data
# Outer steps after whose solve strengths are chosen. That for d: after the first. That for ln T: after each,
# in the end from an estimate with a prior of about its own strength.
_STEPS: Final = (1, 2)
_STEPS_AGAIN: Final = (0,)  # the same, where they are known from a similar fit
# Strength for d before it is chosen: about the best constant one for simulated experiments. The choice
# depends on it only where the data say little.
_FIRST: Final = 10.0
_LOCAL: Final = 4.0  # σ in pixels over which the noise level is taken
# Least strength that may be read for ln T, relative to the first: where ψ can make up for ln T, even a prior
# that is weak next to the data decides between the two.
_WEAKER: Final = 0.01
_WEAKER_D: Final = 0.05  # the same for d: with less, steps from no sample diverge
_LEAST_D: Final = (
    0.3  # the same, absolute: at faint speckles the first is far weaker than any that was the best
)
# Part of the sum of d² from negative d above which d shows mostly errors, and the least strength then.
_NEGATIVE: Final = 0.05
_CAUTIOUS: Final = 20.0
# Times the strength of least expected error: too weak a prior costs more than too strong a one.
_STRONGER: Final = 1.2
_STRONGEST: Final = 1e6  # relative to the first
# Strengths of the prior on ψ, relative to Σ_n ⟨w I²⟩: the first one for one position, and that in a margin.
_PHASE: Final = 0.01
_PHASE_OPEN: Final = 0.05  # the same where the border is open
_PHASE_BEYOND: Final = 0.1
_PHASE_STRONGEST: Final = 1e4  # relative to the first
_PHASE_ORDER: Final = 3.0
# The same of ψ and of ln T for one position with a transmission: their ratio decides which part of the flux
# belongs to each, and a spectrum cannot show it.
_PHASE_BESIDE: Final = 0.3
_TRANSMISSION_ALONE: Final = 30.0
_TRANSMISSION_ORDER: Final = 2.0
_RING: Final = 24  # pixels along the border, margin included, that determine the polynomial of ψ
_ALL: Final = (slice(None), slice(None))
_SEED: Final = 0
# Deviance by which another order has to be likelier than the first, a likelihood e¹⁰ times as great: no
# spectrum is a power of κ from end to end, and where it is not may decide between orders that are near.
_DECISIVE: Final = 20.0
_DARK: Final = (D, D_XX, D_XY, D_YY)


@dataclass(frozen=True, kw_only=True, eq=False)
class NoiseResponse:
    """The response of one unknown to noise alone.

    `power` (ring,): of a solve for it; `determined` (ring,): how many coefficients of d the data determine.
    """

    power: Real
    determined: Real | None = None


@dataclass(frozen=True, kw_only=True)
class PriorStrengths:
    """Priors of a fit and the choice of their strengths.

    `orders`: orders that the priors may have, the first to begin with. `fixed`: strengths that are given, by
    kind; None keeps the first one. `length2`: ℓ² in pixels² of a single material. `margin`: whether there are
    pixels around the frames.
    """

    orders: tuple[float, ...]
    fixed: Mapping[int, float | None]
    length2: float | None = None
    margin: bool = False

    def weak(self, transport: Transport) -> tuple[Prior, ...]:
        """Return priors far weaker than the data need."""
        moment = moments(transport.frames, transport.weights, threads=transport.threads)
        order = self.orders[0]
        scale = _CROSSING ** (-2.0 * order)
        floor = 1e-6 * moment.value
        information = {D: moment.curvature, D_XX: 0.375 * moment.curvature, D_YY: 0.375 * moment.curvature,
                       D_XY: 0.75 * moment.curvature, LOG_T: 0.1 * moment.value}  # fmt: skip
        if self.length2 is not None:
            information[LOG_T] = 0.0
            if len(transport.frames) == 1:
                # One image separates D from the thickness of a material only as far as that is smooth. The
                # ratio of the two priors decides; a spectrum cannot show it.
                information[LOG_T] = 0.01 * moment.value * (1.0 + self.length2 * _CROSSING**2) ** 2
                information |= {kind: 0.5 * information[kind] for kind in _DARK}
        alone = len(transport.frames) == 1 and self.length2 is None
        beside = alone and LOG_T in transport.kinds
        smooth = Prior(strength=_TRANSMISSION_ALONE * moment.value, order=_TRANSMISSION_ORDER, floor=floor)
        return tuple(
            self._phase_prior(moment, alone=alone, beside=beside)
            if kind == PSI
            else smooth
            if kind == LOG_T and beside
            else Prior()
            if information[kind] == 0.0
            else Prior(strength=information[kind] * scale, order=order, floor=floor)
            for kind in transport.kinds
        )

    def _phase_prior(self, moment: Moments, *, alone: bool, beside: bool) -> Prior:
        """Return the prior on ψ, `alone`: of one position, `beside`: with a transmission."""
        if not alone and not self.margin:
            return Prior()
        strength = _PHASE_BESIDE if beside else _PHASE_OPEN if self.margin else _PHASE
        return Prior(
            strength=strength * moment.value if alone else 0.0,
            order=_PHASE_ORDER,
            natural=True,
            empty=_PHASE_BEYOND * moment.value if self.margin else 0.0,
        )

    def initial(self, weak: tuple[Prior, ...], kinds: tuple[int, ...]) -> tuple[Prior, ...]:
        """Return the priors to begin with: of the given strength, the first one for d, or weak."""
        out = []
        for kind, prior in zip(kinds, weak, strict=True):
            strength = self.fixed.get(kind)
            if strength is None and self._is_chosen(prior, kind):
                strength = _of_order(_FIRST, kind, prior.order)
            out.append(prior if strength is None else replace(prior, strength=strength))
        return tuple(out)

    @staticmethod
    def known(first: tuple[Prior, ...], found: tuple[Prior, ...]) -> tuple[Prior, ...]:
        """Return the priors to begin with from those of a similar fit, `found`."""
        return tuple(
            replace(prior, strength=one.strength, order=one.order)
            for prior, one in zip(first, found, strict=True)
        )

    def weaker(self, priors: tuple[Prior, ...], kinds: tuple[int, ...], part: float) -> tuple[Prior, ...]:
        """Return priors with a part of the strengths for d that were chosen, but none below the least."""
        return tuple(
            replace(prior, strength=max(part * prior.strength, _of_order(_LEAST_D, kind, prior.order)))
            if self._is_chosen(prior, kind)
            else prior
            for kind, prior in zip(kinds, priors, strict=True)
        )

    def _is_chosen(self, prior: Prior, kind: int) -> bool:
        """Return whether a prior is one on d whose strength is not given."""
        return kind in _DARK and kind not in self.fixed and prior.strength > 0.0

    def credible(
        self,
        priors: tuple[Prior, ...],
        before: tuple[Prior, ...],
        *,
        kinds: tuple[int, ...],
        fields: Image,
        used: NDArray[np.bool_],
    ) -> tuple[Prior, ...]:
        """Return priors with stronger strengths for d where much of d is negative.

        Scattering only makes d positive. Where more than a part of 0.05 of the sum of d² is of negative d,
        the `fields` (unknown, y, x) show mostly errors, and the strength was read from these errors. It
        becomes at least what it was `before`, and at least 20 times the root of this part over 0.05. `used`
        (y, x): the pixels that count.
        """
        trace = np.zeros(used.shape)
        for field, kind in zip(fields, kinds, strict=True):
            if kind in (D, D_XX, D_YY):
                trace += field
        trace = trace[used]
        negative = float((np.minimum(trace, 0.0) ** 2).sum()) / (float((trace**2).sum()) or 1.0)
        if negative <= _NEGATIVE:
            return priors
        least = _CAUTIOUS * (negative / _NEGATIVE) ** 0.5
        return tuple(
            replace(now, strength=max(now.strength, old.strength, _of_order(least, kind, now.order)))
            if self._is_chosen(now, kind)
            else now
            for kind, now, old in zip(kinds, priors, before, strict=True)
        )

    @staticmethod
    def chosen(noise: Mapping[int, NoiseResponse], kinds: tuple[int, ...]) -> bool:
        """Return whether the strengths, chosen once from what `noise` gives, need not be chosen again."""
        return all(kinds[i] in _DARK for i in noise)

    @staticmethod
    def steps(*, known: bool) -> tuple[int, ...]:
        """Return the outer steps after whose solve strengths are chosen."""
        return _STEPS_AGAIN if known else _STEPS

    def _coefficients(self, field: Image, kind: int, threads: int | None) -> Image:
        """Return the cosine coefficients of an unknown (y, x); of ψ with a margin without its polynomial.

        That of degree 2 along the border costs nothing, and its mirror would have the spectrum of a kink.
        """
        out = field - border_polynomial(field) if kind == PSI and self.margin else field.copy()
        cosines: Image = to_cosines(out[None], threads=threads)[0]
        return cosines

    def noise_rights(
        self,
        *,
        reference: Image | Margined,
        spectra: tuple[ImageSpectrum, ...],
        fields: Image,
        residual: Residual,
        transport: Transport,
        weak: tuple[Prior, ...],
        dark: bool,
    ) -> list[tuple[list[int], Right]]:
        """Return right sides of noise, with the unknowns whose strengths need them (d: if `dark`).

        For d the noise is white and of variance 1 for a pixel of weight 1, for ln T and ψ it has the local
        level of the residual.
        """
        kinds = transport.kinds
        readable = [
            i
            for i, (kind, prior) in enumerate(zip(kinds, weak, strict=True))
            if prior.strength > 0.0 and kind not in (*self.fixed, D_XY)
        ]
        out = []
        scattering = [i for i in readable if dark and kinds[i] in _DARK]
        if scattering:
            out.append((scattering, white_right(np.random.default_rng(_SEED), transport)))
        spectral = [i for i in readable if kinds[i] in (LOG_T, PSI)]
        if spectral:
            level = _mean_square(residual)
            scale = 1.0 / (level.mean(dtype=np.float64) or 1.0) ** 0.5
            level = scipy.ndimage.gaussian_filter(level, _LOCAL, mode="reflect")
            np.sqrt(level, out=level)
            right = right_of_noise(
                np.random.default_rng(_SEED),
                reference,
                level,
                spectra,
                transport,
                transmission=np.exp(fields[kinds.index(LOG_T)]) if LOG_T in kinds else None,
            ).scaled(scale)
            out.append((spectral, right))
        return out

    def noise_response(
        self,
        rights: list[tuple[list[int], Right]],
        solve: Callable[[Right], Image],
        kinds: tuple[int, ...],
        threads: int | None,
    ) -> dict[int, NoiseResponse]:
        """Return the responses to noise of unknowns by their numbers.

        `rights` of `noise_rights`, whose memory is used; `solve` solves the linear problem of the estimate.
        """
        out = {}
        while rights:
            numbers, right = rights.pop(0)
            gathered = right.coefficients[numbers] if kinds[numbers[0]] in _DARK else None
            noise = solve(right)[numbers]
            del right
            for place, (i, image) in enumerate(zip(numbers, noise, strict=True)):
                if gathered is None:
                    cosines = self._coefficients(image, kinds[i], threads)
                    out[i] = NoiseResponse(power=power_over_rings(cosines, threads=threads))
                else:
                    cosines = to_cosines(image[None], threads=threads)[0]
                    out[i] = NoiseResponse(
                        power=power_over_rings(cosines, threads=threads),
                        determined=power_over_rings(cosines, gathered[place], threads=threads),
                    )
        return out

    def choose(
        self,
        fields: Image,
        noise: Mapping[int, NoiseResponse],
        *,
        transport: Transport,
        moment: Moments,
        priors: tuple[Prior, ...],
        weak: tuple[Prior, ...],
        mix: Real | None,
        trust: Image | None = None,
    ) -> tuple[Prior, ...]:
        """Return priors with the strengths that an estimate (unknown, y, x) needs.

        The estimate was made with `priors`, about model images with `moment`; unknowns without an entry in
        `noise` keep their priors. No strength is far below that of `weak` or far above it. `trust` (y, x):
        factors of the weights of the last solve for d, None where it does not follow. d and ψ keep their
        order; ln T has the first, or the likeliest where that is likelier by far.
        """
        kinds = transport.kinds
        out = list(priors)
        for i, response in noise.items():
            if kinds[i] in _DARK:
                found = self._choose_dark(fields[i], priors[i], response, transport=transport, trust=trust)
            else:
                found = self._choose_by_spectrum(
                    i, fields[i], response, transport=transport, moment=moment, priors=priors, mix=mix
                )
            if kinds[i] == PSI:
                bound, least, most = weak[i].strength, 1.0, _PHASE_STRONGEST
            else:
                bound = weak[i].of_order(found.order, _CROSSING).strength
                least, most = (_WEAKER if kinds[i] == LOG_T else _WEAKER_D), _STRONGEST
            if kinds[i] in _DARK:
                least = max(least, _of_order(_LEAST_D, kinds[i], found.order) / bound)
            out[i] = replace(found, strength=min(max(found.strength, least * bound), most * bound))
        if D_XY in kinds and D_XY not in self.fixed:
            # One strength for all elements: ‖D_xx‖² + 2‖D_xy‖² + ‖D_yy‖² is the same in any frame of axes.
            i, j, k = (kinds.index(kind) for kind in (D_XX, D_XY, D_YY))
            strength = float(np.sqrt(out[i].strength * out[k].strength))
            for place, weight in ((i, 1.0), (j, 2.0), (k, 1.0)):
                out[place] = replace(out[place], strength=weight * strength)
        return tuple(out)

    @staticmethod
    def _choose_dark(
        image: Image, prior: Prior, noise: NoiseResponse, *, transport: Transport, trust: Image | None
    ) -> Prior:
        """Return the prior on d or an element of it (y, x) with which the expected error is least."""
        threads = transport.threads
        assert noise.determined is not None
        cosines = to_cosines(image[None].copy(), threads=threads)[0]
        left = 1.0
        if trust is not None:
            fine = fine_waves(cosines, prior.order, threads=threads)
            to_cosines(fine[None], inverse=True, threads=threads)
            np.square(fine, out=fine)
            level = float(fine.mean(dtype=np.float64))
            if level > 0.0:
                # The right-hand side's noise over the data's information, both with these weights.
                noisy = dot(trust * trust, fine, threads=threads)
                left = noisy / float(trust.sum(dtype=np.float64)) / level
        used = np.ones(image.shape, bool) if transport.weights is None else _usable(transport.weights)
        strength = least_error_strength(
            cosines,
            prior,
            noise=noise.power,
            determined=noise.determined,
            left=left,
            square=float(np.square(image, dtype=np.float64).mean(where=used)),
            threads=threads,
        )
        return replace(prior, strength=_STRONGER * strength)

    def _choose_by_spectrum(
        self,
        i: int,
        image: Image,
        noise: NoiseResponse,
        *,
        transport: Transport,
        moment: Moments,
        priors: tuple[Prior, ...],
        mix: Real | None,
    ) -> Prior:
        threads = transport.threads
        estimates = estimate_strength(
            self._coefficients(image, transport.kinds[i], threads),
            transport.kinds,
            moment,
            priors,
            i,
            noise=noise.power,
            orders=(_PHASE_ORDER,) if transport.kinds[i] == PSI else self.orders,
            mix=mix,
            threads=threads,
        )
        deviances = [one.deviance for one in estimates]
        deviances[1:] = [deviance + _DECISIVE for deviance in deviances[1:]]
        found = estimates[int(np.argmin(deviances))]
        return replace(priors[i], order=found.order, strength=found.strength)


def _of_order(strength: float, kind: int, order: float) -> float:
    """Return a strength for d, given for the power 3 of κ, for another order and an element of the tensor."""
    same = Prior(strength=strength, order=ORDER).of_order(order, ALIKE).strength
    return 2.0 * same if kind == D_XY else same


def border_polynomial(field: Image) -> Image:
    """Return the polynomial of degree 2 that is nearest to an image (y, x) along its border."""
    y, x = (np.linspace(-1.0, 1.0, size) for size in field.shape)
    powers = [(i, j) for i in range(3) for j in range(3 - i)]
    ring = field.astype(np.float64)
    inner = tuple(slice(_RING, -_RING) if size > 2 * _RING else slice(0) for size in field.shape)
    ring[inner] = 0.0

    def product(i: int, j: int, k: int, m: int) -> float:
        parts = [
            (y ** (i + k))[rows].sum() * (x ** (j + m))[columns].sum() for rows, columns in (_ALL, inner)
        ]
        return float(parts[0] - parts[1])

    normal = np.array([[product(*one, *other) for other in powers] for one in powers])
    right = np.array([y**i @ (ring @ x**j) for i, j in powers])
    solution = np.linalg.solve(normal, right)
    out = sum(s * np.multiply.outer(y**i, x**j) for s, (i, j) in zip(solution, powers, strict=True))
    return np.asarray(out, np.float32)


def _mean_square(residual: Residual) -> Image:
    """Return the mean square over positions (y, x)."""
    out = np.zeros(residual.shape[1:], np.float32)
    for image in residual:
        image *= image
        out += image
    out /= np.float32(len(residual))
    return out


def _usable(weights: Images) -> NDArray[np.bool_]:
    """Return the pixels (y, x) of weight above 0 at some position."""
    out: NDArray[np.bool_] = np.any([image > 0.0 for image in weights], axis=0)
    return out
