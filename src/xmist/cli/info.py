"""The command `xmist info`."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from xmist.cli.console import DONE, echo_json
from xmist.cli.options import common, listed_names
from xmist.core.errors import ErrorRecord, InputError, raise_errors, suggest


@click.command(short_help="Describe a file of frames or a result.")
@click.argument("file")
@click.option("--channels", metavar="NAMES", help="Only these image channels of a result, with commas.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
@common
def info(file: str, channels: str | None, as_json: bool) -> int:
    """Describe FILE: frames (TIFF, EDF, HDF5, npy), or a result of xmist.

    \b
    Examples:
      xmist info result.h5
      xmist info result.h5 --channels phase,dark_field
      xmist info --json ref_0001.edf
    """
    from xmist.io import describe

    found = describe(file)
    names = listed_names(channels)
    if names is not None:
        found = _only(found, [name.replace("-", "_") for name in names], file)
    if as_json:
        echo_json(found)
        return DONE
    for line in _info_lines(found):
        click.echo(line)
    return DONE


def _only(found: Mapping[str, Any], names: Sequence[str], file: str) -> dict[str, Any]:
    """Return the description of some channels; unknown names are errors."""
    given, derived = found.get("channels"), found.get("derived", {})
    if not isinstance(given, Mapping):
        raise InputError(f"{file} is no single result; --channels needs one", code="channel-missing")
    known = {**given, **derived}
    raise_errors(
        [
            ErrorRecord("channel-missing", f"{file} has no channel {name}; {suggest(name, known)}")
            for name in names
            if name not in known
        ]
    )
    return {"channels": {name: known[name] for name in names}}


def _info_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """Return plain data as indented lines; a result's channels as a table."""
    for key, value in found.items():
        if key == "derived":
            continue
        if key == "channels" and isinstance(value, Mapping) and value:
            yield "channels"
            yield f"  {'':20} {'unit':6} {'minimum':>11} {'median':>11} {'maximum':>11} {'NaN':>9}"
            for name, channel in (value | found.get("derived", {})).items():
                unit, factor = _shown_unit(name, channel["unit"])
                numbers = (
                    _short(None if channel[item] is None else factor * channel[item])
                    for item in ("minimum", "median", "maximum")
                )
                yield (
                    f"  {name:20} {unit:6} {' '.join(f'{text:>11}' for text in numbers)} {channel['nan']:>9}"
                )
        else:
            yield from _lines(key, value, "")


def _shown_unit(name: str, unit: str) -> tuple[str, float]:
    """Return the usual unit of a channel, and the factor from its SI unit."""
    from xmist.core.data import channel_of

    shown = channel_of(name).shown
    return (shown, 1e6) if shown == f"µ{unit}" else (unit, 1.0)


def _lines(key: str, value: Any, indent: str) -> Iterator[str]:
    if isinstance(value, Mapping) and value:
        yield f"{indent}{key}"
        for name, item in value.items():
            yield from _lines(str(name), item, indent + "  ")
    elif isinstance(value, (list, tuple)) and any(isinstance(item, (Mapping, str)) for item in value):
        yield f"{indent}{key}"
        for item in value:
            if isinstance(item, Mapping):
                text = ", ".join(f"{name} {_short(part, name)}" for name, part in item.items() if part != "")
            else:
                text = str(item)
            yield from textwrap.wrap(
                text, 110, initial_indent=f"{indent}  - ", subsequent_indent=f"{indent}    "
            )
    else:
        yield f"{indent}{key:20} {_short(value, key)}"


def _short(value: Any, key: str = "") -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (list, tuple)):
        return (" × " if key == "shape" else ", ").join(_short(item) for item in value) or "none"
    if isinstance(value, Mapping) and not value:
        return "none"
    return "none" if value is None else str(value)
