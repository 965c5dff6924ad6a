"""The automatic strength of the prior over a distribution of experiments.

    python benchmarks/distribution.py run 0 20 FILE
    python benchmarks/distribution.py table FILE

Each number draws speckle size, visibility, refraction, scatter and dose of a wave-optics phantom of grains;
`--absorbing` lets a third of them attenuate, `--counts 0.1` dims the beam, `--side` sets the frame. D is
retrieved from 2 and from 6 positions, with the strength of the prior chosen automatically and with seven
fixed ones, and scored against the part of the scatter that the speckles see (`benchmarks/structure.py`). FILE
gets one JSON line for each retrieval. The table says, over all retrievals whose best fixed strength has a
correlation of at least 0.6, how far the error of D is above that of the best.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

import xmist
from structure import predicted
from xmist import simulate
from xmist.simulate import phantoms

STRENGTHS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
NUMBERS = (2, 6)
ELIGIBLE = 0.6  # correlation of the best fixed strength
NEAR = 1.15  # times the error of the best


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


def score(result: xmist.Retrieval, truth: dict[str, np.ndarray]) -> dict[str, float]:
    """Return errors over the truth's standard deviation, and correlation and slope of D."""

    def error(found: np.ndarray, true: np.ndarray) -> float:
        return float(np.sqrt(np.mean((found - true) ** 2)) / true.std())

    phase, dark = np.asarray(result.phase, float), np.asarray(result.dark_field, float)
    out = {
        "phase": error(phase - phase.mean(), truth["phase"] - truth["phase"].mean()),
        "dark": error(dark, truth["dark"]),
        "corr": float(np.corrcoef(dark.ravel(), truth["dark"].ravel())[0, 1]),
        "slope": float(np.polyfit(truth["dark"].ravel(), dark.ravel(), 1)[0]),
    }
    if truth["transmission"].std() > 1e-6:
        out["transmission"] = error(np.asarray(result.transmission, float), truth["transmission"])
    return out


def simulated(
    number: int, *, side: int = 192, counts: float = 1.0, absorbing: bool = False
) -> tuple[xmist.SpeckleStack, xmist.Experiment, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
    """Return frames, geometry, true φ, D as far as speckles see it, T, and the parameters."""
    parameters = draw(number)
    given = parameters | {"photons": counts * parameters["photons"]}
    stack, experiment, true = simulate.phantom(
        "absorbing" if absorbing else "fine", shape=(side, side), positions=max(NUMBERS), **given
    )
    reference = np.asarray(stack.reference, float)
    seen = predicted(reference / reference.mean(), experiment, phantoms._CORRELATION)
    phase, dark, transmission = (
        np.asarray(getattr(true, name), float) for name in ("phase", "dark_field", "transmission")
    )
    return stack, experiment, phase, seen * dark, transmission, given | {"seen": seen}


def rows(number: int, *, side: int, counts: float, absorbing: bool) -> list[dict[str, Any]]:
    """Simulate one experiment and retrieve it with every strength."""
    stack, experiment, phase, dark, transmission, given = simulated(
        number, side=side, counts=counts, absorbing=absorbing
    )
    truth = {"phase": phase, "dark": dark, "transmission": transmission}
    out = []
    for n in NUMBERS:
        part = xmist.SpeckleStack(stack.reference[:n], stack.sample[:n])
        row: dict[str, Any] = {"number": number, "N": n} | given
        for strength in ("auto", *STRENGTHS):
            start = time.process_time()
            result = xmist.retrieve(part, experiment, method="full-field", regularisation=strength)
            row[str(strength)] = score(result, truth) | {"seconds": time.process_time() - start}
            if strength == "auto":
                row["strengths"] = result.provenance["convergence"]["prior_strengths"]
                row["findings"] = [record.code for record in result.findings]
        out.append(row)
    return out


def table(path: Path) -> None:
    """Print what the automatic strength, and constant ones, lose against the best of the fixed ones."""
    eligible, best = [], []
    for line in path.read_text().splitlines():
        row = json.loads(line)
        least = min((row[str(strength)] for strength in STRENGTHS), key=lambda one: one["dark"])
        if least["corr"] >= ELIGIBLE:
            eligible.append(row)
            best.append(least)
    print(f"{len(eligible)} retrievals whose best strength has a correlation of {ELIGIBLE} or more\n")
    print(f"| strength | error ≤ {NEAR:g} × best | error / best: median, 90 %, most | slope 0.85 to 1.15 |")
    print("|---|---|---|---|")
    for strength in ("auto", *STRENGTHS):
        ratios = np.array(
            [row[str(strength)]["dark"] / one["dark"] for row, one in zip(eligible, best, strict=True)]
        )
        slopes = []
        for row, one in zip(eligible, best, strict=True):
            near = [row[str(s)]["slope"] for s in STRENGTHS if row[str(s)]["dark"] <= NEAR * one["dark"]]
            if min(abs(slope - 1.0) for slope in near) <= 0.15:
                slopes.append(abs(row[str(strength)]["slope"] - 1.0) <= 0.15)
        print(
            f"| {strength} | {100 * np.mean(ratios <= NEAR):.0f} % | {np.median(ratios):.2f}, "
            f"{np.quantile(ratios, 0.9):.2f}, {ratios.max():.2f} | {sum(slopes)} of {len(slopes)} |"
        )
    collapsed = [
        (row["number"], row["N"])
        for row, one in zip(eligible, best, strict=True)
        if row["auto"]["slope"] < 0.3 and one["slope"] > 0.6
    ]
    print(f"\nD collapsed (number, N): {collapsed or 'none'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run")
    run.add_argument("first", type=int)
    run.add_argument("last", type=int)
    run.add_argument("file", type=Path)
    run.add_argument("--side", type=int, default=192, help="pixels")
    run.add_argument("--counts", type=float, default=1.0, help="times the drawn dose")
    run.add_argument("--absorbing", action="store_true")
    commands.add_parser("table").add_argument("file", type=Path)
    given = parser.parse_args()
    if given.command == "table":
        table(given.file)
        return
    for number in range(given.first, given.last):
        made = rows(number, side=given.side, counts=given.counts, absorbing=given.absorbing)
        with given.file.open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in made)


if __name__ == "__main__":
    main()
