"""The command `xmist retrieve`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xmist.cli.console import (
    BAD_INPUT,
    DONE,
    FAILED,
    FLAGGED,
    Settings,
    explain,
    progress_bars,
    say,
    say_findings,
)
from xmist.cli.options import Whole, as_typed, common, configuration_options, log_option, parse_arguments
from xmist.cli.report import before, option_page_errors, page_option, shown_projections, write_page
from xmist.core.errors import ErrorRecord, InputError, OutputError, raise_errors
from xmist.core.findings import warnings_of

if TYPE_CHECKING:
    from xmist.core.data import Retrieval
    from xmist.workflow.configuration import ParsedConfiguration
    from xmist.workflow.quality import Run

_SHOWN = 10


@click.command(short_help="Retrieve images from frames: one projection, or a series of thousands.")
@configuration_options
@click.option("--workers", type=Whole(1), metavar="NUMBER", help="For a series: processes on this machine.")
@click.option("--dask", metavar="ADDRESS", help="For a series: scheduler of a Dask cluster, tcp://node:8786.")
@click.option("--memory", metavar="AMOUNT", help="Memory for all processes together, such as 4GB.")
@click.option(
    "--strict", is_flag=True, help="Exit code 3 if there is a warning; a series stops at the first."
)
@click.option("--follow", is_flag=True, help="For a series: retrieve projections as they are recorded.")
@click.option(
    "--idle-timeout",
    type=click.FloatRange(0, min_open=True),
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    help="With --follow: end when no file has changed for this time.",
)
@click.option(
    "--output-folder", metavar="FOLDER", help="Folder for the results; it is made if it does not exist."
)
@click.option(
    "--preview", is_flag=True, help="Write a quick image, NAME.preview.EXT: a fast method, binned frames."
)
@page_option
@log_option
@common
@click.pass_obj
def retrieve(settings: Settings, /, config: tuple[str, ...], **given: Any) -> int:
    """Retrieve one projection or a series, and write the results.

    A configuration file (xmist init writes one), options, or both state what to do; options replace values of
    the file. No file is overwritten without --overwrite.

    A series has {projection} in the names of its sample frames, or a table [series]. Its results are written
    in blocks beside the output file, which refers to them. After a kill or a stop, the same command
    continues.

    With --follow, projections are retrieved while they are recorded: new files, or frames that are added to a
    dataset. The command ends when all projections have arrived ([series] expected), at Ctrl-C, or when no
    file has changed for the idle timeout. The exit code is 3 if fewer arrived than expected.

    Exit code 3 means that results were written, but some unmasked pixels have no value, or projections of a
    series could not be retrieved.

    Several configurations are retrieved one after another. If one fails, the others are still retrieved, and
    the exit code is the worst. With --output-folder each writes to a folder of its own there. File names in
    --set are relative to the configuration file.

    \b
    Examples:
      xmist retrieve config.toml
      xmist retrieve config.toml --preview
      xmist retrieve a.toml b.toml --output-folder results
      xmist retrieve template.toml --set input.sample='s12_*.tif' --output-folder out/s12
      xmist retrieve config.toml --method umpa --option window=5 -o umpa.h5
      xmist retrieve series.toml --workers 8 --memory 32GB
      xmist retrieve series.toml --follow
      xmist retrieve --reference 'ref_*.tif' --sample 'sample_*.tif' \\
          --energy-kev 17 --pixel-size 5.8e-6 --sample-to-detector 1.0 \\
          --step bad-pixels --method mist --option smoothing=2 -o result.h5 -o result.png
    """
    if len(config) < 2 or not all(name.lower().endswith(".toml") for name in config):
        return _retrieve(settings, config, **given)
    if given["output"]:
        text = "-o with several configurations would write all results to one file; use --output-folder"
        raise InputError(text, code="option-conflict")
    if given["page"]:
        raise InputError("--report takes one configuration; leave it out", code="option-conflict")
    folder = given.pop("output_folder")
    labels = [Path(name).stem for name in config]
    if len(set(labels)) < len(labels):  # with their folders, to tell them apart
        labels = ["_".join(Path(name).with_suffix("").parts[-2:]) for name in config]
    if folder is not None and len(set(labels)) < len(labels):
        text = f"--output-folder: several configurations are called {labels[0]}; retrieve them one by one"
        raise InputError(text, code="option-conflict")
    codes = []
    for name, label in zip(config, labels, strict=True):
        own = None if folder is None else str(Path(folder) / label)
        try:
            codes.append(_retrieve(settings, (name,), output_folder=own, **given))
        except (InputError, OutputError, MemoryError, OSError) as error:
            code, text = explain(error)
            if settings.log is not None:
                settings.log.error(error)
            click.echo(text if name in text else f"{name}: {text}", err=True)
            codes.append(code)
    failed = sum(code not in (DONE, FLAGGED) for code in codes)
    say(settings, f"{len(codes) - failed} of {len(codes)} configurations retrieved")
    # A failure is worse than bad input, and bad input worse than flagged results.
    return next((code for code in (FAILED, BAD_INPUT, FLAGGED) if code in codes), DONE)


def _retrieve(
    settings: Settings,
    config: tuple[str, ...],
    *,
    output_folder: str | None,
    workers: int | None,
    dask: str | None,
    memory: str | None,
    strict: bool,
    follow: bool,
    idle_timeout: float,
    preview: bool,
    page: str | None,
    **given: Any,
) -> int:
    """Retrieve one configuration."""
    from xmist.io.results.targets import make_folder
    from xmist.workflow.discovery import discover
    from xmist.workflow.run import raw_frames, run_parsed
    from xmist.workflow.series import reads_hdf5

    with before(option_page_errors(page, overwrite=given["overwrite"])):
        parsed = parse_arguments(config, given)
    if output_folder is not None and not parsed.problems:
        folder = Path.cwd() / output_folder
        make_folder(folder)
        parsed = replace(parsed, files=tuple(folder / path.name for path in parsed.files))
    errors = option_page_errors(page, overwrite=parsed.overwrite)
    if preview:
        return _preview(settings, parsed, page, errors)
    if errors:
        raise InputError([*parsed.named(discover(parsed).errors), *errors])
    if parsed.is_series and workers is None and dask is None and reads_hdf5(parsed):
        workers = 1  # a file that crashes its library must not end this process
    with progress_bars(settings) as progress:
        done = run_parsed(
            parsed,
            workers=workers,
            client=dask,
            memory=memory,
            overwrite=given["overwrite"],
            strict=strict,
            idle_timeout=idle_timeout if follow else None,
            log=settings.log,
            progress=progress,
        )
    for path in done.files:
        click.echo(f"Wrote {as_typed(path)}")
    if parsed.tomography is not None:
        from xmist.cli.tomography import axis_text
        from xmist.io.results.volumes import is_volumes, open_volumes

        for path in filter(is_volumes, done.files):
            say(settings, axis_text(open_volumes(path)))
    if page is not None:
        shown = [(done.path.name, done.result)] if done.result else shown_projections(done.path)
        frames = raw_frames(parsed, None if done.result else shown[0][1].provenance["quality"]["projection"])
        write_page(page, shown, frames=frames, overwrite=parsed.overwrite)
    if done.result is not None:
        for line in _result_lines(done.result):
            say(settings, line)
    say_findings(settings, done.findings)
    for line in _single_lines(done) if done.result is not None else _series_lines(done):
        say(settings, line)
    if done.stopped:
        click.echo(f"Error: --strict: stopped at {done.stopped}", err=True)
    warned = strict and (any(row.needs_attention for row in done.rows) or warnings_of(done.findings))
    return FLAGGED if done.flagged or done.stopped or warned else DONE


def _preview(
    settings: Settings, parsed: ParsedConfiguration, page: str | None, errors: list[ErrorRecord]
) -> int:
    """Write a quick image beside the results."""
    from xmist.workflow.preview import write_preview

    if not parsed.files:
        raise_errors([*parsed.errors(), *errors])
    with progress_bars(settings) as progress:
        result, files = write_preview(parsed, parsed.files, None, progress or (lambda *_: None), errors)
    for path in files:
        click.echo(f"Wrote {as_typed(path)}")
    if page is not None:
        write_page(page, [(files[0].name, result)], overwrite=parsed.overwrite)
    say_findings(settings, result.findings)
    return DONE


def _result_lines(result: Retrieval) -> Iterator[str]:
    from xmist.core.flags import count_flags

    for note in result.provenance["preprocessing"]:
        yield f"Step {note}"
    flags = count_flags(result.flags)
    if flags:
        yield "Flagged pixels: " + ", ".join(f"{number} {name}" for name, number in flags.items())


def _single_lines(done: Run) -> Iterator[str]:
    lost = done.rows[0].valueless
    if lost:
        yield (
            f"{lost} unmasked pixels have no value (flags undetermined, not_positive); the step 'unlit' "
            "masks regions without beam"
        )


def _series_lines(done: Run) -> Iterator[str]:
    from xmist.io.results.stacks import STATUS

    total = len(done.rows)
    if done.done_before:
        yield f"{done.done_before} of {total} projections had been done before"
    flagged = done.flagged
    if flagged:
        yield f"{len(flagged)} of {total} projections are flagged:"
    for row in flagged[:_SHOWN]:
        yield f"  {row.projection}: {STATUS[row.status]}{f' ({row.note})' if row.note else ''}"
    if len(flagged) > _SHOWN:
        yield f"  and {len(flagged) - _SHOWN} more; the table in {done.path} lists all"
    for problem in dict.fromkeys(done.problems):
        yield f"Not written: {problem}; run the same command again to retrieve the rest"
