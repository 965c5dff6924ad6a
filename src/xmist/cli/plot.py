"""The command `xmist plot`: a figure for a paper."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xmist.cli.console import DONE
from xmist.cli.options import Whole, common, listed_names
from xmist.cli.report import result_file
from xmist.core.errors import ErrorRecord, InputError, prefix_errors, raise_errors

if TYPE_CHECKING:
    from xmist.core.data import Retrieval


@click.command(short_help="Draw a result as a figure for a paper: PDF, SVG or PNG.")
@click.argument("result", metavar="RESULT.h5|CONFIG.toml")
@click.option(
    "-o", "--output", "files", metavar="FIGURE", multiple=True, help=".pdf, .svg or .png; may be repeated."
)
@click.option(
    "--channels",
    metavar="NAMES",
    help="Channels to draw, with commas, such as phase,scattering_angle,direction; all images if left out.",
)
@click.option(
    "--limits",
    multiple=True,
    metavar="CHANNEL=LOW,HIGH",
    help="Limits of the colours, in SI units; may be repeated.",
)
@click.option(
    "--cmap", multiple=True, metavar="[CHANNEL=]NAME", help="Colour map of matplotlib; may be repeated."
)
@click.option(
    "--units", multiple=True, metavar="CHANNEL=UNIT", help="Unit, such as dark_field=pm; may be repeated."
)
@click.option(
    "--crop",
    metavar="valid|whole|Y0,Y1,X0,X1",
    default="valid",
    show_default=True,
    help="Part to draw; valid leaves out borders that no frame determines.",
)
@click.option("--annotations", is_flag=True, help="Also write method, geometry, options and findings.")
@click.option("--title", metavar="TEXT", help="First line of the figure.")
@click.option("--projection", type=Whole(), metavar="NUMBER", help="Of a series; the middle one if left out.")
@click.option("--overwrite", is_flag=True, help="Replace figures that exist.")
@common
def plot(
    result: str,
    files: tuple[str, ...],
    channels: str | None,
    limits: tuple[str, ...],
    cmap: tuple[str, ...],
    units: tuple[str, ...],
    crop: str,
    annotations: bool,
    title: str | None,
    projection: int | None,
    overwrite: bool,
) -> int:
    """Draw a result as a figure with scale bar and colour bars.

    CONFIG.toml means its finished results. Method, options and findings are written on the figure only with
    --annotations; the metadata of the file always hold method and options.

    \b
    Examples:
      xmist plot result.h5 -o figure.pdf
      xmist plot result.h5 -o figure.svg --channels phase,scattering_angle --limits phase=-40,2
      xmist plot fibres.h5 -o figure.png --channels direction --crop 100,900,0,800
    """
    from xmist.io import FIGURE_ENDINGS
    from xmist.io.results.atomic import target_errors
    from xmist.view.figures import about_result, figure, save_figure

    errors: list[ErrorRecord] = []
    if not files:
        errors.append(
            ErrorRecord("option-missing", "-o is missing; expected the figure to write, -o figure.pdf")
        )
    for path in files:
        if Path(path).suffix.lower() not in FIGURE_ENDINGS:
            text = f"{path}: expected the name of a figure, which ends in {', '.join(FIGURE_ENDINGS)}"
            errors.append(ErrorRecord("ending-unknown", text))
        errors += target_errors(path, overwrite=overwrite)
    names = listed_names(channels)
    style: dict[str, Any] = {
        "channels": None if names is None else [name.replace("-", "_") for name in names],
        "limits": _by_channel("--limits", limits, errors, numbers=True),
        "cmap": _by_channel("--cmap", cmap, errors),
        "units": _by_channel("--units", units, errors),
        "crop": crop if crop in ("valid", "whole") else crop.split(","),
    }
    try:
        opened = _opened(result_file(result), projection)
    except InputError as error:
        raise InputError([*errors, *error.records]) from error
    raise_errors(errors)
    with prefix_errors("--"):
        page = figure(opened, annotations=annotations, title=title, **style)
    for path in files:
        save_figure(page, path, overwrite=overwrite, about=about_result(opened))
        click.echo(f"Wrote {Path(path)}")
    return DONE


def _opened(path: Path, projection: int | None) -> Retrieval:
    """Open a result, or a projection of a series, the middle one by default."""
    from xmist.io import open_result
    from xmist.io.results.stacks import MISSING, is_stack, open_stack

    if projection is None and is_stack(path):
        table = open_stack(path).table
        numbers = table["projection"][table["status"] != MISSING].tolist()
        if not numbers:
            text = f"{path} holds no finished projection; run xmist retrieve"
            raise InputError(text, code="results-missing")
        projection = numbers[len(numbers) // 2]
    return open_result(path, projection=projection)


def _by_channel(
    name: str, texts: tuple[str, ...], errors: list[ErrorRecord], *, numbers: bool = False
) -> Any:
    """Read "channel=value"; a value alone holds for all channels."""
    found: dict[str, Any] = {}
    for text in texts:
        channel, mark, value = (part.strip() for part in text.rpartition("="))
        if not value or (mark and not channel):
            errors.append(ErrorRecord("option-invalid", f"{name} is '{text}'; expected CHANNEL=VALUE"))
            continue
        read: Any = value.split(",") if numbers else value
        if not mark:
            return read
        found[channel.replace("-", "_")] = read
    return found or None
