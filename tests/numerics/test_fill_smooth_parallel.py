import threading

import numpy as np
import pytest
import scipy.ndimage as ndi

from tests.coded import coded
from tests.manufactured import speckle
from xmist.core.errors import InputError
from xmist.numerics.images.fill import REACH, fill
from xmist.numerics.images.smooth import gaussian
from xmist.numerics.parallel import count_threads, for_blocks


def test_fill_restores_an_isolated_pixel_of_a_polynomial():
    y, x = np.mgrid[:15, :17].astype(float)
    image = 1 + 0.2 * x - 0.1 * y + 0.03 * x**2 + 0.001 * (y - 7) ** 5  # sixth order reproduces degree 5
    good = np.ones(image.shape, bool)
    good[7, 8] = False
    broken = np.where(good, image, np.nan)
    assert abs(fill(broken, good, smooth=True)[7, 8] - image[7, 8]) <= 1e-12 * np.abs(image).max()
    assert abs(fill(broken, good)[7, 8] - image[7, 8]) <= 0.2


def test_fill_leaves_good_pixels_and_reaches_eight_pixels():
    image = np.random.default_rng(1).normal(size=(40, 41)).astype(np.float32)
    good = np.zeros(image.shape, bool)
    good[20, 20] = True
    out = fill(np.where(good, image, np.float32(1e30)), good)
    assert out[20, 20] == image[20, 20]
    filled = np.isfinite(out)
    assert filled[20, 20 + REACH]
    assert not filled[20, 20 + REACH + 1]
    assert np.allclose(out[filled], image[20, 20], rtol=1e-6)


def test_fill_of_a_cluster_stays_within_its_neighbours():
    frame = speckle(np.random.default_rng(2), 1, (30, 30))[0]
    good = np.ones(frame.shape, bool)
    good[10:14, 11:16] = False
    out = fill(np.where(good, frame, np.inf), good, smooth=True)
    assert np.isfinite(out).all()
    assert out[10:14, 11:16].min() >= frame.min()
    assert out[10:14, 11:16].max() <= frame.max()


def test_smoothing_is_the_mirrored_gaussian_and_0_is_none():
    images = np.random.default_rng(3).normal(size=(3, 20, 25))
    expected = np.stack([ndi.gaussian_filter(image, 1.7, mode="reflect") for image in images])
    kept = images.copy()
    gaussian(images, 0.0)
    assert np.array_equal(images, kept)
    gaussian(images, 1.7, threads=2)
    assert np.array_equal(images, expected)


def test_blocks_cover_everything_once_and_use_the_threads():
    seen = np.zeros(1000, int)
    names = set()
    barrier = threading.Barrier(2, timeout=30)

    def task(start, stop):
        if start in (0, 64):
            barrier.wait()  # passes only if two blocks run at once
        names.add(threading.get_ident())
        seen[start:stop] += 1

    for_blocks(task, 1000, threads=2)
    assert np.all(seen == 1)
    assert len(names) == 2


def test_an_error_in_a_block_is_raised():
    def task(start, stop):
        raise ValueError(f"block {start}")

    with pytest.raises(ValueError, match="block"):
        for_blocks(task, 200, threads=2)


def test_blocks_within_blocks_get_done():
    """With every helper busy the caller does them: no waiting for one another."""
    done = np.zeros((8, 300), int)

    def inner(row):
        def task(start, stop):
            done[row, start:stop] += 1

        for_blocks(task, 300, threads=8)

    for_blocks(lambda start, stop: inner(start), 8, threads=8, block=1)
    assert np.all(done == 1)


@pytest.mark.parametrize("threads", [0, -1, 2.5, True, "2"])
def test_number_of_threads_is_checked(threads):
    with pytest.raises(InputError, check=coded("value-invalid", names=["threads"])):
        count_threads(threads)


def test_default_number_of_threads():
    assert count_threads() >= 1
