"""Speed and memory of `mist`; run with `python benchmarks/mist.py`.

Frames are random speckle, float32, N = 10; the plan is ready and every kernel compiled. The rivals are one
pass over the frames by numpy, and the same least squares written with numpy.linalg. Peak memory is measured
in a process of its own, above that of the warmed-up interpreter.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import numpy as np
import psutil
import scipy.ndimage as ndi

import xmist
from xmist.methods.implicit.mist import COLUMNS
from xmist.numerics.solvers.least_squares import System, solve

EXPERIMENT = xmist.Experiment(energy_kev=17.0, pixel_size=5.8e-6, sample_to_detector=1.0)
N = 10


def frames(size: int, positions: int = N) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    reference = np.empty((positions, size, size), np.float32)
    for n in range(positions):
        ndi.gaussian_filter(rng.standard_normal((size, size), np.float32), 1.6, output=reference[n])
        reference[n] *= np.float32(0.25 / reference[n].std())
        reference[n] += 1
    np.maximum(reference, np.float32(0.05), out=reference)
    sample = reference * np.float32(0.97)
    sample += np.float32(0.02)
    return reference, sample


def best(task: Callable[[], object], repeats: int = 7) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        task()
        times.append(time.perf_counter() - start)
    return min(times)


def by_numpy(reference: np.ndarray, sample: np.ndarray) -> np.ndarray:
    """Least squares of eq. (4) with numpy.linalg alone, Laplacian included."""
    second = np.array([2, -27, 270, -490, 270, -27, 2], np.float32) / 180
    laplacian = np.stack(
        [sum(ndi.correlate1d(r, second, axis=a, mode="reflect") for a in (0, 1)) for r in reference]
    )
    columns = np.stack([reference, -laplacian], axis=-1)
    normal = np.einsum("nyxk,nyxl->yxkl", columns, columns)
    right = np.einsum("nyxk,nyx->yxk", columns, reference - sample)
    return np.linalg.solve(normal, right[..., None])[..., 0]


def _memory(size: int, connection) -> None:
    process = psutil.Process()
    small = frames(64)
    xmist.prepare(small[0], EXPERIMENT, method="mist")(small[1])
    warm = process.memory_info().rss
    reference, sample = frames(size)
    loaded = process.memory_info().rss
    peak, done = loaded, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.is_set():
            peak = max(peak, process.memory_info().rss)
            time.sleep(0.0005)

    watcher = threading.Thread(target=watch)
    watcher.start()
    plan = xmist.prepare(reference, EXPERIMENT, method="mist")
    prepared_peak = peak
    peak = process.memory_info().rss
    plan(sample)
    plan(sample)
    done.set()
    watcher.join()
    connection.send((warm, reference.nbytes + sample.nbytes, prepared_peak, peak))


def memory(size: int) -> tuple[int, int, int, int]:
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    child = context.Process(target=_memory, args=(size, send))
    child.start()
    answer = receive.recv()
    child.join()
    return answer


def import_time(module: str) -> float:
    code = f"import time; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True) for _ in range(9)]
    return statistics.median(float(run.stdout) for run in runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 1024, 2048, 4096])
    sizes = parser.parse_args().sizes
    print(f"{'size':>6} {'plan s':>8} {'ns/pixel':>9} {'prepare s':>10} {'smoothed s':>11} {'x sum()':>8}")
    per_pixel = {}
    for size in sizes:
        reference, sample = frames(size)
        plan = xmist.prepare(reference, EXPERIMENT, method="mist")
        plan(sample)
        run = best(lambda plan=plan, sample=sample: plan(sample))
        prepare = best(lambda r=reference: xmist.prepare(r, EXPERIMENT, method="mist"), 3)
        smooth_plan = xmist.prepare(reference, EXPERIMENT, method="mist", smoothing=2.0)
        smooth_plan(sample)
        smooth = best(lambda plan=smooth_plan, sample=sample: plan(sample), 3)
        total = best(lambda r=reference, s=sample: (r.sum(), s.sum()))
        per_pixel[size] = run / size**2 * 1e9
        print(
            f"{size:>6} {run:>8.3f} {per_pixel[size]:>9.1f} {prepare:>10.3f} {smooth:>11.3f} "
            f"{run / total:>8.1f}"
        )
        if size == 1024:
            rival = best(lambda r=reference, s=sample: by_numpy(r, s), 2)
            system = System(COLUMNS)
            ours = best(lambda r=reference, s=sample, m=system: solve(r, s, m))
            print(
                f"       least squares alone at 1024²: {ours:.4f} s; by numpy.linalg {rival:.2f} s = "
                f"{rival / ours:.0f} times ({rival / run:.0f} times the whole plan)"
            )
    print(f"time per pixel, largest over smallest size: {per_pixel[sizes[-1]] / per_pixel[sizes[0]]:.2f}")
    warm, loaded, prepared, peak = memory(2048)
    print(
        f"memory at 2048²: frames {loaded / 2**20:.0f} MiB; above the interpreter ({warm / 2**20:.0f} MiB) "
        f"{(peak - warm) / 2**20:.0f} MiB = {(peak - warm) / loaded:.2f} x frames while the plan runs, "
        f"{(prepared - warm) / loaded:.2f} x while it is prepared; in all {peak / 2**20:.0f} MiB = "
        f"{peak / loaded:.2f} x frames"
    )
    numpy, ours = import_time("numpy"), import_time("xmist")
    both = import_time("numpy, xmist")
    print(
        f"import numpy {1e3 * numpy:.0f} ms; import xmist alone {1e3 * ours:.0f} ms; "
        f"xmist above numpy {1e3 * (both - numpy):.0f} ms"
    )


if __name__ == "__main__":
    main()
