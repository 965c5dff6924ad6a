"""Small series as files, what they must give, and kills at chosen moments."""

from __future__ import annotations

import os
import signal
import sys
import threading
import warnings
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import tifffile

import xmist
from tests.cli.scenes import GEOMETRY
from tests.manufactured import phase_object
from xmist.core.errors import raise_errors
from xmist.io.results import atomic
from xmist.io.results.stacks import open_stack
from xmist.workflow.configuration import ParsedConfiguration, parse_configuration
from xmist.workflow.discovery import discover
from xmist.workflow.frames import FrameReader
from xmist.workflow.proposal import toml_text
from xmist.workflow.setup import read_setup

SHAPE = (24, 28)
POSITIONS = 3
EXPERIMENT = xmist.Experiment(**GEOMETRY)
OPTIONS = {"smoothing": 1.0}


# Appends frame by frame: with one file that stays open, in SWMR mode or not, or one that is opened each time.
WRITER = """
import sys, time
import h5py, numpy as np
mode, path, source = sys.argv[1:]
frames, refused, file = np.load(source), 0, None
for number, frame in enumerate(frames):
    if file is None:
        try:
            file = h5py.File(path, "a", libver="latest" if mode != "old" else None)
        except OSError:
            refused += 1
            raise
    if "data" not in file:
        sizes = {"maxshape": (None, *frame.shape), "chunks": (1, *frame.shape)}
        file.create_dataset("data", (0, *frame.shape), frame.dtype, **sizes)
        if mode == "swmr":
            file.swmr_mode = True
    file["data"].resize(number + 1, 0)
    file["data"][number] = frame
    file.flush()
    if mode == "reopened":
        file.close()
        file = None
    time.sleep(0.02)
if file is not None:
    file.close()
print(refused)
"""


def frames(projections=6, positions=POSITIONS, shape=SHAPE, strength=0.3):
    """Reference (position, y, x) and sample (projection, position, y, x) of objects that grow, in counts."""
    case = phase_object(positions, shape, strength=strength)
    reference = (1e4 * case.reference).astype(np.float32)
    change = (1e4 * (case.sample - case.reference)).astype(np.float32)
    parts = np.linspace(0.2, 1.0, projections).astype(np.float32)
    return reference, reference + parts[:, None, None, None] * change


def write_toml(folder, sections, name="config.toml"):
    """Write sections as a scan file."""
    lines = []
    for section, values in sections.items():
        for table in values if isinstance(values, list) else [values]:
            lines.append(f"[[{section}]]" if isinstance(values, list) else f"[{section}]")
            lines += [f"{key} = {_toml(value)}" for key, value in table.items() if value is not None]
    path = Path(folder) / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _toml(value):
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml_text(item)}" for key, item in value.items()) + "}"
    return toml_text(value)


def sections(**changes):
    """Return the sections of a scan file over TIFF files, with changes."""
    data = {
        "input": {"reference": "ref_*.tif", "sample": "p_{projection}_{position}.tif"},
        "experiment": dict(GEOMETRY),
        "preprocess": [],
        "retrieve": {"method": "mist", "threads": 1},
        "options": dict(OPTIONS),
        "output": {"files": ["scan.h5"]},
        "series": {"block": 2, "angles": {"start": 0.0, "step": 30.0}},
    }
    for section, change in changes.items():
        data[section] = data.get(section, {}) | change if isinstance(change, dict) else change
    return data


def write_config(folder, projections=6, shape=SHAPE, **changes):
    """Write a scan as TIFF files, one a frame, with its scan file."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    reference, samples = frames(projections, shape=shape)
    for position, frame in enumerate(reference):
        tifffile.imwrite(folder / f"ref_{position}.tif", frame)
    for number, projection in enumerate(samples):
        for position, frame in enumerate(projection):
            tifffile.imwrite(folder / f"p_{number:04d}_{position}.tif", frame)
    return write_toml(folder, sections(**changes))


def write_hdf5(path, array, dataset="entry/data", **options):
    """Write an array as a dataset."""
    with h5py.File(path, "a") as file:
        file.create_dataset(dataset, data=array, **options)


def run_path(config, **options):
    """Run a configuration; return the file of its results."""
    return xmist.run(config, **options).path


def open_setup(config):
    """Discover a configuration, a file or a parsed, and read what its projections share."""
    parsed = config if isinstance(config, ParsedConfiguration) else parse_configuration(config)
    found = discover(parsed)
    raise_errors(parsed.named(found.errors))
    return read_setup(found, lambda *_: None)


def volumes(master):
    """Return every array that a scan wrote."""
    stack = open_stack(master)
    return {name: array[()] for name, array in stack.arrays.items()} | {
        f"table/{name}": column for name, column in stack.table.items()
    }


def assert_same(one, other):
    """Require equal arrays, bit for bit; NaN equals NaN."""
    assert one.keys() == other.keys()
    for name in one:
        assert one[name].dtype == other[name].dtype
        assert one[name].shape == other[name].shape
        assert one[name].tobytes() == other[name].tobytes(), name


def content(master):
    """Return datasets and attributes of a master, but for the group that differs from run to run."""
    found = {}

    def visit(name, node):
        if name.startswith("entry/run"):
            return
        # References to axes are addresses in the file.
        attributes = {
            key: np.asarray(value).tolist()
            for key, value in node.attrs.items()
            if key not in ("REFERENCE_LIST", "DIMENSION_LIST")
        }
        value = node[()] if isinstance(node, h5py.Dataset) else None
        found[name] = (repr(attributes), None if value is None else np.asarray(value))

    with h5py.File(master, "r") as file:
        file.visititems(visit)
    return found


def assert_same_content(one, other):
    """Require the same datasets and attributes in two masters."""
    first, second = content(one), content(other)
    assert first.keys() == second.keys()
    for name, (attributes, value) in first.items():
        assert attributes == second[name][0], name
        if value is not None:
            assert value.dtype == second[name][1].dtype
            assert value.tobytes() == second[name][1].tobytes() or value.tolist() == second[name][1].tolist()


class Moment:
    """Counts what the interpreter calls in all threads, and kills the process at one of the calls."""

    def __init__(self, number=None, *, inside=False):
        self.number, self.inside = number, inside
        self.count = self.writing = 0
        self.depth = Counter()  # in each thread

    def __call__(self, frame, event, _argument):
        thread = threading.get_ident()
        if frame.f_code is atomic.write_files.__code__ and event in ("call", "return"):
            self.depth[thread] += 1 if event == "call" else -1
        inside = self.depth[thread] > 0
        self.count += 1
        self.writing += inside
        if self.number == (self.writing if self.inside else self.count) and (inside or not self.inside):
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(self):
        """Count from now on, in this thread and in those that it begins."""
        threading.setprofile(self)
        sys.setprofile(self)


def in_child(task):
    """Run a task in a forked child, for which everything is warm; give its exit code or −signal."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the parent's threads are idle
        child = os.fork()
    if child == 0:  # pragma: no cover
        code = 99
        try:
            code = task()
        finally:
            sys.setprofile(None)
            os._exit(code if isinstance(code, int) else 0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed_scan(path, number, *, inside):
    """Run a scan in a child that is killed at a moment; give its exit code or −signal."""

    def task():
        Moment(number, inside=inside).watch()
        run_path(path)
        return 0

    return in_child(task)


def count_calls(path):
    """Return how many calls a scan makes, and how many inside the writing, by running it in a child."""
    reader, writer = os.pipe()

    def task():
        moment = Moment()
        moment.watch()
        run_path(path)
        sys.setprofile(None)
        os.write(writer, f"{moment.count} {moment.writing}".encode())
        return 0

    assert in_child(task) == 0
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        count, writing = pipe.read().split()
    return int(count), int(writing)


def assert_intermediate(master, whole):
    """Require that a master, if there is one, reads as NaN or as the final numbers; count the done."""
    if not Path(master).exists():
        return 0
    found = volumes(master)
    done = 0
    for place in range(len(found["flags"])):
        if found["table/status"][place] == 0:
            assert all(np.isnan(found[name][place]).all() for name in found if name.startswith("phase"))
            assert (found["flags"][place] & 32).all()
            continue
        done += 1
        for name in whole:
            if not name.startswith("table/"):
                assert found[name][place].tobytes() == whole[name][place].tobytes()
    return done


def read_all(layout, numbers=None):
    """Read every projection; its frames must be constant, and their values are given."""
    with FrameReader(layout) as reader:
        stack = np.stack([reader.read(index).frames for index in numbers or range(layout.count)])
    assert (np.ptp(stack, axis=(2, 3)) == 0).all()
    return stack[:, :, 0, 0]
