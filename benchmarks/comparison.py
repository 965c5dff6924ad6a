"""Table I of Pavlov et al. 2020 on the simulated currant, and each method over its smoothing.

python benchmarks/comparison.py [--size 256] [--seed 1]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import xmist
from xmist.evaluate.defaults import PAPER_CNR, POSITIONS_COMPARED

SMOOTHINGS = (0.0, 1.0, 1.5, 2.0, 4.0, 6.0, 8.0)
WINDOWS = (5, 9)


def settings() -> Iterator[tuple[str, dict[str, Any]]]:
    yield "full-field", {}
    yield "mist-gradient-flow", {"delta_over_beta": 1150.0}
    yield "mist-gradient-flow", {"attenuation_smoothing": 16.0}
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
        shape=(arguments.size,) * 2, positions=max(POSITIONS_COMPARED), seed=arguments.seed
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
            positions=POSITIONS_COMPARED,
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
            if method in PAPER_CNR and options.get("window", 5) == 5:
                paper = f" (paper {PAPER_CNR[method][POSITIONS_COMPARED.index(run.positions)]})"
            print(
                f"| {method} | {told} | {run.positions} | {abs(d.cnr or 0):.1f}{paper} "
                f"| {abs(d.cnr_median or 0):.1f} | {d.correlation_inside:.3f} / {d.nrmse_inside:.2f} "
                f"| {error} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
