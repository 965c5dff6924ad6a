"""How good and how fast the methods are on this machine: two tables with their provenance.

Accuracy is that on `xmist.simulate.phantom`, frames by wave optics with a known truth; speed is that on
random speckle. Nothing is read from disk, so that the tables of two machines can be compared.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from datetime import date
from importlib.metadata import version

from xmist.core.errors import raise_errors
from xmist.core.progress import Progress
from xmist.core.version import __version__
from xmist.evaluate.benchmark.accuracy import measure_accuracy
from xmist.evaluate.benchmark.request import (
    EXPOSURES,
    SEED,
    SIZE,
    SMOOTHING,
    SPEED_SIZES,
    request_faults,
)
from xmist.evaluate.benchmark.speed import measure_speed
from xmist.evaluate.benchmark.tables import Accuracy, Benchmark, Speed, save_benchmark
from xmist.methods import METHODS
from xmist.numerics.parallel import count_threads
from xmist.simulate.phantoms import CASES

__all__ = ["Accuracy", "Benchmark", "Speed", "run_benchmark", "save_benchmark"]


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
    raise_errors(request_faults(chosen, cases, exposures, size, speed_sizes, repeats))
    tell = progress or (lambda *_: None)
    return Benchmark(
        accuracy=tuple(measure_accuracy(chosen, cases, exposures, size, threads, tell)),
        speed=tuple(measure_speed(chosen, exposures, speed_sizes, repeats, threads, tell)),
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
