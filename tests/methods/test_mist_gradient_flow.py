import numpy as np
import pytest
import scipy.ndimage as ndi
from hypothesis import given, settings
from hypothesis import strategies as st

import xmist
from tests.implicit import PHASE, SCATTER, cosine_gradient, relative, transmission
from tests.manufactured import EXPERIMENT, speckle
from tests.methods.direct_methods import spectral_laplacian
from xmist.core import flags as flag
from xmist.core.findings import warnings_of
from xmist.methods.implicit import gradient_flow, mist_gradient_flow
from xmist.methods.registry import make_options
from xmist.numerics.images.tensors import anisotropy, direction, eigenvalues
from xmist.numerics.operators.finite_transport import Warp, diffuse
from xmist.numerics.operators.transport import D
from xmist.numerics.solvers.poisson import dct2, frequencies

SHAPE = (64, 96)


def _retrieve(reference, sample, weights=None, **options):
    stack = xmist.SpeckleStack(reference, sample, weights)
    return xmist.retrieve(stack, EXPERIMENT, method="mist-gradient-flow", **options)


def _cosines(shape, waves, seed):
    """A sum of the lowest `waves` cosines along y and x, of rms 1 and mean 0."""
    rng = np.random.default_rng(seed)
    along = [
        np.cos(np.pi * np.outer(np.arange(n) + 0.5, np.arange(w)) / n)
        for n, w in zip(shape, waves, strict=True)
    ]
    image = along[0] @ rng.normal(size=waves) @ along[1].T
    image -= image.mean()
    return image / image.std()


def _sample(reference, psi, d):
    """Frames of eq. (1) for a scalar d, or a tensor (3, y, x), by dense derivatives of the cosines."""
    psi_x, psi_y = cosine_gradient(psi)
    out = []
    for frame in reference:
        x, y = cosine_gradient(frame)
        flux = frame * spectral_laplacian(psi) + x * psi_x + y * psi_y
        if d.ndim == 2:
            scattered = spectral_laplacian(d * frame)
        else:
            xx, xy, yy = (cosine_gradient(element * frame) for element in d)
            scattered = cosine_gradient(xx[0])[0] + 2 * cosine_gradient(xy[0])[1] + cosine_gradient(yy[1])[1]
        out.append(frame - flux + scattered)
    return np.stack(out)


def _moved(reference, psi, d):
    """Frames of finite transport."""
    warp = Warp.of(np.stack(cosine_gradient(psi)))
    return np.stack([diffuse(warp(frame), {D: d}) for frame in reference])


def _errors(reference, sample, psi, d, **options):
    result = _retrieve(reference, sample, **options)
    return relative(result.phase, PHASE * psi), relative(result.dark_field, SCATTER * d)


def test_manufactured_frames_come_back():
    # ψ and I of x alone: the flux has no curl. Waves of at least 24 pixels, which differences of sixth order
    # know to κ⁶/140 = 2e-6. Frames are rounded to 6e-8 of 1, 2e-6 of I_R − I_S; more of them average that.
    reference = np.stack([1 + 0.25 * _cosines(SHAPE, (1, 9), n) for n in range(30)])
    psi, d = 3.0 * _cosines(SHAPE, (1, 4), 40), 0.5 + 0.2 * _cosines(SHAPE, (4, 4), 41)
    sample = _sample(reference, psi, d)
    result = _retrieve(reference, sample, refinements=0, smoothing=0)
    assert relative(result.phase, PHASE * psi) <= 1e-5
    assert relative(result.dark_field, SCATTER * d) <= 1e-5
    assert not result.flags.any()
    assert not warnings_of(result.findings)
    assert result.transmission is None
    assert result.dark_field_tensor is None
    for wrong in (
        _sample(reference, -psi, d),
        _sample(reference, psi, -d),
        _sample(reference, psi.max() - psi, d),
    ):
        assert max(_errors(reference, wrong, psi, d, refinements=0, smoothing=0)) > 0.1


def _object(strength=1.0):
    return strength * 4.0 * _cosines(SHAPE, (4, 5), 10), strength * (0.2 + 0.05 * _cosines(SHAPE, (4, 4), 11))


@pytest.mark.parametrize("strength", [1.0, 0.25])
def test_error_of_the_closed_form_is_of_the_order_of_the_contrast_squared(strength):
    psi, d = _object(strength)
    errors = []
    for contrast in (0.4, 0.2):
        draws = []
        for seed in range(0, 40, 10):
            reference = 1 + contrast * np.stack([_cosines(SHAPE, (16, 24), seed + n) for n in range(4)])
            sample = _sample(reference, psi, d)
            draws.append(_errors(reference, sample, psi, d, refinements=0, smoothing=8)[0])
        errors.append(np.mean(draws))
        assert errors[-1] <= 1.5 * contrast**2
    # Four times less for half the contrast; what the curl leaves of four draws is worth a third of that.
    assert 2.5 < errors[0] / errors[1] < 6.0, errors


def test_refinement_takes_what_the_closed_form_drops():
    # Frames of finite transport: the closed form leaves the curl and the second order of the shift.
    psi, d = _object(0.5)
    reference = speckle(np.random.default_rng(5), 6, SHAPE, grain=2.5)
    sample = _moved(reference, psi, d)
    closed, once, twice = (_errors(reference, sample, psi, d, refinements=n) for n in (0, 1, 2))
    assert once[0] < 0.5 * closed[0]
    assert twice[0] < 0.3 * closed[0]
    assert once[1] < closed[1]
    assert twice[1] < 0.5 * closed[1]


def _case(positions=4, shape=(48, 64)):
    psi, d = 0.5 * _cosines(shape, (4, 5), 10), 0.2 + 0.05 * _cosines(shape, (4, 4), 11)
    reference = speckle(np.random.default_rng(6), positions, shape, grain=2.0)
    return reference, _moved(reference, psi, d)


CASE = _case()
PLAIN = _retrieve(*CASE, smoothing=2)


@given(st.integers(0, 3), st.booleans())
@settings(max_examples=8)
def test_images_turn_with_the_frames(quarter_turns, flip):
    def turn(image):
        turned = np.rot90(image, quarter_turns, axes=(-2, -1))
        return turned[..., ::-1] if flip else turned

    result = _retrieve(*map(turn, CASE), smoothing=2)
    for name in ("phase", "dark_field"):
        other = turn(getattr(PLAIN, name))
        # float32: 6e-8 of the frames against I_R − I_S of a few per cent, times the conditioning.
        assert np.abs(getattr(result, name) - other).max() <= 1e-3 * np.abs(other).max(), name


@given(st.permutations(range(4)), st.floats(1e-3, 1e5))
@settings(max_examples=6)
def test_order_and_scale_of_frames_do_not_matter(order, factor):
    reference, sample = CASE
    # Positions that stay in their half: what judges noise is the difference of the halves.
    halves = [n for n in order if n % 2 == order[0] % 2], [n for n in order if n % 2 != order[0] % 2]
    order = [n for pair in zip(*halves, strict=True) for n in pair]
    result = _retrieve(factor * reference[order], factor * sample[order], smoothing=2)
    for name in ("phase", "dark_field"):
        other = getattr(PLAIN, name)
        assert np.abs(getattr(result, name) - other).max() <= 1e-3 * np.abs(other).max(), name


@pytest.mark.parametrize(
    "options",
    [{}, {"refinements": 0}, {"dark_field": "tensor"}, {"delta_over_beta": 300.0}, {"smoothing": 0.0}],
)
def test_the_value_of_a_masked_pixel_changes_no_bit(options):
    weights = np.ones(CASE[0].shape)
    weights[1, 20, 30:33] = weights[:, 0, 5] = weights[2, 40] = 0
    results = []
    for value in (np.nan, 0.0, 1e9, None):
        frames = [array.copy() if value is None else np.where(weights > 0, array, value) for array in CASE]
        results.append(_retrieve(*frames, weights, **options))
    for other in results[:-1]:
        for name, array in results[-1].channels():
            assert np.array_equal(array, getattr(other, name), equal_nan=True), name
    assert (results[-1].flags[20, 30:33] & flag.MASKED).all()


def test_a_weight_counts():
    reference, sample = _case()
    wrong = sample.copy()
    wrong[3] += 0.1 * np.random.default_rng(1).normal(size=wrong[3].shape)
    weights = np.ones(reference.shape)
    weights[3] = 0.01
    plain, weighted = (_retrieve(reference, wrong, w, refinements=0, smoothing=2) for w in (None, weights))
    exact = _retrieve(reference, sample, refinements=0, smoothing=2)
    # Without it another position is missing: three differ from four by the curl that each drops.
    for name in ("phase", "dark_field"):
        right = getattr(exact, name)
        assert relative(getattr(weighted, name), right) < 0.8 * relative(getattr(plain, name), right), name


@pytest.mark.parametrize("refinements", [0, 2])
def test_tilt_and_defocus_are_kept(refinements):
    y, x = np.mgrid[:96, :112].astype(float)
    rng = np.random.default_rng(7)
    waves = [
        (2 * np.pi / rng.uniform(7, 14), rng.uniform(0, 2 * np.pi), rng.uniform(0, 2 * np.pi))
        for _ in range(90)
    ]

    def frames(x, y):
        return np.stack(
            [
                1.5 + sum(np.cos(k * (np.cos(a) * x + np.sin(a) * y) + b) for k, a, b in waves[n::3]) / 20
                for n in range(3)
            ]
        )

    u_x, u_y = 0.3 + 0.006 * (x - 55.5), -0.1 + 0.006 * (y - 47.5)
    # Mass is conserved to first order in the defocus, 1.2 %.
    sample = frames(x - u_x, y - u_y) * (1 - 0.012)
    result = _retrieve(frames(x, y), sample, refinements=refinements)
    psi = 0.3 * x + 0.003 * (x - 55.5) ** 2 - 0.1 * y + 0.003 * (y - 47.5) ** 2
    psi -= psi.mean()
    # Frames do not have the even mirror; strips of 11 pixels tell the shift at the border to some per cent.
    assert relative(result.phase, PHASE * psi) <= 0.05
    assert "shift-through-border" not in [finding.code for finding in result.findings]
    assert len(result.provenance["border_shift"]) == 4


def test_what_moves_through_the_border_otherwise_is_a_finding():
    reference = speckle(np.random.default_rng(8), 3, (96, 112), grain=2.0)
    sample = ndi.shift(reference, (0, 0, 6.0), order=3, mode="reflect")
    codes = [finding.code for finding in _retrieve(reference, sample).findings]
    assert "shift-through-border" in codes


def test_a_refinement_that_goes_astray_is_left_out():
    psi, _ = _object(8.0)  # shifts of up to 1.5 speckles
    reference = speckle(np.random.default_rng(5), 2, SHAPE, grain=1.6)
    sample = _moved(reference, psi, 0 * psi)
    result = _retrieve(reference, sample, refinements=6)
    assert "refinement-stopped" in [finding.code for finding in result.findings]
    # No wilder than the closed form, which is wrong here too.
    assert np.abs(result.phase).max() <= 10 * np.abs(PHASE * psi).max()


@pytest.mark.parametrize("refinements", [0, 1])
def test_tensor_of_isotropic_speckles(refinements):
    reference = 1 + 0.25 * np.stack([_cosines(SHAPE, (16, 24), n) for n in range(16)])
    d = np.stack([np.full(SHAPE, value) for value in (0.3, 0.1, 0.1)])
    result = _retrieve(
        reference,
        _sample(reference, 0 * d[0], d),
        dark_field="tensor",
        refinements=refinements,
        smoothing=6,
    )
    tensor = result.dark_field_tensor / SCATTER
    assert np.array_equal(result.dark_field, (result.dark_field_tensor[0] + result.dark_field_tensor[2]) / 2)
    found, right = tensor.mean(axis=(1, 2)), d[:, 0, 0]
    # Some 2400 speckles are isotropic to 2 %; d κ² of up to 0.2 lowers what blurs most by a tenth.
    assert np.abs(found - right).max() <= 0.2 * right.max()
    turned = direction(found[:, None, None]) - direction(right[:, None, None])
    assert np.abs((turned + 90) % 180 - 90).max() <= 8
    # Without the correction for the curl the anisotropy would be halved.
    assert 0.75 < float(anisotropy(found[:, None, None])[0, 0] / anisotropy(right[:, None, None])[0, 0]) < 1.1


def test_single_material():
    shape, gamma = (60, 84), 40.0  # shifts of up to 0.23 pixels
    t = transmission(shape)
    psi = gamma / (2 * PHASE) * np.log(t)  # φ = (γ/2) ln T
    reference, d = (
        speckle(np.random.default_rng(9), 6, shape, grain=2.0),
        0.2 + 0.05 * _cosines(shape, (4, 4), 11),
    )
    sample = _moved(t * reference, psi, d)
    result = _retrieve(reference, sample, delta_over_beta=gamma, smoothing=4)
    assert np.array_equal(result.phase, 0.5 * np.float32(gamma) * np.log(result.transmission))
    assert relative(result.transmission, t) <= 0.02
    # d κ² of up to 0.2 and an error of T of 0.5 % that looks like scatter.
    assert relative(result.dark_field, SCATTER * d) <= 0.3
    phase_object = _retrieve(reference, sample, smoothing=4)
    assert "sample-attenuates" in [finding.code for finding in phase_object.findings]


def test_attenuation_is_divided_out():
    psi, d = _object(0.5)
    reference = speckle(np.random.default_rng(5), 4, SHAPE, grain=2.0)
    sample = _sample(reference, psi, d)
    plain = _retrieve(reference, sample, smoothing=3)
    result = _retrieve(reference, 0.7 * sample, smoothing=3, attenuation_smoothing=500)
    # Σ I_R I_S/Σ I_R² of speckles of contrast 0.25 that are blurred is less than T by 0.25² d κ² < 0.02.
    assert relative(result.transmission, 0.7 * np.ones(SHAPE)) <= 0.02
    assert relative(result.phase, plain.phase) <= 0.05
    assert relative(result.dark_field, plain.dark_field) <= 0.3


def _flow(frames):
    return gradient_flow.prepare_flow(frames, speckle=4.7, tensor=False, refine=True, fine=False, threads=1)


def test_the_warp_of_the_sum_is_the_sum_of_warps():
    reference, sample = (frames.astype(np.float32) for frames in _case(5))
    flow, warp = (
        _flow(reference),
        Warp.of(np.stack(cosine_gradient(_cosines((48, 64), (4, 5), 10))), threads=1),
    )
    weights = [None, None, np.full((48, 64), 0.25, np.float32), None, np.full((48, 64), 0.5, np.float32)]
    moved = np.stack([warp(frame) for frame in reference])
    for own in ([None] * 5, weights):
        sums = flow.frame_sums(flow.take(sample, own), warp)
        factor = np.array([1.0 if w is None else w.mean() for w in own])[:, None, None]
        # float32: 6e-8 of a sum of five frames, some operations.
        assert np.abs(sums.level - (factor * moved).sum(axis=0)).max() <= 1e-5
        assert np.abs(sums.source - (factor * (moved - sample)).sum(axis=0)).max() <= 1e-5
        halves = [(factor * (moved - sample))[k::2].sum(axis=0) for k in (0, 1)]
        for found, right in zip(sums.sources, halves, strict=True):
            size = gradient_flow.slow_size((48, 64))
            mean = right.reshape(48 // size, size, 64 // size, size).mean(axis=(1, 3))
            assert np.abs(found - mean).max() <= 1e-5


@pytest.mark.parametrize("dark_field", ["scalar", "tensor"])
def test_equations_in_squares_where_these_resolve_the_speckles(monkeypatch, dark_field):
    psi, d = 0.5 * _cosines(SHAPE, (4, 5), 10), 0.2 + 0.05 * _cosines(SHAPE, (4, 4), 11)
    fine, reference = (speckle(np.random.default_rng(6), 4, SHAPE, grain=grain) for grain in (1.0, 3.0))
    assert _flow(fine.astype(np.float32)).grid == 1
    assert _flow(reference.astype(np.float32)).grid == 2
    sample = _moved(reference, psi, d)
    fast = _retrieve(reference, sample, smoothing=4, dark_field=dark_field)
    monkeypatch.setattr(gradient_flow, "_BEYOND", -1.0)
    slow = _retrieve(reference, sample, smoothing=4, dark_field=dark_field)
    assert not np.array_equal(fast.dark_field, slow.dark_field)
    # Squares miss at most a hundredth of |∇I|², and blur D by less than a pixel beside 4.
    assert relative(fast.dark_field, slow.dark_field) <= 0.05
    for channel, right in (("phase", PHASE * psi), ("dark_field", SCATTER * d)):
        assert relative(getattr(fast, channel), right) <= 1.2 * relative(getattr(slow, channel), right)


def test_images_of_squares_are_enlarged_by_a_cubic():
    y, x = np.meshgrid(np.arange(10.0), np.arange(12.0), indexing="ij")
    coarse = y + 0.3 * y * x - 0.05 * x**2
    y, x = np.meshgrid(*(np.arange(size) / 2 - 0.25 for size in (20, 24)), indexing="ij")
    fine = y + 0.3 * y * x - 0.05 * x**2
    found = gradient_flow._doubled(coarse.astype(np.float32), 1)
    # Exact for squares, away from the mirror; float32.
    assert np.abs(found - fine)[4:-4, 4:-4].max() <= 1e-5
    turned = gradient_flow._doubled(np.ascontiguousarray(coarse.astype(np.float32)[::-1, ::-1]), 1)
    assert np.abs(turned[::-1, ::-1] - found).max() <= 1e-5


def test_smoothing_and_ridge_follow_the_noise():
    reference, sample = _case(4, (96, 128))
    rng = np.random.default_rng(2)
    chosen = []
    for noise in (1e-4, 3e-2):
        result = _retrieve(reference, sample + noise * rng.normal(size=sample.shape), ridge="auto")
        chosen.append([result.provenance["regularisation"][name] for name in ("smoothing", "ridge")])
    assert chosen[0][0] < chosen[1][0]
    assert all(ridge >= 0 for _, ridge in chosen)
    noisy = sample + 1e-2 * rng.normal(size=sample.shape)
    ridged = _retrieve(reference, noisy, smoothing=1, ridge="auto")
    assert ridged.provenance["regularisation"]["ridge"] > 0
    given = _retrieve(reference, sample, smoothing=2.0, cutoff_length=None)
    assert "regularisation" not in given.provenance
    damped = _retrieve(reference, sample, smoothing=2.0, ridge=1e3)
    assert np.abs(damped.dark_field).max() <= 0.01 * np.abs(given.dark_field).max()


@pytest.mark.parametrize("options", [{"refinements": 0}, {"dark_field": "scalar"}, {"dark_field": "tensor"}])
def test_noise_of_the_references_is_no_dark_field(monkeypatch, options):
    rng = np.random.default_rng(5)
    clean = speckle(rng, 4, (96, 96), grain=2.0)
    reference, sample = (clean + np.sqrt(4e-3 * clean) * rng.normal(size=clean.shape) for _ in range(2))
    found = _retrieve(reference, sample, smoothing=5.0, **options).dark_field.mean()
    same = _retrieve(reference, reference, smoothing=5.0, **options).dark_field
    monkeypatch.setattr(gradient_flow, "reference_noise", lambda *frames: 0.0)
    left = _retrieve(reference, sample, smoothing=5.0, **options).dark_field.mean()
    # Of 96² pixels, each of a variance that is known to a part of √2: 2 % of the noise of both frames.
    assert abs(found) <= 0.1 * left
    assert left > 0.02 * SCATTER
    assert np.abs(same).max() <= 1e-6 * left  # the noise of both frames is the same


def test_no_dark_field_but_the_same_phase():
    result = _retrieve(*CASE, smoothing=2, dark_field="none")
    assert np.array_equal(result.phase, PLAIN.phase)
    assert result.dark_field is None
    assert result.dark_field_tensor is None


def test_cutoff_length():
    p = EXPERIMENT.effective_pixel
    plain, mild, strong = (
        _retrieve(*CASE, smoothing=2, cutoff_length=length) for length in (None, 1e4 * p, 20 * p)
    )
    assert relative(mild.phase, plain.phase) <= 1e-3
    assert strong.phase.std() < 0.3 * plain.phase.std()
    reference, sample = _case()
    noisy = sample + 0.005 * np.random.default_rng(3).normal(size=sample.shape)
    chosen, free = (_retrieve(reference, noisy, smoothing=2, cutoff_length=cut) for cut in ("auto", None))
    assert chosen.provenance["regularisation"]["cutoff_length"] > 0
    psi = 0.5 * _cosines(sample.shape[1:], (4, 5), 10)
    error, before = (relative(result.phase, PHASE * psi) for result in (chosen, free))
    assert error < before


def test_a_long_wave_within_its_noise_is_damped(monkeypatch):
    # Coefficients of the noise's standard deviation, and of ten; white noise in ∇²ψ of variance 1e-6.
    kappa2 = sum(np.meshgrid(*(k**2 for k in frequencies(SHAPE)), indexing="ij"))
    noise = np.full(SHAPE, 1e-6, np.float32)
    coefficients = np.zeros(SHAPE, np.float32)
    for wave, size in (((0, 1), 1.0), ((1, 1), 10.0), ((2, 0), -1.0), ((0, 3), 10.0), ((9, 0), 100.0)):
        coefficients[wave] = size * 1e-3 / kappa2[wave]
    monkeypatch.setattr(mist_gradient_flow, "least_cutoff", lambda *power, cautious: None)
    psi, epsilon = mist_gradient_flow._damped(dct2(coefficients.copy(), inverse=True), noise, 1)
    found = dct2(psi)
    assert epsilon is None
    assert abs(found[0, 1]) <= 1e-6 * found.max()
    assert abs(found[2, 0]) <= 1e-6 * found.max()
    for wave, part in (((1, 1), 0.98), ((0, 3), 0.98), ((9, 0), 1.0)):
        assert found[wave] == pytest.approx(part * coefficients[wave], rel=1e-3)


@pytest.mark.parametrize("dark_field", ["scalar", "tensor"])
def test_positive_clips_and_flags(dark_field):
    reference, sample = CASE
    noisy = sample + 5e-3 * np.random.default_rng(1).normal(size=sample.shape)
    signed, clipped = (
        _retrieve(reference, noisy, dark_field=dark_field, smoothing=0.7, positive=p) for p in (False, True)
    )
    least = signed.dark_field if dark_field == "scalar" else eigenvalues(signed.dark_field_tensor)[1]
    assert (least < 0).any()
    assert np.array_equal((clipped.flags & flag.CLIPPED) > 0, least < 0)
    assert clipped.dark_field.min() >= 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"smoothing": "automatic"}, "option smoothing is 'automatic'"),
        ({"refinements": -1}, "option refinements is -1"),
        ({"refinements": 1.5}, "option refinements is 1.5"),
        ({"ridge": -1}, "option ridge is -1"),
        ({"dark_field": "vector"}, "option dark_field is 'vector'"),
        (
            {"delta_over_beta": 300, "cutoff_length": 1e-3},
            "option cutoff_length is given with delta_over_beta",
        ),
        ({"delta_over_beta": 300, "attenuation_smoothing": 9}, "option attenuation_smoothing is given with"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(xmist.InputError) as caught:
        make_options("mist-gradient-flow", options)
    assert message in str(caught.value)


@pytest.mark.parametrize(("number", "said"), [(2, True), (4, False)])
def test_a_dark_field_that_few_positions_lower_is_said(number, said):
    reference = speckle(np.random.default_rng(5), number, (64, 64), 1.7)
    sample = np.stack([ndi.gaussian_filter(frame, 0.5) for frame in reference])  # d = 0.125 pixels²
    result = xmist.retrieve(xmist.SpeckleStack(reference, sample), EXPERIMENT, method="mist-gradient-flow")
    scale = EXPERIMENT.effective_distance / EXPERIMENT.effective_pixel**2
    share = scale * float(result.dark_field[8:-8, 8:-8].mean()) / 0.125
    assert share == pytest.approx(1.0 - 1.0 / number, abs=0.2)
    assert ("dark-field-lowered" in {record.code for record in result.findings}) is said


def test_nothing_that_scatters_is_not_said_to_be_lowered():
    reference = speckle(np.random.default_rng(5), 2, (64, 64), 1.7)
    result = xmist.retrieve(
        xmist.SpeckleStack(reference, 0.999 * reference), EXPERIMENT, method="mist-gradient-flow"
    )
    assert "dark-field-lowered" not in {record.code for record in result.findings}
