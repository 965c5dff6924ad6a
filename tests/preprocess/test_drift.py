import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import xmist
from tests.manufactured import EXPERIMENT
from tests.preprocess.speckles import WIDTH, speckle
from xmist.numerics.images.registration import TAPS, kernel
from xmist.preprocess import correct_drift, measure_drift

SHAPE = (120, 140)
POSITIONS = 6
UNIT = EXPERIMENT.effective_pixel**2 / EXPERIMENT.effective_distance  # D of d = 1 pixel²


def _drifted(shift, *, grain=3.0, positions=POSITIONS, seed=0, shape=SHAPE):
    rng = np.random.default_rng(seed)
    pairs = [
        speckle(rng, shape, grain=grain, visibility=0.2, shifts=((0, 0), shift)) for _ in range(positions)
    ]
    return tuple(1e4 * np.stack(frames) for frames in zip(*pairs, strict=True))


def _expected(shift, grain, positions):
    """Mean and scatter of d = ∆D/p² that the kernel's own error makes, by Parseval.

    The corrected reference is H R, H the kernel's transfer function, the sample e^{−iκ·u} R. Least squares
    of H R − S = (H e^{iκ·u} − 1) S on −d ∇²R, the stencil's, give the mean d; what is left over gives the
    scatter of N equations, of which the other unknown takes one.
    """
    kappa = np.linspace(-np.pi, np.pi, 201)
    offsets = np.arange(-TAPS, TAPS + 1)
    second = sum(c * (2 - 2 * np.cos(m * kappa)) for m, c in ((1, 3 / 2), (2, -3 / 20), (3, 1 / 90)))

    def transfer(part):
        return np.exp(1j * np.outer(kappa, offsets)) @ kernel(part) * np.exp(1j * kappa * part)

    along_x, along_y = (transfer(u - round(u)) for u in shift)
    error = np.outer(along_y, along_x) - 1.0
    laplacian = second[:, None] + second
    power = np.exp(-((grain / WIDTH) ** 2) * (kappa[:, None] ** 2 + kappa**2))
    norm = (laplacian**2 * power).sum()
    mean = (error.real * laplacian * power).sum() / norm
    left = np.abs(error - mean * laplacian) ** 2
    return mean, np.sqrt((left * power).sum() / norm / (positions - 1))


@pytest.mark.parametrize("grain", [3.0, 5.0])
@pytest.mark.parametrize("shift", [(0.1, 0.0), (0.5, -0.5), (-1.7, 0.3), (3.0, -2.4)])
def test_a_drifted_pair_without_a_sample_shows_no_dark_field(shift, grain):
    reference, sample = _drifted(shift, grain=grain)
    measured = measure_drift(reference, sample)
    assert np.abs(measured - shift).max() <= 2e-3
    corrected, weights = correct_drift(reference, measured)
    stack = xmist.SpeckleStack(corrected, sample, weights)
    result = xmist.retrieve(stack, EXPERIMENT, method="mist")
    d = result.dark_field[result.flags == 0].astype(float) / UNIT
    mean, scatter = _expected(shift, grain, POSITIONS)
    # The fit of few equations leans on pixels of strong curvature: some tens of per cent; float32 adds 1e-5.
    assert abs(d.mean() - mean) <= 0.5 * abs(mean) + 1e-5
    assert d.std() <= 2.0 * scatter + 1e-4
    # All of it is small next to a weak sample's d of 0.1, and next to what the drift itself does.
    assert abs(d.mean()) <= 3e-3
    assert d.std() <= 1e-2
    drifted = xmist.retrieve(xmist.SpeckleStack(reference, sample), EXPERIMENT, method="mist")
    assert d.std() <= 0.1 * drifted.dark_field.std() / UNIT


@given(st.floats(-3, 3), st.floats(-3, 3), st.integers(0, 2**31))
@settings(max_examples=8)
def test_shifts_are_measured_and_change_sign_when_frames_are_swapped(x, y, seed):
    reference, sample = _drifted((x, y), positions=1, seed=seed, grain=4.0, shape=(100, 110))
    there, back = measure_drift(reference, sample), measure_drift(sample, reference)
    assert np.abs(there - [x, y]).max() <= 2e-3
    assert np.abs(there + back).max() <= 2e-3


def _spoiled(frames, rng, value):
    broken = frames.copy()
    bad = rng.random(frames.shape) < 0.01
    broken[bad] = rng.choice(value, bad.sum())
    return broken, bad


def test_noise_dead_pixels_and_attenuation_do_not_spoil_the_registration():
    rng = np.random.default_rng(1)
    shift = (0.37, -1.21)
    reference, sample = _drifted(shift, grain=4.0, positions=3)
    photons = [rng.poisson(frames).astype(float) for frames in (reference, 0.7 * sample)]
    (first, bad), (second, worse) = (_spoiled(frames, rng, [0.0, -8.0, np.nan, 1e9]) for frames in photons)
    measured = measure_drift(first, second, (~bad & ~worse).astype(float))
    # Photon noise of 1 % in 16800 pixels of gradient 0.1 a pixel: 1e-3 pixels; medians of blocks 1.3 times.
    assert np.abs(measured - shift).max() <= 5e-3


def test_a_sample_that_refracts_does_not_pull():
    shift = (0.4, 0.2)
    rng = np.random.default_rng(2)
    bare, moved, refracted = speckle(rng, (200, 240), grain=4.0, shifts=((0, 0), shift, (1.1, 0.9)))
    sample = moved.copy()
    sample[:90, :120] = 0.6 * refracted[:90, :120]
    by_blocks = measure_drift(bare[None], sample[None])[0]
    by_box = measure_drift(bare[None], sample[None], rows=(110, 200), columns=(10, 230))[0]
    assert np.abs(by_blocks - shift).max() <= 5e-3
    assert np.abs(by_box - shift).max() <= 1e-3


def test_the_kernel_shifts_waves():
    x = np.arange(40.0)
    for part in (0.1, -0.3, 0.5):
        for kappa in (0.2, 1.0, 2.0):
            shifted = np.convolve(np.cos(kappa * x), kernel(part)[::-1], mode="valid")
            # Within 1 % up to 0.7 of Nyquist, by the kernel's design.
            assert np.abs(shifted - np.cos(kappa * (x[TAPS:-TAPS] - part))).max() <= 0.01
    assert np.allclose(kernel(0.0), np.eye(2 * TAPS + 1)[TAPS], atol=1e-15)


def test_a_frame_that_has_not_moved_is_unchanged():
    reference, _ = _drifted((0, 0), positions=2)
    given = np.random.default_rng(3).uniform(0.5, 1, reference.shape)
    out, weights = correct_drift(reference, np.zeros((2, 2)), given)
    assert np.array_equal(out, reference.astype(np.float32))
    assert np.array_equal(weights, given.astype(np.float32))


def test_weights_travel_with_the_shift():
    reference, sample = _drifted((2.0, -1.0), positions=1, grain=4.0)
    reference[0, 50, 60] = np.nan
    given = np.ones(reference.shape)
    given[0, 80, 90] = 0
    moved, weights = correct_drift(reference, [[2.0, -1.0]], given)
    # Whole pixels: the bad one moves, the pixel that had weight 0 keeps it, and so does where it goes.
    lost = np.argwhere(weights[0] == 0)
    inside = [tuple(p) for p in lost if p[1] >= 2 and p[0] < SHAPE[0] - 1]
    assert inside == [(49, 62), (79, 92), (80, 90)]
    assert not weights[0, :, :2].any()
    assert not weights[0, -1].any()
    assert np.isfinite(moved).all()
    # A part of a pixel: near a bad one, what keeps its weight is right to the share that it may bring in.
    reference, sample = _drifted((0.5, 0.5), positions=1, grain=4.0)
    broken = reference.copy()
    broken[0, 50, 60] = 1e9
    given = np.ones(reference.shape)
    given[0, 50, 60] = 0
    moved, weights = correct_drift(broken, [[0.5, 0.5]], given)
    good = weights > 0
    assert 4 <= np.count_nonzero(~good[0, 40:60, 50:70]) <= 20
    assert np.abs(moved - sample)[good].max() <= 0.05 * np.ptp(sample)


def test_nothing_is_modified():
    reference, sample = _drifted((0.5, 0.5), positions=2)
    copies = reference.copy(), sample.copy()
    correct_drift(reference, measure_drift(reference, sample))
    assert np.array_equal(reference, copies[0])
    assert np.array_equal(sample, copies[1])


def test_what_cannot_be_registered():
    reference, _ = _drifted((0, 0), positions=1)
    moved = np.roll(reference, 40, axis=2)
    for call, code in [
        (lambda: measure_drift(reference, moved), "drift-undetermined"),
        (lambda: measure_drift(reference, reference, np.zeros(reference.shape)), "drift-undetermined"),
        (lambda: measure_drift(np.ones((1, 60, 70)), np.ones((1, 60, 70))), "drift-undetermined"),
        (lambda: measure_drift(reference, reference, rows=(0, 500)), "box-outside"),
        (lambda: correct_drift(reference, [1.0, 2.0]), "shape-mismatch"),
        (lambda: correct_drift(-reference, [[1.0, 2.0]]), "drift-undetermined"),
    ]:
        with pytest.raises(xmist.InputError) as caught:
            call()
        assert caught.value.codes == (code,)
