"""Accuracy and speed of every method in the table; run with `python benchmarks/family.py`.

A method meets the phantoms that satisfy its assumptions, as `xmist.METHODS` states them. Frames are by wave
optics with photon noise; each row is a correlation and a relative error (of φ without its mean, of D, and of
1 − T) over the whole image. `--speed` times them instead, on random speckle of 2048² pixels and N = 10, next
to `mist`.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np

import xmist
from mist import frames
from xmist.core.materials import Material
from xmist.evaluate.metrics import correlation, nrmse
from xmist.simulate import phantoms
from xmist.simulate.acquisition import acquire
from xmist.simulate.detector import Detector
from xmist.simulate.diffusers import independent_positions
from xmist.simulate.sample import Part, Scatter
from xmist.simulate.truth import Simulation

SHAPE = (256, 256)
SMOOTHING = 2.0  # pixels, for methods that solve pixel by pixel; the other row has none

# Options worth a row of their own, with the least N that they need if it is more than the method's.
VARIANTS: Mapping[str, tuple[tuple[dict[str, Any], int], ...]] = {
    "single-material": (({}, 1), ({"exact": True}, 1)),
    "single-exposure": (({}, 1), ({"perspective": "evolving"}, 1)),
    "mist-rapid": (({"combine": "screened"}, 4), ({"combine": "fourier"}, 4)),
    "lcs": (({"dark_field": "none"}, 3), ({"dark_field": "scalar"}, 4), ({"dark_field": "tensor"}, 6)),
    "umpa": (({"window": 5, "max_shift": 4}, 1),),
    "xsvt": (({"window": 3, "max_shift": 4}, 3),),
}


def variants(method: xmist.methods.Method) -> tuple[tuple[dict[str, Any], int], ...]:
    return VARIANTS.get(method.name, (({}, method.minimum_positions),))


@dataclasses.dataclass(frozen=True)
class Phantom:
    """Frames for N positions, and the δ/β of the sample if it is of one material."""

    make: Callable[[int], Simulation]
    delta_over_beta: float | None = None


def _grains(positions: int, kind: str, parts: list[Part]) -> Simulation:
    """`phantom` with parts of our own."""
    case, experiment = phantoms.CASES[kind], phantoms.phantom(kind, shape=(32, 32), positions=1).experiment
    p = experiment.pixel_size
    diffuser = phantoms.speckle_diffuser(
        experiment, 1.0, speckle=case.speckle * p, visibility=case.visibility, seed=0
    )
    return acquire(
        experiment,
        shape=SHAPE,
        sample=parts,
        diffuser=diffuser,
        diffuser_to_sample=1.0,
        positions=independent_positions(positions, extent=(max(SHAPE) + 100) * p, diffuser=diffuser),
        detector=Detector(
            pixel_size=p,
            oversampling=6,
            psf_sigma=0.8 * p,
            photons=case.photons,
            gain=1.0,
            read_noise=0.0,
            offset=0.0,
        ),
        seed=0,
    )


def _one_material(kind: str, *, transmission: float, scatter: bool) -> Phantom:
    """All grains of one material whose thickest place transmits so much."""
    case = dataclasses.replace(phantoms.CASES[kind], transmission=0.5)
    parts = phantoms.grains(case, SHAPE, seed=0)
    thickness = sum(part.body.values for part in parts)
    delta, energy = parts[0].material.delta, parts[0].material.energy_kev
    k = xmist.Experiment(energy_kev=energy, pixel_size=1e-6, sample_to_detector=1.0).wavenumber
    beta = -math.log(transmission) / (2.0 * k * float(thickness.max()))
    material = Material(delta=delta, beta=beta, energy_kev=energy)
    new = [
        dataclasses.replace(part, material=material, scatter=part.scatter if scatter else None)
        for part in parts
    ]
    return Phantom(lambda positions: _grains(positions, kind, new), delta / beta)


def _fibres(kind: str) -> Phantom:
    """Grains of which some hold fibres at 30°, some at 110°, of anisotropy 0.6."""
    parts = phantoms.grains(phantoms.CASES[kind], SHAPE, seed=0)
    scatter = parts[1].scatter
    new = [parts[0]]
    for part, direction in ((parts[1], 30.0), (parts[2], 110.0)):
        fibres = Scatter(
            power=scatter.power,
            correlation_length=scatter.correlation_length,
            direction=direction,
            anisotropy=0.6,
        )
        new.append(dataclasses.replace(part, material=parts[0].material, scatter=fibres))
    return Phantom(lambda positions: _grains(positions, kind, new))


@cache
def phantom(name: str) -> Phantom:
    if name == "refracting":
        return Phantom(
            lambda positions: phantoms.phantom("strong", shape=SHAPE, positions=positions, blur=0.0)
        )
    if name == "scattering":
        return Phantom(lambda positions: phantoms.phantom("fine", shape=SHAPE, positions=positions))
    if name == "absorbing":
        return Phantom(lambda positions: phantoms.phantom("absorbing", shape=SHAPE, positions=positions))
    if name == "fibres":
        return _fibres("fine")
    return _one_material("absorbing", transmission=0.5, scatter=name == "scattering material")


@cache
def simulation(name: str, positions: int) -> Simulation:
    return phantom(name).make(positions)


def suitable(method: xmist.methods.Method, names: set[str]) -> list[str]:
    """Phantoms that satisfy a method's assumptions."""
    scatters = "dark_field" in method.gives
    if method.delta_over_beta == "required":
        return ["material", *(["scattering material"] if scatters else [])]
    found = ["scattering" if scatters else "refracting"]
    if method.directional:
        found.append("fibres")
    if method.attenuation != "no" and "delta_over_beta" not in names:
        found.append("absorbing")
    if "delta_over_beta" in names:
        found.append("scattering material")
    return found


def rows(only: list[str]) -> Iterator[tuple[str, str, dict[str, Any], int]]:
    """Yield method, phantom, options and least N of every row."""
    for method in xmist.METHODS.values():
        if only and method.name not in only:
            continue
        names = {item.name for item in dataclasses.fields(import_module(method.module).OPTIONS)}
        for name in suitable(method, names):
            gamma = phantom(name).delta_over_beta
            for variant, least in variants(method):
                options = dict(variant)
                if gamma is not None:
                    options["delta_over_beta"] = gamma
                yield method.name, name, options, least
                if "smoothing" in names:
                    yield method.name, name, options | {"smoothing": SMOOTHING}, least
                    auto = {key: "auto" for key in ("ridge", "cutoff_length") if key in names}
                    yield method.name, name, options | {"smoothing": SMOOTHING} | auto, least


def score(result: xmist.Retrieval, truth: xmist.Retrieval, channel: str) -> str:
    image, exact = getattr(result, channel), getattr(truth, channel)
    if image is None or exact is None or not np.ptp(exact) > 0:
        return "-"
    if channel == "transmission":
        image, exact = 1.0 - image, 1.0 - exact
    error = nrmse(image, exact, remove_mean=channel == "phase")
    return f"{correlation(image, exact):.4f} ({error:.3f})" if np.nanstd(image) > 0 else f"0 ({error:.3f})"


def _words(options: dict[str, Any]) -> str:
    shown = {key: f"{value:.0f}" if key == "delta_over_beta" else value for key, value in options.items()}
    return ", ".join(f"{key} {value}" for key, value in shown.items()) or "-"


def accuracy(only: list[str], most: int) -> None:
    print("| method | phantom | options | N | φ | D | 1 − T |")
    print("|---|---|---|---|---|---|---|")
    for method, name, options, least in rows(only):
        for positions in sorted({least, most}):
            stack, experiment, truth = simulation(name, positions)
            result = xmist.retrieve(stack, experiment, method=method, **options)
            scores = " | ".join(score(result, truth, c) for c in ("phase", "dark_field", "transmission"))
            print(f"| {method} | {name} | {_words(options)} | {positions} | {scores} |", flush=True)


def speed(only: list[str], size: int, positions: int) -> None:
    reference, sample = frames(size, positions)
    experiment = xmist.Experiment(energy_kev=17.0, pixel_size=5.8e-6, sample_to_detector=1.0)

    yardstick = xmist.prepare(reference, experiment, method="mist")

    def best(method: str, options: dict[str, Any]) -> tuple[float, float]:
        """CPU time of the plan and of the yardstick, in turns: other work on the machine slows both."""
        plans = xmist.prepare(reference, experiment, method=method, **options), yardstick
        times: tuple[list[float], list[float]] = [], []
        for turn in range(5):
            for plan, spent in zip(plans, times, strict=True):
                start = time.process_time()
                plan(sample)
                if turn:  # the first compiles
                    spent.append(time.process_time() - start)
        return min(times[0]), min(times[1])

    print("| method | options | CPU s | × mist |")
    print("|---|---|---|---|")
    for method in xmist.METHODS.values():
        if only and method.name not in only:
            continue
        for variant, _ in variants(method):
            options = dict(variant)
            if method.delta_over_beta == "required":
                options["delta_over_beta"] = 400.0
            seconds, other = best(method.name, options)
            words = _words(options)
            print(f"| {method.name} | {words} | {seconds:.2f} | {seconds / other:.1f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("methods", nargs="*", help="all if none is named")
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--size", type=int, default=2048, help="for --speed")
    parser.add_argument("--positions", type=int, default=10)
    given = parser.parse_args()
    if given.speed:
        speed(given.methods, given.size, given.positions)
    else:
        accuracy(given.methods, given.positions)


if __name__ == "__main__":
    main()
