"""The command `xmist check`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from xmist.cli.console import DONE, Settings, echo_json, progress_bars, say_findings
from xmist.cli.options import Whole, common, configuration_options, parse_arguments
from xmist.cli.tomography import volume_lines
from xmist.core.errors import InputError

if TYPE_CHECKING:
    from xmist.workflow.estimates import Check


@click.command(short_help="Show what retrieve would do, memory, time, and every error.")
@configuration_options
@click.option("--workers", type=Whole(1), metavar="NUMBER", help="As for xmist retrieve.")
@click.option("--memory", metavar="AMOUNT", help="As for xmist retrieve.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
@common
@click.pass_obj
def check(
    settings: Settings,
    /,
    config: tuple[str, ...],
    workers: int | None,
    memory: str | None,
    as_json: bool,
    **given: Any,
) -> int:
    """Show what xmist retrieve would do with the same arguments; nothing is written.

    Lists every error, the geometry and where the headers contradict it, and estimates memory and time. The
    exit code is 2 if there is an error. Up to three projections are read, to measure flux and visibility and
    to test whether each sample frame matches its reference frame. For the estimate, the method runs on small
    random frames: this takes seconds, or up to a minute at the first use of full-field. For a series, one
    projection is retrieved twice instead.

    \b
    Examples:
      xmist check config.toml
      xmist check --json config.toml
    """
    from xmist.workflow.estimates import check as look

    parsed = parse_arguments(config, given)
    with progress_bars(settings) as progress:
        found = look(parsed, workers=workers, memory=memory, progress=progress)
    if as_json:
        echo_json(found.to_dict())
    else:
        for line in _lines(found):
            click.echo(line)
        say_findings(settings, found.findings)
    if found.errors:
        raise InputError(parsed.named(found.errors))
    return DONE


def _lines(found: Check) -> Iterator[str]:
    from xmist.workflow.estimates import about
    from xmist.workflow.examine import describe_examined
    from xmist.workflow.listing import describe_rows
    from xmist.workflow.outputs import amount

    for role, frames in found.frames.items():
        y, x = frames["shape"]
        yield (
            f"{role:14} {_number(frames['frames'], 'frame')} of {y} × {x} pixels (y × x), {frames['dtype']}, "
            f"in {_number(frames['files'], 'file')}"
        )
    if found.series and found.projections is not None:
        turned = "without angles"
        if found.angles is not None:
            turned = f"from {found.angles[0]:g} to {found.angles[1]:g} degrees ({found.angle_source})"
        lost = f", {found.missing} of them without all frames" if found.missing else ""
        yield f"{'projections':14} {found.projections} {turned}{lost}"
    if found.positions is not None:
        sets = f", references in {_number(found.sets or 1, 'set')}" if found.series else ""
        yield f"{'positions':14} {found.positions}{sets}"
    yield from describe_rows(found.rows)
    if found.examined:
        shown = describe_examined(found.examined)
        yield f"{'examined':14} projection {found.examined['projection']}: {shown}"
    if found.geometry:
        g = found.geometry
        source = g["source_to_sample"]
        beam = "parallel beam" if source is None else f"source at {source:g} m"
        yield (
            f"{'experiment':14} {g['energy_kev']:g} keV, {beam}, detector at {g['sample_to_detector']:g} m"
        )
        yield (
            f"{'':14} pixel {g['pixel_size']:.4g} m, in the sample's plane {g['effective_pixel']:.4g} m; "
            f"effective distance {g['effective_distance']:.4g} m"
        )
    for number, step in enumerate(found.steps, 1):
        yield f"{f'step {number}':14} {step}"
    if found.method:
        options = ", ".join(f"{name} = {value}" for name, value in found.options.items())
        yield f"{'method':14} {found.method}, {options or 'default options'}"
    if found.shape:
        size = f"{found.shape[0]} × {found.shape[1]} pixels (y × x)"
        many = f"{', '.join(found.channels)} of {size} in {found.blocks} blocks of {found.block}"
        yield f"{'result':14} {many if found.channels else size}"
    for path in found.outputs:
        yield f"{'writes':14} {path}"
    if found.disk is not None:
        yield f"{'disk':14} {amount(found.disk)}"
    if found.memory is not None:
        workers = f" for {found.workers} at a time" if found.series else ""
        yield f"{'memory':14} about {amount(found.memory)}{workers}"
    if found.seconds_each is not None and found.seconds is not None:
        yield f"{'time':14} {about(found.seconds)}, {found.seconds_each:.3g} s a projection as tried"
    elif found.memory is not None:
        time = "unknown" if found.seconds is None else about(found.seconds)
        yield f"{'time':14} {time} on this machine"
    if found.volumes is not None:
        yield from volume_lines(found.volumes)


def _number(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"
