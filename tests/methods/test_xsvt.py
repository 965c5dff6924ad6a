"""`xsvt`: what differs from `umpa`."""

import numpy as np
import pytest
import scipy.ndimage as ndi

import xmist
from tests.coded import coded
from tests.manufactured import EXPERIMENT, speckle
from tests.methods.window_frames import (
    DISTANCE,
    INSIDE,
    SHAPE,
    P,
    mean_error,
    moved,
    retrieve,
    scene,
    window_error,
)


@pytest.mark.parametrize(("number", "window"), [(12, 1), (5, 5), (1, 9)])
def test_shift_and_transmission(number, window):
    """Vectors alone, vectors of windows, and one exposure (XST)."""
    reference, sample, _, shift, transmission = scene(number)
    result = retrieve(reference, sample, "xsvt", window=window, weighting="flat")
    limit = window_error(shift, window, number)
    assert np.sqrt(np.mean((result.shift - shift)[:, *INSIDE] ** 2)) <= limit
    error = (result.transmission / transmission - 1)[INSIDE]
    assert np.sqrt(np.mean(error**2)) <= mean_error(transmission, window)


def test_dark_field_in_metres():
    """A Gaussian blur of variance 2d on vectors long enough for their mean to be that of the speckle."""
    reference = speckle(np.random.default_rng(1), 8, SHAPE, 2.0)
    d = 0.15
    sample = np.stack([ndi.gaussian_filter(f, np.sqrt(2 * d)) for f in reference])
    result = retrieve(reference, sample, "xsvt", window=15, weighting="flat", max_shift=1)
    found = np.median(result.dark_field[INSIDE]) * DISTANCE / P**2
    assert abs(found / d - 1) <= 0.1


def test_grey_values_alone_need_three_positions():
    reference = speckle(np.random.default_rng(1), 2, SHAPE)
    with pytest.raises(xmist.InputError, check=coded("positions-too-few")):
        retrieve(reference, reference, "xsvt", window=1)


def test_contrast_reversed_is_no_match():
    """The most negative correlation would be the least cost: it must not win."""
    reference = speckle(np.random.default_rng(2), 6, SHAPE)
    result = retrieve(reference, 2.0 - moved(reference, 2.0, 0.0), "xsvt", window=5)
    found = result.shift[0][INSIDE]
    assert np.mean(np.abs(found - 2.0) < 0.2) <= 0.1
    assert xmist.METHODS["xsvt"].gives[-1] == "visibility"
    assert EXPERIMENT.effective_pixel == P


@pytest.mark.parametrize("method", ["umpa", "xsvt"])
def test_windows_that_disagree_are_warned_about(method):
    """A window of 3 pixels sees a part of a speckle; one of 15 sees some ten, of which noise hides few."""
    random = np.random.default_rng(2)
    reference = speckle(random, 1, SHAPE, 2.5)
    noisy = [
        frames + 0.02 * random.normal(size=frames.shape) for frames in (reference, moved(reference, 0.3, 0))
    ]
    for window, rough in ((3, True), (15, False)):
        result = retrieve(*noisy, method, window=window)
        assert ("shift-rough" in [finding.code for finding in result.findings]) == rough
