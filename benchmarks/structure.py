"""How much of the dark-field is seen, by the length of the structure: `python benchmarks/structure.py`.

Speckles of wave number q are weakened by exp(−σ²(1 − ρ(s))), with σ² the variance of the phase that the
structure adds, ρ its correlation, of length ℓ, and s = ∆q/k the distance at which the wave is compared with
itself. The transport equation has exp(−σ² s²/2ℓ²), which is the same for s ≪ ℓ alone. Least squares over the
spectrum P of the reference predict the slope of D against the truth: Σ P q⁴ (1 − ρ(s)) 2ℓ²/s² / Σ P q⁴.
"""

from __future__ import annotations

import numpy as np

import xmist
from full_field import agreement
from xmist import simulate
from xmist.simulate import phantoms

LENGTHS = (0.25, 0.3, 0.4, 0.5)  # pixels
SEED, EXPOSURES, BLUR = 3, 10, 0.5


def predicted(reference: np.ndarray, experiment: xmist.Experiment, length: float) -> float:
    """Slope for a structure of Gaussian correlation of a length in pixels."""
    qy, qx = (2 * np.pi * np.fft.fftfreq(size) for size in reference.shape[1:])
    square = qy[:, None] ** 2 + qx**2
    frames = reference - reference.mean(axis=(1, 2), keepdims=True)
    power = np.mean(np.abs(np.fft.fft2(frames)) ** 2, axis=0)
    power -= np.median(power[square > 6.0])  # photon noise
    per_q = experiment.effective_distance / (experiment.wavenumber * experiment.effective_pixel**2)
    x = 0.5 * square * (per_q / length) ** 2
    part = np.divide(-np.expm1(-x), x, out=np.ones_like(x), where=x > 0)
    weights = np.where(square < 6.0, power * square**2, 0.0)
    return float((weights * part).sum() / weights.sum())


def main() -> None:
    print("| case | ℓ pixels | predicted slope | D corr / error / slope | φ error |")
    print("|---|---|---|---|---|")
    usual = phantoms._CORRELATION
    for kind in ("fine", "coarse"):
        for length in LENGTHS:
            phantoms._CORRELATION = length
            try:
                stack, experiment, truth = simulate.phantom(
                    kind, shape=(256, 256), positions=EXPOSURES, seed=SEED, blur=BLUR
                )
            finally:
                phantoms._CORRELATION = usual
            result = xmist.retrieve(stack, experiment, method="full-field")
            dark = agreement(result.dark_field, truth.dark_field, centred=False)
            phase = agreement(result.phase, truth.phase, centred=True)
            slope = predicted(stack.reference.astype(float), experiment, length)
            print(
                f"| {kind} | {length} | {slope:.2f} | {dark[0]:.3f} / {dark[1]:.2f} / {dark[2]:.2f} "
                f"| {phase[1]:.3f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
