"""Options `region` and `stride` of `umpa` and `xsvt`: a quick look at a part, or at every few pixels."""

import numpy as np
import pytest

import xmist
from tests.manufactured import EXPERIMENT
from tests.methods.stepped_frames import REFERENCES, WHOLE, frames_at
from tests.methods.window_frames import retrieve, scene

SHAPE = (96, 120)
BOX = (30, 70, 24, 88)


@pytest.fixture(scope="module")
def frames():
    reference, sample, *_ = scene(3, shape=SHAPE)
    return reference, sample


@pytest.fixture(scope="module")
def whole(frames):
    return retrieve(*frames)


def test_a_region_is_that_of_whole_frames(frames, whole):
    part = retrieve(*frames, region=BOX)
    assert part.shape == (40, 64)
    assert part.experiment == whole.experiment
    cut = (..., slice(*BOX[:2]), slice(*BOX[2:]))
    # Windows inside see the same pixels: only the frames' mean, in which sums are counted, rounds otherwise.
    assert np.abs(part.shift - whole.shift[cut]).max() <= 1e-3
    assert np.abs(part.transmission - whole.transmission[cut]).max() <= 1e-4
    # The noise that V is corrected for is read from fewer pixels.
    assert np.abs(part.visibility - whole.visibility[cut]).max() <= 1e-2
    expected = whole.phase[cut] - whole.phase[cut].mean()
    assert np.std(part.phase - expected) <= 0.03 * expected.std()
    assert part.provenance["grid_origin"] == [30, 24]
    assert part.options["region"] == BOX


def test_a_stride_takes_every_few_pixels(frames, whole):
    thin = retrieve(*frames, stride=4)
    assert thin.shape == (24, 30)
    assert thin.experiment.pixel_size == 4 * EXPERIMENT.pixel_size
    assert thin.experiment.magnification == EXPERIMENT.magnification
    for name in ("shift", "transmission", "refraction_angle", "dark_field"):
        assert np.array_equal(getattr(thin, name), getattr(whole, name)[..., ::4, ::4]), name
    assert np.array_equal(thin.flags, whole.flags[::4, ::4])
    assert whole.phase_zero_known
    assert np.array_equal(thin.phase, whole.phase[::4, ::4])
    assert thin.provenance["stride"] == 4


def test_the_pixel_size_reaches_the_files(frames, tmp_path):
    part = retrieve(*frames, region=BOX, stride=3)
    assert part.shape == (14, 22)
    opened = xmist.open_result(part.save(tmp_path / "part.h5"))
    assert opened.experiment.pixel_size == pytest.approx(3 * EXPERIMENT.pixel_size)
    assert np.array_equal(opened.phase, part.phase)
    step = np.diff(part.to_xarray()["y"])
    assert np.allclose(step, 3 * EXPERIMENT.effective_pixel)
    assert part.save(tmp_path / "part.png").exists()


@pytest.mark.parametrize("initial", ["array", "mist"])
def test_start_values_and_background_are_those_of_whole_frames(frames, whole, initial):
    given = {"initial": whole.shift if initial == "array" else initial, "background": (26, 80, 20, 30)}
    part, expected = retrieve(*frames, region=BOX, **given), retrieve(*frames, **given)
    cut = (..., slice(*BOX[:2]), slice(*BOX[2:]))
    # The mean over 16 pixels of 54 × 10 more or less of the bare beam, in which u varies by 0.1.
    assert np.abs((part.shift - expected.shift[cut]).mean(axis=(1, 2))).max() <= 0.05
    assert np.std(part.shift - expected.shift[cut]) <= 0.02


@pytest.mark.parametrize("value", [np.nan, 1e9])
def test_weight_zero_has_no_influence(frames, value):
    weights = np.ones(frames[0].shape)
    weights[1, 40:44, 50:53] = 0
    clean = retrieve(*frames, weights=weights, region=BOX, stride=2)
    spoiled = [np.where(weights > 0, some, value) for some in frames]
    result = retrieve(*spoiled, weights=weights, region=BOX, stride=2)
    for name, image in clean.channels():
        assert np.array_equal(image, getattr(result, name), equal_nan=True), name


def test_a_region_of_a_field():
    """Of a sample that moves the region is that of the result's grid."""
    scan = xmist.SampleScan(REFERENCES[0], frames_at(WHOLE), WHOLE)
    field, part = (
        xmist.retrieve(scan, EXPERIMENT, method="umpa", window=9, **options)
        for options in ({}, {"region": (20, 60, 10, 80), "stride": 2})
    )
    assert np.array_equal(part.shift, field.shift[:, 20:60:2, 10:80:2])
    assert np.array_equal(part.diagnostics["coverage"], field.diagnostics["coverage"][20:60:2, 10:80:2])
    assert part.provenance["grid_origin"] == [20, 10]


@pytest.mark.parametrize(
    ("options", "codes"),
    [
        ({"region": (0, 97, 0, 20)}, ("option-invalid",)),
        ({"region": (40, 40, 0, 20)}, ("option-invalid",)),
        ({"region": [1.5, 40, 0, 20]}, ("option-invalid",)),
        ({"region": (0, 8, 0, 20), "stride": 5}, ("option-invalid",)),
        ({"stride": 0}, ("option-invalid",)),
        ({"region": BOX, "background": (0, 200, 0, 5)}, ("option-invalid",)),
        ({"region": (0, 20, 0, 20), "background": (80, 90, 80, 90)}, ("option-conflict",)),
        ({"region": BOX, "initial": np.zeros((2, 8, 8))}, ("option-invalid",)),
    ],
)
def test_what_is_wrong(frames, options, codes):
    with pytest.raises(xmist.InputError) as caught:
        retrieve(*frames, **options)
    assert caught.value.codes == codes


def test_pixels_above_a_millimetre():
    coarse = xmist.Experiment(energy_kev=17.0, pixel_size=75e-6, sample_to_detector=1.0)
    with pytest.raises(xmist.InputError) as caught:
        xmist.prepare(scene(1)[0], coarse, method="umpa", stride=16)
    assert caught.value.codes == ("option-invalid",)


def test_frames_of_another_size(frames):
    plan = xmist.prepare(frames[0], EXPERIMENT, method="umpa", region=BOX)
    with pytest.raises(xmist.InputError) as caught:
        plan(frames[1][:, :-1])
    assert caught.value.codes == ("shape-mismatch",)
