"""Statistics of speckles."""

import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from xmist.numerics.images.speckles import speckle_wavenumber


def _speckles(sigma, noise=0.0, seed=1):
    """Return frames of correlation exp(−s²/4σ²), so that κ_s = 1/σ, on a sloping beam, with noise."""
    random = np.random.default_rng(seed)
    frames = []
    for _ in range(3):
        frame = gaussian_filter(random.normal(size=(192, 192)), sigma, mode="wrap")
        frame = (1 + 0.15 * frame / frame.std()) * np.linspace(0.8, 1.2, 192)[:, None]
        frames.append(frame + noise * np.sqrt(frame) * random.normal(size=frame.shape))
    return np.array(frames)


@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_wavenumber_of_gaussian_speckles(noise):
    frames = _speckles(2.0, noise)
    used = np.ones(frames.shape, bool)
    # About 1 / √(3 · 192² / 4πσ²) = 2.1 % of random error of each of two moments.
    assert speckle_wavenumber(frames, used, noise**2) == pytest.approx(0.5, rel=0.04)


def test_pixels_not_used_do_not_count():
    frames = _speckles(2.0)
    used = np.ones(frames.shape, bool)
    used[:, 100:120] = False
    before = speckle_wavenumber(frames, used, 0.0)
    frames[:, 104:116] = 50.0  # the stencil reaches 3 pixels
    assert speckle_wavenumber(frames, used, 0.0) == before


def test_no_speckles_have_no_wavenumber():
    frames = np.ones((1, 16, 16))
    assert math.isnan(speckle_wavenumber(frames, np.ones(frames.shape, bool), 0.0))
