"""Methods compared on the same frames: methods × numbers of positions, with tables and figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xmist.core.data import Retrieval, SpeckleStack
from xmist.core.errors import ErrorRecord, InputError, collect_errors, raise_errors
from xmist.core.experiment import Experiment
from xmist.core.hooks import hook
from xmist.core.progress import Progress
from xmist.evaluate import tables
from xmist.evaluate.checks import method_errors, option_errors, position_errors
from xmist.evaluate.defaults import METHODS_COMPARED, usual_positions
from xmist.evaluate.regions import Regions, make_regions
from xmist.evaluate.runs import ComparedRuns
from xmist.evaluate.scoring import (
    CHANNELS_COMPARED,
    MethodRun,
    agreement,
    ordinary,
    run_methods,
    score_runs,
    unable,
)
from xmist.io import open_result
from xmist.io.results.atomic import OutputFile, all_target_errors, make_folder, write_files
from xmist.numerics.parallel import count_threads

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Truth = Retrieval | Mapping[str, ArrayLike] | str | Path | object

# Stems of the files of figures: channels, and the others.
FIGURES: Final = {"dark_field": "dark-field", "phase": "phase", "transmission": "transmission"}
OTHER_FIGURES: Final = ("regions", "agreement")


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison(ComparedRuns):
    """Methods × numbers of positions on the same frames; print it for the tables.

    Parameters
    ----------
    experiment : Experiment
        Geometry.
    shape : tuple of int
        Size (y, x) of the frames.
    runs : tuple of MethodRun
        Every method with every N, in the order asked for; also those without a result.
    regions : Regions
        Bare beam and inside.
    truth : mapping
        True images by channel; empty if they are not known.
    agreement, agreement_median : mapping
        By channel the correlations (run, run) of all pairs of runs that have a result, in their order, on the
        pixels that are scored of both; Pearson's, and by medians.
    pixels : (y, x) bool array
        The pixels that are scored: those that no run flags, but for the runs that are scored apart.
    frames : (y, x) float32 array
        Sum of the sample frames over that of the reference frames.
    about : mapping
        Origin of the frames, as plain data.
    steps : tuple of str
        Preprocessing that was applied to the frames.
    findings : tuple of Finding
        Findings about the comparison itself.

    Examples
    --------
    >>> stack, experiment, truth = xmist.simulate.phantom("fine", shape=(48, 48), positions=2)
    >>> found = xmist.compare(stack, experiment, methods=["mist"], positions=[2], resolution=False)
    >>> found.results["mist", 2].method, found.agreement["phase"].tolist()
    ('mist', [[1.0]])
    """

    def __repr__(self) -> str:
        done = len(self.done)
        return (
            f"<Comparison of {', '.join(self.methods)}: {done} results, {len(self.runs) - done} impossible>"
        )

    def __str__(self) -> str:
        return tables.text(self)

    @property
    def table(self) -> list[dict[str, Any]]:
        """One row per run as plain data; lengths in m, angles in rad."""
        return tables.rows(self)

    def figure(
        self, channel: str = "dark_field", *, positive: bool = True, title: str | None = None
    ) -> Figure:
        """Draw a channel like Fig. 2 of Pavlov et al.

        2020: a row per method, a column per number of positions.

        Parameters
        ----------
        channel : str
            "dark_field", "phase" or "transmission".
        positive : bool
            Draw negative values of D as 0.
        title : str, optional
            First line.

        Returns
        -------
        matplotlib.figure.Figure
            One colour scale for all, set by the truth where it is known. The phase is 0 in bare beam, or on
            average where none is known. The contrast-to-noise ratio is written below each image.

        Raises
        ------
        InputError
            If no result has the channel.
        """
        page: Figure = hook("comparison figure")(self, channel, positive=positive, title=title)
        return page

    def figures(self) -> dict[str, Figure]:
        """Draw each channel, the regions, and the agreement of the methods.

        Returns
        -------
        dict of str to matplotlib.figure.Figure
            By the stem of the file's name.
        """
        pages: dict[str, Figure] = hook("comparison figures")(self)
        return pages

    def save(self, folder: str | Path, *, results: bool = False, overwrite: bool = False) -> list[Path]:
        """Write tables and figures.

        Parameters
        ----------
        folder : str or Path
            Folder; made if it does not exist.
        results : bool
            Also write every result, as METHOD-N.h5.
        overwrite : bool
            Replace existing files.

        Returns
        -------
        list of Path
            comparison.md, comparison.csv, comparison.json and the figures; all of these appear or none.

        Raises
        ------
        InputError
            Lists the files that exist, or states why the folder cannot be made.
        OutputError
            When writing failed.

        Examples
        --------
        >>> xmist.compare(stack, experiment).save("comparison")  # doctest: +SKIP
        [PosixPath('comparison/comparison.md'), ...]
        """
        folder = Path(folder)
        make_folder(folder)
        existing = [path for path in self.targets(folder, results=results) if path.exists()]
        raise_errors(all_target_errors(existing, overwrite=overwrite))
        figures = self.figures()
        texts = {
            "comparison.md": tables.markdown(self, [f"{stem}.png" for stem in figures]),
            "comparison.csv": tables.csv_text(self),
            "comparison.json": tables.json_text(self),
        }
        numbers = self._result_files(folder) if results else {}
        jobs = [OutputFile(folder / name, content.encode()) for name, content in texts.items()]
        jobs += [
            hook("figure job")(page, folder / f"{stem}.png", about=f"xmist compare: {stem}")
            for stem, page in figures.items()
        ]
        paths = [*(job.path for job in jobs), *numbers]
        raise_errors(all_target_errors(paths, overwrite=overwrite))
        for path, result in numbers.items():
            result.save(path, overwrite=overwrite)
        return [*write_files(jobs, overwrite=overwrite), *numbers]

    def targets(self, folder: str | Path, *, results: bool = False) -> list[Path]:
        """Return the files that `save` would write.

        Parameters
        ----------
        folder, results
            As for `save`.
        """
        return target_files(folder, self.methods, self.positions, results=results)

    def _result_files(self, folder: Path) -> dict[Path, Retrieval]:
        return {folder / f"{method}-{n}.h5": result for (method, n), result in self.results.items()}


def compare(
    stack: SpeckleStack,
    experiment: Experiment,
    *,
    methods: Sequence[str] = METHODS_COMPARED,
    positions: Sequence[int] | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    regions: Mapping[str, Any] | Regions | None = None,
    truth: Truth | None = None,
    resolution: bool = True,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Run methods on the first N positions of the same frames, and score their results.

    Parameters
    ----------
    stack : SpeckleStack
        Reference and sample frames.
    experiment : Experiment
        Geometry.
    methods : sequence of str
        Names of methods, see `xmist.METHODS`: the rows.
    positions : sequence of int, optional
        Numbers N of positions of the diffuser; the first N are used: the columns. None takes 2, 4 and 10,
        or those up to the number of positions that there are.
    options : mapping, optional
        Options by name of the method.
    regions : mapping or Regions, optional
        "outside" is bare beam, "inside" the sample away from its rim: a box [y0, y1, x0, x1] in pixels,
        ends excluded, a list of such boxes, or a (y, x) mask. Regions that are not given are found in the
        frames.
    truth : optional
        True images: a `Retrieval`, the path of a saved one, or a mapping or object with the names of
        channels.
    resolution : bool
        Whether to measure the resolution, for which each method also runs on both halves of the positions.
    threads : int, optional
        Threads to compute with; None takes one for each core that the process may use.
    progress : callable, optional
        progress(label, done, total).

    Returns
    -------
    Comparison
        Results, tables and figures. A method that cannot work on N positions is listed with the reason.

    Raises
    ------
    InputError
        Lists the errors of names, options, numbers, regions and truth; or states why no method can work.

    Notes
    -----
    Scored are the pixels that no method flags at any N. A result that flags more than 20 % of the sample or
    of bare beam is scored apart, on the pixels that it does not flag itself; `MethodRun.apart`, the tables
    and a warning say so. Pixels that the truth flags do not count. The flag "clipped" is none of these.

    The halves are the positions 0, 2, 4, … and 1, 3, 5, …; there is no resolution where half of N is less
    than a method needs. Methods run on a small part of the frames before their time is measured, so that
    compilation does not count.

    Examples
    --------
    >>> simulation = xmist.simulate.phantom("fine", shape=(48, 48), positions=2)
    >>> stack, experiment, truth = simulation
    >>> found = xmist.compare(
    ...     stack, experiment, methods=["mist", "mist-rapid"], positions=[2], truth=truth, resolution=False
    ... )
    >>> [(run.label, run.reason) for run in found.runs]
    [('mist, N = 2', ''), ('mist-rapid, N = 2', 'needs at least 4 positions')]
    """
    given: Any = options or {}
    names: Any = methods
    chosen = tuple(names) if isinstance(names, Iterable) and not isinstance(names, str) else (names,)
    positions = usual_positions(stack.positions) if positions is None else positions
    errors = [*method_errors(chosen), *position_errors(positions), *option_errors(given, chosen)]
    with collect_errors(errors):
        count_threads(threads)
    right = _truth(truth, stack.shape, errors)
    with collect_errors(errors):
        found = make_regions(stack, regions)
    raise_errors(errors)
    pairs = [(name, int(n)) for name in chosen for n in positions]
    reasons = {pair: unable(*pair, given.get(pair[0], {}), stack.positions) for pair in pairs}
    if all(reasons.values()):
        raise _impossible("can", {f"{name}, N = {n}": reason for (name, n), reason in reasons.items()})
    report = progress or (lambda *_: None)
    runs, halves = run_methods(
        stack, experiment, pairs, given, resolution=resolution, threads=threads, report=report
    )
    report("comparing", len(pairs), len(pairs))
    runs, pixels = score_runs(runs, found, right, halves)
    done = [run for run in runs if run.result is not None]
    if not done:
        raise _impossible("could", {run.label: run.reason for run in runs})
    together = [mask for mask, run in zip(pixels, done, strict=True) if not run.apart]
    return Comparison(
        experiment=experiment,
        shape=stack.shape,
        runs=tuple(runs),
        regions=found,
        truth=right,
        agreement=_agreements(done, pixels, robust=False),
        agreement_median=_agreements(done, pixels, robust=True),
        pixels=together[0] if together else np.zeros(stack.shape, bool),
        frames=_overview(stack),
    )


def target_files(
    folder: str | Path, methods: Sequence[str], positions: Sequence[int], *, results: bool = False
) -> list[Path]:
    """Return every file that a comparison may write."""
    folder = Path(folder)
    tabulated = [folder / f"comparison.{ending}" for ending in ("md", "csv", "json")]
    drawn = [folder / f"{stem}.png" for stem in (*FIGURES.values(), *OTHER_FIGURES)]
    numbers = [folder / f"{method}-{n}.h5" for method in methods for n in positions] if results else []
    return [*tabulated, *drawn, *numbers]


def _agreements(
    done: Sequence[MethodRun], pixels: Sequence[NDArray[np.bool_]], *, robust: bool
) -> dict[str, NDArray[np.float64]]:
    """Return the correlations of all pairs of runs by channel."""
    return {
        channel: agreement([getattr(run.result, channel) for run in done], pixels, robust=robust)
        for channel in CHANNELS_COMPARED
    }


def _impossible(verb: str, reasons: Mapping[str, str]) -> InputError:
    text = "; ".join(f"{label}: {reason}" for label, reason in reasons.items())
    return InputError(f"no method {verb} work on these frames: {text}", code="no-method")


def _truth(truth: Truth | None, shape: tuple[int, int], errors: list[ErrorRecord]) -> dict[str, NDArray[Any]]:
    """Return the true images by channel."""
    if truth is None:
        return {}
    if isinstance(truth, (str, Path)):
        try:
            truth = open_result(truth)
        except InputError as error:
            errors += [ErrorRecord(record.code, f"truth: {record.message}") for record in error.records]
            return {}
    found = {}
    for name in CHANNELS_COMPARED:
        given = truth.get(name) if isinstance(truth, Mapping) else getattr(truth, name, None)
        if given is None:
            continue
        image = np.asarray(given)
        if image.shape != shape or image.dtype.kind not in "iuf":
            message = (
                f"truth has {name} of shape {image.shape} and dtype {image.dtype}; expected numbers of the "
                f"frames' {shape}"
            )
            errors.append(ErrorRecord("shape-mismatch", message))
        elif isinstance(truth, Retrieval) and not (known := ordinary(truth)).all():
            found[name] = np.where(known, image, np.nan).astype(image.dtype)
        else:
            found[name] = image
    if not found and not errors:
        message = f"truth has none of {', '.join(CHANNELS_COMPARED)}; expected one at least"
        errors.append(ErrorRecord("channel-missing", message))
    return found


def _overview(stack: SpeckleStack) -> NDArray[np.float32]:
    """Return the sample frames over the reference frames, summed over the positions; NaN without any."""
    good = np.isfinite(stack.sample) & np.isfinite(stack.reference)
    if stack.weights is not None:
        good &= stack.weights > 0
    sample, reference = (
        frames.sum(0, dtype=np.float64, where=good) for frames in (stack.sample, stack.reference)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.asarray(sample / reference, np.float32)
    ratio[~np.isfinite(ratio)] = np.nan
    return ratio
