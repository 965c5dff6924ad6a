"""Speed, memory and accuracy of `umpa` and `xsvt`; run with `python benchmarks/matching.py`.

Speed: 512² random speckle, window 5 × 5, search of ±4 pixels, 2 threads, plan ready and kernels compiled; the
rival is one evaluation of the cost at all 81 shifts in numpy. Times are those of the clock and of the
processor, the sum over threads; the latter says more on a busy machine. Memory: peak of a process of its own
above the warmed-up interpreter. Accuracy: `xmist.simulate.phantom`, correlation and NRMSE, φ of mean 0.
Integration: a smooth field without vortices, white noise in its gradient, and holes.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import threading
import time

import numpy as np
import psutil
import scipy.ndimage as ndi

import xmist
from xmist.numerics.solvers.integrate import INTEGRATORS, integrate, spectral_gradient

EXPERIMENT = xmist.Experiment(energy_kev=17.0, pixel_size=5.8e-6, sample_to_detector=1.0)
KINDS = ("fine", "strong", "coarse", "low-dose", "absorbing")
RUNS = [(method, weighting) for method in ("umpa", "xsvt") for weighting in ("flat", "hamming")]


def frames(size: int, positions: int) -> tuple[np.ndarray, np.ndarray]:
    """Random speckle, moved by 0.3 and 0.2 pixels, with 1 % of noise in either."""
    rng = np.random.default_rng(0)
    reference = np.empty((positions, size, size), np.float32)
    sample = np.empty_like(reference)
    for n in range(positions):
        frame = ndi.gaussian_filter(rng.standard_normal((size, size), np.float32), 1.6)
        frame = 1 + 0.25 * frame / frame.std()
        reference[n] = frame + 0.01 * rng.standard_normal(frame.shape)
        sample[n] = ndi.shift(frame, (0.2, 0.3), order=3, mode="nearest")
        sample[n] += 0.01 * rng.standard_normal(frame.shape)
    return np.maximum(reference, np.float32(0.01)), sample


def by_numpy(reference: np.ndarray, sample: np.ndarray, reach: int = 4) -> np.ndarray:
    """Evaluate the cost of umpa at all shifts, flat windows."""
    mean = np.stack([ndi.uniform_filter(r, 5) for r in reference])
    detail = reference - mean
    best = np.full(sample.shape[1:], np.inf, np.float32)
    squares = [
        ndi.uniform_filter(a, 5) for a in ((mean**2).sum(0), (mean * detail).sum(0), (detail**2).sum(0))
    ]
    energy = ndi.uniform_filter((sample**2).sum(0), 5)
    for y in range(-reach, reach + 1):
        for x in range(-reach, reach + 1):
            p, q = np.roll(mean, (y, x), (1, 2)), np.roll(detail, (y, x), (1, 2))
            pp, pq, qq = (np.roll(a, (y, x), (0, 1)) for a in squares)
            b1, b2 = ndi.uniform_filter((sample * p).sum(0), 5), ndi.uniform_filter((sample * q).sum(0), 5)
            cost = energy - (b1 * b1 * qq - 2 * b1 * b2 * pq + b2 * b2 * pp) / (pp * qq - pq * pq)
            np.minimum(best, cost, out=best)
    return best


def timed(task, repeats: int) -> tuple[float, float]:
    """Best time by the clock, and best time of the processor."""
    clock, processor = [], []
    for _ in range(repeats):
        start, used = time.perf_counter(), time.process_time()
        task()
        clock.append(time.perf_counter() - start)
        processor.append(time.process_time() - used)
    return min(clock), min(processor)


def speed(size: int) -> None:
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    for positions in (2, 10):
        reference, sample = frames(size, positions)
        rival = timed(lambda r=reference, s=sample: by_numpy(r, s), 1)
        for method, weighting in RUNS:
            plan = xmist.prepare(reference, EXPERIMENT, method=method, weighting=weighting, threads=2)
            plan(sample)
            clock, processor = timed(lambda plan=plan, sample=sample: plan(sample), 5)
            print(
                f"| {method} | {weighting} | {positions} | {clock / size**2 * 1e6:.2f} | "
                f"{processor / size**2 * 1e6:.2f} | {rival[1] / processor:.1f} |",
                flush=True,
            )


def _memory(size: int, connection) -> None:
    process = psutil.Process()
    small = frames(80, 2)
    xmist.prepare(small[0], EXPERIMENT, method="umpa", threads=2)(small[1])
    warm = process.memory_info().rss
    reference, sample = frames(size, 10)
    peak, done = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.is_set():
            peak = max(peak, process.memory_info().rss)
            time.sleep(0.0005)

    watcher = threading.Thread(target=watch)
    watcher.start()
    xmist.prepare(reference, EXPERIMENT, method="umpa", threads=2)(sample)
    done.set()
    watcher.join()
    connection.send((peak - warm - reference.nbytes - sample.nbytes) / reference[0].nbytes)


def memory(size: int) -> float:
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    child = context.Process(target=_memory, args=(size, send))
    child.start()
    answer = receive.recv()
    child.join()
    return float(answer)


def score(found: np.ndarray, truth: np.ndarray, *, centred: bool) -> tuple[float, float]:
    a, b = (found - found.mean(), truth - truth.mean()) if centred else (found, truth)
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1]), float(np.sqrt(np.sum((a - b) ** 2) / np.sum(b**2)))


def accuracy(size: int, positions: int) -> None:
    for kind in KINDS:
        stack, experiment, truth = xmist.simulate.phantom(
            kind, shape=(size, size), positions=positions, seed=7
        )
        for method, weighting in RUNS:
            result = xmist.retrieve(stack, experiment, method=method, weighting=weighting)
            phase = score(result.phase, truth.phase, centred=True)
            blur = score(result.dark_field, truth.dark_field, centred=False)
            smooth = score(ndi.median_filter(result.dark_field, 5), truth.dark_field, centred=False)
            print(
                f"| {kind} | {method} | {weighting} | {positions} | {phase[0]:.4f} / {phase[1]:.3f} | "
                f"{blur[0]:.3f} / {blur[1]:.2f} | {smooth[0]:.3f} / {smooth[1]:.2f} |",
                flush=True,
            )


def start_values(size: int, positions: int) -> None:
    """Measure what umpa gains from starting at the shifts of full-field."""
    for kind in KINDS:
        stack, experiment, truth = xmist.simulate.phantom(
            kind, shape=(size, size), positions=positions, seed=7
        )
        first = xmist.retrieve(stack, experiment, method="full-field")
        line = []
        for result in (
            first,
            xmist.retrieve(stack, experiment, method="umpa"),
            xmist.retrieve(stack, experiment, method="umpa", initial=first),
        ):
            phase = score(result.phase, truth.phase, centred=True)
            blur = score(result.dark_field, truth.dark_field, centred=False)
            line.append(f"{phase[0]:.4f} / {phase[1]:.3f} | {blur[0]:.3f} / {blur[1]:.2f}")
        print(f"| {kind} | {positions} | {' | '.join(line)} |", flush=True)


def integration(size: int) -> None:
    rng = np.random.default_rng(0)
    truth = ndi.gaussian_filter(rng.normal(size=(size, size)), 6)
    truth = (truth - truth.mean()) / truth.std()
    weights = np.ones(truth.shape)
    weights[size // 4 : size // 3, size // 3 : size // 2] = 0
    weights[size // 2 : size // 2 + 4, size // 8 :] = 0
    weights[rng.random(truth.shape) < 0.003] = 0
    for noise in (0.0, 0.05):
        gradient = spectral_gradient(truth) + rng.normal(0, noise, (2, *truth.shape))
        for kind in INTEGRATORS:
            for known in (None, weights):
                start = time.process_time()
                found = integrate(gradient, kind=kind, weights=known, threads=1)
                seconds = time.process_time() - start
                error = np.std((found - truth)[weights > 0])
                held = "holes" if known is not None else "none"
                print(f"| {noise} | {kind} | {held} | {error:.4f} | {seconds:.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--phantom", type=int, default=256)
    parser.add_argument("--positions", type=int, nargs="+", default=[2, 10])
    parser.add_argument("--skip", nargs="+", default=[], help="parts to leave out: speed, memory, …")
    arguments = parser.parse_args()
    if "speed" not in arguments.skip:
        speed(arguments.size)
    if "memory" not in arguments.skip:
        for size in (arguments.size, 2 * arguments.size):
            print(f"peak memory at {size}² above the frames: {memory(size):.1f} images", flush=True)
    if "integration" not in arguments.skip:
        integration(arguments.size)
    for positions in arguments.positions:
        if "accuracy" not in arguments.skip:
            accuracy(arguments.phantom, positions)
        if "start" not in arguments.skip:
            start_values(arguments.phantom, positions)


if __name__ == "__main__":
    main()
