"""The command `xmist tomography`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xmist.cli.console import DONE, Settings, progress_bars, say, say_findings
from xmist.cli.options import Command, Whole, as_typed, common, log_option, read_value
from xmist.core.errors import ErrorRecord, raise_errors

if TYPE_CHECKING:
    from xmist.io.results.volumes import Volumes
    from xmist.tomography.options import VolumeOptions
    from xmist.workflow.volumes import VolumesEstimate
    from xmist.workflow.volumes_prepared import Prepared

_HELP = {
    "algorithm": "auto, fbp, cgls or sirt; auto is cgls where the results have standard deviations.",
    "centre": "Column of the rotation axis, from 0; found if left out.",
    "rings": "Ring suppression: none, small or all.",
    "filter": "Window on the ramp filter of fbp, such as hann.",
    "iterations": "Iterations of cgls and sirt.",
    "prior": "Prior on slices in cgls: none, smooth or tv.",
    "strength": "Strength of the prior, 0.01 to 10.",
    "acquisition": "full, half (the axis near a border, over 360 degrees), or auto.",
    "padding": "Margin for an object that leaves the frame, as a share of the width (cgls, sirt).",
    "volumes": "Some of delta, mu, scattering, with commas; all if left out.",
    "delta-from": "Source of delta: phase, refraction, or auto.",
    "air": "Box without sample, y0,y1,x0,x1; auto takes both borders; or none.",
    "exclude": "Projections to leave out, with commas.",
    "max-valueless": "Leave out projections with a larger share of pixels without a value.",
    "psf-sigma": "Width of the detector's point spread in m, whose effect on the scattering is corrected.",
    "block": "Slices per file.",
}


def _volume_options(command: Command) -> Command:
    """Add an option for each of `VolumeOptions`."""
    for name, text in reversed(_HELP.items()):
        command = click.option(f"--{name}", metavar="VALUE", help=text)(command)
    return command


@click.command(short_help="Reconstruct volumes from the results of a series.")
@click.argument("result", metavar="RESULT.h5")
@click.option("-o", "--output", metavar="FILE", help="The volumes (.h5).")
@_volume_options
@click.option(
    "--workers", type=Whole(1), metavar="NUMBER", help="Processes on this machine; one for each core."
)
@click.option("--dask", metavar="ADDRESS", help="Scheduler of a Dask cluster, tcp://node:8786.")
@click.option("--check", is_flag=True, help="Show the rotation axis, time, memory and disk; write nothing.")
@click.option("--tiff", is_flag=True, help="Also write each volume as a stack for ImageJ, FILE_delta.tif.")
@click.option("--overwrite", is_flag=True, help="Replace other volumes of this name.")
@log_option
@common
@click.pass_obj
def tomography(
    settings: Settings,
    /,
    result: str,
    output: str | None,
    workers: int | None,
    dask: str | None,
    check: bool,
    tiff: bool,
    overwrite: bool,
    **given: Any,
) -> int:
    """Reconstruct volumes of the refractive index decrement, attenuation and scattering.

    RESULT.h5 holds the results of a series with angles, as xmist retrieve writes them. The volumes are delta
    (from the phase), mu in 1/m (from the transmission) and scattering, the mean square of the refraction
    angle per axis and metre in rad²/m (from the dark-field). Slices are written in blocks beside the
    output file, which refers to them. After a kill or a stop, the same command continues.

    Needs algotom and astra-toolbox: pip install "xmist[tomography]".

    \b
    Examples:
      xmist tomography series.h5 -o volumes.h5
      xmist tomography series.h5 -o volumes.h5 --algorithm fbp --filter hann --centre 1023.5
      xmist tomography series.h5 --check
    """
    from xmist.numerics.parallel import count_threads
    from xmist.workflow.volumes import estimate_volumes, write_volumes
    from xmist.workflow.volumes_prepared import prepare_volumes

    options = _read(given, output, check=check)
    number = workers or (1 if dask else count_threads())
    with progress_bars(settings) as progress:
        if check:
            prepared = prepare_volumes(result, options, progress)
            found = estimate_volumes(
                prepared.options,
                angles=prepared.angles,
                shape=prepared.shape,
                algorithms=prepared.algorithms,
                centre=prepared.centre.column,
                cone=prepared.cone,
                workers=number,
            )
            for line in _lines(prepared, found):
                click.echo(line)
            say_findings(settings, prepared.findings)
            return DONE
        assert output is not None
        done = write_volumes(
            result,
            output,
            options=options,
            workers=number,
            client=dask,
            overwrite=overwrite,
            progress=progress,
        )
    click.echo(f"Wrote {as_typed(Path(output))}")
    for path in done.write_tiff(Path(output).with_suffix(".tif"), overwrite=True) if tiff else ():
        click.echo(f"Wrote {as_typed(path)}")
    say(settings, axis_text(done))
    say_findings(settings, done.findings)
    return DONE


def _read(given: dict[str, Any], output: str | None, *, check: bool) -> VolumeOptions:
    """Return the options, or raise everything that is wrong with the arguments."""
    from xmist.core.options import read_options
    from xmist.tomography.options import VolumeOptions

    values = {name: read_value(text) for name, text in given.items() if text is not None}
    options, errors = read_options(
        VolumeOptions,
        values,
        owner="tomography",
        called=lambda name: f"--{name.replace('_', '-')}",
    )
    if not output and not check:
        errors.append(
            ErrorRecord("option-missing", "-o is missing; expected the file to write, such as v.h5")
        )
    raise_errors(errors)
    return options


def _lines(prepared: Prepared, found: VolumesEstimate) -> Iterator[str]:
    low, high = prepared.angles.min(), prepared.angles.max()
    yield f"{'projections':14} {prepared.kept.size} from {low:g} to {high:g} degrees"
    yield f"{'rotation axis':14} {centre_text(prepared)}"
    if prepared.refraction:
        yield f"{'delta':14} from refraction angles"
    yield from volume_lines(found)


def volume_lines(found: VolumesEstimate) -> Iterator[str]:
    """Return time, memory and disk space of volumes, as lines."""
    from xmist.workflow.estimates import about
    from xmist.workflow.outputs import amount

    y, z, x = found.shape
    by = ", ".join(f"{name} by {algorithm}" for name, algorithm in found.algorithms.items())
    yield f"{'volumes':14} {by}: {y} slices of {z} × {x} pixels in {found.blocks} blocks of {found.block}"
    yield f"{'':14} disk {amount(found.disk)}, memory about {amount(found.memory)}, {about(found.seconds)}"


def axis_text(volumes: Volumes) -> str:
    """Return the rotation axis of volumes, as text."""
    return f"Rotation axis at column {volumes.centre:.2f}; {len(volumes.projections)} projections"


def centre_text(prepared: Prepared) -> str:
    """Return the rotation axis, and how it was found, as text."""
    centre = prepared.centre
    text = f"column {centre.column:.2f}"
    if centre.spread == centre.spread:
        text += f" ± {centre.spread:.2g}"
    if centre.tilt:
        text += f", tilted by {centre.tilt:.2f}°"
    how = f"{centre.pairs} opposite pairs" if centre.pairs else "the centre of mass"
    return text + (" as given" if prepared.options.centre != "auto" else f" from {how}")
