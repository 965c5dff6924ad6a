"""Memory and time of a retrieval, from a trial of the method on small made-up frames."""

from __future__ import annotations

import math
import os
import time
import tracemalloc
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from xmist.core.data import SpeckleStack
from xmist.core.errors import XmistError
from xmist.core.experiment import Experiment
from xmist.core.progress import Progress
from xmist.methods import retrieve

_SIDES: Final = (64, 160)  # pixels; the difference of the two is free of what a call costs by itself
_MOST_EXPOSURES: Final = 12  # beyond, time and memory grow as their number does
_INTERPRETER: Final = 200e6  # bytes that Python takes with the libraries
_READING: Final = 150e6  # bytes a second, from a disk that is no snail and no rocket
_STEPPING: Final = 50e6  # bytes of float32 frames a second, through a step of the preprocessing


def estimate(
    *,
    method: str,
    options: Mapping[str, Any],
    experiment: Experiment,
    threads: int | None,
    exposures: int,
    raw_pixels: int,
    pixels: int,
    stored: int,
    steps: int,
    repeated: bool,
    progress: Progress | None = None,
) -> tuple[float, float | None]:
    """Say what a retrieval needs.

    Parameters
    ----------
    method, options, experiment, threads
        As for `xmist.retrieve`.
    exposures : int
        Number N of positions of the mask.
    raw_pixels, pixels : int
        Pixels of a frame as it is read, and as it is prepared.
    stored : int
        Bytes of all frames as they are stored.
    steps : int
        Number of steps of the preprocessing.
    repeated : bool
        Whether exposures are averaged.
    progress : callable, optional
        Called with what is done, and how much of how much of it.

    Returns
    -------
    float
        Peak memory in bytes.
    float or None
        Time in seconds, None where the method would not run on made-up frames.
    """
    pair = 2 * 4 * exposures * raw_pixels
    loading = pair * (1.5 if repeated else 1.0)
    # A step holds what it takes, what it gives and what it works with, and the weights.
    preparing = pair * 3.5 if steps else pair
    solving = 3 * 4 * exposures * pixels
    trial = _trial(method, options, experiment, threads, min(exposures, _MOST_EXPOSURES), progress)
    seconds = None
    if trial is not None:
        scale = max(1.0, exposures / _MOST_EXPOSURES)
        solving += int(trial[0] * pixels * scale)
        # Read once to load and once for the digest.
        seconds = 1.0 + 2 * stored / _READING + trial[1] * pixels * scale + steps * pair / _STEPPING
    return _INTERPRETER + max(loading, preparing, solving), seconds


def _trial(
    method: str,
    options: Mapping[str, Any],
    experiment: Experiment,
    threads: int | None,
    exposures: int,
    progress: Progress | None,
) -> tuple[float, float] | None:
    """Give bytes and seconds a pixel; None if the method refuses."""
    from scipy.ndimage import gaussian_filter

    tell = progress or (lambda *_: None)
    trying = f"trying {method} on small made-up frames"
    rng = np.random.default_rng(0)
    peaks, times = [], []
    for number, side in enumerate(_SIDES):
        noise = rng.standard_normal((exposures, side, side))
        grain = gaussian_filter(noise, (0.0, 1.5, 1.5), mode="wrap")
        reference = np.exp(0.25 * grain / grain.std()).astype(np.float32)
        sample = np.float32(0.9) * gaussian_filter(reference, (0.0, 0.5, 0.5))
        stack = SpeckleStack(reference, sample, np.ones_like(reference))

        def call(stack: SpeckleStack = stack) -> None:
            retrieve(stack, experiment, method=method, threads=threads, **options)

        try:
            if number == 0:
                tell(f"compiling {method}", 0, 1)
                call()
            tell(trying, number, len(_SIDES))
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
            tracemalloc.start()
            try:
                call()
                peaks.append(tracemalloc.get_traced_memory()[1])
            finally:
                tracemalloc.stop()
        except XmistError:
            return None
    area = [side**2 for side in _SIDES]
    memory = max(0.0, (peaks[1] - peaks[0]) / (area[1] - area[0]))
    slope = max((times[1] - times[0]) / (area[1] - area[0]), 0.1 * times[1] / area[1])
    return memory, slope


def about(seconds: float) -> str:
    """Write a rough time for people.

    Parameters
    ----------
    seconds : float
        The time.

    Examples
    --------
    >>> about(0.4), about(47.0), about(500.0)
    ('about 1 s', 'about 50 s', 'about 8 min')
    """
    if seconds < 90:
        size = 10 ** max(0, math.floor(math.log10(max(seconds, 1.0))))
        return f"about {math.ceil(seconds / size) * size:g} s"
    if seconds < 5400:
        return f"about {seconds / 60:.0f} min"
    return f"about {seconds / 3600:.1f} h"


def machine_memory() -> float | None:
    """Give the memory of this machine in bytes; None where the system does not tell it (Windows).

    Examples
    --------
    >>> machine_memory() is None or machine_memory() > 1e6
    True
    """
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):
        return None
