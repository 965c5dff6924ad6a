"""A result that the speckles contradict says so, and one that they confirm does not."""

import functools

import numpy as np
import pytest
import scipy.ndimage as ndi

import xmist
from tests.manufactured import EXPERIMENT, blob, speckle
from tests.methods.window_frames import moved
from xmist.numerics.images.residual_shift import residual_shifts

SHAPE = (96, 96)
CODES = {"shift-contradicted", "positions-disagree", "speckles-lost"}


def refracted(reference, y=0.5):
    """Frames of an object that conserves light; it moves speckles by 0.6 pixels at most."""
    psi = -11.0 * blob(SHAPE, y, 0.5, 0.16)
    along_y, along_x = np.gradient(psi)
    dense = 1.0 - np.gradient(along_y, axis=0) - np.gradient(along_x, axis=1)
    return dense * moved(reference, along_x, along_y)


@functools.cache
def frames(number):
    reference = speckle(np.random.default_rng(5), number, SHAPE, 1.7)
    return reference, refracted(reference)


def seen(images, seed=0):
    """Frames as a detector counts 20 000 photons a pixel."""
    return np.random.default_rng(seed).poisson(2e4 * images) / 2e4


def found(reference, sample, method="mist-gradient-flow", **options):
    stack = xmist.SpeckleStack(seen(reference), seen(sample, 1))
    result = xmist.retrieve(stack, EXPERIMENT, method=method, **options)
    return {record.code for record in result.findings} & CODES


def lit(image, x):
    """Frames with a brighter spot in the beam."""
    y, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return image * (1.0 + 0.3 * np.exp(-((y - 60.0) ** 2 + (columns - x) ** 2) / 400.0))


@pytest.mark.parametrize("method", ["mist", "mist-gradient-flow", "umpa", "optical-flow"])
@pytest.mark.parametrize("number", [2, 4])
def test_what_the_speckles_confirm_is_not_doubted(method, number):
    assert found(*frames(number), method) == set()


@pytest.mark.parametrize("method", ["optical-flow", "umpa"])
def test_one_position_is_not_doubted(method):
    assert found(*frames(1), method) == set()


@pytest.mark.parametrize("number", [1, 2, 4])
def test_an_illumination_that_moved_is_found_by_the_speckles(number):
    reference, sample = frames(number)
    reference, sample = lit(reference, 40), lit(sample, 44)
    assert found(reference, sample, "optical-flow") == {"shift-contradicted"}
    assert found(reference, sample, "umpa") == set()  # it follows the speckles


@pytest.mark.parametrize("method", ["mist", "mist-gradient-flow", "umpa"])
@pytest.mark.parametrize("number", [2, 4])
def test_a_sample_that_moved_between_positions_is_found(method, number):
    reference, sample = frames(number)
    sample = sample.copy()
    sample[1] = refracted(reference, y=0.62)[1]
    assert found(reference, sample, method) == {"positions-disagree"}


def test_the_position_that_moved_is_named():
    reference, sample = frames(4)
    sample = sample.copy()
    sample[2] = refracted(reference, y=0.62)[2]
    stack = xmist.SpeckleStack(reference, sample)
    (record,) = (
        record
        for record in xmist.retrieve(stack, EXPERIMENT, method="umpa").findings
        if record.code == "positions-disagree"
    )
    assert "speckles of position 2 moved" in record.message


def test_a_blur_of_all_sample_frames_is_found_where_speckles_stand_still():
    reference, sample = frames(4)
    blurred = ndi.gaussian_filter(sample, (0, 0.8, 0.8))
    for one, expected in ((sample, False), (blurred, True)):
        stack = xmist.SpeckleStack(seen(reference), seen(one, 1))
        codes = {record.code for record in xmist.retrieve(stack, EXPERIMENT, method="umpa").findings}
        assert ("bare-beam-dark-field" in codes) == expected


def test_a_shift_that_a_method_takes_for_scatter_is_found():
    codes = {}
    for method in ("mist", "umpa"):
        stack = xmist.SpeckleStack(*map(seen, frames(4)))
        codes[method] = {record.code for record in xmist.retrieve(stack, EXPERIMENT, method=method).findings}
    assert "dark-field-from-shift" in codes["mist"]
    assert "dark-field-from-shift" not in codes["umpa"]


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_rigid_shift_is_measured(number):
    reference, _ = frames(number)
    reference, sample = (np.float32(images) for images in (reference, moved(reference, 0.3, -0.2)))
    angle = np.zeros((2, *SHAPE), np.float32)
    angle[0] = 2.0
    left = residual_shifts(
        reference, sample, None, angle, scale=0.1, flagged=np.zeros(SHAPE, np.bool_), threads=1
    )
    # 0.2 of the 0.3 pixels are known. Centred differences lack κ²/6 of a slope, in speckles of this size 6 %;
    # as much for what a patch holds by chance.
    assert np.abs(np.median(left.common, axis=0) - [0.1, -0.2]).max() < 0.12 * 0.2
    assert len(left.common) == 36


def test_pixels_without_weight_do_not_count():
    reference, sample = map(np.float32, frames(3))
    weights = np.ones(reference.shape)
    weights[0, 20:40, 30:60] = 0.0
    spoilt = [images.copy() for images in (reference, sample)]
    for images in spoilt:
        images[weights == 0.0] = 1e9
    flagged = np.zeros(SHAPE, np.bool_)
    one, other = (
        residual_shifts(*images, weights, np.zeros((2, *SHAPE), np.float32), scale=1.0, flagged=flagged)
        for images in ((reference, sample), spoilt)
    )
    for name in ("common", "covariance", "own", "variance", "shift"):
        assert np.array_equal(getattr(one, name), getattr(other, name), equal_nan=True)


def test_a_strip_of_foreign_speckles_is_found():
    reference, sample = frames(4)
    sample = sample.copy()
    foreign = speckle(np.random.default_rng(6), 4, SHAPE, 1.7)
    sample[:, 40:52, 8:-8] = foreign[:, 40:52, 8:-8]
    assert "speckles-lost" in found(reference, sample)


def codes_of(reference, sample, method):
    result = xmist.retrieve(xmist.SpeckleStack(reference, sample), EXPERIMENT, method=method)
    return {record.code for record in result.findings}


def test_scatter_made_by_a_shift_through_the_border_is_found():
    reference, _ = frames(4)
    still = np.zeros(SHAPE)
    found = codes_of(reference, moved(reference, still + 0.8, still), "mist")
    assert found >= {"border-motion-missing", "dark-field-from-shift"}


def test_scatter_made_by_shifts_that_cancel_in_a_patch_is_found():
    reference, _ = frames(4)
    wave = 0.6 * np.sin(2 * np.pi * np.arange(SHAPE[1]) / 8.0) * blob(SHAPE, 0.5, 0.5, 0.2)
    dense = 1.0 - np.gradient(wave, axis=1)
    sample = dense * moved(reference, wave, np.zeros(SHAPE))
    assert "dark-field-from-shift" in codes_of(reference, sample, "mist")


def test_noise_of_the_shift_of_single_pixels_is_found():
    reference, sample = frames(6)
    random = np.random.default_rng(8)
    few, many = (
        [random.poisson(photons * image) / photons for image in (reference, sample)] for photons in (300, 1e5)
    )
    assert "shift-rough" in codes_of(*few, "lcs")
    assert "shift-rough" not in codes_of(*many, "lcs")


@pytest.mark.parametrize("method", ["mist-gradient-flow", "umpa"])
def test_noise_that_is_as_large_as_the_speckles_does_not_lose_them(method):
    reference, sample = frames(4)
    random = np.random.default_rng(7)
    # 100 photons a pixel, and a third where the sample absorbs.
    dark = np.where(blob(SHAPE, 0.5, 0.5, 0.16) > 0.5, 0.33, 1.0)
    images = (random.poisson(100 * image) / 100 for image in (reference, dark * sample))
    assert "speckles-lost" not in codes_of(*images, method)
