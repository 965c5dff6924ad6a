"""Estimate time, memory and disk space of a configuration: `check`."""

from __future__ import annotations

import dataclasses
import math
import os
import re
import shutil
import time
import tracemalloc
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from xmist.core.data import SpeckleStack
from xmist.core.errors import ErrorRecord, InputError, XmistError, collect_errors
from xmist.core.experiment import Experiment
from xmist.core.findings import Finding, finding
from xmist.core.progress import Progress
from xmist.io.results.volumes import QUANTITIES
from xmist.methods import retrieve
from xmist.numerics.parallel import count_threads
from xmist.preprocess import STEPS
from xmist.tomography.slices import chosen_algorithm
from xmist.workflow import guard
from xmist.workflow.configuration import Configuration, ParsedConfiguration
from xmist.workflow.discovery import Discovery, discover
from xmist.workflow.driver import WAITING
from xmist.workflow.examine import examine_projection
from xmist.workflow.frames import FrameTable
from xmist.workflow.listing import angle_range, angle_source, list_frames
from xmist.workflow.outputs import amount, blocks_folder, quality_plots, result_files, series_file
from xmist.workflow.setup import SeriesSetup, read_setup
from xmist.workflow.storage import BlockSchema, split
from xmist.workflow.volumes import VolumesEstimate, estimate_volumes, volumes_errors

if TYPE_CHECKING:
    from xmist.workflow.series import Beginning

_SIDES: Final = (64, 160)  # pixels; their difference does not contain the constant cost of a call
_MOST_POSITIONS: Final = 12  # beyond, time and memory grow as their number does
_INTERPRETER: Final = 200e6  # bytes that Python takes with the libraries
_READING: Final = 150e6  # bytes a second, a typical disk
_WRITING: Final = 200e6  # bytes a second, synced, a typical disk
_STEPPING: Final = 50e6  # bytes of float32 frames a second, through a step of the preprocessing

_UNITS: Final = {"": 1, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_BINARY: Final = {"KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}
# While a projection is retrieved, the results of others wait, and those of one are being written.
_RESULTS: Final = WAITING + 1
# Bytes of the process that workers are copied from, and of the one that cleans up behind them.
_HELPERS: Final = 130e6
# Images of a result that others begin from: channels, flags, diagnostics, and the unknowns made of them.
_START: Final = 16
# Bytes of a block beside its images.
_OVERHEAD: Final = 12_000


@dataclass(frozen=True, kw_only=True)
class Check:
    """What a run would do, and its time, memory and disk space; None where errors prevent an estimate.

    `seconds_each` and `blocks` are those of a series; `memory` and `disk` are bytes.
    """

    errors: tuple[ErrorRecord, ...]
    findings: tuple[Finding, ...]
    series: bool
    frames: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    geometry: Mapping[str, Any] = field(default_factory=dict)
    projections: int | None = None
    missing: int = 0
    positions: int | None = None
    sets: int | None = None
    angles: tuple[float, float] | None = None
    angle_source: str = ""
    rows: Mapping[str, list[dict[str, Any]]] = field(default_factory=dict)
    examined: Mapping[str, Any] = field(default_factory=dict)
    steps: tuple[str, ...] = ()
    method: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    channels: tuple[str, ...] = ()
    shape: tuple[int, int] | None = None
    block: int | None = None
    blocks: int | None = None
    outputs: tuple[str, ...] = ()
    workers: int = 1
    seconds_each: float | None = None
    seconds: float | None = None
    memory: float | None = None
    disk: float | None = None
    volumes: VolumesEstimate | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        return dataclasses.asdict(self)


def check(
    parsed: ParsedConfiguration,
    *,
    workers: int | None = None,
    memory: str | float | None = None,
    progress: Progress | None = None,
) -> Check:
    """Return what a run would do, its time, memory and disk space, and all errors; nothing is written.

    The frames of the first, middle and last projection are read and compared. For a single projection the
    method runs on small random frames. For a series one projection is retrieved twice, in a child process.
    """
    if not parsed.is_series:
        discovery = discover(parsed)
        found = _describe(discovery)
        return found if found.errors else _with_estimate(_examined(found, discovery), discovery, progress)
    from xmist.workflow.series import begin, reads_hdf5

    limit = None
    errors = parsed.errors()
    with collect_errors(errors):
        limit = None if memory is None else parse_memory(memory)
    if errors:
        return Check(errors=tuple(errors), findings=parsed.findings, series=True, method=parsed.method)
    if progress is not None:
        progress("opening the frames and retrieving one projection", 0, 1)
    if workers is None and reads_hdf5(parsed):
        workers = 1  # as the command does it
    threads = parsed.threads or (max(1, count_threads() // workers) if workers else None)
    try:
        begun = begin(dataclasses.replace(parsed, threads=threads), trial=2, child=True)
        found = _describe(begun.discovery)
        if found.errors:
            return found
        return _with_forecast(_examined(found, begun.discovery, begun.setup), begun, workers, limit)
    except InputError as error:
        return Check(errors=tuple(error.records), findings=parsed.findings, series=True, method=parsed.method)


def _describe(found: Discovery) -> Check:
    """Return the frames and steps, from the headers and the configuration."""
    parsed, reference, sample = found.parsed, found.reference, found.sample
    frames = {
        role: {
            "frames": each.frames if isinstance(each, FrameTable) else len(each),
            "shape": each.shape,
            "dtype": str(each.dtype),
            "files": len(each.files),
        }
        for role, each in {"reference": reference, "sample": sample, **found.still}.items()
        if each is not None
    }
    geometry: dict[str, Any] = {}
    if parsed.experiment is not None:
        derived = ("wavelength", "magnification", "effective_pixel", "effective_distance")
        experiment = found.experiment
        geometry = experiment.to_dict() | {name: getattr(experiment, name) for name in derived}
    outputs: tuple[Any, ...] = result_files(parsed)
    if parsed.is_series and parsed.files:
        master = series_file(parsed)
        outputs = (master, f"{blocks_folder(master)}/", *quality_plots(parsed), master.with_suffix(".log"))
    return Check(
        errors=found.errors,
        findings=found.findings,
        series=parsed.is_series,
        frames=frames,
        geometry=geometry,
        projections=None if sample is None else found.last - found.first,
        missing=0 if sample is None else sum(found.first <= index < found.last for index in sample.missing),
        positions=None if reference is None else reference.positions,
        sets=None if reference is None else reference.count,
        angles=angle_range(found),
        angle_source=angle_source(found),
        rows=list_frames(found),
        steps=tuple(_step_text(name, options) for name, options in parsed.preprocess or ()),
        method=parsed.method,
        options=dict(parsed.options or {}),
        shape=found.shape,
        outputs=tuple(map(str, outputs)),
    )


def _examined(found: Check, discovery: Discovery, setup: SeriesSetup | None = None) -> Check:
    """Add flux, visibility and matches of the middle projection, and findings of the first and last."""
    from xmist.workflow.series import make_processor

    parsed = discovery.parsed
    try:
        setup = read_setup(discovery, lambda *_: None) if setup is None else setup
        there = setup.complete
        if not there:
            return found
        processor = make_processor(parsed, setup)
        middle = there[len(there) // 2]
        shown, noticed = examine_projection(processor, middle)
        # Axes that are stated wrongly may pair the frames of a single projection rightly.
        for index in sorted({there[0], there[-1]} - {middle}):
            noticed += examine_projection(processor, index)[1]
    except InputError as error:
        return dataclasses.replace(found, errors=(*found.errors, *error.records))
    every = dict.fromkeys((*found.findings, *setup.findings, *noticed))
    return dataclasses.replace(found, examined=shown, findings=tuple(every))


def _step_text(name: str, options: Mapping[str, Any]) -> str:
    given = ", ".join(f"{key} = {value}" for key, value in options.items())
    return f"{name}: {STEPS[name].summary}{f' ({given})' if given else ''}"


def _with_estimate(found: Check, discovery: Discovery, progress: Progress | None) -> Check:
    """Add time and peak memory of a single projection; no time where the method cannot work on a trial."""
    config, reference = discovery.parsed.finish(), discovery.reference
    assert found.shape is not None
    assert reference is not None
    stored = sum(
        each["frames"] * math.prod(each["shape"]) * np.dtype(each["dtype"]).itemsize
        for each in found.frames.values()
    )
    positions, pixels, steps = reference.positions, math.prod(found.shape), len(config.preprocess)
    pair = 2 * 4 * positions * math.prod(reference.shape)
    loading = pair * (1.5 if positions < reference.frames else 1.0)
    # A step holds what it takes, what it gives and what it works with, and the weights.
    preparing = pair * 3.5 if steps else pair
    solving = 3 * 4 * positions * pixels
    trial = _try_made_up(config, discovery.experiment, min(positions, _MOST_POSITIONS), progress)
    seconds = None
    if trial is not None:
        scale = max(1.0, positions / _MOST_POSITIONS)
        solving += int(trial[0] * pixels * scale)
        seconds = 1.0 + stored / _READING + trial[1] * pixels * scale + steps * pair / _STEPPING
    memory = _INTERPRETER + max(loading, preparing, solving)
    findings = found.findings
    have = machine_memory()
    if have is not None and memory > have:
        text = (
            f"about {amount(memory)} of memory are needed, but this machine has {amount(have)}; crop or bin "
            "the frames, or use a larger machine"
        )
        findings = (*findings, finding("memory-short", text))
    return dataclasses.replace(found, findings=findings, memory=memory, seconds=seconds)


def _with_forecast(found: Check, begun: Beginning, workers: int | None, limit: float | None) -> Check:
    """Add time, memory and disk space of a series, from those of one projection."""
    parsed, setup, trial = begun.discovery.parsed, begun.setup, begun.trial
    assert setup is not None
    assert trial is not None
    number = workers or 1
    section = parsed.series_section
    schema = begun.schema("", trial.channels)
    from xmist.workflow.series import block_size

    count = len(setup.chosen)
    block = block_size(schema, section.block, count, number, section.warm_start)
    need = None
    if trial.memory is not None:
        each = process_memory(trial.memory, setup, schema, warm=section.warm_start is not None)
        parent = leading_memory(workers)
        number = fit_workers(limit, number, each, parent)
        need = number * each + parent
    disk = disk_space(schema, count, block)
    errors = list(found.errors)
    master = series_file(parsed)
    folder = blocks_folder(master)
    with suppress(OSError):
        free = shutil.disk_usage(master.parent).free
        there = sum(path.stat().st_size for path in folder.iterdir()) if folder.is_dir() else 0
        if free + there < disk:
            text = (
                f"no space on the disk of {master.parent}: the series needs {amount(disk)}, and "
                f"{amount(free)} are free; make room, write elsewhere, or keep fewer (series.channels)"
            )
            errors.append(ErrorRecord("disk-full", text))
    errors += volumes_errors(parsed)
    return dataclasses.replace(
        found,
        volumes=None if errors else _volumes(begun, trial.channels, number),
        errors=tuple(errors),
        options=trial.options,
        channels=schema.channels,
        block=block,
        blocks=len(split(range(count), block)),
        workers=number,
        seconds_each=trial.seconds,
        seconds=count * trial.seconds / number + disk / _WRITING,
        memory=need,
        disk=disk,
    )


def _volumes(begun: Beginning, channels: tuple[str, ...], workers: int) -> VolumesEstimate | None:
    """Return time, memory and disk space of the volumes of a series, if it has a table [tomography]."""
    options, setup = begun.discovery.parsed.tomography, begun.setup
    assert setup is not None
    if options is None or setup.angles is None:
        return None
    algorithms: dict[str, str] = {
        name: chosen_algorithm(options, weighted=f"{quantity.channel}_std" in channels)
        for name, quantity in QUANTITIES.items()
        if quantity.channel in channels and name in (options.volumes or QUANTITIES)
    }
    middle = 0.5 * (setup.shape[1] - 1)
    return estimate_volumes(
        options,
        angles=setup.angles,
        shape=setup.shape,
        algorithms=algorithms,
        centre=middle if options.centre == "auto" else options.centre,
        workers=workers,
    )


def _try_made_up(
    config: Configuration, experiment: Experiment, positions: int, progress: Progress | None
) -> tuple[float, float] | None:
    """Return bytes and seconds per pixel on random frames; None if the method cannot work."""
    from scipy.ndimage import gaussian_filter

    tell = progress or (lambda *_: None)
    rng = np.random.default_rng(0)
    peaks, times = [], []
    for number, side in enumerate(_SIDES):
        noise = rng.standard_normal((positions, side, side))
        grain = gaussian_filter(noise, (0.0, 1.5, 1.5), mode="wrap")
        reference = np.exp(0.25 * grain / grain.std()).astype(np.float32)
        sample = np.float32(0.9) * gaussian_filter(reference, (0.0, 0.5, 0.5))
        stack = SpeckleStack(reference, sample, np.ones_like(reference))

        def call(stack: SpeckleStack = stack) -> None:
            retrieve(stack, experiment, method=config.method, threads=config.threads, **config.options)

        try:
            if number == 0:
                tell(f"compiling {config.method}", 0, 1)
                call()
            tell(f"trying {config.method} on small random frames", number, len(_SIDES))
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
            tracemalloc.start()
            try:
                call()
                peaks.append(tracemalloc.get_traced_memory()[1])
            finally:
                tracemalloc.stop()
        except XmistError:
            return None
    area = [side**2 for side in _SIDES]
    memory = max(0.0, (peaks[1] - peaks[0]) / (area[1] - area[0]))
    slope = max((times[1] - times[0]) / (area[1] - area[0]), 0.1 * times[1] / area[1])
    return memory, slope


def about(seconds: float) -> str:
    """Return a rough time as text.

    Examples
    --------
    >>> about(42), about(400), about(10_000)
    ('about 50 s', 'about 7 min', 'about 2.8 h')
    """
    if seconds < 90:
        size = 10 ** max(0, math.floor(math.log10(max(seconds, 1.0))))
        return f"about {math.ceil(seconds / size) * size:g} s"
    if seconds < 5400:
        return f"about {seconds / 60:.0f} min"
    return f"about {seconds / 3600:.1f} h"


def machine_memory() -> float | None:
    """Return the memory of this machine in bytes; None where the system does not state it (Windows)."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):
        return None


def parse_memory(text: str | float) -> float:
    """Return bytes from "4GB", "500 MB", "2GiB", or a number of bytes.

    Examples
    --------
    >>> parse_memory("4GB"), parse_memory("1.5 GiB")
    (4000000000.0, 1610612736.0)
    """
    value = math.nan
    if isinstance(text, (int, float)) and not isinstance(text, bool):
        value = float(text)
    elif found := re.fullmatch(r"\s*([0-9]+\.?[0-9]*)\s*([KMGT]I?)?B?\s*", str(text).upper()):
        value = float(found[1]) * {**_UNITS, **_BINARY}[found[2] or ""]
    if not 0 < value < 1e18:
        text = f"memory is {text!r}; expected an amount such as 4GB or 500MB"
        raise InputError(text, code="value-invalid")
    return value


def process_memory(trial: int, setup: SeriesSetup, schema: BlockSchema, *, warm: bool = False) -> float:
    """Return the bytes of one working process; they do not depend on the size of its blocks.

    `trial` are the bytes that a process held which retrieved a projection; `warm`: projections begin from the
    result of another, which is kept.
    """
    table = setup.table
    frames = 4 * table.positions * math.prod(table.shape)
    # The next projection is read meanwhile. Steps need room for what they take and for what they give.
    ahead = frames * (2 if setup.steps.functions or setup.steps.rest else 1)
    start = 4 * _START * math.prod(table.shape) if warm else 0
    return trial + ahead + start + _RESULTS * schema.bytes_each


def leading_memory(workers: int | None) -> float:
    """Return the bytes of all processes except the workers; `workers` None: there are none."""
    return 0.0 if workers is None else float(guard.peak_memory() or 0) + _HELPERS


def disk_space(schema: BlockSchema, count: int, block: int) -> float:
    """Return the bytes of all files; flags are compressed to almost nothing, images are not."""
    images = schema.bytes_each - 2 * schema.shape[0] * schema.shape[1]
    return float(count * images + -(-count // block) * _OVERHEAD)


def fit_workers(limit: float | None, workers: int, each: float, parent: float) -> int:
    """Return how many workers fit into the allowed memory; all sizes in bytes.

    Examples
    --------
    >>> fit_workers(4e9, 8, 1.2e9, 0.2e9)
    3
    """
    if limit is None:
        return workers
    fit = int((limit - parent) // each)
    if fit < 1:
        raise InputError(
            f"memory is {amount(limit)}, and a projection takes {amount(each + parent)}; allow more, or crop "
            "or bin the frames",
            code="memory-insufficient",
        )
    return min(workers, fit)
