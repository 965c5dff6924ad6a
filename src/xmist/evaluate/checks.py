"""Checks of methods, options and numbers of positions, before any work."""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence
from typing import Any

from xmist.core.errors import ErrorRecord, collect_errors, suggest
from xmist.evaluate.defaults import METHODS_COMPARED, POSITIONS_COMPARED
from xmist.methods import METHODS, is_quick_look, make_options


def method_errors(methods: Sequence[Any]) -> list[ErrorRecord]:
    """Return the errors of names of methods."""
    expected = f"expected names such as {', '.join(METHODS_COMPARED)}"
    if not methods:
        return [ErrorRecord("value-invalid", f"methods is empty; {expected}")]
    strange = [name for name in methods if not isinstance(name, str)]
    if strange:
        return [ErrorRecord("value-invalid", f"methods has {strange[0]!r}; {expected}")]
    errors = []
    for name in dict.fromkeys(methods):
        if name not in METHODS:
            errors.append(
                ErrorRecord("method-unknown", f"unknown method '{name}'; {suggest(str(name), METHODS)}")
            )
        elif methods.count(name) > 1:
            message = f"methods names {name} more than once; expected it once"
            errors.append(ErrorRecord("value-invalid", message))
    return errors


def option_errors(options: Any, methods: Sequence[str]) -> list[ErrorRecord]:
    """Return the errors of options by method; a missing δ/β is not an error.

    The method is listed as unable.
    """
    if not isinstance(options, Mapping):
        message = f"options are {options!r}; expected a mapping from methods to their options"
        return [ErrorRecord("option-invalid", message)]
    errors = []
    for name, values in options.items():
        if not isinstance(values, Mapping) or not all(isinstance(option, str) for option in values):
            message = f"options of '{name}' are {values!r}; expected a mapping from names to values"
            errors.append(ErrorRecord("option-invalid", message))
        elif name not in methods:
            hint = suggest(str(name), map(str, methods))
            message = f"options are given for '{name}', which is not compared; {hint}"
            errors.append(ErrorRecord("option-unknown", message))
        elif name in METHODS:
            wanted = METHODS[name].delta_over_beta == "required" and values.get("delta_over_beta") is None
            with collect_errors(errors, f"{name}: "):
                make_options(name, {**values, "delta_over_beta": 1.0} if wanted else values)
            if is_quick_look(values):
                message = f"{name}: results of equal size are compared; leave out region and stride"
                errors.append(ErrorRecord("option-conflict", message))
    return errors


def position_errors(positions: Any) -> list[ErrorRecord]:
    """Return the errors of numbers of positions."""
    try:
        given: Any = list(positions)
        whole = [type(n) is not bool and isinstance(n, numbers.Integral) and int(n) >= 1 for n in given]
        if given and all(whole) and len(set(given)) == len(given):
            return []
    except TypeError:
        given = positions
    expected = f"different whole numbers from 1, such as {', '.join(map(str, POSITIONS_COMPARED))}"
    return [ErrorRecord("value-invalid", f"positions is {given!r}; expected {expected}")]
