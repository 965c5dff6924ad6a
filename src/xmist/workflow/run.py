"""Run a configuration: one projection or a series, from frames to results."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from xmist.core.data import Retrieval, SpeckleStack
from xmist.core.errors import ErrorRecord, InputError, OutputError, XmistError, collect_errors, raise_errors
from xmist.core.experiment import Experiment
from xmist.core.log import RunLog, open_log
from xmist.core.progress import Progress
from xmist.io import NEXUS_ENDINGS
from xmist.preprocess.frames import Frames
from xmist.preprocess.steps import apply_steps
from xmist.workflow.configuration import ParsedConfiguration, parse_configuration, parse_mapping
from xmist.workflow.discovery import Discovery, discover
from xmist.workflow.editing import sections_text
from xmist.workflow.estimates import parse_memory
from xmist.workflow.following import follow_series
from xmist.workflow.outputs import series_file, volumes_file
from xmist.workflow.processor import ProjectionProcessor
from xmist.workflow.quality import Row, Run
from xmist.workflow.series import Execution, is_complete, make_processor, run_series
from xmist.workflow.setup import SeriesSetup, read_setup
from xmist.workflow.volumes import volumes_errors, write_volumes

if TYPE_CHECKING:
    from distributed import Client


IDLE_TIMEOUT: Final = 600.0  # seconds without a change of the files after which a series is not followed


def run(
    config: str | Path | Mapping[str, Any],
    *,
    overrides: Mapping[str, Any] | None = None,
    workers: int = 1,
    client: Client | str | None = None,
    memory: str | float | None = None,
    overwrite: bool = False,
    strict: bool = False,
    follow: bool = False,
    idle_timeout: float = IDLE_TIMEOUT,
    log: str | Path | None = None,
    progress: Progress | None = None,
) -> Run:
    """Retrieve all projections of a configuration and write the results; a series continues where it stopped.

    Parameters
    ----------
    config : str, Path or mapping
        The configuration file (TOML), or its sections as a mapping.
    overrides : mapping, optional
        Sections with keys that replace the file's, such as `{"retrieve": {"method": "umpa"}}`.
    workers : int
        Processes on this machine; 1 does all in this one, with threads. A script that asks for more needs
        `if __name__ == "__main__":` around the call.
    client : distributed.Client or str, optional
        A Dask cluster, or the address of its scheduler, whose workers share a file system.
    memory : str or float, optional
        What all processes of this machine may hold, such as "4GB": fewer workers are started if they do not
        fit.
    overwrite : bool
        Replace files that exist, and begin a series anew.
    strict : bool
        Stop a series at the first projection that is not good or has a warning.
    follow : bool
        Retrieve the projections of a series as they are recorded, until all that are expected are there
        (`[series] expected`), or no file has changed for `idle_timeout`.
    idle_timeout : float
        Seconds.
    log : str or Path, optional
        A text file to which configuration, progress, findings and errors are added with the time; for a
        series by default the file `.log` beside its results.
    progress : callable, optional
        Called with a label, what is done, and of how much.

    Returns
    -------
    Run
        Path, table of quality and findings; `open(projection)` returns a result.

    Raises
    ------
    InputError
        Lists everything that is wrong, before anything is written.
    OutputError
        When results cannot be written. Finished results are kept; a series continues when it is run again.

    Notes
    -----
    Neither workers, nor memory, nor the size of blocks changes a bit of the results.

    Examples
    --------
    >>> done = xmist.run("config.toml", workers=4, memory="16GB")  # doctest: +SKIP
    >>> done.open(0).save("first.h5")  # doctest: +SKIP
    """
    if isinstance(config, Mapping):
        merged = {**config, **(overrides or {})}
        parsed = parse_mapping(merged, folder="", source="", confined=False)
    else:
        parsed = parse_configuration(config, overrides)
    whole = isinstance(workers, int) and not isinstance(workers, bool)
    kept = None
    if log is not None:
        kept = open_log(log)
        kept.start(f"run {parsed.source}")
    return run_parsed(
        parsed,
        workers=None if whole and workers == 1 else workers,
        client=client,
        memory=memory,
        overwrite=overwrite,
        strict=strict,
        idle_timeout=idle_timeout if follow else None,
        log=kept,
        progress=progress,
    )


def run_parsed(
    parsed: ParsedConfiguration,
    *,
    workers: int | None = None,
    client: Any = None,
    memory: str | float | None = None,
    overwrite: bool = False,
    strict: bool = False,
    idle_timeout: float | None = None,
    log: RunLog | None = None,
    progress: Progress | None = None,
) -> Run:
    """Run a configuration that was read; with `workers` None in this process.

    With `idle_timeout` (s) a series is followed while it is recorded.
    """
    if log is None:
        log = RunLog()
        log.start(f"run {parsed.source}")
    if overwrite:
        parsed = dataclasses.replace(parsed, overwrite=True)
    try:
        limit = _check_execution(parsed, workers, client, memory)
        execution = Execution(
            workers=workers,
            client=client,
            memory=limit,
            overwrite=parsed.overwrite,
            anew=overwrite,
            strict=strict,
            log=log,
        )
        if idle_timeout is not None:
            _check_following(parsed, idle_timeout)
        if not parsed.errors():  # they are raised together with those of the frames
            log.configuration(_effective(parsed))
        timed = progress is not None
        done = _run_checked(parsed, execution, idle_timeout, log.watch(progress), timed=timed)
        log.findings(done.findings)
    except BaseException as error:  # an interrupt, too
        log.error(error)
        raise
    log.write("\n".join(["done", *(f"wrote {path}" for path in done.files)]))
    return done


def _effective(parsed: ParsedConfiguration) -> str:
    """Return what the results depend on, and the files that are written, as a configuration file."""
    output = {"files": [str(path) for path in parsed.files], "overwrite": parsed.overwrite}
    return sections_text({**parsed.to_dict(), "output": output})


def _run_checked(
    parsed: ParsedConfiguration,
    execution: Execution,
    idle_timeout: float | None,
    tell: Progress,
    *,
    timed: bool,
) -> Run:
    """Retrieve one projection or a series, and reconstruct volumes if they are asked for."""
    if not parsed.is_series:
        return _run_single(parsed, tell, timed=timed)
    raise_errors(parsed.named(volumes_errors(parsed)))
    if idle_timeout is None:
        done, _ = run_series(parsed, execution, tell)
    else:
        done = follow_series(parsed, execution, idle_timeout, tell)
    if parsed.tomography is None or not done.files or done.problems or done.stopped:
        return done
    volumes = write_volumes(
        done.path,
        volumes_file(parsed),
        options=parsed.tomography.options,
        workers=execution.workers or 1,
        client=execution.client,
        overwrite=execution.overwrite,
        progress=tell,
    )
    files, findings = (*done.files, volumes.path), (*done.findings, *volumes.findings)
    return dataclasses.replace(done, files=files, findings=findings)


def _check_following(parsed: ParsedConfiguration, idle_timeout: float) -> None:
    errors = []
    if not parsed.is_series:
        errors.append(
            "follow is given, but the configuration describes a single projection; expected a series "
            "([series])"
        )
    if isinstance(idle_timeout, bool) or not idle_timeout > 0:
        errors.append(f"idle_timeout is {idle_timeout!r}; expected seconds above 0")
    raise_errors(parsed.named([ErrorRecord("value-invalid", text) for text in errors]))


def _check_execution(parsed: ParsedConfiguration, workers: Any, client: Any, memory: Any) -> float | None:
    """Check the arguments of a run; return the limit of the memory in bytes."""
    errors: list[ErrorRecord] = []
    if workers is not None and (isinstance(workers, bool) or not isinstance(workers, int) or workers < 1):
        text = f"workers is {workers!r}; expected a whole number from 1"
        errors.append(ErrorRecord("value-invalid", text))
    if workers is not None and client is not None:
        text = "workers and a Dask cluster are both given; give only one of them"
        errors.append(ErrorRecord("value-invalid", text))
    limit = None
    with collect_errors(errors):
        limit = None if memory is None else parse_memory(memory)
    raise_errors([*parsed.named(parsed.errors()), *errors] if errors else [])
    return limit


def _run_single(parsed: ParsedConfiguration, tell: Progress, *, timed: bool) -> Run:
    """Retrieve one projection: a series of length one, whose result is written whole."""
    row, result = _retrieve_one(parsed, None, tell, timed=timed)
    written: list[Path] = []
    for path in parsed.files:
        tell("writing", len(written), len(parsed.files))
        try:
            result.save(path, overwrite=parsed.overwrite)
        except (InputError, OutputError) as error:  # something changed meanwhile
            before = f" (written before that: {', '.join(map(str, written))})" if written else ""
            raise OutputError(f"{error}{before}") from error
        written.append(path)
    tell("writing", len(written), len(written))
    files, findings = parsed.files, result.findings
    return Run(path=files[0], files=files, rows=(row,), findings=findings, result=result)


def retrieve_projection(
    parsed: ParsedConfiguration, number: int | None = None, tell: Progress = lambda *_: None
) -> Retrieval:
    """Retrieve one projection and write nothing; of a series the middle one by default.

    The result equals what `xmist retrieve` writes of this projection without a warm start.
    """
    return _retrieve_one(parsed, number, tell, timed=True)[1]


def _retrieve_one(
    parsed: ParsedConfiguration, number: int | None, tell: Progress, *, timed: bool
) -> tuple[Row, Retrieval]:
    discovery = discover(parsed)
    raise_errors(parsed.named(discovery.errors))
    with _read_from(discovery):
        setup = read_setup(discovery, tell)
        processor = make_processor(parsed, setup, alone=True, tell=tell, timed=timed, warm_start=None)
        with processor.open() as reader:
            row, result = processor.solve(_index(setup, number), reader)
    assert result is not None  # an error was raised otherwise
    facts = {"binning": discovery.binning, "configuration": parsed.to_dict()}
    provenance = {**result.provenance, **facts}
    findings = (*setup.findings, *result.findings)
    return row, dataclasses.replace(result, provenance=provenance, findings=findings)


def _index(setup: SeriesSetup, number: int | None) -> int:
    """Return the index of a projection; of the middle one of those with frames if no number is given."""
    numbers: list[int] = setup.table.numbers.tolist()
    if number is None:
        there = setup.complete or setup.chosen
        return there[len(there) // 2]
    if number not in numbers:
        text = f"there is no projection {number}; expected {numbers[0]} to {numbers[-1]}"
        raise InputError(text, code="projection-missing")
    return int(numbers.index(number))


@contextmanager
def _read_from(discovery: Discovery) -> Iterator[None]:
    """Add the names of the files to errors of the frames."""
    try:
        yield
    except InputError as error:
        read = discovery.read_from()
        records = [
            dataclasses.replace(record, message=f"{record.message} (read from {read})")
            for record in error.records
        ]
        raise InputError(discovery.parsed.named(records)) from error


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedProjection:
    """A projection whose frames are prepared for a method."""

    number: int
    stack: SpeckleStack
    experiment: Experiment
    provenance: Mapping[str, Any]


def load_projection(
    parsed: ParsedConfiguration,
    number: int | None = None,
    tell: Progress = lambda *_: None,
    discovery: Discovery | None = None,
) -> LoadedProjection:
    """Read and prepare the frames of one projection; of a series the middle one by default.

    Method, options and files to write of the configuration do not matter.
    """
    if parsed.input.sample_positions is not None:
        raise InputError(
            "sample_positions are given; expected a sample that stays (use xmist retrieve)",
            code="sample-positions-unsupported",
        )
    discovery = discovery or discover(parsed)
    raise_errors(parsed.named(discovery.errors))
    with _read_from(discovery):
        setup = read_setup(discovery, tell)
        index = _index(setup, number)
        processor = ProjectionProcessor(
            setup=setup, method="", options={}, threads=parsed.threads, alone=True, tell=tell
        )
        with processor.open() as reader:
            prepared = processor.prepare(index, reader)
    assert prepared.stack is not None  # an error was raised otherwise
    return LoadedProjection(
        number=int(setup.table.numbers[index]),
        stack=prepared.stack,
        experiment=setup.experiment,
        provenance={**prepared.provenance, "binning": discovery.binning},
    )


def prepare_stack(
    stack: SpeckleStack, experiment: Experiment, steps: Sequence[Mapping[str, Any]]
) -> LoadedProjection:
    """Prepare frames that are not from files, by the tables of steps of a configuration."""
    named = [(table["step"], {name: table[name] for name in table if name != "step"}) for table in steps]
    frames = apply_steps(Frames(stack.reference, stack.sample, stack.weights), named)
    binning = math.prod(int(options.get("size", 2)) for name, options in named if name == "bin")
    return LoadedProjection(
        number=0,
        stack=SpeckleStack(frames.reference, frames.sample, frames.weights) if steps else stack,
        experiment=dataclasses.replace(experiment, pixel_size=experiment.pixel_size * binning),
        provenance={"preprocessing": list(frames.history), "binning": binning},
    )


def raw_frames(
    parsed: ParsedConfiguration, number: int | None = None, digests: Any = None
) -> SpeckleStack | None:
    """Return the frames of a projection before the steps of its preprocessing, None where they are not there.

    `digests` are those of the frames that are meant, in the provenance of a result.
    """
    bare = dataclasses.replace(parsed, preprocess=(), problems=(), method=None, options={}, files=())
    try:
        loaded = load_projection(bare, number)
    except (XmistError, OSError):
        return None
    known = loaded.provenance["input"]
    hashes = [
        [[frame["sha256"] for frame in frames[role]] for frames in (known, digests)]
        for role in known
        if digests and role in digests
    ]
    return loaded.stack if all(now == then for now, then in hashes) else None


def finished_results(parsed: ParsedConfiguration) -> Path:
    """Return the file of finished results of a configuration; an error if there are none."""
    raise_errors(parsed.named(parsed.errors()))
    if parsed.is_series:
        path = series_file(parsed)
        if is_complete(path):
            return path
    else:
        found = [path for path in parsed.files if path.suffix.lower() in NEXUS_ENDINGS and path.is_file()]
        if found:
            return found[0]
        path = parsed.files[0]
    text = f"has no finished results ({path}); run: xmist retrieve {parsed.source}"
    raise InputError(f"{parsed.source} {text}", code="results-missing")
