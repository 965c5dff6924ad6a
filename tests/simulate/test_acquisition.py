import warnings
from dataclasses import replace

import numpy as np
import pytest

import xmist
from tests.coded import coded
from xmist import simulate
from xmist.simulate.phantoms import speckle_diffuser

PIXEL, SHAPE = 5e-6, (48, 56)
EXPERIMENT = xmist.Experiment(energy_kev=20.0, pixel_size=PIXEL, sample_to_detector=0.4)
WATER = xmist.Material(delta=6e-7, beta=4e-9, energy_kev=20.0)
DIFFUSER = speckle_diffuser(EXPERIMENT, 0.5, speckle=20e-6, visibility=0.25, seed=1)
DETECTOR = simulate.Detector(
    pixel_size=PIXEL, oversampling=4, psf_sigma=4e-6, photons=1e5, gain=1.0, read_noise=0.0, offset=0.0
)
BALL = simulate.Part(body=simulate.sphere(radius=70e-6, x=20e-6, y=-10e-6), material=WATER)
GIVEN = {
    "shape": SHAPE,
    "sample": [BALL],
    "diffuser": DIFFUSER,
    "diffuser_to_sample": 0.5,
    "positions": [(0.0, 0.0), (0.0, 1e-4)],
    "detector": DETECTOR,
    "edge_sigma": 5e-6,
    "seed": 1,
}


def acquire(experiment=EXPERIMENT, **changes):
    return simulate.acquire(experiment, **(GIVEN | changes))


def test_truth_is_that_of_the_ball():
    truth = acquire(noise=False, edge_sigma=0.0, positions=[(0, 0)]).truth
    y = (np.arange(48) - 23.5) * PIXEL + 10e-6
    x = (np.arange(56) - 27.5) * PIXEL - 20e-6
    chord = 2 * np.sqrt(np.maximum(70e-6**2 - y[:, None] ** 2 - x**2, 0.0))
    inside = np.hypot(y[:, None], x) < 60e-6
    # A pixel's mean differs from its middle by pixel²/24 of the curvature, 1 % at six sevenths of the radius.
    expected = -EXPERIMENT.wavenumber * 6e-7 * chord
    assert np.allclose(truth.phase[inside], expected[inside], rtol=0.01)
    assert np.all(truth.phase[np.hypot(y[:, None], x) > 75e-6] == 0.0)
    single = np.exp(2 * truth.phase * 4e-9 / 6e-7)  # φ = (γ/2) ln T, up to the mean of an exponential
    assert np.allclose(truth.transmission, single, atol=2e-4)
    assert truth.dark_field.max() == 0.0
    assert truth.dark_field_tensor is None
    assert np.array_equal(truth.phase_total, truth.phase)
    slope = np.gradient(truth.phase, PIXEL * EXPERIMENT.wavenumber)
    assert np.allclose(truth.refraction_angle, slope[::-1], rtol=1e-4, atol=1e-10)


def test_bare_beam_and_absorbing_plate():
    plate = simulate.Part(body=simulate.Slab(depth=2e-4), material=WATER)
    made = acquire(sample=[plate], noise=False)
    transmission = np.exp(-2 * EXPERIMENT.wavenumber * 4e-9 * 2e-4)
    assert np.allclose(made.stack.sample, transmission * made.stack.reference, rtol=1e-5)
    empty = acquire(sample=[], noise=False).stack
    assert np.allclose(empty.sample, empty.reference, atol=1e-6)
    assert abs(empty.reference.mean() - 1.0) <= 0.02  # light moves, and is kept but for the border


def test_nothing_comes_in_over_the_border():
    """A wider detector sees the same where both look: no wrap-around, no rings from the edge of the field."""
    scatter = [replace(BALL, scatter=None)]
    small = acquire(sample=scatter, noise=False).stack
    wide = acquire(sample=scatter, noise=False, shape=(SHAPE[0] + 16, SHAPE[1] + 16)).stack
    for name in ("reference", "sample"):
        difference = getattr(wide, name)[:, 8:-8, 8:-8] - getattr(small, name)
        # Single precision, and the tail of the spectrum at the highest frequencies.
        assert np.abs(difference).max() <= 1e-4
        assert difference.std() <= 1e-5


def test_wave_agrees_with_the_model():
    """At φ so weak that orders beyond the first do not matter, to within what finite speckles leave."""
    weak = [replace(BALL, material=xmist.Material(delta=6e-9, beta=4e-11, energy_kev=20.0))]
    wave, model = (
        acquire(sample=weak, physics=physics, noise=False, edge_sigma=15e-6).stack
        for physics in ("wave", "model")
    )
    assert np.array_equal(wave.reference, model.reference)
    change, expected = (stack.sample - stack.reference for stack in (wave, model))
    inner = (..., slice(4, -4), slice(4, -4))
    assert abs((change * expected)[inner].sum() / (expected**2)[inner].sum() - 1.0) <= 0.02
    assert np.linalg.norm((change - expected)[inner]) <= 0.12 * np.linalg.norm(expected[inner])


@pytest.mark.parametrize("physics", ["wave", "model"])
def test_same_seed_same_bytes_on_any_thread_count(physics):
    scatter = simulate.Scatter(power=1e-8, correlation_length=2.5e-6, direction=30.0, anisotropy=0.6)
    parts = [replace(BALL, scatter=scatter)]
    one = acquire(sample=parts, physics=physics, workers=1)
    for workers in (2, 8):
        more = acquire(sample=parts, physics=physics, workers=workers)
        assert np.array_equal(one.stack.sample, more.stack.sample)
        assert np.array_equal(one.stack.reference, more.stack.reference)
        assert np.array_equal(one.truth.phase_total, more.truth.phase_total)
    other = acquire(sample=parts, physics=physics, seed=2)
    assert not np.array_equal(one.stack.sample, other.stack.sample)


def test_more_positions_leave_the_first_as_they_are():
    few, many = acquire(), acquire(positions=[(0.0, 0.0), (0.0, 1e-4), (1e-4, 0.0)])
    assert np.array_equal(few.stack.reference, many.stack.reference[:2])
    assert np.array_equal(few.stack.sample, many.stack.sample[:2])


def test_noise_is_that_of_photons():
    made, clean = acquire(), acquire(noise=False)
    pulls = []
    for noisy, expected in (
        (made.stack.reference, clean.stack.reference),
        (made.stack.sample, clean.stack.sample),
    ):
        pull = (noisy - expected) / np.sqrt(expected / 1e5)
        # 5376 pixels: the variance is good to √(2/5376) = 2 %; four of these.
        assert abs(pull.var() - 1.0) <= 0.08
        assert abs(pull.mean()) <= 4 / np.sqrt(pull.size)
        pulls += list(pull)
    # Every exposure has noise of its own: 2688 pixels leave a correlation of 2 %; four of these.
    assert np.abs(np.corrcoef([pull.ravel() for pull in pulls]) - np.eye(4)).max() <= 0.08


def test_a_cone_beam_is_a_parallel_one_of_scaled_lengths():
    cone = xmist.Experiment(energy_kev=20.0, pixel_size=PIXEL, sample_to_detector=0.5, source_to_sample=2.0)
    m = cone.magnification
    parallel = xmist.Experiment(
        energy_kev=20.0, pixel_size=cone.effective_pixel, sample_to_detector=cone.effective_distance
    )
    # The diffuser at 1.5 m from the source is 4/3 as large in the sample's plane, 0.5 · 2/1.5 m upstream.
    small = replace(DIFFUSER, grain_size=DIFFUSER.grain_size * 0.75)
    seen = acquire(cone, diffuser=small, positions=[(0, 0), (0, 0.75e-4)], noise=False)
    same = acquire(
        parallel,
        diffuser_to_sample=0.5 * 2.0 / 1.5,
        detector=replace(DETECTOR, pixel_size=PIXEL / m, psf_sigma=4e-6 / m),
        noise=False,
    )
    assert np.allclose(seen.truth.phase, same.truth.phase, rtol=1e-5, atol=1e-6)
    # The random screens are sampled on lattices of their own scale: equal up to how they are interpolated.
    assert np.allclose(seen.stack.reference, same.stack.reference, atol=1e-3)
    assert np.allclose(seen.stack.sample, same.stack.sample, atol=1e-3)


def test_drift_moves_the_sample_frames():
    still = acquire(sample=[], noise=False).stack
    moved = acquire(sample=[], noise=False, drift=(2 * PIXEL, -PIXEL)).stack
    assert np.array_equal(still.reference, moved.reference)
    assert np.allclose(moved.sample[:, 2:, :-1], still.sample[:, :-2, 1:], atol=1e-4)


def test_spectrum_is_a_sum_of_its_energies():
    water = xmist.Material(formula="H2O", density=1000.0)
    parts = [simulate.Part(body=BALL.body, material=water)]
    spectrum = simulate.Spectrum(energies_kev=[18.0, 20.0], weights=[1, 3])
    mixed = acquire(sample=parts, spectrum=spectrum, noise=False)
    alone = acquire(sample=parts, noise=False)
    # The grid is chosen for the longest wave, so that both energies are simulated on the same.
    single = acquire(
        replace(EXPERIMENT, energy_kev=18.0),
        sample=parts,
        spectrum=simulate.Spectrum(energies_kev=[18.0], weights=[1]),
        noise=False,
    )
    for name in ("reference", "sample"):
        total = 0.25 * getattr(single.stack, name) + 0.75 * getattr(alone.stack, name)
        assert np.allclose(getattr(mixed.stack, name), total, atol=1e-5)  # float32 waves
    assert np.array_equal(mixed.truth.phase, alone.truth.phase)  # at the experiment's energy


@pytest.mark.parametrize("physics", ["wave", "model"])
def test_structure_refracts_other_energies_by_the_square_of_the_wavelength(physics):
    # θ ∝ λ², so that structure stated at 20 keV does at 18 keV what one of (20/18)² the angle does there.
    alone = simulate.Spectrum(energies_kev=[18.0], weights=[1])
    beam = replace(EXPERIMENT, energy_kev=18.0)
    layers = [
        simulate.Screen(angle=angle, correlation_length=3e-6) for angle in (2e-6, 2e-6 * (20.0 / 18.0) ** 2)
    ]
    given = {"sample": [], "noise": False, "physics": physics, "positions": [(0, 0)]}
    stated = acquire(spectrum=alone, screens=layers[:1], **given).stack
    there = acquire(beam, screens=layers[1:], **given).stack
    bare = acquire(beam, **given).stack
    assert np.abs(there.sample - bare.sample).max() > 1e-2
    assert np.abs(stated.sample - there.sample).max() <= 1e-4  # single precision


def test_drift_and_source_are_those_of_a_cone_beam():
    # Of M = 2 a detector's pixel of drift is half a pixel's length in the sample's plane.
    cone = replace(EXPERIMENT, source_to_sample=2.0, sample_to_detector=2.0, pixel_size=2 * PIXEL)
    given = {
        "sample": [],
        "noise": False,
        "positions": [(0, 0)],
        "detector": replace(DETECTOR, pixel_size=2 * PIXEL, psf_sigma=0.0),
    }
    still = acquire(cone, **given).stack
    moved = acquire(cone, drift=(4 * PIXEL, 0.0), **given).stack
    assert np.allclose(moved.sample[:, 2:], still.sample[:, :-2], atol=1e-4)
    # From the diffuser, 1.5 m from the source and 2.5 m from the detector, it is blurred by 2.5/1.5 of its σ.
    wide = replace(DETECTOR, pixel_size=2 * PIXEL, psf_sigma=9e-6 * 2.5 / 1.5)
    by_source = acquire(cone, source_sigma=9e-6, **given).stack
    by_detector = acquire(cone, **(given | {"detector": wide})).stack
    assert np.allclose(by_source.reference, by_detector.reference, atol=1e-5)
    assert np.abs(by_source.reference - still.reference).max() > 1e-2


def test_illumination_is_divided_out_and_counts_are_kept():
    light = np.linspace(0.5, 1.0, SHAPE[1]) * np.ones(SHAPE)
    detector = replace(DETECTOR, offset=100.0, read_noise=3.0, whole_counts=True, photons=1e4)
    made = acquire(illumination=light, detector=detector)
    plain = acquire(noise=False)
    # Shot noise of the mean of a column: 1/√(0.5 · 10⁴ · 48 · 2) = 0.15 %; five of these.
    ratio = made.stack.reference.mean(axis=(0, 1)) / plain.stack.reference.mean(axis=(0, 1))
    assert np.abs(ratio - 1.0).max() <= 0.0075
    counts = made.counts(made.stack.reference)
    assert np.array_equal(counts, np.rint(counts))
    assert abs(counts[..., 0].mean() / (100 + 0.5e4 * plain.stack.reference[..., 0].mean()) - 1) <= 0.01


def test_progress_and_settings():
    calls = []
    made = acquire(progress=lambda *call: calls.append(call))
    assert calls == [("simulating", 1, 2), ("simulating", 2, 2)]
    assert made.settings["diffuser"]["kind"] == "RandomScreen"
    stack, experiment, truth = made
    assert (stack, experiment, truth) == (made.stack, made.experiment, made.truth)
    result = made.truth_as_result()
    assert result.method == "truth"
    assert np.array_equal(result.phase, truth.phase)


def test_findings_are_warned_of():
    wide = [simulate.Screen(angle=1e-6, correlation_length=15e-6)]
    with pytest.warns(UserWarning, match="shifts whole speckles"):
        made = acquire(screens=wide)
    assert made.findings[0].code == "structure-resolved"


@pytest.mark.parametrize(
    ("changes", "code", "name"),
    [
        ({"sample": [simulate.Part(body=simulate.sphere(radius=1e-5, x=1e-3))]}, "field-small", "part 0"),
        ({"sample": [replace(BALL, material=replace(WATER, energy_kev=17.0))]}, "material-invalid", "17 keV"),
        (
            {"edge_sigma": 0.0, "sample": [replace(BALL, material=replace(WATER, delta=2e-5))]},
            "sampling-coarse",
            "phase",
        ),
        ({"diffuser_to_sample": -0.5}, "value-invalid", "diffuser_to_sample"),
        ({"detector": replace(DETECTOR, pixel_size=6e-6)}, "value-invalid", "6e-06 m"),
        ({"diffuser": replace(DIFFUSER, rms_phase=200.0)}, "sampling-coarse", "diffuser"),
        (
            {"screens": [simulate.Screen(angle=1e-4, correlation_length=3e-6)]},
            "sampling-coarse",
            "oversampling",
        ),
        ({"physics": "rays"}, "value-invalid", "physics"),
        ({"illumination": np.zeros(SHAPE)}, "value-invalid", "illumination"),
        ({"shape": (4, 56)}, "value-invalid", "shape"),
        ({"seed": -1}, "value-invalid", "seed"),
        ({"source_sigma": 1e-6}, "value-invalid", "source_to_sample"),
        ({"positions": [(0.0, np.nan)]}, "value-invalid", "positions"),
    ],
)
def test_bad_input(changes, code, name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(xmist.InputError, check=coded(code, names=[name])):
            acquire(**changes)


def test_all_errors_at_once():
    with pytest.raises(xmist.InputError) as error:
        acquire(diffuser_to_sample=0.0, seed=0.5, physics="ray", shape=(48, 3))
    assert len(error.value.codes) == 4


def test_a_diffuser_behind_the_source():
    cone = xmist.Experiment(energy_kev=20.0, pixel_size=PIXEL, sample_to_detector=0.5, source_to_sample=0.4)
    with pytest.raises(xmist.InputError, check=coded("value-invalid", names=["source"])):
        acquire(cone)
