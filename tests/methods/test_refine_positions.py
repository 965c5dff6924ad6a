"""Option refine_positions of `umpa` and `xsvt`: shifts of frames, and positions of a sample that moves."""

import numpy as np
import pytest

import xmist
from tests.manufactured import EXPERIMENT, blob, speckle
from tests.methods.stepped_frames import REFERENCES, frames_at
from tests.methods.window_frames import INSIDE, SHAPE, moved, retrieve, window_error

ERRORS = np.array([(0.5, -0.3), (-0.6, 0.2), (0.3, 0.4), (-0.2, -0.3)])  # y, x; of mean 0


def shaken(errors=ERRORS):
    """Frames of a smooth u and T, each shifted against its reference by more (y, x)."""
    reference = speckle(np.random.default_rng(0), len(errors), SHAPE, 1.7)
    shift = np.array(np.gradient(-16.0 * blob(SHAPE, 0.5, 0.45, 0.2))[::-1])
    transmission = 1 - 0.3 * blob(SHAPE, 0.5, 0.5, 0.2)
    sample = [
        transmission * moved(reference[n : n + 1], shift[0] + x, shift[1] + y)[0]
        for n, (y, x) in enumerate(errors)
    ]
    return reference, np.stack(sample), shift


@pytest.mark.parametrize("method", ["umpa", "xsvt"])
def test_shifts_of_frames(method):
    reference, sample, shift = shaken()
    plain, refined = (retrieve(reference, sample, method, refine_positions=on) for on in (False, True))
    # 4000 pixels tell the shift of a frame to a hundredth; each of three rounds leaves a quarter of 0.6.
    assert np.abs(np.array(refined.provenance["frame_shifts"]) - ERRORS).max() <= 0.03
    error, before = (np.sqrt(np.mean((r.shift - shift)[:, *INSIDE] ** 2)) for r in (refined, plain))
    assert error <= window_error(shift, 5, 4)
    assert error <= 0.6 * before
    assert [finding.code for finding in refined.findings].count("positions-refined") == 1
    assert "frame_shifts" not in plain.provenance


def test_frames_that_were_not_shifted():
    reference, sample, shift = shaken(0 * ERRORS)
    refined = retrieve(reference, sample, refine_positions=True)
    assert np.abs(refined.provenance["frame_shifts"]).max() <= 0.02
    assert np.sqrt(np.mean((refined.shift - shift)[:, *INSIDE] ** 2)) <= window_error(shift, 5, 4)


def test_the_common_shift_is_not_touched():
    reference, sample, shift = shaken(ERRORS + np.array([0.2, -0.1]))
    refined = retrieve(reference, sample, refine_positions=True)
    assert np.abs(np.array(refined.provenance["frame_shifts"]) - ERRORS).max() <= 0.03
    mean = (refined.shift - shift)[:, *INSIDE].mean(axis=(1, 2))
    assert np.abs(mean - [-0.1, 0.2]).max() <= 0.02


def test_one_frame_has_nothing_to_compare_with():
    reference, sample, _ = shaken(ERRORS[:1])
    plain, refined = (retrieve(reference, sample, refine_positions=on) for on in (False, True))
    assert np.array_equal(plain.phase, refined.phase)
    assert refined.provenance["frame_shifts"] == [[0.0, 0.0]]


@pytest.mark.parametrize("value", [np.nan, 1e9])
def test_weight_zero_has_no_influence(value):
    reference, sample, _ = shaken()
    weights = np.ones(reference.shape)
    weights[1, 20:24, 30:33] = 0
    clean = retrieve(reference, sample, weights=weights, refine_positions=True)
    spoiled = [np.where(weights > 0, frames, value) for frames in (reference, sample)]
    result = retrieve(*spoiled, weights=weights, refine_positions=True)
    for name, image in clean.channels():
        assert np.array_equal(image, getattr(result, name), equal_nan=True), name
    assert result.provenance["frame_shifts"] == clean.provenance["frame_shifts"]


def features(y, x):
    """A sample with much detail: what positions are read from."""
    shift = np.stack([np.cos(x / 4.5) * np.sin(y / 6) / 4.5, np.sin(x / 4.5) * np.cos(y / 6) / 6])
    return 3.2 * shift, 1 - 0.15 * (1 + np.sin(x / 4) * np.sin(y / 4.5))


def test_positions_of_the_sample():
    """Overlaps of 500 pixels after their rims, without noise: splines of 2 and 4 pixels fit a little less."""
    true = -np.array([(0.0, 0.0), (0.0, 26.0), (22.0, 0.0)]) + np.array(
        [(0.5, -0.6), (-0.7, 0.9), (0.2, -0.3)]
    )
    given = np.rint(true)
    given += (true - given).mean(axis=0)
    scan = xmist.SampleScan(REFERENCES[0], frames_at(true, maps=features), given)
    result = xmist.retrieve(scan, EXPERIMENT, method="umpa", window=7, refine_positions=True)
    refined = np.array(result.provenance["sample_positions"])
    errors = [np.sqrt(np.mean((positions - true) ** 2)) for positions in (refined, given)]
    assert errors[0] <= 0.06
    assert errors[0] <= 0.25 * errors[1]
    assert np.allclose(refined.mean(axis=0), given.mean(axis=0), atol=1e-9)
    assert result.provenance["sample_positions_given"] == given.tolist()
    assert "positions-refined" in [finding.code for finding in result.findings]
