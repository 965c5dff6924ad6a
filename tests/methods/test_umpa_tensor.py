"""Directional dark-field of `umpa`: frames blurred by known Gaussians, symmetries, weights, bad input."""

import numpy as np
import pytest
import scipy.ndimage as ndi

import xmist
from tests.manufactured import EXPERIMENT
from xmist.core import flags as flag
from xmist.methods import make_options
from xmist.numerics.matching import directional
from xmist.numerics.matching.directional import blur_covariance
from xmist.numerics.matching.match import Window

P, DISTANCE = EXPERIMENT.effective_pixel, EXPERIMENT.effective_distance
PER_PIXEL2 = P**2 / (2 * DISTANCE)  # D in m of a covariance of 1 pixel²
SHAPE = (64, 72)
INSIDE = np.s_[:, 14:-14, 14:-14]


def speckle(number, seed=0, shape=SHAPE, grain=2.0):
    """Periodic speckle of contrast 0.25."""
    rng = np.random.default_rng(seed)
    frames = [ndi.gaussian_filter(rng.normal(size=shape), grain, mode="wrap") for _ in range(number)]
    return np.exp(0.25 * np.stack(frames) / np.std(frames))


def blurred(frames, covariance, shift=(0.0, 0.0)):
    """Frames blurred by exp(−κᵀΣκ/2) and moved, by their Fourier series."""
    ky, kx = (2 * np.pi * np.fft.fftfreq(size) for size in frames.shape[1:])
    ky = ky[:, None]
    xx, xy, yy = covariance
    exponent = -0.5 * (xx * kx**2 + 2 * xy * kx * ky + yy * ky**2) - 1j * (kx * shift[0] + ky * shift[1])
    return np.fft.ifft2(np.fft.fft2(frames) * np.exp(exponent)).real


def retrieve(reference, sample, weights=None, **options):
    options = {"dark_field": "tensor", "window": 9, "max_shift": 2} | options
    return xmist.retrieve(
        xmist.SpeckleStack(reference, sample, weights), EXPERIMENT, method="umpa", **options
    )


@pytest.mark.parametrize("number", [1, 4])
@pytest.mark.parametrize(
    ("covariance", "limit"),
    [
        ((0.0, 0.0, 0.0), 0.002),
        ((0.3, 0.1, 0.2), 0.002),
        ((1.0, 0.0, 0.0), 0.01),
        ((2.0, -0.5, 1.0), 0.06),
        # Of the negative part the term of second order, Σ²κ⁴/8, is missing: κ² ≈ 1/4 makes 0.003.
        ((-0.1, 0.0, 0.3), 0.005),
    ],
)
def test_covariance_of_a_gaussian(covariance, limit, number):
    """Four Gauss–Hermite nodes have E z⁸ = 81 for 105: Σ⁴κ⁸/1680 of the contrast, at κ = 1 1 % for Σ = 2."""
    reference = speckle(number)
    sample = 0.7 * blurred(reference, covariance, (0.37, -1.2))
    near = np.broadcast_to(np.array([0.36, -1.2], np.float32)[:, None, None], (2, *SHAPE))
    found = blur_covariance(np.float32(reference), np.float32(sample), near, Window(9))
    error = found[INSIDE] - np.array(covariance)[:, None, None]
    assert np.sqrt(np.mean(error**2)) <= limit


@pytest.mark.parametrize("mistake", ["none", "nodes", "half of xy"])
def test_a_mistake_is_seen(mistake, monkeypatch):
    if mistake == "nodes":
        monkeypatch.setattr(directional, "_NODES", 1.05 * directional._NODES)
    elif mistake == "half of xy":
        kinds = [(kind, 0.5 if n == 1 else factor) for n, (kind, factor) in enumerate(directional._KINDS)]
        monkeypatch.setattr(directional, "_KINDS", kinds)
    reference = speckle(3)
    sample = blurred(reference, (0.5, 0.2, 0.3))
    found = blur_covariance(
        np.float32(reference), np.float32(sample), np.zeros((2, *SHAPE), np.float32), Window(9)
    )
    error = np.abs(found[INSIDE] - np.array([0.5, 0.2, 0.3])[:, None, None]).max()
    assert (error <= 0.005) == (mistake == "none")


def test_tensor_in_metres():
    reference = speckle(4)
    sample = 0.7 * blurred(reference, (0.4, 0.15, 0.2), (0.6, -0.3))
    result = retrieve(reference, sample)
    error = result.dark_field_tensor[INSIDE] / PER_PIXEL2 - np.array([0.4, 0.15, 0.2])[:, None, None]
    # u is wrong by up to 0.04 pixels at first, of which three half steps leave an eighth.
    assert np.sqrt(np.mean(error**2)) <= 0.008
    tensor = result.dark_field_tensor
    assert np.array_equal(result.dark_field, (tensor[0] + tensor[2]) / 2)
    assert np.abs(result.transmission[14:-14, 14:-14] - 0.7).max() <= 0.01


def test_fine_structure_of_the_transmission_is_no_scatter():
    """T that changes from pixel to pixel: with one T for a window Σ would be wrong by tenths."""
    reference = speckle(4)
    fine = 1 + 0.05 * ndi.gaussian_filter(np.random.default_rng(9).normal(size=SHAPE), 0.7) / 0.4
    sample = fine * blurred(reference, (0.4, 0.0, 0.1))
    found = blur_covariance(
        np.float32(reference), np.float32(sample), np.zeros((2, *SHAPE), np.float32), Window(9)
    )
    assert np.sqrt(np.mean((found[INSIDE] - np.array([0.4, 0, 0.1])[:, None, None]) ** 2)) <= 0.03


def test_identical_frames():
    reference = speckle(3)
    result = retrieve(reference, reference)
    assert np.abs(result.dark_field_tensor[INSIDE]).max() <= 0.005 * PER_PIXEL2  # u is good to 3e-3
    assert "identical-frames" in [finding.code for finding in result.findings]


def scattering():
    """Frames whose left and right halves scatter differently."""
    reference = speckle(4, 3)
    part = 1 / (1 + np.exp(-(np.arange(SHAPE[1]) - 36) / 3.0))
    one, other = (blurred(reference, covariance) for covariance in ((0.6, 0.2, 0.1), (0.05, 0.0, 0.3)))
    return reference, (1 - part) * one + part * other


TURNS = {
    "flip x": (lambda image: image[..., ::-1], lambda t: t * np.array([1, -1, 1])[:, None, None]),
    "flip y": (lambda image: image[..., ::-1, :], lambda t: t * np.array([1, -1, 1])[:, None, None]),
    "transpose": (lambda image: np.swapaxes(image, -1, -2), lambda t: t[::-1]),
    "quarter turn": (
        lambda image: np.rot90(image, axes=(-2, -1)),
        lambda t: t[::-1] * np.array([1, -1, 1])[:, None, None],
    ),
}


@pytest.mark.parametrize("turn", TURNS)
def test_flips_and_quarter_turns(turn):
    reference, sample = scattering()
    moved, turned = TURNS[turn]
    plain = retrieve(reference, sample, integrator="dct")
    found = retrieve(np.ascontiguousarray(moved(reference)), np.ascontiguousarray(moved(sample)))
    expected = turned(moved(plain.dark_field_tensor))
    # float32 sums in another order; a minimum is found to 0.03² half pixels.
    assert np.abs(found.dark_field_tensor - expected)[INSIDE].max() <= 0.005 * PER_PIXEL2


@pytest.mark.parametrize("value", [np.nan, 0.0, 1e9])
def test_weight_zero_has_no_influence(value):
    reference, sample = scattering()
    weights = np.random.default_rng(1).uniform(0.5, 1.0, reference.shape)
    weights[:2, 20:24, 30:33] = 0
    weights[:, 50:52, 40:60] = 0
    clean = retrieve(reference, sample, weights)
    spoiled = [frames.copy() for frames in (reference, sample)]
    for frames in spoiled:
        frames[weights == 0] = value
    result = retrieve(*spoiled, weights)
    for name, image in clean.channels():
        assert np.array_equal(image, getattr(result, name), equal_nan=True), name


def test_weights_choose_between_frames():
    """Two frames of other blurs: the weights say which is right."""
    reference = speckle(4, 5)
    sample = np.concatenate([blurred(reference[:2], (0.5, 0, 0)), blurred(reference[2:], (0, 0, 0.5))])
    for chosen, expected in ((slice(0, 2), (0.5, 0, 0)), (slice(2, 4), (0, 0, 0.5))):
        weights = np.full(reference.shape, 1e-4)
        weights[chosen] = 1
        tensor = retrieve(reference, sample, weights).dark_field_tensor / PER_PIXEL2
        assert np.sqrt(np.mean((tensor[INSIDE] - np.array(expected)[:, None, None]) ** 2)) <= 0.02


def test_what_nothing_determines():
    reference, sample = scattering()
    weights = np.ones(reference.shape)
    weights[:, 10:50, 10:50] = 0
    result = retrieve(reference, sample, weights)
    lost = (result.flags & flag.UNDETERMINED) > 0
    assert lost[30, 30]
    assert np.array_equal(np.isnan(result.dark_field_tensor).any(axis=0), lost)


def test_background_is_the_zero():
    reference, _ = scattering()
    result = retrieve(reference, blurred(reference, (0.2, 0.05, 0.1)), background=(20, 40, 20, 40))
    assert np.abs(result.dark_field_tensor[:, 20:40, 20:40].mean(axis=(1, 2))).max() <= 1e-3 * PER_PIXEL2


def test_threads_do_not_change_a_bit():
    reference, sample = (np.tile(frames, (1, 2, 1))[:2] for frames in scattering())  # two blocks of rows
    one, two = (retrieve(reference, sample, threads=threads) for threads in (1, 2))
    assert one.dark_field_tensor.tobytes() == two.dark_field_tensor.tobytes()


def test_only_umpa_has_a_tensor():
    with pytest.raises(xmist.InputError) as caught:
        make_options("xsvt", {"dark_field": "tensor"})
    assert caught.value.codes == ("option-invalid",)
