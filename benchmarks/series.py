"""Measure series: memory over time, throughput, cost of a block, estimates of check, and a reconstruction.

Run: python benchmarks/series.py [tomography memory throughput blocks forecast full-field warm paper]
The reconstruction needs algotom (pip install algotom).
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import psutil

import xmist
from same_results import write_config
from xmist.workflow.configuration import parse_configuration

EXPERIMENT = {"energy_kev": 17.0, "pixel_size": 5.8e-6, "sample_to_detector": 1.0}

# Of the estimate for a cluster: what a cluster's shared file system and network give, in bytes per second.
_READS, _WRITES, _NETWORK = 2e9, 1e9, 1e9


@contextmanager
def folder() -> Iterator[Path]:
    """Yield a temporary folder."""
    path = Path(tempfile.mkdtemp(prefix="xmist-series-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def made_up(projections: int, positions: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Speckle frames in counts, and the same slightly blurred and dimmed; projections repeat every eighth."""
    from scipy import ndimage

    rng = np.random.default_rng(1)
    grain = ndimage.gaussian_filter(rng.normal(size=(positions, side, side)), (0, 1.5, 1.5), mode="wrap")
    reference = 2e4 * np.exp(0.25 * grain / grain.std())
    samples = []
    for number in range(min(projections, 8)):
        blurred = ndimage.gaussian_filter(reference, (0, 0.4 + 0.03 * number, 0.4), mode="wrap")
        samples.append(rng.poisson(0.9 * blurred).astype(np.uint16))
    repeated = np.stack(samples)[np.arange(projections) % len(samples)]
    return rng.poisson(reference).astype(np.uint16), repeated


def write(
    place: Path, projections: int, positions: int, side: int, method: str, options: dict, *, block: int | None
) -> tuple[Path, np.ndarray, np.ndarray]:
    """Write stacks of a position each, as beamlines do."""
    reference, samples = made_up(projections, positions, side)
    with h5py.File(place / "ref.h5", "w") as file:
        file["entry/data"] = reference
    for position in range(positions):
        with h5py.File(place / f"pos_{position}.h5", "w") as file:
            data = file.create_dataset(
                "entry/data", (projections, side, side), np.uint16, chunks=(1, side, side)
            )
            for number in range(projections):
                data[number] = samples[number, position]
    angles = {"start": 0.0, "step": 30.0}
    data = {
        "input": {"reference": "ref.h5", "sample": "pos_{position}.h5::/entry/data"},
        "experiment": EXPERIMENT,
        "retrieve": {"method": method},
        "options": options,
        "output": {"files": ["series.h5"]},
        "series": {"angles": angles} | ({} if block is None else {"block": block}),
    }
    return configuration(place, data), reference, samples


def configuration(place: Path, data: dict[str, Any]) -> Path:
    """Write a configuration file."""
    path = place / "config.toml"
    write_config(path, data)
    return path


def resident(process: psutil.Process) -> int:
    """Return the bytes of a process and its children that no other process shares with them."""
    total = 0
    for one in [process, *process.children(recursive=True)]:
        try:
            total += one.memory_info().rss
        except psutil.Error:
            continue
    return total


def memory(projections: int = 520) -> None:
    """Sample the memory of all processes at every projection."""
    with folder() as place:
        config, *_ = write(place, projections, 2, 256, "mist", {"smoothing": 1.0}, block=1)
        seen: dict[int, int] = {}
        process = psutil.Process()

        def note(what: str, done: int, total: int) -> None:
            if what == "projections":
                seen[done] = resident(process)

        xmist.run(config, workers=2, progress=note)
        found = np.array([seen[number] for number in range(20, 501)]) / 1e6
        first, last = np.median(found[:40]), np.median(found[-40:])
        print(
            f"memory, 2 workers, 256², N = 2: {found.mean():.0f} MB on average from projection 20 to 500, "
            f"from {found.min():.0f} to {found.max():.0f}; the last 40 against the first 40: "
            f"{100 * (last / first - 1):+.2f} %"
        )


def throughput(rounds: int = 3) -> None:
    """Compare the time of a series with that of the bare method on the same frames in memory."""
    for method, options, side, positions, number in (
        ("mist", {"smoothing": 1.0}, 1024, 4, 96),
        ("umpa", {"window": 5, "max_shift": 2}, 512, 4, 48),
        ("full-field", {}, 256, 2, 12),
    ):
        with folder() as place:
            config, reference, samples = write(place, number, positions, side, method, options, block=None)
            experiment = parse_configuration(config).finish().experiment
            plan = xmist.prepare(reference, experiment, method=method, **options)
            plan(samples[0])
            times = []
            for _ in range(rounds):
                begin = time.perf_counter()
                for projection in samples:
                    plan(projection)
                bare = time.perf_counter() - begin
                master = xmist.run(config).path
                with h5py.File(master) as file:
                    run = {key: float(file["entry/run"][key][()]) for key in ("seconds", "seconds_writing")}
                shutil.rmtree(place / "series_blocks")
                master.unlink()
                times.append((bare, run["seconds"], run["seconds_writing"]))
            bare, whole, writing = 1e3 * np.median(times, axis=0) / number
            shares = sorted(100 * one / other for one, other, _ in times)
            print(
                f"throughput, {method}, {side}², N = {positions}, {number} projections: bare {bare:.1f} ms, "
                f"series {whole:.1f} ms ({writing:.1f} ms of writing in a thread); {np.median(shares):.0f} % "
                f"({shares[0]:.0f} to {shares[-1]:.0f} in {rounds} rounds)",
                flush=True,
            )


def blocks() -> None:
    """Time what a block costs beside its projections."""
    with folder() as place:
        config, *_ = write(place, 200, 2, 64, "mist", {"smoothing": 1.0}, block=1)
        for turn in range(3):
            master = xmist.run(config).path
            with h5py.File(master) as file:
                run = {key: value[()] for key, value in file["entry/run"].items()}
            rest = (run["seconds"] - run["seconds_retrieving"]) / 200
            print(
                f"a block of one projection of 64²: {1e3 * rest:.1f} ms beside the retrieval, of which "
                f"{1e3 * run['seconds_writing'] / 200:.1f} ms to write and sync its file (run {turn + 1})"
            )
            shutil.rmtree(place / "series_blocks")
            master.unlink()


def measured(command: list[str], place: Path) -> tuple[float, int]:
    """Run a command; return its seconds and the most bytes that it and its children held."""
    begin = time.perf_counter()
    process = subprocess.Popen(command, cwd=place)
    peak = 0
    stop = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not stop.wait(0.02):
            try:
                peak = max(peak, resident(psutil.Process(process.pid)))
            except psutil.Error:
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    code = process.wait()
    stop.set()
    watcher.join()
    if code:
        raise SystemExit(f"{command} ended with {code}")
    return time.perf_counter() - begin, peak


def predictions() -> None:
    """Compare the estimates of check with what a series takes."""
    print("| method | frames | workers | memory predicted, measured (MB) | disk (MB) | time (s) |")
    print("|---|---|---|---|---|---|")
    for method, options, side, positions, number, workers in (
        ("mist", {"smoothing": 1.0}, 512, 4, 40, 1),
        ("mist", {"smoothing": 1.0}, 512, 4, 40, 2),
        ("umpa", {"window": 5, "max_shift": 2}, 256, 4, 20, 2),
        ("full-field", {}, 256, 2, 12, 1),
    ):
        with folder() as place:
            write(place, number, positions, side, method, options, block=None)
            check = [
                sys.executable,
                "-m",
                "xmist",
                "check",
                "config.toml",
                "--json",
                "--workers",
                str(workers),
            ]
            done = subprocess.run(check, cwd=place, capture_output=True, check=True)
            told = json.loads(done.stdout)
            command = [
                sys.executable,
                "-m",
                "xmist",
                "retrieve",
                "config.toml",
                "--workers",
                str(workers),
                "--quiet",
            ]
            _, peak = measured(command, place)
            files = [place / "series.h5", *(place / "series_blocks").iterdir()]
            disk = sum(path.stat().st_size for path in files)
            with h5py.File(place / "series.h5") as file:
                spent = float(file["entry/run/seconds"][()])
            print(
                f"| {method} | {side}², N = {positions}, {number} projections | {workers} | "
                f"{told['memory'] / 1e6:.0f}, {peak / 1e6:.0f} "
                f"({100 * (told['memory'] / peak - 1):+.0f} %) | "
                f"{told['disk'] / 1e6:.1f}, {disk / 1e6:.1f} ({100 * (told['disk'] / disk - 1):+.0f} %) | "
                f"{told['seconds']:.1f}, {spent:.1f} |",
                flush=True,
            )


def full_field(projections: int = 200) -> None:
    """Time a series of 512² at N = 2 through full-field."""
    with folder() as place:
        config, *_ = write(place, projections, 2, 512, "full-field", {}, block=None)
        master = xmist.run(config).path
        with h5py.File(master) as file:
            run = {key: value[()] for key, value in file["entry/run"].items()}
        print(
            f"full-field, 512², N = 2, {projections} projections, threads inside: {run['rate']:.3f} a "
            f"second ({1 / run['rate']:.2f} s each, {100 * run['seconds_writing'] / run['seconds']:.1f} % of "
            "it writing)"
        )


def paper(solve: float = 2.2) -> None:
    """Estimate how 5 000 projections of 2048² at N = 10 scale; `solve` is s × core for 512², N = 2."""
    projections, positions, pixels = 5000, 10, 2048**2
    # Time of full-field goes with the pixels, and half of it with the positions.
    each = solve * (pixels / 512**2) * (0.5 + 0.5 * positions / 2)
    frames, results = 2.0 * positions * pixels, 4.0 * 5 * pixels
    job = 4.0 * positions * pixels
    print(
        f"on paper: {frames / 1e6:.0f} MB in, {results / 1e6:.0f} MB out and {each:.0f} s × core a "
        f"projection; {projections * frames / 1e9:.0f} GB in all, {projections * results / 1e9:.0f} GB "
        f"out; the job that travels once is {job / 1e6:.0f} MB"
    )
    print("| workers of 8 cores | solve (h) | read and write (h) | scatter (s) | all (h) | bottleneck |")
    print("|---|---|---|---|---|---|")
    for workers in (1, 8, 64):
        solving = projections * each / (workers * 8)
        moving = projections * (frames / min(_READS, workers * 5e8) + results / min(_WRITES, workers * 5e8))
        scatter = workers * job / _NETWORK
        whole = max(solving, moving) + scatter
        name = max(
            ("solve", solving), ("file system", moving), ("scatter", scatter), key=lambda item: item[1]
        )[0]
        print(
            f"| {workers} | {solving / 3600:.1f} | {moving / 3600:.2f} | {scatter:.0f} | "
            f"{whole / 3600:.1f} | {name} |"
        )


def warm(side: int = 192) -> None:
    """Measure what a start from a neighbour saves and what it changes, by the angle between them."""
    from xmist.simulate.recipes import ct_recipe
    from xmist.simulate.series import acquire_series

    angles = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
    print(
        "| N | angle | processor time (s) cold, warm | iterations cold, warm | φ error cold, warm "
        "| change of φ, D |"
    )
    print("|---|---|---|---|---|---|")
    for positions in (2, 6):
        recipe = ct_recipe((side, side), positions, 3)
        series = acquire_series(**recipe.arguments(), angles=angles)
        plan = xmist.prepare(series.reference, series.experiment, method="full-field")
        first = plan(series.samples[0])
        for angle, sample, truth in zip(angles[1:], series.samples[1:], series.truths[1:], strict=True):
            times, results = [], []
            for initial in (None, first):
                begin = time.process_time()
                results.append(plan(sample, initial=initial))
                times.append(time.process_time() - begin)
            iterations = [sum(one.provenance["convergence"]["iterations"]) for one in results]
            errors = [np.std(one.phase - truth.phase) / np.std(truth.phase) for one in results]
            cold, near = results
            changes = [
                np.std(getattr(near, name) - getattr(cold, name)) / np.std(getattr(cold, name))
                for name in ("phase", "dark_field")
            ]
            print(
                f"| {positions} | {angle:g}° | {times[0]:.2f}, {times[1]:.2f} "
                f"| {iterations[0]}, {iterations[1]} | {errors[0]:.3f}, {errors[1]:.3f} "
                f"| {changes[0]:.4f}, {changes[1]:.3f} |",
                flush=True,
            )


PARTS: dict[str, Callable[[], None]] = {
    "memory": memory,
    "throughput": throughput,
    "blocks": blocks,
    "forecast": predictions,
    "full-field": full_field,
    "warm": warm,
    "paper": paper,
}


def main() -> None:
    for name in sys.argv[1:] or list(PARTS):
        PARTS[name]()


if __name__ == "__main__":
    main()
