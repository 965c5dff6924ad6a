"""Frames arrive, are replaced or removed, and runs are killed: each result is that of its own frames."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

import xmist
from tests.workflow.series_scenes import sections, write_toml
from xmist.core.errors import InputError
from xmist.io.results.stacks import GOOD, UNREADABLE
from xmist.workflow import driver, storage

SHAPE = (32, 32)
PROJECTIONS, POSITIONS = 4, 2
VERSIONS = 2  # of what a frame may hold
CHANGES = {
    "input": {"reference": "ref_*.tif", "sample": "s_{projection}_{position}.tif"},
    "series": {"block": 2, "angles": [0.0, 45.0, 90.0, 135.0]},
}


def _frame(projection, position, version):
    rng = np.random.default_rng([7, position])
    reference = 1000 * (1 + 0.3 * rng.random(SHAPE))
    if projection is None:
        return reference.astype(np.float32)
    wave = np.sin(np.arange(SHAPE[1]) * (0.2 + 0.05 * projection + 0.4 * version))
    return (reference * (1 - 0.1 * wave)).astype(np.float32)


class Stopped(BaseException):
    """The process was killed, as far as what it left behind is concerned."""


class Arrivals(RuleBasedStateMachine):
    """A folder of frames, and runs of the series in between."""

    folder: Path
    clean: dict

    @initialize(late=st.sets(st.integers(0, PROJECTIONS - 1), max_size=PROJECTIONS))
    def begin(self, late):
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        for position in range(POSITIONS):
            tifffile.imwrite(self.folder / f"ref_{position}.tif", _frame(None, position, 0))
        self.there = {}  # version by (projection, position); −1: truncated
        self.ticks = 0
        self.done = {}  # versions of all positions that went into a finished result
        for projection in range(PROJECTIONS):
            if projection not in late:
                self.copy(projection, 0)
        self.config = write_toml(self.folder, sections(**CHANGES))

    def put(self, projection, position, version):
        path = self.folder / f"s_{projection:03d}_{position}.tif"
        tifffile.imwrite(path, _frame(projection, position, max(version, 0)))
        if version < 0:
            path.write_bytes(path.read_bytes()[:1500])
        self.ticks += 1  # files that are copied one after the other have other times
        os.utime(path, ns=(10**18 + self.ticks * 10**9,) * 2)
        self.there[projection, position] = version

    @rule(projection=st.integers(0, PROJECTIONS - 1), version=st.integers(0, VERSIONS - 1))
    def copy(self, projection, version):
        for position in range(POSITIONS):
            self.put(projection, position, version)

    @rule(projection=st.integers(0, PROJECTIONS - 1), position=st.integers(0, POSITIONS - 1))
    def truncate(self, projection, position):
        self.put(projection, position, -1)

    @rule(projection=st.integers(0, PROJECTIONS - 1), position=st.integers(0, POSITIONS - 1))
    def remove(self, projection, position):
        (self.folder / f"s_{projection:03d}_{position}.tif").unlink(missing_ok=True)
        self.there.pop((projection, position), None)

    @rule(projection=st.integers(0, PROJECTIONS - 1))
    def touch(self, projection):
        for position in range(POSITIONS):
            if (projection, position) in self.there:
                self.put(projection, position, self.there[projection, position])

    def versions(self, projection):
        """Return the versions of the frames of a projection, None if it is not complete."""
        found = tuple(self.there.get((projection, position), -1) for position in range(POSITIONS))
        return None if min(found) < 0 else found

    @rule(overwrite=st.booleans())
    def run(self, overwrite):
        self.attempt(overwrite=overwrite)

    @precondition(lambda self: any(map(self.versions, range(PROJECTIONS))))
    @rule(at=st.integers(0, 3), writing=st.booleans())
    def kill(self, at, writing):
        """Stop a run at one of its projections, or when it has written some blocks."""
        target, name = (storage, "write_file") if writing else (driver, "_kept")
        real, count = getattr(target, name), [0]

        def stop(*arguments, **options):
            count[0] += 1
            if count[0] > at:
                raise Stopped
            return real(*arguments, **options)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(target, name, stop)
            try:
                self.attempt()
            except Stopped:
                self.read_done()

    def attempt(self, *, overwrite=False):
        """Run the series and compare it with what must come out."""
        here = {number: found for number in range(PROJECTIONS) if (found := self.versions(number))}
        changed = {n for n, found in self.done.items() if n in here and here[n] != found}
        if (changed and not overwrite) or not (here or (self.done and not overwrite)):
            with pytest.raises(InputError) as caught:
                xmist.run(self.config, overwrite=overwrite)
            if changed:
                assert caught.value.codes == ("series-changed",)
                told = str(caught.value)
                assert any(f"projection {number}: s_{number:03d}_" in told for number in changed)
            return
        done = xmist.run(self.config, overwrite=overwrite)
        self.done = {} if overwrite else self.done
        table = {row.projection: row for row in done.rows}
        assert sorted(table) == list(range(PROJECTIONS))
        for number, row in table.items():
            codes = [record.code for record in row.findings]
            assert row.angle == 45.0 * number
            expected = here.get(number) or self.done.get(number)
            if expected is None:
                assert row.status == UNREADABLE
                continue
            assert row.status == GOOD
            assert ("frames-removed" in codes) == (number not in here)
            self.done[number] = expected
            self.compare(number, expected)

    def compare(self, number, versions):
        found = xmist.open_result(self.folder / "scan.h5", projection=number)
        if (number, versions) not in self.clean:
            experiment = found.experiment
            reference = np.stack([_frame(None, position, 0) for position in range(POSITIONS)])
            sample = np.stack([_frame(number, *each) for each in enumerate(versions)])
            stack = xmist.SpeckleStack(reference, sample)
            self.clean[number, versions] = xmist.retrieve(
                stack, experiment, method="mist", threads=1, smoothing=1.0
            )
        for name, array in self.clean[number, versions].channels():
            assert np.array_equal(getattr(found, name), array, equal_nan=True), name

    def read_done(self):
        """Take over what a run that was killed had finished."""
        try:
            stack = xmist.io.results.stacks.open_stack(self.folder / "scan.h5")
        except InputError:
            return
        for place, number in enumerate(stack.table["projection"].tolist()):
            if stack.table["status"][place] == GOOD and number not in self.done:
                self.done[number] = self.versions(number)
                self.compare(number, self.done[number])


@pytest.fixture(autouse=True)
def place(tmp_path):
    Arrivals.folder = tmp_path / "series"
    Arrivals.clean = {}


def test_any_sequence_of_arrivals_replacements_removals_and_kills():
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(
        Arrivals,
        settings=settings(
            max_examples=12,
            stateful_step_count=10,
            suppress_health_check=list(HealthCheck),
        ),
    )
