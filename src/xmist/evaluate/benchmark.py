"""Accuracy and speed of the methods on this machine: two tables with their provenance.

Accuracy is measured on `xmist.simulate.phantom`, frames by wave optics with a known truth; speed on random
speckles. Nothing is read from disk, so that the tables of two machines can be compared.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.core.checks import Checks
from xmist.core.data import SpeckleStack
from xmist.core.errors import ErrorRecord, XmistError, raise_errors, suggest
from xmist.core.experiment import Experiment
from xmist.core.progress import Progress
from xmist.core.version import __version__
from xmist.evaluate.checks import method_errors
from xmist.evaluate.regions import NO_REGIONS
from xmist.evaluate.scoring import compile_method, measure, run_methods, score_runs, unable
from xmist.io.results.atomic import target_errors, write_file
from xmist.methods import METHODS, prepare
from xmist.numerics.parallel import count_threads
from xmist.simulate import phantom
from xmist.simulate.phantoms import CASES

__all__ = ["Accuracy", "Benchmark", "Speed", "run_benchmark", "save_benchmark"]

CHANNELS: Final = ("phase", "dark_field", "transmission")
POSITIONS: Final = (2, 10)
SIZE: Final = 256
SPEED_SIZES: Final = (512, 1024)
SEED: Final = 11  # methods were tuned on others

# Pixels, where a method has the option: without it, the equations of a pixel are nearly singular.
SMOOTHING: Final = 2.0

_SPEED_EXPERIMENT: Final = Experiment(energy_kev=17.0, pixel_size=5.8e-6, sample_to_detector=1.0)


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """Scores of a method against the truth of a phantom.

    Parameters
    ----------
    method : str
        The method.
    case : str
        The phantom.
    positions : int
        Number N of positions.
    scores : mapping
        By channel the correlation with the truth, the rms of the error over that of the truth, and the same
        by medians (1.4826 times the median of the absolute error); φ without its mean. Of the transmission
        the error is that of T itself.
    pixels : int
        Number of pixels that are scored: those that no method flags at this N.
    flagged : float
        Share of the pixels that the method flags.
    apart : bool
        Whether the method flags more than 20 %, and is scored on the pixels that it does not flag itself.
    reason : str
        Why there are no scores; empty if there are.
    """

    method: str
    case: str
    positions: int
    scores: Mapping[str, tuple[float, float, float]]
    pixels: int = 0
    flagged: float = 0.0
    apart: bool = False
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Time and memory of a method.

    Parameters
    ----------
    method : str
        The method.
    size : int
        Pixels along a side.
    positions : int
        Number N of positions.
    prepare_seconds, seconds : float
        Best times of the preparation and of a projection, kernels compiled.
    memory : float
        Peak in bytes beyond the frames.
    """

    method: str
    size: int
    positions: int
    prepare_seconds: float
    seconds: float
    memory: float


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Both tables with their provenance.

    Parameters
    ----------
    accuracy : tuple of Accuracy
        One for each method, phantom and N.
    speed : tuple of Speed
        One for each method and size.
    provenance : mapping
        Version, date, machine and settings.
    """

    accuracy: tuple[Accuracy, ...]
    speed: tuple[Speed, ...]
    provenance: Mapping[str, Any]

    def __str__(self) -> str:
        """Return the tables in Markdown."""
        facts = ", ".join(f"{name} {value}" for name, value in self.provenance.items())
        lines = ["# xmist benchmark", "", facts, ""]
        if self.accuracy:
            lines += [
                "Correlation (error over the rms of the truth; the same by medians), φ without its mean, "
                "over the pixels that no method flags. A method marked * flags more than 20 % and is scored "
                "on its own pixels.",
                "",
                *_table(
                    ["phantom", "method", "N", "pixels", "φ", "D", "T"],
                    map(_accuracy_cells, self.accuracy),
                ),
                "",
            ]
        if self.speed:
            lines += [
                "Best times with kernels compiled; memory beyond the frames.",
                "",
                *_table(
                    ["method", "size", "N", "prepare s", "projection s", "GB"], map(_speed_cells, self.speed)
                ),
                "",
            ]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        return asdict(self)


def run_benchmark(
    *,
    methods: Sequence[str] | None = None,
    cases: Sequence[str] = tuple(CASES),
    positions: Sequence[int] = POSITIONS,
    size: int = SIZE,
    speed_sizes: Sequence[int] = SPEED_SIZES,
    repeats: int = 2,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Benchmark:
    """Measure the accuracy and the speed of methods.

    Parameters
    ----------
    methods : sequence of str, optional
        Names of methods; None takes all.
    cases : sequence of str
        Phantoms, see `xmist.simulate.phantom`; none skips the accuracy.
    positions : sequence of int
        Numbers N of positions; the speed is that of the least that a method takes.
    size : int
        Pixels along a side of the phantoms.
    speed_sizes : sequence of int
        Pixels along a side of the frames that the speed is measured on; none skips it.
    repeats : int
        Number of measurements, of which the best counts.
    threads : int, optional
        Threads to compute with; None takes one for each core that the process may use.
    progress : callable, optional
        progress(label, done, total).

    Returns
    -------
    Benchmark
        The tables, with the reason where a method cannot work.

    Raises
    ------
    InputError
        Lists unknown names, and numbers out of range.

    Examples
    --------
    >>> found = run_benchmark(methods=["mist"], cases=["fine"], positions=[2], size=48, speed_sizes=[])
    >>> found.accuracy[0].scores["phase"][0] > 0.5
    True
    """
    chosen = tuple(METHODS) if methods is None else tuple(methods)
    raise_errors(request_errors(chosen, cases, positions, size, speed_sizes, repeats))
    report = progress or (lambda *_: None)
    return Benchmark(
        accuracy=tuple(_measure_accuracy(chosen, cases, positions, size, threads, report)),
        speed=tuple(_measure_speed(chosen, positions, speed_sizes, repeats, threads, report)),
        provenance={
            "xmist": __version__,
            "date": date.today().isoformat(),
            "python": platform.python_version(),
            "numpy": version("numpy"),
            "system": f"{platform.system()} {platform.machine()}",
            "cores": count_threads(),
            "threads": count_threads(threads),
            "phantoms": f"{size} × {size}",
            "seed": SEED,
            "smoothing": SMOOTHING,
        },
    )


def save_benchmark(found: Benchmark, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write the tables; the ending decides the format.

    Parameters
    ----------
    found : Benchmark
        The tables.
    path : str or Path
        `.md`: tables for people. `.json`: plain data.
    overwrite : bool
        Replace an existing file.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        For another ending, or if the file cannot be written.
    OutputError
        When writing failed.

    Examples
    --------
    >>> save_benchmark(Benchmark(accuracy=(), speed=(), provenance={}), "benchmark.md").name
    'benchmark.md'
    """
    raise_errors(output_errors(path, overwrite=overwrite))
    text = (
        str(found)
        if Path(path).suffix.lower() == ".md"
        else json.dumps(found.to_dict(), indent=2, ensure_ascii=False) + "\n"
    )
    return write_file(path, text.encode(), overwrite=overwrite)


def output_errors(path: str | Path, *, overwrite: bool = False) -> list[ErrorRecord]:
    """Return why the tables cannot be written to a file."""
    ending = Path(path).suffix.lower()
    if ending not in (".md", ".json"):
        message = f"{path} ends in '{ending}'; expected .md (tables) or .json (data)"
        return [ErrorRecord("ending-unknown", message)]
    return [*target_errors(path, overwrite=overwrite)]


def request_errors(
    methods: Sequence[str],
    cases: Sequence[str],
    positions: Sequence[int],
    size: int,
    speed_sizes: Sequence[int],
    repeats: int = 1,
) -> list[ErrorRecord]:
    """Return the errors of the arguments of `run_benchmark`.

    >>> [record.message for record in request_errors(["mist"], ["fine"], [2], 4, [])]
    ['size is 4; expected a whole number from 32 to 8192']
    """
    check = Checks()
    check.errors += method_errors(methods)
    for name in cases:
        if name not in CASES:
            check.add(f"there is no phantom '{name}'; {suggest(name, CASES)}", "preset-unknown")
    ranges: tuple[tuple[str, Sequence[Any], int, int], ...] = (
        ("positions", positions, 1, 100),
        ("size", (size,), 32, 8192),
        ("speed_sizes", speed_sizes, 32, 8192),
        ("repeats", (repeats,), 1, 100),
    )
    for name, given, low, high in ranges:
        for number in given:
            check.count(name, number, low=low, high=high)
    several: dict[str, Sequence[Any]] = {"cases": cases, "positions": positions, "speed_sizes": speed_sizes}
    for name, given in several.items():
        for item in dict.fromkeys(given):
            if list(given).count(item) > 1:
                check.add(f"{name} names {item} more than once; expected it once")
    if not positions:
        check.add("positions is empty; expected at least one number")
    return check.errors


def method_options(method: str) -> dict[str, Any]:
    """Return the options of a method: the smoothing, if it has one."""
    known = import_module(METHODS[method].module).OPTIONS.__dataclass_fields__
    return {"smoothing": SMOOTHING} if "smoothing" in known else {}


def _measure_accuracy(
    methods: Sequence[str],
    cases: Sequence[str],
    positions: Sequence[int],
    size: int,
    threads: int | None,
    report: Progress,
) -> Iterable[Accuracy]:
    """Yield one row for each phantom, N and method."""
    options = {method: method_options(method) for method in methods}
    for case in cases:
        report(f"simulating {case}", 0, len(positions) * len(methods))
        stack, experiment, truth = phantom(case, shape=(size, size), positions=max(positions), seed=SEED)
        # With a truth that is the same everywhere there is no correlation.
        right = {name: image for name in CHANNELS if np.ptp(image := getattr(truth, name)) > 0}
        for number in positions:
            pairs = [(method, number) for method in methods]
            runs, _ = run_methods(stack, experiment, pairs, options, threads=threads, report=report)
            for run in score_runs(runs, NO_REGIONS, right)[0]:
                scores = {
                    name: (quality.correlation, quality.nrmse, quality.nrmse_median)
                    for name in CHANNELS
                    if (quality := run.quality.get(name)) is not None
                    and quality.correlation is not None
                    and quality.nrmse is not None
                    and quality.nrmse_median is not None
                }
                yield Accuracy(
                    method=run.method,
                    case=case,
                    positions=number,
                    scores=scores,
                    pixels=run.pixels,
                    flagged=run.flagged,
                    apart=run.apart,
                    reason=run.reason,
                )


def _measure_speed(
    methods: Sequence[str],
    positions: Sequence[int],
    sizes: Sequence[int],
    repeats: int,
    threads: int | None,
    report: Progress,
) -> Iterable[Speed]:
    """Yield one row for each size and method, of the least N that the method takes."""
    total = len(methods) * len(sizes)
    for number, (size, method) in enumerate((size, method) for size in sizes for method in methods):
        report(f"speed of {method}, {size} × {size}", number, total)
        stack, options = _enough(method, positions, size), method_options(method)
        if stack is None:
            continue
        compile_method(stack, _SPEED_EXPERIMENT, method, options, threads)
        runs = [measure(stack, _SPEED_EXPERIMENT, method, options, threads)[1:] for _ in range(repeats)]
        prepared, seconds, memory = (min(values) for values in zip(*runs, strict=True))
        yield Speed(
            method=method,
            size=size,
            positions=stack.positions,
            prepare_seconds=prepared,
            seconds=seconds,
            memory=memory,
        )


def _enough(method: str, positions: Sequence[int], size: int) -> SpeckleStack | None:
    """Return frames of the smallest N on which a method works with its options; None if there is none."""
    for n in sorted(positions):
        if unable(method, n, method_options(method), n):
            continue
        try:
            prepare(_speckle(32, n).reference, _SPEED_EXPERIMENT, method=method, **method_options(method))
        except XmistError:  # its options ask for more
            continue
        return _speckle(size, n)
    return None


def _speckle(size: int, positions: int) -> SpeckleStack:
    """Return random speckles of about six pixels that are moved by half a pixel, with noise of 1 %."""
    from scipy.ndimage import gaussian_filter, shift

    random = np.random.default_rng(SEED)
    frames = []
    for _ in range(positions):
        grain = gaussian_filter(random.standard_normal((size, size), np.float32), 1.6)
        frames.append(1.0 + 0.2 * grain / grain.std())

    def noisy(image: NDArray[Any]) -> NDArray[Any]:
        return np.maximum(image + 0.01 * random.standard_normal(image.shape), 0.01)

    reference = np.stack([noisy(frame) for frame in frames])
    sample = np.stack([noisy(shift(frame, (0.3, 0.4), order=1, mode="nearest")) for frame in frames])
    return SpeckleStack(reference, sample)


def _accuracy_cells(row: Accuracy) -> list[str]:
    cells = [row.case, row.method, str(row.positions)]
    if row.reason:
        return [*cells, row.reason, "", "", ""]
    shown = (row.scores.get(name) for name in CHANNELS)
    numbers = [f"{item[0]:.4f} ({item[1]:.3g}; {item[2]:.3g})" if item else "–" for item in shown]
    return [*cells, f"{row.pixels}{' *' * row.apart}", *numbers]


def _speed_cells(row: Speed) -> list[str]:
    times = (f"{seconds:.3g}" for seconds in (row.prepare_seconds, row.seconds))
    return [row.method, f"{row.size} × {row.size}", str(row.positions), *times, f"{row.memory / 1e9:.2f}"]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]
