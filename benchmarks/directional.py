"""Directional dark-field of `umpa`, windows of 9 × 9 pixels: `python benchmarks/directional.py`.

Simulated fibres at N = 4 and 10 (mean tensor of each fibre against the truth) and the measured carbon tubes,
whose scatter is perpendicular to them.
"""

from __future__ import annotations

import numpy as np
import scipy.ndimage as ndi

import xmist
from carbon_tubes import EXPERIMENT, TUBES, prepared, real_frames, tube
from xmist import simulate
from xmist.evaluate import metrics


def _difference(found: float, expected: float) -> float:
    return (found - expected + 90) % 180 - 90


def _mean(tensor: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return np.nanmean(tensor[:, mask], axis=1)[:, None, None]


def fibres(positions: int, seed: int) -> None:
    """Print angle, anisotropy and trace of each fibre."""
    stack, experiment, truth = simulate.fibres(shape=(256, 256), positions=positions, seed=seed)
    result = xmist.retrieve(stack, experiment, method="umpa", window=9, dark_field="tensor")
    labels, number = ndi.label(truth.dark_field > 0.3 * truth.dark_field.max())
    for n in range(1, number + 1):
        mask = ndi.binary_erosion(labels == n, iterations=3)
        found, exact = (_mean(item.dark_field_tensor, mask) for item in (result, truth))
        angle = float(metrics.direction(exact)[0, 0])
        error = _difference(float(metrics.direction(found)[0, 0]), angle)
        parts = [float(metrics.anisotropy(tensor)[0, 0]) for tensor in (found, exact)]
        trace = float(((found[0] + found[2]) / (exact[0] + exact[2]))[0, 0])
        print(
            f"| fibres, N = {positions}, seed {seed} | {angle:.0f}° | {error:+.1f}° "
            f"| {parts[0]:.2f} ({parts[1]:.2f}) | {trace:.2f} |"
        )


def tubes() -> None:
    """Print the angle of each tube."""
    frames = prepared(real_frames())
    stack = xmist.SpeckleStack(frames.reference, frames.sample, frames.weights)
    result = xmist.retrieve(stack, EXPERIMENT, method="umpa", window=9, dark_field="tensor")
    for name, (start, end, _) in TUBES.items():
        mean = _mean(result.dark_field_tensor, tube(name, result.shape))
        across = float(np.degrees(np.arctan2(end[1] - start[1], end[0] - start[0]))) + 90
        error = _difference(float(metrics.direction(mean)[0, 0]), across)
        anisotropy = float(metrics.anisotropy(mean)[0, 0])
        print(f"| tube, {name} | {across % 180:.0f}° | {error:+.1f}° | {anisotropy:.2f} | |")


def main() -> None:
    print("| case | direction | error | anisotropy (truth) | trace over truth |")
    print("|---|---|---|---|---|")
    for positions in (4, 10):
        for seed in (0, 1):
            fibres(positions, seed)
    tubes()


if __name__ == "__main__":
    main()
