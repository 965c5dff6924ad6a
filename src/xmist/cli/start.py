"""Commands to begin with: `xmist demo` and `xmist init`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from xmist.cli.console import DONE, Settings, progress_bars, say
from xmist.cli.options import common
from xmist.core.errors import InputError, raise_errors

_FOLDER: Final = "xmist-demo"
_MOST_FOLDERS: Final = 1000


@click.command(short_help="A simulated experiment, retrieved, scored and drawn: start here.")
@click.option("-o", "--output", "folder", metavar="FOLDER", help=f"Where to write; {_FOLDER} if left out.")
@click.option("--quick", is_flag=True, help="Smaller and without window matching: done much sooner.")
@click.option("--overwrite", is_flag=True, help="Replace the files of an earlier demo.")
@common
@click.pass_obj
def demo(settings: Settings, folder: str | None, quick: bool, overwrite: bool) -> int:
    """Simulate the experiment of Pavlov et al. 2020 on a currant, retrieve it, and compare with the truth.

    Four methods retrieve it from 2, 4 and 10 positions of the diffuser. Tables, figures, results, frames, the
    truth and a configuration file are written to a folder: xmist-demo, or xmist-demo-2 if that exists and
    --overwrite is not given. Most of the first run is compilation; --quick is faster.

    \b
    Examples:
      xmist demo
      xmist demo --quick
      xmist demo -o /tmp/berries
    """
    from xmist.evaluate.demo import FULL, METHOD, QUICK, names, run_demo, words

    chosen = QUICK if quick else FULL
    if folder == "":
        raise InputError(f"-o is empty; expected a folder, or nothing for {_FOLDER}")
    target = Path(folder) if folder else _free_folder(overwrite)
    with progress_bars(settings) as progress:
        found = run_demo(target, settings=chosen, overwrite=overwrite, progress=progress)
    click.echo(words(found))
    files = names(target, chosen)
    if not folder and target.name != _FOLDER:
        say(settings, f"{_FOLDER} exists already, so this demo went to {target} (--overwrite replaces one).")
    click.echo(f"Figure: {files['figure']}; all tables and figures: {files['table']}")
    say(
        settings,
        f"Next: xmist info {target / f'{METHOD}-{max(chosen.positions)}.h5'}, or change {files['scan']} and "
        f"run: xmist retrieve {files['scan']}",
    )
    return DONE


@click.command(short_help="Write a scan file from what a folder of frames holds.")
@click.argument("folder")
@click.option(
    "-o", "--output", metavar="FILE", help="The scan file to write; scan.toml in FOLDER if left out."
)
@click.option("--overwrite", is_flag=True, help="Replace a scan file that exists.")
@common
@click.pass_obj
def init(settings: Settings, folder: str, output: str | None, overwrite: bool) -> int:
    """Write a commented scan file from what FOLDER holds.

    Roles of files are guessed from their names, and geometry is taken from their headers, each with where it
    comes from. What is not known is marked FILL IN: xmist makes up no physical value.

    \b
    Examples:
      xmist init measurement
      xmist init /data/raw/scan12 -o processed/scan12.toml
    """
    from xmist.io.results.atomic import target_errors, write_file
    from xmist.workflow.configuration import propose_scan

    path = Path(output) if output else Path(folder) / "scan.toml"
    if path.suffix.lower() != ".toml":
        raise InputError(f"{path}: a scan file is TOML; expected a name that ends in .toml")
    text = propose_scan(folder, base=path.parent)
    raise_errors(target_errors(path, overwrite=overwrite))
    write_file(path, lambda file: file.write(text.encode()), overwrite=overwrite)
    click.echo(f"Wrote {path}")
    number = text.count("# FILL IN")
    if number:
        say(settings, f"{number} value{'s' * (number > 1)} must be filled in: look for FILL IN.")
    say(settings, f"Then: xmist check {path}")
    return DONE


def _free_folder(overwrite: bool) -> Path:
    """Give the demo's folder, or the next that does not exist."""
    first = Path(_FOLDER)
    if overwrite or not first.exists():
        return first
    return next(
        place
        for number in range(2, _MOST_FOLDERS)
        if not (place := Path(f"{_FOLDER}-{number}")).exists() or number == _MOST_FOLDERS - 1
    )
