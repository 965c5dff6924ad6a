"""The contrast of details of the dark-field behind the point spread of a detector."""

import numpy as np
import pytest

from xmist.tomography.sharpen import detail_contrast, sharpen

SIDE = 128


@pytest.fixture(scope="module")
def speckles():
    """Return spectra of Gaussian speckles (position, y, x), and |p|² of their waves in rad² per pixel²."""
    p = 2.0 * np.pi * np.fft.fftfreq(SIDE)
    p2 = p[:, None] ** 2 + p[None] ** 2
    noise = np.random.default_rng(0).normal(size=(8, SIDE, SIDE))
    return np.fft.fft2(noise) * np.exp(-p2 / 4 / 0.6**2), p2


@pytest.mark.parametrize("periods", [2, 6, 10, 16])
def test_the_contrast_is_that_of_a_fit_behind_the_detector(speckles, periods):
    light, p2 = speckles
    sigma = 1.0
    blur = np.exp(-0.5 * sigma**2 * p2)
    wave = np.cos(2.0 * np.pi * periods * np.arange(SIDE) / SIDE)

    def change(spectrum):
        return -p2 * np.fft.fft2(wave * np.fft.ifft2(spectrum).real)

    seen, expected = blur * change(light), change(blur * light)
    found = float((seen * expected.conj()).sum().real / (np.abs(expected) ** 2).sum())
    power = np.abs(blur * light) ** 2
    wavenumber = float(np.sqrt((power * p2).sum() / power.sum()))
    # 8 · 128² pixels hold about 5 000 speckles: 1.5 %, and twice that.
    assert found == pytest.approx(
        float(detail_contrast(2.0 * np.pi * periods / SIDE, wavenumber, sigma)), rel=0.03
    )


def test_a_wave_gets_its_contrast_back():
    wave = 2.0 * np.pi * 6 / SIDE
    image = np.tile(1.0 + np.cos(wave * np.arange(SIDE)), (1, 24, 1)).astype(np.float32)
    contrast = float(detail_contrast(wave, 0.64, 1.0))
    found = sharpen(image, 0.64, 1.0)[0, 12]
    middle = slice(16, -16)
    gain = np.polyfit(image[0, 12, middle], found[middle], 1)[0]
    # 1/contrast, less what the limit of 0.3 takes: contrast² + 0.3² instead of contrast², with 1 at wave 0.
    assert gain == pytest.approx(1.09 * contrast / (contrast**2 + 0.09), rel=0.01)
    assert found.mean() == pytest.approx(image.mean(), rel=0.01)
