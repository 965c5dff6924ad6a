"""Reconstruct volumes from the projections of a series: shared preparation, and blocks of slices.

The rotation axis and the offsets of all projections are found first; then each block of slices is read,
reconstructed and written. Blocks and workers do not change a bit of the volumes.
"""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Generator, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.core.errors import ErrorRecord, InputError, OutputError, raise_errors
from xmist.core.options import read_options
from xmist.core.progress import Progress
from xmist.io import NEXUS_ENDINGS
from xmist.io.results.atomic import make_folder, target_errors
from xmist.io.results.volumes import Volumes, is_finished, is_volumes, open_volumes
from xmist.tomography.engines import need
from xmist.tomography.options import VolumeOptions
from xmist.tomography.sharpen import REACH, sharpen
from xmist.tomography.slices import reconstruct
from xmist.workflow.configuration import ParsedConfiguration
from xmist.workflow.driver import Report
from xmist.workflow.executors import Cluster, Executor, Inline, Processes, connect
from xmist.workflow.journal import Identity, Journal, differences, locked, read_journal
from xmist.workflow.outputs import amount, blocks_folder, series_file, volumes_file
from xmist.workflow.storage import Block, clear, split
from xmist.workflow.volumes_file import VolumeSchema, find_slices, write_slices, write_volumes_file
from xmist.workflow.volumes_prepared import Prepared, prepare_volumes, reconstruct_block, slice_side

if TYPE_CHECKING:
    from distributed import Client

Real = NDArray[Any]

_BLOCK: Final = 2**25  # bytes of one volume in a block
_INTERPRETER: Final = 3e8  # bytes of Python with the engines
_READING: Final = 150e6  # bytes a second, a typical disk
_WRITING: Final = 200e6


@dataclass(frozen=True, kw_only=True)
class VolumesEstimate:
    """Estimate for volumes: seconds, bytes of memory, bytes on the disk."""

    shape: tuple[int, int, int]
    algorithms: Mapping[str, str]
    block: int
    blocks: int
    seconds: float
    memory: float
    disk: float


@dataclass(frozen=True, kw_only=True, eq=False)
class VolumeJob:
    """Blocks of slices, as work for an executor."""

    prepared: Prepared
    schema: VolumeSchema
    folder: Path

    def process(self, blocks: Iterable[Block], cautious: bool = False) -> Generator[Report]:
        """Reconstruct and write blocks."""
        for block in blocks:
            start = time.perf_counter()
            slices = reconstruct_block(self.prepared, block)
            solved = time.perf_counter()
            try:
                written = write_slices(self.folder, block, self.schema, slices)
            except OutputError as error:
                yield Report(block=block, rows=(), problem=str(error))
                continue
            now = time.perf_counter()
            yield Report(block=block, rows=(), written=written, solving=solved - start, writing=now - solved)


def block_slices(options: VolumeOptions, projections: int, shape: tuple[int, int], side: int) -> int:
    """Return the slices of a block, so that it takes a bounded amount of memory."""
    largest = max(side**2, projections * shape[1])
    return min(options.block or max(1, min(64, _BLOCK // (4 * largest))), shape[0])


def estimate_volumes(
    options: VolumeOptions,
    *,
    angles: Real,
    shape: tuple[int, int],
    algorithms: Mapping[str, str],
    centre: float,
    cone: bool = False,
    workers: int = 1,
) -> VolumesEstimate:
    """Return time, memory and disk space of volumes; one slice is reconstructed from random line integrals.

    `shape` is that of a projection, `algorithms` has one entry for each volume. In a `cone` beam the time of
    the GPU is left out.
    """
    height, width = shape
    side = slice_side(options, angles, width, centre)
    block = height if cone else block_slices(options, angles.size, shape, side)
    blocks = -(-height // block)
    times: dict[str, float] = dict.fromkeys(algorithms.values(), 0.0)
    x = np.arange(width) - centre
    disc = np.sqrt(np.maximum((0.4 * width) ** 2 - x**2, 0))
    # Noise, because ring suppression refuses data without.
    noise = np.random.default_rng(0).normal(0, 0.01 * width, (angles.size, 1, width))
    sinograms = (disc + noise).astype(np.float32)
    for algorithm in () if cone else sorted(times):
        chosen = dataclasses.replace(options, algorithm=algorithm)  # type: ignore[arg-type]
        weights = None if algorithm == "fbp" else np.ones_like(sinograms)
        for _ in range(2):  # the first compiles
            start = time.perf_counter()
            reconstruct(sinograms, angles, pixel=1.0, centre=centre, weights=weights, options=chosen)
            times[algorithm] = time.perf_counter() - start
    number = min(workers, blocks)
    rows = block
    sharpening = 0.0
    if options.psf_sigma is not None and "scattering" in algorithms:
        rows += 2 * REACH
        start = time.perf_counter()
        sharpen(sinograms, 1.0, 0.5)
        sharpening = rows * blocks * (time.perf_counter() - start)
    one = 4.0 * angles.size * width
    disk = 4.0 * height * side**2 * len(algorithms)
    reading = 2 * one * height * len(algorithms)
    solving = sharpening + height * sum(times[algorithm] for algorithm in algorithms.values())
    # Images, line integrals, weights and what they are made of; slices of all volumes and their file.
    memory = _INTERPRETER + rows * 6 * one + block * (8.0 * len(algorithms) * side**2)
    # The engine's filter works on complex numbers, twice as wide.
    memory += 16.0 * 8 * angles.size * max(width, side)
    return VolumesEstimate(
        shape=(height, side, side),
        algorithms=algorithms,
        block=block,
        blocks=blocks,
        seconds=solving / number + reading / _READING + disk / _WRITING,
        memory=number * memory,
        disk=disk,
    )


def volumes_errors(parsed: ParsedConfiguration) -> list[ErrorRecord]:
    """Return errors that prevent the volumes of a configuration."""
    if parsed.tomography is None:
        return []
    errors: list[ErrorRecord] = []
    for check, arguments in (
        (check_volumes_path, (volumes_file(parsed), series_file(parsed))),
        (_need_engines, ([parsed.tomography.algorithm], parsed.tomography.rings)),
    ):
        try:
            check(*arguments)
        except InputError as error:
            errors += error.records
    return errors


def _need_engines(algorithms: Iterable[str], rings: str) -> None:
    """Raise an error if an engine is not installed; astra-toolbox is not needed for "auto"."""
    for algorithm in algorithms:
        need("astra" if algorithm in ("cgls", "sirt") else "algotom.rec.reconstruction")
    if rings != "none":
        need("algotom.prep.removal")


def write_volumes(
    result: str | Path,
    path: str | Path,
    *,
    options: VolumeOptions | Mapping[str, Any] | None = None,
    workers: int = 1,
    client: Client | str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Volumes:
    """Reconstruct volumes of δ, μ and scattering from the results of a series; continues where it stopped.

    Parameters
    ----------
    result : str or Path
        Results of a series with angles.
    path : str or Path
        The file that shows the volumes, .h5, .hdf5 or .nxs; their slices go to blocks beside it.
    options : VolumeOptions or mapping, optional
        Algorithm, rotation centre, volumes and more.
    workers : int
        Processes on this machine. A script that asks for more than one needs `if __name__ == "__main__":`
        around the call.
    client : distributed.Client or str, optional
        A Dask cluster, or the address of its scheduler, whose workers share a file system.
    overwrite : bool
        Replace volumes of other results or options. Volumes of the same results and options are continued.
    progress : callable, optional
        Called as progress(label, done, total).

    Returns
    -------
    Volumes
        Arrays (y, z, x) that are read when they are sliced, the rotation centre, findings.

    Raises
    ------
    InputError
        Lists what is wrong before anything is written.
    OutputError
        When slices cannot be written; those that were stay, and the same call does what is missing.

    Notes
    -----
    δ comes from −φ/k (or from refraction angles), μ from −ln T, and the scattering ε = ⟨θ²⟩ per axis and
    metre, in rad²/m, from 2D/∆: variances of the angle add along a ray, and D = ∆/2 ∫ ε dz.

    Examples
    --------
    >>> volumes = xmist.write_volumes("series.h5", "volumes.h5", workers=4)  # doctest: +SKIP
    >>> volumes.arrays["delta"][100].max()  # doctest: +SKIP
    """
    made = options if isinstance(options, VolumeOptions) else _read_options(options or {})
    path = Path(path)
    check_volumes_path(path, result)
    tell = progress or (lambda *_: None)
    prepared = prepare_volumes(result, made, tell)
    _need_engines(map(prepared.algorithm, prepared.quantities), made.rings)
    folder = blocks_folder(path)
    identity = _identity(prepared)
    journal = None
    with suppress(*([InputError] if overwrite else [])):
        journal = read_journal(folder)
    if journal is not None and (different := differences(journal.identity, identity, {})):
        if not overwrite:
            text = (
                f"the volumes in {folder} were begun with other input or settings: {'; '.join(different)}. "
                "Write to another name, or begin anew with --overwrite"
            )
            raise InputError(text, code="series-changed")
        journal = None
    if journal is None and not overwrite and path.exists():
        what = "a file of volumes whose blocks are gone" if is_volumes(path) else "another file"
        text = f"{path} exists already and is {what}; allow overwriting (--overwrite) or give another name"
        raise InputError(text, code="output-exists")
    if journal is None:
        usual = block_slices(made, prepared.kept.size, prepared.shape, prepared.side)
        journal = Journal(
            identity=identity,
            block=prepared.shape[0] if prepared.cone else usual,
            channels=prepared.quantities,
            shape=(prepared.side, prepared.side),
        )
        fresh = True
    else:
        fresh = False
    schema = VolumeSchema(
        identity=identity.hash, quantities=prepared.quantities, shape=(prepared.side, prepared.side)
    )
    blocks = split(range(prepared.shape[0]), journal.block)
    make_folder(folder)
    with locked(folder):
        clear(folder, keep=() if fresh else None)
        journal.save(folder)
        try:
            _finish(prepared, schema, folder, blocks, path, _executor(workers, client, len(blocks)), tell)
        finally:
            with suppress(OutputError):
                clear(folder)
    return open_volumes(path)


def _read_options(given: Mapping[str, Any]) -> VolumeOptions:
    """Return options made from a mapping, or raise all that is wrong."""
    made, errors = read_options(VolumeOptions, given, owner="tomography")
    raise_errors(errors)
    return made


def check_volumes_path(path: Path, result: str | Path) -> None:
    """Check the name of the file to write."""
    errors: list[ErrorRecord] = []
    if path.suffix.lower() not in NEXUS_ENDINGS:
        text = f"{path} ends in {path.suffix!r}; expected one of {', '.join(NEXUS_ENDINGS)}"
        errors.append(ErrorRecord("ending-unknown", text))
    elif path.absolute() == Path(result).absolute() or blocks_folder(path) == blocks_folder(Path(result)):
        text = f"{path} would replace the results of the series; expected another name"
        errors.append(ErrorRecord("output-is-input", text))
    else:
        errors += target_errors(path, overwrite=True)
    raise_errors(errors)


def _identity(prepared: Prepared) -> Identity:
    """Return everything that the volumes depend on: options, and the files of the series."""
    files = [prepared.source, *sorted(blocks_folder(prepared.source).glob("block_*.h5"))]
    states = [f"{path.name} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in files]
    stated = {**prepared.options.plain(), "block": None}
    return Identity(configuration={"tomography": _plain(stated)}, inputs={"results": states})


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in options.items()}


def _executor(workers: int, client: Any, blocks: int) -> Executor:
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise InputError(f"workers is {workers!r}; expected a whole number from 1", code="value-invalid")
    if client is not None:
        return Cluster(connect(client) if isinstance(client, str) else client)
    number = min(workers, blocks)
    return Processes(number) if number > 1 else Inline()


def _finish(
    prepared: Prepared,
    schema: VolumeSchema,
    folder: Path,
    blocks: list[Block],
    path: Path,
    executor: Executor,
    tell: Progress,
) -> None:
    """Reconstruct the remaining blocks, and write the file of all volumes."""
    done = set(find_slices(folder, blocks, schema))
    left = [block for block in blocks if block not in done]
    if not left and is_finished(path):
        return
    stated = {
        "source": prepared.source.name,
        "centre": prepared.centre.column,
        "tilt": prepared.centre.tilt,
        "projections": prepared.projections,
        "angles": prepared.angles,
        "options": _plain({**prepared.options.plain(), "algorithm": prepared.algorithms}),
    }

    def show(complete: bool) -> None:
        write_volumes_file(
            path,
            folder.name,
            blocks,
            schema,
            experiment=prepared.experiment,
            stated=stated,
            findings=prepared.findings,
            complete=complete,
        )

    need_bytes = 4.0 * sum(map(len, left)) * prepared.side**2 * len(schema.quantities)
    free = shutil.disk_usage(folder).free
    if free < need_bytes:
        text = f"no space on the disk of {folder}: {amount(need_bytes)} are needed, {amount(free)} are free"
        raise InputError(text, code="disk-full")
    show(complete=False)
    total = blocks[-1].stop
    slices = total - sum(map(len, left))
    tell("slices", slices, total)
    job = VolumeJob(prepared=prepared, schema=schema, folder=folder.absolute())
    reports = executor.run(job, left)
    try:
        for report in reports:
            if report.problem:
                raise OutputError(
                    f"{report.problem}. {slices} of {total} slices are done and kept in {folder}; remove "
                    "the cause and run the same command to continue"
                )
            slices += len(report.block)
            tell("slices", slices, total)
    finally:
        close = getattr(reports, "close", None)
        if close is not None:
            close()
    show(complete=True)
