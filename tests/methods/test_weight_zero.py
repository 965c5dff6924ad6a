"""Values under weight 0 influence nothing, whichever method and whatever they are."""

import numpy as np
import pytest

import xmist
from tests.manufactured import EXPERIMENT
from tests.methods.noisy_frames import SHAPE, noisy_pair
from xmist import METHODS

VALUES = (np.nan, 0.0, -1e9, 1e9)


def weights_of(positions):
    """Weights with a block of 4 × 4 and three single pixels of weight 0 at some positions."""
    weights = np.ones((4, *SHAPE), np.float32)
    weights[positions, 20:24, 30:34] = 0.0
    for y, x in ((9, 12), (36, 40), (0, 20)):
        weights[positions, y, x] = 0.0
    return weights


def retrieved(method, reference, sample, of_reference, of_sample):
    options = {"delta_over_beta": 1000.0} if METHODS[method].delta_over_beta == "required" else {}
    plan = xmist.prepare(reference, EXPERIMENT, method=method, weights=of_reference, threads=1, **options)
    return plan(sample, weights=of_sample)


@pytest.mark.parametrize("positions", [2, slice(None)], ids=["one position", "all positions"])
@pytest.mark.parametrize("given", ["with the reference", "with the sample"])
@pytest.mark.parametrize("method", list(METHODS))
def test_values_under_weight_zero_change_no_bit(method, given, positions):
    reference, sample = noisy_pair()
    weights = weights_of(positions)
    hidden = weights == 0
    of_reference, of_sample = (weights, None) if given == "with the reference" else (None, weights)
    plain = retrieved(method, reference, sample, of_reference, of_sample)
    for value in VALUES:
        other_sample = np.where(hidden, np.float32(value), sample)
        other_reference = (
            reference if of_reference is None else np.where(hidden, np.float32(value), reference)
        )
        other = retrieved(method, other_reference, other_sample, of_reference, of_sample)
        for channel, image in plain.channels():
            assert np.array_equal(getattr(other, channel), image, equal_nan=True), (value, channel)
        for name, image in plain.diagnostics.items():
            assert np.array_equal(other.diagnostics[name], image, equal_nan=True), (value, name)
        assert np.array_equal(other.flags, plain.flags), value
        assert other.findings == plain.findings, value


@pytest.mark.parametrize("method", ["mist", "umpa", "full-field"])
def test_equal_frames_are_found_beside_hidden_pixels(method):
    reference, _ = noisy_pair()
    weights = weights_of(1)
    sample = np.where(weights == 0, np.float32(7.0), reference)
    found = retrieved(method, reference, sample, None, weights)
    assert "identical-frames" in [record.code for record in found.findings]
