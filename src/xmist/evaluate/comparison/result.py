"""What a comparison found, and how it is drawn and saved."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from xmist.core.data import CHANNELS, Retrieval
from xmist.core.errors import InputError, raise_errors, suggest
from xmist.core.experiment import Experiment
from xmist.evaluate.comparison import records, tables
from xmist.evaluate.comparison.regions import Regions
from xmist.evaluate.comparison.runs import CHANNELS_COMPARED, Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NAMES: Final = {"dark_field": "dark-field", "phase": "phase", "transmission": "transmission"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """Methods × numbers of exposures on the same frames.

    Parameters
    ----------
    experiment : Experiment
        Geometry.
    shape : tuple of int
        Size (y, x) of the frames.
    runs : tuple of Run
        Every method with every N, in the order asked for; also those that could not work.
    regions : Regions
        Bare beam and inside.
    truth : mapping
        What is right, by channel; empty if it is not known.
    agreement : mapping
        By channel the correlations (run, run) of all pairs of runs that have a result, in their order.
    frames : (y, x) float32 array
        Sum of the sample frames over that of the reference frames.
    about : mapping
        Where frames come from, as plain data.
    notes : tuple of str
        What was done to the frames before.

    Examples
    --------
    >>> stack, experiment, truth = xmist.simulate.phantom("fine", shape=(48, 48), positions=2)
    >>> found = xmist.compare(stack, experiment, methods=["mist"], exposures=[2], resolution=False)
    >>> found.results["mist", 2].method, found.agreement["phase"].tolist()
    ('mist', [[1.0]])
    """

    experiment: Experiment
    shape: tuple[int, int]
    runs: tuple[Run, ...]
    regions: Regions
    truth: Mapping[str, NDArray[Any]]
    agreement: Mapping[str, NDArray[np.float64]]
    frames: NDArray[np.float32]
    about: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        done = len(self.done)
        return (
            f"<Comparison of {', '.join(self.methods)}: {done} results, {len(self.runs) - done} impossible>"
        )

    def __str__(self) -> str:
        return tables.text(self)

    @property
    def done(self) -> tuple[Run, ...]:
        """The runs that have a result."""
        return tuple(run for run in self.runs if run.result is not None)

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the methods."""
        return tuple(dict.fromkeys(run.method for run in self.runs))

    @property
    def exposures(self) -> tuple[int, ...]:
        """Numbers N of exposures."""
        return tuple(dict.fromkeys(run.exposures for run in self.runs))

    @property
    def results(self) -> Mapping[tuple[str, int], Retrieval]:
        """What was retrieved, by method and N."""
        return MappingProxyType({(run.method, run.exposures): run.result for run in self.runs if run.result})

    @property
    def table(self) -> list[dict[str, Any]]:
        """One row a run with everything that is said of it, as plain data; lengths in m, angles in rad."""
        return records.rows(self)

    @property
    def channels(self) -> tuple[str, ...]:
        """Channels that at least one result has."""
        return tuple(
            name
            for name in CHANNELS_COMPARED
            if any(getattr(run.result, name) is not None for run in self.done)
        )

    def run(self, method: str, exposures: int) -> Run:
        """Return one run.

        Parameters
        ----------
        method : str
            Name of the method.
        exposures : int
            Number N.

        Raises
        ------
        InputError
            If it was not asked for.
        """
        for run in self.runs:
            if (run.method, run.exposures) == (method, exposures):
                return run
        raise InputError(
            f"{method}, N = {exposures} was not compared; compared were {', '.join(self.methods)} with N = "
            f"{', '.join(map(str, self.exposures))}"
        )

    def figure(
        self, channel: str = "dark_field", *, positive: bool = True, title: str | None = None
    ) -> Figure:
        """Draw a channel like Fig. 2 of Pavlov et al. 2020: a row a method, a column a number of exposures.

        Parameters
        ----------
        channel : str
            "dark_field", "phase" or "transmission".
        positive : bool
            Draw the positive part of D alone.
        title : str, optional
            First line.

        Returns
        -------
        matplotlib.figure.Figure
            One colour scale for all, set by the truth where it is known. The phase is 0 in bare beam, or
            without its mean. Below each picture stands its contrast-to-noise ratio.

        Raises
        ------
        InputError
            If no result has the channel.
        """
        from xmist.view.figures.grids import Cell, picture_grid

        if channel not in self.channels:
            raise InputError(f"no result has the channel '{channel}'; {suggest(channel, self.channels)}")
        gives = [run.method for run in self.done if getattr(run.result, channel) is not None]
        rows = [name for name in self.methods if name in gives]
        columns = [n for n in self.exposures if any(run.exposures == n for run in self.done)]
        cells = []
        for method in rows:
            line = []
            for n in columns:
                run = self.run(method, n)
                image = None if run.result is None else getattr(run.result, channel)
                missing = run.reason or "does not give it"
                line.append(
                    Cell(
                        None if image is None else self._shown(channel, image),
                        tables.caption(run, channel) if image is not None else missing,
                        None if run.result is None else run.result.flags,
                    )
                )
            cells.append(line)
        right = self.truth.get(channel)
        notes = []
        without = [name for name in dict.fromkeys(run.method for run in self.done) if name not in rows]
        if without:
            notes.append(f"Not given by {', '.join(without)}.")
        if channel == "dark_field" and positive:
            notes.append("The positive part of D is drawn.")
        if channel == "dark_field" and right is None:
            notes.append("The colours are those of the calmest picture.")
        if channel == "phase":
            where = "bare beam" if self.regions.outside is not None else "the mean"
            notes.append(f"Phase with its zero in {where}.")
        if self.regions.complete:
            notes.append(
                "CNR: contrast of the inside to bare beam, over the noise in bare beam (regions.png)."
            )
        if right is not None:
            where = " inside the sample" if self.regions.inside is not None else ""
            notes.append(f"r: correlation with the truth{where}.")
        return picture_grid(
            channel,
            cells,
            rows=[tables.row_label(self.run(name, columns[0])) for name in rows],
            columns=[f"N = {n}" for n in columns],
            pixel=self.experiment.effective_pixel,
            truth=None if right is None else self._shown(channel, right),
            positive=channel == "dark_field" and positive,
            title=title
            if title is not None
            else f"{CHANNELS[channel].title.capitalize()} by method and exposures",
            notes=notes,
        )

    def figures(self) -> dict[str, Figure]:
        """Draw everything: each channel, the regions, and how far the methods agree.

        Returns
        -------
        dict of str to matplotlib.figure.Figure
            By the stem of the file's name.
        """
        from xmist.view.figures.grids import agreement_figure, regions_figure

        found = {_NAMES[channel]: self.figure(channel) for channel in self.channels}
        found["regions"] = regions_figure(
            self.frames,
            {"bare beam (outside)": self.regions.outside, "sample (inside)": self.regions.inside},
            pixel=self.experiment.effective_pixel,
        )
        if len(self.done) > 1:
            found["agreement"] = agreement_figure(
                {name: self.agreement[name] for name in self.channels}, [run.label for run in self.done]
            )
        return found

    def save(self, folder: str | Path, *, results: bool = False, overwrite: bool = False) -> list[Path]:
        """Write tables and figures.

        Parameters
        ----------
        folder : str or Path
            Folder; made if it does not exist.
        results : bool
            Also write every result, as METHOD-N.h5.
        overwrite : bool
            Replace files that stand there already.

        Returns
        -------
        list of Path
            comparison.md, comparison.csv, comparison.json and the figures; all of these appear or none.

        Raises
        ------
        InputError
            Lists the files that stand there already, or why the folder cannot be made.
        OutputError
            When writing failed.

        Examples
        --------
        >>> xmist.compare(stack, experiment).save("comparison")  # doctest: +SKIP
        [PosixPath('comparison/comparison.md'), ...]
        """
        from xmist.io.results.atomic import Job, make_folder, target_faults, write_files
        from xmist.view.figures import figure_job

        folder = Path(folder)
        make_folder(folder)
        standing = [path for path in self.targets(folder, results=results) if path.exists()]
        raise_errors([fault for path in standing for fault in target_faults(path, overwrite=overwrite)])
        figures = self.figures()
        texts = {
            "comparison.md": tables.markdown(self, [f"{stem}.png" for stem in figures]),
            "comparison.csv": records.csv_text(self),
            "comparison.json": records.json_text(self),
        }
        numbers = self._result_files(folder) if results else {}
        jobs = [Job(folder / name, _writer(content)) for name, content in texts.items()]
        jobs += [
            figure_job(page, folder / f"{stem}.png", about=f"xmist compare: {stem}")
            for stem, page in figures.items()
        ]
        paths = [*(job.path for job in jobs), *numbers]
        raise_errors([fault for path in paths for fault in target_faults(path, overwrite=overwrite)])
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
        return target_files(folder, self.methods, self.exposures, results=results)

    def _result_files(self, folder: Path) -> dict[Path, Retrieval]:
        return {folder / f"{method}-{n}.h5": result for (method, n), result in self.results.items()}

    def _shown(self, channel: str, image: NDArray[Any]) -> NDArray[Any]:
        """Return a picture as it is drawn: a phase from its zero."""
        if channel != "phase":
            return image
        finite = np.isfinite(image)
        where = finite if self.regions.outside is None else finite & self.regions.outside
        return image - float(np.mean(image[where], dtype=np.float64)) if where.any() else image


def target_files(
    folder: str | Path, methods: tuple[str, ...], exposures: tuple[int, ...], *, results: bool = False
) -> list[Path]:
    """Return every file that a comparison may write."""
    folder = Path(folder)
    tabulated = [folder / f"comparison.{ending}" for ending in ("md", "csv", "json")]
    drawn = [folder / f"{stem}.png" for stem in (*_NAMES.values(), "regions", "agreement")]
    numbers = [folder / f"{method}-{n}.h5" for method in methods for n in exposures] if results else []
    return [*tabulated, *drawn, *numbers]


def _writer(content: str) -> Callable[[BinaryIO], object]:
    def write(file: BinaryIO) -> None:
        file.write(content.encode())

    return write
