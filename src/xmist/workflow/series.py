"""Run a series of projections: what is finished, what remains, and the file of the series."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from xmist.core.errors import ErrorRecord, InputError, OutputError, raise_errors
from xmist.core.findings import Finding, finding, warnings_of
from xmist.core.log import RunLog
from xmist.core.progress import Progress
from xmist.core.version import __version__
from xmist.io.frames.series import HDF5_ENDINGS
from xmist.io.frames.sources import listed
from xmist.io.results.atomic import make_folder
from xmist.io.results.stacks import GOOD, MISSING, STATUS, UNREADABLE, Stack, is_stack, open_stack
from xmist.methods import make_options
from xmist.numerics.parallel import count_threads
from xmist.workflow import guard
from xmist.workflow.configuration import ParsedConfiguration
from xmist.workflow.discovery import Discovery, discover
from xmist.workflow.driver import Job, Report
from xmist.workflow.estimates import about, fit_workers, leading_memory, process_memory
from xmist.workflow.executors import Cluster, Executor, Inline, Processes, connect
from xmist.workflow.journal import (
    Audit,
    Identity,
    Journal,
    Verified,
    audit,
    differences,
    identify,
    locked,
    read_journal,
)
from xmist.workflow.outputs import ROLES, blocks_folder, quality_plots, series_file
from xmist.workflow.processor import ProjectionProcessor
from xmist.workflow.quality import Row, Run, plot_table, to_columns
from xmist.workflow.rotation import angle_files
from xmist.workflow.series_file import SeriesMetadata, join_pieces, write_series_file
from xmist.workflow.setup import SeriesSetup, read_setup
from xmist.workflow.storage import Block, BlockSchema, Kept, clear, find_kept, split

# Number of projections, over the whole series, that are tried before an error.
_TRIED: Final = (0.0, 0.5, 1.0, 0.25, 0.75, 0.125, 0.375, 0.625)
# Bytes of a block if no size is given; a kill loses at most one block.
_BLOCK: Final = 64 * 2**20
_MOST_IN_BLOCK: Final = 64
# A cluster that grows as it goes is taken for this large when the blocks are cut.
_CLUSTER: Final = 16
# Number of blocks in a row that may fail to be written before the series stops.
_MOST_UNWRITTEN: Final = 3
# Projections that a series is taken to have whose number is not known when it is followed.
_FOLLOWED: Final = 1000


@dataclass(frozen=True, kw_only=True)
class Execution:
    """How a configuration is run; it does not change results. `workers` None: in this process.

    `overwrite` replaces files that exist, `anew` also the results of the same series; `following`: more
    frames are being recorded. `log`: beside the file of the series where it has no file yet.
    """

    workers: int | None = None
    client: Any = None
    memory: float | None = None
    overwrite: bool = False
    anew: bool = False
    strict: bool = False
    following: bool = False
    log: RunLog = field(default_factory=RunLog)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """Result of a trial projection, its time in s, and the peak memory of the process in bytes."""

    channels: tuple[str, ...]
    options: Mapping[str, Any]
    seconds: float
    memory: int | None


@dataclass(frozen=True, kw_only=True)
class Before:
    """Results of earlier runs, by number; `growing`: files still change, and are compared later."""

    rows: Mapping[int, Row] = field(default_factory=dict)
    verified: Mapping[int, Verified] = field(default_factory=dict)
    growing: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Beginning:
    """State before the first block; without a setup if the discovery has errors."""

    discovery: Discovery
    setup: SeriesSetup | None = None
    identity: Identity | None = None
    audit: Audit = field(default_factory=Audit)
    trial: Trial | None = None

    def schema(self, key: str, channels: tuple[str, ...]) -> BlockSchema:
        """Return the schema of the blocks."""
        assert self.setup is not None
        return BlockSchema(identity=key, channels=channels, shape=self.setup.shape)


def reads_hdf5(parsed: ParsedConfiguration) -> bool:
    """Return whether HDF5 may be read, whose library a damaged file can crash."""
    specs = [spec for role in ROLES for spec in getattr(parsed.input, role) or ()]
    specs += angle_files(parsed.series_section.angles)
    names = [spec.partition("::")[0].lower() for spec in specs]
    return any(name.endswith((*HDF5_ENDINGS, "*", "?", "]")) for name in names)


def begin(
    parsed: ParsedConfiguration, *, trial: int, child: bool = False, before: Before | None = None
) -> Beginning:
    """Discover a series, read its references and try a projection `trial` times; HDF5 in a child process."""
    before = before or Before()
    if child or reads_hdf5(parsed):
        begun: Beginning = guard.call(_begin, parsed, trial, before, what="opening the frames")
        return begun
    return _begin(parsed, trial, before)


def _begin(parsed: ParsedConfiguration, trial: int, before: Before) -> Beginning:
    discovery = discover(parsed, before.rows, growing=before.growing)
    if discovery.errors:
        return Beginning(discovery=discovery)
    try:
        setup = read_setup(discovery, lambda *_: None)
        processor = make_processor(parsed, setup)
        found = try_projection(processor, trial) if trial and (setup.complete or not before.rows) else None
        seen = audit(setup.table, before.rows, before.verified, load=not before.growing)
    except InputError as error:
        raise InputError(parsed.named(error.records)) from error
    identity = identify(parsed, setup)
    return Beginning(discovery=discovery, setup=setup, identity=identity, audit=seen, trial=found)


def make_processor(parsed: ParsedConfiguration, setup: SeriesSetup, **more: Any) -> ProjectionProcessor:
    """Return the processor of a configuration."""
    config, section = parsed.finish(), parsed.series_section
    given = {"threads": config.threads, "warm_start": section.warm_start, **more}
    return ProjectionProcessor(
        setup=setup,
        method=config.method,
        options=config.options,
        channels=section.channels or (),
        **given,
    )


def try_projection(processor: ProjectionProcessor, times: int) -> Trial:
    """Retrieve the first projection that works, of a few over the whole series."""
    processor = replace(processor, warm_start=None)
    there = processor.setup.complete or processor.setup.chosen
    notes: dict[str, int] = {}
    numbers = dict.fromkeys(there[int(part * (len(there) - 1))] for part in _TRIED)
    with processor.open() as reader:
        for index in numbers:
            start = time.perf_counter()
            row, result = processor.solve(index, reader)
            if result is None:
                notes.setdefault(row.note, row.projection)
                continue
            for _ in range(times - 1):
                start = time.perf_counter()
                processor.solve(index, reader)
            names = tuple(processor.chosen(result))
            absent = [name for name in processor.channels if name not in names]
            if absent:
                raise InputError(
                    f"series.channels holds {', '.join(absent)}, which {processor.method} does not give with "
                    f"these options; it gives {', '.join(name for name, _ in result.channels())}",
                    code="channel-missing",
                )
            return Trial(
                channels=names,
                options=dict(result.options),
                seconds=time.perf_counter() - start,
                memory=guard.peak_memory(),
            )
    texts = [f"projection {number}: {note}" for note, number in notes.items()]
    text = f"none of {len(numbers)} projections that were tried can be retrieved"
    raise InputError([text, *texts] if len(texts) > 1 else f"{text}: {texts[0]}", code="projection-failed")


def block_size(
    schema: BlockSchema, wished: int | None, count: int, workers: int = 1, warm_start: int | None = None
) -> int:
    """Return the projections of a block; a multiple of the warm start, so that it is not made twice."""
    size = wished or max(1, min(_MOST_IN_BLOCK, _BLOCK // schema.bytes_each, count // (4 * workers)))
    if wished is None and warm_start is not None:
        size = max(1, round(size / warm_start)) * warm_start
    return min(size, count)


def run_series(
    parsed: ParsedConfiguration, execution: Execution, tell: Progress
) -> tuple[Run, tuple[Path, ...]]:
    """Retrieve all projections of a series, or those that remain; return also the files that were read.

    Raises an `InputError` with everything that is wrong before anything is written, and an `OutputError` when
    blocks cannot be written; finished blocks stay, and the series continues when it is run again.
    """
    raise_errors(parsed.named(parsed.errors()))
    master = series_file(parsed)
    folder = blocks_folder(master)
    tell("opening the frames", 0, 1)
    journal = None
    with suppress(*([InputError] if execution.overwrite else [])):
        journal = None if execution.anew else read_journal(folder)
    limited = execution.memory is not None  # the memory of a child process is that of a worker
    kept: dict[int, Kept] = {}
    if journal is not None:
        kept = {n: each for n, each in find_kept(folder, journal.schema).items() if each.row.has_result}
        rows = {n: each.row for n, each in kept.items()}
        before = Before(rows=rows, verified=journal.verified, growing=execution.following)
        begun = begin(parsed, trial=int(limited), child=limited, before=before)
        raise_errors(parsed.named(begun.discovery.errors))
        different = _differences(journal, begun, kept)
        if different and not execution.overwrite:
            raise InputError(parsed.named([_refusal(folder, different)]))
        if different:
            journal, kept = None, {}
    if journal is None:
        begun = begin(parsed, trial=1, child=limited, before=Before(growing=execution.following))
        raise_errors(parsed.named(begun.discovery.errors))
        if not execution.overwrite and master.exists():
            what = "the file of a series whose blocks are gone" if is_stack(master) else "another file"
            text = (
                f"{master} exists already and is {what}; allow overwriting (--overwrite) or give another name"
            )
            raise InputError(parsed.named([ErrorRecord("output-exists", text)]))
    setup, identity = begun.setup, begun.identity
    assert setup is not None
    assert identity is not None
    if journal is None:
        assert begun.trial is not None
        schema = begun.schema(identity.hash, begun.trial.channels)
        section, count = parsed.series_section, len(setup.chosen)
        if execution.following:
            count = max(count, section.expected or _FOLLOWED)
        workers = execution.workers or (1 if execution.client is None else _CLUSTER)
        block = block_size(schema, section.block, count, workers, section.warm_start)
        fresh = Journal(identity=identity, block=block, channels=schema.channels, shape=schema.shape)
    else:
        fresh = replace(journal, run=journal.run + 1, verified=begun.audit.verified)
    executor = _executor(parsed, execution, begun, fresh.schema)
    make_folder(folder)
    with locked(folder):
        clear(folder, keep=() if journal is None else None)
        fresh.save(folder)
        try:
            job = Job(
                processor=make_processor(
                    parsed,
                    setup,
                    threads=_threads(parsed.threads, executor),
                    following=execution.following,
                ),
                schema=fresh.schema,
                folder=folder.absolute(),
                strict=execution.strict,
            )
            return _Progress(
                parsed, job, fresh, begun.audit, kept, executor, master, tell, execution.log
            ).finish()
        finally:
            with suppress(OutputError):  # what workers had begun that died or were stopped
                clear(folder)


def _differences(journal: Journal, begun: Beginning, kept: Mapping[int, Kept]) -> list[str]:
    """Return why the results of earlier runs do not fit those of this one."""
    assert begun.setup is not None
    assert begun.identity is not None
    names = {role: [each["name"] for each in frames] for role, frames in begun.setup.digests.items()}
    changed = {n: text for n, text in begun.audit.changed.items() if not kept[n].row.provisional}
    texts = [f"projection {n}: {text}" for n, text in changed.items()]
    found = differences(journal.identity, begun.identity, names)
    return found + ([f"other frames than were retrieved: {listed(texts, 3)}"] if texts else [])


def _refusal(folder: Path, different: Sequence[str]) -> ErrorRecord:
    text = (
        f"the series in {folder} was begun with other input or settings: {'; '.join(different)}. Restore "
        "them to continue, write to another name (output.files), or begin anew with --overwrite"
    )
    return ErrorRecord("series-changed", text)


def _executor(
    parsed: ParsedConfiguration, execution: Execution, begun: Beginning, schema: BlockSchema
) -> Executor:
    """Choose the executor of the blocks."""
    if execution.client is not None:
        client = execution.client
        return Cluster(connect(client) if isinstance(client, str) else client)
    workers = execution.workers or 1
    trial, setup = begun.trial, begun.setup
    if execution.memory is not None and trial is not None and trial.memory is not None and setup is not None:
        each = process_memory(trial.memory, setup, schema, warm=parsed.series_section.warm_start is not None)
        workers = fit_workers(execution.memory, workers, each, leading_memory(execution.workers))
    return Processes(workers) if execution.workers else Inline()


def _threads(threads: int | None, executor: Executor) -> int | None:
    """Return the threads of a worker, so that all together use the cores once."""
    if threads is not None or isinstance(executor, Inline):
        return threads
    return 1 if isinstance(executor, Cluster) else max(1, count_threads() // executor.workers)


class _Progress:
    """A run of a series, from the existing results to all results."""

    def __init__(
        self,
        parsed: ParsedConfiguration,
        job: Job,
        journal: Journal,
        audit: Audit,
        kept: Mapping[int, Kept],
        executor: Executor,
        master: Path,
        tell: Progress,
        log: RunLog,
    ) -> None:
        self.job, self.executor, self.master, self.tell = job, executor, master, tell
        self.plots = quality_plots(parsed)
        self.folder, self.schema = blocks_folder(master), job.schema
        setup, method = job.processor.setup, job.processor.method
        table = setup.table
        numbers = table.numbers.tolist()
        chosen = [numbers[index] for index in setup.chosen]
        there = [numbers[index] for index in setup.complete]
        self.kept = {n: each for n, each in kept.items() if n not in audit.changed}
        self.removed = audit.removed
        left = _with_started([n for n in there if n not in self.kept], there, self.kept, job.processor)
        self.lacking = {
            n: f"{table.name}: {table.missing[table.numbering.index(n)]}"
            for n in chosen
            if n not in self.kept and n not in there
        }
        self.stops = job.strict and not job.processor.following
        if self.stops and self.lacking:  # nothing after the first that is flagged
            left = [n for n in left if n < min(self.lacking)]
        self.left = split(left, journal.block, table.numbering, journal.run)
        self.kept = {n: each for n, each in self.kept.items() if n not in left}
        self.numbers = sorted({*chosen, *self.kept})
        self.findings = (*setup.findings, *_removed_findings(audit.removed))
        self.angles = None
        if setup.angles is not None:
            self.angles = setup.angles[[table.numbering.index(n) for n in self.numbers]]
        self.metadata = SeriesMetadata(
            method=method,
            options=dict(vars(make_options(method, job.processor.options))),
            experiment=setup.experiment,
            configuration=json.loads(json.dumps(parsed.to_dict())),
            projections=np.array(self.numbers),
            positions=setup.table.positions,
            angles=self.angles,
            tilt=parsed.series_section.tilt,
        )
        self.log = log
        log.begin(master.with_suffix(".log"))
        self.start = time.perf_counter()

    def finish(self) -> tuple[Run, tuple[Path, ...]]:
        """Retrieve the remaining projections, and write the file of the series; see `run_series`."""
        before, total = len(self.kept), len(self.numbers)
        if self.left or not is_stack(self.master):
            self._write_file(self.left)
        self.log.write(
            f"xmist {__version__}: {total} projections, {sum(map(len, self.left))} to do in {len(self.left)} "
            f"blocks, {before} done before, {self.executor.workers} at a time"
        )
        self.log.findings(self.findings)
        reports: list[Report] = []
        stopped, problems = "", []
        in_a_row = 0
        with closing(self.executor.run(self.job, self.left)) as coming:
            for report in coming:
                if self.job.strict and report.rows and not report.written:
                    stopped = _attention(report.rows[-1])
                    self.log.write(f"stopped at {stopped}")
                    break
                if report.problem:
                    problems.append(report.problem)
                    in_a_row += 1
                    self.log.write(f"{report.block.name} was not written: {report.problem}")
                    if in_a_row >= min(_MOST_UNWRITTEN, len(self.left)):
                        raise OutputError(
                            f"{report.problem}. {len(self.kept)} of {total} projections are done and kept in "
                            f"{self.folder}; remove the cause and run the same command to continue"
                        )
                    continue
                in_a_row = 0
                reports.append(report)
                for place, row in enumerate(report.rows):
                    self.kept[row.projection] = Kept(report.block, place, row)
                self._progress(report, len(self.kept), before, total)
        rows = self._rows()
        if self.stops and self.lacking and not stopped:
            stopped = _attention(next(row for row in rows if row.projection in self.lacking))
        plots: tuple[Path, ...] = ()
        if (self.left and not stopped) or not _shows(self.master, rows):
            self._write_file(rows=rows, run=self._run_facts(reports, before))
            clear(self.folder, keep=[each.block for each in self.kept.values()])
            for path in self.plots:
                plot_table(to_columns(rows), path, title=self.master.name, overwrite=True)
            plots = self.plots
        findings = (*self.findings, *_row_findings(rows, {record.code for record in self.findings}))
        self.log.write(f"ended; {sum(row.status != GOOD for row in rows)} projections need attention")
        done = Run(
            path=self.master,
            files=(self.master, *plots),
            rows=tuple(rows),
            findings=findings,
            done_before=before,
            problems=tuple(problems),
            stopped=stopped,
        )
        return done, self.job.processor.setup.table.files

    def _rows(self) -> list[Row]:
        """Return the present row of each projection."""
        rows = []
        for index, number in enumerate(self.numbers):
            row = Row(projection=number, status=MISSING, note="its block was not written")
            if number in self.kept:
                row = self.kept[number].row
                if number in self.removed:
                    text = f"its frames have been removed: {self.removed[number]}"
                    row = row.with_finding(finding("frames-removed", text))
            elif number in self.lacking:
                record = finding("projection-failed", self.lacking[number])
                row = Row(projection=number, status=UNREADABLE).with_finding(record)
            angle = float("nan") if self.angles is None else float(self.angles[index])
            rows.append(replace(row, angle=angle))
        return rows

    def _write_file(self, planned: Sequence[Block] = (), **more: Any) -> None:
        places = {n: (each.block, each.place) for n, each in self.kept.items()}
        places |= {n: (block, place) for block in planned for place, n in enumerate(block.numbers)}
        pieces = join_pieces(self.numbers, places)
        write_series_file(self.master, self.folder, pieces, self.schema, self.metadata, **more)

    def _progress(self, report: Report, done: int, before: int, total: int) -> None:
        self.tell("projections", done, total)
        spent = time.perf_counter() - self.start
        rate = (done - before) / max(spent, 1e-9)
        bad = "".join(f"; {_attention(row)}" for row in report.rows if row.status != GOOD)
        for row in report.rows:
            if row.status == GOOD and row.warnings:
                codes = ", ".join(each.code for each in warnings_of(row.findings))
                bad += f"; projection {row.projection} has warnings: {codes}"
        self.log.write(
            f"{report.block.name}: {len(report.rows)} projections, {report.solving:.2f} s to retrieve and "
            f"{report.writing:.2f} s to write; {done} of {total}, {rate:.3g} a second, "
            f"{about((total - done) / rate) if done < total else 'nothing'} left{bad}"
        )

    def _run_facts(self, reports: Sequence[Report], before: int) -> dict[str, Any]:
        spent = time.perf_counter() - self.start
        number = sum(len(report.rows) for report in reports)
        return {
            "end_time": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": spent,
            "projections": number,
            "projections_before": before,
            "rate": number / max(spent, 1e-9),
            "seconds_retrieving": sum(report.solving for report in reports),
            "seconds_writing": sum(report.writing for report in reports),
            "workers": self.executor.workers,
            "log": "" if self.log.path is None else self.log.path.name,
            "blocks": self.folder.name,
            "identity": self.schema.identity,
        }


def _attention(row: Row) -> str:
    return f"projection {row.projection}: {STATUS[row.status]}{row.note and f' ({row.note})'}"


def _with_started(
    left: Sequence[int], there: Sequence[int], kept: Mapping[int, Kept], processor: ProjectionProcessor
) -> list[int]:
    """Add projections whose result began from another result than it would now."""
    if processor.warm_start is None:
        return list(left)
    numbers = processor.setup.table.numbers.tolist()
    wanted = set(left)
    for number in there:
        start = numbers[processor.start_of(processor.index(number))]
        row = kept[number].row if number in kept else None
        if row is None or start == number:
            continue
        if start in wanted or (start in kept and row.start != kept[start].row.digest):
            wanted.add(number)
    return sorted(wanted)


def _row_findings(rows: Sequence[Row], known: Collection[str]) -> list[Finding]:
    """Return each warning about finished projections once, with those that have it."""
    found: dict[str, list[tuple[int, Finding]]] = {}
    for row in rows:
        for record in warnings_of(row.findings) if row.has_result else ():
            if record.code not in known:
                found.setdefault(record.code, []).append((row.projection, record))
    return [
        finding(
            code,
            f"{len(each)} of {len(rows)} projections ({listed([number for number, _ in each], 3)}): "
            f"{each[0][1].message}",
        )
        for code, each in found.items()
    ]


def _removed_findings(removed: Mapping[int, str]) -> list[Finding]:
    if not removed:
        return []
    numbers = sorted(removed)
    text = (
        f"{len(numbers)} results are kept although their frames are no longer there: {listed(numbers)} "
        f"({removed[numbers[0]]})"
    )
    return [finding("frames-removed", text)]


def _shows(master: Path, rows: Sequence[Row]) -> bool:
    """Return whether a file holds the table of a series that has ended, with these rows."""
    stack = _opened(master)
    return (
        stack is not None
        and stack.notes == tuple(row.note for row in rows)
        and all(
            np.array_equal(stack.table[name], column, equal_nan=column.dtype.kind == "f")
            for name, column in to_columns(rows).items()
        )
    )


def is_complete(master: Path) -> bool:
    """Return whether a file holds the table of a series that has ended."""
    stack = _opened(master)
    return stack is not None and bool(stack.notes) and bool((stack.table["status"] != MISSING).all())


def _opened(master: Path) -> Stack | None:
    """Open the file of a series; None if it is another file, or cannot be read."""
    with suppress(InputError):
        return open_stack(master) if is_stack(master) else None
    return None
