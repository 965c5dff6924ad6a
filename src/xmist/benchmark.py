"""How good and how fast the methods are on this machine: two tables with their provenance.

Accuracy is that on `xmist.simulate.phantom`, frames by wave optics with a known truth; speed is that on
random speckle. Nothing is read from disk, so that the tables of two machines can be compared.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from xmist.comparison.runs import compile_method, first, measure, unable
from xmist.data import Retrieval, SpeckleStack
from xmist.errors import XmistError, raise_faults, suggest
from xmist.experiment import Experiment
from xmist.io.atomic import target_faults, write_file
from xmist.methods import METHODS, prepare
from xmist.metrics import correlation, nrmse
from xmist.simulate import phantom
from xmist.simulate.phantoms import CASES
from xmist.version import __version__

__all__ = ["Accuracy", "Benchmark", "Speed", "run_benchmark", "save_benchmark"]

Progress = Callable[[str, int, int], object]

EXPOSURES: Final = (2, 10)
SIZE: Final = 256
SPEED_SIZES: Final = (512, 1024)
SEED: Final = 11  # methods were tuned on others

# Pixels, where a method has the option: unsmoothed, the equations of a pixel are nearly singular.
_SMOOTHING: Final = 2.0
_CHANNELS: Final = ("phase", "dark_field", "transmission")
_EXPERIMENT: Final = Experiment(energy_kev=17.0, pixel_size=5.8e-6, sample_to_detector=1.0)


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """How close a method comes to the truth of a phantom.

    Parameters
    ----------
    method : str
        The method.
    case : str
        The phantom.
    exposures : int
        Number N of exposures.
    scores : mapping
        By channel the correlation with the truth, and the rms of the error over that of the truth; φ without
        its mean. Of the transmission the error is that of T itself.
    reason : str
        Why there are none; else empty.
    """

    method: str
    case: str
    exposures: int
    scores: Mapping[str, tuple[float, float]]
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Speed:
    """What a method takes.

    Parameters
    ----------
    method : str
        The method.
    size : int
        Pixels along a side.
    exposures : int
        Number N of exposures.
    prepare_seconds, seconds : float
        Best times of the preparation and of a projection, kernels compiled.
    memory : float
        Peak in bytes beyond the frames.
    """

    method: str
    size: int
    exposures: int
    prepare_seconds: float
    seconds: float
    memory: float


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Both tables, and where they come from.

    Parameters
    ----------
    accuracy : tuple of Accuracy
        One a method, phantom and N.
    speed : tuple of Speed
        One a method and size.
    provenance : mapping
        Version, date, machine, and what the tables were asked for.
    """

    accuracy: tuple[Accuracy, ...]
    speed: tuple[Speed, ...]
    provenance: Mapping[str, Any]

    def __str__(self) -> str:
        """Give the tables in Markdown."""
        facts = ", ".join(f"{name} {value}" for name, value in self.provenance.items())
        lines = ["# xmist benchmark", "", facts, ""]
        if self.accuracy:
            lines += [
                "Correlation (error over the rms of the truth; φ without its mean), over the whole image.",
                "",
                *_table(["phantom", "method", "N", "φ", "D", "T"], map(_accuracy_cells, self.accuracy)),
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
        """Give all of it as plain data."""
        return asdict(self)


def run_benchmark(
    *,
    methods: Sequence[str] | None = None,
    cases: Sequence[str] = tuple(CASES),
    exposures: Sequence[int] = EXPOSURES,
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
    exposures : sequence of int
        Numbers N of exposures; the speed is that of the least that a method takes.
    size : int
        Pixels along a side of the phantoms.
    speed_sizes : sequence of int
        Pixels along a side of the frames that the speed is measured on; none skips it.
    repeats : int
        Times that each is done; the best counts.
    threads : int, optional
        Threads to compute with; None takes one for each core that the process may use.
    progress : callable, optional
        Called with what is done, and how much of how much of it.

    Returns
    -------
    Benchmark
        The tables. Where a method cannot work there is the reason.

    Raises
    ------
    InputError
        Lists unknown names, and numbers out of range.

    Examples
    --------
    >>> found = run_benchmark(methods=["mist"], cases=["fine"], exposures=[2], size=48, speed_sizes=[])
    >>> found.accuracy[0].scores["phase"][0] > 0.5
    True
    """
    chosen = tuple(METHODS) if methods is None else tuple(methods)
    raise_faults(request_faults(chosen, cases, exposures, size, speed_sizes, repeats))
    tell = progress or (lambda *_: None)
    return Benchmark(
        accuracy=tuple(_accuracy(chosen, cases, exposures, size, threads, tell)),
        speed=tuple(_speed(chosen, exposures, speed_sizes, repeats, threads, tell)),
        provenance={
            "xmist": __version__,
            "date": date.today().isoformat(),
            "python": platform.python_version(),
            "numpy": version("numpy"),
            "system": f"{platform.system()} {platform.machine()}",
            "cores": _cores(),
            "threads": threads or _cores(),
            "phantoms": f"{size} × {size}",
            "seed": SEED,
            "smoothing": _SMOOTHING,
        },
    )


def request_faults(
    methods: Sequence[str],
    cases: Sequence[str],
    exposures: Sequence[int],
    size: int,
    speed_sizes: Sequence[int],
    repeats: int = 1,
) -> list[str]:
    """Say what is wrong with what `run_benchmark` is asked for.

    Parameters
    ----------
    methods, cases, exposures, size, speed_sizes, repeats
        As for `run_benchmark`.

    Examples
    --------
    >>> request_faults(["mist"], ["fine"], [2], 4, [])
    ['size is 4; expected 32 to 8192']
    """
    faults = [f"unknown method '{name}'; {suggest(name, METHODS)}" for name in methods if name not in METHODS]
    faults += [f"there is no phantom '{name}'; {suggest(name, CASES)}" for name in cases if name not in CASES]
    for name, numbers, low, high in (
        ("exposures", exposures, 1, 100),
        ("size", (size,), 32, 8192),
        ("speed_sizes", speed_sizes, 32, 8192),
        ("repeats", (repeats,), 1, 100),
    ):
        faults += [f"{name} is {n}; expected {low} to {high}" for n in numbers if not low <= n <= high]
    several: dict[str, Sequence[Any]] = {
        "methods": methods,
        "cases": cases,
        "exposures": exposures,
        "speed_sizes": speed_sizes,
    }
    for name, given in several.items():
        faults += [
            f"{name} names {item} more than once; expected it once"
            for item in dict.fromkeys(given)
            if list(given).count(item) > 1
        ]
    if not exposures:
        faults.append("exposures is empty; expected one number at least")
    if not methods:
        faults.append("methods is empty; expected names such as mist, full-field, umpa, xsvt")
    return faults


def save_benchmark(found: Benchmark, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write the tables; the ending decides the format.

    Parameters
    ----------
    found : Benchmark
        The tables.
    path : str or Path
        `.md`: tables for people. `.json`: plain data.
    overwrite : bool
        Replace a file that stands there already.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        For another ending, or if the file cannot be written there.
    OutputError
        When writing failed.

    Examples
    --------
    >>> save_benchmark(run_benchmark(cases=[], speed_sizes=[]), "benchmark.md").name
    'benchmark.md'
    """
    raise_faults(result_faults(path, overwrite=overwrite))
    text = (
        str(found)
        if Path(path).suffix.lower() == ".md"
        else json.dumps(found.to_dict(), indent=2, ensure_ascii=False) + "\n"
    )

    def write(file: BinaryIO) -> None:
        file.write(text.encode())

    return write_file(path, write, overwrite=overwrite)


def result_faults(path: str | Path, *, overwrite: bool = False) -> list[str]:
    """Say what keeps the tables from being written.

    Parameters
    ----------
    path : str or Path
        The file.
    overwrite : bool
        Whether a file that stands there may be replaced.

    Returns
    -------
    list of str
        A sentence for another ending than `.md` and `.json`, or why the file cannot be written there.

    Examples
    --------
    >>> result_faults("tables.txt")
    ["tables.txt ends in '.txt'; expected .md (tables) or .json (data)"]
    """
    ending = Path(path).suffix.lower()
    if ending not in (".md", ".json"):
        return [f"{path} ends in '{ending}'; expected .md (tables) or .json (data)"]
    return target_faults(path, overwrite=overwrite)


def _options(method: str) -> dict[str, Any]:
    """Give the smoothing, where a method has it; window methods smooth by their window."""
    known = import_module(METHODS[method].module).OPTIONS.__dataclass_fields__
    return {"smoothing": _SMOOTHING} if "smoothing" in known else {}


def _accuracy(
    methods: Sequence[str],
    cases: Sequence[str],
    exposures: Sequence[int],
    size: int,
    threads: int | None,
    tell: Progress,
) -> Iterable[Accuracy]:
    total = len(cases) * len(exposures) * len(methods)
    done = 0
    for case in cases:
        tell(f"simulating {case}", done, total)
        stack, experiment, truth = phantom(case, shape=(size, size), positions=max(exposures), seed=SEED)
        for number in exposures:
            for method in methods:
                tell(f"accuracy of {method}", done, total)
                yield _score(first(stack, number), experiment, truth, method, case, threads)
                done += 1


def _score(
    stack: SpeckleStack, experiment: Experiment, truth: Any, method: str, case: str, threads: int | None
) -> Accuracy:
    n, options = stack.positions, _options(method)
    reason = unable(method, n, options, n)
    scores: dict[str, tuple[float, float]] = {}
    if not reason:
        try:
            result = measure(stack, experiment, method, options, threads)[0]
            scores = dict(_scores(result, truth))
        except XmistError as error:
            reason = " ".join(str(error).split())
    return Accuracy(method=method, case=case, exposures=n, scores=scores, reason=reason)


def _scores(result: Retrieval, truth: Any) -> Iterable[tuple[str, tuple[float, float]]]:
    for name in _CHANNELS:
        found, right = getattr(result, name), getattr(truth, name)
        # Where the truth is the same everywhere there is nothing to correlate with.
        if found is None or np.ptp(right) == 0:
            continue
        error = nrmse(found, right, remove_mean=name == "phase")
        yield name, (correlation(found, right), error)


def _speed(
    methods: Sequence[str],
    exposures: Sequence[int],
    sizes: Sequence[int],
    repeats: int,
    threads: int | None,
    tell: Progress,
) -> Iterable[Speed]:
    total = len(methods) * len(sizes)
    for number, (size, method) in enumerate((size, method) for size in sizes for method in methods):
        tell(f"speed of {method}, {size} × {size}", number, total)
        stack, options = _enough(method, exposures, size), _options(method)
        if stack is None:
            continue
        compile_method(stack, _EXPERIMENT, method, options, threads)
        runs = [measure(stack, _EXPERIMENT, method, options, threads)[1:] for _ in range(repeats)]
        prepared, seconds, memory = (min(values) for values in zip(*runs, strict=True))
        yield Speed(
            method=method,
            size=size,
            exposures=stack.positions,
            prepare_seconds=prepared,
            seconds=seconds,
            memory=memory,
        )


def _enough(method: str, exposures: Sequence[int], size: int) -> SpeckleStack | None:
    """Give frames of the least N that a method works on with its options; None if there is none."""
    for n in sorted(exposures):
        if unable(method, n, _options(method), n):
            continue
        try:
            prepare(_speckle(32, n).reference, _EXPERIMENT, method=method, **_options(method))
        except XmistError:  # its options ask for more
            continue
        return _speckle(size, n)
    return None


def _speckle(size: int, exposures: int) -> SpeckleStack:
    """Give random speckle of about six pixels, moved by half a pixel; noise of one per cent in both."""
    from scipy.ndimage import gaussian_filter, shift

    random = np.random.default_rng(SEED)
    frames = []
    for _ in range(exposures):
        grain = gaussian_filter(random.standard_normal((size, size), np.float32), 1.6)
        frames.append(1.0 + 0.2 * grain / grain.std())

    def noisy(image: NDArray[Any]) -> NDArray[Any]:
        return np.maximum(image + 0.01 * random.standard_normal(image.shape), 0.01)

    reference = np.stack([noisy(frame) for frame in frames])
    sample = np.stack([noisy(shift(frame, (0.3, 0.4), order=1, mode="nearest")) for frame in frames])
    return SpeckleStack(reference, sample)


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1


def _accuracy_cells(row: Accuracy) -> list[str]:
    cells = [row.case, row.method, str(row.exposures)]
    if row.reason:
        return [*cells, row.reason, "", ""]
    shown = (row.scores.get(name) for name in _CHANNELS)
    return [*cells, *(f"{item[0]:.4f} ({item[1]:.3g})" if item else "–" for item in shown)]


def _speed_cells(row: Speed) -> list[str]:
    times = (f"{seconds:.3g}" for seconds in (row.prepare_seconds, row.seconds))
    return [row.method, f"{row.size} × {row.size}", str(row.exposures), *times, f"{row.memory / 1e9:.2f}"]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]
