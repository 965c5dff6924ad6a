"""How close `full-field` comes with a strength read from the data to the best fixed one.

Run with `python benchmarks/regularisation.py`. Wave-optics phantoms on a seed that nothing was tuned on;
errors are rms errors of D over the truth's standard deviation.
"""

from __future__ import annotations

import argparse

import numpy as np

import xmist
from xmist import simulate

KINDS = ("fine", "strong", "coarse", "low-dose", "absorbing")
STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


def error(
    stack: xmist.SpeckleStack, experiment: xmist.Experiment, truth: np.ndarray, strength: float | str
) -> tuple[float, float]:
    """Return the error of D, and the strength that it was retrieved with."""
    result = xmist.retrieve(stack, experiment, method="full-field", regularisation=strength)
    difference = result.dark_field.astype(float) - truth
    used = result.provenance["convergence"]["prior_strengths"][1]
    return float(np.sqrt(np.mean(difference**2)) / truth.std()), used


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--side", type=int, default=256, help="pixels")
    given = parser.parse_args()
    head = " | ".join(f"α = {value:g}" for value in STRENGTHS)
    print(f"| case | N | auto | read α | {head} | over best |")
    print("|---" * (5 + len(STRENGTHS)) + "|")
    for kind in KINDS:
        stack, experiment, truth = simulate.phantom(
            kind, shape=(given.side, given.side), positions=10, seed=given.seed
        )
        d = truth.dark_field.astype(float)
        for n in (2, 10):
            part = xmist.SpeckleStack(stack.reference[:n], stack.sample[:n])

            (auto, read), *sweep = (error(part, experiment, d, strength) for strength in ("auto", *STRENGTHS))
            fixed = [value for value, _ in sweep]
            cells = " | ".join(f"{value:.3f}" for value in fixed)
            excess = 100 * (auto / min(fixed) - 1)
            print(f"| {kind} | {n} | {auto:.3f} | {read:.3g} | {cells} | {excess:+.1f} % |", flush=True)


if __name__ == "__main__":
    main()
