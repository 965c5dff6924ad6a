"""Accuracy of `full-field`: `python benchmarks/full_field.py [accuracy] [limits] [tensor]`.

Accuracy: the five wave-optics phantoms of `xmist.simulate.phantom`, on seeds that nothing was tuned on (only
seed 3 was looked at before), against `mist-attenuating` and `lcs` at equal N, each at its best smoothing.
The bound is that of Cramér and Rao for photon noise alone, without a prior. Limits: shifts of a speckle's
size, dead and hot pixels, the rim of a berry, and each prior, on seed 3. Tensor: direction and anisotropy of
six fibres, and anisotropy of what scatters alike in all directions.
"""

from __future__ import annotations

import argparse
from functools import partial

import numpy as np
import scipy.ndimage as ndi

import xmist
from xmist import simulate
from xmist.numerics.images.tensors import anisotropy, direction
from xmist.numerics.operators.transport import PSI, D
from xmist.numerics.solvers.preconditioner import expected_block, moments
from xmist.simulate import phantoms

KINDS = ("fine", "strong", "coarse", "low-dose", "absorbing")
SEEDS = (11, 12)
SMOOTHINGS = (0.0, 1.0, 2.0, 4.0, 8.0)


def agreement(found: np.ndarray, truth: np.ndarray, *, centred: bool) -> tuple[float, float, float]:
    """Correlation, rms error over the truth's standard deviation, slope of the result against the truth."""
    a, b = found.astype(float), truth.astype(float)
    if centred:
        a, b = a - a.mean(), b - b.mean()
    slope = ((a - a.mean()) * (b - b.mean())).sum() / ((b - b.mean()) ** 2).sum()
    return (
        float(np.corrcoef(a.ravel(), b.ravel())[0, 1]),
        float(np.sqrt(((a - b) ** 2).mean()) / b.std()),
        slope,
    )


def bound(reference: np.ndarray, photons: float, psi: np.ndarray, d: np.ndarray) -> tuple[float, float]:
    """Least rms errors of ψ and d over their standard deviations that photon noise of the sample allows."""
    block = expected_block((PSI, D), moments(reference), reference.shape[1:])
    block[0, 0] = np.eye(2) * 1e12
    inverse = np.linalg.inv(block) / photons
    errors = [np.sqrt(inverse[..., i, i].sum() / psi.size) for i in range(2)]
    return errors[0] / psi.std(), errors[1] / d.std()


def rival(method: str, stack: xmist.SpeckleStack, experiment: xmist.Experiment, truth: np.ndarray) -> str:
    """Score the method's D at its best smoothing, and give the sweep."""
    scores = []
    for smoothing in SMOOTHINGS:
        options = {"dark_field": "scalar"} if method == "lcs" else {}
        result = xmist.retrieve(stack, experiment, method=method, smoothing=smoothing, **options)
        scores.append(agreement(np.nan_to_num(result.dark_field), truth, centred=False)[:2])
    best = max(range(len(scores)), key=lambda i: scores[i][0])
    sweep = " ".join(f"{score[0]:.2f}" for score in scores)
    return f"{scores[best][0]:.3f} / {scores[best][1]:.2f} at {SMOOTHINGS[best]:g} ({sweep})"


def accuracy() -> None:
    print(
        "| case | seed | N | φ corr / error / slope | D corr / error / slope | T rms | bound φ, D | "
        "mist-attenuating D | lcs D |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for kind in KINDS:
        photons = 2000.0 if kind == "low-dose" else 1e5
        for seed in SEEDS:
            stack, experiment, truth = simulate.phantom(kind, shape=(256, 256), positions=10, seed=seed)
            k, p = experiment.wavenumber, experiment.effective_pixel
            psi = experiment.effective_distance * truth.phase.astype(float) / (k * p**2)
            d = experiment.effective_distance * truth.dark_field.astype(float) / p**2
            for n in (2, 10):
                part = xmist.SpeckleStack(stack.reference[:n], stack.sample[:n])
                result = xmist.retrieve(part, experiment, method="full-field")
                phase = agreement(result.phase, truth.phase, centred=True)
                dark = agreement(result.dark_field, truth.dark_field, centred=False)
                smooth = [
                    ndi.gaussian_filter(np.asarray(t, float), 2)
                    for t in (result.transmission, truth.transmission)
                ]
                limits = bound(part.reference.astype(float), photons, psi, d)
                others = [rival("mist-attenuating", part, experiment, truth.dark_field)]
                others.append(rival("lcs", part, experiment, truth.dark_field) if n >= 4 else "-")
                error = np.sqrt(np.mean((smooth[0] - smooth[1]) ** 2))
                print(
                    f"| {kind} | {seed} | {n} | {phase[0]:.4f} / {phase[1]:.3f} / {phase[2]:.3f} "
                    f"| {dark[0]:.3f} / {dark[1]:.2f} / {dark[2]:.2f} "
                    f"| {error:.4f} | {limits[0]:.4f}, {limits[1]:.3f} "
                    f"| {others[0]} | {others[1]} |",
                    flush=True,
                )


def score(result: xmist.Retrieval, truth: xmist.Retrieval) -> str:
    """φ and D against the truth, and how the fit went."""
    phase = agreement(result.phase, truth.phase, centred=True)
    dark = "-"
    if result.dark_field is not None:
        values = agreement(result.dark_field, truth.dark_field, centred=False)
        dark = "{:.3f} / {:.2f} / {:.2f}".format(*values)
    record = result.provenance["convergence"]
    return (
        f"{phase[0]:.4f} / {phase[1]:.3f} / {phase[2]:.3f} | {dark} | {sum(record['iterations'])} "
        f"| {'yes' if record['converged'] else 'no'} | {record['binning']}"
    )


def strong_shifts(kind: str, size: int, shift: float) -> simulate.Simulation:
    """Simulate speckles of 5 pixels whose shifts ask for finer samples of the wave than the phantom's own."""
    oversampling = phantoms._OVERSAMPLING
    phantoms._OVERSAMPLING = 10
    try:
        return simulate.phantom(kind, shape=(size, size), positions=4, seed=3, speckle=5.0, shift=shift)
    finally:
        phantoms._OVERSAMPLING = oversampling


def limits() -> None:
    print("| case | N | φ corr / error / slope | D corr / error / slope | iterations | converged | binning |")
    print("|---|---|---|---|---|---|---|")

    def line(case: str, n: int, result: xmist.Retrieval, truth: xmist.Retrieval) -> None:
        print(f"| {case} | {n} | {score(result, truth)} |", flush=True)

    for kind, shift in (("strong", 2.5), ("strong", 5.0), ("absorbing", 5.0), ("low-dose", 5.0)):
        stack, experiment, truth = strong_shifts(kind, 256, shift)
        for n in (1, 2, 4) if kind != "absorbing" else (2, 4):
            part = xmist.SpeckleStack(stack.reference[:n], stack.sample[:n])
            result = xmist.retrieve(part, experiment, method="full-field")
            line(f"{kind}, shifts of {shift:g} pixels", n, result, truth)
    stack, experiment, truth = simulate.phantom("fine", positions=2, seed=3)
    line("fine", 2, xmist.retrieve(stack, experiment, method="full-field"), truth)
    for prior in ("h1", "non-negative", "huber", "tv"):
        result = xmist.retrieve(stack, experiment, method="full-field", prior=prior)
        line(f"fine, prior {prior}", 2, result, truth)
    rng = np.random.default_rng(0)
    weights = (rng.random(stack.sample.shape) > 0.01).astype(np.float32)
    dead = xmist.SpeckleStack(stack.reference, stack.sample * weights, weights)
    line("fine, 1 % dead", 2, xmist.retrieve(dead, experiment, method="full-field"), truth)
    hot = stack.sample.copy()
    hot[1, 100, 120] = 1e6 * hot.mean()
    hot = xmist.SpeckleStack(stack.reference, hot)
    line("fine, one hot pixel", 2, xmist.retrieve(hot, experiment, method="full-field"), truth)
    stack, experiment, truth = simulate.currant(positions=4, seed=3)
    for n in (2, 4):
        part = xmist.SpeckleStack(stack.reference[:n], stack.sample[:n])
        line("currant", n, xmist.retrieve(part, experiment, method="full-field"), truth)


def tensor() -> None:
    print("| sample | seed | N | parallax | φ error | D corr / error | from the direction | anisotropy |")
    print("|---|---|---|---|---|---|---|---|")
    for name, seed in [(name, seed) for name in ("fibres", "fine", "coarse") for seed in (3, *SEEDS)]:
        made = simulate.fibres if name == "fibres" else partial(simulate.phantom, name)
        stack, experiment, truth = made(shape=(256, 256), positions=10, seed=seed)
        for n in (2, 10):
            part = xmist.SpeckleStack(stack.reference[:n], stack.sample[:n])
            result = xmist.retrieve(part, experiment, method="full-field", dark_field="tensor")
            off, degree = "-", anisotropy(result.dark_field_tensor)
            strong = truth.dark_field > 0.5 * truth.dark_field.max()
            if truth.dark_field_tensor is None:
                mean = result.dark_field_tensor[:, strong].mean(axis=1)
                round_ = f"{np.median(degree[strong]):.2f}, of the mean {float(anisotropy(mean)):.2f}"
            else:
                apart = direction(result.dark_field_tensor) - direction(truth.dark_field_tensor)
                apart = np.abs((apart + 90.0) % 180.0 - 90.0)
                fibres, _ = ndi.label(strong)
                index = range(1, fibres.max() + 1)
                off = " ".join(f"{value:.1f}°" for value in ndi.median(apart, fibres, index))
                round_ = " ".join(f"{value:.2f}" for value in ndi.median(degree, fibres, index))
            phase = agreement(result.phase, truth.phase, centred=True)
            dark = agreement(result.dark_field, truth.dark_field, centred=False)
            followed = result.provenance["convergence"]["parallax"]
            print(
                f"| {name} | {seed} | {n} | {followed:.2f} | {phase[1]:.3f} "
                f"| {dark[0]:.3f} / {dark[1]:.2f} | {off} | {round_} |",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=["accuracy", "limits", "tensor"])
    parts = parser.parse_args().parts
    if "accuracy" in parts:
        accuracy()
    if "limits" in parts:
        limits()
    if "tensor" in parts:
        tensor()


if __name__ == "__main__":
    main()
