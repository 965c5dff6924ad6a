import dataclasses
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import xmist
from tests.coded import coded
from tests.manufactured import EXPERIMENT, phase_object, speckle
from xmist.core import flags as flag
from xmist.core.findings import warnings_of
from xmist.methods import make_options
from xmist.methods.implicit import pixelwise
from xmist.numerics.operators.stencils import gradient


def _retrieve(reference, sample, weights=None, **options):
    stack = xmist.SpeckleStack(reference, sample, weights)
    return xmist.retrieve(stack, EXPERIMENT, method="mist", **options)


def _relative(found, exact):
    """Root mean square error over the rms of what is right."""
    return np.sqrt(np.mean((found - exact) ** 2) / np.mean(exact**2))


@pytest.mark.parametrize("seed", [0, 1])
def test_manufactured_frames_come_back(seed):
    case = phase_object(10, seed=seed)
    result = _retrieve(case.reference, case.sample)
    assert not result.flags.any()
    mean = result.phase.mean(dtype=np.float64)
    assert _relative(result.phase - mean, case.phase) <= 1e-6
    assert _relative(result.dark_field, case.dark_field) <= 1e-5
    assert result.transmission is None
    assert result.dark_field_tensor is None


def test_two_positions_of_manufactured_frames():
    case = phase_object(2)
    result = _retrieve(case.reference, case.sample)
    assert np.median(np.abs(result.dark_field - case.dark_field)) <= 2e-5 * case.dark_field.std()
    ill = (result.flags & flag.ILL_DETERMINED) > 0
    assert 0.001 < ill.mean() < 0.05
    assert np.isfinite(result.dark_field).all()
    assert any(finding.code == "ill-determined" for finding in result.findings)
    # From neighbours up to four pixels away, those that say more counting more: the bump of radius 0.15 · 96
    # pixels changes by at most √2 e^−½/14.4 = 6 % of its height a pixel.
    assert np.abs(result.dark_field - case.dark_field)[ill].max() <= 4 * 0.06 * case.dark_field.max()


def test_phase_has_no_stray_factor():
    # I_S = I_R (1 − ∇²ψ) with a paraboloid cap: φ = k p² ψ/∆, curvature c inside.
    y, x = np.mgrid[:80, :90].astype(float)
    r2 = (y - 40) ** 2 + (x - 45) ** 2
    c, radius = 0.01, 25.0
    psi = 0.5 * c * np.minimum(r2 - radius**2, 0.0)
    from tests.manufactured import laplacian2

    reference = speckle(np.random.default_rng(3), 4, psi.shape)
    result = _retrieve(reference, reference * (1 - laplacian2(psi)))
    k, p, distance = EXPERIMENT.wavenumber, EXPERIMENT.effective_pixel, EXPERIMENT.effective_distance
    profile = result.phase[40, 25:66].astype(float)
    curvature = np.polynomial.polynomial.polyfit(np.arange(41) - 20.0, profile, 2)[2] * 2 / p**2
    # φ = (k/∆) · p² ψ and ψ'' = c per pixel², so φ'' = k c/∆ per m².
    assert abs(curvature / (k * c / distance) - 1) <= 1e-4


@given(st.integers(2, 4), st.integers(0, 2**31))
@settings(max_examples=5)
def test_identical_frames_give_exactly_zero(positions, seed):
    frames = speckle(np.random.default_rng(seed), positions, (20, 26))
    result = _retrieve(frames, frames)
    assert not result.phase.any()
    assert not result.dark_field.any()
    assert any(finding.code == "identical-frames" for finding in result.findings)


CASE = phase_object(4, (40, 56))
PLAIN = _retrieve(CASE.reference, CASE.sample)


@given(st.permutations(range(4)), st.floats(1e-3, 1e5))
@settings(max_examples=10)
def test_order_and_scale_of_frames_do_not_matter(order, factor):
    order = list(order)
    result = _retrieve(factor * CASE.reference[order], factor * CASE.sample[order])
    # float32 input: rounding 6e-8 of I against I_R − I_S of a few per cent, times the conditioning.
    for name, array in result.channels():
        other = getattr(PLAIN, name)
        assert np.abs(array - other).max() <= 2e-4 * np.abs(other).max(), name


@given(st.integers(0, 3), st.booleans())
@settings(max_examples=8)
def test_images_turn_with_the_frames(quarter_turns, flip):
    def turn(image):
        turned = np.rot90(image, quarter_turns, axes=(-2, -1))
        return turned[..., ::-1] if flip else turned

    result = _retrieve(turn(CASE.reference), turn(CASE.sample))
    for name in ("phase", "dark_field"):
        other = turn(getattr(PLAIN, name))
        assert np.abs(getattr(result, name) - other).max() <= 2e-4 * np.abs(other).max(), name


def test_refraction_angle_is_the_gradient_over_k():
    case = phase_object(10)
    result = _retrieve(case.reference, case.sample)
    scale = 1 / (EXPERIMENT.wavenumber * EXPERIMENT.effective_pixel)
    expected = gradient(case.phase, scale=scale)
    assert result.refraction_angle.shape == (2, *result.shape)
    assert np.abs(result.refraction_angle - expected).max() <= 1e-5 * np.abs(expected).max()


def test_smoothing_and_ridge():
    rng = np.random.default_rng(5)
    case = phase_object(2, (96, 128))
    noisy = case.sample * (1 + 2e-3 * rng.normal(size=case.sample.shape))
    rough = _retrieve(case.reference, noisy)
    smooth = _retrieve(case.reference, noisy, smoothing=2.0)
    # Averaging over 4πσ² ≈ 50 pixels lets the noise fall at least fivefold.
    assert _relative(smooth.dark_field, case.dark_field) < 0.2 * _relative(rough.dark_field, case.dark_field)
    assert not (smooth.flags & flag.ILL_DETERMINED).any()
    ridged = _retrieve(case.reference, noisy, ridge=1e3)
    assert np.abs(ridged.dark_field).max() < 0.01 * np.abs(rough.dark_field).max()
    assert np.isfinite(ridged.phase).all()


def test_smoothing_keeps_its_matrix_and_notices_new_bad_pixels():
    case = phase_object(3, (40, 50))
    plan = xmist.prepare(case.reference, EXPERIMENT, method="mist", smoothing=1.5)
    sample = case.sample.copy()
    sample[1, 20, 21] = np.nan
    from_nan = plan(sample)
    weights = np.ones_like(sample)
    weights[1, 20, 21] = 0
    from_weight = plan(case.sample, weights=weights)
    assert np.array_equal(from_nan.dark_field, from_weight.dark_field)
    assert from_nan.flags[20, 21] == flag.BAD_SAMPLE
    assert from_weight.flags[20, 21] == flag.MASKED
    # The Gaussian is cut at 4σ = 6 pixels: nothing changes beyond.
    changed = from_nan.dark_field != plan(case.sample).dark_field
    assert changed[20, 21]
    changed[14:27, 15:28] = False
    assert not changed.any()


def test_cutoff_length_damps_long_structures_only():
    case = phase_object(10, (96, 128))
    p = EXPERIMENT.effective_pixel
    plain = _retrieve(case.reference, case.sample)
    mild = _retrieve(case.reference, case.sample, cutoff_length=1e4 * p)
    strong = _retrieve(case.reference, case.sample, cutoff_length=20 * p)
    # The spectral symbol differs from the stencil's by κ²/12, below 1 % for these bumps.
    assert _relative(mild.phase, plain.phase) <= 0.01
    assert strong.phase.std() < 0.2 * plain.phase.std()


def test_positive_clips_and_flags():
    case = phase_object(2, (40, 50))
    noisy = case.sample + 1e-3 * np.random.default_rng(6).normal(size=case.sample.shape)
    signed, clipped = _retrieve(case.reference, noisy), _retrieve(case.reference, noisy, positive=True)
    negative = signed.dark_field < 0
    assert negative.any()
    assert np.array_equal((clipped.flags & flag.CLIPPED) > 0, negative)
    assert np.array_equal(clipped.dark_field, np.where(negative, 0, signed.dark_field))


def _with_dead_pixels(frames, dead, rng):
    broken = frames.copy()
    broken[dead] = rng.choice([0.0, -8.0, np.nan, np.inf, 1e9], dead.sum())
    return broken


def _rms(values):
    return np.sqrt(np.mean(np.square(values, dtype=np.float64)))


@pytest.mark.parametrize("positions", [2, 3, 10])
@pytest.mark.parametrize("smoothing", [0.0, 2.0])
@pytest.mark.parametrize("noise", [0.0, 2e-3])
def test_random_dead_pixels_do_not_spread(positions, smoothing, noise):
    rng = np.random.default_rng(7)
    case = phase_object(positions, (128, 150))
    dead = rng.random(case.reference.shape) < 0.01
    reference, sample = case.reference, case.sample + noise * rng.normal(size=case.sample.shape)
    clean = _retrieve(reference, sample, smoothing=smoothing)
    result = _retrieve(
        _with_dead_pixels(reference, dead, rng),
        _with_dead_pixels(sample, dead, rng),
        (~dead).astype(np.float32),
        smoothing=smoothing,
    )
    assert np.array_equal((result.flags & flag.MASKED) > 0, dead.any(axis=0))
    assert np.isfinite(result.phase).all()
    good = result.flags == 0
    assert good.mean() > 0.6
    change = (result.phase - clean.phase)[good]
    exact = _retrieve(reference, case.sample, smoothing=smoothing)
    # Noisy and unsmoothed, what few equations lose is seen in φ as noise, up to its own.
    steady = noise == 0 or smoothing > 0 or positions == 10
    own_noise = 0.0 if steady else (clean.phase - exact.phase).std()
    assert change.std() < 0.03 * clean.phase.std() + own_noise
    if noise > 0:
        # An N that falls from 3 to 2 gives D the tails of a nearly singular matrix; its median is defined.
        size = _rms if steady or positions == 2 else lambda values: np.median(np.abs(values))
        noise_of_d = clean.dark_field - exact.dark_field
        assert size((result.dark_field - clean.dark_field)[good]) < size(noise_of_d[good])


@pytest.mark.parametrize("smoothing", [0.0, 1.0])
def test_a_seam_of_the_detector_leaves_no_streak(smoothing):
    rng = np.random.default_rng(8)
    frames = speckle(rng, 2, (96, 128))
    sample = frames * (1 + 2e-3 * rng.normal(size=frames.shape))
    weights = np.ones(sample.shape, np.float32)
    weights[:, 40:44] = 0
    weights[:, :, 70:74] = 0
    reference = np.where(weights > 0, frames, 1e9)
    result = _retrieve(reference, sample, weights, smoothing=smoothing)
    filled = (result.flags & flag.FILLED) > 0
    assert filled[40:44].all()
    assert filled[:, 70:74].all()
    noise = np.abs(result.dark_field)
    # Unsmoothed, a filled pixel has the equations of at least four others: half the noise. Smoothed, it has
    # as many as the others; some 130 independent ones in the seam give their median to 11 %.
    limit = 1.3 if smoothing else 0.5
    assert np.median(noise[filled]) <= limit * np.median(noise[~filled])


def test_equations_are_borrowed_over_the_borders_of_tiles(monkeypatch):
    case = phase_object(3, (70, 90))
    weights = np.ones(case.reference.shape, np.float32)
    weights[:, 25:38, 28:36] = 0  # half-way between pixels that know something seven pixels lie
    results = []
    for tile in (32, 1000):
        monkeypatch.setattr(pixelwise, "_TILE", tile)
        results.append(_retrieve(case.reference, case.sample, weights))
    assert (results[0].flags & flag.FILLED).any()
    assert np.array_equal(results[0].dark_field, results[1].dark_field, equal_nan=True)


def test_guessed_values_of_a_reference_spoil_no_equation():
    case = phase_object(4, (96, 128))
    weights = np.ones(case.reference.shape, np.float32)
    weights[:, 40:44], weights[:, 70:73, 90:93] = 0, 0
    reference = np.where(weights > 0, case.reference, np.nan)
    result = _retrieve(reference, case.sample, weights)
    error = np.abs(result.dark_field - case.dark_field)[result.flags == 0]
    # What is left is 1/90, the outermost weight of the stencil, of a contrast of 0.25: curvatures are 0.1.
    assert np.quantile(error, 0.999) <= 0.03 * case.dark_field.max()
    assert error.max() <= 0.1 * case.dark_field.max()


def test_a_region_without_information_is_nan_and_nothing_else():
    case = phase_object(3, (60, 70))
    reference = case.reference.copy()
    reference[:, :30, :20] = np.nan
    for options in ({}, {"smoothing": 1.0}, {"ridge": 1e-3}, {"smoothing": 1.0, "ridge": 1e-3}):
        result = _retrieve(reference, case.sample, **options)
        lost = (result.flags & flag.UNDETERMINED) > 0
        assert lost[:15, :8].all()
        assert not lost[32:].any()
        for _, array in result.channels():
            assert np.array_equal(np.isnan(array), np.broadcast_to(lost, array.shape))
        assert any(finding.code == "undetermined" for finding in result.findings)


def test_a_dead_frame_of_two_is_an_error_and_of_three_is_not():
    case = phase_object(3, (40, 50))
    sample = case.sample.copy()
    sample[1] = np.nan
    with pytest.raises(xmist.InputError, check=coded("pixels-unusable", names=["2"])):
        _retrieve(case.reference[:2], sample[:2])
    assert np.isfinite(_retrieve(case.reference, sample).phase).all()
    reference = case.reference.copy()
    reference[2] = 0
    with pytest.raises(xmist.InputError, check=coded("pixels-unusable", names=["position 2"])):
        _retrieve(reference, case.sample)


def test_identical_references_are_an_error():
    case = phase_object(2, (40, 50))
    with pytest.raises(xmist.InputError, check=coded("references-proportional")):
        _retrieve(case.reference[[0, 0]], case.sample)


def test_one_position_is_too_few():
    case = phase_object(2, (40, 50))
    with pytest.raises(xmist.InputError, check=coded("positions-too-few", names=["1 position"])):
        _retrieve(case.reference[:1], case.sample[:1])


@pytest.mark.parametrize("convert", ["read-only", "strided", "big-endian", "integer", "float64", "list"])
def test_any_layout_works_and_stays_unmodified(convert):
    case = phase_object(2, (30, 36))
    reference, sample = np.round(case.reference * 1e4), np.round(case.sample * 1e4)
    expected = _retrieve(reference.astype(np.float32), sample.astype(np.float32))

    def prepare(frames):
        if convert == "strided":
            wide = np.zeros((2, 60, 36))
            wide[:, ::2] = frames
            return wide[:, ::2]
        if convert == "list":
            return frames.tolist()
        kind = {"big-endian": ">f4", "integer": np.uint16}.get(convert, np.float64)
        out = frames.astype(kind)
        out.flags.writeable = convert != "read-only"
        return out

    given_reference, given_sample = prepare(reference), prepare(sample)
    before = np.array(given_reference), np.array(given_sample)
    result = _retrieve(given_reference, given_sample)
    assert np.array_equal(result.phase, expected.phase)
    assert np.array_equal(given_reference, before[0])
    assert np.array_equal(given_sample, before[1])


def test_bits_do_not_depend_on_threads():
    case = phase_object(3, (200, 90))
    stack = xmist.SpeckleStack(case.reference, case.sample)
    for options in ({}, {"smoothing": 1.5}):
        results = [
            xmist.retrieve(stack, EXPERIMENT, method="mist", threads=threads, **options)
            for threads in (1, 2, 8)
        ]
        for other in results[1:]:
            for name, array in results[0].channels():
                assert np.array_equal(array, getattr(other, name)), name


def test_two_plans_at_once():
    cases = [phase_object(3, (80, 90), seed=seed) for seed in (1, 2)]
    alone = [_retrieve(case.reference, case.sample) for case in cases]
    together = [None, None]

    def work(i):
        plan = xmist.prepare(cases[i].reference, EXPERIMENT, method="mist", threads=2)
        for _ in range(3):
            together[i] = plan(cases[i].sample)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, other in zip(alone, together, strict=True):
        assert np.array_equal(one.phase, other.phase)
        assert np.array_equal(one.dark_field, other.dark_field)


def test_findings():
    case = phase_object(3, (80, 90), strength=0.5)  # speckles do not move in this model

    def findings(reference, sample):
        found = warnings_of(_retrieve(reference, sample).findings)
        # The sample of the case scatters along the border, too.
        return [(f.code, f.message) for f in found if f.code != "bare-beam-dark-field"]

    def codes(reference, sample):
        return [code for code, _ in findings(reference, sample)]

    assert findings(case.reference, case.sample) == []
    assert codes(case.reference, 0.8 * case.sample) == ["sample-attenuates"]
    assert codes(0.8 * case.reference, case.sample) == ["sample-brighter"]
    assert codes(case.reference, 1.02 * case.sample) == ["sample-brighter"]  # of a thin sample
    half = np.array([1, 1, 0.5])[:, None, None]
    closed = np.ones(3)[:, None, None]
    closed[1] = 0
    code, message = findings(case.reference, closed * case.sample)[0]
    assert code == "no-light"
    assert "sample frames of position 1 " in message
    code, message = findings(half * case.reference, half * case.sample)[0]
    assert code == "unequal-flux"
    assert "reference frame of position 2 has 0.5 times" in message
    sample = case.sample.copy()
    sample[1] = case.reference[1]
    ((code, message),) = findings(case.reference, sample)
    assert code == "identical-frames"
    assert "position 1 " in message
    mean = case.sample.mean(axis=(1, 2), keepdims=True)
    blurred = mean + 0.7 * (case.sample - mean)
    assert codes(blurred, 1.005 * case.sample) == ["sample-sharper"]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"smoothin": 1}, "option-unknown"),
        ({"smoothing": -1}, "option-invalid"),
        ({"smoothing": float("nan")}, "option-invalid"),
        ({"ridge": True}, "option-invalid"),
        ({"ridge": "often"}, "option-invalid"),
        ({"cutoff_length": 0}, "option-invalid"),
        ({"positive": 1}, "option-invalid"),
    ],
)
def test_wrong_options(options, code):
    with pytest.raises(xmist.InputError) as caught:
        make_options("mist", options)
    assert caught.value.codes == (code,)
    assert caught.value.messages[0].startswith(f"option {next(iter(options))} is ")


def test_all_wrong_options_are_reported_at_once():
    with pytest.raises(xmist.InputError) as caught:
        make_options("mist", {"smoothing": -1, "ridge": -1, "positive": 2})
    assert len(caught.value.codes) == 3


def test_options_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        make_options("mist", {}).smoothing = 3


def test_unknown_method():
    with pytest.raises(xmist.InputError, check=coded("method-unknown", names=["mits", "mist"])):
        xmist.prepare(CASE.reference, EXPERIMENT, method="mits")


def test_sample_that_does_not_fit_the_plan():
    plan = xmist.prepare(CASE.reference, EXPERIMENT, method="mist")
    with pytest.raises(xmist.InputError, check=coded("shape-mismatch", names=["sample"])):
        plan(CASE.sample[:2])
    with pytest.raises(xmist.InputError, check=coded("array-invalid", names=["weights"])):
        plan(CASE.sample, weights=np.ones((40, 56)))
