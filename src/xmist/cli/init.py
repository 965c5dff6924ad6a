"""The command `xmist init`."""

from __future__ import annotations

from pathlib import Path

import click

from xmist.cli.console import DONE, Settings, say
from xmist.cli.options import common
from xmist.core.errors import InputError, raise_errors


@click.command(short_help="Write a configuration from what a folder of frames holds.")
@click.argument("folder")
@click.option(
    "-o", "--output", metavar="FILE", help="The configuration to write; config.toml in FOLDER if left out."
)
@click.option("--overwrite", is_flag=True, help="Replace a configuration that exists.")
@common
@click.pass_obj
def init(settings: Settings, folder: str, output: str | None, overwrite: bool) -> int:
    """Write a commented configuration from what FOLDER holds.

    Roles of files are guessed from their names, and geometry is taken from their headers, each with where it
    comes from. What is not known is marked FILL IN: xmist makes up no physical value.

    \b
    Examples:
      xmist init measurement
      xmist init /data/raw/sample12 -o processed/sample12.toml
    """
    from xmist.io.results.atomic import target_errors, write_file
    from xmist.workflow.proposal import propose_configuration

    path = Path(output) if output else Path(folder) / "config.toml"
    if path.suffix.lower() != ".toml":
        text = f"{path}: a configuration is TOML; expected a name that ends in .toml"
        raise InputError(text, "output-invalid")
    text = propose_configuration(folder, base=path.parent)
    raise_errors(target_errors(path, overwrite=overwrite))
    write_file(path, lambda file: file.write(text.encode()), overwrite=overwrite)
    click.echo(f"Wrote {path}")
    number = text.count("# FILL IN")
    if number:
        say(settings, f"{number} value{'s' * (number > 1)} must be filled in: look for FILL IN.")
    say(settings, f"Then: xmist check {path}")
    return DONE
