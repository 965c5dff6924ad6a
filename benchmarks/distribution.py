"""`full-field` with its automatic choices over a distribution of simulated experiments.

    python benchmarks/distribution.py run 0 20 FILE [--what auto,fixed,rivals,single]
    python benchmarks/distribution.py table FILE [FILE ...]

Each number draws speckle size, visibility, refraction, scatter and dose of a wave-optics phantom of grains,
or whatever `draw` and `make` of another file do (`--experiments FILE.py`). `--absorbing` lets the sample
attenuate, `--counts 0.1` dims the beam, `--side` sets the frame. D is scored against the part of the scatter
that the speckles see (`benchmarks/structure.py`), φ without its mean; errors are rms errors over the standard
deviation of the truth.

`run` appends one JSON line for each number and N. "auto": the automatic choices with N = 2 and 6, and how
often the truth lies within the standard deviations, over the pixels of the sample, φ without its mean over
the bare beam; "fixed": seven fixed strengths of the prior; "rivals": other methods at several windows or
smoothings; "single": φ of `full-field` and of `umpa` with N = 1. Lines of several runs are joined. `table`
says, over all retrievals whose best fixed strength has a correlation of at least 0.6, how far the error of D
is above that of the best, and how the rest compares.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import xmist
from structure import predicted
from xmist import simulate
from xmist.simulate import phantoms

STRENGTHS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
NUMBERS = (2, 6)
RIVALS = {
    "umpa": ("window", (7, 11, 15, 21)),
    "lcs": ("window", (5, 7, 11, 15, 21)),
    "mist-attenuating": ("smoothing", (1.0, 2.0, 4.0, 8.0)),
}
WINDOWS_ALONE = (7, 15, 21, 31)  # of `umpa` with one position
ELIGIBLE = 0.6  # correlation of the best fixed strength
NEAR = 1.15  # times the error of the best
DRAWS = 8
CHANNELS = ("phase", "dark_field", "transmission")

Array = np.ndarray
Rows = list[dict[str, Any]]


def draw(number: int) -> dict[str, Any]:
    """Return the parameters of an experiment."""
    random = np.random.default_rng([2026, number])

    def between(low: float, high: float) -> float:
        return float(np.exp(random.uniform(np.log(low), np.log(high))))

    return {
        "seed": int(random.integers(1 << 30)),
        "speckle": float(random.uniform(3.0, 9.0)),
        "visibility": between(0.05, 0.6),
        "shift": between(0.2, 1.2),
        "blur": between(0.2, 0.8),
        "photons": between(1500.0, 300_000.0),
    }


@functools.cache
def _module(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location("experiments", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def simulated(
    number: int,
    experiments: Path | None = None,
    *,
    side: int = 192,
    counts: float = 1.0,
    absorbing: bool = False,
) -> tuple[xmist.SpeckleStack, xmist.Experiment, dict[str, Array], dict[str, Any]]:
    """Return frames, geometry, the truth (φ, D as far as speckles see it, T, the sample), and parameters."""
    if experiments is not None:
        return _of_module(number, _module(experiments), side=side, counts=counts, absorbing=absorbing)
    parameters = draw(number)
    given = parameters | {"photons": counts * parameters["photons"]}
    stack, experiment, true = simulate.phantom(
        "absorbing" if absorbing else "fine", shape=(side, side), positions=max(NUMBERS), **given
    )
    reference = np.asarray(stack.reference, float)
    seen = predicted(reference / reference.mean(), experiment, phantoms._CORRELATION)
    truth = {name: np.asarray(getattr(true, name), float) for name in CHANNELS}
    truth["dark_field"] = seen * truth["dark_field"]
    truth["inside"] = np.abs(truth["phase"]) > 0.05 * np.abs(truth["phase"]).max()
    return stack, experiment, truth, given | {"seen": seen}


def _of_module(
    number: int, module: Any, *, side: int, counts: float, absorbing: bool
) -> tuple[xmist.SpeckleStack, xmist.Experiment, dict[str, Array], dict[str, Any]]:
    """Return the same from a module's `draw` and `make`; frames are cut, and photons left out at random."""
    parameters = module.draw(number)[0]
    beta = {"beta": parameters["delta"] / 300.0} if absorbing else {}
    *frames, true = module.make(**(parameters | {"n_pos": max(NUMBERS)} | beta))
    photons = parameters["photons"]
    if counts != 1.0:
        random = np.random.default_rng(1000 + number)
        frames = [
            random.binomial(np.rint(f.astype(float) * photons).astype(int), counts) / (photons * counts)
            for f in frames
        ]
    start = (frames[0].shape[1] - side) // 2
    part = (slice(start, start + side),) * 2
    truth = {name: np.asarray(true[name])[part] for name in (*CHANNELS, "inside")}
    truth["dark_field"] = true["seen"] * truth["dark_field"]
    experiment = xmist.Experiment(
        energy_kev=parameters["energy"],
        pixel_size=parameters["pixel"],
        sample_to_detector=parameters["z"],
    )
    reference, sample = (np.ascontiguousarray(f[:, *part], np.float32) for f in frames)
    about = {
        "speckle": parameters["speckle"],
        "visibility": float(reference.std() / reference.mean()),
        "photons": counts * photons,
        "seen": true["seen"],
    }
    return xmist.SpeckleStack(reference, sample), experiment, truth, about


def score(result: xmist.Retrieval, truth: dict[str, Array]) -> dict[str, Any]:
    """Return errors over the truth's standard deviation, and correlation and slope of D."""

    def error(found: Array, true: Array) -> float:
        return float(np.sqrt(np.mean((found - true) ** 2)) / true.std())

    out: dict[str, Any] = {}
    if result.phase is not None:
        phase = np.asarray(result.phase, float)
        out["phase"] = error(phase - phase.mean(), truth["phase"] - truth["phase"].mean())
    if result.dark_field is not None:
        dark, true = np.nan_to_num(np.asarray(result.dark_field, float)), truth["dark_field"]
        out["dark"] = error(dark, true)
        out["corr"] = float(np.corrcoef(dark.ravel(), true.ravel())[0, 1])
        out["slope"] = float(np.polyfit(true.ravel(), dark.ravel(), 1)[0])
    if result.transmission is not None and truth["transmission"].std() > 1e-6:
        out["transmission"] = error(np.asarray(result.transmission, float), truth["transmission"])
    return out


def coverage(result: xmist.Retrieval, truth: dict[str, Array]) -> dict[str, Any]:
    """Return shares of the sample within 1 and 3 σ and 1 σ of noise alone, and rms error/σ by fifths of σ."""
    inside = truth["inside"]
    out = {}
    for name in CHANNELS:
        found, deviation = getattr(result, name), getattr(result, f"{name}_std")
        if found is None or (name == "transmission" and truth[name].std() <= 1e-6):
            continue
        error = np.asarray(found, float) - truth[name]
        if name == "phase":
            error -= error[~inside].mean()
        error, deviation = np.abs(error[inside]), np.asarray(deviation, float)[inside]
        noise = np.asarray(result.diagnostics[f"{name}_std_noise"], float)[inside]
        fifth = np.searchsorted(np.quantile(deviation, [0.2, 0.4, 0.6, 0.8]), deviation)
        ratio = error / deviation
        out[name] = {
            "one": float(np.mean(ratio <= 1.0)),
            "three": float(np.mean(ratio <= 3.0)),
            "noise": float(np.mean(error <= noise)),
            "fifths": [float(np.sqrt(np.mean(ratio[fifth == i] ** 2))) for i in range(5)],
        }
    return out


def retrieved(
    what: str, stack: xmist.SpeckleStack, experiment: xmist.Experiment, truth: dict[str, Array]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Retrieve in one of the ways of `run`; return names and scores."""
    n = len(stack.reference)

    def one(method: str, **options: Any) -> tuple[xmist.Retrieval, dict[str, Any]]:
        start = time.process_time()
        result = xmist.retrieve(stack, experiment, method=method, **options)
        seconds = time.process_time() - start
        codes = sorted({finding.code for finding in result.findings})
        return result, score(result, truth) | {"seconds": seconds, "findings": codes}

    if what == "auto":
        result, found = one("full-field", uncertainty=True, draws=DRAWS)
        convergence = result.provenance["convergence"]
        kept = ("prior_strengths", "parallax", "reduced_chi_squared", "converged")
        yield "auto", found | {k: convergence[k] for k in kept} | {"coverage": coverage(result, truth)}
    elif what == "fixed":
        for strength in STRENGTHS:
            yield f"{strength:g}", one("full-field", regularisation=strength)[1]
    elif what == "rivals":
        for method, (option, settings) in RIVALS.items():
            for setting in settings:
                extra = {"dark_field": "scalar"} if method == "lcs" else {}
                yield f"{method} {setting:g}", one(method, **{option: setting}, **extra)[1]
    elif n == 1:
        yield "auto", one("full-field")[1]
        for window in WINDOWS_ALONE:
            yield f"umpa {window}", one("umpa", window=window)[1]


def run(given: argparse.Namespace) -> None:
    """Append a line for each number and N."""
    for number in range(given.first, given.last):
        stack, experiment, truth, about = simulated(
            number,
            given.experiments,
            side=given.side,
            counts=given.counts,
            absorbing=given.absorbing,
        )
        for n in (1, *NUMBERS):
            part = xmist.SpeckleStack(stack.reference[:n], stack.sample[:n])
            row: dict[str, Any] = {"number": number, "N": n, "about": about}
            for what in given.what.split(","):
                if (n == 1) == (what == "single"):
                    row |= dict(retrieved(what, part, experiment, truth))
            if len(row) > 3:
                with given.file.open("a") as file:
                    file.write(json.dumps(row) + "\n")


def joined(files: list[Path]) -> Rows:
    """Return one row for each number and N."""
    rows: dict[tuple[int, int], dict[str, Any]] = {}
    for path in files:
        for line in path.read_text().splitlines():
            row = json.loads(line)
            rows.setdefault((row["number"], row["N"]), {}).update(row)
    return [rows[key] for key in sorted(rows)]


def best_of(row: dict[str, Any], start: str, channel: str) -> float | None:
    """Return the least error of a channel over the settings of a method."""
    errors = [
        one[channel]
        for name, one in row.items()
        if name.startswith(f"{start} ") and np.isfinite(one.get(channel, np.nan))
    ]
    return min(errors, default=None)


def named(values: list[tuple[float, dict[str, Any]]], count: int = 3) -> str:
    """Return the largest values, with number and N."""
    largest = sorted(values, key=lambda pair: -pair[0])[:count]
    return ", ".join(f"{value:.2f} ({row['number']}, N = {row['N']})" for value, row in largest)


def table(given: argparse.Namespace) -> None:
    rows = [row for row in joined(given.files) if "auto" in row]
    several = [row for row in rows if row["N"] > 1]
    if several and str(STRENGTHS[0]).rstrip("0").rstrip(".") in several[0]:
        strengths(several)
    if several and "coverage" in several[0]["auto"]:
        uncertainties(several)
    alone = [row for row in rows if row["N"] == 1]
    if alone:
        ratios = [(row["auto"]["phase"] / best_of(row, "umpa", "phase"), row) for row in alone]
        values = np.array([ratio for ratio, _ in ratios])
        print(
            f"\nN = 1, φ over `umpa` at its best window ({len(values)}): at most 1.05 in "
            f"{100 * np.mean(values <= 1.05):.0f} %, median {np.median(values):.2f}, most {named(ratios)}"
        )


def strengths(rows: Rows) -> None:
    """Print what the automatic strength, and constant ones, lose against the best of the fixed ones."""
    fixed = [f"{strength:g}" for strength in STRENGTHS]
    eligible, best = [], []
    for row in rows:
        least = min((row[name] for name in fixed if name in row), key=lambda one: one["dark"])
        if least["corr"] >= ELIGIBLE:
            eligible.append(row)
            best.append(least)
    pairs = list(zip(eligible, best, strict=True))
    print(f"{len(eligible)} of {len(rows)} retrievals: best strength with a correlation ≥ {ELIGIBLE}\n")
    print(f"| strength | error ≤ {NEAR:g} × best | error / best: median, 90 %, most | slope 0.85 to 1.15 |")
    print("|---|---|---|---|")
    for name in ("auto", "3", "10", "15", "30"):
        ratios, slopes = [], []
        for row, one in pairs:
            mine = _between(row["10"], row["30"], 15.0, 10.0, 30.0) if name == "15" else row[name]
            ratios.append((mine["dark"] / one["dark"], row))
            near = [row[s]["slope"] for s in fixed if row[s]["dark"] <= NEAR * one["dark"]]
            if min(abs(slope - 1.0) for slope in near) <= 0.15:
                slopes.append(abs(mine["slope"] - 1.0) <= 0.15)
        values = np.array([ratio for ratio, _ in ratios])
        print(
            f"| {name} | {100 * np.mean(values <= NEAR):.0f} % | {np.median(values):.2f}, "
            f"{np.quantile(values, 0.9):.2f}, {named(ratios)} | {sum(slopes)} of {len(slopes)} |"
        )
    collapsed = [
        (row["number"], row["N"])
        for row, one in pairs
        if row["auto"]["slope"] < 0.3 and one["slope"] > ELIGIBLE
    ]
    print(f"\nD collapsed (number, N): {collapsed or 'none'}")
    print("D from the prior (number, N):", _flagged(rows, "dark-field-from-prior"))
    print("T from the prior (number, N):", _flagged(rows, "transmission-from-prior"))
    for method in RIVALS:
        compared = [
            (row["auto"]["dark"] / other, row)
            for row in eligible
            if (other := best_of(row, method, "dark")) is not None
        ]
        if compared:
            below = np.mean([ratio < 1.0 for ratio, _ in compared])
            print(f"D better than `{method}`: {100 * below:.0f} % of {len(compared)}, most {named(compared)}")
    attenuated = [row for row in rows if "transmission" in row["auto"]]
    if attenuated:
        ratios = [
            (row["auto"]["transmission"] / min(row[s]["transmission"] for s in fixed), row)
            for row in attenuated
        ]
        middle = np.median([ratio for ratio, _ in ratios])
        print(f"T over the best of the fixed ones: median {middle:.2f}, most {named(ratios)}")
    before = [(row["auto"]["phase"] / row["0.1.0"]["phase"], row) for row in rows if "0.1.0" in row]
    if before:
        values = np.array([ratio for ratio, _ in before])
        print(
            f"φ over 0.1.0 ({len(values)}): at most 1.05 in {100 * np.mean(values <= 1.05):.0f} %, "
            f"median {np.median(values):.2f}, most {named(before)}"
        )


def _between(
    low: dict[str, float], high: dict[str, float], at: float, a: float, b: float
) -> dict[str, float]:
    """Return scores of a strength between two others."""
    part = float(np.log(at / a) / np.log(b / a))
    return {
        "dark": float(np.exp((1 - part) * np.log(low["dark"]) + part * np.log(high["dark"]))),
        "slope": (1 - part) * low["slope"] + part * high["slope"],
    }


def _flagged(rows: Rows, code: str) -> str:
    """Return the retrievals that have a finding, with the slope of D."""
    found = [
        f"{row['number']}, {row['N']} ({row['auto']['slope']:.2f})"
        for row in rows
        if code in row["auto"]["findings"]
    ]
    return "; ".join(found) or "none"


def uncertainties(rows: Rows) -> None:
    """Print how often the truth lies within a standard deviation."""
    head = (
        "channel | ± 1 σ: median; lowest 10 %; ≥ 45 % in | ± 3 σ | rms error/σ by fifths of σ | noise alone"
    )
    print(f"\n| {head} |")
    print("|---|---|---|---|---|")
    for name in CHANNELS:
        found = [row["auto"]["coverage"][name] for row in rows if name in row["auto"]["coverage"]]
        if not found:
            continue
        one = np.array([each["one"] for each in found])
        fifths = np.median([each["fifths"] for each in found], axis=0)
        print(
            f"| {name} ({len(found)}) | {100 * np.median(one):.0f} %; {100 * np.quantile(one, 0.1):.0f} %; "
            f"{100 * np.mean(one >= 0.45):.0f} % | "
            f"{100 * np.median([each['three'] for each in found]):.1f} % | "
            f"{' '.join(f'{value:.2f}' for value in fifths)} | "
            f"{100 * np.median([each['noise'] for each in found]):.0f} % |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    running = commands.add_parser("run")
    running.add_argument("first", type=int)
    running.add_argument("last", type=int)
    running.add_argument("file", type=Path)
    running.add_argument("--what", default="auto,fixed,rivals,single")
    running.add_argument("--experiments", type=Path)
    running.add_argument("--side", type=int, default=192, help="pixels")
    running.add_argument("--counts", type=float, default=1.0, help="times the drawn dose")
    running.add_argument("--absorbing", action="store_true")
    running.set_defaults(do=run)
    printing = commands.add_parser("table")
    printing.add_argument("files", type=Path, nargs="+")
    printing.set_defaults(do=table)
    given = parser.parse_args()
    given.do(given)


if __name__ == "__main__":
    main()
