"""`full-field` on measured frames of carbon tubes: `python benchmarks/real_full_field.py [-o FOLDER]`.

Frames, geometry and boxes are those of `carbon_tubes.py`. Carbon fibres scatter across themselves, so that
the direction of a tube's tensor is perpendicular to its axis. With N = 1 and one material, carbon, each
diffuser gives images of its own, which measure the same sample.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

import xmist
from carbon_tubes import DIFFUSERS, EXPERIMENT, NAMES, TUBES, bare, prepared, real_frames, tube
from xmist.evaluate.metrics import cnr
from xmist.numerics.images.tensors import anisotropy, direction


def axis(name: str) -> float:
    """Angle of a tube's axis in degrees, from +x towards +y."""
    (x0, y0), (x1, y1), _ = TUBES[name]
    return float(np.degrees(np.arctan2(y1 - y0, x1 - x0)) % 180.0)


def retrieve(
    stack: xmist.SpeckleStack, dark_field: str = "scalar", ratio: float | None = None
) -> tuple[xmist.Retrieval, float]:
    start = time.perf_counter()
    result = xmist.retrieve(
        stack,
        EXPERIMENT,
        method="full-field",
        dark_field=dark_field,
        transmission=True,
        delta_over_beta=ratio,
    )
    return result, time.perf_counter() - start


def save(result: xmist.Retrieval, folder: Path | None, name: str) -> None:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        result.save(folder / f"{name}.png", overwrite=True)


def describe(name: str, result: xmist.Retrieval, seconds: float) -> None:
    record = result.provenance["convergence"]
    print(f"\n{name}: {seconds:.0f} s, converged: {record['converged']}, iterations {record['iterations']}")
    for finding in result.findings:
        print(f"  - {finding}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, help="folder for figures; they show measured data")
    output = parser.parse_args().output
    folder = real_frames()
    missing = [name for name in NAMES if not (folder / name).is_file()]
    if missing:
        parser.error(f"no {', '.join(missing)} in {folder}")
    stack = prepared(folder).stack()

    result, seconds = retrieve(stack, "tensor")
    describe("N = 2, tensor", result, seconds)
    save(result, output, "full-field-tensor")
    good = result.flags == 0
    outside = bare(result.shape) & good
    angles, degree = direction(result.dark_field_tensor), anisotropy(result.dark_field_tensor)
    print("| tube | D pm | bare | CNR | T | across the axis | direction (mean, median) | anisotropy |")
    print("|---|---|---|---|---|---|---|---|")
    d = 1e12 * result.dark_field
    for name in TUBES:
        inside = tube(name, result.shape) & good
        across = (axis(name) + 90.0) % 180.0
        tensor = result.dark_field_tensor[:, inside].mean(axis=1)
        mean = float(direction(tensor[:, None, None])[0, 0])
        apart = (angles[inside] - across + 90.0) % 180.0 - 90.0
        median = (np.median(apart) + across) % 180.0
        print(
            f"| {name} | {d[inside].mean():.1f} | {d[outside].mean():.1f} ± {d[outside].std():.1f} | "
            f"{cnr(d, outside, inside):.1f} | {result.transmission[inside].mean():.3f} | {across:.0f}° | "
            f"{mean:.0f}°, {median:.0f}° | {np.median(degree[inside]):.2f} |"
        )

    both, seconds = retrieve(stack)
    describe("N = 2, scalar", both, seconds)
    save(both, output, "full-field-scalar")
    carbon = xmist.Material(formula="C", density=1600.0).delta_over_beta(EXPERIMENT.energy_kev)
    single = {}
    for n, diffuser in enumerate(DIFFUSERS):
        weights = None if stack.weights is None else stack.weights[n : n + 1]
        part = xmist.SpeckleStack(stack.reference[n : n + 1], stack.sample[n : n + 1], weights)
        single[diffuser], seconds = retrieve(part, ratio=carbon)
        describe(f"N = 1, {diffuser} diffuser", single[diffuser], seconds)
        save(single[diffuser], output, f"full-field-{diffuser}")
    alike = np.all([result.flags == 0 for result in (both, *single.values())], axis=0)
    inside = np.any([tube(name, both.shape) for name in TUBES], axis=0)
    images = {**single, "N = 2": both}
    names = list(images)
    print("\n| images | channel | correlation everywhere | in the tubes |")
    print("|---|---|---|---|")
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            for channel in ("dark_field", "transmission", "phase"):
                pair = [getattr(images[name], channel) for name in (one, other)]
                numbers = [np.corrcoef(*[p[w] for p in pair])[0, 1] for w in (alike, alike & inside)]
                print(f"| {one}, {other} | {channel} | {numbers[0]:.3f} | {numbers[1]:.3f} |")


if __name__ == "__main__":
    main()
