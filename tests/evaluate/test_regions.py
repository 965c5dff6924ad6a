"""Bare beam and inside, given or found."""

import numpy as np
import pytest

import xmist
from tests.coded import coded
from tests.evaluate.scene import RADIUS, SHAPE, distance, stack
from xmist.core.errors import InputError
from xmist.evaluate.regions import Regions, make_regions
from xmist.numerics.images.bare_beam import changed_regions


def find_regions(stack):
    return changed_regions(stack.reference, stack.sample, stack.weights)


def test_a_disc_and_its_surroundings_are_found():
    outside, inside, reason = find_regions(stack())
    assert reason == ""
    # The change is averaged over σ = 2.5 pixels: what is farther than 4 σ from the edge is told apart.
    assert not outside[distance() < RADIUS].any()
    assert not inside[distance() > RADIUS].any()
    assert inside[distance() < 0.5 * RADIUS].all()
    border = np.ones(SHAPE, bool)
    border[4:-4, 4:-4] = False
    assert not (outside | inside)[border].any()
    assert outside[(distance() > RADIUS + 10) & ~border].all()


def test_flux_does_not_matter_and_dead_pixels_belong_to_nothing():
    frames = stack()
    outside, inside, _ = find_regions(frames)
    brighter = xmist.SpeckleStack(frames.reference, 1.3 * frames.sample)
    for one, other in zip((outside, inside), find_regions(brighter)[:2], strict=True):
        # The flux is known from bare beam to 1e-3/√(pixels): the threshold moves by less than a bin.
        assert np.count_nonzero(one ^ other) < 0.02 * one.size
    weights = np.ones_like(frames.reference)
    weights[1, 5:9, 5:9] = weights[2, 28:32, 28:32] = 0
    spoiled = frames.sample.copy()
    spoiled[0, 40, 10] = np.nan
    found = find_regions(xmist.SpeckleStack(frames.reference, spoiled, weights))[:2]
    for mask in found:
        assert not mask[(weights == 0).any(0) | np.isnan(spoiled).any(0)].any()
        assert mask.any()


def test_noise_alone_is_no_sample():
    rng = np.random.default_rng(3)
    reference = rng.uniform(1, 2, (2, *SHAPE))
    noisy = reference * (1 + 0.01 * rng.normal(size=reference.shape))
    for sample in (noisy, reference):
        outside, inside, reason = find_regions(xmist.SpeckleStack(reference, sample))
        assert outside is None
        assert inside is None
        assert "no sample differs" in reason


def test_a_sample_that_fills_the_frame_leaves_no_bare_beam():
    frames = stack()
    middle = np.s_[:, 18:42, 20:44]
    part = xmist.SpeckleStack(frames.reference[middle], frames.sample[middle])
    found = make_regions(part)
    assert found.outside is None
    assert not found.complete
    assert found.about["outside"].startswith("not found: ")


def test_boxes_and_masks_are_taken_as_they_are():
    frames = stack()
    mask = distance() < 5
    found = make_regions(frames, {"outside": [[0, 5, 0, 64], [50, 60, 0, 10]], "inside": mask})
    assert found.complete
    assert found.outside.sum() == 5 * 64 + 10 * 10
    assert found.boxes["outside"] == ((0, 5, 0, 64), (50, 60, 0, 10))
    assert found.about["outside"] == "as given, 2 boxes, 420 pixels (11 %)"
    assert np.array_equal(found.inside, mask)
    assert "a mask" in found.about["inside"]
    assert make_regions(frames, found) is found
    alone = make_regions(frames, {"inside": [25, 35, 25, 35], "outside": None})
    assert np.array_equal(alone.outside, find_regions(frames)[0])
    assert isinstance(alone, Regions)


@pytest.mark.parametrize(
    "given",
    [
        {"outsid": [0, 5, 0, 5]},
        {"outside": [0, 5, 0, 65]},
        {"outside": [5, 5, 0, 6]},
        {"outside": [0, 5, 0]},
        {"outside": [0, 5, 0, 5.5]},
        {"outside": [[0, 5, 0, 5], [1, 2]]},
        {"outside": "all"},
        {"inside": np.zeros(SHAPE, bool)},
        {"inside": np.ones((3, 3), bool)},
        {"outside": [0, 5, 0, 5], "inside": [4, 9, 4, 9]},
    ],
)
def test_bad_regions(given):
    with pytest.raises(InputError, check=coded("region-invalid")):
        make_regions(stack(), given)


def test_bare_beam_and_sample_share_no_pixel():
    frames = stack()
    given = np.zeros(SHAPE, bool)
    given[:, 30:] = True
    found = make_regions(frames, {"outside": given})
    assert found.inside.any()
    assert not (found.inside & found.outside).any()
    # Half of the found inside lies in what was given.
    assert (find_regions(frames)[1] & given).any()
    everything = make_regions(frames, {"outside": np.ones(SHAPE, bool)})
    assert everything.inside is None
    assert "too few pixels" in everything.about["inside"]


def test_regions_of_other_frames_are_an_error():
    other = make_regions(stack(), {"outside": [0, 5, 0, 5], "inside": [9, 20, 9, 20]})
    part = xmist.SpeckleStack(stack().reference[:, :30], stack().sample[:, :30])
    with pytest.raises(InputError, check=coded("region-invalid", "region-invalid")):
        make_regions(part, other)
