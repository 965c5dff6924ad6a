"""Codes: right within half a step, honest about what lies beyond, and packed without loss."""

import base64
import zlib

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xmist.view.report.encode import ABOVE, BELOW, LAST, NO_VALUE, pack, quantise, unpack

SHAPES = arrays.array_shapes(min_dims=2, max_dims=2, max_side=9)
ANY_CODES = SHAPES.flatmap(lambda shape: arrays.arrays(np.uint16, shape))
ANY_IMAGE = SHAPES.flatmap(
    lambda shape: arrays.arrays(np.float32, shape, elements=st.floats(width=32, allow_subnormal=False))
)


@given(ANY_CODES)
def test_packing_loses_nothing(codes):
    text, predictor = pack(codes)
    assert np.array_equal(unpack(text, codes.shape, predictor), codes)


@given(ANY_IMAGE)
def test_every_value_is_right_within_half_a_step_or_said_to_be_beyond(image):
    found = quantise(image)
    values = found.values()
    assert np.array_equal(np.isnan(image), found.codes == NO_VALUE)
    inside = np.isfinite(values)
    # Half a step by rounding to the nearest, and eight roundings of float64 at the size of the limits.
    slack = 8 * np.finfo(float).eps * (abs(found.low) + LAST * found.step)
    assert np.all(np.abs(values[inside] - image[inside].astype(float)) <= found.step / 2 + slack)
    for code, side in ((BELOW, -1), (ABOVE, 1)):
        beyond = image[found.codes == code].astype(float)
        edge = found.low if side < 0 else found.low + (LAST - 1) * found.step
        assert np.all(side * (beyond - edge) > -found.step / 2 - slack)


def test_a_single_far_value_does_not_take_the_contrast_from_the_rest():
    random = np.random.default_rng(1)
    image = random.normal(size=(64, 64))
    image[5, 7] = 1e30
    found = quantise(image)
    assert found.codes[5, 7] == ABOVE
    # The inner 99.8 % of a normal distribution are 6.2 wide; the range may end 8 of those to each side.
    assert found.step < 17 * 6.2 * 1.5 / LAST + 1 / 32 * 1.2


def test_the_step_is_a_32nd_of_the_noise_where_noise_decides():
    random = np.random.default_rng(2)
    slope = np.arange(256.0) * np.ones((256, 1))
    found = quantise(slope + random.normal(0, 3.0, (256, 256)))
    # The median of 65025 mixed differences is known to 1.17/√(65025/2) of it (neighbours share values).
    assert found.step == pytest.approx(3.0 / 32, rel=0.03)


def test_a_noiseless_image_uses_all_codes():
    found = quantise(np.linspace(0, 1, 400).reshape(20, 20))
    assert found.codes.min() == 1
    assert found.codes.max() == LAST
    assert found.step == 1 / (LAST - 1)


@pytest.mark.parametrize("value", [0.0, 1e-11, -7.25e8])
def test_a_constant_image_stays_exactly_what_it_is(value):
    image = np.full((5, 6), value)
    assert np.array_equal(quantise(image).values(), image)


def test_nothing_but_nan_and_infinities():
    values = quantise([[np.nan, np.inf], [-np.inf, np.nan]]).values()
    assert np.array_equal(values, [[np.nan, np.inf], [-np.inf, np.nan]], equal_nan=True)


def test_noise_takes_less_than_ten_bits_a_pixel():
    random = np.random.default_rng(3)
    text, _ = pack(quantise(random.normal(size=(256, 256))).codes)
    # Entropy of differences √2 · 32 steps wide: log2(√2 · 32 · √(2πe)) = 7.5 bits; two bytes in place of
    # one number, and Huffman codes in place of fractions of bits, cost up to two more.
    assert 8 * len(base64.b64decode(text)) / 256**2 < 9.5


def test_a_smooth_image_takes_less_than_noise():
    y, x = np.mgrid[:128, :128] / 20
    smooth, noise = (
        len(pack(quantise(image).codes)[0])
        for image in (np.sin(x) * np.cos(y), np.random.default_rng(4).normal(size=x.shape))
    )
    assert smooth < noise


def test_text_is_what_a_browser_inflates():
    text, _ = pack(np.zeros((3, 4), np.uint16))
    assert zlib.decompress(base64.b64decode(text)) == bytes(2 * 3 * 4)
