"""Small experiments as files, and what a command leaves behind."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile

from tests.manufactured import phase_object
from xmist.cli import main
from xmist.workflow.proposal import toml_text

SHAPE = (20, 24)
GEOMETRY = {
    "energy_kev": 17.0,
    "pixel_size": 5.8e-6,
    "sample_to_detector": 1.0,
    "source_to_sample": 30.0,
}


def frames(positions=3, shape=SHAPE):
    """Reference and sample frames of a phase object in counts."""
    case = phase_object(positions, shape, strength=0.3)
    return tuple((1e4 * stack).astype(np.float32) for stack in (case.reference, case.sample))


def write_frames(folder, positions=3, shape=SHAPE):
    """Write ref_1.tif, ... and sample_1.tif, ...; give the arrays."""
    stacks = frames(positions, shape)
    for name, stack in zip(("ref", "sample"), stacks, strict=True):
        for number, frame in enumerate(stack, 1):
            tifffile.imwrite(folder / f"{name}_{number}.tif", frame)
    return stacks


def sections(**changes):
    """Return the sections of a configuration file; a change is {key: value}, None takes a key away."""
    data = {
        "input": {"reference": "ref_*.tif", "sample": "sample_*.tif"},
        "experiment": dict(GEOMETRY),
        "preprocess": [],
        "retrieve": {"method": "mist"},
        "options": {"smoothing": 1.0},
        "output": {"files": ["result.h5"]},
    }
    for section, change in changes.items():
        if isinstance(change, dict):
            merged = data.get(section, {}) | change
            data[section] = {key: value for key, value in merged.items() if value is not None}
        else:
            data[section] = change
    return data


def write_config(folder, name="config.toml", **changes):
    """Write a scan file with some keys changed."""
    lines = []
    for section, values in sections(**changes).items():
        for table in values if isinstance(values, list) else [values]:
            lines.append(f"[[{section}]]" if isinstance(values, list) else f"[{section}]")
            lines += [f"{key} = {toml_text(value)}" for key, value in table.items()]
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def snapshot(folder):
    """Return everything below a folder with its content."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else path.is_symlink()
        for path in sorted(Path(folder).rglob("*"))
    }


@dataclass(frozen=True)
class Done:
    """What a command gave."""

    code: int
    out: str
    err: str


def call(capsys, *arguments):
    """Run the command line in this process, through its entry point."""
    capsys.readouterr()
    code = main([str(argument) for argument in arguments])
    return Done(code, *capsys.readouterr())
