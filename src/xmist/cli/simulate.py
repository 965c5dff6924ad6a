"""The command `xmist simulate`: a ready-made experiment in files, or a plan of it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xmist.cli.console import DONE, Settings, echo_json, progress_bars, say
from xmist.cli.options import Number, Whole, common
from xmist.core.errors import ErrorRecord, InputError, raise_errors, suggest

if TYPE_CHECKING:
    from xmist.evaluate.planning import ExpectedErrors

_FACTORS = (0.25, 0.5, 1.0, 2.0)  # of the preset's distance
_SPECKLES = (3.0, 6.0)  # pixels in the sample's plane
_POSITIONS = (2, 10)
_LIGHT = (0.01, 1.0)  # of the preset's photons
_VISIBILITY = 0.3
_DRAWS = 4
_PLANNED = (128, 128)
_WAVE_BYTES = 16 * 70.0  # a pixel: 4 × 4 samples of the wave
_FRAME_BYTES = 6.0  # a pixel, as float32 and in counts
_LARGEST = 1e12  # bytes, for a machine that does not state its memory


@click.command(short_help="Simulate an experiment with a known truth, or plan one.")
@click.argument("preset")
@click.option("-o", "--output", "folder", metavar="FOLDER", help="Where to write; xmist-PRESET if left out.")
@click.option(
    "--shape",
    type=Whole(),
    nargs=2,
    metavar="Y X",
    help="Pixels; 256 256 if left out, 96 96 for ct, 128 128 with --plan.",
)
@click.option(
    "--positions",
    type=Whole(1),
    multiple=True,
    metavar="NUMBER",
    help="Positions of the diffuser; 10 if left out (ct 4), 2 and 10 with --plan, where it may be repeated.",
)
@click.option(
    "--angles", type=Whole(1), metavar="NUMBER", help="Projections of the preset ct; 60 if left out."
)
@click.option(
    "--seed",
    type=Whole(),
    metavar="NUMBER",
    default=0,
    show_default=True,
    help="Seed of random numbers; another seed gives another experiment.",
)
@click.option(
    "--form", type=click.Choice(["tiff", "hdf5"]), default="tiff", show_default=True, help="Of the frames."
)
@click.option("--plan", "planned", is_flag=True, help="Estimate the errors to expect; write no frames.")
@click.option(
    "--distance",
    type=Number(),
    multiple=True,
    metavar="M",
    help="With --plan: distance in metres; may be repeated.",
)
@click.option(
    "--speckle",
    type=Number(),
    multiple=True,
    metavar="M",
    help="With --plan: speckle size in metres; may be repeated.",
)
@click.option(
    "--photons",
    type=Number(),
    multiple=True,
    metavar="P",
    help="With --plan: photons per pixel; may be repeated.",
)
@click.option(
    "--method", metavar="NAME", help="Method of the configuration or the plan; full-field if left out."
)
@click.option("--json", "as_json", is_flag=True, help="With --plan: print JSON, for scripts.")
@click.option("--overwrite", is_flag=True, help="Replace files that exist.")
@common
@click.pass_obj
def simulate(settings: Settings, /, preset: str, folder: str | None, planned: bool, **given: Any) -> int:
    """Simulate the frames of PRESET by wave optics, and write them.

    PRESET is currant, low-dose, fibres, spheres, tubes or ct. Writes reference, sample, dark and flat frames,
    truth.h5 with the true images, and config.toml for xmist retrieve. With --plan, no frames are written: a
    table and a figure in FOLDER show the expected errors for distances, speckle sizes, numbers of positions
    and doses.

    \b
    Examples:
      xmist simulate currant -o currant
      xmist retrieve currant/config.toml
      xmist simulate fibres --plan --distance 0.5 --distance 1 --positions 5
    """
    from xmist.simulate.presets import RECIPES

    name = preset.replace("_", "-")
    if name not in RECIPES:
        raise InputError(f"there is no preset '{preset}'; {suggest(preset, RECIPES)}", "preset-unknown")
    _check_given(name, planned, given)
    _check_memory(name, planned, given)
    if planned:
        return _plan(settings, name, folder, given)
    return _simulate(settings, name, Path(folder or f"xmist-{name}"), given)


def _check_given(name: str, planned: bool, given: dict[str, Any]) -> None:
    wrong = [
        f"--{key} goes with --plan; leave it out, or add --plan"
        for key in ("distance", "speckle", "photons")
        if given[key] and not planned
    ]
    if len(given["positions"]) > 1 and not planned:
        wrong.append("--positions is given more than once; expected it once, or --plan")
    if given["as_json"] and not planned:
        wrong.append("--json goes with --plan; leave it out, or add --plan")
    if given["angles"] is not None and (planned or name != "ct"):
        wrong.append("--angles goes with the preset ct alone; leave it out")
    raise_errors([ErrorRecord("option-conflict", text) for text in wrong])


def _check_memory(name: str, planned: bool, given: dict[str, Any]) -> None:
    """Raise an error if the simulation does not fit into the memory of this machine."""
    from xmist.simulate import presets
    from xmist.workflow.estimates import machine_memory
    from xmist.workflow.outputs import amount

    defaults = inspect.signature(getattr(presets, name.replace("-", "_"))).parameters
    wanted = {key: item.default for key, item in defaults.items() if key in ("shape", "positions", "angles")}
    if planned:
        wanted = {"shape": _PLANNED, "positions": max(given["positions"] or _POSITIONS)}
    elif given["positions"]:
        wanted["positions"] = given["positions"][0]
    wanted |= {key: given[key] for key in wanted if key != "positions" and given[key] is not None}
    y, x = wanted["shape"]
    frames = wanted["positions"] * (1 + wanted.get("angles", 1))
    need = float(x) * y * (_WAVE_BYTES + _FRAME_BYTES * frames)
    have = machine_memory()
    if need > (have or _LARGEST):
        known = "that is more than a machine has" if have is None else f"this machine has {amount(have)}"
        raise InputError(
            f"{', '.join(f'{key} {value}' for key, value in wanted.items())}: about {amount(need)} of memory "
            f"are needed, and {known}; expected smaller numbers",
            code="memory-insufficient",
        )


def _simulate(settings: Settings, name: str, folder: Path, given: dict[str, Any]) -> int:
    from xmist.io.results.atomic import target_errors
    from xmist.methods import find_method
    from xmist.simulate import presets
    from xmist.workflow import simulation as files

    # Before the work, not after it.
    if given["method"] is not None:
        find_method(given["method"])
    config = folder / "config.toml"
    if config.exists():
        raise_errors(target_errors(config, overwrite=given["overwrite"]))
    wanted = {key: given[key] for key in ("shape", "angles") if given[key] is not None}
    if given["positions"]:
        wanted["positions"] = given["positions"][0]
    make = getattr(presets, name.replace("-", "_"))
    with progress_bars(settings) as progress:
        made = make(seed=given["seed"], progress=progress, **wanted)
    written = files.write_simulation(
        made, folder, form=given["form"], method=given["method"], overwrite=given["overwrite"]
    )
    for finding in getattr(made, "findings", ()):
        say(settings, f"Note: {finding}")
    click.echo(f"Wrote {len(written)} files to {folder}")
    say(settings, f"Next: xmist retrieve {config}")
    if (series := folder / "series.toml") in written:
        say(settings, f"or, for all projections: xmist retrieve {series}")
    return DONE


def _plan(settings: Settings, name: str, folder: str | None, given: dict[str, Any]) -> int:
    from xmist.evaluate.planning import expected_errors
    from xmist.io.results.atomic import make_folder, target_errors
    from xmist.simulate.presets import find_recipe

    shape = given["shape"] or _PLANNED
    recipe = find_recipe(name)(shape, 2, given["seed"])
    experiment = recipe.experiment
    figure_path = None
    if folder is not None:
        figure_path = Path(folder) / "plan.png"
        if figure_path.parent.exists():  # else it is made when there is something to put into it
            raise_errors(target_errors(figure_path, overwrite=given["overwrite"]))
    with progress_bars(settings) as progress, _as_options():
        table = expected_errors(
            recipe.sample,
            experiment,
            shape=shape,
            detector=recipe.detector,
            distances=given["distance"] or [f * experiment.sample_to_detector for f in _FACTORS],
            speckles=given["speckle"] or [s * experiment.effective_pixel for s in _SPECKLES],
            visibility=_VISIBILITY,
            positions=given["positions"] or _POSITIONS,
            photons=given["photons"] or [part * recipe.detector.photons for part in _LIGHT],
            draws=_DRAWS,
            seed=given["seed"],
            method=given["method"],
            edge_sigma=recipe.edge_sigma,
            progress=progress,
        )
    _show(settings, table, as_json=given["as_json"])
    if figure_path is not None:
        from xmist.view.figures import save_figure
        from xmist.view.figures.expectations import plan_figure

        make_folder(figure_path.parent)
        save_figure(
            plan_figure(table),
            figure_path,
            overwrite=given["overwrite"],
            about=f"xmist simulate {name} --plan",
        )
        say(settings, f"Figure: {figure_path}")
    return DONE


@contextmanager
def _as_options() -> Iterator[None]:
    """Name the options in the errors of a plan."""
    try:
        yield
    except InputError as error:
        names = {"distances": "--distance", "speckles": "--speckle"}
        names |= {name: f"--{name}" for name in ("positions", "photons", "shape", "seed")}
        renamed = []
        for record in error.records:
            first, _, rest = record.message.partition(" ")
            renamed.append(ErrorRecord(record.code, f"{names.get(first, first)} {rest}"))
        raise InputError(renamed) from error


def _show(settings: Settings, table: ExpectedErrors, *, as_json: bool) -> None:
    if as_json:
        echo_json({"method": table.method, "draws": table.draws, "rows": table.to_rows()})
        return
    click.echo(str(table))
    say(
        settings,
        f"By {table.method}, {table.draws} simulated experiments a row, visibility {_VISIBILITY:g}. NRMSE is "
        "the error over the standard deviation of the truth.",
    )
