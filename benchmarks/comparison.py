"""Table I of Pavlov et al. 2020 on the simulated currant, and each method over its smoothing.

python benchmarks/comparison.py [--size 256] [--seed 1]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import xmist

NUMBERS = (2, 4, 10)
# CNR of the dark-field, Table I of Pavlov et al. 2020, doi:10.1088/2040-8986/abc313; windows of 5 × 5 pixels.
PAPER = {"mist": (10.9, 22.6, 23.1), "umpa": (4.6, 17.9, 30.8), "xsvt": (6.9, 11.6, 17.1)}
SMOOTHINGS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0)
WINDOWS = (5, 7, 9)


def settings() -> Iterator[tuple[str, dict[str, Any]]]:
    yield "full-field", {}
    for method in ("mist", "mist-attenuating"):
        for smoothing in SMOOTHINGS:
            yield method, {"smoothing": smoothing}
    for method in ("umpa", "xsvt"):
        for window in WINDOWS:
            yield method, {"window": window}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    stack, experiment, truth = xmist.simulate.currant(
        shape=(arguments.size,) * 2, positions=max(NUMBERS), seed=arguments.seed
    )
    print(f"currant, {arguments.size}², seed {arguments.seed}\n")
    print("| method | options | N | CNR | by medians | D inside: correlation / NRMSE | φ: NRMSE |")
    print("|---|---|---|---|---|---|---|")
    regions = None
    for method, options in settings():
        found = xmist.compare(
            stack,
            experiment,
            methods=[method],
            positions=NUMBERS,
            options={method: options},
            regions=regions,
            truth=truth,
            resolution=False,
        )
        regions = found.regions
        told = ", ".join(f"{name} {value}" for name, value in options.items()) or "–"
        for run in found.done:
            d, phase = run.quality["dark_field"], run.quality.get("phase")
            error = "–" if phase is None or phase.nrmse is None else f"{phase.nrmse:.3f}"
            paper = ""
            if method in PAPER and options.get("window", 5) == 5:
                paper = f" (paper {PAPER[method][NUMBERS.index(run.positions)]})"
            print(
                f"| {method} | {told} | {run.positions} | {abs(d.cnr or 0):.1f}{paper} "
                f"| {abs(d.cnr_median or 0):.1f} | {d.correlation_inside:.3f} / {d.nrmse_inside:.2f} "
                f"| {error} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
