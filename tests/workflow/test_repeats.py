"""Frames that are averaged, and are none of one position or projection, are told by what they show."""

import numpy as np
import pytest

import xmist
from tests.workflow.series_scenes import frames, sections, write_toml
from xmist.io.frames.loading import cut_patches, usable_patches
from xmist.numerics.images.patches import places_of_patches
from xmist.numerics.images.repeats import alike_in_groups, change_within, compare_frames

SHAPE = (96, 104)
POSITIONS = 3


@pytest.fixture(scope="module")
def scene():
    return frames(4, POSITIONS, SHAPE, strength=3.0)


def compared(images, mask=None):
    places = places_of_patches(images[:1], None)
    parts = [cut_patches(image, places) for image in images]
    return compare_frames(parts, usable_patches(parts, mask, places))


def noisy(images, seed=0):
    """Frames of 10⁴ counts whose noise is 0.7 %, a thirtieth of the contrast of the speckles."""
    noise = np.random.default_rng(seed).normal(0.0, 70.0, images.shape)
    return (images + noise).astype(np.float32)


def test_repeats_with_noise_are_alike_and_other_speckles_are_not(scene):
    reference, _ = scene
    assert not compared(noisy(np.repeat(reference[:1], 4, axis=0))).unlike
    assert compared(noisy(reference)).unlike
    moved = np.stack([reference[0], np.roll(reference[0], 1, axis=1)])
    assert compared(noisy(moved)).unlike
    # A marked pixel is left out: a value that changes there tells nothing.
    odd = noisy(np.repeat(reference[:1], 2, axis=0))
    odd[1, 40:60, 40:60] = 6e4
    mask = np.zeros(SHAPE, bool)
    mask[40:60, 40:60] = True
    assert not compared(odd, mask).unlike


@pytest.mark.parametrize(
    ("order", "repeats", "found"),
    [
        ([0, 0, 1, 1], 2, False),
        ([0, 0, 0, 1, 1, 1], 3, False),
        ([0, 1, 2, 3], 2, True),  # each is a projection of its own
        ([0, 0, 1, 1, 2, 2], 3, True),
        ([0, 0, 1, 1, 2, 2, 3, 3], 4, True),
        ([0, 1, 2], 3, True),  # of one projection only
        ([0, 0, 0], 3, False),
    ],
)
def test_projections_taken_for_repeats_change_from_one_to_the_next(scene, order, repeats, found):
    numbers = range(len(order))
    difference = compared(noisy(scene[1][order, 0]))
    assert change_within(difference, numbers, [number // repeats for number in numbers]) == found


@pytest.mark.parametrize(
    ("order", "size"),
    [
        ([0, 0, 1, 1, 2, 2, 3, 3], 2),
        ([0, 0, 0, 1, 1, 1, 2, 2, 2], 3),
        ([0, 1, 2, 3], 1),
        ([0, 0, 0, 0, 0, 0], 1),
        ([0, 0, 1, 2, 2, 3], 1),
    ],
)
def test_repeats_taken_for_projections_come_in_rows(scene, order, size):
    assert alike_in_groups(compared(noisy(scene[1][order, 0]))) == size


def run_codes(folder, samples, sample_axes, reference=None, reference_axes="position,y,x", **changes):
    """Run a series out of arrays; return the codes of what was found."""
    np.save(folder / "ref.npy", reference)
    np.save(folder / "all.npy", noisy(samples, 1))
    inputs = {"reference": "ref.npy", "sample": "all.npy"}
    inputs |= {"sample_axes": sample_axes, "reference_axes": reference_axes}
    series = {"angles": None} | changes.pop("series", {})
    done = xmist.run(write_toml(folder, sections(input=inputs | changes, series=series)))
    return {record.code for record in done.findings}


TOLD = {"repeats-differ", "pairs-swapped", "projections-alike"}


@pytest.mark.parametrize(
    ("true", "stated", "codes"),
    [
        ("projection,position,repeat", "projection,position,repeat", set()),
        ("projection,position,repeat", "projection,repeat,position", {"repeats-differ"}),
        ("projection,position,repeat", "repeat,position,projection", {"repeats-differ"}),
        ("projection,position,repeat", "position,projection,repeat", {"pairs-swapped"}),
    ],
)
def test_axes_of_equal_length_in_a_wrong_order_are_told(tmp_path, scene, true, stated, codes):
    reference, samples = scene
    array = np.repeat(samples[:POSITIONS, :, None], POSITIONS, axis=2)  # three of each
    assert true == "projection,position,repeat"
    assert run_codes(tmp_path, array, f"{stated},y,x", reference) & TOLD == codes


def test_references_whose_repeats_are_positions_are_told(tmp_path, scene):
    reference, samples = scene
    repeated = np.repeat(reference[:, None], POSITIONS, axis=1)
    axes = "projection,position,y,x"
    codes = run_codes(tmp_path, samples[:2], axes, repeated, "repeat,position,y,x")
    assert "repeats-differ" in codes


@pytest.mark.parametrize(("given", "codes"), [([0.0, 1.0], {"repeats-differ"}), ([0.0, 0.0], set())])
def test_repeats_of_different_angles_are_told(tmp_path, scene, given, codes):
    import h5py

    reference, samples = scene
    array = np.repeat(samples[:3, :2, None], 2, axis=2)
    angles = np.repeat(np.add.outer(2.0 * np.arange(3), given)[:, None], 2, axis=1).reshape(-1)
    with h5py.File(tmp_path / "angles.h5", "w") as file:
        file["angle"] = angles
        file["angle"].attrs["units"] = "deg"
    changes = {"series": {"angles": "angles.h5::/angle"}}
    found = run_codes(tmp_path, array, "projection,position,repeat,y,x", reference[:2], **changes)
    assert found & TOLD == codes
