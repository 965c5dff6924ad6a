"""Frames that nobody means to give: every method says so, or flags what it gives no value."""

import numpy as np
import pytest

import xmist
from tests.coded import coded
from tests.manufactured import EXPERIMENT, speckle
from xmist import METHODS, InputError

SHAPE = (16, 18)


def pair(number):
    rng = np.random.default_rng(1)
    reference = speckle(rng, number, SHAPE).astype(np.float32)
    return reference, 0.9 * np.roll(reference, 1, axis=2)


def cases(number):
    """By name references and samples."""
    r, s = pair(number)
    half = r.copy()
    half[:, ::2] = np.nan
    lone = np.full_like(r, np.nan)
    lone[:, 3, 3] = 1.0
    spoiled = s.copy()
    spoiled[:, 5], spoiled[:, :, 3] = np.inf, -1e30
    return {
        "no light behind the sample": (r, 0 * s),
        "a dead frame": (r, np.where(np.arange(number)[:, None, None] == 0, 0, s)),
        "a frame without values": (r, np.where(np.arange(number)[:, None, None] == 0, np.nan, s)),
        "samples at or below 0": (r, -s),
        "nothing but ones": (np.ones_like(r), np.ones_like(r)),
        "no sample": (r, r),
        "the same exposure again": (np.repeat(r[:1], number, 0), np.repeat(s[:1], number, 0)),
        "half of the rows dead": (half, s),
        "one pixel left": (lone, s),
        "infinite and far off rows": (r, spoiled),
        "a bright unit": (1e27 * r, 1e27 * s),
        "a faint unit": (1e-36 * r, 1e-36 * s),
        "samples brighter than anything": (r, 1e20 * s),
    }


def given(method):
    """Number of exposures, and options without a default."""
    number = 1 if method in ("full-field", "single-exposure") else 4
    return number, {"delta_over_beta": 1000.0} if METHODS[method].delta_over_beta == "required" else {}


@pytest.mark.parametrize("method", list(METHODS))
def test_no_pixel_lacks_a_value_without_a_flag(method):
    number, options = given(method)
    for name, (reference, sample) in cases(number).items():
        try:  # a warning is an error here
            found = xmist.retrieve(
                xmist.SpeckleStack(reference, sample), EXPERIMENT, method=method, threads=1, **options
            )
        except InputError:
            continue
        for channel, image in found.channels():
            missing = ~np.isfinite(image).reshape(-1, *SHAPE).all(axis=0)
            assert not missing[found.flags == 0].any(), (name, channel)


@pytest.mark.parametrize("factor", [0.0, -1.0])
@pytest.mark.parametrize("method", list(METHODS))
def test_sample_frames_without_light_are_an_error(method, factor):
    _, options = given(method)
    reference, sample = pair(4)
    plan = xmist.prepare(reference, EXPERIMENT, method=method, threads=1, **options)
    with pytest.raises(InputError, check=coded("pixels-unusable")):
        plan(factor * sample)


def test_counts_that_wrapped_around_raise_no_python_warning():
    random = np.random.default_rng(0)
    reference = random.poisson(400 * speckle(random, 2, (32, 32), 2.0))
    frames = (reference - int(np.percentile(reference, 3))).astype(np.uint16)
    found = xmist.retrieve(
        xmist.SpeckleStack(frames, np.roll(frames, 1, axis=2)), EXPERIMENT, method="full-field", threads=1
    )
    assert any(record.severity == "warning" for record in found.findings)


@pytest.mark.parametrize("method", list(METHODS))
def test_masked_weights_of_a_projection_count_for_nothing(method):
    number, options = given(method)
    reference, sample = pair(number)
    plan = xmist.prepare(reference, EXPERIMENT, method=method, threads=1, **options)
    dead = np.zeros(sample.shape, bool)
    dead[0, 5:7, 8] = True
    masked, plain = (
        plan(sample, weights=weights)
        for weights in (np.ma.masked_array(np.ones(sample.shape), dead), (~dead).astype(float))
    )
    assert np.array_equal(masked.flags, plain.flags)
    for channel, image in plain.channels():
        assert np.array_equal(getattr(masked, channel), image, equal_nan=True), channel


@pytest.mark.parametrize("method", list(METHODS))
def test_no_bit_depends_on_the_unit_of_the_frames(method):
    # A power of two rounds nothing; squares of such frames are far beyond single precision, on either side.
    number = 1 if method == "single-exposure" else 4
    options = {"delta_over_beta": 1000.0} if METHODS[method].delta_over_beta == "required" else {}
    frames = pair(number)

    def found(factor):
        stack = xmist.SpeckleStack(*(np.float32(factor) * one for one in frames))
        return xmist.retrieve(stack, EXPERIMENT, method=method, threads=1, **options)

    plain = found(1.0)
    for factor in (2.0**100, 2.0**-100):
        other = found(factor)
        assert np.array_equal(other.flags, plain.flags)
        for name, image in plain.channels():
            assert np.array_equal(getattr(other, name), image, equal_nan=True), (name, factor)


def test_full_field_takes_no_value_for_light_that_no_beam_gives():
    reference, sample = pair(2)
    sample[0, 4, 5] = 1e30
    found = xmist.retrieve(xmist.SpeckleStack(reference, sample), EXPERIMENT, method="full-field", threads=1)
    dead = sample.copy()
    dead[0, 4, 5] = np.nan
    same = xmist.retrieve(xmist.SpeckleStack(reference, dead), EXPERIMENT, method="full-field", threads=1)
    assert np.array_equal(found.phase, same.phase)
    assert np.array_equal(found.flags, same.flags)
    with pytest.raises(InputError, check=coded("pixels-unusable")):
        xmist.retrieve(xmist.SpeckleStack(reference, 1e20 * dead), EXPERIMENT, method="full-field")
