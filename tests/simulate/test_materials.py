import math

import pytest
from scipy import constants

import xmist
from tests.coded import coded
from xmist.simulate import recipes

RADIUS = constants.physical_constants["classical electron radius"][0]


def by_electrons(molar_mass, electrons, density, energy_kev):
    """δ = r_e λ² n_e/2π, which holds far above the absorption edges."""
    wavelength = constants.h * constants.c / (energy_kev * 1e3 * constants.e)
    number = density / (molar_mass * 1e-3) * constants.N_A * electrons
    return RADIUS * wavelength**2 * number / (2 * math.pi)


# Light elements have f' of some hundredths of an electron at 17 keV: 0.5 %.
@pytest.mark.parametrize(
    ("formula", "molar_mass", "electrons", "density"),
    [
        ("H2O", 18.015, 10, 1000.0),
        ("C8H8", 104.15, 56, 1050.0),
        ("C5H8O2", 100.12, 54, 1180.0),
        ("C2F4", 100.016, 48, 2200.0),
    ],
)
def test_delta_is_that_of_free_electrons(formula, molar_mass, electrons, density):
    delta, beta = xmist.Material(formula=formula, density=density).index(17.0)
    assert abs(delta / by_electrons(molar_mass, electrons, density, 17.0) - 1.0) <= 5e-3
    assert 0 < beta < delta / 300


# Mass attenuation coefficients in cm²/g, scatter included, of Hubbell and Seltzer 1995, NISTIR 5632, tables 3
# and 4, which have four digits: 0.02 %; other tables differ by some tenths of a percent.
@pytest.mark.parametrize(
    ("formula", "density", "energy_kev", "expected"),
    [
        ("H2O", 1000.0, 10.0, 5.329),
        ("H2O", 1000.0, 20.0, 0.8096),
        ("Al", 2699.0, 10.0, 26.23),
        ("Al", 2699.0, 20.0, 3.441),
        ("C8H8", 1060.0, 10.0, 2.219),
        ("C8H8", 1060.0, 20.0, 0.4363),
    ],
)
def test_attenuation_is_that_of_nist(formula, density, energy_kev, expected):
    _, beta = xmist.Material(formula=formula, density=density).index(energy_kev)
    k = 2 * math.pi * energy_kev * 1e3 * constants.e / (constants.h * constants.c)
    per_mass = 2 * k * beta / density * 10  # m²/kg is 10 cm²/g
    assert abs(per_mass / expected - 1.0) <= 2e-3


def test_the_currant_needs_no_tables_and_agrees_with_them():
    for by_number, formula, density in (
        (recipes.FLESH, "H2O", 1050.0),
        (recipes.SKIN, "C6H10O5", 1150.0),
        (recipes.SEED, "C6H10O5", 1350.0),
    ):
        for given, tabled in zip(
            by_number.index(17.0),
            xmist.Material(formula=formula, density=density).index(17.0),
            strict=True,
        ):
            assert abs(given / tabled - 1.0) <= 1e-3


def test_phase_and_transmission_scale_as_matter_does():
    water = xmist.Material(formula="H2O", density=1000.0)
    (low, absorbed), (high, absorbed_less) = water.index(10.0), water.index(20.0)
    assert abs(low / high / 4.0 - 1.0) <= 0.01  # δ ∝ λ²
    assert 2.0 < absorbed / absorbed_less < 18.0  # β between λ (scatter alone) and λ^4.2 (absorption alone)
    assert xmist.Material(formula="H2O", density=2000.0).index(10.0)[0] == pytest.approx(2 * low)


@pytest.mark.parametrize(
    ("given", "code", "name"),
    [
        ({"formula": "Xx2", "density": 1000.0}, "material-invalid", "Xx2"),
        ({"formula": "h2o", "density": 1000.0}, "material-invalid", "h2o"),
        ({"formula": "", "density": 1000.0}, "material-invalid", "formula"),
        ({"formula": 3, "density": 1000.0}, "material-invalid", "formula"),
        ({"formula": "H2O", "density": 1.0}, "value-invalid", "density"),
        ({"formula": "H2O"}, "value-invalid", "density"),
        ({"delta": 1e-6, "beta": 1e-9}, "value-invalid", "energy_kev"),
        ({"delta": 1e-6, "beta": -1e-9, "energy_kev": 17.0}, "value-invalid", "beta"),
        ({}, "value-invalid", "formula"),
        ({"formula": "H2O", "density": 1000.0, "delta": 1e-6}, "value-invalid", "formula"),
    ],
)
def test_bad_materials(given, code, name):
    with pytest.raises(xmist.InputError, check=coded(code, names=[name])):
        xmist.Material(**given)


def test_energies_that_are_not_known():
    with pytest.raises(xmist.InputError, check=coded("value-invalid", names=["energy_kev", "17"])):
        xmist.Material.of("water").index("17")
    with pytest.raises(xmist.InputError, check=coded("material-invalid", names=["17 keV", "18 keV"])):
        xmist.Material(delta=1e-6, beta=1e-9, energy_kev=17.0).index(18.0)
    with pytest.raises(xmist.InputError, check=coded("value-invalid")):
        xmist.Material(formula="H2O", density=1000.0).index(0.01)


def test_a_material_by_its_name():
    assert xmist.Material.of("Polystyrene") == xmist.Material(formula="C8H8", density=1050.0)
    assert xmist.Material.of("water", density=917.0) == xmist.Material(formula="H2O", density=917.0)  # ice
    assert xmist.Material.of("C8H8", density=1050.0) == xmist.Material.of("polystyrene")
    delta, beta = xmist.Material.of("pmma").index(20.0)
    assert xmist.Material.of("pmma").delta_over_beta(20.0) == delta / beta
    # δ and β are both proportional to the density.
    ratios = [xmist.Material.of("C8H8", density=density).delta_over_beta(20.0) for density in (500.0, 1050.0)]
    assert abs(ratios[0] / ratios[1] - 1) <= 1e-12


def test_a_material_that_is_not_known():
    for name, near in (
        ("polystirene", ["C8H8, 1050 kg/m³"]),
        ("C", ["diamond carbon", "graphite carbon"]),
        ("C7H9", []),
    ):
        with pytest.raises(xmist.InputError, check=coded("material-invalid", names=near)) as caught:
            xmist.Material.of(name)
        assert "Material.names()" in str(caught.value)
        assert len(str(caught.value)) < 350
    assert {"polystyrene", "water"} <= set(xmist.Material.names())
    assert xmist.Material.of(" Water") == xmist.Material.of("water")
    with pytest.raises(xmist.InputError, check=coded("value-invalid", names=["density", "1.05 kg/m³"])):
        xmist.Material.of("C8H8", density=1.05)
    with pytest.raises(xmist.InputError, check=coded("material-invalid", names=["formula"])):
        xmist.Material.of(7, density=1000.0)
    with pytest.raises(xmist.InputError, check=coded("material-invalid", names=["δ/β"])):
        xmist.Material(delta=1e-7, beta=0.0, energy_kev=17.0).delta_over_beta(17.0)
