"""Time and memory of a simulated experiment; run with `python benchmarks/simulate.py`.

First the steps of the wave, alone and best of three; then `xmist.simulate.acquire` as a whole, cold, in a
process of its own, whose peak memory is given above that of the interpreter with everything imported and
compiled. The limits are those for 512² pixels, four samples a pixel along a side, N = 10: 60 s and 3 GB.
"""

from __future__ import annotations

import argparse
import multiprocessing
import threading
import time
from collections.abc import Callable

import numpy as np
import psutil

import xmist
from xmist import simulate
from xmist.simulate.detector import detect
from xmist.simulate.diffusers import transmission_functions

EXPERIMENT = xmist.Experiment(energy_kev=17.0, pixel_size=5.8e-6, sample_to_detector=1.0)
UPSTREAM, OVERSAMPLING = 0.5, 4
WAVELENGTH = EXPERIMENT.wavelength
DIFFUSER = simulate.RandomScreen(wavelength=WAVELENGTH, grain_size=45e-6, rms_phase=2.5, seed=1)
PAPER = simulate.Sandpaper(
    wavelength=WAVELENGTH, grain_size=60e-6, rms_phase=3.0, layers=4, size_spread=0.3, seed=1
)
DETECTOR = simulate.Detector(
    pixel_size=EXPERIMENT.pixel_size,
    oversampling=OVERSAMPLING,
    psf_sigma=3e-6,
    photons=1e4,
    gain=1.0,
    read_noise=2.0,
    offset=100.0,
)


def best(task: Callable[[], object], repeats: int = 3) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        task()
        times.append(time.perf_counter() - start)
    return min(times)


def steps(size: int, workers: int | None) -> None:
    grid, pixel = (size * OVERSAMPLING,) * 2, EXPERIMENT.pixel_size / OVERSAMPLING

    def sample(diffuser: simulate.Diffuser) -> np.ndarray:
        (t,) = transmission_functions(diffuser, grid, pixel, WAVELENGTH, [(1e-5, 2e-5)], workers=workers)
        return t

    wave = sample(DIFFUSER)
    beam = {"wavelength": WAVELENGTH, "pixel_size": pixel, "distance": 1.0, "workers": workers}
    light = np.abs(wave) ** 2
    rng = np.random.default_rng(1)
    tasks: dict[str, Callable[[], object]] = {
        "random screen": lambda: sample(DIFFUSER),
        "sandpaper": lambda: sample(PAPER),
        "fresnel": lambda: simulate.fresnel(wave, overwrite=True, **beam),
        "angular spectrum": lambda: simulate.angular_spectrum(wave, overwrite=True, **beam),
        "detect": lambda: detect(light, DETECTOR, rng, workers=workers),
    }
    for name, task in tasks.items():
        print(f"  {name:<17} {1e3 * best(task):>8.0f} ms")


def experiment(size: int, positions: int, workers: int | None) -> simulate.Simulation:
    extent = size * EXPERIMENT.pixel_size
    water = xmist.Material(delta=8e-7, beta=5e-10, energy_kev=17.0)
    drop = simulate.Part(
        body=simulate.sphere(radius=min(0.35 * extent, 1e-3)),  # a larger one is too steep at its rim
        material=water,
        scatter=simulate.Scatter(power=1e-9, correlation_length=3.5e-6),
    )
    return simulate.acquire(
        EXPERIMENT,
        shape=(size, size),
        sample=[drop],
        diffuser=DIFFUSER,
        diffuser_to_sample=UPSTREAM,
        positions=simulate.random_positions(positions, span=1e-3, seed=1),
        detector=DETECTOR,
        edge_sigma=3e-6,
        seed=1,
        workers=workers,
    )


def _measure(size: int, positions: int, workers: int | None, connection) -> None:
    process = psutil.Process()
    experiment(32, 1, workers)
    warm = process.memory_info().rss
    peak, done = warm, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.is_set():
            peak = max(peak, process.memory_info().rss)
            time.sleep(0.001)

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    experiment(size, positions, workers)
    seconds = time.perf_counter() - start
    done.set()
    watcher.join()
    connection.send((seconds, warm, peak))


def measure(size: int, positions: int, workers: int | None) -> tuple[float, int, int]:
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    child = context.Process(target=_measure, args=(size, positions, workers, send))
    child.start()
    answer = receive.recv()
    child.join()
    return answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--positions", type=int, default=10)
    given = parser.parse_args()
    n = given.positions
    for size in given.sizes:
        side = size * OVERSAMPLING
        print(f"{size}² pixels, {side}² samples, {given.workers} threads, complex64")
        steps(size, given.workers)
        seconds, warm, peak = measure(size, n, given.workers)
        more = peak - warm
        print(
            f"  acquire, N = {n}: {seconds:.1f} s; {more / 2**20:.0f} MiB above the bare "
            f"{warm / 2**20:.0f} MiB = {more / side**2:.0f} bytes a sample; in all {peak / 1e9:.2f} GB"
        )


if __name__ == "__main__":
    main()
