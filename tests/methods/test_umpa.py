"""`umpa` on frames whose phase, transmission and blur are known, and on bad input."""

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
    K,
    P,
    mean_error,
    moved,
    retrieve,
    scene,
    window_error,
)
from xmist.core import flags as flag
from xmist.core.findings import warnings_of
from xmist.methods import make_options
from xmist.methods.matching.plan import dark_field_from_visibility
from xmist.numerics.matching.contrast import blur_of_shift, contrast_decay
from xmist.numerics.matching.match import MEANS, Window


@pytest.mark.parametrize("integrator", ["dct", "southwell"])
@pytest.mark.parametrize("dark_field", ["scalar", "none"])
def test_shift_phase_and_transmission(integrator, dark_field):
    reference, sample, psi, shift, transmission = scene()
    result = retrieve(reference, sample, integrator=integrator, dark_field=dark_field)
    assert np.sqrt(np.mean((result.shift - shift)[:, *INSIDE] ** 2)) <= window_error(shift, 5, 5)
    error = (result.transmission / transmission - 1)[INSIDE]
    assert np.sqrt(np.mean(error**2)) <= mean_error(transmission, 5)
    exact = psi * K * P**2 / DISTANCE
    exact -= exact.mean()
    assert np.std(result.phase - exact) <= 0.05 * exact.std()
    assert np.allclose(result.refraction_angle, result.shift * P / DISTANCE, rtol=1e-5, atol=1e-12)
    if dark_field == "none":
        assert result.dark_field is None
        assert result.visibility is None


def test_dark_field_in_metres():
    """A Gaussian blur of variance 2d; D = d p²/∆ from windows of many speckles."""
    reference = speckle(np.random.default_rng(1), 8, SHAPE, 2.0)
    d = 0.15
    sample = np.stack([ndi.gaussian_filter(f, np.sqrt(2 * d)) for f in reference])
    result = retrieve(reference, sample, window=15, weighting="flat", max_shift=1)
    found = np.median(result.dark_field[INSIDE]) * DISTANCE / P**2
    assert abs(found / d - 1) <= 0.1
    assert result.visibility[INSIDE].max() < 1


def test_the_dark_field_is_that_of_where_the_window_came_from():
    # D = (1/V − 1) p²/(∆ κ²) with the κ² at r − u; linear interpolation is exact on a ramp.
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    decay = (1.0 + 0.01 * columns + 0.02 * rows).astype(np.float32)
    shift = np.broadcast_to(np.array([1.5, -2.5], np.float32)[:, None, None], (2, *SHAPE))
    half = np.full(SHAPE, 0.5, np.float32)
    found = dark_field_from_visibility(half, decay, shift, EXPERIMENT)
    expected = P**2 / DISTANCE / (1.0 + 0.01 * (columns - 1.5) + 0.02 * (rows + 2.5))
    assert np.allclose(found[INSIDE], expected[INSIDE], rtol=1e-5, atol=0)


def test_a_pattern_that_is_gone_has_a_flag():
    reference, sample, *_ = scene()
    sample[:, 20:50, 20:50] = sample[:, 20:50, 20:50].mean()
    result = retrieve(reference, sample)
    gone = np.s_[25:45, 25:45]
    assert (result.flags[gone] & flag.ILL_DETERMINED).all()
    # V counts as 0.05: nowhere is D above 19 times the p²/∆κ² of the least κ², a tenth of the median's.
    decay = contrast_decay(reference.astype(np.float32), Window(5), model=MEANS)
    assert np.nanmax(result.dark_field) <= 19.5 * P**2 / DISTANCE / decay.min()


def test_background_is_the_zero():
    reference, sample, *_ = scene()
    drifted = 0.9 * moved(sample, 0.4, -0.2)
    result = retrieve(reference, drifted, background=(0, 72, 2, 12))
    bare = (slice(0, 72), slice(2, 12))
    pairs = ((result.shift[0], 0), (result.shift[1], 0), (result.transmission, 1), (result.visibility, 1))
    for image, value in pairs:
        assert abs(image[bare].mean() - value) <= 1e-5
    assert abs(result.phase[bare].mean()) <= 1e-4 * result.phase.std()
    mask = np.zeros(SHAPE, bool)
    mask[bare] = True
    assert np.array_equal(retrieve(reference, drifted, background=mask).phase, result.phase)


def test_background_without_a_value():
    reference, sample, *_ = scene()
    weights = np.ones(reference.shape)
    weights[:, 20:60, 20:60] = 0
    box = (34, 46, 34, 46)  # beyond the reach of what is known
    found, plain = (retrieve(reference, sample, weights=weights, background=given) for given in (box, None))
    assert any(finding.code == "background-undetermined" for finding in found.findings)
    assert np.array_equal(found.phase, plain.phase, equal_nan=True)


def test_start_values():
    """Shifts out of reach of the search are found about a start, and flagged without."""
    reference = speckle(np.random.default_rng(2), 4, SHAPE, 1.7)
    sample = moved(reference, 6.3, -5.2)
    assert (retrieve(reference, sample).flags[INSIDE] & flag.SEARCH_EDGE).mean() > 0.3
    assert any(finding.code == "search-edge" for finding in retrieve(reference, sample).findings)
    start = np.broadcast_to(np.array([6.0, -5.0])[:, None, None], (2, *SHAPE))
    result = retrieve(reference, sample, initial=start)
    assert np.abs(result.shift - np.array([6.3, -5.2])[:, None, None])[:, *INSIDE].max() <= 0.05
    assert result.options["initial"] == "given shifts"
    again = retrieve(reference, sample, initial=result)
    assert np.allclose(again.shift, result.shift, atol=1e-3)
    assert again.options["initial"] == "a result of umpa"


def test_start_values_that_are_none_or_absurd():
    reference, sample, *_ = scene(2)
    start, plain = np.zeros((2, 2, *SHAPE))
    start[:, :20], plain[:, 50:] = np.nan, min(SHAPE) // 2
    start[:, 50:] = 1e12  # as far as half of the frame counts
    found, expected = (retrieve(reference, sample, initial=given) for given in (start, plain))
    assert np.array_equal(found.shift, expected.shift, equal_nan=True)
    assert np.array_equal(found.flags, expected.flags)


def test_start_by_the_name_of_a_method():
    reference, sample, _, shift, _ = scene()
    result = retrieve(reference, sample, initial="xsvt")
    assert np.sqrt(np.mean((result.shift - shift)[:, *INSIDE] ** 2)) <= window_error(shift, 5, 5)


def test_one_nan_does_not_spread():
    reference, sample, *_ = scene()
    clean = retrieve(reference, sample)
    spoiled, holed = sample.copy(), reference.copy()
    spoiled[0, 40, 40], holed[1, 30, 50], holed[2, 50, 30] = np.nan, 0.0, np.inf
    result = retrieve(holed, spoiled)
    for name, _ in result.channels():
        assert np.isfinite(getattr(result, name)).all(), name
    changed = (np.abs(result.shift - clean.shift) > 1e-3).any(axis=0)
    ys, xs = np.nonzero(changed)
    near = [np.maximum(np.abs(ys - y), np.abs(xs - x)) for y, x in ((40, 40), (30, 50), (50, 30))]
    assert np.min(near, axis=0).max(initial=0) <= 12  # window, R̄, and half pixels
    assert result.flags[40, 40] & flag.BAD_SAMPLE
    assert result.flags[30, 50] & flag.BAD_REFERENCE


def test_a_dead_region_is_flagged():
    reference, sample, *_ = scene()
    weights = np.ones(reference.shape)
    weights[:, 20:60, 20:60] = 0
    weights[:, 5:12, 70:77] = 0
    result = retrieve(reference, sample, weights=weights)
    lost = (result.flags & flag.UNDETERMINED) > 0
    assert lost[40, 40]
    assert not lost[8, 73]
    assert result.flags[8, 73] & flag.FILLED
    for name, image in result.channels():
        assert np.array_equal(np.isnan(image).any(axis=0) if image.ndim == 3 else np.isnan(image), lost), name
    plan = xmist.prepare(reference, EXPERIMENT, method="umpa")
    with pytest.raises(xmist.InputError, check=coded("pixels-unusable")):
        plan(np.full_like(sample, np.nan))


def test_identical_frames():
    reference = speckle(np.random.default_rng(3), 3, SHAPE)
    result = retrieve(reference, reference)
    # Half pixels are good to 3e-4 of the contrast; slopes of the polynomial take 8/3 of it, over κ ≈ 0.4.
    assert np.sqrt(np.mean(result.shift[:, *INSIDE] ** 2)) <= 3e-3
    assert np.abs(result.shift).max() <= 0.03  # the odd mirror beyond the border is good to κ²/8
    assert np.sqrt(np.mean((result.transmission[INSIDE] - 1) ** 2)) <= 3e-4
    assert [finding.code for finding in warnings_of(result.findings)] == ["identical-frames"]
    assert "positions 0, 1 and 2 " in result.findings[0].message


@pytest.mark.parametrize("method", ["umpa", "xsvt"])
@pytest.mark.parametrize("scale", [2.0**30, 2.0**-40])
def test_the_unit_of_the_frames_does_not_matter(method, scale):
    """About 1e9 and 1e-12; powers of 2, so that not even rounding differs."""
    reference, sample, *_ = scene(2)
    weights = np.ones(reference.shape)
    weights[0, 30, 40] = 0
    one, other = (retrieve(unit * reference, unit * sample, method, weights) for unit in (1.0, scale))
    for name, image in one.channels():
        assert np.array_equal(image, getattr(other, name)), name
    assert np.array_equal(one.flags, other.flags)


def test_threads_do_not_change_a_bit():
    reference, sample, *_ = scene()
    one, two = (retrieve(reference, sample, threads=t) for t in (1, 2))
    for (name, a), (_, b) in zip(one.channels(), two.channels(), strict=True):
        assert a.tobytes() == b.tobytes(), name


def test_wrong_options():
    wrong = {"window": 4, "max_shift": -1, "dark_field": "vector", "weighting": "x", "initial": "full-feild"}
    with pytest.raises(xmist.InputError) as caught:
        make_options("umpa", wrong)
    assert caught.value.codes == ("option-invalid",) * 5
    with pytest.raises(xmist.InputError, check=coded("option-invalid")):
        make_options("umpa", {"window": 1})


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"window": 73}, "window"),
        ({"max_shift": 70}, "67"),
        ({"background": (0, 99, 0, 5)}, "background"),
        ({"background": [[0, 5], [0, 5]]}, "background"),
        ({"background": np.ones(SHAPE, bool)}, "background"),
        ({"background": np.zeros(SHAPE, bool)}, "background"),
        ({"initial": np.zeros((2, 3, 3))}, "initial"),
        ({"initial": "umpa"}, "umpa"),
    ],
)
def test_what_does_not_fit_the_frames(options, name):
    reference = speckle(np.random.default_rng(4), 2, SHAPE)
    with pytest.raises(xmist.InputError, check=coded("option-invalid", names=[name])):
        retrieve(reference, reference, **options)


def test_sample_that_does_not_fit():
    reference = speckle(np.random.default_rng(4), 2, SHAPE)
    plan = xmist.prepare(reference, EXPERIMENT, method="umpa")
    with pytest.raises(xmist.InputError, check=coded("shape-mismatch", names=["sample"])):
        plan(reference[:1])


@pytest.mark.parametrize("method", ["umpa", "xsvt"])
def test_stretched_speckles_do_not_scatter(method):
    # u = ε r has the variance ε² (w² − 1)/12 per axis in a window w, which blurs like d = 0.034 pixels².
    reference = speckle(np.random.default_rng(5), 4, (64, 64), 1.5)
    y, x = 0.06 * (np.mgrid[:64, :64] - 31.5)
    sample = (1.0 - 2 * 0.06) * moved(reference, x, y)
    result = xmist.retrieve(xmist.SpeckleStack(reference, sample), EXPERIMENT, method=method, window=15)
    scale = EXPERIMENT.effective_distance / EXPERIMENT.effective_pixel**2
    d = scale * result.dark_field[16:-16, 16:-16].mean()
    assert abs(d) < 0.2 * 0.5 * 0.06**2 * (15**2 - 1) / 12


@pytest.mark.parametrize("window", [3, 5, 9])
def test_the_blur_of_a_stretched_window_is_its_variance(window):
    y, x = np.mgrid[:40, :50].astype(np.float32)
    blur = blur_of_shift(np.stack([0.04 * x, -0.02 * x + 0.03 * y]), Window(window))
    expected = 0.25 * (0.04**2 + 0.02**2 + 0.03**2) * (window**2 - 1) / 12
    # Squares of 1 pixel² in single precision cancel to 1e-7.
    np.testing.assert_allclose(blur[12:-12, 12:-12], expected, atol=1e-6)


def test_scatter_that_may_be_refraction_is_said():
    reference = speckle(np.random.default_rng(5), 4, (72, 72), 2.5)
    y, x = np.mgrid[:72, :72] - 35.5
    lens = 0.1 * np.exp(-(x**2 + y**2) / 162)
    spread = np.gradient(lens * x, axis=1) + np.gradient(lens * y, axis=0)
    # A lens moves the speckles, and takes contrast from those that it spreads.
    contrast = moved(reference, lens * x, lens * y) - 1.0
    refracted = (1.0 - spread) * (1.0 + contrast * (1.0 - 0.35 * spread))
    blurred = np.stack([ndi.gaussian_filter(frame, 0.7) for frame in reference])
    for sample, said in ((refracted, True), (blurred, False)):
        result = xmist.retrieve(xmist.SpeckleStack(reference, sample), EXPERIMENT, method="umpa")
        assert ("dark-field-from-refraction" in {record.code for record in result.findings}) is said


@pytest.mark.parametrize(("period", "said"), [(6.0, True), (40.0, False)])
def test_structure_that_windows_smooth_is_said(period, said):
    reference = speckle(np.random.default_rng(5), 4, (64, 64), 1.5)
    wave = 0.5 * np.sin(2 * np.pi * np.mgrid[:64, :64][1] / period)
    sample = (1.0 - np.gradient(wave, axis=1)) * moved(reference, wave, np.zeros((64, 64)))
    result = xmist.retrieve(xmist.SpeckleStack(reference, sample), EXPERIMENT, method="umpa")
    assert ("structure-below-window" in {record.code for record in result.findings}) is said
