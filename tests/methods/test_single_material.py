import numpy as np
import pytest

import xmist
from tests.coded import coded
from tests.manufactured import EXPERIMENT, blob, laplacian2, speckle
from tests.methods.direct_methods import (
    DISTANCE,
    GAMMA,
    LENGTH2,
    SHAPE,
    K,
    P,
    flow_divergence,
    relative,
)
from xmist.core import flags as flag
from xmist.core.findings import warnings_of
from xmist.methods import make_options
from xmist.methods.common import phase
from xmist.methods.implicit import single_material_exact as whole_material
from xmist.numerics.solvers.poisson import screened
from xmist.simulate.model import transported


def _retrieve(reference, sample, weights=None, **options):
    stack = xmist.SpeckleStack(reference, sample, weights)
    options = {"delta_over_beta": GAMMA} | options
    return xmist.retrieve(stack, EXPERIMENT, method="single-material", **options)


def _transmission(shape=SHAPE):
    return 1 - 0.3 * blob(shape, 0.45, 0.4, 0.2) - 0.2 * blob(shape, 0.6, 0.65, 0.12)


def _frames(positions, *, exact, gamma=GAMMA, seed=0):
    """Frames of equation (1) or (2)."""
    reference = speckle(np.random.default_rng(seed), positions, SHAPE)
    t, length2 = _transmission(), LENGTH2 * gamma / GAMMA
    if exact:
        return reference, np.stack([t * r - length2 * flow_divergence(r, t) for r in reference])
    return reference, reference * (t - length2 * laplacian2(t))


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("positions", [1, 4])
@pytest.mark.parametrize("gamma", [20.0, 400.0])
def test_manufactured_frames_come_back(positions, exact, gamma):
    reference, sample = _frames(positions, exact=exact, gamma=gamma)
    result = _retrieve(reference, sample, exact=exact, delta_over_beta=gamma)
    # 1 − T is compared, the harder part; frames are rounded by 6e-8, and no equation amplifies.
    assert relative(1 - result.transmission.astype(float), 1 - _transmission()) <= 1e-5
    # Not shifted to mean 0: γ ties its zero to T = 1.
    assert relative(result.phase, 0.5 * gamma * np.log(_transmission())) <= 1e-5
    assert not result.flags.any()
    # Frames of the linear equation move speckles by less than the equation's shift.
    codes = {finding.code for finding in warnings_of(result.findings)}
    assert codes <= {"border-motion-missing", "shift-contradicted"}
    assert result.dark_field is None
    assert result.refraction_angle.shape == (2, *SHAPE)


# Faulty versions of the screened inverse, as public code has them.


def _four_pi(source, length2, *, threads=None):
    return screened(source, length2 / np.pi, threads=threads)


def _by_fft(image, length2):
    symbol = sum(np.ix_(*[2 - 2 * np.cos(2 * np.pi * np.fft.fftfreq(size)) for size in image.shape]))
    return np.fft.ifft2(np.fft.fft2(image) / (1 + length2 * symbol)).real.astype(np.float32)


def _double_size(source, length2, *, threads=None):
    height, width = source.shape
    padded = np.pad(source, ((0, height - 2), (0, width - 2)), mode="reflect")
    return _by_fft(padded, length2)[:height, :width]


def _periodic(source, length2, *, threads=None):
    return _by_fft(source, length2)


@pytest.mark.parametrize("fault", [None, _four_pi, _double_size, _periodic])
def test_traps(fault, monkeypatch):
    if fault is not None:
        monkeypatch.setattr(phase, "screened", fault)
    # Structure at the border tells a mirror with its edge from one without.
    t = 1 - 0.3 * blob(SHAPE, 0.02, 0.4, 0.2)
    reference = speckle(np.random.default_rng(1), 1, SHAPE)
    result = _retrieve(reference, reference * (t - LENGTH2 * laplacian2(t)))
    error = relative(1 - result.transmission.astype(float), 1 - t)
    assert error <= 1e-5 if fault is None else error > 1e-2


def _from_model(contrast, positions=1, *, exact=False):
    reference = speckle(np.random.default_rng(2), positions, SHAPE, grain=2.5)
    reference = 1 + contrast * (reference - reference.mean()) / reference.std()
    t = _transmission()
    # Strong enough phase for the dropped term to matter, weak enough for differences of T to be fine.
    phase = 0.5 * GAMMA * np.log(t)
    sample = [
        transported(r, wavenumber=K, distance=DISTANCE, pixel=P, phase=phase, transmission=t)
        for r in reference
    ]
    result = _retrieve(reference, np.stack(sample), exact=exact)
    return relative(1 - result.transmission.astype(float), 1 - t)


def test_error_falls_with_the_term_that_is_dropped():
    errors = [_from_model(c) for c in (0.2, 0.1, 0.05)]
    # ∇I_R·∇T is linear in the contrast.
    assert errors[1] <= 0.6 * errors[0]
    assert errors[2] <= 0.6 * errors[1]
    # Independent exposures average it: by √32, but for the luck of the few large speckles in view.
    assert _from_model(0.2, positions=32) <= 0.5 * errors[0]
    # The exact equation keeps it; what is left is three-point differences of T.
    assert _from_model(0.2, exact=True) <= 0.1 * errors[0]


@pytest.mark.parametrize("exact", [False, True])
def test_identical_frames_give_exactly_nothing(exact):
    frames = speckle(np.random.default_rng(3), 2, SHAPE)
    result = _retrieve(frames, frames, exact=exact)
    assert (result.transmission == 1).all()
    assert not result.phase.any()
    assert any(finding.code == "identical-frames" for finding in result.findings)


def test_positions_are_weighted_by_their_squares():
    rng = np.random.default_rng(4)
    reference = speckle(rng, 3, SHAPE)
    sample = 0.9 * reference * rng.uniform(0.9, 1.1, reference.shape)
    weights = rng.uniform(0.5, 2.0, reference.shape)
    ratio = (weights * reference * sample).sum(axis=0) / (weights * reference**2).sum(axis=0)
    t = _retrieve(reference, sample, weights).transmission.astype(float)
    assert relative(t - LENGTH2 * laplacian2(t), ratio) <= 1e-4  # ℓ² = 71 times eight roundings of T


def test_exact_is_the_least_squares_solution():
    rng = np.random.default_rng(5)
    reference, sample = _frames(2, exact=True)
    noisy = sample + 1e-3 * rng.normal(size=sample.shape)
    weights = rng.uniform(0.5, 2.0, reference.shape)
    t = _retrieve(reference, noisy, weights, exact=True).transmission.astype(float)

    def misfit(image):
        model = np.stack([image * r - LENGTH2 * flow_divergence(r, image) for r in reference])
        return float((weights * (noisy - model) ** 2).sum())

    # Of a quadratic, steps of ε to either side of the least change it equally: the gradient is 0.
    least = misfit(t)
    for seed in range(3):
        step = 1e-3 * blob(SHAPE, *np.random.default_rng(seed).uniform(0.2, 0.8, 2), 0.1)
        plus, minus = misfit(t + step) - least, misfit(t - step) - least
        assert plus > 0
        assert minus > 0
        assert abs(plus - minus) <= 0.05 * (plus + minus)


def test_the_exact_solve_stops_far_below_the_noise(monkeypatch):
    reference, sample = _frames(2, exact=True)
    noisy = sample + 1e-2 * np.random.default_rng(8).normal(size=sample.shape)
    found = _retrieve(reference, noisy, exact=True).transmission.astype(float)
    monkeypatch.setattr(whole_material, "_NEGLIGIBLE", 1e-12)
    settled = _retrieve(reference, noisy, exact=True).transmission.astype(float)
    # It may miss a part 1e-4 of what noise leaves: √1e-4 = 1 % of the error.
    assert 0 < np.std(found - settled) <= 0.01 * np.std(settled - _transmission())


def test_transmission_at_or_below_zero_is_flagged():
    reference = speckle(np.random.default_rng(6), 1, SHAPE)
    ratio = np.ones(SHAPE)
    ratio[10:25, 20:40] = -0.5
    result = _retrieve(reference, reference * ratio, delta_over_beta=1.0)
    low = (result.flags & flag.NOT_POSITIVE) > 0
    assert low[12:23, 22:38].all()
    assert np.array_equal(low, np.isnan(result.phase))
    assert np.isfinite(result.transmission).all()


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("positions", [1, 3])
def test_dead_pixels_do_not_spread(positions, exact):
    rng = np.random.default_rng(7)
    reference, sample = _frames(positions, exact=exact)
    dead = rng.random(reference.shape) < 0.01
    weights = (~dead).astype(np.float32)
    results = []
    for values in ([np.nan], [0.0, -8.0, np.inf, 1e9]):
        broken = [frames.copy() for frames in (reference, sample)]
        for frames in broken:
            frames[dead] = rng.choice(values, dead.sum())
        results.append(_retrieve(*broken, weights, exact=exact))
    # What a dead pixel holds does not matter, bit for bit.
    assert np.array_equal(results[0].transmission, results[1].transmission)
    assert np.array_equal((results[0].flags & flag.MASKED) > 0, dead.any(axis=0))
    # Five pixels of a dead one are averages of neighbours, off by ∇²T σ² = 0.3/40 · 4.
    assert np.abs(results[0].transmission - _transmission()).max() <= 0.03


def test_region_without_information():
    reference, sample = _frames(2, exact=False)
    sample[:, :30, :30] = np.nan
    for exact in (False, True):
        result = _retrieve(reference, sample, exact=exact)
        lost = (result.flags & flag.UNDETERMINED) > 0
        assert lost[:20, :20].all()
        assert not lost[40:].any()
        for name in ("transmission", "phase"):
            assert np.array_equal(np.isnan(getattr(result, name)), lost), name


@pytest.mark.parametrize("exact", [False, True])
def test_threads_do_not_matter(exact):
    reference, sample = _frames(2, exact=True)
    stack = xmist.SpeckleStack(reference, sample)
    one, many = (
        xmist.retrieve(
            stack, EXPERIMENT, method="single-material", threads=n, delta_over_beta=GAMMA, exact=exact
        )
        for n in (1, 5)
    )
    for name, image in one.channels():
        assert np.array_equal(image, getattr(many, name)), name


def test_a_solve_that_is_cut_short_says_so(monkeypatch):
    monkeypatch.setattr(whole_material, "_LIMIT", 2)
    result = _retrieve(*_frames(1, exact=True), exact=True)
    assert any(finding.code == "not-converged" for finding in result.findings)


@pytest.mark.parametrize("method", ["single-material", "single-exposure"])
def test_missing_material_is_one_clear_error(method):
    with pytest.raises(xmist.InputError) as caught:
        make_options(method, {})
    assert caught.value.codes == ("option-missing",)
    assert caught.value.messages[0].startswith(f"option delta_over_beta is missing; {method} needs")
    with pytest.raises(xmist.InputError, check=coded("option-invalid", names=["delta_over_beta"])):
        make_options(method, {"delta_over_beta": 0})


def test_wrong_options_are_listed_together():
    with pytest.raises(xmist.InputError) as caught:
        make_options("single-material", {"exact": "yes"})
    assert len(caught.value.messages) == 2
