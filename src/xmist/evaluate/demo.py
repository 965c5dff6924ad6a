"""`xmist demo`: the experiment of the paper on a simulated currant, compared with the truth.

The currant is that of `xmist.simulate.currant`, a wave from the diffuser to the detector: nothing of it uses
the equations or the code of the methods. The methods and the numbers of exposures are those of Table I and
Fig. 2 of Pavlov et al. 2020, J. Opt. 22 125604, doi:10.1088/2040-8986/abc313, and `full-field`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from xmist.evaluate.comparison import Comparison

METHOD: Final = "full-field"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a demo does."""

    shape: tuple[int, int]  # pixels (y, x)
    # by name of a method its options: which are compared, in this order
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    exposures: tuple[int, ...]  # numbers N of exposures


# The windows of the paper have 5 × 5 pixels. `mist` is shown smoothed: pixel by pixel two exposures drown in
# noise, and a window smooths as well.
FULL: Final = Plan(
    shape=(192, 192),
    options=MappingProxyType(
        {"mist": {"smoothing": 2.0}, METHOD: {}, "umpa": {"window": 5}, "xsvt": {"window": 5}}
    ),
    exposures=(2, 4, 10),
)
# Without window matching, which takes longest to compile.
QUICK: Final = Plan(
    shape=(128, 128),
    options=MappingProxyType({"mist": {"smoothing": 2.0}, METHOD: {}}),
    exposures=(2, 10),
)


def names(folder: str | Path, plan: Plan = FULL) -> dict[str, Path]:
    """Return the files that a demo writes."""
    from xmist.evaluate.comparison.result import target_files

    folder = Path(folder)
    compared = target_files(folder, tuple(plan.options), plan.exposures, results=True)
    return {
        "figure": folder / "dark-field.png",
        "table": folder / "comparison.md",
        "scan": folder / "scan.toml",
        "frames": folder / "frames.h5",
        "truth": folder / "truth.h5",
        "more truth": folder / "truth_more.h5",
    } | {path.name: path for path in compared if path.name not in ("dark-field.png", "comparison.md")}


def run_demo(
    folder: str | Path,
    *,
    plan: Plan = FULL,
    overwrite: bool = False,
    progress: Callable[[str, int, int], object] | None = None,
) -> Comparison:
    """Simulate, retrieve, compare and draw."""
    from xmist.core.errors import raise_errors
    from xmist.evaluate.comparison import compare
    from xmist.io.results.atomic import make_folder, target_faults
    from xmist.simulate import currant
    from xmist.workflow.simulation import write_simulation

    tell = progress or (lambda *_: None)
    make_folder(folder)
    files = names(folder, plan)
    raise_errors([fault for path in files.values() for fault in target_faults(path, overwrite=overwrite)])
    simulation = currant(shape=plan.shape, positions=max(plan.exposures), progress=tell)
    stack, experiment, truth = simulation
    found = compare(
        stack,
        experiment,
        methods=tuple(plan.options),
        exposures=plan.exposures,
        options=plan.options,
        truth=truth,
        resolution=False,
        progress=tell,
    )
    tell("drawing", 0, 1)
    write_simulation(simulation, folder, form="hdf5", method=METHOD, overwrite=overwrite)
    found.save(folder, results=True, overwrite=overwrite)
    return found


def words(found: Comparison) -> str:
    """Return the tables with what they mean."""
    return "\n".join(
        [
            str(found),
            "",
            "A high contrast-to-noise ratio is not yet a right picture: compare the tables. Inside means",
            "away from the berry's rim, where refraction moves the speckles by more than a pixel, by amounts",
            "that differ within a speckle; that shows as dark-field. The berry absorbs nearly a tenth, which",
            "mist takes for phase; mist-attenuating does not.",
        ]
    )
