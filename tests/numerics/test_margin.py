import numpy as np

from xmist.numerics.images.margin import Margined


def test_images_with_a_margin_are_their_even_mirrors():
    images = np.random.default_rng(1).normal(size=(2, 5, 7)).astype(np.float32)
    found = Margined(images, 3)
    expected = np.pad(images, ((0, 0), (3, 3), (3, 3)), mode="symmetric")
    assert (len(found), found.shape, found.dtype) == (2, expected.shape, expected.dtype)
    assert np.array_equal(np.asarray(found), expected)
    assert np.array_equal(found[1], expected[1])
