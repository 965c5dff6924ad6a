"""Slices of phantoms of ellipses, whose line integrals are known, from the engines."""

import sys

import numpy as np
import pytest

import xmist
from tests.tomography.phantom import (
    ANGLES,
    FLAT,
    INSIDE,
    NEEDS_ASTRA,
    THETA,
    TRUTH,
    WIDTH,
    sinogram,
)
from xmist.core.errors import InputError
from xmist.tomography import (
    TomographyOptions,
    angular_weights,
    find_centre,
    line_integrals,
    reconstruct,
    reconstruct_refraction,
    suppress_rings,
)


@pytest.fixture(scope="module")
def data():
    return sinogram(THETA, 47.5)[:, None]


def error(image):
    return np.sqrt(np.mean((image - TRUTH)[INSIDE] ** 2))


@pytest.mark.parametrize("algorithm", ["fbp", pytest.param("cgls", marks=NEEDS_ASTRA)])
def test_slices_have_the_values_and_the_place_of_the_phantom(data, algorithm):
    pixel = 2e-6
    options = TomographyOptions(algorithm=algorithm)
    (image,) = reconstruct(data * pixel, THETA, pixel=pixel, centre=47.5, options=options)
    assert image[FLAT].mean() == pytest.approx(TRUTH[FLAT].mean(), abs=5e-3)
    # Edges are blurred by a pixel: a ring of edge pixels, a sixth of the slice, errs by about 0.1.
    assert error(image) < 0.05
    # A slice that is mirrored or turned errs by more than the contrast of the inner ellipses.
    for wrong in (image[::-1], image[:, ::-1], image.T):
        assert error(wrong) > 2 * error(image)


def test_fbp_is_that_of_the_engine(data):
    from algotom.rec.reconstruction import fbp_reconstruction

    # The engine divides by n − 1 angles where the steps cover n.
    scaled = data[:, 0].astype(np.float32) * np.float32((ANGLES - 1) / ANGLES)
    direct = fbp_reconstruction(
        scaled, 47.5, angles=np.deg2rad(THETA), ratio=None, pad=WIDTH // 2, apply_log=False, gpu=False,
        ncore=1, filter_name=None,
    )  # fmt: skip
    ours = reconstruct(data, THETA, pixel=1.0, centre=47.5, options=TomographyOptions(algorithm="fbp"))[0]
    # Weights of angles differ by rounding, which may move a ray at the boundary of two pixels to the other.
    assert np.median(np.abs(ours - direct)) < 1e-6
    assert np.mean(np.abs(ours - direct) > 1e-5) < 5e-3


def test_full_circles_and_gaps_keep_the_unit(data):
    options = TomographyOptions(algorithm="fbp")
    circle = np.arange(2 * ANGLES) * 180.0 / ANGLES
    full = reconstruct(sinogram(circle, 47.5)[:, None], circle, pixel=1.0, centre=47.5, options=options)[0]
    assert full[FLAT].mean() == pytest.approx(TRUTH[FLAT].mean(), abs=5e-3)
    kept = np.delete(np.arange(ANGLES), slice(40, 48))
    gap = reconstruct(data[kept], THETA[kept], pixel=1.0, centre=47.5, options=options)[0]
    assert gap[FLAT].mean() == pytest.approx(TRUTH[FLAT].mean(), abs=0.02)


def test_refraction_angles_give_delta(data):
    angle = -np.gradient(data, axis=2)
    image = reconstruct_refraction(angle, THETA, centre=47.5)[0]
    assert image[FLAT].mean() == pytest.approx(TRUTH[FLAT].mean(), abs=5e-3)
    assert error(image) < 0.08  # the derivative over two pixels blurs edges twice as far


@NEEDS_ASTRA
def test_weights_keep_bad_projections_out(data):
    random = np.random.default_rng(1)
    spoilt, weights = data.copy(), np.ones_like(data)
    bad = random.choice(ANGLES, 8, replace=False)
    spoilt[bad] += random.normal(0, 30, (8, 1, WIDTH))
    weights[bad] = 1e-4
    options = TomographyOptions(algorithm="cgls")
    with_weights, without = (
        error(reconstruct(spoilt, THETA, pixel=1.0, centre=47.5, weights=given, options=options)[0])
        for given in (weights, None)
    )
    assert with_weights < 0.06 < 0.3 < without


@NEEDS_ASTRA
def test_a_pixel_of_weight_zero_changes_no_bit(data):
    weights = np.ones_like(data)
    weights[20:24, 0, 30:40] = 0
    results = []
    for value in (0.0, 1e9, np.nan):
        given = data.copy()
        given[20:24, 0, 30:40] = value
        results.append(reconstruct(given, THETA, pixel=1.0, centre=47.5, weights=weights))
    assert np.array_equal(results[0], results[1])
    assert np.array_equal(results[0], results[2])


@NEEDS_ASTRA
@pytest.mark.parametrize("prior", ["smooth", "tv"])
def test_a_prior_lowers_the_noise_of_few_projections(data, prior):
    noisy = data + np.random.default_rng(2).normal(0, 1.5, data.shape)
    plain = TomographyOptions(algorithm="fbp")
    with_prior = TomographyOptions(algorithm="cgls", prior=prior, strength=0.3)
    few = np.s_[::4]
    errors = [
        error(reconstruct(noisy[few], THETA[few], pixel=1.0, centre=47.5, options=options)[0])
        for options in (plain, with_prior)
    ]
    assert errors[1] < 0.7 * errors[0]


@NEEDS_ASTRA
def test_sirt_approaches_the_phantom(data):
    options = TomographyOptions(algorithm="sirt", iterations=60)
    image = reconstruct(data, THETA, pixel=1.0, centre=47.5, options=options)[0]
    assert image[FLAT].mean() == pytest.approx(TRUTH[FLAT].mean(), abs=0.02)


@pytest.mark.parametrize("seed", range(10))
def test_the_rotation_centre_is_found(seed):
    random = np.random.default_rng(seed)
    centre = 47.5 + random.uniform(-5, 5)
    rows = np.linspace(0.6, 1.1, 16)[:, None]
    projections = sinogram(THETA, centre)[:, None] * rows
    projections += random.normal(0, 0.01 * projections.max(), projections.shape)
    found = find_centre(projections, THETA)
    assert abs(found.column - centre) < 0.1
    assert abs(found.tilt) < 0.3


def test_a_tilted_axis_is_noticed():
    rows = np.arange(32) - 15.5
    tilt = np.tan(np.deg2rad(0.5))
    projections = np.stack([sinogram(THETA[::3], 47.5 + tilt * row) for row in rows], axis=1)
    found = find_centre(projections, THETA[::3])
    assert found.tilt == pytest.approx(0.5, abs=0.05)
    assert found.column == pytest.approx(47.5, abs=0.05)


def test_opposite_projections_serve_objects_that_leave_the_frame():
    angles = np.linspace(0, 180, 31)
    projections = np.repeat(sinogram(angles, 49.2)[:, None, 24:84], 16, axis=1)  # cut on both sides
    found = find_centre(projections, angles)
    assert found.pairs > 0
    assert found.column == pytest.approx(49.2 - 24, abs=0.1)
    with pytest.raises(InputError) as caught:
        find_centre(projections[:20], angles[:20])
    assert caught.value.codes == ("no-opposite-projections",)


def test_line_integrals_have_the_units_of_the_volumes():
    experiment = xmist.Experiment(energy_kev=17.0, pixel_size=5.8e-6, sample_to_detector=0.8)
    image = np.full((1, 2, 2), 0.5, np.float32)
    wave = experiment.wavenumber
    assert line_integrals("phase", -image, experiment)[0, 0, 0] == pytest.approx(0.5 / wave)
    assert line_integrals("transmission", image, experiment)[0, 0, 0] == pytest.approx(np.log(2))
    # D = ∆/2 ∫ε dz
    assert line_integrals("dark_field", image, experiment)[0, 0, 0] == pytest.approx(0.5 * 2 / 0.8)


def test_weights_of_angles():
    assert angular_weights(THETA).sum() == pytest.approx(np.pi)
    assert angular_weights([0, 180, 90]).tolist() == pytest.approx([np.pi / 4, np.pi / 4, np.pi / 2])
    assert angular_weights([0, 10, 90])[2] > angular_weights([0, 10, 90])[1]


@pytest.mark.parametrize("strength", ["small", "all"])
def test_rings_are_suppressed(data, strength):
    noise = np.random.default_rng(3).normal(0, 0.05, data.shape)  # the engine refuses data without noise
    striped = (data + noise).astype(np.float32)
    striped[:, 0, 40] += 2.0
    # The stripe is 2. Sorting takes the median of neighbours, which on a curved profile leaves a part.
    left = suppress_rings(striped, strength)[:, 0, 40] - data[:, 0, 40]
    assert abs(np.median(left)) < 1.0
    assert suppress_rings(striped, "none") is striped


def test_wrong_input(data):
    for changes, code in (
        ({"angles": THETA[:-1]}, "shape-mismatch"),
        ({"centre": 200.0}, "option-invalid"),
        ({"weights": np.ones(3)}, "shape-mismatch"),
    ):
        given = {"angles": THETA, "centre": 47.5, "weights": None} | changes
        with pytest.raises(InputError) as caught:
            reconstruct(data, given.pop("angles"), pixel=1.0, **given)
        assert caught.value.codes == (code,)
    with pytest.raises(InputError) as caught:
        reconstruct(data * np.nan, THETA, pixel=1.0, centre=47.5, options=TomographyOptions(algorithm="fbp"))
    assert caught.value.codes == ("array-invalid",)
    with pytest.raises(InputError) as caught:
        TomographyOptions(algorithm="magic")
    assert caught.value.codes == ("option-invalid",)


def test_an_engine_that_is_missing_is_named(data, monkeypatch):
    monkeypatch.setitem(sys.modules, "algotom.rec.reconstruction", None)
    with pytest.raises(InputError) as caught:
        reconstruct(data, THETA, pixel=1.0, centre=47.5, options=TomographyOptions(algorithm="fbp"))
    assert caught.value.codes == ("extra-missing",)


def half_acquisition():
    """Return angles over 360°, projections (projection, slice, x) of half of the phantom, the column."""
    angles = np.arange(0, 360, 1.5)
    return angles, np.repeat(sinogram(angles, 47.5)[:, None, 36:], 4, axis=1), 47.5 - 36


@pytest.mark.parametrize("algorithm", ["fbp", pytest.param("cgls", marks=NEEDS_ASTRA)])
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_half_acquisition_gives_the_whole_slice(algorithm, mirrored):
    angles, projections, centre = half_acquisition()
    if mirrored:  # the projection from behind is the mirrored one
        projections, centre, angles = projections[:, :, ::-1], 59 - centre, angles + 180
    options = TomographyOptions(algorithm=algorithm)
    image = reconstruct(projections[:, :1], angles, pixel=1.0, centre=centre, options=options)[0]
    assert image.shape == (96, 96)
    assert image[FLAT].mean() == pytest.approx(TRUTH[FLAT].mean(), abs=0.01)
    assert error(image) < 0.06
    if algorithm == "fbp":
        angle = -np.gradient(projections[:, :1], axis=2)
        image = reconstruct_refraction(angle, angles, centre=centre)[0]
        assert image[FLAT].mean() == pytest.approx(TRUTH[FLAT].mean(), abs=0.01)


def test_the_centre_of_a_half_acquisition_is_found():
    angles, projections, centre = half_acquisition()
    assert find_centre(projections, angles).column == pytest.approx(centre, abs=0.1)


@pytest.mark.parametrize("algorithm", ["fbp", pytest.param("cgls", marks=NEEDS_ASTRA)])
def test_the_axis_of_each_slice_comes_to_the_middle(data, algorithm):
    options = TomographyOptions(algorithm=algorithm)
    columns = np.array([47.5, 44.9])
    tilted = np.stack([data[:, 0], sinogram(THETA, columns[1])], axis=1)
    images = reconstruct(tilted, THETA, pixel=1.0, centre=columns, options=options)
    assert max(map(error, images)) < 0.05


@NEEDS_ASTRA
def test_a_margin_takes_up_what_leaves_the_frame():
    cut = sinogram(THETA, 47.5)[:, None, 20:76]
    errors = []
    for padding in (0.0, 0.25):
        options = TomographyOptions(algorithm="cgls", padding=padding, prior="none")
        image = reconstruct(cut, THETA, pixel=1.0, centre=27.5, options=options)[0]
        # An offset is free where the object leaves the frame; structure is not.
        errors.append((image - TRUTH[20:76, 20:76])[6:50, 6:50].std())
    assert errors[1] < 0.7 * errors[0]
