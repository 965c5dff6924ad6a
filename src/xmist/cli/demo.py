"""The command `xmist demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from xmist.cli.console import DONE, Settings, progress_bars, say
from xmist.cli.options import common
from xmist.core.errors import InputError

_FOLDER: Final = "xmist-demo"
_MOST_FOLDERS: Final = 1000


@click.command(short_help="Simulate an experiment, retrieve it, compare with the truth: start here.")
@click.option("-o", "--output", "folder", metavar="FOLDER", help=f"Where to write; {_FOLDER} if left out.")
@click.option("--quick", is_flag=True, help="Smaller frames, from 2 and 10 positions alone: faster.")
@click.option(
    "--paper", is_flag=True, help="Larger frames, with all methods of Table I and Fig. 2 of the paper."
)
@click.option("--overwrite", is_flag=True, help="Replace the files of an earlier demo.")
@common
@click.pass_obj
def demo(settings: Settings, folder: str | None, quick: bool, paper: bool, overwrite: bool) -> int:
    """Simulate the experiment of Pavlov et al. 2020 on a currant, retrieve it, and compare with the truth.

    Two methods retrieve it from 2, 4 and 10 positions of the diffuser. Tables, figures, results, frames, the
    truth and a configuration file are written to a folder: xmist-demo, or xmist-demo-2 if that exists and
    --overwrite is not given. The first run takes longer, because methods are compiled; --quick is faster.
    With --paper, five methods repeat Table I (table-1.md) and Fig. 2 (dark-field.png) of the paper in some
    minutes.

    \b
    Examples:
      xmist demo
      xmist demo --quick
      xmist demo --paper
      xmist demo -o /tmp/berries
    """
    from xmist.evaluate.demo import FULL, METHOD, PAPER, QUICK, names, run_demo, words

    if quick and paper:
        message = "--quick and --paper are both given; give only one of them"
        raise InputError(message, code="option-conflict")
    chosen = QUICK if quick else PAPER if paper else FULL
    if folder == "":
        raise InputError(f"-o is empty; expected a folder, or nothing for {_FOLDER}", "output-invalid")
    target = Path(folder) if folder else _free_folder(overwrite)
    with progress_bars(settings) as progress:
        found = run_demo(target, settings=chosen, overwrite=overwrite, progress=progress)
    click.echo(words(found, chosen))
    files = names(target, chosen)
    if not folder and target.name != _FOLDER:
        say(
            settings,
            f"{_FOLDER} exists already, so the files are in {target} (--overwrite replaces {_FOLDER}).",
        )
    click.echo(f"Figure: {files['figure']}; all tables and figures: {files['table']}")
    say(
        settings,
        f"Next: xmist info {target / f'{METHOD}-{max(chosen.positions)}.h5'}, or change "
        f"{files['configuration']} and run: xmist retrieve {files['configuration']}",
    )
    return DONE


def _free_folder(overwrite: bool) -> Path:
    """Return the demo's folder, or the next that does not exist."""
    first = Path(_FOLDER)
    if overwrite or not first.exists():
        return first
    return next(
        place
        for number in range(2, _MOST_FOLDERS)
        if not (place := Path(f"{_FOLDER}-{number}")).exists() or number == _MOST_FOLDERS - 1
    )
