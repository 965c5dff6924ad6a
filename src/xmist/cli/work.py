"""Commands that work on frames: `xmist check` and `xmist retrieve`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xmist.cli.console import DONE, FLAGGED, Settings, echo_json, progress_bars, say
from xmist.cli.options import Whole, as_typed, changes, common, scan_options, single_scan
from xmist.cli.scans import forecast_lines
from xmist.cli.show import before, option_page_faults, page_option, write_page
from xmist.core.errors import InputError

if TYPE_CHECKING:
    from xmist.core.data import Retrieval
    from xmist.workflow.configuration import Draft
    from xmist.workflow.projection import Check
    from xmist.workflow.series.forecast import Forecast


@click.command(short_help="From frames to pictures, as a scan file or options say.")
@scan_options
@page_option
@common
@click.pass_obj
def retrieve(settings: Settings, /, scan: tuple[str, ...], page: str | None, **given: Any) -> int:
    """Retrieve one projection and write its results.

    Everything is stated by a scan file (xmist init writes one), by options, or by both: options take
    the place of what the file says. No file is overwritten unless --overwrite is given.

    Exit code 3 means that the results were written, but some pixels have no value though no mask hid them.

    \b
    Examples:
      xmist retrieve scan.toml
      xmist retrieve scan.toml --option smoothing=3 -o smoother.h5
      xmist retrieve scan.toml --report result.html
      xmist retrieve --reference 'ref_*.tif' --sample 'sample_*.tif' \\
          --energy-kev 17 --pixel-size 5.8e-6 --sample-to-detector 1.0 \\
          --step bad-pixels --method mist --option smoothing=2 -o result.h5 -o result.png
    """
    from xmist.workflow.projection import count_valueless, run
    from xmist.workflow.projection.survey import survey

    with before(option_page_faults(page, overwrite=given["overwrite"])):
        draft = _draft(scan, given)
    faults = option_page_faults(page, overwrite=draft.overwrite)
    if faults:
        raise InputError([*draft.named(survey(draft).faults), *faults])
    with progress_bars(settings) as progress:
        result = run(draft, progress=progress)
    for path in draft.files:
        click.echo(f"Wrote {as_typed(path)}")
    if page is not None:
        write_page(page, [(draft.files[0].name, result)], overwrite=draft.overwrite)
    for line in _remarks(result):
        say(settings, line)
    lost = count_valueless(result)
    if lost:
        say(
            settings,
            f"{lost} pixels have no value though no mask hid them (flags undetermined, not_positive); a step "
            "'unlit' masks what the beam does not reach",
        )
    return FLAGGED if lost else DONE


@click.command(short_help="Say what retrieve would do, what it needs, and every fault.")
@scan_options
@click.option("--workers", type=Whole(1), metavar="NUMBER", help="As for xmist scan.")
@click.option("--memory", metavar="AMOUNT", help="As for xmist scan.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
@common
@click.pass_obj
def check(
    settings: Settings,
    /,
    scan: tuple[str, ...],
    workers: int | None,
    memory: str | None,
    as_json: bool,
    **given: Any,
) -> int:
    """Say what xmist retrieve would do with the same arguments. Reads headers only, and writes nothing.

    Tells every fault at once, the geometry and where the headers contradict it, the memory that will be
    needed and a rough time. Exit code 2 if there is a fault. Where there is none, it tries the method on
    small made-up frames, to know time and memory: seconds for most methods, up to a minute for full-field
    where it was never used before. Of a scan file with a table [scan] it says what xmist scan would do; for
    that it retrieves one projection, twice.

    \b
    Examples:
      xmist check scan.toml
      xmist check --json scan.toml
    """
    from xmist.workflow.projection import check as look

    draft = _draft(scan, given)
    found: Check | Forecast
    with progress_bars(settings) as progress:
        if draft.scan is None:
            found = look(draft, progress=progress)
            lines = _check_lines(found)
        else:
            from xmist.workflow.series.forecast import forecast

            if progress is not None:
                progress("opening the frames and retrieving one projection", 0, 1)
            found = forecast(draft, workers=workers, memory=memory)
            lines = forecast_lines(found)
    if as_json:
        echo_json(found.to_dict())
    else:
        for line in lines:
            click.echo(line)
        for remark in found.remarks:
            say(settings, f"Note: {remark}")
    if found.faults:
        # What is wrong with a scan has its name already, as far as it is about the file.
        raise InputError(draft.named(found.faults) if draft.scan is None else found.faults)
    return DONE


def _draft(scan: tuple[str, ...], given: dict[str, Any]) -> Draft:
    """Bring scan file and options together."""
    from xmist.workflow.configuration import draft_scan, make_draft

    path = single_scan(scan)
    sections, called = changes(given)
    if path is None:
        return make_draft(sections, folder="", source="", confined=False, called=called)
    # Names on a command line are relative to the folder where it was typed.
    for section, keys in (("input", ("reference", "sample", "dark", "flat")), ("output", ("files",))):
        for key in keys:
            if key in sections.get(section, {}):
                names = sections[section][key]
                sections[section][key] = [
                    str(Path.cwd() / _home(name)) if name.strip() else name for name in names
                ]
    given_keys = {
        f"{section}.{key}" for section, keys in sections.items() if isinstance(keys, dict) for key in keys
    }
    if "preprocess" in sections:
        given_keys |= {key for key in called if key.startswith("preprocess")}
    return draft_scan(path, sections, called={key: name for key, name in called.items() if key in given_keys})


def _home(name: str) -> Path:
    """Put the home of a user in the place of the ~ that quotes keep from the shell."""
    try:
        return Path(name).expanduser()
    except RuntimeError:  # there is no such user
        return Path(name)


def _remarks(result: Retrieval) -> Iterator[str]:
    from xmist.core.flags import count_flags

    for note in result.provenance["preprocessing"]:
        yield f"Step {note}"
    for remark in result.provenance["remarks"]:
        yield f"Note: {remark}"
    flags = count_flags(result.flags)
    if flags:
        yield "Flagged pixels: " + ", ".join(f"{number} {name}" for name, number in flags.items())
    for finding in result.findings:
        yield f"Note: {finding}"


def _check_lines(found: Check) -> Iterator[str]:
    from xmist.workflow.projection.estimate import about
    from xmist.workflow.projection.survey import amount

    for role, frames in found.frames.items():
        y, x = frames["shape"]
        yield (
            f"{role:14} {_number(frames['frames'], 'frame')} of {y} × {x} pixels (y × x), {frames['dtype']}, "
            f"in {_number(frames['files'], 'file')}"
        )
    if found.positions is not None:
        yield f"{'positions':14} {found.positions}"
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
        yield f"{'method':14} {found.method}, {options or 'options as they are by default'}"
    if found.shape:
        yield f"{'result':14} {found.shape[0]} × {found.shape[1]} pixels (y × x)"
    for path in found.outputs:
        yield f"{'writes':14} {path}"
    if found.memory is not None:
        yield f"{'memory':14} about {amount(found.memory)}"
        time = "cannot be told" if found.seconds is None else about(found.seconds)
        yield f"{'time':14} {time} on this machine"


def _number(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"
