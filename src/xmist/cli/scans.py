"""Commands that work on scans: `xmist scan`, and what `xmist check` says of one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from xmist.cli.console import DONE, FLAGGED, Settings, progress_bars, say
from xmist.cli.options import Whole, common
from xmist.cli.show import before, option_page_faults, page_option, write_page
from xmist.core.errors import raise_errors

if TYPE_CHECKING:
    from xmist.core.data import Retrieval
    from xmist.workflow.series import Outcome
    from xmist.workflow.series.forecast import Forecast

_SHOWN = 10


@click.command(short_help="Many projections: a CT scan or a time series, killed and resumed at will.")
@click.argument("scan_file", metavar="SCAN.toml")
@click.option("--workers", type=Whole(1), metavar="NUMBER", help="Processes on this machine.")
@click.option("--dask", metavar="ADDRESS", help="Scheduler of a Dask cluster, such as tcp://node:8786.")
@click.option("--memory", metavar="AMOUNT", help="What all processes may hold, such as 4GB.")
@click.option("--strict", is_flag=True, help="Stop at the first projection that would be flagged.")
@click.option("--full-hash", is_flag=True, help="Hash the whole input, to tell it from another.")
@click.option("--overwrite", is_flag=True, help="Begin anew where another scan's results stand.")
@page_option
@common
@click.pass_obj
def scan(
    settings: Settings,
    /,
    scan_file: str,
    workers: int | None,
    dask: str | None,
    page: str | None,
    **given: Any,
) -> int:
    """Retrieve every projection that SCAN.toml names in its table [scan], and show them as one NeXus stack.

    Run again after it was interrupted or killed, it goes on where it stopped; it refuses where the scan file
    or the frames have changed. xmist check tells time, memory and disk before.

    Exit code 3 means that some projections are flagged: they are listed, and in the table of the results.
    The page of --report shows the first, the middle and the last projection.

    \b
    Examples:
      xmist scan scan.toml
      xmist scan scan.toml --workers 8 --memory 64GB
      xmist scan scan.toml --dask tcp://node:8786
    """
    from xmist.workflow.configuration import draft_scan
    from xmist.workflow.series import Choices, run_scan
    from xmist.workflow.series.request import check_choices
    from xmist.workflow.series.trial import reads_hdf5

    with before(option_page_faults(page, overwrite=given["overwrite"])):
        draft = draft_scan(scan_file)
    overwrite = given["overwrite"] or draft.overwrite
    if workers is None and dask is None and reads_hdf5(draft):
        workers = 1  # a file that crashes its library must not take this process with it
    choices = Choices(workers=workers, client=dask, **given)
    faults = option_page_faults(page, overwrite=overwrite)
    with before(faults):
        if faults:
            check_choices(draft, choices)
    raise_errors(faults)
    with progress_bars(settings) as progress:
        outcome = run_scan(draft, choices, progress=progress)
    click.echo(f"Wrote {outcome.path}")
    for path in outcome.plots:
        click.echo(f"Wrote {path}")
    if page is not None and (shown := _some_projections(outcome)):
        write_page(page, shown, overwrite=overwrite)
    for line in _outcome_lines(outcome):
        say(settings, line)
    if outcome.stopped:
        click.echo(f"Error: --strict: stopped at {outcome.stopped}", err=True)
    return FLAGGED if outcome.flagged or outcome.stopped else DONE


def _some_projections(outcome: Outcome) -> list[tuple[str, Retrieval]]:
    """Give the first, the middle and the last projection that were retrieved."""
    from xmist.io import open_result
    from xmist.io.results.stacks import MISSING

    numbers = [row.projection for row in outcome.rows if row.status != MISSING]
    chosen = dict.fromkeys(numbers[place] for place in (0, len(numbers) // 2, -1)) if numbers else {}
    return [(f"projection {number}", open_result(outcome.path, projection=number)) for number in chosen]


def _outcome_lines(outcome: Outcome) -> Iterator[str]:
    from xmist.io.results.stacks import STATUS

    total = len(outcome.rows)
    if outcome.done_before:
        yield f"{outcome.done_before} of {total} projections had been done before"
    flagged = outcome.flagged
    if not flagged:
        return
    yield f"{len(flagged)} of {total} projections are flagged:"
    for row in flagged[:_SHOWN]:
        yield f"  {row.projection}: {STATUS[row.status]}{f' ({row.note})' if row.note else ''}"
    if len(flagged) > _SHOWN:
        yield f"  and {len(flagged) - _SHOWN} more; the table in {outcome.path} lists all"
    for problem in dict.fromkeys(outcome.problems):
        yield f"Not written: {problem}; run the same command to do what is missing"


def forecast_lines(found: Forecast) -> Iterator[str]:
    """Say what a scan would do and take, a line each."""
    from xmist.workflow.projection.estimate import about
    from xmist.workflow.projection.survey import amount

    if not found.projections:
        return
    turned = "without angles"
    if found.angles is not None:
        turned = f"from {found.angles[0]:g} to {found.angles[1]:g} degrees"
    lost = f", {found.missing} of them without all frames" if found.missing else ""
    yield f"{'projections':14} {found.projections} {turned}{lost}"
    yield f"{'positions':14} {found.positions}, references in {found.sets} set{'s' * (found.sets != 1)}"
    options = ", ".join(f"{name} = {value}" for name, value in found.options.items())
    yield f"{'method':14} {found.method}, {options}"
    yield (
        f"{'result':14} {', '.join(found.channels)} of {found.shape[0]} × {found.shape[1]} pixels (y × x) in "
        f"{found.blocks} blocks of {found.block}"
    )
    for path in found.outputs:
        yield f"{'writes':14} {path}"
    yield f"{'disk':14} {amount(found.disk)}"
    if found.memory is not None:
        yield f"{'memory':14} {amount(found.memory)} for {found.workers} at a time"
    yield f"{'time':14} {about(found.seconds)}, {found.seconds_each:.3g} s a projection as tried"
