"""A sample that moves while the diffuser stays: field of view, signs, fractions, weights, bad input."""

import numpy as np
import pytest
import scipy.ndimage as ndi

import xmist
from tests.coded import coded
from tests.manufactured import EXPERIMENT
from tests.methods.stepped_frames import REFERENCES, SIDE, WHOLE, frames_at, sample_maps
from xmist.core import flags as flag
from xmist.methods.common.sample_stepping import sample_grid


def retrieve(sample, positions, reference=None, method="umpa", weights=None):
    scan = xmist.SampleScan(REFERENCES[0] if reference is None else reference, sample, positions, weights)
    return xmist.retrieve(scan, EXPERIMENT, method=method, window=9)


def truth(result):
    origin = result.provenance["grid_origin"]
    return sample_maps(*(np.mgrid[: result.shape[0], : result.shape[1]] + np.reshape(origin, (2, 1, 1))))


def errors(result, least=1):
    """Rms errors of u and T away from the rims of what is seen by at least so many frames."""
    seen = result.diagnostics["coverage"]
    inside = ndi.minimum_filter(seen, 15, mode="constant") >= least
    assert inside.sum() > 400
    shift, transmission = truth(result)
    part = (result.shift - shift)[:, inside], (result.transmission / transmission - 1)[inside]
    return [np.sqrt(np.mean(error**2)) for error in part]


@pytest.fixture(scope="module")
def plain():
    return retrieve(frames_at(WHOLE), WHOLE)


@pytest.mark.parametrize("method", ["umpa", "xsvt"])
def test_the_field_of_view_grows(method, plain):
    result = plain if method == "umpa" else retrieve(frames_at(WHOLE), WHOLE, method=method)
    assert result.shape == (SIDE + 25, SIDE + 30)
    # A window averages u, which changes by 0.06 a pixel, with weights |∇R|²: see test_umpa.
    shift, transmission = errors(result)
    assert shift <= 0.08
    assert transmission <= 0.01
    assert np.isfinite(result.phase).all()
    assert abs(result.phase.mean()) <= 0.05 * result.phase.std()


def test_coverage_counts_frames(plain):
    expected = np.zeros(plain.shape)
    for y, x in -WHOLE:
        expected[y : y + SIDE, x : x + SIDE] += 1
    assert np.array_equal(plain.diagnostics["coverage"], expected)
    assert plain.provenance["positions"] == 5
    assert plain.provenance["grid_origin"] == [0, 0]
    assert not (plain.flags & flag.MASKED).any()


def test_the_sign_of_the_positions(plain):
    """Positions of the other sign put every frame at the wrong place."""
    wrong = retrieve(frames_at(WHOLE), -WHOLE)
    assert min(errors(wrong, 2)) > 5 * max(errors(plain, 2)[1], 0.002)


def test_only_differences_of_positions_matter(plain):
    moved = retrieve(frames_at(WHOLE), WHOLE + np.array([100, -7]))
    assert np.array_equal(moved.phase, plain.phase)
    assert moved.provenance["grid_origin"] == [-100, 7]


def displacement(result):
    """Displacement (y, x) of T by least squares against its gradient, which noise and windows do not bias."""
    inside = ndi.minimum_filter(result.diagnostics["coverage"], 15, mode="constant") >= 1
    transmission = truth(result)[1]
    slopes = np.stack([image[inside] for image in np.gradient(transmission)])
    return -np.linalg.lstsq(slopes.T, (result.transmission - transmission)[inside], rcond=None)[0]


def test_fractions_go_into_the_reference():
    fraction = np.array([0.45, -0.4])
    sample = frames_at(WHOLE + fraction)
    assert np.abs(displacement(retrieve(sample, WHOLE)) - fraction).max() <= 0.1
    assert np.abs(displacement(retrieve(sample, WHOLE + fraction))).max() <= 0.1


def test_one_reference_for_each_position(plain):
    order = [0, 1, 2, 0, 1]
    result = retrieve(frames_at(WHOLE, order), WHOLE, REFERENCES[order])
    assert errors(result)[0] <= 0.08
    same = retrieve(frames_at(WHOLE), WHOLE, REFERENCES[[0] * 5])
    assert np.array_equal(same.phase, plain.phase)


def test_no_sample():
    result = retrieve(np.repeat(REFERENCES[:1], 5, axis=0), WHOLE)
    # Half pixels beyond the rim of a frame are extrapolated; inside they are good to 3e-3.
    inside = ndi.minimum_filter(result.diagnostics["coverage"], 21, mode="constant") >= 1
    assert np.abs(result.shift[:, inside]).max() <= 0.03
    assert np.abs(result.transmission[inside] - 1).max() <= 0.01


def test_one_position_is_a_stack():
    sample = frames_at(WHOLE[:1])
    stack = xmist.SpeckleStack(REFERENCES[:1], sample)
    one, other = retrieve(sample, WHOLE[:1]), xmist.retrieve(stack, EXPERIMENT, method="umpa", window=9)
    for name, image in other.channels():
        assert np.array_equal(getattr(one, name), image), name


def test_flips():
    """A mirrored acquisition has a mirrored result."""
    sample = frames_at(WHOLE)
    flipped = retrieve(sample[:, :, ::-1], WHOLE * [1, -1], REFERENCES[0][:, ::-1])
    plain = retrieve(sample, WHOLE)
    # A minimum is found to 0.03² half pixels, and at rims the fill goes by rows first.
    assert np.sqrt(np.mean((flipped.transmission[:, ::-1] - plain.transmission) ** 2)) <= 1e-3
    assert np.sqrt(np.mean((flipped.shift[0][:, ::-1] + plain.shift[0]) ** 2)) <= 0.01


@pytest.mark.parametrize("value", [np.nan, -5.0, 1e9])
def test_weight_zero_has_no_influence(value):
    positions = WHOLE + np.array([0.3, 0.2])
    sample, reference = frames_at(positions), np.array(REFERENCES[[0] * 5])
    weights = np.ones(sample.shape)
    weights[1, 20:24, 30:33] = 0
    clean = retrieve(sample, positions, reference.copy(), weights=weights)
    sample[weights == 0], reference[weights == 0] = value, value
    spoiled = retrieve(sample, positions, reference, weights=weights)
    for name, image in clean.channels():
        assert np.array_equal(image, getattr(spoiled, name), equal_nan=True), name
    assert clean.flags[20, 60] & flag.MASKED


def test_what_no_frame_sees():
    positions = -np.array([(0, 0), (30, 35)])
    result = retrieve(frames_at(positions), positions)
    lost = result.diagnostics["coverage"] == 0
    assert lost.any()
    assert np.array_equal(np.isnan(result.phase), lost)
    assert ((result.flags & flag.UNDETERMINED) > 0)[lost].all()
    assert abs(np.nanmean(result.phase)) <= 1e-3 * np.nanstd(result.phase)


def test_frames_that_do_not_meet_share_a_layer():
    positions = np.array([(0, 40.0 * n) for n in range(9)])
    grid = sample_grid(positions, (SIDE, SIDE))
    assert max(grid.layers) + 1 == 3  # 104 pixels from frame to frame are free of others
    assert grid.shape == (SIDE, SIDE + 320)
    assert np.array_equal(grid.corners[:, 1], 320 - 40 * np.arange(9))


@pytest.mark.parametrize(
    ("positions", "code"),
    [
        (WHOLE[:4], "sample-positions-invalid"),
        (WHOLE[:, :1], "sample-positions-invalid"),
        ("here", "sample-positions-invalid"),
        (np.where(WHOLE == -12, np.nan, WHOLE), "sample-positions-invalid"),
        (WHOLE + np.array([[0, 0]] * 4 + [[200, 0]]), "sample-positions-apart"),
    ],
)
def test_wrong_positions(positions, code):
    with pytest.raises(xmist.InputError) as caught:
        xmist.SampleScan(REFERENCES[0], frames_at(WHOLE), positions)
    assert caught.value.codes == (code,)


def test_wrong_frames():
    sample = frames_at(WHOLE)
    for reference, code in (
        (REFERENCES[:2], "frames-unequal-numbers"),
        (REFERENCES[0][:-1], "shape-mismatch"),
        (np.zeros((SIDE, SIDE)), "pixels-unusable"),
    ):
        with pytest.raises(xmist.InputError) as caught:
            xmist.SampleScan(reference, sample, WHOLE)
        assert caught.value.codes == (code,)


def test_other_methods_say_so():
    with pytest.raises(
        xmist.InputError, check=coded("sample-positions-unsupported", names=["umpa", "xsvt"])
    ) as caught:
        retrieve(frames_at(WHOLE), WHOLE, method="mist")
    assert caught.value.codes == ("sample-positions-unsupported",)


def lensing_maps(y, x):
    """Shift u = ∇ψ, and what multiplies the speckles so that none of the flux is lost: T |1 − ∂u|."""
    a, b, size = 9.0, 12.0, 6.0
    shift = size * np.stack([np.cos(x / a) * np.sin(y / b) / a, np.sin(x / a) * np.cos(y / b) / b])
    xx, yy = (1 + size * np.sin(x / a) * np.sin(y / b) / side**2 for side in (a, b))
    xy = size * np.cos(x / a) * np.cos(y / b) / (a * b)
    return shift, sample_maps(y, x)[1] * (xx * yy - xy**2)


@pytest.fixture(scope="module")
def whole_image():
    """A field by full-field, of which half is seen by one frame alone, and its positions."""
    positions = -np.array([(0, 0), (0, 26.4), (20.3, 0)])
    rng = np.random.default_rng(5)
    sample = frames_at(positions, maps=lensing_maps) + 0.003 * rng.normal(size=(3, SIDE, SIDE))
    scan = xmist.SampleScan(REFERENCES[0], sample, positions)
    return xmist.retrieve(scan, EXPERIMENT)


def test_full_field_retrieves_a_field(whole_image):
    result = whole_image
    y, x = np.mgrid[: result.shape[0], : result.shape[1]] + np.reshape(
        result.provenance["grid_origin"], (2, 1, 1)
    )
    expected = lensing_maps(y, x)[0]
    shift = result.refraction_angle * EXPERIMENT.effective_distance / EXPERIMENT.effective_pixel
    for least, limit in ((1, 0.15), (2, 0.05)):  # of the rms; a window of `umpa` leaves a quarter of it
        inside = ndi.minimum_filter(result.diagnostics["coverage"], 11, mode="constant") >= least
        assert inside.sum() > 300
        error = np.sqrt(np.mean((shift - expected)[:, inside] ** 2))
        assert error <= limit * np.sqrt(np.mean(expected[:, inside] ** 2))


def test_full_field_flags_what_no_frame_sees(whole_image):
    lost = whole_image.diagnostics["coverage"] == 0
    assert lost.any()
    assert np.array_equal(np.isnan(whole_image.phase), lost)
    assert ((whole_image.flags & flag.UNDETERMINED) > 0)[lost].all()
    # One frame does not tell the dark-field, and most pixels are seen by one.
    assert whole_image.dark_field is None


def test_full_field_ignores_weight_zero():
    positions = np.array([(0.0, 0.0), (0.3, -15.8)])
    part = np.s_[:, 10:38, 10:42]
    sample, reference = frames_at(positions)[part], np.array(REFERENCES[[0] * 2])[part]
    weights = np.ones(sample.shape)
    weights[1, 12:16, 20:23] = 0
    results = []
    for hidden in (1.0, 1e9):
        sample[weights == 0], reference[weights == 0] = hidden, hidden
        scan = xmist.SampleScan(reference, sample, positions, weights)
        results.append(xmist.retrieve(scan, EXPERIMENT, transmission=False))
    for name, image in results[0].channels():
        assert np.array_equal(image, getattr(results[1], name), equal_nan=True), name


def test_frames_go_on_as_their_mirror_images():
    grid = sample_grid(np.array([(0.0, 0.0), (0.0, 90.0), (40.0, 45.0)]), (8, 10))
    frames = np.arange(3 * 80, dtype=np.float32).reshape(3, 8, 10)
    layer = grid.continued(frames)[grid.layers[0]]
    assert np.array_equal(layer[grid.part(0)], frames[0])
    top, left = grid.corners[0]
    assert np.array_equal(layer[top - 8 : top, left : left + 10], frames[0][::-1])
    assert np.array_equal(layer[top : top + 8, left - 10 : left], frames[0][:, ::-1])


def test_no_jump_across_seams():
    """A field three times the detector's: mean jumps where a frame begins or ends are those of elsewhere."""
    positions = np.array([(0.0, -38.3 * n) for n in range(4)])
    noise = 0.005 * np.random.default_rng(2).normal(size=(4, SIDE, SIDE))
    result = retrieve(frames_at(positions) + noise, positions)
    assert result.shape[1] > 3 * SIDE
    shift, transmission = truth(result)
    begins = -np.rint(positions[:, 1]).astype(int)
    seams = np.concatenate([begins[1:], begins[:-1] + SIDE])
    columns = np.arange(12, result.shape[1] - 12)
    away = np.abs(columns[:, None] - seams).min(axis=1) > 8
    for error in (result.transmission - transmission, *(result.shift - shift)):
        mean = error[8:-8].mean(axis=0)
        jump = np.array([mean[x : x + 4].mean() - mean[x - 4 : x].mean() for x in columns])
        # Three standard errors of a mean jump, which are those of columns that are no seam.
        assert np.abs(jump[seams - 12]).max() <= 3 * jump[away].std()
