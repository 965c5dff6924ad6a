import numpy as np
import pytest
import scipy.ndimage as ndi
from hypothesis import given, settings
from hypothesis import strategies as st

import xmist
from tests.preprocess.speckles import fully_developed, log_normal
from xmist.preprocess import find_unlit, normalise_flux
from xmist.preprocess.frames import lit_level

SHAPE = (160, 200)


def _holder(centre=(150, 130), radius=110):
    """A round opening, and a slit above it."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return (np.hypot(y - centre[0], x - centre[1]) < radius) & (y >= 30)


def _frames(lit, positions=2, seed=0, kind=log_normal):
    rng = np.random.default_rng(seed)
    extra = (0.3,) if kind is log_normal else ()
    frames = np.stack([kind(rng, SHAPE, 3.0, *extra) for _ in range(positions)])
    return 5e4 * np.where(lit, frames, 1e-3 * rng.uniform(0.5, 1.5, frames.shape))


@pytest.mark.parametrize("kind", [log_normal, fully_developed])
def test_the_border_is_found_to_a_pixel(kind):
    lit = _holder()
    found = find_unlit(_frames(lit, kind=kind), margin=0) == 0
    assert np.array_equal(found[0], found[1])
    # Corners are rounded off; no lit pixel belongs to it that is not at the border.
    assert (found[0] & ~lit).sum() > 0.995 * (~lit).sum()
    assert not (found[0] & ndi.binary_erosion(lit, iterations=2)).any()


def test_margin_and_what_is_not_a_region():
    lit = np.ones(SHAPE, bool)
    frames = _frames(lit)
    frames[:, 50:55, 60:65] = 0  # a cluster of dead pixels
    frames[:, 100], frames[:, :, 90:92] = 0, 0  # dead lines
    assert (find_unlit(frames) == 1).all()
    frames[:, :20] = 3.0
    for margin in (0, 4):
        unlit = find_unlit(frames, margin=margin) == 0
        assert unlit[:, : 20 + margin].all()
        unlit[:, :, 80:102] = False  # the dead columns that touch it join it
        assert not unlit[:, 20 + margin :].any()


def test_an_absorbing_sample_is_lit_and_hot_pixels_do_not_light_the_dark():
    lit = _holder()
    frames = _frames(lit)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    frames[:, np.abs(x - 130) < 15] *= 0.12
    hot = np.random.default_rng(1).random(SHAPE) < 0.02
    frames[:, hot] = 1e7
    unlit = find_unlit(frames, margin=0)[0] == 0
    assert not unlit[lit & (np.hypot(y - 150, x - 130) < 105) & (y > 35)].any()
    assert unlit[~lit].mean() > 0.99


def test_bad_pixels_have_no_vote():
    lit = _holder()
    frames = _frames(lit)
    weights = np.ones(frames.shape)
    weights[:, 98:103] = weights[:, :, 118:123] = 0  # seams that cross
    region = find_unlit(frames, weights, margin=0)[0] == 0
    plain = find_unlit(frames, margin=0)[0] == 0
    good = weights[0] > 0
    # Where a seam meets the border, a few pixels change sides.
    assert (region & good & ~plain).sum() <= 10
    assert (plain & good & ~region).sum() <= 10


def test_everything_lit_or_dark():
    assert (find_unlit(np.ones((1, 20, 30))) == 1).all()
    assert (find_unlit(np.zeros((1, 20, 30))) == 1).all()  # no beam anywhere says nothing on where it is


def test_level_of_a_small_lit_part():
    values = np.r_[np.zeros(9000), np.random.default_rng(2).normal(100, 5, 1000), np.full(20, 1e9)]
    assert abs(lit_level(values) - 100) < 1
    assert lit_level(np.zeros(5)) == lit_level(np.array([])) == 0


def _pair(transmission, factors, seed=3):
    rng = np.random.default_rng(seed)
    reference = np.stack([log_normal(rng, SHAPE, 3.0, 0.3) for _ in range(2)])
    sample = rng.poisson(1e4 * reference * transmission) / 1e4
    return reference, np.asarray(factors)[:, None, None] * sample


def _tubes(covered):
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    image = np.ones(SHAPE)
    image[:, : int(covered * SHAPE[1])] = 0.7
    image[np.hypot(y - 80, x - 160) < 15] = 0.4
    return image


@pytest.mark.parametrize("covered", [0.1, 0.4, 0.7])
def test_bare_beam_is_found_beside_an_absorbing_sample(covered):
    transmission = _tubes(covered)
    reference, sample = _pair(transmission, [0.8, 1.3])
    first, second = normalise_flux(reference, sample)
    bare = transmission == 1
    for n in range(2):
        ratio = second[n][bare].mean(dtype=float) / first[n][bare].mean(dtype=float)
        # A twentieth of 32000 pixels of 1e4 counts: 3e-4; the border of a block may hold a bit of the sample.
        assert abs(ratio - 1) <= 2e-3
    means = first[:, :, :192].mean(axis=(1, 2), dtype=float)  # whole blocks of 16 count
    assert abs(means[0] / means[1] - 1) <= 1e-5


def test_a_given_box_is_exact_and_counts_stay_counts():
    transmission = _tubes(0.4)
    reference, sample = _pair(transmission, [0.8, 1.3])
    reference = reference * np.array([2e4, 3e4])[:, None, None]
    first, second = normalise_flux(reference, sample, rows=(5, 60), columns=(100, 195))
    box = np.s_[:, 5:60, 100:195]
    assert np.allclose(first[box].mean(axis=(1, 2)), second[box].mean(axis=(1, 2)), rtol=1e-5)
    assert abs(first[box].mean() / reference[box].mean() - 1) <= 1e-5


@given(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
@settings(max_examples=8)
def test_factors_fall_out(a, b):
    reference, sample = _pair(_tubes(0.3), [1.0, 1.0])
    plain = normalise_flux(reference, sample)
    scaled = normalise_flux(reference, sample * np.array([a, b])[:, None, None])
    assert np.allclose(plain[0], scaled[0], rtol=1e-6)
    assert np.allclose(plain[1], scaled[1], rtol=1e-5)


def test_bad_pixels_carry_no_flux():
    reference, sample = _pair(_tubes(0.3), [0.9, 0.9])
    weights = np.ones(reference.shape)
    expected = normalise_flux(reference, sample)
    reference[:, 20, 30], weights[:, 20, 30] = 1e12, 0
    sample[0, 40, 150] = np.nan
    found = normalise_flux(reference, sample, weights)
    good = (weights > 0) & np.isfinite(sample)
    assert np.allclose(found[1][good], expected[1][good], rtol=1e-4)


def test_no_flux():
    frames = np.ones((2, 30, 40))
    dark = frames * np.array([1, 0])[:, None, None]
    for call, code in [
        (lambda: normalise_flux(-frames, frames), "flux-undetermined"),
        (lambda: normalise_flux(frames, dark, rows=(0, 10)), "flux-undetermined"),
        (lambda: normalise_flux(frames, frames, rows=(10, 5)), "option-invalid"),
    ]:
        with pytest.raises(xmist.InputError) as caught:
            call()
        assert caught.value.codes == (code,)
