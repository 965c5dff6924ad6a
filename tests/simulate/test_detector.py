import numpy as np
import pytest

import xmist
from tests.coded import coded
from xmist.simulate.beam import Spectrum, source_blur
from xmist.simulate.detector import Detector, detect, draw_dead_pixels
from xmist.simulate.pixels import blur_and_bin, discrete_gaussian

IDEAL = {
    "pixel_size": 5e-6,
    "oversampling": 1,
    "psf_sigma": 0.0,
    "photons": 100.0,
    "gain": 1.0,
    "read_noise": 0.0,
    "offset": 0.0,
}


def _detector(**changes):
    return Detector(**(IDEAL | changes))


def test_poisson_frames_have_the_mean_and_variance_stated():
    """10⁶ pixels: the mean is good to 0.01 %, the variance to 0.15 % (one σ)."""
    detector = _detector(photons=50.0, gain=3.0, read_noise=4.0, offset=20.0)
    counts = detect(np.full((1000, 1000), 0.8), detector, np.random.default_rng(1)).astype(float)
    mean, variance = 3.0 * 40.0 + 20.0, 9.0 * 40.0 + 16.0
    assert abs(counts.mean() / mean - 1) <= 0.01
    assert abs(counts.var() / variance - 1) <= 0.01


def test_expected_counts_without_a_generator():
    light = np.random.default_rng(0).uniform(0, 2, (6, 8))
    counts = detect(light, _detector(gain=2.0, offset=5.0, read_noise=3.0), None)
    assert counts.dtype == np.float32
    assert np.allclose(counts, 200 * light + 5)


def test_pixels_add_up_their_samples():
    light = np.random.default_rng(0).uniform(0, 2, (12, 18)).astype(np.float32)
    counts = detect(light, _detector(oversampling=3), None)
    assert np.allclose(counts, 100 * light.reshape(4, 3, 6, 3).mean(axis=(1, 3)))
    inner = detect(light, _detector(oversampling=2), None, margin=3)
    assert np.allclose(inner, 100 * light[3:-3, 3:-3].reshape(3, 2, 6, 2).mean(axis=(1, 3)))


def test_point_spread_and_source_add_in_quadrature():
    """A cosine is dimmed by exp(t(cos w − 1)), t = σ² (the discrete Gaussian), and by the pixel's sinc."""
    n, binning, turns = 240, 4, 5
    sigma = np.hypot(3e-6, 4e-6) / 5e-6 * binning
    w = 2 * np.pi * turns / n
    light = np.broadcast_to(1 + 0.5 * np.cos(w * (np.arange(n) + 0.5)), (80, n))
    detector = _detector(psf_sigma=3e-6, oversampling=binning, photons=1.0)
    line = detect(light, detector, None, source_blur=4e-6)[7].astype(float)
    contrast = 2 * abs(np.fft.fft(line)[turns]) / len(line)
    pixel = np.sin(binning * w / 2) / (binning * np.sin(w / 2))
    assert abs(contrast / (0.5 * pixel * np.exp(sigma**2 * (np.cos(w) - 1))) - 1) <= 1e-6
    assert abs(np.exp(sigma**2 * (np.cos(w) - 1)) / np.exp(-((sigma * w) ** 2) / 2) - 1) <= 1e-3


@pytest.mark.parametrize("sigma", [0.0, 0.05, 0.4, 1.0, 7.3])
def test_discrete_gaussian_has_its_variance(sigma):
    weights = discrete_gaussian(sigma)
    n = np.arange(len(weights)) - len(weights) // 2
    assert np.isclose(weights.sum(), 1, rtol=1e-14)
    assert np.isclose((weights * n**2).sum(), sigma**2, rtol=1e-8)


def test_blur_mirrors_the_border_and_sees_the_margin():
    image = np.random.default_rng(0).uniform(size=(9, 11))
    mirrored = np.pad(image, 40, mode="symmetric")  # many times the image
    assert np.allclose(blur_and_bin(image, 3.0, 1), blur_and_bin(mirrored, 3.0, 1, margin=40))
    assert np.isclose(blur_and_bin(image, 3.0, 1).sum(), image.sum())  # no light is lost
    assert np.allclose(blur_and_bin(image.T, 1.0, 1), blur_and_bin(image, 1.0, 1).T)
    assert np.array_equal(blur_and_bin((8 * image).astype(int), 0.0, 1), (8 * image).astype(int))


def test_saturation_dead_pixels_and_whole_counts():
    light = np.array([[0.5, 2.0, 1.0], [1.0, 1.0, 3.0]])
    detector = _detector(saturation=150.0, dead_pixels=((1, 1),), photons=10.4, gain=10.0, whole_counts=True)
    assert detect(light, detector, None).tolist() == [[52.0, 150.0, 104.0], [104.0, 0.0, 150.0]]
    noisy = detect(light, detector, np.random.default_rng(0))
    assert np.array_equal(noisy, np.rint(noisy))
    assert noisy[1, 1] == 0.0
    assert noisy.max() <= 150.0


def test_the_same_seed_gives_the_same_bytes_on_any_thread_count():
    light = np.random.default_rng(0).uniform(0.5, 1.5, (320, 300)).astype(np.float32)
    detector = _detector(oversampling=2, psf_sigma=4e-6, read_noise=1.0)

    def frames(workers, order):
        done = {n: detect(light, detector, np.random.default_rng([7, n]), workers=workers) for n in order}
        return [done[n].tobytes() for n in range(3)]

    first = frames(1, (0, 1, 2))
    assert frames(2, (2, 0, 1)) == first
    assert frames(5, (1, 2, 0)) == first
    assert len(set(first)) == 3
    other = detect(light, detector, np.random.default_rng(8))
    assert other.tobytes() not in first


def test_dead_pixels_are_drawn_once_each():
    dead = draw_dead_pixels((40, 50), 0.01, seed=5)
    assert len(set(dead)) == 20
    assert dead == tuple(sorted(dead)) == draw_dead_pixels((40, 50), 0.01, seed=5)
    assert draw_dead_pixels((40, 50), 0.0, seed=5) == ()
    detect(np.ones((40, 50)), _detector(dead_pixels=dead), None)


def test_source_blur_is_a_pinhole_image():
    assert np.isclose(source_blur(source_sigma=6e-6, source_to_plane=0.5, plane_to_detector=1.0), 12e-6)
    with pytest.raises(xmist.InputError) as caught:
        source_blur(source_sigma=-1, source_to_plane=0, plane_to_detector=-1.0)
    assert len(caught.value.codes) == 3


def test_spectrum():
    spectrum = Spectrum(energies_kev=(10.0, 20.0, 30.0), weights=(1, 2, 5))
    assert np.isclose(sum(weight for _, weight in spectrum), 1.0)
    with pytest.raises(xmist.InputError) as caught:
        Spectrum(energies_kev=(10.0, -1.0), weights=(-1.0,))
    assert len(caught.value.codes) == 3
    with pytest.raises(xmist.InputError, check=coded("value-invalid", names=["weights"])):
        Spectrum(energies_kev=(10.0,), weights=(0.0,))


def test_what_a_detector_cannot_be():
    with pytest.raises(xmist.InputError) as caught:
        Detector(
            pixel_size=5.0, oversampling=0, psf_sigma=-1.0, photons=0, gain=0, read_noise=-1, offset=np.nan,
            saturation=-np.inf, whole_counts="yes",
        )  # fmt: skip
    text = str(caught.value)
    assert len(caught.value.codes) == 9
    assert "photons is 0 photons; expected a number above 0" in text
    with pytest.raises(xmist.InputError, check=coded("value-invalid", names=["saturation", "90 counts"])):
        _detector(offset=100.0, saturation=90.0)
    with pytest.raises(TypeError):
        Detector(pixel_size=5e-6)  # no quantity has a default


def test_what_light_cannot_be():
    with pytest.raises(xmist.InputError) as caught:
        detect(-np.ones((5, 6)), _detector(oversampling=2, dead_pixels=((9, 0),)), None)
    assert len(caught.value.codes) == 3
    for wrong in (np.full((4, 4), np.nan), np.full((4, 4), np.inf)):
        with pytest.raises(xmist.InputError, check=coded("value-invalid", names=["intensity"])):
            detect(wrong, _detector(), None)
    with pytest.raises(xmist.InputError) as caught:
        detect(np.ones(5), _detector(), None, margin=-1, source_blur=-1.0)
    assert len(caught.value.codes) == 3
    with pytest.raises(xmist.InputError, check=coded("value-invalid", names=["margin"])):
        detect(np.ones((4, 4)), _detector(), None, margin=2)
    with pytest.raises(xmist.InputError, check=coded("value-invalid", names=["fraction"])):
        draw_dead_pixels((4, 4), 2.0, seed=1)
