import numpy as np
import pytest
import scipy.ndimage as ndi

from tests.manufactured import blob, speckle
from xmist.numerics.images.smooth import outlying
from xmist.numerics.operators.finite_model import linearise
from xmist.numerics.operators.finite_transport import spline_coefficients
from xmist.numerics.operators.transport import LOG_T, PSI, D, Transport
from xmist.numerics.solvers.poisson import filtered, frequencies

SHAPE = (60, 76)
KINDS = (PSI, D, LOG_T)
FRAMES = speckle(np.random.default_rng(1), 2, SHAPE, grain=2.0)
FIELDS = np.stack([blob(SHAPE, 0.5, 0.4, 0.3), 0.3 * blob(SHAPE, 0.4, 0.6, 0.3), -blob(SHAPE, 0.5, 0.5, 0.3)])


def _model(fields, dtype=np.float64, threads=2):
    frames, zero = FRAMES.astype(dtype), np.zeros_like(FRAMES, dtype)
    models, residual = linearise(frames, zero, KINDS, fields.astype(dtype), smoothing=2.0, threads=threads)
    return models, -np.asarray(residual)


def test_first_order_of_the_model_is_the_operator():
    transport = Transport(frames=FRAMES, kinds=KINDS)
    change = np.abs(transport.forward(FIELDS)).max()
    left = []
    for size in (0.1, 0.05):
        difference = (_model(size * FIELDS)[1] - FRAMES) / size - transport.forward(FIELDS)
        left.append(np.abs(difference)[:, 4:-4, 4:-4].max())
    # What the size halves is second order; a few per cent of the change are that of the stencils.
    assert left[1] < 0.75 * left[0]
    assert left[1] <= 0.1 * change


def test_single_precision_and_threads():
    exact, models = _model(FIELDS)[1], _model(FIELDS, np.float32)
    # Some hundred sums of float32 numbers of about 1.
    assert np.abs(models[1] - exact).max() <= 1e-5
    for one, other in zip(models, _model(FIELDS, np.float32, threads=1), strict=True):
        assert one.dtype == np.float32
        assert np.array_equal(one, other)


def test_spline_coefficients_are_those_of_the_recursive_filter():
    expected = ndi.spline_filter(FRAMES[0], 5, mode="reflect")
    assert np.abs(spline_coefficients(FRAMES[0]) - expected).max() <= 1e-12 * np.abs(expected).max()


def test_filter_is_the_mirrored_convolution():
    gains = [np.exp(-0.5 * (2.0 * k) ** 2) for k in frequencies(SHAPE)]
    # A sampled Gaussian of σ = 2 that ends at 6σ is the spectral one to exp(−18) and its alias, exp(−2π²).
    expected = ndi.gaussian_filter(FRAMES[0], 2.0, mode="reflect", truncate=6.0)
    assert np.abs(filtered(FRAMES[0], *gains) - expected).max() <= 1e-7


@pytest.mark.parametrize("shape", [(40, 50), (41, 53)])
def test_outlying_pixels_are_those_above_the_mean_of_the_used_ones(shape):
    rng = np.random.default_rng(2)
    used = rng.random(shape) > 0.3
    y, x = np.mgrid[: shape[0], : shape[1]]
    # Bins of two pixels and a slope of 0.02 a pixel; the border's mirror bends it by 0.02 σ.
    mean = 1.0 + 0.01 * x + 0.02 * y
    image = np.sqrt(np.where(used, mean, 1e30))
    image[20, 20], image[22, 25] = np.sqrt(3.2 * mean[20, 20]), np.sqrt(1.8 * mean[22, 25])
    used[20, 20] = used[22, 25] = True
    found = outlying(image, used, 4.0, 2.8)
    assert np.array_equal(np.argwhere(found), [[20, 20]])
    assert np.array_equal(found, outlying(image, used, 4.0, 2.8, threads=8))
    assert not outlying(image, np.zeros(shape, bool), 4.0, 2.8).any()
