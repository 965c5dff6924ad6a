"""All methods on frames that are spoilt in one way: what is wrong, and whether a warning says so.

    python benchmarks/spoilt.py FILE [--positions 4] [--seed 1] [--methods umpa,mist]

The object is a Gaussian phase that also scatters. The speckle is known everywhere (`borders.py`), so that
rays are traced exactly; scatter is the mean over six rays. FILE gets one JSON line for each retrieval, and a
table is printed: "a" if the refraction angle is wrong by more than 0.1 pixels (rms of the pixels without a
flag), "d" if the mean D over the object is wrong by more than 30 %, "!" before it if no warning was given,
"(w)" for a warning although neither is wrong.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import scipy.ndimage as ndi
from numpy.typing import NDArray

import xmist
from borders import EXPERIMENT, PER_PIXEL, bump

Real = NDArray[Any]
Spoil = Callable[[Real, Real], tuple[Real, Real]]

SIDE, PIXELS, SIGMA, BLUR = 96, 0.8, 13.0, 0.45  # of the object: largest shift, width, largest blur
SPECKLE, VISIBILITY, PHOTONS, WAVES, RAYS = 4.0, 0.3, 2e4, 100, 6
WRONG, WRONG_PART, WRONG_BLUR = 0.1, 0.3, 0.005  # pixels, part of D, pixels²
LEAST = {"mist": 2, "mist-gradient-flow": 2, "mist-attenuating": 3}
LEAST |= {"mist-directional": 4, "mist-rapid": 4, "lcs": 4}
OPTIONS: dict[str, dict[str, Any]] = {
    "umpa": {"max_shift": 4},
    "xsvt": {"max_shift": 4},
    "single-material": {"delta_over_beta": 1e6},
    "single-exposure": {"delta_over_beta": 1e6},
}


class Scene:
    """The object in front of speckles at some positions."""

    def __init__(self, seed: int, positions: int) -> None:
        random = np.random.default_rng(seed)
        self.y, self.x = (part - (SIDE - 1) / 2 for part in np.mgrid[:SIDE, :SIDE])
        self.waves = [
            (*random.normal(scale=2.355 / SPECKLE, size=(2, WAVES)), random.uniform(0, 2 * np.pi, WAVES))
            for _ in range(positions)
        ]
        self.middle = random.uniform(-0.1, 0.1, 2) * SIDE
        self.reference = np.array([self.light(n, self.x, self.y) for n in range(positions)])
        self.leaving = np.array(self.shift(0.0)(self.x, self.y))
        self.arriving = np.stack([self.x, self.y]) - np.stack(self.source(0.0, self.x, self.y))
        self.d = self.blur(0.0, self.x, self.y) ** 2 / 2
        r2 = (self.x - self.middle[0]) ** 2 + (self.y - self.middle[1]) ** 2
        self.object = r2 < (1.8 * SIGMA) ** 2

    def light(self, n: int, x: Real, y: Real) -> Real:
        """Return the speckle of a position."""
        contrast = math.sqrt(math.log1p(VISIBILITY**2))
        total = sum(np.cos(a * x + b * y + c) for a, b, c in zip(*self.waves[n], strict=True))
        return np.exp(contrast * total / math.sqrt(WAVES / 2) - contrast**2 / 2)

    def shift(self, moved: float) -> Callable[[Real, Real], tuple[Real, Real]]:
        """Return the shift of an object moved along x by pixels."""
        return bump(PIXELS, (self.middle[0] + moved, self.middle[1]), SIGMA)

    def blur(self, moved: float, x: Real, y: Real) -> Real:
        """Return the standard deviation of the scattered rays in pixels."""
        r2 = (x - self.middle[0] - moved) ** 2 + (y - self.middle[1]) ** 2
        return BLUR * np.exp(-r2 / (2 * (1.2 * SIGMA) ** 2))

    def source(self, moved: float, x: Real, y: Real) -> tuple[Real, Real]:
        """Return where rays that arrive came from."""
        back_x, back_y = x, y
        for _ in range(30):
            u_x, u_y = self.shift(moved)(back_x, back_y)
            back_x, back_y = x - u_x, y - u_y
        return back_x, back_y

    def sample(self, moved: list[float]) -> Real:
        """Return sample frames (position, y, x) of an object moved along x by pixels at each position."""
        return np.array([self.seen(n, by) for n, by in enumerate(moved)])

    def seen(self, n: int, moved: float) -> Real:
        """Return the sample frame of a position."""
        x, y, h = self.x, self.y, 1e-3
        back_x, back_y = self.source(moved, x, y)
        (right, left), (below, above) = (
            (self.source(moved, x + h * i, y + h * j), self.source(moved, x - h * i, y - h * j))
            for i, j in ((1, 0), (0, 1))
        )
        dense = (right[0] - left[0]) * (below[1] - above[1]) - (below[0] - above[0]) * (right[1] - left[1])
        size = math.sqrt(2.0) * self.blur(moved, back_x, back_y)
        rays = [
            self.light(n, back_x + size * math.cos(a), back_y + size * math.sin(a))
            for a in 2 * np.pi * np.arange(RAYS) / RAYS
        ]
        return dense / (4 * h**2) * np.mean(rays, axis=0)

    def lit(self, moved_x: float, moved_y: float) -> Real:
        """Return an illumination that moved by pixels."""
        return 1 + 0.3 * np.exp(-((self.x - 8 - moved_x) ** 2 + (self.y - 4 - moved_y) ** 2) / 25.0**2)


def counted(images: Real, random: np.random.Generator) -> Real:
    return (random.poisson(np.maximum(PHOTONS * images, 0)) / PHOTONS).astype(np.float32)


def cases(scene: Scene) -> Iterator[tuple[str, Real, Real, Spoil | None]]:
    """Yield names, frames without noise, and what is done to the counts."""
    r, s, number = scene.reference, scene.sample([0.0] * len(scene.waves)), len(scene.waves)
    module, columns, half = (np.zeros((SIDE, SIDE), bool) for _ in range(3))
    module[SIDE // 4 : SIDE // 2, SIDE // 4 : SIDE // 2] = True
    columns[:, SIDE // 3 : SIDE // 3 + 2] = True
    half[:, : SIDE // 2] = True

    def of_one(change: Callable[[Real], Real]) -> Spoil:
        return lambda r, s: (r, np.stack([change(one) if n == 1 else one for n, one in enumerate(s)]))

    yield "clean", r, s, None
    for name, dead in (("module", module), ("columns", columns), ("half", half)):
        yield f"dead {name}", r, s, lambda r, s, dead=dead: (np.where(dead, 0, r), np.where(dead, 0, s))
    yield "dead module, one sample frame", r, s, of_one(lambda one: np.where(module, 0, one))
    yield "dead module, sample only", r, s, lambda r, s: (r, np.where(module, 0, s))
    gains = np.where(module, 0.5, 1.0)
    yield "gain 0.5 module, both", r, s, lambda r, s: (gains * r, gains * s)
    yield "gain 0.5 module, sample", r, s, lambda r, s: (r, gains * s)
    yield "gain 1.05 module, sample", r, s, lambda r, s: (r, np.where(module, 1.05, 1.0) * s)
    lit = scene.lit(0, 0)
    yield "illumination moved 3 px x", lit * r, scene.lit(3, 0) * s, None
    yield "illumination moved 3 px y", lit * r, scene.lit(0, 3) * s, None
    moved = np.array([scene.lit(3, 0) if n == 1 else lit for n in range(number)])
    yield "illumination moved, one position", lit * r, moved * s, None
    yield "illumination tilted 3 %", r, (1 + 0.03 * (scene.x + scene.y) / SIDE) * s, None
    jumps = {
        "sample moved 8 pixels, one position": [8.0 * (n == 1) for n in range(number)],
        "sample moved 8 pixels, half": [8.0 * (n >= number - number // 2) for n in range(number)],
        "sample drifts 3 px a position": [3.0 * n for n in range(number)],
    }
    for name, by in jumps.items():
        yield name, r, scene.sample(by), None
    for name, one, other in (
        ("dark +20 %, both", 0.2, 0.2),
        ("dark +5 %, sample", 0.0, 0.05),
        ("dark +5 %, reference", 0.05, 0.0),
        ("dark -20 %, both", -0.2, -0.2),
    ):
        yield name, r, s, lambda r, s, one=one, other=other: (r + one, s + other)
    yield "vibration, one position", r, s, of_one(lambda one: ndi.uniform_filter(one, (1, 5)))
    yield (
        "diffuser moved 0.6 px, one",
        r,
        s,
        of_one(lambda one: ndi.shift(one, (0, 0.6), order=3, mode="nearest")),
    )
    name = "all sample frames blurred 0.7 px"
    yield name, r, s, lambda r, s: (r, ndi.gaussian_filter(s, (0, 0.7, 0.7)))


def score(result: xmist.Retrieval, scene: Scene) -> dict[str, Any]:
    """Return the error of the angle in pixels, means of d found and true, and warnings."""
    good = (result.flags & ~np.uint16(64)) == 0  # clipped pixels are ordinary
    out: dict[str, Any] = {"angle": None, "d": None}
    if result.refraction_angle is not None:
        found = result.refraction_angle.astype(float) * PER_PIXEL
        known = good & np.isfinite(found).all(axis=0)
        known[[0, 1, 2, -3, -2, -1]] = known[:, [0, 1, 2, -3, -2, -1]] = False
        errors = [
            np.sqrt(np.mean((found - truth)[:, known] ** 2)) for truth in (scene.leaving, scene.arriving)
        ]
        out["angle"] = float(min(errors)) if known.any() else None
    if result.dark_field is not None:
        d = result.dark_field.astype(float) * EXPERIMENT.effective_distance / EXPERIMENT.effective_pixel**2
        known = good & np.isfinite(d) & scene.object
        if known.any():
            out["d"] = [float(d[known].mean()), float(scene.d[known].mean())]
    return out | {"warnings": [record.code for record in result.findings if record.severity == "warning"]}


def cell(row: dict[str, Any]) -> str:
    wrong = "a" if row["angle"] is not None and row["angle"] > WRONG else ""
    if row["d"] and abs(row["d"][0] - row["d"][1]) > max(WRONG_PART * row["d"][1], WRONG_BLUR):
        wrong += "d"
    if not wrong:
        return "(w)" if row["warnings"] else "·"
    return wrong if row["warnings"] else f"!{wrong}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("--positions", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--methods", default=",".join(xmist.METHODS))
    given = parser.parse_args()
    methods = [name for name in given.methods.split(",") if LEAST.get(name, 1) <= given.positions]
    scene = Scene(given.seed, given.positions)
    print(f"| what is wrong | {' | '.join(methods)} |\n|{'---|' * (len(methods) + 1)}")
    with given.file.open("a", encoding="utf-8") as file:
        for name, reference, sample, spoil in cases(scene):
            random, cells = np.random.default_rng(5), []
            frames = counted(reference, random), counted(sample, random)
            stack = xmist.SpeckleStack(*(spoil(*frames) if spoil else frames))
            for method in methods:
                try:
                    result = xmist.retrieve(stack, EXPERIMENT, method=method, **OPTIONS.get(method, {}))
                    row = score(result, scene)
                except xmist.InputError as error:
                    row = {"angle": None, "d": None, "warnings": list(error.codes)}
                file.write(json.dumps({"case": name, "method": method} | row) + "\n")
                cells.append(cell(row))
            print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
