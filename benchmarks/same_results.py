"""Show that two versions of xmist give the same results, bit for bit.

    OLD/python benchmarks/same_results.py FRAMES RESULTS/old      # with the old version installed
    NEW/python benchmarks/same_results.py FRAMES RESULTS/new
    python benchmarks/same_results.py --compare RESULTS/old RESULTS/new

FRAMES is a folder outside the repository. The first run simulates frames there; later runs read them, so
that all versions see the same bytes. `XMIST_REAL_FRAMES` may name a folder of measured frames, which are
used too. `--only TEXT` takes the cases whose name holds TEXT. Cases that have a result already are skipped.
Works with 0.1.0 and with versions whose options were renamed since.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

import xmist

SHAPE = (96, 112)
SERIES = 20  # projections
# Set of frames, method, options in today's names, and number of positions; None takes all.
Case = tuple[str, str, Mapping[str, Any], int | None]

AUTO = {"ridge": "auto", "cutoff_length": "auto"}
GAMMA = {"delta_over_beta": 400.0}
PHASE_ONLY = {"dark_field": "none", "transmission": False}

PIXELWISE: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("mist", {}),
    ("mist", {"smoothing": 2.0, "ridge": 1e-3, "cutoff_length": 3e-4}),
    ("mist", {"smoothing": 2.0} | AUTO),
    ("mist", {"positive": True}),
    ("mist-attenuating", {"smoothing": 2.0}),
    ("mist-attenuating", {"smoothing": 2.0, "ridge": "auto"}),
    ("mist-attenuating", GAMMA | {"curvature": True}),
    ("mist-directional", {"smoothing": 2.0, "tensor_smoothing": 4.0}),
    ("mist-directional", {"smoothing": 2.0} | AUTO),
    ("mist-directional", GAMMA | {"smoothing": 1.0, "positive": True}),
    ("mist-rapid", {"smoothing": 1.0}),
    ("mist-rapid", {"combine": "fourier"} | AUTO),
    ("mist-rapid", GAMMA | {"smoothing": 1.0}),
    ("mist-rapid", GAMMA | {"published": True}),
    ("lcs", {"dark_field": "none"}),
    ("lcs", {"smoothing": 1.0, "background": (0, 96, 0, 8)}),
    ("lcs", {"dark_field": "tensor", "integrator": "southwell"}),
    ("lcs", {"smoothing": 1.0, "ridge": "auto"}),
    ("optical-flow", {}),
    ("optical-flow", {"attenuation_smoothing": 12.0, "cutoff_length": "auto"}),
    ("single-material", GAMMA),
    ("single-material", GAMMA | {"exact": True}),
    ("single-exposure", GAMMA),
    ("single-exposure", GAMMA | {"perspective": "evolving", "cutoff_length": 2e-4}),
    ("umpa", {}),
    ("umpa", {"initial": "mist", "weighting": "hamming", "background": (0, 96, 0, 8)}),
    ("umpa", {"dark_field": "none", "max_shift": 3, "integrator": "southwell"}),
    ("xsvt", {}),
    ("xsvt", {"window": 3, "max_shift": 3, "initial": "umpa"}),
)
WHOLE_IMAGE: tuple[tuple[Mapping[str, Any], int | None], ...] = (
    ({}, 2),
    ({}, None),
    ({"dark_field": "tensor"}, 4),
    ({"dark_field": "tensor", "transmission": False, "prior": "h1", "regularisation": 0.1}, 3),
    ({}, 1),
    (GAMMA, 1),
    (GAMMA | {"dark_field": "tensor"}, 2),
    (PHASE_ONLY, 2),
    ({"background": (0, 96, 0, 8), "prior": "non-negative"}, 2),
    ({"prior": "tv"}, 2),
    ({"prior": "huber", "dark_field": "scalar", "transmission": False}, 2),
    ({"uncertainty": True, "draws": 3}, 2),
    ({"initial": "mist", "gain": 1e-5, "read_noise": 1e-3}, 2),
)


def simulations() -> Iterator[tuple[str, Any, int]]:
    """Return the name, the function and the positions of the simulated experiments."""
    simulate = import_module("xmist.simulate")
    yield "strong", lambda n: simulate.phantom("strong", shape=SHAPE, positions=n), 6
    yield "absorbing", lambda n: simulate.phantom("absorbing", shape=SHAPE, positions=n), 6
    yield "fibres", lambda n: simulate.fibres(shape=SHAPE, positions=n), 6
    yield "currant", lambda n: simulate.currant(shape=SHAPE, positions=n), 6


def make_frames(folder: Path) -> None:
    """Simulate what is not in `folder` yet."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, make, positions in simulations():
        if not (folder / f"{name}.npz").exists():
            stack, experiment, _ = make(positions)
            weights = np.ones(stack.sample.shape, np.float32)
            if name == "absorbing":  # dead pixels, at the same place in all frames and in one frame only
                rng = np.random.default_rng(3)
                weights[:, rng.uniform(size=SHAPE) < 0.004] = 0.0
                weights[1][rng.uniform(size=SHAPE) < 0.004] = 0.0
            save(
                folder / f"{name}.npz",
                reference=stack.reference,
                sample=stack.sample,
                weights=weights,
                **geometry(experiment),
            )
    if not (folder / "series.npz").exists():
        series = import_module("xmist.simulate").ct(shape=(64, 72), positions=3, angles=SERIES)
        save(
            folder / "series.npz",
            reference=series.reference,
            sample=np.asarray(series.samples),
            angles=np.asarray(series.angles),
            **geometry(series.experiment),
        )


def geometry(experiment: xmist.Experiment) -> dict[str, Any]:
    return {key: value for key, value in experiment.to_dict().items() if value is not None}


def save(path: Path, **arrays: Any) -> None:
    """Write arrays under a temporary name, then rename."""
    trial = path.with_suffix(".part.npz")
    np.savez(trial, **arrays)
    trial.rename(path)


def load(path: Path) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Return the arrays and the geometry of a file of frames."""
    with np.load(path) as file:
        data = dict(file)
    names = ("energy_kev", "pixel_size", "sample_to_detector", "source_to_sample")
    return data, {name: float(data.pop(name)) for name in names if name in data}


def options_of(method: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options in the names that this version of the method has."""
    names = {item.name for item in dataclasses.fields(import_module(xmist.METHODS[method].module).OPTIONS)}
    given = {key: value for key, value in options.items() if value != "auto" or key in names}
    if method == "full-field" and "unknowns" in names:
        dark_field, transmission = given.pop("dark_field", "auto"), given.pop("transmission", True)
        if dark_field != "auto":
            channel = {"none": [], "scalar": ["dark_field"], "tensor": ["dark_field_tensor"]}[dark_field]
            given["unknowns"] = ("phase", *channel, *(["transmission"] if transmission else []))
    elif method != "full-field" and "regularisation" in names:
        chosen = [key for key in AUTO if given.get(key) == "auto"]
        for key in chosen:
            del given[key]
        if chosen:
            given["regularisation"] = "auto"
    return given


def cases() -> Iterator[Case]:
    for name in ("strong", "absorbing", "fibres", "currant"):
        for method, options in PIXELWISE:
            yield name, method, options, None
        for options, positions in WHOLE_IMAGE:
            yield name, "full-field", options, positions
        for method in ("mist", "umpa", "xsvt"):
            yield name, method, {}, 2


def words(options: Mapping[str, Any]) -> str:
    text = ",".join(f"{key}={value}" for key, value in options.items()).replace(" ", "")
    return text.replace("(", "").replace(")", "") or "default"


def arrays_of(result: xmist.Retrieval) -> dict[str, np.ndarray]:
    found = {"flags": np.asarray(result.flags)}
    for name in xmist.CHANNELS:
        if getattr(result, name) is not None:
            found[name] = np.asarray(getattr(result, name))
    return found | {f"diagnostics.{key}": np.asarray(value) for key, value in result.diagnostics.items()}


def retrieve_cases(frames: Path, out: Path, only: str) -> None:
    for name, method, options, positions in cases():
        data, values = load(frames / f"{name}.npz")
        label = f"{name}.{method}.{words(options)}.N{positions or len(data['sample'])}"
        path = out / f"{label}.npz"
        if only not in label or path.exists():
            continue
        begin = time.perf_counter()
        stack = xmist.SpeckleStack(
            data["reference"][:positions], data["sample"][:positions], weights=data["weights"][:positions]
        )
        experiment = xmist.Experiment(**values)
        given = options_of(method, options)
        start = given.get("initial")
        if method == "full-field" and isinstance(start, str):  # given as a result: 0.1.0 takes no name here
            given["initial"] = xmist.retrieve(stack, experiment, method=start)
        try:
            found = arrays_of(xmist.retrieve(stack, experiment, method=method, **given))
        except xmist.XmistError as error:  # the same for both versions, or a difference
            found = {"error": np.array(0)}
            print(error)
        save(path, **found)
        print(f"{label}: {time.perf_counter() - begin:.1f} s", flush=True)


def simulate_cases(out: Path, only: str) -> None:
    """Save what the simulator makes."""
    for name, make, positions in simulations():
        path = out / f"simulated.{name}.npz"
        if only in path.name and not path.exists():
            stack, _, truth = make(positions)
            found = {"reference": stack.reference, "sample": stack.sample}
            for channel in xmist.CHANNELS:
                if getattr(truth, channel, None) is not None:
                    found[channel] = np.asarray(getattr(truth, channel))
            save(path, **found)
            print(path.stem, flush=True)


def toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple | np.ndarray):
        return "[" + ", ".join(toml(item) for item in value) + "]"
    return f'"{value}"' if isinstance(value, str | Path) else repr(value)


def write_config(path: Path, sections: Mapping[str, Any]) -> None:
    lines = []
    for section, values in sections.items():
        for table in values if isinstance(values, list) else [values]:
            lines.append(f"[[{section}]]" if isinstance(values, list) else f"[{section}]")
            lines += [f"{key} = {toml(value)}" for key, value in table.items()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def run(folder: Path, sections: Mapping[str, Any], *arguments: str) -> None:
    """Retrieve a configuration by the command line."""
    series = "series" in sections
    if series and not hasattr(xmist, "run"):
        sections = {("scan" if key == "series" else key): value for key, value in sections.items()}
    write_config(folder / "config.toml", sections)
    command = "scan" if series and not hasattr(xmist, "run") else "retrieve"
    done = subprocess.run(
        [sys.executable, "-m", "xmist", command, "config.toml", "--overwrite", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in (0, 3):
        raise SystemExit(f"{folder}: exit code {done.returncode}\n{done.stderr}")


def series_cases(frames: Path, out: Path, only: str) -> None:
    data, values = load(frames / "series.npz")
    angles = [float(angle) for angle in data["angles"]]
    begin = {
        "mist": (
            {"smoothing": 2.0},
            {"angles": angles, "reference_at": [0, SERIES]},
            [{"step": "flux", "rows": [0, 64], "columns": [0, 6]}, {"step": "drift"}, {"step": "bad-pixels"}],
            (),
        ),
        "full-field": ({}, {"angles": angles, "warm_start": 4}, [{"step": "bad-pixels"}], ("--workers", "2")),
        "umpa": (
            {"max_shift": 3},
            {"angles": angles},
            [{"step": "crop", "rows": [8, 60], "columns": [4, 70]}],
            (),
        ),
    }
    for method, (options, series, steps, arguments) in begin.items():
        path = out / f"series.{method}.npz"
        if only not in path.name or path.exists():
            continue
        folder = out / "runs" / f"series.{method}"
        folder.mkdir(parents=True, exist_ok=True)
        sets = len(series.get("reference_at", [0]))
        moved = [np.roll(data["reference"], number, axis=1) for number in range(sets)]
        np.save(folder / "reference.npy", np.concatenate(moved).astype(np.float32))
        np.save(folder / "sample.npy", data["sample"].reshape(-1, *data["sample"].shape[2:]))
        sections: dict[str, Any] = {
            "input": {
                "reference": "reference.npy",
                "sample": "sample.npy",
                "sample_axes": "projection,position,y,x",
            },
            "experiment": values,
            "preprocess": steps,
            "retrieve": {"method": method},
            "options": options,
            "output": {"files": ["result.h5"]},
            "series": series,
        }
        run(folder, sections, *arguments)
        found = {}
        for projection in range(SERIES):
            result = xmist.open_result(folder / "result.h5", projection=projection)
            found |= {f"{projection:02}.{key}": value for key, value in arrays_of(result).items()}
        save(path, **found)
        print(path.stem, flush=True)


def real_cases(out: Path, only: str) -> None:
    """Retrieve the measured frames through the command line, if there are any."""
    place = os.environ.get("XMIST_REAL_FRAMES")
    if not place:
        return
    diffusers = ("random", "hexagonal")
    runs: dict[str, tuple[str, dict[str, Any]]] = {
        "mist": ("mist", {"smoothing": 2.0}),
        "umpa": ("umpa", {"max_shift": 3}),
        "full-field": ("full-field", {}),
        "full-field-tensor": ("full-field", {"dark_field": "tensor"}),
    }
    for name, (method, options) in runs.items():
        path = out / f"real.{name}.npz"
        if only not in path.name or path.exists():
            continue
        folder = out / "runs" / f"real.{name}"
        folder.mkdir(parents=True, exist_ok=True)
        names = {
            kind: [str(Path(place) / f"{one}_{kind}.edf") for one in diffusers]
            for kind in ("reference", "sample")
        }
        sections: dict[str, Any] = {
            "input": names,
            "experiment": {
                "energy_kev": 8.041,
                "pixel_size": 75e-6,
                "sample_to_detector": 0.8,
                "source_to_sample": 0.55,
            },
            "preprocess": [
                {"step": "bad-pixels"},
                {"step": "crop", "rows": [150, 520], "columns": [200, 500]},
            ],
            "retrieve": {"method": method},
            "options": options_of(method, options),
            "output": {"files": ["result.h5"]},
        }
        run(folder, sections)
        save(path, **arrays_of(xmist.open_result(folder / "result.h5")))
        print(path.stem, flush=True)


def compare(old: Path, new: Path) -> int:
    """Print what differs; return how many cases do."""
    names = sorted({path.name for folder in (old, new) for path in folder.glob("*.npz")})
    different = 0
    for name in names:
        missing = [str(folder) for folder in (old, new) if not (folder / name).exists()]
        if missing:
            different += 1
            print(f"{name}: missing in {', '.join(missing)}")
            continue
        with np.load(old / name) as before, np.load(new / name) as after:
            lines = [line for key in sorted({*before, *after}) if (line := difference(key, before, after))]
        different += bool(lines)
        for line in lines:
            print(f"{name}: {line}")
    print(f"{len(names) - different} of {len(names)} cases are equal bit for bit")
    return different


def difference(key: str, before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray]) -> str:
    """Return how an array differs, or an empty text."""
    if key not in before or key not in after:
        return f"{key} only in the {'old' if key in before else 'new'} version"
    a, b = before[key], after[key]
    if a.shape != b.shape or a.dtype != b.dtype:
        return f"{key}: {a.dtype} {a.shape}, now {b.dtype} {b.shape}"
    if a.tobytes() == b.tobytes():
        return ""
    unequal = ~((a == b) | (np.isnan(a) & np.isnan(b))) if a.dtype.kind == "f" else a != b
    if not unequal.any():
        return f"{key}: equal values of different bits (sign of 0 or of NaN)"
    change = np.abs(b.astype(float) - a.astype(float))
    spread = float(np.nanstd(a.astype(float))) or 1.0
    largest = float(np.nanmax(change)) if np.isfinite(change).any() else np.nan
    return f"{key}: {unequal.sum()} of {a.size} values differ, by up to {largest / spread:.2g} std"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=inspect.cleandoc(__doc__ or ""), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("first", type=Path, metavar="FRAMES")
    parser.add_argument("second", type=Path, metavar="RESULTS")
    parser.add_argument("--compare", action="store_true", help="compare two folders of results: OLD NEW")
    parser.add_argument("--only", default="", help="cases whose name holds this text")
    given = parser.parse_args()
    first, second = given.first, given.second
    if given.compare:
        raise SystemExit(bool(compare(first, second)))
    make_frames(first)
    second.mkdir(parents=True, exist_ok=True)
    print(f"xmist {xmist.__version__} of {Path(xmist.__file__).parent}", flush=True)
    simulate_cases(second, given.only)
    series_cases(first, second, given.only)
    retrieve_cases(first, second, given.only)
    real_cases(second, given.only)


if __name__ == "__main__":
    main()
