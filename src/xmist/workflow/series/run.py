"""A scan from its file to its master: what is done already, what is left, and who does it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from xmist.core.errors import InputError, OutputError, raise_errors
from xmist.core.progress import Progress
from xmist.core.version import __version__
from xmist.io.results.atomic import make_folder
from xmist.io.results.stacks import GOOD, MISSING, STATUS, is_stack, open_stack
from xmist.numerics.parallel import count_threads
from xmist.workflow.configuration import Draft
from xmist.workflow.projection.estimate import about
from xmist.workflow.series.blocks import Block, Form, clear, find_done, split
from xmist.workflow.series.executors import Cluster, Executor, Inline, Processes, connect
from xmist.workflow.series.journal import Journal, differences, locked, read_journal
from xmist.workflow.series.master import Facts, write_master
from xmist.workflow.series.memory import fit_workers, leading_memory, process_memory
from xmist.workflow.series.request import (
    Choices,
    Outcome,
    blocks_folder,
    check_choices,
    outputs,
    read_or_none,
    refusal,
    standing_faults,
)
from xmist.workflow.series.table import Row, plot_table, to_columns
from xmist.workflow.series.trial import Beginning, begin, block_size
from xmist.workflow.series.work import Job
from xmist.workflow.series.workshop import Workshop
from xmist.workflow.series.writing import Report

# A cluster that grows as it goes is taken for this large when the blocks are cut.
_CLUSTER: Final = 16
# So many blocks in a row may fail to be written before the scan stops.
_MOST_UNWRITTEN: Final = 3


def run_scan(draft: Draft, choices: Choices, *, progress: Progress | None = None) -> Outcome:
    """Retrieve all projections of a scan, or those that are left.

    Parameters
    ----------
    draft : Draft
        What the scan file states.
    choices : Choices
        How to run it.
    progress : callable, optional
        Called with what is done, and how much of how much of it.

    Returns
    -------
    Outcome
        What was done.

    Raises
    ------
    InputError
        Lists everything that is wrong; nothing was written then.
    OutputError
        When blocks cannot be written; those that were stand, and the scan goes on when it is run again.
    """
    tell = progress or (lambda *_: None)
    choices = replace(choices, overwrite=choices.overwrite or draft.overwrite)
    limit = check_choices(draft, choices)
    master, plots = outputs(draft)
    folder = blocks_folder(master)
    tell("opening the frames", 0, 1)
    journal = read_journal(folder) if not choices.overwrite else read_or_none(folder)
    child = True if limit is not None else None  # its memory tells what a worker will hold
    begun = begin(draft, full=choices.full_hash, trial=int(journal is None or limit is not None), child=child)
    if journal is not None and (different := differences(journal.identity, begun.identity)):
        if not choices.overwrite:
            raise InputError(draft.named([refusal(folder, different)]))
        journal = None
        begun = begin(draft, full=choices.full_hash, trial=1, child=child)
    if journal is None:
        raise_errors(draft.named(standing_faults(master, choices)))
        assert begun.trial is not None
        form = begun.trial.form(begun.inputs, begun.identity.hash)
        section = draft.finish().scan
        assert section is not None
        fresh = Journal(
            identity=begun.identity,
            block=block_size(
                form,
                section.block,
                begun.inputs.layout.count,
                choices.workers or (1 if choices.client is None else _CLUSTER),
                section.warm_start,
            ),
            count=begun.inputs.layout.count,
            channels=form.channels,
            key=form.identity,
        )
    else:
        fresh = replace(journal, identity=begun.identity)
        form = Form(identity=journal.key, channels=journal.channels, shape=begun.inputs.shape)
    executor = _executor(choices, limit, begun, form)
    make_folder(folder)
    with locked(folder):
        clear(folder, everything=journal is None)
        fresh.save(folder)
        try:
            return _Run(draft, choices, begun, form, fresh, executor, master, plots, tell).finish()
        finally:
            with suppress(OutputError):  # what workers had begun that died or were stopped
                clear(folder)


def _executor(choices: Choices, limit: float | None, begun: Beginning, form: Form) -> Executor:
    """Choose who does the blocks."""
    if choices.client is not None:
        client = connect(choices.client) if isinstance(choices.client, str) else choices.client
        return Cluster(client)
    workers = choices.workers or 1
    trial = begun.trial
    if limit is not None and trial is not None and trial.memory is not None:
        warm = "warm_start" in begun.identity.scan["scan"]
        each = process_memory(trial.memory, begun.inputs, form, warm=warm)
        workers = fit_workers(limit, workers, each, leading_memory(choices.workers))
    return Processes(workers) if choices.workers else Inline()


class _Run:
    """The blocks of a scan, from those that are there to all."""

    def __init__(
        self,
        draft: Draft,
        choices: Choices,
        begun: Beginning,
        form: Form,
        journal: Journal,
        executor: Executor,
        master: Path,
        plots: tuple[Path, ...],
        tell: Progress,
    ) -> None:
        scan = draft.finish()
        self.master, self.plots, self.tell, self.strict = master, plots, tell, choices.strict
        self.folder = blocks_folder(master)
        self.form, self.executor = form, executor
        self.blocks = split(journal.count, journal.block)
        inputs = begun.inputs
        from xmist.methods import make_options

        options = vars(make_options(scan.method, scan.options))
        self.facts = Facts(
            method=scan.method,
            options=dict(options),
            experiment=inputs.experiment,
            scan=begun.identity.scan,
            projections=np.arange(inputs.first, inputs.first + inputs.layout.count),
            angles=inputs.angles,
        )
        self.job = Job(
            workshop=Workshop(
                inputs=inputs,
                method=scan.method,
                options=scan.options,
                threads=_threads(scan.threads, executor),
                channels=form.channels,
                warm_start=None if scan.scan is None else scan.scan.warm_start,
            ),
            form=form,
            folder=self.folder.absolute(),
            strict=choices.strict,
        )
        self.log = _Log(master.with_suffix(".log"))
        self.begin = time.perf_counter()

    def finish(self) -> Outcome:
        """Do what is left, and write the master."""
        done = find_done(self.folder, self.blocks, self.form)
        before = sum(map(len, done))
        left = [block for block in self.blocks if block not in done]
        if left or not _is_complete(self.master):
            write_master(self.master, self.folder, self.blocks, self.form, self.facts)
        total = self.blocks[-1].stop
        self.log.write(
            f"xmist {__version__}: {total} projections in {len(self.blocks)} blocks, {before} done before, "
            f"{self.executor.workers} at a time"
        )
        for remark in self.job.workshop.inputs.remarks:
            self.log.write(remark)
        reports: list[Report] = []
        stopped, problems = "", []
        in_a_row = 0
        for report in self._done(left):
            if self.strict and report.rows and not report.written:
                row = report.rows[-1]
                stopped = f"projection {row.projection}: {STATUS[row.status]}{row.note and f' ({row.note})'}"
                self.log.write(f"stopped at {stopped}")
                break
            if report.problem:
                problems.append(report.problem)
                in_a_row += 1
                self.log.write(f"{report.block.name} was not written: {report.problem}")
                if in_a_row >= min(_MOST_UNWRITTEN, len(left)):
                    raise OutputError(
                        f"{report.problem}. {sum(map(len, done))} of {total} projections are done and stand "
                        f"in {self.folder}; mend the cause and run the same command to go on"
                    )
                continue
            in_a_row = 0
            reports.append(report)
            done[report.block] = list(report.rows)
            self._progress(report, sum(map(len, done)), before, total)
        rows = [row for block in self.blocks for row in done.get(block) or self._absent(block)]
        plots: tuple[Path, ...] = ()
        if (left and not stopped) or not _is_complete(self.master):
            run = self._run_facts(reports, before)
            write_master(self.master, self.folder, self.blocks, self.form, self.facts, rows=rows, run=run)
            for path in self.plots:
                plot_table(to_columns(rows), path, title=self.master.name, overwrite=True)
            plots = self.plots
        self.log.write(f"ended; {sum(row.status != GOOD for row in rows)} projections to look at")
        return Outcome(
            path=self.master,
            rows=tuple(rows),
            done_before=before,
            plots=plots,
            problems=tuple(problems),
            stopped=stopped,
        )

    def _done(self, left: Sequence[Block]) -> Iterator[Report]:
        """Give a report for every block; whoever does them is stopped when nobody asks for more."""
        reports = self.executor.run(self.job, left)
        try:
            yield from reports
        finally:
            close = getattr(reports, "close", None)
            if close is not None:
                close()

    def _absent(self, block: Block) -> list[Row]:
        first = int(self.facts.projections[0])
        angles = self.facts.angles
        return [
            Row(
                projection=first + index,
                status=MISSING,
                angle=float("nan") if angles is None else float(angles[index]),
                note="its block was not written",
            )
            for index in range(block.start, block.stop)
        ]

    def _progress(self, report: Report, done: int, before: int, total: int) -> None:
        self.tell("projections", done, total)
        spent = time.perf_counter() - self.begin
        rate = (done - before) / max(spent, 1e-9)
        bad = [row for row in report.rows if row.status != GOOD]
        told = "".join(f"; projection {row.projection}: {STATUS[row.status]} ({row.note})" for row in bad)
        self.log.write(
            f"{report.block.name}: {len(report.rows)} projections, {report.solving:.2f} s to retrieve and "
            f"{report.writing:.2f} s to write; {done} of {total}, {rate:.3g} a second, "
            f"{about((total - done) / rate) if done < total else 'nothing'} left{told}"
        )

    def _run_facts(self, reports: Sequence[Report], before: int) -> dict[str, Any]:
        spent = time.perf_counter() - self.begin
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
            "log": self.log.path.name,
            "blocks": self.folder.name,
            "identity": self.form.identity,
        }


class _Log:
    """A text file of what happened when; a disk that does not take it does not end the scan."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, text: str) -> None:
        stamp = datetime.now().astimezone().isoformat(timespec="seconds")
        with suppress(OSError), self.path.open("a", encoding="utf-8") as file:
            file.write(f"{stamp} {text}\n")


def _threads(threads: int | None, executor: Executor) -> int | None:
    """Give the threads of a worker, so that all together use the cores once."""
    if threads is not None or isinstance(executor, Inline):
        return threads
    if isinstance(executor, Cluster):
        return 1
    return max(1, count_threads() // executor.workers)


def _is_complete(master: Path) -> bool:
    """Say whether a master holds the table of a scan that has ended."""
    if not is_stack(master):
        return False
    try:
        stack = open_stack(master)
    except InputError:
        return False
    return bool(stack.notes) and bool((stack.table["status"] != MISSING).all())
