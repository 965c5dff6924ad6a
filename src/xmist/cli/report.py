"""The command `xmist report`: a page of results for the browser."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from xmist.cli.console import DONE, Settings, say
from xmist.cli.options import Command, Whole, common, listed_names
from xmist.core.errors import ErrorRecord, InputError, collect_errors, prefixed, raise_errors

if TYPE_CHECKING:
    from xmist.core.data import Retrieval, SpeckleStack


def page_option(command: Command) -> Command:
    """Add --report, for commands that give a result."""
    text = "Also write a web page of the result (.html)."
    return click.option("--report", "page", metavar="PAGE.html", help=text)(command)


def option_page_errors(page: str | None, *, overwrite: bool, made: str | None = None) -> list[ErrorRecord]:
    """Return errors that prevent writing the page of --report, before the work begins."""
    if page is None:
        return []
    from xmist.view.report import ENDINGS, page_errors

    path = Path(page)
    coming = made is not None and path.parent == Path(made) and not path.parent.exists()
    if coming and path.suffix.lower() in ENDINGS:
        return []  # nothing can stand in a folder that is still to be made
    return prefixed("--report: ", page_errors(path, overwrite=overwrite))


@contextmanager
def before(later: Sequence[ErrorRecord]) -> Iterator[None]:
    """Raise the errors inside together with others that are known."""
    try:
        yield
    except InputError as error:
        raise InputError([*error.records, *later]) from error


def write_page(
    page: str,
    results: Sequence[tuple[str, Retrieval]],
    *,
    frames: SpeckleStack | None = None,
    overwrite: bool,
) -> None:
    """Write the page of --report, and print its name."""
    from xmist.view.report import write_report

    write_report(page, results, frames=frames, overwrite=overwrite)
    click.echo(f"Wrote {page}")


def shown_projections(path: str | Path, name: str = "") -> list[tuple[str, Retrieval]]:
    """Return the first, the middle and the last projection that were retrieved, with names."""
    from xmist.io import open_result
    from xmist.io.results.stacks import MISSING, open_stack

    table = open_stack(path).table
    numbers = table["projection"][table["status"] != MISSING].tolist()
    if not numbers:
        raise InputError(f"{path} holds no finished projection; run xmist retrieve", code="results-missing")
    chosen = dict.fromkeys(numbers[place] for place in (0, len(numbers) // 2, -1))
    return [(f"{name}projection {number}", open_result(path, projection=number)) for number in chosen]


def frames_of(path: str | Path, result: Retrieval) -> SpeckleStack | None:
    """Return the raw frames of a result, if they are where they were from the folder of its file."""
    from xmist.workflow.configuration import parse_mapping
    from xmist.workflow.run import raw_frames

    stated = result.provenance.get("configuration")
    if not isinstance(stated, Mapping):
        return None
    parsed = parse_mapping(stated, folder=Path(path).parent, source="")
    number = result.provenance.get("quality", {}).get("projection")
    return raw_frames(parsed, number, result.provenance.get("input"))


def result_file(path: str) -> Path:
    """Return the file of a result; a configuration stands for its finished results."""
    from xmist.workflow.configuration import parse_configuration
    from xmist.workflow.run import finished_results

    return finished_results(parse_configuration(path)) if path.lower().endswith(".toml") else Path(path)


@click.command(short_help="Write a web page of a result; it needs no server and no network.")
@click.argument("result", metavar="RESULT.h5|CONFIG.toml...", nargs=-1, required=True)
@click.option(
    "--compare",
    "others",
    metavar="OTHER.h5",
    multiple=True,
    help="Another result of the same frames, as if named after the first; may be repeated.",
)
@click.option(
    "--channels",
    metavar="NAMES",
    help="Channels to show with their uncertainty, such as phase,dark_field; all if left out.",
)
@click.option(
    "--projection",
    type=Whole(),
    metavar="NUMBER",
    help="Projection of a series to show; the first, middle and last if left out.",
)
@click.option("--no-frames", is_flag=True, help="Leave out the raw frames.")
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
    no_frames: bool,
    page: str,
    overwrite: bool,
) -> int:
    """Write a web page that shows results: images, values, profiles, findings and options.

    CONFIG.toml means its finished results. The page is one file and opens in any browser, without server or
    network. Two results of the same frames can be compared by a slider, by blinking, or by their difference.
    Raw frames are shown, binned, if they are still where the configuration says.

    \b
    Examples:
      xmist report result.h5 -o result.html
      xmist report full-field.h5 umpa.h5 -o both.html
      xmist report config.toml -o result.html
      xmist report result.h5 --channels phase,dark_field -o small.html
      xmist report series.h5 --projection 0 -o first.html
    """
    from xmist.view.report import channel_errors, page_errors, write_report

    paths = [*result, *others]
    names = listed_names(channels)
    if names is not None:
        names = [name.replace("-", "_") for name in names]  # dark-field, as people write it
    errors: list[ErrorRecord] = []
    results: list[tuple[str, Retrieval]] = []
    labels = [Path(path).name for path in paths]
    if len(set(labels)) < len(labels):  # with their folders, to tell them apart
        labels = list(paths)
    for label, path in zip(labels, paths, strict=True):
        with collect_errors(errors):
            results += _opened(label, path, projection, several=len(paths) > 1)
    if names is not None and not errors:
        errors += prefixed("--", channel_errors(names, results))
    raise_errors([*errors, *page_errors(page, overwrite=overwrite)])
    frames = None if no_frames else frames_of(result_file(paths[0]), results[0][1])
    write_report(page, results, channels=names, frames=frames, overwrite=overwrite)
    click.echo(f"Wrote {page}")
    say(settings, "It opens in any browser and needs no other file.")
    return DONE


def _opened(label: str, path: str, projection: int | None, *, several: bool) -> list[tuple[str, Retrieval]]:
    from xmist.io import open_result
    from xmist.io.results.stacks import is_stack

    file = result_file(path)
    label = label if several else file.name  # not that of the configuration
    if projection is None and is_stack(file):
        return shown_projections(file, f"{label}, " if several else "")
    return [(label, open_result(file, projection=projection))]
