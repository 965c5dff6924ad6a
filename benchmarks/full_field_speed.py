"""Speed and memory of `full-field`; run with `python benchmarks/full_field_speed.py`.

Frames are float32 speckle and what the finite model makes of it, with photon noise; the plan is ready,
kernels are compiled, two threads. Everything is set against a numpy copy of the same bytes and transforms of
the same images, measured in the same run; a time is the least of several where the task is short. On a busy
machine use `--cpu`: seconds then are those of the processor, of both threads together, halved (but for the
copy, which has one thread). `--size 4096` adds the largest size.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import threading
import time
from collections.abc import Callable

import numpy as np
import psutil
import scipy.ndimage as ndi

import xmist
from xmist.numerics.operators import finite_model
from xmist.numerics.operators.transport import PSI, D, Transport
from xmist.numerics.solvers.poisson import dct2
from xmist.numerics.solvers.preconditioner import Prior
from xmist.numerics.solvers.whole_image import Solver

EXPERIMENT = xmist.Experiment(energy_kev=20.0, pixel_size=6.5e-6, sample_to_detector=0.7)
KINDS = (PSI, D)
IMAGES = {"dark_field": "scalar", "transmission": False}  # and the phase
ALPHA, NEGLIGIBLE = 3.0, 3e-4
PHOTONS = 1e4
THREADS = 2
BY_CPU = False


def frames(size: int, positions: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    reference = np.empty((positions, size, size), np.float32)
    for frame in reference:
        ndi.gaussian_filter(rng.standard_normal((size, size), np.float32), 1.7, output=frame)
        frame *= np.float32(0.25 / frame.std())
        frame += 1
    np.maximum(reference, np.float32(0.05), out=reference)
    y, x = (axis.astype(np.float32) / size - np.float32(0.5) for axis in np.ogrid[:size, :size])
    fields = np.empty((2, size, size), np.float32)
    # Shifts of about half a pixel and a blur of half a pixel, in structures of every hundredth of the image.
    waves = np.cos(60 * x + 40 * y) * np.cos(50 * y - 30 * x) + np.float32(0.3) * np.cos(300 * (x + y))
    fields[0] = waves * np.float32(0.5 * size / 100) * np.exp(-8 * (x * x + y * y))
    fields[1] = np.float32(0.15) * np.exp(-40 * ((x - 0.1) ** 2 + y * y)) * (1 + np.cos(80 * x))
    _, residual = finite_model.linearise(
        reference, np.zeros_like(reference), KINDS, fields, smoothing=2.0, threads=THREADS
    )
    noise = np.float32(PHOTONS**-0.5)
    sample = np.asarray(residual)
    for frame in sample:
        np.negative(frame, out=frame)
        frame += noise * rng.standard_normal(frame.shape, np.float32)
    return reference, sample


def timed(task: Callable[[], object], *, threads: int = THREADS) -> float:
    if BY_CPU:
        start = time.process_time()
        task()
        return (time.process_time() - start) / threads
    start = time.perf_counter()
    task()
    return time.perf_counter() - start


def best(task: Callable[[], object], repeats: int, *, threads: int = THREADS) -> float:
    return min(timed(task, threads=threads) for _ in range(repeats))


def pieces(size: int, positions: int) -> float:
    """Print what one linear solve consists of; give the time of the solve."""
    reference, sample = frames(size, positions)
    weights = np.ones_like(reference)
    transport = Transport(frames=reference, kinds=KINDS, weights=weights, threads=THREADS)
    fields = np.random.default_rng(1).standard_normal((2, size, size), np.float32)
    out, there = np.empty_like(fields), (np.empty_like(reference), np.empty_like(weights))

    def copy() -> None:
        for target, source in zip(there, (reference, weights), strict=True):
            np.copyto(target, source)

    def pair() -> None:
        dct2(dct2(fields[0], threads=THREADS), inverse=True, threads=THREADS)

    repeats = 12 if size <= 1024 else 6
    copied = best(copy, repeats, threads=1)
    applied = best(lambda: transport.normal(fields, out=out), repeats)
    paired = best(pair, repeats)
    images = sample - reference
    priors = (Prior(), Prior(strength=ALPHA, order=1.5))
    part = NEGLIGIBLE / positions

    def solve() -> int:
        _, how = Solver(transport, priors)(images, negligible=lambda left: part * left, relative=1e-9)
        assert how.converged
        return how.iterations

    iterations = solve()
    solved = best(solve, 2)
    equal = solved / (applied + 2 * paired)
    print(
        f"| {size} | {positions} | {1e3 * copied:.1f} | {1e3 * applied:.1f} | {applied / copied:.1f} "
        f"| {1e3 * paired:.1f} | {iterations} | {solved:.2f} | {equal:.0f} | {solved / size**2 * 1e9:.0f} |",
        flush=True,
    )
    return solved


def retrieval(size: int, positions: int, linear: float) -> None:
    """Print how long whole retrievals take."""
    reference, sample = frames(size, positions)
    took, record = {}, {}
    choices = {
        "plain": {"regularisation": ALPHA},
        "automatic": {},
        "8 draws": {"regularisation": ALPHA, "uncertainty": True, "draws": 8},
    }
    for name, options in choices.items():
        plan = xmist.prepare(reference, EXPERIMENT, method="full-field", **IMAGES, threads=THREADS, **options)
        results = []
        took[name] = timed(lambda plan=plan, results=results: results.append(plan(sample)))
        record[name] = results[0].provenance["convergence"]
    steps = len(record["plain"]["misfit"]) - 1
    print(
        f"| {size} | {positions} | {took['plain']:.1f} | {steps} | {took['plain'] / steps / linear:.2f} "
        f"| {took['automatic']:.1f} | {took['automatic'] / took['plain']:.2f} "
        f"| {took['8 draws']:.1f} | {took['8 draws'] / took['plain'] - 1:.2f} "
        f"| {record['plain']['iterations']} | {record['automatic']['iterations']} |",
        flush=True,
    )


def _memory(size: int, positions: int, connection: object) -> None:
    process = psutil.Process()
    small = frames(64, positions)
    xmist.prepare(small[0], EXPERIMENT, method="full-field", **IMAGES, threads=THREADS)(small[1])
    warm = process.memory_info().rss
    reference, sample = frames(size, positions)
    peak, done = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.is_set():
            peak = max(peak, process.memory_info().rss)
            time.sleep(0.002)

    plan = xmist.prepare(reference, EXPERIMENT, method="full-field", **IMAGES, threads=THREADS)
    watcher = threading.Thread(target=watch)
    watcher.start()
    plan(sample)
    done.set()
    watcher.join()
    connection.send((peak - warm) / (4 * size**2))  # type: ignore[attr-defined]


def memory(size: int, positions: int) -> None:
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    child = context.Process(target=_memory, args=(size, positions, send))
    child.start()
    images = receive.recv()
    child.join()
    print(f"| {size} | {positions} | {images:.0f} | {4 * positions + 16} |", flush=True)


def main() -> None:
    global BY_CPU
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, nargs="*", default=[], help="further sizes")
    parser.add_argument("--cpu", action="store_true", help="measure the processor's time")
    arguments = parser.parse_args()
    sizes, BY_CPU = [512, 1024, 2048, *arguments.size], arguments.cpu
    seconds = "processor's seconds / threads" if BY_CPU else "seconds"
    print(
        f"load before: {os.getloadavg()[0]:.1f} on {psutil.cpu_count()} cores; {THREADS} threads; {seconds}"
    )
    xmist.retrieve(xmist.SpeckleStack(*frames(64, 2)), EXPERIMENT, method="full-field", **IMAGES)
    print()
    print("| size | N | copy ms | AᵀWA ms | over copy | DCT pair ms | iterations | solve s", end=" ")
    print("| in AᵀWA + 2 pairs | ns a pixel |\n|---|---|---|---|---|---|---|---|---|---|")
    linear = {(size, n): pieces(size, n) for size in sizes for n in ((2, 10) if size <= 2048 else (2,))}
    for size in sizes[1:]:
        growth = linear[size, 2] / linear[sizes[0], 2] / (size / sizes[0]) ** 2
        print(f"time a pixel of the linear solve, {size}² over {sizes[0]}²: {growth:.2f}")
    print()
    print("| size | N | plain s | outer steps | a step/linear solve | automatic s | over plain", end=" ")
    print("| 8 draws s | beyond plain | iterations, plain | automatic |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for size in (1024, 2048):
        retrieval(size, 2, linear[size, 2])
    print("\n| size | N | peak above the interpreter, images | frames × 2 + 16 images |")
    print("|---|---|---|---|")
    for n in (2, 10):
        memory(1024, n)
    print(f"\nload after: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
