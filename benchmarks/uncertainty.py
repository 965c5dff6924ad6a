"""How often the truth lies within a standard deviation of `full-field`: `python benchmarks/uncertainty.py`.

Frames of the fast path with photon noise in reference and sample, on a phantom whose D and ln T have the
power that the prior takes them to have; then wave-optics phantoms, where the model itself is only an
approximation. A Gaussian posterior that is right covers 68.3 % of the pixels; with few draws the deviation
itself is uncertain, and Student's t gives the share.
"""

from __future__ import annotations

import argparse

import numpy as np
import scipy.fft
import scipy.ndimage as ndi
import scipy.stats

import xmist
from xmist import simulate
from xmist.simulate.model import transported

EXPERIMENT = xmist.Experiment(energy_kev=17.0, pixel_size=5e-6, sample_to_detector=1.0)
CHANNELS = ("phase", "dark_field", "transmission")


def smooth_field(random: np.random.Generator, shape: tuple[int, int], sigma: float) -> np.ndarray:
    """White noise through a Gaussian, with mean 0 and rms 1."""
    field = ndi.gaussian_filter(random.standard_normal(shape), sigma, mode="reflect")
    return (field - field.mean()) / field.std()


def rough_field(random: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Draw a field with the prior's power, κ⁻³, but for the lowest and the highest frequencies."""
    k_y, k_x = (np.pi * np.arange(size) / size for size in shape)
    k = np.hypot(k_y[:, None], k_x)
    coefficients = random.standard_normal(shape) * np.maximum(k, 0.06) ** -1.5 * np.exp(-((k / 3.0) ** 2))
    coefficients[0, 0] = 0.0
    field = scipy.fft.idctn(coefficients, norm="ortho")
    return field / field.std()


def phantom(seed: int, side: int, positions: int) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Return references and samples without noise, and what they are made of."""
    random = np.random.default_rng(seed)
    shape = (side, side)
    k, p, z = EXPERIMENT.wavenumber, EXPERIMENT.effective_pixel, EXPERIMENT.effective_distance
    psi = smooth_field(random, shape, 8.0)
    slope = np.hypot(*np.gradient(psi))
    psi *= (
        0.15 / slope.max()
    )  # pixels of shift at most: the Taylor step of (M) is good to a part in a hundred of d
    d = rough_field(random, shape)
    d = 0.02 * (d - d.min())
    log_t = 0.05 * rough_field(random, shape)
    log_t -= log_t.max()
    truth = {"phase": psi * k * p**2 / z, "dark_field": d * p**2 / z, "transmission": np.exp(log_t)}
    reference = np.stack(
        [1.0 + 0.25 * smooth_field(random, shape, 1.7).clip(-3.0, 3.0) for _ in range(positions)]
    )
    sample = np.stack([transported(frame, wavenumber=k, distance=z, pixel=p, **truth) for frame in reference])
    return reference, sample, truth


def errors(result: xmist.Retrieval, truth: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Error over the standard deviation, by channel."""
    out = {}
    for name in CHANNELS:
        error = getattr(result, name) - np.asarray(truth[name], float)
        if name == "phase":
            error -= error.mean()
        out[name] = np.abs(error) / getattr(result, f"{name}_std")
    return out


def fast_path(realisations: int, positions: int, photons: float, draws: int, side: int, seed: int) -> None:
    reference, sample, truth = phantom(seed, side, positions)
    random = np.random.default_rng(seed + 1)
    z: dict[str, list[np.ndarray]] = {name: [] for name in CHANNELS}
    for _ in range(realisations):
        noisy = [random.poisson(photons * frames) / photons for frames in (reference, sample)]
        result = xmist.retrieve(
            xmist.SpeckleStack(*noisy),
            EXPERIMENT,
            method="full-field",
            gain=1.0 / photons,
            uncertainty=True,
            draws=draws,
        )
        for name, values in errors(result, truth).items():
            z[name].append(values)
    expected = 2.0 * scipy.stats.t.cdf(1.0, draws) - 1.0 if draws < 8 else 0.683
    strength = np.abs(truth["dark_field"])
    decile = np.searchsorted(np.quantile(strength, np.linspace(0.1, 0.9, 9)), strength)
    for name in CHANNELS:
        inside = np.mean([values <= 1.0 for values in z[name]], axis=0)
        by_decile = " ".join(f"{100 * inside[decile == i].mean():.0f}" for i in range(10))
        rms = np.sqrt(np.mean(np.square(z[name])))
        print(
            f"| fast path | {positions} | {photons:g} | {draws} | {name} | {100 * inside.mean():.1f} "
            f"({100 * expected:.1f}) | {rms:.2f} | {by_decile} |",
            flush=True,
        )


def wave_optics(kind: str, positions: int, draws: int, side: int, seed: int) -> None:
    stack, experiment, truth = simulate.phantom(kind, shape=(side, side), positions=positions, seed=seed)
    result = xmist.retrieve(stack, experiment, method="full-field", uncertainty=True, draws=draws)
    images = {name: np.asarray(getattr(truth, name), float) for name in CHANNELS}
    images["phase"] = images["phase"] - images["phase"].mean()
    strength = np.abs(images["dark_field"])
    decile = np.searchsorted(np.quantile(strength, np.linspace(0.1, 0.9, 9)), strength, side="right")
    for name, values in errors(result, images).items():
        by_decile = " ".join(
            f"{100 * np.mean(values[decile == i] <= 1.0):.0f}" if (decile == i).any() else "-"
            for i in range(10)
        )
        print(
            f"| {kind} | {positions} | | {draws} | {name} | {100 * np.mean(values <= 1.0):.1f} (68.3) | "
            f"{np.sqrt(np.mean(values**2)):.2f} | {by_decile} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--realisations", type=int, default=20)
    parser.add_argument("--side", type=int, default=128, help="pixels")
    parser.add_argument("--seed", type=int, default=21)
    parser.add_argument("--draws", type=int, nargs="*", default=[8, 3])
    parser.add_argument("--no-waves", action="store_true")
    given = parser.parse_args()
    print("| frames | N | photons | draws | channel | % inside (expected) | rms of z | by decile of D, % |")
    print("|---|---|---|---|---|---|---|---|")
    for draws in given.draws:
        for positions, photons in ((4, 1e4), (10, 1e3)):
            fast_path(given.realisations, positions, photons, draws, given.side, given.seed)
    if not given.no_waves:
        for kind in ("fine", "strong", "coarse", "low-dose", "absorbing"):
            wave_optics(kind, 4, 8, given.side, given.seed)


if __name__ == "__main__":
    main()
