"""Counts that are no measurements, in frames as they are stored."""

import numpy as np
import pytest

from tests.preprocess.speckles import fully_developed, log_normal
from xmist import InputError
from xmist.numerics.images.raw_counts import RawCounts

SHAPE = (96, 110)


def counts(level=5000.0, frames=4, seed=0, kind=log_normal, dark=100.0):
    """Photon counts of speckle on top of an offset."""
    rng = np.random.default_rng(seed)
    extra = (0.3,) if kind is log_normal else ()
    light = np.stack([kind(rng, SHAPE, 3.0, *extra) for _ in range(frames)])
    return rng.poisson(level * light) + rng.normal(dark, 2.0, light.shape).round()


def found(frames, saturation=None):
    """Return the union of what is invalid in each frame, and the counts by kind."""
    check = RawCounts(saturation)
    masks = [check.invalid(frame, f"frame {n}") for n, frame in enumerate(frames)]
    for n in check.late():
        again = RawCounts(check.level)
        masks[n] = again.invalid(frames[n], "again")
    masks = np.stack([np.zeros(frames[0].shape, bool) if mask is None else mask for mask in masks])
    stuck = check.stuck()
    return masks if stuck is None else masks | stuck, check.counts


@pytest.mark.parametrize("kind", [log_normal, fully_developed])
@pytest.mark.parametrize("level", [3.0, 200.0, 20000.0])
@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.uint32, np.float32])
def test_speckle_holds_no_invalid_counts(kind, level, dtype):
    frames = np.minimum(counts(level, kind=kind), 65000).astype(dtype)
    masks, kinds = found(frames) if level < 20000 else found(np.minimum(counts(5000.0), 65000).astype(dtype))
    assert not masks.any(), kinds


@pytest.mark.parametrize(
    ("dtype", "marks"),
    [
        (np.uint16, [65535]),
        (np.uint16, [65535, 65534]),
        (np.uint32, [65535]),
        (np.float32, [65535]),
        (np.uint64, [2**32 - 1]),
        (np.uint64, [2**64 - 1]),
        (np.uint32, [2**32 - 1, 2**32 - 2]),
        (np.int32, [-1, -2]),
        (np.int16, [-1]),
        (np.int64, [2**32 - 1]),
        (np.float32, [-1, -2]),
        (np.float32, [2.0**32]),
        (np.float64, [2.0**32 - 1]),
        (np.float32, [-8]),
    ],
)
def test_markers_of_detectors(dtype, marks):
    frames = counts().astype(dtype)
    where = np.zeros(frames.shape, bool)
    where[:, 40:43] = True  # a gap between modules
    where[1, 20, 30:32] = True
    frames[where] = np.resize(np.asarray(marks, dtype), where.sum())
    masks, kinds = found(frames)
    assert np.array_equal(masks, where)
    assert kinds == {"marked": int(where.sum())}


def test_negative_numbers_after_a_dark_are_no_markers():
    frames = (counts(5.0, dark=0.0) - np.random.default_rng(1).poisson(5.0, (4, *SHAPE))).astype(np.int32)
    assert (frames == -1).any()
    assert not found(frames)[0].any()


@pytest.mark.parametrize("bits", [8, 12, 14, 16])
@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_saturation_is_a_plateau(bits, dtype):
    top = 2**bits - 1
    frames = np.minimum(counts(0.6 * top, dark=0.05 * top), top).astype(dtype)
    where = frames == top
    assert 0.005 < where.mean() < 0.3
    masks, kinds = found(frames)
    assert np.array_equal(masks, where)
    assert set(kinds) == {"saturated"}


@pytest.mark.parametrize("dtype", [np.uint32, np.float32])
def test_saturation_below_the_marker_of_a_gap(dtype):
    frames = np.minimum(counts(2500.0), 4095).astype(dtype)
    over = frames == 4095
    frames[:, 40:43] = 65535
    masks, kinds = found(frames)
    assert np.array_equal(masks, over | (frames == 65535))
    assert set(kinds) == {"marked", "saturated"}


def test_saturation_of_one_frame_is_a_limit_for_all():
    frames = np.minimum(counts(6000.0), 60000)
    frames[3] = np.minimum(3 * frames[3], 16383)  # found last
    frames[0, 5, 6] = frames[1, 7, 8] = 16383  # too few for a plateau of their own
    masks, _ = found(np.minimum(frames, 16383).astype(np.uint16))
    assert np.array_equal(masks, np.minimum(frames, 16383) == 16383)


def test_saturation_that_is_given():
    frames = counts().astype(np.uint16)
    masks, _ = found(frames, saturation=7000)
    assert np.array_equal(masks, frames >= 7000)


def test_a_frame_that_is_mostly_saturated():
    frames = np.minimum(counts(60000.0), 4095).astype(np.uint16)
    assert found(frames)[0].all()


@pytest.mark.parametrize("value", [57.0, 5000.0])
def test_stuck_counts(value):
    frames = counts(frames=5).astype(np.uint16)
    frames[:, 30, 40] = frames[:, 50, 60:62] = value
    masks, kinds = found(frames)
    assert np.argwhere(masks.all(axis=0)).tolist() == [[30, 40], [50, 60], [50, 61]]
    assert kinds == {"stuck": 3}


def test_counts_that_are_equal_by_chance_are_not_stuck():
    rare = np.random.default_rng(2).poisson(0.5, (6, *SHAPE)).astype(np.uint16)
    assert not found(rare)[0].any()
    same = np.repeat(counts(frames=1), 5, axis=0).astype(np.uint16)  # one frame, five times
    assert not found(same)[0].any()
    assert not found(counts(frames=3).astype(np.uint16))[0].any()


@pytest.mark.parametrize(("level", "noise"), [(70.0, 30.0), (150.0, 100.0)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.float32])
def test_counts_that_wrapped_around(level, noise, dtype):
    rng = np.random.default_rng(3)
    scale = 4 if dtype == np.uint8 else 1
    frames = (counts(level) - rng.normal(100.0, noise, (4, *SHAPE)).round()) // scale
    stored = frames.astype(np.int64).astype(np.uint16 if dtype == np.float32 else dtype).astype(dtype)
    assert (stored != frames).any()
    for frame in stored:
        with pytest.raises(InputError) as caught:
            found([frame])
        assert caught.value.codes == ("counts-wrapped",)
    assert not found(np.maximum(frames, 0).astype(dtype))[0].any()
    assert not found(frames.astype(np.int32))[0].any()  # signed: nothing wrapped


def test_hot_and_saturated_pixels_are_not_taken_for_wrapped_ones():
    frames = counts(300.0).astype(np.uint16)
    rng = np.random.default_rng(4)
    hot = rng.random(frames.shape) < 0.01
    frames[hot] = rng.integers(2000, 65536, hot.sum())
    found(frames)
    frames[hot] = 65535
    assert np.array_equal(found(frames)[0], hot)
