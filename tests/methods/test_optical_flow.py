import numpy as np
import pytest

import xmist
from tests.coded import coded
from tests.manufactured import EXPERIMENT, blob, speckle
from tests.methods import direct_methods as direct
from tests.methods.direct_methods import (
    DISTANCE,
    INVERSES,
    PHASE,
    SHAPE,
    K,
    P,
    difference,
    face_value,
    on_faces,
    relative,
    solve_poisson,
)
from xmist.core import flags as flag
from xmist.core.findings import warnings_of
from xmist.methods import make_options
from xmist.methods.implicit import optical_flow
from xmist.simulate.model import transported


def _retrieve(reference, sample, weights=None, **options):
    stack = xmist.SpeckleStack(reference, sample, weights)
    return xmist.retrieve(stack, EXPERIMENT, method="optical-flow", **options)


def _psi(shape=SHAPE):
    psi = -4.0 * blob(shape, 0.45, 0.4, 0.2) - 2.5 * blob(shape, 0.6, 0.65, 0.12)
    return psi - psi.mean()


def _one_dimension(positions, along, seed=0):
    """Frames of I_R − I_S = ∇·(I_R ∇ψ) that vary along one axis alone, where nothing is dropped."""
    height, width = SHAPE if along == "x" else SHAPE[::-1]
    reference = speckle(np.random.default_rng(seed), positions, (1, width))[:, 0]
    psi = -4.0 * np.exp(-(((np.arange(width) - 0.4 * width) / (0.2 * width)) ** 2))
    psi -= psi.mean()
    flow = np.pad((reference @ face_value(width).T) * np.diff(psi), ((0, 0), (1, 1)))
    sample = reference - np.diff(flow)

    def spread(lines):
        image = np.repeat(lines[..., None, :], height, axis=-2)
        return image if along == "x" else np.swapaxes(image, -1, -2)

    return spread(reference), spread(sample), spread(psi)


@pytest.mark.parametrize("along", ["x", "y"])
@pytest.mark.parametrize("positions", [1, 4])
def test_manufactured_frames_come_back(positions, along):
    reference, sample, psi = _one_dimension(positions, along)
    result = _retrieve(reference, sample)
    # float32: rounding of 5e-8 a pixel, times 10 = √(Σκ⁻⁴/pixels) of the inverse Laplacian, over a ψ of 1.
    assert relative(result.phase, PHASE * psi) <= 1e-5
    assert not result.flags.any()
    assert warnings_of(result.findings) == ()
    assert result.transmission is None
    assert result.dark_field is None
    assert abs(float(result.phase.mean(dtype=np.float64))) <= 1e-6 * result.phase.std()


def _solve(reference, sample, weights):
    """Equations (2) to (4) in float64, by sparse matrices and a direct solver."""
    shape = reference.shape[1:]
    along, value = on_faces(shape, difference), on_faces(shape, face_value)
    weights = weights.reshape(len(weights), -1)
    source = 0
    potentials = [solve_poisson(r - s).ravel() for r, s in zip(reference, sample, strict=True)]
    for d, v in zip(along, value, strict=True):
        ends = abs(d)
        flow = norm = 0
        for r, w, potential in zip(reference, weights, potentials, strict=True):
            # The smaller of two numbers is half of their sum less their distance.
            smaller = (ends @ w - abs(d @ w)) / 2
            flow = flow + smaller * (d @ potential)
            norm = norm + smaller * (v @ r.ravel())
        source = source - d.T @ (flow / norm)
    return solve_poisson(source.reshape(shape))


@pytest.mark.parametrize("positions", [1, 3])
@pytest.mark.parametrize("fault", ["right", "swapped", *list(INVERSES)[1:]])
def test_whole_images(positions, fault, monkeypatch):
    """Two dimensions and weights; a fault of public code is noticed."""
    rng = np.random.default_rng(1)
    reference = speckle(rng, positions, SHAPE)
    psi = _psi()
    sample = np.stack([r - direct.flow_divergence(r, psi) for r in reference])
    weights = rng.uniform(0.5, 2.0, reference.shape)
    if fault == "swapped":  # x for y: only an image that is not square and not symmetric shows it
        divergence = optical_flow.staggered_divergence
        monkeypatch.setattr(
            optical_flow, "staggered_divergence", lambda flow, threads: divergence(flow[::-1].copy())
        )
    elif fault != "right":
        monkeypatch.setattr(optical_flow, "inverse_laplacian", INVERSES[fault])
    error = relative(_retrieve(reference, sample, weights).phase, PHASE * _solve(reference, sample, weights))
    assert error <= 1e-5 if fault == "right" else error > 1e-2


def test_phase_has_no_stray_factor():
    # Bare beam of 1: I_S = 1 − ∇²ψ with ψ'' = c inside a paraboloid cap, so φ'' = k c/∆ per m².
    y, x = np.mgrid[:80, :90].astype(float)
    c = 0.01
    psi = 0.5 * c * np.minimum((y - 40) ** 2 + (x - 45) ** 2 - 25.0**2, 0.0)
    reference = 1 + 1e-6 * speckle(np.random.default_rng(4), 1, (80, 90))
    result = _retrieve(reference, reference - direct.flow_divergence(reference[0], psi))
    profile = result.phase[40, 25:66].astype(float)
    curvature = np.polynomial.polynomial.polyfit(np.arange(41) - 20.0, profile, 2)[2] * 2 / P**2
    assert abs(curvature / (K * c / DISTANCE) - 1) <= 1e-4


def _contrast(contrast, positions=1):
    """Frames of model (M) whose speckles have a contrast."""
    reference = speckle(np.random.default_rng(2), positions, SHAPE, grain=2.5)
    reference = 1 + contrast * (reference - reference.mean()) / reference.std()
    phase = PHASE * _psi()
    sample = [transported(r, wavenumber=K, distance=DISTANCE, pixel=P, phase=phase) for r in reference]
    return relative(_retrieve(reference, np.stack(sample)).phase, phase)


def test_error_falls_with_the_curl_that_is_dropped():
    errors = [_contrast(c) for c in (0.2, 0.1, 0.05)]
    # The curl is linear in the contrast; three-point differences of ψ leave a floor of 3e-3.
    assert errors[0] > 2e-2
    assert errors[1] <= 0.6 * errors[0]
    assert errors[2] <= 0.6 * errors[1]
    # Independent exposures average it: by √8 but for chance. Weights I_R² would leave c²/2 of the slope, 2 %.
    assert _contrast(0.2, positions=8) <= 0.6 * errors[0]
    assert _contrast(0.2, positions=32) <= 5e-3


def test_identical_frames_give_exactly_zero():
    frames = speckle(np.random.default_rng(3), 2, SHAPE)
    result = _retrieve(frames, frames)
    assert not result.phase.any()
    assert not result.refraction_angle.any()
    assert any(finding.code == "identical-frames" for finding in result.findings)


def test_attenuation():
    reference, sample, psi = _one_dimension(1, "x")
    dimmed = 0.8 * sample
    plain = _retrieve(reference, dimmed)
    assert any(finding.code == "sample-attenuates" for finding in plain.findings)
    result = _retrieve(reference, dimmed, attenuation_smoothing=40.0)
    assert not warnings_of(result.findings)
    # Smoothed over 40 pixels, what refraction moves is all that is left of the ratio.
    assert np.abs(result.transmission - 0.8).max() <= 0.01
    assert relative(result.phase, PHASE * psi) < 0.1 < 1 < relative(plain.phase, PHASE * psi)


def test_cutoff_length_damps_long_structures_only():
    reference, sample, _ = _one_dimension(1, "x")
    plain = _retrieve(reference, sample)
    # At the longest wave, κ = π/62, ε = 2π/L makes κ⁴/(κ⁴ + ε⁴) of it: 1 − (124/L)⁴ for great L.
    mild = _retrieve(reference, sample, cutoff_length=1240 * P)
    assert relative(mild.phase, plain.phase) <= 1.1e-4
    assert _retrieve(reference, sample, cutoff_length=20 * P).phase.std() < 0.3 * plain.phase.std()


@pytest.mark.parametrize("positions", [1, 3])
@pytest.mark.parametrize("fault", [False, True])
def test_dead_pixels_do_not_spread(positions, fault, monkeypatch):
    rng = np.random.default_rng(5)
    reference, sample, _ = _one_dimension(positions, "x")
    dead = rng.random(reference.shape) < 0.01
    if fault:
        monkeypatch.setattr(optical_flow, "fill_source", lambda image, weights, threads: image)
    weights = (~dead).astype(np.float32)
    results = []
    for values in ([np.nan], [0.0, -8.0, np.inf, 1e9]):
        broken = [frames.copy() for frames in (reference, sample)]
        for frames in broken:
            frames[dead] = rng.choice(values, dead.sum())
        results.append(_retrieve(*broken, weights))
    spread = not np.isfinite(results[0].phase).all() or not np.isfinite(results[1].phase).all()
    assert spread == fault
    if fault:
        return
    # What a dead pixel holds does not matter, bit for bit.
    assert np.array_equal(results[0].phase, results[1].phase)
    assert np.array_equal((results[0].flags & flag.MASKED) > 0, dead.any(axis=0))
    clean = _retrieve(reference, sample)
    assert relative(results[0].phase, clean.phase) <= 0.02


def test_sample_that_is_dead_by_itself():
    reference, sample, _ = _one_dimension(1, "x")
    sample[0, 20, 30] = np.nan
    result = _retrieve(reference, sample)
    assert np.isfinite(result.phase).all()
    assert result.flags[20, 30] == flag.BAD_SAMPLE | flag.FILLED
    sample[0, :30, :30] = np.nan
    result = _retrieve(reference, sample, attenuation_smoothing=10.0)
    lost = (result.flags & flag.UNDETERMINED) > 0
    assert lost[:20, :20].all()
    assert not lost[40:].any()
    assert np.array_equal(np.isnan(result.phase), lost)
    assert np.array_equal(np.isnan(result.transmission), lost)


def test_threads_do_not_matter():
    reference, sample, _ = _one_dimension(3, "y")
    stack = xmist.SpeckleStack(reference, sample)
    one, many = (
        xmist.retrieve(stack, EXPERIMENT, method="optical-flow", threads=n, attenuation_smoothing=9.0)
        for n in (1, 5)
    )
    for name, image in one.channels():
        assert np.array_equal(image, getattr(many, name)), name


def test_wrong_input():
    with pytest.raises(xmist.InputError) as caught:
        make_options("optical-flow", {"attenuation_smoothing": 0, "cutoff_length": -1})
    assert caught.value.codes == ("option-invalid", "option-invalid")
    with pytest.raises(xmist.InputError, check=coded("option-unknown", names=["cutoff_length"])):
        make_options("optical-flow", {"cutof_length": 1})
    plan = xmist.prepare(np.ones((1, 9, 9)), EXPERIMENT, method="optical-flow")
    with pytest.raises(xmist.InputError, check=coded("shape-mismatch")):
        plan(np.ones((1, 9, 10)))
