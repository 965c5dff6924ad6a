"""Optical constants of matter, n = 1 − δ + iβ: given as numbers, or by formula and density.

The tables are those of xraydb: Chantler's scattering factors (2000, J. Phys. Chem. Ref. Data 29 597) for δ,
and the attenuation of Elam, Ravel and Sieber (2002, Radiat. Phys. Chem. 63 121) for β. β includes scattering,
so that exp(−2kβt) is the transmission; scattering factors alone give a third less for water at 20 keV.
"""

from __future__ import annotations

import difflib
import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from xmist.core.checks import Checks
from xmist.core.errors import ErrorRecord, InputError

# Plastics of test objects that the tables of xraydb do not name: formula, and density in kg/m³ (usual
# values; a sample's own may differ by some per cent, and δ and β with it, but not their ratio).
_PLASTICS: Final = {
    "polystyrene": ("C8H8", 1050.0),
    "polyethylene": ("C2H4", 940.0),
    "nylon": ("C6H11NO", 1140.0),
    "pvc": ("C2H3Cl", 1380.0),
}
# Solids and liquids: below, g/cm³ was meant (osmium, the densest, has 22.6).
_DENSITIES: Final = (30.0, 25_000.0)
_ENERGIES_KEV: Final = (0.1, 800.0)  # of the tables
_NEAR: Final = 3  # names that a message offers


@dataclass(frozen=True, kw_only=True)
class Material:
    """A homogeneous material, by its formula and density or by δ and β at one energy.

    Parameters
    ----------
    formula : str, optional
        Chemical formula, such as "H2O", "C8H8" or "Ca5(PO4)3OH".
    density : float, optional
        Density in kg/m³ (water is 1000); goes with `formula`.
    delta, beta : float, optional
        Refractive index decrement δ and absorption index β; instead of a formula.
    energy_kev : float, optional
        Photon energy that δ and β hold for; they are refused at any other.

    Raises
    ------
    InputError
        Lists what is missing, contradictory or out of range, and an unknown formula.

    Examples
    --------
    >>> water = Material(formula="H2O", density=1000.0)
    >>> [float(f"{value:.3g}") for value in water.index(17.0)]
    [7.98e-07, 6.98e-10]
    >>> Material(delta=8e-7, beta=5e-10, energy_kev=17.0).index(17.0)
    (8e-07, 5e-10)
    >>> round(Material.of("polystyrene").delta_over_beta(17.0))
    2255
    """

    formula: str | None = None
    density: float | None = None
    delta: float | None = None
    beta: float | None = None
    energy_kev: float | None = None

    def __post_init__(self) -> None:
        check = Checks()
        by_formula = self.formula is not None or self.density is not None
        by_index = not (self.delta is None and self.beta is None and self.energy_kev is None)
        if by_formula == by_index:
            found = "both a formula and δ, β" if by_formula else "neither formula nor δ, β"
            check.add(
                f"the material has {found}; expected formula and density, or delta, beta and energy_kev"
            )
        elif by_formula:
            check.errors += _formula_errors(self.formula)
            low, high = _DENSITIES
            check.number(
                "density",
                self.density,
                unit="kg/m³",
                low=low,
                high=high,
                advice="water is 1000, not 1; for a gas give delta, beta and energy_kev",
            )
        else:
            check.number("delta", self.delta, low=-0.1, high=0.1)
            check.number("beta", self.beta, low=0.0, high=0.1)
            low, high = _ENERGIES_KEV
            check.number("energy_kev", self.energy_kev, unit="keV", low=low, high=high)
        check.done()

    @classmethod
    def of(cls, name: str, density: float | None = None) -> Material:
        """Return a material by its name, or by its formula and density.

        Parameters
        ----------
        name : str
            Name, such as "polystyrene", "water", "pmma", "silicon", or chemical formula.
        density : float, optional
            Density in kg/m³; None takes the usual one of a named material.

        Returns
        -------
        Material
            With formula and density.

        Raises
        ------
        InputError
            If the name is not known and no density is given, or as for `Material` itself.

        Examples
        --------
        >>> Material.of("pmma").formula, Material.of("C8H8", density=1050.0).density
        ('C5H8O2', 1050.0)
        """
        formula, usual = name, None
        if isinstance(name, str):
            found = _PLASTICS.get(name.strip().lower())
            if found is None:
                known = _known()
                found = known.get(name.strip().lower())
                if found is None and (unusable := _name_error(name, density, known)):
                    raise InputError(unusable, "material-invalid")
            if found is not None:
                formula, usual = found
        return cls(formula=formula, density=usual if density is None else density)

    @staticmethod
    def names() -> tuple[str, ...]:
        """Return the names that `of` knows, with their formula and usual density.

        Returns
        -------
        tuple of str
            In alphabetical order.

        Examples
        --------
        >>> len(Material.names()) > 90, Material.names()[0]
        (True, 'acetone')
        """
        return tuple(sorted(_known()))

    def delta_over_beta(self, energy_kev: float) -> float:
        """Return γ = δ/β at an energy, as the option `delta_over_beta` takes it.

        Parameters
        ----------
        energy_kev : float
            Photon energy in keV.

        Returns
        -------
        float
            δ/β.

        Raises
        ------
        InputError
            As for `index`, and for a material that refracts or absorbs nothing.
        """
        delta, beta = self.index(energy_kev)
        if not (delta > 0.0 and beta > 0.0):
            raise InputError(
                f"the material has δ = {delta:g} and β = {beta:g}; δ/β needs both above 0", "material-invalid"
            )
        return delta / beta

    def index(self, energy_kev: float) -> tuple[float, float]:
        """Return δ and β at an energy.

        Parameters
        ----------
        energy_kev : float
            Photon energy in keV.

        Returns
        -------
        tuple of float
            δ and β; the phase of a thickness t is −kδt, its transmission exp(−2kβt).

        Raises
        ------
        InputError
            If the tables do not reach this energy, or if δ and β were given for another one.
        """
        given: Any = energy_kev
        if isinstance(given, bool) or not isinstance(given, numbers.Real):
            raise InputError(f"energy_kev is {given!r}; expected a number in keV", "value-invalid")
        if self.formula is None:
            assert self.delta is not None
            assert self.beta is not None
            assert self.energy_kev is not None
            if not math.isclose(self.energy_kev, energy_kev, rel_tol=1e-6):
                raise InputError(
                    f"δ and β of the material are given for {self.energy_kev:g} keV and {energy_kev:g} keV "
                    "was asked for; give formula and density for other energies",
                    "material-invalid",
                )
            return float(self.delta), float(self.beta)
        low, high = _ENERGIES_KEV
        if not low <= energy_kev <= high:
            raise InputError(
                f"energy_kev is {energy_kev:g} keV; the tables cover {low:g} to {high:g} keV", "value-invalid"
            )
        assert self.density is not None
        return _table_index(self.formula, float(self.density), float(energy_kev))


def _known() -> dict[str, tuple[str, float]]:
    """Return formula and density in kg/m³ by name."""
    import xraydb

    tables = {name: (item.formula, 1000.0 * item.density) for name, item in xraydb.get_materials().items()}
    return tables | _PLASTICS


def _name_error(name: str, density: float | None, known: Mapping[str, tuple[str, float]]) -> str:
    """Return why an unknown name cannot be used, with the nearest known ones; empty if it can."""
    formula = not _formula_errors(name)
    if formula and density is not None:
        return ""
    alike = [other for other, (its, _) in known.items() if formula and its == name]
    near = dict.fromkeys((*alike, *difflib.get_close_matches(name.lower(), known, n=_NEAR)))
    choices = [f"{other} ({known[other][0]}, {known[other][1]:.4g} kg/m³)" for other in near][:_NEAR]
    listed = ", ".join(choices) or "none is near"
    if formula:
        what = f"material {name!r} is a formula without its density; give density in kg/m³, or a known name"
    else:
        what = (
            f"material {name!r} is neither a known name nor a formula; expected a known name, or a formula "
        )
        what += "such as 'C8H8' with its density"
    return f"{what} ({listed}; for all: python -c 'import xmist; print(xmist.Material.names())')"


def _formula_errors(formula: Any) -> list[ErrorRecord]:
    """Return the error of a chemical formula, if it has one."""
    import xraydb

    text = ""
    if not isinstance(formula, str):
        text = f"formula is {formula!r}; expected a chemical formula such as 'H2O'"
    else:
        expected = "expected one such as 'H2O' or 'C8H8'"
        try:
            if not xraydb.chemparse(formula):
                text = f"formula {formula!r} names no element; {expected}"
        except ValueError as error:
            reason = " ".join(str(error).split())
            text = f"formula {formula!r} cannot be read ({reason}); {expected}"
    return [ErrorRecord("material-invalid", text)] if text else []


@lru_cache(maxsize=256)
def _table_index(formula: str, density: float, energy_kev: float) -> tuple[float, float]:
    import xraydb
    from scipy import constants

    volts = energy_kev * 1e3
    delta, _, _ = xraydb.xray_delta_beta(formula, density * 1e-3, volts)
    per_metre = 100.0 * xraydb.material_mu(formula, volts, density=density * 1e-3, kind="total")
    wavelength = constants.h * constants.c / (volts * constants.e)
    return float(delta), float(per_metre * wavelength / (4.0 * math.pi))
