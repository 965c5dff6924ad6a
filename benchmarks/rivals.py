"""`full-field` beside `mist`, `mist-attenuating`, `lcs` and `umpa`, each of them at its best setting.

Run with `python benchmarks/rivals.py`. Wave-optics phantoms of 256² on a seed that nothing was tuned on:
NRMSE of φ (without its mean) and D. The setting is the smoothing or the window in pixels. The best one may
differ between φ and D; the sweep of errors stands in brackets.
"""

from __future__ import annotations

import argparse

import numpy as np

import xmist
from xmist import simulate
from xmist.evaluate.metrics import correlation, nrmse

KINDS = ("fine", "strong", "coarse", "low-dose", "absorbing")
SWEEPS = {
    "mist": ("smoothing", (0.0, 1.0, 2.0, 4.0, 8.0)),
    "mist-attenuating": ("smoothing", (0.0, 1.0, 2.0, 4.0, 8.0)),
    "lcs": ("smoothing", (0.0, 1.0, 2.0, 4.0, 8.0)),
    "umpa": ("window", (5, 9, 15, 21)),
}


def score(result: xmist.Retrieval, truth: xmist.Retrieval, channel: str) -> tuple[float, float] | None:
    """Give NRMSE and correlation of a channel; None if the method does not give it."""
    found = getattr(result, channel)
    if found is None:
        return None
    exact = np.asarray(getattr(truth, channel), float)
    found = np.where(np.isfinite(found), found, 0.0)
    return nrmse(found, exact, remove_mean=channel == "phase"), correlation(found, exact)


def row(
    method: str, stack: xmist.SpeckleStack, experiment: xmist.Experiment, truth: xmist.Retrieval
) -> list[str]:
    """Give the cells of φ and of D: error and correlation at the best setting, and the sweep of errors."""
    name, values = SWEEPS.get(method, ("", ("",)))
    extra = {"dark_field": "scalar"} if method == "lcs" else {"max_shift": 4} if method == "umpa" else {}
    results = [
        xmist.retrieve(stack, experiment, method=method, **extra, **({name: value} if name else {}))
        for value in values
    ]
    cells = []
    for channel in ("phase", "dark_field"):
        scores = [score(result, truth, channel) for result in results]
        if scores[0] is None:
            cells.append("-")
            continue
        best = min(range(len(scores)), key=lambda i: scores[i][0])
        sweep = " ".join(f"{error:.2f}" for error, _ in scores)
        setting = f" at {values[best]:g} ({sweep})" if name else ""
        cells.append(f"{scores[best][0]:.3f} / {scores[best][1]:.3f}{setting}")
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--side", type=int, default=256, help="pixels")
    given = parser.parse_args()
    print("| case | N | method | φ error / correlation | D error / correlation |")
    print("|---|---|---|---|---|")
    for kind in KINDS:
        stack, experiment, truth = simulate.phantom(
            kind, shape=(given.side, given.side), positions=10, seed=given.seed
        )
        for n in (2, 10):
            part = xmist.SpeckleStack(stack.reference[:n], stack.sample[:n])
            for method in ("full-field", *SWEEPS):
                if method == "lcs" and n < 4:
                    continue
                cells = row(method, part, experiment, truth)
                print(f"| {kind} | {n} | {method} | {cells[0]} | {cells[1]} |", flush=True)


if __name__ == "__main__":
    main()
