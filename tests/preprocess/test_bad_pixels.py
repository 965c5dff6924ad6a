import numpy as np
import pytest
import scipy.ndimage as ndi
from hypothesis import given, settings
from hypothesis import strategies as st

import xmist
from tests.coded import coded
from tests.preprocess.speckles import fully_developed, log_normal, speckle
from xmist.preprocess import find_bad_pixels

SHAPE = (150, 190)


def _frames(kind, positions, grain, seed=0, visibility=0.3):
    rng = np.random.default_rng(seed)
    if kind == "log-normal":
        return 1e4 * np.stack([log_normal(rng, SHAPE, grain, visibility) for _ in range(positions)])
    if kind == "fully developed":
        return 1e4 * np.stack([fully_developed(rng, SHAPE, grain) for _ in range(positions)])
    # A Gaussian field of visibility 0.3 reaches 0 at 3.3 σ; detectors count photons on top of their offset.
    fields = [speckle(rng, SHAPE, grain=grain, visibility=visibility)[0] for _ in range(positions)]
    return 1e4 * np.maximum(np.stack(fields), 0.05)


def _spots(shape, number, seed):
    """Pixels at least three apart, that defects do not hide each other."""
    rng = np.random.default_rng(seed)
    where = np.zeros(shape, bool)
    grid = where[1::4, 1::4]
    grid.flat[rng.choice(grid.size, number, replace=False)] = True
    return where


@pytest.mark.parametrize("kind", ["gaussian", "log-normal", "fully developed"])
@pytest.mark.parametrize("grain", [2.0, 4.0, 10.0])
@pytest.mark.parametrize("positions", [1, 5])
def test_speckle_is_no_defect(kind, grain, positions):
    weights = find_bad_pixels(_frames(kind, positions, grain))
    assert (weights == 0).mean() < 1e-3


@pytest.mark.parametrize("kind", ["gaussian", "log-normal"])
@pytest.mark.parametrize("positions", [1, 2, 5])
def test_hot_and_dead_pixels_are_all_found(kind, positions):
    frames = _frames(kind, positions, 2.0, seed=3)
    local = np.stack([ndi.uniform_filter(frame, 11) for frame in frames])
    where = _spots(SHAPE, 240, 4)
    spots = np.argwhere(where)
    hot, dead, negative = (tuple(part.T) for part in (spots[:80], spots[80:160], spots[160:]))
    for n, frame in enumerate(frames):
        frame[hot] = 5.0 * local[n][hot]
        frame[dead], frame[negative] = 0.0, -8.0
    weights = find_bad_pixels(frames)
    assert not weights[:, where].any()
    assert (weights[:, ~where] == 0).mean() < 1e-3


def test_dead_pixels_are_found_where_speckle_itself_is_dark():
    # The tail of fully developed speckle goes down to 0; but rarely exactly, and not beside lit pixels.
    frames = _frames("fully developed", 1, 3.0, seed=3)
    where = _spots(SHAPE, 200, 4)
    frames[:, where] = 0.0
    assert (find_bad_pixels(frames)[0, where] == 0).mean() > 0.95


def test_pixels_that_are_bad_once_are_bad_in_that_frame_only():
    frames = _frames("gaussian", 3, 3.0, seed=5)
    frames[1, 40, 50], frames[2, 60, 70], frames[0, 80, 90] = np.nan, np.inf, 2e7
    changed = find_bad_pixels(frames) != find_bad_pixels(_frames("gaussian", 3, 3.0, seed=5))
    assert np.argwhere(changed).tolist() == [[0, 80, 90], [1, 40, 50], [2, 60, 70]]


def test_pixels_that_time_alone_shows():
    frames = _frames("gaussian", 8, 3.0, seed=6, visibility=0.2)
    where = _spots(SHAPE, 30, 7)
    spots = [tuple(spot) for spot in np.argwhere(where)]
    rng = np.random.default_rng(8)
    for y, x in spots[:10]:
        frames[:, y, x] = 1e4  # stuck at an ordinary value
    for y, x in spots[10:20]:
        frames[:, y, x] *= 0.3  # weak, as single speckles are too
    for y, x in spots[20:]:
        frames[:, y, x] += 1e4 * rng.choice([-0.8, 0.8], 8)  # blinking
    found = (find_bad_pixels(frames) == 0).all(axis=0)
    assert all(found[spot] for spot in spots)
    assert (found & ~where).mean() < 1e-3


@pytest.mark.parametrize(("height", "width"), [(1, 4), (2, 2), (4, 1)])
def test_clusters_of_up_to_four_pixels(height, width):
    frames = _frames("log-normal", 2, 3.0, seed=9)
    frames[0, 50 : 50 + height, 60 : 60 + width] = 3e5
    weights = find_bad_pixels(frames)
    assert not weights[0, 50 : 50 + height, 60 : 60 + width].any()


@pytest.mark.parametrize("factor", [0.2, 3.0])
@pytest.mark.parametrize("line", ["level", "upright", "diagonal", "none"])
def test_edges_and_lines_of_a_sample_are_kept(line, factor):
    y, x = np.mgrid[:90, :110]
    radius = np.hypot(y - 45, x - 55)
    sample = np.where(radius < 30, 1.0, 1e-3)  # a hole in a holder
    on = {"level": y == 45, "upright": x == 55, "diagonal": y == x - 10, "none": y < 0}[line]
    sample[on] *= factor
    noise = np.random.default_rng(10).normal(size=(1, 90, 110))
    bad = find_bad_pixels(1e4 * sample * (1 + 0.02 * noise))[0] == 0
    # A line looks like a cluster in its last two pixels.
    assert not bad[~on | (radius < 27)].any()


def test_saturation_is_given_or_found_as_a_plateau():
    frames = np.round(1e4 * np.stack([log_normal(np.random.default_rng(11), SHAPE, 3.0, 0.5)]))
    clipped = np.minimum(frames, 16383)
    assert 20 < (frames >= 16383).sum() < 0.1 * frames.size
    assert not find_bad_pixels(clipped)[clipped == 16383].any()
    assert (find_bad_pixels(clipped, saturation=12000)[frames >= 12000] == 0).all()
    # The brightest of weak counts are shared by chance.
    counts = np.random.default_rng(12).binomial(9, 0.5, (1, *SHAPE))
    assert (counts == 9).sum() > 20
    assert (find_bad_pixels(counts)[counts == 9] == 1).all()


def test_few_photons_are_no_dead_pixels():
    counts = np.random.default_rng(13).poisson(2.0, (2, *SHAPE))
    assert (counts == 0).mean() > 0.1
    assert (find_bad_pixels(counts) == 0).mean() < 1e-3


def test_seams_filled_with_copies():
    frames = _frames("log-normal", 2, 3.0, seed=14)
    frames[:, 71], frames[:, :, 121] = frames[:, 70], frames[:, :, 120]
    bad = find_bad_pixels(frames) == 0
    assert bad[:, 70:72].all()
    assert bad[:, :, 120:122].all()
    bad[:, 70:72] = bad[:, :, 120:122] = False
    assert bad.mean() < 1e-3


def test_weights_are_kept_and_bad_neighbours_say_nothing():
    frames = _frames("gaussian", 2, 3.0, seed=15)
    given = np.full(frames.shape, 0.5)
    given[:, :40] = 0
    frames[:, :40] = 1e9
    before = frames.copy()
    weights = find_bad_pixels(frames, given)
    assert not weights[:, :40].any()
    assert set(np.unique(weights)) <= {0.0, 0.5}
    assert (weights[:, 40:] == 0).mean() < 1e-3
    assert np.array_equal(frames, before)


def test_grow():
    frames = _frames("gaussian", 1, 4.0, seed=16)
    frames[0, 50, 60] = 1e6
    grown = find_bad_pixels(frames, grow=1) == 0
    assert grown[0, 49:52, 60].all()
    assert grown[0, 50, 59:62].all()


@given(st.floats(1e-6, 1e6), st.integers(0, 3))
@settings(max_examples=8)
def test_scale_and_turns_do_not_matter(factor, turns):
    frames = _frames("log-normal", 1, 3.0, seed=17)
    frames[0, 20, 30], frames[0, 70, 80] = 1e6, 0.0
    plain = find_bad_pixels(frames) == 0
    # The thresholds are read from every few pixels of large frames; these are small enough for all.
    turned = find_bad_pixels(np.rot90(factor * frames, turns, (1, 2))) == 0
    assert np.array_equal(turned, np.rot90(plain, turns, (1, 2)))


def test_threads_do_not_matter():
    frames = _frames("fully developed", 3, 2.0, seed=18)
    one, many = (find_bad_pixels(frames, threads=threads) for threads in (1, 5))
    assert np.array_equal(one, many)


def test_frames_without_anything():
    assert (find_bad_pixels(np.zeros((2, 20, 30))) == 1).all()
    assert (find_bad_pixels(np.full((2, 20, 30), np.nan)) == 0).all()
    assert (find_bad_pixels(np.full((5, 20, 30), 7.0)) == 1).all()
    with pytest.raises(xmist.InputError, check=coded("array-invalid", names=["frames"])):
        find_bad_pixels(np.ones((20, 30)))
