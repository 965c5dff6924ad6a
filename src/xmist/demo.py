"""`xmist demo`: a simulated currant, retrieved from 2 and from 10 exposures, scored and drawn.

The currant is that of `xmist.simulate.currant`, a wave from the membrane to the detector: nothing of it uses
the equations or the code of the methods.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.data import CHANNELS

METHOD: Final = "full-field"
# Pixel by pixel, for comparison: the berry absorbs nearly a tenth, which `mist` does not allow. For a phase
# it must be told δ/β, here that of the flesh, which is water; `full-field` is told nothing.
OTHER: Final = "mist-attenuating"
METHODS: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {METHOD: {}, OTHER: {"smoothing": 2.0, "delta_over_beta": 1143.0}}
)
EXPOSURES: Final = (2, 10)
PICTURES: Final = ("phase", "dark_field")
SHAPE: Final = (160, 160)
# Of the berry's radius. Within, refraction moves speckles by less than half a pixel; at the rim by more than
# one, and by amounts that differ within a speckle.
INSIDE: Final = 0.8


@dataclass(frozen=True)
class Score:
    """How close a picture is to the truth.

    Parameters
    ----------
    method : str
        Method that gave it.
    exposures : int
        Number N of exposures.
    channel : str
        The picture.
    correlation : float
        Pearson's correlation with the truth.
    nrmse : float
        Root mean square of the error over that of the truth.
    correlation_inside, nrmse_inside : float
        The same inside the berry, see `inside`.
    """

    method: str
    exposures: int
    channel: str
    correlation: float
    nrmse: float
    correlation_inside: float
    nrmse_inside: float


def names(folder: str | Path) -> dict[str, Path]:
    """Give the files that a demo writes.

    Parameters
    ----------
    folder : str or Path
        Its folder.

    Returns
    -------
    dict of str to Path
        Results as "full-field, N = 2", and so on; "figure", "scan", "frames" and "truth".
    """
    folder = Path(folder)
    results = {
        _label(method, n): folder / f"{method}-{n}-exposures.h5" for method in METHODS for n in EXPOSURES
    }
    return results | {
        "figure": folder / "comparison.png",
        "scan": folder / "scan.toml",
        "frames": folder / "frames.h5",
        "truth": folder / "truth.h5",
        "more truth": folder / "truth_more.h5",
    }


def inside() -> NDArray[np.bool_]:
    """Say which pixels lie inside the berry, away from its rim.

    Returns
    -------
    (y, x) bool array
        Pixels within `INSIDE` of the radius of the berry, which fills four fifths of the frame.
    """
    y, x = (np.arange(size) - (size - 1) / 2 for size in SHAPE)
    within: NDArray[np.bool_] = np.hypot(y[:, None], x) < INSIDE * 0.4 * min(SHAPE)
    return within


def run_demo(
    folder: str | Path,
    *,
    overwrite: bool = False,
    progress: Callable[[str, int, int], object] | None = None,
) -> list[Score]:
    """Simulate, retrieve, score and draw.

    Parameters
    ----------
    folder : str or Path
        Folder for the files; made if it does not exist.
    overwrite : bool
        Replace the files of an earlier demo.
    progress : callable, optional
        Called with what is done, and how much of how much of it.

    Returns
    -------
    list of Score
        One a picture, method and number of exposures, in this order.

    Raises
    ------
    InputError
        If a file stands there already, or the folder cannot be made.
    OutputError
        When writing failed.
    """
    from xmist.data import SpeckleStack
    from xmist.errors import raise_faults
    from xmist.io.atomic import make_folder, target_faults
    from xmist.methods import retrieve
    from xmist.plotting import comparison, save_figure
    from xmist.simulate import currant, write_simulation

    tell = progress or (lambda *_: None)
    make_folder(folder)
    files = names(folder)
    raise_faults([fault for path in files.values() for fault in target_faults(path, overwrite=overwrite)])
    simulation = currant(shape=SHAPE, positions=max(EXPOSURES), progress=tell)
    stack, experiment, truth = simulation
    write_simulation(simulation, folder, form="hdf5", method=METHOD, overwrite=overwrite)
    scores, rows = [], {}
    for method, options in METHODS.items():
        for n in EXPOSURES:
            label = _label(method, n)
            tell(f"retrieving, {label}", 0, 1)
            some = SpeckleStack(stack.reference[:n], stack.sample[:n])
            result = retrieve(some, experiment, method=method, **options)
            result.save(files[label], overwrite=overwrite)
            scores += [
                _score(method, n, channel, getattr(result, channel), getattr(truth, channel))
                for channel in PICTURES
            ]
            rows[label] = result
    tell("drawing", 0, 1)
    title = "A simulated currant, and what the speckles gave back"
    page = comparison(rows, PICTURES, truth, title=title)
    save_figure(page, files["figure"], overwrite=overwrite, about="xmist demo: simulated data")
    return sorted(scores, key=lambda score: PICTURES.index(score.channel))


def table(scores: list[Score]) -> str:
    """Give the scores as a table for people.

    Parameters
    ----------
    scores : list of Score
        Scores.

    Returns
    -------
    str
        Lines without an end of line at the end.
    """
    lines = [
        "How close to the truth (correlation 1 and NRMSE 0 are perfect):",
        f"  {'':40}{'whole frame':>20}{'inside the berry':>22}",
        f"  {'picture':12}{'method':18}{'exposures':>10}{'correlation':>13}{'NRMSE':>7}"
        f"{'correlation':>15}{'NRMSE':>7}",
    ]
    for score in scores:
        lines.append(
            f"  {CHANNELS[score.channel].title:12}{score.method:18}{score.exposures:>10}"
            f"{score.correlation:>13.4f}{score.nrmse:>7.3f}"
            f"{score.correlation_inside:>15.4f}{score.nrmse_inside:>7.3f}"
        )
    return "\n".join(
        [
            *lines,
            f"Inside: within {INSIDE:g} of the berry's radius. At the rim refraction moves speckles by",
            "more than a pixel, by amounts that differ within a speckle, and that shows as dark-field.",
            f"{OTHER} is told the δ/β of water; {METHOD} is told nothing.",
        ]
    )


def _label(method: str, exposures: int) -> str:
    return f"{method}, N = {exposures}"


def _score(method: str, exposures: int, channel: str, found: NDArray[Any], right: NDArray[Any]) -> Score:
    from xmist.metrics import correlation, nrmse

    free = channel == "phase"  # its zero means nothing
    mask = inside()
    return Score(
        method=method,
        exposures=exposures,
        channel=channel,
        correlation=correlation(found, right),
        nrmse=nrmse(found, right, remove_mean=free),
        correlation_inside=correlation(found, right, mask=mask),
        nrmse_inside=nrmse(found, right, remove_mean=free, mask=mask),
    )
