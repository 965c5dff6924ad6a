"""Model (M) of METHODS.md against wave optics: one order of ε, and one sign, for simulator and methods."""

import numpy as np
import pytest
import scipy.ndimage as ndi

import xmist
from xmist.numerics.operators.transport import PSI, Transport
from xmist.simulate.propagation import fresnel

# A quarter of the paper's pixel: (M) is a statement about what the wave's grid resolves.
PIXEL = 1.45e-6
SIZE = 512
GRAIN, RMS_PHASE, UPSTREAM = 23e-6, 1.0, 0.5
INSIDE = (slice(16, -16),) * 2


@pytest.fixture(scope="module")
def incident():
    """The wave at the sample. Its diffuser is periodic, as the field is: no border refracts."""
    sigma = GRAIN / (4 * np.sqrt(np.log(2))) / PIXEL
    phase = ndi.gaussian_filter(np.random.default_rng(1).normal(size=(SIZE, SIZE)), sigma, mode="wrap")
    diffuser = np.exp(1j * RMS_PHASE / phase.std() * phase)
    return fresnel(diffuser, wavelength=_at(1.0).wavelength, pixel_size=PIXEL, distance=UPSTREAM)


@pytest.fixture(scope="module")
def phase():
    """Two lumps of matter, so negative; they refract by a few hundredths of a pixel at most."""
    at = (np.arange(SIZE) - (SIZE - 1) / 2) * PIXEL
    y, x = at[:, None], at[None, :]
    first = np.exp(-(x**2 + y**2) / (2 * 60e-6**2))
    second = np.exp(-((x - 90e-6) ** 2 + (y + 60e-6) ** 2) / (2 * 48e-6**2))
    return -4.0 * (first + 0.6 * second)


def _at(distance):
    return xmist.Experiment(energy_kev=17.0, pixel_size=PIXEL, sample_to_detector=distance)


def _intensity(incident, phase, distance):
    wave = incident * np.exp(1j * phase)
    wave = fresnel(wave, wavelength=_at(distance).wavelength, pixel_size=PIXEL, distance=distance)
    return np.abs(wave) ** 2


def _parts(incident, phase, epsilon, distance):
    """Reference, and the even and odd part in ε of what the sample makes of it."""
    reference, plus, minus = (_intensity(incident, e * phase, distance) for e in (0.0, epsilon, -epsilon))
    return reference, (plus + minus) / 2 - reference, (plus - minus) / 2


def _model(reference, phase, distance):
    """Return −(∆/k) ∇·(I_R ∇φ) by the operator that the methods invert."""
    experiment = _at(distance)
    psi = phase * distance / (experiment.wavenumber * PIXEL**2)
    return Transport(frames=reference[None], kinds=(PSI,)).forward(psi[None])[0]


def _error(incident, phase, epsilon, distance):
    reference, _, odd = _parts(incident, phase, epsilon, distance)
    model = _model(reference, epsilon * phase, distance)
    return np.linalg.norm((odd - model)[INSIDE]) / np.linalg.norm(model[INSIDE])


def test_even_part_is_of_second_order(incident, phase):
    epsilons = np.array([0.05, 0.1, 0.2, 0.4])
    even = [np.linalg.norm(_parts(incident, phase, e, 0.25)[1]) for e in epsilons]
    slope = np.polyfit(np.log(epsilons), np.log(even), 1)[0]
    assert abs(slope - 2.0) <= 0.1


def test_odd_part_is_the_model(incident, phase):
    reference, _, odd = _parts(incident, phase, 0.1, 0.25)
    assert 0.2 <= reference.std() / reference.mean() <= 0.3
    model = _model(reference, 0.1 * phase, 0.25)
    assert np.linalg.norm((odd - model)[INSIDE]) <= 0.03 * np.linalg.norm(model[INSIDE])
    # The slope of one on the other: a wrong sign, factor of 2 or unit would show here at once.
    slope = (odd * model)[INSIDE].sum() / (model**2)[INSIDE].sum()
    assert abs(slope - 1.0) <= 0.01


def test_what_is_left_is_diffraction(incident, phase):
    near, far = (_error(incident, phase, 0.1, distance) for distance in (0.05, 0.25))
    # Linear in ∆ at first, so five times smaller; half of that is asked for.
    assert near <= far / 2.5
    # Linear in φ, like the signal: no smaller phase would remove it.
    assert abs(_error(incident, phase, 0.2, 0.25) - far) <= 0.01 * far


@pytest.mark.parametrize("axis", [0, 1])
def test_speckles_move_along_the_phase_gradient(incident, axis):
    """A phase of 8 turns across the periodic field moves it by exactly u = (∆/k)∇φ = 3 pixels."""
    ramp = 2 * np.pi * 8 / SIZE * np.arange(SIZE)
    ramp = ramp[:, None] if axis == 0 else ramp[None, :]
    distance = 3 * SIZE * PIXEL**2 / (8 * _at(1.0).wavelength)
    reference = _intensity(incident, 0.0, distance)
    moved = _intensity(incident, ramp, distance)
    # Exact but for the highest 8 of 256 frequencies, which the ramp folds over; the wave has 1e-5 there.
    assert np.abs(moved - np.roll(reference, 3, axis)).max() <= 1e-4 * reference.max()
