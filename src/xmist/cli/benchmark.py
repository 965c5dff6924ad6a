"""The command `xmist benchmark`."""

from __future__ import annotations

import click

from xmist.cli.console import DONE, Settings, echo_json, progress_bars, say
from xmist.cli.options import Whole, common
from xmist.core.errors import ErrorRecord, raise_errors


@click.command(short_help="Measure accuracy and speed of the methods on this machine.")
@click.option("--method", "methods", multiple=True, metavar="NAME", help="All if left out; may be repeated.")
@click.option(
    "--phantom", "cases", multiple=True, metavar="NAME", help="All five if left out; may be repeated."
)
@click.option(
    "--positions", type=Whole(), multiple=True, metavar="N", help="2 and 10 if left out; may be repeated."
)
@click.option("--size", type=Whole(), metavar="PIXELS", help="Side of the phantoms; 256 if left out.")
@click.option("--speed-size", type=Whole(), multiple=True, metavar="PIXELS", help="512 and 1024 if left out.")
@click.option("--no-accuracy", is_flag=True, help="Leave out the accuracy.")
@click.option("--no-speed", is_flag=True, help="Leave out the speed.")
@click.option("--threads", type=Whole(1), metavar="NUMBER", help="Threads; all cores if left out.")
@click.option("-o", "--output", metavar="FILE", help="Also write the tables (.md) or the numbers (.json).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
@click.option("--overwrite", is_flag=True, help="Replace a file that exists.")
@common
@click.pass_obj
def benchmark(
    settings: Settings,
    /,
    methods: tuple[str, ...],
    cases: tuple[str, ...],
    positions: tuple[int, ...],
    size: int | None,
    speed_size: tuple[int, ...],
    no_accuracy: bool,
    no_speed: bool,
    threads: int | None,
    output: str | None,
    as_json: bool,
    overwrite: bool,
) -> int:
    """Measure accuracy on simulated phantoms with a known truth, and speed on random speckle.

    All methods on all phantoms take some minutes. A method that cannot work is listed with the reason.
    Methods with the option smoothing use 2 pixels.

    \b
    Examples:
      xmist benchmark -o benchmark.md
      xmist benchmark --method full-field --method lcs --phantom absorbing --no-speed
    """
    from xmist.evaluate.benchmark import (
        POSITIONS,
        SIZE,
        SPEED_SIZES,
        output_errors,
        request_errors,
        run_benchmark,
        save_benchmark,
    )
    from xmist.methods import METHODS
    from xmist.simulate.phantoms import CASES

    chosen = methods or tuple(METHODS)
    phantoms = () if no_accuracy else cases or tuple(CASES)
    numbers = positions or POSITIONS
    side = SIZE if size is None else size
    sides = () if no_speed else speed_size or SPEED_SIZES
    errors: list[ErrorRecord] = [*request_errors(chosen, phantoms, numbers, side, sides)]
    if no_accuracy and no_speed:
        message = "--no-accuracy and --no-speed leave nothing to measure; give only one of them"
        errors.append(ErrorRecord("option-conflict", message))
    if output is not None:
        errors += output_errors(output, overwrite=overwrite)  # before the work
    raise_errors(errors)
    with progress_bars(settings) as progress:
        found = run_benchmark(
            methods=chosen,
            cases=phantoms,
            positions=numbers,
            size=side,
            speed_sizes=sides,
            threads=threads,
            progress=progress,
        )
    if as_json:
        echo_json(found.to_dict())
    else:
        click.echo(str(found))
    if output is not None:
        save_benchmark(found, output, overwrite=overwrite)
        say(settings, f"Wrote {output}")
    return DONE
