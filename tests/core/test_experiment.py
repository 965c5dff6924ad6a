import math

import pytest
from scipy import constants

import xmist
from tests.coded import coded


def test_parallel_beam():
    experiment = xmist.Experiment(energy_kev=17.0, pixel_size=5.8e-6, sample_to_detector=1.0)
    wavelength = constants.value("Planck constant in eV/Hz") * constants.c / 17e3
    assert math.isclose(experiment.wavelength, wavelength, rel_tol=1e-9)
    assert math.isclose(experiment.wavenumber, 2 * math.pi / wavelength, rel_tol=1e-9)
    assert experiment.magnification == 1.0
    assert experiment.effective_pixel == 5.8e-6
    assert experiment.effective_distance == 1.0


def test_cone_beam_scales_pixel_and_distance():
    experiment = xmist.Experiment(
        energy_kev=8.04, pixel_size=75e-6, sample_to_detector=0.8, source_to_sample=0.2
    )
    assert math.isclose(experiment.magnification, 5.0)
    assert math.isclose(experiment.effective_pixel, 15e-6)
    assert math.isclose(experiment.effective_distance, 0.16)


def test_all_errors_at_once_with_advice():
    with pytest.raises(xmist.InputError) as caught:
        xmist.Experiment(energy_kev=17000, pixel_size=5.8, sample_to_detector=-1, source_to_sample="far")
    assert len(caught.value.messages) == 4
    text = str(caught.value)
    assert "17 keV is 17.0, not 17000" in text
    assert "5.8 µm is 5.8e-6" in text
    assert "source_to_sample is 'far'" in text


@pytest.mark.parametrize("value", [0, -1.0, math.nan, math.inf, True, None, "17"])
def test_energy_must_be_a_positive_number(value):
    with pytest.raises(xmist.InputError, check=coded("experiment-invalid", names=["energy_kev"])):
        xmist.Experiment(energy_kev=value, pixel_size=5.8e-6, sample_to_detector=1.0)


def test_it_is_frozen_plain_data():
    experiment = xmist.Experiment(energy_kev=17, pixel_size=5.8e-6, sample_to_detector=1)
    assert isinstance(experiment.energy_kev, float)
    assert xmist.Experiment(**experiment.to_dict()) == experiment
    with pytest.raises(AttributeError):
        experiment.energy_kev = 20.0
