"""The speed and the memory of methods on random speckle."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.core.data import SpeckleStack
from xmist.core.errors import XmistError
from xmist.core.experiment import Experiment
from xmist.core.progress import Progress
from xmist.evaluate.benchmark.request import SEED, method_options
from xmist.evaluate.benchmark.tables import Speed
from xmist.evaluate.comparison.runs import compile_method, measure, unable
from xmist.methods import prepare

_EXPERIMENT: Final = Experiment(energy_kev=17.0, pixel_size=5.8e-6, sample_to_detector=1.0)


def measure_speed(
    methods: Sequence[str],
    exposures: Sequence[int],
    sizes: Sequence[int],
    repeats: int,
    threads: int | None,
    tell: Progress,
) -> Iterable[Speed]:
    """Return one row a size and method, of the least N that the method takes."""
    total = len(methods) * len(sizes)
    for number, (size, method) in enumerate((size, method) for size in sizes for method in methods):
        tell(f"speed of {method}, {size} × {size}", number, total)
        stack, options = _enough(method, exposures, size), method_options(method)
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
    """Return frames of the least N that a method works on with its options; None if there is none."""
    for n in sorted(exposures):
        if unable(method, n, method_options(method), n):
            continue
        try:
            prepare(_speckle(32, n).reference, _EXPERIMENT, method=method, **method_options(method))
        except XmistError:  # its options ask for more
            continue
        return _speckle(size, n)
    return None


def _speckle(size: int, exposures: int) -> SpeckleStack:
    """Return random speckle of about six pixels, moved by half a pixel; noise of one per cent in both."""
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
