import numpy as np
import pytest

from tests.moving import SHAPE, astigmatism, cut_object, defocus, inner_object, moving, tilt
from xmist.numerics.images.border_registration import register_border


@pytest.mark.parametrize("positions", [1, 3])
@pytest.mark.parametrize(
    ("shift", "exact"),
    [
        (tilt, (0.4, -0.3, 0.0, 0.0, 0.0)),
        (defocus, (0.0, 0.0, 0.02, 0.02, 0.0)),
        (astigmatism, (0.0, 0.0, 0.006, -0.006, 0.008)),
    ],
)
def test_polynomials_are_measured(shift, exact, positions):
    frames = moving(shift, positions)
    found = register_border(frames.reference, frames.sample)
    assert len(found.boxes) >= 8
    # A patch knows a shift to about 0.01 pixels; one that changes by a pixel along it, to some 0.05.
    assert np.abs(found.polynomial() - exact)[:2].max() <= 0.02
    assert np.abs(found.polynomial() - exact)[2:].max() <= 1.5e-3
    square, deviation = found.through_border()
    assert square > 100 * deviation
    square, _ = found.without(frames.shift).mean_square()
    assert square <= 0.06**2


@pytest.mark.parametrize("positions", [1, 2])
@pytest.mark.parametrize(
    "slopes", [(7.0, -7.5, 0.0, 0.0, 0.0), (0.0, 0.0, 0.12, 0.12, 0.0)], ids=["tilt", "defocus"]
)
def test_motion_beyond_what_patches_hold_is_found_on_binned_frames(slopes, positions):
    a, b, c, d, e = slopes
    frames = moving(lambda x, y: (a + c * x + e * y, b + e * x + d * y), positions)
    found = register_border(frames.reference, frames.sample)
    assert len(found.boxes) >= 8
    # Seen where rays arrive: x + cx comes from x.
    arriving = np.array([a, b, c / (1 + c), d / (1 + d), e])
    assert np.abs(found.polynomial() - arriving)[:2].max() <= 0.1
    assert np.abs(found.polynomial() - arriving)[2:].max() <= 4e-3
    square, _ = found.without(frames.shift).mean_square()
    assert square <= 0.2**2


def test_frames_that_do_not_belong_together_have_no_shifts():
    one, other = (moving(tilt, 1, seed=seed) for seed in (0, 1))
    assert len(register_border(one.reference, other.sample).boxes) <= 2


def test_nothing_moves_without_a_sample_or_for_one_inside():
    for seed in range(8):
        for shift in (lambda x, y: (0 * x, 0 * y), inner_object):
            frames = moving(shift, 1, seed=seed)
            square, deviation = register_border(frames.reference, frames.sample).through_border()
            assert abs(square) <= 5 * deviation


def test_pixels_without_weight_or_value_count_for_nothing():
    frames = moving(cut_object, 2)
    weights = np.ones(frames.sample.shape)
    weights[0, :8, 20:70] = 0.0
    weights[:, 40, :] = 0.0
    found = [register_border(frames.reference, frames.sample, weights)]
    for value in (np.nan, -1e9, 1e9):
        sample = np.where(weights == 0.0, value, frames.sample)
        found.append(register_border(frames.reference, sample, weights))
    assert all(np.array_equal(one.shifts, found[0].shifts) for one in found)
    assert all(np.array_equal(one.covariances, found[0].covariances) for one in found)


def test_frames_without_speckle_have_no_shifts():
    flat = np.ones((1, *SHAPE))
    found = register_border(flat, flat)
    assert not found.boxes
    assert found.through_border() == (0.0, 0.0)
    assert not found.polynomial().any()
