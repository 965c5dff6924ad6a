"""The quadratic priors on d and ln T, and how their strengths are chosen.

`PriorStrengths` is all that the other steps use: the priors to begin with (`initial`), the outer steps after
which strengths are chosen (`steps`), and the choice itself (`noise_power` before a solve, `choose` after it).
The strength is read from the spectrum of a weakly regularised estimate, compared with the spectrum that noise
alone gives (`xmist.numerics.solvers.prior_strength`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

from xmist.core.arrays import Image
from xmist.methods.full_field.noise import right_of_noise
from xmist.numerics.images.denoise import ImageSpectrum
from xmist.numerics.operators.finite_model import Residual
from xmist.numerics.operators.transport import D_XX, D_XY, D_YY, LOG_T, PSI, D, Transport
from xmist.numerics.solvers.preconditioner import Prior, moments
from xmist.numerics.solvers.prior_strength import estimate_strength, power_over_rings
from xmist.numerics.solvers.whole_image import Right, to_cosines

Real = NDArray[Any]

_CROSSING: Final = 0.35  # rad per pixel at which the first, weak prior outweighs the data
_STEPS: Final = (1, 2)  # outer steps after whose solve strengths are chosen
_STEPS_AGAIN: Final = (0,)  # the same, where they are known from a similar fit
_LOCAL: Final = 4.0  # σ in pixels over which the noise level is taken
# Least strength that may be read for ln T, relative to the first: where ψ can make up for ln T, even a prior
# that is weak next to the data decides between the two.
_WEAKER: Final = 0.01
_STRONGEST: Final = 1e6  # relative to the first
_SEED: Final = 0
# Deviance by which another order has to be likelier than the first, a likelihood e¹⁰ times as great: no
# spectrum is a power of κ from end to end, and where it is not may decide between orders that are near.
_DECISIVE: Final = 20.0
_EVEN: Final = (D, D_XX, D_YY)  # share an order, and D_xy with them


@dataclass(frozen=True, kw_only=True)
class PriorStrengths:
    """Priors of a fit and the choice of their strengths.

    `orders`: orders that the priors may have, the first to begin with. `fixed`: strengths that are given, by
    kind; None keeps the first one. `length2`: ℓ² in pixels² of a single material.
    """

    orders: tuple[float, ...]
    fixed: Mapping[int, float | None]
    length2: float | None = None

    def weak(self, transport: Transport) -> tuple[Prior, ...]:
        """Return priors far weaker than the data ask for."""
        moment = moments(transport.frames, transport.weights, threads=transport.threads)
        order = self.orders[0]
        scale = _CROSSING ** (-2.0 * order)
        floor = 1e-6 * moment.value
        information = {D: moment.curvature, D_XX: 0.375 * moment.curvature, D_YY: 0.375 * moment.curvature,
                       D_XY: 0.75 * moment.curvature, LOG_T: 0.1 * moment.value}  # fmt: skip
        if self.length2 is not None:
            information[LOG_T] = 0.0
            if len(transport.frames) == 1:
                # One image tells D from the thickness of a material only as far as that is smooth, and the
                # ratio of the two priors decides; a spectrum cannot tell it.
                information[LOG_T] = 0.01 * moment.value * (1.0 + self.length2 * _CROSSING**2) ** 2
                information |= {kind: 0.5 * information[kind] for kind in (*_EVEN, D_XY)}
        return tuple(
            Prior()
            if kind == PSI or information[kind] == 0.0
            else Prior(strength=information[kind] * scale, order=order, floor=floor)
            for kind in transport.kinds
        )

    def initial(self, transport: Transport) -> tuple[Prior, ...]:
        """Return the priors to begin with: weak ones, or of the given strengths."""
        given = (self.fixed.get(kind) for kind in transport.kinds)
        return tuple(
            prior if strength is None else replace(prior, strength=strength)
            for strength, prior in zip(given, self.weak(transport), strict=True)
        )

    @staticmethod
    def steps(*, known: bool) -> tuple[int, ...]:
        """Return the outer steps after whose solve strengths are chosen."""
        return _STEPS_AGAIN if known else _STEPS

    def noise_power(
        self,
        solve: Callable[[Right], Image],
        *,
        reference: Image,
        spectra: tuple[ImageSpectrum, ...],
        fields: Image,
        residual: Residual,
        transport: Transport,
        weakest: tuple[Prior, ...],
    ) -> dict[int, Real]:
        """Return the spectrum over rings that noise alone gives, by the number of each unknown to choose for.

        `solve` solves the linear problem of the estimate; the noise has the local level of the residual.
        """
        kinds, threads = transport.kinds, transport.threads
        readable = [
            i
            for i, (kind, prior) in enumerate(zip(kinds, weakest, strict=True))
            if prior.strength > 0.0 and kind not in (*self.fixed, D_XY)
        ]
        if not readable:
            return {}
        level = _mean_square(residual)
        residual.forget()
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
        del level
        noise = solve(right)
        return {
            i: power_over_rings(to_cosines(noise[i : i + 1], threads=threads)[0], threads=threads)
            for i in readable
        }

    def choose(
        self,
        fields: Image,
        noise: Mapping[int, Real],
        *,
        transport: Transport,
        priors: tuple[Prior, ...],
        weakest: tuple[Prior, ...],
        mix: Real | None,
    ) -> tuple[Prior, ...]:
        """Return priors of the strengths and orders that an estimate (unknown, y, x) asks for.

        The estimate was made with `priors`; unknowns without an entry in `noise` keep theirs. No strength is
        below that of `weakest` (ln T: a hundredth of it) or above a million times it. The order is the first,
        or the likeliest where that is likelier by far.
        """
        kinds, threads = transport.kinds, transport.threads
        if not noise:
            return priors
        moment = moments(transport.frames, transport.weights, threads=threads)
        estimates = {
            i: estimate_strength(
                to_cosines(fields[i : i + 1].copy(), threads=threads)[0],
                kinds,
                moment,
                priors,
                i,
                noise=power,
                orders=self.orders,
                mix=mix,
                threads=threads,
            )
            for i, power in noise.items()
        }
        out = list(priors)
        for group in (_EVEN, (LOG_T,)):
            members = [i for i in estimates if kinds[i] in group]
            deviances = np.full(len(self.orders), _DECISIVE)
            deviances[0] = 0.0
            for i in members:
                deviances += [estimate.deviance for estimate in estimates[i]]
            likeliest = int(np.argmin(deviances))
            for i in members:
                found = estimates[i][likeliest]
                weak = weakest[i].of_order(found.order, _CROSSING).strength
                least = weak * (_WEAKER if kinds[i] == LOG_T else 1.0)
                strength = min(max(found.strength, least), _STRONGEST * weak)
                out[i] = replace(priors[i], order=found.order, strength=strength)
        if D_XY in kinds and D_XY not in self.fixed:
            # One strength for all elements: ‖D_xx‖² + 2‖D_xy‖² + ‖D_yy‖² is the same in any frame of axes.
            i, j, k = (kinds.index(kind) for kind in (D_XX, D_XY, D_YY))
            strength = float(np.sqrt(out[i].strength * out[k].strength))
            for place, weight in ((i, 1.0), (j, 2.0), (k, 1.0)):
                out[place] = replace(out[place], order=out[i].order, strength=weight * strength)
        return tuple(out)


def _mean_square(residual: Residual) -> Image:
    """Return the mean square over positions (y, x)."""
    out = np.zeros(residual.shape[1:], np.float32)
    for image in residual:
        image *= image
        out += image
    out /= np.float32(len(residual))
    return out
