"""The command `xmist compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xmist.cli.console import DONE, Settings, progress_bars, say, say_findings
from xmist.cli.options import Whole, common, listed_names, log_option, read_options, single_configuration
from xmist.cli.report import before, option_page_errors, page_option, write_page
from xmist.core.errors import ErrorRecord, raise_errors

if TYPE_CHECKING:
    from xmist.workflow.configuration import ParsedConfiguration


@click.command(short_help="Compare methods on the same frames: tables and figures.")
@click.argument("config", nargs=-1, metavar="CONFIG.toml")
@click.option(
    "-o",
    "--output",
    "folder",
    metavar="FOLDER",
    help="Folder to write to; it is made if it does not exist.",
)
@click.option(
    "--methods", metavar="NAMES", help="Methods, with commas; mist,full-field,umpa,xsvt if left out."
)
@click.option("--positions", metavar="NUMBERS", help="Numbers of positions, with commas; 2,4,10 or fewer.")
@click.option("--projection", type=Whole(), metavar="NUMBER", help="Of a series; the middle one if left out.")
@click.option(
    "--option",
    multiple=True,
    metavar="METHOD.NAME=VALUE",
    help="An option of a method, such as umpa.window=7; may be repeated.",
)
@click.option(
    "--outside", multiple=True, metavar="Y0,Y1,X0,X1", help="A box of bare beam in pixels; may be repeated."
)
@click.option(
    "--inside",
    multiple=True,
    metavar="Y0,Y1,X0,X1",
    help="A box in the sample, away from its rim; may be repeated.",
)
@click.option(
    "--truth", metavar="FILE", help="A saved result as truth; truth.h5 beside CONFIG.toml if it exists."
)
@click.option("--no-resolution", is_flag=True, help="Leave out the resolution, which doubles the work.")
@click.option("--results", is_flag=True, help="Also write every result, as METHOD-N.h5.")
@click.option("--threads", type=Whole(1), metavar="NUMBER", help="Threads; all cores if left out.")
@click.option("--overwrite", is_flag=True, help="Replace files that exist.")
@click.option(
    "--preview",
    is_flag=True,
    help="Write only a quick image, comparison.preview.png: a fast method, binned frames.",
)
@page_option
@log_option
@common
@click.pass_obj
def compare(
    settings: Settings, /, config: tuple[str, ...], folder: str | None, page: str | None, **given: Any
) -> int:
    """Run several methods on the frames of CONFIG.toml, and compare their results.

    Each method is run on the first N positions, for several N. Writes figures of dark-field, phase and
    transmission (a row per method, a column per N), and tables of contrast-to-noise ratio, angular
    sensitivity, resolution, agreement, time and memory, and of errors if the truth is known. A method that
    needs more positions is listed with the reason. The tables [compare] and [regions] of the configuration
    can hold the same settings; [options] and [options.METHOD] hold options of methods.

    \b
    Examples:
      xmist compare config.toml -o comparison
      xmist compare config.toml -o comparison --report comparison/page.html
      xmist compare config.toml -o c --methods mist,umpa --positions 2,4 --option mist.smoothing=2
      xmist compare config.toml -o c --outside 0,40,0,200 --inside 100,140,80,120
    """
    from xmist.evaluate.from_configuration import compare_configuration
    from xmist.methods.registry import DEFAULT_METHOD
    from xmist.workflow.configuration import parse_configuration
    from xmist.workflow.run import raw_frames

    path = single_configuration(config)
    errors: list[ErrorRecord] = []
    if path is None:
        errors.append(
            ErrorRecord(
                "option-missing", "no configuration is given; expected: xmist compare CONFIG.toml -o FOLDER"
            )
        )
    if not folder:
        text = f"-o is {'missing' if folder is None else 'empty'}; expected the folder to write to"
        errors.append(ErrorRecord("option-missing", text))
    methods = listed_names(given["methods"])
    positions = None if given["positions"] is None else _numbers("--positions", given["positions"], errors)
    options = _by_method(given["option"], errors)
    regions = {
        name: [_numbers(f"--{name}", text, errors, count=4) for text in given[name]]
        for name in ("outside", "inside")
        if given[name]
    }
    of_page = option_page_errors(page, overwrite=given["overwrite"], made=folder)
    raise_errors([*errors, *of_page] if errors else [])
    assert path is not None  # there were no errors
    assert folder is not None
    truth = None if given["truth"] is None else Path.cwd() / given["truth"]
    with before(of_page):
        parsed = parse_configuration(path)
    if given["preview"]:
        return _preview(settings, parsed, Path(folder), given["projection"], of_page, page)
    with progress_bars(settings) as progress:
        found = compare_configuration(
            parsed,
            folder,
            methods=methods,
            positions=positions,
            projection=given["projection"],
            options=options,
            regions=regions,
            truth=truth,
            resolution=False if given["no_resolution"] else None,
            threads=given["threads"],
            results=given["results"],
            overwrite=given["overwrite"],
            progress=progress,
            errors=of_page,
        )
    click.echo(str(found))
    for step in found.steps:
        say(settings, f"Step {step}")
    say_findings(settings, found.findings)
    click.echo(f"Wrote {Path(folder) / 'comparison.md'} and the figures beside it")
    if page is not None:
        # The page opens on full-field, from the most positions.
        ordered = sorted(found.results, key=lambda run: (run[0] != DEFAULT_METHOD, -run[1]))
        named = [(f"{method}, N = {number}", found.results[method, number]) for method, number in ordered]
        frames = raw_frames(parsed, given["projection"])
        write_page(page, named, frames=frames, overwrite=given["overwrite"])
    return DONE


def _preview(
    settings: Settings,
    parsed: ParsedConfiguration,
    folder: Path,
    projection: int | None,
    errors: list[ErrorRecord],
    page: str | None,
) -> int:
    """Write a quick image of the projection that would be compared."""
    from xmist.io.results.targets import folder_errors, make_folder
    from xmist.workflow.preview import write_preview

    raise_errors([*folder_errors(folder), *errors])
    make_folder(folder)
    with progress_bars(settings) as progress:
        files = (folder / "comparison.h5", folder / "comparison.png")
        result, written = write_preview(parsed, files, projection, progress or (lambda *_: None))
    for path in written:
        click.echo(f"Wrote {path}")
    if page is not None:
        write_page(page, [("preview", result)], overwrite=True)
    say_findings(settings, result.findings)
    return DONE


def _numbers(name: str, text: str, errors: list[ErrorRecord], count: int | None = None) -> list[int]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or (count is not None and len(numbers) != count):
        expected = "whole numbers with commas, such as 2,4,10" if count is None else "Y0,Y1,X0,X1 in pixels"
        errors.append(ErrorRecord("option-invalid", f"{name} is '{text}'; expected {expected}"))
    return numbers


def _by_method(texts: tuple[str, ...], errors: list[ErrorRecord]) -> dict[str, dict[str, Any]]:
    from xmist.workflow.configuration import plain

    found: dict[str, dict[str, Any]] = {}
    for name, value in read_options(texts, errors).items():
        method, dot, option = name.partition(".")
        if not method or not dot or not option:
            message = f"--option {name} names no method; expected METHOD.NAME=VALUE, such as umpa.window=7"
            errors.append(ErrorRecord("option-invalid", message))
        else:
            found.setdefault(method, {})[option] = plain(value)
    return found
