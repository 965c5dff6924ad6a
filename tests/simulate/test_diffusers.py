import dataclasses

import numpy as np
import pytest

import xmist
from tests.coded import coded
from xmist.simulate.diffusers import (
    Checkerboard,
    Diffuser,
    HoleGrid,
    RandomScreen,
    Sandpaper,
    independent_positions,
    random_positions,
    raster_positions,
    transmission_functions,
)
from xmist.simulate.propagation import fresnel

WAVELENGTH = 7.293e-11
PIXEL = 2e-6
# Weak enough that no phase about the mean is wrapped.
SCREEN = RandomScreen(wavelength=WAVELENGTH, grain_size=20e-6, rms_phase=0.5, seed=1)
PAPER = Sandpaper(wavelength=WAVELENGTH, grain_size=24e-6, rms_phase=0.5, layers=6, size_spread=0.4, seed=2)
HOLES = HoleGrid(wavelength=WAVELENGTH, period=40e-6, diameter=22e-6, phase=-1.0, delta_over_beta=50.0)
BOARD = Checkerboard(wavelength=WAVELENGTH, period=16e-6, phase=-1.0)
KINDS = pytest.mark.parametrize("diffuser", [SCREEN, PAPER, HOLES, BOARD], ids=lambda m: type(m).__name__)
RANDOM = pytest.mark.parametrize("diffuser", [SCREEN, PAPER], ids=lambda m: type(m).__name__)


def _sample(diffuser, shape=(60, 70), positions=((0.0, 0.0),), wavelength=WAVELENGTH, **options):
    sampled = transmission_functions(diffuser, shape, PIXEL, wavelength, positions, **options)
    return [t.copy() for t in sampled]


def _phase(diffuser, shape, **options):
    (t,) = _sample(diffuser, shape, dtype=np.complex128, **options)
    return np.angle(t * np.exp(-1j * diffuser.mean_phase))


def _width(image):
    """Full width at half maximum of the autocorrelation along y and x, in metres."""
    image = image - image.mean()
    correlation = np.fft.ifft2(np.abs(np.fft.fft2(image)) ** 2).real
    lines = correlation[:60, 0], correlation[0, :60]
    return [2 * PIXEL * np.interp(-0.5, -line / line[0], np.arange(60)) for line in lines]


@RANDOM
def test_grain_size_and_rms_phase_are_as_stated(diffuser):
    # 1000² samples hold about (2 mm/20 µm)² = 10⁴ grains: 1 % for a mean square, 3 σ is 1.5 % for its root.
    phase = _phase(diffuser, (1000, 1000))
    assert abs(phase.mean()) <= 0.03 * diffuser.rms_phase
    assert abs(phase.std() / diffuser.rms_phase - 1) <= 0.015
    for width in _width(phase):
        assert abs(width / diffuser.correlation_width - 1) <= 0.03


def test_sandpaper_of_a_material():
    """One sphere on every ray in the mean, all alike: var t = 2r² (Campbell), so kδ√2 r is the rms phase."""
    values = {"wavelength": WAVELENGTH, "grain_size": 24e-6, "layers": 1.0, "size_spread": 0.0, "seed": 1}
    paper = Sandpaper.of_material(delta=1e-7, beta=1e-9, **values)
    assert np.isclose(paper.rms_phase, 2 * np.pi / WAVELENGTH * 1e-7 * np.sqrt(2) * 12e-6)
    assert np.isclose(paper.mean_thickness, 4 / 3 * 12e-6, atol=0)
    assert np.isclose(paper.delta_over_beta, 100)
    assert Sandpaper.of_material(delta=1e-7, beta=0.0, **values).delta_over_beta is None
    # The thickest grain is 24 µm; grains that overlap are thicker, none is thinner than nothing.
    (t,) = _sample(paper, (200, 200), dtype=np.complex128)
    assert abs(t).max() == 1.0
    assert abs(t).min() < np.exp(-2 * np.pi / WAVELENGTH * 1e-9 * 23e-6)


@KINDS
def test_translation_by_whole_pixels_is_a_shift_of_the_samples(diffuser):
    still, moved = _sample(diffuser, positions=[(0, 0), (3 * PIXEL, -5 * PIXEL)], dtype=np.complex128)
    assert np.abs(moved[3:, :-5] - still[:-3, 5:]).max() <= 3e-6


@KINDS
def test_translation_by_a_part_of_a_pixel_samples_the_same_plane(diffuser):
    """A grid twice as fine holds the diffuser where the moved one is sampled."""
    step = (PIXEL / 2, -PIXEL / 2)
    (moved,) = _sample(diffuser, (30, 34), [step], dtype=np.complex128)
    (fine,) = transmission_functions(diffuser, (61, 69), PIXEL / 2, WAVELENGTH, [(0, 0)], dtype=np.complex128)
    # Sample i of the coarse grid lies at (i − 14.5) p − p/2 = (2i − 30) p/2, sample 2i of the fine one.
    expected = fine[0:60:2, 2:70:2]
    if isinstance(diffuser, RandomScreen | Sandpaper):  # a few float32 roundings of some rad
        assert np.abs(moved - expected).max() <= 3e-6
    else:  # edges are means over pixels of another size
        assert np.median(np.abs(moved - expected)) <= 1e-12


@RANDOM
def test_a_small_field_is_cut_from_a_large_one(diffuser):
    # At 12 places, so that some border cuts grains of a neighbouring tile.
    positions = np.random.default_rng(0).uniform(-1e-3, 1e-3, (12, 2))
    small, large = (_sample(diffuser, shape, positions) for shape in ((20, 30), (60, 70)))
    for part, whole in zip(small, large, strict=True):
        assert np.abs(part - whole[20:40, 20:50]).max() <= 1e-5


@RANDOM
def test_absorption_and_other_wavelengths(diffuser):
    """Twice the wavelength: twice the phase, and eight times the logarithm of T."""
    absorbing = dataclasses.replace(diffuser, delta_over_beta=40.0, rms_phase=0.2)
    shape = (200, 200)
    (near,) = _sample(absorbing, shape, dtype=np.complex128)
    (far,) = _sample(absorbing, shape, wavelength=2 * WAVELENGTH, dtype=np.complex128)
    assert np.allclose(np.log(abs(far)), 8 * np.log(abs(near)), atol=1e-6)
    assert np.allclose(far / abs(far), (near / abs(near)) ** 2, atol=1e-6)
    # ln T = 2φ/γ, on the mean and on every sample.
    phase = np.angle(near * np.exp(-1j * absorbing.mean_phase)) + absorbing.mean_phase
    assert np.allclose(2 * np.log(abs(near)), 2 * phase / 40, atol=1e-6)
    assert abs(near).max() <= 1.0


def test_holes():
    (t,) = _sample(HOLES, (400, 400), dtype=np.complex128)
    plate = np.exp((1j + 1 / 50) * -1.0)
    open_part = ((t - plate) / (1 - plate)).real
    # Area of a disc over that of its cell, by 400 holes of 11-sample diameter.
    assert abs(open_part.mean() - np.pi / 4 * (22 / 40) ** 2) <= 1e-3
    assert np.abs(t[:-20] - t[20:]).max() <= 1e-12  # the period
    assert abs(t[200:202, 200:202] - 1).max() == 0.0  # a hole in the middle
    assert np.allclose(t, t[::-1, ::-1])


def test_checkerboard():
    (t,) = _sample(BOARD, (64, 64), positions=[(0.3 * PIXEL, -0.4 * PIXEL)], dtype=np.complex128)
    plate = np.exp(-1j)
    matter = ((t - 1) / (plate - 1)).real
    assert np.isclose(matter.mean(), 0.5)
    assert np.isclose(matter[34, 34], 0.0)  # nothing where y and x are positive and below half a period
    # A pixel that an edge crosses at 30 % (along y) or 40 % (along x) holds so much of the other colour.
    assert set(np.unique(np.round(matter, 9))) == {0.0, 1.0, 0.3, 0.7, 0.4, 0.6, 0.54, 0.46}


@KINDS
def test_no_thread_changes_a_bit(diffuser):
    shape = (150, 131)
    results = [_sample(diffuser, shape, [(1e-6, 2.3e-6)], workers=workers)[0] for workers in (1, 2, 5)]
    assert all(np.array_equal(result, results[0]) for result in results)
    assert results[0].dtype == np.complex64


@RANDOM
def test_seeds(diffuser):
    (a,), (b,) = _sample(diffuser), _sample(dataclasses.replace(diffuser, seed=99))
    assert np.array_equal(a, _sample(diffuser)[0])
    assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.5


@RANDOM
def test_independent_positions_see_no_grain_twice(diffuser):
    shape = (200, 200)
    positions = independent_positions(3, extent=shape[1] * PIXEL, diffuser=diffuser)
    spectra = [np.fft.fft2(t - t.mean()) for t in _sample(diffuser, shape, positions)]
    norms = [np.linalg.norm(s) for s in spectra]
    # 400 grains: a correlation of 1/20 is one σ; over all displacements of a grain or more, 5 σ is rare.
    for a, b in ((0, 1), (1, 2), (0, 2)):
        correlation = np.fft.ifft2(spectra[a] * spectra[b].conj()) * shape[0] * shape[1]
        assert np.abs(correlation).max() <= 0.3 * norms[a] * norms[b]
    with pytest.raises(xmist.InputError, check=coded("value-invalid", names=["HoleGrid"])):
        independent_positions(3, extent=1e-3, diffuser=HOLES)


def test_step_lists():
    raster = raster_positions(5, step=2e-5)
    assert np.allclose(raster / 2e-5, [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1]])
    drawn = random_positions(400, span=1e-3, seed=3)
    assert np.array_equal(drawn, random_positions(400, span=1e-3, seed=3))
    assert 0 <= drawn.min() < 1e-5
    assert 0.99e-3 < drawn.max() <= 1e-3


def test_what_a_diffuser_cannot_be():
    with pytest.raises(xmist.InputError) as caught:
        RandomScreen(wavelength=-1.0, grain_size=0.0, rms_phase=np.nan, seed=-1, delta_over_beta=0)
    assert len(caught.value.codes) == 5
    with pytest.raises(xmist.InputError, check=coded("value-invalid", names=["phase", "1 rad", "0 rad"])):
        Checkerboard(wavelength=WAVELENGTH, period=1e-5, phase=1.0)
    with pytest.raises(xmist.InputError, check=coded("value-invalid", names=["diameter"])):
        HoleGrid(wavelength=WAVELENGTH, period=1e-5, diameter=2e-5, phase=-1.0)
    with pytest.raises(xmist.InputError, check=coded("value-invalid", names=["delta"])):
        Sandpaper.of_material(
            wavelength=WAVELENGTH, delta=0, beta=0, grain_size=1e-5, layers=1, size_spread=0, seed=0
        )


def test_errors_are_raised_by_the_call():
    plain = Diffuser(wavelength=WAVELENGTH)
    with pytest.raises(xmist.InputError) as caught:
        transmission_functions(plain, (0, 4), 0.0, -1.0, [1.0], dtype=np.float32)
    text = str(caught.value)
    assert len(caught.value.codes) == 6
    for part in ("expected a RandomScreen", "shape along y is 0", "pixel_size is 0 m", "(position, 2)"):
        assert part in text
    for wrong in ([["a", "b"]], [[0.0, np.inf]]):
        with pytest.raises(xmist.InputError, check=coded("value-invalid", names=["positions"])):
            transmission_functions(SCREEN, (4, 4), PIXEL, WAVELENGTH, wrong)
    for call in (
        lambda: raster_positions(0, step=-1.0),
        lambda: random_positions(2.5, span=0.0, seed=1),
        lambda: independent_positions(0, extent=0.0, diffuser=SCREEN),
    ):
        with pytest.raises(xmist.InputError) as caught:
            call()
        assert len(caught.value.codes) == 2


def test_speckle_of_a_weak_screen_is_as_bright_as_theory_says():
    """Var I = 4 ∫ S sin²(πλz f²) df for a weak phase; S Gaussian: 2 σ² q²/(1 + q²), q = λz/(2π s²).

    s² = (grain size)²/(16 ln 2) is that of the covariance exp(−r²/(4s²)).
    """
    rms, grain, distance = 0.05, 20e-6, 1.5
    weak = dataclasses.replace(SCREEN, rms_phase=rms, grain_size=grain)
    (t,) = _sample(weak, (1000, 1000), dtype=np.complex128)
    wave = fresnel(t, wavelength=WAVELENGTH, pixel_size=PIXEL, distance=distance)
    intensity = np.abs(wave[50:-50, 50:-50]) ** 2  # off the border, where the field does not join
    q = WAVELENGTH * distance * 16 * np.log(2) / (2 * np.pi * grain**2)
    expected = rms * np.sqrt(2) * q / np.sqrt(1 + q**2)
    # 90² grains: 1 %; the next order in the phase adds rms² at most.
    assert abs(intensity.std() / intensity.mean() / expected - 1) <= 0.03
