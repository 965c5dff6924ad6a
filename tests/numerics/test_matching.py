"""Matching against frames whose shift, T and V are known, and against its definition written plainly."""

import hypothesis.strategies as st
import numpy as np
import pytest
import scipy.ndimage as ndi
from hypothesis import given, settings

from tests.manufactured import laplacian6
from xmist.numerics.matching import contrast
from xmist.numerics.matching.contrast import _noise_of_sums, contrast_decay, noise_gain
from xmist.numerics.matching.match import (
    FLAT,
    MEANS,
    NOTHING,
    OFFSET,
    ON_EDGE,
    SCALE,
    Window,
    _noise_factors,
    match,
)

SHIFTS = [(0, 0), (0.25, -0.25), (0.5, 0.3), (-3.6, 2.45), (1.1, -3.8), (4, -4)]
INSIDE = (slice(14, -14),) * 2  # shifts wrap, windows reach 2 and half pixels 8 further


def speckle(number, shape, fwhm, seed=0):
    """Periodic speckle whose autocorrelation has the full width `fwhm`."""
    rng = np.random.default_rng(seed)
    sigma = fwhm / np.sqrt(16 * np.log(2))
    frames = [ndi.gaussian_filter(rng.normal(size=shape), sigma, mode="wrap") for _ in range(number)]
    return 1 + 0.2 * np.stack(frames) / np.std(frames)


def moved(frames, x, y):
    """The frames' Fourier series, moved by (x, y)."""
    ky, kx = np.fft.fftfreq(frames.shape[1])[:, None], np.fft.fftfreq(frames.shape[2])
    return np.fft.ifft2(np.fft.fft2(frames) * np.exp(-2j * np.pi * (kx * x + ky * y))).real


def means(frames, window, mode="wrap"):
    profile = window.profile / window.profile.sum()
    return np.stack(
        [
            ndi.correlate1d(ndi.correlate1d(f, profile, axis=0, mode=mode), profile, axis=1, mode=mode)
            for f in frames
        ]
    )


def single(frames):
    return np.ascontiguousarray(frames, np.float32)


@pytest.mark.parametrize("weighting", ["flat", "hamming"])
@pytest.mark.parametrize("fwhm", [3.0, 4.0])
def test_rigid_shifts(weighting, fwhm):
    window = Window(5, weighting)
    reference = speckle(4, (64, 64), fwhm)
    mean = means(reference, window)
    still = 0.7 * (mean + 0.8 * (reference - mean))
    errors, fractions = [], []
    for x, y in SHIFTS:
        found = match(single(reference), single(moved(still, x, y)), window, reach=6)
        error = (found.shift - np.array([x, y])[:, None, None])[:, *INSIDE]
        errors.append(np.sqrt(np.mean(error**2)))
        fractions.append(np.abs(error.mean(axis=(1, 2))).max())
        assert not found.status[INSIDE].any()
        assert np.abs(found.scale[INSIDE] / 0.7 - 1).mean() <= 0.002
        assert abs(found.visibility[INSIDE].mean() / 0.8 - 1) <= (0.01 if fwhm >= 4 else 0.03)
    assert max(errors) <= 0.02
    assert max(fractions) <= 0.02  # a mean error at a fraction of a pixel is pixel locking


def test_models_without_means():
    reference = speckle(3, (64, 64), 4.0)
    sample = 0.7 * moved(1 + 0.8 * (reference - 1), 1.3, -0.4)
    found = match(single(reference), single(sample), Window(5), reach=3, model=OFFSET, level=1.0)
    assert np.abs(found.shift - np.array([1.3, -0.4])[:, None, None])[:, *INSIDE].max() <= 0.05
    assert np.abs(found.visibility[INSIDE] * found.scale[INSIDE] / 0.56 - 1).max() <= 0.02
    found = match(
        single(reference), single(0.7 * moved(reference, 1.3, -0.4)), Window(5), reach=3, model=SCALE
    )
    assert np.abs(found.scale[INSIDE] / 0.7 - 1).max() <= 0.002
    assert not found.visibility.any()


def plain_cost(reference, sample, good, weights, window, model, level, u):
    """The cost over Σ w, Σ w S² over Σ w, and the number of pairs, at one whole shift, pixel by pixel."""
    number, height, width = sample.shape
    half, profile = window.size // 2, window.profile.astype(float)
    p, q = np.empty(sample.shape), np.empty(sample.shape)
    patch = np.outer(profile, profile)
    padded = [np.pad(a, ((0, 0), (half, half), (half, half))) for a in (reference * good, good)]
    views = [np.lib.stride_tricks.sliding_window_view(a, patch.shape, axis=(1, 2)) for a in padded]
    value, weight = ((view * patch).sum((-1, -2)) for view in views)
    mean = np.where(weight > 0, value / np.where(weight > 0, weight, 1), reference)
    p, q = {
        MEANS: (mean, reference - mean),
        SCALE: (reference, 0 * reference),
        OFFSET: (0 * reference + 1, reference - level),
    }[model]
    costs = np.full((3, height, width), np.nan)
    for y in range(height):
        for x in range(width):
            rows = []
            for v in range(max(0, y - half, u[1]), min(height, y + half + 1, height + u[1])):
                for h in range(max(0, x - half, u[0]), min(width, x + half + 1, width + u[0])):
                    for n in range(number):
                        w = patch[v - y + half, h - x + half] * weights[n, v, h] * good[n, v - u[1], h - u[0]]
                        at = (n, v - u[1], h - u[0])
                        rows.append((w, sample[n, v, h], p[at], q[at]))
            w, s, a, b = np.array(rows).reshape(-1, 4).T
            if not w.sum() > 0:
                continue
            root = np.sqrt(w)
            columns = np.stack([a, b], 1) if model != SCALE else a[:, None]
            z, *_ = np.linalg.lstsq(columns * root[:, None], s * root, rcond=1e-9)
            if model == OFFSET and z[1] < 0:
                z = np.array([(w * s).sum() / w.sum(), 0.0])
            costs[:, y, x] = (
                (w * (s - columns @ z) ** 2).sum() / w.sum(),
                (w * s**2).sum() / w.sum(),
                sum(w > 0),
            )
    return costs


@settings(max_examples=200)
@given(
    seed=st.integers(0, 2**31),
    size=st.sampled_from([1, 3, 5]),
    weighting=st.sampled_from(["flat", "hamming"]),
    model=st.sampled_from([MEANS, OFFSET, SCALE]),
    number=st.integers(1, 3),
    x=st.integers(-3, 3),
    y=st.integers(-3, 3),
    dead=st.floats(0, 0.3),
)
def test_cost_is_that_of_the_definition(seed, size, weighting, model, number, x, y, dead):
    rng = np.random.default_rng(seed)
    shape = (number, 7, 8)
    reference, sample = rng.uniform(0.5, 1.5, (2, *shape)).astype(np.float32)
    good = (rng.uniform(size=shape) > dead).astype(np.uint8)
    weights = (rng.uniform(0.5, 2, shape) * (rng.uniform(size=shape) > dead)).astype(np.float32)
    window = Window(size, weighting)
    start = np.broadcast_to(np.array([x, y])[:, None, None], (2, *shape[1:])).astype(np.int64)
    # A search of nothing but this shift tells its cost.
    found = match(
        reference, sample, window, reach=0, model=model, good=good, weights=weights, start=start, level=1.0
    )
    exact, energy, pairs = plain_cost(reference, sample, good, weights, window, model, 1.0, (x, y))
    known = np.isfinite(found.cost)
    assert (np.isfinite(exact) | ~known).all()
    # Two equations for two unknowns fit exactly, unless they are all but one: there rounding decides.
    known &= pairs > 3
    assert np.nanmax(np.abs(found.cost - exact)[known] / energy[known], initial=0) <= 1e-5


def test_search_takes_the_least_cost():
    reference, sample = single(speckle(2, (40, 44), 4.0)), single(speckle(2, (40, 44), 4.0, seed=1))
    window, reach = Window(5, "hamming"), 2
    costs = {}
    for y in range(-reach, reach + 1):
        for x in range(-reach, reach + 1):
            start = np.broadcast_to(np.array([x, y])[:, None, None], (2, 40, 44)).astype(np.int64)
            costs[x, y] = match(reference, sample, window, reach=0, start=start).cost
    least = np.nanmin(list(costs.values()), axis=0)
    found = match(reference, sample, window, reach=reach)
    assert np.allclose(found.cost, least, rtol=1e-4)
    edge = np.nanmin([costs[k] for k in costs if max(map(abs, k)) == reach], axis=0) == least
    assert np.mean(((found.status & ON_EDGE) > 0) == edge) >= 0.999


def test_dead_pixels_count_for_nothing():
    reference, sample = speckle(3, (64, 64), 4.0), None
    sample = moved(reference, 0.4, 0.2)
    good = np.ones(reference.shape, np.uint8)
    spoiled, filled = sample.copy(), reference.copy()
    spoiled[0, 30, 30] = np.nan
    spoiled[1, 25, 40] = np.inf
    good[2, 35, 25] = 0
    filled[2, 35, 25] += 0.01  # a guess from its neighbours
    found = match(single(filled), single(spoiled), Window(5), reach=2, good=good)
    assert np.abs(found.shift - np.array([0.4, 0.2])[:, None, None])[:, *INSIDE].max() <= 0.03
    assert np.abs(found.scale[INSIDE] - 1).max() <= 0.002
    spoiled[:, 28:40, 28:40] = np.nan
    found = match(single(reference), single(spoiled), Window(5), reach=2)
    lost = (found.status & NOTHING) > 0
    assert np.array_equal(lost, np.isnan(found.shift[0]))
    assert np.array_equal(np.argwhere(lost).min(0), [30, 30])  # windows that reach beyond know something
    assert np.array_equal(np.argwhere(lost).max(0), [37, 37])


def test_a_flat_reference_is_called_flat():
    frames = np.ones((2, 24, 24), np.float32)
    found = match(frames, 0.5 * frames, Window(5), reach=2)
    assert (found.status & FLAT).all()
    assert np.allclose(found.scale, 0.5)
    # Nothing prefers a shift: the nearest is kept, and what is left is the reach of the polynomial. At
    # the border the means are quotients, and their rounding decides.
    assert np.abs(found.shift[:, 4:-4, 4:-4]).max() <= 0.875
    assert np.abs(found.shift).max() <= 2 + 0.875


@pytest.mark.parametrize("weighted", [False, True])
def test_threads_do_not_change_a_bit(weighted):
    reference, sample = single(speckle(2, (70, 150), 3.0)), single(speckle(2, (70, 150), 3.0, seed=1))
    sample = reference + np.float32(0.3) * (sample - 1)
    weights = np.random.default_rng(2).uniform(size=sample.shape).astype(np.float32) if weighted else None
    found = [match(reference, sample, Window(5), reach=1, weights=weights, threads=t) for t in (1, 2, 5)]
    for other in found[1:]:
        for name in ("shift", "scale", "visibility", "cost", "status"):
            assert getattr(found[0], name).tobytes() == getattr(other, name).tobytes(), name


def test_tiles_leave_no_seam():
    """Weights of 1 take the other way through every tile, to the same result up to rounding."""
    reference = single(speckle(3, (96, 120), 4.0))
    sample = single(moved(reference, 0.3, -0.2))
    plain = match(reference, sample, Window(5, "hamming"), reach=2)
    weights = np.ones_like(sample)
    weights[0, ::7, ::9] = 0.999999
    other = match(reference, sample, Window(5, "hamming"), reach=2, weights=weights)
    assert np.abs(plain.shift - other.shift).max() <= 1e-3
    assert np.abs(plain.visibility - other.visibility).max() <= 1e-3


def test_noise_is_measured_and_taken_away():
    rng = np.random.default_rng(3)
    clean = speckle(6, (64, 64), 4.0)
    noisy = rng.normal(clean, 0.06 * np.sqrt(clean))
    gain = noise_gain(noisy)
    assert abs(gain / 0.0036 - 1) <= 0.05  # 64² pixels, 6 frames: the median is good to 1 %
    assert noise_gain(clean) <= 1e-5
    found = match(single(noisy), single(clean), Window(9), reach=1, noise=gain)
    assert abs(found.visibility[INSIDE].mean() - 1) <= 0.02
    raw = match(single(noisy), single(clean), Window(9), reach=1)
    assert raw.visibility[INSIDE].mean() <= 0.95  # var/(var + noise), 0.92 here


def test_noise_is_taken_away_between_pixels_too():
    # Half a pixel along both axes leaves 0.72 of the noise, which is 9 % of the speckle's variance: were all
    # of it taken away, V would be too large by 2.5 %. It is known to 1 % of itself.
    clean = speckle(6, (64, 64), 4.0)
    noisy = np.random.default_rng(3).normal(clean, 0.06 * np.sqrt(clean))
    sample = single(moved(clean, 0.5, 0.5))
    found = match(single(noisy), sample, Window(9), reach=1, noise=noise_gain(noisy))
    assert abs(found.visibility[INSIDE].mean() - 1) <= 0.02


@pytest.mark.parametrize("weighting", ["flat", "hamming"])
def test_sums_of_white_noise_by_the_response_to_one_pixel(weighting):
    # The covariance of two linear filters of white noise is the sum of the product of their kernels.
    window = Window(5, weighting)
    point = np.zeros((1, 15, 15))
    point[0, 7, 7] = 1.0
    mean, curvature = means(point, window)[0], laplacian6(point[0])
    detail = point[0] - mean
    pairs = ((mean, mean), (mean, detail), (detail, detail), (mean, curvature), (detail, curvature))
    exact = [(a * b).sum() for a, b in pairs]
    assert np.allclose(_noise_of_sums(window, MEANS), exact, rtol=1e-6)  # the profile is single precision
    assert np.allclose(_noise_factors(window, MEANS), exact[:3], rtol=1e-6)


@pytest.mark.parametrize("model", [MEANS, OFFSET])
def test_decay_of_noisy_frames(model):
    clean = speckle(12, (64, 64), 4.0)
    noisy = np.random.default_rng(4).normal(clean, 0.04 * np.sqrt(clean))
    given = {"window": Window(9), "model": model, "level": 1.0}
    exact, found, raw = (
        np.median(contrast_decay(single(frames), noise=noise, **given))
        for frames, noise in ((clean, 0.0), (noisy, 0.0016), (noisy, 0.0))
    )
    # Noise of 4 % of the speckle's variance has 5.4 times as much curvature, the speckle itself 0.7.
    assert abs(found / exact - 1) <= 0.05
    assert raw > 1.15 * exact


def test_decay_knows_no_bands(monkeypatch):
    frames = single(speckle(2, (150, 40), 4.0))
    banded = contrast_decay(frames, Window(15), model=MEANS)
    monkeypatch.setattr(contrast, "for_blocks", lambda task, size, threads: task(0, size))
    whole = contrast_decay(frames, Window(15), model=MEANS)
    assert np.allclose(banded, whole, rtol=1e-5, atol=0)


@pytest.mark.parametrize("model", [MEANS, OFFSET])
def test_decay_predicts_what_blur_takes(model):
    """To first order in d, V = 1 − d κ² for the blur R + d ∇²R."""
    window, d = Window(9), 0.02
    reference = speckle(4, (64, 64), 5.0)
    ky, kx = np.fft.fftfreq(64)[:, None], np.fft.fftfreq(64)
    damp = 1 - d * 4 * np.pi**2 * (kx**2 + ky**2)
    blurred = np.fft.ifft2(np.fft.fft2(reference) * damp).real
    decay = contrast_decay(single(reference), window, model=model, level=1.0)
    start = np.zeros((2, 64, 64), np.int64)
    found = match(single(reference), single(blurred), window, reach=0, start=start, model=model, level=1.0)
    lost = (1 - found.visibility[INSIDE]) / (d * decay[INSIDE])
    assert abs(np.median(lost) - 1) <= 0.03
