"""Series whose files come late, are replaced or missing: each result is that of its own frames and angle."""

import h5py
import numpy as np
import pytest
import tifffile

import xmist
from tests.cli.scenes import call
from tests.manufactured import phase_object
from tests.workflow.nxtomo import FLAT, PROJECTION, write_nxtomo
from tests.workflow.series_scenes import sections, write_toml
from xmist.io.results.stacks import GOOD, UNREADABLE

SHAPE = (24, 28)
NUMBER, POSITIONS = 8, 3
ANGLES = [22.5 * n for n in range(NUMBER)]
STEP = {"start": 0.0, "step": 22.5}


def measurement():
    """Return reference (position, y, x) and sample (projection, position, y, x); no projections are alike."""
    case = phase_object(POSITIONS, SHAPE, strength=0.3)
    change = 1e4 * (case.sample - case.reference)
    parts = np.linspace(0.2, 1.0, NUMBER)[:, None, None, None]
    stacks = 1e4 * case.reference, 1e4 * case.reference + parts * change
    return tuple(np.round(stack).astype(np.float32) for stack in stacks)


REFERENCE, SAMPLE = measurement()


class Series:
    """A folder with the files of a series, written bit by bit."""

    def __init__(self, folder, sample="S_{projection}_{position}.tif", begin=0, more=None, **series):
        self.folder, self.begin = folder, begin
        for position, frame in enumerate(REFERENCE):
            tifffile.imwrite(folder / f"ref_{position}.tif", frame)
        data = sections(input={"reference": "ref_{position}.tif", "sample": sample, **(more or {})})
        data["series"] = {"block": 1, "angles": ANGLES} | series
        self.config = write_toml(folder, data)

    def copy(self, *numbers, positions=range(POSITIONS)):
        for number in numbers:
            for position in positions:
                path = self.path(number, position)
                tifffile.imwrite(path, SAMPLE[number, position])

    def path(self, number, position):
        return self.folder / f"S_{number + self.begin:03d}_{position}.tif"

    def retrieve(self, capsys, *options, code=0):
        done = call(capsys, "retrieve", self.config, *options)
        assert done.code == code, done.err
        return done

    def table(self):
        return xmist.io.results.stacks.open_stack(self.folder / "scan.h5").table

    def assert_own(self, done, angles=ANGLES):
        """Require that these projections are those of their own frames and angles, and no other is there."""
        table = self.table()
        numbers = table["projection"].tolist()
        good = [n - self.begin for n, status in zip(numbers, table["status"], strict=True) if status == GOOD]
        assert good == list(done)
        for number in good:
            place = numbers.index(number + self.begin)
            assert table["angle"][place] == angles[number]
            found = xmist.open_result(self.folder / "scan.h5", projection=number + self.begin)
            assert_is(found, SAMPLE[number])
        assert set(table["status"].tolist()) <= {GOOD, UNREADABLE}


def assert_is(found, sample, reference=REFERENCE):
    """Require a result to be that of frames, bit for bit."""
    stack = xmist.SpeckleStack(reference, sample)
    alone = xmist.retrieve(stack, found.experiment, method="mist", smoothing=1.0)
    for name, array in alone.channels():
        assert np.array_equal(getattr(found, name), array, equal_nan=True), name


ALL = range(NUMBER)


@pytest.mark.parametrize("late", [(0,), (0, 1, 2), (3, 7)])
@pytest.mark.parametrize("workers", [(), ("--workers", "2")])
def test_files_that_come_late_move_no_other(tmp_path, capsys, late, workers):
    if workers and late != (0, 1, 2):
        return
    series = Series(tmp_path)
    series.copy(*(n for n in ALL if n not in late))
    series.retrieve(capsys, *workers, code=3)
    series.assert_own([n for n in ALL if n not in late])
    series.copy(*late)
    assert f"{NUMBER - len(late)} of {NUMBER}" in series.retrieve(capsys, *workers).err
    series.assert_own(ALL)
    assert "had been done" not in series.retrieve(capsys, *workers, "--overwrite").err
    series.assert_own(ALL)


@pytest.mark.parametrize("kind", ["digits of each axis", "stacks", "running numbers"])
def test_files_of_a_pattern_are_numbered_by_their_names(tmp_path, capsys, kind):
    """A file that is missing, or comes late, moves no other, though no braces tell which digits count."""
    axes = {"sample_axes": "projection,position,y,x"}
    series = Series(tmp_path, sample="S_*", more=axes, begin=5, angles=STEP)

    def copy(*numbers):
        for number in numbers:
            if kind == "stacks":
                np.save(tmp_path / f"S_{number + 5:03d}.npy", SAMPLE[number])
            elif kind == "running numbers":
                for position, frame in enumerate(SAMPLE[number]):
                    tifffile.imwrite(tmp_path / f"S_{5 * 4 + number * POSITIONS + position}.tif", frame)
            else:
                series.copy(number)

    if kind == "running numbers":
        series.begin = 0  # what they count begins at 0
    copy(0, 1, 2, 4, 7)
    series.retrieve(capsys, code=3)
    series.assert_own([0, 1, 2, 4, 7])
    copy(3, 5, 6)
    assert "5 of 8 projections had been done" in series.retrieve(capsys).err
    series.assert_own(ALL)


def test_a_stack_that_grows(tmp_path, capsys):
    series = Series(tmp_path, sample="pos_{position}.h5::/entry/data", angles=STEP)
    for stop in (3, NUMBER):
        for position in range(POSITIONS):
            with h5py.File(tmp_path / f"pos_{position}.h5", "a") as file:
                stack = SAMPLE[:stop, position]
                data = file.require_dataset("entry/data", (0, *SHAPE), "f4", maxshape=(None, *SHAPE))
                data.resize(stop - (position == 2), 0)
                data[:] = stack[: stop - (position == 2)]
        series.retrieve(capsys, code=3)
        series.assert_own(range(stop - 1))
    with h5py.File(tmp_path / "pos_2.h5", "a") as file:
        file["entry/data"].resize(NUMBER, 0)
        file["entry/data"][:] = SAMPLE[:, 2]
    series.retrieve(capsys)
    series.assert_own(ALL)


def test_an_interleaved_stack_that_grows(tmp_path, capsys):
    axes = {"sample_axes": "projection,position,y,x"}
    series = Series(tmp_path, sample="all.h5::/data", more=axes, angles=STEP, expected=NUMBER)
    flat = SAMPLE.reshape(-1, *SHAPE)
    for frames, done in ((11, 3), (24, NUMBER)):
        with h5py.File(tmp_path / "all.h5", "w") as file:
            file["data"] = flat[:frames]
        series.retrieve(capsys, code=0 if done == NUMBER else 3)
        series.assert_own(range(done))


@pytest.mark.parametrize("angles", [STEP, "longer"])
def test_projections_that_arrive_later_are_done(tmp_path, capsys, angles):
    series = Series(tmp_path, angles=ANGLES[:5] if angles == "longer" else angles)
    series.copy(*range(5))
    series.retrieve(capsys)
    series.copy(*range(5, NUMBER))
    if angles == "longer":
        series = Series(tmp_path)
    assert '"projections": 8' in call(capsys, "check", "--json", series.config).out
    assert "5 of 8 projections had been done before" in series.retrieve(capsys).err
    series.assert_own(ALL)


def test_fewer_files_than_before_keep_their_results(tmp_path, capsys):
    series = Series(tmp_path, angles=STEP)
    series.copy(*ALL)
    series.retrieve(capsys)
    series.path(0, 1).unlink()
    series.path(7, 0).unlink()
    told = series.retrieve(capsys).err
    assert "2 results are kept" in told
    assert "0, 7" in told
    series.assert_own(ALL)
    assert series.table()["warnings"].tolist() == [1, 0, 0, 0, 0, 0, 0, 1]
    series.copy(0, 7)
    series.retrieve(capsys)
    assert not series.table()["warnings"].any()


def test_missing_projections_leave_the_others_their_angles(tmp_path, capsys):
    for name, missing in (("first", [0]), ("second", [1, 3, 5, 7]), ("ends", [0, 1, 7])):
        (tmp_path / name).mkdir()
        series = Series(tmp_path / name)
        series.copy(*(n for n in ALL if n not in missing))
        series.retrieve(capsys, code=3)
        series.assert_own([n for n in ALL if n not in missing])


def test_numbers_may_begin_anywhere_and_doubt_is_told(tmp_path, capsys):
    series = Series(tmp_path, begin=1)
    series.copy(*ALL)
    assert "series.first" not in series.retrieve(capsys).err
    series.assert_own(ALL)
    # Files 1 to 7 of eight: 0 or 8 may be missing.
    for position in range(POSITIONS):
        series.path(7, position).unlink()
    assert "series.first" in series.retrieve(capsys, "--overwrite", code=3).err
    series = Series(tmp_path, begin=1, first=1)
    assert "series.first" not in series.retrieve(capsys, "--overwrite", code=3).err
    series.assert_own(range(7))


def test_start_and_step_without_the_first_number_are_told(tmp_path, capsys):
    series = Series(tmp_path, angles=STEP)
    series.copy(*range(1, NUMBER))
    assert "begin with 1" in series.retrieve(capsys).err
    assert series.retrieve(capsys, "--strict", code=3)
    series.copy(0)
    series.retrieve(capsys)
    series.assert_own(ALL)


@pytest.mark.parametrize("damage", ["truncated", "missing", "empty"])
def test_a_file_that_is_copied_again(tmp_path, capsys, damage):
    series = Series(tmp_path)
    series.copy(*ALL)
    path = series.path(4, 2)
    whole = path.read_bytes()
    path.write_bytes(whole[:1000] if damage == "truncated" else b"")
    if damage == "missing":
        path.unlink()
    series.retrieve(capsys, code=3)
    series.assert_own([n for n in ALL if n != 4])
    path.write_bytes(whole)
    assert "7 of 8" in series.retrieve(capsys).err
    series.assert_own(ALL)


def test_touched_files_are_the_same_and_changed_ones_are_refused(tmp_path, capsys):
    series = Series(tmp_path)
    series.copy(*ALL)
    series.retrieve(capsys)
    before = [path.stat().st_mtime_ns for path in sorted((tmp_path / "scan_blocks").glob("block_*"))]
    series.copy(2, 3)
    tifffile.imwrite(tmp_path / "ref_0.tif", REFERENCE[0])
    assert "8 of 8" in series.retrieve(capsys).err
    assert before == [path.stat().st_mtime_ns for path in sorted((tmp_path / "scan_blocks").glob("block_*"))]
    tifffile.imwrite(series.path(2, 1), SAMPLE[6, 1])
    assert "projection 2: S_002_1.tif" in series.retrieve(capsys, code=2).err
    series.assert_own(ALL)
    series.copy(2)
    series.retrieve(capsys)
    tifffile.imwrite(tmp_path / "ref_0.tif", REFERENCE[0] + 1)
    assert "reference" in series.retrieve(capsys, code=2).err


def test_a_rotation_to_and_fro_is_sorted_by_its_angles(tmp_path, capsys):
    angles = [ANGLES, ANGLES[::-1], ANGLES]
    for position in range(POSITIONS):
        order = np.argsort(angles[position])
        with h5py.File(tmp_path / f"pos_{position}.h5", "w") as file:
            file["entry/data"] = SAMPLE[np.argsort(order), position]
            file["entry/angle"] = angles[position]
            file["entry/angle"].attrs["units"] = "degree"
    series = Series(tmp_path, sample="pos_{position}.h5::/entry/data", angles="pos_0.h5::/entry/angle")
    series.retrieve(capsys)
    series.assert_own(ALL)
    series = Series(tmp_path, sample="pos_{position}.h5::/entry/data", angles="angle")
    series.retrieve(capsys, "--overwrite")
    series.assert_own(ALL)
    with h5py.File(tmp_path / "pos_1.h5", "a") as file:
        file["entry/angle"][...] = np.array(ANGLES) + 11.0
    assert "other angles" in series.retrieve(capsys, "--overwrite", code=2).err


def test_references_of_another_number_at_each_position(tmp_path, capsys):
    numbers = (2, 3, 5)
    rng = np.random.default_rng(0)
    repeats = [
        REFERENCE[p] + rng.integers(-3, 4, (n, *SHAPE)).astype(np.float32) for p, n in enumerate(numbers)
    ]
    means = np.stack([stack.mean(axis=0, dtype=np.float64) for stack in repeats]).astype(np.float32)
    for position, stack in enumerate(repeats):
        parts = [(FLAT, stack), (PROJECTION, SAMPLE[:, position])]
        write_nxtomo(tmp_path / f"pos_{position}.nxs", parts)
        tifffile.imwrite(tmp_path / f"refs_{position}.tif", stack, photometric="minisblack")
        for number, frame in enumerate(stack):
            tifffile.imwrite(tmp_path / f"one_{position}_{number}.tif", frame)
    Series(tmp_path).copy(*ALL)
    place = "pos_{position}.nxs::/entry/instrument/detector/data"
    for reference, sample, more in (
        (f"{place}[image_key=1]", f"{place}[image_key=0]", {"reference_repeats": 5}),
        ("refs_{position}.tif", "S_{projection}_{position}.tif", {}),
        ("one_{position}_{repeat}.tif", "S_{projection}_{position}.tif", {}),
    ):
        data = sections(input={"reference": reference, "sample": sample})
        data["series"] = {"angles": ANGLES, **more}
        done = call(capsys, "retrieve", write_toml(tmp_path, data), "--overwrite")
        assert done.code == 0, done.err
        assert "2 to 5 frames at a position" in done.err
        assert_is(xmist.open_result(tmp_path / "scan.h5", projection=3), SAMPLE[3], means)
