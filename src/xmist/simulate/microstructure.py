"""Structure below the pixel: random phase screens of a given rms refraction angle, and the D that they make.

A screen χ with the correlation C(s) = C(0) exp(−(s_∥²/ℓ_∥² + s_⊥²/ℓ_⊥²)/2) refracts by ∇χ/k, of variance
⟨θ_⊥²⟩ = C(0)/(k ℓ_⊥)² across its fibres and ⟨θ_∥²⟩ = C(0)/(k ℓ_∥)² along them. In the mean over screens,
speckles of frequency κ (rad/m) are weaker by exp(−S(∆κ/k)/2), S(s) = 2 [C(0) − C(s)], which for ∆κ/k ≪ ℓ is
the Gaussian exp(−∆² Σ κ_i κ_j ⟨θ_iθ_j⟩/2). Model (M) blurs with the variance 2∆D_ij, hence

    D_ij = ∆ ⟨θ_iθ_j⟩/2

docs/simulate.md derives it and says when it holds; `check_screen` says when it does not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import scipy.fft
from numpy.typing import ArrayLike, NDArray

from xmist.core.checks import Checks
from xmist.core.errors import ErrorRecord
from xmist.core.findings import Finding, finding
from xmist.numerics.parallel import for_blocks
from xmist.simulate.grid import Grid

Real = NDArray[Any]

_BLOCK: Final = 64
_FINEST: Final = 1.25  # samples a correlation length: the highest frequency has 4e-4 of the lowest's power
_STEEPEST: Final = 3.5  # standard deviations
_REACH: Final = 6.0  # correlation lengths until a screen forgets


@dataclass(frozen=True, kw_only=True, eq=False)
class Screen:
    """A thin layer of unresolved structure.

    Parameters
    ----------
    angle : float or (y, x) array_like
        Rms refraction angle in rad, ≥ 0: per axis if the structure is isotropic, else across its fibres. A
        map covers the field and is interpolated linearly.
    correlation_length : float
        Correlation length ℓ in metres (σ of the Gaussian correlation of its phase), across the fibres.
    direction : float, optional
        Direction of the fibres in degrees from +x towards +y; None is isotropic. They scatter across it.
    anisotropy : float
        (λ₁ − λ₂)/(λ₁ + λ₂) of the tensor D, 0 to 1, below 1; needs a direction.

    Raises
    ------
    InputError
        Lists every value that is out of range.

    Examples
    --------
    >>> screen = Screen(angle=2e-6, correlation_length=3e-6, direction=30.0, anisotropy=0.8)
    >>> [float(f"{value:.3g}") for value in screen.covariance()]  # xx, xy, yy in rad²
    [1.33e-12, -1.54e-12, 3.11e-12]
    """

    angle: ArrayLike
    correlation_length: float
    direction: float | None = None
    anisotropy: float = 0.0

    def __post_init__(self) -> None:
        check = Checks()
        expected = "one number or a map (y, x), in rad"
        given = check.array("angle", self.angle, expected)
        check.done()
        assert given is not None  # there were no errors
        numbers = given.dtype.kind in "iuf"
        angle = np.array(given, np.float64) if numbers else np.zeros(())
        if not numbers or given.ndim not in (0, 2) or given.size == 0:
            check.add(f"angle is {given.dtype} of shape {given.shape}; expected {expected}")
        elif not np.all(np.isfinite(angle) & (angle >= 0.0) & (angle < 0.1)):
            check.add("angle has values that are negative, not finite or above 0.1; expected rad, ≥ 0")
        check.number("correlation_length", self.correlation_length, unit="m", low=0.0, strict=True)
        if self.direction is not None:
            check.number("direction", self.direction, unit="degrees")
        check.number("anisotropy", self.anisotropy, low=0.0, high=0.999)
        if not check.errors and self.anisotropy > 0.0 and self.direction is None:
            check.add(f"anisotropy is {self.anisotropy:g} and there is no direction; expected both or none")
        check.done()
        angle.flags.writeable = False
        object.__setattr__(self, "angle", angle)

    @property
    def length_along(self) -> float:
        """Correlation length along the fibres in metres."""
        return self.correlation_length * math.sqrt((1.0 + self.anisotropy) / (1.0 - self.anisotropy))

    def covariance(self) -> tuple[float, float, float]:
        """Return ⟨θ_xθ_x⟩, ⟨θ_xθ_y⟩ and ⟨θ_yθ_y⟩ in rad² where the angle is greatest.

        Returns
        -------
        tuple of float
            xx, xy and yy.
        """
        across = float(np.max(np.asarray(self.angle))) ** 2
        xx, xy, yy = self.shape_tensor()
        return across * xx, across * xy, across * yy

    def shape_tensor(self) -> tuple[float, float, float]:
        """Return the covariance for an rms angle of 1 across the fibres.

        Returns
        -------
        tuple of float
            xx, xy and yy.
        """
        along = (1.0 - self.anisotropy) / (1.0 + self.anisotropy)
        turn = math.radians(self.direction or 0.0)
        c, s = math.cos(turn), math.sin(turn)
        return along * c**2 + s**2, (along - 1.0) * s * c, along * s**2 + c**2

    def strength(self, grid: Grid) -> Real:
        """Return the rms angle on a grid over the same field.

        Parameters
        ----------
        grid : Grid
            Pixels in the sample's plane.

        Returns
        -------
        (y, x) float64 array
            In rad.
        """
        angle = np.asarray(self.angle)
        if angle.ndim == 0 or angle.shape == grid.shape:
            return np.broadcast_to(angle, grid.shape)
        import scipy.ndimage as ndi

        at = [
            np.clip((np.arange(n) + 0.5) * m / n - 0.5, 0.0, m - 1.0)
            for n, m in zip(grid.shape, angle.shape, strict=True)
        ]
        strength: Real = ndi.map_coordinates(angle, np.meshgrid(*at, indexing="ij"), order=1)
        return strength

    def phase(
        self, grid: Grid, *, wavenumber: float, rng: np.random.Generator, workers: int | None = None
    ) -> Real:
        """Draw the phase that the layer adds to a wave.

        Parameters
        ----------
        grid : Grid
            Samples of the wave.
        wavenumber : float
            k in rad/m.
        rng : numpy.random.Generator
            Source of chance; the draw does not depend on the number of threads.
        workers : int, optional
            Threads.

        Returns
        -------
        (y, x) float32 array
            Phase in rad.
        """
        out = np.zeros(grid.shape, np.float32)
        strength = self.strength(grid)
        window = _support(strength, math.ceil(_REACH * self.correlation_length / grid.pixel))
        if window is None:
            return out
        rows, columns = window
        shape = (rows.stop - rows.start, columns.stop - columns.start)
        field = gaussian_field(
            shape,
            across=self.correlation_length / grid.pixel,
            along=self.length_along / grid.pixel,
            direction=self.direction or 0.0,
            rng=rng,
            workers=workers,
        )
        # ⟨θ_⊥²⟩ = C(0)/(kℓ_⊥)²
        field *= np.float32(wavenumber * self.correlation_length)
        out[rows, columns] = field * strength[window].astype(np.float32)
        return out


def _support(strength: Real, margin: int) -> tuple[slice, slice] | None:
    """Return the rows and columns with structure, with a margin."""
    slices = []
    for axis, size in enumerate(strength.shape):
        present = np.flatnonzero((strength > 0.0).any(axis=1 - axis))
        if not present.size:
            return None
        slices.append(slice(max(int(present[0]) - margin, 0), min(int(present[-1]) + 1 + margin, size)))
    return slices[0], slices[1]


def gaussian_field(
    shape: tuple[int, int],
    *,
    across: float,
    along: float,
    direction: float,
    rng: np.random.Generator,
    workers: int | None = None,
) -> Real:
    """Draw a periodic Gaussian random field of variance 1 and Gaussian correlation.

    `across`, `along` in pixels, `direction` in degrees; returns (y, x).
    """
    turn = math.radians(direction)
    c, s = math.cos(turn), math.sin(turn)
    size = [scipy.fft.next_fast_len(n, real=True) for n in shape]
    spectrum = np.empty((size[0], size[1] // 2 + 1), np.complex64)
    noise = rng.standard_normal((size[0], size[1]), np.float32)
    ky = 2.0 * math.pi * scipy.fft.fftfreq(size[0])
    kx = 2.0 * math.pi * scipy.fft.rfftfreq(size[1])
    # Its power spectrum is the transform of the correlation; of an amplitude filter, the half exponent.
    power = 0.0

    def rows(start: int, stop: int) -> None:
        spectrum[start:stop] = scipy.fft.rfft(noise[start:stop], axis=1)

    def columns(start: int, stop: int) -> None:
        block = scipy.fft.fft(spectrum[:, start:stop], axis=0)
        block *= amplitude(kx[start:stop])
        spectrum[:, start:stop] = scipy.fft.ifft(block, axis=0)

    def back(start: int, stop: int) -> None:
        noise[start:stop] = scipy.fft.irfft(spectrum[start:stop], n=size[1], axis=1)

    def amplitude(k: Real) -> Real:
        parallel = c * k[None, :] + s * ky[:, None]
        perpendicular = c * ky[:, None] - s * k[None, :]
        return np.asarray(
            np.exp(-0.25 * ((along * parallel) ** 2 + (across * perpendicular) ** 2)), np.float32
        )

    for_blocks(rows, size[0], threads=workers, block=_BLOCK)
    for_blocks(columns, spectrum.shape[1], threads=workers, block=_BLOCK)
    for_blocks(back, size[0], threads=workers, block=_BLOCK)
    for start in range(0, spectrum.shape[1], _BLOCK):
        k = kx[start : start + _BLOCK]
        twice = np.where((k == 0.0) | (np.isclose(k, math.pi)), 1.0, 2.0)
        power += float((amplitude(k).astype(np.float64) ** 2 * twice).sum())
    noise *= np.float32(1.0 / math.sqrt(power / (size[0] * size[1])))
    return noise[: shape[0], : shape[1]]


def dark_field_tensor(screens: Sequence[Screen], grid: Grid, *, distance: float) -> Real:
    """Return the truth D_ij = ∆ ⟨θ_iθ_j⟩/2 of layers, on a grid.

    `distance` in metres; returns (3, y, x) in metres.
    """
    tensor = np.zeros((3, *grid.shape))
    for screen in screens:
        squared = 0.5 * distance * screen.strength(grid) ** 2
        for component, share in zip(tensor, screen.shape_tensor(), strict=True):
            component += share * squared
    return tensor


def check_screen(
    screen: Screen,
    *,
    wavenumber: float,
    distance: float,
    pixel: float,
    sample: float,
    grain: float | None = None,
    turn: float = 0.0,
) -> tuple[list[ErrorRecord], list[Finding]]:
    """Return where a layer cannot be drawn, and where D = ∆θ²/2 does not describe it.

    `wavenumber` in rad, `distance` in metres, `pixel` in metres, `sample` in metres, `grain` in metres,
    `turn` in rad.
    """
    check = Checks()
    findings: list[Finding] = []
    length = screen.correlation_length
    angle = float(np.max(np.asarray(screen.angle)))
    if length < _FINEST * sample:
        check.add(
            f"the microstructure's correlation length is {length:.3g} m and the wave's samples lie "
            f"{sample:.3g} m apart; expected at least {_FINEST} samples: use an oversampling of "
            f"{math.ceil(_FINEST * pixel / length)} or a greater correlation length",
            "sampling-coarse",
        )
    # Light steeper than π a sample comes back on the other side: already 1 % of it makes D some percent too
    # large where D is strong, and far more where it is weak.
    step = _STEEPEST * math.hypot(wavenumber * angle * sample, turn)
    if step > math.pi:
        check.add(
            f"the microstructure ({angle:.3g} rad) and the wave before it turn by up to {step:.3g} rad "
            "between samples; expected π at most: use an oversampling of "
            f"{math.ceil(pixel / sample * step / math.pi)}, a weaker diffuser or weaker structure",
            "sampling-coarse",
        )
    coarse = pixel if grain is None else max(grain, pixel)
    # Share of ⟨θ²⟩ from wavelengths above twice the speckle: they shift speckles as a whole.
    x = 0.5 * (math.pi / coarse * length) ** 2
    resolved = 1.0 - (1.0 + x) * math.exp(-x)
    if resolved > 0.1:
        message = (
            f"the microstructure's correlation length of {length:.3g} m is not small against the "
            f"{'pixel' if grain is None else 'speckles'} of {coarse:.3g} m: about {100 * resolved:.0f} % of "
            "its D shifts whole speckles and shows as phase (see phase_total)"
        )
        findings.append(finding("structure-resolved", message))
    # 1 − S(s)/(s²⟨…⟩) ≈ s²/(4ℓ²) at the frequency of the finest speckles, s = ∆κ/k.
    lag = distance * math.pi / (wavenumber * coarse) / length
    if 0.25 * lag**2 > 0.05:
        weaker = 1.0 - math.exp(-0.25 * lag**2)
        message = (
            f"the scattering of the microstructure of correlation length {length:.3g} m saturates at this "
            f"distance: it blurs the speckles about {100 * weaker:.0f} % less than D predicts"
        )
        findings.append(finding("structure-saturated", message))
    return check.errors, findings
