"""A form for the options of a method, made from its class of options."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from typing import Any, Final

from magicgui.widgets import ComboBox, Container, LineEdit
from magicgui.widgets.bases import ValueWidget

from xmist.core.options import Option
from xmist.methods import METHODS

_YES_NO: Final = {True: "true", False: "false"}


def make_form(method: str, values: Mapping[str, Any]) -> Container[Any]:
    """Return a form with one field per option; an empty field means the default."""
    return Container(widgets=[_field(option, values) for option in METHODS[method].options], labels=True)


def read_form(form: Container[Any], method: str) -> dict[str, Any]:
    """Return the options that differ from their defaults; values are checked by the configuration."""
    found: dict[str, Any] = {}
    for option in METHODS[method].options:
        text = str(form[option.name].value or "").strip()
        if text and text != _text(option.default):
            found[option.name] = _value(text, option)
    return found


def _field(option: Option, values: Mapping[str, Any]) -> ValueWidget[Any]:
    value = values.get(option.name, option.default)
    choices = [*option.words, *(_YES_NO.values() if bool in option.kinds else ())]
    about = f"{option.about}\nExpected: {option.expected}"
    common: dict[str, Any] = {"name": option.name, "label": option.name, "tooltip": about}
    if choices and not set(option.kinds) - {bool} and option.parsed is None and not option.optional:
        return ComboBox(choices=choices, value=_text(value), **common)
    return LineEdit(value="" if value is None else _text(value), **common)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return _YES_NO[value]
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_text, value))}]"
    return "" if value is None or not isinstance(value, (int, float, str)) else str(value)


def _value(text: str, option: Option) -> Any:
    """Return a number, a Boolean or a list as in TOML; anything else is text."""
    if text in option.words:
        return text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
