"""The command `xmist init`."""

from __future__ import annotations

from pathlib import Path

import click

from xmist.cli.console import DONE, Settings, say, say_findings
from xmist.cli.options import Number, common
from xmist.core.errors import InputError, raise_errors
from xmist.core.experiment import Experiment


@click.command(short_help="Write a configuration from a folder of frames.")
@click.argument("folder")
@click.option(
    "-o", "--output", metavar="FILE", help="The configuration to write; config.toml in FOLDER if left out."
)
@click.option("--overwrite", is_flag=True, help="Replace a configuration that exists.")
@click.option("--reference", metavar="FRAMES", multiple=True, help="Frames without the sample, if not found.")
@click.option("--sample", metavar="FRAMES", multiple=True, help="Frames with the sample, if not found.")
@click.option("--energy-kev", type=Number(), metavar="KEV", help="Photon energy in keV.")
@click.option("--pixel-size", type=Number(), metavar="METRES", help="Pixel of the detector in metres.")
@click.option("--sample-to-detector", type=Number(), metavar="METRES", help="Distance to the detector.")
@click.option("--source-to-sample", type=Number(), metavar="METRES", help="Distance from the source.")
@click.option("--method", metavar="NAME", help="Method; xmist methods lists them.")
@common
@click.pass_obj
def init(
    settings: Settings,
    /,
    folder: str,
    output: str | None,
    overwrite: bool,
    reference: tuple[str, ...],
    sample: tuple[str, ...],
    method: str | None,
    **geometry: float | None,
) -> int:
    """Write a commented configuration from the frames in FOLDER.

    The use of each file is guessed from its name. The geometry is taken from the headers, with its source in
    a comment. Values that are not known are marked FILL IN: xmist never guesses a physical value. Options
    state values that headers and names do not contain. The printed table shows how each frame is used.

    \b
    Examples:
      xmist init measurement
      xmist init measurement --energy-kev 17 --pixel-size 5.8e-6 --sample-to-detector 1
      xmist init /data/raw/sample12 -o processed/sample12.toml
    """
    from xmist.io.results.atomic import target_errors, write_file
    from xmist.workflow.proposal import describe_proposal, propose_configuration

    path = Path(output) if output else Path(folder) / "config.toml"
    if path.suffix.lower() != ".toml":
        text = f"{path}: a configuration is TOML; expected a name that ends in .toml"
        raise InputError(text, "output-invalid")
    given = {name: value for name, value in geometry.items() if value is not None}
    stand_ins = {"energy_kev": 17.0, "pixel_size": 1e-6, "sample_to_detector": 1.0}
    Experiment(**{**stand_ins, **given})  # raises what is wrong
    text = propose_configuration(
        folder,
        base=path.parent,
        geometry=given,
        frames={role: list(names) for role, names in (("reference", reference), ("sample", sample)) if names},
        method=method,
    )
    raise_errors(target_errors(path, overwrite=overwrite))
    write_file(path, text.encode(), overwrite=overwrite)
    click.echo(f"Wrote {path}")
    lines, findings, unfit = describe_proposal(text, path.parent)
    for line in lines:
        say(settings, line)
    for error in unfit:
        say(settings, f"Cannot be used as it is: {error}")
    say_findings(settings, findings)
    number = text.count("# FILL IN")
    if number:
        say(settings, f"{number} value{'s' * (number > 1)} must be filled in: look for FILL IN.")
    say(settings, f"Then: xmist check {path}")
    return DONE
