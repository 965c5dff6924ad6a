"""Plain data (None, booleans, numbers, text, lists, tuples, mappings) as JSON text, and back exactly."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from xmist.core.errors import ErrorRecord, raise_errors
from xmist.core.findings import Finding

# Keys and indices that lead to a tuple: JSON has only lists.
Places = list[list[str | int]]


def to_text(name: str, data: Any) -> tuple[str, Places]:
    """Return plain data as JSON text, and the path of keys and indices to each tuple in it.

    NumPy scalars become Python numbers. `name` is what the data is called in an error, which lists every
    value that is not plain. The place of `data` itself is not listed.

    >>> to_text("options", {"ridge": 0.5, "unknowns": ("phase",)})
    ('{"ridge": 0.5, "unknowns": ["phase"]}', [['unknowns']])
    """
    errors: list[ErrorRecord] = []
    places: Places = []

    def plain(value: Any, place: list[str | int]) -> Any:
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, Finding):
            value = value.to_dict()
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
            return {key: plain(item, [*place, key]) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            if isinstance(value, tuple) and place:
                places.append(place)
            return [plain(item, [*place, index]) for index, item in enumerate(value)]
        where = name + "".join(f"[{key!r}]" for key in place)
        text = (
            f"{where} is of type {type(value).__name__}; expected plain data (None, a boolean, number or "
            "text, or lists, tuples and mappings of them with text as keys)"
        )
        errors.append(ErrorRecord("value-invalid", text))
        return None

    content = plain(data, [])
    raise_errors(errors)
    text = json.dumps(content, ensure_ascii=False)
    if "\x00" in text or not _is_unicode(text):  # names of files can be any bytes
        text = json.dumps(content)
    return text, places


def from_text(text: str, places: Places) -> Any:
    """Return the data that `to_text` wrote; damaged text raises a built-in exception.

    >>> from_text('{"ridge": 0.5, "unknowns": ["phase"]}', [["unknowns"]])
    {'ridge': 0.5, 'unknowns': ('phase',)}
    """
    data = json.loads(text)
    for *way, last in sorted(places, key=len, reverse=True):  # the inner ones first
        holder = data
        for key in way:
            holder = holder[key]
        holder[last] = tuple(holder[last])
    return data


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
