"""The command `xmist report`: a page of results for the browser."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from xmist.cli.console import DONE, Settings, say
from xmist.cli.options import common
from xmist.errors import InputError, raise_faults

if TYPE_CHECKING:
    from xmist.data import Retrieval


@click.command(short_help="One web page of a result, to look into; no server, no network.")
@click.argument("result", metavar="RESULT.h5")
@click.option(
    "--compare",
    "others",
    metavar="OTHER.h5",
    multiple=True,
    help="Another result of the same frames; may be repeated.",
)
@click.option("-o", "--output", "page", metavar="PAGE.html", required=True, help="The page to write.")
@click.option("--overwrite", is_flag=True, help="Replace a page that exists.")
@common
@click.pass_obj
def report(settings: Settings, result: str, others: tuple[str, ...], page: str, overwrite: bool) -> int:
    """Write one web page that shows RESULT.h5: pictures to zoom into, values, profiles, and what was done.

    The page holds everything itself and opens in any browser, from a disk or a USB stick. With --compare it
    lays results over each other, by a slider or by blinking.

    \b
    Examples:
      xmist report result.h5 -o result.html
      xmist report full-field.h5 --compare umpa.h5 -o both.html
    """
    from xmist.report import page_faults, write_report

    paths = [result, *others]
    faults = page_faults(page, overwrite=overwrite)
    results: list[Retrieval] = []
    for path in paths:
        try:
            results.append(_open(path))
        except InputError as error:
            faults += error.faults
    raise_faults(faults)
    write_report(page, list(zip(_names(paths), results, strict=True)), overwrite=overwrite)
    click.echo(f"Wrote {page}")
    say(settings, "It opens in any browser, and needs nothing but itself.")
    return DONE


def _open(path: str) -> Retrieval:
    from xmist.io import open_result

    return open_result(path)


def _names(paths: Sequence[str]) -> list[str]:
    """Give the files' names, with their folders where the names alone are not enough to tell them apart."""
    names = [Path(path).name for path in paths]
    if len(set(names)) == len(names):
        return names
    return list(paths)
