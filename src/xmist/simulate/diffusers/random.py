"""Random diffusers: a Gaussian screen, and sandpaper as a stack of grains."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmist.core.checks import Checks
from xmist.numerics.parallel import for_blocks
from xmist.simulate.diffusers.base import Diffuser
from xmist.simulate.diffusers.relief import gaussian_field, sphere_thickness

Real = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class RandomScreen(Diffuser):
    """A Gaussian random phase screen.

    Parameters
    ----------
    wavelength : float
        Wavelength λ₀ in metres at which phase and γ are stated.
    delta_over_beta : float, optional
        γ = δ/β there; None does not absorb.
    grain_size : float
        Full width at half maximum in metres of the phase's autocorrelation, which is Gaussian.
    rms_phase : float
        Standard deviation of the phase in rad. The mean phase is −5 `rms_phase`, so that the thickness is
        practically never negative.
    seed : int
        Seed; another seed is another diffuser.

    Examples
    --------
    >>> from xmist.simulate.diffusers import transmission_functions
    >>> screen = RandomScreen(wavelength=7.3e-11, grain_size=20e-6, rms_phase=1.0, seed=1)
    >>> (t,) = transmission_functions(screen, (64, 64), 1e-6, 7.3e-11, [(0.0, 0.0)])
    >>> bool(np.allclose(abs(t), 1.0))
    True
    """

    grain_size: float
    rms_phase: float
    seed: int

    @property
    def correlation_width(self) -> float:
        """Full width at half maximum of the phase's autocorrelation in metres."""
        return self.grain_size

    @property
    def mean_phase(self) -> float:
        """Mean phase in rad."""
        return -5.0 * self.rms_phase

    def _sample(self, y: Real, x: Real, wavelength: float, dtype: Any, workers: int | None) -> Real:
        # The autocorrelation exp(−r²/(4σ²)) is ½ at r = 2σ√(ln 2).
        sigma = self.grain_size / (4.0 * math.sqrt(math.log(2.0)))
        phase = gaussian_field(y, x, sigma, self.seed, workers=workers)
        phase *= np.float32(self.rms_phase)
        phase += np.float32(self.mean_phase)
        return _exponential(phase, *self._exponents(wavelength), dtype, workers)


@dataclass(frozen=True, kw_only=True)
class Sandpaper(Diffuser):
    """A stack of round grains, each at random.

    By Campbell's theorem ⟨t⟩ = layers (4/3) ⟨r³⟩/⟨r²⟩ and var t = 2 layers ⟨r⁴⟩/⟨r²⟩ for the thickness t of
    grains of the radii r, of which a ray crosses `layers` in the mean.

    Parameters
    ----------
    wavelength : float
        Wavelength λ₀ in metres at which phase and γ are stated.
    delta_over_beta : float, optional
        γ = δ/β there; None does not absorb.
    grain_size : float
        Mean diameter of the grains in metres.
    rms_phase : float
        Standard deviation of the phase in rad.
    layers : float
        Number of grains that a ray crosses in the mean.
    size_spread : float
        Diameters are uniform in grain_size·(1 ± size_spread).
    seed : int
        Seed; another seed is another diffuser.

    Examples
    --------
    >>> paper = Sandpaper(
    ...     wavelength=7.3e-11, grain_size=20e-6, rms_phase=1.0, layers=4, size_spread=0.3, seed=1
    ... )
    >>> round(paper.correlation_width * 1e6, 1)
    17.6
    """

    grain_size: float
    rms_phase: float
    layers: float
    size_spread: float
    seed: int

    @classmethod
    def of_material(
        cls,
        *,
        wavelength: float,
        delta: float,
        beta: float,
        grain_size: float,
        layers: float,
        size_spread: float,
        seed: int,
    ) -> Sandpaper:
        """Return the sandpaper whose grains have the refractive index 1 − δ + iβ.

        Parameters
        ----------
        wavelength : float
            Wavelength in metres at which δ and β hold.
        delta, beta : float
            Refractive index decrement and absorption index; β = 0 does not absorb.
        grain_size, layers, size_spread, seed
            As for `Sandpaper`.

        Examples
        --------
        >>> paper = Sandpaper.of_material(
        ...     wavelength=7.3e-11, delta=2e-6, beta=1e-8, grain_size=20e-6, layers=3, size_spread=0, seed=1
        ... )
        >>> round(paper.rms_phase, 2)
        4.22
        """
        check = Checks()
        check.number("delta", delta, low=0.0, strict=True)
        check.number("beta", beta, low=0.0)
        check.done()
        unit = cls(
            wavelength=wavelength,
            delta_over_beta=delta / beta if beta else None,
            grain_size=grain_size,
            rms_phase=1.0,
            layers=layers,
            size_spread=size_spread,
            seed=seed,
        )
        rms = 2.0 * math.pi / wavelength * delta * unit.rms_thickness
        values = {item.name: getattr(unit, item.name) for item in fields(unit)}
        return cls(**(values | {"rms_phase": rms}))

    def _moment(self, power: int) -> float:
        """Mean of the radius to a power."""
        s, n = self.size_spread, power + 1
        relative = 1.0 if s == 0.0 else ((1.0 + s) ** n - (1.0 - s) ** n) / (2.0 * n * s)
        return (0.5 * self.grain_size) ** power * relative

    @property
    def rms_thickness(self) -> float:
        """Standard deviation of the thickness in metres."""
        return math.sqrt(2.0 * self.layers * self._moment(4) / self._moment(2))

    @property
    def mean_thickness(self) -> float:
        """Mean thickness in metres."""
        return self.layers * 4.0 / 3.0 * self._moment(3) / self._moment(2)

    @property
    def mean_phase(self) -> float:
        """Mean phase in rad."""
        return -self.rms_phase * self.mean_thickness / self.rms_thickness

    @property
    def correlation_width(self) -> float:
        """Full width at half maximum of the phase's autocorrelation in metres."""
        from scipy.optimize import brentq

        nodes, weights = np.polynomial.legendre.leggauss(32)
        radii = 0.5 * self.grain_size * (1.0 + self.size_spread * nodes)
        weights = weights * radii**4

        def above_half(distance: float) -> float:
            return float(np.sum(weights * (_sphere_correlation(distance / radii) - 0.5)))

        return 2.0 * float(brentq(above_half, 0.0, self.grain_size, rtol=1e-9))

    def _sample(self, y: Real, x: Real, wavelength: float, dtype: Any, workers: int | None) -> Real:
        density = self.layers / (math.pi * self._moment(2))
        phase = sphere_thickness(
            y, x, 0.5 * self.grain_size, self.size_spread, density, self.seed, workers=workers
        )
        phase *= np.float32(-self.rms_phase / self.rms_thickness)
        return _exponential(phase, *self._exponents(wavelength), dtype, workers)


def _exponential(phase: Real, turn: float, loss: float, dtype: Any, workers: int | None) -> Real:
    """Return exp((i·turn + loss) φ)."""
    out = np.empty(phase.shape, dtype)

    def task(start: int, stop: int) -> None:
        rows = phase[start:stop].astype(out.real.dtype, copy=False)
        angle = rows * out.real.dtype.type(turn)
        np.cos(angle, out=out.real[start:stop])
        np.sin(angle, out=out.imag[start:stop])
        if loss:
            out[start:stop] *= np.exp(rows * out.real.dtype.type(loss))

    for_blocks(task, len(phase), threads=workers)
    return out


def _sphere_correlation(distance: Real) -> Real:
    """Autocorrelation of a sphere's projected thickness at a distance in radii.

    Andersson et al. 2008, J. Appl. Cryst. 41, 868, doi:10.1107/S0021889808026770.
    """
    z = np.clip(distance, 0.0, 2.0)
    root = np.sqrt(4.0 - z**2)
    with np.errstate(divide="ignore", invalid="ignore"):
        log = np.where(z > 0.0, z**2 * np.log(z / (2.0 + root)), 0.0)
    return 0.5 * root * (1.0 + z**2 / 8.0) + 0.5 * (1.0 - z**2 / 16.0) * log
