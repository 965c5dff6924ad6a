"""What can be wrong with what a comparison is asked for, told before any work."""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence
from typing import Any

from xmist.core.errors import InputError, suggest
from xmist.methods import METHODS, make_options


def method_faults(methods: Sequence[str]) -> list[str]:
    """Return the errors of names of methods."""
    expected = "expected names such as mist, full-field, umpa, xsvt"
    if not methods:
        return [f"methods is empty; {expected}"]
    strange = [name for name in methods if not isinstance(name, str)]
    if strange:
        return [f"methods has {strange[0]!r}; {expected}"]
    faults = []
    for name in dict.fromkeys(methods):
        if name not in METHODS:
            faults.append(f"unknown method '{name}'; {suggest(str(name), METHODS)}")
        elif methods.count(name) > 1:
            faults.append(f"methods names {name} more than once; expected it once")
    return faults


def option_faults(options: Mapping[str, Mapping[str, Any]], methods: Sequence[str]) -> list[str]:
    """Return the errors of options; a missing δ/β is no fault but a reason why a method cannot work."""
    faults = []
    for name, values in options.items():
        if not isinstance(values, Mapping) or not all(isinstance(option, str) for option in values):
            faults.append(f"options of '{name}' are {values!r}; expected a mapping from names to values")
        elif name not in methods:
            hint = suggest(str(name), map(str, methods))
            faults.append(f"options are given for '{name}', which is not compared; {hint}")
        elif name in METHODS:
            wanted = METHODS[name].needs_delta_over_beta and values.get("delta_over_beta") is None
            try:
                make_options(name, {**values, "delta_over_beta": 1.0} if wanted else values)
            except InputError as error:
                faults += [f"{name}: {fault}" for fault in error.faults]
    return faults


def exposure_faults(exposures: Sequence[int]) -> list[str]:
    """Return the errors of numbers of exposures."""
    try:
        given: Any = list(exposures)
        whole = [type(n) is not bool and isinstance(n, numbers.Integral) and int(n) >= 1 for n in given]
        if given and all(whole) and len(set(given)) == len(given):
            return []
    except TypeError:
        given = exposures
    return [f"exposures is {given!r}; expected different whole numbers from 1, such as 2, 4, 10"]
