"""The command `xmist methods`."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Mapping
from typing import Any

import click

from xmist.cli.console import DONE, echo_json
from xmist.cli.options import common
from xmist.core.options import Option


@click.command(short_help="List the methods, what they need and what they give.")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
@common
def methods(name: str | None, as_json: bool) -> int:
    """List the methods, or explain the options of the one called NAME.

    \b
    Examples:
      xmist methods
      xmist methods mist
    """
    from xmist.methods import METHODS, find_method

    chosen = [find_method(name)] if name else list(METHODS.values())
    table = [
        dataclasses.asdict(entry)
        | {
            "delta_over_beta": entry.delta_over_beta,
            "options": [_option(option) for option in entry.options],
        }
        for entry in chosen
    ]
    for row in table:
        del row["module"]
    if as_json:
        echo_json(table)
        return DONE
    for row in table:
        click.echo("\n".join(_method_lines(row, detailed=name is not None)))
    if not name:
        click.echo("xmist methods NAME explains the options of a method.")
    return DONE


def _option(option: Option) -> dict[str, Any]:
    """Return name, default, allowed values and text of an option as plain data."""
    return {
        "name": option.name,
        "required": option.required,
        "default": None if option.required else option.default,
        "expected": option.expected,
        "about": option.about,
    }


def _method_lines(row: Mapping[str, Any], *, detailed: bool) -> list[str]:
    needs = f"at least {row['minimum_positions']} position{'s' * (row['minimum_positions'] > 1)}"
    if row["delta_over_beta"] != "no":
        needs += f", δ/β {row['delta_over_beta']}"
    allowed = {"no": "may not attenuate", "yes": "may attenuate", "with δ/β": "may attenuate with δ/β given"}
    lines = [
        row["name"],
        *_wrapped(row["summary"], "    "),
        f"    needs {needs}; the sample {allowed[row['attenuation']]}",
        *_wrapped(f"gives {', '.join(row['gives'])}", "    "),
        f"    takes about {row['cost']:g} times as long as mist",
        f"    {row['citation']}, doi:{row['doi']}",
    ]
    if not detailed:
        return [*lines, f"    options: {', '.join(map(_default, row['options'])) or 'none'}", ""]
    for option in row["options"]:
        lines += ["", f"    {_default(option)}", *_wrapped(option["about"], "        ")]
    return lines


def _default(option: Mapping[str, Any]) -> str:
    if option["required"]:
        return f"{option['name']} (required)"
    default = option["default"]
    return f"{option['name']} = {str(default).lower() if isinstance(default, bool) else default}"


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, 100, initial_indent=indent, subsequent_indent=indent)
