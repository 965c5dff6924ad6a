"""`xmist demo`: the experiment of the paper on a simulated currant, compared with the truth.

The currant is that of `xmist.simulate.currant`, simulated by wave optics: it does not use the equations or
the code of the methods.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from xmist.core.errors import raise_errors
from xmist.core.progress import Progress
from xmist.evaluate.comparison import Comparison, compare, target_files
from xmist.evaluate.defaults import (
    DEMO_METHODS,
    DEMO_OPTIONS,
    PAPER_CNR,
    PAPER_OPTIONS,
    POSITIONS_COMPARED,
)
from xmist.evaluate.scoring import Quality
from xmist.evaluate.tables import digits
from xmist.io.results.atomic import all_target_errors, make_folder, write_file
from xmist.methods.registry import DEFAULT_METHOD
from xmist.simulate import currant
from xmist.workflow.simulation import write_simulation

METHOD: Final = DEFAULT_METHOD


@dataclass(frozen=True, kw_only=True)
class DemoSettings:
    """What a demo simulates and compares."""

    shape: tuple[int, int]  # pixels (y, x)
    options: Mapping[str, Mapping[str, Any]]  # by name of a method; these methods are compared
    positions: tuple[int, ...]  # numbers N


FULL: Final = DemoSettings(
    shape=(192, 192),
    options=MappingProxyType({name: DEMO_OPTIONS[name] for name in DEMO_METHODS}),
    positions=POSITIONS_COMPARED,
)
QUICK: Final = DemoSettings(shape=(128, 128), options=FULL.options, positions=(2, 10))
PAPER: Final = DemoSettings(shape=(256, 256), options=PAPER_OPTIONS, positions=POSITIONS_COMPARED)


def names(folder: str | Path, settings: DemoSettings = FULL) -> dict[str, Path]:
    """Return the files that a demo writes, by name: "figure", "table", "configuration", "frames", "truth"."""
    folder = Path(folder)
    compared = target_files(folder, tuple(settings.options), settings.positions, results=True)
    return {
        "figure": folder / "dark-field.png",
        "table": folder / "comparison.md",
        "configuration": folder / "config.toml",
        "frames": folder / "frames.h5",
        "truth": folder / "truth.h5",
        "more truth": folder / "truth_more.h5",
        **({"table I": folder / "table-1.md"} if settings is PAPER else {}),
    } | {path.name: path for path in compared if path.name not in ("dark-field.png", "comparison.md")}


def run_demo(
    folder: str | Path,
    *,
    settings: DemoSettings = FULL,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Comparison:
    """Simulate, retrieve, compare and draw."""
    report = progress or (lambda *_: None)
    make_folder(folder)
    files = names(folder, settings)
    raise_errors(all_target_errors(files.values(), overwrite=overwrite))
    simulation = currant(shape=settings.shape, positions=max(settings.positions), progress=report)
    stack, experiment, truth = simulation
    found = compare(
        stack,
        experiment,
        methods=tuple(settings.options),
        positions=settings.positions,
        options=settings.options,
        truth=truth,
        resolution=False,
        progress=report,
    )
    report("drawing", 0, 1)
    write_simulation(simulation, folder, form="hdf5", method=METHOD, overwrite=overwrite)
    found.save(folder, results=True, overwrite=overwrite)
    if "table I" in files:
        text = f"{paper_table(found)}\n".encode()
        write_file(files["table I"], text, overwrite=overwrite)
    return found


def paper_table(found: Comparison) -> str:
    """Return Table I of the paper as Markdown, with the numbers of the paper beside those of a demo."""
    head = [f"N = {n}{which}" for n in found.positions for which in (": paper", "", ", by medians")]
    lines = [
        "Contrast-to-noise ratio of the dark-field, as Table I of Pavlov et al. 2020,",
        "doi:10.1088/2040-8986/abc313. The paper measured a currant; the other numbers are those of a",
        "simulated one. A result marked * is scored on pixels of its own.",
        "",
        f"| method | {' | '.join(head)} |",
        f"|---|{'---:|' * len(head)}",
    ]
    for method in found.methods:
        cells = []
        for place, n in enumerate(found.positions):
            run = found.run(method, n)
            quality = run.quality.get("dark_field", Quality())
            cells.append(str(PAPER_CNR[method][place]) if method in PAPER_CNR else "")
            for number in (quality.cnr, quality.cnr_median):
                text = "–" if number is None else digits(abs(number))
                cells.append(f"{text} *" if run.apart else text)
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def words(found: Comparison, settings: DemoSettings = FULL) -> str:
    """Return the tables with an explanation."""
    return "\n".join(
        [
            *([paper_table(found), ""] if settings is PAPER else []),
            str(found),
            "",
            "A high contrast-to-noise ratio does not mean a correct image: outliers inflate it. Compare the",
            "correlation and the error. Inside excludes the rim of the berry, where the refraction varies",
            "within a speckle, which shows as dark-field. The berry absorbs nearly 10 %, which mist treats",
            "as phase; mist-attenuating does not.",
        ]
    )
