"""The command `xmist report`: a page of results for the browser."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from xmist.cli.console import DONE, Settings, say
from xmist.cli.options import Command, Whole, common, listed_names
from xmist.core.errors import InputError, raise_errors

if TYPE_CHECKING:
    from xmist.core.data import Retrieval


def page_option(command: Command) -> Command:
    """Add --report, for commands that give a result."""
    text = "Also write a web page of the result, to look into it (.html)."
    return click.option("--report", "page", metavar="PAGE.html", help=text)(command)


def option_page_faults(page: str | None, *, overwrite: bool, made: str | None = None) -> list[str]:
    """Say before the work begins what keeps the page of --report from being written.

    Parameters
    ----------
    page : str or None
        Name of the page; None if there is none to write.
    overwrite : bool
        Whether a page that exists may be replaced.
    made : str, optional
        A folder that the command makes if it does not exist.
    """
    if page is None:
        return []
    from xmist.view.report import ENDINGS, page_faults

    path = Path(page)
    coming = made is not None and path.parent == Path(made) and not path.parent.exists()
    if coming and path.suffix.lower() in ENDINGS:
        return []  # nothing can stand in a folder that is still to be made
    return [f"--report: {fault}" for fault in page_faults(path, overwrite=overwrite)]


@contextmanager
def before(later: Sequence[str]) -> Iterator[None]:
    """Tell what is found wrong inside before other faults that are known, all at once.

    Parameters
    ----------
    later : sequence of str
        The other faults; alone, they are left to be told where more is known.
    """
    try:
        yield
    except InputError as error:
        raise InputError([*error.faults, *later]) from error


def write_page(page: str, results: Sequence[tuple[str, Retrieval]], *, overwrite: bool) -> None:
    """Write the page of --report, and say so.

    Parameters
    ----------
    page : str
        Name of the page.
    results : sequence of (str, Retrieval)
        Results with their names.
    overwrite : bool
        Whether a page that exists may be replaced.
    """
    from xmist.view.report import write_report

    write_report(page, results, overwrite=overwrite)
    click.echo(f"Wrote {page}")


@click.command(short_help="One web page of a result, to look into; no server, no network.")
@click.argument("result", metavar="RESULT.h5...", nargs=-1, required=True)
@click.option(
    "--compare",
    "others",
    metavar="OTHER.h5",
    multiple=True,
    help="Another result of the same frames; may be repeated. The same as to name it after the first.",
)
@click.option(
    "--channels",
    metavar="NAMES",
    help="What to show, with commas, such as phase,dark_field: each with its uncertainty. All if left out.",
)
@click.option("--projection", type=Whole(), metavar="NUMBER", help="Of scans: which projection to show.")
@click.option("-o", "--output", "page", metavar="PAGE.html", required=True, help="The page to write.")
@click.option("--overwrite", is_flag=True, help="Replace a page that exists.")
@common
@click.pass_obj
def report(
    settings: Settings,
    result: tuple[str, ...],
    others: tuple[str, ...],
    channels: str | None,
    projection: int | None,
    page: str,
    overwrite: bool,
) -> int:
    """Write one web page that shows RESULT.h5: pictures to zoom into, values, profiles, and what was done.

    The page holds everything itself and opens in any browser, from a disk or a USB stick. Further results of
    the same frames are laid over the first, by a slider or by blinking.

    \b
    Examples:
      xmist report result.h5 -o result.html
      xmist report full-field.h5 umpa.h5 -o both.html
      xmist report result.h5 --channels phase,dark_field -o small.html
      xmist report scan.h5 --projection 0 -o first.html
    """
    from xmist.view.report import channel_faults, page_faults, write_report

    paths = [*result, *others]
    names = listed_names(channels)
    if names is not None:
        names = [name.replace("-", "_") for name in names]  # dark-field, as people write it
    faults: list[str] = []
    results: list[tuple[str, Retrieval]] = []
    for name, path in zip(_names(paths), paths, strict=True):
        try:
            results.append((name, _open(path, projection)))
        except InputError as error:
            faults += error.faults
    if names is not None and len(results) == len(paths):
        faults += [f"--{fault}" for fault in channel_faults(names, results)]
    raise_errors([*faults, *page_faults(page, overwrite=overwrite)])
    write_report(page, results, channels=names, overwrite=overwrite)
    click.echo(f"Wrote {page}")
    say(settings, "It opens in any browser, and needs nothing but itself.")
    return DONE


def _open(path: str, projection: int | None) -> Retrieval:
    from xmist.io import open_result
    from xmist.io.results.stacks import is_stack

    if projection is None and is_stack(path):
        raise InputError(f"{path} holds the projections of a scan; add --projection 0, or another number")
    return open_result(path, projection=projection)


def _names(paths: Sequence[str]) -> list[str]:
    """Give the files' names, with their folders where the names alone are not enough to tell them apart."""
    names = [Path(path).name for path in paths]
    if len(set(names)) == len(names):
        return names
    return list(paths)
