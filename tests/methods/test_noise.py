"""What separates sample frames from their model is drawn as it is."""

import numpy as np
import pytest

from tests.manufactured import speckle
from xmist.methods.full_field import noise
from xmist.numerics.images.denoise import spectrum_of, wiener
from xmist.numerics.operators.transport import LOG_T, PSI, D, Transport
from xmist.numerics.solvers.whole_image import Right

SHAPE = (96, 128)
PHOTONS = 2000.0


def draw_noise(random, reference, level, spectra, *, transmission=None):
    """The images whose right side `right_of_noise` returns."""
    out = np.zeros(reference.shape, np.float32)
    made = 0.0
    for n, error in noise._errors(random, reference, spectra, transmission, None):
        out[n] = error
        made += noise._mean_square(error) / len(out)
    of_errors, of_white = noise._shares(made, noise._mean_square(level))
    out *= np.float32(of_errors)
    for image in out:
        image += (of_white * level).astype(np.float32) * random.standard_normal(image.shape, np.float32)
    return out


@pytest.mark.parametrize("noisy", [False, True])
def test_the_right_side_is_that_of_the_images(noisy):
    reference = speckle(np.random.default_rng(5), 2, SHAPE, grain=2.0).astype(np.float32)
    level = np.full(SHAPE, 0.1, np.float32)
    roots = np.sqrt(reference) + 0.02 * np.random.default_rng(6).standard_normal(reference.shape)
    spectra = [spectrum_of(root, 0.0004) for root in roots] if noisy else ()
    transport = Transport(frames=reference, kinds=(PSI, D, LOG_T))
    found = noise.right_of_noise(np.random.default_rng(1), reference, level, spectra, transport)
    images = draw_noise(np.random.default_rng(1), reference, level, spectra)
    exact = Right.of(transport, images)
    # float32 sums of some ten thousand pixels.
    assert np.allclose(found.coefficients, exact.coefficients, atol=1e-4 * np.abs(exact.coefficients).max())
    # The two parts are independent: their product is 1/√(2 · 96 · 128) of the sum of squares.
    assert found.constant == pytest.approx(exact.constant, rel=0.03)


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
