"""Waves against the textbook."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import fresnel as fresnel_integrals
from scipy.special import j1

import xmist
from tests.coded import coded
from xmist.simulate.propagation import angular_spectrum, fresnel, scaled_distance

WAVELENGTH = xmist.Experiment(energy_kev=17.0, pixel_size=1e-6, sample_to_detector=1.0).wavelength
BOTH = pytest.mark.parametrize("propagate", [fresnel, angular_spectrum])


def _centred(size):
    return np.arange(size) - (size - 1) / 2


def _random_wave(shape, seed=0, dtype=np.complex128):
    rng = np.random.default_rng(seed)
    return (rng.uniform(0.5, 1.0, shape) * np.exp(1j * rng.uniform(-3, 3, shape))).astype(dtype)


def _energy(wave):
    return (np.abs(wave.astype(np.complex128)) ** 2).sum()


# Talbot: 256 samples a period, so that aliases of its edges are below 1/256 of the first harmonic.
PERIOD, SAMPLES = 256, 131072
PIXEL = 1e-7
TALBOT = 2 * (PERIOD * PIXEL) ** 2 / WAVELENGTH


def _grating(phase):
    line = np.where((np.arange(SAMPLES) // (PERIOD // 2)) % 2 == 0, np.exp(1j * phase), 1.0)
    return line[None, :]


@BOTH
def test_a_grating_repeats_at_the_talbot_distance(propagate):
    grating = _grating(np.pi / 2)
    wave = propagate(grating, wavelength=WAVELENGTH, pixel_size=PIXEL, distance=TALBOT)
    # All orders come back in phase. The angular spectrum adds kz(λf)⁴/8 ≤ 3e-3 to order n of amplitude 1/n.
    assert np.abs(wave - grating).max() <= (1e-9 if propagate is fresnel else 1e-3)


@pytest.mark.parametrize("fraction", [1 / 16, 1 / 8, 3 / 16, 1 / 4, 3 / 4])
def test_talbot_contrast_at_fractions(fraction):
    """|I_1| of a binary grating at z is (2/π) sin φ |sin(πλz/d²)| (Guigay 1971, Opt. Acta 18, 677)."""
    for phase in (np.pi / 2, np.pi / 5):
        wave = fresnel(_grating(phase), wavelength=WAVELENGTH, pixel_size=PIXEL, distance=fraction * TALBOT)
        intensity = np.abs(wave[0, :PERIOD]) ** 2
        contrast = 2 * abs(np.fft.fft(intensity)[1]) / PERIOD
        expected = 4 / np.pi * np.sin(phase) * abs(np.sin(2 * np.pi * fraction))
        assert abs(contrast - expected) <= 0.01 * expected


def _behind_edge(w):
    """Amplitude behind a half-plane that is open where w > 0, w = x √(2/λz)."""
    s, c = fresnel_integrals(w)
    return ((0.5 + c) + 1j * (0.5 + s)) / (1 + 1j)


# √(λz) is 64 samples: fringes are well resolved, and the other edge is hundreds of fringes away.
FRINGE, WIDE = 64, 65536
EDGE_DISTANCE = (FRINGE * PIXEL) ** 2 / WAVELENGTH


@BOTH
def test_knife_edge(propagate):
    x = _centred(WIDE)
    wave = propagate(
        (np.abs(x) < WIDE / 4).astype(float)[None], wavelength=WAVELENGTH, pixel_size=PIXEL,
        distance=EDGE_DISTANCE,
    )[0]  # fmt: skip
    near = np.abs(x + WIDE / 4) < 8 * FRINGE
    expected = np.abs(_behind_edge((x + WIDE / 4)[near] * np.sqrt(2) / FRINGE)) ** 2
    assert np.abs(np.abs(wave[near]) ** 2 - expected).max() <= 0.01
    assert expected.max() > 1.36  # the first fringe is among them


@pytest.mark.parametrize("width", [1, 2, 5])
def test_slit(width):
    x = _centred(WIDE)
    slit = (np.abs(x) < width * FRINGE / 2).astype(float)
    wave = fresnel(slit[None], wavelength=WAVELENGTH, pixel_size=PIXEL, distance=EDGE_DISTANCE)[0]
    near = np.abs(x) < 8 * FRINGE
    w = np.sqrt(2) / FRINGE * x[near]
    half = np.sqrt(2) * width / 2
    expected = np.abs(_behind_edge(w + half) - _behind_edge(w - half)) ** 2
    assert np.abs(np.abs(wave[near]) ** 2 - expected).max() <= 0.01


def test_a_thin_lens_focuses_to_its_airy_pattern():
    size, radius, pixel = 512, 60, 1e-6
    focal = 8 * radius * pixel**2 / WAVELENGTH  # λf/2a is 4 samples
    y, x = _centred(size)[:, None], _centred(size)[None, :]
    r = np.hypot(y, x)
    aperture = np.clip(0.5 + radius - r, 0, 1)  # a sample that the rim crosses is open in part
    lens = aperture * np.exp(-1j * np.pi * (r * pixel) ** 2 / (WAVELENGTH * focal))
    wave = fresnel(lens, wavelength=WAVELENGTH, pixel_size=pixel, distance=focal)
    v = 2 * np.pi * radius * pixel * r * pixel / (WAVELENGTH * focal)
    peak = (np.pi * (radius * pixel) ** 2 / (WAVELENGTH * focal)) ** 2
    expected = peak * (2 * j1(v) / v) ** 2
    near = r < 30  # seven rings
    assert np.abs(np.abs(wave) ** 2 - expected)[near].max() <= 0.01 * peak


def _smooth_sphere(r, x, radius, phase):
    """A sphere's wave; samples near the rim are means over 8 × 8 parts, as nothing finer is on the grid."""
    wave = np.exp(1j * phase(r))
    part = (np.arange(8) - 3.5) / 8 * (x[1] - x[0])
    iy, ix = np.nonzero((r > 0.85 * radius) & (r < radius + 1.5 * (x[1] - x[0])))
    fine = np.hypot(x[iy, None, None] + part[:, None], x[ix, None, None] + part)
    wave[iy, ix] = np.exp(1j * phase(fine)).mean(axis=(1, 2))
    return wave


def test_a_spheres_fringe_is_that_of_rays():
    """A ray at r leaves to r + z·2δr/√(R² − r²): darker inside, a bright ring round the rim.

    Light counted over regions that are wider than √(λz) = 16 samples is what rays carry there; diffraction
    at the rim takes √(λz)/R ≈ 5 % of the light refracted there, about a tenth of it all.
    """
    size, pixel, radius, distance = 1024, 1e-6, 350e-6, 1.0
    wavelength = (16 * pixel) ** 2 / distance
    delta = 10 * pixel / (2 * distance)
    x = _centred(size) * pixel
    r = np.hypot(x[:, None], x)

    def phase(r):
        thickness = 2 * np.sqrt(np.clip(radius**2 - r**2, 0, None))
        return -2 * np.pi / wavelength * delta * thickness

    wave = _smooth_sphere(r, x, radius, phase)
    intensity = np.abs(fresnel(wave, wavelength=wavelength, pixel_size=pixel, distance=distance)) ** 2
    start = np.linspace(0, radius * (1 - 1e-9), 100001)
    arrive = start + distance * 2 * delta * start / np.sqrt(radius**2 - start**2)
    for limit in np.array([0.5, 0.7, 0.8, 0.9]) * radius:
        kept = (np.interp(limit, arrive, start) / limit) ** 2
        assert abs(intensity[r < limit].mean() - kept) <= 0.02 * (1 - kept)
    a, b = 1.02 * radius, 1.1 * radius
    rays = np.interp([a, b], arrive, start)
    ring = 1 + (rays[1] ** 2 - rays[0] ** 2) / (b**2 - a**2)
    assert ring > 1.3
    assert abs(intensity[(r >= a) & (r < b)].mean() - ring) <= 0.03 * ring


def test_a_cone_beam_is_a_parallel_one_of_effective_geometry():
    """A Gaussian wave with a source 0.55 m upstream, by the q parameter (Siegman, Lasers, ch. 20)."""
    cone = xmist.Experiment(energy_kev=8.0, pixel_size=2e-6, sample_to_detector=0.8, source_to_sample=0.55)
    waist = 10e-6
    q = 1 / (1 / 0.55 + 1j * cone.wavelength / (np.pi * waist**2)) + cone.sample_to_detector
    width = np.sqrt(cone.wavelength / (np.pi * (1 / q).imag))
    at = _centred(512)
    sample = np.exp(-((at * cone.effective_pixel / waist) ** 2))
    wave = fresnel(
        sample[:, None] * sample, wavelength=cone.wavelength, pixel_size=cone.effective_pixel,
        distance=scaled_distance(start=0.55, stop=1.35, plane=0.55),
    )  # fmt: skip
    detector = np.exp(-2 * (at * cone.pixel_size / width) ** 2)
    expected = (waist * cone.magnification / width) ** 2 * detector[:, None] * detector
    assert np.abs(np.abs(wave) ** 2 - expected).max() <= 1e-9


@BOTH
@settings(max_examples=15)
@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    distance=st.floats(-1, 1),
    seed=st.integers(0, 99),
)
def test_energy_undoing_and_adding(propagate, shape, distance, seed):
    # The largest distance that the smaller side can sample is about size·p²/λ.
    reach = min([n for n in shape if n > 1], default=1) * 1e-12 / WAVELENGTH / 2
    beam = {"wavelength": WAVELENGTH, "pixel_size": 1e-6}
    wave = _random_wave(shape, seed)
    there = propagate(wave, distance=distance * reach, **beam)
    assert abs(_energy(there) / _energy(wave) - 1) <= 1e-10
    assert np.abs(propagate(there, distance=-distance * reach, **beam) - wave).max() <= 1e-10
    halfway = propagate(wave, distance=0.3 * distance * reach, **beam)
    assert np.abs(propagate(halfway, distance=0.7 * distance * reach, **beam) - there).max() <= 1e-10
    assert np.array_equal(wave, _random_wave(shape, seed)), "the caller's wave is left alone"


@BOTH
def test_single_precision_stays_and_keeps_energy(propagate):
    wave = _random_wave((300, 280), dtype=np.complex64)
    beam = {"wavelength": WAVELENGTH, "pixel_size": 1e-6, "distance": 1.0}
    there = propagate(wave, **beam)
    assert there.dtype == np.complex64
    assert abs(_energy(there) / _energy(wave) - 1) <= 1e-5
    # Rounding of the samples, of log2(300)·2 butterflies and of the factors: some tens of 6e-8.
    assert np.abs(there - propagate(wave.astype(np.complex128), **beam)).max() <= 1e-5
    assert propagate(wave.real, **beam).dtype == np.complex64
    assert propagate(np.ones((8, 8)), **beam | {"distance": 0.01}).dtype == np.complex128


@BOTH
@pytest.mark.parametrize("shape", [(129, 300), (64, 65), (7, 1)])
def test_no_thread_changes_a_bit(propagate, shape):
    wave = _random_wave(shape, dtype=np.complex64)
    beam = {"wavelength": WAVELENGTH, "pixel_size": 1e-6, "distance": 0.05}
    results = [propagate(wave, workers=workers, **beam) for workers in (1, 2, 5)]
    assert all(np.array_equal(result, results[0]) for result in results)


@BOTH
def test_memory_is_reused_when_asked(propagate):
    wave = _random_wave((64, 64), dtype=np.complex64)
    beam = {"wavelength": WAVELENGTH, "pixel_size": 1e-6, "distance": 0.5}
    expected = propagate(wave, **beam)
    assert propagate(wave, overwrite=True, **beam) is wave
    assert np.array_equal(wave, expected)
    fixed = _random_wave((64, 64), dtype=np.complex64)
    fixed.flags.writeable = False
    assert np.array_equal(propagate(fixed, overwrite=True, **beam), expected)


@BOTH
def test_a_shift_moves_the_field_by_any_part_of_a_pixel(propagate):
    wave = _random_wave((48, 64))
    beam = {"wavelength": WAVELENGTH, "pixel_size": 1e-6, "distance": 0.2}
    still = propagate(wave, **beam)
    moved = propagate(wave, shift=(2e-6, -5e-6), **beam)
    assert np.abs(moved - np.roll(still, (2, -5), (0, 1))).max() <= 1e-12
    half = propagate(wave, shift=(0.5e-6, 0.25e-6), **beam)
    back = propagate(half, shift=(-0.5e-6, -0.25e-6), **beam | {"distance": 0.0})
    assert np.abs(back - still).max() <= 1e-12


def test_angular_spectrum_at_large_angles():
    """A plane wave of sin θ = 0.48 gains the phase −k z (1 − cos θ)."""
    wave = np.exp(2j * np.pi * 0.75 * np.arange(64) * 0.5)[None]
    there = angular_spectrum(wave, wavelength=0.64, pixel_size=0.5, distance=3.0)
    expected = wave * np.exp(-2j * np.pi / 0.64 * 3.0 * (1 - np.sqrt(1 - 0.48**2)))
    assert np.abs(there - expected).max() <= 1e-12


def test_errors_come_all_at_once():
    with pytest.raises(xmist.InputError) as caught:
        fresnel(np.full((8, 8), np.nan), wavelength=0.0, pixel_size=-1e-6, distance=np.inf, shift=(0, "x"))
    text = str(caught.value)
    assert len(caught.value.codes) == 5
    for part in ("wavelength is 0 m", "pixel_size is -1e-06 m", "distance is inf", "along x is 'x'", "NaN"):
        assert part in text
    with pytest.raises(xmist.InputError, check=coded("value-invalid", names=["wave"])):
        fresnel(np.ones(8), wavelength=1e-10, pixel_size=1e-6, distance=1.0)
    with pytest.raises(xmist.InputError, check=coded("value-invalid", names=["0.5"])):
        angular_spectrum(np.ones((8, 8)), wavelength=1.0, pixel_size=0.5, distance=0.1)
    with pytest.raises(xmist.InputError, check=coded("value-invalid", names=["start", "0 m"])):
        scaled_distance(start=0.0, stop=1.0, plane=1.0)
