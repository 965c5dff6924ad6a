"""Values under weight 0 influence no step, region, metric or finder of bare beam."""

import numpy as np
import pytest

from tests.methods.bare_beam_frames import SHAPE, frames
from xmist.core.data import SpeckleStack
from xmist.evaluate.metrics import speckle_size, visibility
from xmist.evaluate.regions import make_regions
from xmist.methods.common.bare_beam import drift_of_pair
from xmist.methods.common.frames import check_frames
from xmist.preprocess import Frames, apply_steps, measure_drift

VALUES = (np.nan, 0.0, -1e9, 1e9)


def weights():
    given = np.ones((4, *SHAPE), np.float32)
    given[2, 20:24, 30:34] = 0.0
    given[:, 60:62, 70:73] = 0.0
    given[1, 0, 20] = given[3, 95, 103] = 0.0
    return given


def hidden(value):
    """Frames with a value under weight 0."""
    return tuple(np.where(weights() == 0.0, np.float32(value), images) for images in frames(drift=0.1))


STEPS = ("bad-pixels", "unlit", "flux", "drift", "crop", "bin")


@pytest.mark.parametrize("step", ["dark", "flat"])
def test_hidden_values_of_dark_and_flat_frames_do_not_matter(step):
    random = np.random.default_rng(1)
    still = random.normal(100.0 if step == "dark" else 20000.0, 5.0, (3, *SHAPE)).astype(np.float32)
    everywhere = (weights() == 0.0).all(axis=0)
    results = []
    for value in (1.0, *VALUES):
        given = {step: np.where(everywhere, np.float32(value), still)}
        results.append(apply_steps(Frames(*hidden(value), weights=weights(), **given), [(step, {})]))
    used = weights() > 0
    for other in results[1:]:
        for name in ("reference", "sample"):
            assert np.array_equal(getattr(other, name)[used], getattr(results[0], name)[used]), name
        assert np.array_equal(other.weights[used], results[0].weights[used])
        assert other.history == results[0].history
        assert other.findings == results[0].findings


@pytest.mark.parametrize("step", STEPS)
def test_no_step_depends_on_hidden_values(step):
    options = {"crop": {"rows": [8, 80]}, "bin": {"size": 2}}.get(step, {})
    results = [
        apply_steps(Frames(*hidden(value), weights=weights()), [(step, options)]) for value in (1.0, *VALUES)
    ]
    plain = results[0]
    for other in results[1:]:
        assert np.array_equal(other.weights, plain.weights)
        used = plain.weights > 0
        for name in ("reference", "sample"):
            assert np.array_equal(getattr(other, name)[used], getattr(plain, name)[used]), name
        assert other.history == plain.history
        assert other.findings == plain.findings


def test_no_estimate_depends_on_hidden_values():
    def estimates(value):
        reference, sample = hidden(value)
        regions = make_regions(SpeckleStack(reference, sample, weights()))
        return (
            measure_drift(reference, sample, weights()).tolist(),
            visibility(reference, weights()),
            speckle_size(reference, weights()),
            None if regions.outside is None else regions.outside.tolist(),
            None if regions.inside is None else regions.inside.tolist(),
            drift_of_pair(reference, sample, weights()),
        )

    plain = estimates(1.0)
    for value in VALUES:
        assert estimates(value) == plain, value


def test_the_check_of_frames_does_not_depend_on_hidden_values():
    # As methods call it: references are filled, samples have no value under weight 0.
    reference, sample = hidden(np.nan)
    filled = np.where(np.isnan(reference), np.float32(1.0), reference)
    plain = check_frames(filled, sample, weights(), may_attenuate=False)
    for value in (0.5, 1e9):
        other = np.where(weights() == 0.0, np.float32(value), reference)
        assert check_frames(other, sample, weights(), may_attenuate=False) == plain, value
