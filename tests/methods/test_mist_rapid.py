import numpy as np
import pytest
import scipy.ndimage as ndi

import xmist
from tests.implicit import (
    PHASE,
    SCATTER,
    SHAPE,
    cosine_gradient,
    dx,
    dy,
    psi,
    references,
    relative,
    scatter,
    transmission,
)
from tests.manufactured import EXPERIMENT, blob, laplacian2, laplacian6
from xmist.core import flags as flag
from xmist.core.findings import warnings_of
from xmist.methods import make_options
from xmist.methods.common.phase import screening_length2
from xmist.numerics.solvers.blend import blend
from xmist.numerics.solvers.integrate import integrate

GAMMA = 400.0
LENGTH2 = screening_length2(EXPERIMENT, GAMMA)


def _retrieve(reference, sample, **options):
    return xmist.retrieve(xmist.SpeckleStack(reference, sample), EXPERIMENT, method="mist-rapid", **options)


def _frames(first, blur, gradient=None, positions=12):
    """Frames of eq. (1), I_R − I_S = I_R x_0 − x_1 ∇²I_R − 2 x_2 ∂_xI_R − 2 x_3 ∂_yI_R."""
    x2, x3 = cosine_gradient(blur) if gradient is None else gradient
    reference = references(positions)
    sample = [r - r * first + blur * laplacian6(r) + 2 * x2 * dx(r) + 2 * x3 * dy(r) for r in reference]
    return reference, np.stack(sample)


def _phase_object(mistake=None):
    first = laplacian2(psi()) - laplacian2(scatter())
    x2, x3 = cosine_gradient(scatter())
    gradient = {
        "∂x and ∂y swapped": (x3, x2),
        "sign of the gradient": (-x2, -x3),
        "gradient twice": (2 * x2, 2 * x3),
    }.get(mistake, (x2, x3))
    if mistake == "∇²D forgotten":
        first = laplacian2(psi())
    return _frames(first, scatter(), gradient)


WAYS = [
    {},
    {"combine": "fourier"},
    {"crossover": 5},
    {"combine": "fourier", "crossover": 5},
    {"crossover": 0},
]


@pytest.mark.parametrize("options", WAYS)
def test_manufactured_frames_come_back(options):
    result = _retrieve(*_phase_object(), **options)
    assert relative(result.phase, PHASE * psi()) <= 1e-5
    assert relative(result.dark_field, SCATTER * scatter()) <= 1e-5
    assert not result.flags.any()
    assert warnings_of(result.findings) == ()
    assert result.transmission is None


@pytest.mark.parametrize(
    "mistake", ["∂x and ∂y swapped", "sign of the gradient", "gradient twice", "∇²D forgotten"]
)
def test_a_wrong_reading_is_noticed(mistake):
    result = _retrieve(*_phase_object(mistake), crossover=5)
    errors = relative(result.phase, PHASE * psi()), relative(result.dark_field, SCATTER * scatter())
    assert max(errors) > 0.02


@pytest.mark.parametrize("combine", ["screened", "fourier"])
def test_single_material(combine):
    t = transmission()
    blur = t * scatter()
    first = 1 - t + LENGTH2 * laplacian2(t) - laplacian2(blur)
    reference, sample = _frames(first, blur)
    result = _retrieve(reference, sample, delta_over_beta=GAMMA, combine=combine)
    assert relative(result.transmission, t) <= 1e-5
    assert relative(result.dark_field, SCATTER * scatter()) <= 1e-5
    assert relative(result.phase, 0.5 * GAMMA * np.log(t)) <= 1e-5
    published = _retrieve(reference, sample, delta_over_beta=GAMMA, combine=combine, published=True)
    # The trap: 1 − T is taken for ∇²φ, and phase and transmission are wrong by factors.
    assert relative(published.phase, 0.5 * GAMMA * np.log(t)) > 1
    assert np.allclose(published.transmission, np.exp(2 * published.phase / GAMMA), rtol=1e-4)
    assert relative(published.dark_field, SCATTER * blur) <= 1e-5


def _mirrored(value, x2, x3, length2, parity):
    """The paper's blend, by a complex FFT of the image mirrored to double its size."""

    def extend(image, odd_x, odd_y):
        wide = np.concatenate([image, (-1 if odd_x else 1) * image[:, ::-1]], axis=1)
        return np.concatenate([wide, (-1 if odd_y else 1) * wide[::-1]], axis=0)

    height, width = value.shape
    value = extend(value, False, False)
    vector = extend(x2, *parity[0]) + 1j * extend(x3, *parity[1])
    ky, kx = np.meshgrid(*(2 * np.pi * np.fft.fftfreq(size) for size in value.shape), indexing="ij")
    divisor = 1j * kx - ky
    divisor[0, 0] = 1
    low = np.exp(-length2 * (kx**2 + ky**2))
    both = low * np.fft.fft2(value) + (1 - low) * np.fft.fft2(vector) / divisor
    return np.fft.ifft2(both).real[:height, :width]


@pytest.mark.parametrize(
    ("mistake", "parity"),
    [
        (None, ((True, False), (False, True))),
        ("both even", ((False, False), (False, False))),
        ("both odd in both", ((True, True), (True, True))),
        ("odd in the other", ((False, True), (True, False))),
    ],
)
def test_blend_is_the_papers_with_the_right_mirrors(mistake, parity):
    # ∂x of an image that is even at its border is odd in x and even in y; a bump near the border shows it.
    image = blob(SHAPE, 0.1, 0.5, 0.3) + blob(SHAPE, 0.5, 0.95, 0.2)
    x2, x3 = cosine_gradient(image)
    length2 = 200.0
    right = blend(image, np.stack([x2, x3]), length2, by="gaussian")
    mirrored = _mirrored(image, x2, x3, length2, parity)
    assert np.abs(right - image).max() <= 1e-12
    if mistake is None:
        assert np.abs(mirrored - right).max() <= 1e-12
    else:
        assert np.abs(mirrored - right).max() > 0.2
    # Noise that is no gradient does not matter either.
    rng = np.random.default_rng(1)
    noise = rng.normal(size=(3, *SHAPE))
    same = np.abs(
        _mirrored(noise[0], noise[1], noise[2], length2, parity)
        - blend(noise[0], noise[1:], length2, by="gaussian")
    ).max()
    assert same <= 0.02 if mistake is None else same > 0.1


def test_ways_to_combine_differ_by_their_weights():
    rng = np.random.default_rng(2)
    value, gradient = rng.normal(size=SHAPE), rng.normal(size=(2, *SHAPE))
    wave = np.cos(np.pi * 6 * (np.arange(SHAPE[1]) + 0.5) / SHAPE[1]) * np.ones((SHAPE[0], 1))
    kappa2 = (np.pi * 6 / SHAPE[1]) ** 2
    nothing = np.zeros((2, *SHAPE))
    for by, weight in (("gaussian", np.exp(-2 / kappa2 * kappa2)), ("screened", 1 / 3)):
        assert np.allclose(blend(wave, nothing, 2 / kappa2, by=by), weight * wave)
        assert np.allclose(blend(value, gradient, 0.0, by=by), value)
        assert np.allclose(blend(value, gradient, 1e9, by=by) - value.mean(), integrate(gradient), atol=1e-6)


def test_screened_blend_is_least_squares():
    # |u − v|² + ℓ²|∇u − g|² is stationary at it: no direction changes it to first order.
    rng = np.random.default_rng(3)
    value, gradient, other = rng.normal(size=(9, 14)), rng.normal(size=(2, 9, 14)), rng.normal(size=(9, 14))
    found = blend(value, gradient, 3.0)
    residual = np.stack(cosine_gradient(found)) - gradient
    slope = ((found - value) * other).sum() + 3.0 * (residual * np.stack(cosine_gradient(other))).sum()
    assert abs(slope) <= 1e-10


@pytest.mark.parametrize("smoothing", [0.0, 1.0])
def test_phase_is_least_squares_with_the_blended_dark_field(smoothing):
    # ∇²ψ = ⟨I_R (I_R − I_S + d∇²I_R + 2∇d·∇I_R)⟩/⟨I_R²⟩ + ∇²d, averaged over the exposures.
    reference, sample = _phase_object()
    noisy = sample + 2e-3 * np.random.default_rng(4).normal(size=sample.shape)
    result = _retrieve(reference, noisy, crossover=3, smoothing=smoothing)
    d = result.dark_field.astype(float) / SCATTER
    ux, uy = cosine_gradient(d)

    def averaged(image):
        return ndi.gaussian_filter(image, smoothing, mode="reflect") if smoothing else image

    right = sum(
        averaged(r * (r - s))
        + d * averaged(r * laplacian6(r))
        + 2 * (ux * averaged(r * dx(r)) + uy * averaged(r * dy(r)))
        for r, s in zip(reference, noisy, strict=True)
    )
    left = sum(averaged(r**2) for r in reference)
    expected = right / left + laplacian2(d)
    found = laplacian2(result.phase.astype(float) / PHASE)
    assert relative(found, expected - expected.mean()) <= 1e-3


def test_crossover_is_the_ratio_of_the_noise():
    reference, sample = _phase_object()
    slope2 = sum((dx(r) ** 2 + dy(r) ** 2).mean() for r in reference)
    curvature2 = sum((laplacian6(r) ** 2).mean() for r in reference)
    result = _retrieve(reference, sample)
    # Noise of d and of ∂d along an axis: 1/Σ(∇²I_R)² and 1/Σ(2∂I_R)², of which the mean of both axes counts.
    assert abs(result.provenance["crossover"] / np.sqrt(2 * slope2 / curvature2) - 1) <= 1e-4


def test_blending_lowers_the_noise_of_the_dark_field():
    reference, sample = _phase_object()
    noisy = sample + 2e-3 * np.random.default_rng(4).normal(size=sample.shape)
    exact = SCATTER * scatter()
    errors = {
        crossover: relative(_retrieve(reference, noisy, crossover=crossover).dark_field, exact)
        for crossover in (0, None, 30)
    }
    assert errors[None] < 0.7 * errors[0]
    assert errors[None] < errors[30]


def test_error_falls_with_the_term_that_it_drops():
    # Of eq. (M) it drops ∇I_R·∇ψ alone; the method is linear, so is its error.
    reference, sample = _phase_object()
    ux, uy = cosine_gradient(psi())
    dropped = np.stack([ux * dx(r) + uy * dy(r) for r in reference])
    errors = []
    for part in (0.1, 0.05, 0.025):
        result = _retrieve(reference, sample - part * dropped)
        errors.append(relative(result.dark_field, SCATTER * scatter()))
    assert np.allclose(np.divide(errors[:2], errors[1:]), 2, rtol=1e-3)


def test_positive_clips_and_flags():
    reference, sample = _phase_object()
    noisy = sample + 5e-3 * np.random.default_rng(5).normal(size=sample.shape)
    signed, clipped = _retrieve(reference, noisy), _retrieve(reference, noisy, positive=True)
    negative = signed.dark_field < 0
    assert negative.any()
    assert np.array_equal((clipped.flags & flag.CLIPPED) > 0, negative)
    assert np.array_equal(clipped.dark_field, np.where(negative, 0, signed.dark_field))


def test_smoothing_keeps_smooth_solutions():
    plain = _retrieve(*_phase_object())
    smooth = _retrieve(*_phase_object(), smoothing=2.0)
    # A Gaussian of σ = 2 lowers bumps of radius 0.12 · 60 pixels by about σ²/r² = 8 %.
    assert relative(smooth.dark_field, plain.dark_field) <= 0.1


def test_transmission_at_or_below_zero_is_flagged():
    reference = references(6)
    sample = reference.copy()
    sample[:, 20:40, 30:60] *= -1
    result = _retrieve(reference, sample, delta_over_beta=0.1)
    low = (result.flags & flag.NOT_POSITIVE) > 0
    assert low[24:36, 34:56].all()
    assert np.array_equal(np.isnan(result.dark_field), low)


def test_wrong_options():
    for options, codes in (
        (
            {"combine": "both", "published": True, "crossover": -1},
            ("option-invalid", "option-invalid", "option-conflict"),
        ),
        ({"delta_over_beta": 100, "cutoff_length": 1e-3}, ("option-conflict",)),
    ):
        with pytest.raises(xmist.InputError) as caught:
            make_options("mist-rapid", options)
        assert caught.value.codes == codes
