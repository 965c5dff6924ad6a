"""What crosses the border of the frames, and whether a method that loses it says so.

    python benchmarks/borders.py table            # full-field, N = 1, 2 and 4
    python benchmarks/borders.py random 100 FILE  # all methods on random motion; the counts

The speckle is known everywhere: log-normal, the exponential of random waves. A shift u(r), the gradient of a
phase, carries it and its intensity from r to r + u exactly, borders included. Scored are pixels whose
speckles lie in the reference. Noise is that of photons.

`random` draws tilts, defoci and objects that the border cuts, and as many objects inside the frame. It counts
results whose angle is wrong by more than 0.1 pixel (rms a component) without a warning, and objects inside
that are warned about. Methods differ in whether the angle belongs to the place where a ray leaves or where it
arrives; the nearer counts. FILE gets one JSON line for each retrieval.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import xmist

Real = NDArray[np.float64]
Shift = Callable[[Real, Real], tuple[Real, Real]]  # x, y from the middle in pixels

EXPERIMENT = xmist.Experiment(energy_kev=17.0, pixel_size=5e-6, sample_to_detector=1.0)
PER_PIXEL = EXPERIMENT.effective_distance / EXPERIMENT.effective_pixel
WAVES = 150
WRONG = 0.1  # pixels
OPTIONS: dict[str, dict[str, Any]] = {"umpa": {"max_shift": 6}, "xsvt": {"max_shift": 6}}
DELTA_OVER_BETA = 1e6  # no attenuation


@dataclass(frozen=True)
class Frames:
    """Frames (position, y, x), shifts (2, y, x) of rays that leave and arrive, where they are known."""

    reference: Real
    sample: Real
    leaving: Real
    arriving: Real
    known: NDArray[np.bool_]


def made(
    shift: Shift, side: int, positions: int, *, size: float, visibility: float, photons: float, seed: int
) -> Frames:
    """Make frames of side × side pixels; `size` is the speckles' full width at half maximum in pixels."""
    random = np.random.default_rng(seed)
    y, x = (part - (side - 1) / 2 for part in np.mgrid[:side, :side])

    def came_from(x: Real, y: Real) -> tuple[Real, Real]:
        back_x, back_y = x, y
        for _ in range(60):
            u_x, u_y = shift(back_x, back_y)
            back_x, back_y = x - u_x, y - u_y
        return back_x, back_y

    old_x, old_y = came_from(x, y)
    h = 1e-3
    (right, left), (below, above) = (
        (came_from(x + h * i, y + h * j), came_from(x - h * i, y - h * j)) for i, j in ((1, 0), (0, 1))
    )
    density = (
        (right[0] - left[0]) * (below[1] - above[1]) - (below[0] - above[0]) * (right[1] - left[1])
    ) / (4 * h**2)
    contrast = np.sqrt(np.log1p(visibility**2))
    reference, sample = [], []
    for _ in range(positions):
        k_x, k_y = random.normal(scale=2.355 / size, size=(2, WAVES))
        phases = random.uniform(0, 2 * np.pi, WAVES)

        def light(x: Real, y: Real, waves: Any = (k_x, k_y, phases)) -> Real:
            total = np.zeros_like(x)
            for a, b, c in zip(*waves, strict=True):
                total += np.cos(a * x + b * y + c)
            return np.exp(contrast * total / np.sqrt(WAVES / 2) - contrast**2 / 2)

        reference.append(random.poisson(photons * light(x, y)) / photons)
        sample.append(random.poisson(photons * light(old_x, old_y) * density) / photons)
    known = (np.abs([old_x, old_y]) <= side / 2 - 1).all(axis=0)
    return Frames(
        np.array(reference), np.array(sample), np.array(shift(x, y)), np.array([x - old_x, y - old_y]), known
    )


def tilt(pixels: float, direction: float) -> Shift:
    return lambda x, y: (pixels * np.cos(direction) + 0 * x, pixels * np.sin(direction) + 0 * y)


def defocus(part: float) -> Shift:
    return lambda x, y: (part * x, part * y)


def astigmatism(part: float, direction: float) -> Shift:
    c, s = part * np.cos(direction), part * np.sin(direction)
    return lambda x, y: (c * x + s * y, s * x - c * y)


def bump(pixels: float, middle: tuple[float, float], sigma: float) -> Shift:
    """Return the shift by a Gaussian phase, `pixels` at most."""

    def shift(x: Real, y: Real) -> tuple[Real, Real]:
        x, y = x - middle[0], y - middle[1]
        slope = pixels * np.exp(0.5 - (x**2 + y**2) / (2 * sigma**2)) / sigma
        return slope * x, slope * y

    return shift


def score(result: xmist.Retrieval, frames: Frames) -> tuple[float, float]:
    """Return slope and rms error (pixels a component) of the angle."""
    assert result.refraction_angle is not None
    found = result.refraction_angle.astype(float) * PER_PIXEL
    scores = []
    for truth in (frames.leaving, frames.arriving):
        known = frames.known & np.isfinite(found).all(axis=0)
        one, other = found[:, known], truth[:, known]
        error = float(np.sqrt(np.mean((one - other) ** 2)))
        scores.append((error, float((one * other).sum() / (other**2).sum())))
    error, slope = min(scores)
    return slope, error


def warnings_of(result: xmist.Retrieval) -> list[str]:
    return [finding.code for finding in result.findings if finding.severity == "warning"]


def table(side: int) -> None:
    """Print slope and rms error of `full-field` for one case of each kind."""
    half = side / 2
    cases = {
        "tilt 0.5 px": tilt(0.5, 0.6),
        "defocus 0.5 %": defocus(0.005),
        "defocus 2 %": defocus(0.02),
        "astigmatism 1 %": astigmatism(0.01, 0.8),
        "object cut by the border": bump(0.6, (half - 14.0, 6.0), 0.12 * side),
        "object inside": bump(0.6, (3.0, -4.0), 0.1 * side),
    }
    print(
        f"{side}², speckles of 4 pixels, visibility 0.25, 10⁴ photons; slope / rms error in pixels / seconds"
    )
    print("\n| case | N = 1 | N = 2 | N = 4 |\n|---|---|---|---|")
    for name, shift in cases.items():
        cells = []
        for positions in (1, 2, 4):
            frames = made(shift, side, positions, size=4.0, visibility=0.25, photons=1e4, seed=7)
            start = time.process_time()
            result = xmist.retrieve(
                xmist.SpeckleStack(frames.reference, frames.sample), EXPERIMENT, method="full-field"
            )
            seconds = time.process_time() - start
            slope, error = score(result, frames)
            codes = [code for code in warnings_of(result) if code != "dark-field-from-prior"]
            cells.append(f"{slope:.3f} / {error:.4f} / {seconds:.1f}" + (f" {codes}" if codes else ""))
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def drawn(number: int, side: int, *, inside: bool) -> tuple[str, Frames]:
    """Return the kind of a random motion, and its frames."""
    random = np.random.default_rng([number, inside])

    def between(low: float, high: float) -> float:
        return float(np.exp(random.uniform(np.log(low), np.log(high))))

    direction, half = random.uniform(0, 2 * np.pi), side / 2
    if inside:
        sigma = random.uniform(0.06, 0.11) * side
        largest = min(between(0.1, 2.0), 0.1 * sigma)
        kind, shift = "inside", bump(largest, tuple(random.uniform(-0.1, 0.1, 2) * side), sigma)
    else:
        kind = ("tilt", "defocus", "cut")[number % 3]
        sigma = random.uniform(0.08, 0.2) * side
        along = random.uniform(-0.7, 0.7) * half
        across = (half + random.uniform(-1.2, 0.3) * sigma) * random.choice([-1, 1])
        shift = {
            "tilt": tilt(between(0.15, 4.0), direction),
            "defocus": defocus(between(0.003, 0.05) * random.choice([-1, 1])),
            "cut": bump(
                min(between(0.3, 3.0), 0.15 * sigma),
                (across, along) if random.random() < 0.5 else (along, across),
                sigma,
            ),
        }[kind]
    frames = made(
        shift,
        side,
        int(random.choice([1, 2, 4])),
        size=random.uniform(3.0, 8.0),
        visibility=between(0.2, 0.5),
        photons=between(1e4, 1e5),
        seed=number,
    )
    return kind, frames


def run(count: int, path: Path, side: int, methods: list[str]) -> None:
    """Retrieve random motion by all methods."""
    for number in range(count):
        for inside in (False, True):
            kind, frames = drawn(number, side, inside=inside)
            stack = xmist.SpeckleStack(frames.reference, frames.sample)
            for name in methods:
                options = dict(OPTIONS.get(name, {}))
                if xmist.METHODS[name].delta_over_beta == "required":
                    options["delta_over_beta"] = DELTA_OVER_BETA
                if len(frames.sample) < xmist.METHODS[name].minimum_positions:
                    continue
                start = time.process_time()
                result = xmist.retrieve(stack, EXPERIMENT, method=name, **options)
                if result.refraction_angle is None:
                    continue
                slope, error = score(result, frames)
                row = {
                    "number": number,
                    "kind": kind,
                    "N": len(frames.sample),
                    "method": name,
                    "slope": slope,
                    "error": error,
                    "warnings": warnings_of(result),
                    "seconds": time.process_time() - start,
                }
                with path.open("a") as file:
                    file.write(json.dumps(row) + "\n")


def counts(path: Path) -> None:
    """Print what the lines of FILE hold."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    print(
        f"| method | through the border: retrievals, median error, wrong by > {WRONG} px, of these without a "
        "warning | inside: retrievals, median error, warned (border) |\n|---|---|---|"
    )
    for name in dict.fromkeys(row["method"] for row in rows):
        through, within = (
            [row for row in rows if row["method"] == name and (row["kind"] == "inside") == inside]
            for inside in (False, True)
        )
        wrong = [row for row in through if not row["error"] <= WRONG]
        silent = [row for row in wrong if not row["warnings"]]
        warned = [row for row in within if "border-motion-missing" in row["warnings"]]
        silently = [row for row in within if not row["error"] <= WRONG and not row["warnings"]]
        errors = [np.median([row["error"] for row in some]) for some in (through, within)]
        print(
            f"| {name} | {len(through)}, {errors[0]:.3f}, {len(wrong)}, {len(silent)} | {len(within)}, "
            f"{errors[1]:.3f}, {len(warned)}; wrong without a warning {len(silently)} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("table").add_argument("--side", type=int, default=160, help="pixels")
    random = commands.add_parser("random")
    random.add_argument("count", type=int)
    random.add_argument("file", type=Path)
    random.add_argument("--side", type=int, default=128, help="pixels")
    random.add_argument("--methods", nargs="*", default=list(xmist.METHODS))
    given = parser.parse_args()
    if given.command == "table":
        table(given.side)
        return
    run(given.count, given.file, given.side, given.methods)
    counts(given.file)


if __name__ == "__main__":
    main()
