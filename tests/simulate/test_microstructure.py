import numpy as np
import pytest
import scipy.ndimage as ndi

import xmist
from tests.coded import coded
from xmist import simulate
from xmist.simulate.grid import Grid
from xmist.simulate.microstructure import check_screen, dark_field_tensor, gaussian_field
from xmist.simulate.propagation import fresnel

# Samples of 1 µm: ∆/k is 4.9 µm², so that an angle of 8 µrad (a blur of 4 samples) turns 0.8 rad a sample.
EXPERIMENT = xmist.Experiment(energy_kev=20.0, pixel_size=1e-6, sample_to_detector=0.5)
K, DISTANCE, PIXEL, SIZE = EXPERIMENT.wavenumber, 0.5, 1e-6, 512
GRID = Grid(shape=(SIZE, SIZE), pixel=PIXEL)
BEAM = {"wavelength": EXPERIMENT.wavelength, "pixel_size": PIXEL}


@pytest.fixture(scope="module")
def arriving():
    """A periodic wave at the sample, which makes speckles of 20 samples and visibility 0.3."""
    field = gaussian_field(GRID.shape, across=15.0, along=15.0, direction=0.0, rng=np.random.default_rng(1))
    return fresnel(np.exp(1.7j * field.astype(np.float64)), distance=1.0, **BEAM)


def _intensity(wave):
    return np.abs(fresnel(wave, distance=DISTANCE, **BEAM)) ** 2


def _loss(arriving, screen, draws):
    """Return −ln of the speckles' mean visibility at each frequency, with its weight and the frequencies."""
    reference = np.fft.fft2(_intensity(arriving) - 1.0)
    total = np.zeros_like(reference)
    for draw in range(draws):
        phase = screen.phase(GRID, wavenumber=K, rng=np.random.default_rng(draw)).astype(np.float64)
        for sign in (1.0, -1.0):  # the granular contrast is odd in the phase, the blur is even
            total += np.fft.fft2(_intensity(arriving * np.exp(sign * 1j * phase)) - 1.0) / (2 * draws)
    weight = np.abs(reference) ** 2
    kappa = 2 * np.pi * np.fft.fftfreq(SIZE, PIXEL)
    ky, kx = np.meshgrid(kappa, kappa, indexing="ij")
    use = (weight > 0.02 * weight.max()) & (ky**2 + kx**2 > 0)
    visibility = (total * reference.conj()).real[use] / weight[use]
    return -np.log(np.clip(visibility, 0.02, None)), weight[use], ky[use], kx[use]


@pytest.mark.parametrize(("angle", "draws"), [(0.8e-6, 16), (2.5e-6, 8), (8e-6, 8)])
def test_speckles_blur_by_the_distance_times_the_angle(arriving, angle, draws):
    screen = simulate.Screen(angle=angle, correlation_length=3e-6)
    assert check_screen(screen, wavenumber=K, distance=DISTANCE, pixel=PIXEL, sample=PIXEL, grain=20e-6) == (
        [],
        [],
    )
    loss, weight, ky, kx = _loss(arriving, screen, draws)
    kappa2 = ky**2 + kx**2
    sigma = np.sqrt(2 * (weight * kappa2 * loss).sum() / (weight * kappa2**2).sum())
    assert abs(sigma / (DISTANCE * angle) - 1.0) <= 0.05
    truth = dark_field_tensor([screen], GRID, distance=DISTANCE)
    assert np.array_equal(truth[0], truth[2])
    assert np.isclose(np.sqrt(2 * DISTANCE * truth[0, 0, 0]), DISTANCE * angle, atol=0)


@pytest.mark.parametrize("direction", [0.0, 35.0, 120.0])
def test_oriented_structure_blurs_across_its_fibres(arriving, direction):
    screen = simulate.Screen(angle=5e-6, correlation_length=3e-6, direction=direction, anisotropy=0.8)
    loss, weight, ky, kx = _loss(arriving, screen, 32)
    # −ln V = ½ ∆² κᵀ⟨θθᵀ⟩κ: three unknowns by weighted least squares.
    columns = 0.5 * DISTANCE**2 * np.stack([kx**2, 2 * kx * ky, ky**2], axis=1)
    root = np.sqrt(weight)
    xx, xy, yy = np.linalg.lstsq(columns * root[:, None], loss * root, rcond=None)[0]
    values, vectors = np.linalg.eigh([[xx, xy], [xy, yy]])
    major = np.degrees(np.arctan2(vectors[1, 1], vectors[0, 1]))
    across = (major - direction) % 180.0
    assert abs(across - 90.0) <= 2.0
    # 5 % of each of the two blurs is 0.1 of their difference over their sum at most.
    assert abs((values[1] - values[0]) / values.sum() - 0.8) <= 0.1
    truth = dark_field_tensor([screen], GRID, distance=DISTANCE)[:, 0, 0]
    mixed = np.array([[truth[0], truth[1]], [truth[1], truth[2]]])
    assert np.isclose(np.linalg.eigvalsh(mixed)[1], 0.5 * DISTANCE * 25e-12, atol=0)
    assert np.abs(np.array([xx, xy, yy]) * 0.5 * DISTANCE - truth).max() <= 0.1 * truth.max()  # 5 % of a σ


def test_draws_agree_with_the_model_in_the_mean(arriving):
    """Weak structure of varying strength: 60 draws against (M), as a slope of one on the other.

    As a detector sees it, of a point spread of 5 samples: (M) stops at the second derivative, and the finest
    detail of the speckles is at its limits. The slope's standard error over these draws is 1.5 %.
    """
    wave = np.cos(2 * np.pi * np.arange(SIZE) / SIZE)
    screen = simulate.Screen(angle=1.5e-6 * np.sqrt(1 + 0.6 * wave[:, None] * wave), correlation_length=4e-6)
    reference = _intensity(arriving)
    model = simulate.transported(
        reference,
        wavenumber=K,
        distance=DISTANCE,
        pixel=PIXEL,
        dark_field=dark_field_tensor([screen], GRID, distance=DISTANCE),
    )
    mean = np.zeros(GRID.shape)
    for draw in range(30):
        phase = screen.phase(GRID, wavenumber=K, rng=np.random.default_rng([draw, 7])).astype(np.float64)
        for sign in (1.0, -1.0):
            mean += _intensity(arriving * np.exp(sign * 1j * phase)) / 60
    change, expected = (ndi.gaussian_filter(i - reference, 5.0, mode="wrap") for i in (mean, model))
    assert abs((change * expected).sum() / (expected**2).sum() - 1.0) <= 0.05


def test_field_has_the_stated_correlation():
    # The second derivative of the correlation exp(−r²/(2ℓ²)) at 0 is −1/ℓ²; a mean over some 1000 independent
    # cells is good to about 5 %, over the four draws to 3 %.
    slopes = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        field = gaussian_field((256, 320), across=4.0, along=8.0, direction=90.0, rng=rng)
        assert abs(field.var() - 1.0) <= 0.2
        slopes.append([np.gradient(field, axis=1).var(), np.gradient(field, axis=0).var()])
    along_x, along_y = np.mean(slopes, axis=0)
    # np.gradient sees sin(κ)/κ of a slope: 1 − 1/ℓ² of its power, to first order.
    assert abs(along_x * 16.0 * (1 + 1 / 16) - 1.0) <= 0.08
    assert abs(along_y * 64.0 * (1 + 1 / 64) - 1.0) <= 0.16


@pytest.mark.parametrize("threads", [2, 8])
def test_draw_does_not_depend_on_threads(threads):
    screen = simulate.Screen(angle=2e-6, correlation_length=3e-6, direction=20.0, anisotropy=0.5)
    grid = Grid(shape=(150, 203), pixel=1e-6)
    one, more = (
        screen.phase(grid, wavenumber=K, rng=np.random.default_rng(3), workers=workers)
        for workers in (1, threads)
    )
    assert np.array_equal(one, more)


def test_strength_is_a_map_over_the_field():
    angle = np.zeros((4, 6))
    angle[1:3, 2:4] = 3e-6
    screen = simulate.Screen(angle=angle, correlation_length=2e-6)
    grid = Grid(shape=(80, 120), pixel=1e-6)
    phase = screen.phase(grid, wavenumber=K, rng=np.random.default_rng(1))
    assert np.all(phase[:10] == 0.0)
    assert phase[30:50, 50:70].std() > 0.1
    # Linear between pixels: the middle has the full strength, and nothing is above it.
    assert np.isclose(screen.strength(grid)[40, 60], 3e-6, atol=0)
    assert screen.strength(grid).max() <= 3e-6 * (1 + 1e-12)


def test_conditions_are_told():
    beam = {"wavenumber": K, "distance": DISTANCE, "pixel": 4e-6, "sample": 1e-6}
    errors, _ = check_screen(simulate.Screen(angle=1e-6, correlation_length=1e-6), **beam, grain=2e-5)
    assert len(errors) == 1
    assert "expected at least 1.25 samples: use an oversampling of 5" in errors[0].message
    errors, _ = check_screen(simulate.Screen(angle=2e-5, correlation_length=3e-6), **beam, grain=2e-5)
    assert "expected π at most: use an oversampling of" in errors[0].message
    steep, _ = check_screen(
        simulate.Screen(angle=1e-6, correlation_length=3e-6), **beam, grain=2e-5, turn=1.0
    )
    assert len(steep) == 1  # a diffuser so strong leaves no room
    _, findings = check_screen(simulate.Screen(angle=1e-6, correlation_length=2e-5), **beam, grain=2e-5)
    assert findings[0].code == "structure-resolved"
    far = beam | {"distance": 5.0}
    _, findings = check_screen(simulate.Screen(angle=1e-6, correlation_length=2e-6), **far, grain=2e-5)
    assert findings[0].code == "structure-saturated"


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"angle": -1e-6}, "angle"),
        ({"angle": np.zeros(3)}, "angle"),
        ({"correlation_length": 0.0}, "correlation_length"),
        ({"anisotropy": 0.5}, "direction"),
        ({"anisotropy": 1.0, "direction": 0.0}, "anisotropy"),
    ],
)
def test_bad_screens(wrong, name):
    with pytest.raises(xmist.InputError, check=coded("value-invalid", names=[name])):
        simulate.Screen(**({"angle": 1e-6, "correlation_length": 2e-6} | wrong))
