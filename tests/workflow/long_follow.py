"""Follow a writer of 200 projections: it is never refused, nothing is lost, and memory stays flat.

Run: python -m tests.workflow.long_follow [projections]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import psutil
import tifffile

from tests.workflow.series_scenes import WRITER, assert_same, frames, sections, volumes, write_toml
from xmist.io.results.stacks import GOOD

POSITIONS = 2
SHAPE = (48, 56)
MODES = ("swmr", "latest", "old", "reopened")


def follow(folder: Path, mode: str, projections: int) -> tuple[str, list[float]]:
    """Record and follow a series; return what the writer was refused, and the memory (MB) meanwhile."""
    reference, samples = frames(projections, POSITIONS, SHAPE)
    for position, frame in enumerate(reference):
        tifffile.imwrite(folder / f"ref_{position}.tif", frame)
    np.save(folder / "samples.npy", samples.reshape(-1, *SHAPE))
    inputs = {"reference": "ref_*.tif", "sample": "s.h5::/data", "sample_axes": "projection,position,y,x"}
    config = write_toml(folder, sections(input=inputs, series={"expected": projections, "block": 8}))
    command = [sys.executable, "-c", WRITER, mode, folder / "s.h5", folder / "samples.npy"]
    retrieve = [sys.executable, "-m", "xmist", "retrieve", config, "--quiet"]
    used = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        with psutil.Popen([*retrieve, "--follow"], stderr=subprocess.PIPE, text=True) as reader:
            while reader.poll() is None:
                try:
                    used.append(reader.memory_info().rss / 1e6)
                    reader.wait(0.5)
                except (psutil.TimeoutExpired, psutil.NoSuchProcess):
                    continue
            assert reader.returncode == 0, reader.communicate()
        refused, _ = writer.communicate()
    assert writer.returncode == 0
    followed = volumes(folder / "scan.h5")
    assert followed["table/status"].tolist() == [GOOD] * projections
    subprocess.run([*retrieve, "--overwrite"], check=True)
    assert_same(followed, volumes(folder / "scan.h5"))
    return refused.strip(), used


def main() -> None:
    projections = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    print("| writer | refused | memory at a quarter, at the end (MB) |\n|---|---|---|")
    for mode in MODES:
        with tempfile.TemporaryDirectory(prefix="xmist-follow-") as folder:
            refused, used = follow(Path(folder), mode, projections)
            print(f"| {mode} | {refused} | {used[len(used) // 4]:.0f}, {used[-2]:.0f} |", flush=True)


if __name__ == "__main__":
    main()
