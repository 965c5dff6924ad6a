"""Configurations as plain data, for programs that edit them."""

from __future__ import annotations

import copy
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from xmist.core.errors import InputError
from xmist.io.frames.frames import open_frames
from xmist.io.frames.geometry import Offer, offer_geometry
from xmist.workflow.configuration import read_toml
from xmist.workflow.proposal import propose_configuration, toml_text


def open_sections(path: str | Path) -> tuple[dict[str, Any], Path]:
    """Return the sections of a file, or those proposed for a folder, and the folder of relative names."""
    path = Path(path)
    if path.is_dir():
        return tomllib.loads(propose_configuration(path)), path
    if path.suffix.lower() != ".toml":
        text = f"{path} is neither a folder of frames nor a configuration file (.toml)"
        raise InputError(text, code="configuration-unreadable")
    return copy.deepcopy(read_toml(path)), path.parent


def sections_text(sections: Mapping[str, Any]) -> str:
    """Write sections as a configuration file.

    Examples
    --------
    >>> print(sections_text({"retrieve": {"method": "mist"}, "preprocess": [{"step": "flux"}]}))
    [retrieve]
    method = "mist"
    <BLANKLINE>
    [[preprocess]]
    step = "flux"
    <BLANKLINE>
    """
    lines: list[str] = []
    for name, section in sections.items():
        if isinstance(section, list):
            for table in section:
                lines += [f"[[{name}]]", *_pairs(table), ""]
            continue
        tables = {
            key: value for key, value in section.items() if name == "options" and isinstance(value, Mapping)
        }
        lines += [f"[{name}]", *_pairs({key: section[key] for key in section if key not in tables}), ""]
        for key, table in tables.items():
            lines += [f"[{name}.{key}]", *_pairs(table), ""]
    return "\n".join(lines)


def _pairs(table: Mapping[str, Any]) -> list[str]:
    return [f"{key} = {_value(value)}" for key, value in table.items() if value is not None]


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{key} = {_value(item)}' for key, item in value.items())} }}"
    return toml_text(value)


def geometry_offers(sections: Mapping[str, Any], folder: Path) -> tuple[Offer, ...]:
    """Return what the headers of the frames say of energy, pixel and distances, each with its source."""
    names = sections.get("input", {})
    for role in ("reference", "sample"):
        given = names.get(role, ())
        with suppress(InputError):
            series = open_frames([given] if isinstance(given, str) else given, name=role, folder=folder)
            return offer_geometry(series.sources[0])
    return ()


def moved_sections(sections: Mapping[str, Any], old: Path, new: Path) -> dict[str, Any]:
    """Return sections for a file in another folder: names of frames become absolute if it is not the same."""
    if old.resolve() == new.resolve():
        return dict(sections)

    def moved(name: str) -> str:
        return str(old.resolve() / name)

    frames = dict(sections.get("input", {}))
    for role in ("reference", "sample", "dark", "flat"):
        given = frames.get(role)
        if given is not None:
            frames[role] = moved(given) if isinstance(given, str) else [moved(name) for name in given]
    return {**sections, "input": frames}
