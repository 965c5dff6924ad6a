"""Membranes that put speckles in the beam, and their translation.

A membrane is a description of the plane. `transmission_functions` samples it where it stands at each
exposure: moved by the position s, its transmission function is t(r − s), exact for any part of a pixel. Its
phase φ (rad, negative for matter) is stated at a wavelength λ₀; at another it is φ λ/λ₀ (δ ∝ λ², far from an
absorption edge), and ln T = 2φ/γ, where γ = δ/β is given, scales by (λ/λ₀)³ (β ∝ λ⁴).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xmist.errors import raise_faults
from xmist.numerics.parallel import for_blocks
from xmist.simulate.checks import check_count, check_number
from xmist.simulate.relief import coordinates, gaussian_field, sphere_thickness

Real = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Membrane:
    """What every membrane states; use one of its kinds.

    Parameters
    ----------
    wavelength : float
        Wavelength λ₀ in metres at which phase and γ are stated.
    delta_over_beta : float, optional
        γ = δ/β there; None does not absorb.

    Raises
    ------
    InputError
        Lists every value that is out of range.
    """

    wavelength: float
    delta_over_beta: float | None = None

    # Name -> (unit, low, high, strict) of the numbers of each kind.
    _ranges: ClassVar[dict[str, tuple[str, float, float, bool]]] = {
        "wavelength": ("m", 0.0, 1e-7, True),
        "delta_over_beta": ("", 0.0, math.inf, True),
        "grain_size": ("m", 0.0, 1.0, True),
        "rms_phase": ("rad", 0.0, math.inf, False),
        "layers": ("", 0.0, math.inf, True),
        "size_spread": ("", 0.0, 0.99, False),
        "period": ("m", 0.0, 1.0, True),
        "diameter": ("m", 0.0, 1.0, True),
        "phase": ("rad", -math.inf, 0.0, False),
    }

    def __post_init__(self) -> None:
        faults: list[str] = []
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name == "seed":
                check_count("seed", value, faults, low=0)
            elif value is not None or item.name != "delta_over_beta":
                unit, low, high, strict = self._ranges[item.name]
                number = check_number(item.name, value, faults, unit=unit, low=low, high=high, strict=strict)
                object.__setattr__(self, item.name, number)
        if not faults:
            self._check(faults)
        raise_faults(faults)

    def _check(self, faults: list[str]) -> None:
        """Check what concerns several numbers."""

    def _sample(self, y: Real, x: Real, wavelength: float, dtype: Any, workers: int | None) -> Real:
        """Sample the transmission function at coordinates on the membrane."""
        raise NotImplementedError

    def _exponents(self, wavelength: float) -> tuple[float, float]:
        """Give (a, b): t = exp((ia + b) φ), φ the phase at λ₀."""
        ratio = wavelength / self.wavelength
        return ratio, 0.0 if self.delta_over_beta is None else ratio**3 / self.delta_over_beta


@dataclass(frozen=True, kw_only=True)
class RandomScreen(Membrane):
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
        Seed; another seed is another membrane.

    Examples
    --------
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
class Sandpaper(Membrane):
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
        Seed; another seed is another membrane.

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
        """Give the sandpaper whose grains have the refractive index 1 − δ + iβ.

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
        faults: list[str] = []
        check_number("delta", delta, faults, low=0.0, strict=True)
        check_number("beta", beta, faults, low=0.0)
        raise_faults(faults)
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


@dataclass(frozen=True, kw_only=True)
class HoleGrid(Membrane):
    """A plate with round holes on a square grid; a pixel that an edge crosses holds the mean of both sides.

    Parameters
    ----------
    wavelength : float
        Wavelength λ₀ in metres at which phase and γ are stated.
    delta_over_beta : float, optional
        γ = δ/β there; None does not absorb.
    period : float
        Distance of neighbouring holes in metres. One is centred on the origin.
    diameter : float
        Their diameter in metres.
    phase : float
        Phase of the plate in rad, at most 0.

    Examples
    --------
    >>> plate = HoleGrid(
    ...     wavelength=7.3e-11, period=40e-6, diameter=20e-6, phase=-50.0, delta_over_beta=10.0
    ... )
    >>> (t,) = transmission_functions(plate, (1, 3), 20e-6, 7.3e-11, [(0.0, 0.0)])
    >>> np.round(abs(t), 2)
    array([[0.01, 1.  , 0.01]], dtype=float32)
    """

    period: float
    diameter: float
    phase: float

    def _check(self, faults: list[str]) -> None:
        if self.diameter > self.period:
            faults.append(
                f"diameter is {self.diameter:g} m; expected at most the period of {self.period:g} m, so that "
                "holes do not meet"
            )

    def _sample(self, y: Real, x: Real, wavelength: float, dtype: Any, workers: int | None) -> Real:
        pixel = float(y[1] - y[0]) if len(y) > 1 else float(x[1] - x[0]) if len(x) > 1 else self.diameter
        away_y, away_x = (r - self.period * np.rint(r / self.period) for r in (y, x))

        def open_part(start: int, stop: int) -> Real:
            distance = np.hypot(away_y[start:stop, None], away_x)
            return np.clip(0.5 + (0.5 * self.diameter - distance) / pixel, 0.0, 1.0)

        return _two_phases(open_part, self, wavelength, (len(y), len(x)), dtype, workers)


@dataclass(frozen=True, kw_only=True)
class Checkerboard(Membrane):
    """Squares of matter and of nothing; a pixel that an edge crosses holds the mean of both sides.

    Parameters
    ----------
    wavelength : float
        Wavelength λ₀ in metres at which phase and γ are stated.
    delta_over_beta : float, optional
        γ = δ/β there; None does not absorb.
    period : float
        Period in metres along y and x, two squares.
    phase : float
        Phase of the matter in rad, at most 0.

    Examples
    --------
    >>> board = Checkerboard(wavelength=7.3e-11, period=4e-6, phase=-np.pi)
    >>> (t,) = transmission_functions(board, (4, 4), 1e-6, 7.3e-11, [(0.0, 0.0)])
    >>> t.real.astype(int)
    array([[ 1,  1, -1, -1],
           [ 1,  1, -1, -1],
           [-1, -1,  1,  1],
           [-1, -1,  1,  1]])
    """

    period: float
    phase: float

    def _sample(self, y: Real, x: Real, wavelength: float, dtype: Any, workers: int | None) -> Real:
        wave_y, wave_x = (self._pixel_means(r) for r in (y, x))

        def open_part(start: int, stop: int) -> Real:
            return 0.5 * (1.0 + wave_y[start:stop, None] * wave_x)

        return _two_phases(open_part, self, wavelength, (len(y), len(x)), dtype, workers)

    def _pixel_means(self, r: Real) -> Real:
        """Means over pixels of the square wave that is 1 in the first half of its period and −1 after."""
        half = 0.5 * (float(r[1] - r[0]) if len(r) > 1 else 0.5 * self.period)

        def integral(at: Real) -> Real:
            return np.abs(np.mod(at + 0.5 * self.period, self.period) - 0.5 * self.period)

        return (integral(r + half) - integral(r - half)) / (2.0 * half)


def transmission_functions(
    membrane: Membrane,
    shape: tuple[int, int],
    pixel_size: float,
    wavelength: float,
    positions: ArrayLike,
    *,
    dtype: Any = np.complex64,
    workers: int | None = None,
) -> Iterator[NDArray[Any]]:
    """Give the membrane's transmission function at one position after the other.

    Parameters
    ----------
    membrane : Membrane
        Membrane.
    shape : (int, int)
        Samples along y and x; the origin lies in the middle of the grid.
    pixel_size : float
        Spacing of the samples in metres, in the membrane's plane.
    wavelength : float
        Wavelength in metres.
    positions : (position, 2) array_like
        Displacements (y, x) of the membrane in metres.
    dtype : dtype
        complex64 or complex128.
    workers : int, optional
        Threads; the result does not depend on it, bit for bit.

    Yields
    ------
    (y, x) complex array
        Transmission function t(r − s); it may be overwritten.

    Raises
    ------
    InputError
        Lists every fault; raised by the call, before anything is sampled.

    Examples
    --------
    >>> screen = RandomScreen(wavelength=7.3e-11, grain_size=8e-6, rms_phase=1.0, seed=1)
    >>> a, b = transmission_functions(screen, (32, 32), 1e-6, 7.3e-11, [(0, 0), (0, 3e-6)])
    >>> bool(np.allclose(a[:, :-3], b[:, 3:], atol=1e-5))
    True
    """
    faults: list[str] = []
    if not isinstance(membrane, Membrane) or type(membrane) is Membrane:
        faults.append(
            f"membrane is {membrane!r}; expected a RandomScreen, Sandpaper, HoleGrid or Checkerboard"
        )
    height, width = (check_count(f"shape along {a}", n, faults) for a, n in zip("yx", shape, strict=True))
    check_number("pixel_size", pixel_size, faults, unit="m", low=0.0, strict=True)
    check_number("wavelength", wavelength, faults, unit="m", low=0.0, strict=True)
    if np.dtype(dtype) not in (np.complex64, np.complex128):
        faults.append(f"dtype is {np.dtype(dtype)}; expected complex64 or complex128")
    steps = _as_positions(positions, faults)
    raise_faults(faults)
    return _each(membrane, height, width, pixel_size, wavelength, steps, dtype, workers)


def _each(
    membrane: Membrane,
    height: int,
    width: int,
    pixel_size: float,
    wavelength: float,
    steps: NDArray[np.float64],
    dtype: Any,
    workers: int | None,
) -> Iterator[NDArray[Any]]:
    for step_y, step_x in steps:
        y = coordinates(height, pixel_size, step_y)
        x = coordinates(width, pixel_size, step_x)
        yield membrane._sample(y, x, wavelength, dtype, workers)


def _as_positions(positions: ArrayLike, faults: list[str]) -> NDArray[np.float64]:
    try:
        steps = np.asarray(positions, np.float64)
    except (TypeError, ValueError) as error:
        faults.append(f"positions are no numbers ({error}); expected (position, 2) in metres")
        return np.zeros((1, 2))
    if steps.ndim != 2 or steps.shape[1] != 2 or len(steps) == 0:
        faults.append(f"positions have shape {steps.shape}; expected (position, 2): y and x in metres")
    elif not np.isfinite(steps).all():
        faults.append("positions hold NaN or infinite numbers; expected metres")
    return steps


def _exponential(phase: Real, turn: float, loss: float, dtype: Any, workers: int | None) -> Real:
    """Give exp((i·turn + loss) φ)."""
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


def _two_phases(
    open_part: Any,
    membrane: HoleGrid | Checkerboard,
    wavelength: float,
    shape: Sequence[int],
    dtype: Any,
    workers: int | None,
) -> Real:
    """Give 1 where the membrane is open and its plate's transmission elsewhere."""
    turn, loss = membrane._exponents(wavelength)
    plate = complex(np.exp((1j * turn + loss) * membrane.phase))
    out = np.empty(tuple(shape), dtype)

    def task(start: int, stop: int) -> None:
        out[start:stop] = plate + (1.0 - plate) * open_part(start, stop)

    for_blocks(task, shape[0], threads=workers)
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
