"""Measured frames of carbon tubes, N = 2; run with `python benchmarks/real_frames.py [-o FOLDER]`.

The frames are found as in the tests: in the folder that XMIST_REAL_FRAMES names, or in the sibling folder
shared/real. Boxes in the tubes and in bare beam were fixed on the ratio of sample to reference alone. The
contrast-to-noise ratio is eq. (8) of Pavlov et al. 2020, bare beam against a tube.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import xmist
from carbon_tubes import (
    DIFFUSERS,
    EXPERIMENT,
    NAMES,
    TUBES,
    bare,
    prepared,
    real_frames,
    smoothed_ratio,
    tube,
)
from xmist.evaluate.metrics import cnr, speckle_size, visibility

METHODS = ("mist-attenuating", "mist")
SMOOTHINGS = (0.0, 1.0, 2.0, 3.0)
HEAD = ("method", "σ", "tube", "D pm", "bare", "noise", "CNR", "T", "ratio")
WIDTHS = (17, 3, 8, 7, 6, 6, 6, 6, 6)


def line(*cells: str) -> None:
    print(*(cell.rjust(width) for cell, width in zip(cells, WIDTHS, strict=True)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, help="folder for figures; they show measured data")
    output = parser.parse_args().output
    folder = real_frames()
    missing = [name for name in NAMES if not (folder / name).is_file()]
    if missing:
        parser.error(f"no {', '.join(missing)} in {folder}")
    frames = prepared(folder)
    print(*frames.history, sep="\n")
    for n, diffuser in enumerate(DIFFUSERS):
        reference, weights = (array[n, 300:480, 455:505] for array in (frames.reference, frames.weights))
        x, y = speckle_size(reference, weights)
        contrast = visibility(reference, weights)
        print(f"{diffuser} diffuser: visibility {contrast:.3f}, grain {x:.2f} × {y:.2f} pixels")
    ratio = smoothed_ratio(frames)
    print()
    line(*HEAD)
    for method in METHODS:
        for smoothing in SMOOTHINGS:
            result = xmist.retrieve(frames.stack(), EXPERIMENT, method=method, smoothing=smoothing)
            good = result.flags == 0
            outside, d = bare(result.shape) & good, 1e12 * result.dark_field
            for name in TUBES:
                inside = tube(name, result.shape) & good
                t = "-" if result.transmission is None else f"{result.transmission[inside].mean():.3f}"
                values = d[inside].mean(), d[outside].mean(), d[outside].std(), cnr(d, outside, inside)
                numbers = [f"{value:.1f}" for value in values]
                line(method, f"{smoothing:g}", name, *numbers, t, f"{ratio[inside].mean():.3f}")
            if output is not None:
                output.mkdir(parents=True, exist_ok=True)
                result.save(output / f"{method}-{smoothing:g}.png", overwrite=True)
        print(f"{method} finds:", *result.findings, sep="\n  ")


if __name__ == "__main__":
    main()
