"""Time of `xmist retrieve --preview` at 2048 × 2048 pixels, N = 4: `python benchmarks/preview.py`.

Frames are uint16 TIFF with speckles of 4 and 8 pixels; kernels are compiled by a first preview of smaller
frames. Seconds by the clock and of the processor, over all threads: on a busy machine only the latter count.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import scipy.ndimage as ndi
import tifffile

from xmist.workflow.configuration import parse_mapping
from xmist.workflow.preview import write_preview


def write_frames(folder: Path, size: int, positions: int, speckle: float) -> None:
    random = np.random.default_rng(0)
    y, x = (axis / size - 0.5 for axis in np.mgrid[:size, :size].astype(np.float32))
    bump = np.float32(40.0) * np.exp(-20 * (x * x + y * y))
    dy, dx = np.gradient(bump)
    for n in range(positions):
        frame = ndi.gaussian_filter(random.standard_normal((size, size), np.float32), speckle / 3.33)
        frame *= np.float32(0.2 / frame.std())
        frame += 1
        moved = frame - dx * np.gradient(frame, axis=1) - dy * np.gradient(frame, axis=0)
        for name, image in (("reference", frame), ("sample", moved)):
            counts = random.poisson(np.maximum(image, 0.05) * 4000).astype(np.uint16)
            tifffile.imwrite(folder / f"{name}_{n}.tif", counts)


def preview(folder: Path) -> tuple[float, float, tuple[int, int]]:
    sections = {
        "input": {"reference": "reference_*.tif", "sample": "sample_*.tif"},
        "experiment": {"energy_kev": 17.0, "pixel_size": 3e-6, "sample_to_detector": 1.0},
        "retrieve": {"method": "full-field"},
        "output": {"files": ["result.png"]},
    }
    start, cpu = time.perf_counter(), time.process_time()
    parsed = parse_mapping(sections, folder=folder, source="")
    result, _ = write_preview(parsed, parsed.files)
    return time.perf_counter() - start, time.process_time() - cpu, result.shape


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--positions", type=int, default=4)
    given = parser.parse_args()
    print(f"{given.size} × {given.size}, N = {given.positions}")
    for speckle in (4.0, 8.0):
        with tempfile.TemporaryDirectory() as name:
            small, large = Path(name) / "small", Path(name) / "large"
            for folder, size in ((small, 128), (large, given.size)):
                folder.mkdir()
                write_frames(folder, size, given.positions, speckle)
            preview(small)
            clock, cpu, shape = min(preview(large) for _ in range(3))
        print(f"speckles of {speckle:g} pixels: {clock:.2f} s, processor {cpu:.2f} s, image of {shape}")


if __name__ == "__main__":
    main()
