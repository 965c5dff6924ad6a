"""What separates sample frames from their model is drawn as it is."""

import numpy as np
import pytest

from tests.manufactured import speckle
from xmist.methods.full_field.noise import draw_noise
from xmist.numerics.images.denoise import spectrum_of, wiener

SHAPE = (96, 128)
PHOTONS = 2000.0


def test_draws_have_the_power_of_real_residuals_where_the_unknowns_are_read():
    """Real: Poisson noise in reference and sample, without a sample. It is white beyond the speckles only."""
    random = np.random.default_rng(1)
    truth = speckle(random, 8, SHAPE, grain=2.0)
    reference, sample = (random.poisson(PHOTONS * truth) / PHOTONS for _ in range(2))
    roots = np.sqrt(reference)
    clean = np.stack([wiener(root, 0.25 / PHOTONS) ** 2 for root in roots]).astype(np.float32)
    residual = sample - clean
    level = np.full(SHAPE, np.sqrt(np.mean(residual**2)))
    spectra = [spectrum_of(root, 0.25 / PHOTONS) for root in roots]
    drawn = draw_noise(random, clean, level, spectra)
    assert np.mean(drawn**2) == pytest.approx(np.mean(residual**2), rel=0.05)

    def inside(images):
        power = np.abs(np.fft.fft2(images)) ** 2
        radius = np.hypot(*np.meshgrid(np.fft.fftfreq(SHAPE[0]), np.fft.fftfreq(SHAPE[1]), indexing="ij"))
        return power[:, (radius > 0.01) & (radius < 0.07)].mean()

    # Means of 750 squares: their ratio is known to 5 %; the rings of the spectrum add as much.
    assert inside(drawn) == pytest.approx(inside(residual), rel=0.2)
    white = draw_noise(random, clean, level, ())
    assert inside(white) < 0.8 * inside(residual)


def test_errors_of_references_are_dimmed_like_the_reference():
    random = np.random.default_rng(2)
    reference = speckle(random, 1, SHAPE, grain=2.0)
    spectra = [spectrum_of(np.sqrt(reference[0]) + 0.05 * random.standard_normal(SHAPE), 0.0025)]
    level = np.full(SHAPE, 1e3)  # so that the white part is the same in both
    half = np.full(SHAPE, 0.5, np.float32)
    bright = draw_noise(np.random.default_rng(3), reference, level, spectra)
    dim = draw_noise(np.random.default_rng(3), reference, level, spectra, transmission=half)
    white = draw_noise(np.random.default_rng(3), 0.0 * reference, level, spectra)
    # The white parts differ by the share of the errors, some 1e-9 of them; float32 of 1e3 is known to 1e-4.
    error = bright - white
    assert np.std(error) > 0.01
    assert np.std((dim - white) / np.std(error)) == pytest.approx(0.5, abs=0.02)


def test_no_more_than_the_residual_is_drawn():
    random = np.random.default_rng(4)
    reference = speckle(random, 1, SHAPE, grain=2.0)
    spectra = [spectrum_of(np.sqrt(reference[0]) + 0.05 * random.standard_normal(SHAPE), 0.0025)]
    drawn = draw_noise(random, reference, np.full(SHAPE, 1e-3), spectra)
    # 12 288 pixels, some of them alike: the mean square is known to a few per cent.
    assert np.mean(drawn**2) == pytest.approx(1e-6, rel=0.1)
    assert not draw_noise(random, reference, np.zeros(SHAPE), spectra).any()
