import numpy as np
import pytest

from tests.manufactured import speckle
from xmist.numerics.images.denoise import noise_variance, spectrum_of, wiener
from xmist.numerics.solvers.poisson import dct2

SHAPE = (160, 200)


def test_noise_variance_of_noise_and_of_noisy_speckle():
    rng = np.random.default_rng(1)
    noise = 0.03 * rng.normal(size=SHAPE)
    # 32 × 40 coefficients in the corner: the median of their squares has a standard error of 5 %.
    assert noise_variance(noise) == pytest.approx(0.03**2, rel=0.2)
    smooth = speckle(rng, 1, SHAPE, grain=2.0)[0]
    assert noise_variance(smooth + noise) == pytest.approx(0.03**2, rel=0.2)
    assert noise_variance(smooth) < 1e-3 * 0.03**2


def test_filter_is_the_wiener_filter_of_white_noise_on_white_noise():
    # Signal and noise white and equal in power: everything is halved.
    rng = np.random.default_rng(2)
    image = rng.normal(size=(2, *SHAPE)).sum(axis=0)
    out = wiener(image, 1.0)
    factor = ((out - out.mean()) * (image - image.mean())).sum() / ((image - image.mean()) ** 2).sum()
    assert factor == pytest.approx(0.5, abs=0.03)


def test_noise_alone_has_no_power():
    spectrum = spectrum_of(0.1 * np.random.default_rng(6).normal(size=SHAPE), 0.01)
    # Of 60 rings, one stands out by three standard deviations in 12 draws.
    assert not spectrum.power.any()


def test_error_is_uncorrelated_with_the_estimate():
    """What errors in variables need: the filtered image is the mean of what the true one can be."""
    rng = np.random.default_rng(3)
    truth = np.log(speckle(rng, 1, SHAPE, grain=2.0)[0])
    out = wiener(truth + 0.1 * rng.normal(size=SHAPE), 0.01)
    error = truth - out
    centred = out - out.mean()
    # Spread of the correlation over about 160 · 200/40 independent speckles, three of them.
    assert abs(np.mean(error * centred) / np.sqrt(np.mean(error**2) * np.mean(centred**2))) < 3 / np.sqrt(800)
    assert np.std(error) < 0.5 * 0.1


def test_drawn_errors_are_like_those_that_are_made():
    """Of the same power in a band that the noise rules, where signal and noise are alike, and in between."""
    rng = np.random.default_rng(5)
    truth = np.log(speckle(rng, 1, SHAPE, grain=2.0)[0])
    noisy = truth + 0.1 * rng.normal(size=SHAPE)
    made = dct2(wiener(noisy, 0.01) - truth)
    drawn = dct2(spectrum_of(noisy, 0.01).draw_error(SHAPE, rng))
    k_y, k_x = (np.pi * np.arange(size) / size for size in SHAPE)
    k = np.hypot(k_y[:, None], k_x)
    for low, high in ((0.1, 0.5), (0.5, 0.9), (0.9, 1.3)):
        band = (k > low) & (k < high)
        # Two means of at least 700 squares each, and rings that know the power to 5 %: three of them.
        assert np.mean(made[band] ** 2) / np.mean(drawn[band] ** 2) == pytest.approx(1.0, abs=0.25)
    assert not spectrum_of(truth, 0.0).draw_error(SHAPE, rng).any()


def test_without_noise_nothing_changes():
    image = speckle(np.random.default_rng(4), 1, (20, 31))[0]
    assert np.array_equal(wiener(image, 0.0), image)
    assert np.array_equal(wiener(image, 1e-3, threads=1), wiener(image, 1e-3, threads=8))
