"""One projection from its scan file to its results: `check` says what would be done, `run` does it."""

from __future__ import annotations

import dataclasses
import math
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from xmist.core import flags as flag
from xmist.core.data import Retrieval, SpeckleStack
from xmist.core.errors import InputError, OutputError, raise_errors
from xmist.core.progress import Progress
from xmist.io.frames.frames import LoadedFrames, digest, load_frames
from xmist.io.frames.sources import listed
from xmist.methods import retrieve
from xmist.preprocess import Frames, apply_steps
from xmist.workflow.configuration import Draft, ScanFile
from xmist.workflow.projection.checking import Check, check
from xmist.workflow.projection.reading import ROLES
from xmist.workflow.projection.survey import Survey, survey

__all__ = ["Check", "Progress", "check", "count_valueless", "run"]


_LOOKED_AT: Final = 10_000  # pixels that tell the noise


def run(scan: Draft, *, progress: Progress | None = None) -> Retrieval:
    """Retrieve one projection and write its results.

    Parameters
    ----------
    scan : Draft
        What to do; a `ScanFile` is one without a fault.
    progress : callable, optional
        Called with what is done, and how much of how much of it.

    Returns
    -------
    Retrieval
        As it was written. Its provenance holds the names, sizes and SHA-256 of the input's files, what the
        preprocessing did, and the scan.

    Raises
    ------
    InputError
        Lists everything that is wrong with the scan before a frame is read; nothing was written then.
    OutputError
        When writing failed; says what was kept and where.

    Examples
    --------
    >>> from xmist.workflow.configuration import read_scan
    >>> run(read_scan("scan.toml")).phase.shape  # doctest: +SKIP
    (2048, 2048)
    """
    tell = progress or (lambda *_: None)
    found = survey(scan)
    raise_errors(scan.named(found.faults))
    final = scan.finish()
    for folder in dict.fromkeys(path.parent for path in found.outputs):
        _probe(folder)
    try:
        stack, notes, noise = load_stack(final, found, tell)
        tell(f"retrieving by {final.method}", 0, 1)
        result = retrieve(
            stack, found.experiment, method=final.method, threads=final.threads, **final.options
        )
    except InputError as error:
        raise InputError(scan.named(read_from(found, error))) from error
    provenance = {
        **result.provenance,
        "input": digests(found, tell),
        "preprocessing": list(notes),
        "remarks": list(found.remarks),
        "binning": found.binning,
        "noise": noise,
        "scan": _scan_text(final),
    }
    result = dataclasses.replace(result, provenance=provenance)
    _save(result, final, tell)
    return result


def load_stack(
    scan: Draft, found: Survey, tell: Progress
) -> tuple[SpeckleStack, tuple[str, ...], dict[str, float]]:
    """Load and prepare the frames of one projection.

    Parameters
    ----------
    scan : Draft
        What to do; its steps have no fault.
    found : Survey
        What is known of its frames.
    tell : callable
        Called with what is done, and how much of how much of it.

    Returns
    -------
    stack : SpeckleStack
        The prepared frames.
    notes : tuple of str
        What each step did.
    noise : dict
        Relative noise by role, where repeated exposures tell it.

    Raises
    ------
    InputError
        If frames cannot be read or a step cannot be done.
    """
    frames, noise = _prepare(scan, found, tell)
    # Weights that are all 1 say nothing and would cost memory.
    weights = None if bool((frames.weights == 1).all()) else frames.weights
    return SpeckleStack(frames.reference, frames.sample, weights), frames.history, noise


def digests(found: Survey, tell: Progress) -> dict[str, Any]:
    """Give names, sizes and SHA-256 of the files of each role.

    Parameters
    ----------
    found : Survey
        The frames.
    tell : callable
        Called with what is done, and how much of how much of it.
    """
    return {
        role: digest(series.files, _part(tell, f"digest of {role}")) for role, series in found.series.items()
    }


def read_from(found: Survey, error: InputError) -> list[str]:
    """Give the faults of an error with the files that the frames were read from.

    Parameters
    ----------
    found : Survey
        The frames.
    error : InputError
        What is wrong with them.
    """
    read = "; ".join(f"{series.name}: {listed(series.files, 2)}" for series in found.series.values())
    return [f"{fault} (read from {read})" for fault in error.faults]


def count_valueless(result: Retrieval) -> int:
    """Count the pixels without a value that no mask asked for.

    Parameters
    ----------
    result : Retrieval
        The result.

    Returns
    -------
    int
        Pixels that are NaN in some channel, though no frame had weight 0 there.

    Examples
    --------
    >>> experiment = xmist.Experiment(energy_kev=17.0, pixel_size=5.8e-6, sample_to_detector=1.0)
    >>> flags = np.full((8, 9), 32, np.uint16)
    >>> flags[0] |= 4
    >>> count_valueless(Retrieval(method="mist", experiment=experiment, flags=flags))
    63
    """
    valueless = (result.flags & (flag.UNDETERMINED | flag.NOT_POSITIVE)) > 0
    return int(np.count_nonzero(valueless & ((result.flags & flag.MASKED) == 0)))


def _part(tell: Progress, what: str) -> Callable[[int, int], object]:
    return lambda done, total: tell(what, done, total)


def _prepare(scan: Draft, found: Survey, tell: Progress) -> tuple[Frames, dict[str, float]]:
    """Load and prepare the frames; what was loaded is given up as soon as it is not needed."""
    noise: dict[str, float] = {}

    def load(role: str) -> LoadedFrames | None:
        series = found.series.get(role)
        if series is None:
            return None
        progress = _part(tell, f"reading {role}")
        if role in ("dark", "flat"):
            # A frame for each exposure: their median leaves out a spike.
            return load_frames(series, progress=progress)
        groups = getattr(found.pairing, role)
        loaded = load_frames(series, groups=groups, progress=progress)
        if loaded.variance is not None:
            relative = _relative_noise(loaded)
            if math.isfinite(relative):
                noise[role] = relative
        return loaded

    frames = {role: loaded.frames for role in ROLES if (loaded := load(role)) is not None}
    steps = scan.preprocess or ()
    if steps:
        tell("preprocessing", 0, 1)
    made = [
        Frames(
            frames.pop("reference"),
            frames.pop("sample"),
            dark=frames.pop("dark", None),
            flat=frames.pop("flat", None),
        )
    ]
    return apply_steps(made.pop(), steps), noise


def _relative_noise(loaded: LoadedFrames) -> float:
    """Give the median standard deviation of a pixel's mean, over the median, as repeats tell it."""
    assert loaded.variance is not None
    skip = max(1, loaded.variance.size // _LOOKED_AT)
    spread = np.sqrt(loaded.variance.reshape(-1)[::skip])
    level = float(np.nanmedian(loaded.frames.reshape(-1)[::skip]))
    return float(np.nanmedian(spread)) / level if level > 0 else math.nan


def _save(result: Retrieval, scan: ScanFile, tell: Progress) -> None:
    written: list[str] = []
    for number, path in enumerate(scan.files):
        tell("writing", number, len(scan.files))
        try:
            result.save(path, overwrite=scan.overwrite)
        except (InputError, OutputError) as error:
            # The faults of the names were told before: something changed meanwhile.
            before = f" (written before that: {', '.join(written)})" if written else ""
            raise OutputError(f"{error}{before}") from error
        written.append(str(path))
    tell("writing", len(scan.files), len(scan.files))


def _probe(folder: Path) -> None:
    """Find out by a nameless file whether a folder can be written to; rights alone do not tell it."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise InputError(
            f"the folder {folder} cannot be written to ({error.strerror or error}); nothing was read or "
            "written: make room or get the right to write there, or write elsewhere"
        ) from error


def _scan_text(scan: ScanFile) -> dict[str, Any]:
    """Give the scan as plain data, so that it can be done again."""
    return {
        "input": scan.input.model_dump(exclude_none=True),
        "experiment": scan.experiment.to_dict(),
        "preprocess": [{"step": name, **options} for name, options in scan.preprocess],
        "retrieve": {"method": scan.method},
        "options": dict(scan.options),
    }
