import numpy as np
import pytest
import scipy.ndimage as ndi
from hypothesis import given, settings
from hypothesis import strategies as st

import xmist
from tests.coded import coded
from tests.preprocess.speckles import WIDTH, fully_developed, speckle
from xmist.evaluate.metrics import (
    angular_sensitivity,
    cnr,
    correlation,
    fourier_ring_correlation,
    nrmse,
    speckle_size,
    visibility,
)

RNG = np.random.default_rng(0)
NOISE = RNG.normal(size=(60, 80))


def test_cnr():
    outside = np.zeros((60, 80), bool)
    outside[:30] = True
    image = np.where(outside, 0.0, 5.0) + NOISE
    expected = (image[:30].mean() - image[30:].mean()) / image[:30].std()
    assert cnr(image, outside, ~outside) == pytest.approx(expected, rel=1e-12)
    assert cnr(-image, outside, ~outside) == pytest.approx(-expected, rel=1e-12)
    assert cnr(7 * image + 3, outside, ~outside) == pytest.approx(expected, rel=1e-12)
    holes = image.copy()
    holes[5, 6] = holes[50, 60] = np.nan
    assert cnr(holes, outside, ~outside) == pytest.approx(expected, rel=0.01)
    assert cnr(np.float32(image), outside, ~outside) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("value", [np.nan, 0.0, 1e9, -1e9])
def test_pixels_outside_the_mask_change_no_metric_by_a_bit(value):
    rng = np.random.default_rng(7)
    outside = np.zeros((60, 80), bool)
    outside[:30] = True
    used = rng.random((60, 80)) > 0.2
    image = np.where(outside, 0.0, 5.0) + NOISE
    wild = np.where(used, image, value)
    for robust in (False, True):
        named = {"mask": used, "robust": robust}
        assert cnr(wild, outside, ~outside, **named) == cnr(image, outside, ~outside, **named)
        assert angular_sensitivity([wild, wild], outside, **named) == angular_sensitivity(
            [image, image], outside, **named
        )
        assert nrmse(wild, 1 + NOISE, **named) == nrmse(image, 1 + NOISE, **named)
    other = image + rng.normal(size=image.shape)
    rings = [fourier_ring_correlation(one, other, pixel_size=1.0, mask=used) for one in (wild, image)]
    assert np.array_equal(rings[0].values, rings[1].values)


def test_robust_metrics_ignore_outliers():
    outside = np.zeros((60, 80), bool)
    outside[:30] = True
    image = np.where(outside, 0.0, 5.0) + NOISE
    beam, within = image[:30], image[30:]
    spread = 1.4826 * np.median(np.abs(beam - np.median(beam)))
    expected = (np.median(beam) - np.median(within)) / spread
    assert cnr(image, outside, ~outside, robust=True) == pytest.approx(expected, rel=1e-12)
    spoiled = image.copy()
    spoiled[::12, ::9] = 1e6  # 1 % of the pixels
    # 1 % of outliers on one side move a median of Gaussian noise by 0.01 σ √(π/2), its MAD by as little: the
    # contrast of 5 σ changes by less than 3 %.
    assert cnr(spoiled, outside, ~outside, robust=True) == pytest.approx(expected, rel=0.03)
    assert abs(cnr(spoiled, outside, ~outside)) < 0.1
    # For Gaussian noise both estimate σ, the median absolute deviation to 1.17/√(2 n) = 1.2 % (n = 4800).
    everywhere = np.ones(NOISE.shape, bool)
    plain = angular_sensitivity([NOISE, 2 * NOISE], everywhere)
    robust = angular_sensitivity([NOISE, 2 * NOISE], everywhere, robust=True)
    assert robust == pytest.approx(plain, rel=0.04)
    assert nrmse(NOISE + 3.0, 0 * NOISE + image, robust=True, remove_mean=True) == pytest.approx(
        1.4826 * np.median(np.abs(NOISE - image - np.median(NOISE - image))) / image.std(), rel=1e-12
    )


@pytest.mark.parametrize(
    ("image", "outside", "inside", "code"),
    [
        (NOISE, NOISE > 9, NOISE > 0, "pixels-too-few"),
        (NOISE, NOISE > 0, NOISE > 9, "pixels-too-few"),
        (NOISE, NOISE > 0, NOISE, "value-invalid"),
        (NOISE, NOISE[1:] > 0, NOISE > 0, "shape-mismatch"),
        (NOISE[0], NOISE > 0, NOISE > 0, "shape-mismatch"),
        (np.full((60, 80), np.inf), NOISE > 0, NOISE > 0, "value-invalid"),
        (np.ones((60, 80)), NOISE > 0, NOISE < 0, "metric-undefined"),
        (NOISE.astype(complex), NOISE > 0, NOISE < 0, "value-invalid"),
    ],
)
def test_cnr_errors(image, outside, inside, code):
    with pytest.raises(xmist.InputError, check=coded(code)):
        cnr(image, outside, inside)


def test_nrmse_and_correlation():
    truth = 3 + NOISE
    assert nrmse(truth, truth) == 0
    assert correlation(truth, truth) == 1
    assert nrmse(np.zeros_like(truth), truth) == 1
    assert nrmse(1.1 * truth, truth) == pytest.approx(0.1)
    assert nrmse(truth + 5, truth, remove_mean=True) == pytest.approx(0, abs=1e-14)
    assert correlation(5 - 2 * truth, truth) == -1
    other = np.random.default_rng(1).normal(size=truth.shape)
    noisy = NOISE + other
    plain = correlation(noisy, NOISE)
    assert plain == pytest.approx(np.corrcoef(noisy.ravel(), NOISE.ravel())[0, 1])
    # Of 4800 Gaussian values a median absolute deviation is known to 1.17/√4800, and so is the correlation.
    assert correlation(noisy, NOISE, robust=True) == pytest.approx(plain, abs=4 * 1.17 / np.sqrt(4800))
    wild = np.where(np.arange(noisy.size).reshape(noisy.shape) % 50, noisy, 1e6)
    assert correlation(wild, NOISE, robust=True) == pytest.approx(plain, abs=0.05 + 4 * 1.17 / np.sqrt(4800))
    assert nrmse(noisy, NOISE) == pytest.approx(np.sqrt((other**2).mean() / (NOISE**2).mean()))
    assert nrmse(np.stack([truth, truth]), np.stack([truth, truth])) == 0


@given(st.floats(-1e3, 1e3), st.floats(1e-3, 1e3))
@settings(max_examples=10)
def test_correlation_is_blind_to_offset_and_scale(offset, scale):
    image = NOISE + 0.5 * RNG.normal(size=NOISE.shape)
    assert correlation(offset + scale * image, NOISE) == pytest.approx(correlation(image, NOISE), rel=1e-6)


def test_pixels_without_a_value_do_not_count():
    image, mask = 2 * NOISE, np.ones(NOISE.shape, bool)
    broken, truth = image.copy(), NOISE.copy()
    broken[3, 4], truth[5, 6] = np.nan, np.nan
    broken[7, 8], mask[7, 8] = 1e9, False
    assert nrmse(broken, truth, mask=mask) == pytest.approx(1)
    assert correlation(broken, truth, mask=mask) == pytest.approx(1)


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda: nrmse([[1], [1, 2]], NOISE), "array-invalid"),
        (lambda: nrmse(NOISE, NOISE[1:]), "shape-mismatch"),
        (lambda: nrmse(NOISE, 0 * NOISE), "metric-undefined"),
        (lambda: nrmse(NOISE, 0 * NOISE + 1, remove_mean=True), "metric-undefined"),
        (lambda: correlation(NOISE, 0 * NOISE), "metric-undefined"),
        (lambda: correlation(NOISE, np.where(NOISE > 1.0, NOISE, 1.0), robust=True), "metric-undefined"),
        (lambda: correlation(NOISE * np.nan, NOISE), "pixels-too-few"),
        (lambda: correlation(NOISE, NOISE, mask=NOISE > 99), "pixels-too-few"),
    ],
)
def test_errors_of_comparisons(call, code):
    with pytest.raises(xmist.InputError, check=coded(code)):
        call()


def test_rings_of_independent_noise_stay_below_the_threshold():
    # The half-bit threshold is above 3/√n for n independent coefficients a ring: 1 ring in 700 crosses it.
    crossed = rings = 0
    for seed in range(8):
        a, b = np.random.default_rng(seed).normal(size=(2, 90, 120))
        found = fourier_ring_correlation(a, b, pixel_size=1e-6)
        outer = found.frequencies > 0.1e6
        crossed += np.count_nonzero(found.values[outer] > found.threshold[outer])
        rings += np.count_nonzero(outer)
    assert crossed <= 0.02 * rings


def test_rings_of_a_signal_with_noise():
    # Power signal-to-noise 4 below a quarter of a cycle a pixel and none above: FRC = SNR/(1 + SNR) = 0.8.
    rng = np.random.default_rng(2)
    shape, pixel = (240, 300), 2e-6
    ky, kx = np.fft.fftfreq(shape[0])[:, None], np.fft.fftfreq(shape[1])[None]
    band = np.hypot(ky, kx) < 0.25
    signal = np.fft.ifft2(np.fft.fft2(rng.normal(size=shape)) * band).real
    a, b = (2 * signal + rng.normal(size=shape) for _ in range(2))
    found = fourier_ring_correlation(a, b, pixel_size=pixel)
    inside = (found.frequencies > 0.05 / pixel) & (found.frequencies < 0.24 / pixel)
    assert found.values[inside].mean() == pytest.approx(0.8, abs=0.02)
    assert found.resolution == pytest.approx(4 * pixel, rel=0.03)
    assert found.frequencies[-1] == pytest.approx(0.5 / pixel)
    # The last ring holds 2π · 300/2 coefficients, of which the Hann window leaves ((3/8)²/(35/128))².
    root = np.sqrt(300 * np.pi) * (9 / 64) / (35 / 128)
    assert found.threshold[-1] == pytest.approx((0.2071 * root + 1.9102) / (1.2071 * root + 0.9102), rel=0.02)
    turned = fourier_ring_correlation(a[::-1].T, b[::-1].T, pixel_size=pixel)
    assert np.allclose(turned.values, found.values, atol=0.02)


def test_rings_leave_out_what_is_no_number():
    a, b = np.random.default_rng(3).normal(size=(2, 64, 64)) + NOISE[0, :64]
    plain = fourier_ring_correlation(a, b, pixel_size=1.0)
    a[10, 20] = np.nan
    assert np.abs(fourier_ring_correlation(a, b, pixel_size=1.0).values - plain.values).max() < 0.1


@pytest.mark.parametrize(
    ("a", "b", "pixel", "codes"),
    [
        (NOISE, NOISE[1:], 1.0, ["shape-mismatch"]),
        (NOISE[:8], NOISE[:8], 1.0, ["pixels-too-few"]),
        (NOISE, NOISE, 0, ["value-invalid"]),
        (NOISE, NOISE, "1 µm", ["value-invalid"]),
        (NOISE, np.ones_like(NOISE), 1.0, ["metric-undefined"]),
        (NOISE * np.nan, NOISE, 1.0, ["pixels-too-few"]),
        (NOISE[:8], NOISE[:9], -1.0, ["shape-mismatch", "pixels-too-few", "value-invalid"]),
    ],
)
def test_errors_of_rings(a, b, pixel, codes):
    with pytest.raises(xmist.InputError, check=coded(*codes)):
        fourier_ring_correlation(a, b, pixel_size=pixel)


def test_angular_sensitivity_is_the_scatter_in_bare_beam():
    angle = np.stack([2e-7 * NOISE + 1e-6, 3e-7 * NOISE])
    background = np.ones(NOISE.shape, bool)
    background[:20], angle[:, :20] = False, 1.0
    angle[0, 30, 40] = np.nan
    used = background & ~np.isnan(angle[0])
    x, y = angular_sensitivity(angle, background)
    assert x == pytest.approx(2e-7 * NOISE[used].std())
    assert y == pytest.approx(3e-7 * NOISE[used].std())
    with pytest.raises(xmist.InputError, check=coded("shape-mismatch")):
        angular_sensitivity(angle[:1], background)
    with pytest.raises(xmist.InputError, check=coded("pixels-too-few")):
        angular_sensitivity(angle, NOISE > 99)


def test_visibility():
    rng = np.random.default_rng(4)
    frames = np.stack([1e4 * speckle(rng, (200, 200), grain=3.0, visibility=v)[0] for v in (0.1, 0.3)])
    # 40000 pixels hold some 4000 grains: 2 %.
    assert visibility(frames[0]) == pytest.approx(0.1, rel=0.03)
    assert visibility(frames) == pytest.approx(0.2, rel=0.03)
    assert visibility(fully_developed(rng, (200, 200), 2.0)) == pytest.approx(1.0, rel=0.05)
    broken = frames.copy()
    broken[0, 3, 4], broken[1, 5, 6], broken[1, 7, 8] = np.nan, np.inf, 1e12
    weights = np.ones(frames.shape)
    weights[1, 7, 8] = 0
    assert visibility(broken, weights) == pytest.approx(visibility(frames), rel=1e-3)
    masked = np.ma.masked_array(np.nan_to_num(broken, posinf=5.0), ~np.isfinite(broken))
    held = np.ma.masked_array(np.ones(frames.shape), weights == 0)
    assert visibility(masked, held) == visibility(broken, weights > 0)
    with pytest.raises(xmist.InputError, check=coded("value-invalid")):
        visibility([["a", "b"]])
    with pytest.raises(xmist.InputError, check=coded("value-invalid")):
        visibility(NOISE, NOISE.astype(str))
    with pytest.raises(xmist.InputError, check=coded("metric-undefined")):
        visibility(-np.ones((1, 9, 9)))
    with pytest.raises(xmist.InputError, check=coded("pixels-too-few")):
        visibility(np.stack([NOISE, NOISE * np.nan]))
    with pytest.raises(xmist.InputError, check=coded("shape-mismatch")):
        visibility(NOISE, np.ones((3, 3)))


@pytest.mark.parametrize("grain", [2.0, 3.0, 5.0, 10.0])
def test_speckle_size(grain):
    rng = np.random.default_rng(5)
    frames = np.stack([speckle(rng, (300, 360), grain=grain)[0] for _ in range(3)])
    x, y = speckle_size(frames)
    # Some 10⁵/grain² grains a frame fix the width to about grain/300.
    assert x == pytest.approx(grain, rel=0.01 + grain / 200)
    assert y == pytest.approx(grain, rel=0.01 + grain / 200)


def test_speckle_size_of_wide_noisy_and_broken_frames():
    rng = np.random.default_rng(6)
    noise = rng.normal(size=(300, 360))
    wide = 1 + 0.1 * ndi.gaussian_filter(noise, (1.5, 3.0), mode="wrap")
    x, y = speckle_size(wide)
    assert x == pytest.approx(3.0 * WIDTH, rel=0.05)
    assert y == pytest.approx(1.5 * WIDTH, rel=0.05)
    # White noise as strong as the speckle stands at shift 0 alone.
    noisy = wide + wide.std() * rng.normal(size=wide.shape)
    assert speckle_size(noisy) == pytest.approx((x, y), rel=0.1)
    weights = (rng.random(wide.shape) > 0.05).astype(float)
    broken = np.where(weights > 0, wide, 1e9)
    broken[0, 0] = np.nan
    assert speckle_size(broken, weights) == pytest.approx((x, y), rel=0.02)
    with pytest.raises(xmist.InputError, check=coded("metric-undefined")):
        speckle_size(wide, reach=2)
    with pytest.raises(xmist.InputError, check=coded("metric-undefined")):
        speckle_size(np.ones((30, 40)))
    for reach in (0, 1.5, "all"):
        with pytest.raises(xmist.InputError, check=coded("value-invalid")):
            speckle_size(wide, reach=reach)
