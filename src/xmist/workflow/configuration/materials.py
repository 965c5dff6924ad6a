"""δ/β of a scan file given as a material: data that are looked up, never evaluated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from xmist.core.errors import InputError, shown, suggest
from xmist.core.experiment import Experiment
from xmist.workflow.configuration.schema import Faults

_KEYS: Final = ("material", "density")
_EXPECTED: Final = 'expected a number, or a table such as {material = "C8H8", density = 1050.0} (in kg/m³)'


def look_up_materials(
    path: str, options: Mapping[str, Any], experiment: Experiment | None, faults: Faults
) -> dict[str, Any]:
    """Put the number in the place of a `delta_over_beta` that is given as a material.

    Parameters
    ----------
    path : str
        Path of the options, for messages.
    options : mapping
        Options of a method. Not modified.
    experiment : Experiment or None
        Gives the photon energy; None if it has a fault.
    faults : list
        Gets what is wrong with the material.

    Returns
    -------
    dict
        The options; a material with a fault counts as 1, so that the others can be looked at further.

    Examples
    --------
    >>> experiment = Experiment(energy_kev=17.0, pixel_size=5.8e-6, sample_to_detector=1.0)
    >>> options = {"delta_over_beta": {"material": "polystyrene"}}
    >>> round(look_up_materials("options", options, experiment, [])["delta_over_beta"])
    2255
    """
    found = dict(options)
    table = found.get("delta_over_beta")
    if not isinstance(table, Mapping):
        return found
    found["delta_over_beta"] = 1.0
    path = f"{path}.delta_over_beta"
    unknown = [key for key in table if key not in _KEYS]
    faults += [(f"{path}.{key}", f"is not a known key; {suggest(str(key), _KEYS)}") for key in unknown]
    name, density = table.get("material"), table.get("density")
    if not isinstance(name, str):
        faults.append((path, f"is {shown(dict(table))}; {_EXPECTED}"))
    elif not unknown:
        from xmist.core.materials import Material

        try:
            material = Material.of(name, density)
            if experiment is not None:
                found["delta_over_beta"] = material.delta_over_beta(experiment.energy_kev)
        except InputError as error:
            faults += [(path, f": {fault}") for fault in error.faults]
    return found
