"""Series with damaged input, by seed: each must end in a message, a flag, or the result of those bytes."""

from __future__ import annotations

import importlib
import io
import json
import multiprocessing
import os
import pickle
import random
import shutil
import signal
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import fabio
import h5py
import numpy as np
import tifffile

from tests.workflow.nxtomo import DARK, FLAT, INVALID, PROJECTION, replace, write_nxtomo
from tests.workflow.series_scenes import frames, in_child, run_path, sections, write_toml
from xmist.cli import main
from xmist.core.errors import InputError
from xmist.io.results.stacks import open_stack
from xmist.workflow import executors, guard

FORMS = ("tiff", "edf", "hdf5", "nxtomo", "toml", "structure", "structure", "structure")
SHAPE = (16, 20)
KEY = "/entry/instrument/detector/image_key"
PROJECTIONS = 3
POSITIONS = 2
WRONG = "wrong result"
LAYOUT_SHAPE = (96, 104)  # large enough for speckles to tell which frames belong together
# Findings that say that frames may not belong together.
TOLD = {
    "repeats-differ",
    "projections-alike",
    "pairs-swapped",
    "pairs-unmatched",
    "pairs-turned",
    "positions-repeated",
}
# Phase of the projections that all cases of a layout hold, by the number of positions.
TRUTH = {}
_PATIENCE = 120.0  # seconds; a case takes a tenth of one


def write_case(folder, form, rng, *, damaged=True):
    """Write a scan with one damaged file; give what was done to it."""
    folder.mkdir(parents=True)
    if form == "structure":
        return _write_structure(folder, rng, damaged)
    reference, samples = frames(PROJECTIONS, POSITIONS, SHAPE)
    if form == "nxtomo":
        return _write_keyed(folder, rng, reference, samples, damaged)
    ending = {"hdf5": "h5", "edf": "edf"}.get(form, "tif")
    inputs = {"reference": f"ref_*.{ending}", "sample": f"p_{{projection}}_{{position}}.{ending}"}
    changes = {"series": {"block": 2}}
    if form == "hdf5":
        inputs["sample"] = "all.h5::/entry/data"
        inputs["sample_axes"] = "projection,position,y,x"
        changes["series"] |= {"angles": "all.h5::/entry/angle"}
        flat = samples.reshape(-1, *SHAPE)
        options = rng.choice(
            [{}, {"chunks": (2, 8, 10), "compression": 1, "shuffle": True}, {"chunks": (1, *SHAPE)}]
        )
        with h5py.File(folder / "all.h5", "w") as file:
            file.create_dataset("entry/data", data=flat, **options)
            file["entry/angle"] = np.arange(float(PROJECTIONS))
        if rng.random() < 0.3:
            _make_virtual(folder, flat)
        with h5py.File(folder / "ref_0.h5", "w") as file:
            file["data"] = reference
        inputs["reference"] = "ref_0.h5"
    else:
        for position, frame in enumerate(reference):
            _write_frame(folder / f"ref_{position}.{ending}", frame, rng)
        for number, projection in enumerate(samples):
            for position, frame in enumerate(projection):
                _write_frame(folder / f"p_{number}_{position}.{ending}", frame, rng)
    scan = write_toml(folder, sections(input=inputs, **changes))
    if not damaged:
        return "nothing"
    victims = [scan] if form == "toml" else sorted(path for path in folder.iterdir() if path != scan)
    victim = rng.choice(victims)
    return f"{victim.name}: {_damage(victim, rng)}"


def _write_keyed(folder, rng, reference, samples, damaged):
    """Write a scan out of one NXtomo stack, whose file or whose key is damaged."""
    stack = "scan.nxs::/entry/data/data[image_key={}]"
    dark = np.zeros((1, *SHAPE), np.float32)
    parts = [(FLAT, reference), (DARK, dark), (INVALID, reference[:1]), (DARK, dark)]
    parts += [(PROJECTION, projection) for projection in samples]
    angles = np.repeat(np.arange(float(PROJECTIONS)), POSITIONS)
    path = write_nxtomo(folder / "scan.nxs", parts, angles=angles, virtual=rng.random() < 0.5)
    inputs = {
        role: stack.format(key) for role, key in (("sample", PROJECTION), ("reference", FLAT), ("dark", DARK))
    }
    inputs["sample_axes"] = "projection,position,y,x"
    changes = {
        "angles": "scan.nxs::/entry/sample/rotation_angle[image_key=0]",
        "block": 2,
    }
    scan = write_toml(folder, sections(input=inputs, preprocess=[{"step": "dark"}], series=changes))
    if not damaged:
        return "nothing"
    if rng.random() < 0.5:
        victim = rng.choice(sorted(file for file in folder.iterdir() if file != scan))
        return f"{victim.name}: {_damage(victim, rng)}"
    key = np.concatenate([np.full(len(frames), value) for value, frames in parts]).astype(
        rng.choice(["i4", "u1", "f8", "i8"])
    )
    kind = rng.choice(["another", "unknown", "short", "long", "shape", "text", "gone"])
    if kind in ("another", "unknown"):
        key[rng.randrange(key.size)] = rng.randrange(4) if kind == "another" else rng.choice([4, 7, 255])
    else:
        key = {
            "short": key[:-1],
            "long": np.append(key, 0),
            "shape": key[None],
            "text": "0 1 2 3",
            "gone": None,
        }[kind]
    replace(path, KEY, key)
    return f"scan.nxs: key {kind}"


AXES = ("projection", "position", "repeat", "y", "x")


def _write_structure(folder, rng, damaged, positions=None):
    """Write frames in a random layout and change its structure; what a result may hold stands beside it.

    `expected.json` lists the projections that a result of exit code 0 must hold, in order; null: none may be,
    except with a warning.
    """
    positions = positions or rng.choice([2, 3])  # as many as projections too
    reference, samples = frames(PROJECTIONS, positions, LAYOUT_SHAPE, strength=3.0)
    repeats = rng.choice([1, 1, 2, 3])
    array = np.repeat(samples[:, :, None], repeats, axis=2)
    kind = rng.choice(["array", "stacks", "files"])
    change = rng.choice(["axes", "lost", "extra", "narrow", "dtype", "repeats", "nothing"]) if damaged else ""
    expected = list(range(PROJECTIONS))
    # References of other numbers of repeats at each position.
    uneven = rng.random() < 0.5
    for position, frame in enumerate(reference):
        np.save(folder / f"ref_{position}.npy", np.stack([frame] * (1 + position if uneven else 1)))
    inputs = {"reference": "ref_{position}.npy"}
    if change == "lost":
        axis = rng.choice([0, 1] if kind != "files" else [0])
        number = rng.randrange(array.shape[axis])
        array = np.delete(array, number, axis)
        expected = [n for n in expected if n != number] if axis == 0 else None
    elif change == "extra":
        array = np.concatenate([array, array[:, :1]], axis=1)
        expected = None
    elif change == "narrow":
        array = array[..., 1:]
        expected = None
    changes = {"input": inputs, "series": {"block": 2, "angles": None}}
    told = repeats
    if change == "repeats":
        told = rng.choice([number for number in range(1, 10) if number != repeats])
        expected = None
    if kind == "array":
        names = [name for name in AXES if name != "repeat" or repeats > 1]
        if repeats == 1:
            array = array[:, :, 0]
        order = rng.sample(names, len(names))
        stored = np.ascontiguousarray(array.transpose([names.index(name) for name in order]))
        if change == "axes":
            other = rng.sample(names, len(names))
            if other != order:
                order, expected = other, None
        if rng.random() < 0.5:
            np.save(folder / "all.npy", stored)
            inputs["sample"] = "all.npy"
        else:
            with h5py.File(folder / "all.h5", "w") as file:
                file["entry/data"] = stored
            inputs["sample"] = "all.h5::/entry/data"
        inputs |= {"sample_axes": ",".join(order), "reference_axes": "position,repeat,y,x"}
        if change == "repeats" and repeats == 1:
            inputs["repeats"] = told
        elif change == "repeats":
            expected = list(range(PROJECTIONS))  # the axis tells it
    else:
        inputs["repeats"] = told
        for position in range(array.shape[1]):
            stack = array[:, position].reshape(-1, *array.shape[3:])
            if change == "dtype" and position == 0:
                stack = stack.astype(np.float64)
            if kind == "stacks":
                np.save(folder / f"pos_{position}.npy", stack)
                continue
            for projection in range(len(array)):
                name = folder / f"p_{expected[projection] if expected else projection}_{position}.npy"
                np.save(name, array[projection, position])
        inputs["sample"] = "pos_{position}.npy" if kind == "stacks" else "p_{projection}_{position}.npy"
        if change == "axes" and kind == "stacks":
            inputs["sample"] = "pos_*.npy"
            inputs["sample_axes"] = rng.choice(["position,projection,y,x", "projection,position,y,x"])
            if inputs["sample_axes"].startswith("projection"):
                expected = None
    write_toml(folder, sections(**changes))
    facts = {"projections": expected, "change": change, "positions": positions}
    (folder / "expected.json").write_text(json.dumps(facts))
    return f"{kind}, {change}, {positions} positions, {repeats} repeats, told {told}"


def _unlike(folder, codes):
    """Return how the result of a layout differs from what it may hold; empty if a finding says it, too."""
    told = folder / "expected.json"
    if not told.exists() or TOLD & {*codes}:
        return ""
    facts = json.loads(told.read_text())
    phase = open_stack(folder / "scan.h5").arrays["phase"][()]
    truth = TRUTH["phase", facts["positions"]]
    expected = facts["projections"]
    if expected is None:
        same = phase.shape == truth.shape and np.allclose(phase, truth, atol=1e-5 * np.ptp(truth))
        return "" if same else "a result of frames that do not fit"
    if len(phase) < len(expected):
        return f"{len(phase)} projections of {len(expected)}"
    found = phase[[n for n in range(len(phase)) if np.isfinite(phase[n]).any()]]
    truth = truth[expected]
    # Means of equal frames are exact.
    same = found.shape == truth.shape and np.allclose(found, truth, atol=1e-5 * np.ptp(truth))
    return "" if same else "a wrong result without a word"


def _make_virtual(folder, flat):
    (folder / "all.h5").unlink()
    layout = h5py.VirtualLayout(flat.shape, flat.dtype)
    half = len(flat) // 2
    for part, rows in enumerate((slice(0, half), slice(half, None))):
        with h5py.File(folder / f"part_{part}.h5", "w") as file:
            file["data"] = flat[rows]
        layout[rows] = h5py.VirtualSource(f"part_{part}.h5", "data", flat[rows].shape)
    with h5py.File(folder / "all.h5", "w") as file:
        file.create_virtual_dataset("entry/data", layout)
        file["entry/angle"] = np.arange(float(PROJECTIONS))


def _write_frame(path, frame, rng):
    if path.suffix == ".edf":
        fabio.edfimage.EdfImage(data=frame, header={"omega": "1"}).write(str(path))
    else:
        tifffile.imwrite(path, frame, compression=rng.choice([None, "zlib"]))


def _damage(path, rng):
    """Damage a file in one way; say which."""
    content = bytearray(path.read_bytes())
    size = len(content)
    kind = rng.choice(["truncated", "flipped", "zeroed", "inserted", "repeated", "replaced"])
    start = rng.randrange(size)
    if kind == "truncated":
        del content[start:]
    elif kind == "flipped":
        for _ in range(rng.choice([1, 1, 2, 8])):
            # Headers stand at the beginning of most formats.
            place = rng.randrange(min(size, 1024)) if rng.random() < 0.5 else rng.randrange(size)
            content[place] ^= 1 << rng.randrange(8)
    elif kind == "zeroed":
        end = min(size, start + rng.choice([1, 4, 64, 512]))
        content[start:end] = bytes(end - start)
    elif kind == "inserted":
        content[start:start] = rng.randbytes(rng.choice([1, 8, 300]))
    elif kind == "repeated":
        content[start:start] = content[start : start + 64]
    elif path.suffix == ".toml":
        content = bytearray(rng.choice([b"", b"[scan", b"\xff\xfe", b"a = 1\n" * 9]))
    elif path.suffix == ".h5":
        path.unlink()
        shape = rng.choice([(3,), (2, 16, 21), (5, 5), (0, 16, 20)])
        with h5py.File(path, "w") as file:
            file["entry/data"] = np.ones(shape, rng.choice(["f4", "u2", "c8", "i8"]))
        return f"replaced by {shape}"
    else:
        shape = rng.choice([(16, 21), (3, 16, 20), (4, 4), (16, 20)])
        kind = rng.choice([np.uint8, np.uint16, np.float64])
        if path.suffix == ".tif":
            tifffile.imwrite(path, np.ones(shape, kind), photometric="minisblack")
        else:
            fabio.edfimage.EdfImage(data=np.ones(shape[-2:], kind)).write(str(path))
        return f"replaced by {shape} of {kind.__name__}"
    path.write_bytes(content)
    return f"{kind} at {start} of {size}"


def fork_call(function, *arguments, what, timeout=None):
    """Do what `guard.call` does in a forked child, which costs a hundredth."""
    reader, writer = os.pipe()

    def task():
        try:
            answer = ("value", function(*arguments))
        except InputError as error:
            answer = ("input", error.records)
        with os.fdopen(writer, "wb") as pipe:
            pickle.dump(answer, pipe)
        return 0

    child = os.fork()
    if child == 0:  # pragma: no cover
        code = 99
        try:
            code = task()
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        answer = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if not answer:
        raise InputError(f"{what} ended with {code}")
    kind, value = pickle.loads(answer)
    if kind == "input":
        raise InputError(value)
    return value


def warm(folder):
    """Let this process import and compile what its children need."""
    begin = guard.call
    guard.call = lambda function, *arguments, **_: function(*arguments)
    try:
        for form, positions in (("edf", 0), ("hdf5", 0), ("structure", 2), ("structure", 3)):
            place = Path(folder) / form
            if positions:
                place.mkdir()
                _write_structure(place, random.Random(0), False, positions)
            else:
                write_case(place, form, random.Random(0), damaged=False)
            TRUTH["phase", positions] = open_stack(run_path(place / "config.toml")).arrays["phase"][()]
            shutil.rmtree(place)
    finally:
        guard.call = begin


def run_case(folder, seed):
    """Run the case of a seed; give its form, the damage, the exit code (None: it hung) and stderr."""
    rng = random.Random(seed)
    form = FORMS[seed % len(FORMS)]
    folder = Path(folder) / str(seed)
    damage = write_case(folder, form, rng)

    def task():
        guard.call = fork_call
        executors._context = lambda: multiprocessing.get_context("fork")
        os.chdir(folder)
        os.setpgid(0, 0)
        signal.signal(signal.SIGALRM, lambda *_: os.killpg(0, signal.SIGKILL))
        signal.alarm(int(_PATIENCE))
        err = io.StringIO()
        command = importlib.import_module("xmist.cli.retrieve")

        def note(_settings, findings):
            Path("codes.txt").write_text(" ".join(record.code for record in findings))

        command.say_findings = note
        with redirect_stderr(err), redirect_stdout(io.StringIO()):
            code = main(["retrieve", "config.toml", "--quiet"])
        Path("stderr.txt").write_text(err.getvalue())
        return code

    begin = time.monotonic()
    code = in_child(task)
    hung = time.monotonic() - begin >= _PATIENCE - 1
    told = folder / "stderr.txt"
    err = told.read_text() if told.exists() else ""
    if code == 0:
        different = _unlike(folder, (folder / "codes.txt").read_text().split())
        err += different and f"{WRONG}: {different}"
    shutil.rmtree(folder)
    return form, damage, None if hung else code, err


def wrong(code, err):
    """Return what is wrong with how a case ended; empty if nothing."""
    if code is None:
        return "hung"
    if code not in (0, 2, 3):
        return f"exit code {code}"
    if "Traceback" in err or "error in xmist" in err:
        return "not told as a fault of the input"
    if WRONG in err:
        return err
    if code == 2 and "Error: " not in err:
        return "no message"
    return ""
