"""Every kernel of the matching on tiny arrays: quick enough to run uncompiled too."""

import numpy as np
import pytest

from xmist.numerics.matching import match as matching
from xmist.numerics.matching.constants import MARGIN
from xmist.numerics.matching.match import MEANS, OFFSET, SCALE, Window, match
from xmist.numerics.matching.search import find_group
from xmist.numerics.matching.tile import Search, match_tile


def wave(shape, x=0.0, y=0.0):
    """Two frames of waves that only one shift within a pixel fits."""
    v, u = np.mgrid[: shape[0], : shape[1]].astype(float)
    u, v = u - x, v - y
    first = 1 + 0.2 * np.cos(0.9 * u + 0.3 * v) + 0.1 * np.cos(1.1 * v - 0.4 * u)
    second = 1 + 0.2 * np.sin(0.8 * u - 0.5 * v) + 0.1 * np.sin(0.9 * v + 0.6 * u)
    return np.stack([first, second]).astype(np.float32)


@pytest.mark.parametrize("weighting", ["flat", "hamming"])
@pytest.mark.parametrize("model", [MEANS, SCALE, OFFSET])
def test_inner_tile(model, weighting):
    """A tile that reaches no border, straight from the kernel."""
    size = 2 * (MARGIN + 3) + 3
    shape = (size, size + 1)
    reference, sample = wave(shape), 0.5 * wave(shape, 0.3, -0.2)
    window = Window(5, weighting)
    search = Search(
        model=model,
        window=window.profile,
        flat=window.flat,
        reach=1,
        order=matching._nearest_first(1),
        gains=np.ones(3, np.float32),
        noise=np.zeros(4),
        taps=matching.half_sample_taps(),
    )
    nothing = np.empty((0, 0, 0), np.uint8), np.empty((0, 0, 0), np.float32), np.empty((2, 0, 0), np.int64)
    corner = MARGIN + 3
    found = match_tile(reference, sample, *nothing, search, (corner, corner + 3, corner, corner + 3))
    assert np.allclose(found.shift, np.array([0.3, -0.2])[:, None, None], atol=0.03)
    assert np.allclose(found.scale, 0.5, rtol=0.02)
    assert not found.status.any()


@pytest.mark.parametrize("model", [MEANS, OFFSET])
def test_whole_image_with_weights_and_start(model):
    shape = (9, 10)
    reference, sample = wave(shape), wave(shape, 1.2, 0.1)
    weights = np.ones_like(sample)
    weights[0, 3, 3] = 0
    sample[1, 5, 6] = np.nan
    good = np.ones(reference.shape, np.uint8)
    good[0, 6, 4] = 0
    start = np.zeros((2, *shape), np.int64)
    start[0], start[1, 4:] = 1, 1
    found = match(
        reference, sample, Window(3), reach=1, model=model, good=good, weights=weights, start=start, level=1.0
    )
    inside = (slice(3, -3), slice(4, -3))
    assert np.abs(found.shift[0] - 1.2)[inside].max() <= 0.02  # as a rigid shift anywhere
    assert np.isfinite(found.shift).all()
    sample[:] = np.nan
    lost = match(reference, sample, Window(3), reach=0, model=model)
    assert np.isnan(lost.shift).all()
    assert lost.status.all()


def test_groups_of_equal_shifts():
    ys = np.zeros((64, 64), np.int64)
    ys[40, 50] = 2
    ys[0, 0] = 2
    done, box = np.zeros(ys.shape, bool), np.zeros(4, np.int64)
    find_group(ys, ys, done, 0, 0, box)
    assert box.tolist() == [0, 0, 0, 0]  # two far apart are two groups
    find_group(ys, ys, done, 0, 1, box)
    assert box.tolist() == [0, 63, 0, 63]
