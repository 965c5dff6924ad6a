"""A retrieval that is killed, interrupted or terminated leaves no half file under the final name."""

import os
import random
import shutil
import signal
import sys
import warnings

import pytest

from tests.cli.scenes import snapshot, write_config, write_frames
from xmist.cli import main
from xmist.io.results import atomic
from xmist.io.results.atomic import leftovers
from xmist.workflow import frames, processor

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and signals")

RETRIEVE = ["retrieve", "config.toml", "--quiet"]
OUTPUTS = ("result.h5", "result_phase.tif", "result_dark_field.tif", "result_flags.tif")
MOMENTS = 20
INSIDE = 10  # of them inside the writing


class Moment:
    """Counts what the interpreter calls, and does something at one of the calls."""

    def __init__(self, number=None, action=None, *, inside=False):
        self.number, self.action, self.inside = number, action, inside
        self.count = self.writing = self.depth = 0

    def __call__(self, frame, event, _argument):
        if frame.f_code is atomic.write_files.__code__ and event in ("call", "return"):
            self.depth += 1 if event == "call" else -1
        self.count += 1
        self.writing += self.depth > 0
        if self.number == (self.writing if self.inside else self.count) and (self.depth or not self.inside):
            self.action()


def run_in_child(folder, prepare):
    """Run the command in a forked child, for which everything is warm; give its exit code or -signal."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the parent's threads are idle
        child = os.fork()
    if child == 0:  # pragma: no cover
        code = 99
        try:
            os.chdir(folder)
            prepare()
            code = main(RETRIEVE)
        finally:
            sys.setprofile(None)
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """Frames and a scan file, with every kernel warm; how long a run is, and what it writes."""
    folder = tmp_path_factory.mktemp("killed")
    write_frames(folder)
    # One thread: a child of a fork has no other.
    write_config(
        folder,
        retrieve={"threads": 1},
        output={"files": ["result.h5", "result.tif"], "overwrite": True},
    )
    before = snapshot(folder)
    here = os.getcwd()  # noqa: PTH109
    os.chdir(folder)
    counter = Moment()
    try:
        assert main(RETRIEVE) == 0
        sys.setprofile(counter)
        assert main(RETRIEVE) == 0
    finally:
        sys.setprofile(None)
        os.chdir(here)
    new = {name: content for name, content in snapshot(folder).items() if name not in before}
    assert set(OUTPUTS) < set(new)
    for name in new:
        (folder / name).unlink()
    return folder, counter, new


@pytest.fixture
def folder(clean, tmp_path):
    shutil.copytree(clean[0], tmp_path / "scan")
    return tmp_path / "scan"


def _at(moment):
    return lambda: sys.setprofile(moment)


def _kill():  # pragma: no cover
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("old", [True, False], ids=["over an old result", "into an empty folder"])
def test_killed_at_random_moments(clean, folder, old):
    _, counter, new = clean
    rng = random.Random(1)
    moments = [Moment(rng.randint(1, counter.count), _kill) for _ in range((MOMENTS - INSIDE) // 2)]
    moments += [Moment(rng.randint(1, counter.writing), _kill, inside=True) for _ in range(INSIDE // 2)]
    for moment in moments:
        if old:
            for name in new:
                (folder / name).write_bytes(b"old")
        before = snapshot(folder)
        assert run_in_child(folder, _at(moment)) == -signal.SIGKILL
        hidden = {path.name for path in leftovers(folder)}
        after = {name: content for name, content in snapshot(folder).items() if name not in hidden}
        for name in after.keys() | before.keys():
            possible = [before.get(name), new[name]] if name in new else [before[name]]
            assert after.get(name) in possible, f"{name} at moment {moment.number}"
        for path in leftovers(folder):
            path.unlink()
        for name in set(after) & set(new):
            (folder / name).unlink()
    # Nothing that was left stands in the way.
    assert run_in_child(folder, lambda: None) == 0
    assert {name: (folder / name).read_bytes() for name in new} == new


def test_most_of_a_file_can_be_lost_and_the_old_one_stands(folder):
    """The moment that a test of random ones may miss: half of the bytes are on the disk."""
    (folder / "result.h5").write_bytes(b"old")

    def prepare():  # pragma: no cover
        def half(job, temporary, _final):
            temporary.write_bytes(b"half")
            _kill()

        atomic._fill = half

    assert run_in_child(folder, prepare) == -signal.SIGKILL
    assert (folder / "result.h5").read_bytes() == b"old"
    (left,) = leftovers(folder)
    assert left.read_bytes() == b"half"


PLACES = {
    "reading": (frames, "load_frames"),
    "preparing": (processor, "SpeckleStack"),
    "retrieving": (processor, "prepare"),
    "syncing": (atomic, "_sync"),
    "placing": (atomic, "_place"),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143)],
    ids=["Ctrl-C", "SIGTERM"],
)
def test_interrupted(folder, place, number, code, capfd):
    (folder / "result.h5").write_bytes(b"old")
    before = snapshot(folder)

    def prepare():  # pragma: no cover
        module, name = PLACES[place]
        original = getattr(module, name)

        def interrupted(*arguments, **named):
            done = original(*arguments, **named) if name == "_sync" else None
            os.kill(os.getpid(), number)
            return done

        setattr(module, name, interrupted)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    assert run_in_child(folder, prepare) == code
    assert snapshot(folder) == before
    word = "Interrupted" if code == 130 else "Terminated"
    assert capfd.readouterr().err.strip() == f"{word}; no incomplete file was left."


def test_the_handler_of_the_process_is_put_back(capsys):
    before = signal.getsignal(signal.SIGTERM)
    main(["methods"])
    assert signal.getsignal(signal.SIGTERM) is before
    assert capsys.readouterr().out
