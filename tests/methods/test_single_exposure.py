import numpy as np
import pytest

import xmist
from tests.manufactured import EXPERIMENT, blob, laplacian2, speckle
from tests.methods.direct_methods import (
    DISTANCE,
    INVERSES,
    SCATTER,
    SHAPE,
    K,
    P,
    flow_divergence,
    relative,
    spectral_laplacian,
)
from xmist.core import flags as flag
from xmist.methods import make_options
from xmist.methods.common.reference import prepare_reference
from xmist.methods.implicit import single_exposure
from xmist.simulate.model import transported

PERSPECTIVES = ["devolving", "evolving"]
GAMMA = 40.0  # at 400 the flow of these speckles would leave negative frames
LENGTH2 = GAMMA * DISTANCE / (2 * K * P**2)


def _retrieve(reference, sample, weights=None, **options):
    stack = xmist.SpeckleStack(reference, sample, weights)
    options = {"delta_over_beta": GAMMA} | options
    return xmist.retrieve(stack, EXPERIMENT, method="single-exposure", **options)


def _transmission(shape=SHAPE):
    return 1 - 0.3 * blob(shape, 0.45, 0.4, 0.2) - 0.2 * blob(shape, 0.6, 0.65, 0.12)


def _diffusion(reference, sample, transmission, perspective, weights=None, length2=LENGTH2):
    """The equation for D alone, on a transmission that is known."""
    prepared = prepare_reference(reference, weights, method="single-exposure", minimum=1, threads=None)
    return single_exposure.diffusion(
        prepared,
        np.float32(sample),
        None,
        np.float32(transmission),
        length2=length2,
        perspective=perspective,
    )


def _frames(positions, perspective, seed=0):
    """Frames of equation (2) or (3), whose d has both signs and d I mean 0."""
    carrier = speckle(np.random.default_rng(seed), positions, SHAPE)
    t = _transmission()
    d = 0.25 * blob(SHAPE, 0.4, 0.55, 0.15) - 0.1 * blob(SHAPE, 0.6, 0.3, 0.15)
    if perspective == "evolving":
        reference = carrier
        ds = [d - (d * t * r).sum() / (t * r).sum() for r in reference]
        sample = [
            t * r - LENGTH2 * flow_divergence(r, t) + spectral_laplacian(e * t * r)
            for r, e in zip(reference, ds, strict=True)
        ]
        return reference, np.stack(sample), t, ds
    ds = [d - (d * s).sum() / s.sum() for s in carrier]
    reference = [
        (s + flow_divergence(s, LENGTH2 * np.log(t)) - spectral_laplacian(e * s)) / t
        for s, e in zip(carrier, ds, strict=True)
    ]
    return np.stack(reference), carrier, t, ds


@pytest.mark.parametrize("perspective", PERSPECTIVES)
@pytest.mark.parametrize("fault", ["right", "sign of the flow", "other perspective", *list(INVERSES)[1:]])
def test_manufactured_frames_come_back(perspective, fault, monkeypatch):
    reference, sample, t, (d,) = _frames(1, perspective)
    assert reference.min() > 0
    length2, solved = LENGTH2, perspective
    if fault == "sign of the flow":
        length2 = -LENGTH2
    elif fault == "other perspective":
        solved = PERSPECTIVES[PERSPECTIVES.index(perspective) - 1]
    elif fault != "right":
        monkeypatch.setattr(single_exposure, "inverse_laplacian", INVERSES[fault])
    found = _diffusion(reference, sample, t, solved, length2=length2)
    error = relative(found, d)
    if fault == "right":
        # float32: frames are rounded by 3e-8, and white noise is integrated to ten times as much, against a d
        # of 0.05; that of T, times ℓ² = 7 and differentiated before, adds 4e-6.
        assert error <= 2e-5
        assert np.sign(found[26, 18]) == -1 == -np.sign(found[17, 34])
    else:
        assert error > 1e-2


@pytest.mark.parametrize("perspective", PERSPECTIVES)
def test_transmission_and_phase_are_those_of_single_material(perspective):
    reference, sample, *_ = _frames(2, perspective)
    result = _retrieve(reference, sample, perspective=perspective)
    stack = xmist.SpeckleStack(reference, sample)
    other = xmist.retrieve(stack, EXPERIMENT, method="single-material", delta_over_beta=GAMMA)
    assert np.array_equal(result.transmission, other.transmission)
    assert np.array_equal(result.phase, other.phase)
    assert np.array_equal(result.refraction_angle, other.refraction_angle)


def test_whole_chain():
    # Frames of (1): evolving, all that is left for D is the dropped term, ∇²(d T I_R) = ℓ² ∇I_R·∇T.
    reference = speckle(np.random.default_rng(1), 1, SHAPE)
    t = _transmission()
    sample = reference * (t - LENGTH2 * laplacian2(t))
    result = _retrieve(reference, sample, perspective="evolving")
    assert relative(1 - result.transmission.astype(float), 1 - t) <= 1e-5
    dropped = flow_divergence(reference[0], t) - reference[0] * laplacian2(t)
    d = spectral_laplacian(LENGTH2 * dropped, -1) / (t * reference[0])
    assert relative(result.dark_field, SCATTER * d) <= 1e-4
    # Devolving from the same frames: (3), by operators of the test.
    result = _retrieve(reference, sample)
    frame = sample[0]
    source = frame - t * reference[0] + flow_divergence(frame, LENGTH2 * np.log(t))
    assert relative(result.dark_field, SCATTER * spectral_laplacian(source, -1) / frame) <= 1e-4


@pytest.mark.parametrize("perspective", PERSPECTIVES)
def test_positions_are_averaged_with_their_frames_as_weights(perspective):
    reference, sample, t, _ = _frames(3, perspective)
    weights = np.random.default_rng(2).uniform(0.5, 2.0, reference.shape)
    found = _diffusion(reference, sample, t, perspective, weights)
    singles = [_diffusion(reference[n : n + 1], sample[n : n + 1], t, perspective) for n in range(3)]
    carrier = weights * (sample if perspective == "devolving" else t * reference)
    assert relative(found, (carrier * singles).sum(axis=0) / carrier.sum(axis=0)) <= 1e-5


def _from_model(strength, perspective):
    """Relative error of d I, but for its mean, on frames of model (M) with true T."""
    reference = speckle(np.random.default_rng(3), 1, SHAPE, grain=2.5)
    t = 1 - strength * (1 - _transmission())
    d = strength * 0.25 * blob(SHAPE, 0.4, 0.55, 0.15)
    sample = transported(
        reference[0],
        wavenumber=K,
        distance=DISTANCE,
        pixel=P,
        phase=0.5 * GAMMA * np.log(t),
        transmission=t,
        dark_field=SCATTER * d,
    )
    found = _diffusion(reference, sample[None], t, perspective)
    carrier = sample if perspective == "devolving" else t * reference[0]
    # Zero means of d I alone are comparable.
    exact, product = d * carrier, found * carrier
    return relative(product - product.mean(), exact - exact.mean())


def test_order_of_both_perspectives():
    # Evolving is model (M) itself: three-point differences are all that is wrong, ℓ² ∇²T/12 of a d of 0.1.
    assert _from_model(1.0, "evolving") <= 0.1
    # Devolving holds to first order in what the sample does: its relative error falls with the strength.
    errors = [_from_model(s, "devolving") for s in (1.0, 0.5, 0.25)]
    assert errors[1] <= 0.7 * errors[0]
    assert errors[2] <= 0.7 * errors[1]


def test_both_perspectives_separate_edges_from_microstructure():
    """To second order in the flow F, S = T R − F + F²/2: the perspectives see ±F²/2, and the same of d."""
    reference = speckle(np.random.default_rng(3), 1, SHAPE, grain=2.5)
    t = 1 - 0.5 * (1 - _transmission())
    psi = LENGTH2 * np.log(t)
    once = flow_divergence(t * reference[0], psi)
    sample = t * reference[0] - once + 0.5 * flow_divergence(once, psi)
    one, other = (_diffusion(reference, sample[None], t, perspective) for perspective in PERSPECTIVES)
    # What the mean leaves of edges is of third order, and the error of three-point differences.
    assert np.sqrt(np.mean((one + other) ** 2)) <= 0.15 * np.sqrt(np.mean((one - other) ** 2))
    d = 0.05 * blob(SHAPE, 0.4, 0.55, 0.15)
    scattered = sample + spectral_laplacian(d * sample)
    more = [_diffusion(reference, scattered[None], t, perspective) for perspective in PERSPECTIVES]
    slope = np.polyfit(d.ravel(), ((more[0] - one + more[1] - other) / 2).ravel(), 1)[0]
    assert abs(slope - 1) <= 0.1


def test_both_perspectives_as_channels():
    reference, sample, *_ = _frames(2, "devolving")
    both = _retrieve(reference, sample, perspective="both")
    one, other = (_retrieve(reference, sample, perspective=perspective) for perspective in PERSPECTIVES)
    found = both.diagnostics
    assert np.array_equal(found["dark_field_devolving"], one.dark_field)
    assert np.array_equal(found["dark_field_evolving"], other.dark_field)
    assert np.array_equal(found["dark_field_edges"], (other.dark_field - one.dark_field) / 2)
    assert np.array_equal(both.dark_field, (one.dark_field + other.dark_field) / 2)
    assert np.array_equal(both.phase, one.phase)
    assert not one.diagnostics


@pytest.mark.parametrize("perspective", PERSPECTIVES)
def test_identical_frames_give_exactly_nothing(perspective):
    frames = speckle(np.random.default_rng(4), 2, SHAPE)
    result = _retrieve(frames, frames, perspective=perspective)
    assert not result.dark_field.any()
    assert not result.phase.any()
    assert any(finding.code == "identical-frames" for finding in result.findings)


def test_cutoff_length_damps_long_structures():
    reference, sample, *_ = _frames(1, "devolving")
    plain = _retrieve(reference, sample)
    # κ⁴/(κ⁴ + ε⁴) of the longest wave, κ = π/62, for ε = 2π/1240 per pixel.
    assert relative(_retrieve(reference, sample, cutoff_length=1240 * P).dark_field, plain.dark_field) <= 1e-3
    assert _retrieve(reference, sample, cutoff_length=15 * P).dark_field.std() < 0.5 * plain.dark_field.std()


@pytest.mark.parametrize("perspective", PERSPECTIVES)
@pytest.mark.parametrize("positions", [1, 3])
@pytest.mark.parametrize("fault", [False, True])
def test_dead_pixels_do_not_spread(perspective, positions, fault, monkeypatch):
    rng = np.random.default_rng(5)
    reference, sample, *_ = _frames(positions, perspective)
    dead = rng.random(reference.shape) < 0.01
    weights = (~dead).astype(np.float32)
    if fault:
        monkeypatch.setattr(single_exposure, "fill_source", lambda image, weights, threads: image)
    results = []
    for values in ([np.nan], [0.0, -8.0, np.inf, 1e9]):
        broken = [frames.copy() for frames in (reference, sample)]
        for frames in broken:
            frames[dead] = rng.choice(values, dead.sum())
        results.append(_retrieve(*broken, weights, perspective=perspective))
    assert np.isfinite(results[0].dark_field).all() != fault
    if fault:
        return
    # What a dead pixel holds does not matter, bit for bit.
    for name, image in results[0].channels():
        assert np.array_equal(image, getattr(results[1], name)), name
    assert np.array_equal((results[0].flags & flag.MASKED) > 0, dead.any(axis=0))


def test_region_without_information():
    reference, sample, *_ = _frames(2, "devolving")
    sample[:, :30, :30] = np.nan
    for perspective in PERSPECTIVES:
        result = _retrieve(reference, sample, perspective=perspective)
        lost = (result.flags & flag.UNDETERMINED) > 0
        assert lost[:20, :20].all()
        for name in ("transmission", "phase", "dark_field"):
            assert np.array_equal(np.isnan(getattr(result, name)), lost), name


@pytest.mark.parametrize("perspective", PERSPECTIVES)
def test_dark_sample_and_negative_transmission(perspective):
    reference, sample, *_ = _frames(1, perspective)
    sample = sample.copy()
    sample[0, 10:25, 20:40] = -0.5
    result = _retrieve(reference, sample, delta_over_beta=1.0, perspective=perspective)
    low = (result.flags & flag.NOT_POSITIVE) > 0
    assert low[12:23, 22:38].all()
    assert np.array_equal(low, np.isnan(result.dark_field))
    assert np.array_equal(low, np.isnan(result.phase))


def test_devolving_a_dark_pixel_says_nothing():
    reference, sample, t, _ = _frames(2, "devolving")
    found = []
    for value in (0.0, -3.0):
        sample[0, 20, 30] = value
        found.append(_diffusion(reference, sample, t, "devolving"))
    assert np.array_equal(*found)


@pytest.mark.parametrize("perspective", PERSPECTIVES)
def test_threads_do_not_matter(perspective):
    reference, sample, *_ = _frames(2, perspective)
    stack = xmist.SpeckleStack(reference, sample)
    one, many = (
        xmist.retrieve(
            stack,
            EXPERIMENT,
            method="single-exposure",
            delta_over_beta=GAMMA,
            perspective=perspective,
            threads=n,
        )
        for n in (1, 5)
    )
    for name, image in one.channels():
        assert np.array_equal(image, getattr(many, name)), name


def test_wrong_options():
    for options, codes in (
        (
            {"perspective": "evolved", "cutoff_length": 0},
            ("option-missing", "option-invalid", "option-invalid"),
        ),
    ):
        with pytest.raises(xmist.InputError) as caught:
            make_options("single-exposure", options)
        assert caught.value.codes == codes
