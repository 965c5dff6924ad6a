import numpy as np
import scipy.ndimage as ndi

from tests.manufactured import speckle
from xmist.numerics.operators.derivatives import DX, DY, derivative
from xmist.numerics.operators.parallax import Pattern, bending
from xmist.numerics.operators.transport import LOG_T, PSI

SHAPE = (40, 56)


def test_bending_is_what_made_the_speckles():
    frame = speckle(np.random.default_rng(1), 1, SHAPE, 2.0)[0]
    along_x, along_y = bending(frame)
    divergence = derivative(along_x, DX) + derivative(along_y, DY)
    inside = (slice(6, -6), slice(6, -6))  # slopes have the odd mirror, stencils the even one
    # Stencils of sixth order: at grains of σ = 2 pixels κ is below 1.2 almost everywhere, κ⁶/140 below 2 %.
    assert np.abs(divergence + frame / frame.mean() - 1)[inside].max() <= 0.02 * np.ptp(frame)


def test_a_pattern_moves_by_whole_pixels():
    rng = np.random.default_rng(2)
    fields = ndi.gaussian_filter(rng.normal(size=(2, *SHAPE)), (0, 1, 1))
    pattern = Pattern.of((PSI, LOG_T), fields, smoothing=2.0)
    shift = np.stack([np.full(SHAPE, 3.0), np.full(SHAPE, -2.0)])  # x, y
    moved = Pattern.of((PSI, LOG_T), np.roll(fields, (-2, 3), (1, 2)), smoothing=2.0)
    along_x, along_y, log_t = (a - b for a, b in zip(moved.images, pattern.images, strict=True))
    model = speckle(rng, 1, SHAPE, 2.0)[0]
    expected = derivative(model, DX) * along_x + model * derivative(along_x, DX)
    expected += derivative(model, DY) * along_y + model * derivative(along_y, DY) - model * log_t
    inside = (slice(14, -14), slice(14, -14))  # what rolls over the border, and four σ of smoothing
    assert np.allclose(pattern.change(model, shift)[inside], expected[inside], atol=1e-3 * np.ptp(expected))
