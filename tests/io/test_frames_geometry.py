"""What headers say of the geometry: converted, with its origin, and asked about where it is open."""

import math

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import constants

from tests.io.frames_files import make_frames, write_edf
from tests.real_frames import needs_real_frames, real_frames
from xmist import Experiment
from xmist.io.frames.frames import offer_geometry, open_frames
from xmist.io.frames.geometry import to_unit

LENGTHS = {"m": 0, "mm": -3, "millimeter": -3, "um": -6, "µm": -6, "micron": -6, "nm": -9, "Angstrom": -10}


def offers(folder, **header):
    path = write_edf(folder / "a.edf", make_frames(1, dtype=np.float32), [header])
    return offer_geometry(open_frames(path, name="input.reference").sources[0])


def nexus(folder, units=None, kinds=None, **values):
    """Write an entry with an instrument; __ stands for /."""
    with h5py.File(folder / "a.h5", "w") as file:
        file["entry/data"] = make_frames(1)
        for name, value in values.items():
            file["entry/" + name.replace("__", "/")] = value
        for name, unit in (units or {}).items():
            file["entry/" + name.replace("__", "/")].attrs["units"] = unit
        for name, kind in (kinds or {}).items():
            file["entry/" + name].attrs["NX_class"] = kind
    return offer_geometry(open_frames("a.h5", name="input.reference", folder=folder).sources[0])


@given(number=st.integers(1, 10**6), unit=st.sampled_from(sorted(LENGTHS)))
def test_units_are_exact(number, unit):
    """The decimal number, moved by a power of ten, is rounded once."""
    expected = float(f"{number}e{LENGTHS[unit]}")
    assert to_unit(str(number), "m", unit) == expected
    assert to_unit(f"{number}_{unit}", "m") == to_unit(f"{number} {unit}", "m", "km") == expected


@pytest.mark.parametrize(
    "text", ["Invalid", "", "nan", "inf", "-1", "0", "1e999", "3 parsec", "5 keV", "1 2"]
)
def test_what_is_no_length(text):
    assert to_unit(text, "m") is None


def test_energies():
    assert to_unit("17000", "keV", "eV") == to_unit("17", "keV") == to_unit("0.017", "keV", "MeV") == 17.0
    assert to_unit("17", "keV", "meV") is None  # a thousandth of an eV
    assert to_unit("17", "keV", "m") is None


def test_edf_with_a_magnification_offers_both_pixels_and_asks(tmp_path):
    found = offers(tmp_path, PSize_1="3e-05", PSize_2="3e-05", Magnification="2.5", SampleDistance="0.75")
    large, small, distance, source = found
    assert [offer.name for offer in found] == ["pixel_size"] * 2 + ["sample_to_detector", "source_to_sample"]
    assert large.value == pytest.approx(75e-6, rel=1e-15)
    assert small.value == 3e-5
    assert "a.edf: PSize_1 = 3e-05 × Magnification = 2.5" in large.source
    assert large.note.endswith("is 7.5e-05 m the detector's own pixel?")
    assert small.note.endswith("is it 3e-05 m?")
    # The first offers together are an experiment whose sample plane is what the header describes.
    experiment = Experiment(
        energy_kev=8.0,
        pixel_size=large.value,
        sample_to_detector=distance.value,
        source_to_sample=source.value,
    )
    assert experiment.magnification == pytest.approx(2.5, rel=1e-14)
    assert experiment.effective_pixel == pytest.approx(small.value, rel=1e-14)


def test_edf_without_a_magnification_asks_nothing(tmp_path):
    (pixel, distance, energy) = offers(
        tmp_path, PSize_1="5.8_um", PSize_2="5.8_um", SampleDistance="830_mm", WaveLength="0.7 A"
    )
    assert (pixel.name, pixel.value, pixel.note) == ("pixel_size", 5.8e-6, "")
    assert (distance.name, distance.value) == ("sample_to_detector", 0.83)
    wavelength_times_energy = constants.value("Planck constant in eV/Hz") * constants.c
    assert energy.value == pytest.approx(wavelength_times_energy / 0.7e-10 / 1e3, rel=1e-12)
    assert "WaveLength = 0.7 A" in energy.source


def test_magnification_one_is_a_parallel_beam(tmp_path):
    found = offers(tmp_path, PSize_1="3e-05", Magnification="1.0", SampleDistance="0.75")
    assert [offer.name for offer in found] == ["pixel_size", "sample_to_detector"]


def test_values_that_no_experiment_has_are_left_out(tmp_path):
    assert (
        offers(tmp_path, PSize_1="5.8", SampleDistance="Invalid", Wavelength="1.5", Magnification="0") == ()
    )


def test_pixels_that_are_not_square_are_noted(tmp_path):
    (pixel,) = offers(tmp_path, PSize_1="3e-05", PSize_2="4e-05")
    assert "not square (PSize_2 = 4e-05)" in pixel.note


def test_nexus_with_units(tmp_path):
    found = nexus(
        tmp_path,
        units={
            "instrument__detector__x_pixel_size": "um",
            "instrument__detector__distance": "mm",
            "instrument__source__distance": "m",
            "instrument__beam__incident_energy": "eV",
        },
        kinds={
            "instrument/detector": "NXdetector",
            "instrument/source": "NXsource",
            "instrument/beam": "NXbeam",
        },
        instrument__detector__x_pixel_size=np.array([5.8]),
        instrument__detector__y_pixel_size=np.float32(5.8),
        instrument__detector__distance=830.0,
        instrument__source__distance=-145.0,  # upstream of the sample
        instrument__source__energy=3.0,  # of the electrons
        instrument__beam__incident_energy=17300,
    )
    values = {offer.name: offer.value for offer in found}
    assert values == {
        "pixel_size": 5.8e-6,
        "sample_to_detector": 0.83,
        "source_to_sample": 145.0,
        "energy_kev": 17.3,
    }
    origin = {offer.name: offer.source for offer in found}
    assert origin["sample_to_detector"].endswith("a.h5::/entry/instrument/detector/distance = 830.0 mm")


def test_nexus_without_units_says_what_was_assumed(tmp_path):
    (distance,) = nexus(
        tmp_path, kinds={"instrument/detector": "NXdetector"}, instrument__detector__distance=0.8
    )
    assert (distance.value, distance.note) == (0.8, "the file states no unit; taken as m")


def test_nexus_wavelength_and_units_unknown(tmp_path):
    (energy,) = nexus(
        tmp_path,
        units={"instrument__mono__wavelength": "angstrom", "instrument__mono__energy": "furlong"},
        kinds={"instrument/mono": "NXmonochromator"},
        instrument__mono__wavelength=1.0,
        instrument__mono__energy=12.4,
    )
    assert energy.value == pytest.approx(12.398, rel=1e-4)
    assert energy.note == "hc/wavelength"


@needs_real_frames
def test_the_measured_header():
    """PSize of 30.56 µm is 75 µm divided by 2.4545; the source stands 0.55 m before the sample."""
    found = offer_geometry(
        open_frames("random_reference.edf", name="input.reference", folder=real_frames()).sources[0]
    )
    names = [offer.name for offer in found]
    assert names == ["pixel_size", "pixel_size", "sample_to_detector", "source_to_sample", "energy_kev"]
    values = [offer.value for offer in found]
    # The header has six digits.
    expected = [75e-6, 30.5556e-6, 0.8, 0.8 / (2.4545 - 1), 8.04]
    assert all(math.isclose(*pair, rel_tol=2e-4) for pair in zip(values, expected, strict=True))
    assert found[0].note.endswith("?")
    assert found[1].note.endswith("?")
